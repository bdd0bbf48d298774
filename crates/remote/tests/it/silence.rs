//! A network that drops everything, which ends no connection by itself, and one that is only slow.
//! Time stands still but for what is waited for.

use remote::wire::{Reply, Request, Welcome, read_frame};
use remote::{BoxFuture, Dial, DialError, Link, Loss, SteadyClock, Stream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};

const LEASE_MS: u32 = 20_000;

/// The time of the test's runtime.
struct PausedClock(Instant);

impl SteadyClock for PausedClock {
    fn millis(&self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

/// A server, and the network before it.
#[derive(Default)]
struct Server {
    dialled: AtomicU64,
    /// Until when, by the test's clock, nothing goes through, also on connections made before.
    out_until: Mutex<Option<Instant>>,
    /// The pause before each byte of the answer to a request.
    pause: Duration,
}

impl Server {
    fn is_out(&self) -> bool {
        self.out_until.lock().unwrap().is_some_and(|until| Instant::now() < until)
    }

    /// Answers for as long as the network carries it; then the connection stays open, and silent.
    async fn serve(self: Arc<Self>, mut stream: DuplexStream) {
        let welcome = Welcome {
            epoch: 1,
            lease_ms: LEASE_MS,
            structure: base::Secret::new([8; 32]),
            base: None,
            plain_key: None,
        };
        stream.write_all(&Reply::Welcome(Box::new(welcome)).encode(0)).await.unwrap();
        while let Ok(Some(frame)) = read_frame(&mut stream).await {
            if self.is_out() {
                return std::future::pending().await;
            }
            let (id, request) = Request::decode(&frame).unwrap();
            let reply = match request {
                Request::Renew => Reply::Renewed(LEASE_MS),
                _ => Reply::Snapshots(remote::SnapshotList::default()),
            };
            let bytes = reply.encode(id);
            let pause = if request == Request::Renew { Duration::ZERO } else { self.pause };
            for byte in bytes {
                sleep(pause).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
    }
}

struct Dialler(Arc<Server>);

impl Dial for Dialler {
    fn dial(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, DialError>> {
        Box::pin(async {
            self.0.dialled.fetch_add(1, Ordering::SeqCst);
            // Nobody says that nobody answers; a kernel tries again and again.
            while self.0.is_out() {
                sleep(Duration::from_secs(1)).await;
            }
            let (ours, theirs) = tokio::io::duplex(64 << 10);
            tokio::spawn(Arc::clone(&self.0).serve(theirs));
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

async fn link(server: &Arc<Server>) -> Link {
    let clock = Arc::new(PausedClock(Instant::now()));
    Link::open(Arc::new(Dialler(Arc::clone(server))), clock).await.unwrap().0
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_replaced_before_the_lease_ends() {
    for outage in [9, 13] {
        let server = Arc::new(Server::default());
        let link = link(&server).await;
        sleep(Duration::from_secs(30)).await;
        assert_eq!(server.dialled.load(Ordering::SeqCst), 1, "a connection that is heard of stays");
        let until = Instant::now() + Duration::from_secs(outage);
        *server.out_until.lock().unwrap() = Some(until);
        sleep(Duration::from_secs(60)).await;
        assert_eq!(*link.lost().borrow(), None, "an outage of {outage} s ended the lease");
        assert!(link.holds() && server.dialled.load(Ordering::SeqCst) >= 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_ends_the_lease_and_not_less() {
    let server = Arc::new(Server::default());
    let link = link(&server).await;
    *server.out_until.lock().unwrap() = Some(Instant::now() + Duration::from_secs(3600));
    let began = Instant::now();
    let lost = link.lost().wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!((lost, began.elapsed().as_secs()), (Some(Loss::LeaseEnded), 18));
}

/// A reply that comes byte by byte, and takes longer than a connection may be silent.
#[tokio::test(start_paused = true)]
async fn a_slow_frame_is_no_silence() {
    let server = Arc::new(Server { pause: Duration::from_millis(700), ..Server::default() });
    let link = link(&server).await;
    let asked = link.clone();
    let asking = std::thread::spawn(move || remote::Snapshots::list(&asked));
    while !asking.is_finished() {
        sleep(Duration::from_millis(100)).await;
        assert!(link.holds(), "the lease ended");
    }
    assert_eq!(server.dialled.load(Ordering::SeqCst), 1);
}
