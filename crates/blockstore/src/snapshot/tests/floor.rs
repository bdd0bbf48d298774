//! What snapshots leave free for others on the same disk.

use super::*;
use objstore::{FaultPlan, FaultyStore};
use std::sync::atomic::{AtomicU64, Ordering};

const FREE: u64 = 100 << 20;

#[derive(Default)]
struct Others {
    bytes: AtomicU64,
    refused: AtomicU64,
}

impl Floor for Others {
    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    fn admitted(&self) {}
}

fn stored(objects: &MemoryStore) -> Vec<objstore::ObjectMeta> {
    objects.list("packs").unwrap()
}

fn assert_no_room(error: &Error) {
    assert!(error.is_out_of_space() && error.is_transient(), "{error:?}");
}

#[test]
fn snapshots_wait_while_they_would_take_what_others_need_and_collections_do_not() {
    let objects = memory();
    let plan = FaultPlan { free_bytes: Some(FREE), ..FaultPlan::default() };
    let limited = Arc::new(FaultyStore::new(Arc::clone(&objects), 1, plan));
    let others = Arc::new(Others::default());
    let store = snapshots(limited, 1).leaving(Arc::clone(&others) as Arc<dyn Floor>);
    let mut three = Three::new(&store, 4);
    let before = stored(&objects);

    others.bytes.store(FREE, Ordering::SeqCst);
    write_pages(&mut three.volume, 4, 0..10, 9_000);
    let cut = three.volume.cut();
    let job = job(&three.volume, Some(&three.third.0));
    assert_no_room(&export(&store, &cut, &job, &Unobserved).unwrap_err());
    let spec = SessionSpec {
        name: "upload".to_owned(),
        volume_bytes: GIB,
        parent: None,
        key_check: three.volume.key.check_value(),
    };
    let session = DirectSession::open(&store, spec).unwrap();
    let block = block_of(5);
    assert_no_room(&session.put_block(0, &block, None, &three.volume.key).unwrap_err());
    assert_eq!(stored(&objects), before);
    assert!(others.refused.load(Ordering::SeqCst) >= 2);

    // The first two are deleted: that is what gives space back.
    for days in 1..=3 {
        sweep(&store, &[three.third.0], days);
    }
    let after: u64 = stored(&objects).iter().map(|meta| meta.size).sum();
    assert!(after < before.iter().map(|meta| meta.size).sum());
    let rewritten = |meta: &&objstore::ObjectMeta| !before.contains(meta);
    assert!(stored(&objects).iter().filter(rewritten).count() > 0, "packs are rewritten");

    others.bytes.store(FREE / 2, Ordering::SeqCst);
    session.put_block(0, &block, None, &three.volume.key).unwrap();
    let root = export(&store, &cut, &job, &Unobserved).unwrap();
    assert_holds(&store, &root, &three.volume.model, &three.volume.key);
}
