//! Snapshots that are moved to the archive and back.

use super::*;
use objstore::{FaultPlan, FaultyStore};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

fn job(source: &SnapshotRoot) -> RepackJob<'_> {
    RepackJob { source, resume: None, checkpoint_blocks: CHECKPOINT_BLOCKS, threads: 2 }
}

/// The archive's structure is under a key of its own.
fn cold(objects: Arc<dyn ObjectStore>, seed: u64) -> SnapshotStore {
    SnapshotStore::new(objects, &Secret::new([0xc0; 32]), Arc::new(SeededRng::new(seed)))
}

/// Ends a turn after so many questions, and keeps what it is told.
struct Turn {
    questions: u64,
    asked: AtomicU64,
    /// Also stops at once when the copy is whole, before any of it is proven.
    stops_before_proof: bool,
    last: Mutex<Option<Checkpoint>>,
    frames_admitted: AtomicU64,
    progress: Mutex<Vec<(u64, u64)>>,
}

impl Turn {
    fn of(questions: u64) -> Self {
        Self {
            questions,
            asked: AtomicU64::new(0),
            stops_before_proof: false,
            last: Mutex::default(),
            frames_admitted: AtomicU64::new(0),
            progress: Mutex::default(),
        }
    }

    fn last(&self) -> Option<Checkpoint> {
        *self.last.lock().unwrap()
    }
}

impl Observer for Turn {
    fn progress(&self, done: u64, total: u64) {
        self.progress.lock().unwrap().push((done, total));
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.last.lock().unwrap() = Some(*checkpoint);
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        let is_whole =
            |checkpoint: Checkpoint| checkpoint.next_block >= super::super::node::BLOCKS_MAX;
        self.stops_before_proof && self.last().is_some_and(is_whole)
    }

    fn is_turn_over(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst) >= self.questions
    }

    fn admit(&self, _bytes: u64) {
        self.frames_admitted.fetch_add(1, Ordering::SeqCst);
    }
}

fn collect_all(store: &SnapshotStore, live: &[SnapshotRoot]) {
    for days in 0..3 {
        let now = START.plus_seconds(days * 86_400);
        let policy = CollectPolicy { now, grace_seconds: 3600, rewrite_below_percent: 50 };
        collect(store, live.iter().map(|root| Ok::<_, Error>(*root)), &[], &policy).unwrap();
    }
}

#[test]
fn the_middle_of_three_goes_to_the_archive_and_comes_back_whole() {
    let (objects, cold_objects) = (memory(), memory());
    let standard = snapshots(objects.clone(), 1);
    let archive = cold(cold_objects.clone(), 2);
    let mut volume = Volume::new(GIB, 1, 1);
    let mut history = History::new();
    for seed in 0..3 {
        volume.random_writes(&SeededRng::new(seed), 60, 40);
        let parent = history.last().map(|(root, _)| *root);
        let root = snapshot(&standard, &mut volume, parent.as_ref());
        history.push((root, volume.model.clone()));
    }
    let (middle, model) = history.remove(1);
    let archived = repack(&standard, &archive, &job(&middle), &Unobserved).unwrap();
    // Only now may the standard root go; its neighbours keep what they share with it.
    let neighbours: Vec<_> = history.iter().map(|(root, _)| *root).collect();
    collect_all(&standard, &neighbours);
    for (root, model) in &history {
        assert_holds(&standard, root, model, &volume.key);
    }
    // The archive is self-contained: nothing of the standard store is needed.
    assert_holds(&archive, &archived, &model, &volume.key);
    let restored = repack(&archive, &standard, &job(&archived), &Unobserved).unwrap();
    collect_all(&archive, &[]);
    assert!(cold_objects.list("packs").unwrap().is_empty(), "the archive gives its space back");
    assert_holds(&standard, &restored, &model, &volume.key);
    assert_eq!(restored.full_bytes(), middle.full_bytes());
}

