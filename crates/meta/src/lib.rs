//! Rows: one portable SQL schema on an embedded SQLite file, in memory, or on PostgreSQL.
//!
//! A transaction is a closure over [`Tx`]. It is durable when [`Db::write`] returns and leaves
//! nothing behind when it fails. It may run more than once, so it must have no effect outside its
//! transaction, and it must not start another one, which would wait for itself. Write transactions
//! are serializable on every engine; a read sees one consistent moment that includes every write
//! answered before it began.
//!
//! This crate knows no table but its own list of migrations: each domain brings its own
//! `MIGRATIONS` and writes its queries beside its code, in the subset that [`portable`] describes.

pub mod conformance;
pub mod dump;
mod error;
mod job;
mod memo;
mod migrate;
pub mod portable;
mod postgres;
mod sqlite;
mod tables;
pub mod testing;
mod tx;
mod value;

pub use error::{Error, Result};
pub use migrate::Migration;
pub use sqlite::GROUP_MAX;
pub use tx::{ROWS_MAX, Tx};
pub use value::{FromColumn, Param, Row};

use job::{Access, Call, Job};
use memo::Memo;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// Transactions that may wait for a thread; beyond it callers wait to submit.
pub const QUEUE_MAX: usize = 1024;

type Queue = mpsc::Sender<Box<dyn Job>>;

/// A database. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    /// `None` only while closing.
    queues: Option<Queues>,
    threads: Vec<JoinHandle<()>>,
    engine: Engine,
    /// Answers kept for [`Db::read_often`], where every write goes through this value.
    memo: Option<Arc<Memo>>,
}

struct Queues {
    reads: Queue,
    writes: Queue,
}

/// What keeps the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// A SQLite file.
    File,
    /// SQLite in memory: nothing is kept.
    Memory,
    /// A PostgreSQL server.
    Postgres,
}

impl Db {
    /// Opens or creates a SQLite file. Its directory must exist.
    ///
    /// # Errors
    /// [`Error::Incompatible`] for a file of another program or a newer version, [`Error::Unavailable`]
    /// when it cannot be opened, [`Error::Corrupt`] when it is damaged.
    pub fn open_sqlite(path: &Path) -> Result<Self> {
        let writer = sqlite::open_writer(path)?;
        let readers: Vec<_> =
            (0..sqlite::READERS).map(|_| sqlite::open_reader(path)).collect::<Result<_>>()?;
        let (writes, write_queue) = mpsc::channel(QUEUE_MAX);
        let (reads, read_queue) = mpsc::channel(QUEUE_MAX);
        let read_queue = Arc::new(Mutex::new(read_queue));
        let memo = Arc::new(Memo::new());
        let mut threads = vec![spawn("meta-writer", {
            let memo = Arc::clone(&memo);
            move || {
                // A transaction takes milliseconds, and what reads only from memory is not to wait for it.
                base::turns::give_way();
                sqlite::run_writer(writer, write_queue, &memo);
            }
        })?];
        for reader in readers {
            let queue = Arc::clone(&read_queue);
            threads.push(spawn("meta-reader", move || sqlite::run_reader(reader, &queue))?);
        }
        Ok(Self::new(Queues { reads, writes }, threads, Engine::File, Some(memo)))
    }

    /// A database in memory, for tests and simulation. Transactions run strictly one after another.
    ///
    /// # Errors
    /// When memory or threads are exhausted.
    pub fn memory() -> Result<Self> {
        let connection = sqlite::open_memory()?;
        let (writes, queue) = mpsc::channel(QUEUE_MAX);
        let memo = Arc::new(Memo::new());
        let threads = vec![spawn("meta-memory", {
            let memo = Arc::clone(&memo);
            move || sqlite::run_writer(connection, queue, &memo)
        })?];
        let queues = Queues { reads: writes.clone(), writes };
        Ok(Self::new(queues, threads, Engine::Memory, Some(memo)))
    }

    /// Connects to a PostgreSQL server: `postgres://user:password@host:port/name`, or
    /// `postgres:///name?host=/directory` for its socket.
    ///
    /// # Errors
    /// [`Error::Url`] for a URL that cannot be used, `sslmode=require` among them;
    /// [`Error::Unavailable`] when the server does not answer or refuses the user;
    /// [`Error::Incompatible`] when the database is not in UTF-8.
    pub async fn open_postgres(url: &str) -> Result<Self> {
        let db = Self::connect(url)?;
        db.read(|tx| tx.query("SELECT 1", params![])).await?;
        Ok(db)
    }

    /// [`Db::open_postgres`] from a thread that runs no async tasks.
    ///
    /// # Errors
    /// As [`Db::open_postgres`].
    pub fn open_postgres_blocking(url: &str) -> Result<Self> {
        let db = Self::connect(url)?;
        db.read_blocking(|tx| tx.query("SELECT 1", params![]))?;
        Ok(db)
    }

    /// Starts the threads; each connects when it gets its first transaction.
    fn connect(url: &str) -> Result<Self> {
        let config = postgres::parse(url)?;
        let (writes, queue) = mpsc::channel(QUEUE_MAX);
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for _ in 0..postgres::CONNECTIONS {
            let (config, queue, runtime) =
                (config.clone(), Arc::clone(&queue), postgres::runtime()?);
            threads.push(spawn("meta-postgres", move || postgres::run(&runtime, &config, &queue))?);
        }
        Ok(Self::new(Queues { reads: writes.clone(), writes }, threads, Engine::Postgres, None))
    }

