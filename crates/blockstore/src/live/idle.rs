//! What a volume does when nobody asks it for anything for a while.
//!
//! What was overwritten or discarded is given back by the next checkpoint, and a checkpoint is due by how
//! much was written. A guest that falls silent before that would keep what it gave up for as long as it
//! stays silent. So one more is made then, if it is worth it; after that nothing is, until the guest has
//! changed as much again.

use super::Error;
use super::engine::Engine;

impl Engine {
    /// Whether so much was written or discarded since the last checkpoint that another one may give a
    /// segment back.
    pub fn is_rest_worth(&self) -> bool {
        let changed = self.active.zeroed_pages + self.active.stored_pages;
        let segment = u64::from(self.ctx.geometry.segment_pages);
        !self.failed && self.frozen.is_empty() && changed >= segment
    }

    /// Begins a checkpoint if it is worth it. [`Engine::maintain`] goes on with it.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn rest(&mut self) -> Result<(), Error> {
        if self.is_rest_worth() { self.mutate(|engine| engine.freeze(None)) } else { Ok(()) }
    }
}
