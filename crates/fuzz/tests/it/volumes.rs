//! The structure of live volumes.

use blockstore::live::fuzzing;
use fuzz::target;

/// Where a superblock has its version.
const VERSION: usize = 8;

target!(
    /// No slot but the original opens as a superblock, or the original that says version 2: that is not sealed, and both
    /// versions are read alike (docs/format.md, threats).
    superblocks,
    vec![fuzzing::superblock_sample()],
    |bytes: &[u8]| {
        if fuzzing::open_superblock(bytes) {
            let sample = fuzzing::superblock_sample();
            let mut slot = bytes.to_vec();
            slot.resize(sample.len(), 0);
            if slot[VERSION] == 2 {
                slot[VERSION] = sample[VERSION];
            }
            assert!(slot == sample, "an altered superblock was opened");
        }
    }
);

target!(
    /// Superblocks, descriptors, segment tables, leaves, inner nodes and runs behind their seals.
    pages,
    vec![vec![0; 4096], vec![1; 4096], vec![0xff; 4096], fuzzing::run_page_opened()],
    fuzzing::decode
);

target!(
    /// No page but the original opens as a segment's header.
    segment_headers,
    vec![fuzzing::segment_header_sample()],
    |bytes: &[u8]| {
        if fuzzing::open_segment_header(bytes) {
            let sample = fuzzing::segment_header_sample();
            let mut page = bytes.to_vec();
            page.resize(sample.len(), 0);
            assert!(page == sample, "an altered segment header was opened");
        }
    }
);

target!(
    /// No page but the original opens as the page of a run.
    run_pages,
    vec![fuzzing::run_page_sample()],
    |bytes: &[u8]| {
        if fuzzing::open_run_page(bytes) {
            let sample = fuzzing::run_page_sample();
            let mut page = bytes.to_vec();
            page.resize(sample.len(), 0);
            assert_eq!(page, sample, "an altered page of a run was opened");
        }
    }
);

target!(
    /// An altered tail shows what the original shows, or less.
    tails,
    vec![fuzzing::tail_sample()],
    |bytes: &[u8]| assert!(fuzzing::tail_entries(bytes) <= 2)
);

target!(
    /// What a note of a tail says, behind its seal.
    notes,
    vec![vec![0; 36], vec![0xff; 120]],
    |bytes: &[u8]| {
        let _ = fuzzing::noted_entries(bytes);
    }
);

#[test]
fn the_samples_open() {
    assert_eq!(fuzzing::tail_entries(&fuzzing::tail_sample()), 2);
    assert!(fuzzing::open_run_page(&fuzzing::run_page_sample()));
    assert!(fuzzing::open_superblock(&fuzzing::superblock_sample()));
    assert!(fuzzing::open_segment_header(&fuzzing::segment_header_sample()));
}
