//! What the operations on volumes and snapshots share: shapes, look-ups, condition keys, keys.
//!
//! Nothing here acts or authorizes. A look-up answers in EC2's words, so that every operation says
//! the same of the same situation.

pub(crate) mod code;
pub(crate) mod condition;
pub(crate) mod default_encryption;
pub(crate) mod fast_restore;
pub(crate) mod find;
pub(crate) mod key;
pub(crate) mod modification;
pub(crate) mod new_snapshot;
pub(crate) mod page;
pub(crate) mod presigned;
pub(crate) mod shape;
pub(crate) mod taggable;
pub(crate) mod tagging;
pub(crate) mod tiering;
pub(crate) mod zone;

#[cfg(test)]
pub(crate) mod tests;
