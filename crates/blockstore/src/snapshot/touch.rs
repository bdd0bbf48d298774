//! In which order volumes made from a snapshot first wanted its blocks.
//!
//! Machines that start from one snapshot want the same blocks in the same order, so that order is
//! the best one to fill the next volume in. It is a hint: without it a volume is filled from the
//! front. What is gathered here is given out to be kept, and merged with what was kept before.

use super::root::SnapshotRoot;
use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most blocks kept per snapshot: 2 GiB, more than a machine reads to start.
pub const TOUCHES_MAX: usize = 4096;
/// The most snapshots in memory.
const ROOTS_MAX: usize = 64;

thread_local! {
    static RECORDING: Cell<bool> = const { Cell::new(true) };
}

/// Runs `read` without its reads being taken for what a machine wants first.
pub fn unrecorded<T>(read: impl FnOnce() -> T) -> T {
    let before = RECORDING.replace(false);
    let read = read();
    RECORDING.set(before);
    read
}

/// One order after the other, each block where it comes first; at most [`TOUCHES_MAX`].
pub fn merge_touches(kept: &[u64], found: &[u64]) -> Vec<u64> {
    let mut seen = HashSet::new();
    let all = kept.iter().chain(found).copied();
    all.filter(|block| seen.insert(*block)).take(TOUCHES_MAX).collect()
}

struct Touches {
    root: SnapshotRoot,
    order: Vec<u64>,
    seen: HashSet<u64>,
    /// Whether the order has grown since it was last given out.
    has_grown: bool,
}

/// First touches by root id.
#[derive(Default)]
pub(super) struct FirstTouches(Mutex<HashMap<[u8; 16], Touches>>);

impl FirstTouches {
    pub(super) fn record(&self, root: &SnapshotRoot, block: u64) {
        if !RECORDING.get() {
            return;
        }
        let mut roots = self.lock();
        if roots.len() >= ROOTS_MAX && !roots.contains_key(&root.id()) {
            roots.clear();
        }
        let touches = roots.entry(root.id()).or_insert_with(|| Touches {
            root: *root,
            order: Vec::new(),
            seen: HashSet::new(),
            has_grown: false,
        });
        if touches.order.len() < TOUCHES_MAX && touches.seen.insert(block) {
            touches.order.push(block);
            touches.has_grown = true;
        }
    }

    /// The orders that have grown since the last call.
    pub(super) fn take_grown(&self) -> Vec<(SnapshotRoot, Vec<u64>)> {
        let mut roots = self.lock();
        let grown = roots.values_mut().filter_map(|touches| {
            let has_grown = std::mem::take(&mut touches.has_grown);
            has_grown.then(|| (touches.root, touches.order.clone()))
        });
        grown.collect()
    }

    pub(super) fn of(&self, root: [u8; 16]) -> Vec<u64> {
        self.lock().get(&root).map(|touches| touches.order.clone()).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 16], Touches>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::Facts;
    use super::super::pack::{ItemRef, PackId};
    use super::*;

    fn root(seed: u8) -> SnapshotRoot {
        let tag = crate::page::Tag([0; 16]);
        let record = ItemRef { pack: PackId([0; 16]), slot: 0, offset: 0, length: 0, tag };
        let facts = Facts {
            id: [seed; 16],
            series: [0; 16],
            volume_bytes: 0,
            key_check: None,
            generation: 1,
            full_blocks: 0,
            changed_blocks: 0,
        };
        SnapshotRoot { record, facts }
    }

    #[test]
    fn the_first_touch_counts_and_filling_does_not() {
        let touches = FirstTouches::default();
        for block in [7, 3, 7, 9, 3] {
            touches.record(&root(1), block);
        }
        unrecorded(|| touches.record(&root(1), 1));
        touches.record(&root(2), 5);
        assert_eq!(touches.of([1; 16]), [7, 3, 9]);
        assert_eq!(touches.of([2; 16]), [5]);
        assert!(touches.of([3; 16]).is_empty());
        assert_eq!(touches.take_grown().len(), 2);
        touches.record(&root(1), 7);
        assert!(touches.take_grown().is_empty(), "nothing new");
        touches.record(&root(1), 8);
        assert_eq!(touches.take_grown(), [(root(1), vec![7, 3, 9, 8])]);
        (0..2 * TOUCHES_MAX as u64).for_each(|block| touches.record(&root(1), block));
        assert_eq!(touches.of([1; 16]).len(), TOUCHES_MAX);
        (0..200).for_each(|seed| touches.record(&root(seed), 0));
        assert!(touches.lock().len() <= ROOTS_MAX);
    }

    #[test]
    fn orders_are_merged_within_bounds() {
        assert_eq!(merge_touches(&[5, 1], &[1, 9, 5, 2]), [5, 1, 9, 2]);
        assert_eq!(merge_touches(&[], &[4, 4]), [4]);
        let many: Vec<u64> = (0..3 * TOUCHES_MAX as u64).collect();
        assert_eq!(merge_touches(&many, &many).len(), TOUCHES_MAX);
    }
}
