//! The registry of exports.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use attach::client::{Client, ClientError};
use attach::tls::Badge;
use attach::{AttachError, Durability, Exports, Stop, StopError};
use base::{ManualClock, Timestamp};

use crate::memory::Memory;
use crate::session::raw;

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

/// A registry with one attachment, at whose device a write waits.
struct Draining {
    exports: Arc<Exports>,
    memory: Arc<Memory>,
    path: PathBuf,
    writer: JoinHandle<Result<(), ClientError>>,
    first: JoinHandle<Option<Result<(), StopError>>>,
}

/// Begins to detach it: who has nothing to finish is gone. The registry's clock stands still, so that
/// nothing is given up by itself.
fn drain(root: &Path) -> Draining {
    let exports = Arc::new(registry(root));
    let memory = Memory::start(1 << 20);
    let path = exports.attach(badge(), Arc::clone(&memory) as _).unwrap();
    let mut client = Client::connect(&path, "sdf").unwrap();
    memory.state.hold();
    let writer = thread::spawn(move || client.write(0, &[1], Durability::Buffered));
    memory.state.wait_for_submissions(1);
    let mut idle = raw(&path);
    let first = detach(&exports, Stop::Graceful);
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    Draining { exports, memory, path, writer, first }
}

fn detach(exports: &Arc<Exports>, how: Stop) -> JoinHandle<Option<Result<(), StopError>>> {
    let (exports, badge) = (Arc::clone(exports), badge());
    thread::spawn(move || exports.detach(&badge.instance, &badge.device, how))
}

#[test]
fn what_drains_at_a_place_can_be_forced() {
    let root = tempfile::tempdir().unwrap();
    let Draining { exports, memory, writer, first, .. } = drain(root.path());
    detach(&exports, Stop::Force).join().unwrap().unwrap().unwrap();
    assert!(matches!(writer.join().unwrap(), Err(ClientError::Socket(_))));
    assert!(!first.is_finished(), "the device has not made durable what was answered");
    memory.state.release();
    first.join().unwrap().unwrap().unwrap();
    assert_eq!(memory.state.flushes.load(Ordering::SeqCst), 1);
    assert!(detach(&exports, Stop::Force).join().unwrap().is_none());
}

#[test]
fn a_second_detachment_waits_for_the_first() {
    let root = tempfile::tempdir().unwrap();
    let Draining { exports, memory, path, writer, first } = drain(root.path());
    // The place is free meanwhile. Whoever came there is ended with what was there before.
    assert_eq!(exports.attach(badge(), Memory::start(1 << 20)).unwrap(), path);
    Client::connect(&path, "sdf").unwrap();
    let second = detach(&exports, Stop::Graceful);
    while !exports.list().is_empty() {
        thread::yield_now();
    }
    assert!(!path.exists());
    thread::sleep(Duration::from_millis(50));
    assert!(!first.is_finished() && !second.is_finished());
    memory.state.release();
    writer.join().unwrap().unwrap();
    for detachment in [first, second] {
        detachment.join().unwrap().unwrap().unwrap();
    }
    assert!(detach(&exports, Stop::Graceful).join().unwrap().is_none());
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

    // What is no socket is somebody's, and stays.
    std::fs::write(&path, b"precious").unwrap();
    assert!(matches!(attach(), Err(AttachError::Socket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    std::fs::remove_file(&path).unwrap();
    // A socket left behind by a process that died is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(attach().unwrap(), path);
    Client::connect(&path, "").unwrap();
}
