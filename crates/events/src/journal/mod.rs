//! The trail's journal: records of calls that changed nothing, durable before the call is answered.
//!
//! A record of such a call is one append to a file of the server, shared with the records of all calls
//! that wait at that moment: one write and one flush for all of them. A thread of its own does that.
//! It begins when a thread that serves calls has been through all that were ready, and no sooner: what
//! comes alone is written at once, and what comes in a crowd is written as one.
//! From there the records go into the rows in the background ([`crate::bundle`]), and only what is
//! not yet durable there stays in the journal. A server that starts reads what the run before left and brings
//! it to the rows first ([`recover`]).
//!
//! A write or flush that fails fails the calls of its batch, and the segment is never written again:
//! nobody knows what a failed flush left. The next segment's header says from which number on the
//! segment before does not count.

mod frame;
mod media;
mod recover;
#[cfg(test)]
mod tests;

pub(crate) use frame::{RECORD_HEADER_LEN, push_record, read_records};
pub use media::{Files, Media};
pub use recover::Recovered;

use crate::bundle::Facts;
use crate::record::Record;
use frame::{ALIGN, BATCH_BYTES_MAX, BATCH_HEADER_LEN, SegmentHeader};
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use tokio::sync::{Notify, oneshot};

/// Bytes of a segment on a server.
pub const SEGMENT_BYTES: u64 = 8 << 20;
/// Durable records that wait for the rows, in bytes. Beyond it calls wait too.
const BACKLOG_BYTES_MAX: usize = 64 << 20;
/// Why a record is not in the journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The files cannot be read or written.
    #[error("the trail's journal cannot {what}: {detail}")]
    Failed {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        detail: String,
    },
    /// Acknowledged records are damaged. Restore the directory, or set it aside and lose them.
    #[error("segment {segment} of the trail's journal is damaged at byte {at}")]
    Damaged {
        /// The segment.
        segment: u64,
        /// Where reading it ended.
        at: u64,
    },
    /// The journal was closed.
    #[error("the trail's journal is closed")]
    Closed,
}

fn failed(what: &'static str, error: &io::Error) -> JournalError {
    JournalError::Failed { what, detail: error.to_string() }
}

/// A durable record on its way into the rows.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) facts: Facts,
    json: Range<usize>,
}

/// Records that became durable together.
#[derive(Debug)]
pub struct Batch {
    /// The number of the first.
    pub(crate) first: u64,
    bytes: Vec<u8>,
    pub(crate) records: Vec<Kept>,
}

impl Batch {
    pub(crate) fn json(&self, kept: &Kept) -> &str {
        std::str::from_utf8(&self.bytes[kept.json.clone()]).expect("JSON texts were put in")
    }

    /// A record that an earlier run left.
    pub(crate) fn of_one(number: u64, facts: Facts, json: &str) -> Self {
        let kept = Kept { facts, json: 0..json.len() };
        Self { first: number, bytes: json.as_bytes().to_vec(), records: vec![kept] }
    }

    /// Bytes it takes in memory and, about, in the journal.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The number behind the last.
    pub fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }
}

/// Calls that wait for the next flush.
struct Pending {
    /// Room for the batch's header, then the records.
    bytes: Vec<u8>,
    records: Vec<Kept>,
    waiting: Vec<oneshot::Sender<Result<(), JournalError>>>,
}

impl Pending {
    /// With room for as much as the batch before had, so that its bytes do not move while it grows.
    fn after(bytes: usize, calls: usize) -> Self {
        let mut room = Vec::with_capacity(bytes.max(BATCH_HEADER_LEN));
        room.resize(BATCH_HEADER_LEN, 0);
        Self { bytes: room, records: Vec::with_capacity(calls), waiting: Vec::with_capacity(calls) }
    }
}

impl Default for Pending {
    fn default() -> Self {
        Self::after(0, 0)
    }
}

#[derive(Default)]
struct State {
    pending: Pending,
    /// Whoever brought a record of those pending has looked after the other calls that were ready.
    ripe: bool,
    /// The writer sleeps and wants to be woken.
    idle: bool,
    closed: bool,
    durable: VecDeque<Batch>,
    backlog_bytes: usize,
    /// Whoever waits for durable records wants so many bytes of them.
    wanted_bytes: usize,
    /// Records before this number are durable.
    acknowledged: u64,
    /// Records before this number are durable in the rows.
    released: u64,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
    /// There are as many durable records as are wanted.
    fresh: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the journal")
    }
}

/// Has the writer begin when it goes.
struct Ripening<'a>(&'a Shared);

