//! Answers to queries kept in memory, for the reads that every request repeats.
//!
//! An answer is kept with the versions its tables had before it was read ([`crate::tables`]); it is given
//! only while they are the same. The writer changes the versions before it commits and again after, and
//! answers its callers only then: once a write is acknowledged, no read is answered with what was before
//! it, and while one is being committed reads go to the rows. A read that meets several kept answers uses
//! them only if all still hold at its end, so it sees one moment as every read does.
//!
//! Rows are kept as the database has them: what is sealed there is sealed here.

use crate::error::{Error, Result};
use crate::job::Access;
use crate::tables::{Moment, Stamp, Tables};
use crate::tx::{Session, Tx};
use crate::value::{Param, Row};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};

/// Bytes of answers kept, about.
const BYTES_MAX: usize = 64 << 20;
/// A longer answer is not kept.
const ANSWER_BYTES_MAX: usize = 256 << 10;
/// Parts with a lock of their own.
const SHARDS: usize = 16;
/// What an answer costs beside its texts.
const OVERHEAD_BYTES: usize = 128;

/// One query with its answer.
struct Answer {
    sql: String,
    params: Vec<Param>,
    rows: Vec<Row>,
    stamp: Stamp,
}

/// Answers by the hash of their query; two of one hash are told apart by their query.
type Generation = HashMap<u64, Vec<Arc<Answer>>>;

/// The answers used lately and those used before them. When the first are many the second go.
#[derive(Default)]
struct Shard {
    young: Generation,
    young_bytes: usize,
    old: Generation,
}

pub(crate) struct Memo {
    tables: Tables,
    hasher: RandomState,
    shards: [Mutex<Shard>; SHARDS],
}

impl Memo {
    pub(crate) fn new() -> Self {
        Self {
            tables: Tables::default(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Runs a read on kept answers alone; `None` when one is missing or did not hold to the end.
    pub(crate) fn answer<T, E>(
        &self,
        f: &impl Fn(&mut Tx<'_>) -> std::result::Result<T, E>,
    ) -> Option<std::result::Result<T, E>> {
        let mut kept = Kept { memo: self, used: Vec::new(), missed: false };
        let mut tx = Tx::new(&mut kept, Access::Read);
        let outcome = f(&mut tx);
        // A query that the seam itself refuses is refused with its own words beside the rows.
        let good = !tx.has_failed();
        let whole = good && !kept.missed && kept.used.iter().all(|answer| answer.stamp.holds());
        whole.then_some(outcome)
    }

    /// Runs a read on the rows and keeps the answers to its queries.
    pub(crate) fn learn<T>(&self, tx: &mut Tx<'_>, f: impl FnOnce(&mut Tx<'_>) -> T) -> T {
        // Taken before the transaction's first query, which is when its moment begins.
        let moment = self.tables.now();
        tx.behind(|session, access| {
            let mut session = Learning { memo: self, moment, session };
            let mut tx = Tx::new(&mut session, access);
            let outcome = f(&mut tx);
            let marks = tx.marks();
            (outcome, marks)
        })
    }

    fn hash(&self, sql: &str, params: &[Param]) -> u64 {
        // The text is compared below; most statements differ in their length or their parameters.
        self.hasher.hash_one((sql.len(), params))
    }

    fn shard(&self, hash: u64) -> std::sync::MutexGuard<'_, Shard> {
        let shard = usize::try_from(hash >> 32).expect("32 bits fit") % SHARDS;
        self.shards[shard].lock().expect("no code panics while it holds answers")
    }

    fn find(&self, sql: &str, params: &[Param]) -> Option<Arc<Answer>> {
        let hash = self.hash(sql, params);
        let mut shard = self.shard(hash);
        if let Some(answer) = find(&shard.young, hash, sql, params) {
            return Some(answer);
        }
        let answer = find(&shard.old, hash, sql, params)?;
        shard.insert(hash, Arc::clone(&answer));
        Some(answer)
    }

    fn keep(&self, answer: Answer) {
        if answer.bytes() <= ANSWER_BYTES_MAX {
            let hash = self.hash(&answer.sql, &answer.params);
            self.shard(hash).insert(hash, Arc::new(answer));
        }
    }
}

fn find(from: &Generation, hash: u64, sql: &str, params: &[Param]) -> Option<Arc<Answer>> {
    let answer = from.get(&hash)?.iter().find(|answer| answer.is_to(sql, params))?;
    answer.stamp.holds().then(|| Arc::clone(answer))
}

impl Shard {
    fn insert(&mut self, hash: u64, answer: Arc<Answer>) {
        let bytes = answer.bytes();
        if self.young_bytes + bytes > BYTES_MAX / SHARDS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        let same = self.young.entry(hash).or_default();
        same.retain(|other| !other.is_to(&answer.sql, &answer.params));
        same.push(answer);
        self.young_bytes += bytes;
    }
}

impl Answer {
    fn is_to(&self, sql: &str, params: &[Param]) -> bool {
        self.params == params && self.sql == sql
    }

    fn bytes(&self) -> usize {
        let params = self.params.iter().chain(self.rows.iter().flat_map(Row::columns));
        OVERHEAD_BYTES + self.sql.len() + params.map(Param::bytes).sum::<usize>()
    }
}

/// Answers from memory.
struct Kept<'m> {
    memo: &'m Memo,
    used: Vec<Arc<Answer>>,
    missed: bool,
}

impl Session for Kept<'_> {
    fn execute(&mut self, _sql: &str, _params: &[Param]) -> Result<u64> {
        Err(Error::ReadOnly)
    }

    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        let Some(answer) = self.memo.find(sql, params) else {
            self.missed = true;
            return Err(Error::Aborted);
        };
        let rows = answer.rows.clone();
        self.used.push(answer);
        Ok(rows)
    }

    fn define(&mut self, _sql: &str) -> Result<()> {
        Err(Error::ReadOnly)
    }
}

