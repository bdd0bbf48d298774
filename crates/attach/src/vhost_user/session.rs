//! One front-end from its connection to its end: control messages, and requests off the rings.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_bindings::virtio_blk::VIRTIO_BLK_F_CONFIG_WCE;
use virtio_queue::QueueT;

use super::config::{self, Cache, Choice, FEATURES, PROTOCOL_FEATURES, protocol};
use super::export::{Control, Disk};
use super::inflight::{InflightError, Record};
use super::memory::{Memory, MemoryError};
use super::message::{
    self, Attached, ConfigWindow, Header, InflightArea, Message, MessageError, NeedReply,
    RingAddresses, RingFile, RingValue,
};
use super::request::View;
use super::ring::{Ring, RingError, Shared, Taken, signal};
use super::socket::{Envelope, ReceiveError, receive, send};
use super::{MEMORY_REGIONS_MAX, QUEUE_SIZE_MAX, QUEUES_MAX};
use crate::device::{Command, DeviceError, call};

/// Batches taken off one ring before the control socket is looked at again.
const ROUNDS_MAX: usize = 8;

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The system refused something.
    #[error("the session's socket failed")]
    Socket(#[from] io::Error),
    /// No message could be received.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// A message cannot be obeyed, and its sender does not wait to be told.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Why a message is not obeyed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// It is not understood.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// It is about a ring that does not exist.
    #[error("there is no ring {0}")]
    NoRing(u32),
    /// It changes what a started ring stands on.
    #[error("ring {0} is started")]
    Started(u32),
    /// It asks for features that were not offered.
    #[error("features {0:#x} were not offered")]
    Features(u64),
    /// The size is none that a ring can have, the place lies outside guest memory, or the number
    /// has no meaning.
    #[error("ring {0} cannot have this size, place or state")]
    BadRing(u32),
    /// It does not come with the descriptors it needs.
    #[error("a message came without its descriptor")]
    FileMissing,
    /// The memory cannot be used.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// The record of requests under way cannot be used.
    #[error(transparent)]
    Inflight(#[from] InflightError),
    /// The ring cannot be started.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The field of the configuration space cannot be written.
    #[error("byte {0} of the configuration cannot be written so")]
    ReadOnlyConfig(u32),
    /// What a guest wrote with a write cache is not durable, so it cannot go on without one.
    #[error("flushing the write cache failed")]
    Flush(#[source] DeviceError),
    /// The descriptor is none that can be used.
    #[error("a descriptor cannot be used")]
    File(#[source] io::Error),
}

/// What a message is answered with.
enum Reply {
    /// It has no answer of its own.
    None,
    /// These bytes.
    Body(Vec<u8>),
    /// These bytes and a descriptor.
    File(Vec<u8>, OwnedFd),
}

/// Why the loop ended without an error.
pub(crate) enum End {
    /// The front-end closed the socket.
    Closed,
    /// The export stops.
    Stopped,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Stopped,
    Started,
    /// The guest did something that cannot be answered.
    Broken,
}

/// A ring and what only the session knows of it.
struct Slot {
    ring: Arc<Ring>,
    phase: Phase,
    enabled: bool,
    /// Says that there are requests.
    kick: Option<OwnedFd>,
    /// Told when the ring breaks.
    error: Option<OwnedFd>,
}

/// A connected front-end.
pub(crate) struct Session<'a> {
    socket: &'a UnixStream,
    disk: &'a Disk,
    control: &'a Control,
    /// How long the front-end may take to send a message, and to take an answer.
    patience: Duration,
    shared: Arc<Shared>,
    choice: Choice,
    protocol: u64,
    memory: Memory,
    record: Option<Arc<Record>>,
    slots: Vec<Slot>,
    /// Whether a ring was started on this connection.
    has_begun: bool,
    /// For messages of our own.
    channel: Option<OwnedFd>,
    /// The size the front-end has read on this connection.
    read: Option<u64>,
    /// The size it was told to read, while its rings ran.
    told: Option<u64>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        socket: &'a UnixStream,
        disk: &'a Disk,
        control: &'a Control,
        patience: Duration,
    ) -> io::Result<Self> {
        // One that sends and does not read would keep this thread from everything else, a stop included.
        socket.set_write_timeout(Some(patience))?;
        let shared = Arc::new(Shared::new(control.wake().try_clone()?));
        let slot = || Slot {
            ring: Arc::new(Ring::new(Arc::clone(&shared))),
            phase: Phase::Stopped,
            enabled: false,
            kick: None,
            error: None,
        };
        Ok(Self {
            slots: (0..QUEUES_MAX).map(|_| slot()).collect(),
            socket,
            disk,
            control,
            patience,
            shared,
            choice: Choice::default(),
            protocol: 0,
            memory: Memory::default(),
            record: None,
            has_begun: false,
            channel: None,
            read: None,
            told: None,
        })
    }

    /// Serves until the front-end goes or the export stops, and leaves guest memory quiet. Others
    /// that connect meanwhile are turned away: a disk has one user.
    pub(crate) fn run(mut self, listener: &UnixListener) -> Result<End, SessionError> {
        let end = self.serve(listener);
        let control = self.control;
        for slot in &self.slots {
            slot.ring.stop(|| !control.is_forced());
        }
        end
    }

    fn serve(&mut self, listener: &UnixListener) -> Result<End, SessionError> {
        let mut more = false;
        loop {
            if self.control.is_stopping() {
                return Ok(End::Stopped);
            }
            let ready = self.wait(listener, more)?;
            if ready.wake {
                self.shared_wake();
            }
            if ready.socket
                && let Some(end) = self.message()?
            {
                return Ok(end);
            }
            if ready.listener {
                self.turn_away(listener);
            }
            self.report_size();
            more = self.rings();
        }
    }

    fn shared_wake(&self) {
        let mut counter = [0; 8];
        // Whoever woke us set what to look at before; the counter only ends the wait.
        let _ = rustix::io::read(self.shared.wake(), &mut counter);
    }

    fn wait(&self, listener: &UnixListener, more: bool) -> Result<Ready, SessionError> {
        let mut waited = vec![
            PollFd::new(self.shared.wake(), PollFlags::IN),
            PollFd::new(self.socket, PollFlags::IN),
            PollFd::new(listener, PollFlags::IN),
        ];
        let kicks = self.slots.iter().filter(|slot| slot.is_served());
        waited
            .extend(kicks.filter_map(|slot| Some(PollFd::new(slot.kick.as_ref()?, PollFlags::IN))));
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut waited, more.then_some(&at_once)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(SessionError::Socket(error.into())),
        }
        let ready = |at: usize| !waited[at].revents().is_empty();
        Ok(Ready { wake: ready(0), socket: ready(1), listener: ready(2) })
    }

    fn turn_away(&self, listener: &UnixListener) {
        if listener.accept().is_ok() {
            tracing::warn!(
                disk = self.disk.name,
                "the disk is in use; a front-end was turned away"
            );
        }
    }

    /// Tells the front-end when the device may have another size than it knows. One that connects again
    /// reads nothing by itself, and the device may have grown since it last did.
    fn report_size(&mut self) {
        // QEMU does not listen while its guest's rings stand still.
        if !self.slots.iter().any(Slot::is_served) {
            self.told = None;
            return;
        }
        let size = Some(self.disk.device.size());
        if size == self.read || size == self.told {
            return;
        }
        self.told = size;
        let Some(channel) = &self.channel else { return };
        if let Err(error) = send(channel.as_fd(), &message::config_change(), None) {
            tracing::warn!(disk = self.disk.name, %error, "a front-end was not told of the new size");
        }
    }

    /// Takes requests off all rings; whether there are more.
    fn rings(&mut self) -> bool {
        let view =
            View { size: self.disk.device.size(), serial: &self.disk.serial, choice: self.choice };
        let mut more = false;
        for slot in self.slots.iter_mut().filter(|slot| slot.is_served()) {
            if let Some(kick) = &slot.kick {
                let mut counter = [0; 8];
                // Read before the ring is: a later request kicks again.
                let _ = rustix::io::read(kick, &mut counter);
            }
            match take(&slot.ring, &view, self.disk) {
                Ok(ring_has_more) => more |= ring_has_more,
                Err(error) => slot.break_down(&self.disk.name, &error),
            }
        }
        more
    }

    /// Receives and obeys one message.
    fn message(&mut self) -> Result<Option<End>, SessionError> {
        let Envelope { header, body, files } = match receive(self.socket.as_fd(), self.patience) {
            Ok(envelope) => envelope,
            Err(ReceiveError::Closed) => return Ok(Some(End::Closed)),
            Err(error) => return Err(error.into()),
        };
        let message = Message::parse(header.code, &body).map_err(ReceiveError::Message)?;
        match self.obey(message, files) {
            Ok(Reply::Body(body)) => send(self.socket.as_fd(), &header.reply(&body), None)?,
            Ok(Reply::File(body, file)) => {
                send(self.socket.as_fd(), &header.reply(&body), Some(file.as_fd()))?;
            }
            Ok(Reply::None) => self.acknowledge(&header, Ok(()))?,
            Err(refusal) => self.acknowledge(&header, Err(refusal))?,
        }
        self.note_cache();
        Ok(None)
    }

    /// Tells the front-end how a message went that has no answer of its own, if it wants to know.
    fn acknowledge(
        &self,
        header: &Header,
        outcome: Result<(), Refusal>,
    ) -> Result<(), SessionError> {
        let asked = header.need_reply == NeedReply::Yes && self.protocol & protocol::REPLY_ACK != 0;
        let code: u64 = match outcome {
            Ok(()) => 0,
            Err(refusal) if asked => {
                tracing::warn!(disk = self.disk.name, error = %refusal, "a message was refused");
                1
            }
            Err(refusal) => return Err(refusal.into()),
        };
        if asked {
            send(self.socket.as_fd(), &header.reply(&code.to_le_bytes()), None)?;
        }
        Ok(())
    }

    fn obey(&mut self, message: Message, files: Vec<OwnedFd>) -> Result<Reply, Refusal> {
        match message {
            Message::GetFeatures => return Ok(u64_reply(FEATURES)),
            Message::SetFeatures(features) => self.set_features(features)?,
            Message::SetOwner => {}
            Message::ResetOwner | Message::ResetDevice => self.reset(),
            Message::GetProtocolFeatures => return Ok(u64_reply(protocol::SERVED)),
            Message::SetProtocolFeatures(features) => {
                offered(features, protocol::SERVED)?;
                self.protocol = features;
            }
            Message::GetQueueCount => return Ok(u64_reply(QUEUES_MAX.into())),
            Message::GetMemorySlots => return Ok(u64_reply(MEMORY_REGIONS_MAX as u64)),
            Message::SetMemoryTable(regions) => {
                self.memory.set(regions, files)?;
                self.spread_memory();
            }
            Message::AddRegion(region) => {
                self.memory.add(region, one(files)?)?;
                self.spread_memory();
            }
            Message::RemoveRegion(region) => {
                self.memory.remove(&region)?;
                self.spread_memory();
            }
            Message::GetConfig(window) => return Ok(self.read_config(window)),
            Message::SetConfig(window, bytes) => {
                let written = config::written(window.offset, &bytes);
                self.set_cache(written.ok_or(Refusal::ReadOnlyConfig(window.offset))?)?;
            }
            Message::SetBackendChannel => {
                let channel = one(files)?;
                never_wait(&channel)?;
                self.channel = Some(channel);
            }
            Message::GetInflight(area) => {
                let (area, file) = Record::create(area)?;
                return Ok(Reply::File(area.to_bytes(), file));
            }
            Message::SetInflight(area) => self.set_record(area, one(files)?)?,
            Message::SetRingSize(ring) => self.set_ring_size(ring)?,
            Message::SetRingAddresses(addresses) => self.set_ring_addresses(addresses)?,
            Message::SetRingBase(ring) => {
                let slot = self.stopped(ring.index)?;
                let base = u16::try_from(ring.value).map_err(|_| Refusal::BadRing(ring.index))?;
                slot.ring.set_up(|queue| queue.set_next_avail(base));
            }
            Message::GetRingBase(index) => return self.stop_ring(index),
            Message::SetRingKick(ring) => self.start_ring(ring, files)?,
            Message::SetRingCall(ring) => {
                let call = ring_file(ring, files)?;
                self.slot(ring.index)?.ring.set_call(call);
            }
            Message::SetRingError(ring) => {
                let error = ring_file(ring, files)?;
                self.slot(ring.index)?.error = error;
            }
            Message::SetRingEnabled(ring) => {
                self.slot(ring.index)?.enabled = match ring.value {
                    0 => false,
                    1 => true,
                    _ => return Err(Refusal::BadRing(ring.index)),
                };
            }
        }
        Ok(Reply::None)
    }

    fn set_features(&mut self, features: u64) -> Result<(), Refusal> {
        offered(features, FEATURES)?;
        self.choice.features = features;
        if features & PROTOCOL_FEATURES == 0 {
            // A front-end that does not know how to enable rings has them enabled.
            self.slots.iter_mut().for_each(|slot| slot.enabled = true);
        }
        Ok(())
    }

    fn reset(&mut self) {
        let control = self.control;
        for slot in &mut self.slots {
            slot.stop(control);
            slot.ring.reset();
            slot.enabled = false;
        }
        // Not the cache mode: QEMU and Cloud Hypervisor tell a guest that begins anew what the one
        // before it had chosen, and do not say it here again.
        self.choice.features = 0;
    }

    fn spread_memory(&self) {
        self.slots.iter().for_each(|slot| slot.ring.set_memory(self.memory.guest()));
    }

    fn read_config(&mut self, window: ConfigWindow) -> Reply {
        if !self.has_begun && config::shows_cache(window.offset, window.size) {
            // Its guest does not run yet, and will be told this. Later, a front-end may read for the
            // capacity alone, and its guest believe in what it was told on another connection.
            self.choice.cache.get_or_insert(Cache::Writeback);
        }
        let size = self.disk.device.size();
        self.read = Some(size);
        let space = config::space(size, self.choice.cache);
        let mut body = window.to_bytes().to_vec();
        body.extend(config::window(&space, window.offset, window.size));
        Reply::Body(body)
    }

    fn set_record(&mut self, area: InflightArea, file: OwnedFd) -> Result<(), Refusal> {
        let record = Record::open(area, file)?;
        match (self.choice.cache, record.cache()) {
            (None, noted) | (_, noted @ Some(Cache::Writethrough)) => self.choice.cache = noted,
            (Some(_), Some(Cache::Writeback) | None) => {}
        }
        self.record = Some(Arc::new(record));
        Ok(())
    }

    fn set_cache(&mut self, cache: Cache) -> Result<(), Refusal> {
        // Also where nothing is known of the guest: what an earlier connection answered may not be durable.
        if cache == Cache::Writethrough && self.choice.cache != Some(Cache::Writethrough) {
            self.flush()?;
        }
        self.choice.cache = Some(cache);
        if cache == Cache::Writethrough {
            // Before the guest can know: [`Session::note_cache`].
            self.note_cache();
        }
        Ok(())
    }

    /// Makes durable what was answered so far: a guest without a write cache sends no flush for what it
    /// wrote before it had none.
    fn flush(&self) -> Result<(), Refusal> {
        self.slots.iter().for_each(|slot| slot.ring.drain(|| !self.control.is_forced()));
        call(&*self.disk.device, Command::Flush).map(drop).map_err(Refusal::Flush)
    }

    /// Notes the cache mode for a process that follows. A front-end that is not told that its guest's
    /// choice was taken tells the guest that it was not, so what is noted meanwhile must be good for
    /// both: write-through is noted before the answer, write-back after it.
    fn note_cache(&self) {
        let (Some(record), Some(cache)) = (&self.record, self.choice.cache) else { return };
        // Whether one that waits for no answer has chosen otherwise since is never known.
        if cache == Cache::Writethrough || self.protocol & protocol::REPLY_ACK != 0 {
            record.note_cache(cache);
        }
    }

    /// A ring is started, the first of this connection.
    fn begin(&mut self) {
        let choice = &self.choice;
        if choice.has(VIRTIO_BLK_F_CONFIG_WCE) && choice.cache.is_none() {
            tracing::info!(
                disk = self.disk.name,
                "whether the guest flushes is not known; writes are durable when they are answered, \
                 until it chooses"
            );
        }
        self.has_begun = true;
    }

    fn slot(&mut self, index: u32) -> Result<&mut Slot, Refusal> {
        self.slots.get_mut(index as usize).ok_or(Refusal::NoRing(index))
    }

    fn stopped(&mut self, index: u32) -> Result<&mut Slot, Refusal> {
        let slot = self.slot(index)?;
        if slot.phase == Phase::Stopped { Ok(slot) } else { Err(Refusal::Started(index)) }
    }

    fn set_ring_size(&mut self, ring: RingValue) -> Result<(), Refusal> {
        let slot = self.stopped(ring.index)?;
        let size = u16::try_from(ring.value).map_err(|_| Refusal::BadRing(ring.index))?;
        if size > QUEUE_SIZE_MAX {
            return Err(Refusal::BadRing(ring.index));
        }
        let set = slot.ring.set_up(|queue| queue.try_set_size(size));
        set.map_err(|_| Refusal::BadRing(ring.index))
    }

    fn set_ring_addresses(&mut self, addresses: RingAddresses) -> Result<(), Refusal> {
        let RingAddresses { index, flags, descriptors, used, available } = addresses;
        let bad = || Refusal::BadRing(index);
        if flags != 0 {
            return Err(bad());
        }
        let place = |address| self.memory.translate(address).ok_or_else(bad);
        let (descriptors, used, available) = (place(descriptors)?, place(used)?, place(available)?);
        let slot = self.stopped(index)?;
        let set = slot.ring.set_up(|queue| {
            queue.try_set_desc_table_address(descriptors)?;
            queue.try_set_used_ring_address(used)?;
            queue.try_set_avail_ring_address(available)
        });
        set.map_err(|_| bad())
    }

    fn start_ring(&mut self, ring: RingFile, files: Vec<OwnedFd>) -> Result<(), Refusal> {
        // Without a descriptor the front-end would have us poll, which costs a processor.
        let kick = ring_file(ring, files)?.ok_or(Refusal::FileMissing)?;
        if !self.has_begun {
            self.begin();
        }
        let event_idx = self.choice.has(VIRTIO_RING_F_EVENT_IDX);
        let record = self.record.clone();
        let slot = self.slot(ring.index)?;
        match slot.phase {
            Phase::Started => {}
            Phase::Broken => return Err(Refusal::BadRing(ring.index)),
            Phase::Stopped => {
                let tracker = record.and_then(|record| record.ring(ring.index as u16));
                slot.ring.set_up(|queue| queue.set_event_idx(event_idx));
                slot.ring.start(tracker)?;
                slot.phase = Phase::Started;
            }
        }
        slot.kick = Some(kick);
        Ok(())
    }

    fn stop_ring(&mut self, index: u32) -> Result<Reply, Refusal> {
        let control = self.control;
        let value = u32::from(self.slot(index)?.stop(control));
        Ok(Reply::Body(RingValue { index, value }.to_bytes().to_vec()))
    }
}