impl Drop for Ripening<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if state.pending.waiting.is_empty() {
            return;
        }
        state.ripe = true;
        if std::mem::take(&mut state.idle) {
            self.0.work.notify_one();
        }
    }
}

/// A journal that takes records. Dropping it makes durable what waits.
pub struct Journal {
    id: [u8; 16],
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What an earlier run left, before it is in the rows.
pub struct Left {
    media: Box<dyn Media>,
    /// The records.
    pub recovered: Recovered,
}

impl Left {
    /// Reads what there is.
    ///
    /// # Errors
    /// [`JournalError::Damaged`], [`JournalError::Failed`].
    pub fn read(mut media: Box<dyn Media>) -> Result<Self, JournalError> {
        let recovered = recover::recover(&mut *media)?;
        Ok(Self { media, recovered })
    }

    /// Begins a new segment from the number `next` on, and removes the others, whose records are in the rows.
    ///
    /// # Errors
    /// [`JournalError::Failed`].
    pub fn start(mut self, id: [u8; 16], next: u64) -> Result<Journal, JournalError> {
        let number = self.recovered.segments.last().map_or(1, |last| last + 1);
        let header = SegmentHeader { journal: id, number, first: next };
        let writer = Writer::open(&mut *self.media, header)?;
        for number in &self.recovered.segments {
            self.media.remove(*number).map_err(|error| failed("remove a segment", &error))?;
        }
        let state = State { acknowledged: next, released: next, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), ..Shared::default() });
        let thread = std::thread::Builder::new().name("trail-journal".to_owned()).spawn({
            let (shared, media) = (Arc::clone(&shared), self.media);
            move || {
                base::turns::run_soon();
                writer.run(media, &shared);
            }
        });
        let thread = thread.map_err(|error| failed("start its thread", &error))?;
        Ok(Journal { id, shared, thread: Some(thread) })
    }
}

impl Journal {
    /// The journal's id.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// Makes the records of one call durable, all or none.
    ///
    /// # Errors
    /// [`JournalError::Failed`]; whether the records are durable is then not known, and the call must not
    /// be answered as done.
    pub async fn append(&self, records: &[Record]) -> Result<(), JournalError> {
        let texts: Vec<(String, Facts)> =
            records.iter().map(|record| (record.to_json(), Facts::of(record))).collect();
        let (sender, answer) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if state.closed {
                return Err(JournalError::Closed);
            }
            let added: usize = texts.iter().map(|(json, _)| json.len() + RECORD_HEADER_LEN).sum();
            if state.pending.bytes.len() + added > BATCH_BYTES_MAX {
                let detail = "too many records wait".to_owned();
                return Err(JournalError::Failed { what: "take a record", detail });
            }
            for (json, facts) in texts {
                push_record(&mut state.pending.bytes, facts.time, &json);
                let end = state.pending.bytes.len();
                state.pending.records.push(Kept { facts, json: end - json.len()..end });
            }
            state.pending.waiting.push(sender);
        }
        // Also when the caller is dropped meanwhile: others' records lie beside this one.
        let ripening = Ripening(&self.shared);
        tokio::task::yield_now().await;
        drop(ripening);
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    /// Records before this number are durable.
    pub fn acknowledged(&self) -> u64 {
        self.shared.state().acknowledged
    }

    /// Returns when there are durable records that are not in the rows, of so many bytes. One caller at a
    /// time.
    pub async fn wait_for_records(&self, bytes: usize) {
        loop {
            let fresh = self.shared.fresh.notified();
            {
                let mut state = self.shared.state();
                if state.backlog_bytes >= bytes {
                    return;
                }
                state.wanted_bytes = bytes;
            }
            fresh.await;
        }
    }

    /// Durable records in their order, once each, about `most` bytes of them; none when there are
    /// fewer than `least`.
    pub fn take(&self, least: usize, most: usize) -> Vec<Batch> {
        let mut state = self.shared.state();
        let (mut taken, mut sum) = (Vec::new(), 0);
        if state.backlog_bytes < least {
            return taken;
        }
        while sum < most
            && let Some(batch) = state.durable.pop_front()
        {
            sum += batch.bytes.len();
            taken.push(batch);
        }
        taken
    }

    /// These are in the rows; they no longer count as backlog.
    pub fn indexed(&self, batches: &[Batch]) {
        let mut state = self.shared.state();
        state.backlog_bytes -= batches.iter().map(Batch::bytes).sum::<usize>();
        self.shared.work.notify_one();
    }

