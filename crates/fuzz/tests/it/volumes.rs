//! The structure of live volumes.

use blockstore::live::fuzzing;
use fuzz::target;

target!(
    /// No slot but the original opens as a superblock.
    superblocks,
    vec![fuzzing::superblock_sample()],
    |bytes: &[u8]| {
        if fuzzing::open_superblock(bytes) {
            let sample = fuzzing::superblock_sample();
            let mut slot = bytes.to_vec();
            slot.resize(sample.len(), 0);
            assert_eq!(slot, sample, "an altered superblock was opened");
        }
    }
);

target!(
    /// Superblocks, descriptors, segment tables, leaves and inner nodes behind their seals.
    pages,
    vec![vec![0; 4096], vec![1; 4096], vec![0xff; 4096]],
    fuzzing::decode
);

#[test]
fn the_sample_opens() {
    assert!(fuzzing::open_superblock(&fuzzing::superblock_sample()));
}
