//! Copies: the same snapshot in another store or under another data key.
//!
//! Under the same key the sealed pages are copied as they are, without any key. Under another key
//! every page is opened and sealed anew, each frame under a salt of its own; plaintext exists one
//! page per thread, where the page's ciphertext then lies.

use super::Error;
use super::export::begin_facts;
use super::movers::{Batch, Mover, Unfinished};
use super::node::{BLOCKS_MAX, RootRecord};
use super::observer::{Observer, Pace};
use super::pack::PACK_ITEMS_MAX;
use super::root::{AddedTo, Checkpoint, SnapshotRoot};
use super::store::{SnapshotStore, corrupt};
use super::tree::SnapshotWriter;
use super::walk::differences;
use crate::page::DataKey;
use std::ops::ControlFlow;

/// What happens to the pages.
pub enum CopyKeys<'a> {
    /// They stay as they are; the target has the source's data key.
    Same,
    /// They are opened with one key and sealed with the other.
    Change {
        /// The source's data key.
        source: &'a DataKey,
        /// The copy's data key.
        target: &'a DataKey,
    },
}

/// A copy made before, of which only the difference need be copied now.
pub struct EarlierCopy<'a> {
    /// What was copied; still in the source store, and of the source's series.
    pub source: &'a SnapshotRoot,
    /// What came of it, in the target store, under the same target key.
    pub copy: &'a SnapshotRoot,
}

/// What to copy, and how.
pub struct CopyJob<'a> {
    /// The snapshot to copy.
    pub source: &'a SnapshotRoot,
    /// Same key or another.
    pub keys: CopyKeys<'a>,
    /// Makes the copy incremental.
    pub earlier: Option<EarlierCopy<'a>>,
    /// The last checkpoint of an earlier attempt at the same job. One of a job that added to something
    /// else is of no use, and the copy begins anew: what was below it is not complete with this
    /// [`CopyJob::earlier`], and what is above may differ from that other.
    pub resume: Option<&'a Checkpoint>,
    /// Blocks between two checkpoints; [`CHECKPOINT_BLOCKS`](super::CHECKPOINT_BLOCKS) is sensible.
    pub checkpoint_blocks: u64,
    /// Blocks opened and sealed at a time, each on a thread of its own; with 0, one pack is made after the
    /// other and nothing beside it, which is slow and the same every time.
    pub threads: usize,
}

/// Copies a snapshot and returns the copy.
///
/// The source's root and the earlier copies' must stay live until the new root is.
///
/// # Errors
/// [`Error::WrongKey`], [`Error::Unrelated`] when the earlier copy is of another series,
/// [`Error::Cancelled`], [`Error::TurnOver`], or what reading and writing give. Repeating with the last checkpoint
/// goes on from there.
pub fn copy(
    source: &SnapshotStore,
    target: &SnapshotStore,
    job: &CopyJob<'_>,
    observer: &dyn Observer,
) -> Result<SnapshotRoot, Error> {
    check_job(job)?;
    let record = source.record(job.source)?;
    let earlier = job.earlier.as_ref().map(|earlier| source.record(earlier.source)).transpose()?;
    let added_to = AddedTo::of(job.earlier.as_ref().map(|earlier| earlier.source));
    let resume = job.resume.filter(|checkpoint| checkpoint.added_to == Some(added_to));
    let mut writer = begin(target, job, resume)?;
    let mut next = resume.map_or(0, |checkpoint| checkpoint.next_block);
    let done = resume.map_or(0, |checkpoint| checkpoint.blocks_done);
    // Counted only where it must be: the rest of a manifest may take longer to read than a turn is long.
    let total = match &earlier {
        None => job.source.full_blocks(),
        Some(_) => done + count(source, earlier.as_ref(), &record, next)?,
    };
    let mut pace = Pace::new(observer, job.checkpoint_blocks, total, done).adding_to(added_to);
    let mover = Mover { source, target, keys: &job.keys, observer };
    // A checkpoint is due no sooner than a batch is done.
    let batch_blocks = job.checkpoint_blocks.clamp(1, PACK_ITEMS_MAX as u64) as usize;
    let copied = mover.with_threads(job.threads, |movers| {
        let mut stops = false;
        loop {
            while !stops && movers.have_room() {
                stops = observer.is_turn_over();
                let batch = batch(source, earlier.as_ref(), &record, next, batch_blocks)?;
                let Some((last, _)) = batch.last() else {
                    stops = false;
                    break;
                };
                next = last + 1;
                movers.send(writer.pack_id(), batch);
            }
            let Some(moved) = movers.receive() else { break };
            let moved = moved?;
            let (count, end) = (moved.len() as u64, moved.last().map(|(block, _)| block + 1));
            for (block, item) in moved {
                match item {
                    Some(item) => writer.point(block, item)?,
                    None => writer.clear(block)?,
                }
            }
            if pace.advance_in(target, count)? {
                pace.checkpoint(writer.commit()?, end.unwrap_or(next))?;
            }
        }
        if stops {
            pace.checkpoint(writer.commit()?, next)?;
            return Err(Error::TurnOver);
        }
        let root = writer.commit()?;
        if root.full_blocks() == job.source.full_blocks() {
            Ok(root)
        } else {
            Err(corrupt("block count of a copy", &root.record))
        }
    });
    copied.map_err(|Unfinished { error, stored }| {
        writer.abandon(stored);
        error
    })
}

fn check_job(job: &CopyJob<'_>) -> Result<(), Error> {
    if let CopyKeys::Change { source, .. } = &job.keys {
        job.source.check_key(source)?;
    }
    let Some(earlier) = &job.earlier else { return Ok(()) };
    if earlier.source.series() != job.source.series() {
        return Err(Error::Unrelated);
    }
    match &job.keys {
        CopyKeys::Same if earlier.copy.key_check() != job.source.key_check() => {
            Err(Error::WrongKey)
        }
        CopyKeys::Same => Ok(()),
        CopyKeys::Change { target, .. } => earlier.copy.check_key(target),
    }
}

fn begin<'a>(
    target: &'a SnapshotStore,
    job: &CopyJob<'_>,
    resume: Option<&Checkpoint>,
) -> Result<SnapshotWriter<'a>, Error> {
    if let Some(Checkpoint { root, .. }) = resume {
        return SnapshotWriter::child(target, root, root.facts);
    }
    let key_check = match &job.keys {
        CopyKeys::Same => job.source.key_check(),
        CopyKeys::Change { target, .. } => Some(target.check_value()),
    };
    let parent = job.earlier.as_ref().map(|earlier| earlier.copy);
    let facts = begin_facts(target, parent, job.source.volume_bytes(), key_check);
    match parent {
        None => Ok(SnapshotWriter::empty(target, facts)),
        Some(parent) => SnapshotWriter::child(target, parent, facts),
    }
}

fn count(
    store: &SnapshotStore,
    earlier: Option<&RootRecord>,
    record: &RootRecord,
    from: u64,
) -> Result<u64, Error> {
    let mut count = 0;
    differences(store, earlier, Some(record), from..BLOCKS_MAX, &mut |_, _, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}

fn batch(
    store: &SnapshotStore,
    earlier: Option<&RootRecord>,
    record: &RootRecord,
    from: u64,
    blocks: usize,
) -> Result<Batch, Error> {
    let mut batch = Batch::new();
    differences(store, earlier, Some(record), from..BLOCKS_MAX, &mut |block, _, pointer| {
        batch.push((block, pointer));
        if batch.len() < blocks { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(batch)
}
