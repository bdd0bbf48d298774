//! What every engine must do alike. One suite, run over each of them.

use crate::{Db, Error, Migration, Result, params};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The tables the suite uses.
pub const MIGRATIONS: &[Migration] = &[Migration {
    name: "conformance-001-items",
    sql: "CREATE TABLE conformance_items (
            account_id TEXT NOT NULL, id BIGINT NOT NULL, label TEXT, data BYTES,
            PRIMARY KEY (account_id, id));
          CREATE UNIQUE INDEX conformance_items_by_label ON conformance_items (label);",
}];

/// Runs the whole suite on an empty database, from a thread that runs no async tasks.
///
/// # Panics
/// When the engine departs from what the seam promises.
pub fn run(db: &Db) {
    db.migrate_blocking(MIGRATIONS).expect("migrations apply");
    db.migrate_blocking(MIGRATIONS).expect("migrations apply only once");
    for check in [
        values_come_back,
        what_is_written_behind_is_seen_at_once,
        a_failure_leaves_nothing,
        a_panic_reaches_its_caller_only,
        constraints_are_told_apart,
        a_failed_statement_spoils_the_transaction,
        reads_do_not_write,
        texts_sort_by_bytes,
        writers_do_not_lose_updates,
        an_edited_migration_is_refused,
    ] {
        check(db);
        clear(db);
    }
}

const INSERT: &str =
    "INSERT INTO conformance_items (account_id, id, label, data) VALUES ($1, $2, $3, $4)";

fn clear(db: &Db) {
    write(db, |tx| tx.execute("DELETE FROM conformance_items", params![])).expect("deleting works");
}

fn write<T: Send + 'static>(
    db: &Db,
    f: impl Fn(&mut crate::Tx<'_>) -> Result<T> + Send + 'static,
) -> Result<T> {
    db.write_blocking(f)
}

fn insert(db: &Db, id: i64, label: &'static str) -> Result<u64> {
    write(db, move |tx| tx.execute(INSERT, params!["a", id, label, None::<Vec<u8>>]))
}

fn ids(db: &Db) -> Vec<i64> {
    let rows =
        db.read_blocking(|tx| tx.query("SELECT id FROM conformance_items ORDER BY id", params![]));
    rows.and_then(|rows| rows.iter().map(|row| row.get(0)).collect()).expect("ids can be read")
}

fn values_come_back(db: &Db) {
    let text = "a ' text — with \u{1F510} in it";
    let bytes: Vec<u8> = (0..=255).collect();
    let data = bytes.clone();
    write(db, move |tx| {
        tx.execute(INSERT, params!["a", i64::MIN, text, data.clone()])?;
        // Parameters are numbered, in any order and more than once.
        tx.execute(
            "INSERT INTO conformance_items (account_id, id, label, data) VALUES ($4, $3, $2, $1)",
            params![Vec::new(), None::<String>, i64::MAX, "a"],
        )
    })
    .expect("all kinds of values are stored");
    let rows = db
        .read_blocking(|tx| {
            tx.query(
                "SELECT id, label, data, CAST(COUNT(*) AS BIGINT) FROM conformance_items
                 WHERE account_id = $1 AND (id < $2 OR id > $2) GROUP BY id, label, data ORDER BY id LIMIT $3",
                params!["a", 0, 10],
            )
        })
        .and_then(|rows| {
            rows.iter()
                .map(|r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
                .collect::<Result<Vec<(i64, Option<String>, Vec<u8>, bool)>>>()
        })
        .expect("all kinds of values are read");
    assert_eq!(
        rows,
        [(i64::MIN, Some(text.to_owned()), bytes, true), (i64::MAX, None, Vec::new(), true)]
    );
    let nul = write(db, |tx| tx.execute(INSERT, params!["a", 1, "a\0b", None::<Vec<u8>>]));
    assert_eq!(nul, Err(Error::NulInText));
    let missing: Result<String> = db.read_blocking(|tx| {
        let row =
            tx.query_opt("SELECT label FROM conformance_items WHERE id = $1", params![i64::MAX])?;
        row.expect("the row is there").get(0)
    });
    assert!(matches!(missing, Err(Error::Column { index: 0, found: "null", .. })));
}

#[derive(Debug, PartialEq)]
enum Refused {
    ByRule,
    Row(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Row(error)
    }
}

fn what_is_written_behind_is_seen_at_once(db: &Db) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime starts");
    for id in 1..=3 {
        let written: Result<u64> = runtime.block_on(db.write_behind(move |tx| {
            tx.execute(INSERT, params!["a", id, None::<String>, None::<Vec<u8>>])
        }));
        assert_eq!(written, Ok(1));
        assert_eq!(ids(db), (1..=id).collect::<Vec<_>>());
    }
    let refused: Result<(), Refused> = runtime.block_on(db.write_behind(|tx| {
        tx.execute(INSERT, params!["a", 4, "four", None::<Vec<u8>>])?;
        Err(Refused::ByRule)
    }));
    assert_eq!((refused, ids(db)), (Err(Refused::ByRule), vec![1, 2, 3]));
}

