//! How much of the machine the jobs may have that move bytes.
//!
//! Three rules, the first two of which nobody has to set:
//! - Their threads have a low priority, so a guest that wants the processor gets it.
//! - While guests are at work, a job rests for a multiple of the time it worked.
//! - A kind of job may be held to a number of bytes per second.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What a job does, as far as its share of the machine is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoverKind {
    /// Writes a cut out as a snapshot.
    Export,
    /// Writes a snapshot under another key.
    Copy,
    /// Fills a volume from its snapshot.
    Initialize,
    /// Moves a snapshot into the archive or out of it.
    Archive,
    /// Makes a snapshot's twin.
    FastRestore,
}

impl MoverKind {
    /// All kinds.
    pub const ALL: [Self; 5] =
        [Self::Export, Self::Copy, Self::Initialize, Self::Archive, Self::FastRestore];

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Export => "export",
            Self::Copy => "copy",
            Self::Initialize => "initialize",
            Self::Archive => "archive",
            Self::FastRestore => "fast-restore",
        }
    }
}

/// The most bytes per second that each kind may move; without an entry there is no limit.
pub type BandwidthLimits = BTreeMap<MoverKind, u64>;

/// While guests are at work, a job rests this many times as long as it worked.
const REST_FACTOR: u32 = 3;
/// The longest rest after one piece of work.
const REST_MAX: Duration = Duration::from_millis(50);
/// What a limit may be exceeded by after a pause, in time.
const BURST: Duration = Duration::from_millis(100);
/// How often a job that waits looks whether it is still wanted.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes per second, as a schedule: each amount is due when those before it are paid for.
struct Bucket {
    bytes_per_second: u64,
    /// Time since [`Fairness::start`] at which everything admitted so far is paid for.
    paid_at: Mutex<Duration>,
}

impl Bucket {
    fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: bytes_per_second.max(1), paid_at: Mutex::default() }
    }

    /// Enters `bytes`; returns how long to wait before moving them.
    fn reserve(&self, now: Duration, bytes: u64) -> Duration {
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = (*paid_at).max(now.saturating_sub(BURST));
        let cost = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        *paid_at = begin + Duration::from_nanos(u64::try_from(cost).unwrap_or(u64::MAX));
        begin.saturating_sub(now)
    }
}

/// Shares of all jobs of a process.
pub(crate) struct Fairness {
    start: Instant,
    buckets: BTreeMap<MoverKind, Bucket>,
}

impl Fairness {
    pub(crate) fn new(limits: &BandwidthLimits) -> Self {
        let buckets = limits.iter().map(|(kind, limit)| (*kind, Bucket::new(*limit))).collect();
        Self { start: Instant::now(), buckets }
    }

    /// The share of one job. `rate` is what its user asked for in bytes per second; whoever asks for
    /// a rate gets it, so such a job does not rest. `guests` counts what guests ask for.
    pub(crate) fn share<'a>(
        &'a self,
        kind: MoverKind,
        rate: Option<u64>,
        guests: &'a (dyn Fn() -> u64 + Sync),
    ) -> Share<'a> {
        let seen = Mutex::new(guests());
        Share { fairness: self, kind, rate: rate.map(Bucket::new), guests, seen }
    }
}

/// One job's share.
pub(crate) struct Share<'a> {
    fairness: &'a Fairness,
    kind: MoverKind,
    rate: Option<Bucket>,
    guests: &'a (dyn Fn() -> u64 + Sync),
    /// What guests had asked for when this was last called.
    seen: Mutex<u64>,
}

thread_local! {
    /// When this thread was last let go on.
    static WORKING_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

impl Share<'_> {
    /// Waits until so many bytes may be moved, or the work is no longer wanted.
    pub(crate) fn admit(&self, bytes: u64, is_wanted: &dyn Fn() -> bool) {
        let now = Instant::now();
        let since_start = now.saturating_duration_since(self.fairness.start);
        let buckets = self.fairness.buckets.get(&self.kind).into_iter().chain(&self.rate);
        let due = buckets.map(|bucket| bucket.reserve(since_start, bytes)).max();
        let worked = WORKING_SINCE.get().map(|since| now.saturating_duration_since(since));
        let rest = self.rest(worked.unwrap_or_default());
        wait(due.unwrap_or_default().max(rest), is_wanted);
        WORKING_SINCE.set(Some(Instant::now()));
    }

    fn rest(&self, worked: Duration) -> Duration {
        let asked = (self.guests)();
        let before = std::mem::replace(
            &mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner),
            asked,
        );
        if asked == before || self.rate.is_some() {
            return Duration::ZERO;
        }
        (worked * REST_FACTOR).min(REST_MAX)
    }
}

fn wait(mut left: Duration, is_wanted: &dyn Fn() -> bool) {
    while !left.is_zero() && is_wanted() {
        let step = left.min(LOOK_INTERVAL);
        std::thread::sleep(step);
        left -= step;
    }
}

/// Runs work on a thread of low priority; threads it starts have the same.
pub(crate) fn in_background<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            base::turns::run_behind();
            work()
        });
        done.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_limit_holds_over_any_time_and_saves_little() {
        let bucket = Bucket::new(100 * MIB);
        let second = Duration::from_secs(1);
        // After a long pause a burst is free, then everything waits for its time.
        let mut waited = Duration::ZERO;
        for _ in 0..1000 {
            waited = bucket.reserve(100 * second, MIB);
        }
        let expected = Duration::from_millis(1000 * 10 - 10) - BURST;
        assert!(waited.abs_diff(expected) < Duration::from_millis(1), "{waited:?}");
        // Time that passes is time that is paid.
        assert_eq!(bucket.reserve(200 * second, MIB), Duration::ZERO);
    }

    #[test]
    fn a_job_rests_while_guests_work_unless_a_rate_was_asked_for() {
        let fairness = Fairness::new(&BandwidthLimits::new());
        let count = std::sync::atomic::AtomicU64::new(0);
        let load = || count.load(std::sync::atomic::Ordering::Relaxed);
        let guests: &(dyn Fn() -> u64 + Sync) = &load;
        let share = fairness.share(MoverKind::Export, None, guests);
        let rated = fairness.share(MoverKind::Initialize, Some(MIB), guests);
        let worked = Duration::from_millis(4);
        assert_eq!(share.rest(worked), Duration::ZERO);
        count.store(1, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(share.rest(worked), worked * REST_FACTOR);
        assert_eq!(share.rest(worked), Duration::ZERO, "guests are quiet again");
        assert_eq!(rated.rest(worked), Duration::ZERO);
        count.store(2, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(share.rest(Duration::from_secs(9)), REST_MAX);
    }

    #[test]
    fn who_is_not_wanted_does_not_wait() {
        let limits = BandwidthLimits::from([(MoverKind::Copy, 1)]);
        let fairness = Fairness::new(&limits);
        let share = fairness.share(MoverKind::Copy, None, &|| 0);
        share.admit(1 << 40, &|| true);
        // Some thousand years are due now.
        share.admit(1, &|| false);
    }
}
