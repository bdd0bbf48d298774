//! Power cuts and lying errors, from seeds.

use super::direct::{announce, spec};
use super::*;
use base::Rng;
use objstore::{FaultPlan, FaultyStore};
use std::sync::Mutex;

type Faulty = Arc<FaultyStore<Arc<MemoryStore>>>;

fn faulty(seed: u64) -> (Faulty, SnapshotStore) {
    let objects = Arc::new(FaultyStore::new(memory(), seed, FaultPlan::default()));
    let store = snapshots(objects.clone(), seed);
    (objects, store)
}

fn flaky(crash_at_call: u64) -> FaultPlan {
    let crash_at_call = Some(crash_at_call);
    FaultPlan {
        lost_per_mille: 60,
        happened_per_mille: 60,
        late_list_per_mille: 200,
        crash_at_call,
        ..FaultPlan::default()
    }
}

/// Keeps the newest checkpoint, as the control database would.
#[derive(Default)]
struct Keeper(Mutex<Option<Checkpoint>>);

impl Observer for Keeper {
    fn progress(&self, _done: u64, _total: u64) {}

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.0.lock().unwrap() = Some(*checkpoint);
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn admit(&self, _bytes: u64) {}
}

impl Keeper {
    fn last(&self) -> Option<Checkpoint> {
        *self.0.lock().unwrap()
    }
}

#[test]
fn an_export_survives_crashes_at_any_point() {
    let mut crashes = 0;
    for seed in 0..50 {
        let rng = SeededRng::new(seed);
        let (objects, store) = faulty(seed);
        let mut volume = Volume::new(GIB, 1, seed);
        volume.random_writes(&rng, 40, 60);
        let parent = (snapshot(&store, &mut volume, None), volume.model.clone());
        volume.random_writes(&rng, 60, 60);
        let cut = volume.cut();
        let keeper = Keeper::default();
        let root = loop {
            objects.restart(flaky(1 + rng.below(25)));
            // A process that restarts has no caches and goes on with other randomness.
            let store = snapshots(objects.clone(), rng.next_u64());
            let resume = keeper.last();
            let job = Export {
                resume: resume.as_ref(),
                checkpoint_blocks: 5,
                ..job(&volume, Some(&parent.0))
            };
            match export(&store, &cut, &job, &keeper) {
                Ok(root) => break root,
                Err(error) => assert!(error.is_transient(), "seed {seed}: {error}"),
            }
            crashes += u32::from(objects.crashed());
        };
        objects.restart(FaultPlan::default());
        let store = snapshots(objects.clone(), 0);
        assert_holds(&store, &root, &volume.model, &volume.key);
        assert_holds(&store, &parent.0, &parent.1, &volume.key);
    }
    assert!(crashes > 40, "only {crashes} crashes");
}

#[test]
fn acknowledged_puts_survive_crashes() {
    let mut crashes = 0;
    for seed in 0..60 {
        let rng = SeededRng::new(seed);
        let (objects, _) = faulty(seed);
        let key = key(1);
        let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
        let mut attempted: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
        for _ in 0..3 {
            objects.restart(flaky(2 + rng.below(12)));
            let store = snapshots(objects.clone(), rng.next_u64());
            let Ok(session) = DirectSession::open(&store, spec("s", &key, None)) else { continue };
            for _ in 0..8 {
                let (index, stamp) = (rng.below(6), rng.next_u64() >> 20);
                attempted.entry(index).or_default().insert(stamp);
                match session.put_block(index, &block_of(stamp), None, &key) {
                    Ok(_) => {
                        acknowledged.insert(index, stamp);
                        attempted.insert(index, BTreeSet::from([stamp]));
                    }
                    Err(error) => assert!(error.is_transient(), "{error}"),
                }
            }
            crashes += u32::from(objects.crashed());
        }
        objects.restart(FaultPlan::default());
        let store = snapshots(objects.clone(), 1);
        let session = DirectSession::open(&store, spec("s", &key, None)).unwrap();
        assert!(acknowledged.len() as u64 <= session.written_blocks());
        let written = session.written_blocks();
        let root = session.complete(&announce(written)).unwrap();
        let reader = SnapshotReader::open(&store, &root).unwrap();
        for index in 0..6 {
            let found = reader.read_block(index, &key).unwrap();
            let allowed = attempted.get(&index).cloned().unwrap_or_default();
            match found {
                None => assert!(!acknowledged.contains_key(&index), "seed {seed}: {index} lost"),
                Some(found) => {
                    let known = allowed.iter().any(|stamp| *found.bytes == block_of(*stamp));
                    assert!(known, "seed {seed}: block {index} is none that was put last");
                }
            }
        }
    }
    assert!(crashes > 30, "only {crashes} crashes");
}

