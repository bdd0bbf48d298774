//! Reading manifests: which blocks there are, and where two snapshots differ.

use super::Error;
use super::node::{Child, Children, FAN_OUT, Pointer, RootRecord};
use super::store::SnapshotStore;
use super::tree::{find, locate, split_leaf};
use std::ops::{ControlFlow, Range};

const LEAF_BLOCKS: u64 = FAN_OUT as u64;
const INNER_BLOCKS: u64 = LEAF_BLOCKS * FAN_OUT as u64;

/// Where a block is found.
pub(super) fn lookup(
    store: &SnapshotStore,
    record: &RootRecord,
    block: u64,
) -> Result<Option<Pointer>, Error> {
    let (leaf, at) = locate(block);
    let (inner, leaf_at) = split_leaf(leaf);
    let Some(child) = find(&record.children, inner) else { return Ok(None) };
    let Some(child) = find(&*store.inner(inner, &child.node)?, leaf_at) else { return Ok(None) };
    Ok(store.leaf(leaf, &child.node)?.get(at).copied())
}

/// Visits the blocks in `range` that the trees hold differently, ascending; whatever both share
/// is skipped unread. With `None` for the first, visits all blocks of the second.
pub(super) fn differences(
    store: &SnapshotStore,
    first: Option<&RootRecord>,
    second: Option<&RootRecord>,
    range: Range<u64>,
    visit: &mut dyn FnMut(u64, Option<Pointer>, Option<Pointer>) -> ControlFlow<()>,
) -> Result<(), Error> {
    let no_children = Children::new();
    let children = |record: Option<&RootRecord>| record.map(|r| r.children.clone());
    let first = children(first).unwrap_or_else(|| no_children.clone());
    let second = children(second).unwrap_or(no_children);
    for (inner, a, b) in pairs(&first, &second, &range, 0, INNER_BLOCKS) {
        let load = |child: Option<Child>| match child {
            Some(child) => store.inner(inner, &child.node).map(|found| (*found).clone()),
            None => Ok(Children::new()),
        };
        let (leaves_a, leaves_b) = (load(a)?, load(b)?);
        let start = u64::from(inner) * INNER_BLOCKS;
        for (at, a, b) in pairs(&leaves_a, &leaves_b, &range, start, LEAF_BLOCKS) {
            let number = u32::from(inner) * FAN_OUT as u32 + u32::from(at);
            if leaf_differences(store, number, a, b, &range, visit)?.is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn leaf_differences(
    store: &SnapshotStore,
    number: u32,
    a: Option<Child>,
    b: Option<Child>,
    range: &Range<u64>,
    visit: &mut dyn FnMut(u64, Option<Pointer>, Option<Pointer>) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, Error> {
    let load = |child: Option<Child>| match child {
        Some(child) => store.leaf(number, &child.node).map(|leaf| leaf.entries.clone()),
        None => Ok(Vec::new()),
    };
    let (a, b) = (load(a)?, load(b)?);
    for (at, a, b) in merge(&a, &b) {
        let block = u64::from(number) * LEAF_BLOCKS + u64::from(at);
        // The birth is bookkeeping: the same frame is the same content.
        let differ = a.map(|pointer| pointer.frame) != b.map(|pointer| pointer.frame);
        if differ && range.contains(&block) && visit(block, a, b).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The children in range that differ, in order.
fn pairs(
    first: &Children,
    second: &Children,
    range: &Range<u64>,
    start: u64,
    blocks: u64,
) -> Vec<(u16, Option<Child>, Option<Child>)> {
    let mut found = merge(first, second);
    found.retain(|(number, a, b)| {
        let from = start + u64::from(*number) * blocks;
        let differ = a.map(|child| child.node) != b.map(|child| child.node);
        differ && from < range.end && from + blocks > range.start
    });
    found
}

/// Brings two ascending lists side by side.
fn merge<T: Copy>(a: &[(u16, T)], b: &[(u16, T)]) -> Vec<(u16, Option<T>, Option<T>)> {
    let (mut a, mut b) = (a.iter().peekable(), b.iter().peekable());
    let mut merged = Vec::new();
    loop {
        let next = match (a.peek(), b.peek()) {
            (None, None) => return merged,
            (Some((number, _)), None) | (None, Some((number, _))) => *number,
            (Some((x, _)), Some((y, _))) => (*x).min(*y),
        };
        let from_a = a.next_if(|(number, _)| *number == next).map(|(_, value)| *value);
        let from_b = b.next_if(|(number, _)| *number == next).map(|(_, value)| *value);
        merged.push((next, from_a, from_b));
    }
}
