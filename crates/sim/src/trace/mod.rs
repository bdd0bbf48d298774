//! Short traces, and everything that can happen to each of them.
//!
//! [`power`] cuts the power after every operation of the disk and lets a systematic family of
//! unflushed writes survive. [`kills`] ends the server alone, after every operation. [`faults`] has every single operation fail or lie.

mod faults;
mod faulty;
mod kills;
mod player;
mod power;
mod script;

pub use faults::{Effect, Fault, FaultCounts, Place, faults};
pub use kills::{KillCounts, kills};
pub use power::{PowerCounts, Wrap, power};
pub use script::{Ask, Script, random, scripts};

use crate::model::Violation;

/// A violation, and how to see it again.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The trace.
    pub script: String,
    /// What was done to it.
    pub how: String,
    /// What was wrong.
    pub violation: Violation,
}
