//! Measures copies of snapshots: one line of JSON per case.
//!
//! `cargo run --release -p blockstore --example copy_speed -- FOLDER [MIB]`
//!
//! Writes a snapshot of `MIB` mebibytes (1024 by default) into a store below `FOLDER`, reads it once
//! so that it lies in the page cache, and copies it. `sink` says where copies go: `disk` into another
//! store below `FOLDER`, durably; `nowhere` into one that keeps nothing, which leaves reading,
//! opening and sealing. `source` says how the snapshot was made: `uploaded` blocks have digests,
//! `exported` ones have none. `to_one_thread` is the speed by the one of the same copy on one thread.
#![expect(clippy::disallowed_methods, reason = "measuring needs the real clock")]

use base::{OsRng, Secret};
use blockstore::page::{
    BLOCK_BYTES, BlockPages, CutPage, CutSource, DataKey, NoKey, PAGE_BYTES, PAGES_PER_BLOCK, Salt,
    SealedPage, SourceError,
};
use blockstore::snapshot::{
    Announced, CHECKPOINT_BLOCKS, CopyJob, CopyKeys, DirectSession, Export, SessionSpec,
    SnapshotRoot, SnapshotStore, Unobserved, copy, export, verify,
};
use objstore::{Bytes, Error, LocalStore, ObjectMeta, ObjectStore};
use rustix::time::{ClockId, clock_gettime};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

type Failure = Box<dyn std::error::Error>;

const MIB: u64 = 1 << 20;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: copy_speed FOLDER [MIB]")?);
    let mib: u64 = arguments.next().map_or(Ok(1024), |text| text.parse())?;
    let blocks = mib * MIB / BLOCK_BYTES as u64;
    let key = data_key(1);
    for made in ["uploaded", "exported"] {
        let at = folder.join(made);
        let store = open(&at)?;
        let root = match made {
            "uploaded" => upload(&store, blocks, &key)?,
            _ => exported(&store, blocks, &key)?,
        };
        verify(&store, &root, None)?;
        let cases = Cases { made, store: &store, root: &root, key: &key };
        cases.run(&folder)?;
        std::fs::remove_dir_all(&at)?;
    }
    Ok(())
}

fn data_key(seed: u8) -> DataKey {
    DataKey::new(&Secret::new(std::array::from_fn(|at| seed.wrapping_add(at as u8))))
}

fn store_of(objects: Arc<dyn ObjectStore>) -> SnapshotStore {
    SnapshotStore::new(objects, &Secret::new([0x5e; 32]), Arc::new(OsRng))
}

fn open(folder: &Path) -> Result<SnapshotStore, Failure> {
    Ok(store_of(Arc::new(LocalStore::open(folder)?)))
}

/// Bytes that are no zeros and differ from block to block.
fn block(number: u64) -> Vec<u8> {
    let words = (0..BLOCK_BYTES as u64 / 8).map(|at| {
        (number << 20 | at).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc)
    });
    words.flat_map(u64::to_le_bytes).collect()
}

fn upload(store: &SnapshotStore, blocks: u64, key: &DataKey) -> Result<SnapshotRoot, Failure> {
    let session = DirectSession::open(
        store,
        SessionSpec {
            name: "measured".to_owned(),
            volume_bytes: blocks * BLOCK_BYTES as u64,
            parent: None,
            key_check: key.check_value(),
        },
    )?;
    const UPLOADERS: u64 = 16;
    std::thread::scope(|scope| {
        let upload = |first: u64| {
            let mut numbers = (first..blocks).step_by(UPLOADERS as usize);
            numbers.try_for_each(|at| session.put_block(at, &block(at), None, key).map(drop))
        };
        let threads: Vec<_> = (0..UPLOADERS).map(|at| scope.spawn(move || upload(at))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no upload panics"))
    })?;
    Ok(session.complete(&Announced { changed_blocks: blocks, aggregate: None })?)
}

/// A cut whose pages were sealed as a volume seals them: a salt for every 4 MiB written.
struct Sealed<'a> {
    blocks: u64,
    key: &'a DataKey,
}

