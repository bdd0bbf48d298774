//! The key service over rows in memory: records, ciphertexts, grants, and who may use what.

mod authorization;
mod cipher;
mod grants;
mod keys;
mod world;
