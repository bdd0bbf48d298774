//! Measures how soon a volume from a snapshot can be used: one line of JSON per case.
//!
//! `cargo run --release -p blockstore --example lazy_first_read -- FOLDER`
//!
//! Makes snapshots of volumes of 2 GiB, 1 TiB and 64 TiB with 256 full blocks spread over each, then,
//! with nothing cached by the stores, creates a volume from each, opens it, and reads a page of each
//! of 64 blocks: a volume under the snapshot's key, one under a key of its own, and one that was made
//! with the snapshot's twin, as a fast restore makes them. The page cache is as the machine left it;
//! drop it beforehand to measure disks.
#![expect(clippy::disallowed_methods, reason = "measuring needs the real clock")]

use base::{OsRng, Secret, VolumeId};
use blockstore::live::{Base, CutId, OpenOptions, VolumeOptions};
use blockstore::page::{
    BLOCK_BYTES, BaseReader, BlockPages, CutPage, CutSource, DataKey, NoKey, PAGE_BYTES,
    PAGES_PER_BLOCK, Salt, SealedPage, SourceError,
};
use blockstore::snapshot::{
    CHECKPOINT_BLOCKS, Export, RepackJob, SnapshotReader, SnapshotRoot, SnapshotStore, TwinReader,
    Unobserved, export, repack,
};
use blockstore::store::{Store, StoreConfig};
use objstore::LocalStore;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

const GIB: u64 = 1 << 30;
/// Blocks that each snapshot holds.
const BLOCKS: u64 = 256;
/// Pages read one after another, each of another block.
const READS: u64 = 64;

fn main() -> Result<(), Failure> {
    let folder = std::env::args().nth(1).ok_or("usage: lazy_first_read FOLDER")?;
    for gib in [2, 1024, 65_536] {
        // Each has a snapshot of its own: the second would find what the first has read.
        for made in [Made::Lazy, Made::UnderAnotherKey, Made::WithTwin] {
            let at = PathBuf::from(&folder).join(gib.to_string());
            let root = snapshot(&at, gib * GIB)?;
            measure(&at, gib, &root, made)?;
            std::fs::remove_dir_all(&at)?;
        }
    }
    Ok(())
}

/// What a volume is made of.
#[derive(Clone, Copy)]
enum Made {
    /// A snapshot under the volume's key.
    Lazy,
    /// A snapshot under another key, which is at hand until its blocks are sealed anew.
    UnderAnotherKey,
    /// A snapshot that has a twin.
    WithTwin,
}

impl Made {
    fn name(self) -> &'static str {
        match self {
            Self::Lazy => "snapshot",
            Self::UnderAnotherKey => "snapshot under another key",
            Self::WithTwin => "twin",
        }
    }
}

fn key() -> DataKey {
    DataKey::new(&Secret::new([9; 64]))
}

fn snapshots(folder: &Path) -> Result<SnapshotStore, Failure> {
    let objects = LocalStore::open(&folder.join("objects"))?;
    Ok(SnapshotStore::new(Arc::new(objects), &Secret::new([0x5e; 32]), Arc::new(OsRng)))
}

fn twins(folder: &Path) -> Result<SnapshotStore, Failure> {
    let objects = LocalStore::open(&folder.join("twins"))?;
    Ok(SnapshotStore::new(Arc::new(objects), &Secret::new([0x7c; 32]), Arc::new(OsRng)))
}

/// Opens what the volume reads from; what a twin takes to be made is no part of that.
fn reader(
    folder: &Path,
    root: &SnapshotRoot,
    twin: Option<&SnapshotRoot>,
) -> Result<Arc<dyn BaseReader>, Failure> {
    let store = snapshots(folder)?;
    Ok(match twin {
        Some(twin) => Arc::new(TwinReader::open(&twins(folder)?, twin, (&store, root))?),
        None => Arc::new(SnapshotReader::open(&store, root)?),
    })
}

fn twin(folder: &Path, root: &SnapshotRoot) -> Result<SnapshotRoot, Failure> {
    let job =
        RepackJob { source: root, resume: None, checkpoint_blocks: CHECKPOINT_BLOCKS, threads: 1 };
    Ok(repack(&snapshots(folder)?, &twins(folder)?, &job, &Unobserved)?)
}

