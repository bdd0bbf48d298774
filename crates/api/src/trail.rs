//! Keeping records: through the server's journal, or each in a transaction of its own.
//!
//! Calls that change something always write rows ([`crate::audit::begin`]). This is about the others:
//! reads and refusals, of which a busy server makes thousands a second.

use events::journal::{Batch, Journal, JournalError, Left, Media};
use events::{Record, bundle};
use meta::Db;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How records of calls that changed nothing become durable.
pub enum Trail {
    /// As rows, in a transaction before the call is answered.
    Rows,
    /// In a journal among these files; the rows follow within [`INDEX_INTERVAL`].
    Journal(Box<dyn Media>),
}

/// How long records wait for others before they go into the rows together.
const INDEX_INTERVAL: Duration = Duration::from_millis(200);
/// Bytes of records that go into the rows in one transaction, about. More make requests beside it wait longer,
/// and no bundle has more.
const INDEX_BYTES: usize = 128 << 10;
/// How long what is in the rows stays in the journal too, because the rows are not flushed for it.
const FLUSH_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes of records that stay in the journal for this reason, about.
const FLUSH_BYTES: usize = 32 << 20;
/// How long to wait after the rows could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The trail of a running server.
pub(crate) struct Keeper {
    db: Db,
    running: Option<Running>,
}

struct Running {
    journal: Arc<Journal>,
    /// Records before this number are in the rows.
    indexed: watch::Receiver<u64>,
    /// Asks for what is durable to be taken to the rows at once.
    hurry: Arc<tokio::sync::Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Brings what an earlier run left in the journal to the rows, and begins anew.
    pub(crate) async fn open(
        db: &Db,
        trail: Trail,
        rng: &dyn base::Rng,
    ) -> Result<Self, events::Error> {
        let Trail::Journal(media) = trail else {
            return Ok(Self { db: db.clone(), running: None });
        };
        let left = Left::read(media)?;
        let (id, next) = index_left(db, &left, rng).await?;
        let journal = Arc::new(left.start(id, next)?);
        let (sender, indexed) = watch::channel(next);
        let hurry = Arc::new(tokio::sync::Notify::new());
        let task =
            tokio::spawn(index(db.clone(), Arc::clone(&journal), Arc::clone(&hurry), sender));
        let running = Running { journal, indexed, hurry, task };
        Ok(Self { db: db.clone(), running: Some(running) })
    }

    /// Makes the records of a call that changed nothing durable.
    ///
    /// # Errors
    /// When they are not; then the call must fail.
    pub(crate) async fn keep(&self, records: Vec<Record>) -> Result<(), events::Error> {
        match &self.running {
            Some(running) => Ok(running.journal.append(&records).await?),
            None => {
                let append = move |tx: &mut meta::Tx<'_>| {
                    records.iter().try_for_each(|record| events::append(tx, record))
                };
                self.db.write(append).await
            }
        }
    }

    /// Returns when every record that was acknowledged before is in the rows, so that reading them shows it.
    /// Records of other servers on the same database follow within [`INDEX_INTERVAL`].
    pub(crate) async fn settle(&self) {
        let Some(running) = &self.running else { return };
        let acknowledged = running.journal.acknowledged();
        let mut indexed = running.indexed.clone();
        if *indexed.borrow() >= acknowledged {
            return;
        }
        running.hurry.notify_one();
        // It ends early only when the server stops.
        drop(indexed.wait_for(|indexed| *indexed >= acknowledged).await);
    }
}

/// Takes the records of an earlier run to the rows. Returns the journal's id and its next number.
async fn index_left(
    db: &Db,
    left: &Left,
    rng: &dyn base::Rng,
) -> Result<([u8; 16], u64), events::Error> {
    let Some(id) = left.recovered.id() else {
        let mut id = [0; 16];
        rng.fill(&mut id);
        return Ok((id, 1));
    };
    let position = db.read(move |tx| bundle::position(tx, id)).await?;
    let batches = bundle::left(&left.recovered, position)?;
    let prepared = bundle::Prepared::new(id, &batches, position)?;
    let next = left.recovered.next().max(position);
    if !batches.is_empty() {
        tracing::info!(
            records = batches.len(),
            "took the trail's journal of the last run to the rows"
        );
    }
    db.write(move |tx| bundle::keep(tx, id, &batches, &prepared)).await?;
    Ok((id, next))
}

/// Takes durable records to the rows until the server stops.
async fn index(
    db: Db,
    journal: Arc<Journal>,
    hurry: Arc<tokio::sync::Notify>,
    done: watch::Sender<u64>,
) {
    let mut rows = Rows { db, journal, unflushed: None };
    loop {
        let least = rows.wait(&hurry).await;
        while let Some(end) = rows.take(least).await {
            done.send_replace(end);
            rows.flush_when_due().await;
        }
        rows.flush_when_due().await;
    }
}

