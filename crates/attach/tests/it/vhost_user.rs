//! A volume as a guest's virtio disk: the protocol, the requests, and what a hostile guest gets.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use attach::device::{SizeWatch, SizeWatcher};
use attach::{BlockDevice, Command, Disk, Request, Stop, VhostExport, call};
use vhost::VhostBackend;
use vhost::vhost_user::message::{VhostUserConfigFlags, VhostUserInflight};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vm_memory::{Bytes, GuestAddress};

use crate::guest::{
    Connects, DATA, DISCARD, Data, Driver, FLUSH, GET_ID, Guest, IN, INDIRECT, NEXT, OUT, Patience,
    QUEUE_SIZE, Ram, WRITE, WRITE_ZEROES, Wishes,
};
use crate::memory::Memory;

const SIZE: u64 = 8 << 20;
const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;

/// A device that can grow.
struct Growing {
    inner: Arc<Memory>,
    size: AtomicU64,
    /// Told of it, for as long as the device lives.
    watchers: Mutex<Vec<SizeWatcher>>,
}

impl Growing {
    fn new() -> Arc<Self> {
        let (inner, size) = (Memory::start(SIZE), AtomicU64::new(SIZE));
        Arc::new(Self { inner, size, watchers: Mutex::default() })
    }

    fn grow(&self, size: u64) {
        self.size.store(size, Ordering::SeqCst);
        self.watchers.lock().unwrap().iter().for_each(|watcher| watcher(size));
    }
}

impl BlockDevice for Growing {
    fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    fn watch_size(&self, watcher: SizeWatcher) -> SizeWatch {
        self.watchers.lock().unwrap().push(watcher);
        SizeWatch::never()
    }

    fn submit(&self, batch: Vec<Request>) {
        self.inner.submit(batch);
    }
}

struct Bench {
    folder: tempfile::TempDir,
    device: Arc<Growing>,
    export: VhostExport,
}

impl Bench {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let device = Growing::new();
        let export = serve(folder.path(), &device);
        Self { folder, device, export }
    }

    fn guest(&self) -> Guest {
        Guest::connect(self.export.path(), &Ram::new(), &Wishes::default())
    }

    /// A record of requests under way, as a front-end has it made and keeps it.
    fn record(&self) -> (VhostUserInflight, File) {
        let mut frontend = Frontend::connect(self.export.path(), 16).unwrap();
        let asked =
            VhostUserInflight { num_queues: 1, queue_size: QUEUE_SIZE, ..Default::default() };
        let _ = frontend.get_features().unwrap();
        let protocol = frontend.get_protocol_features().unwrap();
        frontend.set_protocol_features(protocol).unwrap();
        frontend.get_inflight_fd(&asked).unwrap()
    }

    /// Another process serves the same device.
    fn restart(self) -> Self {
        let Self { folder, device, export } = self;
        export.stop(Stop::Force).unwrap();
        let export = serve(folder.path(), &device);
        Self { folder, device, export }
    }

    /// Whether a write is answered when it is durable.
    fn writes_are_durable(&self, guest: &mut Guest) -> bool {
        let flushes = || self.device.inner.state.flushes.load(Ordering::SeqCst);
        let before = flushes();
        assert_eq!(guest.queues[0].request(OUT, 0, Data::Give(&[1; 512])).0, OK);
        flushes() > before
    }
}

fn serve(folder: &Path, device: &Arc<Growing>) -> VhostExport {
    let path: PathBuf = folder.join("sdf.vhost.sock");
    let disk = Disk::new("sdf".into(), "vol-0123456789abcdef0", Arc::clone(device) as _);
    VhostExport::start(&path, disk).unwrap()
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|at| (at / 3) as u8 ^ seed).collect()
}

fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &count.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn a_guest_reads_writes_and_gives_back() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    let queue = &mut guest.queues[0];
    let data = pattern(8192, 5);
    assert_eq!(queue.request(OUT, 8, Data::Give(&data)).0, OK);
    assert_eq!(queue.request(IN, 8, Data::Want(8192)), (OK, data.clone()));
    assert_eq!(queue.request(IN, 9, Data::Want(512)).1, data[512..1024]);
    assert_eq!(bench.device.inner.state.flushes.load(Ordering::SeqCst), 0);
    assert_eq!(queue.request(FLUSH, 0, Data::None).0, OK);
    assert_eq!(bench.device.inner.state.flushes.load(Ordering::SeqCst), 1);
    let zeroes = [range(8, 1, 1), range(10, 2, 0)].concat();
    assert_eq!(queue.request(WRITE_ZEROES, 0, Data::Give(&zeroes)).0, OK);
    let mut expected = data.clone();
    expected[..512].fill(0);
    expected[1024..2048].fill(0);
    assert_eq!(queue.request(IN, 8, Data::Want(8192)).1, expected);
    assert_eq!(queue.request(DISCARD, 0, Data::Give(&range(8, 16, 0))).0, OK);
    assert_eq!(queue.request(IN, 8, Data::Want(8192)).1, [0; 8192]);
    let (status, id) = queue.request(GET_ID, 0, Data::Want(20));
    assert_eq!((status, &id[..]), (OK, &b"vol0123456789abcdef0"[..]));
    // The guest was told of its answers.
    assert!(queue.call.read().unwrap() > 0);
}

#[test]
fn configuration_follows_the_device() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    assert_eq!(guest.config(0, 8), (SIZE / 512).to_le_bytes());
    assert_eq!(guest.config(20, 4), 512u32.to_le_bytes());
    assert_eq!(guest.config(34, 2), 16u16.to_le_bytes());
    assert_eq!(guest.config(60, 20), [0; 20]);

    assert_eq!(guest.queues[0].request(OUT, SIZE / 512, Data::Give(&[1; 512])).0, IO_ERROR);
    bench.device.grow(2 * SIZE);
    assert!(guest.is_told(Patience::Long));
    assert_eq!(guest.notices.0.load(Ordering::SeqCst), 1);
    assert_eq!(guest.config(0, 8), (2 * SIZE / 512).to_le_bytes());
    assert_eq!(guest.queues[0].request(OUT, SIZE / 512, Data::Give(&[1; 512])).0, OK);
}

#[test]
fn growth_is_told_to_a_front_end_that_was_away() {
    let bench = Bench::start();
    let ram = Ram::new();
    let mut guest = Guest::connect(bench.export.path(), &ram, &Wishes::default());
    assert_eq!(guest.queues[0].request(FLUSH, 0, Data::None).0, OK);
    assert!(!guest.is_told(Patience::None), "it has just read the size");
    drop(guest);
    bench.device.grow(2 * SIZE);

    let again = Wishes { connects: Connects::Again, ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &ram, &again);
    assert!(guest.is_told(Patience::Long));
    assert_eq!(guest.config(0, 8), (2 * SIZE / 512).to_le_bytes());
    assert_eq!(guest.queues[0].request(FLUSH, 0, Data::None).0, OK);
    assert!(!guest.is_told(Patience::None), "once");
}

#[test]
fn growth_is_told_when_the_rings_run() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    guest.frontend.get_vring_base(0).unwrap();
    bench.device.grow(2 * SIZE);
    // QEMU would not listen.
    assert_eq!(guest.frontend.get_queue_num().unwrap(), 16);
    assert!(!guest.is_told(Patience::None));
    guest.start(0);
    assert!(guest.is_told(Patience::Long));
    // A guest that is gone before its front-end has read is told again when it is back.
    guest.frontend.get_vring_base(0).unwrap();
    guest.start(0);
    assert!(guest.is_told(Patience::Long));
}

#[test]
fn a_guest_chooses_when_its_writes_are_durable() {
    let bench = Bench::start();
    let flushes = || bench.device.inner.state.flushes.load(Ordering::SeqCst);
    let mut guest = bench.guest();
    guest.queues[0].request(OUT, 0, Data::Give(&[1; 512]));
    assert_eq!(flushes(), 0);
    guest.frontend.set_config(32, VhostUserConfigFlags::WRITABLE, &[0]).unwrap();
    assert_eq!(guest.config(32, 1), [0]);
    assert_eq!(flushes(), 1, "the guest sends no flush for what it wrote before");
    guest.queues[0].request(OUT, 0, Data::Give(&[1; 512]));
    assert_eq!(flushes(), 2, "the cache is off");
    assert!(guest.frontend.set_config(0, VhostUserConfigFlags::WRITABLE, &[0; 8]).is_err());
    drop(guest);

    // A guest that knows no FLUSH cannot be left with volatile writes.
    let wishes = Wishes { without: 1 << 9 | 1 << 11, ..Wishes::default() };
    let mut simple = Guest::connect(bench.export.path(), &Ram::new(), &wishes);
    simple.queues[0].request(OUT, 0, Data::Give(&[2; 512]));
    assert_eq!(flushes(), 3);
}

