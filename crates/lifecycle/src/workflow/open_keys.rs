//! Opened data keys, between two turns of the work that needs them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long opened keys serve further turns before they are opened again: a key that is disabled or
/// whose grant is revoked stops the work no later than this.
const KEYS_OPEN: Duration = Duration::from_secs(300);

/// The keys of what is worked on, by what that is. Work takes its own when a turn begins and leaves them
/// when it ended for others. They are wiped when the work ends or waits, when nobody took them in time,
/// as after another server went on with it, and with the process.
pub struct OpenKeys<W, K>(Arc<Mutex<BTreeMap<W, Opened<K>>>>);

/// Keys that may be used for a while.
pub(super) struct Opened<K> {
    pub(super) keys: K,
    until: Instant,
}

impl<K> Opened<K> {
    /// Keys that were opened now.
    pub(super) fn new(keys: K) -> Self {
        Self { keys, until: Instant::now() + KEYS_OPEN }
    }
}

impl<W, K> Default for OpenKeys<W, K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<W: Clone + Ord + Send + 'static, K: Send + 'static> OpenKeys<W, K> {
    pub(super) fn take(&self, work: &W) -> Option<Opened<K>> {
        lock(&self.0).remove(work).filter(|keys| keys.until > Instant::now())
    }

    pub(super) fn keep(&self, work: &W, keys: Opened<K>) {
        let (until, left) = (keys.until, Arc::downgrade(&self.0));
        lock(&self.0).insert(work.clone(), keys);
        tokio::spawn(async move {
            sleep_until(until).await;
            if let Some(open) = left.upgrade() {
                lock(&open).retain(|_, keys| keys.until > Instant::now());
            }
        });
    }
}

fn lock<W, K>(open: &Mutex<BTreeMap<W, Opened<K>>>) -> MutexGuard<'_, BTreeMap<W, Opened<K>>> {
    open.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_serve_one_turn_and_not_for_ever() {
        let open = OpenKeys::default();
        assert!(open.take(&1).is_none());
        open.keep(&1, Opened::new('k'));
        let keys = open.take(&1).unwrap();
        assert_eq!(keys.keys, 'k');
        assert!(open.take(&1).is_none(), "whoever has them has them alone");
        tokio::time::advance(KEYS_OPEN - Duration::from_secs(1)).await;
        // Kept again, they stay open no longer.
        open.keep(&1, keys);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(open.take(&1).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_nobody_takes_are_wiped() {
        let open = OpenKeys::default();
        let held = Arc::new(());
        open.keep(&1, Opened::new(Arc::clone(&held)));
        tokio::time::sleep(KEYS_OPEN / 2).await;
        assert_eq!(Arc::strong_count(&held), 2);
        tokio::time::sleep(KEYS_OPEN).await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