/// Answers from the rows, and keeps them.
struct Learning<'m, 's> {
    memo: &'m Memo,
    moment: Moment,
    session: &'s mut dyn Session,
}

impl Session for Learning<'_, '_> {
    fn execute(&mut self, sql: &str, params: &[Param]) -> Result<u64> {
        self.session.execute(sql, params)
    }

    fn query(&mut self, sql: &str, params: &[Param]) -> Result<Vec<Row>> {
        let rows = self.session.query(sql, params)?;
        if let Some(stamp) = self.moment.stamp(&self.memo.tables.of(sql)) {
            let (sql, params) = (sql.to_owned(), params.to_vec());
            self.memo.keep(Answer { sql, params, rows: rows.clone(), stamp });
        }
        Ok(rows)
    }

    fn define(&mut self, sql: &str) -> Result<()> {
        self.session.define(sql)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Db, Migration, params};
    use std::sync::atomic::{AtomicU32, Ordering};

    const MIGRATIONS: &[Migration] = &[Migration {
        name: "memo-001-tables",
        sql: "CREATE TABLE a (k BIGINT NOT NULL, v BIGINT NOT NULL, PRIMARY KEY (k));
              CREATE TABLE b (k BIGINT NOT NULL, v BIGINT NOT NULL, PRIMARY KEY (k));",
    }];

    async fn file() -> (tempfile::TempDir, Db) {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open_sqlite(&directory.path().join("rows")).unwrap();
        db.migrate(MIGRATIONS).await.unwrap();
        (directory, db)
    }

    fn set(db: &Db, table: &'static str, v: i64) {
        db.write_blocking(move |tx| {
            let sql = format!(
                "INSERT INTO {table} (k, v) VALUES (1, $1) ON CONFLICT (k) DO UPDATE SET v = $1"
            );
            tx.execute(&sql, params![v])
        })
        .unwrap();
    }

    /// Reads a row, and tells whether the rows were asked.
    async fn get(db: &Db, table: &'static str) -> (i64, bool) {
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        let v = db.read_often(move |tx| {
            counted.fetch_add(1, Ordering::Relaxed);
            let rows = tx.query(&format!("SELECT v FROM {table} WHERE k = 1"), params![])?;
            rows.first().map_or(Ok(0), |row| row.get(0))
        });
        let v: Result<i64> = v.await;
        (v.unwrap(), runs.load(Ordering::Relaxed) > 1)
    }

    #[tokio::test]
    async fn a_kept_row_is_decoded_once() {
        let (_directory, db) = file().await;
        let decoded = Arc::new(AtomicU32::new(0));
        let read = async || {
            let count = Arc::clone(&decoded);
            let v = db.read_often(move |tx| {
                let row = tx.query_opt("SELECT v FROM a WHERE k = 1", params![])?;
                let decode = |row: &Row| -> Result<i64> {
                    count.fetch_add(1, Ordering::Relaxed);
                    row.get(0)
                };
                row.expect("it is there").decoded(decode)
            });
            let v: Result<Arc<i64>> = v.await;
            *v.unwrap()
        };
        for (v, times) in [(7, 1), (8, 2)] {
            std::thread::scope(|s| s.spawn(|| set(&db, "a", v)).join().unwrap());
            for _ in 0..3 {
                assert_eq!(read().await, v);
            }
            assert_eq!(decoded.load(Ordering::Relaxed), times);
        }
    }

