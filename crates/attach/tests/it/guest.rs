//! A virtual machine's side of vhost-user: its memory, its rings, and the `vhost` crate's front-end,
//! which knows nothing of the code under test.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight};
use vhost::vhost_user::{
    Frontend, FrontendReqHandler, VhostUserFrontend, VhostUserFrontendReqHandler,
    VhostUserProtocolFeatures,
};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestRegionMmap,
    MmapRegion,
};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

pub(crate) const QUEUE_SIZE: u16 = 64;
const MEMORY_BYTES: usize = 32 << 20;
const QUEUE_BYTES: u64 = 0x4000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
/// Where data lies; everything before is rings.
pub(crate) const DATA: u64 = 1 << 20;

pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

pub(crate) const IN: u32 = 0;
pub(crate) const OUT: u32 = 1;
pub(crate) const FLUSH: u32 = 4;
pub(crate) const GET_ID: u32 = 8;
pub(crate) const DISCARD: u32 = 11;
pub(crate) const WRITE_ZEROES: u32 = 13;

/// Counts what the back-end tells of its own accord.
#[derive(Default)]
pub(crate) struct Notices(pub(crate) AtomicUsize);

impl VhostUserFrontendReqHandler for Notices {
    fn handle_config_change(&self) -> std::io::Result<u64> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(0)
    }
}

/// Guest memory that outlives a front-end, as it does when a back-end is restarted.
pub(crate) struct Ram(pub(crate) GuestMemoryMmap<()>);

impl Ram {
    pub(crate) fn new() -> Arc<Self> {
        let file = memfd_create("ram", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, MEMORY_BYTES as u64).unwrap();
        let offset = FileOffset::new(File::from(file), 0);
        let mapping = MmapRegion::from_file(offset, MEMORY_BYTES).unwrap();
        let region = GuestRegionMmap::new(mapping, GuestAddress(0)).unwrap();
        Arc::new(Self(GuestMemoryMmap::from_regions(vec![region]).unwrap()))
    }

    pub(crate) fn put<T: vm_memory::ByteValued>(&self, value: T, at: u64) {
        self.0.write_obj(value, GuestAddress(at)).unwrap();
    }

    pub(crate) fn get<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.0.read_obj(GuestAddress(at)).unwrap()
    }

    fn user_address(&self) -> u64 {
        self.0.iter().next().unwrap().as_ptr() as u64
    }
}

/// One ring as its driver sees it. Each request uses three descriptors of its own.
pub(crate) struct Driver {
    ram: Arc<Ram>,
    base: u64,
    seen: u16,
    pub(crate) kick: EventFd,
    pub(crate) call: EventFd,
    pub(crate) error: EventFd,
}

impl Driver {
    fn new(ram: &Arc<Ram>, index: u64) -> Self {
        let base = QUEUE_BYTES * (index + 1);
        let seen = ram.get::<u16>(base + USED + 2);
        let event = || EventFd::new(libc_nonblock()).unwrap();
        Self { ram: Arc::clone(ram), base, seen, kick: event(), call: event(), error: event() }
    }

    pub(crate) fn descriptor(&self, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let at = self.base + 16 * u64::from(index);
        self.ram.put(address, at);
        self.ram.put(length, at + 8);
        self.ram.put(flags, at + 12);
        self.ram.put(next, at + 14);
    }

    /// Makes a chain available without telling the device.
    pub(crate) fn offer(&self, head: u16) {
        let index = self.ram.get::<u16>(self.base + AVAILABLE + 2);
        let entry = self.base + AVAILABLE + 4 + 2 * u64::from(index % QUEUE_SIZE);
        self.ram.put(head, entry);
        self.ram.put(index.wrapping_add(1), self.base + AVAILABLE + 2);
    }

    /// Sets the index beyond what was offered.
    pub(crate) fn lie(&self, index: u16) {
        self.ram.put(index, self.base + AVAILABLE + 2);
    }

