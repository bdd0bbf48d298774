//! Measures how long a guest waits while a cut is dropped, and while what it discarded is given back: one line
//! of JSON per case.
//!
//! `drop_latency FOLDER [BLOCKS [ROUNDS]]` makes a sparse volume of which `BLOCKS` (65,536, of half a
//! MiB each) have a page. In each round, in turn the one or the other first, the volume is cut, a page of
//! every block is written again, and the cut is dropped while a guest reads such pages, one at a time:
//! once as the store does it (`drop in steps`), once as a single piece of work of the volume's thread (`drop as
//! a whole`).
//! Then `DISCARD_BYTES` behind them are written, and the guest discards those and reads until the file system
//! has them again (`discard`). Before each the guest reads alone for a second (`quiet`). Shown are medians over
//! the rounds.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is over")]
#![expect(clippy::disallowed_methods, reason = "it measures")]

use base::{OsRng, Rng, Secret, VolumeId};
use blockstore::live::{CutId, OpenOptions, VolumeOptions};
use blockstore::page::{BLOCK_BYTES, DataKey, PAGE_BYTES};
use blockstore::store::{Store, StoreConfig, VolumeHandle};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a guest writes behind the blocks, and discards.
const DISCARD_BYTES: u64 = 2 << 30;
/// In such pieces.
const PIECE_BYTES: u64 = 1 << 20;
/// How long a guest reads alone.
const QUIET: Duration = Duration::from_secs(1);

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let blocks = arguments.next().map_or(Some(65_536), |text| text.parse().ok());
    let rounds = arguments.next().map_or(Some(5), |text| text.parse().ok());
    let (Some(folder), Some(blocks), Some(rounds)) = (folder, blocks, rounds) else {
        eprintln!("usage: drop_latency FOLDER [BLOCKS [ROUNDS]]");
        return std::process::ExitCode::FAILURE;
    };
    measure(&folder, blocks, rounds);
    std::process::ExitCode::SUCCESS
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Steps,
    Whole,
}

/// What a guest felt, in microseconds, and for how many seconds.
struct Felt {
    median: f64,
    p99: f64,
    worst: f64,
    seconds: f64,
}

struct Bench {
    store: Store,
    id: VolumeId,
    volume: VolumeHandle,
    blocks: u64,
    /// Where what is discarded begins.
    blocks_end: u64,
}

fn measure(folder: &Path, blocks: u64, rounds: usize) {
    let store =
        Store::open(folder, Secret::new([7; 32]), Arc::new(OsRng), StoreConfig::server()).unwrap();
    let id = VolumeId::generate(&OsRng);
    let blocks_end = blocks * BLOCK_BYTES as u64;
    let size_bytes = blocks_end + DISCARD_BYTES;
    let options = VolumeOptions { size_bytes, key_check: None, base: None };
    store.create_volume(&id, &options).unwrap();
    let data_key = Some(DataKey::new(&Secret::new([3; 64])));
    let volume =
        store.open_volume(&id, OpenOptions { data_key, ..OpenOptions::default() }).unwrap();
    let bench = Bench { store, id, volume, blocks, blocks_end };
    bench.touch();
    let (mut quiet, mut discarded) = (Vec::new(), Vec::new());
    let (mut steps, mut whole) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let ways = [Way::Steps, Way::Whole];
        for turn in 0..2 {
            let way = ways[(round + turn) % 2];
            let cut = CutId::new(&format!("snap-{round}-{turn}")).unwrap();
            bench.store.cut(&bench.id, cut).unwrap();
            bench.touch();
            quiet.push(bench.guest_alone());
            let felt = bench.drop_beside_guest(cut, way);
            if way == Way::Steps { &mut steps } else { &mut whole }.push(felt);
        }
        let used = bench.used_segments();
        bench.fill();
        quiet.push(bench.guest_alone());
        discarded.push(bench.discard_beside_guest(used));
    }
    let cases = [
        ("quiet", quiet),
        ("drop in steps", steps),
        ("drop as a whole", whole),
        ("discard", discarded),
    ];
    for (beside, felt) in cases {
        let over = |value: fn(&Felt) -> f64| {
            let mut values: Vec<f64> = felt.iter().map(value).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "{{\"measured\":\"guest\",\"beside\":\"{beside}\",\"blocks\":{blocks},\"rounds\":{},\
             \"seconds\":{:.2},\"median_us\":{:.0},\"p99_us\":{:.0},\"worst_ms\":{:.1}}}",
            felt.len(),
            over(|felt| felt.seconds),
            over(|felt| felt.median),
            over(|felt| felt.p99),
            over(|felt| felt.worst) / 1e3,
        );
    }
}

impl Bench {
    /// Writes a page of every block.
    fn touch(&self) {
        let mut page = vec![0; PAGE_BYTES];
        for block in 0..self.blocks {
            OsRng.fill(&mut page[..8]);
            self.volume.write(block * BLOCK_BYTES as u64, page.clone()).unwrap();
        }
        self.volume.flush().unwrap();
    }

    fn drop_beside_guest(&self, cut: CutId, way: Way) -> Felt {
        std::thread::scope(|scope| {
            let dropping = scope.spawn(move || match way {
                Way::Steps => self.store.drop_cut(&self.id, cut).unwrap(),
                Way::Whole => self.volume.ask(move |engine| engine.drop_cut(cut)).unwrap().unwrap(),
            });
            self.guest(|| dropping.is_finished())
        })
    }

    /// Writes what is discarded later.
    fn fill(&self) {
        let mut bytes = vec![0; PIECE_BYTES as usize];
        for offset in (0..DISCARD_BYTES).step_by(PIECE_BYTES as usize) {
            OsRng.fill(&mut bytes);
            self.volume.write(self.blocks_end + offset, bytes.clone()).unwrap();
        }
        self.volume.flush().unwrap();
    }

    fn used_segments(&self) -> u32 {
        self.volume.ask(|engine| engine.usage().used_segments).unwrap()
    }

    /// Until no more is used than before it was written, or some segments more: the guest's own log.
    fn discard_beside_guest(&self, used: u32) -> Felt {
        self.volume.discard(self.blocks_end, DISCARD_BYTES).unwrap();
        std::thread::scope(|scope| {
            let given_back = scope.spawn(|| {
                while self.used_segments() > used + 3 {
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            self.guest(|| given_back.is_finished())
        })
    }

    fn guest_alone(&self) -> Felt {
        let begun = Instant::now();
        self.guest(|| begun.elapsed() >= QUIET)
    }

    /// Reads pages that were written, until `is_over` after one.
    fn guest(&self, is_over: impl Fn() -> bool) -> Felt {
        let (begun, mut latencies) = (Instant::now(), Vec::new());
        loop {
            let mut random = [0; 8];
            OsRng.fill(&mut random);
            let offset = u64::from_le_bytes(random) % self.blocks * BLOCK_BYTES as u64;
            let asked = Instant::now();
            self.volume.read(offset, PAGE_BYTES).unwrap();
            latencies.push(asked.elapsed().as_secs_f64() * 1e6);
            if is_over() {
                break;
            }
        }
        latencies.sort_unstable_by(f64::total_cmp);
        let at =
            |percent: usize| latencies[(latencies.len() * percent / 100).min(latencies.len() - 1)];
        let (median, p99, worst) = (at(50), at(99), at(100));
        Felt { median, p99, worst, seconds: begun.elapsed().as_secs_f64() }
    }
}
