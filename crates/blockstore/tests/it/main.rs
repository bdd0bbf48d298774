//! Volumes as the rest of the program uses them: through the store, with files and threads.

mod store;
mod tamper;
