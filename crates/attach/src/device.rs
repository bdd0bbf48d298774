//! What the server needs of a volume: a size, and a queue that takes batches of requests.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc;

use crate::buffer::Buffer;
pub use blockstore::live::Port;
pub use blockstore::store::{SizeWatch, SizeWatcher};

/// A block device that works on requests in its own thread.
pub trait BlockDevice: Send + Sync {
    /// Bytes the device holds now. It may grow while the device is exported, and never shrinks;
    /// cheap to ask.
    fn size(&self) -> u64;

    /// Has `watcher` called with the new size whenever the device has grown, until the watch is
    /// dropped. The watcher runs on the device's thread: it must not block, and must not call the
    /// device. A device of constant size need not implement this.
    fn watch_size(&self, watcher: SizeWatcher) -> SizeWatch {
        drop(watcher);
        SizeWatch::never()
    }

    /// Earlier states of the device that [`View::ChangedSince`] can be asked about, named by
    /// snapshot id. May wait for storage.
    fn milestones(&self) -> Vec<Milestone> {
        Vec::new()
    }

    /// Takes a batch, in order, and returns without waiting for it. May block while the device's
    /// queue is full. Every [`Reply`] is completed once, from any thread, in any order.
    ///
    /// Ranges lie inside [`BlockDevice::size`] and may start and end at any byte. A request takes
    /// effect between its submission and its completion; a flush covers every write completed
    /// before the flush was submitted, whichever connection sent it.
    fn submit(&self, batch: Vec<Request>);

    /// A way to read for the calling thread, which then passes it to
    /// [`BlockDevice::submit_through`] and waits with it. `None` where the device's reads are done
    /// elsewhere.
    fn port(&self) -> Option<Port> {
        None
    }

    /// As [`BlockDevice::submit`]; reads may go through `port`, and are then answered when the
    /// thread has it answer.
    fn submit_through(&self, batch: Vec<Request>, port: &mut Port) {
        let _ = port;
        self.submit(batch);
    }
}

/// One request and the slot its answer goes to.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub command: Command,
    /// Where the answer goes.
    pub reply: Reply,
}

/// What a client asks of a device.
#[derive(Debug)]
pub enum Command {
    /// Fill the whole of `buffer` with what lies at `offset`; answered with [`Answer::Bytes`].
    Read {
        /// First byte.
        offset: u64,
        /// Filled by the device. Its content before that is arbitrary.
        buffer: Buffer,
    },
    /// Store `data` at `offset`; answered with [`Answer::Bytes`] to give the buffer back.
    Write {
        /// First byte.
        offset: u64,
        /// What to store.
        data: Buffer,
        /// When the write may be answered.
        durability: Durability,
    },
    /// Make every completed write durable; answered with [`Answer::Done`].
    Flush,
    /// The client no longer needs the range; reading it afterwards gives zeroes or the old content.
    Trim {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// When the request may be answered.
        durability: Durability,
    },
    /// Reading the range afterwards gives zeroes.
    WriteZeroes {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
        /// Whether the range may become a hole.
        hole: Hole,
        /// When the request may be answered.
        durability: Durability,
    },
    /// What the range holds, as each of `views` tells it; answered with [`Answer::Extents`].
    Status {
        /// First byte.
        offset: u64,
        /// Number of bytes, at least one.
        length: u64,
        /// At least one.
        views: Vec<View>,
    },
    /// The client will read the range soon. Whatever is done about it, content stays the same;
    /// answered with [`Answer::Done`].
    Cache {
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
}

/// A question about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Which parts hold data: extents are [`ExtentState::Data`] or [`ExtentState::Hole`].
    Allocation,
    /// Which parts changed since a [`Milestone`] of this generation: extents are
    /// [`ExtentState::Changed`] or [`ExtentState::Unchanged`].
    ChangedSince(u32),
}

/// An earlier state of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Milestone {
    /// The snapshot that holds this state.
    pub snapshot: String,
    /// What [`View::ChangedSince`] takes.
    pub generation: u32,
}

impl Command {
    /// Bytes of data it carries or asks for.
    pub fn payload(&self) -> usize {
        match self {
            Self::Read { buffer, .. } => buffer.len(),
            Self::Write { data, .. } => data.len(),
            Self::Flush
            | Self::Trim { .. }
            | Self::WriteZeroes { .. }
            | Self::Status { .. }
            | Self::Cache { .. } => 0,
        }
    }
}

/// When a write may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// As soon as later reads see it; a later flush makes it durable.
    Buffered,
    /// Only when it survives a power cut (FUA).
    Durable,
}

