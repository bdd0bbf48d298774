//! Reading a snapshot: its list of blocks, its blocks, its pages.

use super::Error;
use super::frame::{Digest, Frame, FrameError, PlainBlock};
use super::node::{BLOCKS_MAX, Pointer, RootRecord};
use super::pack::{ItemRef, PackId};
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, corrupt};
use super::walk::{differences, lookup};
use crate::page::{BasePage, BaseReader, DataKey, Lba, PAGES_PER_BLOCK, SourceError};
use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex};

/// The most blocks one page of a listing has (EBS direct APIs, `MaxResults`).
pub const LIST_BLOCKS_MAX: usize = 10_000;
/// Frames a reader keeps: neighbours of a page are likely to be read next. At most 4 MiB.
const CACHED_FRAMES_MAX: usize = 8;

/// Names the content of a block: two blocks with equal ids have equal content. Reveals nothing
/// about the content, and is not a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentId {
    pack: PackId,
    slot: u8,
}

impl ContentId {
    /// The form to put into tokens.
    pub fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[..16].copy_from_slice(&self.pack.0);
        bytes[16] = self.slot;
        bytes
    }

    /// The inverse of [`ContentId::to_bytes`]. Any bytes are an id, if of nothing that exists.
    pub fn from_bytes(bytes: &[u8; 17]) -> Self {
        let mut pack = [0; 16];
        pack.copy_from_slice(&bytes[..16]);
        Self { pack: PackId(pack), slot: bytes[16] }
    }

    fn of(item: &ItemRef) -> Self {
        Self { pack: item.pack, slot: item.slot }
    }
}

/// A block that a snapshot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedBlock {
    /// Its number: byte offset divided by 524,288.
    pub index: u64,
    /// What it holds.
    pub content: ContentId,
}

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockList {
    /// Ascending.
    pub blocks: Vec<ListedBlock>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<u64>,
}

/// A block that two snapshots hold differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChangedBlock {
    /// Its number.
    pub index: u64,
    /// What the first snapshot holds there, if anything.
    pub first: Option<ContentId>,
    /// What the second snapshot holds there, if anything.
    pub second: Option<ContentId>,
}

/// An open snapshot. Needs no data key but for plaintext.
pub struct SnapshotReader {
    store: SnapshotStore,
    root: SnapshotRoot,
    record: RootRecord,
    frames: Mutex<VecDeque<(u64, Arc<Frame>)>>,
}

impl SnapshotReader {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// When its root record cannot be read or is not the one that `root` names.
    pub fn open(store: &SnapshotStore, root: &SnapshotRoot) -> Result<Self, Error> {
        let record = store.record(root)?;
        Ok(Self { store: store.clone(), root: *root, record, frames: Mutex::default() })
    }

    /// The snapshot this reads.
    pub fn root(&self) -> &SnapshotRoot {
        &self.root
    }

    /// Bytes that the snapshot's blocks take where they are stored.
    ///
    /// # Errors
    /// When a manifest node cannot be read.
    pub fn stored_bytes(&self) -> Result<u64, Error> {
        let (mut bytes, all) = (0, 0..BLOCKS_MAX);
        differences(&self.store, None, Some(&self.record), all, &mut |_, _, pointer| {
            bytes += pointer.map_or(0, |pointer| u64::from(pointer.frame.length));
            ControlFlow::Continue(())
        })?;
        Ok(bytes)
    }

    /// At most `limit` (and [`LIST_BLOCKS_MAX`]) blocks from `start` on.
    ///
    /// # Errors
    /// When a manifest node cannot be read.
    pub fn list_blocks(&self, start: u64, limit: usize) -> Result<BlockList, Error> {
        let limit = limit.min(LIST_BLOCKS_MAX);
        let (mut blocks, mut next) = (Vec::new(), None);
        let all = start..BLOCKS_MAX;
        differences(&self.store, None, Some(&self.record), all, &mut |index, _, pointer| {
            if blocks.len() == limit {
                next = Some(index);
                return ControlFlow::Break(());
            }
            let content = pointer.map(|pointer| ContentId::of(&pointer.frame));
            blocks.extend(content.map(|content| ListedBlock { index, content }));
            ControlFlow::Continue(())
        })?;
        Ok(BlockList { blocks, next })
    }

    /// The first block at or after `start` that the snapshot holds.
    ///
    /// # Errors
    /// When a manifest node cannot be read.
    pub fn next_block(&self, start: u64) -> Result<Option<u64>, Error> {
        Ok(self.list_blocks(start, 1)?.blocks.first().map(|block| block.index))
    }

    /// Blocks in `range` that differ between `first` and this snapshot, ascending, at most
    /// [`LIST_BLOCKS_MAX`]; the second value is where to go on if there are more. Without `first`,
    /// the blocks this snapshot holds. May name a block whose content is equal, never leaves out
    /// one that differs: of snapshots of different [series](SnapshotRoot::series) it names all.
    ///
    /// # Errors
    /// When a manifest node cannot be read.
    pub fn changed_blocks(
        &self,
        first: Option<&Self>,
        range: Range<u64>,
    ) -> Result<(Vec<ChangedBlock>, Option<u64>), Error> {
        let (mut changed, mut next) = (Vec::new(), None);
        let content = |pointer: Option<Pointer>| pointer.map(|p| ContentId::of(&p.frame));
        let (a, b) = (first.map(|first| &first.record), Some(&self.record));
        differences(&self.store, a, b, range, &mut |index, first, second| {
            if changed.len() == LIST_BLOCKS_MAX {
                next = Some(index);
                return ControlFlow::Break(());
            }
            let (first, second) = (content(first), content(second));
            changed.push(ChangedBlock { index, first, second });
            ControlFlow::Continue(())
        })?;
        Ok((changed, next))
    }

