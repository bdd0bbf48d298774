//! An attached volume of the block store as a device.
//!
//! A batch of a connection becomes one piece of work on the volume's own thread. Answers go back
//! together, except that flushes are answered by the thread that waits for the disk.

use blockstore::live::{ChangeState, Engine, Error, ExtentState as StoredState};
use blockstore::page::PAGE_BYTES;
use blockstore::store::{Volume, VolumeHandle, Work};
use std::sync::Arc;

use crate::buffer::Buffer;
use crate::device::{
    Answer, Answers, BlockDevice, Command, DeviceError, Durability, Extent, ExtentState, Milestone,
    Port, Reply, Request, SizeWatch, SizeWatcher, View,
};

/// Payload bytes after which answers are sent although the batch goes on, so that the connection
/// sends while the volume works.
const ANSWER_BYTES: usize = 256 << 10;

/// Bytes one status request is about at most, over all its views; who asks for more asks again.
const STATUS_BYTES_MAX: u64 = 4 << 30;

/// Bytes read for one request to prepare for reading; the rest of the range stays where it is, so
/// that others do not wait for a hint.
const WARMED_BYTES_MAX: u64 = 32 << 20;
const WARMED_PIECE_BYTES: u64 = 1 << 20;

/// Who knows which snapshots a volume's changes can be told against.
pub trait History: Send + Sync {
    /// Those there are now. May wait for storage.
    fn milestones(&self) -> Vec<Milestone>;
}

/// A volume that is open with its data key.
pub struct VolumeDevice {
    handle: VolumeHandle,
    history: Option<Arc<dyn History>>,
}

impl VolumeDevice {
    /// Offers a volume.
    pub fn new(handle: VolumeHandle) -> Self {
        Self { handle, history: None }
    }

    /// Also tells what changed since the snapshots that `history` knows.
    #[must_use]
    pub fn with_history(self, history: Arc<dyn History>) -> Self {
        Self { history: Some(history), ..self }
    }
}

impl BlockDevice for VolumeDevice {
    fn size(&self) -> u64 {
        self.handle.size()
    }

    fn watch_size(&self, watcher: SizeWatcher) -> SizeWatch {
        self.handle.watch_size(watcher)
    }

    fn milestones(&self) -> Vec<Milestone> {
        self.history.as_ref().map_or_else(Vec::new, |history| history.milestones())
    }

    fn submit(&self, batch: Vec<Request>) {
        // A closed volume hands the work back; dropped replies say that the device has stopped.
        drop(self.handle.submit(Box::new(Batch(batch))));
    }

    fn port(&self) -> Option<Port> {
        self.handle.port()
    }

    fn submit_through(&self, batch: Vec<Request>, port: &mut Port) {
        drop(self.handle.submit_through(Box::new(Batch(batch)), port));
    }
}

/// Requests, and bytes of writes among them, up to which a batch is better done at once than handed
/// over. Reads go on elsewhere anyway.
const SMALL_REQUESTS: usize = 64;
const SMALL_BYTES: u64 = 128 << 10;

struct Batch(Vec<Request>);

impl Work for Batch {
    fn is_small(&self) -> bool {
        let moved = self.0.iter().map(|request| match &request.command {
            Command::Write { data, .. } => data.len() as u64,
            // It reads while the volume waits.
            Command::Cache { length, .. } => *length,
            Command::Read { .. }
            | Command::Flush
            | Command::Trim { .. }
            | Command::WriteZeroes { .. }
            | Command::Status { .. } => 0,
        });
        self.0.len() <= SMALL_REQUESTS && moved.sum::<u64>() <= SMALL_BYTES
    }

    fn run(self: Box<Self>, volume: &mut Volume) {
        let mut answers = Answers::default();
        let mut bytes = 0;
        for Request { command, reply } in self.0 {
            let command = match command {
                Command::Read { offset, buffer } => {
                    read(volume, offset, buffer, reply);
                    continue;
                }
                command => command,
            };
            match apply(volume, command) {
                Ok(Outcome { answer, length, durability: Durability::Buffered }) => {
                    answers.add(reply, Ok(answer));
                    bytes += length;
                }
                Ok(Outcome { answer, durability: Durability::Durable, .. }) => {
                    // What was answered before must not wait for the disk.
                    answers.send();
                    flush(volume, reply, answer);
                }
                Err(error) => answers.add(reply, Err(refusal(&error))),
            }
            if bytes >= ANSWER_BYTES {
                answers.send();
                bytes = 0;
            }
        }
    }
}

/// What a command came to, and whether its answer waits for the disk.
struct Outcome {
    answer: Answer,
    /// Payload bytes moved.
    length: usize,
    durability: Durability,
}

impl Outcome {
    fn done(durability: Durability) -> Self {
        Self { answer: Answer::Done, length: 0, durability }
    }

    fn bytes(buffer: Buffer, durability: Durability) -> Self {
        let length = buffer.len();
        Self { answer: Answer::Bytes(buffer), length, durability }
    }
}

