//! What a volume goes on without: places of its disk that are damaged or cannot be read, while the rest
//! answers.

use super::Error;
use super::engine::Engine;
use crate::page::PAGE_BYTES;

impl Engine {
    /// Whether an error met while something was read says something of that place only. A disk that
    /// answers nowhere is no damage: what it holds may all be there when it is back.
    pub(super) fn is_local(&self, error: &Error) -> bool {
        match error {
            Error::Corrupt { .. } => true,
            Error::Disk { .. } => !self.failed && self.answers(),
            _ => false,
        }
    }

    /// Whether the disk can be read where every volume has something.
    pub(super) fn answers(&self) -> bool {
        self.ctx.disk.read(0, &mut [0; PAGE_BYTES]).is_ok()
    }
}
