//! Snapshots: frames in packs, manifests over them, and all that is done with both.
//!
//! A [`SnapshotRoot`] is a small value that proves a tree of manifest nodes, which prove frames,
//! which hold the sealed pages of 512 KiB blocks. Everything in the store is immutable; snapshots
//! share what they have in common.
//!
//! Invariants:
//! - A root is returned only when all it names is durable.
//! - Nothing but [`SnapshotReader::read_block`], [`DirectSession`], [`copy`] under a new key and
//!   [`verify`] with a key needs a data key: listing, comparing, export and collection do not.
//! - Whatever was changed in the store is an error, never data: tags lead from the root to every
//!   byte. A store that loses objects, or gives back old ones, is noticed.
//! - Nothing is deleted that a live root names; nothing is deleted after a failed read.
//!
//! It knows no snapshot ids, accounts or KMS keys, and keeps no record of which roots are alive.

mod archive;
mod check;
mod codec;
mod collect;
mod copy;
mod direct;
mod error;
mod export;
mod floor;
mod frame;
#[doc(hidden)]
pub mod fuzzing;
mod ledger;
mod mark;
mod movers;
mod node;
mod nominate;
mod observer;
mod pack;
mod reader;
mod repair;
mod reseal;
mod room;
mod root;
mod store;
mod touch;
mod tree;
mod twin;
mod verify;
mod walk;

#[cfg(test)]
mod tests;

pub use archive::{RepackJob, repack};
pub use check::{PackCheck, PackScope, SnapshotCheck, SnapshotChecker};
pub use collect::{CollectPolicy, CollectReport, collect, collect_while};
pub use copy::{CopyJob, CopyKeys, EarlierCopy, copy};
pub use direct::{
    AggregateCheck, Announced, DirectSession, SESSION_NAME_BYTES_MAX, SessionSpec, linear_checksum,
    list_sessions, release_session,
};
pub use error::Error;
pub use export::{CHECKPOINT_BLOCKS, Export, export};
pub use floor::Floor;
pub use frame::{Digest, PlainBlock};
pub use nominate::{Nominated, collect_nominated, collect_nominated_while};
pub use observer::{Observer, Unobserved};
pub use reader::{
    BlockList, ChangedBlock, ContentId, LIST_BLOCKS_MAX, ListedBlock, SnapshotReader,
};
pub use repair::{Repair, repair};
pub use root::{Checkpoint, SnapshotRoot};
pub use store::SnapshotStore;
pub use touch::{TOUCHES_MAX, merge_touches, unrecorded};
pub use twin::TwinReader;
pub use verify::{VerifyReport, verify};
