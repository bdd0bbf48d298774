//! A store that changes, swaps or replays what it holds is noticed.

use super::*;

fn chain(store: &SnapshotStore) -> (Volume, History) {
    let mut volume = Volume::new(GIB, 1, 1);
    let mut history: History = Vec::new();
    for stamp in 1..4 {
        (0..4).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, stamp * 10 + block));
        let parent = history.last().map(|(root, _)| *root);
        let root = snapshot(store, &mut volume, parent.as_ref());
        history.push((root, volume.model.clone()));
    }
    (volume, history)
}

/// Every bit of every object matters, but for what only a rewrite or a session reads.
#[test]
fn every_changed_byte_is_noticed_without_a_key() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let (volume, history) = chain(&store);
    let (mut noticed, mut unread) = (0, 0);
    for meta in objects.list("packs").unwrap() {
        let good = objects.get(&meta.name).unwrap();
        let (pack, _) = super::super::pack::PackId::parse_object(&meta.name).unwrap();
        let directory = store.directory(pack, 0).unwrap();
        let items = directory.entries.last().map(|entry| entry.offset + entry.length).unwrap();
        for at in (0..good.len()).step_by(211) {
            let mut bad = good.to_vec();
            bad[at] ^= 1 << (at % 8);
            objects.tamper(&meta.name, bad.into());
            let fresh = snapshots(objects.clone(), 2);
            let failed = history.iter().any(|(root, _)| verify(&fresh, root, None).is_err());
            if (32..items as usize).contains(&at) {
                assert!(failed, "byte {at} of {} changed unnoticed", meta.name);
                noticed += 1;
            } else if at >= items as usize {
                let directory = fresh.directory(pack, 0);
                assert!(directory.is_err(), "byte {at} of {} changed unnoticed", meta.name);
                unread += 1;
            }
        }
        objects.tamper(&meta.name, good);
    }
    assert!(noticed > 100 && unread > 3, "{noticed} {unread}");
    let fresh = snapshots(objects, 2);
    history.iter().for_each(|(root, _)| {
        verify(&fresh, root, Some(&volume.key)).unwrap();
    });
}

#[test]
fn objects_cannot_take_each_others_place() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let (_, history) = chain(&store);
    let names: Vec<String> =
        objects.list("packs").unwrap().into_iter().map(|meta| meta.name).collect();
    let good: Vec<_> = names.iter().map(|name| objects.get(name).unwrap()).collect();
    for (name, own) in names.iter().zip(&good) {
        for other in good.iter().filter(|other| *other != own) {
            objects.tamper(name, other.clone());
            let fresh = snapshots(objects.clone(), 2);
            let failed = history.iter().any(|(root, _)| verify(&fresh, root, None).is_err());
            assert!(failed, "{name} was replaced unnoticed");
        }
        objects.tamper(name, own.clone());
    }
}

/// Blocks of one pack have equal shape; a store could hand out one for the other.
#[test]
fn frames_within_a_pack_cannot_be_swapped() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let (volume, history) = chain(&store);
    let (root, _) = &history[0];
    let reader = SnapshotReader::open(&store, root).unwrap();
    let content = reader.content(0).unwrap().unwrap().to_bytes();
    let pack = super::super::pack::PackId(content[..16].try_into().unwrap());
    let entries = store.directory(pack, 0).unwrap().entries;
    let (a, b) = (&entries[0], &entries[1]);
    assert_eq!(a.length, b.length);
    let mut swapped = objects.get(&pack.object(0)).unwrap().to_vec();
    let (front, back) = swapped.split_at_mut(b.offset as usize);
    front[a.offset as usize..].swap_with_slice(&mut back[..b.length as usize]);
    objects.tamper(&pack.object(0), swapped.into());
    let reader = SnapshotReader::open(&snapshots(objects, 2), root).unwrap();
    for block in [0, 1] {
        let read = reader.read_block(block, &volume.key);
        assert!(matches!(read, Err(Error::Corrupt { .. })), "block {block}");
    }
    reader.read_block(2, &volume.key).unwrap();
}

#[test]
fn a_missing_object_is_an_error_and_never_zeros() {
    use crate::page::{BaseReader, SourceError};
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let (volume, history) = chain(&store);
    let (root, _) = &history[2];
    let reader = SnapshotReader::open(&store, root).unwrap();
    let content = reader.content(0).unwrap().unwrap().to_bytes();
    let pack = super::super::pack::PackId(content[..16].try_into().unwrap());
    objects.delete(&pack.object(0)).unwrap();
    let read = reader.read_block(0, &volume.key);
    assert!(matches!(read, Err(Error::Missing { .. })));
    assert!(matches!(reader.read_page(0), Err(SourceError::Corrupt { .. })));
    assert!(verify(&store, root, None).is_err());
}

/// Roots and checkpoints come from the control database; other bytes there are refused.
#[test]
fn malformed_roots_are_refused() {
    let objects = memory();
    let (_, history) = chain(&snapshots(objects.clone(), 1));
    let bytes = history[0].0.to_bytes();
    assert_eq!(bytes.len(), SnapshotRoot::BYTES);
    assert!(matches!(SnapshotRoot::from_bytes(&[]), Err(Error::Malformed { .. })));
    for length in 1..bytes.len() {
        let short = SnapshotRoot::from_bytes(&bytes[..length]);
        assert!(matches!(short, Err(Error::Malformed { .. })), "{length}");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(matches!(SnapshotRoot::from_bytes(&long), Err(Error::Malformed { .. })));
    let mut future = bytes.clone();
    future[0] = 2;
    let refused = SnapshotRoot::from_bytes(&future);
    assert!(matches!(refused, Err(Error::UnknownVersion { version: 2, .. })));
    for at in 1..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let opened = SnapshotRoot::from_bytes(&changed)
            .and_then(|root| SnapshotReader::open(&snapshots(objects.clone(), 3), &root));
        assert!(opened.is_err(), "byte {at} changed unnoticed");
    }
}

#[test]
fn another_service_key_opens_nothing() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let (_, history) = chain(&store);
    let other = SnapshotStore::new(objects, &Secret::new([0x5f; 32]), Arc::new(SeededRng::new(1)));
    let opened = SnapshotReader::open(&other, &history[0].0);
    assert!(matches!(opened, Err(Error::Corrupt { .. })));
}
