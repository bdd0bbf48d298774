//! Upload sessions.

use super::*;
use std::sync::Barrier;

pub(super) fn spec(name: &str, key: &DataKey, parent: Option<SnapshotRoot>) -> SessionSpec {
    let volume_bytes = parent.map_or(GIB, |parent| parent.volume_bytes());
    SessionSpec { name: name.to_owned(), volume_bytes, parent, key_check: key.check_value() }
}

pub(super) fn announce(changed_blocks: u64) -> Announced<'static> {
    Announced { changed_blocks, aggregate: None }
}

fn read(session: &DirectSession, block: u64, key: &DataKey) -> Vec<u8> {
    session.read_block(block, key).unwrap().unwrap().bytes.to_vec()
}

#[test]
fn what_is_put_is_readable_at_once_after_a_restart_and_in_the_snapshot() {
    let store = snapshots(memory(), 1);
    let key = key(1);
    let session = DirectSession::open(&store, spec("snap-1", &key, None)).unwrap();
    let digest = session.put_block(9, &block_of(1), None, &key).unwrap();
    assert_eq!(digest, Digest::of(&block_of(1)));
    assert_eq!(read(&session, 9, &key), block_of(1));
    session.put_block(9, &block_of(2), Some(Digest::of(&block_of(2))), &key).unwrap();
    session.put_block(2047, &block_of(3), None, &key).unwrap();
    assert_eq!(read(&session, 9, &key), block_of(2));
    assert!(session.read_block(8, &key).unwrap().is_none());
    drop(session);

    let session = DirectSession::open(&store, spec("snap-1", &key, None)).unwrap();
    assert_eq!((session.written_blocks(), read(&session, 9, &key)), (2, block_of(2)));
    session.put_block(9, &block_of(4), None, &key).unwrap();
    drop(session);
    let session = DirectSession::open(&store, spec("snap-1", &key, None)).unwrap();
    assert_eq!(read(&session, 9, &key), block_of(4));
    assert_eq!(list_sessions(&store).unwrap(), ["snap-1"]);

    let root = session.complete(&announce(2)).unwrap();
    release_session(&store, "snap-1").unwrap();
    release_session(&store, "snap-1").unwrap();
    assert!(list_sessions(&store).unwrap().is_empty());
    let reader = SnapshotReader::open(&store, &root).unwrap();
    assert_eq!(list(&reader), [9, 2047]);
    let block = reader.read_block(9, &key).unwrap().unwrap();
    assert_eq!(*block.bytes, block_of(4));
    assert_eq!(reader.read_digest(9, &key).unwrap(), Some(Digest::of(&block_of(4))));
    verify(&store, &root, Some(&key)).unwrap();
}

#[test]
fn a_block_of_zeros_is_a_written_block() {
    let store = snapshots(memory(), 1);
    let key = key(1);
    let zeros = vec![0; whole_block()];
    let first = DirectSession::open(&store, spec("a", &key, None)).unwrap();
    first.put_block(0, &block_of(1), None, &key).unwrap();
    let parent = first.complete(&announce(1)).unwrap();
    let session = DirectSession::open(&store, spec("b", &key, Some(parent))).unwrap();
    session.put_block(0, &zeros, None, &key).unwrap();
    session.put_block(1, &zeros, None, &key).unwrap();
    let root = session.complete(&announce(2)).unwrap();
    let reader = SnapshotReader::open(&store, &root).unwrap();
    assert_eq!(list(&reader), [0, 1]);
    assert_eq!(*reader.read_block(0, &key).unwrap().unwrap().bytes, zeros);
}

#[test]
fn refusals_store_nothing() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let (key, other) = (key(1), key(2));
    let session = DirectSession::open(&store, spec("snap-1", &key, None)).unwrap();
    let block = block_of(1);
    let put = |index, bytes: &[u8], digest, key| session.put_block(index, bytes, digest, key);
    let short = put(0, &block[1..], None, &key);
    assert!(matches!(short, Err(Error::BlockLength { length: 524_287 })));
    let beyond = put(2048, &block, None, &key);
    assert!(matches!(beyond, Err(Error::BlockOutOfRange { block: 2048, blocks: 2048 })));
    let flipped = put(0, &block, Some(Digest::of(&block_of(2))), &key);
    assert!(matches!(flipped, Err(Error::DigestMismatch)));
    assert!(matches!(put(0, &block, None, &other), Err(Error::WrongKey)));
    assert!(matches!(session.read_block(0, &other), Err(Error::WrongKey)));
    assert!(objects.list("").unwrap().is_empty());
    for name in ["", "a/b", "..", &"x".repeat(65)] {
        let refused = DirectSession::open(&store, spec(name, &key, None));
        assert!(matches!(refused, Err(Error::SessionName { .. })), "{name}");
    }
}

