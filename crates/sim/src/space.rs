//! A place of limited size.

use blockstore::live::{Need, Space};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

/// Four segments of [`blockstore::live::EngineConfig::tiny`].
const RESERVE_BYTES: u64 = 512 << 10;

/// Grants a volume what fits, and remembers what it said it needs.
pub struct SimSpace {
    capacity: u64,
    need: Mutex<Need>,
    short: AtomicBool,
}

impl SimSpace {
    /// A place of so many bytes, besides the reserve.
    pub fn new(capacity: u64) -> Self {
        Self { capacity, need: Mutex::default(), short: AtomicBool::new(false) }
    }

    /// Bytes in it, with the reserve that is not granted to anybody: what upkeep may take beyond what
    /// was foreseen.
    pub fn capacity(&self) -> u64 {
        self.capacity + RESERVE_BYTES
    }

    fn note(&self, need: Need) {
        *self.need.lock().expect("nobody panics while holding it") = need;
        let wanted = need.held + need.upkeep;
        self.short.store(wanted > self.capacity / 10 * 9, Ordering::Release);
    }
}

impl Space for SimSpace {
    fn ask(&self, need: Need) -> bool {
        let granted = need.held + need.upkeep <= self.capacity;
        if granted {
            self.note(need);
        } else {
            self.short.store(true, Ordering::Release);
        }
        granted
    }

    fn refused(&self) {}

    fn tell(&self, need: Need) {
        self.note(need);
    }

    fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }
}
