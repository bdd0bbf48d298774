//! A server and a machine over streams in memory: what is written is there, whatever the connection
//! does; what is fenced is over.

use base::{OsRng, Secret, VolumeId};
use blockstore::live::{
    Base, CutId, Disk, Engine, EngineConfig, Error, Need, OpenOptions, Space, TailFile,
    VolumeOptions,
};
use blockstore::page::{
    BasePage, BaseReader, DataKey, Lba, PAGE_BYTES, PageOrigin, Salt, SealedPage, SourceError, Tag,
};
use blockstore::store::{
    Borrower, EngineAnswer, EngineCall, LentVolume, SpaceLevel, SpaceLimits, SpaceReport,
    SpaceWatcher, Store, StoreConfig, StoreError, VolumeHandle,
};
use remote::{
    Away, BootClock, BoxFuture, Dial, DialError, Link, Loss, RemoteBase, RemoteDisk, RemoteSpace,
    Served, SnapshotList, Snapshots, SteadyClock, Stream,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::watch;
use tokio::task::spawn_blocking;

const SIZE: u64 = 64 << 20;
const LEASE_MS: u32 = 20_000;

fn id() -> VolumeId {
    VolumeId::parse("vol-00000001").unwrap()
}

/// A server with one volume, and the dialler of its machine.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    served: Mutex<Option<Arc<Served>>>,
    down: AtomicBool,
    connections: Mutex<Vec<tokio::task::AbortHandle>>,
    dialled: AtomicU64,
    /// Bytes per second of new connections, each way; 0 for as many as there are.
    rate: AtomicU64,
    /// Whether what machines send stays on the way.
    deaf: watch::Sender<bool>,
}

impl Bench {
    fn new() -> Arc<Self> {
        Self::with_space(SpaceLimits::server())
    }

    fn with_space(space: SpaceLimits) -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { engine: EngineConfig::tiny(), space, ..StoreConfig::server() };
        let store =
            Store::open(folder.path(), Secret::new([9; 32]), Arc::new(OsRng), config).unwrap();
        let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
        store.create_volume(&id(), &options).unwrap();
        Arc::new(Self {
            folder,
            store,
            served: Mutex::default(),
            down: AtomicBool::default(),
            connections: Mutex::default(),
            dialled: AtomicU64::default(),
            rate: AtomicU64::default(),
            deaf: watch::Sender::new(false),
        })
    }

    fn lend(&self, epoch: u64, lease_ms: u32) -> Arc<Served> {
        self.lend_over(epoch, lease_ms, None)
    }

    fn lend_over(&self, epoch: u64, lease_ms: u32, base: Option<Base>) -> Arc<Served> {
        let away = Arc::new(Away::new(id(), Arc::new(BootClock), lease_ms));
        let loan = self.store.lend(&id(), Arc::clone(&away) as _).unwrap();
        let served = Arc::new(Served {
            away,
            epoch,
            size_bytes: SIZE,
            loan,
            base,
            plain_key: None,
            snapshots: Arc::new(NoSnapshots),
        });
        *self.served.lock().unwrap() = Some(Arc::clone(&served));
        served
    }

    /// That of the machine.
    fn tail(&self) -> TailFile {
        TailFile::at(self.folder.path().join("machine.tail"))
    }

    /// Ends every connection, as a broken network or a killed server does.
    fn cut_connections(&self) {
        self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
    }

    /// Takes the loan back.
    async fn take_back(&self) {
        let served = self.served.lock().unwrap().take().unwrap();
        spawn_blocking(move || {
            served.away.fence();
            served.loan.end();
        })
        .await
        .unwrap();
        self.cut_connections();
    }
}

struct NoSnapshots;

impl Snapshots for NoSnapshots {
    fn list(&self) -> SnapshotList {
        SnapshotList::default()
    }
}

struct Dialler(Arc<Bench>);