/// A cut of a volume with so many full blocks, evenly spread.
struct Spread {
    volume_bytes: u64,
}

impl Spread {
    fn block(&self, at: u64) -> u64 {
        at * (self.volume_bytes / BLOCK_BYTES as u64 / BLOCKS)
    }
}

impl CutSource for Spread {
    fn volume_bytes(&self) -> u64 {
        self.volume_bytes
    }

    fn changed_blocks(&self) -> Box<dyn Iterator<Item = Result<u64, SourceError>> + Send + '_> {
        Box::new((0..BLOCKS).map(|at| Ok(self.block(at))))
    }

    fn load_block(&self, block: u64) -> Result<BlockPages, SourceError> {
        let mut pages = BlockPages::absent(block);
        let mut sealer = key().sealer(Salt::generate(&OsRng));
        let lba = block * PAGES_PER_BLOCK as u64;
        for (at, page) in pages.pages.iter_mut().enumerate() {
            let lba = lba + at as u64;
            *page = CutPage::Sealed(SealedPage::seal(&mut sealer, lba, &stamp(block)));
        }
        Ok(pages)
    }
}

fn stamp(block: u64) -> [u8; PAGE_BYTES] {
    std::array::from_fn(|at| (block as usize + at) as u8 | 1)
}

fn snapshot(folder: &Path, volume_bytes: u64) -> Result<SnapshotRoot, Failure> {
    let job = Export {
        parent: None,
        key_check: Some(key().check_value()),
        resume: None,
        checkpoint_blocks: CHECKPOINT_BLOCKS,
        key: &NoKey,
    };
    Ok(export(&snapshots(folder)?, &Spread { volume_bytes }, &job, &Unobserved)?)
}

fn measure(folder: &Path, gib: u64, root: &SnapshotRoot, made: Made) -> Result<(), Failure> {
    let twin = match made {
        Made::WithTwin => Some(twin(folder, root)?),
        Made::Lazy | Made::UnderAnotherKey => None,
    };
    let volumes =
        Store::open(folder, Secret::new([7; 32]), Arc::new(OsRng), StoreConfig::server())?;
    let id = VolumeId::generate(&OsRng);
    let base_id = CutId::new("measured").ok_or("a short name is a name")?;
    let begun = Instant::now();
    let size_bytes = gib * GIB;
    let options = VolumeOptions { size_bytes, key_check: None, base: Some(base_id) };
    volumes.create_volume(&id, &options)?;
    let created = begun.elapsed();

    let begun = Instant::now();
    let reader = reader(folder, root, twin.as_ref())?;
    let (own, of_base) = match made {
        Made::Lazy | Made::WithTwin => (key(), None),
        Made::UnderAnotherKey => (DataKey::new(&Secret::new([10; 64])), Some(Arc::new(key()))),
    };
    let base = Some(Base { id: base_id, reader, key: of_base });
    let volume =
        volumes.open_volume(&id, OpenOptions { data_key: Some(own), base, writer: None })?;
    let opened = begun.elapsed();

    let spread = Spread { volume_bytes: size_bytes };
    let mut reads = Vec::new();
    for at in 0..READS {
        // Far apart, so that no read finds what another fetched.
        let block = spread.block(at * (BLOCKS / READS));
        let begun = Instant::now();
        let page = volume.read(block * BLOCK_BYTES as u64, PAGE_BYTES)?;
        reads.push(begun.elapsed());
        if page != stamp(block) {
            return Err(format!("block {block} reads wrong").into());
        }
    }
    let first = reads[0];
    reads.sort_unstable();
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    println!(
        "{{\"measured\":\"first reads\",\"snapshot_gib\":{gib},\"of\":\"{}\",\"create_ms\":{:.2},\"open_ms\":{:.2},\
         \"first_read_ms\":{:.3},\"median_read_ms\":{:.3},\"longest_read_ms\":{:.3}}}",
        made.name(),
        milliseconds(created),
        milliseconds(opened),
        milliseconds(first),
        milliseconds(reads[reads.len() / 2]),
        milliseconds(reads[reads.len() - 1]),
    );
    Ok(())
}