impl CutSource for Sealed<'_> {
    fn volume_bytes(&self) -> u64 {
        self.blocks * BLOCK_BYTES as u64
    }

    fn changed_blocks(&self) -> Box<dyn Iterator<Item = Result<u64, SourceError>> + Send + '_> {
        Box::new((0..self.blocks).map(Ok))
    }

    fn load_block(&self, number: u64) -> Result<BlockPages, SourceError> {
        let mut salt = [0x5a; 32];
        salt[..8].copy_from_slice(&(number / 8).to_le_bytes());
        let mut sealer = self.key.sealer(Salt(salt));
        let bytes = block(number);
        let (pages, _) = bytes.as_chunks::<PAGE_BYTES>();
        let first = number * PAGES_PER_BLOCK as u64;
        let mut pages = (first..).zip(pages);
        // Blocks of one salt come at different positions under it.
        let position = (number % 8) as u32 * PAGES_PER_BLOCK as u32;
        let seal = |(lba, page): (u64, &[u8; PAGE_BYTES])| {
            let mut ciphertext = Box::new(*page);
            let at = position + (lba - first) as u32;
            let tag = sealer.seal_at(at, lba, &mut ciphertext);
            let origin = blockstore::page::PageOrigin { salt: sealer.salt(), position: at };
            CutPage::Sealed(SealedPage { origin, tag, ciphertext })
        };
        Ok(BlockPages { block: number, pages: pages.by_ref().map(seal).collect() })
    }
}

fn exported(store: &SnapshotStore, blocks: u64, key: &DataKey) -> Result<SnapshotRoot, Failure> {
    let job = Export {
        parent: None,
        key_check: Some(key.check_value()),
        resume: None,
        checkpoint_blocks: CHECKPOINT_BLOCKS,
        key: &NoKey,
    };
    Ok(export(store, &Sealed { blocks, key }, &job, &Unobserved)?)
}

struct Cases<'a> {
    made: &'a str,
    store: &'a SnapshotStore,
    root: &'a SnapshotRoot,
    key: &'a DataKey,
}

impl Cases<'_> {
    fn run(&self, folder: &Path) -> Result<(), Failure> {
        let other = data_key(2);
        let keys = || CopyKeys::Change { source: self.key, target: &other };
        let nowhere = || store_of(Arc::new(Nowhere));
        // The first copy takes memory that later ones find.
        self.copy(keys(), 1, &nowhere())?;
        let mut alone = None;
        for threads in [1, 2] {
            let (cost, _) = self.copy(keys(), threads, &nowhere())?;
            self.print("other", "nowhere", threads, &cost, alone.get_or_insert(cost.seconds));
        }
        let mut alone = None;
        for threads in [1, 2] {
            let at = folder.join("copy");
            let target = open(&at)?;
            let (cost, copied) = self.copy(keys(), threads, &target)?;
            self.print("other", "disk", threads, &cost, alone.get_or_insert(cost.seconds));
            // What was measured is a copy that opens.
            verify(&target, &copied, Some(&other))?;
            drop(target);
            std::fs::remove_dir_all(&at)?;
        }
        let (cost, _) = self.copy(CopyKeys::Same, 1, &nowhere())?;
        self.print("same", "nowhere", 1, &cost, &cost.seconds);
        Ok(())
    }

    fn copy(
        &self,
        keys: CopyKeys<'_>,
        threads: usize,
        target: &SnapshotStore,
    ) -> Result<(Cost, SnapshotRoot), Failure> {
        let job = CopyJob {
            source: self.root,
            keys,
            earlier: None,
            resume: None,
            checkpoint_blocks: CHECKPOINT_BLOCKS,
            threads,
        };
        let (begun, before) = (Instant::now(), processor_seconds());
        let copied = copy(self.store, target, &job, &Unobserved)?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok((Cost { seconds, processor_seconds: processor_seconds() - before }, copied))
    }

    fn print(&self, key: &str, sink: &str, threads: usize, cost: &Cost, alone_seconds: &f64) {
        let gigabytes = (self.root.full_blocks() * BLOCK_BYTES as u64) as f64 / 1e9;
        println!(
            "{{\"measured\":\"copy\",\"source\":\"{}\",\"key\":\"{key}\",\"sink\":\"{sink}\",\
             \"threads\":{threads},\"mb_per_s\":{:.0},\"cpu_seconds_per_gb\":{:.3},\
             \"mb_per_cpu_second\":{:.0},\"to_one_thread\":{:.2}}}",
            self.made,
            gigabytes * 1e3 / cost.seconds,
            cost.processor_seconds / gigabytes,
            gigabytes * 1e3 / cost.processor_seconds,
            alone_seconds / cost.seconds,
        );
    }
}

/// What a copy took.
struct Cost {
    seconds: f64,
    processor_seconds: f64,
}

fn processor_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}

/// Takes every object and keeps none.
struct Nowhere;

impl ObjectStore for Nowhere {
    fn put(&self, _name: &str, _bytes: Bytes) -> Result<(), Error> {
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Bytes, Error> {
        Err(Error::NotFound { name: name.to_owned() })
    }

    fn get_range(&self, name: &str, _range: Range<u64>) -> Result<Bytes, Error> {
        Err(Error::NotFound { name: name.to_owned() })
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        Err(Error::NotFound { name: name.to_owned() })
    }

    fn list(&self, _prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        Ok(Vec::new())
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, Error> {
        Err(Error::NotFound { name: name.to_owned() })
    }
}
