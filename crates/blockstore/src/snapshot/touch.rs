//! In which order volumes made from a snapshot first wanted its blocks.
//!
//! Machines that start from one snapshot want the same blocks in the same order, so that order is
//! the best one to fill the next volume in. It is kept in memory only: without it a volume is
//! filled from the front.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most blocks kept per snapshot: 2 GiB, more than a machine reads to start.
pub const TOUCHES_MAX: usize = 4096;
/// The most snapshots kept.
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

#[derive(Default)]
struct Touches {
    order: Vec<u64>,
    seen: HashSet<u64>,
}

/// First touches by root id.
#[derive(Default)]
pub(super) struct FirstTouches(Mutex<HashMap<[u8; 16], Touches>>);

impl FirstTouches {
    pub(super) fn record(&self, root: [u8; 16], block: u64) {
        if !RECORDING.get() {
            return;
        }
        let mut roots = self.lock();
        if roots.len() >= ROOTS_MAX && !roots.contains_key(&root) {
            roots.clear();
        }
        let touches = roots.entry(root).or_default();
        if touches.order.len() < TOUCHES_MAX && touches.seen.insert(block) {
            touches.order.push(block);
        }
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
    use super::*;

    #[test]
    fn the_first_touch_counts_and_filling_does_not() {
        let touches = FirstTouches::default();
        for block in [7, 3, 7, 9, 3] {
            touches.record([1; 16], block);
        }
        unrecorded(|| touches.record([1; 16], 1));
        touches.record([2; 16], 5);
        assert_eq!(touches.of([1; 16]), [7, 3, 9]);
        assert_eq!(touches.of([2; 16]), [5]);
        assert!(touches.of([3; 16]).is_empty());
        (0..2 * TOUCHES_MAX as u64).for_each(|block| touches.record([1; 16], block));
        assert_eq!(touches.of([1; 16]).len(), TOUCHES_MAX);
        (0..200).for_each(|root| touches.record([root; 16], 0));
        assert!(touches.lock().len() <= ROOTS_MAX);
    }
}
