//! Measures what a flush and what a cut of a volume take, for volumes of several sizes.
//!
//! `cuts FOLDER [ROUNDS [WRITTEN_MIB]]` makes sparse volumes of 1 GiB, 1 TiB and 64 TiB, writes
//! `WRITTEN_MIB` (1,024) to each at random places, and then, `ROUNDS` (101) times in turn, writes
//! some pages and flushes, and writes some pages and cuts. Prints a line of JSON for each volume,
//! with medians and 99th percentiles in microseconds.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is over")]

use base::{OsRng, Secret, SeededRng};
use blockstore::live::{CutId, Engine, EngineConfig, FileDisk, IoMode, OpenOptions, VolumeOptions};
use blockstore::page::{DataKey, PAGE_BYTES, StructureKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SIZES: [u64; 3] = [1 << 30, 1 << 40, 64 << 40];
/// Pages written before every flush and cut.
const PAGES: u64 = 64;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, otherwise: u64| {
        arguments.get(at).map_or(Some(otherwise), |text| text.parse().ok())
    };
    let (Some(folder), Some(rounds), Some(mib)) =
        (arguments.first().map(PathBuf::from), number(1, 101), number(2, 1024))
    else {
        eprintln!("usage: cuts FOLDER [ROUNDS [WRITTEN_MIB]]");
        return std::process::ExitCode::FAILURE;
    };
    for size in SIZES {
        println!("{}", measure(&folder, size, rounds.max(1), mib));
    }
    std::process::ExitCode::SUCCESS
}

fn write(engine: &mut Engine, rng: &SeededRng, size: u64, pages: u64) {
    let mut page = vec![5; PAGE_BYTES];
    for number in 0..pages {
        page[..8].copy_from_slice(&number.to_le_bytes());
        let lba = rng.below(size / PAGE_BYTES as u64);
        engine.write(lba * PAGE_BYTES as u64, &page).unwrap();
        if number % 16 == 0 {
            engine.maintain().unwrap();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn timed(action: impl FnOnce()) -> Duration {
    let started = Instant::now();
    action();
    started.elapsed()
}

fn measure(folder: &Path, size: u64, rounds: u64, mib: u64) -> String {
    let path = folder.join(format!("cuts-{size}.log"));
    let disk = Arc::new(FileDisk::create(&path, IoMode::Ring).unwrap());
    let structure = StructureKey::derive(&Secret::new([1; 32]), "vol-measured");
    let config = EngineConfig::server();
    let volume = VolumeOptions { size_bytes: size, key_check: None, base: None };
    Engine::create(&*disk, &structure, &OsRng, &config, &volume).unwrap();
    let data_key = Some(DataKey::new(&Secret::new([2; 64])));
    let open = OpenOptions { data_key, base: None, writer: None };
    let mut engine = Engine::open(disk, structure, Arc::new(OsRng), config, open).unwrap();
    let rng = SeededRng::new(size);
    write(&mut engine, &rng, size, (mib << 20) / PAGE_BYTES as u64);
    engine.checkpoint().unwrap();
    let (mut flushes, mut cuts) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        write(&mut engine, &rng, size, PAGES);
        flushes.push(timed(|| engine.flush().unwrap()));
        write(&mut engine, &rng, size, PAGES);
        let id = CutId::new(&format!("snap-{round}")).unwrap();
        cuts.push(timed(|| assert!(engine.cut(id).is_ok())));
        engine.drop_cut(id).unwrap();
    }
    drop(engine);
    std::fs::remove_file(&path).unwrap();
    flushes.sort_unstable();
    cuts.sort_unstable();
    let at = |sorted: &[Duration], percent: usize| {
        sorted[(sorted.len() - 1) * percent / 100].as_micros()
    };
    let (flush, cut) = (at(&flushes, 50), at(&cuts, 50));
    format!(
        "{{\"measure\":\"cuts\",\"volume_bytes\":{size},\"written_bytes\":{},\"rounds\":{rounds},\
         \"flush_us\":{flush},\"flush_p99_us\":{},\"cut_us\":{cut},\"cut_p99_us\":{},\
         \"cut_to_flush\":{:.2}}}",
        mib << 20,
        at(&flushes, 99),
        at(&cuts, 99),
        cut as f64 / flush as f64,
    )
}