#[test]
fn completion_checks_what_was_announced_and_closes() {
    let store = snapshots(memory(), 1);
    let key = key(1);
    let session = DirectSession::open(&store, spec("snap-1", &key, None)).unwrap();
    for block in [5, 1, 3] {
        session.put_block(block, &block_of(block), None, &key).unwrap();
    }
    let wrong = session.complete(&announce(4));
    assert!(matches!(wrong, Err(Error::CountMismatch { expected: 4, actual: 3 })));
    let all: Vec<u8> = [1, 3, 5].iter().flat_map(|b| Digest::of(&block_of(*b)).0).collect();
    let expected = Digest::of(&all);
    let checked = |session: &DirectSession, wanted: Digest| {
        let accepts = |digests: &[Digest]| linear_checksum(digests) == wanted;
        let aggregate = Some(AggregateCheck { key: &key, accepts: &accepts });
        session.complete(&Announced { changed_blocks: 3, aggregate })
    };
    let wrong = checked(&session, Digest([0; 32]));
    assert!(matches!(wrong, Err(Error::AggregateMismatch)));
    drop(session);

    // After a restart the digests come out of the frames.
    let session = DirectSession::open(&store, spec("snap-1", &key, None)).unwrap();
    session.put_block(3, &block_of(3), None, &key).unwrap();
    let root = checked(&session, expected).unwrap();
    assert_eq!((root.full_blocks(), root.incremental_blocks()), (3, 3));
    let late = session.put_block(0, &block_of(1), None, &key);
    assert!(matches!(late, Err(Error::SessionClosed)));
    assert!(matches!(session.complete(&announce(3)), Err(Error::SessionClosed)));
}

#[test]
fn a_child_differs_from_its_parent_in_exactly_what_was_put() {
    let store = snapshots(memory(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    (0..30).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, block + 1));
    let parent = snapshot(&store, &mut volume, None);
    let session = DirectSession::open(&store, spec("s", &volume.key, Some(parent))).unwrap();
    assert_eq!(read(&session, 7, &volume.key), expected_block(&volume.model, 7));
    session.put_block(7, &block_of(1), None, &volume.key).unwrap();
    let root = session.complete(&announce(1)).unwrap();
    let open = |root| SnapshotReader::open(&store, root).unwrap();
    let changed = changed(&open(&parent), &open(&root));
    assert_eq!(changed.iter().map(|block| block.index).collect::<Vec<_>>(), [7]);
    assert!(changed[0].first.is_some() && changed[0].second.is_some());
    assert_eq!((root.full_blocks(), root.incremental_blocks()), (30, 1));
    assert_eq!(root.generation(), parent.generation() + 1);

    let foreign = DirectSession::open(&store, spec("t", &key(2), Some(parent)));
    assert!(matches!(foreign, Err(Error::WrongKey)));
}

#[test]
fn concurrent_puts_share_packs() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let key = key(1);
    let session = DirectSession::open(&store, spec("snap-1", &key, None)).unwrap();
    let barrier = Barrier::new(8);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (session, key, barrier) = (&session, &key, &barrier);
            scope.spawn(move || {
                barrier.wait();
                for block in 0..6 {
                    let index = thread * 6 + block;
                    session.put_block(index, &block_of(index), None, key).unwrap();
                    assert_eq!(read(session, index, key), block_of(index));
                }
            });
        }
    });
    let root = session.complete(&announce(48)).unwrap();
    let reader = SnapshotReader::open(&store, &root).unwrap();
    for index in 0..48 {
        assert_eq!(*reader.read_block(index, &key).unwrap().unwrap().bytes, block_of(index));
    }
}
