//! The block store as the workflows use it. Nothing here needs a key but re-encryption; an export takes
//! what is at hand.

use super::BoxFuture;
use super::kms::VolumeKey;
use crate::workflow::collect::Scope;
use base::{Region, SnapshotId, VolumeId};
use blockstore::snapshot::CollectReport;
use ebs::{StorageTier, StoreKind};
use std::collections::BTreeSet;

/// What names a snapshot's blocks.
pub type Root = Vec<u8>;

/// What a volume reads where it was never written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseRoot {
    /// The blocks.
    pub root: Root,
    /// What they were called when the volume was made, if that was something else: they were sealed
    /// anew since. The volume's log knows its base by the first name.
    pub first: Option<Root>,
}

/// Why the block store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// Stored bytes are not what was stored. Trying again will not help.
    #[error("stored blocks are damaged")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The storage did not answer. Trying again may help.
    #[error("the block storage is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Volumes or snapshots have no room now. Trying again helps once there is.
    #[error("there is no room for blocks")]
    NoRoom(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The volume retains as many cuts as it can. Trying again helps once one of them is exported.
    #[error("the volume retains too many cuts")]
    TooManyCuts(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The machine that has the volume open did not answer in time. Trying again helps once it does, or the
    /// volume is closed.
    #[error("the machine that has the volume open did not answer in time")]
    Silent(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The work stopped at a checkpoint because others wait ([`Watch::is_turn_over`]). It goes on from there.
    #[error("others wait for the place of this work")]
    TurnOver,
}

impl BlockError {
    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Damaged(_) => false,
            Self::Unavailable(_)
            | Self::NoRoom(_)
            | Self::TooManyCuts(_)
            | Self::Silent(_)
            | Self::TurnOver => true,
        }
    }
}

/// Why several volumes were not cut together.
#[derive(Debug, thiserror::Error)]
#[error("{volume} could not be cut; no volume is")]
pub struct CutError {
    /// The volume that failed.
    pub volume: VolumeId,
    /// Why.
    #[source]
    pub cause: BlockError,
}

/// A volume, as far as its blocks are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeBlocks {
    /// Where.
    pub region: Region,
    /// Which.
    pub volume: VolumeId,
    /// Bytes in it.
    pub size_bytes: u64,
    /// What it reads where it was never written.
    pub base: Option<BaseRoot>,
}

/// A cut to be made into a snapshot.
#[derive(Debug)]
pub struct ExportCut {
    /// The volume that was cut.
    pub volume: VolumeBlocks,
    /// The snapshot the cut was made for.
    pub snapshot: SnapshotId,
    /// The root of the volume's snapshot before this one, when it still exists: only blocks changed
    /// since are written.
    pub parent_root: Option<Root>,
    /// The last checkpoint of an interrupted attempt.
    pub resume: Option<Vec<u8>>,
    /// The data key of a plain volume. With it, or with that of whoever has the volume open here, every
    /// page is opened before it is stored.
    pub plain_key: Option<VolumeKey>,
}

/// A root to be written again under another data key.
#[derive(Debug)]
pub struct Reseal {
    /// Where the blocks are.
    pub source_region: Region,
    /// Their root.
    pub source_root: Root,
    /// Their data key.
    pub source_key: VolumeKey,
    /// Where they go.
    pub target_region: Region,
    /// Their new data key.
    pub target_key: VolumeKey,
    /// The volume or snapshot the result is for; work that was interrupted goes on under this name.
    pub target_id: String,
    /// An earlier copy of the same lineage under the same target key: only the difference to it is
    /// moved.
    pub earlier: Option<EarlierReseal>,
    /// The last checkpoint of an interrupted attempt.
    pub resume: Option<Vec<u8>>,
}

/// What was resealed before, and what came of it. Both are live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarlierReseal {
    /// The root in the source region.
    pub source_root: Root,
    /// The root in the target region.
    pub target_root: Root,
}

/// A base to be sealed anew under its volume's data key.
#[derive(Debug)]
pub struct ResealBase {
    /// The volume; its base is under another data key.
    pub volume: VolumeBlocks,
    /// The base's data key.
    pub base_key: VolumeKey,
    /// The volume's data key.
    pub volume_key: VolumeKey,
    /// MiB of snapshot data per second, if the volume's user asked for a rate.
    pub rate_mib: Option<u32>,
    /// The last checkpoint of an earlier call.
    pub resume: Option<Vec<u8>>,
}