/// What ended a wait.
struct Ready {
    wake: bool,
    socket: bool,
    listener: bool,
}

impl Slot {
    fn is_served(&self) -> bool {
        self.enabled && self.phase == Phase::Started
    }

    /// Returns the next entry to look at.
    fn stop(&mut self, control: &Control) -> u16 {
        self.phase = Phase::Stopped;
        self.kick = None;
        self.ring.stop(|| !control.is_forced())
    }

    fn break_down(&mut self, disk: &str, error: &RingError) {
        tracing::warn!(disk, %error, "a guest broke its ring; it is served again after a reset");
        self.phase = Phase::Broken;
        self.kick = None;
        self.error.iter().for_each(signal);
    }
}

/// Takes requests off a ring and gives them to the device; whether there are more.
fn take(ring: &Arc<Ring>, view: &View<'_>, disk: &Disk) -> Result<bool, RingError> {
    for _ in 0..ROUNDS_MAX {
        match ring.take(view)? {
            Taken::Batch(batch) => disk.device.submit(batch),
            Taken::Answered => {}
            Taken::Nothing => return Ok(false),
        }
    }
    Ok(true)
}

fn u64_reply(value: u64) -> Reply {
    Reply::Body(value.to_le_bytes().to_vec())
}

fn offered(features: u64, served: u64) -> Result<(), Refusal> {
    match features & !served {
        0 => Ok(()),
        unknown => Err(Refusal::Features(unknown)),
    }
}

/// The descriptor of a message that has one.
fn one(files: Vec<OwnedFd>) -> Result<OwnedFd, Refusal> {
    let mut files = files.into_iter();
    match (files.next(), files.next()) {
        (Some(file), None) => Ok(file),
        _ => Err(Refusal::FileMissing),
    }
}

/// The descriptor of a message about a ring.
fn ring_file(ring: RingFile, files: Vec<OwnedFd>) -> Result<Option<OwnedFd>, Refusal> {
    match ring.attached {
        Attached::None => Ok(None),
        Attached::One => {
            let file = one(files)?;
            never_wait(&file)?;
            Ok(Some(file))
        }
    }
}

/// A front-end's descriptor must not make the device wait.
fn never_wait(file: &OwnedFd) -> Result<(), Refusal> {
    fcntl_getfl(file)
        .and_then(|flags| fcntl_setfl(file, flags | OFlags::NONBLOCK))
        .map_err(|error| Refusal::File(error.into()))
}
