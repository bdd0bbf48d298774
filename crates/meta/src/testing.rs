//! Databases for tests of the crates above.

use crate::{Db, Migration};
use std::ops::Deref;

/// A database of its own for one test, with the engine's name for messages.
pub struct TestDb {
    /// `memory` or `postgres`.
    pub name: &'static str,
    db: Db,
}

impl Deref for TestDb {
    type Target = Db;
    fn deref(&self) -> &Db {
        &self.db
    }
}

/// A fresh database per engine that is at hand, migrated.
///
/// # Panics
/// When a database cannot be opened or migrated: the test cannot run.
pub fn engines(migrations: &[Migration]) -> Vec<TestDb> {
    let memory = Db::memory().expect("a database in memory opens");
    let databases = vec![TestDb { name: "memory", db: memory }];
    for database in &databases {
        migrate(&database.db, migrations);
    }
    databases
}

/// Migrates from any thread, also one that runs async tasks.
fn migrate(db: &Db, migrations: &[Migration]) {
    std::thread::scope(|scope| {
        scope.spawn(|| db.migrate_blocking(migrations).expect("the migrations apply"));
    });
}
