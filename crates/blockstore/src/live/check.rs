//! Checking a whole volume: that everything referred to authenticates, and that the segment table
//! counts exactly what is referred to.

use super::Error;
use super::engine::Engine;
use super::layout::{FAN_OUT, FAN_OUT_BITS, Location, byte_offset};
use super::map::{Part, child, leaf_changed, leaf_entry};
use super::segment::Accounting;
use super::superblock::NodeRef;
use crate::page::{PAGE_BYTES, PAGES_PER_BLOCK, Page};
use std::collections::HashSet;

/// What a check found to be in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Map pages of all retained maps.
    pub map_pages: u64,
    /// Data pages of all retained maps.
    pub data_pages: u64,
    /// Data pages that were opened; 0 when the data key is absent.
    pub opened_pages: u64,
}

/// What a walk has seen.
#[derive(Default)]
struct Walk {
    report: CheckReport,
    seen: HashSet<Location>,
    counts: Accounting,
}

impl Engine {
    /// Reads every map page of the last checkpoint and of every retained cut, and, when the data
    /// key is present, every data page. Takes memory for one number per page.
    ///
    /// # Errors
    /// The first damage, or a segment whose count is wrong.
    pub fn check(&mut self) -> Result<CheckReport, Error> {
        let mut walk = Walk::default();
        let cuts = self.committed.cuts.iter().map(|cut| cut.root);
        let roots: Vec<_> = cuts.chain([self.committed.root]).collect();
        for root in roots {
            if let Part::Stored(node) = Part::top(root, root.height) {
                self.check_node(node, root.height, 0, &mut walk)?;
            }
        }
        self.table.count_stored(&mut walk.counts);
        self.table.check(&walk.counts)?;
        Ok(walk.report)
    }

    fn check_node(
        &mut self,
        node: NodeRef,
        level: u8,
        block: u64,
        walk: &mut Walk,
    ) -> Result<(), Error> {
        if !walk.seen.insert(node.location) {
            return Ok(());
        }
        walk.counts.count(self.ctx.geometry, node.location);
        walk.report.map_pages += 1;
        let page = self.nodes.read(&self.table, &node, level, block)?;
        let damaged = Error::corrupt("map page", node.location);
        if level == 0 {
            self.check_leaf(&page, block, walk)?;
            return if leaf_changed(&page) == node.changed { Ok(()) } else { Err(damaged) };
        }
        let mut changed = 0;
        for slot in 0..FAN_OUT as usize {
            let below = child(&page, slot);
            if !below.is_absent() {
                changed = below.changed.max(changed);
                let first = block + ((slot as u64) << (FAN_OUT_BITS * u32::from(level - 1)));
                self.check_node(below, level - 1, first, walk)?;
            }
        }
        if changed == node.changed { Ok(()) } else { Err(damaged) }
    }

    fn check_leaf(&mut self, leaf: &Page, block: u64, walk: &mut Walk) -> Result<(), Error> {
        for at in 0..PAGES_PER_BLOCK {
            let entry = leaf_entry(leaf, at);
            if !entry.is_stored() || !walk.seen.insert(entry.location) {
                continue;
            }
            walk.counts.count(self.ctx.geometry, entry.location);
            walk.report.data_pages += 1;
            let Some(key) = &self.ctx.data else { continue };
            let damaged = || Error::corrupt("data", entry.location);
            let (salt, position) = self.table.salt_of(entry.location).ok_or_else(damaged)?;
            let mut page = [0; PAGE_BYTES];
            self.ctx
                .disk
                .read(byte_offset(entry.location), &mut page)
                .map_err(Error::disk("read data"))?;
            let lba = block * PAGES_PER_BLOCK as u64 + at as u64;
            key.opener(salt).open(position, lba, &entry.tag, &mut page).map_err(|_| damaged())?;
            walk.report.opened_pages += 1;
        }
        Ok(())
    }
}
