//! Long work as its callers see it.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod jobs;
mod moving;
mod repacking;
mod resealing;
