//! A volume's data key for who proves pages, while the volume is open with it here.

use super::handle::Lease;
use super::{Inner, Store};
use crate::page::{DataKey, KeyAtHand};
use base::VolumeId;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The data key that a volume is open with. It stays the volume's, and is gone when that is closed.
pub struct HeldKey<'a> {
    store: &'a Arc<Inner>,
    id: &'a VolumeId,
    /// The key when it was asked for last.
    seen: Mutex<Weak<DataKey>>,
}

impl Store {
    /// The data key of a volume, while somebody has it open here with it.
    pub fn held_key<'a>(&'a self, id: &'a VolumeId) -> HeldKey<'a> {
        HeldKey { store: &self.0, id, seen: Mutex::default() }
    }
}

impl HeldKey<'_> {
    fn borrow(&self) -> Option<Arc<DataKey>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = seen.upgrade() {
            return Some(key);
        }
        *seen = self.ask()?;
        seen.upgrade()
    }

    fn ask(&self) -> Option<Weak<DataKey>> {
        let lease = Lease::join_open(self.store, self.id)?;
        let key = lease.call(|volume| volume.engine().weak_key());
        if let Err(error) = lease.end() {
            tracing::error!(%error, id = %self.id, "a volume did not close cleanly");
        }
        key.ok().flatten()
    }
}

impl KeyAtHand for HeldKey<'_> {
    fn lend(&self, work: &mut dyn FnMut(&DataKey)) {
        if let Some(key) = self.borrow() {
            work(&key);
        }
    }
}
