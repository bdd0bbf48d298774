//! The embedded engine: one writer thread with group commit, a few reader threads beside it.
//!
//! The writer takes every transaction that waits, up to [`GROUP_MAX`], runs each in a savepoint of
//! one SQLite transaction, commits once and only then answers. A failed or panicking closure loses
//! its own savepoint only. A failed commit fails every member of the group. Durability is
//! `synchronous = FULL` over a write-ahead log, so a group costs one flush. A group of which all is
//! written behind is committed with `synchronous = NORMAL`, which flushes the log only before it is
//! copied back; a later group's flush is of the same log and covers it.

use crate::error::{Error, Result};
use crate::job::{Access, Job, Verdict};
use crate::memo::Memo;
use crate::portable;
use crate::tables::{Tables, Written};
use crate::tx::{ROWS_MAX, Session, Tx};
use crate::value::{Param, Row};
use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;

/// The most transactions that share one commit.
pub const GROUP_MAX: usize = 128;
/// Connections that only read, each on its thread.
pub(crate) const READERS: usize = 4;
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 256;
/// How long to wait for another process that holds the file, an administrator's shell for example.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// `STRG`: marks the file as ours for `file(1)` and for [`check_file`].
const APPLICATION_ID: i64 = 0x5354_5247;
/// The version of what this module itself puts into the file. Tables have migrations.
const FILE_VERSION: i64 = 1;

/// Opens the file for writing, creating it readable by its owner only.
pub(crate) fn open_writer(path: &Path) -> Result<Connection> {
    let io = |error: std::io::Error| Error::Unavailable {
        detail: format!("{}: {error}", path.display()),
    };
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(io)?;
    let connection = Connection::open(path)?;
    configure(&connection)?;
    check_file(&connection, path)?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let reason = "its file system has no shared memory for a write-ahead log".to_owned();
        return Err(Error::Incompatible { path: path.display().to_string(), reason });
    }
    connection.execute_batch(&format!(
        "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {FILE_VERSION};"
    ))?;
    // The names of the file and its log are durable before the first commit is answered.
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(io)?;
    Ok(connection)
}

/// Opens the file, which a writer has prepared, for reading.
pub(crate) fn open_reader(path: &Path) -> Result<Connection> {
    let connection = Connection::open(path)?;
    configure(&connection)?;
    connection.execute_batch("PRAGMA query_only = ON")?;
    Ok(connection)
}

/// A database that lives as long as its connection.
pub(crate) fn open_memory() -> Result<Connection> {
    let connection = Connection::open_in_memory()?;
    configure(&connection)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Without it a statement with parameters in its conditions is compiled anew for every other value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL; PRAGMA fullfsync = ON; PRAGMA foreign_keys = OFF;
         PRAGMA trusted_schema = OFF; PRAGMA temp_store = MEMORY; PRAGMA cell_size_check = ON;",
    )?;
    Ok(())
}

/// Refuses a file that another program or a newer version made.
fn check_file(connection: &Connection, path: &Path) -> Result<()> {
    let number = |sql| connection.query_row::<i64, _, _>(sql, [], |row| row.get(0));
    let refuse = |reason: &str| {
        Err(Error::Incompatible { path: path.display().to_string(), reason: reason.to_owned() })
    };
    let id = number("PRAGMA application_id")?;
    let tables = number("SELECT COUNT(*) FROM sqlite_schema")?;
    if id != APPLICATION_ID && (id != 0 || tables != 0) {
        return refuse("it is the database of another program");
    }
    if number("PRAGMA user_version")? > FILE_VERSION {
        return refuse("a newer version of this program wrote it");
    }
    Ok(())
}

/// Serves writes, and for a database in memory also reads, until every sender is gone.
pub(crate) fn run_writer(
    mut connection: Connection,
    mut queue: mpsc::Receiver<Box<dyn Job>>,
    memo: &Memo,
) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        commit_group(&mut connection, group, memo);
    }
}

