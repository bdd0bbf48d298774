//! What snapshots leave free in the place they share with live volumes.
//!
//! A volume's writes were granted the room they need before they began; a snapshot can wait. So packs
//! of new snapshots are refused while they would take what volumes count on. What gives space back is
//! not: collections write, too, and little of it at a time.

use objstore::{Error, ObjectStore};
use std::io::{self, ErrorKind};

/// What has to stay free. Its methods are called from any thread, and must not block for long.
pub trait Floor: Send + Sync {
    /// Bytes that must be free afterwards.
    fn bytes(&self) -> u64;

    /// Notes that something was refused because of it.
    fn refused(&self);

    /// Notes that something was not refused.
    fn admitted(&self);
}

/// Too little would be left.
#[derive(Debug, thiserror::Error)]
#[error("of {free} bytes that are free, {floor} stay free for volumes")]
struct BelowFloor {
    free: u64,
    floor: u64,
}

/// Refuses to store so many bytes more if less than the floor would be left.
///
/// # Errors
/// One of a disk that is full ([`super::Error::is_out_of_space`]), and nothing was stored; or what
/// asking the store gives.
pub(super) fn check(
    floor: Option<&dyn Floor>,
    objects: &dyn ObjectStore,
    name: &str,
    length: usize,
) -> Result<(), Error> {
    let Some(floor) = floor else { return Ok(()) };
    let Some(free) = objects.free_bytes()? else { return Ok(()) };
    let bytes = floor.bytes();
    if free.saturating_sub(length as u64) >= bytes {
        floor.admitted();
        return Ok(());
    }
    floor.refused();
    let cause = io::Error::new(ErrorKind::StorageFull, BelowFloor { free, floor: bytes });
    Err(Error::Transient { operation: "put", name: name.to_owned(), source: cause.into() })
}
