//! What a volume goes on without: places of its disk that are damaged or cannot be read, while the rest
//! answers.
//!
//! A page of the map that does not open costs what it mapped, and nothing else. When something below it
//! changes, another page is written in its place, in which everything that is not known any more is
//! marked as [`LOST`]: that reads as an error until it is written anew, never as zeros or as the base.
//! What the lost page referred to stays counted as live until a check has counted anew.
//!
//! A page is lost that is not what was written there, or that the medium itself cannot give back, however
//! often it is asked, while it gives back others. Each time it is the medium that is asked, and not what
//! memory keeps of it. After every other error of reading the engine stops: what the disk holds may all be
//! there when it is opened again.

use super::checkpoint::Parts;
use super::delta::Entry;
use super::engine::Engine;
use super::layout::{FAN_OUT, FAN_OUT_BITS, LOST, SLOT_BYTES, SLOT_COUNT};
use super::map::put_leaf_entry;
use super::superblock::{NodeRef, Root};
use super::{Context, Disk, Error};
use crate::page::{BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK, Page, Tag};
use rustix::io::Errno;
use std::sync::Arc;

/// How often a page of the map, or a superblock, is read before it is lost.
pub(super) const READS_MAX: u32 = 3;

impl Engine {
    /// Whether an error met while something was read says something of that place only. A disk that
    /// answers nowhere is no damage: what it holds may all be there when it is back.
    pub(super) fn is_local(&self, error: &Error) -> bool {
        match error {
            Error::Corrupt { .. } => true,
            Error::Disk { .. } => !self.failed && answers(&*self.ctx.disk),
            _ => false,
        }
    }
}

impl Context {
    /// What `read` finds in the end; `None` when it is lost.
    pub(super) fn unless_lost<T>(
        &self,
        read: impl FnMut() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        self.unless_refused(READS_MAX, read)
    }

    /// What `read` finds when it is tried so often; `None` when it would not be there another time either.
    fn unless_refused<T>(
        &self,
        reads_max: u32,
        read: impl FnMut() -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        match read_often(&*self.disk, reads_max, read)? {
            Found::Whole(found) => Ok(Some(found)),
            Found::Lost(error) => {
                tracing::error!(%error, "a part of a volume's map cannot be read");
                Ok(None)
            }
        }
    }
}

impl Parts<'_> {
    /// A page of the map that is to be replaced; `None` when it is lost.
    pub(super) fn read_old(
        &mut self,
        node: &NodeRef,
        level: u8,
        block: u64,
    ) -> Result<Option<Arc<Page>>, Error> {
        self.ctx.unless_lost(|| self.nodes.read(self.table, node, level, block))
    }

    /// The leaf, if there is one, of a block in which something is about to be hidden; `None` when
    /// nothing is known of it after so many reads.
    pub(super) fn read_hidden(
        &mut self,
        root: Root,
        block: u64,
        reads_max: u32,
    ) -> Result<Option<Option<Arc<Page>>>, Error> {
        self.ctx.unless_refused(reads_max, || self.nodes.leaf(self.table, root, block))
    }
}

/// What reading something that may be lost came to in the end.
pub(super) enum Found<T> {
    Whole(T),
    /// It would not be there another time either: what was said the last time.
    Lost(Error),
}

/// What `read` finds when it is tried so often.
///
/// # Errors
/// What says nothing of the place that was read.
pub(super) fn read_often<T>(
    disk: &dyn Disk,
    reads_max: u32,
    mut read: impl FnMut() -> Result<T, Error>,
) -> Result<Found<T>, Error> {
    let mut reads = 1;
    loop {
        match read() {
            Ok(found) => return Ok(Found::Whole(found)),
            Err(error) if !is_lost(disk, &error) => return Err(error),
            Err(error) if reads == reads_max => return Ok(Found::Lost(error)),
            Err(error) => {
                disk.pause();
                if disk.forget_cached().is_err() {
                    return Err(error);
                }
                reads += 1;
            }
        }
    }
}

/// Whether what was read when this was met will not be there another time.
fn is_lost(disk: &dyn Disk, error: &Error) -> bool {
    match error {
        Error::Corrupt { .. } => true,
        Error::Disk { cause, .. } => {
            // What Linux says of a sector that the medium has lost.
            cause.raw_os_error() == Some(Errno::IO.raw_os_error()) && answers(disk)
        }
        _ => false,
    }
}

/// Whether the disk can be read where every volume has something: in either slot of the superblock, as one
/// of them may be what is lost. What is cached is no answer of it.
fn answers(disk: &dyn Disk) -> bool {
    let is_read = |slot| disk.read(slot * SLOT_BYTES as u64, &mut [0; PAGE_BYTES]).is_ok();
    disk.forget_cached().is_ok() && (0..SLOT_COUNT).any(is_read)
}

/// A page in the place of one that is lost, in a map of a volume of so many bytes.
pub(super) fn lost_page(old: &NodeRef, level: u8, block: u64, volume_bytes: u64) -> Page {
    tracing::error!(location = old.location, "what a page of a volume's map said is lost");
    let mut page = [0; PAGE_BYTES];
    let (written, changed, tag) = (old.written, old.changed, Tag([0; 16]));
    if level == 0 {
        let lost = Entry { location: LOST, tag, birth: changed, written };
        let first = block * PAGES_PER_BLOCK as u64;
        let pages = (volume_bytes / PAGE_BYTES as u64).saturating_sub(first);
        let pages = PAGES_PER_BLOCK.min(pages as usize);
        (0..pages).for_each(|at| put_leaf_entry(&mut page, at, &lost));
        return page;
    }
    let lost = NodeRef { location: LOST, tag, written, changed };
    let below = FAN_OUT_BITS * u32::from(level - 1);
    let first = block >> (below + FAN_OUT_BITS) << (below + FAN_OUT_BITS);
    let end = volume_bytes.div_ceil(BLOCK_BYTES as u64);
    for slot in (0..FAN_OUT).filter(|slot| first + (slot << below) < end) {
        lost.encode(&mut page, slot as usize * NodeRef::BYTES);
    }
    page
}
