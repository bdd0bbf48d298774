use super::*;
use base::OsRng;
use blockstore::live::{Disk, Need};
use blockstore::store::{SpaceLevel, SpaceLimits, SpaceReport, SpaceWatcher, Store, StoreConfig};
use std::sync::atomic::AtomicU64;

/// A clock that is set.
#[derive(Default)]
struct SetClock(AtomicU64);

impl SteadyClock for SetClock {
    fn millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

const LEASE_MS: u32 = 20_000;

fn away(clock: &Arc<SetClock>) -> Arc<Away> {
    let id = VolumeId::parse("vol-00000001").unwrap();
    Arc::new(Away::new(id, Arc::clone(clock) as _, LEASE_MS))
}

/// The ends of a connection's ways out.
type Connection = (mpsc::Receiver<Out>, mpsc::Receiver<Vec<u8>>);

fn connect(away: &Away) -> Option<(SessionId, Connection)> {
    let ((out, frames), (urgent, urgent_frames)) = (mpsc::channel(4), mpsc::channel(4));
    away.begin(out, urgent).map(|(session, _)| (session, (frames, urgent_frames)))
}

/// Until somebody waits for the requests that have passed.
fn await_waiter(gate: &Gate, session: SessionId) {
    while gate.try_pass(session).is_some() {
        std::thread::yield_now();
    }
}

/// Whoever waits for a request of the machine to end must not have what that request needs to end.
#[test]
fn a_goodbye_passes_a_fence_that_waits_for_it() {
    let clock = Arc::new(SetClock::default());
    let away = away(&clock);
    let (session, _connection) = connect(&away).unwrap();
    clock.0.store(u64::from(LEASE_MS), Ordering::SeqCst);
    std::thread::scope(|scope| {
        let passage = away.gate.pass(session);
        let fence = scope.spawn(|| away.fence_if_stopped());
        await_waiter(&away.gate, session);
        assert!(away.present.try_lock().is_ok(), "the connection is locked while the disk works");
        away.say_goodbye();
        drop(passage);
        assert!(fence.join().unwrap());
    });
    assert!(connect(&away).is_none());
}

/// Also when its last renewal is read after it.
#[test]
fn nobody_waits_for_the_answer_of_a_machine_that_said_goodbye() {
    let away = away(&Arc::default());
    let (session, (_frames, mut urgent)) = connect(&away).unwrap();
    let (sender, ended) = channel();
    let caller = Arc::clone(&away);
    // Not joined: it may wait for ever.
    std::thread::spawn(move || sender.send(caller.call(EngineCall::Size).is_err()));
    assert!(urgent.blocking_recv().is_some());
    away.say_goodbye();
    away.renew(session).unwrap();
    assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Ok(true));
}

#[test]
fn a_connection_that_waits_for_the_one_before_locks_nothing() {
    let away = away(&Arc::default());
    let (session, _connection) = connect(&away).unwrap();
    std::thread::scope(|scope| {
        let passage = away.gate.pass(session);
        let next = scope.spawn(|| connect(&away).is_some());
        await_waiter(&away.gate, session);
        assert!(away.present.try_lock().is_ok(), "the connection is locked while the disk works");
        drop(passage);
        assert!(next.join().unwrap());
    });
}

fn store(folder: &tempfile::TempDir) -> Store {
    let (rng, key) = (Arc::new(OsRng), Secret::new([9; 32]));
    Store::open(folder.path(), key, rng, StoreConfig::server()).unwrap()
}

fn served(folder: &tempfile::TempDir, away: Arc<Away>) -> Arc<Served> {
    served_from(&store(folder), away)
}

fn served_from(store: &Store, away: Arc<Away>) -> Arc<Served> {
    let options =
        blockstore::live::VolumeOptions { size_bytes: 64 << 20, key_check: None, base: None };
    store.create_volume(&away.id, &options).unwrap();
    let loan = store.lend(&away.id, Arc::clone(&away) as _).unwrap();
    let snapshots = Arc::new(NoSnapshots);
    let size_bytes = options.size_bytes;
    Arc::new(Served { away, epoch: 1, size_bytes, loan, base: None, plain_key: None, snapshots })
}

struct NoSnapshots;

impl Snapshots for NoSnapshots {
    fn list(&self) -> SnapshotList {
        SnapshotList::default()
    }
}

/// Machines that dial again and again while a disk stands still leave the server to all others: here it
/// has one thread, which is this one.
#[tokio::test]
async fn connections_behind_a_disk_that_stalls_hold_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(&folder, away(&Arc::default()));
    let (session, _connection) = connect(&served.away).unwrap();
    let passage = served.away.gate.pass(session);
    let [_, _, mut newest] = [(); 3].map(|()| {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        tokio::spawn(Arc::clone(&served).serve(theirs));
        ours
    });
    while served.away.gate.try_pass(session).is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(served.away.beginning.available_permits(), 0);
    drop(passage);
    let welcome = read_frame(&mut newest).await.unwrap().unwrap();
    assert!(matches!(Reply::decode(&welcome), Some((0, Reply::Welcome(_)))));
}

