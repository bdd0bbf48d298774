//! When access keys were last used: gathered in memory, written with the next housekeeping.
//!
//! A request costs no write. What is written is at most [`World::housekeep`]'s interval old, also after
//! a power cut; a server that stops in order writes before it ends.

use crate::world::World;
use base::{AccountId, Timestamp};
use identity::last_use::{self, LastUse};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Access keys whose uses wait to be written. When more keys are in use at once, uses of further
/// ones are noted after the next writing.
const WAITING_MAX: usize = 100_000;

/// Uses that are not written yet, by access key.
#[derive(Default)]
pub struct LastUses(Mutex<HashMap<String, (AccountId, LastUse)>>);

impl LastUses {
    /// Notes that an access key has signed a request.
    pub(crate) fn note(
        &self,
        account: &AccountId,
        key_id: &str,
        service: &str,
        region: &str,
        at: Timestamp,
    ) {
        let mut waiting = self.lock();
        let full = waiting.len() >= WAITING_MAX;
        match waiting.get_mut(key_id) {
            // Nothing is allocated for a key that does the same again.
            Some((_, last)) if last.service == service && last.region == region => {
                last.at = last.at.max(at);
            }
            Some((_, last)) if last.at > at => {}
            Some((_, last)) => {
                *last = LastUse { at, service: service.to_owned(), region: region.to_owned() };
            }
            None if full => {}
            None => {
                let last = LastUse { at, service: service.to_owned(), region: region.to_owned() };
                waiting.insert(key_id.to_owned(), (account.clone(), last));
            }
        }
    }

    /// The use of a key that is not written yet.
    pub(crate) fn of(&self, key_id: &str) -> Option<LastUse> {
        self.lock().get(key_id).map(|(_, last)| last.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (AccountId, LastUse)>> {
        // What a panicking thread left is whole: every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    /// Writes the uses of access keys that are known only in memory.
    ///
    /// # Errors
    /// When the rows cannot be written; nothing is lost then, and the next call tries again.
    pub async fn write_last_uses(&self) -> Result<(), crate::Error> {
        let waiting = std::mem::take(&mut *self.last_uses.lock());
        if waiting.is_empty() {
            return Ok(());
        }
        let noted: Vec<_> =
            waiting.into_iter().map(|(key, (account, last))| (key, account, last)).collect();
        let writing = noted.clone();
        let written = self.db.write(move |tx| {
            writing
                .iter()
                .try_for_each(|(key, account, last)| last_use::note(tx, account, key, last))
        });
        written.await.map_err(|error| {
            for (key, account, last) in &noted {
                self.last_uses.note(account, key, &last.service, &last.region, last.at);
            }
            crate::Error::from(error)
        })
    }
}
