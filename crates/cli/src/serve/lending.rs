//! Volumes at machines that open them themselves: fences, leases and tickets of their channels.

use api::channel::Channels;
use base::{OsRng, Region, Rng, Secret, VolumeId};
use lifecycle::cells::Cells;
use lifecycle::port::host::{CloseVolume, Force, HostError, LendVolume, Tenure};
use remote::{Away, BootClock, Served, SteadyClock};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
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

/// The volumes that are lent.
pub(crate) struct Lending {
    cells: Arc<Cells>,
    clock: BootClock,
    lease_ms: u32,
    lent: Mutex<BTreeMap<Place, Arc<Served>>>,
    tickets: Mutex<BTreeMap<String, Ticket>>,
}

struct Ticket {
    served: Arc<Served>,
    until_ms: u64,
}

impl Lending {
    pub(crate) fn new(cells: Arc<Cells>, lease_seconds: u32) -> Self {
        Self {
            cells,
            clock: BootClock,
            lease_ms: lease_seconds * 1000,
            lent: Mutex::default(),
            tickets: Mutex::default(),
        }
    }

    /// Gives a volume to a machine. Whoever had it before is fenced first. Blocks on disks.
    pub(crate) fn lend(&self, request: LendVolume) -> Result<(), HostError> {
        let place = (request.region.clone(), request.volume.clone());
        let earlier = self.lent().remove(&place);
        if let Some(earlier) = earlier {
            end(&earlier);
        }
        let cell = self.cells.get(&request.region).ok_or_else(|| {
            HostError::Storage(format!("the region {} is not served", request.region).into())
        })?;
        let (id, clock) = (request.volume.clone(), Arc::new(self.clock));
        let away = Arc::new(match request.tenure {
            Tenure::New => Away::new(id, clock, self.lease_ms),
            Tenure::Standing => Away::standing(id, clock, self.lease_ms),
        });
        let (loan, base) = cell
            .lend(&request, Arc::clone(&away) as _)
            .map_err(|error| HostError::Storage(Box::new(error)))?;
        let LendVolume { epoch, plain_key, .. } = request;
        let served = Arc::new(Served { away, epoch, loan, base, plain_key });
        if let Some(other) = self.lent().insert(place, served) {
            // Two openings at once: the rows gave the later epoch to one of them.
            end(&other);
        }
        Ok(())
    }

    pub(crate) fn ticket(
        &self,
        region: &Region,
        volume: &VolumeId,
        epoch: u64,
    ) -> Option<Secret<String>> {
        let served = self.lent().get(&(region.clone(), volume.clone())).cloned();
        let served = served.filter(|served| served.epoch == epoch)?;
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
        tickets.insert(text.clone(), Ticket { served, until_ms: now + TICKET_TIME_MS });
        Some(Secret::new(text))
    }

    /// Takes a volume back: asks its machine unless forced, waits until it has surely stopped, and
    /// takes the fence.
    pub(crate) async fn take_back(&self, request: &CloseVolume) -> Result<(), HostError> {
        let place = (request.region.clone(), request.volume.clone());
        let Some(served) = self.lent().get(&place).cloned() else { return Ok(()) };
        if request.force == Force::No {
            let mut looks = 0;
            while !served.away.has_stopped() {
                if looks % LOOKS_PER_ASKING == 0 {
                    served.away.ask_to_let_go();
                }
                looks += 1;
                tokio::time::sleep(LET_GO_POLL).await;
            }
        }
        let ended = Arc::clone(&served);
        let fenced = spawn_blocking(move || end(&ended)).await;
        fenced.map_err(|error| HostError::Device(Box::new(error)))?;
        let mut lent = self.lent();
        if lent.get(&place).is_some_and(|current| Arc::ptr_eq(current, &served)) {
            lent.remove(&place);
        }
        Ok(())
    }

    fn lent(&self) -> MutexGuard<'_, BTreeMap<Place, Arc<Served>>> {
        self.lent.lock().expect("no code panics while it holds the map")
    }

    fn tickets(&self) -> MutexGuard<'_, BTreeMap<String, Ticket>> {
        self.tickets.lock().expect("no code panics while it holds the map")
    }
}

/// Takes the fence, then gives the volume free.
fn end(served: &Served) {
    served.away.fence();
    served.loan.end();
}

impl Channels for Lending {
    fn redeem(&self, ticket: &str) -> Option<Arc<Served>> {
        let now = self.clock.millis();
        let ticket = self.tickets().remove(ticket)?;
        (ticket.until_ms > now).then_some(ticket.served)
    }
}