    pub(crate) fn kick(&self) {
        self.kick.write(1).unwrap();
    }

    /// Builds request number `slot` with its header and data in the slot's own memory.
    pub(crate) fn build(&self, slot: u16, kind: u32, sector: u64, data: Data<'_>) -> u64 {
        let at = DATA + self.base * 64 + u64::from(slot) * 0x8000;
        self.ram.put(kind, at);
        self.ram.put(0u32, at + 4);
        self.ram.put(sector, at + 8);
        self.ram.put(0xffu8, at + 16);
        let payload = at + 32;
        let (length, flags) = match data {
            Data::None => (0, 0),
            Data::Give(bytes) => {
                self.ram.0.write_slice(bytes, GuestAddress(payload)).unwrap();
                (bytes.len() as u32, 0)
            }
            Data::Want(length) => (length, WRITE),
        };
        let first = slot * 3;
        if length == 0 {
            self.descriptor(first, at, 16, NEXT, first + 2);
        } else {
            self.descriptor(first, at, 16, NEXT, first + 1);
            self.descriptor(first + 1, payload, length, flags | NEXT, first + 2);
        }
        self.descriptor(first + 2, at + 16, 1, WRITE, 0);
        at
    }

    /// Waits for an answer; the head it is for and the bytes written.
    pub(crate) fn answer(&mut self) -> (u16, u32) {
        for _ in 0..20_000 {
            if let Some(answer) = self.poll() {
                return answer;
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        panic!("no answer");
    }

    /// An answer, if there is one.
    pub(crate) fn poll(&mut self) -> Option<(u16, u32)> {
        if self.ram.get::<u16>(self.base + USED + 2) == self.seen {
            return None;
        }
        let entry = self.base + USED + 4 + 8 * u64::from(self.seen % QUEUE_SIZE);
        self.seen = self.seen.wrapping_add(1);
        Some((self.ram.get::<u32>(entry) as u16, self.ram.get::<u32>(entry + 4)))
    }

    /// One request from beginning to end: its status and what was read.
    pub(crate) fn request(&mut self, kind: u32, sector: u64, data: Data<'_>) -> (u8, Vec<u8>) {
        let at = self.build(0, kind, sector, data);
        self.offer(0);
        self.kick();
        assert_eq!(self.answer().0, 0);
        let mut bytes = vec![0; if let Data::Want(length) = data { length as usize } else { 0 }];
        self.ram.0.read_slice(&mut bytes, GuestAddress(at + 32)).unwrap();
        (self.ram.get::<u8>(at + 16), bytes)
    }
}

fn libc_nonblock() -> i32 {
    rustix::fs::OFlags::NONBLOCK.bits() as i32
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(crate) enum Data<'a> {
    None,
    Give(&'a [u8]),
    Want(u32),
}

/// A front-end with its rings started.
pub(crate) struct Guest {
    pub(crate) frontend: Frontend,
    pub(crate) ram: Arc<Ram>,
    pub(crate) queues: Vec<Driver>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) channel: FrontendReqHandler<Notices>,
    features: u64,
}

/// What a front-end connects for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connects {
    /// To begin: it reads the configuration, and its guest is told that.
    Anew,
    /// To go on, with a guest that runs: it reads nothing.
    Again,
}

/// For how many milliseconds a notice is waited for.
#[derive(Clone, Copy)]
pub(crate) enum Patience {
    /// It was sent already, if it was.
    None = 0,
    /// It comes.
    Long = 10_000,
}

/// What a new front-end asks for.
#[derive(Clone, Copy)]
pub(crate) struct Wishes<'a> {
    pub(crate) connects: Connects,
    pub(crate) queues: usize,
    /// Guest features left out.
    pub(crate) without: u64,
    /// The record of requests under way, when a back-end before made one.
    pub(crate) record: Option<&'a (VhostUserInflight, File)>,
}

impl Default for Wishes<'_> {
    fn default() -> Self {
        Self { connects: Connects::Anew, queues: 1, without: 0, record: None }
    }
}