    /// Records before this number are durable in the rows; the journal need not keep them.
    pub fn release(&self, number: u64) {
        let mut state = self.shared.state();
        state.released = state.released.max(number);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the writer has failed its callers already.
            drop(thread.join());
        }
    }
}

/// The thread that writes.
struct Writer {
    header: SegmentHeader,
    offset: u64,
    next: u64,
    /// A write failed: the segment is not written again.
    broken: bool,
    /// Full segments and the number behind their last record.
    full: VecDeque<(u64, u64)>,
}

impl Writer {
    fn open(media: &mut dyn Media, header: SegmentHeader) -> Result<Self, JournalError> {
        let fresh = |media: &mut dyn Media| {
            media.create(header.number)?;
            media.write(0, &header.encode())?;
            media.sync()
        };
        fresh(media).map_err(|error| failed("begin a segment", &error))?;
        let (offset, next) = (ALIGN as u64, header.first);
        Ok(Self { header, offset, next, broken: false, full: VecDeque::new() })
    }

    fn run(mut self, mut media: Box<dyn Media>, shared: &Shared) {
        while let Some(pending) = Self::gather(shared) {
            let calls = pending.waiting.len();
            let Pending { bytes, records, waiting } = pending;
            let written = self.write(&mut *media, bytes, records.len());
            let outcome = written.map(|bytes| {
                let first = self.next - records.len() as u64;
                let mut state = shared.state();
                state.acknowledged = self.next;
                state.backlog_bytes += bytes.len();
                state.durable.push_back(Batch { first, bytes, records });
                if state.backlog_bytes >= state.wanted_bytes {
                    shared.fresh.notify_one();
                }
            });
            if let Err(error) = &outcome {
                tracing::error!(%error, calls, "the trail could not be kept");
            }
            for caller in waiting {
                // A caller that stopped waiting has no use for the answer.
                drop(caller.send(outcome.clone()));
            }
            self.remove_released(&mut *media, shared);
        }
    }

    /// The calls of the next batch; `None` when the journal is closed and nothing waits.
    fn gather(shared: &Shared) -> Option<Pending> {
        let mut state = shared.state();
        loop {
            let empty = state.pending.waiting.is_empty();
            if empty && state.closed {
                return None;
            }
            let full = state.backlog_bytes > BACKLOG_BYTES_MAX;
            if !empty && (state.closed || state.ripe && !full) {
                break;
            }
            state.idle = !full;
            state = shared.work.wait(state).expect("no code panics while it holds the journal");
            state.idle = false;
        }
        state.ripe = false;
        let next = Pending::after(state.pending.bytes.len(), state.pending.waiting.len());
        Some(std::mem::replace(&mut state.pending, next))
    }

    /// Writes a batch and makes it durable.
    fn write(
        &mut self,
        media: &mut dyn Media,
        mut batch: Vec<u8>,
        count: usize,
    ) -> Result<Vec<u8>, JournalError> {
        let length = batch.len().next_multiple_of(ALIGN) as u64;
        let full = self.offset > ALIGN as u64 && self.offset + length > media.segment_bytes();
        if full || self.broken {
            self.turn(media)?;
        }
        let count = u32::try_from(count).expect("a batch has fewer records than bytes");
        self.header.seal(&mut batch, self.next, count);
        let written = media.write(self.offset, &batch).and_then(|()| media.sync());
        if let Err(error) = written {
            self.broken = true;
            return Err(failed("be written", &error));
        }
        self.offset += length;
        self.next += u64::from(count);
        Ok(batch)
    }

    /// Goes on in a new segment.
    fn turn(&mut self, media: &mut dyn Media) -> Result<(), JournalError> {
        let last = self.header.number;
        let header = SegmentHeader { number: last + 1, first: self.next, ..self.header };
        self.full.push_back((last, self.next));
        // Whatever comes of it, the number is used.
        (self.header, self.broken) = (header, true);
        let Self { header, offset, next, broken, .. } = Self::open(media, header)?;
        (self.header, self.offset, self.next, self.broken) = (header, offset, next, broken);
        Ok(())
    }

    /// Removes full segments whose records are durable in the rows.
    fn remove_released(&mut self, media: &mut dyn Media, shared: &Shared) {
        // While the newest segment is broken, its header may not say what counts of those before.
        if self.broken || self.full.is_empty() {
            return;
        }
        let released = shared.state().released;
        while let Some((number, end)) = self.full.front().copied()
            && end <= released
        {
            if let Err(error) = media.remove(number) {
                tracing::warn!(%error, number, "cannot remove a segment of the trail's journal");
            }
            self.full.pop_front();
        }
    }
}
