//! Measures what a guest feels of an export: one line of JSON per case.
//!
//! `cargo run --release -p lifecycle --example guest_latency -- FOLDER [MIB [SECONDS [ROUNDS]]]`
//!
//! A guest reads and writes pages of a volume at random, one at a time, in each round for some seconds
//! alone (`quiet`) and for as long while a cut of `MIB` mebibytes (1024 by default) of the same volume is
//! exported over and over, in turn the one or the other first. Shown are medians over the rounds, and
//! `p99_to_quiet`, the median of the rounds' own ratios: the disk is not as fast in every minute.
#![expect(clippy::disallowed_methods, reason = "measuring needs the real clock")]

use base::{
    AccountId, InstanceId, OsRng, Region, Rng, Secret, SnapshotId, SystemClock, Timestamp, VolumeId,
};
use blockstore::live::Error;
use blockstore::snapshot::SnapshotStore;
use blockstore::store::{Store, StoreConfig, Volume, VolumeHandle};
use lifecycle::BandwidthLimits;
use lifecycle::cells::{Cell, Cells};
use lifecycle::port::blocks::{Blocks, ExportCut, Saved, VolumeBlocks, Watch};
use lifecycle::port::host::OpenVolume;
use objstore::LocalStore;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const MIB: u64 = 1 << 20;
const PAGE: usize = 4096;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder =
        PathBuf::from(arguments.next().ok_or("usage: guest_latency FOLDER [MIB [S [ROUNDS]]]")?);
    let bytes = arguments.next().map_or(Ok(1024), |text| text.parse::<u64>())? * MIB;
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(7), |text| text.parse())?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(measure(&folder, bytes, Duration::from_secs(seconds), rounds))
}

async fn measure(folder: &Path, bytes: u64, time: Duration, rounds: usize) -> Result<(), Failure> {
    let region = Region::parse("us-east-1")?;
    let rng = Arc::new(OsRng);
    let live = Store::open(folder, Secret::new([7; 32]), rng.clone(), StoreConfig::server())?;
    let objects = Arc::new(LocalStore::open(&folder.join("objects"))?);
    let snapshots = SnapshotStore::new(objects, &Secret::new([8; 32]), rng.clone());
    let archive = Arc::new(LocalStore::open(&folder.join("archive"))?);
    let archive = SnapshotStore::new(archive, &Secret::new([9; 32]), rng.clone());
    let twins = Arc::new(LocalStore::open(&folder.join("twins"))?);
    let twins = SnapshotStore::new(twins, &Secret::new([10; 32]), rng);
    let cells = [(region.clone(), Cell::new(live, snapshots, archive, twins))].into();
    let cells = Arc::new(Cells::new(cells, Arc::new(SystemClock), &BandwidthLimits::new()));
    let id = VolumeId::generate(&OsRng);
    let request = OpenVolume {
        account: AccountId::parse("111111111111")?,
        region: region.clone(),
        volume: id.clone(),
        instance: InstanceId::generate(&OsRng),
        device: "/dev/sdf".to_owned(),
        attached: Timestamp(0),
        epoch: 1,
        base: None,
        twin: None,
        base_key: None,
        key: Secret::new([3; 64]),
    };
    let blocks = VolumeBlocks { region: region.clone(), volume: id, size_bytes: bytes, base: None };
    cells.make_volume(&blocks).await?;
    let volume = cells.get(&region).ok_or("the region is there")?.open(&request)?;
    let mut part = vec![0; MIB as usize];
    for at in (0..bytes).step_by(MIB as usize) {
        OsRng.fill(&mut part);
        volume.write(at, part.clone())?;
    }
    volume.flush()?;

    let snapshot = SnapshotId::generate(&OsRng);
    cells.cut(&blocks, &snapshot).await?;
    let export = Arc::new(ExportCut {
        volume: blocks,
        snapshot,
        parent_root: None,
        resume: None,
        plain_key: None,
    });
    let (mut quiet, mut beside) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        if round.is_multiple_of(2) {
            quiet.push(guest(&volume, bytes, time)?);
        }
        let watch = Arc::new(Stop::default());
        let exporting =
            tokio::spawn(export_again(Arc::clone(&cells), Arc::clone(&export), Arc::clone(&watch)));
        let mut shared = guest(&volume, bytes, time)?;
        watch.stopped.store(true, Ordering::SeqCst);
        let moved = exporting.await? * 100 + watch.percent.load(Ordering::SeqCst);
        shared.export_mib_per_s = (moved * bytes / 100 / MIB) as f64 / time.as_secs_f64();
        beside.push(shared);
        if !round.is_multiple_of(2) {
            quiet.push(guest(&volume, bytes, time)?);
        }
    }
    print("quiet", &quiet, &quiet);
    print("export", &beside, &quiet);
    Ok(())
}