/// Its front-end connects anew, and what the guest had chosen is not known here.
#[test]
fn a_guest_without_a_cache_has_durable_what_it_wrote_before_it_was_connected_again() {
    let bench = Bench::start();
    let flushes = || bench.device.inner.state.flushes.load(Ordering::SeqCst);
    let mut guest = bench.guest();
    guest.queues[0].request(OUT, 0, Data::Give(&[1; 512]));
    drop(guest);
    let again = Wishes { connects: Connects::Again, ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &Ram::new(), &again);
    for _ in 0..2 {
        guest.frontend.set_config(32, VhostUserConfigFlags::WRITABLE, &[0]).unwrap();
        assert_eq!(guest.config(32, 1), [0]);
        assert_eq!(flushes(), 1, "once is enough, and needed");
    }
}

/// QEMU and Cloud Hypervisor keep what a guest chose, and do not say it again.
#[test]
fn a_choice_outlives_the_process_and_the_guest() {
    let bench = Bench::start();
    let (ram, record) = (Ram::new(), bench.record());
    let anew = Wishes { record: Some(&record), ..Wishes::default() };
    let again = Wishes { connects: Connects::Again, ..anew };
    let connect = |bench: &Bench, wishes| Guest::connect(bench.export.path(), &ram, wishes);
    let choose = |guest: &mut Guest, writeback: u8| {
        guest.frontend.set_config(32, VhostUserConfigFlags::WRITABLE, &[writeback]).unwrap();
    };

    // One that chose nothing keeps its write cache.
    assert!(!bench.writes_are_durable(&mut connect(&bench, &anew)));
    let bench = bench.restart();
    let mut guest = connect(&bench, &again);
    assert!(!bench.writes_are_durable(&mut guest));
    choose(&mut guest, 0);
    assert!(bench.writes_are_durable(&mut guest));
    drop(guest);

    let bench = bench.restart();
    let mut guest = connect(&bench, &again);
    assert!(bench.writes_are_durable(&mut guest), "it was chosen at another process");
    // Whatever it reads for, its guest is not told.
    assert_eq!(guest.config(32, 1), [0]);
    assert!(bench.writes_are_durable(&mut guest));
    guest.reset();
    assert!(bench.writes_are_durable(&mut guest), "the next guest is told what this one chose");
    choose(&mut guest, 1);
    assert!(!bench.writes_are_durable(&mut guest));
    drop(guest);

    let bench = bench.restart();
    assert!(!bench.writes_are_durable(&mut connect(&bench, &again)));
}

#[test]
fn a_guest_of_which_nothing_is_known_loses_nothing() {
    let bench = Bench::start();
    let again = Wishes { connects: Connects::Again, ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &Ram::new(), &again);
    assert!(bench.writes_are_durable(&mut guest));
    // A front-end that reads for the capacity, as it does when it is told to.
    assert_eq!(guest.config(0, 60)[32], 0);
    assert!(bench.writes_are_durable(&mut guest));
    guest.frontend.set_config(32, VhostUserConfigFlags::WRITABLE, &[1]).unwrap();
    assert!(!bench.writes_are_durable(&mut guest));
}

#[test]
fn what_was_not_agreed_on_is_refused() {
    let bench = Bench::start();
    let wishes = Wishes { without: 1 << 13 | 1 << 14, ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &Ram::new(), &wishes);
    let queue = &mut guest.queues[0];
    assert_eq!(queue.request(DISCARD, 0, Data::Give(&range(0, 8, 0))).0, UNSUPPORTED);
    assert_eq!(queue.request(WRITE_ZEROES, 0, Data::Give(&range(0, 8, 0))).0, UNSUPPORTED);
    assert_eq!(queue.request(2, 0, Data::Want(96)).0, UNSUPPORTED, "SCSI commands");
    assert!(guest.frontend.set_features(1 << 63).is_err());
}

#[test]
fn many_queues_work_at_once() {
    let bench = Bench::start();
    let wishes = Wishes { queues: 4, ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &Ram::new(), &wishes);
    for round in 0..20u64 {
        for (index, queue) in guest.queues.iter().enumerate() {
            for slot in 0..20u16 {
                let sector = round * 80 + index as u64 * 20 + u64::from(slot);
                let data = [sector as u8 | 1; 512];
                queue.build(slot, OUT, sector, Data::Give(&data));
                queue.offer(slot * 3);
            }
            queue.kick();
        }
        for queue in &mut guest.queues {
            let mut heads: Vec<u16> = (0..20).map(|_| queue.answer().0).collect();
            heads.sort_unstable();
            assert_eq!(heads, (0..20).map(|slot| slot * 3).collect::<Vec<_>>());
        }
    }
    let queue = &mut guest.queues[3];
    for sector in (0..1600u64).step_by(97) {
        let read = queue.request(IN, sector, Data::Want(512));
        assert_eq!(read, (OK, vec![sector as u8 | 1; 512]), "{sector}");
    }
}

