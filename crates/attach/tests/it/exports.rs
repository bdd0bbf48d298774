//! The registry of exports.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use attach::client::Client;
use attach::tls::Badge;
use attach::{AttachError, Durability, Exports, Stop};
use base::{ManualClock, Timestamp};

use crate::memory::Memory;

fn registry(root: &Path) -> Exports {
    Exports::new(root.to_owned(), Arc::new(ManualClock::new(Timestamp(0))))
}

fn badge() -> Badge {
    Badge {
        volume: "vol-0123456789abcdef0".parse().unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        device: "/dev/sdf".parse().unwrap(),
        attached: Timestamp(5),
    }
}

#[test]
fn who_stops_late_leaves_the_socket_of_who_came_after() {
    let root = tempfile::tempdir().unwrap();
    let (older, newer) = (registry(root.path()), registry(root.path()));
    let badge = badge();
    let path = older.attach(badge.clone(), Memory::start(1 << 20)).unwrap();
    assert_eq!(newer.attach(badge.clone(), Memory::start(1 << 20)).unwrap(), path);
    older.detach(&badge.instance, &badge.device, Stop::Graceful).unwrap().unwrap();
    Client::connect(&path, "sdf").unwrap();
    newer.detach(&badge.instance, &badge.device, Stop::Graceful).unwrap().unwrap();
    assert!(!path.exists());
}

#[test]
fn attach_list_detach() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("attach");
    let exports = registry(&root);
    let badge = badge();
    let (instance, name) = (badge.instance.clone(), badge.device.clone());
    let attach = || exports.attach(badge.clone(), Memory::start(1 << 20));
    let path = attach().unwrap();
    assert_eq!(path, root.join("i-0123456789abcdef0/sdf.sock"));
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.clone()), 0o600);
    assert_eq!(mode(path.parent().unwrap().to_owned()), 0o700);
    assert_eq!(mode(root), 0o700);
    assert!(matches!(attach(), Err(AttachError::InUse { .. })));
    let listed = exports.list();
    assert_eq!((listed.len(), &listed[0].path), (1, &path));

    for alias in ["vol-0123456789abcdef0", "i-0123456789abcdef0/sdf"] {
        Client::connect(&path, alias).unwrap();
    }
    Client::connect(&path, "sdf").unwrap().write(0, &[1], Durability::Durable).unwrap();
    exports.detach(&instance, &name, Stop::Graceful).unwrap().unwrap();
    assert!(exports.detach(&instance, &name, Stop::Graceful).is_none());
    assert!(!path.exists());
    assert!(exports.list().is_empty());

    // A socket left behind by a process that died is replaced.
    std::fs::write(&path, b"").unwrap();
    assert_eq!(attach().unwrap(), path);
    Client::connect(&path, "").unwrap();
}
