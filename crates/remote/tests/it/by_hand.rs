//! A server whose every frame a test reads and writes itself.

use blockstore::live::{Disk, TailFile};
use remote::wire::{Failure, Reply, Request, Welcome, read_frame};
use remote::{BootClock, BoxFuture, Dial, DialError, Link, RemoteDisk, Stream};
use std::sync::Arc;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

/// Gives the server's end of each connection away.
struct Dialler(mpsc::UnboundedSender<DuplexStream>);

impl Dial for Dialler {
    fn dial(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, DialError>> {
        Box::pin(async {
            let (ours, mut theirs) = tokio::io::duplex(64 << 10);
            let welcome = Welcome {
                epoch: 1,
                lease_ms: 20_000,
                structure: base::Secret::new([8; 32]),
                base: None,
                plain_key: None,
            };
            theirs.write_all(&Reply::Welcome(Box::new(welcome)).encode(0)).await.unwrap();
            self.0.send(theirs).unwrap();
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// A machine's link, and the server's ends of its connections, each after its welcome.
pub(crate) async fn link() -> (Link, mpsc::UnboundedReceiver<DuplexStream>) {
    let (streams, connections) = mpsc::unbounded_channel();
    let dialler = Arc::new(Dialler(streams));
    (Link::open(dialler, Arc::new(BootClock)).await.unwrap().0, connections)
}

/// The next request but for renewals.
pub(crate) async fn frame(stream: &mut DuplexStream) -> (u64, Request) {
    loop {
        let frame = read_frame(stream).await.unwrap().unwrap();
        match Request::decode(&frame).unwrap() {
            (_, Request::Renew) => {}
            request => return request,
        }
    }
}

/// Whoever runs the machine must learn of it, and the server that the volume is closed all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_failed_says_so_and_goodbye() {
    for flushes in [false, true] {
        let (link, mut connections) = link().await;
        let mut server = connections.recv().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let disk = RemoteDisk::new(link.clone(), TailFile::at(folder.path().join("tail")));
        let writing = tokio::task::spawn_blocking(move || {
            disk.write(0, &[7]).unwrap();
            assert!(!flushes || disk.flush().is_err());
        });
        let (mut id, request) = frame(&mut server).await;
        assert_eq!(request, Request::Write { offset: 0, data: vec![7] });
        if flushes {
            let (flush, request) = frame(&mut server).await;
            assert_eq!(request, Request::Flush);
            id = flush;
        }
        server.write_all(&Reply::Failed(Failure::NoSpace).encode(id)).await.unwrap();
        writing.await.unwrap();
        let mut failed = link.failed();
        let failed = *failed.wait_for(Option::is_some).await.unwrap();
        assert_eq!(failed, Some(Failure::NoSpace));
        assert!(link.lost().borrow().is_none());
        let closing = link.clone();
        let closed = tokio::task::spawn_blocking(move || closing.goodbye());
        let (id, request) = frame(&mut server).await;
        assert_eq!(request, Request::Goodbye);
        server.write_all(&Reply::Done.encode(id)).await.unwrap();
        closed.await.unwrap();
    }
}