#[test]
fn requests_in_pieces_and_in_tables_are_the_same_requests() {
    let bench = Bench::start();
    let guest = &mut bench.guest();
    let data = pattern(1536, 9);
    let ram = Arc::clone(&guest.ram);
    let queue = &mut guest.queues[0];
    // Header and data share pieces; the status ends the last one.
    let at = queue.build(0, OUT, 4, Data::Give(&[]));
    let joined = at + 0x100;
    let mut bytes = [&OUT.to_le_bytes()[..], &[0; 4], &4u64.to_le_bytes(), &data].concat();
    ram.0.write_slice(&bytes, GuestAddress(joined)).unwrap();
    queue.descriptor(0, joined, 7, NEXT, 1);
    queue.descriptor(1, joined + 7, 600, NEXT, 2);
    queue.descriptor(2, joined + 607, bytes.len() as u32 - 607, NEXT, 3);
    queue.descriptor(3, at + 16, 1, WRITE, 0);
    queue.offer(0);
    queue.kick();
    queue.answer();
    assert_eq!(ram.get::<u8>(at + 16), OK);

    // The same as a table in memory, to read.
    ram.put(IN, at);
    let (header, target) = ((at, 16, NEXT, 1), at + 0x1000);
    let table = at + 0x2000;
    put_table(
        &ram,
        table,
        &[header, (target, 1000, WRITE | NEXT, 2), (target + 1000, 537, WRITE, 0)],
    );
    queue.descriptor(5, table, 48, INDIRECT, 0);
    let mut check = |queue: &mut Driver, head| {
        ram.0.write_slice(&[0; 1537], GuestAddress(target)).unwrap();
        queue.offer(head);
        queue.kick();
        assert_eq!(queue.answer(), (head, 1537));
        bytes.resize(1537, 0);
        ram.0.read_slice(&mut bytes, GuestAddress(target)).unwrap();
        assert_eq!(bytes[..1536], data);
        assert_eq!(bytes[1536], OK);
    };
    check(queue, 5);

    // Some of it in the ring, the rest in a table.
    put_table(&ram, table, &[(target + 500, 500, WRITE | NEXT, 1), (target + 1000, 537, WRITE, 0)]);
    queue.descriptor(6, at, 16, NEXT, 8);
    queue.descriptor(8, target, 500, WRITE | NEXT, 7);
    queue.descriptor(7, table, 32, INDIRECT, 0);
    check(queue, 6);
}

/// Writes a table of descriptors: address, length, flags, next.
fn put_table(ram: &Ram, at: u64, descriptors: &[(u64, u32, u16, u16)]) {
    for (entry, (address, length, flags, next)) in (at..).step_by(16).zip(descriptors) {
        ram.put(*address, entry);
        ram.put(*length, entry + 8);
        ram.put(*flags, entry + 12);
        ram.put(*next, entry + 14);
    }
}

#[test]
fn errors_of_the_device_reach_the_guest() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    bench.device.inner.state.broken.store(true, Ordering::SeqCst);
    assert_eq!(guest.queues[0].request(IN, 0, Data::Want(512)).0, IO_ERROR);
    assert_eq!(guest.queues[0].request(FLUSH, 0, Data::None).0, IO_ERROR);
    bench.device.inner.state.broken.store(false, Ordering::SeqCst);
    assert_eq!(guest.queues[0].request(FLUSH, 0, Data::None).0, OK);
}

