//! What operations and clients see of the protocols.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod audit;
mod derive;
mod errors;
mod golden;
mod hostile;
mod model;
mod round_trip;
mod routing;
mod shapes;
