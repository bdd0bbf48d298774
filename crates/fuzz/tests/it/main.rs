//! The fuzz targets; how to run them is in the crate's documentation.

#[path = "../../../iam/tests/it/cases.rs"]
mod cases;
mod decisions;
mod edits;
mod keys;
mod nbd;
mod policies;
#[path = "../../../iam/tests/it/reference.rs"]
mod reference;
mod requests;
mod roots;
mod rows;
mod signatures;
mod snapshots;
mod tokens;
mod vhost_user;
mod volumes;
