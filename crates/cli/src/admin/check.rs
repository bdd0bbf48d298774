//! The server's side of `strongroom check`: the work runs beside the requests, at the pace asked
//! for, and ends when the terminal that asked is gone.

use super::socket::send;
use super::{CheckProgress, CheckRequest, Reply};
use api::World;
use base::{Clock, Timestamp};
use blockstore::check::CheckWatch;
use lifecycle::check::{Report, Watch};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::unix::WriteHalf;

/// How often the terminal hears how far the check is.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);
/// The longest a check waits at once, so that it ends soon when told.
const WAIT_MS_MAX: i64 = 200;

/// Answers a check: lines of progress, then the report.
pub(super) async fn answer(
    write: &mut WriteHalf<'_>,
    world: &Arc<World>,
    request: CheckRequest,
) -> io::Result<()> {
    let pace = Arc::new(Pace::new(Arc::clone(&world.clock), request.rate_bytes));
    // Whatever ends this task ends the check.
    let _ended = EndsWithThis(Arc::clone(&pace));
    let work = run(world, request, Arc::clone(&pace));
    tokio::pin!(work);
    let mut due = tokio::time::interval(PROGRESS_INTERVAL);
    loop {
        tokio::select! {
            outcome = &mut work => {
                let reply = match outcome.and_then(|report| {
                    serde_json::to_value(report).map_err(|error| error.to_string())
                }) {
                    Ok(report) => Reply::Ok(report),
                    Err(message) => Reply::Error(message),
                };
                return send(write, &reply).await;
            }
            _ = due.tick() => send(write, &Reply::Progress(pace.progress())).await?,
        }
    }
}

/// Surveys and checks.
pub(crate) async fn run(
    world: &Arc<World>,
    request: CheckRequest,
    pace: Arc<Pace>,
) -> Result<Report, String> {
    let regions = world.regions.iter().cloned();
    let survey = lifecycle::check::survey(&world.services, regions, request.target.clone());
    let survey = survey.await.map_err(|error| error.to_string())?;
    let world = Arc::clone(world);
    let work =
        move || lifecycle::check::run(&world.services, &world.cells, &survey, request.mode, &*pace);
    let checked = tokio::task::spawn_blocking(work).await;
    checked.map_err(|error| error.to_string())?.map_err(|stopped| stopped.to_string())
}

/// Counts what was read, and waits so that it is not read faster than allowed.
pub(crate) struct Pace {
    clock: Arc<dyn Clock>,
    begun: Timestamp,
    rate_bytes: Option<u64>,
    bytes: AtomicU64,
    cancelled: AtomicBool,
    now: Mutex<CheckProgress>,
}

impl Pace {
    pub(crate) fn new(clock: Arc<dyn Clock>, rate_bytes: Option<u64>) -> Self {
        let begun = clock.now();
        let (bytes, cancelled, now) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::default());
        Self { clock, begun, rate_bytes, bytes, cancelled, now }
    }

    /// How far the check is.
    pub(crate) fn progress(&self) -> CheckProgress {
        let now = self.now.lock().unwrap_or_else(PoisonError::into_inner).clone();
        CheckProgress { bytes: self.bytes.load(Ordering::Relaxed), ..now }
    }
}

impl CheckWatch for Pace {
    fn read(&self, bytes: u64) {
        let total = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let Some(rate) = self.rate_bytes.filter(|rate| *rate > 0) else { return };
        let due_ms = i64::try_from(total.saturating_mul(1000) / rate).unwrap_or(i64::MAX);
        while !self.is_cancelled() {
            let early_ms = due_ms - (self.clock.now().0 - self.begun.0);
            if early_ms <= 0 {
                return;
            }
            let wait = early_ms.min(WAIT_MS_MAX);
            std::thread::sleep(Duration::from_millis(wait.unsigned_abs()));
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Watch for Pace {
    fn begins(&self, id: &str, number: u64, total: u64) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        *now = CheckProgress { id: id.to_owned(), number, total, bytes: 0 };
    }
}

struct EndsWithThis(Arc<Pace>);

impl Drop for EndsWithThis {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemClock;

    #[test]
    fn a_check_reads_no_faster_than_it_may() {
        let pace = Pace::new(Arc::new(SystemClock), Some(1 << 20));
        let begun = SystemClock.now();
        pace.read(100 << 10);
        assert!(SystemClock.now().0 - begun.0 >= 90, "100 KiB at 1 MiB/s take 98 ms");
        pace.cancelled.store(true, Ordering::Relaxed);
        pace.read(1 << 40);
    }
}
