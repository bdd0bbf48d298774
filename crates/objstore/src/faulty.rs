//! A store that fails as real ones do, reproducibly.

use crate::name::is_below;
use crate::{Bytes, Error, ObjectMeta, ObjectStore};
use base::{SeededRng, Timestamp};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

/// How a [`FaultyStore`] misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub struct FaultPlan {
    /// Of a thousand calls, how many fail without effect.
    pub lost_per_mille: u64,
    /// Of a thousand calls, how many have their effect and fail all the same.
    pub happened_per_mille: u64,
    /// Of a thousand lists, how many still name what was deleted since the last restart. A list
    /// never misses what exists.
    pub late_list_per_mille: u64,
    /// The call (counted from 1) during which the process dies. From then on every call fails
    /// until [`FaultyStore::restart`].
    pub crash_at_call: Option<u64>,
    /// What is said of the space that is left.
    pub free_bytes: Option<u64>,
    /// Every call that would store something finds the disk full.
    pub is_full: bool,
}

struct State {
    plan: FaultPlan,
    calls: u64,
    crashed: bool,
    /// Deleted since the last restart: not synced, so a crash may bring them back.
    deleted: Vec<(String, Bytes)>,
}

/// Wraps a store: errors without effect, effects with an error, and power loss, all drawn from a
/// seed.
pub struct FaultyStore<S> {
    inner: S,
    rng: SeededRng,
    state: Mutex<State>,
}

/// What the dice said about one call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Works,
    FailsBefore,
    FailsAfter,
}

impl<S: ObjectStore> FaultyStore<S> {
    /// Wraps `inner`; the same seed and the same calls give the same faults.
    pub fn new(inner: S, seed: u64, plan: FaultPlan) -> Self {
        let state = State { plan, calls: 0, crashed: false, deleted: Vec::new() };
        Self { inner, rng: SeededRng::new(seed), state: Mutex::new(state) }
    }

    /// The store inside, which never fails.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Whether the planned crash has happened.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// How many calls were made so far.
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// Brings the store back after a crash (or without one) under a new plan. Each deletion since
    /// the last restart is undone with even odds if there was a crash.
    pub fn restart(&self, plan: FaultPlan) {
        let mut state = self.state();
        for (name, bytes) in std::mem::take(&mut state.deleted) {
            if state.crashed && self.rng.below(2) == 0 {
                // The name is free: it was deleted, and names are never used again.
                self.inner.put(&name, bytes).expect("a deleted name is free");
            }
        }
        *state = State { plan, calls: 0, crashed: false, deleted: Vec::new() };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the state")
    }

    fn fate(&self) -> Fate {
        let mut state = self.state();
        state.calls += 1;
        if state.crashed {
            return Fate::FailsBefore;
        }
        if state.plan.crash_at_call == Some(state.calls) {
            state.crashed = true;
            return if self.rng.below(2) == 0 { Fate::FailsBefore } else { Fate::FailsAfter };
        }
        let drawn = self.rng.below(1000);
        if drawn < state.plan.lost_per_mille {
            Fate::FailsBefore
        } else if drawn < state.plan.lost_per_mille + state.plan.happened_per_mille {
            Fate::FailsAfter
        } else {
            Fate::Works
        }
    }

    fn run<T>(
        &self,
        operation: &'static str,
        name: &str,
        call: impl FnOnce(&S) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let fate = self.fate();
        let failed = || Error::Transient {
            operation,
            name: name.to_owned(),
            source: "injected fault".into(),
        };
        if fate == Fate::FailsBefore {
            return Err(failed());
        }
        let outcome = call(&self.inner);
        if fate == Fate::FailsAfter { Err(failed()) } else { outcome }
    }
}

impl<S: ObjectStore> ObjectStore for FaultyStore<S> {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        if self.state().plan.is_full {
            let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let name = name.to_owned();
            return Err(Error::Transient { operation: "put", name, source: full.into() });
        }
        self.run("put", name, |inner| inner.put(name, bytes))
    }

    fn get(&self, name: &str) -> Result<Bytes, Error> {
        self.run("get", name, |inner| inner.get(name))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        self.run("get", name, |inner| inner.get_range(name, range))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        self.run("delete", name, |inner| {
            let bytes = inner.get(name)?;
            inner.delete(name)?;
            self.state().deleted.push((name.to_owned(), bytes));
            Ok(())
        })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        self.run("list", prefix, |inner| {
            let mut listed = inner.list(prefix)?;
            let state = self.state();
            if self.rng.below(1000) < state.plan.late_list_per_mille {
                let late = state.deleted.iter().filter(|(name, _)| is_below(name, prefix));
                listed.extend(late.map(|(name, bytes)| ObjectMeta {
                    name: name.clone(),
                    size: bytes.len() as u64,
                    modified: Timestamp(0),
                }));
                listed.sort_by(|a, b| a.name.cmp(&b.name));
            }
            Ok(listed)
        })
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, Error> {
        self.run("head", name, |inner| inner.head(name))
    }

    /// Never fails: nothing is read for it.
    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        match self.state().plan.free_bytes {
            Some(free) => Ok(Some(free)),
            None => self.inner.free_bytes(),
        }
    }
}
