//! Exports of cuts, chains of them, and reading them back.

use super::*;
use crate::page::{BasePage, BaseReader};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[test]
fn an_empty_volume_is_an_empty_snapshot() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    let root = snapshot(&store, &mut volume, None);
    assert_holds(&store, &root, &volume.model, &volume.key);
    assert_eq!((root.full_blocks(), root.incremental_blocks(), root.generation()), (0, 0, 1));
    let reader = SnapshotReader::open(&store, &root).unwrap();
    assert!(reader.read_block(2047, &volume.key).unwrap().is_none());
    let beyond = reader.read_block(2048, &volume.key);
    assert!(matches!(beyond, Err(Error::BlockOutOfRange { block: 2048, blocks: 2048 })));
}

/// Without the key nobody can tell, and whoever reads the page gets an error.
#[test]
fn a_damaged_page_ends_an_export_where_the_key_is_at_hand() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    let damaged = 3 * PAGES_PER_BLOCK as u64 + 5;
    [0, damaged, damaged + 1].into_iter().for_each(|lba| volume.write(lba, lba | 1));
    let mut cut = volume.cut();
    let Some(CutPage::Sealed(page)) = cut.pages.get_mut(&damaged) else { panic!("it is there") };
    page.ciphertext[100] ^= 1;
    let refused = export(&store, &cut, &job(&volume, None), &Unobserved).unwrap_err();
    let source = SourceError::Corrupt { what: "page", block: 3 };
    assert_eq!(refused.to_string(), Error::Source { source }.to_string());
    assert!(!refused.is_transient());
    let keyless = Export { key: &NoKey, ..job(&volume, None) };
    export(&store, &cut, &keyless, &Unobserved).unwrap();
    let whole = volume.full_cut();
    export(&store, &whole, &job(&volume, None), &Unobserved).unwrap();
}

#[test]
fn chains_hold_what_each_volume_held_at_its_cut() {
    for seed in 0..8 {
        let rng = SeededRng::new(seed);
        let store = snapshots(memory(), seed);
        let mut volume = Volume::new(2 * GIB, 1, seed);
        let mut history: History = Vec::new();
        for _ in 0..6 {
            volume.random_writes(&rng, 12, 40);
            // A leaf of its own, so that shared and rewritten leaves both occur.
            volume.write(1500 * PAGES_PER_BLOCK as u64 + rng.below(4), rng.next_u64() | 1);
            let parent = history.last().map(|(root, _)| *root);
            let root = snapshot(&store, &mut volume, parent.as_ref());
            let root = SnapshotRoot::from_bytes(&root.to_bytes()).unwrap();
            history.push((root, volume.model.clone()));
        }
        for (root, model) in &history {
            assert_holds(&store, root, model, &volume.key);
            verify(&store, root, Some(&volume.key)).unwrap();
        }
        for (first, first_model) in &history {
            for (second, second_model) in &history {
                check_changes(&store, (first, first_model), (second, second_model));
            }
        }
    }
}

fn check_changes(
    store: &SnapshotStore,
    (first, first_model): (&SnapshotRoot, &BTreeMap<Lba, u64>),
    (second, second_model): (&SnapshotRoot, &BTreeMap<Lba, u64>),
) {
    let open = |root| SnapshotReader::open(store, root).unwrap();
    let (first, second) = (open(first), open(second));
    let changed = changed(&first, &second);
    let named: BTreeSet<u64> = changed.iter().map(|block| block.index).collect();
    for block in 0..2048 {
        let pages = block * PAGES_PER_BLOCK as u64..(block + 1) * PAGES_PER_BLOCK as u64;
        let differs = !first_model.range(pages.clone()).eq(second_model.range(pages));
        assert!(!differs || named.contains(&block), "block {block} differs and is not named");
    }
    for block in changed {
        assert_eq!(block.first, first.content(block.index).unwrap());
        assert_eq!(block.second, second.content(block.index).unwrap());
        assert_ne!(block.first, block.second);
    }
}

#[test]
fn an_incremental_snapshot_of_a_large_volume_costs_what_changed() {
    let objects = memory();
    let store = snapshots(objects.clone(), 3);
    let mut volume = Volume::new(1024 * GIB, 1, 3);
    for block in (0..2_097_152).step_by(4096) {
        volume.write(block * PAGES_PER_BLOCK as u64, block + 1);
    }
    let first = snapshot(&store, &mut volume, None);
    let before = objects.total_bytes();
    volume.write(777 * PAGES_PER_BLOCK as u64, 5);
    let second = snapshot(&store, &mut volume, Some(&first));
    let cost = objects.total_bytes() - before;
    // One page, one leaf, one inner node of up to 256 children, one root.
    assert!(cost < 40_000, "{cost} bytes for one page");
    assert_eq!((second.full_blocks(), second.incremental_blocks()), (513, 1));
    assert_eq!(second.full_bytes(), 513 * whole_block() as u64);
}