/// The process dies at every call in turn; the next one starts over.
#[test]
fn whenever_it_dies_one_whole_copy_is_there_and_no_other_stays() {
    let standard = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    volume.random_writes(&SeededRng::new(9), 150, 90);
    let root = snapshot(&standard, &mut volume, None);
    let mut deaths = 0;
    for call in 1.. {
        let plan = FaultPlan { crash_at_call: Some(call), ..FaultPlan::default() };
        let faulty = Arc::new(FaultyStore::new(memory(), call, plan));
        let first = repack(&standard, &cold(faulty.clone(), 2), &job(&root), &Unobserved);
        assert_holds(&standard, &root, &volume.model, &volume.key);
        if first.is_ok() {
            break;
        }
        deaths += 1;
        faulty.restart(FaultPlan::default());
        let archive = cold(faulty.clone(), 3);
        let archived = repack(&standard, &archive, &job(&root), &Unobserved).unwrap();
        collect_all(&archive, &[archived]);
        assert_holds(&archive, &archived, &volume.model, &volume.key);
        let whole = faulty.list("packs").unwrap().len();
        collect_all(&archive, &[]);
        assert!(faulty.list("packs").unwrap().is_empty());
        assert!(whole <= 4, "half of another copy stayed: {whole} packs");
    }
    assert!(deaths > 3, "only {deaths} deaths");
}

#[test]
fn turns_of_any_length_lead_to_the_end_and_nothing_is_done_twice() {
    let standard = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    volume.random_writes(&SeededRng::new(4), 150, 90);
    let root = snapshot(&standard, &mut volume, None);
    let blocks = root.full_blocks();
    for questions in [0, 1, 7, 40, 100_000] {
        let objects = memory();
        let archive = cold(objects.clone(), 2);
        let (mut resume, mut admitted, mut turns) = (None, 0, 0);
        let archived = loop {
            let turn = Turn::of(questions);
            let repacking = RepackJob { resume: resume.as_ref(), ..job(&root) };
            let repacked = repack(&standard, &archive, &repacking, &turn);
            admitted += turn.frames_admitted.load(Ordering::SeqCst);
            turns += 1;
            let progress = turn.progress.into_inner().unwrap();
            let is_right = |(done, total): &(u64, u64)| *total == 2 * blocks && done <= total;
            assert!(progress.is_sorted() && progress.iter().all(is_right), "{progress:?}");
            resume = turn.last.into_inner().unwrap().or(resume);
            match repacked {
                Ok(archived) => break archived,
                Err(Error::TurnOver) => assert!(turns < 3 * blocks, "it goes on"),
                Err(error) => panic!("{error}"),
            }
            // Only the checkpoint keeps alive what is there so far.
            let live: Vec<_> = resume.iter().map(|checkpoint| *checkpoint.root()).collect();
            collect_all(&archive, &live);
        };
        assert_eq!(admitted, 2 * blocks, "turns of {questions}");
        assert_eq!(turns > 1, questions < 100_000, "turns of {questions}");
        collect_all(&archive, &[archived]);
        assert_holds(&archive, &archived, &volume.model, &volume.key);
        // Asked once more by somebody who had not heard of the end, it has nothing to do.
        let turn = Turn::of(0);
        let repacking = RepackJob { resume: resume.as_ref(), ..job(&root) };
        assert_eq!(repack(&standard, &archive, &repacking, &turn).unwrap(), archived);
        assert_eq!(turn.frames_admitted.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn what_was_written_wrong_is_found_before_it_counts() {
    let (standard, objects) = (snapshots(memory(), 1), memory());
    let mut volume = Volume::new(GIB, 1, 1);
    volume.random_writes(&SeededRng::new(5), 100, 60);
    let root = snapshot(&standard, &mut volume, None);
    let archive = cold(objects.clone(), 2);
    let turn = Turn { stops_before_proof: true, ..Turn::of(u64::MAX) };
    let stopped = repack(&standard, &archive, &job(&root), &turn);
    assert!(matches!(stopped, Err(Error::Cancelled)));
    let whole = turn.last().unwrap();
    for meta in objects.list("packs").unwrap() {
        let good = objects.get(&meta.name).unwrap();
        let mut bad = good.to_vec();
        // Past the header, so within the first item.
        bad[100] ^= 4;
        objects.tamper(&meta.name, bad.into());
        // The store still remembers the nodes it has just written.
        let repacking = RepackJob { resume: Some(&whole), ..job(&root) };
        let repacked = repack(&standard, &archive, &repacking, &Unobserved);
        assert!(matches!(repacked, Err(Error::Corrupt { .. })), "{}", meta.name);
        objects.tamper(&meta.name, good);
    }
    let repacking = RepackJob { resume: Some(&whole), ..job(&root) };
    let archived = repack(&standard, &archive, &repacking, &Unobserved).unwrap();
    assert_holds(&archive, &archived, &volume.model, &volume.key);
}
