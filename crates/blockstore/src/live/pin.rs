//! Keeping the space of a volume's stored state while somebody reads it beside the engine.
//!
//! An engine gives a segment back only after the superblock that no longer names it is durable.
//! Whoever takes a [`Hold`] and then reads the superblock therefore finds everything it names,
//! for as long as the hold stands: the engine leaves dead segments alone meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Dead segments that may wait for a reader, 16 GiB as a rule, where space is not short. A volume that is
/// written faster than it is read overtakes its readers rather than filling the disk.
const WAITING_SEGMENTS_MAX: usize = 256;

/// Who reads a volume's stored state. Shared by its engine and its readers.
#[derive(Debug, Default)]
pub struct Pin {
    holders: AtomicUsize,
    overtaken: AtomicU64,
}

/// Space is not given back while this lives, unless it is overtaken.
#[derive(Debug)]
pub struct Hold {
    pin: Arc<Pin>,
    overtaken: u64,
}

impl Pin {
    /// Begins to hold. Read the superblock after this.
    pub fn hold(self: &Arc<Self>) -> Hold {
        self.holders.fetch_add(1, Ordering::SeqCst);
        Hold { pin: Arc::clone(self), overtaken: self.overtaken.load(Ordering::SeqCst) }
    }

    /// Ends all holds: somebody who knows nothing of them will write the volume.
    pub fn overtake(&self) {
        self.overtaken.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether an engine with so many dead segments may give them back.
    pub(super) fn allows_release(&self, dead: usize, is_short: bool) -> bool {
        if self.holders.load(Ordering::SeqCst) == 0 {
            return true;
        }
        let overtakes = is_short || dead > WAITING_SEGMENTS_MAX;
        if overtakes {
            self.overtake();
        }
        overtakes
    }
}

impl Hold {
    /// Whether everything is still where it was when this was taken.
    pub fn stands(&self) -> bool {
        self.pin.overtaken.load(Ordering::SeqCst) == self.overtaken
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pin.holders.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_keeps_dead_segments_until_they_are_too_many() {
        let pin = Arc::new(Pin::default());
        assert!(pin.allows_release(1, false));
        let hold = pin.hold();
        assert!(!pin.allows_release(WAITING_SEGMENTS_MAX, false) && hold.stands());
        assert!(pin.allows_release(WAITING_SEGMENTS_MAX + 1, false) && !hold.stands());
        let next = pin.hold();
        assert!(next.stands());
        assert!(pin.allows_release(1, true) && !next.stands());
        let last = pin.hold();
        pin.overtake();
        assert!(!last.stands() && pin.hold().stands());
        drop((hold, next, last));
        assert!(pin.allows_release(1, false));
    }
}