/// The rows as the journal's records go there.
struct Rows {
    db: Db,
    journal: Arc<Journal>,
    unflushed: Option<Unflushed>,
}

/// Records that are in the rows and may be lost there by a power cut.
struct Unflushed {
    since: Instant,
    bytes: usize,
    /// The number behind the last.
    end: u64,
}

impl Rows {
    /// Returns when records should be taken to the rows, or those there should be flushed; with the
    /// bytes of records that are worth it. What is left of a crowd would be rows of their own, which
    /// cost more than the bundle before them, and so waits for others.
    async fn wait(&self, hurry: &tokio::sync::Notify) -> usize {
        let wait = async {
            self.journal.wait_for_records(1).await;
            // Whoever wants to read the trail does not wait for others to write to it.
            let enough = async {
                tokio::select! {
                    () = self.journal.wait_for_records(INDEX_BYTES) => INDEX_BYTES,
                    () = hurry.notified() => 1,
                }
            };
            tokio::time::timeout(INDEX_INTERVAL, enough).await.unwrap_or(1)
        };
        match &self.unflushed {
            None => wait.await,
            Some(unflushed) => {
                let due = unflushed.since + FLUSH_INTERVAL;
                tokio::time::timeout_at(due, wait).await.unwrap_or(INDEX_BYTES)
            }
        }
    }