fn apply(volume: &mut Volume, command: Command) -> Result<Outcome, Error> {
    let engine = volume.engine();
    match command {
        Command::Read { .. } => unreachable!("reads are answered by `read`"),
        Command::Write { offset, data, durability } => {
            engine.write(offset, &data)?;
            Ok(Outcome::bytes(data, durability))
        }
        Command::Flush => Ok(Outcome::done(Durability::Durable)),
        Command::Trim { offset, length, durability } => {
            engine.discard(offset, length)?;
            Ok(Outcome::done(durability))
        }
        // A log reserves no space for content it replaces, so a range kept allocated (`NO_HOLE`)
        // and a hole are the same to whoever writes next.
        Command::WriteZeroes { offset, length, hole: _, durability } => {
            engine.write_zeroes(offset, length)?;
            Ok(Outcome::done(durability))
        }
        Command::Status { offset, length, views } => {
            // Many views are told about less, so that all requests cost about the same.
            let share = STATUS_BYTES_MAX / views.len() as u64;
            let length = length.min(share - share % PAGE_BYTES as u64);
            let extents: Result<_, Error> =
                views.into_iter().map(|view| extents(engine, view, offset, length)).collect();
            let answer = Answer::Extents(extents?);
            Ok(Outcome { answer, length: 0, durability: Durability::Buffered })
        }
        Command::Cache { offset, length } => {
            warm(engine, offset, length)?;
            Ok(Outcome::done(Durability::Buffered))
        }
    }
}

/// Answers when the bytes are there. The rest of the batch does not wait.
fn read(volume: &mut Volume, offset: u64, buffer: Buffer, reply: Reply) {
    let answer = move |result: Result<(), Error>, bytes| {
        let bytes = Answer::Bytes(Buffer::from_aligned(bytes));
        reply.complete(result.map(|()| bytes).map_err(|error| refusal(&error)));
    };
    volume.read_then(offset, buffer.into_aligned(), Box::new(answer));
}

fn extents(
    engine: &mut Engine,
    view: View,
    offset: u64,
    length: u64,
) -> Result<Vec<Extent>, Error> {
    let found = match view {
        View::Allocation => engine.block_status(offset, length)?,
        View::ChangedSince(generation) => {
            return Ok(engine
                .changes_since(generation, offset, length)?
                .into_iter()
                .map(|stretch| Extent {
                    length: stretch.length,
                    state: match stretch.state {
                        ChangeState::Changed => ExtentState::Changed,
                        ChangeState::Unchanged => ExtentState::Unchanged,
                    },
                })
                .collect());
        }
    };
    let extent = |extent: blockstore::live::Extent| Extent {
        length: extent.length,
        state: match extent.state {
            StoredState::Data => ExtentState::Data,
            StoredState::Zero => ExtentState::Hole,
        },
    };
    Ok(found.into_iter().map(extent).collect())
}

/// Reads the beginning of a range for no other effect than that it lies in caches afterwards. A
/// range that is damaged or not there fails now instead of at its first use.
fn warm(engine: &mut Engine, offset: u64, length: u64) -> Result<(), Error> {
    let end = offset + length.min(WARMED_BYTES_MAX);
    let mut piece = vec![0; WARMED_PIECE_BYTES.min(length) as usize];
    let mut at = offset;
    while at < end {
        let bytes = (end - at).min(WARMED_PIECE_BYTES);
        engine.read(at, &mut piece[..bytes as usize])?;
        at += bytes;
    }
    Ok(())
}

/// Answers once everything written so far is durable.
fn flush(volume: &mut Volume, reply: Reply, answer: Answer) {
    volume.flush_then(Box::new(move |result| {
        reply.complete(result.map(|()| answer).map_err(|error| refusal(&error)));
    }));
}

/// What a client may know of an error. The rest is logged here, where the error ends.
fn refusal(error: &Error) -> DeviceError {
    tracing::warn!(
        %error,
        cause = std::error::Error::source(error).map(ToString::to_string),
        "a request failed"
    );
    match error {
        Error::OutOfRange { .. } => DeviceError::OutOfRange,
        Error::Full => DeviceError::NoSpace,
        Error::Disk { cause, .. } if cause.kind() == std::io::ErrorKind::StorageFull => {
            DeviceError::NoSpace
        }
        // The data key was wiped: the attachment has ended.
        Error::KeyAbsent => DeviceError::Stopped,
        Error::Disk { .. }
        | Error::Corrupt { .. }
        | Error::NoSuperblock
        | Error::Version { .. }
        | Error::WrongKey
        | Error::BaseAbsent
        | Error::WrongBase
        | Error::Base { .. }
        | Error::BadSize { .. }
        | Error::Failed
        | Error::CutNotFound { .. }
        | Error::CutExists { .. }
        | Error::CutIsDropped { .. }
        | Error::TooManyCuts { .. }
        | Error::Fenced { .. } => DeviceError::Io,
    }
}
