//! Measures the cleaner on a real file, through the engine, without an attachment around it.
//!
//! `cleaner amplification FILE [OPTION VALUE]…` overwrites a full volume at random and counts what
//! reaches the disk: pages, descriptors, moved pages, checkpoints and superblocks.
//! `cleaner reads FILE [OPTION VALUE]…` compares sequential reads of a fresh volume with those after
//! it was overwritten at random and cleaned.
//!
//! Options: `--pattern uniform|hot-cold` (90 % of the writes to 10 % of the volume),
//! `--volume-mib 1024`, `--segment-kib 4096`, `--live-percent 75`, `--overwrites 3` (times the
//! volume's size that is written while measuring, after as much to warm up), `--seed 1`,
//! `--budget-percent 0`: the volume's file may take so much that the whole volume is this part of it,
//! upkeep included, and not a segment more; 0 leaves space without end, where a busy guest is cleaned
//! for late.
//!
//! Prints one line of JSON. The file is created, and removed at the end.

#![expect(clippy::unwrap_used, reason = "a measurement that fails is over")]

use base::{OsRng, Secret, SeededRng};
use blockstore::live::{
    Disk, Engine, EngineConfig, FileDisk, IoMode, Need, OpenOptions, Space, VolumeOptions,
};
use blockstore::page::{DataKey, PAGE_BYTES, StructureKey};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Pages the guest writes between two looks at what is due, as a busy connection would bring them.
const BATCH_PAGES: u64 = 16;
/// Batches between two flushes.
const FLUSH_BATCHES: u64 = 64;
/// Bytes of one sequential read.
const READ_BYTES: usize = 1 << 20;

/// Counts what is written to a disk.
struct Counting {
    disk: FileDisk,
    written: AtomicU64,
}

impl Disk for Counting {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, target)
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        self.written.fetch_add(source.len() as u64, Ordering::Relaxed);
        self.disk.write(offset, source)
    }

    fn flush(&self) -> io::Result<()> {
        self.disk.flush()
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.len()
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.punch(offset, length)
    }
}

/// Space for one volume, which is always short of it.
struct Budget(u64);

impl Space for Budget {
    fn ask(&self, need: Need) -> bool {
        need.held + need.upkeep <= self.0
    }

    fn refused(&self) {}

    fn tell(&self, _: Need) {}

    fn is_short(&self) -> bool {
        true
    }
}

struct Options {
    what: String,
    file: PathBuf,
    hot_cold: bool,
    volume_bytes: u64,
    config: EngineConfig,
    overwrites: u64,
    seed: u64,
    budget_percent: u64,
}

impl Options {
    fn parse() -> Option<Self> {
        let mut arguments = std::env::args().skip(1);
        let (what, file) = (arguments.next()?, PathBuf::from(arguments.next()?));
        let rest: Vec<String> = arguments.collect();
        let (pairs, []) = rest.as_chunks::<2>() else { return None };
        let given: HashMap<&str, &str> =
            pairs.iter().map(|[name, value]| (name.as_str(), value.as_str())).collect();
        let known =
            ["--pattern", "--volume-mib", "--segment-kib", "--live-percent", "--overwrites"];
        let known =
            |name: &str| known.contains(&name) || ["--seed", "--budget-percent"].contains(&name);
        if given.keys().any(|name| !known(name)) {
            return None;
        }
        let number = |name: &str, otherwise: u64| match given.get(name) {
            None => Some(otherwise),
            Some(text) => text.parse().ok(),
        };
        let mut config = EngineConfig::server();
        config.segment_bytes = u32::try_from(number("--segment-kib", 4096)? << 10).ok()?;
        config.live_percent_max = u32::try_from(number("--live-percent", 75)?).ok()?;
        Some(Self {
            what,
            file,
            hot_cold: match given.get("--pattern").copied() {
                None | Some("uniform") => false,
                Some("hot-cold") => true,
                Some(_) => return None,
            },
            volume_bytes: number("--volume-mib", 1024)? << 20,
            config,
            overwrites: number("--overwrites", 3)?,
            seed: number("--seed", 1)?,
            budget_percent: number("--budget-percent", 0)?,
        })
    }
}