#[test]
fn the_largest_volume_is_cheap_when_sparse() {
    let objects = memory();
    let store = snapshots(objects.clone(), 3);
    let mut volume = Volume::new(65_536 * GIB, 1, 3);
    let last = 65_536 * 2048 - 1;
    for block in [0, last / 2, last] {
        volume.write(block * PAGES_PER_BLOCK as u64 + 127, block + 1);
    }
    let root = snapshot(&store, &mut volume, None);
    assert_holds(&store, &root, &volume.model, &volume.key);
    assert!(objects.total_bytes() < 20_000, "{}", objects.total_bytes());
    let reader = SnapshotReader::open(&store, &root).unwrap();
    assert_eq!(reader.next_block(1).unwrap(), Some(last / 2));
    assert_eq!(reader.next_block(last).unwrap(), Some(last));
}

#[test]
fn a_volume_made_from_a_snapshot_continues_its_series() {
    let store = snapshots(memory(), 4);
    let mut volume = Volume::new(GIB, 1, 4);
    volume.random_writes(&SeededRng::new(4), 30, 10);
    let base = snapshot(&store, &mut volume, None);

    let mut clone = Volume::from_base(&volume.model, 2 * GIB, 1, 5);
    clone.write(PAGES_PER_BLOCK as u64 * 3 + 9, 99);
    clone.zero(0);
    clone.write(PAGES_PER_BLOCK as u64 * 3000, 98);
    let root = snapshot(&store, &mut clone, Some(&base));
    assert_holds(&store, &root, &clone.model, &clone.key);
    assert_holds(&store, &base, &volume.model, &volume.key);
    assert_eq!(root.series(), base.series());
    assert_eq!(root.volume_bytes(), 2 * GIB);

    // Without any surviving snapshot of the clone, its own blocks over its base give the same.
    let again = export(&store, &clone.full_cut(), &job(&clone, Some(&base)), &Unobserved).unwrap();
    assert_holds(&store, &again, &clone.model, &clone.key);
}

#[test]
fn a_parent_under_another_key_is_refused() {
    let store = snapshots(memory(), 4);
    let mut volume = Volume::new(GIB, 1, 4);
    volume.write(0, 1);
    let base = snapshot(&store, &mut volume, None);
    let other = Volume::new(GIB, 2, 5);
    let refused = export(&store, &other.full_cut(), &job(&other, Some(&base)), &Unobserved);
    assert!(matches!(refused, Err(Error::WrongKey)));
    let reader = SnapshotReader::open(&store, &base).unwrap();
    assert!(matches!(reader.read_block(0, &other.key), Err(Error::WrongKey)));
}

#[test]
fn all_blocks_of_unrelated_snapshots_differ() {
    let store = snapshots(memory(), 4);
    let root = |seed, block: u64| {
        let mut volume = Volume::new(GIB, 1, seed);
        volume.write(block * PAGES_PER_BLOCK as u64, 1);
        volume.write(9 * PAGES_PER_BLOCK as u64, 1);
        snapshot(&store, &mut volume, None)
    };
    let (first, second) = (root(1, 3), root(2, 4));
    assert_ne!(first.series(), second.series());
    let open = |root| SnapshotReader::open(&store, root).unwrap();
    let named = changed(&open(&first), &open(&second));
    assert_eq!(named.iter().map(|block| block.index).collect::<Vec<_>>(), [3, 4, 9]);
    let (alone, _) = open(&second).changed_blocks(None, 0..9).unwrap();
    assert_eq!(alone.iter().map(|block| block.index).collect::<Vec<_>>(), [4]);
}

#[test]
fn a_block_that_became_zeros_is_gone_and_named_as_changed() {
    let store = snapshots(memory(), 4);
    let mut volume = Volume::new(GIB, 1, 4);
    volume.write(PAGES_PER_BLOCK as u64 * 5 + 1, 1);
    volume.write(PAGES_PER_BLOCK as u64 * 6, 1);
    let first = snapshot(&store, &mut volume, None);
    volume.zero(PAGES_PER_BLOCK as u64 * 5 + 1);
    let second = snapshot(&store, &mut volume, Some(&first));
    assert_holds(&store, &second, &volume.model, &volume.key);
    let open = |root| SnapshotReader::open(&store, root).unwrap();
    let changed = changed(&open(&first), &open(&second));
    assert_eq!(changed.len(), 1);
    assert_eq!((changed[0].index, changed[0].second), (5, None));
    assert!(changed[0].first.is_some());
}

