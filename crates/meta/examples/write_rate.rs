//! Small durable write transactions per second: `write_rate FILE` or `write_rate postgres://…`.

use base::{Clock, SystemClock};
use meta::{Db, Migration, params};
use std::path::Path;

const MIGRATIONS: &[Migration] = &[Migration {
    name: "write-rate-001",
    sql:
        "CREATE TABLE write_rate (account_id TEXT NOT NULL, id BIGINT NOT NULL, state TEXT NOT NULL,
          PRIMARY KEY (account_id, id))",
}];
const CALLERS: [i64; 3] = [1, 8, 64];
const MILLIS: i64 = 3000;

#[tokio::main]
async fn main() -> meta::Result<()> {
    let target = std::env::args().nth(1).unwrap_or_else(|| "write_rate.db".to_owned());
    let db = if target.starts_with("postgres") {
        Db::open_postgres(&target).await?
    } else {
        Db::open_sqlite(Path::new(&target))?
    };
    db.migrate(MIGRATIONS).await?;
    for callers in CALLERS {
        let begin = SystemClock.now().0;
        let mut tasks = tokio::task::JoinSet::new();
        for caller in 0..callers {
            let db = db.clone();
            tasks.spawn(async move { write_until(&db, begin + caller, begin + MILLIS).await });
        }
        let mut latencies = Vec::new();
        for result in tasks.join_all().await {
            latencies.extend(result?);
        }
        let rate = latencies.len() as i64 * 1000 / (SystemClock.now().0 - begin);
        latencies.sort_unstable();
        let p99 = latencies[latencies.len() * 99 / 100];
        println!("{callers:2} callers: {rate:6} transactions/s, p99 {p99} ms");
    }
    Ok(())
}

/// An insert and a guarded update per transaction, as most operations do. Returns each one's milliseconds.
async fn write_until(db: &Db, first: i64, end: i64) -> meta::Result<Vec<i64>> {
    let account = format!("{first}");
    let mut latencies = Vec::new();
    loop {
        let (begin, id) = (SystemClock.now().0, latencies.len() as i64);
        if begin >= end {
            return Ok(latencies);
        }
        let account = account.clone();
        db.write(move |tx| {
            tx.execute(
                "INSERT INTO write_rate (account_id, id, state) VALUES ($1, $2, $3)",
                params![&account, id, "creating"],
            )?;
            tx.execute(
                "UPDATE write_rate SET state = $3 WHERE account_id = $1 AND id = $2 AND state = $4",
                params![&account, id, "available", "creating"],
            )
        })
        .await?;
        latencies.push(SystemClock.now().0 - begin);
    }
}
