//! Damage of every kind is an error, never data.

use super::disk::Bytes;
use base::{Secret, SeededRng};
use blockstore::live::{CutId, Disk, Engine, EngineConfig, Error, OpenOptions, VolumeOptions};
use blockstore::page::{DataKey, PAGE_BYTES, StructureKey};
use std::sync::Arc;

pub(crate) const SIZE: u64 = 2 << 20;
/// What a superblock begins with.
const MAGIC: &[u8] = b"SRVOLUME";
/// Bytes from one flipped bit to the next: a prime, so that all places in a page have their turn.
const STRIDE: usize = 127;

fn open(disk: Arc<Bytes>) -> Result<Engine, Error> {
    let structure = StructureKey::derive(&Secret::new([1; 32]), "vol-00000001");
    let data_key = Some(DataKey::new(&Secret::new([2; 64])));
    let rng = Arc::new(SeededRng::new(99));
    let options = OpenOptions { data_key, ..OpenOptions::default() };
    Engine::open(disk, structure, rng, EngineConfig::tiny(), options)
}

/// Everything a reader can see: the volume's bytes and its cuts, or the first error.
pub(crate) fn observe(disk: Arc<Bytes>) -> Result<(Vec<u8>, Vec<String>), Error> {
    let mut engine = open(disk)?;
    let mut bytes = vec![0; SIZE as usize];
    engine.read(0, &mut bytes)?;
    let cuts = engine.cuts().iter().map(|cut| cut.id.to_string()).collect();
    for cut in engine.cuts() {
        let reader = engine.open_cut(cut.id, None)?;
        assert_eq!(reader.info(), cut);
    }
    Ok((bytes, cuts))
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    /// Closed in order: everything is in the map.
    Closed,
    /// Stopped dead after flushes: much is in the log.
    Stopped,
}

/// A volume with a map, a cut, and several chunks in the log.
pub(crate) fn make(end: End) -> Arc<Bytes> {
    let disk = Arc::new(Bytes::default());
    let structure = StructureKey::derive(&Secret::new([1; 32]), "vol-00000001");
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    let config = EngineConfig::tiny();
    Engine::create(&*disk, &structure, &SeededRng::new(5), &config, &options).unwrap();
    let mut engine = open(Arc::clone(&disk)).unwrap();
    // Where its segments lie is part of what is frozen.
    while engine.give_back_step(false) {}
    let fill = |engine: &mut Engine, first: u64, count: u64, seed: u8| {
        for page in first..first + count {
            let bytes: Vec<u8> = (0..PAGE_BYTES).map(|at| seed ^ page as u8 ^ at as u8).collect();
            engine.write(page * PAGE_BYTES as u64, &bytes).unwrap();
        }
        engine.flush().unwrap();
    };
    fill(&mut engine, 0, 40, 1);
    engine.checkpoint().unwrap();
    fill(&mut engine, 20, 40, 2);
    engine.cut(CutId::new("snap-00000001").unwrap()).unwrap();
    fill(&mut engine, 130, 10, 3);
    match end {
        End::Closed => engine.close().unwrap(),
        End::Stopped => {
            fill(&mut engine, 300, 3, 4);
            // Evidence that the above was durable. The last chunks say the same, because the loss
            // of the very last one cannot be told from a power cut before it.
            for _ in 0..4 {
                engine.write_zeroes(302 * PAGE_BYTES as u64, PAGE_BYTES as u64).unwrap();
                engine.flush().unwrap();
            }
        }
    }
    disk
}

/// Flips one bit in every few bytes of the image and compares.
fn flip_everything(end: End) -> (usize, usize) {
    let disk = make(end);
    let truth = observe(Arc::new(disk.copy())).unwrap();
    let length = disk.len().unwrap() as usize;
    let (mut refused, mut harmless) = (0, 0);
    for at in (0..length).step_by(STRIDE) {
        let damaged = disk.copy();
        damaged.0.lock().unwrap()[at] ^= 1 << (at % 8);
        match observe(Arc::new(damaged)) {
            Err(_) => refused += 1,
            Ok(seen) => {
                assert!(seen == truth, "a flipped bit at {at} changed what is read");
                harmless += 1;
            }
        }
    }
    (refused, harmless)
}

#[test]
fn a_flipped_bit_in_a_closed_volume_is_an_error_or_makes_no_difference() {
    let (refused, harmless) = flip_everything(End::Closed);
    // What makes no difference: superseded pages, chunks that were merged, the twin superblock.
    assert!(refused > 500 && harmless > 500, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_flipped_bit_in_a_log_that_was_flushed_is_an_error_or_makes_no_difference() {
    let (refused, harmless) = flip_everything(End::Stopped);
    assert!(refused > 500 && harmless > 500, "{refused} refused, {harmless} harmless");
}

#[test]
fn swapped_pages_are_errors_or_make_no_difference() {
    for end in [End::Closed, End::Stopped] {
        let disk = make(end);
        let truth = observe(Arc::new(disk.copy())).unwrap();
        let pages = disk.len().unwrap() as usize / PAGE_BYTES;
        let mut refused = 0;
        for first in 0..pages {
            for second in [first + 1, first + 7, first + 31] {
                if second >= pages {
                    continue;
                }
                let damaged = disk.copy();
                damaged.swap_pages(first, second);
                match observe(Arc::new(damaged)) {
                    Err(_) => refused += 1,
                    Ok(seen) => assert!(seen == truth, "swapping {first} and {second}"),
                }
            }
        }
        assert!(refused > 100, "{refused}");
    }
}

/// Frozen: every byte of a volume made from known randomness. A change here is a change of format,
/// which `docs/format.md` describes and a new version number announces.
#[test]
fn the_format_is_frozen() {
    let image = make(End::Stopped);
    let bytes = image.0.lock().unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &bytes);
    assert_eq!(
        hex::encode(digest),
        "3d20e197a0decb9b67b07cd9c77ca260089c0c28bc7c53ff3903abd2960856cb"
    );
}

/// Where the superblocks' slots say which version they are of.
fn versions(image: &Bytes) -> Vec<usize> {
    let bytes = image.0.lock().unwrap();
    let slots = (0..bytes.len()).step_by(PAGE_BYTES).filter(|at| bytes[*at..].starts_with(MAGIC));
    slots.map(|at| at + MAGIC.len()).collect()
}

/// Version 2 is version 3 before any run: a closed volume has none.
#[test]
fn an_image_of_version_2_opens_and_one_of_version_1_does_not() {
    let image = make(End::Closed);
    let truth = observe(Arc::new(image.copy())).unwrap();
    let of_version = |version: u8| {
        let old = Arc::new(image.copy());
        let at = versions(&old);
        assert_eq!(at.len(), 2);
        at.iter().for_each(|at| old.0.lock().unwrap()[*at] = version);
        old
    };
    let old = of_version(2);
    assert_eq!(observe(Arc::clone(&old)).unwrap(), truth);
    for at in versions(&old) {
        assert_eq!(old.0.lock().unwrap()[at], 3, "opening writes it anew");
    }
    assert!(matches!(observe(of_version(1)), Err(Error::Version { found: 1 })));
    assert!(matches!(observe(of_version(4)), Err(Error::Version { found: 4 })));
}

#[test]
fn an_image_of_another_volume_does_not_open() {
    let disk = make(End::Closed);
    let other = StructureKey::derive(&Secret::new([1; 32]), "vol-00000002");
    let rng = Arc::new(SeededRng::new(1));
    let opened = Engine::open(disk, other, rng, EngineConfig::tiny(), OpenOptions::default());
    assert!(matches!(opened.err(), Some(Error::NoSuperblock)));
}