#[test]
fn malformed_requests_are_errors_and_the_ring_goes_on() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    let queue = &mut guest.queues[0];
    for (kind, sector, data, expected) in [
        (IN, SIZE / 512, Data::Want(512), IO_ERROR),
        (IN, u64::MAX, Data::Want(512), IO_ERROR),
        (IN, u64::MAX / 512, Data::Want(1024), IO_ERROR),
        (IN, 0, Data::Want(100), IO_ERROR),
        (IN, 0, Data::None, IO_ERROR),
        (OUT, 0, Data::None, IO_ERROR),
        (OUT, SIZE / 512 - 1, Data::Give(&[0; 1024]), IO_ERROR),
        (DISCARD, 0, Data::Give(&[0; 15]), IO_ERROR),
        (DISCARD, 0, Data::Give(&[0; 16]), IO_ERROR),
        (DISCARD, 0, Data::Give(&range(0, 8, 1)), UNSUPPORTED),
        (DISCARD, 0, Data::Give(&range(SIZE / 512, 1, 0)), IO_ERROR),
        (DISCARD, 0, Data::Give(&range(u64::MAX, 1, 0)), IO_ERROR),
        (WRITE_ZEROES, 0, Data::Give(&range(0, u32::MAX, 0)), IO_ERROR),
        (WRITE_ZEROES, 0, Data::Give(&range(0, 1, 2)), UNSUPPORTED),
        (99, 0, Data::None, UNSUPPORTED),
    ] {
        assert_eq!(queue.request(kind, sector, data).0, expected, "{kind} {sector}");
    }
    assert_eq!(queue.request(GET_ID, 0, Data::Want(3)), (OK, b"vol".to_vec()));
    assert_eq!(queue.request(IN, 0, Data::Want(512)), (OK, vec![0; 512]));
}

/// Breaks the ring of a new guest in one way; the ring stops, another ring and a reset work.
fn breaks(what: impl FnOnce(&Guest)) {
    let bench = Bench::start();
    let wishes = Wishes { queues: 2, ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &Ram::new(), &wishes);
    what(&guest);
    guest.queues[0].kick();
    let told = (0..5000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        guest.queues[0].error.read().is_ok()
    });
    assert!(told, "the front-end is told that the ring broke");
    assert_eq!(guest.queues[1].request(OUT, 0, Data::Give(&[7; 512])).0, OK);
    drop(guest);
    let mut again = bench.guest();
    assert_eq!(again.queues[0].request(IN, 0, Data::Want(512)), (OK, vec![7; 512]));
}

#[test]
fn a_hostile_ring_stops_alone() {
    breaks(|guest| guest.queues[0].lie(QUEUE_SIZE + 1));
    breaks(|guest| guest.queues[0].offer(QUEUE_SIZE));
    breaks(|guest| {
        // Data outside memory.
        guest.queues[0].build(0, OUT, 0, Data::Give(&[1; 512]));
        guest.queues[0].descriptor(1, 1 << 40, 512, NEXT, 2);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // A chain with a loop.
        guest.queues[0].build(0, OUT, 0, Data::Give(&[1; 512]));
        guest.queues[0].descriptor(1, DATA, 512, NEXT, 1);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // No place for a status.
        guest.queues[0].descriptor(0, DATA, 16, 0, 0);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // More bytes than memory has, whose end wraps around.
        guest.queues[0].descriptor(0, u64::MAX - 8, 16, NEXT, 1);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // A table within a table.
        put_table(&guest.ram, DATA, &[(DATA, 16, INDIRECT, 0)]);
        guest.queues[0].descriptor(0, DATA, 16, INDIRECT, 0);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // The same behind a descriptor of the ring.
        put_table(&guest.ram, DATA, &[(DATA, 16, INDIRECT, 0)]);
        guest.queues[0].descriptor(0, DATA + 0x100, 16, NEXT, 1);
        guest.queues[0].descriptor(1, DATA, 16, INDIRECT, 0);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // Something behind a table.
        guest.queues[0].build(0, OUT, 0, Data::Give(&[1; 512]));
        put_table(&guest.ram, DATA, &[(DATA + 0x100, 512, 0, 0)]);
        guest.queues[0].descriptor(1, DATA, 16, INDIRECT | NEXT, 2);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // More descriptors than a queue can have, in the ring and in a table together.
        let (table, data) = (DATA, DATA + 0x8000);
        let mut entries: Vec<_> = (1..1024).map(|next| (data, 1, NEXT, next)).collect();
        entries.push((data + 16, 1, WRITE, 0));
        put_table(&guest.ram, table, &entries);
        guest.queues[0].descriptor(0, data, 16, NEXT, 1);
        guest.queues[0].descriptor(1, table, 16 * 1024, INDIRECT, 0);
        guest.queues[0].offer(0);
    });
    breaks(|guest| {
        // What is to be read follows what is to be written.
        guest.queues[0].descriptor(0, DATA, 16, WRITE | NEXT, 1);
        guest.queues[0].descriptor(1, DATA, 16, 0, 0);
        guest.queues[0].offer(0);
    });
}