    /// Runs a transaction that may write. Durable when this returns.
    ///
    /// The closure may run more than once: no effects outside `tx`. Dropping the future after it was
    /// polled does not stop the transaction; it happens wholly or not at all.
    ///
    /// # Errors
    /// What the closure returns, or the engine's error; in both cases nothing was written
    /// (but see [`Error::OutcomeUnknown`]).
    ///
    /// # Panics
    /// When the closure panics, with its panic.
    pub async fn write<T, E>(
        &self,
        f: impl Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(Access::Write, f).await
    }

    /// [`Db::write`] for what is durable elsewhere: others see it when this returns, and it is durable when
    /// a [`Db::write`] that begins later and changes something returns. A power cut before that may undo it, wholly, and with it
    /// everything that was written behind later. It costs no flush.
    ///
    /// # Errors
    /// As [`Db::write`].
    ///
    /// # Panics
    /// As [`Db::write`].
    pub async fn write_behind<T, E>(
        &self,
        f: impl Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(Access::WriteBehind, f).await
    }

    /// Runs a transaction that only reads, at one consistent moment.
    ///
    /// # Errors
    /// What the closure returns, or the engine's error; [`Error::ReadOnly`] on [`Tx::execute`].
    ///
    /// # Panics
    /// When the closure panics, with its panic.
    pub async fn read<T, E>(
        &self,
        f: impl Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run(Access::Read, f).await
    }

    /// [`Db::read`] for what every request reads again: answers to its queries are kept in memory until a
    /// table they came from changes, and when all are there the closure runs at once, on the caller's
    /// thread. It sees what [`Db::read`] would: never what was before a write that was acknowledged.
    ///
    /// The closure may run more than once, on kept answers first. It should take microseconds. On
    /// PostgreSQL, where other servers write too, this is [`Db::read`].
    ///
    /// # Errors
    /// As [`Db::read`].
    ///
    /// # Panics
    /// When the closure panics, with its panic.
    pub async fn read_often<T, E>(
        &self,
        f: impl Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let Some(memo) = &self.inner.memo else { return self.read(f).await };
        if let Some(outcome) = memo.answer(&f) {
            return outcome;
        }
        let memo = Arc::clone(memo);
        self.read(move |tx| memo.learn(tx, &f)).await
    }

    /// Makes tables known to what keeps answers.
    fn learn_tables(&self, sql: &str) {
        if let Some(memo) = &self.inner.memo {
            memo.tables().learn(sql);
        }
    }

    /// [`Db::write`] from a thread that runs no async tasks.
    ///
    /// # Errors
    /// As [`Db::write`].
    ///
    /// # Panics
    /// As [`Db::write`]; also inside an async task or another transaction's closure.
    pub fn write_blocking<T, E>(
        &self,
        f: impl Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_blocking(Access::Write, f)
    }

    /// [`Db::read`] from a thread that runs no async tasks.
    ///
    /// # Errors
    /// As [`Db::read`].
    ///
    /// # Panics
    /// As [`Db::read`]; also inside an async task or another transaction's closure.
    pub fn read_blocking<T, E>(
        &self,
        f: impl Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.run_blocking(Access::Read, f)
    }

    /// What keeps the rows.
    pub fn engine(&self) -> Engine {
        self.inner.engine
    }

    fn new(
        queues: Queues,
        threads: Vec<JoinHandle<()>>,
        engine: Engine,
        memo: Option<Arc<Memo>>,
    ) -> Self {
        Self { inner: Arc::new(Inner { queues: Some(queues), threads, engine, memo }) }
    }

    async fn run<T, E, F>(&self, access: Access, f: F) -> Result<T, E>
    where
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let (job, answer) = Call::new(access, f);
        if self.queue(access).send(job).await.is_err() {
            return Err(E::from(Error::Closed));
        }
        match answer.await {
            Ok(outcome) => outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => Err(E::from(Error::Closed)),
        }
    }

    fn run_blocking<T, E, F>(&self, access: Access, f: F) -> Result<T, E>
    where
        F: Fn(&mut Tx<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        assert!(!job::inside_transaction(), "a transaction inside a transaction waits for itself");
        let (job, answer) = Call::new(access, f);
        if self.queue(access).blocking_send(job).is_err() {
            return Err(E::from(Error::Closed));
        }
        match answer.blocking_recv() {
            Ok(outcome) => outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => Err(E::from(Error::Closed)),
        }
    }

    fn queue(&self, access: Access) -> &Queue {
        let queues = self.inner.queues.as_ref().expect("the queues are taken only by drop");
        match access {
            Access::Read => &queues.reads,
            Access::Write | Access::WriteBehind => &queues.writes,
        }
    }
}

impl Drop for Inner {
    /// Lets the threads finish what is queued and close their connections.
    fn drop(&mut self) {
        drop(self.queues.take());
        for thread in self.threads.drain(..) {
            // The last clone may go inside a closure, on one of these very threads.
            if thread.thread().id() != std::thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| Error::Unavailable { detail: format!("cannot start a thread: {error}") })
}
