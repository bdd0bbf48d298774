//! Volumes at machines that open them themselves: fences, leases and tickets of their channels.

use crate::history::SnapshotRows;
use api::channel::Channels;
use base::{OsRng, Region, Rng, Secret, VolumeId};
use lifecycle::cells::Cells;
use lifecycle::port::host::{CloseVolume, Force, HostError, KeepVolume, LendVolume, Tenure};
use remote::{Away, BootClock, Served, SteadyClock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::Duration;
use tokio::task::spawn_blocking;

/// How long a ticket is good.
const TICKET_TIME_MS: u64 = 30_000;
/// Tickets given and not used; the oldest go first.
const TICKETS_MAX: usize = 4096;
/// How often a machine that shall let go is looked at.
const LET_GO_POLL: Duration = Duration::from_millis(50);
/// Looks after which it is asked again: its connection may have broken in between.
const LOOKS_PER_ASKING: u32 = 20;

type Place = (Region, VolumeId);

/// A volume that is away.
#[derive(Clone)]
enum Lent {
    /// Its machine may connect.
    Served(Arc<Served>),
    /// It could not be lent again after a start of the server.
    Kept(Arc<Kept>),
}

struct Kept {
    away: Arc<Away>,
    epoch: u64,
    mark: blockstore::store::Kept,
}

impl Lent {
    fn away(&self) -> &Away {
        match self {
            Self::Served(served) => &served.away,
            Self::Kept(kept) => &kept.away,
        }
    }

    fn epoch(&self) -> u64 {
        match self {
            Self::Served(served) => served.epoch,
            Self::Kept(kept) => kept.epoch,
        }
    }

    /// Takes the fence, then gives the volume free.
    fn end(&self) {
        self.away().fence();
        self.give_free();
    }

    /// The same if its machine has surely stopped; `false` when it has not.
    fn end_if_stopped(&self) -> bool {
        let fenced = self.away().fence_if_stopped();
        if fenced {
            self.give_free();
        }
        fenced
    }

    fn give_free(&self) {
        match self {
            Self::Served(served) => served.loan.end(),
            Self::Kept(kept) => kept.mark.end(),
        }
    }

    fn is(&self, other: &Self) -> bool {
        std::ptr::eq(self.away(), other.away())
    }
}

/// The volumes that are lent.
pub(crate) struct Lending {
    cells: Arc<Cells>,
    db: meta::Db,
    clock: BootClock,
    lease_ms: u32,
    lent: Mutex<BTreeMap<Place, Lent>>,
    tickets: Mutex<BTreeMap<String, Ticket>>,
    /// The volumes that are being lent right now.
    turns: Mutex<BTreeSet<Place>>,
    turn_ended: Condvar,
}

struct Ticket {
    /// Only while it is lent: a ticket that nobody uses keeps no file open and no keys.
    served: Weak<Served>,
    until_ms: u64,
}

impl Lending {
    pub(crate) fn new(cells: Arc<Cells>, db: meta::Db, lease_seconds: u32) -> Self {
        Self {
            cells,
            db,
            clock: BootClock,
            lease_ms: lease_seconds * 1000,
            lent: Mutex::default(),
            tickets: Mutex::default(),
            turns: Mutex::default(),
            turn_ended: Condvar::new(),
        }
    }

    /// Gives a volume to a machine. Whoever had it under an earlier epoch is fenced first, which without
    /// force needs it to have surely stopped. Blocks on disks.
    pub(crate) fn lend(&self, request: LendVolume) -> Result<(), HostError> {
        let place = (request.region.clone(), request.volume.clone());
        let _turn = self.turn(&place);
        let earlier = self.lent().get(&place).cloned();
        if let Some(earlier) = earlier {
            // Two openings at once: the rows gave the later epoch to one of them, and it came first.
            if earlier.epoch() > request.epoch {
                return Err(HostError::Superseded);
            }
            match request.force {
                Force::Yes => earlier.end(),
                Force::No if earlier.end_if_stopped() => {}
                Force::No => return Err(HostError::Held),
            }
            self.forget(&place, &earlier);
        }
        let cell = self.cells.get(&request.region).ok_or_else(|| {
            HostError::Storage(format!("the region {} is not served", request.region).into())
        })?;
        let (id, clock) = (request.volume.clone(), Arc::new(self.clock));
        let away = Arc::new(match request.tenure {
            Tenure::New => Away::new(id, clock, self.lease_ms),
            Tenure::Standing { lease_ms: held_ms } => {
                Away::standing(id, clock, self.lease_ms, held_ms)
            }
        });
        let (loan, base) = cell.lend(&request, Arc::clone(&away) as _)?;
        let LendVolume { region, volume, size_bytes, epoch, plain_key, .. } = request;
        let snapshots = Arc::new(SnapshotRows { db: self.db.clone(), region, volume });
        let served = Served { away, epoch, size_bytes, loan, base, plain_key, snapshots };
        let served = Arc::new(served);
        self.lent().insert(place, Lent::Served(served));
        Ok(())
    }

    /// Keeps a volume from being opened here that could not be lent again, as if it had been: its machine
    /// may have it open. Blocks while somebody uses it.
    pub(crate) fn keep(&self, request: KeepVolume) -> Result<(), HostError> {
        let KeepVolume { region, volume, epoch, lease_ms } = request;
        let place = (region, volume);
        let _turn = self.turn(&place);
        if self.lent().contains_key(&place) {
            return Ok(());
        }
        // Nobody opens what is not served.
        let Some(cell) = self.cells.get(&place.0) else { return Ok(()) };
        let clock = Arc::new(self.clock);
        let away = Arc::new(Away::standing(place.1.clone(), clock, self.lease_ms, lease_ms));
        let mark = cell.live.keep(&place.1, Arc::clone(&away) as _);
        let mark = mark.map_err(|error| HostError::Storage(Box::new(error)))?;
        self.lent().insert(place, Lent::Kept(Arc::new(Kept { away, epoch, mark })));
        Ok(())
    }

    pub(crate) fn lease_ms(&self) -> u32 {
        self.lease_ms
    }

    pub(crate) fn ticket(
        &self,
        region: &Region,
        volume: &VolumeId,
        epoch: u64,
    ) -> Result<Option<Secret<String>>, HostError> {
        let lent = self.lent().get(&(region.clone(), volume.clone())).cloned();
        let served = match lent.filter(|lent| lent.epoch() == epoch) {
            Some(Lent::Served(served)) => served,
            Some(Lent::Kept(_)) => {
                return Err(HostError::Storage("the volume could not be lent again".into()));
            }
            None => return Ok(None),
        };
        let mut random = [0; 32];
        OsRng.fill(&mut random);
        let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = self.clock.millis();
        let mut tickets = self.tickets();
        tickets.retain(|_, ticket| ticket.until_ms > now);
        while tickets.len() >= TICKETS_MAX {
            let oldest = tickets.iter().min_by_key(|(_, ticket)| ticket.until_ms);
            let Some(oldest) = oldest.map(|(text, _)| text.clone()) else { break };
            tickets.remove(&oldest);
        }
        let served = Arc::downgrade(&served);
        tickets.insert(text.clone(), Ticket { served, until_ms: now + TICKET_TIME_MS });
        Ok(Some(Secret::new(text)))
    }

    /// Takes a volume back: asks its machine unless forced, waits until it has surely stopped, and
    /// takes the fence.
    pub(crate) async fn take_back(
        self: &Arc<Self>,
        request: &CloseVolume,
    ) -> Result<(), HostError> {
        let place = (request.region.clone(), request.volume.clone());
        // An opening whose caller went away may still be lending it.
        let (lending, at) = (Arc::clone(self), place.clone());
        let waited = spawn_blocking(move || drop(lending.turn(&at))).await;
        waited.map_err(|error| HostError::Device(Box::new(error)))?;
        let Some(lent) = self.lent().get(&place).cloned() else { return Ok(()) };
        if request.force == Force::Yes {
            blocking(&lent, Lent::end).await?;
        } else {
            let mut looks = 0;
            // What stopped and is not fenced yet could still be granted a lease.
            while !(lent.away().has_stopped() && blocking(&lent, Lent::end_if_stopped).await?) {
                if looks % LOOKS_PER_ASKING == 0 {
                    lent.away().ask_to_let_go();
                }
                looks += 1;
                tokio::time::sleep(LET_GO_POLL).await;
            }
        }
        self.forget(&place, &lent);
        Ok(())
    }

    /// Ends all channels when the server stops: the next one may have the volumes as soon as this returns.
    /// The rows still say who has which, and machines dial on.
    pub(crate) async fn stop(&self) {
        let lent: Vec<_> = self.lent().values().cloned().collect();
        for lent in lent {
            if let Err(error) = blocking(&lent, |lent| lent.away().stop()).await {
                tracing::error!(%error, "a channel did not end");
            }
        }
    }

    /// Waits until nobody else lends the volume.
    fn turn(&self, place: &Place) -> Turn<'_> {
        let taken = self.turns.lock().expect("no code panics while it holds the set");
        let mut taken = self
            .turn_ended
            .wait_while(taken, |taken| taken.contains(place))
            .expect("no code panics while it holds the set");
        taken.insert(place.clone());
        Turn { lending: self, place: place.clone() }
    }

    /// Removes a volume that was given free, unless it was lent again.
    fn forget(&self, place: &Place, ended: &Lent) {
        let mut lent = self.lent();
        if lent.get(place).is_some_and(|current| current.is(ended)) {
            lent.remove(place);
        }
    }

    fn lent(&self) -> MutexGuard<'_, BTreeMap<Place, Lent>> {
        self.lent.lock().expect("no code panics while it holds the map")
    }

    fn tickets(&self) -> MutexGuard<'_, BTreeMap<String, Ticket>> {
        self.tickets.lock().expect("no code panics while it holds the map")
    }
}

