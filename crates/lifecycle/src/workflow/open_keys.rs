//! Opened data keys, between two turns of the work that needs them.

use base::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// How long opened keys serve further turns before they are opened again: a key that is disabled or
/// whose grant is revoked stops the work no later than this.
const KEYS_OPEN_SECONDS: i64 = 300;

/// The keys of what is worked on, by what that is. They are wiped when the work ends or waits, and with
/// the process.
pub struct OpenKeys<W, K>(Mutex<BTreeMap<W, Opened<K>>>);

/// Keys that may be used for a while.
pub(super) struct Opened<K> {
    pub(super) keys: K,
    until: Timestamp,
}

impl<K> Opened<K> {
    /// Keys that were opened now.
    pub(super) fn new(keys: K, now: Timestamp) -> Self {
        Self { keys, until: now.plus_seconds(KEYS_OPEN_SECONDS) }
    }
}

impl<W, K> Default for OpenKeys<W, K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<W: Clone + Ord, K> OpenKeys<W, K> {
    pub(super) fn take(&self, work: &W, now: Timestamp) -> Option<Opened<K>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A job that another server has taken over leaves its keys behind.
        open.retain(|_, keys| keys.until > now);
        open.remove(work)
    }

    pub(super) fn keep(&self, work: &W, keys: Opened<K>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(work.clone(), keys);
    }
}
