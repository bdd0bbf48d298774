//! Filling a volume from its base: where it stands, and a turn of it.
//!
//! A turn reads blocks in the order in which earlier volumes of the same snapshot first wanted them,
//! then from the front, several at a time. Each is proven by its tag, without any key. A volume that
//! is open with its data key gets copies of its own; one that is not goes on reading through to the
//! base, which is on this server.

use crate::cells::Cell;
use crate::fair::Share;
use crate::port::blocks::{BlockError, Filled, Watch};
use base::VolumeId;
use blockstore::live::VOLUME_BYTES_MAX;
use blockstore::page::BLOCK_BYTES;
use blockstore::snapshot::{self, SnapshotReader, SnapshotRoot, merge_touches, unrecorded};
use blockstore::store::StoreError;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// How long a turn lasts. Jobs that wait meanwhile wait no longer than this for their own.
const TURN: Duration = Duration::from_secs(2);
/// Blocks read ahead of the copying: 8 MiB.
const READ_AHEAD_BLOCKS: usize = 16;
/// Threads that read.
const READERS: usize = 2;
/// A volume gets copies only while so many times the snapshot is free: they are a convenience, and
/// must not be what fills the disk.
const FREE_FACTOR: u64 = 2;

/// Version 1 did not say which order it was of, and may have left blocks out below `next`.
const STATE_VERSION: u8 = 2;
/// Blocks of the largest volume.
const BLOCKS_MAX: u64 = VOLUME_BYTES_MAX / BLOCK_BYTES as u64;
const STATE_BYTES: usize = 1 + 4 * 8;

/// Where a filling stands. Every block below `next` is done, and so are the first `touched` of the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FillState {
    /// Blocks done out of the recorded order.
    touched: u64,
    /// Digest of those. The end of the order is in memory alone for a while: a process that is killed
    /// takes it along, and later touches come in its place.
    order: u64,
    /// The next block of the walk from the front.
    next: u64,
    /// Blocks done.
    done: u64,
}

impl Default for FillState {
    fn default() -> Self {
        Self { touched: 0, order: digest(&[]), next: 0, done: 0 }
    }
}

impl FillState {
    fn encode(self) -> Vec<u8> {
        let mut bytes = vec![STATE_VERSION];
        for field in [self.touched, self.next, self.done, self.order] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// A state that cannot be read is none: the work begins again, which harms nothing.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, fields) = bytes.split_first()?;
        let mut fields = fields.as_chunks::<8>().0.iter().map(|field| u64::from_le_bytes(*field));
        let mut field = || fields.next();
        let (touched, next, done) = (field()?, field()?, field()?);
        // No volume has so many blocks; counting on from there could overflow.
        if [touched, next, done].iter().any(|blocks| *blocks > BLOCKS_MAX) {
            return None;
        }
        let is_known = *version == STATE_VERSION && bytes.len() == STATE_BYTES;
        if is_known { Some(Self { touched, order: field()?, next, done }) } else { None }
    }

    /// Goes on with the order as it is now.
    fn following(self, order: &[u64]) -> Self {
        let touched = usize::try_from(self.touched).unwrap_or(usize::MAX);
        match order.get(..touched) {
            Some(done) if digest(done) == self.order => self,
            Some(_) | None => self.with_the_order_again(),
        }
    }

    fn with_the_order_again(self) -> Self {
        let done = self.done.saturating_sub(self.touched);
        Self { next: self.next, done, ..Self::default() }
    }

    /// Notes that the first `touched` blocks of the order are done.
    fn set_touched(&mut self, order: &[u64], touched: usize) {
        self.touched = touched as u64;
        self.order = digest(&order[..touched]);
    }

    fn percent(self, total: u64) -> u8 {
        let percent = (self.done * 100).checked_div(total).unwrap_or(100);
        // 100 is said by who writes the end.
        u8::try_from(percent.min(99)).expect("at most 99")
    }
}

/// Tells orders apart.
fn digest(order: &[u64]) -> u64 {
    let bytes: Vec<u8> = order.iter().flat_map(|block| block.to_le_bytes()).collect();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let (first, _) = digest.as_ref().split_first_chunk().expect("32 bytes begin with eight");
    u64::from_le_bytes(*first)
}

/// One volume's filling.
pub(crate) struct Filling<'a> {
    pub(crate) cell: &'a Cell,
    pub(crate) volume: &'a VolumeId,
    pub(crate) root: &'a SnapshotRoot,
    /// What earlier volumes wanted first, as it was written down.
    pub(crate) first: &'a [u64],
    pub(crate) share: &'a Share<'a>,
    pub(crate) watch: &'a dyn Watch,
}

