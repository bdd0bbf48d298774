//! Which tables a statement names, and a version of each table that changes with its rows.
//!
//! Tables are known from the migrations. A statement touches every known table whose name stands
//! anywhere in it: too many rather than too few. A statement that changes rows and names none
//! counts as a change of all.

use crate::portable;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

/// Statements whose tables are remembered; statements are constants of the code, but some are put
/// together.
const STATEMENTS_MAX: usize = 2048;

/// Place of a table in [`Tables`].
pub(crate) type Table = usize;

/// The version of a table: even while its rows stand still, odd while a change of them is being
/// committed.
type Version = AtomicU64;

#[derive(Default)]
pub(crate) struct Tables {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    names: HashMap<String, Table>,
    versions: Vec<Arc<Version>>,
    statements: HashMap<String, Arc<[Table]>>,
}

const HELD: &str = "no code panics while it holds the tables";

impl Tables {
    /// Makes the tables known that a migration creates.
    pub(crate) fn learn(&self, sql: &str) {
        let mut known = self.known.write().expect(HELD);
        for name in portable::created_tables(sql) {
            if !known.names.contains_key(name) {
                let table = known.versions.len();
                known.versions.push(Arc::default());
                known.names.insert(name.to_owned(), table);
                known.statements.clear();
            }
        }
    }

    /// The known tables that a statement names.
    pub(crate) fn of(&self, sql: &str) -> Arc<[Table]> {
        if let Some(tables) = self.known.read().expect(HELD).statements.get(sql) {
            return Arc::clone(tables);
        }
        let mut known = self.known.write().expect(HELD);
        let mut found: Vec<Table> =
            portable::words(sql).filter_map(|word| known.names.get(word).copied()).collect();
        found.sort_unstable();
        found.dedup();
        let found: Arc<[Table]> = found.into();
        if known.statements.len() < STATEMENTS_MAX {
            known.statements.insert(sql.to_owned(), Arc::clone(&found));
        }
        found
    }

    /// All versions as they are now.
    pub(crate) fn now(&self) -> Moment {
        let known = self.known.read().expect(HELD);
        let seen = known.versions.iter().map(|v| (Arc::clone(v), v.load(Ordering::SeqCst)));
        Moment(seen.collect())
    }

    /// Begins a change of some tables, or of all. What was read from them before counts no more, and what
    /// is read until the change has ended does not count either.
    pub(crate) fn change(&self, written: &Written) -> Change {
        let known = self.known.read().expect(HELD);
        let versions: Vec<_> = match written {
            Written::All => known.versions.clone(),
            Written::Some(tables) => {
                tables.iter().map(|table| Arc::clone(&known.versions[*table])).collect()
            }
        };
        Change::begin(versions)
    }
}

/// The tables that statements have changed.
#[derive(Debug)]
pub(crate) enum Written {
    Some(Vec<Table>),
    All,
}

impl Written {
    pub(crate) fn nothing() -> Self {
        Self::Some(Vec::new())
    }

    /// Notes a statement's tables.
    pub(crate) fn add(&mut self, tables: &[Table]) {
        match self {
            Self::All => {}
            Self::Some(_) if tables.is_empty() => *self = Self::All,
            Self::Some(known) => {
                for table in tables {
                    if !known.contains(table) {
                        known.push(*table);
                    }
                }
            }
        }
    }
}

/// A change of tables that is being committed; it ends when this is dropped, whatever came of it.
pub(crate) struct Change(Vec<Arc<Version>>);

impl Change {
    fn begin(versions: Vec<Arc<Version>>) -> Self {
        for version in &versions {
            version.fetch_add(1, Ordering::SeqCst);
        }
        Self(versions)
    }
}

impl Drop for Change {
    fn drop(&mut self) {
        for version in &self.0 {
            version.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The versions of all tables at one moment.
pub(crate) struct Moment(Vec<(Arc<Version>, u64)>);

impl Moment {
    /// What a read of some tables that began at this moment was true under; `None` when that cannot be
    /// said.
    pub(crate) fn stamp(&self, tables: &[Table]) -> Option<Stamp> {
        let seen = |table: &Table| self.0.get(*table).cloned().filter(|(_, seen)| seen % 2 == 0);
        let stamp: Option<Box<[_]>> = tables.iter().map(seen).collect();
        stamp.filter(|stamp| !stamp.is_empty()).map(Stamp)
    }
}

/// The state of tables that an answer was true under.
pub(crate) struct Stamp(Box<[(Arc<Version>, u64)]>);

impl Stamp {
    /// Whether the tables are still in that state.
    pub(crate) fn holds(&self) -> bool {
        self.0.iter().all(|(version, seen)| version.load(Ordering::SeqCst) == *seen)
    }
}
