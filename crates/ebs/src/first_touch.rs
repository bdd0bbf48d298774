//! In which order volumes made from a snapshot first wanted its blocks, kept over restarts.
//!
//! A hint for filling the next volume, and nothing else: it may be lost or too short without harm. A
//! row belongs to a root and goes when no snapshot and no volume has that root any more.

use crate::column::Columns;
use crate::error::Result;
use base::Region;
use meta::{Tx, params};

const TABLE: &str = "ebs_first_touches";
/// The first byte of an order.
const VERSION: u8 = 1;

/// The order kept for a root. One that cannot be read is none.
///
/// # Errors
/// When the database fails.
pub fn get(tx: &mut Tx<'_>, region: &Region, root: &[u8]) -> Result<Vec<u64>> {
    let sql = format!("SELECT blocks FROM {TABLE} WHERE region = $1 AND root = $2");
    let row = tx.query_opt(&sql, params![region, root])?;
    let bytes: Option<Vec<u8>> =
        row.as_ref().map(|row| Columns::new(TABLE, row).take()).transpose()?;
    Ok(bytes.map(|bytes| decode(&bytes)).unwrap_or_default())
}

/// Keeps an order in place of what was kept.
///
/// # Errors
/// When the database fails.
pub fn set(tx: &mut Tx<'_>, region: &Region, root: &[u8], order: &[u64]) -> Result<()> {
    tx.execute(
        "INSERT INTO ebs_first_touches (region, root, blocks) VALUES ($1, $2, $3) \
         ON CONFLICT (region, root) DO UPDATE SET blocks = excluded.blocks",
        params![region, root, encode(order)],
    )?;
    Ok(())
}

/// Forgets the orders of roots that no row names any more.
///
/// # Errors
/// When the database fails.
pub fn prune(tx: &mut Tx<'_>, region: &Region) -> Result<u64> {
    Ok(tx.execute(
        "DELETE FROM ebs_first_touches WHERE region = $1 \
         AND NOT EXISTS (SELECT 1 FROM ebs_snapshots \
             WHERE ebs_snapshots.region = $1 AND ebs_snapshots.root = ebs_first_touches.root) \
         AND NOT EXISTS (SELECT 1 FROM ebs_volumes \
             WHERE ebs_volumes.region = $1 AND ebs_volumes.base_root = ebs_first_touches.root)",
        params![region],
    )?)
}

/// Version 1: four bytes for each block, little-endian. A volume has at most 2^27 blocks.
fn encode(order: &[u64]) -> Vec<u8> {
    let blocks = order.iter().filter_map(|block| u32::try_from(*block).ok());
    std::iter::once(VERSION).chain(blocks.flat_map(u32::to_le_bytes)).collect()
}

fn decode(bytes: &[u8]) -> Vec<u64> {
    match bytes.split_first() {
        Some((&VERSION, blocks)) => {
            let (blocks, _) = blocks.as_chunks::<4>();
            blocks.iter().map(|block| u64::from(u32::from_le_bytes(*block))).collect()
        }
        Some(_) | None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frozen: a change here is a change of what is stored.
    #[test]
    fn orders_are_stored_as_version_1() {
        let bytes = [1, 7, 0, 0, 0, 0xff, 0xff, 0xff, 7];
        assert_eq!(encode(&[7, (1 << 27) - 1]), bytes);
        assert_eq!(decode(&bytes), [7, (1 << 27) - 1]);
        assert_eq!(decode(&bytes[..8]), [7]);
        for strange in [&[][..], &[2, 1, 0, 0, 0]] {
            assert!(decode(strange).is_empty());
        }
    }

    fuzz::target!(
        /// Whatever a row holds is an order, and is written as it was read.
        orders,
        vec![encode(&[7, 3, (1 << 27) - 1]), encode(&[]), vec![2, 1, 0, 0, 0]],
        |bytes: &[u8]| {
            let order = decode(bytes);
            assert_eq!(decode(&encode(&order)), order);
            assert!(order.len() * 4 <= bytes.len());
        }
    );
}
