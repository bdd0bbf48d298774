//! What snapshots leave free for others on the same disk.

use super::*;
use objstore::{FaultPlan, FaultyStore};
use std::sync::Mutex;
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

/// A place that has room for so many bytes of objects.
struct Room {
    objects: Arc<MemoryStore>,
    bytes: AtomicU64,
}

impl Floor for Room {
    fn bytes(&self) -> u64 {
        (FREE + self.objects.total_bytes()).saturating_sub(self.bytes.load(Ordering::SeqCst))
    }

    fn refused(&self) {}

    fn admitted(&self) {}
}

fn roomy(bytes: u64) -> (Arc<Room>, SnapshotStore) {
    let objects = memory();
    let room = Arc::new(Room { objects: objects.clone(), bytes: AtomicU64::new(bytes) });
    let plan = FaultPlan { free_bytes: Some(FREE), ..FaultPlan::default() };
    let store = snapshots(Arc::new(FaultyStore::new(objects, 1, plan)), 1);
    (room.clone(), store.leaving(room))
}

/// Keeps the newest checkpoint, and cancels when so many blocks are done.
struct Keeper {
    last: Mutex<Option<Checkpoint>>,
    done: AtomicU64,
    cancel_after: u64,
    /// Says of a checkpoint that it was not kept, although it was.
    denies: bool,
}

impl Keeper {
    fn new(cancel_after: u64) -> Self {
        Self { last: Mutex::default(), done: AtomicU64::new(0), cancel_after, denies: false }
    }
}

impl Observer for Keeper {
    fn progress(&self, done: u64, _total: u64) {
        self.done.store(done, Ordering::SeqCst);
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.last.lock().unwrap() = Some(*checkpoint);
        if self.denies { Err("the answer was lost".into()) } else { Ok(()) }
    }

    fn is_cancelled(&self) -> bool {
        self.done.load(Ordering::SeqCst) >= self.cancel_after
    }

    fn admit(&self, _bytes: u64) {}
}

/// Blocks of the volume that is exported and copied, in several packs.
const BLOCKS: u64 = 300;
/// Bytes of one of those packs: 64 blocks of four pages, and little else.
const PACK_BYTES: u64 = 64 * 4 * PAGE_BYTES as u64;

/// Does a work in a place with room for two packs and a half, and then in one with room for all. Answers
/// what it comes to.
fn work_twice(
    room: &Room,
    store: &SnapshotStore,
    keep: &[SnapshotRoot],
    work: impl Fn(Option<&Checkpoint>, &Keeper) -> Result<SnapshotRoot, Error>,
) -> SnapshotRoot {
    let before = room.objects.total_bytes();
    room.bytes.store(before + PACK_BYTES * 5 / 2, Ordering::SeqCst);
    let keeper = Keeper::new(u64::MAX);
    assert_no_room(&work(None, &keeper).unwrap_err());
    let checkpoint = keeper.last.lock().unwrap().take().expect("what is stored is not in vain");
    assert!(checkpoint.next_block >= 64, "{}", checkpoint.next_block);
    // Nothing else is left, but for nodes of the manifests of earlier checkpoints.
    let live: Vec<_> = keep.iter().copied().chain([checkpoint.root]).collect();
    let reclaimed: u64 = (1..=3).map(|days| sweep(store, &live, days).bytes_reclaimed).sum();
    assert!(reclaimed < PACK_BYTES / 4, "{reclaimed} bytes were left");
    room.bytes.store(u64::MAX / 2, Ordering::SeqCst);
    work(Some(&checkpoint), &keeper).unwrap()
}

#[test]
fn an_export_that_finds_no_room_keeps_what_it_has_stored_and_nothing_else() {
    let (room, store) = roomy(0);
    let mut volume = Volume::new(GIB, 1, 1);
    write_pages(&mut volume, 4, 0..BLOCKS, 1_000);
    let cut = volume.cut();
    let root = work_twice(&room, &store, &[], |resume, keeper| {
        export(&store, &cut, &Export { resume, ..job(&volume, None) }, keeper)
    });
    assert_holds(&store, &root, &volume.model, &volume.key);
}

#[test]
fn a_copy_that_finds_no_room_keeps_what_it_has_stored_and_nothing_else() {
    let (room, store) = roomy(u64::MAX / 2);
    let mut volume = Volume::new(GIB, 1, 1);
    write_pages(&mut volume, 4, 0..BLOCKS, 1_000);
    let source = snapshot(&store, &mut volume, None);
    let target = key(9);
    let root = work_twice(&room, &store, &[source], |resume, keeper| {
        let keys = CopyKeys::Change { source: &volume.key, target: &target };
        let checkpoint_blocks = CHECKPOINT_BLOCKS;
        let job =
            CopyJob { source: &source, keys, earlier: None, resume, checkpoint_blocks, threads: 2 };
        copy(&store, &store, &job, keeper)
    });
    assert_holds(&store, &root, &volume.model, &target);
}

/// Where there is room, too: it is not left to a collection.
#[test]
fn what_is_cancelled_leaves_nothing() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_pages(&mut volume, 4, 0..BLOCKS, 1_000);
    let keeper = Keeper::new(BLOCKS - 50);
    let cancelled = export(&store, &volume.cut(), &job(&volume, None), &keeper);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    assert_eq!(stored(&objects), []);
    let source = export(&store, &volume.full_cut(), &job(&volume, None), &Unobserved).unwrap();
    let before = stored(&objects);
    for threads in [0, 2] {
        let (keys, checkpoint_blocks) = (CopyKeys::Same, CHECKPOINT_BLOCKS);
        let job = CopyJob {
            source: &source,
            keys,
            earlier: None,
            resume: None,
            checkpoint_blocks,
            threads,
        };
        let cancelled = copy(&store, &store, &job, &Keeper::new(BLOCKS - 50));
        assert!(matches!(cancelled, Err(Error::Cancelled)));
        assert_eq!(stored(&objects), before);
    }
}

#[test]
fn what_a_checkpoint_names_stays_also_if_nobody_knows_whether_it_was_kept() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    write_pages(&mut volume, 4, 0..BLOCKS, 1_000);
    let cut = volume.cut();
    let keeper = Keeper { denies: true, ..Keeper::new(u64::MAX) };
    let job = || Export { checkpoint_blocks: 100, ..job(&volume, None) };
    let stopped = export(&store, &cut, &job(), &keeper);
    assert!(matches!(stopped, Err(Error::Checkpoint { .. })));
    let checkpoint = keeper.last.lock().unwrap().take().unwrap();
    let rest = Export { resume: Some(&checkpoint), ..job() };
    let root = export(&store, &cut, &rest, &Unobserved).unwrap();
    assert_holds(&store, &root, &volume.model, &volume.key);
}
