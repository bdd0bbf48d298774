//! What must not be collected: every root some row still reaches blocks through.

use crate::error::Result;
use crate::tiering::{self, StorageTier};
use base::Region;
use meta::Tx;
use std::collections::BTreeSet;

/// The roots in one tier of a region that snapshots own, that work under way reads or has half made,
/// and that volumes fall through to. A deleted snapshot's blocks stay while one of these reaches them.
///
/// # Errors
/// When the database fails.
pub fn live_roots(
    tx: &mut Tx<'_>,
    region: &Region,
    tier: StorageTier,
) -> Result<BTreeSet<Vec<u8>>> {
    let mut roots: BTreeSet<_> = tiering::roots(tx, region, tier)?.into_iter().collect();
    if tier == StorageTier::Standard {
        roots.extend(crate::snapshot::roots(tx, region)?);
        roots.extend(crate::volume::base_roots(tx, region)?);
        roots.extend(crate::foreign_base::former_roots(tx, region)?);
    }
    Ok(roots)
}
