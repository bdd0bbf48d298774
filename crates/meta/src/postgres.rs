//! The scale-out engine: PostgreSQL over a few connections, each owned by one thread.
//!
//! Closures are synchronous, so each connection's thread drives the asynchronous client by itself.
//! Write transactions are `SERIALIZABLE`: closures read and then decide, as on SQLite, and no lower
//! level keeps that correct without locks in every query. Conflicts run the closure again. Reads
//! are `REPEATABLE READ READ ONLY`, which is one consistent moment and never conflicts.
//!
//! A connection that breaks before the commit was sent is replaced and the closure runs again; one
//! that breaks during the commit is answered with [`Error::OutcomeUnknown`].

use crate::error::{Error, Result};
use crate::job::{Access, Job, Verdict};
use crate::portable;
use crate::tx::{ROWS_MAX, Session, Tx};
use crate::value::{Param, Row};
use base::{OsRng, Rng};
use bytes::BytesMut;
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, Config, NoTls, Statement};

/// Connections, each with its thread.
pub(crate) const CONNECTIONS: usize = 8;
/// Runs of one closure, including those after a lost connection.
const ATTEMPTS_MAX: u32 = 20;
/// Prepared statements kept per connection.
const STATEMENTS_MAX: usize = 512;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a silent peer may hold a transaction before the connection counts as broken.
const PEER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bounds what a stuck statement, lock or client can hold, and never answers before the commit is on disk.
const SETTINGS: &str = "SET statement_timeout = '30s'; SET lock_timeout = '10s';
    SET idle_in_transaction_session_timeout = '60s';
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') IN ('off', 'local')";

type BoxError = Box<dyn std::error::Error + Sync + Send>;

/// Reads a URL: `postgres://user:password@host:port/name`, or `postgres:///name?host=/directory` for a socket.
pub(crate) fn parse(url: &str) -> Result<Config> {
    let refuse = |reason: &str| Err(Error::Url { reason: reason.to_owned() });
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return refuse("it does not begin with postgres://");
    }
    let mut config: Config = match url.parse() {
        Ok(config) => config,
        // The parser names the option and never repeats a value.
        Err(error) => {
            return refuse(
                &std::error::Error::source(&error).map_or(error.to_string(), |s| s.to_string()),
            );
        }
    };
    if config.get_ssl_mode() == SslMode::Require {
        return refuse("sslmode=require is not supported: there is no TLS to the database");
    }
    if config.get_dbname().is_none() {
        return refuse("it names no database");
    }
    config
        .ssl_mode(SslMode::Disable)
        .application_name("strongroom")
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_user_timeout(PEER_TIMEOUT)
        .keepalives_idle(PEER_TIMEOUT);
    Ok(config)
}

/// The runtime of one connection's thread.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::Unavailable { detail: format!("cannot start a runtime: {error}") })
}

/// Serves transactions until every sender is gone. Several threads share one queue.
pub(crate) fn run(runtime: &Runtime, config: &Config, queue: &Mutex<mpsc::Receiver<Box<dyn Job>>>) {
    let mut connection = None;
    loop {
        let next = queue.lock().expect("receiving from a channel does not panic").blocking_recv();
        let Some(mut job) = next else { return };
        let end = serve(runtime, config, &mut connection, job.as_mut());
        job.finish(end);
    }
}

/// How one run of a closure ended.
enum End {
    /// Committed, or rolled back as the closure wanted.
    Settled,
    /// Rolled back because of a concurrent transaction.
    Conflict,
    /// The connection broke before the commit was sent.
    Lost(Error),
    /// The commit was refused, or may or may not have happened.
    Refused(Error),
}

fn serve<'r>(
    runtime: &'r Runtime,
    config: &Config,
    slot: &mut Option<Connection<'r>>,
    job: &mut dyn Job,
) -> Result<()> {
    for attempt in 1..=ATTEMPTS_MAX {
        let connection = match slot {
            Some(connection) => connection,
            None => slot.insert(Connection::open(runtime, config)?),
        };
        let end = connection.transact(job);
        if connection.broken {
            *slot = None;
        }
        match end {
            End::Settled => return Ok(()),
            End::Refused(error) => return Err(error),
            End::Lost(error) if attempt == ATTEMPTS_MAX => return Err(error),
            End::Lost(_) | End::Conflict => back_off(attempt),
        }
    }
    Err(Error::Serialization)
}

