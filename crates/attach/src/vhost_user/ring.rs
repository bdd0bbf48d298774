//! A virtqueue: requests come off it on the session's thread, answers go into it on the device's.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::chain::{Chain, ChainError, Segment, Table, scatter};
use super::inflight::Tracker;
use super::memory::Guest;
use super::request::{NoStatus, Parsed, Plan, Status, View, parse};
use super::{BATCH_REQUESTS_MAX, BYTES_IN_FLIGHT_MAX, QUEUE_SIZE_MAX};
use crate::buffer::Pool;
use crate::device::{Answer, Command, Completion, DeviceError, Reply, Request, Sink};

/// How often a wait for quiet looks whether it is still wanted.
const DRAIN_STEP: Duration = Duration::from_millis(50);

/// Why a ring is stopped. Its guest has to reset the device to go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RingError {
    /// The ring itself does not lie in guest memory, or its index is beyond it.
    #[error("the ring cannot be read: {0}")]
    Queue(virtio_queue::Error),
    /// There is an entry that cannot be read.
    #[error("an entry of the ring cannot be read")]
    Entry,
    /// The guest gave out a descriptor again that has not come back.
    #[error("descriptor {0} is in use")]
    InUse(u16),
    /// The guest's descriptors make no chain.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// A request cannot be answered.
    #[error(transparent)]
    Request(#[from] NoStatus),
}

/// What the rings of a session share.
pub(crate) struct Shared {
    /// Payload bytes at the device.
    bytes: AtomicUsize,
    /// Whether a ring waits for [`Shared::bytes`] to fall.
    starved: AtomicBool,
    /// Wakes the session's thread.
    wake: OwnedFd,
}

impl Shared {
    pub(crate) fn new(wake: OwnedFd) -> Self {
        Self { bytes: AtomicUsize::new(0), starved: AtomicBool::new(false), wake }
    }

    /// The descriptor that becomes readable when the session should look around.
    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.wake
    }

    fn admits_more(&self) -> bool {
        if self.bytes.load(Ordering::SeqCst) < BYTES_IN_FLIGHT_MAX {
            return true;
        }
        self.starved.store(true, Ordering::SeqCst);
        // The last answer may have come just before the flag was set.
        self.bytes.load(Ordering::SeqCst) < BYTES_IN_FLIGHT_MAX
    }

    fn release(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if before - bytes < BYTES_IN_FLIGHT_MAX && self.starved.swap(false, Ordering::SeqCst) {
            signal(&self.wake);
        }
    }
}