impl Dial for Dialler {
    fn dial(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, DialError>> {
        Box::pin(async move {
            self.0.dialled.fetch_add(1, Ordering::SeqCst);
            if self.0.down.load(Ordering::SeqCst) {
                return Err(DialError::Unreachable("down".to_owned()));
            }
            let served = self.0.served.lock().unwrap().clone();
            let served = served.ok_or_else(|| DialError::Refused("not lent".to_owned()))?;
            let (ours, theirs) = tokio::io::duplex(256 << 10);
            let ours = slow(ours, self.0.rate.load(Ordering::SeqCst), self.0.deaf.subscribe());
            let task = tokio::spawn(served.serve(theirs));
            self.0.connections.lock().unwrap().push(task.abort_handle());
            Ok(Box::new(ours) as Box<dyn Stream>)
        })
    }
}

/// The same connection over a slow link, whose far end does not hear while it is deaf.
fn slow(fast: DuplexStream, rate: u64, deaf: watch::Receiver<bool>) -> DuplexStream {
    let (ours, relayed) = tokio::io::duplex(64 << 10);
    let (from_us, to_us) = tokio::io::split(relayed);
    let (from_them, to_them) = tokio::io::split(fast);
    tokio::spawn(relay(from_us, to_them, rate, deaf));
    tokio::spawn(relay(from_them, to_us, rate, watch::Sender::new(false).subscribe()));
    ours
}

async fn relay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    rate: u64,
    mut deaf: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 32 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if let Some(micros) = (count as u64 * 1_000_000).checked_div(rate) {
            tokio::time::sleep(Duration::from_micros(micros)).await;
        }
        // Whoever could end the deafness is gone with the test.
        let heard = deaf.wait_for(|deaf| !deaf).await.is_ok();
        if !heard || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    // The other direction has the other half of this end.
    let _ = to.shutdown().await;
}

async fn link(bench: &Arc<Bench>) -> (Link, Secret<[u8; 32]>) {
    let (link, welcome) =
        Link::open(Arc::new(Dialler(Arc::clone(bench))), Arc::new(BootClock)).await.unwrap();
    (link, welcome.structure)
}

/// The machine's engine over a link, serving the server's calls.
async fn machine(bench: &Arc<Bench>, epoch: u64) -> (Link, VolumeHandle) {
    let (link, structure) = link(bench).await;
    let (at, tail) = (link.clone(), bench.tail());
    let space = Arc::new(RemoteSpace::new(link.clone()));
    let handle = spawn_blocking(move || {
        let options = OpenOptions {
            data_key: Some(DataKey::new(&Secret::new([1; 64]))),
            writer: Some(epoch),
            ..OpenOptions::default()
        };
        let structure = blockstore::page::StructureKey::from_bytes(structure);
        let disk = Arc::new(RemoteDisk::new(at, tail));
        let mut engine =
            Engine::open(disk, structure, Arc::new(OsRng), EngineConfig::tiny(), options).unwrap();
        engine.limit_space(space);
        VolumeHandle::over(&id(), engine, 4).unwrap()
    })
    .await
    .unwrap();
    let calls = LentVolume::new(handle.clone());
    link.on_call(Arc::new(move |call| calls.call(call)));
    (link, handle)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    spawn_blocking(work).await.unwrap()
}