/// Waits up to `2^attempt` milliseconds, at most 64, a different time on every thread.
fn back_off(attempt: u32) {
    let mut byte = [0_u8];
    OsRng.fill(&mut byte);
    let ceiling_micros = 1000 << attempt.min(6);
    std::thread::sleep(Duration::from_micros(ceiling_micros * u64::from(byte[0]) / 256));
}

struct Connection<'r> {
    runtime: &'r Runtime,
    client: Client,
    /// By statement and kinds of its parameters.
    statements: HashMap<String, Statement>,
    broken: bool,
}

impl<'r> Connection<'r> {
    fn open(runtime: &'r Runtime, config: &Config) -> Result<Self> {
        let unavailable =
            |error: tokio_postgres::Error| Error::Unavailable { detail: words(&error) };
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.map_err(unavailable)?;
            if connection.parameter("server_encoding").is_some_and(|name| name != "UTF8") {
                let reason = "its encoding is not UTF8".to_owned();
                return Err(Error::Incompatible { path: "the database".to_owned(), reason });
            }
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::warn!(error = words(&error), "a database connection ended");
                }
            });
            client.batch_execute(SETTINGS).await.map_err(unavailable)?;
            Ok(client)
        })?;
        Ok(Self { runtime, client, statements: HashMap::new(), broken: false })
    }

    fn transact(&mut self, job: &mut dyn Job) -> End {
        let begin = match job.access() {
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            Access::Write => "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE",
            Access::WriteBehind => {
                "BEGIN ISOLATION LEVEL SERIALIZABLE READ WRITE; SET LOCAL synchronous_commit = off"
            }
        };
        if let Err(error) = self.command(begin) {
            self.broken = true;
            return End::Lost(error);
        }
        let access = job.access();
        let mut tx = Tx::new(self, access);
        let verdict = job.run(&mut tx);
        let conflict = tx.has_conflict();
        if self.broken {
            return End::Lost(Error::Unavailable { detail: "the connection was lost".to_owned() });
        }
        if verdict == Verdict::Discard || conflict {
            // A connection that cannot even roll back is not used again.
            self.broken |= self.command("ROLLBACK").is_err();
            return if conflict { End::Conflict } else { End::Settled };
        }
        match self.command("COMMIT") {
            Ok(()) => End::Settled,
            Err(Error::Serialization) => End::Conflict,
            Err(error) if self.broken => {
                End::Refused(Error::OutcomeUnknown { detail: error.to_string() })
            }
            Err(error) => End::Refused(error),
        }
    }

    fn command(&mut self, sql: &str) -> Result<()> {
        let result = self.runtime.block_on(self.client.batch_execute(sql));
        result.map_err(|error| self.classify(&error))
    }

    fn prepare(&mut self, sql: &str, params: &[Param]) -> Result<Statement> {
        let letters: String = params.iter().map(letter).collect();
        let key = format!("{letters}:{sql}");
        if let Some(statement) = self.statements.get(&key) {
            return Ok(statement.clone());
        }
        if self.statements.len() == STATEMENTS_MAX {
            self.statements.clear();
        }
        let types: Vec<Type> = params.iter().map(kind).collect();
        let prepared = self.runtime.block_on(self.client.prepare_typed(sql, &types));
        let statement = prepared.map_err(|error| self.classify(&error))?;
        self.statements.insert(key, statement.clone());
        Ok(statement)
    }

    fn classify(&mut self, error: &tokio_postgres::Error) -> Error {
        let detail = words(error);
        let Some(state) = error.code() else {
            // Not from the server: the connection, or a value that could not be encoded.
            self.broken |= error.is_closed() || self.client.is_closed() || is_io(error);
            return if self.broken { Error::Unavailable { detail } } else { Error::Sql { detail } };
        };
        let code = state.code();
        if *state == SqlState::FEATURE_NOT_SUPPORTED && detail.contains("cached plan") {
            // A migration changed a table under a prepared statement.
            self.statements.clear();
            return Error::Serialization;
        }
        match (&code[..2], code) {
            (_, "23505") => Error::UniqueViolation { detail },
            ("23", _) => Error::Constraint { detail },
            ("40", _) | (_, "55P03") => Error::Serialization,
            ("08", _) | (_, "57P01" | "57P02" | "57P03" | "25P03") => {
                self.broken = true;
                Error::Unavailable { detail }
            }
            ("53" | "57" | "58", _) => Error::Unavailable { detail },
            ("XX", "XX001" | "XX002") => Error::Corrupt { detail },
            (_, "25006") => Error::ReadOnly,
            _ => Error::Sql { detail },
        }
    }
}

