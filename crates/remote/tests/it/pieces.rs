//! What a machine asks for at once, and in which pieces.

use crate::by_hand::{frame, link};
use blockstore::live::{Disk, TailFile};
use remote::RemoteDisk;
use remote::wire::{DATA_BYTES_MAX, PIECE_BYTES, Reply, Request};
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