/// How far a base has been sealed anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resealed {
    /// All of it.
    Wholly(Stored),
    /// Others shall have their turn; the work goes on from the last checkpoint.
    UpTo {
        /// Percent done.
        percent: u8,
    },
}

/// A snapshot to be moved to the other tier: written whole there, and read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repack {
    /// Where.
    pub region: Region,
    /// The snapshot, in the tier it comes from.
    pub root: Root,
    /// The tier it goes to.
    pub to: StorageTier,
    /// The last checkpoint of an earlier call.
    pub resume: Option<Vec<u8>>,
}

/// How far a snapshot has been moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repacked {
    /// All of it is there, and proven.
    Wholly(Stored),
    /// Others shall have their turn; the work goes on from the last checkpoint.
    InPart,
}

/// A snapshot to be written whole once more, beside the live volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinTwin {
    /// Where.
    pub region: Region,
    /// The snapshot, in the standard tier.
    pub root: Root,
    /// The last checkpoint of an earlier call.
    pub resume: Option<Vec<u8>>,
}

/// How far a twin has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pinned {
    /// All of it is there, and proven.
    Wholly(Stored),
    /// Others shall have their turn; the work goes on from the last checkpoint.
    InPart,
    /// There is not enough space for it.
    NoRoom,
}

/// How far interrupted work had come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What [`ExportCut::resume`], [`Reseal::resume`], [`Repack::resume`] and [`PinTwin::resume`] take.
    pub state: Vec<u8>,
    /// The part that is stored already; live until the work ends.
    pub root: Root,
}

/// A volume to be filled with what it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillVolume {
    /// The volume; it has a base.
    pub volume: VolumeBlocks,
    /// MiB of snapshot data per second, if its user asked for a rate.
    pub rate_mib: Option<u32>,
    /// The blocks that earlier volumes of the snapshot wanted first, as it was written down. What was
    /// seen since comes after them.
    pub first_touches: Vec<u64>,
    /// What the last call left to go on from.
    pub resume: Option<Vec<u8>>,
}

/// How far a volume has been filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filled {
    /// Every block of the base is here and was found sound.
    Wholly,
    /// Others shall have their turn.
    UpTo {
        /// What the next call takes.
        resume: Vec<u8>,
        /// Percent done.
        percent: u8,
    },
}

/// Told how the work goes, from the threads that do it.
pub trait Watch: Send + Sync {
    /// Whether the work should go on. Cheap.
    fn is_wanted(&self) -> bool;

    /// Whether others wait, so that the work should stop at a checkpoint, of which nothing is done twice, with
    /// [`BlockError::TurnOver`].
    fn is_turn_over(&self) -> bool {
        false
    }

    /// Percent done. Cheap.
    fn progress(&self, percent: u8);

    /// Keeps a checkpoint, durably.
    ///
    /// # Errors
    /// When it could not be kept; the work then stops.
    fn checkpoint(&self, saved: Saved) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;
}

/// Blocks that are complete and durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Their root.
    pub root: Root,
    /// Bytes of all blocks the root reaches.
    pub full_bytes: u64,
}

/// Where to look for unused blocks.
#[derive(Clone, Debug)]
pub struct Collection {
    /// In which store.
    pub store: StoreKind,
    /// How thoroughly: only at what the deleted roots had, and what earlier ones left, or everywhere.
    pub scope: Scope,
    /// Roots that were deleted and not looked at since. A look everywhere leaves what they had.
    pub deleted: Vec<Root>,
    /// Every root of the store that is not to be touched.
    pub live_roots: BTreeSet<Root>,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Collected {
    /// In figures.
    pub report: CollectReport,
    /// Deleted roots that need not be named again.
    pub settled: Vec<Root>,
}

/// The block store.
pub trait Blocks: Send + Sync {
    /// Makes a new volume, which is all base. Repeating it changes nothing. No other call makes one: a
    /// volume that is not there then was lost.
    fn make_volume<'a>(&'a self, volume: &'a VolumeBlocks)
    -> BoxFuture<'a, Result<(), BlockError>>;