impl Session for Connection<'_> {
    fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        let statement = self.prepare(sql, params)?;
        let result = self.runtime.block_on(self.client.execute(&statement, &borrowed(params)));
        result.map_err(|error| self.classify(&error))
    }

    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        let statement = self.prepare(sql, params)?;
        let result = self.runtime.block_on(self.client.query(&statement, &borrowed(params)));
        let rows = result.map_err(|error| self.classify(&error))?;
        if rows.len() > ROWS_MAX {
            return Err(Error::TooManyRows { limit: ROWS_MAX });
        }
        rows.iter().map(read_row).collect()
    }

    fn define(&mut self, sql: &str) -> Result<()> {
        self.command(&portable::schema_for_postgres(sql))
    }
}

/// The server's own message, without its detail line, which may hold stored values.
fn words(error: &tokio_postgres::Error) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    error
        .as_db_error()
        .map(|e| e.message().to_owned())
        .or(source)
        .unwrap_or_else(|| error.to_string())
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

fn borrowed(params: &[Param]) -> Vec<&(dyn ToSql + Sync)> {
    params.iter().map(|param| param as &(dyn ToSql + Sync)).collect()
}

fn letter(param: &Param) -> char {
    match param {
        Param::Null => 'n',
        Param::Int(_) => 'i',
        Param::Text(_) => 't',
        Param::Bytes(_) => 'b',
    }
}

/// The type a parameter is declared with; the server finds out that of a NULL by itself.
fn kind(param: &Param) -> Type {
    match param {
        Param::Null => Type::UNKNOWN,
        Param::Int(_) => Type::INT8,
        Param::Text(_) => Type::TEXT,
        Param::Bytes(_) => Type::BYTEA,
    }
}

impl ToSql for Param {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, BoxError> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Int(n) => n.to_sql(kind, out),
            Self::Text(text) => text.to_sql(kind, out),
            Self::Bytes(bytes) => bytes.to_sql(kind, out),
        }
    }

    fn accepts(_: &Type) -> bool {
        // Every parameter is declared with its own type, so the server has refused the others before.
        true
    }

    to_sql_checked!();
}

fn read_row(row: &tokio_postgres::Row) -> Result<Row> {
    (0..row.len())
        .map(|index| {
            row.try_get(index).map_err(|_| Error::Column {
                index,
                expected: "an integer, a text or bytes",
                found: "another type",
            })
        })
        .collect::<Result<_>>()
        .map(Row::new)
}

impl<'a> FromSql<'a> for Param {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, BoxError> {
        Ok(match *kind {
            // What SQLite answers as 0 or 1.
            Type::BOOL => Self::Int(i64::from(bool::from_sql(kind, raw)?)),
            Type::INT2 => Self::Int(i64::from(i16::from_sql(kind, raw)?)),
            Type::INT4 => Self::Int(i64::from(i32::from_sql(kind, raw)?)),
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::BYTEA => Self::Bytes(Vec::from_sql(kind, raw)?),
            _ => Self::Text(String::from_sql(kind, raw)?),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, BoxError> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::BOOL | Type::INT2 | Type::INT4 | Type::INT8 | Type::BYTEA)
            || <String as FromSql>::accepts(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_or_refused_by_name() {
        let config = parse("postgres://me:secret@db.example:5433/rows").unwrap();
        assert_eq!(
            (config.get_user(), config.get_ports(), config.get_dbname()),
            (Some("me"), &[5433][..], Some("rows"))
        );
        assert!(parse("postgres:///rows?host=/run/postgresql&user=me").is_ok());
        for (url, part) in [
            ("postgres://me:secret@h/rows?sslmode=require", "sslmode=require"),
            ("postgres://me:secret@h/rows?sslmode=verify-full", "sslmode"),
            ("postgres://me:secret@h/rows?port=secret", "port"),
            ("mysql://me:secret@h/rows", "postgres://"),
            ("postgres://me:secret@h", "no database"),
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(error.contains(part) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