fn a_failure_leaves_nothing(db: &Db) {
    let refused: Result<(), Refused> = db.write_blocking(|tx| {
        tx.execute(INSERT, params!["a", 1, "one", None::<Vec<u8>>])?;
        Err(Refused::ByRule)
    });
    assert_eq!(refused, Err(Refused::ByRule));
    assert_eq!(ids(db), []);
}

fn a_panic_reaches_its_caller_only(db: &Db) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        write(db, |tx| -> Result<()> {
            tx.execute(INSERT, params!["a", 1, "one", None::<Vec<u8>>])?;
            std::panic::resume_unwind(Box::new("on purpose"))
        })
    }));
    let panic = outcome.expect_err("the closure panics");
    assert_eq!(panic.downcast_ref(), Some(&"on purpose"));
    assert_eq!(insert(db, 2, "two"), Ok(1), "the engine goes on");
    assert_eq!(ids(db), [2]);
}

fn constraints_are_told_apart(db: &Db) {
    assert_eq!(insert(db, 1, "one"), Ok(1));
    assert!(matches!(insert(db, 1, "other"), Err(Error::UniqueViolation { .. })), "primary key");
    assert!(matches!(insert(db, 2, "one"), Err(Error::UniqueViolation { .. })), "unique index");
    let null =
        write(db, |tx| tx.execute(INSERT, params![None::<String>, 3, "three", None::<Vec<u8>>]));
    assert!(matches!(null, Err(Error::Constraint { .. })), "{null:?}");
    let kind = write(db, |tx| tx.execute(INSERT, params!["a", "four", "four", None::<Vec<u8>>]));
    assert!(kind.is_err(), "columns hold what they were declared for");
    let quiet = write(db, |tx| {
        tx.execute(
            "INSERT INTO conformance_items (account_id, id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            params!["a", 1],
        )
    });
    assert_eq!(quiet, Ok(0));
    assert_eq!(ids(db), [1]);
}

fn a_failed_statement_spoils_the_transaction(db: &Db) {
    assert_eq!(insert(db, 1, "one"), Ok(1));
    let ignored = write(db, |tx| {
        tx.execute(INSERT, params!["a", 2, "two", None::<Vec<u8>>])?;
        drop(tx.execute(INSERT, params!["a", 1, "again", None::<Vec<u8>>]));
        let next = tx.query("SELECT id FROM conformance_items", params![]);
        assert_eq!(next, Err(Error::Aborted));
        Ok(())
    });
    assert_eq!(ignored, Err(Error::Aborted));
    assert_eq!(ids(db), [1]);
}

fn reads_do_not_write(db: &Db) {
    let plain = db.read_blocking(|tx| tx.execute("DELETE FROM conformance_items", params![]));
    assert_eq!(plain, Err(Error::ReadOnly));
    let disguised: Result<Vec<crate::Row>> = db.read_blocking(|tx| {
        tx.query(
            "INSERT INTO conformance_items (account_id, id) VALUES ('a', 1) RETURNING id",
            params![],
        )
    });
    drop(disguised);
    assert_eq!(ids(db), []);
}

fn texts_sort_by_bytes(db: &Db) {
    for (id, label) in [(1, "b"), (2, "B"), (3, "a-"), (4, "a"), (5, "é"), (6, "_"), (7, "ab")] {
        insert(db, id, label).expect("labels are unique");
    }
    let rows = db
        .read_blocking(|tx| {
            tx.query(
                "SELECT label FROM conformance_items WHERE label > $1 ORDER BY label",
                params!["A"],
            )
        })
        .and_then(|rows| rows.iter().map(|row| row.get(0)).collect::<Result<Vec<String>>>());
    let expected = ["B", "_", "a", "a-", "ab", "b", "é"].map(str::to_owned).to_vec();
    assert_eq!(rows, Ok(expected));
}

/// Threads that add to one row, each by reading it first.
const WRITERS: i64 = 8;
const ADDITIONS: i64 = 10;

fn writers_do_not_lose_updates(db: &Db) {
    insert(db, 0, "sum").expect("the row is new");
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for _ in 0..ADDITIONS {
                    write(db, add_one).expect("conflicts are retried");
                }
            });
        }
    });
    assert_eq!(ids(db), [WRITERS * ADDITIONS]);
}

fn add_one(tx: &mut crate::Tx<'_>) -> Result<u64> {
    let row = tx.query_opt("SELECT id FROM conformance_items WHERE label = $1", params!["sum"])?;
    let sum: i64 = row.expect("the row is there").get(0)?;
    tx.execute("UPDATE conformance_items SET id = $1 WHERE label = $2", params![sum + 1, "sum"])
}

fn an_edited_migration_is_refused(db: &Db) {
    let edited =
        [Migration { name: MIGRATIONS[0].name, sql: "CREATE TABLE other (a TEXT PRIMARY KEY)" }];
    assert!(matches!(db.migrate_blocking(&edited), Err(Error::MigrationChanged { .. })));
}