/// Whether a zeroed range may give up its space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// The range may become unallocated.
    Allowed,
    /// The client asked to keep the range allocated (NBD `NO_HOLE`).
    Refused,
}

/// What a device answers.
#[derive(Debug)]
pub enum Answer {
    /// The request took effect.
    Done,
    /// The bytes read, or the buffer of a write handed back for reuse.
    Bytes(Buffer),
    /// For each view, in the order asked, consecutive extents from the start of the range: at least
    /// one, possibly fewer than the range needs; the last one may reach beyond it.
    Extents(Vec<Vec<Extent>>),
}

/// A run of bytes with one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Number of bytes, never zero.
    pub length: u64,
    /// What the run holds.
    pub state: ExtentState,
}

/// What an extent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtentState {
    /// Stored bytes.
    Data,
    /// Nothing is stored; reads give zeroes.
    Hole,
    /// Written, zeroed or trimmed since.
    Changed,
    /// As it was.
    Unchanged,
}

/// Why a device refused a request. The client sees an errno; the device's own log has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// Storage failed, or stored bytes did not authenticate.
    #[error("input/output error")]
    Io,
    /// The store is full.
    #[error("no space left in the store")]
    NoSpace,
    /// Memory for the request is exhausted.
    #[error("out of memory")]
    OutOfMemory,
    /// The range lies outside the device.
    #[error("the range lies outside the device")]
    OutOfRange,
    /// The device does not accept changes.
    #[error("the device is read-only")]
    ReadOnly,
    /// The device is going away.
    #[error("the device is shutting down")]
    Stopped,
    /// The device does not implement the request.
    #[error("the request is not supported")]
    Unsupported,
}

/// Collects the completions of one connection.
pub trait Sink: Send + Sync {
    /// Takes one completion. Runs on the device's thread: it must not block.
    fn complete(&self, completion: Completion);

    /// Takes several completions at once and leaves `completions` empty.
    fn complete_all(&self, completions: &mut Vec<Completion>) {
        completions.drain(..).for_each(|completion| self.complete(completion));
    }
}

/// A finished request.
#[derive(Debug)]
pub struct Completion {
    /// The tag the request's [`Reply`] was made with.
    pub tag: u32,
    /// The device's answer.
    pub result: Result<Answer, DeviceError>,
}

/// The slot of one request's answer, used exactly once: dropped unused it answers
/// [`DeviceError::Stopped`].
pub struct Reply {
    sink: Option<Arc<dyn Sink>>,
    tag: u32,
}

impl Reply {
    /// A slot that answers `sink` under `tag`.
    pub fn new(sink: Arc<dyn Sink>, tag: u32) -> Self {
        Self { sink: Some(sink), tag }
    }

    /// Answers the request.
    pub fn complete(mut self, result: Result<Answer, DeviceError>) {
        if let Some(sink) = self.sink.take() {
            sink.complete(Completion { tag: self.tag, result });
        }
    }
}

/// Answers that are sent together, so that the connection is woken once. Sends what is left when
/// it is dropped.
#[derive(Default)]
pub struct Answers {
    sink: Option<Arc<dyn Sink>>,
    completions: Vec<Completion>,
}

impl Answers {
    /// Answers a request with the next [`Answers::send`].
    pub fn add(&mut self, mut reply: Reply, result: Result<Answer, DeviceError>) {
        let Some(sink) = reply.sink.take() else { return };
        if self.sink.as_ref().is_none_or(|current| !Arc::ptr_eq(current, &sink)) {
            self.send();
            self.sink = Some(sink);
        }
        self.completions.push(Completion { tag: reply.tag, result });
    }

    /// Sends the answers collected so far.
    pub fn send(&mut self) {
        if let Some(sink) = &self.sink
            && !self.completions.is_empty()
        {
            sink.complete_all(&mut self.completions);
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.send();
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(sink) = self.sink.take() {
            sink.complete(Completion { tag: self.tag, result: Err(DeviceError::Stopped) });
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("tag", &self.tag).finish_non_exhaustive()
    }
}

/// Submits one command and waits for its answer.
pub fn call(device: &dyn BlockDevice, command: Command) -> Result<Answer, DeviceError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let reply = Reply::new(Arc::new(Single(sender)), 0);
    device.submit(vec![Request { command, reply }]);
    receiver.recv().map_err(|_| DeviceError::Stopped)?.result
}

/// The sink of [`call`].
struct Single(mpsc::SyncSender<Completion>);

impl Sink for Single {
    fn complete(&self, completion: Completion) {
        // The channel has room for the only completion; a caller that is gone needs none.
        let _ = self.0.try_send(completion);
    }
}