    #[tokio::test]
    async fn an_answer_is_kept_until_its_table_changes() {
        let (_directory, file) = file().await;
        let memory = Db::memory().unwrap();
        memory.migrate(MIGRATIONS).await.unwrap();
        for db in [file, memory] {
            let set =
                |table, v| std::thread::scope(|s| s.spawn(|| set(&db, table, v)).join().unwrap());
            set("a", 7);
            assert_eq!(get(&db, "a").await, (7, true));
            assert_eq!(get(&db, "a").await, (7, false));
            set("b", 1);
            assert_eq!(get(&db, "a").await, (7, false), "another table changed");
            set("a", 8);
            assert_eq!(get(&db, "a").await, (8, true));
            assert_eq!(get(&db, "b").await, (1, true));
        }
    }

    #[test]
    fn nothing_is_given_or_kept_while_a_change_is_committed() {
        let memo = Memo::new();
        memo.tables.learn(MIGRATIONS[0].sql);
        let tables = memo.tables.of("SELECT v FROM a");
        assert_eq!(tables.len(), 1);
        let before = memo.tables.now().stamp(&tables).unwrap();
        let mut written = crate::tables::Written::nothing();
        written.add(&tables);
        let change = memo.tables.change(&written);
        assert!(!before.holds());
        assert!(memo.tables.now().stamp(&tables).is_none());
        assert!(memo.tables.now().stamp(&memo.tables.of("SELECT v FROM b")).is_some());
        drop(change);
        assert!(!before.holds());
        assert!(memo.tables.now().stamp(&tables).is_some_and(|stamp| stamp.holds()));
        // A statement that names no known table may have changed any.
        let after = memo.tables.now().stamp(&tables).unwrap();
        written.add(&memo.tables.of("DELETE FROM unheard_of"));
        drop(memo.tables.change(&written));
        assert!(!after.holds());
        assert!(memo.tables.now().stamp(&memo.tables.of("SELECT 1")).is_none());
    }

    #[tokio::test]
    async fn a_write_that_was_answered_is_seen_by_every_read_after_it() {
        let (_directory, db) = file().await;
        let stop = Arc::new(AtomicU32::new(0));
        let floor = Arc::new(AtomicU32::new(0));
        let writer = {
            let (db, stop, floor) = (db.clone(), Arc::clone(&stop), Arc::clone(&floor));
            std::thread::spawn(move || {
                for v in 1..300u32 {
                    db.write_blocking(move |tx| -> Result<()> {
                        for table in ["a", "b"] {
                            let sql = format!("INSERT INTO {table} (k, v) VALUES (1, $1) ON CONFLICT (k) DO UPDATE SET v = $1");
                            tx.execute(&sql, params![i64::from(v)])?;
                        }
                        Ok(())
                    })
                    .unwrap();
                    floor.store(v, Ordering::SeqCst);
                }
                stop.store(1, Ordering::SeqCst);
            })
        };
        while stop.load(Ordering::SeqCst) == 0 {
            let least = i64::from(floor.load(Ordering::SeqCst));
            let both: Result<(i64, i64)> = db
                .read_often(|tx| {
                    let mut one = |sql| -> Result<i64> {
                        tx.query(sql, params![])?.first().map_or(Ok(0), |row| row.get(0))
                    };
                    Ok((one("SELECT v FROM a WHERE k = 1")?, one("SELECT v FROM b WHERE k = 1")?))
                })
                .await;
            let (a, b) = both.unwrap();
            assert_eq!(a, b, "both from one moment");
            assert!(a >= least, "{a} was read after {least} was acknowledged");
        }
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn memory_stays_bounded() {
        let (_directory, db) = file().await;
        for n in 0..2000i64 {
            let long = "x".repeat(64 << 10);
            let read: Result<Vec<Row>> = db
                .read_often(move |tx| {
                    tx.query("SELECT v FROM a WHERE k = $1 AND $2 <> ''", params![n, &long])
                })
                .await;
            read.unwrap();
        }
        let memo = db.inner.memo.as_ref().unwrap();
        let bytes = |generation: &Generation| {
            generation.values().flatten().map(|answer| answer.bytes()).sum::<usize>()
        };
        let total: usize = memo
            .shards
            .iter()
            .map(|shard| {
                let shard = shard.lock().unwrap();
                bytes(&shard.young) + bytes(&shard.old)
            })
            .sum();
        assert!(total <= BYTES_MAX && total > BYTES_MAX / 8, "{total}");
    }
}