impl Filling<'_> {
    /// Fills for as long as a turn lasts.
    pub(crate) fn turn(&self, resume: Option<&[u8]>) -> Result<Filled, BlockError> {
        let reader = SnapshotReader::open(&self.cell.snapshots, self.root).map_err(failed)?;
        let order = merge_touches(self.first, &self.cell.snapshots.first_touches(self.root));
        let mut state = resume.and_then(FillState::decode).unwrap_or_default().following(&order);
        let touched: HashSet<u64> = order.iter().copied().collect();
        let mut at = usize::try_from(state.touched).expect("it is a place in the order");
        let begun = Instant::now();
        while begun.elapsed() < TURN && self.watch.is_wanted() {
            let blocks = match &order[at..] {
                left if !left.is_empty() => {
                    let blocks = &left[..left.len().min(READ_AHEAD_BLOCKS)];
                    at += blocks.len();
                    blocks.to_vec()
                }
                // All of the order is done.
                _ => {
                    let listed = reader.list_blocks(state.next, READ_AHEAD_BLOCKS);
                    let listed = listed.map_err(failed)?;
                    let Some(last) = listed.blocks.last() else { return Ok(Filled::Wholly) };
                    state.next = last.index + 1;
                    let blocks = listed.blocks.iter().map(|block| block.index);
                    blocks.filter(|block| !touched.contains(block)).collect()
                }
            };
            self.fill(&reader, &blocks)?;
            state.done += blocks.len() as u64;
        }
        state.set_touched(&order, at);
        let percent = state.percent(self.root.full_blocks());
        Ok(Filled::UpTo { resume: state.encode(), percent })
    }

    fn fill(&self, reader: &SnapshotReader, blocks: &[u64]) -> Result<(), BlockError> {
        let is_wanted = || self.watch.is_wanted();
        self.share.admit((blocks.len() * BLOCK_BYTES) as u64, &is_wanted);
        reader.check_blocks(blocks, READERS).map_err(failed)?;
        blocks.iter().try_for_each(|block| self.copy(*block)).map_err(crate::cells::of_store)
    }

    /// Copies a block into the volume, if that is possible now.
    fn copy(&self, block: u64) -> Result<(), StoreError> {
        let live = &self.cell.live;
        let wanted = self.root.full_bytes().saturating_mul(FREE_FACTOR);
        if !live.is_open(self.volume) || live.free_bytes()? < wanted {
            return Ok(());
        }
        let copied = live.with_open(self.volume, move |engine| {
            if engine.is_unlocked() && engine.base_id().is_some() {
                unrecorded(|| engine.hydrate(block))?;
            }
            Ok(())
        });
        match copied {
            // It was closed meanwhile.
            Ok(_) | Err(StoreError::Closed { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn failed(error: snapshot::Error) -> BlockError {
    crate::cells::of_snapshot(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fuzz::target!(
        /// Whatever a volume's row holds is a state to go on from, or none; and is written as it was read.
        states,
        vec![
            FillState { touched: 1, order: 4, next: 2, done: 3 }.encode(),
            vec![0xff; STATE_BYTES],
        ],
        |bytes: &[u8]| {
            if let Some(state) = FillState::decode(bytes) {
                assert_eq!(state.encode(), bytes);
                assert!(state.percent(state.next) <= 99);
            }
        }
    );

    #[test]
    fn states_survive_and_strangers_begin_again() {
        let state = FillState { touched: 3, order: u64::MAX, next: 1 << 27, done: 77 };
        assert_eq!(FillState::decode(&state.encode()), Some(state));
        assert_eq!(state.percent(100), 77);
        assert_eq!(state.percent(77), 99);
        let beyond = FillState { next: BLOCKS_MAX + 1, ..state };
        assert_eq!(FillState::decode(&beyond.encode()), None);
        assert_eq!(FillState::decode(&[]), None);
        assert_eq!(FillState::decode(&[3; STATE_BYTES]), None);
        assert_eq!(FillState::decode(&state.encode()[..STATE_BYTES - 1]), None);
        // What the release before wrote.
        let fields = [2_u64, 16, 18].map(u64::to_le_bytes);
        assert_eq!(FillState::decode(&[&[1], fields.as_flattened()].concat()), None);
    }

    #[test]
    fn a_state_of_another_order_begins_the_order_again_and_goes_on_with_the_walk() {
        let mut state = FillState { next: 16, done: 18, ..FillState::default() };
        state.set_touched(&[3, 19], 2);
        assert_eq!(state.following(&[3, 19, 40]), state);
        let again = FillState { next: 16, done: 16, ..FillState::default() };
        for other in [&[][..], &[3], &[3, 17], &[19, 3]] {
            assert_eq!(state.following(other), again, "{other:?}");
        }
        assert_eq!(again.following(&[3, 17]), again);
    }
}