#[test]
fn memory_and_store_agree_on_what_a_session_wrote() {
    for seed in 0..20 {
        let rng = SeededRng::new(seed);
        let (objects, store) = faulty(seed);
        let key = key(1);
        let session = DirectSession::open(&store, spec("s", &key, None)).unwrap();
        // Bad enough that puts fail for good, whether or not they happened.
        let plan =
            FaultPlan { lost_per_mille: 350, happened_per_mille: 350, ..FaultPlan::default() };
        objects.restart(plan);
        for _ in 0..12 {
            let block = block_of(rng.next_u64() >> 20);
            let _ = session.put_block(rng.below(6), &block, None, &key);
        }
        objects.restart(FaultPlan::default());
        // Completing settles what is uncertain first; a wrong count shows what it arrived at.
        let Err(Error::CountMismatch { actual, .. }) = session.complete(&announce(99)) else {
            panic!("seed {seed}: the count was not refused");
        };
        let again = DirectSession::open(&snapshots(objects, 7), spec("s", &key, None)).unwrap();
        assert_eq!(again.written_blocks(), actual, "seed {seed}");
        for index in 0..6 {
            let read = |session: &DirectSession| {
                session.read_block(index, &key).unwrap().map(|block| block.digest)
            };
            assert_eq!(read(&session), read(&again), "seed {seed}, block {index}");
        }
    }
}

#[test]
fn a_copy_survives_crashes_on_either_side() {
    for seed in 0..8 {
        let rng = SeededRng::new(seed);
        let ((here, source), (there, _)) = (faulty(seed), faulty(seed + 1000));
        let mut volume = Volume::new(GIB, 1, seed);
        (0..150).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, block + 1));
        let root = snapshot(&source, &mut volume, None);
        let new_key = key(2);
        let keeper = Keeper::default();
        let copied = loop {
            here.restart(flaky(20 + rng.below(200)));
            there.restart(flaky(1 + rng.below(10)));
            let (source, target) =
                (snapshots(here.clone(), rng.next_u64()), snapshots(there.clone(), rng.next_u64()));
            let resume = keeper.last();
            let job = CopyJob {
                source: &root,
                keys: CopyKeys::Change { source: &volume.key, target: &new_key },
                earlier: None,
                resume: resume.as_ref(),
                checkpoint_blocks: 1,
                threads: 2,
            };
            match copy(&source, &target, &job, &keeper) {
                Ok(copied) => break copied,
                Err(error) => assert!(error.is_transient(), "seed {seed}: {error}"),
            }
        };
        there.restart(FaultPlan::default());
        let target = snapshots(there.clone(), 0);
        assert_holds(&target, &copied, &volume.model, &new_key);
    }
}

#[test]
fn collections_that_crash_lose_nothing_and_finish_later() {
    let mut crashes = 0;
    for seed in 0..15 {
        let rng = SeededRng::new(seed);
        let (objects, store) = faulty(seed);
        let mut volume = Volume::new(GIB, 1, seed);
        let mut history: History = Vec::new();
        for _ in 0..5 {
            volume.random_writes(&rng, 12, 25);
            let parent = history.last().map(|(root, _)| *root);
            let root = snapshot(&store, &mut volume, parent.as_ref());
            history.push((root, volume.model.clone()));
        }
        let alive = [history[1].clone(), history[4].clone()];
        let roots = || alive.iter().map(|(root, _)| Ok::<_, Error>(*root));
        let mut days = 0;
        let policy = |days: i64| CollectPolicy {
            now: START.plus_seconds(days * 86_400),
            grace_seconds: 86_400,
            rewrite_below_percent: 100,
        };
        for _ in 0..8 {
            days += 1;
            objects.restart(flaky(1 + rng.below(300)));
            let store = snapshots(objects.clone(), rng.next_u64());
            if let Err(error) = collect(&store, roots(), &[], &policy(days)) {
                assert!(error.is_transient(), "seed {seed}: {error}");
            }
            crashes += u32::from(objects.crashed());
            objects.restart(FaultPlan::default());
            for (root, model) in &alive {
                assert_holds(&snapshots(objects.clone(), 1), root, model, &volume.key);
            }
        }
        let store = snapshots(objects.clone(), 2);
        (0..3).for_each(|extra| {
            collect(&store, roots(), &[], &policy(days + 1 + extra)).unwrap();
        });
        let report = collect(&store, roots(), &[], &policy(days + 9)).unwrap();
        assert_eq!(report, CollectReport::default(), "seed {seed}");
        for (root, model) in &alive {
            assert_holds(&snapshots(objects.clone(), 1), root, model, &volume.key);
        }
    }
    assert!(crashes > 15, "only {crashes} crashes");
}

/// A generator whose answers differ between two processes that start from one seed is what keeps
/// names unique; equal ones would be noticed as a collision, never as an overwrite.
#[test]
fn two_writers_with_equal_randomness_do_not_overwrite() {
    struct Fixed;
    impl Rng for Fixed {
        fn fill(&self, target: &mut [u8]) {
            target.fill(7);
        }
    }
    let objects = memory();
    let open = || SnapshotStore::new(objects.clone(), &Secret::new([1; 32]), Arc::new(Fixed));
    let mut volume = Volume::new(GIB, 1, 1);
    volume.write(0, 1);
    let cut = volume.full_cut();
    let root = export(&open(), &cut, &job(&volume, None), &Unobserved).unwrap();
    let second = export(&open(), &cut, &job(&volume, None), &Unobserved);
    let Err(Error::Store { source }) = second else { panic!("the collision went unnoticed") };
    assert!(matches!(source, objstore::Error::AlreadyExists { .. }));
    assert_holds(&open(), &root, &volume.model, &volume.key);
}
