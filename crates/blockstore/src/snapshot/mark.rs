//! What the live roots name.

use super::Error;
use super::node::FAN_OUT;
use super::pack::{ItemRef, PackId};
use super::root::SnapshotRoot;
use super::store::SnapshotStore;
use std::collections::HashMap;

/// The items of a pack that are in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Live {
    /// One bit per slot.
    pub(super) slots: u64,
    /// Bytes of those items.
    pub(super) bytes: u64,
}

/// Packs in use. About 40 bytes per pack: 100 MB for 64 TiB of full packs.
#[derive(Default)]
pub(super) struct Marks(HashMap<PackId, Live>);

impl Marks {
    /// Marks everything below a root. Shared subtrees are read once.
    pub(super) fn mark(&mut self, store: &SnapshotStore, root: &SnapshotRoot) -> Result<(), Error> {
        if !self.add(&root.record) {
            return Ok(());
        }
        for (inner, child) in store.record(root)?.children {
            if !self.add(&child.node) {
                continue;
            }
            for (at, leaf) in store.inner(inner, &child.node)?.iter() {
                if !self.add(&leaf.node) {
                    continue;
                }
                let number = u32::from(inner) * FAN_OUT as u32 + u32::from(*at);
                for (_, pointer) in &store.leaf(number, &leaf.node)?.entries {
                    self.add(&pointer.frame);
                }
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, pack: PackId) -> Live {
        self.0.get(&pack).copied().unwrap_or_default()
    }

    /// Whether the item is new. A node that is not new was followed when it was.
    fn add(&mut self, item: &ItemRef) -> bool {
        let live = self.0.entry(item.pack).or_default();
        let bit = 1 << item.slot;
        let is_new = live.slots & bit == 0;
        if is_new {
            live.slots |= bit;
            live.bytes += u64::from(item.length);
        }
        is_new
    }
}
