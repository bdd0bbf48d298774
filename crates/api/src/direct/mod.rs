//! What the operations of the EBS direct APIs share (spec 03).

pub(crate) mod code;
pub(crate) mod find;
pub(crate) mod key;
pub(crate) mod list;
pub(crate) mod token;
pub(crate) mod uploads;

#[cfg(test)]
mod tests;

use crate::error::Error;

/// Bytes in a block, as replies say it.
pub(crate) const BLOCK_BYTES: i32 = blockstore::page::BLOCK_BYTES as i32;

/// Runs work on blocks, which reads files and uses the processor, off the threads that answer.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}
