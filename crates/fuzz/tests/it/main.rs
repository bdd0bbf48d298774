//! The fuzz targets; how to run them is in the crate's documentation.

mod edits;
mod keys;
mod nbd;
mod policies;
mod requests;
mod signatures;
mod snapshots;
mod tokens;
mod vhost_user;
mod volumes;
