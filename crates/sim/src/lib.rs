//! Deterministic simulation of the data plane: a disk that loses what was not flushed, a model of
//! every content that is allowed after that, and runs that a seed replays.
//!
//! Only tests and `xtask sim` use this crate.

pub mod disk;
pub mod house;
pub mod image;
pub mod model;
pub mod run;
pub mod space;
pub mod trace;

pub use disk::{DropFlush, EarlyFlush, SimDisk};
pub use house::{HouseOutcome, HouseRun, Weather, house};
pub use model::{Model, Violation};
pub use run::{Outcome, Run, Salts, run};