fn pattern(seed: u64) -> Vec<u8> {
    (0..8192).map(|at| (seed * 31 + at / 512 + at % 13) as u8).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_survive_connections_that_break() {
    let bench = Bench::new();
    bench.lend(1, LEASE_MS);
    let (link, volume) = machine(&bench, 1).await;
    for round in 0..60u64 {
        let writer = volume.clone();
        let write = spawn_blocking(move || {
            writer.write(round % 50 * 8192, pattern(round)).unwrap();
            if round % 3 == 0 {
                writer.flush().unwrap();
            }
            assert_eq!(writer.read(round % 50 * 8192, 8192).unwrap(), pattern(round));
        });
        if round % 7 == 0 {
            bench.cut_connections();
        }
        write.await.unwrap();
    }
    assert!(bench.dialled.load(Ordering::SeqCst) > 5);
    // The server cuts it where it is.
    let store = bench.store.clone();
    blocking(move || store.cut(&id(), CutId::new("snap-1").unwrap())).await.unwrap();
    let closing = link.clone();
    link.on_call(Arc::new(|_| Err(StoreError::Closed { id: id() })));
    blocking(move || volume.close().unwrap()).await;
    blocking(move || closing.goodbye()).await;
    let away = Arc::clone(&bench.served.lock().unwrap().as_ref().unwrap().away);
    assert!(away.has_stopped());
    bench.take_back().await;

    let options = OpenOptions {
        data_key: Some(DataKey::new(&Secret::new([1; 64]))),
        writer: Some(2),
        ..OpenOptions::default()
    };
    let here = bench.store.open_volume(&id(), options).unwrap();
    for at in 0..50u64 {
        let newest = if at < 10 { at + 50 } else { at };
        assert_eq!(here.read(at * 8192, 8192).unwrap(), pattern(newest), "{at}");
    }
    assert_eq!(bench.store.cuts(&id()).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_machine_is_told_and_its_writes_go_nowhere() {
    let bench = Bench::new();
    let served = bench.lend(1, LEASE_MS);
    let (old, volume) = machine(&bench, 1).await;
    let writer = volume.clone();
    blocking(move || {
        writer.write(0, pattern(1)).unwrap();
        writer.flush().unwrap();
    })
    .await;
    // Writes that were sent and not flushed race with the fence; none comes after it.
    let hammer = volume.clone();
    let hammering = spawn_blocking(move || {
        (0..5000u64)
            .find_map(|n| hammer.write(1 << 20, pattern(n)).and_then(|()| hammer.flush()).err())
    });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let (fence, disk) = (Arc::clone(&served), Arc::clone(&served.loan.disk));
    blocking(move || fence.away.fence()).await;
    let read_all = move || {
        let mut bytes = vec![0; disk.len().unwrap() as usize];
        disk.read(0, &mut bytes).unwrap();
        bytes
    };
    let after_fence = blocking(read_all.clone()).await;
    assert!(hammering.await.unwrap().is_some(), "the fenced machine went on");
    let mut lost = old.lost();
    lost.wait_for(Option::is_some).await.unwrap();
    assert_eq!(*old.lost().borrow(), Some(Loss::Fenced));
    assert!(!old.holds());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(blocking(read_all).await == after_fence, "bytes changed after the fence");
    drop((served, volume));
    bench.take_back().await;

    bench.lend(2, LEASE_MS);
    let (new, volume) = machine(&bench, 2).await;
    let reader = volume.clone();
    assert_eq!(blocking(move || reader.read(0, 8192).unwrap()).await, pattern(1));
    blocking(move || volume.close().unwrap()).await;
    blocking(move || new.goodbye()).await;
}

/// A machine's process that is killed: the next one there finds what was answered, sent or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_machine_finds_what_it_answered() {
    let bench = Bench::new();
    bench.lend(1, LEASE_MS);
    let (link, volume) = machine(&bench, 1).await;
    let writer = volume.clone();
    // More than the tail has room for, so that its buffers go around; and nothing is flushed.
    blocking(move || {
        for round in 0..90 {
            writer.write((round % 40) * (512 << 10), vec![round as u8 + 1; 512 << 10]).unwrap();
        }
    })
    .await;
    // From some write on the server hears nothing; the machine answers until it must hear of it.
    let answered = Arc::new(AtomicU64::new(0));
    let (writer, count) = (volume.clone(), Arc::clone(&answered));
    let writing = spawn_blocking(move || {
        for n in 0.. {
            if writer.write((20 << 20) + n * 8192, pattern(n)).is_err() {
                return;
            }
            count.store(n + 1, Ordering::SeqCst);
        }
    });
    while answered.load(Ordering::SeqCst) < 20 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    bench.deaf.send_replace(true);
    let mut seen = 0;
    while seen != answered.load(Ordering::SeqCst) {
        seen = answered.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let left = std::fs::read(bench.folder.path().join("machine.tail")).unwrap();
    bench.cut_connections();
    bench.take_back().await;
    writing.await.unwrap();
    blocking(move || drop((link, volume))).await;
    bench.deaf.send_replace(false);
    // As a file of its own: threads of the first machine may still have the other one in their memory,
    // which those of a process that was killed have not.
    let copy = bench.folder.path().join("machine.left");
    std::fs::write(&copy, left).unwrap();
    std::fs::rename(&copy, bench.folder.path().join("machine.tail")).unwrap();

    bench.lend(2, LEASE_MS);
    let (next, volume) = machine(&bench, 2).await;
    let reader = volume.clone();
    blocking(move || {
        for block in 0..40 {
            let newest = if block < 10 { 80 + block } else { 40 + block };
            let found = reader.read(block * (512 << 10), 512 << 10).unwrap();
            assert!(found == vec![newest as u8 + 1; 512 << 10], "block {block}");
        }
        for n in 0..seen {
            let found = reader.read((20 << 20) + n * 8192, 8192).unwrap();
            assert!(found == pattern(n), "write {n} of {seen} that were answered");
        }
    })
    .await;
    next.on_call(Arc::new(|_| Err(StoreError::Closed { id: id() })));
    blocking(move || volume.close().unwrap()).await;
    assert!(!bench.folder.path().join("machine.tail").exists());
    blocking(move || next.goodbye()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_hears_nothing_stops_before_the_server_counts_it_out() {
    let bench = Bench::new();
    let served = bench.lend(1, 1000);
    let (link, _structure) = link(&bench).await;
    assert!(link.holds() && !served.away.has_stopped());
    // Renewals keep it going for longer than one lease.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(link.holds() && served.away.is_connected());

    bench.down.store(true, Ordering::SeqCst);
    bench.cut_connections();
    let disk = RemoteDisk::new(link.clone(), bench.tail());
    let began = BootClock.millis();
    let stalled = blocking(move || disk.len()).await;
    assert!(stalled.is_err());
    let mut lost = link.lost();
    assert_eq!(*lost.wait_for(Option::is_some).await.unwrap(), Some(Loss::LeaseEnded));
    assert!(!link.holds());
    assert!(!served.away.has_stopped(), "the server counted the machine out first");
    assert!(BootClock.millis() - began <= 1000);
    while !served.away.has_stopped() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let call = served.away.call(blockstore::store::EngineCall::Cuts);
    assert!(matches!(call, Err(StoreError::Away { .. })));
}

/// Three seconds of it are under way at once, over a lease of one.
const LOAD_BYTES: u64 = 24 << 20;
const SLOW_RATE: u64 = 8 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_take_longer_than_a_lease_do_not_end_it() {
    let bench = Bench::new();
    bench.rate.store(SLOW_RATE, Ordering::SeqCst);
    let served = bench.lend(1, 1000);
    let (link, _) = link(&bench).await;
    let disk = RemoteDisk::new(link.clone(), bench.tail());
    let began = BootClock.millis();
    blocking(move || {
        disk.write(0, &vec![7; LOAD_BYTES as usize]).unwrap();
        disk.flush().unwrap();
    })
    .await;
    assert!(BootClock.millis() - began > 2000, "too fast to mean anything");
    assert!(link.holds() && !served.away.has_stopped());
    assert_eq!(bench.dialled.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_take_longer_than_a_lease_do_not_end_it() {
    let bench = Bench::new();
    bench.rate.store(SLOW_RATE, Ordering::SeqCst);
    let served = bench.lend(1, 1000);
    served.loan.disk.write(0, &vec![7; LOAD_BYTES as usize]).unwrap();
    let (link, _) = link(&bench).await;
    let disk = Arc::new(RemoteDisk::new(link.clone(), bench.tail()));
    let began = BootClock.millis();
    let reads = (0..LOAD_BYTES >> 20).map(|piece| {
        let disk = Arc::clone(&disk);
        spawn_blocking(move || {
            let mut bytes = vec![0; 1 << 20];
            disk.read(piece << 20, &mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 7));
        })
    });
    for read in reads.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    assert!(BootClock.millis() - began > 2000, "too fast to mean anything");
    assert!(link.holds() && !served.away.has_stopped());
}

/// A disk whose writes wait until they may go on.
struct Stalled {
    disk: Arc<dyn Disk>,
    goes_on: Mutex<bool>,
    changed: Condvar,
}

impl Disk for Stalled {
    fn read(&self, offset: u64, target: &mut [u8]) -> std::io::Result<()> {
        self.disk.read(offset, target)
    }

    fn write(&self, offset: u64, source: &[u8]) -> std::io::Result<()> {
        let goes_on = self.goes_on.lock().unwrap();
        drop(self.changed.wait_while(goes_on, |goes_on| !*goes_on).unwrap());
        self.disk.write(offset, source)
    }

    fn flush(&self) -> std::io::Result<()> {
        self.disk.flush()
    }

    fn len(&self) -> std::io::Result<u64> {
        self.disk.len()
    }

    fn punch(&self, offset: u64, length: u64) -> std::io::Result<()> {
        self.disk.punch(offset, length)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stalls_for_longer_than_a_lease_does_not_end_it() {
    let bench = Bench::new();
    let away = Arc::new(Away::new(id(), Arc::new(BootClock), 1000));
    let mut loan = bench.store.lend(&id(), Arc::clone(&away) as _).unwrap();
    let stalled = Arc::new(Stalled {
        disk: Arc::clone(&loan.disk),
        goes_on: Mutex::default(),
        changed: Condvar::new(),
    });
    loan.disk = Arc::clone(&stalled) as _;
    let served = Arc::new(Served {
        away,
        epoch: 1,
        size_bytes: SIZE,
        loan,
        base: None,
        plain_key: None,
        snapshots: Arc::new(NoSnapshots),
    });
    *bench.served.lock().unwrap() = Some(served);
    let (link, _) = link(&bench).await;
    let disk = Arc::new(RemoteDisk::new(link.clone(), bench.tail()));
    // As much as a machine keeps unflushed, in small pieces.
    let writer = Arc::clone(&disk);
    blocking(move || {
        for piece in 0..7000 {
            writer.write(piece * 4096, &[piece as u8; 4096]).unwrap();
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(2000)).await;
    assert!(link.holds(), "{:?}", *link.lost().borrow());
    *stalled.goes_on.lock().unwrap() = true;
    stalled.changed.notify_all();
    blocking(move || {
        disk.flush().unwrap();
        let mut bytes = vec![0; 4096];
        disk.read(6999 * 4096, &mut bytes).unwrap();
        assert!(bytes == [6999_u64 as u8; 4096]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_for_a_server_that_comes_back_in_time() {
    let bench = Bench::new();
    bench.lend(1, LEASE_MS);
    let (_link, volume) = machine(&bench, 1).await;
    bench.down.store(true, Ordering::SeqCst);
    bench.cut_connections();
    let writer = volume.clone();
    let stalled = spawn_blocking(move || {
        writer.write(0, pattern(4)).unwrap();
        writer.flush().unwrap();
    });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(!stalled.is_finished());
    bench.down.store(false, Ordering::SeqCst);
    stalled.await.unwrap();
    assert_eq!(blocking(move || volume.read(0, 8192).unwrap()).await, pattern(4));
}

#[derive(Default)]
struct Levels(Mutex<Vec<SpaceLevel>>);

impl SpaceWatcher for Levels {
    fn space_changed(&self, report: SpaceReport) {
        self.0.lock().unwrap().push(report.level);
    }
}

/// A guest elsewhere is refused before the server's space is gone, and goes on when it gives some back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_may_take_what_the_server_has() {
    let capacity = 12 << 20;
    let limits = SpaceLimits { capacity_bytes: Some(capacity), ..SpaceLimits::server() };
    let bench = Bench::with_space(limits);
    let levels = Arc::new(Levels::default());
    bench.store.watch_space(Arc::clone(&levels) as _);
    let served = bench.lend(1, LEASE_MS);
    let (link, volume) = machine(&bench, 1).await;
    let guest = volume.clone();
    let written = blocking(move || {
        let write = |at: u64| guest.write(at << 18, vec![at as u8 + 1; 1 << 18]);
        let refused = (0..64).find_map(|at| Some((at, write(at).err()?)));
        let (written, error) = refused.expect("16 MiB do not fit");
        assert!(matches!(error, StoreError::Volume(Error::Full)), "{error}");
        guest.flush().unwrap();
        (0..written).for_each(|at| {
            assert!(guest.read(at << 18, 1 << 18).unwrap() == vec![at as u8 + 1; 1 << 18]);
        });
        written
    })
    .await;
    assert!((8..40).contains(&written), "{written} quarters of a MiB fitted");
    let taken = served.loan.disk.len().unwrap();
    assert!(taken <= capacity, "{taken} bytes are taken");
    assert_eq!(levels.0.lock().unwrap().last(), Some(&SpaceLevel::Full));

    // The books know of the volume also in a connection that begins anew.
    bench.cut_connections();
    let guest = volume.clone();
    blocking(move || {
        assert!(guest.write(60 << 18, vec![1; 1 << 18]).is_err());
        guest.discard(0, (written / 2) << 18).unwrap();
        guest.flush().unwrap();
        guest.write(60 << 18, vec![1; 1 << 18]).unwrap();
        guest.flush().unwrap();
    })
    .await;
    link.on_call(Arc::new(|_| Err(StoreError::Closed { id: id() })));
    blocking(move || volume.close().unwrap()).await;
    blocking(move || link.goodbye()).await;
    bench.take_back().await;
    // A loan that ended has no line in the books any more: another may have its own.
    let need = Need { held: 1, upkeep: 0 };
    assert!(!served.loan.ask(need));
}

/// The server's end of a call while the machine cannot be heard: what was asked to be held ends at the
/// machine by itself, and the server waits no longer than half a lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_server_asked_to_hold_ends_with_its_connection() {
    let bench = Bench::new();
    let served = bench.lend(1, LEASE_MS);
    let (_link, volume) = machine(&bench, 1).await;
    let ask = |call| {
        let away = Arc::clone(&served.away);
        blocking(move || away.call(call))
    };
    assert_eq!(ask(EngineCall::HoldState(7)).await.unwrap(), EngineAnswer::Done);
    let stands = EngineCall::StateStands(7);
    assert_eq!(ask(stands).await.unwrap(), EngineAnswer::Stands(true));
    assert_eq!(ask(EngineCall::StandStill).await.unwrap(), EngineAnswer::Done);
    let writer = volume.clone();
    let write = spawn_blocking(move || writer.write(0, pattern(1)));
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!write.is_finished(), "a volume that stands still took a write");

    let began = BootClock.millis();
    bench.cut_connections();
    write.await.unwrap().unwrap();
    let standing = u128::from(BootClock.millis() - began);
    assert!(standing < blockstore::store::STILL_TIME_MAX.as_millis(), "{standing} ms");
    let cut = CutId::new("snap-1").unwrap();
    let late = loop {
        match ask(EngineCall::CutStill(cut)).await {
            // Not connected again yet.
            Err(StoreError::Away { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            answer => break answer,
        }
    };
    assert!(matches!(late, Err(StoreError::WentOn { .. })), "{late:?}");
    assert_eq!(ask(stands).await.unwrap(), EngineAnswer::Stands(false));
    assert_eq!(ask(EngineCall::Cuts).await.unwrap(), EngineAnswer::Cuts(vec![]));
    assert_eq!(ask(EngineCall::Size).await.unwrap(), EngineAnswer::Size(SIZE));
}

/// A base whose pages are damaged unless they are asked for as proven.
struct Damaged;

fn base_page(lba: Lba, first: u8) -> BasePage {
    let mut ciphertext = Box::new([7; PAGE_BYTES]);
    ciphertext[0] = first;
    let origin = PageOrigin { salt: Salt([1; 32]), position: lba as u32 };
    BasePage::Sealed(SealedPage { origin, tag: Tag([2; 16]), ciphertext })
}

impl BaseReader for Damaged {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        Ok(base_page(lba, 0))
    }

    fn read_page_proven(&self, lba: Lba) -> Result<BasePage, SourceError> {
        match lba {
            40 => Err(SourceError::Corrupt { what: "page", block: 0 }),
            _ => Ok(base_page(lba, 1)),
        }
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        Ok(block == 0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_of_the_base_that_does_not_open_is_asked_for_as_proven() {
    let bench = Bench::new();
    let base = Base { id: CutId::new("snap-1").unwrap(), reader: Arc::new(Damaged), key: None };
    bench.lend_over(1, LEASE_MS, Some(base));
    let (link, _) = link(&bench).await;
    let base = RemoteBase::new(link);
    blocking(move || {
        assert_eq!(base.read_page(39).unwrap(), base_page(39, 0));
        assert_eq!(base.read_page_proven(39).unwrap(), base_page(39, 1));
        assert!(matches!(base.read_page_proven(40), Err(SourceError::Corrupt { .. })));
        assert!(base.has_block(0).unwrap() && !base.has_block(1).unwrap());
    })
    .await;
    bench.take_back().await;
}