impl Guest {
    pub(crate) fn connect(path: &Path, ram: &Arc<Ram>, wishes: &Wishes<'_>) -> Self {
        let mut frontend = Frontend::connect(path, 16).unwrap();
        frontend.set_owner().unwrap();
        let features = frontend.get_features().unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        let wanted = VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::BACKEND_REQ
            | VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::INFLIGHT_SHMFD
            | VhostUserProtocolFeatures::RESET_DEVICE
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS;
        assert_eq!(protocol, wanted);
        frontend.set_protocol_features(wanted).unwrap();
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
        assert_eq!(frontend.get_queue_num().unwrap(), 16);
        // Every answer rings, so that nothing here depends on how the driver suppresses it.
        let features = features & !(1 << 29) & !wishes.without;
        frontend.set_features(features).unwrap();
        let notices = Arc::new(Notices::default());
        let channel = FrontendReqHandler::new(Arc::clone(&notices)).unwrap();
        frontend.set_backend_request_fd(&channel.get_tx_raw_fd()).unwrap();
        let region = ram.0.iter().next().unwrap();
        let region = VhostUserMemoryRegionInfo::from_guest_region(region).unwrap();
        frontend.set_mem_table(&[region]).unwrap();
        if let Some((area, file)) = wishes.record {
            let file = file.as_raw_fd();
            frontend.set_inflight_fd(area, file).unwrap();
        }
        let queues = (0..wishes.queues as u64).map(|index| Driver::new(ram, index)).collect();
        let ram = Arc::clone(ram);
        let mut guest = Self { frontend, ram, queues, notices, channel, features };
        if wishes.connects == Connects::Anew {
            guest.config(0, 60);
        }
        (0..wishes.queues).for_each(|index| guest.start(index));
        guest
    }

    /// Starts a ring where it was left.
    pub(crate) fn start(&mut self, index: usize) {
        let queue = &self.queues[index];
        let place = self.ram.user_address() + queue.base;
        self.frontend.set_vring_num(index, QUEUE_SIZE).unwrap();
        self.frontend.set_vring_base(index, queue.seen).unwrap();
        let addresses = VringConfigData {
            queue_max_size: QUEUE_SIZE,
            queue_size: QUEUE_SIZE,
            flags: 0,
            desc_table_addr: place,
            used_ring_addr: place + USED,
            avail_ring_addr: place + AVAILABLE,
            log_addr: None,
        };
        self.frontend.set_vring_addr(index, &addresses).unwrap();
        self.frontend.set_vring_call(index, &queue.call).unwrap();
        self.frontend.set_vring_err(index, &queue.error).unwrap();
        self.frontend.set_vring_kick(index, &queue.kick).unwrap();
        self.frontend.set_vring_enable(index, true).unwrap();
    }

    /// Whether there is a notice of the back-end's own. It is taken.
    pub(crate) fn is_told(&mut self, patience: Patience) -> bool {
        let poll = Epoll::new().unwrap();
        let event = EpollEvent::new(EventSet::IN, 0);
        poll.ctl(ControlOperation::Add, self.channel.as_raw_fd(), event).unwrap();
        let ready = poll.wait(patience as i32, &mut [EpollEvent::default()]).unwrap() > 0;
        if ready {
            self.channel.handle_request().unwrap();
        }
        ready
    }

    /// The guest resets the device, as one that reboots, and begins anew.
    pub(crate) fn reset(&mut self) {
        self.frontend.reset_device().unwrap();
        self.frontend.set_features(self.features).unwrap();
        (0..self.queues.len()).for_each(|index| self.start(index));
    }

    pub(crate) fn config(&mut self, offset: u32, size: u32) -> Vec<u8> {
        let window = vec![0; size as usize];
        let flags = VhostUserConfigFlags::WRITABLE;
        self.frontend.get_config(offset, size, flags, &window).unwrap().1
    }
}