    /// What the snapshot holds at a block.
    ///
    /// # Errors
    /// [`Error::BlockOutOfRange`], or when a manifest node cannot be read.
    pub fn content(&self, index: u64) -> Result<Option<ContentId>, Error> {
        Ok(self.pointer(index)?.map(|pointer| ContentId::of(&pointer.frame)))
    }

    /// A block in plaintext; `None` when the snapshot does not hold it, which means zeros. Pages
    /// that a held block lacks are zeros too.
    ///
    /// # Errors
    /// [`Error::WrongKey`], [`Error::Corrupt`] and what reading gives.
    pub fn read_block(&self, index: u64, key: &DataKey) -> Result<Option<PlainBlock>, Error> {
        self.check_key(key)?;
        let Some(pointer) = self.pointer(index)? else { return Ok(None) };
        let frame = self.store.frame(index, &pointer.frame)?;
        open_frame(&frame, key, &pointer.frame).map(Some)
    }

    /// The digest recorded when the block was stored, if one was.
    ///
    /// # Errors
    /// As [`SnapshotReader::read_block`].
    pub fn read_digest(&self, index: u64, key: &DataKey) -> Result<Option<Digest>, Error> {
        self.check_key(key)?;
        let Some(pointer) = self.pointer(index)? else { return Ok(None) };
        let frame = self.store.frame(index, &pointer.frame)?;
        frame.open_digest(key).map_err(|_| corrupt("digest", &pointer.frame))
    }

    /// Reads blocks from the store and proves that they are what was stored, without a data key, on
    /// up to `threads` threads.
    ///
    /// # Errors
    /// When a block cannot be read or is damaged.
    pub fn check_blocks(&self, blocks: &[u64], threads: usize) -> Result<(), Error> {
        let check = |index: &u64| match self.pointer(*index)? {
            Some(pointer) => self.store.frame(*index, &pointer.frame).map(drop),
            None => Ok(()),
        };
        let share = blocks.len().div_ceil(threads.max(1)).max(1);
        std::thread::scope(|scope| {
            let part = |part: &[u64]| part.iter().try_for_each(check);
            let mut parts = blocks.chunks(share);
            let first = parts.next().unwrap_or_default();
            let others: Vec<_> = parts.map(|blocks| scope.spawn(move || part(blocks))).collect();
            let mut outcome = part(first);
            for other in others {
                let joined = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                outcome = outcome.and(joined);
            }
            outcome
        })
    }

    /// Whether `key` is the snapshot's data key, as far as the snapshot knows.
    ///
    /// # Errors
    /// [`Error::WrongKey`].
    pub fn check_key(&self, key: &DataKey) -> Result<(), Error> {
        self.root.check_key(key)
    }

    pub(super) fn pointer(&self, index: u64) -> Result<Option<Pointer>, Error> {
        let blocks = self.root.volume_blocks();
        if index >= blocks {
            return Err(Error::BlockOutOfRange { block: index, blocks });
        }
        lookup(&self.store, &self.record, index)
    }

    fn cached_frame(&self, index: u64) -> Result<Option<Arc<Frame>>, Error> {
        let lock = || self.frames.lock().expect("no code panics while it holds the cache");
        if let Some((_, frame)) = lock().iter().find(|(block, _)| *block == index) {
            return Ok(Some(Arc::clone(frame)));
        }
        let Some(pointer) = self.pointer(index)? else { return Ok(None) };
        self.store.touches().record(&self.root, index);
        let frame = Arc::new(self.store.frame(index, &pointer.frame)?);
        let mut frames = lock();
        if frames.len() == CACHED_FRAMES_MAX {
            frames.pop_front();
        }
        frames.push_back((index, Arc::clone(&frame)));
        Ok(Some(frame))
    }
}

/// Opens a frame read from `item`.
pub(super) fn open_frame(
    frame: &Frame,
    key: &DataKey,
    item: &ItemRef,
) -> Result<PlainBlock, Error> {
    frame.open(key).map_err(|error| open_failure(error, item))
}

pub(super) fn open_failure(error: FrameError, item: &ItemRef) -> Error {
    match error {
        FrameError::Page => corrupt("page", item),
        FrameError::Digest => corrupt("block digest", item),
    }
}

/// A snapshot as the base of a volume: whole frames are fetched, pages are given out.
impl BaseReader for SnapshotReader {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let block = lba / PAGES_PER_BLOCK as u64;
        if block >= self.root.volume_blocks() {
            return Ok(BasePage::Zero);
        }
        let frame = self.cached_frame(block).map_err(|error| source_error(error, block))?;
        let page = frame.and_then(|frame| frame.page((lba % PAGES_PER_BLOCK as u64) as u8));
        Ok(page.map_or(BasePage::Zero, BasePage::Sealed))
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        if block >= self.root.volume_blocks() {
            return Ok(false);
        }
        let found = self.pointer(block).map_err(|error| source_error(error, block))?;
        Ok(found.is_some())
    }
}

pub(super) fn source_error(error: Error, block: u64) -> SourceError {
    match error {
        Error::Corrupt { what, .. } => SourceError::Corrupt { what, block },
        Error::Missing { .. } => SourceError::Corrupt { what: "object list", block },
        error => SourceError::Unavailable { cause: Box::new(error) },
    }
}
