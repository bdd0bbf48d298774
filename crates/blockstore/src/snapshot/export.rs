//! Export: a cut of a live volume becomes a snapshot. It needs no data key; where that is at hand,
//! every page is opened before it is stored, and otherwise compared with what it was written in.

use super::Error;
use super::frame::Frame;
use super::node::{BLOCKS_MAX, Facts};
use super::observer::{Observer, Pace};
use super::root::{Checkpoint, SnapshotRoot};
use super::store::SnapshotStore;
use super::tree::SnapshotWriter;
use crate::page::{
    BLOCK_BYTES, BlockPages, CutPage, CutSource, KeyAtHand, KeyCheckValue, PAGES_PER_BLOCK,
    SealedPage, SourceError,
};

/// Blocks between two checkpoints, unless the caller wants otherwise: at most 512 MiB of pages
/// are stored again after a crash. Where space is short there are more checkpoints.
pub const CHECKPOINT_BLOCKS: u64 = 1024;

/// What an export starts from.
pub struct Export<'a> {
    /// What the volume held before the changes that the source lists: the snapshot that the source
    /// was opened against, or the base that the volume was created from, or neither. Pages the
    /// volume never wrote are taken from here.
    pub parent: Option<&'a SnapshotRoot>,
    /// Recognises the volume's data key.
    pub key_check: Option<KeyCheckValue>,
    /// The last checkpoint of an earlier attempt at the same cut.
    pub resume: Option<&'a Checkpoint>,
    /// Blocks between two checkpoints; [`CHECKPOINT_BLOCKS`] is sensible.
    pub checkpoint_blocks: u64,
    /// Opens the volume's pages, where it is at hand: no snapshot is made of damaged ones then.
    pub key: &'a dyn KeyAtHand,
}

/// Stores what a cut changed, and returns the snapshot of the whole.
///
/// The parent's root, or the checkpoint's, must stay among the live roots until the new root is.
///
/// # Errors
/// [`Error::Cancelled`] and [`Error::TurnOver`] when the observer says so; otherwise what reading the source or writing
/// the store gives. Repeating with the last checkpoint goes on from there.
pub fn export(
    store: &SnapshotStore,
    source: &dyn CutSource,
    job: &Export<'_>,
    observer: &dyn Observer,
) -> Result<SnapshotRoot, Error> {
    let mut writer = begin(store, source, job)?;
    let exported = write(&mut writer, store, source, job, observer);
    if exported.is_err() {
        writer.abandon([]);
    }
    exported
}

fn write(
    writer: &mut SnapshotWriter<'_>,
    store: &SnapshotStore,
    source: &dyn CutSource,
    job: &Export<'_>,
    observer: &dyn Observer,
) -> Result<SnapshotRoot, Error> {
    let from = job.resume.map_or(0, |checkpoint| checkpoint.next_block);
    let done = job.resume.map_or(0, |checkpoint| checkpoint.blocks_done);
    let mut total = 0;
    for block in source.changed_blocks() {
        total += 1;
        check_block(block?, source.volume_bytes())?;
    }
    let mut pace = Pace::new(observer, job.checkpoint_blocks, total, done);
    for block in source.changed_blocks() {
        let block = block?;
        if block < from {
            continue;
        }
        observer.admit(BLOCK_BYTES as u64);
        let pages = source.load_block(block)?;
        if !prove_block(&pages, job.key)? {
            observer.admit(source.compare_block(block)?);
        }
        export_block(store, writer, &pages)?;
        let (is_due, stops) = (pace.advance_in(store, 1)?, observer.is_turn_over());
        if is_due || stops {
            pace.checkpoint(writer.commit()?, block + 1)?;
        }
        if stops {
            return Err(Error::TurnOver);
        }
    }
    writer.commit()
}

fn begin<'a>(
    store: &'a SnapshotStore,
    source: &dyn CutSource,
    job: &Export<'_>,
) -> Result<SnapshotWriter<'a>, Error> {
    if let Some(Checkpoint { root, .. }) = job.resume {
        return SnapshotWriter::child(store, root, root.facts);
    }
    let facts = begin_facts(store, job.parent, source.volume_bytes(), job.key_check);
    match job.parent {
        None => Ok(SnapshotWriter::empty(store, facts)),
        // A frame has pages of one data key; so has a snapshot.
        Some(parent) if parent.key_check().is_some() && parent.key_check() != facts.key_check => {
            Err(Error::WrongKey)
        }
        Some(parent) => SnapshotWriter::child(store, parent, facts),
    }
}

/// The facts of a snapshot that so far equals its parent.
pub(super) fn begin_facts(
    store: &SnapshotStore,
    parent: Option<&SnapshotRoot>,
    volume_bytes: u64,
    key_check: Option<KeyCheckValue>,
) -> Facts {
    Facts {
        id: store.random(),
        series: parent.map_or_else(|| store.random(), SnapshotRoot::series),
        volume_bytes,
        key_check: key_check.or(parent.and_then(SnapshotRoot::key_check)),
        generation: parent.map_or(1, |parent| parent.generation() + 1),
        full_blocks: parent.map_or(0, SnapshotRoot::full_blocks),
        changed_blocks: 0,
    }
}

fn check_block(block: u64, volume_bytes: u64) -> Result<(), Error> {
    let blocks = volume_bytes.div_ceil(BLOCK_BYTES as u64).min(BLOCKS_MAX);
    if block < blocks { Ok(()) } else { Err(Error::BlockOutOfRange { block, blocks }) }
}

/// Refuses a block with a page that does not open; answers whether somebody has the key to say so.
fn prove_block(pages: &BlockPages, key: &dyn KeyAtHand) -> Result<bool, Error> {
    let first = pages.block * PAGES_PER_BLOCK as u64;
    let mut sealed = Vec::with_capacity(PAGES_PER_BLOCK);
    for (lba, page) in (first..).zip(&pages.pages) {
        match page {
            CutPage::Sealed(page) => sealed.push((lba, page)),
            CutPage::Zero | CutPage::Absent => {}
        }
    }
    match key.with(|key| key.prove(&sealed)) {
        Some(proofs) if proofs.contains(&false) => {
            Err(SourceError::Corrupt { what: "page", block: pages.block }.into())
        }
        proofs => Ok(proofs.is_some()),
    }
}

fn export_block(
    store: &SnapshotStore,
    writer: &mut SnapshotWriter<'_>,
    pages: &BlockPages,
) -> Result<(), Error> {
    assert_eq!(pages.pages.len(), PAGES_PER_BLOCK, "a block has one number of pages");
    let block = pages.block;
    if pages.pages.iter().all(|page| *page == CutPage::Absent) {
        return Ok(());
    }
    let falls_through = pages.pages.contains(&CutPage::Absent);
    let before = match writer.get(block)? {
        Some(pointer) if falls_through => Some(store.frame(block, &pointer.frame)?),
        _ => None,
    };
    let mut sealed: Vec<(u8, SealedPage)> = Vec::with_capacity(PAGES_PER_BLOCK);
    for (number, page) in (0u8..).zip(&pages.pages) {
        let page = match page {
            CutPage::Zero => None,
            CutPage::Sealed(page) => Some(page.clone()),
            CutPage::Absent => before.as_ref().and_then(|frame| frame.page(number)),
        };
        sealed.extend(page.map(|page| (number, page)));
    }
    if sealed.is_empty() {
        return writer.clear(block);
    }
    let frame = Frame::assemble(block, &sealed);
    if before.is_some_and(|before| before.same_pages(&frame)) {
        return Ok(());
    }
    writer.store_frame(block, &frame)
}
