//! The conformance suite over every engine, and what only a file can show.

use meta::{Db, Error, Migration, Param, conformance, params, testing};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

#[test]
fn memory_conforms() {
    conformance::run(&Db::memory().unwrap());
}

#[test]
fn file_conforms() {
    let directory = tempfile::tempdir().unwrap();
    conformance::run(&Db::open_sqlite(&directory.path().join("meta.db")).unwrap());
}

#[test]
fn postgres_conforms() {
    // `cargo xtask test` starts a server; without one there is nothing to test.
    if let Some(db) = testing::postgres() {
        conformance::run(&db);
    }
}

#[test]
fn a_lost_connection_is_replaced_before_the_commit() {
    let Some(db) = testing::postgres() else { return };
    db.migrate_blocking(MIGRATIONS).unwrap();
    for key in 0..20_i64 {
        // The first run ends its own connection.
        let runs = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&runs);
        let rows = db.write_blocking(move |tx| {
            let rows = tx.execute("INSERT INTO t (a) VALUES ($1)", params![key])?;
            if counter.fetch_add(1, Ordering::SeqCst) == 0 {
                tx.query("SELECT pg_terminate_backend(pg_backend_pid())", params![])?;
            }
            Ok::<_, Error>(rows)
        });
        assert_eq!(rows, Ok(1));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }
    let rows = db.read_blocking(|tx| tx.query("SELECT a FROM t", params![])).unwrap();
    assert_eq!(rows.len(), 20);
}

#[tokio::test]
async fn an_unreachable_server_is_unavailable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgres://me:secret@127.0.0.1:{port}/rows");
    let error = Db::open_postgres(&url).await.err().unwrap();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    assert!(!error.to_string().contains("secret"));
}

const MIGRATIONS: &[Migration] = &[Migration {
    name: "it-001",
    sql: "CREATE TABLE t (a BIGINT NOT NULL, b TEXT, PRIMARY KEY (a))",
}];

#[test]
fn rows_survive_reopening_and_other_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("meta.db");
    for round in 0..3_i64 {
        let db = Db::open_sqlite(&path).unwrap();
        db.migrate_blocking(MIGRATIONS).unwrap();
        db.write_blocking(move |tx| tx.execute("INSERT INTO t (a) VALUES ($1)", params![round]))
            .unwrap();
        let rows = db.read_blocking(|tx| tx.query("SELECT a FROM t", params![])).unwrap();
        assert_eq!(rows.len() as i64, round + 1);
    }

    let newer = rusqlite::Connection::open(&path).unwrap();
    newer.execute_batch("PRAGMA user_version = 1000").unwrap();
    assert!(matches!(Db::open_sqlite(&path), Err(Error::Incompatible { .. })));
    let other = directory.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE x (a)").unwrap();
    assert!(matches!(Db::open_sqlite(&other), Err(Error::Incompatible { .. })));
    let text = directory.path().join("text");
    std::fs::write(&text, "x".repeat(4096)).unwrap();
    assert!(matches!(Db::open_sqlite(&text), Err(Error::Corrupt { .. })));
    assert!(matches!(
        Db::open_sqlite(&directory.path().join("no/where")),
        Err(Error::Unavailable { .. })
    ));
}

#[test]
fn the_file_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open_sqlite(&directory.path().join("meta.db")).unwrap();
    db.migrate_blocking(MIGRATIONS).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?} is readable by others", entry.file_name());
    }
}

#[tokio::test]
async fn a_dropped_future_is_all_or_nothing_and_later_calls_work() {
    let db = Db::memory().unwrap();
    db.migrate(MIGRATIONS).await.unwrap();
    for key in 0..50_i64 {
        let write = db.write(move |tx| {
            tx.execute("INSERT INTO t (a, b) VALUES ($1, $2)", params![key, "x"])?;
            tx.execute("INSERT INTO t (a, b) VALUES ($1, $2)", params![key + 1000, "x"])
        });
        // Polled once, so submitted, then dropped.
        tokio::select! { biased; _ = write => {}, () = std::future::ready(()) => {} }
    }
    let keys: Vec<i64> = db
        .read(|tx| {
            tx.query("SELECT a FROM t ORDER BY a", params![])?
                .iter()
                .map(|r| r.get(0))
                .collect::<meta::Result<_>>()
        })
        .await
        .unwrap();
    assert_eq!(keys.len(), 100);
}

#[tokio::test]
async fn many_writers_share_commits_and_bad_ones_fail_alone() {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::open_sqlite(&directory.path().join("meta.db")).unwrap();
    db.migrate(MIGRATIONS).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300_i64 {
        let db = db.clone();
        // Every third one takes the key of the one before it.
        let key = if n % 3 == 2 { n - 1 } else { n };
        tasks.spawn(async move {
            db.write(move |tx| tx.execute("INSERT INTO t (a) VALUES ($1)", params![key])).await
        });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 200);
    assert_eq!(
        results.iter().filter(|r| matches!(r, Err(Error::UniqueViolation { .. }))).count(),
        100
    );
    let rows = db.read(|tx| tx.query("SELECT a FROM t", params![])).await.unwrap();
    assert_eq!(rows.len(), 200);
}

#[test]
fn a_transaction_inside_a_transaction_panics_instead_of_hanging() {
    let db = Db::memory().unwrap();
    let inner = db.clone();
    let nested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        db.write_blocking(move |_| inner.read_blocking(|tx| tx.query("SELECT 1", params![])))
    }));
    assert!(nested.is_err());
}

#[test]
fn values_are_not_shown() {
    let shown = format!("{:?}", [Param::from("secret"), Param::from(vec![115_u8])]);
    assert!(!shown.contains("secret") && !shown.contains("115"), "{shown}");
}