/// Adds one to an eventfd. One that is full, or gone, has been noticed already.
pub(crate) fn signal(event: &OwnedFd) {
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// A ring. Shared with the device as the place where answers go.
pub(crate) struct Ring {
    state: Mutex<State>,
    quiet: Condvar,
    shared: Arc<Shared>,
}

struct State {
    queue: Queue,
    memory: Guest,
    /// Tells the guest of answers.
    call: Option<OwnedFd>,
    tracker: Option<Tracker>,
    /// Taken by a process before and not answered: done before anything new.
    again: VecDeque<u16>,
    /// What is at the device, by head.
    slots: Vec<Option<Slot>>,
    in_flight: usize,
    pool: Pool,
    /// No more is written into guest memory.
    cut_off: bool,
    /// Found after requests that were good, which go to the device first.
    failed: Option<RingError>,
}

/// A request at the device.
struct Slot {
    memory: Guest,
    status: GuestAddress,
    target: Vec<Segment>,
    /// Commands that are not answered yet.
    commands: usize,
    bytes: usize,
    outcome: Status,
    written: u32,
}

/// What taking requests came to.
pub(crate) enum Taken {
    /// These go to the device; there may be more.
    Batch(Vec<Request>),
    /// Requests were answered at once; there may be more.
    Answered,
    /// The ring is empty, or waits for the device.
    Nothing,
}

impl Ring {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let queue = Queue::new(QUEUE_SIZE_MAX).expect("the longest queue is a power of two");
        let state = State {
            queue,
            memory: Guest::default(),
            call: None,
            tracker: None,
            again: VecDeque::new(),
            slots: Vec::new(),
            in_flight: 0,
            pool: Pool::default(),
            cut_off: false,
            failed: None,
        };
        Self { state: Mutex::new(state), quiet: Condvar::new(), shared }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds a ring")
    }

    /// Changes the ring's place or size. Only a ring that is stopped is changed.
    pub(crate) fn set_up<T>(&self, change: impl FnOnce(&mut Queue) -> T) -> T {
        change(&mut self.state().queue)
    }

    pub(crate) fn set_memory(&self, memory: &Guest) {
        self.state().memory = Arc::clone(memory);
    }

    pub(crate) fn set_call(&self, call: Option<OwnedFd>) {
        self.state().call = call;
    }

    /// Starts serving. Requests that a process before left behind come first.
    pub(crate) fn start(&self, tracker: Option<Tracker>) -> Result<(), RingError> {
        let mut state = self.state();
        let state = &mut *state;
        let memory = &*state.memory;
        let size = state.queue.size();
        state.queue.set_ready(true);
        if !state.queue.is_valid(memory) {
            state.queue.set_ready(false);
            return Err(RingError::Entry);
        }
        let used = state.queue.used_idx(memory, Ordering::Acquire).map_err(RingError::Queue)?.0;
        state.queue.set_next_used(used);
        state.again.clear();
        state.failed = None;
        state.tracker = tracker.filter(|tracker| tracker.size() >= size);
        if let Some(tracker) = &mut state.tracker {
            state.again = tracker.recover(used).into_iter().filter(|head| *head < size).collect();
            // What was taken lies between the used index and the next entry to look at.
            state.queue.set_next_avail(used.wrapping_add(state.again.len() as u16));
        }
        state.slots.clear();
        state.slots.resize_with(usize::from(size), || None);
        // Answers of a process before may have gone without a call.
        state.call.iter().for_each(signal);
        Ok(())
    }

    /// Stops serving, waits until the device has answered everything, and returns the next entry to
    /// look at. `wanted` ends the wait early; then late answers are dropped.
    pub(crate) fn stop(&self, wanted: impl Fn() -> bool) -> u16 {
        self.state().queue.set_ready(false);
        let mut state = self.drained(wanted);
        state.cut_off = state.in_flight > 0;
        state.tracker = None;
        state.call = None;
        state.queue.next_avail()
    }

    /// Waits until the device has answered everything that was taken, or the wait is not `wanted`.
    fn drained(&self, wanted: impl Fn() -> bool) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.in_flight > 0 && wanted() {
            let waited = self.quiet.wait_timeout(state, DRAIN_STEP);
            state = waited.expect("no code panics while it holds a ring").0;
        }
        state
    }

    /// As long as it is `wanted`, waits until the device has answered everything that was taken.
    pub(crate) fn drain(&self, wanted: impl Fn() -> bool) {
        drop(self.drained(wanted));
    }

    /// Back to the state of a new ring, its guest memory kept. Only when stopped.
    pub(crate) fn reset(&self) {
        let mut state = self.state();
        state.queue.reset();
        state.again.clear();
        state.failed = None;
    }

    /// Takes requests off the ring.
    pub(crate) fn take(self: &Arc<Self>, view: &View<'_>) -> Result<Taken, RingError> {
        let mut state = self.state();
        if !state.queue.ready() || state.cut_off {
            return Ok(Taken::Nothing);
        }
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        let memory = Arc::clone(&state.memory);
        state.queue.disable_notification(&*memory).map_err(RingError::Queue)?;
        let mut batch = Vec::new();
        let mut answered = false;
        while batch.len() < BATCH_REQUESTS_MAX && self.shared.admits_more() {
            match self.next(&mut state, &memory, view, &mut batch) {
                Ok(Some(at_once)) => answered |= at_once,
                Ok(None) => break,
                Err(error) => {
                    // Requests before it are good. They must not be dropped here either: their
                    // replies would come back to this ring while it is locked.
                    state.failed = Some(error);
                    break;
                }
            }
        }
        if answered {
            state.notify();
        }
        if !batch.is_empty() {
            return Ok(Taken::Batch(batch));
        }
        if answered {
            return Ok(Taken::Answered);
        }
        if let Some(error) = state.failed.take() {
            return Err(error);
        }
        if !self.shared.admits_more() {
            return Ok(Taken::Nothing);
        }
        if state.queue.enable_notification(&*memory).map_err(RingError::Queue)? {
            return if state.has_entry()? { Ok(Taken::Answered) } else { Err(RingError::Entry) };
        }
        Ok(Taken::Nothing)
    }

    /// Takes the next request, if there is one; returns whether it was answered at once.
    fn next(
        self: &Arc<Self>,
        state: &mut State,
        memory: &Guest,
        view: &View<'_>,
        batch: &mut Vec<Request>,
    ) -> Result<Option<bool>, RingError> {
        match state.next_head()? {
            Some(head) => self.admit(state, memory, head, view, batch).map(Some),
            None => Ok(None),
        }
    }

    /// Takes one request; returns whether it was answered at once.
    fn admit(
        self: &Arc<Self>,
        state: &mut State,
        memory: &Guest,
        head: u16,
        view: &View<'_>,
        batch: &mut Vec<Request>,
    ) -> Result<bool, RingError> {
        match state.slots.get(usize::from(head)) {
            None => return Err(ChainError::Outside(head).into()),
            Some(Some(_)) => return Err(RingError::InUse(head)),
            Some(None) => {}
        }
        let address = GuestAddress(state.queue.desc_table());
        let table = Table { address, size: state.queue.size() };
        let chain = Chain::follow(memory, table, head)?;
        let Parsed { status, plan } = parse(memory, chain, view, &mut state.pool)?;
        if let Some(tracker) = &mut state.tracker {
            tracker.taken(head);
        }
        match plan {
            Plan::Answer(outcome, written) => {
                state.answer(memory, head, status, outcome, written);
                Ok(true)
            }
            Plan::Submit { commands, target } => {
                let bytes = commands.iter().map(Command::payload).sum();
                self.shared.bytes.fetch_add(bytes, Ordering::SeqCst);
                state.in_flight += 1;
                state.slots[usize::from(head)] = Some(Slot {
                    memory: Arc::clone(memory),
                    status,
                    target,
                    commands: commands.len(),
                    bytes,
                    outcome: Status::Ok,
                    written: 0,
                });
                batch.extend(commands.into_iter().map(|command| {
                    let reply = Reply::new(Arc::clone(self) as Arc<dyn Sink>, u32::from(head));
                    Request { command, reply }
                }));
                Ok(false)
            }
        }
    }
}

