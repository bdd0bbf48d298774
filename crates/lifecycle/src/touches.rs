//! Keeps in rows what volumes read first, for those that are filled later.

use crate::cells::Cells;
use blockstore::snapshot::merge_touches;
use ebs::first_touch;
use meta::Db;

/// Writes down what was read first since the last call, and forgets what belongs to roots that are gone.
/// What a server that dies had not written is lost, and only makes a later filling less clever.
///
/// # Errors
/// When the rows cannot be read or written.
pub async fn keep(db: &Db, cells: &Cells) -> ebs::Result<()> {
    for (region, cell) in cells.iter() {
        for (root, found) in cell.snapshots.take_grown_touches() {
            let (region, root) = (region.clone(), root.to_bytes());
            let keep = move |tx: &mut meta::Tx<'_>| {
                let kept = first_touch::get(tx, &region, &root)?;
                first_touch::set(tx, &region, &root, &merge_touches(&kept, &found))
            };
            db.write(keep).await?;
        }
        let region = region.clone();
        db.write(move |tx| first_touch::prune(tx, &region)).await?;
    }
    Ok(())
}
