//! When access keys, roles and KMS keys were last used: noted in memory, written with the next housekeeping.
//!
//! A request costs no write. What is written is at most [`World::housekeep`]'s interval old, also after
//! a power cut; a server that stops in order writes before it ends, and the trail has every use.

use crate::world::World;
use base::{AccountId, Timestamp};
use identity::last_use::LastUse;
use kms::usage::{Use, UsedKey};
use meta::Tx;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keys whose uses wait to be written. When more are in use at once, uses of further ones are noted
/// after the next writing.
const WAITING_MAX: usize = 100_000;

/// A use that has a time.
pub(crate) trait Dated {
    /// When it was.
    fn at(&self) -> Timestamp;
    /// Makes it one of another time.
    fn move_to(&mut self, at: Timestamp);
}

impl Dated for Use {
    fn at(&self) -> Timestamp {
        self.at
    }

    fn move_to(&mut self, at: Timestamp) {
        self.at = at;
    }
}

impl Dated for (AccountId, LastUse) {
    fn at(&self) -> Timestamp {
        self.1.at
    }

    fn move_to(&mut self, at: Timestamp) {
        self.1.at = at;
    }
}

/// The last uses that are not written yet, by key.
pub(crate) struct LastUses<K, U>(Mutex<HashMap<K, U>>);

/// Those of KMS keys.
pub(crate) type KeyUses = LastUses<UsedKey, Use>;
/// Those of access keys, and of roles by their unique ids, with their accounts.
pub(crate) type AccessKeyUses = LastUses<String, (AccountId, LastUse)>;

impl<K, U> Default for LastUses<K, U> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone + Send + 'static, U: Dated + Clone + Send + 'static> LastUses<K, U> {
    /// Notes a use, unless a later one is noted.
    pub(crate) fn note(&self, key: K, used: U) {
        let mut waiting = self.lock();
        let full = waiting.len() >= WAITING_MAX;
        match waiting.get_mut(&key) {
            Some(last) if last.at() > used.at() => {}
            Some(last) => *last = used,
            None if full => {}
            None => {
                waiting.insert(key, used);
            }
        }
    }

    /// Moves the use that is noted on to `at` if it is such a use; false when there is none. Nothing is
    /// allocated for a key that does the same again.
    fn repeat<Q>(&self, key: &Q, at: Timestamp, is_such: impl FnOnce(&U) -> bool) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.lock().get_mut(key) {
            Some(last) if is_such(last) => {
                last.move_to(at.max(last.at()));
                true
            }
            Some(_) | None => false,
        }
    }

    /// The use of a key that is not written yet.
    pub(crate) fn of<Q>(&self, key: &Q) -> Option<U>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.lock().get(key).cloned()
    }

    /// Writes what is noted. What cannot be written is noted again.
    async fn write<E>(
        &self,
        db: &meta::Db,
        put: impl Fn(&mut Tx<'_>, &K, &U) -> Result<(), E> + Send + 'static,
    ) -> Result<(), E>
    where
        E: From<meta::Error> + Send + 'static,
    {
        let waiting = std::mem::take(&mut *self.lock());
        if waiting.is_empty() {
            return Ok(());
        }
        let writing = waiting.clone();
        let written =
            db.write(move |tx| writing.iter().try_for_each(|(key, used)| put(tx, key, used)));
        written.await.inspect_err(|_| {
            waiting.into_iter().for_each(|(key, used)| self.note(key, used));
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, U>> {
        // What a panicking thread left is whole: every change is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessKeyUses {
    /// The last use of an access key or a role, written or not.
    pub(crate) fn newest(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        id: &str,
    ) -> identity::Result<Option<LastUse>> {
        let unwritten = self.of(id).map(|(_, last)| last);
        let written = identity::last_use::of(tx, account, id)?;
        Ok(unwritten.into_iter().chain(written).max_by_key(|last| last.at))
    }

    /// Notes that an access key has signed a request, or that one was made as a role.
    pub(crate) fn note_request(
        &self,
        account: &AccountId,
        key_id: &str,
        service: &str,
        region: &str,
        at: Timestamp,
    ) {
        let same =
            |(_, last): &(AccountId, LastUse)| last.service == service && last.region == region;
        if !self.repeat(key_id, at, same) {
            let last = LastUse { at, service: service.to_owned(), region: region.to_owned() };
            self.note(key_id.to_owned(), (account.clone(), last));
        }
    }
}

impl World {
    /// Writes the uses that are known only in memory. Also called before a server stops.
    ///
    /// # Errors
    /// When the rows cannot be written; nothing is lost then, and the next call tries again.
    pub async fn write_last_uses(&self) -> Result<(), crate::Error> {
        let access_keys = self.last_uses.write(&self.db, |tx, key, (account, last)| {
            identity::last_use::note(tx, account, key, last)
        });
        // When one fails the other is written all the same.
        let access_keys = access_keys.await;
        self.key_uses.write(&self.db, kms::usage::write).await?;
        Ok(access_keys?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::account;

    fn use_of(service: &str, at: i64) -> (AccountId, LastUse) {
        let last =
            LastUse { at: Timestamp(at), service: service.to_owned(), region: "r".to_owned() };
        (account(1), last)
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_noted_again_behind_what_came_meanwhile() {
        let (db, uses) = (meta::Db::memory().expect("a database"), AccessKeyUses::default());
        uses.note("old".to_owned(), use_of("kms", 5));
        uses.note("new".to_owned(), use_of("kms", 5));
        let failed: Result<(), meta::Error> = uses
            .write(&db, |tx, _, _| tx.execute("INSERT INTO nowhere (a) VALUES (1)", &[]).map(drop))
            .await;
        failed.expect_err("there is no such table");
        uses.note("new".to_owned(), use_of("ec2", 4));
        assert_eq!(uses.of("new"), Some(use_of("kms", 5)), "an older use hides no newer one");
        uses.note_request(&account(1), "new", "ec2", "r", Timestamp(6));
        uses.note_request(&account(1), "new", "ec2", "r", Timestamp(3));
        assert_eq!(uses.of("new"), Some(use_of("ec2", 6)));
        assert_eq!(uses.of("old"), Some(use_of("kms", 5)));
        let written: Result<(), meta::Error> = uses.write(&db, |_, _, _| Ok(())).await;
        written.expect("nothing fails");
        assert_eq!((uses.of("new"), uses.of("old")), (None, None));
    }

    #[test]
    fn a_full_list_takes_no_further_keys_and_forgets_none() {
        let uses = AccessKeyUses::default();
        for number in 0..=WAITING_MAX {
            uses.note(number.to_string(), use_of("kms", 1));
        }
        assert_eq!(uses.of(&*WAITING_MAX.to_string()), None);
        uses.note("0".to_owned(), use_of("kms", 2));
        assert_eq!(uses.of("0"), Some(use_of("kms", 2)));
    }
}
