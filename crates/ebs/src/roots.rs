//! What must not be collected: every root some row still reaches blocks through.

use crate::error::Result;
use base::Region;
use meta::Tx;
use std::collections::BTreeSet;

/// The roots of a region that snapshots own, that copies under way read, and that volumes fall
/// through to. A deleted snapshot's blocks stay while one of these reaches them.
///
/// # Errors
/// When the database fails.
pub fn live_roots(tx: &mut Tx<'_>, region: &Region) -> Result<BTreeSet<Vec<u8>>> {
    let mut roots: BTreeSet<Vec<u8>> = crate::snapshot::roots(tx, region)?.into_iter().collect();
    roots.extend(crate::volume::base_roots(tx, region)?);
    roots.extend(crate::foreign_base::former_roots(tx, region)?);
    Ok(roots)
}
