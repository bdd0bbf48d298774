//! Databases for tests of the crates above.
//!
//! A PostgreSQL server takes part when the variable [`POSTGRES`] holds its URL; every test then gets a
//! schema of its own there, which goes with it.

use crate::{Db, Migration};
use base::{OsRng, id};
use std::ops::Deref;

/// The environment variable that names a PostgreSQL server to test with, as a URL without `options`.
pub const POSTGRES: &str = "STRONGROOM_TEST_POSTGRES";

/// A database of its own for one test, with the engine's name for messages.
pub struct TestDb {
    /// `memory` or `postgres`.
    pub name: &'static str,
    db: Option<Db>,
    schema: Option<Schema>,
}

impl Deref for TestDb {
    type Target = Db;
    fn deref(&self) -> &Db {
        self.db.as_ref().expect("the database is taken only by drop")
    }
}

/// A fresh database per engine that is at hand, migrated. May be called inside async tests.
///
/// # Panics
/// When a database cannot be opened or migrated: the test cannot run.
pub fn engines(migrations: &[Migration]) -> Vec<TestDb> {
    let memory = Db::memory().expect("a database in memory opens");
    let mut databases = vec![TestDb { name: "memory", db: Some(memory), schema: None }];
    databases.extend(postgres());
    for database in &databases {
        aside(|| database.migrate_blocking(migrations).expect("the migrations apply"));
    }
    databases
}

/// A fresh schema on the configured PostgreSQL server; `None` when there is none.
///
/// # Panics
/// When the server cannot be used.
pub fn postgres() -> Option<TestDb> {
    #[expect(clippy::disallowed_methods, reason = "tests have no command line of their own")]
    let url = std::env::var(POSTGRES).ok()?;
    let schema = Schema { name: format!("test_{}", id::hex_digits(&OsRng, 16)), url };
    schema.command(&format!("CREATE SCHEMA {}", schema.name));
    let separator = if schema.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}options=-csearch_path%3D{}", schema.url, schema.name);
    let db =
        aside(|| Db::open_postgres_blocking(&url)).expect("the PostgreSQL server can be reached");
    Some(TestDb { name: "postgres", db: Some(db), schema: Some(schema) })
}

struct Schema {
    url: String,
    name: String,
}

impl Schema {
    fn command(&self, sql: &str) {
        aside(|| {
            let runtime = crate::postgres::runtime().expect("a runtime starts");
            let config = crate::postgres::parse(&self.url).expect("the URL can be used");
            runtime.block_on(async {
                let connected = config.connect(tokio_postgres::NoTls).await;
                let (client, connection) = connected.expect("the PostgreSQL server can be reached");
                tokio::spawn(connection);
                client.batch_execute(sql).await.expect("the test user may create schemas");
            });
        });
    }
}

impl Drop for TestDb {
    fn drop(&mut self) {
        // Other clones may be alive; only connections in a transaction would make this wait.
        drop(self.db.take());
        if let Some(schema) = &self.schema {
            schema.command(&format!("DROP SCHEMA {} CASCADE", schema.name));
        }
    }
}

/// Runs something blocking on a thread of its own, so that async tests may call it.
fn aside<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
