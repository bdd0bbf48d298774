//! Decisions: the evaluator against the reference of its tests.

use crate::cases::agree;
use fuzz::target;

target!(
    /// Both evaluators answer alike, whatever the policies: eight bytes are a case.
    decisions,
    (0..64u64).map(|seed| seed.to_le_bytes().to_vec()).collect(),
    |bytes: &[u8]| {
        if let Some(seed) = bytes.first_chunk() {
            agree(u64::from_le_bytes(*seed)).unwrap_or_else(|difference| panic!("{difference}"));
        }
    }
);