/// A machine that asks for flush after flush is not read any further either.
#[test]
fn a_flush_takes_room_until_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(&folder, away(&Arc::default()));
    let (session, (mut frames, _urgent)) = connect(&served.away).unwrap();
    let out = served.away.present().session.as_ref().unwrap().out.clone();
    let worker = Worker { served, session, out };
    let room = Arc::new(Semaphore::new(3));
    let ((queue, requests), (flushes, waiting)) = (mpsc::unbounded_channel(), channel());
    for id in 1..=3 {
        let part = Arc::clone(&room).try_acquire_owned().unwrap();
        queue.send(Waiting { id, request: Request::Flush, part }).unwrap();
    }
    drop(queue);
    worker.clone().work(requests, &flushes);
    assert_eq!(room.available_permits(), 0, "what waits takes no room");
    drop(flushes);
    worker.flush(&waiting);
    assert_eq!(room.available_permits(), 3);
    for id in 1..=3 {
        let Ok(Out::Frame(reply)) = frames.try_recv() else { panic!("flush {id} is not answered") };
        assert!(matches!(Reply::decode(&reply[4..]), Some((found, Reply::Done)) if found == id));
    }
}

/// A process that gives the volumes up to another writes nothing more, whatever waits, and takes no volume
/// from its machine.
#[tokio::test]
async fn a_server_that_stops_ends_connections_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let served = served(&folder, away(&Arc::default()));
    let (mut ours, theirs) = tokio::io::duplex(1 << 10);
    let serving = tokio::spawn(Arc::clone(&served).serve(theirs));
    read_frame(&mut ours).await.unwrap().unwrap();
    let session = served.away.present().session.as_ref().unwrap().id;
    served.away.stop();
    assert!(served.away.gate.pass(session).is_none(), "what waits is written");
    assert!(read_frame(&mut ours).await.unwrap().is_none());
    serving.await.unwrap();
    // One that was on its way.
    let (mut ours, theirs) = tokio::io::duplex(1 << 10);
    served.serve(theirs).await;
    assert!(read_frame(&mut ours).await.unwrap().is_none());
}

/// A disk on which everything fails, each in its own way, and which is full and knows no holes.
struct Failing;

impl Disk for Failing {
    fn read(&self, offset: u64, _target: &mut [u8]) -> io::Result<()> {
        Err(if offset == 0 { Errno::TIMEDOUT.into() } else { Errno::IO.into() })
    }

    fn write(&self, _offset: u64, _source: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn forget_cached(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn punch(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A segment's space that cannot be given back is no reason for a machine to lose its volume.
#[test]
fn a_file_system_without_holes_fails_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = served(&folder, away(&Arc::default()));
    Arc::get_mut(&mut served).unwrap().loan.disk = Arc::new(Failing);
    assert!(served.execute(Request::Punch { offset: 0, length: 1 << 26 }).is_none());
    assert!(served.execute(Request::FillAhead { offset: 0, length: 4096 }).is_none());
    let refused = served.execute(Request::Write { offset: 0, data: vec![1] });
    assert!(matches!(refused, Some(Reply::Failed(Failure::NoSpace))));
}

/// A lost sector is told as one: the machine's engine goes on without what it held, and stops at all else.
#[test]
fn a_place_that_cannot_be_read_is_no_failure_of_the_storage() {
    let folder = tempfile::tempdir().unwrap();
    let mut served = served(&folder, away(&Arc::default()));
    let forgotten = served.execute(Request::ForgetCached);
    assert!(matches!(forgotten, Some(Reply::Done)));
    Arc::get_mut(&mut served).unwrap().loan.disk = Arc::new(Failing);
    let failure = |request| match served.execute(request) {
        Some(Reply::Failed(failure)) => failure,
        reply => panic!("{reply:?}"),
    };
    assert_eq!(failure(Request::Read { offset: 4096, length: 4096 }), Failure::Unreadable);
    assert_eq!(failure(Request::Read { offset: 0, length: 4096 }), Failure::Storage);
    assert_eq!(failure(Request::ForgetCached), Failure::Storage);
}

/// The levels of space that were told.
#[derive(Default)]
struct Levels(Mutex<Vec<SpaceLevel>>);

impl SpaceWatcher for Levels {
    fn space_changed(&self, report: SpaceReport) {
        self.0.lock().unwrap().push(report.level);
    }
}

/// A machine that was tampered with is not believed what its volume cannot need, nor that its guest was
/// refused.
#[test]
fn a_need_that_is_made_up_leaves_space_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let space = SpaceLimits { reserve_bytes: 0, low_percent: 0, ..SpaceLimits::server() };
    let config = StoreConfig { space, ..StoreConfig::server() };
    let key = Secret::new([9; 32]);
    let store = Store::open(folder.path(), key, Arc::new(OsRng), config).unwrap();
    let levels = Arc::new(Levels::default());
    store.watch_space(Arc::clone(&levels) as Arc<dyn SpaceWatcher>);
    let floor = store.floor(folder.path()).unwrap().unwrap();
    let hostile = served_from(&store, away(&Arc::default()));
    let id = VolumeId::parse("vol-00000002").unwrap();
    let clock: Arc<SetClock> = Arc::default();
    let honest = served_from(&store, Arc::new(Away::new(id, clock, LEASE_MS)));
    let asked = |served: &Served, call, need| {
        let reply = served.execute(Request::Space { call, need });
        let Some(Reply::Space { granted, .. }) = reply else { panic!("no answer") };
        granted
    };
    let made_up = Need { held: 1 << 62, upkeep: 1 << 62 };
    asked(&hostile, SpaceCall::Tell, made_up);
    asked(&hostile, SpaceCall::Refused, Need::default());
    let need = Need { held: 64 << 20, upkeep: 64 << 20 };
    assert!(asked(&honest, SpaceCall::Ask, need), "another volume is refused");
    assert!(floor.bytes() < 2 << 30, "snapshots wait for {} bytes", floor.bytes());
    assert!(levels.0.lock().unwrap().is_empty());
}
