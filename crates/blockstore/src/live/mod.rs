//! A live volume: a log of sealed pages under a copy-on-write authenticated map, in one file.
//!
//! Invariants:
//! - What a flush acknowledged survives a power cut. What was not flushed may be lost, but what
//!   survives is a prefix of the chunks in the order they were sealed.
//! - Every page and every piece of structure is authenticated where it is read; anything damaged,
//!   moved or stale is an error, never data.
//! - What was answered and not flushed survives the end of the process, where the disk has a
//!   tail: only a power cut takes it.
//! - A segment is written by one incarnation only: after any restart a new segment is opened with
//!   a new random salt, so no nonce is ever used twice.
//! - Everything but the content of pages works with the structure key alone: replay, checkpoints,
//!   cuts, export, and giving back dead segments.
//!
//! It knows no threads and no clock: an [`Engine`] does what it is called for and nothing else.
//! [`crate::store`] gives each engine the thread that owns it.

mod ahead;
mod aligned;
mod cache;
mod check;
mod checkpoint;
mod clean;
mod codec;
mod cold;
mod cut;
mod damage;
mod delta;
mod dirty;
mod disk;
mod dropping;
mod engine;
mod error;
mod file;
#[doc(hidden)]
pub mod fuzzing;
mod hydrate;
mod idle;
mod io;
mod layout;
mod lifetimes;
mod locked;
mod log;
mod map;
mod order;
mod page_cache;
mod pin;
mod plan;
mod port;
mod reactor;
mod recover;
mod region;
mod release;
mod ring;
mod run;
mod segment;
mod settled;
mod space;
mod superblock;
mod survivors;
mod tail;
#[cfg(test)]
mod tests;
mod writes;

pub use aligned::AlignedBuffer;
pub use check::{CheckReport, Corrections, InspectJob, VolumeReport, inspect};
pub use clean::CleanReport;
pub use cut::{CutInfo, CutReader, read_cut};
pub use dirty::{ChangeState, Stretch};
pub use disk::{Disk, READ_PAUSE, ReadDone, ReadJob, ReadPart};
pub use dropping::Dropped;
pub use engine::{Base, Engine, Memory, OpenOptions, Usage, VolumeOptions};
pub use error::Error;
pub use file::{FileDisk, IoMode};
pub use io::{Extent, ExtentState};
pub use layout::{CUTS_MAX, EngineConfig, VOLUME_BYTES_MAX};
pub use pin::{Hold, Pin};
pub use plan::{MapPage, Misses, Planned, ReadPlan};
pub use port::{Awaited, PORT_FILES_MAX, Port};
pub(crate) use region::prefer_large_pages;
pub use space::{Need, Space};
pub use superblock::CutId;
pub(crate) use superblock::last_writer;
pub use tail::{MemoryTail, TailFile};

use engine::Context;
