//! Checking a whole snapshot.

use super::Error;
use super::reader::open_frame;
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, corrupt};
use super::walk::differences;
use crate::page::DataKey;
use std::ops::ControlFlow;

/// What a verification read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Blocks whose frames are what was stored.
    pub blocks: u64,
    /// Sealed pages in them.
    pub pages: u64,
    /// Bytes of frames read.
    pub bytes: u64,
}

/// Reads every node and frame of a snapshot and checks every tag. Without a data key the stored
/// bytes are proven unchanged; with it every page is opened and every digest compared too.
///
/// # Errors
/// The first thing found damaged or missing, [`Error::WrongKey`], or what reading gives.
pub fn verify(
    store: &SnapshotStore,
    root: &SnapshotRoot,
    key: Option<&DataKey>,
) -> Result<VerifyReport, Error> {
    if let Some(key) = key {
        root.check_key(key)?;
    }
    let record = store.record(root)?;
    let mut report = VerifyReport::default();
    let mut failed = None;
    differences(store, None, Some(&record), 0..u64::MAX, &mut |block, _, pointer| {
        let Some(pointer) = pointer else { return ControlFlow::Continue(()) };
        let checked = store.frame(block, &pointer.frame).and_then(|frame| {
            report.blocks += 1;
            report.pages += frame.page_count() as u64;
            report.bytes += u64::from(pointer.frame.length);
            key.map_or(Ok(()), |key| open_frame(&frame, key, &pointer.frame).map(|_| ()))
        });
        match checked {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failed {
        return Err(error);
    }
    if report.blocks != root.full_blocks() {
        return Err(corrupt("block count", &root.record));
    }
    Ok(report)
}