#[test]
fn pages_can_be_read_one_by_one_without_a_key() {
    let store = snapshots(memory(), 4);
    let mut volume = Volume::new(GIB, 1, 4);
    volume.random_writes(&SeededRng::new(9), 60, 30);
    let root = snapshot(&store, &mut volume, None);
    let reader = SnapshotReader::open(&store, &root).unwrap();
    for lba in (0..40 * PAGES_PER_BLOCK as u64).step_by(20) {
        match (reader.read_page(lba).unwrap(), volume.model.get(&lba)) {
            (BasePage::Zero, None) => {}
            (BasePage::Sealed(page), Some(stamp)) => {
                let mut plain = [0; PAGE_BYTES];
                page.open(&volume.key.opener(page.origin.salt), lba, &mut plain).unwrap();
                assert_eq!(plain, page_of(*stamp));
            }
            (found, expected) => panic!("page {lba}: {found:?}, expected {expected:?}"),
        }
        let block = lba / PAGES_PER_BLOCK as u64;
        assert_eq!(reader.has_block(block).unwrap(), model_blocks(&volume.model).contains(&block));
    }
    assert_eq!(reader.read_page(GIB / PAGE_BYTES as u64).unwrap(), BasePage::Zero);
    assert!(!reader.has_block(1 << 40).unwrap());
}

#[test]
fn the_store_shows_no_plaintext() {
    let objects = memory();
    let store = snapshots(objects.clone(), 4);
    let mut volume = Volume::new(GIB, 1, 4);
    (0..50).for_each(|page| volume.write(page * 7, page + 1));
    snapshot(&store, &mut volume, None);
    let marker = 0x706c_6169_6e74_6578u64.to_le_bytes();
    for meta in objects.list("").unwrap() {
        let bytes = objects.get(&meta.name).unwrap();
        let shown = bytes.windows(7).any(|window| window == &marker[1..]);
        assert!(!shown, "{} shows plaintext", meta.name);
    }
}

/// Remembers checkpoints, and cancels after a number of blocks.
#[derive(Default)]
struct Recorder {
    checkpoints: Mutex<Vec<Vec<u8>>>,
    done: AtomicU64,
    cancel_after: Option<u64>,
}

impl Observer for Recorder {
    fn progress(&self, done: u64, total: u64) {
        assert!(done <= total);
        self.done.store(done, Ordering::SeqCst);
    }

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.checkpoints.lock().unwrap().push(checkpoint.to_bytes());
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        self.cancel_after.is_some_and(|after| self.done.load(Ordering::SeqCst) >= after)
    }

    fn admit(&self, _bytes: u64) {}
}

/// Wants each turn to be as short as it can be.
#[derive(Default)]
struct ShortTurns {
    last: Mutex<Option<Checkpoint>>,
    admitted: AtomicU64,
}

impl Observer for ShortTurns {
    fn progress(&self, _done: u64, _total: u64) {}

    fn checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        *self.last.lock().unwrap() = Some(*checkpoint);
        Ok(())
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn is_turn_over(&self) -> bool {
        true
    }

    fn admit(&self, _bytes: u64) {
        self.admitted.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_export_in_turns_moves_every_block_once() {
    let store = snapshots(memory(), 4);
    let mut volume = Volume::new(GIB, 1, 4);
    (0..9).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, block + 1));
    let cut = volume.cut();
    let turns = ShortTurns::default();
    for turn in 0.. {
        let resume = *turns.last.lock().unwrap();
        let job = Export { resume: resume.as_ref(), ..job(&volume, None) };
        match export(&store, &cut, &job, &turns) {
            Err(Error::TurnOver) => assert!(turn < 9),
            ended => {
                assert_holds(&store, &ended.unwrap(), &volume.model, &volume.key);
                break;
            }
        }
    }
    assert_eq!(turns.admitted.load(Ordering::SeqCst), 9);
}

#[test]
fn a_cancelled_export_goes_on_from_its_checkpoint() {
    let objects = memory();
    let store = snapshots(objects.clone(), 4);
    let mut volume = Volume::new(GIB, 1, 4);
    (0..100).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, block + 1));
    let cut = volume.cut();
    let recorder = Recorder { cancel_after: Some(57), ..Recorder::default() };
    let first = Export { checkpoint_blocks: 10, ..job(&volume, None) };
    let cancelled = export(&store, &cut, &first, &recorder);
    assert!(matches!(cancelled, Err(Error::Cancelled)));
    let checkpoints = recorder.checkpoints.into_inner().unwrap();
    assert_eq!(checkpoints.len(), 5);

    let checkpoint = Checkpoint::from_bytes(checkpoints.last().unwrap()).unwrap();
    assert_eq!((checkpoint.blocks_done(), checkpoint.root().full_blocks()), (50, 50));
    let before = objects.total_bytes();
    let rest = Export { resume: Some(&checkpoint), ..job(&volume, None) };
    let recorder = Recorder::default();
    let root = export(&store, &cut, &rest, &recorder).unwrap();
    assert_holds(&store, &root, &volume.model, &volume.key);
    assert_eq!(recorder.done.load(Ordering::SeqCst), 100);
    assert_eq!(root.incremental_blocks(), 100);
    let written = objects.total_bytes() - before;
    assert!(written < 60 * PAGE_BYTES as u64, "{written} bytes: blocks were stored twice");
}
