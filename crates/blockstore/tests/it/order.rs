//! What is read in long pieces is put in order while nobody asks for anything.

use base::{OsRng, Rng, Secret, SeededRng};
use blockstore::live::{
    CutId, Disk, Engine, EngineConfig, FileDisk, IoMode, Misses, OpenOptions, Planned,
    VolumeOptions,
};
use blockstore::page::{DataKey, PAGE_BYTES, StructureKey};
use std::sync::Arc;
use tempfile::TempDir;

const VOLUME_BYTES: usize = 4 << 20;
const PAGES: usize = VOLUME_BYTES / PAGE_BYTES;
const READ_BYTES: usize = 512 << 10;

struct Bench {
    _folder: TempDir,
    disk: Arc<dyn Disk>,
    content: Vec<u8>,
    rng: SeededRng,
}

impl Bench {
    fn new() -> (Self, Engine) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        let disk: Arc<dyn Disk> = Arc::new(FileDisk::create(&path, IoMode::Buffered).unwrap());
        let options =
            VolumeOptions { size_bytes: VOLUME_BYTES as u64, key_check: None, base: None };
        Engine::create(&*disk, &structure(), &OsRng, &EngineConfig::tiny(), &options).unwrap();
        let content = vec![0; VOLUME_BYTES];
        let bench = Self { _folder: folder, disk, content, rng: SeededRng::new(5) };
        let engine = bench.open();
        (bench, engine)
    }

    fn open(&self) -> Engine {
        let disk = Arc::clone(&self.disk);
        let data_key = Some(DataKey::new(&Secret::new([3; 64])));
        let options = OpenOptions { data_key, ..OpenOptions::default() };
        Engine::open(disk, structure(), Arc::new(OsRng), EngineConfig::tiny(), options).unwrap()
    }

    /// Fills the volume, and writes half of it again, page by page at random.
    fn disorder(&mut self, engine: &mut Engine) {
        self.rng.fill(&mut self.content);
        for (at, bytes) in (0..).zip(self.content.chunks(READ_BYTES)) {
            engine.write(at * READ_BYTES as u64, bytes).unwrap();
            engine.maintain().unwrap();
        }
        for _ in 0..PAGES {
            let at = self.rng.below(PAGES as u64) as usize * PAGE_BYTES;
            let page = &mut self.content[at..at + PAGE_BYTES];
            self.rng.fill(page);
            engine.write(at as u64, page).unwrap();
            engine.maintain().unwrap();
        }
        engine.checkpoint().unwrap();
        rest(engine);
    }

    /// Reads everything as a guest does. Returns from how many places it came.
    fn read(&self, engine: &mut Engine) -> usize {
        let mut pieces = 0;
        for (at, content) in (0..).zip(self.content.chunks(READ_BYTES)) {
            let mut bytes = vec![0; READ_BYTES];
            let offset = at * READ_BYTES as u64;
            let Planned::Whole(plan) = engine.plan_read(offset, &mut bytes, Misses::Read).unwrap()
            else {
                panic!("the engine reads its map itself");
            };
            pieces += plan.parts().len();
            plan.carry_out(&*self.disk, &mut bytes).unwrap();
            assert_eq!(bytes, content);
        }
        pieces
    }
}

fn structure() -> StructureKey {
    StructureKey::from_bytes(Secret::new([4; 32]))
}

fn rest(engine: &mut Engine) {
    while engine.maintain().unwrap() || engine.clean_step().unwrap() || engine.give_back_step(false)
    {
    }
}

#[test]
fn a_range_read_in_one_piece_lies_in_one_afterwards() {
    let (mut bench, mut engine) = Bench::new();
    bench.disorder(&mut engine);
    let before = bench.read(&mut engine);
    assert!(before > PAGES / 8, "{before} pieces: nothing to put in order");
    assert!(engine.is_order_wanted());
    rest(&mut engine);
    assert!(!engine.is_order_wanted());
    let after = bench.read(&mut engine);
    assert!(after <= VOLUME_BYTES / READ_BYTES * 8, "{after} pieces, {before} before");
    // What was left behind is given back in the end.
    let usage = engine.usage();
    let stored = u64::from(usage.used_segments) * usage.segment_bytes;
    assert!(stored < 2 * VOLUME_BYTES as u64, "{stored} bytes for {VOLUME_BYTES}");
    engine.check().unwrap();
    engine.close().unwrap();
    assert_eq!(bench.read(&mut bench.open()), after);
}

#[test]
fn without_long_reads_and_beside_cuts_everything_stays() {
    let (mut bench, mut engine) = Bench::new();
    bench.disorder(&mut engine);
    let mut page = vec![0; PAGE_BYTES];
    for at in 0..PAGES {
        engine.plan_read((at * PAGE_BYTES) as u64, &mut page, Misses::Read).map(drop).unwrap();
    }
    assert!(!engine.is_order_wanted(), "single pages say nothing of order");
    let id = CutId::new("snap-1").unwrap();
    engine.cut(id).unwrap();
    let before = bench.read(&mut engine);
    assert!(!engine.is_order_wanted(), "a copy would be a second one");
    rest(&mut engine);
    assert_eq!(bench.read(&mut engine), before);
    engine.drop_cut(id).unwrap();
    assert!(engine.is_order_wanted(), "what was read meanwhile was noted");
    rest(&mut engine);
    assert!(bench.read(&mut engine) < before / 4);
}