/// Exports a cut until it is told to stop; how often it came to the end.
async fn export_again(cells: Arc<Cells>, export: Arc<ExportCut>, watch: Arc<Stop>) -> u64 {
    let mut times = 0;
    while watch.is_wanted() && cells.export(&export, &*watch).await.is_ok() {
        times += 1;
    }
    times
}

#[derive(Default)]
struct Stop {
    stopped: AtomicBool,
    percent: AtomicU64,
}

impl Watch for Stop {
    fn is_wanted(&self) -> bool {
        !self.stopped.load(Ordering::SeqCst)
    }

    fn progress(&self, percent: u8) {
        self.percent.store(u64::from(percent), Ordering::SeqCst);
    }

    fn checkpoint(&self, _saved: Saved) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(())
    }
}

/// What the guest felt in one part of a round, in microseconds.
struct Felt {
    requests: usize,
    median: f64,
    p99: f64,
    p999: f64,
    export_mib_per_s: f64,
}

impl Felt {
    fn of(mut latencies: Vec<Duration>) -> Self {
        latencies.sort_unstable();
        let at = |part: usize| {
            let index = (latencies.len() * part / 1000).min(latencies.len() - 1);
            latencies[index].as_secs_f64() * 1e6
        };
        let (median, p99, p999) = (at(500), at(990), at(999));
        Self { requests: latencies.len(), median, p99, p999, export_mib_per_s: 0.0 }
    }
}

fn print(case: &str, felt: &[Felt], quiet: &[Felt]) {
    let over = |value: fn(&Felt) -> f64| median(felt.iter().map(value).collect());
    let to_quiet =
        median(felt.iter().zip(quiet).map(|(felt, quiet)| felt.p99 / quiet.p99).collect());
    println!(
        "{{\"measured\":\"guest\",\"beside\":\"{case}\",\"rounds\":{},\"requests\":{:.0},\"median_us\":{:.0},\
         \"p99_us\":{:.0},\"p999_us\":{:.0},\"p99_to_quiet\":{to_quiet:.2},\"export_mib_per_s\":{:.0}}}",
        felt.len(),
        over(|felt| felt.requests as f64),
        over(|felt| felt.median),
        over(|felt| felt.p99),
        over(|felt| felt.p999),
        over(|felt| felt.export_mib_per_s),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One request at a time, as attachments hand them over: seven reads for three writes.
fn guest(volume: &VolumeHandle, bytes: u64, time: Duration) -> Result<Felt, Failure> {
    let (sender, receiver) = mpsc::channel::<Result<(), Error>>();
    let begun = Instant::now();
    let mut latencies = Vec::new();
    while begun.elapsed() < time {
        let mut random = [0; 9];
        OsRng.fill(&mut random);
        let number = u64::from_le_bytes(random[..8].try_into()?);
        let offset = number % (bytes / PAGE as u64) * PAGE as u64;
        let (answer, is_read) = (sender.clone(), random[8] % 10 < 7);
        let asked = Instant::now();
        let work = move |volume: &mut Volume| {
            let mut page = [random[8] | 1; PAGE];
            let done = match is_read {
                true => volume.engine().read(offset, &mut page),
                false => volume.engine().write(offset, &page),
            };
            // The receiver outlives every request.
            let _ = answer.send(done);
        };
        volume.submit(Box::new(work)).map_err(|_| "the volume is closed")?;
        receiver.recv()??;
        latencies.push(asked.elapsed());
    }
    Ok(Felt::of(latencies))
}
