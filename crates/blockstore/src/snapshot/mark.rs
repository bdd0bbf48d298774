//! What the live roots name.

use super::Error;
use super::collect::check_wanted;
use super::node::{FAN_OUT, ROOT_ID, inner_id, leaf_id};
use super::pack::{ItemRef, PackId, PackKind};
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
    /// Marks everything below a root. Shared subtrees are read once. Ends with [`Error::Cancelled`] when
    /// it is not wanted any more: a root may take longer than whoever waits for it can.
    pub(super) fn mark(
        &mut self,
        store: &SnapshotStore,
        root: &SnapshotRoot,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        self.mark_while(store, root, is_wanted, &mut |_, _, _| {})
    }

    /// Marks as [`Marks::mark`] does, to the end; shows each item when it is marked first: what its pack
    /// holds, its number there, and the reference.
    pub(super) fn mark_with(
        &mut self,
        store: &SnapshotStore,
        root: &SnapshotRoot,
        show: &mut dyn FnMut(PackKind, u64, &ItemRef),
    ) -> Result<(), Error> {
        self.mark_while(store, root, &|| true, show)
    }

    fn mark_while(
        &mut self,
        store: &SnapshotStore,
        root: &SnapshotRoot,
        is_wanted: &dyn Fn() -> bool,
        show: &mut dyn FnMut(PackKind, u64, &ItemRef),
    ) -> Result<(), Error> {
        check_wanted(is_wanted)?;
        if !self.add(&root.record) {
            return Ok(());
        }
        show(PackKind::Nodes, ROOT_ID, &root.record);
        for (inner, child) in store.record(root)?.children {
            if !self.add(&child.node) {
                continue;
            }
            show(PackKind::Nodes, inner_id(inner), &child.node);
            for (at, leaf) in store.inner(inner, &child.node)?.iter() {
                if !self.add(&leaf.node) {
                    continue;
                }
                check_wanted(is_wanted)?;
                let number = u32::from(inner) * FAN_OUT as u32 + u32::from(*at);
                show(PackKind::Nodes, leaf_id(number), &leaf.node);
                let first = u64::from(number) * FAN_OUT as u64;
                for (at, pointer) in &store.leaf(number, &leaf.node)?.entries {
                    if self.add(&pointer.frame) {
                        show(PackKind::Frames, first + u64::from(*at), &pointer.frame);
                    }
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