fn main() -> std::process::ExitCode {
    let Some(options) = Options::parse() else {
        eprintln!("usage: cleaner amplification|reads FILE [OPTION VALUE]…");
        return std::process::ExitCode::FAILURE;
    };
    let line = match options.what.as_str() {
        "amplification" => amplification(&options),
        "reads" => reads(&options),
        other => {
            eprintln!("cleaner: {other} is not amplification or reads");
            return std::process::ExitCode::FAILURE;
        }
    };
    println!("{line}");
    std::fs::remove_file(&options.file).unwrap();
    std::process::ExitCode::SUCCESS
}

/// A volume under measurement.
struct Bench {
    engine: Engine,
    disk: Arc<Counting>,
    rng: SeededRng,
    pages: u64,
    hot_cold: bool,
    segment_pages: u64,
    /// Sums of samples: live pages, pages of used segments, how many samples.
    live: u64,
    used: u64,
    samples: u64,
    used_peak: u64,
}

impl Bench {
    fn new(options: &Options) -> Self {
        let disk = FileDisk::create(Path::new(&options.file), IoMode::Buffered).unwrap();
        let disk = Arc::new(Counting { disk, written: AtomicU64::new(0) });
        let structure = StructureKey::derive(&Secret::new([1; 32]), "vol-measured");
        let (config, size_bytes) = (options.config, options.volume_bytes);
        let volume = VolumeOptions { size_bytes, key_check: None, base: None };
        Engine::create(&*disk, &structure, &OsRng, &config, &volume).unwrap();
        let data_key = Some(DataKey::new(&Secret::new([2; 64])));
        let open = OpenOptions { data_key, base: None, writer: None };
        let shared = Arc::clone(&disk) as Arc<dyn Disk>;
        let mut engine = Engine::open(shared, structure, Arc::new(OsRng), config, open).unwrap();
        if let Some(bytes) = (size_bytes * 100).checked_div(options.budget_percent) {
            engine.limit_space(Arc::new(Budget(bytes)));
        }
        Self {
            engine,
            disk,
            rng: SeededRng::new(options.seed),
            pages: size_bytes / PAGE_BYTES as u64,
            hot_cold: options.hot_cold,
            segment_pages: u64::from(config.segment_bytes) / PAGE_BYTES as u64,
            live: 0,
            used: 0,
            samples: 0,
            used_peak: 0,
        }
    }

    fn fill(&mut self) {
        let mut bytes = vec![0; READ_BYTES];
        for at in (0..self.pages * PAGE_BYTES as u64).step_by(READ_BYTES) {
            for (word, byte) in (at..).zip(bytes.iter_mut()) {
                *byte = (word / 7 + 1) as u8;
            }
            self.engine.write(at, &bytes).unwrap();
            self.upkeep();
        }
        self.engine.flush().unwrap();
    }

    /// What the owner of a volume does after a batch of requests.
    fn upkeep(&mut self) {
        let merging = self.engine.maintain().unwrap();
        if !merging && self.engine.is_cleaning_due() {
            self.engine.clean_step().unwrap();
        }
        self.engine.give_back_step(true);
    }

    /// What the owner does while nobody asks for anything.
    fn idle(&mut self) {
        while self.engine.maintain().unwrap()
            || self.engine.clean_step().unwrap()
            || self.engine.give_back_step(false)
        {}
    }

    fn page(&self) -> u64 {
        if !self.hot_cold {
            return self.rng.below(self.pages);
        }
        let hot = self.pages / 10;
        if self.rng.below(10) < 9 {
            self.rng.below(hot)
        } else {
            hot + self.rng.below(self.pages - hot)
        }
    }

