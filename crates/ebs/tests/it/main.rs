//! The rows of `ebs` on a database in memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod rows;
