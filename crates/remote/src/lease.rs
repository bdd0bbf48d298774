//! Leases: how long a machine may use a volume without hearing from the server.
//!
//! The server grants a lease when a request of the machine arrives; the machine counts it from the
//! moment it sent that request, and stops early. Only time spans are compared, each on one clock, so
//! the clocks need not agree; they may run fast or slow by [`DRIFT_PERCENT`]. A clock that stands still
//! while the world goes on (a paused virtual machine) is outside that bound: then the fence alone
//! keeps the volume whole, and the machine may serve stale reads until it notices.

use std::sync::atomic::{AtomicU64, Ordering};

/// By how much a clock's second may differ from a second, in percent, either way.
pub const DRIFT_PERCENT: u64 = 5;
/// The part of a lease that a machine uses. With drift *d* it must be at most (1 − d) / (1 + d).
const USED_PERCENT: u64 = 90;

const _: () = assert!(USED_PERCENT * (100 + DRIFT_PERCENT) <= 100 * (100 - DRIFT_PERCENT));

/// A clock that only goes forward, in milliseconds from any beginning. Time asleep counts.
pub trait SteadyClock: Send + Sync {
    /// The time now.
    fn millis(&self) -> u64;
}

/// Time since the machine was started (`CLOCK_BOOTTIME`).
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl SteadyClock for BootClock {
    fn millis(&self) -> u64 {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000
    }
}

/// The machine's side of a lease.
#[derive(Debug, Default)]
pub struct Held {
    /// When it ends on the machine's clock; 0 before the first and after [`Held::give_up`].
    until: AtomicU64,
    /// Set for good by [`Held::give_up`].
    given_up: std::sync::atomic::AtomicBool,
}

impl Held {
    /// The server granted `lease_ms` for a request that was sent at `sent_ms`.
    pub fn granted(&self, sent_ms: u64, lease_ms: u64) {
        self.until.fetch_max(sent_ms + lease_ms * USED_PERCENT / 100, Ordering::SeqCst);
    }

    /// Whether the volume may be used now.
    pub fn holds(&self, now_ms: u64) -> bool {
        !self.given_up.load(Ordering::SeqCst) && now_ms < self.until.load(Ordering::SeqCst)
    }

    /// Milliseconds left.
    pub fn left(&self, now_ms: u64) -> u64 {
        if self.given_up.load(Ordering::SeqCst) {
            return 0;
        }
        self.until.load(Ordering::SeqCst).saturating_sub(now_ms)
    }

    /// Ends it now and for good.
    pub fn give_up(&self) {
        self.given_up.store(true, Ordering::SeqCst);
    }
}

/// The server's side of a lease.
#[derive(Debug)]
pub struct Granted {
    until: AtomicU64,
}

impl Granted {
    /// Before anything is known of the machine, it is taken to hold a whole lease: the server may
    /// have been started while it did.
    pub fn unknown(now_ms: u64, lease_ms: u64) -> Self {
        Self { until: AtomicU64::new(now_ms + lease_ms) }
    }

    /// A lease is granted now.
    pub fn grant(&self, now_ms: u64, lease_ms: u64) {
        self.until.fetch_max(now_ms + lease_ms, Ordering::SeqCst);
    }

    /// Whether the machine has surely stopped.
    pub fn has_ended(&self, now_ms: u64) -> bool {
        now_ms >= self.until.load(Ordering::SeqCst)
    }
}