    /// Fixes the volume's present content for a snapshot. Durable and independent of the volume's
    /// size; the volume may be open or not. Repeating it for one snapshot changes nothing.
    fn cut<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
        snapshot: &'a SnapshotId,
    ) -> BoxFuture<'a, Result<(), BlockError>>;

    /// Fixes the present content of several volumes of one region for one snapshot each, at one
    /// moment: what any of them acknowledged before is in, and nothing that was written because of
    /// something that is not (spec "CreateSnapshots", one write barrier). All are cut or none. Repeating
    /// it for the same snapshots changes nothing once all cuts are there, and otherwise cuts all of
    /// them anew.
    fn cut_many<'a>(
        &'a self,
        region: &'a Region,
        members: &'a [(VolumeBlocks, SnapshotId)],
    ) -> BoxFuture<'a, Result<(), CutError>>;

    /// Makes a volume larger; the new part reads as zeros. The volume may be open or not, and whoever
    /// has it attached sees it grow. A volume that is as large already stays as it is.
    fn resize<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
        size_bytes: u64,
    ) -> BoxFuture<'a, Result<(), BlockError>>;

    /// Writes a cut out as a snapshot. May be repeated. A page that is found damaged ends it.
    fn export<'a>(
        &'a self,
        export: &'a ExportCut,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Stored, BlockError>>;

    /// Lets go of a cut that was exported, or will never be.
    fn release_cut<'a>(
        &'a self,
        volume: &'a VolumeBlocks,
        snapshot: &'a SnapshotId,
    ) -> BoxFuture<'a, Result<(), BlockError>>;

    /// Opens every block of a root and seals it again under another data key. May be repeated.
    fn reseal<'a>(
        &'a self,
        reseal: &'a Reseal,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Stored, BlockError>>;

    /// Fills a volume from its base for a few seconds. Blocks are read and proven, and copied into the
    /// volume when it is open with its data key. May be repeated.
    fn fill_volume<'a>(
        &'a self,
        fill: &'a FillVolume,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Filled, BlockError>>;

    /// Seals a volume's base anew for a few seconds, as the root of a snapshot of its own. The volume
    /// reads its old base meanwhile. May be repeated.
    fn reseal_base<'a>(
        &'a self,
        reseal: &'a ResealBase,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Resealed, BlockError>>;

    /// Has whoever has the volume open read its base from this root from now on, and forget the data key
    /// of what it was. Nothing is to be done for a volume that is not open.
    fn switch_base<'a>(&'a self, volume: &'a VolumeBlocks)
    -> BoxFuture<'a, Result<(), BlockError>>;

    /// Writes a snapshot whole into the other tier for a few seconds, and reads back what was written.
    /// No data key is needed, and the source stays as it is. May be repeated.
    fn repack<'a>(
        &'a self,
        repack: &'a Repack,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Repacked, BlockError>>;

    /// Makes a snapshot's twin for a few seconds, and reads back what was written. No data key is needed,
    /// and the snapshot stays as it is. May be repeated.
    fn pin_twin<'a>(
        &'a self,
        pin: &'a PinTwin,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Pinned, BlockError>>;

    /// Removes a volume's own blocks. Removing what is gone succeeds.
    fn remove_volume<'a>(
        &'a self,
        region: &'a Region,
        volume: &'a VolumeId,
    ) -> BoxFuture<'a, Result<(), BlockError>>;

    /// The snapshots whose uploads hold on to what they wrote.
    fn uploads<'a>(
        &'a self,
        region: &'a Region,
    ) -> BoxFuture<'a, Result<Vec<SnapshotId>, BlockError>>;

    /// Lets go of the blocks put for a snapshot that is complete, failed or deleted: from then on
    /// they live only as long as a root reaches them. Letting go of what is gone succeeds.
    fn release_upload<'a>(
        &'a self,
        region: &'a Region,
        snapshot: &'a SnapshotId,
    ) -> BoxFuture<'a, Result<(), BlockError>>;

    /// Gives back what none of the live roots of a region reaches. May be repeated.
    fn collect<'a>(
        &'a self,
        region: &'a Region,
        collection: Collection,
        watch: &'a dyn Watch,
    ) -> BoxFuture<'a, Result<Collected, BlockError>>;

    /// How long something must be known to be unused before it is deleted.
    fn grace_seconds(&self) -> i64;
}
