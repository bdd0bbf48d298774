//! Checks of snapshots: each kind of damage is found and named, and what is derived is made anew.

use super::super::frame::Frame;
use super::super::pack::PackId;
use super::super::tree::SnapshotWriter;
use super::*;
use crate::check::{Fault, Finding, Unwatched};
use crate::page::KeyAtHand;
use objstore::Bytes;

/// A store with two snapshots that share blocks, and their key.
struct House {
    objects: Arc<MemoryStore>,
    first: SnapshotRoot,
    second: SnapshotRoot,
    key: DataKey,
}

impl House {
    fn new() -> Self {
        let objects = memory();
        let store = snapshots(objects.clone(), 1);
        let mut volume = Volume::new(GIB, 1, 1);
        for block in 0..20 {
            volume.write(block * PAGES_PER_BLOCK as u64 + 3, 100 + block);
            volume.write(block * PAGES_PER_BLOCK as u64 + 4, 300 + block);
        }
        let first = snapshot(&store, &mut volume, None);
        for block in 5..8 {
            volume.write(block * PAGES_PER_BLOCK as u64, 200 + block);
        }
        let second = snapshot(&store, &mut volume, Some(&first));
        Self { objects, first, second, key: volume.key }
    }

    fn roots(&self) -> [SnapshotRoot; 2] {
        [self.first, self.second]
    }

    /// What is wrong with each root, and with packs.
    fn check(&self, key: &dyn KeyAtHand) -> (Vec<Vec<Finding>>, Vec<Finding>) {
        let store = snapshots(self.objects.clone(), 2);
        let mut checker = SnapshotChecker::new(&store, &Unwatched);
        let roots = self.roots().map(|root| {
            let report = checker.check(&root, key).unwrap();
            report.findings.iter().cloned().collect()
        });
        let packs = checker.check_packs(PackScope::Whole).unwrap();
        (roots.to_vec(), packs.findings.iter().cloned().collect())
    }

    fn all(&self) -> Vec<Finding> {
        let (roots, packs) = self.check(&self.key);
        roots.into_iter().flatten().chain(packs).collect()
    }

    /// The pack and slot of a block of the first snapshot.
    fn frame_of(&self, block: u64) -> (PackId, u8) {
        let store = snapshots(self.objects.clone(), 3);
        let reader = SnapshotReader::open(&store, &self.first).unwrap();
        let content = reader.content(block).unwrap().unwrap().to_bytes();
        (PackId(content[..16].try_into().unwrap()), content[16])
    }

    fn change(&self, object: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.objects.get(object).unwrap().to_vec();
        change(&mut bytes);
        self.objects.tamper(object, bytes.into());
    }

    fn extent(&self, pack: PackId, slot: u8) -> std::ops::Range<usize> {
        let store = snapshots(self.objects.clone(), 4);
        let entry = *store.directory(pack, 0).unwrap().entry(slot).unwrap();
        entry.offset as usize..(entry.offset + entry.length) as usize
    }

    fn repair(&self) -> Vec<Repair> {
        let store = snapshots(self.objects.clone(), 5);
        let mut checker = SnapshotChecker::new(&store, &Unwatched);
        self.roots().iter().for_each(|root| drop(checker.check(root, &NoKey).unwrap()));
        let packs = checker.check_packs(PackScope::Whole).unwrap();
        repair(&store, &self.roots(), &packs.findings).unwrap()
    }
}

fn faults(findings: &[Finding]) -> BTreeSet<Fault> {
    findings.iter().map(|finding| finding.fault).collect()
}

#[test]
fn a_healthy_store_is_clean() {
    let house = House::new();
    for key in [&NoKey as &dyn KeyAtHand, &house.key] {
        let (roots, packs) = house.check(key);
        assert_eq!((roots.concat(), packs), (vec![], vec![]));
    }
    let store = snapshots(house.objects.clone(), 2);
    let mut checker = SnapshotChecker::new(&store, &Unwatched);
    let first = checker.check(&house.first, &house.key).unwrap();
    assert_eq!((first.frames, first.opened_frames, first.nodes), (20, 20, 3));
    let second = checker.check(&house.second, &house.key).unwrap();
    assert_eq!((second.frames, second.nodes), (3, 3), "what is shared is read once");
    let packs = checker.check_packs(PackScope::Whole).unwrap();
    assert_eq!((packs.packs, packs.unreferenced_packs), (4, 0));
    // A pack nobody names is no damage.
    snapshot(&store, &mut Volume::new(GIB, 1, 9), None);
    assert_eq!(checker.check_packs(PackScope::Whole).unwrap().unreferenced_packs, 1);
}

