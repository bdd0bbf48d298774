//! A check of a volume finds whatever a reader would stumble over, and names it.

use super::disk::Bytes;
use super::tamper::{End, make, observe};
use base::{Secret, SeededRng};
use blockstore::check::{CheckWatch, Fault, Stopped, Unwatched};
use blockstore::live::{CutId, Disk, EngineConfig, InspectJob, Pin, VolumeReport, inspect};
use blockstore::page::{DataKey, KeyAtHand, NoKey, PAGE_BYTES, StructureKey};
use std::collections::BTreeSet;
use std::sync::Arc;

fn job<'a>(
    key: &'a dyn KeyAtHand,
    watch: &'a dyn CheckWatch,
    hold: &'a blockstore::live::Hold,
) -> InspectJob<'a> {
    let structure = StructureKey::derive(&Secret::new([1; 32]), "vol-00000001");
    InspectJob { structure, config: EngineConfig::tiny(), base: Some(None), key, watch, hold }
}

fn inspected(disk: Bytes, key: &dyn KeyAtHand) -> VolumeReport {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let pin = Arc::new(Pin::default());
    let hold = pin.hold();
    inspect(&disk, Arc::new(SeededRng::new(7)), job(key, &Unwatched, &hold)).unwrap()
}

fn key() -> DataKey {
    DataKey::new(&Secret::new([2; 64]))
}

#[test]
fn a_healthy_volume_is_clean_and_not_written_to() {
    for end in [End::Closed, End::Stopped] {
        let disk = make(end);
        let before = disk.copy();
        for key in [&key() as &dyn KeyAtHand, &NoKey] {
            let report = inspected(disk.copy(), key);
            assert!(report.findings.is_empty(), "{end:?}: {:?}", report.findings);
            assert!(report.pages.data_pages >= 40 && report.chunks > 0);
            // A cut that is only in the log yet is not in the superblock.
            assert_eq!(report.cuts, u64::from(matches!(end, End::Closed)));
        }
        let opened = inspected(disk.copy(), &key());
        assert!(opened.pages.opened_pages >= opened.pages.data_pages);
        assert_eq!(opened.compared_pages, 0);
        let compared = inspected(disk.copy(), &NoKey);
        assert_eq!(compared.pages.opened_pages, 0);
        assert!(compared.compared_pages >= compared.pages.data_pages);
        assert!(*disk.0.lock().unwrap() == *before.0.lock().unwrap());
    }
}

/// Flips a bit in every page, at places that differ from page to page.
fn flips(length: usize) -> impl Iterator<Item = usize> {
    let places = |page: usize| [8 + page % 8, 70 + page * 131 % 3500, PAGE_BYTES - 1 - page % 90];
    (0..length / PAGE_BYTES).flat_map(move |page| places(page).map(|at| page * PAGE_BYTES + at))
}

#[test]
fn what_a_reader_refuses_a_check_finds() {
    let mut faults = BTreeSet::new();
    for end in [End::Closed, End::Stopped] {
        let disk = make(end);
        let truth = observe(Arc::new(disk.copy())).unwrap();
        let (mut found, mut unseen) = (0, 0);
        for at in flips(disk.len().unwrap() as usize) {
            let damaged = disk.copy();
            damaged.0.lock().unwrap()[at] ^= 1 << (at % 8);
            let reader = observe(Arc::new(damaged.copy()));
            let opened = inspected(damaged.copy(), &key());
            let compared = inspected(damaged, &NoKey);
            if let Err(error) = reader {
                for report in [&opened, &compared] {
                    assert!(!report.findings.is_empty(), "{end:?} {at}: a reader met {error}");
                }
                found += 1;
            } else {
                assert!(reader.unwrap() == truth);
                unseen += u32::from(opened.findings.is_empty());
            }
            faults.extend(opened.findings.iter().map(|finding| finding.fault));
            faults.extend(compared.findings.iter().map(|finding| finding.fault));
            assert!(opened.corrections.is_empty(), "{end:?} {at}: damage is no wrong count");
        }
        assert!(found > 50 && unseen > 50, "{end:?}: {found} found, {unseen} of no account");
    }
    let expected = [
        Fault::SuperblockSlot,
        Fault::SegmentTable,
        Fault::MapPage,
        Fault::DataPage,
        Fault::LogHeader,
        Fault::LogChunk,
    ];
    for fault in expected {
        assert!(faults.contains(&fault), "no flip was found as {fault}: {faults:?}");
    }
}

#[test]
fn swapped_pages_are_found_and_their_blocks_named() {
    let disk = make(End::Closed);
    let pages = disk.len().unwrap() as usize / PAGE_BYTES;
    let mut blocks = BTreeSet::new();
    for first in 0..pages - 1 {
        let damaged = disk.copy();
        damaged.swap_pages(first, first + 1);
        let refused = observe(Arc::new(damaged.copy())).is_err();
        let report = inspected(damaged, &key());
        assert!(!refused || !report.findings.is_empty(), "pages {first} and {}", first + 1);
        let data = report.findings.iter().filter(|finding| finding.fault == Fault::DataPage);
        blocks.extend(data.filter_map(|finding| finding.block));
    }
    // Pages 0..60 and 130..140 were written: blocks 0 and 1.
    assert_eq!(blocks, BTreeSet::from([0, 1]));
}

#[test]
fn without_any_superblock_the_volume_is_named_as_lost() {
    let disk = make(End::Closed);
    for slot in [0, 8192] {
        disk.0.lock().unwrap()[slot + 100] ^= 1;
    }
    let report = inspected(disk.copy(), &NoKey);
    assert!(report.findings.has(Fault::Superblock) && report.findings.has(Fault::SuperblockSlot));
}

#[test]
fn another_base_than_the_rows_name_is_found() {
    let disk: Arc<dyn Disk> = make(End::Closed);
    let pin = Arc::new(Pin::default());
    let hold = pin.hold();
    let expected = CutId::new("00112233445566778899aabbccddeeff");
    let job = InspectJob { base: Some(expected), ..job(&NoKey, &Unwatched, &hold) };
    let report = inspect(&disk, Arc::new(SeededRng::new(7)), job).unwrap();
    assert!(report.findings.has(Fault::BaseReference));
    assert_eq!(report.findings.iter().count(), 1);
}

#[test]
fn a_check_ends_when_told() {
    struct Enough;
    impl CheckWatch for Enough {
        fn read(&self, _bytes: u64) {}
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let disk: Arc<dyn Disk> = make(End::Closed);
    let pin = Arc::new(Pin::default());
    let hold = pin.hold();
    let outcome = inspect(&disk, Arc::new(SeededRng::new(7)), job(&NoKey, &Enough, &hold));
    assert_eq!(outcome.err(), Some(Stopped::Cancelled));
}