impl State {
    fn next_head(&mut self) -> Result<Option<u16>, RingError> {
        if let Some(head) = self.again.pop_front() {
            return Ok(Some(head));
        }
        let mut entries = self.queue.iter(&*self.memory).map_err(RingError::Queue)?;
        Ok(entries.next().map(|chain| chain.head_index()))
    }

    /// Whether the next entry can be read, without taking it.
    fn has_entry(&mut self) -> Result<bool, RingError> {
        let before = self.queue.next_avail();
        let found = self.queue.iter(&*self.memory).map_err(RingError::Queue)?.next().is_some();
        self.queue.set_next_avail(before);
        Ok(found)
    }

    /// Writes a status and gives the descriptors back.
    fn answer(
        &mut self,
        memory: &Guest,
        head: u16,
        status: GuestAddress,
        outcome: Status,
        written: u32,
    ) {
        if let Some(tracker) = &self.tracker {
            tracker.answering(head);
        }
        // Both places were checked when the request was taken. A front-end that has taken them away
        // since then gets no answer.
        let told = memory.write_obj(outcome as u8, status).is_ok();
        let given = self.queue.add_used(&*self.memory, head, written.saturating_add(1)).is_ok();
        if !told || !given {
            tracing::warn!(head, "guest memory went away before an answer");
        }
        if let Some(tracker) = &self.tracker {
            tracker.answered(head, self.queue.next_used());
        }
    }

    /// Rings the guest, unless it asked not to be.
    fn notify(&mut self) {
        if self.queue.needs_notification(&*self.memory).unwrap_or(true) {
            self.call.iter().for_each(signal);
        }
    }

    /// Takes the device's answer to one command; the released bytes when the request is complete.
    fn complete(&mut self, completion: Completion) -> Option<usize> {
        let head = completion.tag as u16;
        let slot =
            self.slots[usize::from(head)].as_mut().expect("a reply answers one request once");
        match completion.result {
            Ok(Answer::Bytes(buffer)) => {
                // The buffer of a write comes back with no target.
                if !slot.target.is_empty() && !self.cut_off {
                    if scatter(&slot.memory, &slot.target, &buffer) {
                        slot.written = buffer.len() as u32;
                    } else {
                        slot.outcome = Status::IoError;
                    }
                }
                self.pool.give(buffer);
            }
            Ok(Answer::Done | Answer::Extents(_)) => {}
            Err(DeviceError::Unsupported) => slot.outcome = Status::Unsupported,
            Err(_) => slot.outcome = Status::IoError,
        }
        slot.commands -= 1;
        if slot.commands > 0 {
            return None;
        }
        let slot = self.slots[usize::from(head)].take().expect("it was there a line above");
        self.in_flight -= 1;
        if !self.cut_off {
            self.answer(&slot.memory, head, slot.status, slot.outcome, slot.written);
        }
        Some(slot.bytes)
    }
}

impl Sink for Ring {
    fn complete(&self, completion: Completion) {
        self.complete_all(&mut vec![completion]);
    }

