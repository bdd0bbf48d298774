//! What a machine asks for at once, and in which pieces.

use crate::by_hand::{frame, link};
use blockstore::live::{Disk, TailFile};
use blockstore::page::BaseReader;
use remote::wire::{
    BASE_BLOCKS_MAX, BlockSet, DATA_BYTES_MAX, Failure, PIECE_BYTES, Reply, Request,
};
use remote::{RemoteBase, RemoteDisk};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;

/// Renewals overtake what waits, but not what is being sent: it must be short, both ways, and need no
/// round trip for each piece.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_travel_in_pieces_that_renewals_can_wait_for() {
    let (link, mut connections) = link().await;
    let mut server = connections.recv().await.unwrap();
    let disk = RemoteDisk::new(link, TailFile::at("no.tail".into()));
    let work = spawn_blocking(move || {
        disk.write(4096, &vec![7; DATA_BYTES_MAX]).unwrap();
        let mut bytes = vec![0; DATA_BYTES_MAX];
        disk.read(4096, &mut bytes).unwrap();
        assert!(bytes.chunks(PIECE_BYTES).zip(1..).all(|(piece, n)| piece.iter().all(|b| *b == n)));
    });
    let mut at = 4096;
    while at < 4096 + DATA_BYTES_MAX as u64 {
        let (_, request) = frame(&mut server).await;
        let Request::Write { offset, data } = request else { panic!("{request:?}") };
        assert!(offset == at && data.len() <= PIECE_BYTES, "{} bytes at {offset}", data.len());
        at += data.len() as u64;
    }
    let mut asked = Vec::new();
    for n in 0..DATA_BYTES_MAX / PIECE_BYTES {
        let (id, request) = frame(&mut server).await;
        let (offset, length) = (4096 + (n * PIECE_BYTES) as u64, PIECE_BYTES as u32);
        assert_eq!(request, Request::Read { offset, length });
        asked.push((id, n as u8 + 1));
    }
    for (id, n) in asked {
        server.write_all(&Reply::Data(vec![n; PIECE_BYTES]).encode(id)).await.unwrap();
    }
    work.await.unwrap();
}

/// A machine that tells its guest what a lazily loaded volume holds stands still meanwhile: it asks once
/// for 4 GiB, and forgets what it has not been asked about for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn which_blocks_a_base_has_is_asked_for_many_at_once() {
    const RANGE: u64 = BASE_BLOCKS_MAX as u64;
    let has = |block: u64| block % 5 == 2;
    let (link, mut connections) = link().await;
    let mut server = connections.recv().await.unwrap();
    let base = RemoteBase::new(link);
    let work = spawn_blocking(move || {
        assert!((0..RANGE).all(|block| base.has_block(block).unwrap() == has(block)));
        for range in 1..=300 {
            assert_eq!(base.has_block(range * RANGE + 7).unwrap(), has(range * RANGE + 7));
        }
        assert!(base.has_block(299 * RANGE + 2).unwrap() == has(299 * RANGE + 2));
        assert!(base.has_block(2).unwrap());
    });
    for range in (0..=300).chain([0]) {
        let (id, request) = frame(&mut server).await;
        assert_eq!(request, Request::Blocks { first: range * RANGE, count: BASE_BLOCKS_MAX });
        let set = BlockSet::of(range * RANGE, BASE_BLOCKS_MAX, |block| Ok::<_, ()>(has(block)));
        server.write_all(&Reply::Blocks(set.unwrap()).encode(id)).await.unwrap();
    }
    work.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_a_base_is_looked_around_once() {
    const DAMAGED: u64 = 75;
    let has = |block: u64| block.is_multiple_of(5);
    let (link, mut connections) = link().await;
    let mut server = connections.recv().await.unwrap();
    let base = RemoteBase::new(link);
    let work = spawn_blocking(move || {
        for block in [70, 71, 200, 201] {
            assert_eq!(base.has_block(block).unwrap(), has(block));
        }
        assert!(base.has_block(DAMAGED).is_err());
    });
    for asked in [(0, BASE_BLOCKS_MAX), (64, 64), (70, 1), (71, 1), (192, 64), (DAMAGED, 1)] {
        let (id, request) = frame(&mut server).await;
        let (first, count) = asked;
        assert_eq!(request, Request::Blocks { first, count });
        let set = BlockSet::of(first, count, |block| match block {
            DAMAGED => Err(Failure::Damaged),
            block => Ok(has(block)),
        });
        let reply = set.map_or_else(Reply::Failed, Reply::Blocks);
        server.write_all(&reply.encode(id)).await.unwrap();
    }
    work.await.unwrap();
}

/// A place of the file that the server's disk has lost is one place, and what the server keeps in memory
/// is no answer of its disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_cannot_be_read_is_told_as_the_server_met_it() {
    let (link, mut connections) = link().await;
    let mut server = connections.recv().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let disk = RemoteDisk::new(link, TailFile::at(folder.path().join("tail")));
    let work = spawn_blocking(move || {
        let lost = disk.read(8192, &mut [0; 4096]).unwrap_err();
        assert_eq!(lost.raw_os_error(), Some(Errno::IO.raw_os_error()));
        disk.forget_cached().unwrap();
        disk.read(0, &mut [0; 4096]).unwrap();
    });
    let read = |offset| Request::Read { offset, length: 4096 };
    let replies = [
        (read(8192), Reply::Failed(Failure::Unreadable)),
        (Request::ForgetCached, Reply::Done),
        (read(0), Reply::Data(vec![1; 4096])),
    ];
    for (expected, reply) in replies {
        let (id, request) = frame(&mut server).await;
        assert_eq!(request, expected);
        server.write_all(&reply.encode(id)).await.unwrap();
    }
    work.await.unwrap();
}
