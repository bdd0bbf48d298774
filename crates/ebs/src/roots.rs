//! What must not be collected: every root some row still reaches blocks through.

use crate::error::Result;
use crate::tiering::{self, StorageTier};
use base::Region;
use meta::Tx;
use std::collections::BTreeSet;

/// One of the stores that a region keeps blocks in. They share nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StoreKind {
    /// Snapshots in the standard tier.
    Standard,
    /// Archived snapshots.
    Archive,
    /// Twins of snapshots that are restored fast.
    Twins,
}

impl StoreKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Archive, Self::Twins];

    /// The store's name in rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Archive => "archive",
            Self::Twins => "twins",
        }
    }
}

impl From<StorageTier> for StoreKind {
    fn from(tier: StorageTier) -> Self {
        match tier {
            StorageTier::Standard => Self::Standard,
            StorageTier::Archive => Self::Archive,
        }
    }
}

/// The roots in one store of a region that snapshots own, that work under way reads or has half made,
/// and that volumes fall through to. A deleted snapshot's blocks stay while one of these reaches them.
///
/// # Errors
/// When the database fails.
pub fn live_roots(
    tx: &mut Tx<'_>,
    region: &Region,
    store: impl Into<StoreKind>,
) -> Result<BTreeSet<Vec<u8>>> {
    let mut roots = BTreeSet::new();
    match store.into() {
        StoreKind::Standard => {
            roots.extend(tiering::roots(tx, region, StorageTier::Standard)?);
            roots.extend(crate::snapshot::roots(tx, region)?);
            roots.extend(crate::volume::base_roots(tx, region)?);
            roots.extend(crate::foreign_base::former_roots(tx, region)?);
            roots.extend(crate::copy_base::roots(tx, region)?);
        }
        StoreKind::Archive => roots.extend(tiering::roots(tx, region, StorageTier::Archive)?),
        StoreKind::Twins => roots.extend(crate::twin::roots(tx, region)?),
    }
    Ok(roots)
}
