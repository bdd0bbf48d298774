//! The volume's file and its base, as the engine of another machine sees them.

use crate::client::{Link, unexpected};
use crate::wire::{
    BASE_BLOCKS_MAX, BASE_PAGES_MAX, BlockSet, DATA_BYTES_MAX, PIECE_BYTES, Reply, Request,
};
use blockstore::live::{AlignedBuffer, Disk, READ_PAUSE, TailFile};
use blockstore::page::{BasePage, BaseReader, Lba, PAGES_PER_BLOCK, SourceError};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Runs of base pages kept; each has [`BASE_PAGES_MAX`] pages, 128 KiB.
const BASE_RUNS_MAX: usize = 64;
/// Ranges of blocks kept, of each length; the longest is a KiB, and tells of 4 GiB.
const BLOCK_SETS_MAX: usize = 256;
/// Blocks asked about at once, and at once where something in so many is damaged.
const BLOCKS_AT_ONCE: [u32; 2] = [BASE_BLOCKS_MAX, 64];

/// The file at the server. Writes are on their way when they return, in order; a flush waits for all.
///
/// Chunks on their way lie in memory that outlives this process too: killed, it may have sent none of
/// them. Everything else on its way is lost with it, until it was handed over.
pub struct RemoteDisk {
    link: Link,
    tail: TailFile,
    chunks: Mutex<Chunks>,
}

/// The buffers of the tail that the engine does not have.
#[derive(Default)]
struct Chunks {
    free: Vec<AlignedBuffer>,
    /// Their bytes are sent, with these numbers, ascending; whether the server has them is not known.
    sent: VecDeque<(u64, AlignedBuffer)>,
    newest: u64,
}

impl RemoteDisk {
    /// The file behind a link, with a tail on this machine.
    pub fn new(link: Link, tail: TailFile) -> Self {
        Self { link, tail, chunks: Mutex::default() }
    }

    /// The server has what was sent up to this number.
    fn note_arrived(&self, newest: u64) {
        let mut chunks = self.chunks();
        let arrived = chunks.sent.partition_point(|(number, _)| *number <= newest);
        let Chunks { free, sent, .. } = &mut *chunks;
        free.extend(sent.drain(..arrived).map(|(_, buffer)| buffer));
    }

    /// Asks for all pieces before it waits for the first.
    fn read_pieces(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        let pieces = (offset..).step_by(PIECE_BYTES).zip(target.chunks_mut(PIECE_BYTES));
        let asked = pieces.map(|(offset, piece)| {
            let request = Request::Read { offset, length: piece.len() as u32 };
            Ok((self.link.start(&request)?, piece))
        });
        for (reply, piece) in asked.collect::<io::Result<Vec<_>>>()? {
            match self.link.await_reply(&reply)? {
                Reply::Data(data) if data.len() == piece.len() => piece.copy_from_slice(&data),
                _ => return Err(unexpected()),
            }
        }
        Ok(())
    }

    fn chunks(&self) -> MutexGuard<'_, Chunks> {
        self.chunks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for RemoteDisk {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        for (at, part) in (offset..).step_by(DATA_BYTES_MAX).zip(target.chunks_mut(DATA_BYTES_MAX))
        {
            self.read_pieces(at, part)?;
        }
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        for (at, piece) in (offset..).step_by(PIECE_BYTES).zip(source.chunks(PIECE_BYTES)) {
            self.link.write(piece.len(), |id| Request::encode_write(id, at, piece))?;
        }
        Ok(())
    }

    fn start_write(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        self.write(offset, buffer)?;
        let is_full = {
            let chunks = self.chunks();
            chunks.free.is_empty() && !chunks.sent.is_empty()
        };
        if is_full {
            self.hand_over()?;
        }
        let mut chunks = self.chunks();
        if let Some(mut spare) = chunks.free.pop() {
            spare.set_length(buffer.len());
            chunks.newest += 1;
            let sent = (chunks.newest, std::mem::replace(buffer, spare));
            chunks.sent.push_back(sent);
        }
        Ok(())
    }

    fn hand_over(&self) -> io::Result<()> {
        let newest = self.chunks().newest;
        self.link.wait_for_writes()?;
        self.note_arrived(newest);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let newest = self.chunks().newest;
        self.link.flush()?;
        self.note_arrived(newest);
        Ok(())
    }

    /// The server keeps more of the file than the machine does.
    fn forget_cached(&self) -> io::Result<()> {
        match self.link.ask(&Request::ForgetCached)? {
            Reply::Done => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn pause(&self) {
        std::thread::sleep(READ_PAUSE);
    }

    fn len(&self) -> io::Result<u64> {
        match self.link.ask(&Request::Length)? {
            Reply::Length(length) => Ok(length),
            _ => Err(unexpected()),
        }
    }

    fn fill_ahead(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        for at in (offset..end).step_by(DATA_BYTES_MAX) {
            let length = (end - at).min(DATA_BYTES_MAX as u64) as u32;
            self.link.prepare(&Request::FillAhead { offset: at, length })?;
        }
        Ok(())
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.link.prepare(&Request::Punch { offset, length })
    }

    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        let mut buffers = self.tail.begin()?;
        let first = buffers.pop();
        *self.chunks() = Chunks { free: buffers, ..Chunks::default() };
        Ok(first)
    }

    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        self.tail.left()
    }

