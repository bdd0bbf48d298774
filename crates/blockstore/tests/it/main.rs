//! Volumes as the rest of the program uses them: through the store, with files and threads.

#![expect(clippy::unwrap_used, reason = "in tests, outside of test functions too")]

mod changes;
mod check;
mod disk;
mod lending;
mod order;
mod port;
mod space;
mod store;
mod table;
mod tail;
mod tamper;
mod together;
