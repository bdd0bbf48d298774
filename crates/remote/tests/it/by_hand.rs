//! A server whose every frame a test reads and writes itself.

use remote::wire::{Reply, Request, Welcome, read_frame};
use remote::{BootClock, BoxFuture, Dial, DialError, Link, Stream};
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