    fn end_tail(&self) -> io::Result<()> {
        self.tail.end()
    }
}

/// The snapshot a volume falls through to, read at the server page by page, still sealed.
pub struct RemoteBase {
    link: Link,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    pages: Recent<Vec<BasePage>>,
    /// Ranges of each length, `None` where something is damaged.
    blocks: [Recent<Option<BlockSet>>; BLOCKS_AT_ONCE.len()],
}

/// What was asked for lately, by where it begins.
struct Recent<T> {
    runs: BTreeMap<u64, Arc<T>>,
    /// The oldest first.
    order: VecDeque<u64>,
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self { runs: BTreeMap::new(), order: VecDeque::new() }
    }
}

impl<T> Recent<T> {
    fn get(&self, first: u64) -> Option<Arc<T>> {
        self.runs.get(&first).cloned()
    }

    /// Forgets the oldest when there are more than `max`.
    fn keep(&mut self, first: u64, run: &Arc<T>, max: usize) {
        if self.runs.insert(first, Arc::clone(run)).is_none() {
            self.order.push_back(first);
        }
        if self.order.len() > max
            && let Some(oldest) = self.order.pop_front()
        {
            self.runs.remove(&oldest);
        }
    }
}

impl RemoteBase {
    /// The base behind a link.
    pub fn new(link: Link) -> Self {
        Self { link, cache: Mutex::default() }
    }

    fn pages(&self, first: Lba) -> Result<Arc<Vec<BasePage>>, SourceError> {
        if let Some(run) = self.cache().pages.get(first) {
            return Ok(run);
        }
        let request = Request::Base { first, count: BASE_PAGES_MAX };
        let run = match self.link.ask(&request).map_err(|error| source_error(error, first))? {
            Reply::Pages(pages) if pages.len() == BASE_PAGES_MAX as usize => Arc::new(pages),
            _ => return Err(source_error(unexpected(), first)),
        };
        self.cache().pages.keep(first, &run, BASE_RUNS_MAX);
        Ok(run)
    }

    /// What a base stores does not change, and who asks about one block goes on to the next ones. `None`
    /// when something in the range is damaged.
    fn blocks(&self, first: u64, length: usize) -> Result<Arc<Option<BlockSet>>, SourceError> {
        if let Some(known) = self.cache().blocks[length].get(first) {
            return Ok(known);
        }
        let found = match self.ask_for_blocks(first, BLOCKS_AT_ONCE[length]) {
            Ok(set) => Some(set),
            Err(SourceError::Corrupt { .. }) => None,
            Err(error) => return Err(error),
        };
        let found = Arc::new(found);
        self.cache().blocks[length].keep(first, &found, BLOCK_SETS_MAX);
        Ok(found)
    }

    fn ask_for_blocks(&self, first: u64, count: u32) -> Result<BlockSet, SourceError> {
        let failed = |error| source_error(error, first * PAGES_PER_BLOCK as u64);
        match self.link.ask(&Request::Blocks { first, count }).map_err(failed)? {
            Reply::Blocks(set) if set.is_of(count) => Ok(set),
            _ => Err(failed(unexpected())),
        }
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn source_error(error: io::Error, lba: Lba) -> SourceError {
    match error.kind() {
        io::ErrorKind::InvalidData => {
            SourceError::Corrupt { what: "the base", block: lba / PAGES_PER_BLOCK as u64 }
        }
        _ => SourceError::Unavailable { cause: Box::new(error) },
    }
}

impl BaseReader for RemoteBase {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let within = lba % u64::from(BASE_PAGES_MAX);
        Ok(self.pages(lba - within)?[within as usize].clone())
    }

    fn read_page_proven(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let reply = self.link.ask(&Request::ProvenPage { page: lba });
        match reply.map_err(|error| source_error(error, lba))? {
            Reply::Pages(pages) => match <[BasePage; 1]>::try_from(pages) {
                Ok([page]) => Ok(page),
                Err(_) => Err(source_error(unexpected(), lba)),
            },
            _ => Err(source_error(unexpected(), lba)),
        }
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        // Damage elsewhere in a range says nothing of this block.
        for (length, count) in BLOCKS_AT_ONCE.into_iter().enumerate() {
            let within = block % u64::from(count);
            if let Some(set) = self.blocks(block - within, length)?.as_ref() {
                return Ok(set.has(within as u32));
            }
        }
        Ok(self.ask_for_blocks(block, 1)?.has(0))
    }
}