/// Serves reads until every sender is gone. Several threads share one queue.
pub(crate) fn run_reader(
    mut connection: Connection,
    queue: &std::sync::Mutex<mpsc::Receiver<Box<dyn Job>>>,
) {
    loop {
        let next = queue.lock().expect("receiving from a channel does not panic").blocking_recv();
        let Some(mut job) = next else { return };
        let begun = connection.execute_batch("BEGIN").map_err(Error::from);
        if begun.is_ok() {
            job.run(&mut Tx::new(&mut Sqlite(&mut connection), job.access()));
        }
        // Nothing was written, so nothing is lost when this fails; the next BEGIN will say so.
        drop(connection.execute_batch("ROLLBACK"));
        job.finish(begun);
    }
}

/// Runs a group of transactions and answers all of them.
fn commit_group(connection: &mut Connection, mut group: Vec<Box<dyn Job>>, memo: &Memo) {
    let result = run_group(connection, &mut group, memo);
    if let Err(error) = &result {
        tracing::error!(%error, transactions = group.len(), "a group of transactions was lost");
        if !connection.is_autocommit() {
            // If even this fails the next BEGIN fails too and its group is answered so.
            drop(connection.execute_batch("ROLLBACK"));
        }
    }
    for job in group {
        job.finish(result.clone());
    }
}

/// What the group wrote counts as changed from before its commit until after it, or after its failure.
fn run_group(connection: &mut Connection, group: &mut [Box<dyn Job>], memo: &Memo) -> Result<()> {
    let mut written = Written::nothing();
    let durable = group.iter().any(|job| job.access() == Access::Write);
    let synchronous = if durable { "FULL" } else { "NORMAL" };
    connection.execute_batch(&format!("PRAGMA synchronous = {synchronous}; BEGIN IMMEDIATE"))?;
    let mut changed = false;
    for job in group {
        let access = job.access();
        command(connection, "SAVEPOINT member")?;
        let mut session = Writing { rows: Sqlite(connection), tables: memo.tables(), written };
        let verdict = job.run(&mut Tx::new(&mut session, access));
        written = session.written;
        // A full disk or an I/O error makes SQLite roll back everything, the members before too.
        if connection.is_autocommit() {
            let detail = "the engine rolled back the whole transaction".to_owned();
            return Err(Error::Unavailable { detail });
        }
        if verdict == Verdict::Keep && access != Access::Read {
            changed = true;
        } else {
            command(connection, "ROLLBACK TO member")?;
        }
        command(connection, "RELEASE member")?;
    }
    let change = memo.tables().change(&written);
    connection.execute_batch(if changed { "COMMIT" } else { "ROLLBACK" })?;
    drop(change);
    Ok(())
}

fn command(connection: &Connection, sql: &str) -> Result<()> {
    connection.prepare_cached(sql)?.execute([])?;
    Ok(())
}

struct Sqlite<'c>(&'c mut Connection);

/// The writer's session: notes which tables it changes.
struct Writing<'c> {
    rows: Sqlite<'c>,
    tables: &'c Tables,
    written: Written,
}

impl Session for Writing<'_> {
    fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        self.written.add(&self.tables.of(sql));
        self.rows.execute(sql, params)
    }

    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        self.rows.query(sql, params)
    }

    fn define(&mut self, sql: &str) -> Result<()> {
        self.written = Written::All;
        self.rows.define(sql)
    }
}

impl Session for Sqlite<'_> {
    fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        let mut statement = self.0.prepare_cached(&portable::for_sqlite(sql))?;
        let rows = statement.execute(rusqlite::params_from_iter(params))?;
        Ok(u64::try_from(rows).expect("a count of rows fits 64 bits"))
    }

    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        let mut statement = self.0.prepare_cached(&portable::for_sqlite(sql))?;
        let columns = statement.column_count();
        let mut rows = statement.query(rusqlite::params_from_iter(params))?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            if found.len() == ROWS_MAX {
                return Err(Error::TooManyRows { limit: ROWS_MAX });
            }
            let mut values = Vec::with_capacity(columns);
            for index in 0..columns {
                values.push(column(row.get_ref(index)?, index)?);
            }
            found.push(Row::new(values));
        }
        Ok(found)
    }

    fn define(&mut self, sql: &str) -> Result<()> {
        Ok(self.0.execute_batch(&portable::schema_for_sqlite(sql))?)
    }
}