#[test]
fn damage_to_a_frame_is_said_of_every_snapshot_that_has_it() {
    for at in [3, 40, 4_000] {
        let house = House::new();
        let (pack, slot) = house.frame_of(12);
        let extent = house.extent(pack, slot);
        house.change(&pack.object(0), |bytes| bytes[extent.start + at] ^= 4);
        let (roots, packs) = house.check(&NoKey);
        for found in &roots {
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].fault, found[0].block), (Fault::Frame, Some(12)));
            assert_eq!(found[0].place, format!("{}, item {slot}", pack.object(0)));
        }
        assert_eq!(packs, []);
    }
}

#[test]
fn swapped_frames_are_found() {
    let house = House::new();
    let (pack, slot) = house.frame_of(0);
    let (a, b) = (house.extent(pack, slot), house.extent(pack, slot + 1));
    assert_eq!(a.len(), b.len());
    house.change(&pack.object(0), |bytes| {
        for at in 0..a.len() {
            bytes.swap(a.start + at, b.start + at);
        }
    });
    let (roots, _) = house.check(&NoKey);
    let blocks: Vec<_> = roots[0].iter().map(|found| found.block).collect();
    assert_eq!(blocks, [Some(0), Some(1)]);
}

#[test]
fn nodes_and_root_records_are_checked() {
    let house = House::new();
    let pack = house.first.record.pack;
    let slots: Vec<u8> = (0..=house.first.record.slot).collect();
    assert_eq!(slots.len(), 3, "a leaf, an inner node and the record");
    for slot in slots {
        let house = House::new();
        let extent = house.extent(pack, slot);
        house.change(&pack.object(0), |bytes| bytes[extent.start + 9] ^= 1);
        let (roots, packs) = house.check(&NoKey);
        let expected = if slot == 2 { Fault::RootRecord } else { Fault::ManifestNode };
        assert_eq!(faults(&roots[0]), BTreeSet::from([expected]));
        assert_eq!((roots[1].len(), packs.len()), (0, 0), "the second has nodes of its own");
    }
}

#[test]
fn headers_footers_and_directories_are_found_and_made_anew() {
    let house = House::new();
    let (frames, _) = house.frame_of(0);
    for pack in [frames, house.first.record.pack] {
        // From the beginning, or from the end.
        for (fault, place) in
            [(Fault::PackHeader, 10), (Fault::PackFooter, -79), (Fault::PackDirectory, -90)]
        {
            let house = House::new();
            let object = pack.object(0);
            house.change(&object, |bytes| {
                let at = (place + if place < 0 { bytes.len() as i64 } else { 0 }) as usize;
                bytes[at] ^= 0x10;
            });
            let found = house.all();
            assert_eq!(faults(&found), BTreeSet::from([fault]), "{found:?}");
            assert_eq!(found[0].place, object);
            let repairs = house.repair();
            assert_eq!(repairs.len(), 1);
            assert!(repairs[0].done, "{repairs:?}");
            assert_eq!(house.all(), []);
            assert!(house.objects.get(&object).is_err());
            let store = snapshots(house.objects.clone(), 6);
            for root in house.roots() {
                verify(&store, &root, Some(&house.key)).unwrap();
            }
        }
    }
}

#[test]
fn a_pack_that_lost_an_item_is_not_written_again() {
    let house = House::new();
    let (pack, slot) = house.frame_of(3);
    let extent = house.extent(pack, slot);
    house.change(&pack.object(0), |bytes| {
        bytes[extent.start + 5_000] ^= 1;
        bytes[10] ^= 1;
    });
    let before = house.objects.list("").unwrap();
    let repairs = house.repair();
    assert!(!repairs[0].done && repairs[0].detail.contains("damaged"), "{repairs:?}");
    assert_eq!(house.objects.list("").unwrap(), before);
    assert_eq!(faults(&house.all()), BTreeSet::from([Fault::Frame, Fault::PackHeader]));
}