#[test]
fn a_descriptor_in_use_is_not_taken_again() {
    let bench = Bench::start();
    let wishes = Wishes { queues: 2, ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &Ram::new(), &wishes);
    bench.device.inner.state.hold();
    guest.queues[0].build(0, OUT, 0, Data::Give(&[1; 512]));
    guest.queues[0].offer(0);
    guest.queues[0].offer(0);
    guest.queues[0].kick();
    let told = (0..5000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        guest.queues[0].error.read().is_ok()
    });
    assert!(told);
    bench.device.inner.state.release();
    guest.queues[0].answer();
    assert_eq!(guest.queues[0].poll(), None, "one answer, not two");
}

#[test]
fn a_ring_is_quiet_before_it_is_handed_back() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    let state = Arc::clone(&bench.device.inner.state);
    state.hold();
    guest.queues[0].build(0, OUT, 0, Data::Give(&[1; 512]));
    guest.queues[0].offer(0);
    guest.queues[0].kick();
    state.wait_for_submissions(1);
    let release = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        state.release();
    });
    // Answered only once the request is.
    assert_eq!(guest.frontend.get_vring_base(0).unwrap(), 1);
    assert!(guest.queues[0].poll().is_some());
    release.join().unwrap();
    guest.start(0);
    assert_eq!(guest.queues[0].request(IN, 0, Data::Want(512)), (OK, vec![1; 512]));
    guest.frontend.reset_device().unwrap();
    // A stopped ring is left alone.
    guest.queues[0].offer(0);
    let _ = guest.queues[0].kick.write(1);
    std::thread::sleep(std::time::Duration::from_millis(50));
    assert_eq!(guest.queues[0].poll(), None);
}

#[test]
fn a_new_back_end_does_what_the_old_one_left() {
    let bench = Bench::start();
    let ram = Ram::new();
    let record = bench.record();
    let wishes = Wishes { record: Some(&record), ..Wishes::default() };
    let mut guest = Guest::connect(bench.export.path(), &ram, &wishes);
    guest.queues[0].request(OUT, 0, Data::Give(&[1; 512]));
    // The device hangs with three requests, and the process "dies".
    bench.device.inner.state.hold();
    for slot in 1..4u16 {
        guest.queues[0].build(slot, OUT, u64::from(slot), Data::Give(&[slot as u8 + 1; 512]));
        guest.queues[0].offer(slot * 3);
    }
    guest.queues[0].kick();
    bench.device.inner.state.wait_for_submissions(4);
    bench.export.stop(Stop::Force).unwrap();
    drop(guest);

    let fresh = Growing::new();
    let export = serve(bench.folder.path(), &fresh);
    let mut guest = Guest::connect(export.path(), &ram, &wishes);
    let mut heads: Vec<u16> = (0..3).map(|_| guest.queues[0].answer().0).collect();
    heads.sort_unstable();
    assert_eq!(heads, [3, 6, 9]);
    for sector in 1..4u64 {
        let read = guest.queues[0].request(IN, sector, Data::Want(512));
        assert_eq!(read, (OK, vec![sector as u8 + 1; 512]));
    }
    bench.device.inner.state.release();
}

#[test]
fn a_disk_has_one_user_at_a_time() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    let second = Frontend::connect(bench.export.path(), 16).unwrap();
    assert!(second.get_features().is_err(), "turned away");
    assert_eq!(guest.queues[0].request(FLUSH, 0, Data::None).0, OK);
    drop(guest);
    let mut third = bench.guest();
    assert_eq!(third.queues[0].request(FLUSH, 0, Data::None).0, OK);
}

#[test]
fn who_stops_late_leaves_the_socket_of_who_came_after() {
    let bench = Bench::start();
    let newer = serve(bench.folder.path(), &bench.device);
    bench.export.stop(Stop::Graceful).unwrap();
    let mut guest = Guest::connect(newer.path(), &Ram::new(), &Wishes::default());
    assert_eq!(guest.queues[0].request(FLUSH, 0, Data::None).0, OK);
}

#[test]
fn a_stop_flushes_and_frees_the_path() {
    let bench = Bench::start();
    let mut guest = bench.guest();
    guest.queues[0].request(OUT, 0, Data::Give(&[3; 512]));
    let path = bench.export.path().to_owned();
    bench.export.stop(Stop::Graceful).unwrap();
    assert!(!path.exists());
    assert_eq!(bench.device.inner.state.flushes.load(Ordering::SeqCst), 1);
    call(&*bench.device, Command::Flush).unwrap();
}