    /// Takes some records to the rows, of at least so many bytes; the number behind the last, `None` when
    /// there are not as many.
    async fn take(&mut self, least: usize) -> Option<u64> {
        let batches = Arc::new(self.journal.take(least, INDEX_BYTES));
        let end = batches.last()?.end();
        while let Err(error) = self.keep(&batches).await {
            tracing::error!(%error, "the trail's journal cannot be taken to the rows");
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        self.journal.indexed(&batches);
        let unflushed =
            self.unflushed.get_or_insert(Unflushed { since: Instant::now(), bytes: 0, end });
        unflushed.bytes += batches.iter().map(Batch::bytes).sum::<usize>();
        unflushed.end = end;
        Some(end)
    }

    async fn keep(&self, batches: &Arc<Vec<Batch>>) -> Result<(), events::Error> {
        let (id, prepared_of) = (self.journal.id(), Arc::clone(batches));
        let prepare = move || bundle::Prepared::new(id, &prepared_of, 0);
        // It only fails to run when the server stops.
        let prepared = tokio::task::spawn_blocking(prepare).await;
        let prepared = prepared.map_err(|_| JournalError::Closed)??;
        let batches = Arc::clone(batches);
        // They are durable in the journal.
        self.db.write_behind(move |tx| bundle::keep(tx, id, &batches, &prepared)).await
    }

    /// Makes what is in the rows durable there when it has been long or much, and gives the journal's room back.
    async fn flush_when_due(&mut self) {
        let due = |unflushed: &&Unflushed| {
            unflushed.since.elapsed() >= FLUSH_INTERVAL || unflushed.bytes >= FLUSH_BYTES
        };
        let Some(unflushed) = self.unflushed.as_ref().filter(due) else { return };
        let (id, end) = (self.journal.id(), unflushed.end);
        match self.db.write(move |tx| bundle::confirm(tx, id)).await {
            Ok(()) => {
                self.journal.release(end);
                self.unflushed = None;
            }
            Err(error) => {
                let error: events::Error = error;
                tracing::error!(%error, "the trail's rows cannot be flushed");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, region};
    use base::{OsRng, Timestamp};
    use events::journal::{Files, SEGMENT_BYTES};
    use events::{Call, Category, Lookup, UserIdentity};
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_795_253_400_123);

    fn record(id: u32) -> Record {
        Record::api_call(Call {
            event_id: format!("e-{id}"),
            time: NOW,
            region: region("us-east-1"),
            recipient: account(1),
            identity: UserIdentity::root(&account(1)),
            event_source: "kms.amazonaws.com".to_owned(),
            event_name: "Decrypt".to_owned(),
            source_ip: "192.0.2.7".to_owned(),
            user_agent: "test".to_owned(),
            request_id: "r-1".to_owned(),
            read_only: true,
            category: Category::Management,
        })
    }

    async fn keeper(db: &Db, directory: &Path) -> Keeper {
        let files = Files::open(directory, SEGMENT_BYTES).expect("a new directory");
        Keeper::open(db, Trail::Journal(Box::new(files)), &OsRng).await.expect("a whole journal")
    }

    async fn count(db: &Db) -> usize {
        let mut lookup = Lookup {
            account: account(1),
            region: region("us-east-1"),
            filter: None,
            start: None,
            end: None,
            now: NOW,
            max: 50,
            after: None,
        };
        let mut found = 0;
        loop {
            let asked = lookup.clone();
            let page = db.read(move |tx| events::lookup(tx, &asked)).await.expect("readable");
            found += page.records.len();
            match page.next {
                Some(next) => lookup.after = Some(next),
                None => return found,
            }
        }
    }

    /// No rows yet, and a new journal with segments of so many bytes.
    async fn rows(directory: &Path, segment_bytes: u64) -> Rows {
        let db = Db::memory().expect("a database in memory");
        db.migrate(events::MIGRATIONS).await.expect("the migrations apply");
        let files = Files::open(directory, segment_bytes).expect("a new directory");
        let left = Left::read(Box::new(files)).expect("a whole journal");
        let journal = Arc::new(left.start([7; 16], 1).expect("a first segment"));
        Rows { db, journal, unflushed: None }
    }

    #[tokio::test]
    async fn segments_are_kept_until_the_rows_are_flushed() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let segments = || {
            let names = std::fs::read_dir(directory.path()).expect("the journal's directory");
            let names = names.map(|entry| entry.expect("an entry").file_name());
            names.filter(|name| name.to_string_lossy().ends_with(".trail")).count()
        };
        let mut rows = rows(directory.path(), 4096).await;
        let (db, journal) = (rows.db.clone(), Arc::clone(&rows.journal));
        let append = async || journal.append(&[record(1)]).await.expect("the disk takes it");
        for _ in 0..20 {
            append().await;
        }
        while rows.take(1).await.is_some() {}
        assert_eq!(count(&db).await, 20);
        rows.flush_when_due().await;
        append().await;
        assert!(segments() > 3, "nothing is given back before it is durable elsewhere");
        let unflushed = rows.unflushed.as_mut().expect("what was taken is not flushed");
        unflushed.bytes = FLUSH_BYTES;
        rows.flush_when_due().await;
        assert!(rows.unflushed.is_none());
        append().await;
        // The writer removes segments behind the answer to the batch, before the next batch.
        append().await;
        assert!(segments() <= 3, "{} segments", segments());
    }

    #[tokio::test]
    async fn what_is_left_of_a_crowd_waits_for_others() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut rows = rows(directory.path(), SEGMENT_BYTES).await;
        let journal = Arc::clone(&rows.journal);
        let hurry = tokio::sync::Notify::new();
        let append = async |records: Vec<Record>| {
            journal.append(&records).await.expect("the disk takes it");
        };
        let crowd: Vec<Record> = (0..).map(record).take(100).collect();
        let batches = INDEX_BYTES / crowd.iter().map(|r| r.to_json().len()).sum::<usize>() + 1;
        for _ in 0..batches {
            append(crowd.clone()).await;
        }
        append(vec![record(1)]).await;
        let least = rows.wait(&hurry).await;
        assert_eq!(least, INDEX_BYTES, "there are enough");
        assert!(rows.take(least).await.is_some());
        assert!(rows.take(least).await.is_none(), "one record is not enough");
        let least = rows.wait(&hurry).await;
        assert_eq!(least, 1, "it has waited");
        assert!(rows.take(least).await.is_some() && rows.take(1).await.is_none());
        append(vec![record(1)]).await;
        hurry.notify_one();
        let hurried = tokio::time::timeout(INDEX_INTERVAL / 2, rows.wait(&hurry)).await;
        assert_eq!(hurried, Ok(1), "somebody waits for it");
    }

    #[tokio::test]
    async fn what_was_kept_is_seen_at_once_and_by_the_next_run() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let db = Db::memory().expect("a database in memory");
        db.migrate(events::MIGRATIONS).await.expect("the migrations apply");
        let mut kept = 0;
        for run in 1..=3 {
            let keeper = keeper(&db, directory.path()).await;
            assert_eq!(count(&db).await, kept, "run {run} begins with what the one before kept");
            for _ in 0..30 {
                let records = vec![record(kept as u32), record(kept as u32 + 1)];
                keeper.keep(records).await.expect("the disk takes it");
                kept += 2;
            }
            if run == 2 {
                keeper.settle().await;
                assert_eq!(count(&db).await, kept, "settled");
                keeper.keep(vec![record(kept as u32)]).await.expect("the disk takes it");
                kept += 1;
            }
            // Nothing waits for the rows: the next run finds the rest in the journal.
        }
    }
}