#[test]
fn missing_and_truncated_packs_are_found() {
    let house = House::new();
    let (pack, _) = house.frame_of(0);
    house.change(&pack.object(0), |bytes| bytes.truncate(bytes.len() / 2));
    let found = house.all();
    assert!(faults(&found).contains(&Fault::PackTruncated), "{found:?}");
    assert!(faults(&found).contains(&Fault::PackFooter));
    assert!(found.iter().any(|found| found.block == Some(19)));
    house.objects.delete(&pack.object(0)).unwrap();
    let (roots, packs) = house.check(&NoKey);
    assert_eq!(roots[0].len(), 20);
    assert_eq!(faults(&roots.concat()), BTreeSet::from([Fault::PackMissing]));
    assert_eq!(packs.len(), 1);

    // The pack of a root record: the row names a root that is not there.
    let house = House::new();
    house.objects.delete(&house.second.record.pack.object(0)).unwrap();
    let (roots, _) = house.check(&NoKey);
    assert_eq!((roots[0].len(), faults(&roots[1])), (0, BTreeSet::from([Fault::PackMissing])));
    assert_eq!(roots[1][0].block, None);
}

/// Rewrites the frames' pack of the first snapshot, whose blocks 5..8 are unused then.
fn collected() -> (House, PackId, Bytes) {
    let house = House::new();
    let (pack, _) = house.frame_of(0);
    let old = house.objects.get(&pack.object(0)).unwrap();
    let store = snapshots(house.objects.clone(), 7);
    for days in 0..2 {
        let policy = CollectPolicy {
            now: START.plus_seconds(days * 90_000),
            grace_seconds: 86_400,
            rewrite_below_percent: 100,
        };
        collect(&store, [Ok::<_, Error>(house.second)], &[], &policy).unwrap();
    }
    assert!(house.objects.get(&pack.object(0)).is_err());
    (House { first: house.second, ..house }, pack, old)
}

#[test]
fn an_older_revision_in_the_place_of_a_newer_one_is_found() {
    let (house, pack, old) = collected();
    assert_eq!(house.all(), []);
    let newer = house.objects.get(&pack.object(1)).unwrap();
    house.objects.tamper(&pack.object(1), old.clone());
    let found = house.all();
    assert!(faults(&found).contains(&Fault::PackHeader), "{found:?}");
    // Beside the newer one it is only superfluous, and says so.
    house.objects.tamper(&pack.object(1), newer);
    house.objects.tamper(&pack.object(0), old);
    assert_eq!(house.all(), []);
    let store = snapshots(house.objects.clone(), 2);
    let mut checker = SnapshotChecker::new(&store, &Unwatched);
    checker.check(&house.second, &NoKey).unwrap();
    assert_eq!(checker.check_packs(PackScope::Named).unwrap().superseded_revisions, 1);
}

#[test]
fn a_damaged_ledger_is_found_and_made_anew() {
    let (house, ..) = collected();
    let ledger = house.objects.list("gc").unwrap().pop().unwrap().name;
    house.change(&ledger, |bytes| bytes[50] ^= 1);
    assert_eq!(faults(&house.all()), BTreeSet::from([Fault::Ledger]));
    assert!(house.repair()[0].done);
    assert_eq!(house.all(), []);
}

#[test]
fn pages_and_digests_are_opened_with_the_key() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let (right, wrong) = (key(1), key(2));
    let parent = snapshot(&store, &mut Volume::new(GIB, 1, 1), None);
    let mut writer = SnapshotWriter::child(&store, &parent, parent.facts).unwrap();
    // Frames that only who has the structure key could have made.
    let block = block_of(7);
    let frames = [
        Frame::seal(0, &block, Digest::of(&block), &right, store.rng()),
        Frame::seal(1, &block, Digest::of(&block), &wrong, store.rng()),
        Frame::seal(2, &block, Digest([9; 32]), &right, store.rng()),
    ];
    for (block, frame) in (0..).zip(&frames) {
        writer.store_frame(block, frame).unwrap();
    }
    let root = writer.commit().unwrap();
    let house = House { objects, first: root, second: root, key: right };
    assert_eq!(house.check(&NoKey).0.concat(), []);
    let (roots, packs) = house.check(&house.key);
    let found: Vec<_> = roots[0].iter().map(|found| (found.fault, found.block)).collect();
    assert_eq!(found, [(Fault::FramePage, Some(1)), (Fault::Digest, Some(2))]);
    assert_eq!(packs, []);
}
