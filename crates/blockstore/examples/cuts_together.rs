//! Measures how long a cut of several volumes makes their guests wait.
//!
//! `cuts_together FOLDER [ROUNDS]` makes 1, 4 and 16 volumes of 1 GiB. A guest on each writes pages at
//! random places, 32 at a time every 10 ms (16 guests write 200 MiB a second). Then, `ROUNDS` (61) times in turn, one volume is
//! flushed and all are cut together. Prints a line of JSON for each number of volumes. `hold` is the
//! time from when a volume is told to begin nothing more until it goes on, the longest of a cut's
//! members; `from first to last` is the time from when the first is told until the last goes on; `call` is all of it, with what is prepared
//! before and flushed after while guests go on.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is over")]
#![expect(clippy::disallowed_methods, reason = "it measures")]

use base::{OsRng, Secret, SeededRng, VolumeId};
use blockstore::live::{CutId, OpenOptions, VolumeOptions};
use blockstore::page::{DataKey, PAGE_BYTES};
use blockstore::store::{CutWatch, Store, StoreConfig, Volume, VolumeHandle};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SIZE: u64 = 1 << 30;
const DEPTH: usize = 32;
/// What guests do between two measurements.
const PAUSE: Duration = Duration::from_millis(30);
/// What a guest does between two times 32 writes.
const BREATH: Duration = Duration::from_millis(10);

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let rounds = arguments.next().map_or(Some(61), |text| text.parse().ok());
    let (Some(folder), Some(rounds)) = (folder, rounds) else {
        eprintln!("usage: cuts_together FOLDER [ROUNDS]");
        return std::process::ExitCode::FAILURE;
    };
    for volumes in [1, 4, 16] {
        println!("{}", measure(&folder.join(volumes.to_string()), volumes, rounds));
    }
    std::process::ExitCode::SUCCESS
}

/// When each member was told to begin nothing more, and when it went on.
#[derive(Default)]
struct Seen(Mutex<Vec<(VolumeId, Instant, Option<Instant>)>>);

impl CutWatch for Seen {
    fn stands(&self, volume: &VolumeId) {
        self.0.lock().unwrap().push((volume.clone(), Instant::now(), None));
    }

    fn goes_on(&self, volume: &VolumeId) {
        let now = Instant::now();
        let mut seen = self.0.lock().unwrap();
        seen.iter_mut().find(|(member, ..)| member == volume).unwrap().2 = Some(now);
    }
}

impl Seen {
    /// The longest hold, and the time from the first to the last.
    fn holds(&self) -> (Duration, Duration) {
        let seen = self.0.lock().unwrap();
        let ended = |end: Option<Instant>| end.unwrap();
        let longest = seen.iter().map(|(_, from, to)| ended(*to) - *from).max().unwrap();
        let first = seen.iter().map(|(_, from, _)| *from).min().unwrap();
        let last = seen.iter().map(|(.., to)| ended(*to)).max().unwrap();
        (longest, last - first)
    }
}

/// Writes until told to stop.
fn guest(volume: &VolumeHandle, seed: u64, stop: &AtomicBool, written: &AtomicU64) {
    let rng = SeededRng::new(seed);
    let (done, finished) = sync_channel(DEPTH);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..DEPTH {
            let at = rng.below(SIZE / PAGE_BYTES as u64) * PAGE_BYTES as u64;
            let done = done.clone();
            let work = move |volume: &mut Volume| {
                volume.engine().write(at, &[7; PAGE_BYTES]).unwrap();
                let _ = done.send(());
            };
            assert!(volume.submit(Box::new(work)).is_ok());
        }
        (0..DEPTH).for_each(|_| finished.recv().unwrap());
        written.fetch_add(DEPTH as u64, Ordering::Relaxed);
        std::thread::sleep(BREATH);
    }
}

fn measure(folder: &Path, count: u64, rounds: usize) -> String {
    let store =
        Store::open(folder, Secret::new([7; 32]), Arc::new(OsRng), StoreConfig::server()).unwrap();
    let ids: Vec<_> = (0..count).map(|_| VolumeId::generate(&OsRng)).collect();
    let open = |id: &VolumeId| {
        let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
        store.create_volume(id, &options).unwrap();
        let data_key = Some(DataKey::new(&Secret::new([2; 64])));
        store.open_volume(id, OpenOptions { data_key, ..OpenOptions::default() }).unwrap()
    };
    let volumes: Vec<_> = ids.iter().map(open).collect();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut times: [Vec<Duration>; 4] = Default::default();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (seed, volume) in (0..).zip(&volumes) {
            let (stop, written) = (&stop, &written);
            scope.spawn(move || guest(volume, seed, stop, written));
        }
        for round in 0..rounds {
            std::thread::sleep(PAUSE);
            let begun = Instant::now();
            volumes[round % volumes.len()].flush().unwrap();
            times[0].push(begun.elapsed());
            std::thread::sleep(PAUSE);
            let cut = CutId::new(&format!("snap-{round}")).unwrap();
            let members: Vec<_> = ids.iter().map(|id| (id.clone(), cut)).collect();
            let seen = Arc::new(Seen::default());
            let begun = Instant::now();
            store.cut_many_watched(&members, &(Arc::clone(&seen) as _)).unwrap();
            times[3].push(begun.elapsed());
            let (longest, all) = seen.holds();
            times[1].push(longest);
            times[2].push(all);
            ids.iter().for_each(|id| store.drop_cut(id, cut).unwrap());
        }
        stop.store(true, Ordering::Relaxed);
    });
    let rate = written.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    drop(volumes);
    drop(store);
    std::fs::remove_dir_all(folder).unwrap();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let [flush, hold, all, call] = times.map(|mut times| {
        times.sort_unstable();
        (ms(times[times.len() / 2]), ms(times[times.len() - 1]))
    });
    format!(
        "{{\"measure\":\"cuts of several volumes\",\"volumes\":{count},\"rounds\":{rounds},\
         \"flush_ms\":{:.2},\"flush_worst_ms\":{:.2},\"hold_ms\":{:.2},\"hold_worst_ms\":{:.2},\
         \"first_to_last_ms\":{:.2},\"first_to_last_worst_ms\":{:.2},\"call_ms\":{:.2},\
         \"guest_writes_per_second\":{rate:.0}}}",
        flush.0, flush.1, hold.0, hold.1, all.0, all.1, call.0,
    )
}
