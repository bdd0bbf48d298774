//! What a machine may say that its volume needs of the server's space.
//!
//! Every other volume is refused what one is said to need, and snapshots wait for it, so a machine that was
//! tampered with may not make it up. The bounds are such that no engine meets them.

use blockstore::live::Need;

/// A volume's file is a quarter live at least, whatever its machine is told to keep to, so it holds no more
/// than so many times what is stored.
const HELD_PER_STORED: u64 = 4;
/// The segments that a write opens before anything of it is stored, at a quarter live.
const HELD_AHEAD: u64 = 512 << 20;
/// The part of a volume's size that its map is, written anew for each of some layers of changes: a page of
/// the map has a block of 512 KiB.
const MAP_SHARE: u64 = 32;
/// The part of a volume's file that one round of cleaning moves, twice.
const ROUND_SHARE: u64 = 64;
/// Segments that upkeep opens at the least, and the tables of a volume.
const UPKEEP_LEAST: u64 = 512 << 20;

/// What is believed of a need, for a volume of so many bytes whose file takes so much; where that is not
/// known, it may be all of the volume.
pub(super) fn bounded(need: Need, size_bytes: u64, stored_bytes: Option<u64>) -> Need {
    let stored = stored_bytes.unwrap_or(size_bytes);
    let held_max = stored.saturating_mul(HELD_PER_STORED).saturating_add(HELD_AHEAD);
    let upkeep_max =
        (size_bytes / MAP_SHARE).saturating_add(stored / ROUND_SHARE).saturating_add(UPKEEP_LEAST);
    Need { held: need.held.min(held_max), upkeep: need.upkeep.min(upkeep_max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_believed_as_far_as_the_volume_goes() {
        const GIB: u64 = 1 << 30;
        let made_up = Need { held: 1 << 62, upkeep: 1 << 62 };
        let believed = bounded(made_up, 64 * GIB, Some(GIB));
        assert_eq!(believed.held, 4 * GIB + HELD_AHEAD);
        assert!(believed.upkeep < 3 * GIB, "{believed:?}");
        // A file that is written for the first time, and one full of cuts, with all of the map to be merged.
        for (stored, held) in [(0, 128 << 20), (300 * GIB, 1200 * GIB)] {
            let need = Need { held, upkeep: 64 * GIB / 128 + (128 << 20) };
            assert_eq!(bounded(need, 64 * GIB, Some(stored)), need);
        }
        assert_eq!(bounded(made_up, u64::MAX, None).held, made_up.held);
    }
}
