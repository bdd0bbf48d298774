//! The key service over rows in memory: records, ciphertexts, grants, and who may use what.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod authorization;
mod cipher;
mod grants;
mod keys;
mod kinds;
mod life;
mod rewrap;
mod world;
