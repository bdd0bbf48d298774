//! One suite for every store, and what the faulty one promises.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use base::{ManualClock, SystemClock, Timestamp};
use objstore::{
    ATTEMPTS_MAX, Bytes, Error, FaultPlan, FaultyStore, LocalStore, MemoryStore, OBJECT_BYTES_MAX,
    ObjectStore, put_settled,
};
use std::sync::Arc;

fn memory() -> MemoryStore {
    MemoryStore::new(Arc::new(ManualClock::new(Timestamp(1_000))))
}

fn conforms(store: &dyn ObjectStore) {
    let names = |prefix: &str| -> Vec<String> {
        store.list(prefix).unwrap().into_iter().map(|meta| meta.name).collect()
    };
    assert!(names("").is_empty());
    assert!(names("packs").is_empty());
    store.put("packs/00/b", Bytes::from_static(b"hello")).unwrap();
    store.put("packs/00/a.1", Bytes::from_static(b"")).unwrap();
    store.put("packs/01/a", Bytes::from_static(b"x")).unwrap();
    store.put("packs2/00/a", Bytes::from_static(b"y")).unwrap();

    let again = store.put("packs/00/b", Bytes::from_static(b"other"));
    assert!(matches!(again, Err(Error::AlreadyExists { .. })));
    assert_eq!(&store.get("packs/00/b").unwrap()[..], b"hello");
    assert_eq!(&store.get("packs/00/a.1").unwrap()[..], b"");
    assert_eq!(&store.get_range("packs/00/b", 1..3).unwrap()[..], b"el");
    assert_eq!(&store.get_range("packs/00/b", 5..5).unwrap()[..], b"");
    for beyond in [3..6, 6..6, 9..12] {
        let refused = store.get_range("packs/00/b", beyond);
        assert!(matches!(refused, Err(Error::OutOfRange { .. })));
    }
    assert_eq!(store.head("packs/00/b").unwrap().size, 5);
    assert!(store.head("packs/00/b").unwrap().modified > Timestamp(0));
    assert_eq!(names("packs"), ["packs/00/a.1", "packs/00/b", "packs/01/a"]);
    assert_eq!(names("packs/00"), ["packs/00/a.1", "packs/00/b"]);
    assert_eq!(names("").len(), 4);

    store.delete("packs/00/b").unwrap();
    assert!(store.delete("packs/00/b").unwrap_err().is_not_found());
    assert!(store.get("packs/00/b").unwrap_err().is_not_found());
    assert!(store.get_range("packs/00/b", 0..1).unwrap_err().is_not_found());
    assert!(store.head("packs/00/b").unwrap_err().is_not_found());
    // A directory is no object, and an object is no directory.
    assert!(store.get("packs/00").is_err());
    assert!(names("packs2/00/none").is_empty());
    assert!(names("packs2/00/a").is_empty());
    assert!(names("packs2/00/a/none").is_empty());

    assert!(matches!(store.put("../x", Bytes::new()), Err(Error::InvalidName { .. })));
    assert!(matches!(store.list("packs/"), Err(Error::InvalidName { .. })));
    let large = Bytes::from(vec![0; OBJECT_BYTES_MAX + 1]);
    assert!(matches!(store.put("large", large), Err(Error::TooLarge { .. })));
}

#[test]
fn memory_conforms() {
    conforms(&memory());
}

#[test]
fn local_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conforms(&LocalStore::open(directory.path()).unwrap());
}

/// Large objects take another way to the disk than small ones.
#[test]
fn local_objects_of_every_size_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let (edge, write) = (256 << 10, 1 << 20);
    for length in [edge - 1, edge, edge + 1, write - 4096, write, write + 1, 3 * write + 4095] {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let name = format!("large/{length}");
        store.put(&name, bytes.clone().into()).unwrap();
        assert_eq!(store.get(&name).unwrap(), bytes, "{length}");
        assert_eq!(store.head(&name).unwrap().size, length as u64);
        let tail = store.get_range(&name, length as u64 - 5..length as u64).unwrap();
        assert_eq!(tail, bytes[length - 5..]);
        let again = store.put(&name, vec![1; length].into());
        assert!(matches!(again, Err(Error::AlreadyExists { .. })));
        assert_eq!(store.get(&name).unwrap(), bytes, "{length}");
    }
    let left = std::fs::read_dir(directory.path().join("large")).unwrap();
    assert_eq!(left.count(), 7, "nothing but the objects is left");
}

#[test]
fn a_quiet_faulty_store_conforms() {
    conforms(&FaultyStore::new(memory(), 1, FaultPlan::default()));
}

#[test]
fn local_objects_outlive_the_store_and_leftovers_are_hidden() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    store.put("packs/00/a", Bytes::from_static(b"kept")).unwrap();
    // What a crash between writing and linking leaves behind.
    std::fs::write(directory.path().join("packs/00/b#1"), b"torn").unwrap();
    drop(store);

    let store = LocalStore::open(directory.path()).unwrap();
    assert_eq!(&store.get("packs/00/a").unwrap()[..], b"kept");
    assert_eq!(store.list("packs").unwrap().len(), 1);
    assert_eq!(store.remove_stale_uploads(Timestamp(1)).unwrap(), 0);
    let later = base::Clock::now(&SystemClock).plus_seconds(60);
    assert_eq!(store.remove_stale_uploads(later).unwrap(), 1);
    assert!(!directory.path().join("packs/00/b#1").exists());
    assert_eq!(&store.get("packs/00/a").unwrap()[..], b"kept");
}

