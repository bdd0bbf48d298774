//! Whether a disk is full, whoever says so.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Whether an error, or one that it comes from, is that of a file system without space.
pub(crate) fn says_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let own = error.downcast_ref::<io::Error>();
        let shared = error.downcast_ref::<Arc<io::Error>>().map(|shared| &**shared);
        let kind = own.or(shared).map(io::Error::kind);
        if matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded)) {
            return true;
        }
        next = error.source();
    }
    false
}