/// Waits for disks elsewhere.
async fn blocking<T: Send + 'static>(
    lent: &Lent,
    work: impl FnOnce(&Lent) -> T + Send + 'static,
) -> Result<T, HostError> {
    let lent = lent.clone();
    spawn_blocking(move || work(&lent)).await.map_err(|error| HostError::Device(Box::new(error)))
}

/// The right to lend a volume; given back when dropped.
struct Turn<'a> {
    lending: &'a Lending,
    place: Place,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut taken = self.lending.turns.lock().expect("no code panics while it holds the set");
        taken.remove(&self.place);
        self.lending.turn_ended.notify_all();
    }
}

impl Channels for Lending {
    fn redeem(&self, ticket: &str) -> Option<Arc<Served>> {
        let now = self.clock.millis();
        let ticket = self.tickets().remove(ticket)?;
        ticket.served.upgrade().filter(|_| ticket.until_ms > now)
    }

    fn disconnect(&self, region: &Region, volume: &VolumeId) {
        let lent = self.lent().get(&(region.clone(), volume.clone())).cloned();
        if let Some(Lent::Served(served)) = lent {
            let is_of = |ticket: &Ticket| ticket.served.as_ptr() == Arc::as_ptr(&served);
            self.tickets().retain(|_, ticket| !is_of(ticket));
            served.away.disconnect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::host::Host;
    use crate::serve::local::Offers;
    use base::{Clock, SystemClock};
    use blockstore::live::OpenOptions;
    use blockstore::page::DataKey;
    use blockstore::snapshot::SnapshotStore;
    use blockstore::store::{Store, StoreConfig, StoreError};
    use lifecycle::BandwidthLimits;
    use lifecycle::cells::Cell;
    use lifecycle::port::blocks::VolumeBlocks;
    use lifecycle::port::host::AttachHost;
    use objstore::MemoryStore;
    use remote::{BoxFuture, Dial, DialError, Link, Loss, Stream};
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::task::AbortHandle;

    /// A server that lends, and the network between it and machines.
    struct Bench {
        lending: Arc<Lending>,
        /// Every connection is broken, and no other comes about.
        is_down: AtomicBool,
        connections: Mutex<Vec<AbortHandle>>,
        folder: tempfile::TempDir,
    }

    /// A machine's way to the server, under its epoch.
    struct Dialler(Arc<Bench>, u64);

    impl Dial for Dialler {
        fn dial(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, DialError>> {
            Box::pin(async move {
                let Self(bench, epoch) = self;
                if bench.is_down.load(Ordering::SeqCst) {
                    return Err(DialError::Unreachable("down".to_owned()));
                }
                let (region, volume) = place();
                let refused = || DialError::Refused("fenced".to_owned());
                let ticket = bench.lending.ticket(&region, &volume, *epoch);
                let ticket = ticket.ok().flatten().ok_or_else(refused)?;
                let served = bench.lending.redeem(ticket.expose()).ok_or_else(refused)?;
                let (ours, theirs) = tokio::io::duplex(64 << 10);
                let task = tokio::spawn(served.serve(theirs));
                bench.connections.lock().unwrap().push(task.abort_handle());
                Ok(Box::new(ours) as Box<dyn Stream>)
            })
        }
    }

    fn place() -> Place {
        (Region::parse("us-east-1").unwrap(), VolumeId::parse("vol-00000001").unwrap())
    }

    fn request(epoch: u64, force: Force) -> LendVolume {
        let (region, volume) = place();
        LendVolume {
            region,
            volume,
            size_bytes: 1 << 30,
            base: None,
            twin: None,
            epoch,
            tenure: Tenure::New,
            force,
            plain_key: None,
        }
    }

    fn closing() -> CloseVolume {
        let (region, volume) = place();
        let instance = base::InstanceId::parse("i-00000001").unwrap();
        let device = "/dev/sdf".to_owned();
        let (attached, force) = (SystemClock.now(), Force::No);
        CloseVolume { region, volume, instance, device, attached, force }
    }

    impl Bench {
        fn new(lease_seconds: u32) -> Arc<Self> {
            let folder = tempfile::tempdir().unwrap();
            let (rng, key) = (Arc::new(OsRng), Secret::new([7; 32]));
            let live = Store::open(folder.path(), key, rng.clone(), StoreConfig::server()).unwrap();
            let clock: Arc<dyn Clock> = Arc::new(SystemClock);
            let snapshots = || {
                let objects = Arc::new(MemoryStore::new(Arc::clone(&clock)));
                SnapshotStore::new(objects, &Secret::new([8; 32]), rng.clone())
            };
            let cell = Cell::new(live, snapshots(), snapshots(), snapshots());
            let (region, volume) = place();
            let blocks = VolumeBlocks { region, volume, size_bytes: 1 << 30, base: None };
            cell.make_volume(&blocks).unwrap();
            let cells = BTreeMap::from([(place().0, cell)]);
            let cells = Cells::new(cells, Arc::clone(&clock), &BandwidthLimits::new());
            let db = meta::Db::memory().unwrap();
            Arc::new(Self {
                lending: Arc::new(Lending::new(Arc::new(cells), db, lease_seconds)),
                is_down: AtomicBool::default(),
                connections: Mutex::default(),
                folder,
            })
        }

        async fn lend(&self, epoch: u64, force: Force) -> Result<(), HostError> {
            let request = request(epoch, force);
            let lending = Arc::clone(&self.lending);
            spawn_blocking(move || lending.lend(request)).await.unwrap()
        }

        /// As after a start of the server, when a machine may hold a lease.
        async fn lend_again(&self, epoch: u64, lease_ms: u32) -> Result<(), HostError> {
            let tenure = Tenure::Standing { lease_ms };
            let request = LendVolume { tenure, ..request(epoch, Force::No) };
            let lending = Arc::clone(&self.lending);
            spawn_blocking(move || lending.lend(request)).await.unwrap()
        }

        async fn take_back(&self) {
            self.lending.take_back(&closing()).await.unwrap();
        }

        fn served(&self) -> Arc<Served> {
            let lent = self.lending.lent().get(&place()).cloned();
            let Some(Lent::Served(served)) = lent else { panic!("it is not lent") };
            served
        }

        fn host(&self) -> Host {
            let Self { lending, folder, .. } = self;
            let parts = (Arc::clone(&lending.cells), lending.db.clone(), Arc::clone(lending));
            let directory = folder.path().join("attachments");
            let offers = Offers { vhost_user: false, ublk: false };
            Host::new(parts, directory, Arc::new(SystemClock), offers)
        }

        async fn machine(self: &Arc<Self>, epoch: u64) -> Link {
            let dial = Arc::new(Dialler(Arc::clone(self), epoch));
            Link::open(dial, Arc::new(BootClock)).await.unwrap().0
        }

        fn partition(&self) {
            self.is_down.store(true, Ordering::SeqCst);
            self.connections.lock().unwrap().drain(..).for_each(|connection| connection.abort());
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_opening_waits_for_a_machine_that_cannot_be_heard_of() {
        let bench = Bench::new(2);
        bench.lend(1, Force::No).await.unwrap();
        let cut_off = bench.machine(1).await;
        bench.partition();
        let refused = bench.lend(2, Force::No).await;
        assert!(cut_off.holds(), "too slow to mean anything");
        assert!(matches!(refused, Err(HostError::Held)), "{refused:?}");
        bench.take_back().await;
        assert!(!cut_off.holds(), "two machines have the volume");
        bench.lend(2, Force::No).await.unwrap();

        // By force the fence is taken at once.
        bench.is_down.store(false, Ordering::SeqCst);
        let forced_out = bench.machine(2).await;
        assert!(matches!(bench.lend(3, Force::No).await, Err(HostError::Held)));
        bench.lend(3, Force::Yes).await.unwrap();
        let mut lost = forced_out.lost();
        assert_eq!(*lost.wait_for(Option::is_some).await.unwrap(), Some(Loss::Fenced));
        bench.machine(3).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_opening_that_was_overtaken_leaves_the_newer_one() {
        let bench = Bench::new(20);
        bench.lend(6, Force::No).await.unwrap();
        let newer = bench.machine(6).await;
        for force in [Force::No, Force::Yes] {
            let overtaken = bench.lend(5, force).await;
            assert!(matches!(overtaken, Err(HostError::Superseded)), "{overtaken:?}");
        }
        let (region, volume) = place();
        assert!(bench.lending.ticket(&region, &volume, 6).unwrap().is_some());
        assert!(bench.lending.ticket(&region, &volume, 5).unwrap().is_none());
        assert!(newer.holds() && newer.lost().borrow().is_none());
    }

    #[tokio::test]
    async fn a_ticket_that_nobody_used_keeps_no_loan() {
        let bench = Bench::new(20);
        bench.lend(1, Force::No).await.unwrap();
        let (region, volume) = place();
        let ticket = bench.lending.ticket(&region, &volume, 1).unwrap().unwrap();
        let served = Arc::downgrade(&bench.served());
        bench.take_back().await;
        assert!(served.upgrade().is_none(), "its file is open, and its keys are there");
        assert!(bench.lending.redeem(ticket.expose()).is_none());
    }

    /// The opening waits for a volume that is open here.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_being_lent_is_taken_back_too() {
        let bench = Bench::new(20);
        let (region, volume) = place();
        let live = &bench.lending.cells.get(&region).unwrap().live;
        let data_key = Some(DataKey::new(&Secret::new([9; 64])));
        let options = OpenOptions { data_key, base: None, writer: Some(1) };
        let open_here = live.open_volume(&volume, options).unwrap();
        let lender = Arc::clone(&bench);
        let opening = tokio::spawn(async move { lender.lend(2, Force::No).await });
        while bench.lending.turns.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let host = bench.host();
        let mut taking = host.take_back(closing());
        let early = tokio::time::timeout(Duration::from_millis(100), &mut taking).await;
        assert!(early.is_err(), "the opening is not waited for");
        spawn_blocking(move || open_here.close()).await.unwrap().unwrap();
        opening.await.unwrap().unwrap();
        taking.await.unwrap();
        assert!(bench.lending.ticket(&region, &volume, 2).unwrap().is_none(), "it is still lent");
    }

    /// A volume whose file is damaged beside what a killed server left of it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_volume_that_cannot_be_lent_again_is_kept_from_everybody() {
        let bench = Bench::new(1);
        let (region, volume) = place();
        bench.lend(5, Force::No).await.unwrap();
        bench.take_back().await;
        let file = bench.folder.path().join("volumes").join(format!("{volume}.log"));
        let whole = std::fs::read(&file).unwrap();
        std::fs::write(&file, vec![0xee; whole.len()]).unwrap();
        std::fs::write(file.with_extension("tail"), [1; 64]).unwrap();
        let failed = bench.lend_again(6, 1000).await;
        assert!(matches!(failed, Err(HostError::Storage(_))), "{failed:?}");

        let request =
            KeepVolume { region: region.clone(), volume: volume.clone(), epoch: 6, lease_ms: 1000 };
        bench.lending.keep(request.clone()).unwrap();
        bench.lending.keep(request).unwrap();
        let live = &bench.lending.cells.get(&region).unwrap().live;
        let refused = live.size(&volume);
        assert!(matches!(refused, Err(StoreError::Away { .. })), "{refused:?}");
        // Its machine is not told that it was fenced.
        let refused = bench.lending.ticket(&region, &volume, 6);
        assert!(matches!(refused, Err(HostError::Storage(_))));
        let refused = bench.lend(7, Force::No).await;
        assert!(matches!(refused, Err(HostError::Held)), "{refused:?}");

        // When its lease has ended it can be lent, if what was wrong is mended.
        std::fs::write(&file, &whole).unwrap();
        std::fs::remove_file(file.with_extension("tail")).unwrap();
        bench.take_back().await;
        bench.lend(7, Force::No).await.unwrap();
        bench.machine(7).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_server_that_stops_leaves_lent_volumes_to_the_next() {
        let bench = Bench::new(20);
        bench.lend(1, Force::No).await.unwrap();
        let machine = bench.machine(1).await;
        let served = bench.served();
        assert!(served.away.is_connected());
        bench.host().close_all().await;
        assert!(!served.away.is_connected(), "the channel goes on");
        // Its machine goes on, and dials.
        assert!(machine.holds() && machine.lost().borrow().is_none());
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        served.serve(theirs).await;
        drop(ours);
    }
}