fn column(value: ValueRef<'_>, index: usize) -> Result<Param> {
    match value {
        ValueRef::Null => Ok(Param::Null),
        ValueRef::Integer(n) => Ok(Param::Int(n)),
        ValueRef::Blob(bytes) => Ok(Param::Bytes(bytes.to_vec())),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Param::Text(text.to_owned())),
            Err(_) => {
                Err(Error::Corrupt { detail: format!("the text in column {index} is not UTF-8") })
            }
        },
        ValueRef::Real(_) => Err(Error::Column {
            index,
            expected: "an integer, a text or bytes",
            found: "a fraction",
        }),
    }
}

impl ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(n) => ValueRef::Integer(*n),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Call, Outcome};
    use crate::params;
    use tokio::sync::oneshot;

    type Answer = oneshot::Receiver<Outcome<u64, Error>>;

    fn insert(key: i64, parent: i64) -> (Box<dyn Job>, Answer) {
        let (job, answer) = Call::new(Access::Write, move |tx: &mut Tx<'_>| {
            tx.execute("INSERT INTO t (a, b) VALUES ($1, $2)", params![key, parent])
        });
        (job, answer)
    }

    fn keys(connection: &Connection) -> Vec<i64> {
        let mut statement = connection.prepare("SELECT a FROM t ORDER BY a").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap()
    }

    fn answer(answer: Answer) -> Result<u64> {
        answer.blocking_recv().unwrap().unwrap_or_else(|_| panic!("the closure panicked"))
    }

    #[test]
    fn a_failed_commit_fails_the_whole_group_and_the_next_group_works() {
        let mut connection = open_memory().unwrap();
        // A deferred reference that does not hold is found by COMMIT, as a full disk would be.
        connection
            .execute_batch(
                "PRAGMA foreign_keys = ON;
                 CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER REFERENCES t(a) DEFERRABLE INITIALLY DEFERRED);",
            )
            .unwrap();
        let ((one, first), (two, second)) = (insert(1, 1), insert(2, 99));
        commit_group(&mut connection, vec![one, two], &Memo::new());
        assert!(matches!(answer(first), Err(Error::Constraint { .. })));
        assert!(matches!(answer(second), Err(Error::Constraint { .. })));
        assert_eq!(keys(&connection), []);

        let (three, third) = insert(3, 3);
        commit_group(&mut connection, vec![three], &Memo::new());
        assert_eq!(answer(third), Ok(1));
        assert_eq!(keys(&connection), [3]);
    }

    #[test]
    fn a_group_is_flushed_when_one_of_it_is_not_written_behind() {
        let mut connection = open_memory().unwrap();
        let mut synchronous = |group: &[Access]| -> i64 {
            let call = |access: &Access| -> Box<dyn Job> {
                Call::new(*access, |tx: &mut Tx<'_>| tx.query("SELECT 1", params![])).0
            };
            commit_group(&mut connection, group.iter().map(call).collect(), &Memo::new());
            connection.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap()
        };
        let (normal, full) = (1, 2);
        assert_eq!(synchronous(&[Access::WriteBehind; 2]), normal);
        assert_eq!(synchronous(&[Access::WriteBehind, Access::Write]), full);
        assert_eq!(synchronous(&[Access::WriteBehind]), normal);
        assert_eq!(synchronous(&[Access::Write]), full);
    }

    #[test]
    fn a_lost_transaction_fails_the_members_before_it_too() {
        let mut connection = open_memory().unwrap();
        connection.execute_batch("CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER)").unwrap();
        let (one, first) = insert(1, 0);
        // As SQLite does by itself when the disk is full.
        let (loses, second) = Call::new(Access::Write, |tx: &mut Tx<'_>| {
            tx.execute("INSERT OR ROLLBACK INTO t (a, b) VALUES (1, 1)", params![])
        });
        commit_group(&mut connection, vec![one, loses], &Memo::new());
        assert!(matches!(answer(first), Err(Error::Unavailable { .. })));
        assert!(answer(second).is_err());
        assert_eq!(keys(&connection), []);
    }
}