#[test]
fn a_list_that_cannot_see_all_is_none() {
    // Something in a folder, by its name, and where it leads.
    let links = [("a", "nowhere"), ("a", "a"), ("a", "b/none"), ("up", "..")];
    for (link, target) in links {
        let directory = tempfile::tempdir().unwrap();
        let store = LocalStore::open(directory.path()).unwrap();
        store.put("packs/00/b", Bytes::new()).unwrap();
        std::os::unix::fs::symlink(target, directory.path().join("packs/00").join(link)).unwrap();
        let refused = store.list("packs").unwrap_err();
        assert!(refused.is_transient(), "{target}: {refused}");
    }
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    std::fs::remove_dir(directory.path()).unwrap();
    for prefix in ["", "packs"] {
        assert!(store.list(prefix).unwrap_err().is_transient(), "{prefix}");
    }
}

#[test]
fn an_object_that_nothing_can_be_asked_of_is_not_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("packs/{}", "a".repeat(100));
    LocalStore::open(directory.path()).unwrap().put(&name, Bytes::new()).unwrap();
    // The same directory under a name so long that its folders can be read, and no file be named.
    let mut root = directory.path().as_os_str().to_owned();
    while root.len() < 4000 {
        root.push("/.");
    }
    let store = LocalStore::open(root.as_ref()).unwrap();
    assert!(store.head(&name).unwrap_err().is_transient());
    assert!(store.list("packs").unwrap_err().is_transient());
}

#[test]
fn links_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(&directory.path().join("store")).unwrap();
    store.put("packs/00/b", Bytes::new()).unwrap();
    std::fs::create_dir(directory.path().join("disk")).unwrap();
    std::fs::write(directory.path().join("disk/a"), b"hello").unwrap();
    let link = directory.path().join("store/packs/01");
    std::os::unix::fs::symlink(directory.path().join("disk"), link).unwrap();
    let found = store.list("packs").unwrap();
    let found: Vec<_> = found.iter().map(|meta| (meta.name.as_str(), meta.size)).collect();
    assert_eq!(found, [("packs/00/b", 0), ("packs/01/a", 5)]);
}

#[test]
fn what_others_delete_fails_no_put_and_no_list() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    store.put("packs/00/kept", Bytes::new()).unwrap();
    let churn = |name: &str| {
        for _ in 0..200 {
            store.put(name, Bytes::new()).unwrap();
            store.delete(name).unwrap();
        }
    };
    std::thread::scope(|scope| {
        let names = ["packs/ab/w1/a", "packs/ab/w2/a", "packs/ab/w2/b"];
        let threads = names.map(|name| scope.spawn(move || churn(name)));
        while !threads.iter().all(|thread| thread.is_finished()) {
            let found = store.list("packs").unwrap();
            assert!(found.iter().any(|meta| meta.name == "packs/00/kept"), "{found:?}");
        }
    });
    assert_eq!(store.list("").unwrap().len(), 1);
}

#[test]
fn one_of_many_creators_wins() {
    let directory = tempfile::tempdir().unwrap();
    let store = LocalStore::open(directory.path()).unwrap();
    let won: Vec<u8> = std::thread::scope(|scope| {
        let put = |n: u8| store.put("a", Bytes::from(vec![n; 4096])).is_ok().then_some(n);
        let threads: Vec<_> = (0..8).map(|n| scope.spawn(move || put(n))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(won.len(), 1);
    assert_eq!(store.get("a").unwrap(), vec![won[0]; 4096]);
}

#[test]
fn put_settled_sees_through_lying_errors() {
    let mut outcomes = [0; 2];
    for seed in 0..200 {
        let plan =
            FaultPlan { lost_per_mille: 200, happened_per_mille: 200, ..FaultPlan::default() };
        let store = FaultyStore::new(memory(), seed, plan);
        let bytes = Bytes::from_static(b"content");
        match put_settled(&store, "a", &bytes) {
            Ok(()) => {
                assert_eq!(store.inner().get("a").unwrap(), bytes);
                outcomes[0] += 1;
            }
            Err(error) => {
                assert!(error.is_transient(), "{error}");
                assert!(store.calls() >= u64::from(ATTEMPTS_MAX));
                outcomes[1] += 1;
            }
        }
    }
    assert!(outcomes[0] > 150 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn put_settled_never_claims_somebody_elses_object() {
    let store = memory();
    store.put("a", Bytes::from_static(b"theirs")).unwrap();
    let refused = put_settled(&store, "a", &Bytes::from_static(b"mine!!"));
    assert!(matches!(refused, Err(Error::AlreadyExists { .. })));
}

#[test]
fn after_a_crash_nothing_works_until_restart() {
    let (mut kept, mut revived) = (0, 0);
    for seed in 0..40 {
        let plan = FaultPlan { crash_at_call: Some(3), ..FaultPlan::default() };
        let store = FaultyStore::new(memory(), seed, plan);
        store.put("a", Bytes::from_static(b"a")).unwrap();
        store.delete("a").unwrap();
        assert!(store.put("b", Bytes::from_static(b"b")).unwrap_err().is_transient());
        assert!(store.crashed());
        assert!(store.get("b").unwrap_err().is_transient());
        store.restart(FaultPlan::default());
        kept += u32::from(store.get("b").is_ok());
        revived += u32::from(store.get("a").is_ok());
    }
    assert!((5..35).contains(&kept) && (5..35).contains(&revived), "{kept} {revived}");
}
