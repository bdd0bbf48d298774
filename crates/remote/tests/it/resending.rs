//! What a new connection begins with.

use crate::by_hand::{frame, link};
use blockstore::live::{Disk, TailFile};
use remote::RemoteDisk;
use remote::wire::{Reply, Request};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::task::spawn_blocking;

const CHUNK: usize = 4096;
/// More than a tail has buffers for.
const CHUNKS: usize = 40;

/// A server's file.
struct File(Vec<u8>);

impl File {
    /// Does what requests ask until a number of chunks has come. No flush ends.
    async fn take(&mut self, stream: &mut DuplexStream, chunks: usize, check: impl Fn(&[u8])) {
        let mut taken = 0;
        while taken < chunks {
            match frame(stream).await {
                (_, Request::Write { offset, data }) => {
                    self.0[offset as usize..][..data.len()].copy_from_slice(&data);
                    taken += 1;
                }
                (_, Request::FillAhead { offset, length }) => {
                    self.0[offset as usize..][..length as usize].fill(0);
                }
                (_, Request::Punch { offset, length }) => {
                    self.0[offset as usize..][..length as usize].fill(0);
                }
                (id, Request::Length) => {
                    let length = Reply::Length(self.0.len() as u64);
                    stream.write_all(&length.encode(id)).await.unwrap();
                }
                (_, request) => panic!("{request:?}"),
            }
            check(&self.0);
        }
    }
}

/// A chunk whose memory is used again is at the server only: until it is sent again in its turn, nothing
/// that is sent again may take it away, or a machine that is killed then has lost it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_arrived_is_not_erased_by_what_is_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (link, mut connections) = link().await;
    let disk = RemoteDisk::new(link.clone(), TailFile::at(folder.path().join("machine.tail")));
    let writing = spawn_blocking(move || {
        let mut buffer = disk.begin_tail().unwrap().unwrap();
        disk.punch(0, (CHUNK * CHUNKS) as u64).unwrap();
        disk.fill_ahead(0, (CHUNK * CHUNKS) as u64).unwrap();
        for n in 0..CHUNKS {
            buffer.set_length(CHUNK);
            buffer.fill(n as u8 + 1);
            disk.start_write((n * CHUNK) as u64, &mut buffer).unwrap();
        }
    });
    let mut file = File(vec![0xff; CHUNK * CHUNKS]);
    let mut first = connections.recv().await.unwrap();
    file.take(&mut first, CHUNKS, |_| ()).await;
    writing.await.unwrap();
    drop(first);
    let mut next = connections.recv().await.unwrap();
    file.take(&mut next, CHUNKS, |bytes| {
        for (n, chunk) in bytes.chunks(CHUNK).enumerate() {
            assert!(chunk.iter().all(|byte| *byte == n as u8 + 1), "chunk {n} is gone");
        }
    })
    .await;
}
