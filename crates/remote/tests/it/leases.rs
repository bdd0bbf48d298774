//! Two machines, one volume, a network that delays and loses, and clocks that drift: simulated, so
//! that a seed is a history.
//!
//! The server hands the volume over (to be detached, or to another opening) when its machine has surely
//! stopped, or by force. Held against
//! every history: two machines never serve at the same real moment unless one was forced out; and
//! whatever was forced, no write of an older attachment reaches the file after the fence.

use base::{SeededRng, VolumeId};
use remote::gate::{Gate, SessionId};
use remote::lease::{DRIFT_PERCENT, Granted, Held};
use remote::{Away, SteadyClock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const LEASE_MS: u64 = 10_000;
/// Real milliseconds simulated.
const LENGTH_MS: u64 = 120_000;
const STEP_MS: u64 = 10;

/// A clock that runs at its own rate from its own beginning.
struct Drifting {
    base: u64,
    /// Thousandths of a second per real second.
    rate: u64,
}

impl Drifting {
    fn new(rng: &SeededRng, drift_percent: u64) -> Self {
        let spread = drift_percent * 20;
        Self { base: rng.below(1 << 40), rate: 1000 - spread / 2 + rng.below(spread + 1) }
    }

    fn at(&self, real_ms: u64) -> u64 {
        self.base + real_ms * self.rate / 1000
    }
}

struct Machine {
    clock: Drifting,
    held: Held,
    session: Option<SessionId>,
    partitioned: bool,
    epoch: u64,
}

/// What is on its way.
enum Message {
    Renew { epoch: u64, sent: u64 },
    Renewed { epoch: u64, sent: u64 },
    Write { epoch: u64, session: SessionId },
}

/// The volume at the server: the present attachment's gate and lease, and who wrote.
struct Volume {
    epoch: u64,
    gate: Gate,
    granted: Granted,
    written: Vec<u64>,
}

struct World {
    rng: SeededRng,
    server_clock: Drifting,
    machines: BTreeMap<u64, Machine>,
    volume: Volume,
    network: BTreeMap<(u64, u64), Message>,
    sent: u64,
    forced: bool,
    handovers: u64,
}

impl World {
    fn new(seed: u64, drift_percent: u64) -> Self {
        let rng = SeededRng::new(seed);
        let server_clock = Drifting::new(&rng, drift_percent);
        let granted = Granted::unknown(server_clock.at(0), 0);
        let volume = Volume { epoch: 0, gate: Gate::default(), granted, written: Vec::new() };
        volume.gate.close();
        let mut world = Self {
            rng,
            server_clock,
            machines: BTreeMap::new(),
            volume,
            network: BTreeMap::new(),
            sent: 0,
            forced: false,
            handovers: 0,
        };
        world.hand_over(0, drift_percent);
        world
    }

    /// Whether the fence is taken: by force, or because the machine has surely stopped.
    fn takes_fence(&mut self, real: u64, force: bool) -> bool {
        let Volume { gate, granted, .. } = &self.volume;
        let now = self.server_clock.at(real);
        gate.close_if(|| force || granted.has_ended(now))
    }

    /// Gives the volume, whose fence is taken, to a new machine.
    fn hand_over(&mut self, real: u64, drift_percent: u64) {
        self.volume.epoch += 1;
        self.volume.gate = Gate::default();
        let now = self.server_clock.at(real);
        self.volume.granted = Granted::unknown(now, LEASE_MS);
        let machine = Machine {
            clock: Drifting::new(&self.rng, drift_percent),
            held: Held::default(),
            session: self.volume.gate.begin(),
            partitioned: false,
            epoch: self.volume.epoch,
        };
        machine.held.granted(machine.clock.at(real), LEASE_MS);
        self.machines.insert(self.volume.epoch, machine);
        self.handovers += 1;
    }

    fn send(&mut self, real: u64, message: Message) {
        self.sent += 1;
        // Most arrive soon, some after more than a lease.
        let delay = match self.rng.below(20) {
            0 => self.rng.below(2 * LEASE_MS),
            _ => self.rng.below(300),
        };
        self.network.insert((real + delay, self.sent), message);
    }

    fn machine_step(&mut self, epoch: u64, real: u64) {
        let roll = self.rng.below(100);
        let heal = self.rng.below(400) == 0;
        let Some(machine) = self.machines.get_mut(&epoch) else { return };
        if heal {
            machine.partitioned = !machine.partitioned;
        }
        let now = machine.clock.at(real);
        if !machine.held.holds(now) {
            // It has stopped, for good.
            machine.held.give_up();
        }
        // A process that does not look at its lease in time (stopped, swapped out) still writes.
        let (session, partitioned) = (machine.session, machine.partitioned);
        if partitioned {
            return;
        }
        if roll < 3 && machine.held.holds(now) {
            self.send(real, Message::Renew { epoch, sent: now });
        }
        if roll >= 90
            && let Some(session) = session
        {
            self.send(real, Message::Write { epoch, session });
        }
    }

    fn deliver(&mut self, real: u64) {
        let later = self.network.split_off(&(real + 1, 0));
        for (_, message) in std::mem::replace(&mut self.network, later) {
            match message {
                Message::Renew { epoch, sent } => {
                    let session = self.machines.get(&epoch).and_then(|machine| machine.session);
                    let current = epoch == self.volume.epoch
                        && session.is_some_and(|session| self.volume.gate.pass(session).is_some());
                    if current {
                        self.volume.granted.grant(self.server_clock.at(real), LEASE_MS);
                        self.send(real, Message::Renewed { epoch, sent });
                    }
                }
                Message::Renewed { epoch, sent } => {
                    if let Some(machine) = self.machines.get(&epoch)
                        && !machine.partitioned
                    {
                        machine.held.granted(sent, LEASE_MS);
                    }
                }
                Message::Write { epoch, session } => {
                    if epoch == self.volume.epoch && self.volume.gate.pass(session).is_some() {
                        self.volume.written.push(epoch);
                    }
                }
            }
        }
    }

    /// How many machines would acknowledge a request now.
    fn serving(&self, real: u64) -> usize {
        let serves = |machine: &&Machine| machine.held.holds(machine.clock.at(real));
        self.machines.values().filter(serves).count()
    }
}

/// Runs one history and returns how often the volume was handed over, and how often two machines
/// served at once although nobody was forced.
fn history(seed: u64, drift_percent: u64) -> (u64, u64) {
    let mut world = World::new(seed, drift_percent);
    let mut together = 0;
    for real in (0..LENGTH_MS).step_by(STEP_MS as usize) {
        let epochs: Vec<u64> = world.machines.values().map(|machine| machine.epoch).collect();
        for epoch in epochs {
            world.machine_step(epoch, real);
        }
        world.deliver(real);
        let forced = world.rng.below(4000) == 0;
        if world.takes_fence(real, forced) {
            world.forced |= forced;
            world.hand_over(real, drift_percent);
        }
        if world.serving(real) > 1 && !world.forced {
            together += 1;
        }
        if world.serving(real) <= 1 {
            world.forced = false;
        }
    }
    assert!(world.volume.written.is_sorted(), "seed {seed}: a fenced machine wrote");
    (world.handovers, together)
}

#[test]
fn two_machines_never_serve_at_once_and_a_fenced_one_never_writes() {
    let mut handovers = 0;
    for seed in 0..60 {
        let (count, together) = history(seed, DRIFT_PERCENT);
        assert_eq!(together, 0, "seed {seed}");
        handovers += count;
    }
    assert!(handovers > 200, "too few handovers to mean anything: {handovers}");
}

#[test]
fn the_bound_on_drift_is_needed() {
    // The check above can fail: clocks beyond the bound do serve together.
    let together: u64 = (0..60).map(|seed| history(seed, 6 * DRIFT_PERCENT).1).sum();
    assert!(together > 0);
}

/// A clock that is set.
#[derive(Default)]
struct SetClock(AtomicU64);

impl SteadyClock for SetClock {
    fn millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

#[test]
fn a_machine_of_an_earlier_run_is_waited_for_as_long_as_that_run_granted() {
    let clock = Arc::new(SetClock::default());
    let id = VolumeId::parse("vol-00000001").unwrap();
    let away = Away::standing(id, Arc::clone(&clock) as _, 20_000, 300_000);
    clock.0.store(299_999, Ordering::SeqCst);
    assert!(!away.has_stopped() && !away.fence_if_stopped());
    clock.0.store(300_000, Ordering::SeqCst);
    assert!(away.has_stopped() && away.fence_if_stopped());
}