    fn complete_all(&self, completions: &mut Vec<Completion>) {
        let mut state = self.state();
        let mut bytes = 0;
        for completion in completions.drain(..) {
            bytes += state.complete(completion).unwrap_or(0);
        }
        if !state.cut_off {
            state.notify();
        }
        if state.in_flight == 0 {
            self.quiet.notify_all();
        }
        drop(state);
        self.shared.release(bytes);
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Cache, Choice, FEATURES};
    use super::*;
    use proptest::prelude::*;
    use rustix::event::{EventfdFlags, eventfd};
    use vm_memory::GuestMemoryMmap;

    const MEMORY_BYTES: usize = 64 << 10;
    const AVAILABLE: u64 = 0x400;
    const USED: u64 = 0x800;

    /// A ring of 16 at the start of memory, with random bytes everywhere but in its indices.
    fn ring(bytes: &[u8], entries: u16) -> Arc<Ring> {
        let guest = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY_BYTES)]).unwrap();
        guest.write_slice(bytes, GuestAddress(0)).unwrap();
        guest.write_obj(entries, GuestAddress(AVAILABLE + 2)).unwrap();
        guest.write_obj(0u32, GuestAddress(USED)).unwrap();
        let wake = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        let ring = Arc::new(Ring::new(Arc::new(Shared::new(wake))));
        ring.set_memory(&Arc::new(guest));
        ring.set_up(|queue| {
            queue.try_set_size(16).unwrap();
            queue.try_set_avail_ring_address(GuestAddress(AVAILABLE)).unwrap();
            queue.try_set_used_ring_address(GuestAddress(USED)).unwrap();
        });
        ring.start(None).unwrap();
        ring
    }

    /// Serves what a guest wrote with a device that does everything it is asked, and checks that it
    /// is asked for nothing outside itself.
    fn serve(bytes: &[u8], entries: u16) {
        let ring = ring(bytes, entries);
        let choice = Choice { features: FEATURES, cache: Some(Cache::Writeback) };
        let view = View { size: 8192, serial: &[7; 20], choice };
        for _ in 0..40 {
            match ring.take(&view) {
                Ok(Taken::Batch(batch)) => {
                    for Request { command, reply } in batch {
                        let (offset, length) = match &command {
                            Command::Read { offset, buffer } => (*offset, buffer.len() as u64),
                            Command::Write { offset, data, .. } => (*offset, data.len() as u64),
                            Command::Trim { offset, length, .. }
                            | Command::WriteZeroes { offset, length, .. } => (*offset, *length),
                            _ => (0, 0),
                        };
                        assert!(offset + length <= view.size);
                        let answer = match command {
                            Command::Read { buffer, .. } => Answer::Bytes(buffer),
                            Command::Write { data, .. } => Answer::Bytes(data),
                            _ => Answer::Done,
                        };
                        reply.complete(Ok(answer));
                    }
                }
                Ok(Taken::Answered) => {}
                Ok(Taken::Nothing) | Err(_) => return,
            }
        }
        panic!("a ring of sixteen does not end");
    }

    /// A word that is a small number as often as a large one: descriptors that fit are rare else.
    fn word() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..MEMORY_BYTES as u64, any::<u64>(), Just(0)]
    }

    prop_compose! {
        fn descriptor()(
            address in word(),
            length in prop_oneof![Just(16u32), 0u32..2048, any::<u32>()],
            flags in 0u16..8,
            next in 0u16..18,
        ) -> [u8; 16] {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&address.to_le_bytes());
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            bytes[12..14].copy_from_slice(&flags.to_le_bytes());
            bytes[14..].copy_from_slice(&next.to_le_bytes());
            bytes
        }
    }

    proptest! {
        #[test]
        fn whatever_a_guest_writes_is_an_error_or_a_request_inside_the_device(
            descriptors in prop::collection::vec(descriptor(), 48),
            heads in prop::collection::vec(0u16..17, 16),
            kinds in prop::collection::vec(0u8..16, 64),
            entries in 0u16..18,
        ) {
            let mut bytes = descriptors.concat();
            bytes.resize(AVAILABLE as usize + 4, 0);
            bytes.extend(heads.iter().flat_map(|head| head.to_le_bytes()));
            bytes.resize(0x1000, 0);
            // Plausible headers over the rest of memory.
            for kind in kinds.iter().cycle().take((MEMORY_BYTES - 0x1000) / 16) {
                bytes.extend([*kind, 0, 0, 0, 0, 0, 0, 0, *kind, 0, 0, 0, 0, 0, 0, 0]);
            }
            serve(&bytes, entries);
        }
    }

    fuzz::target!(
        /// Any memory: the first byte says how many requests there are.
        rings,
        vec![vec![1; 600], [&[2][..], &[0; 2000]].concat()],
        |bytes: &[u8]| {
            if let Some((entries, memory)) = bytes.split_first() {
                serve(&memory[..memory.len().min(MEMORY_BYTES)], u16::from(*entries));
            }
        }
    );
}