    fn overwrite(&mut self, pages: u64) {
        let mut page = vec![7; PAGE_BYTES];
        for batch in 0..pages / BATCH_PAGES {
            for at in 0..BATCH_PAGES {
                let lba = self.page();
                page[..8].copy_from_slice(&(batch * BATCH_PAGES + at).to_le_bytes());
                self.engine.write(lba * PAGE_BYTES as u64, &page).unwrap();
            }
            self.upkeep();
            if batch % FLUSH_BATCHES == 0 {
                self.engine.flush().unwrap();
                let usage = self.engine.usage();
                self.live += usage.live_pages;
                self.used += u64::from(usage.used_segments) * self.segment_pages;
                self.samples += 1;
                self.used_peak = self.used_peak.max(u64::from(usage.used_segments));
            }
        }
    }

    /// Megabytes per second.
    #[expect(clippy::disallowed_methods, reason = "it measures")]
    fn read_all(&mut self) -> f64 {
        let mut bytes = vec![0; READ_BYTES];
        let size = self.pages * PAGE_BYTES as u64;
        let started = Instant::now();
        for at in (0..size).step_by(READ_BYTES) {
            self.engine.read(at, &mut bytes).unwrap();
        }
        size as f64 / 1e6 / started.elapsed().as_secs_f64()
    }
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn amplification(options: &Options) -> String {
    let mut bench = Bench::new(options);
    bench.fill();
    let measured = bench.pages * options.overwrites;
    bench.overwrite(measured);
    (bench.live, bench.used, bench.samples, bench.used_peak) = (0, 0, 0, 0);
    let (before, epoch, started) =
        (bench.disk.written.load(Ordering::Relaxed), bench.engine.epoch(), Instant::now());
    bench.overwrite(measured);
    let disk_bytes = bench.disk.written.load(Ordering::Relaxed) - before;
    let guest_bytes = measured / BATCH_PAGES * BATCH_PAGES * PAGE_BYTES as u64;
    let amplification = disk_bytes as f64 / guest_bytes as f64;
    let live_percent = bench.live as f64 * 100.0 / bench.used as f64;
    let live_percent_at_peak =
        bench.live as f64 * 100.0 / (bench.samples * bench.used_peak * bench.segment_pages) as f64;
    let seconds = started.elapsed().as_secs_f64();
    let checkpoints = bench.engine.epoch() - epoch;
    let report = bench.engine.check().unwrap();
    assert!(report.data_pages == bench.pages, "every page of the volume is there");
    format!(
        "{{\"measure\":\"cleaner amplification\",\"pattern\":\"{}\",\"volume_bytes\":{},\
         \"segment_bytes\":{},\"live_percent_max\":{},\"budget_percent\":{},\"guest_bytes\":{guest_bytes},\
         \"disk_bytes\":{disk_bytes},\"write_amplification\":{amplification:.3},\
         \"live_percent_mean\":{live_percent:.1},\"live_percent_at_peak\":{live_percent_at_peak:.1},\
         \"checkpoints\":{checkpoints},\"seconds\":{seconds:.1}}}",
        if options.hot_cold { "hot-cold" } else { "uniform" },
        options.volume_bytes,
        options.config.segment_bytes,
        options.config.live_percent_max,
        options.budget_percent,
    )
}

fn reads(options: &Options) -> String {
    let mut bench = Bench::new(options);
    bench.fill();
    bench.idle();
    let fresh = bench.read_all();
    bench.overwrite(bench.pages * options.overwrites);
    let overwritten = bench.read_all();
    bench.engine.checkpoint().unwrap();
    bench.idle();
    let cleaned = bench.read_all();
    format!(
        "{{\"measure\":\"cleaner reads\",\"volume_bytes\":{},\"segment_bytes\":{},\
         \"fresh_mb_per_second\":{fresh:.0},\"overwritten_mb_per_second\":{overwritten:.0},\
         \"cleaned_mb_per_second\":{cleaned:.0},\"cleaned_to_fresh\":{:.2}}}",
        options.volume_bytes,
        options.config.segment_bytes,
        cleaned / fresh,
    )
}
