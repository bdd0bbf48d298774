//! Typed identifiers, ARNs, time, randomness and secrets. No I/O.
//!
//! Everything that varies between two runs of the same program enters through [`Clock`] and
//! [`Rng`], so that a simulation can replay it. Strings that name resources are parsed once at the
//! edge into the types of [`id`] and [`arn`]; below the wire layer nothing handles a raw id.

pub mod arn;
mod causes;
pub mod id;
pub mod rng;
pub mod secret;
pub mod time;
pub mod turns;

pub use arn::Arn;
pub use causes::with_causes;
pub use id::{AccountId, InstanceId, ParseIdError, Region, SnapshotId, VolumeId};
pub use rng::{OsRng, Rng, SeededRng};
pub use secret::Secret;
pub use time::{Clock, ManualClock, SystemClock, Timestamp};

#[doc(hidden)]
pub use serde;

/// Bytes in one GiB, the unit of `VolumeSize` on the wire.
pub const GIB: u64 = 1 << 30;
