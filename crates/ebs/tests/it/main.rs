//! The rows of `ebs` on a database in memory.

mod rows;
