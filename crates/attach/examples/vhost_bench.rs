//! How fast an encrypted volume is as a guest's disk, with this process as the guest: 4 KiB random
//! writes and reads over one queue at depth 1 and 16. The volume is new, and its keys die with the
//! process. The driver spins for its answers, as a guest with idle processors would.
//!
//! `cargo run --release -p attach --example vhost_bench -- FOLDER MIB SECONDS`

#![expect(clippy::unwrap_used, reason = "an example fails by panicking")]

#[path = "../tests/it/guest.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod guest;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use attach::{Disk, Stop, VhostExport, VolumeDevice};
use base::{OsRng, Rng, Secret, VolumeId};
use blockstore::live::{OpenOptions, VolumeOptions};
use blockstore::page::DataKey;
use blockstore::store::{Store, StoreConfig};
use guest::{Data, Driver, Guest, IN, OUT, Ram, Wishes};

const BLOCK: usize = 4096;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().unwrap());
    let size = arguments.next().unwrap().parse::<u64>().unwrap() << 20;
    let time = Duration::from_secs(arguments.next().unwrap().parse().unwrap());
    let (mut service_key, mut data_key) = (Secret::new([0; 32]), Secret::new([0; 64]));
    OsRng.fill(service_key.expose_mut());
    OsRng.fill(data_key.expose_mut());
    let data_key = DataKey::new(&data_key);

    let store = Store::open(&folder, service_key, Arc::new(OsRng), StoreConfig::server()).unwrap();
    let id: VolumeId = "vol-0123456789abcdef0".parse().unwrap();
    let key_check = Some(data_key.check_value());
    store.create_volume(&id, &VolumeOptions { size_bytes: size, key_check, base: None }).unwrap();
    let options = OpenOptions { data_key: Some(data_key), base: None, writer: None };
    let handle = store.open_volume(&id, options).unwrap();

    let device = Arc::new(VolumeDevice::new(handle.clone()));
    let disk = Disk::new("bench".into(), id.as_str(), device);
    let export = VhostExport::start(&folder.join("bench.vhost.sock"), disk).unwrap();
    let mut guest = Guest::connect(export.path(), &Ram::new(), &Wishes::default());
    for (name, kind) in [("write", OUT), ("read", IN)] {
        for depth in [1, 16] {
            let count = run(&mut guest.queues[0], kind, depth, size, time);
            println!("4 KiB random {name}, depth {depth}: {:.0} IOPS", rate(count, time));
        }
    }
    drop(guest);
    export.stop(Stop::Graceful).unwrap();
    handle.close().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// Keeps `depth` requests under way until the time is over; how many were answered.
fn run(queue: &mut Driver, kind: u32, depth: u16, size: u64, time: Duration) -> u64 {
    let mut place = 88_172_645_463_325_252_u64;
    // Xorshift: the same places in every run.
    let mut next = || {
        place ^= place << 13;
        place ^= place >> 7;
        place ^= place << 17;
        place % (size / BLOCK as u64) * 8
    };
    let bytes = [0x5a; BLOCK];
    let data = if kind == OUT { Data::Give(&bytes) } else { Data::Want(BLOCK as u32) };
    for slot in 0..depth {
        queue.build(slot, kind, next(), data);
        queue.offer(slot * 3);
    }
    queue.kick();
    let end = now() + time;
    let mut count = 0;
    let mut under_way = u64::from(depth);
    while under_way > 0 {
        let mut offered = false;
        while let Some((head, _)) = queue.poll() {
            count += 1;
            if now() < end {
                queue.build(head / 3, kind, next(), data);
                queue.offer(head);
                offered = true;
            } else {
                under_way -= 1;
            }
        }
        if offered {
            queue.kick();
        }
        std::hint::spin_loop();
    }
    count
}
