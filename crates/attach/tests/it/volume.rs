//! A volume of the block store behind the server.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use attach::client::{Client, ClientError};
use attach::nbd::handshake::ExportInfo;
use attach::{Durability, Export, Extent, ExtentState, Hole, Stop, VolumeDevice};
use base::{OsRng, Secret, SystemClock, VolumeId};
use blockstore::live::{EngineConfig, OpenOptions, VolumeOptions};
use blockstore::page::DataKey;
use blockstore::store::{Store, StoreConfig, VolumeHandle};

use crate::pieces::{durable, reply};
use crate::session::{raw, request};

const SIZE: u64 = 16 << 20;
const PAGE: u64 = 4096;

fn store(folder: &Path) -> Store {
    let config = StoreConfig { engine: EngineConfig::tiny(), ..StoreConfig::server() };
    Store::open(folder, Secret::new([1; 32]), Arc::new(OsRng), config).unwrap()
}

fn id() -> VolumeId {
    "vol-0123456789abcdef0".parse().unwrap()
}

fn open(store: &Store) -> VolumeHandle {
    let data_key = Some(DataKey::new(&Secret::new([2; 64])));
    store.open_volume(&id(), OpenOptions { data_key, ..OpenOptions::default() }).unwrap()
}

/// A store and a new volume of it.
fn fresh(folder: &Path) -> (Store, VolumeHandle) {
    let store = store(folder);
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&id(), &options).unwrap();
    let handle = open(&store);
    (store, handle)
}

fn export(folder: &Path, handle: &VolumeHandle) -> Export {
    let info = ExportInfo { name: "sdf".into(), aliases: vec![], description: String::new() };
    let device = Arc::new(VolumeDevice::new(handle.clone()));
    Export::start(&folder.join("d.sock"), info, device, Arc::new(SystemClock)).unwrap()
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 7) as u8 ^ seed | 1).collect()
}

#[test]
fn bytes_survive_a_detach_and_a_new_process() {
    let folder = tempfile::tempdir().unwrap();
    let (first, handle) = fresh(folder.path());
    let served = export(folder.path(), &handle);
    let mut client = Client::connect(served.path(), "sdf").unwrap();
    let data = pattern(5 << 20, 3);
    client.write(700, &data, Durability::Buffered).unwrap();
    client.write(8 << 20, &data[..9000], Durability::Durable).unwrap();
    client.write_zeroes(1 << 20, 1 << 20, Hole::Refused, Durability::Durable).unwrap();
    served.stop(Stop::Graceful).unwrap();
    handle.close().unwrap();
    drop(first);

    let second = store(folder.path());
    let handle = open(&second);
    let served = export(folder.path(), &handle);
    let mut client = Client::connect(served.path(), "").unwrap();
    let mut expected = vec![0; SIZE as usize];
    expected[700..][..data.len()].copy_from_slice(&data);
    expected[8 << 20..][..9000].copy_from_slice(&data[..9000]);
    expected[1 << 20..2 << 20].fill(0);
    let mut back = vec![1; SIZE as usize];
    client.read(0, &mut back).unwrap();
    assert!(back == expected);
}

#[test]
fn a_write_longer_than_the_device_takes_at_once_survives_too() {
    let folder = tempfile::tempdir().unwrap();
    let (first, handle) = fresh(folder.path());
    let served = export(folder.path(), &handle);
    // In one request, from the middle of a page to the middle of another.
    let (offset, data) = (1000, pattern((5 << 20) + 77, 5));
    let mut stream = raw(served.path());
    stream.write_all(&durable(request(1, 7, offset, data.len() as u32))).unwrap();
    stream.write_all(&data).unwrap();
    assert_eq!(reply(&mut stream), (7, 0));
    // Durable when it was answered: the export flushes nothing on its way out.
    served.stop(Stop::Force).unwrap();
    drop((handle, first));

    let second = store(folder.path());
    let served = export(folder.path(), &open(&second));
    let mut client = Client::connect(served.path(), "").unwrap();
    let mut expected = vec![0; SIZE as usize];
    expected[offset as usize..][..data.len()].copy_from_slice(&data);
    let mut back = vec![1; SIZE as usize];
    client.read(0, &mut back).unwrap();
    assert!(back == expected);
}

#[test]
fn status_follows_writes_and_trims() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, handle) = fresh(folder.path());
    let served = export(folder.path(), &handle);
    let mut client = Client::connect(served.path(), "").unwrap();
    client.write(2 * PAGE, &pattern(4 * PAGE as usize, 1), Durability::Buffered).unwrap();
    client.trim(3 * PAGE, PAGE, Durability::Durable).unwrap();
    let data = |pages| Extent { length: pages * PAGE, state: ExtentState::Data };
    let hole = |pages| Extent { length: pages * PAGE, state: ExtentState::Hole };
    let expected = [hole(2), data(1), hole(1), data(2), hole(SIZE / PAGE - 6)];
    assert_eq!(client.block_status(0, SIZE).unwrap(), expected);
}

#[test]
fn a_wiped_key_ends_the_device_and_damage_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, handle) = fresh(folder.path());
    let served = export(folder.path(), &handle);
    let mut client = Client::connect(served.path(), "").unwrap();
    client.write(0, &pattern(1 << 20, 1), Durability::Durable).unwrap();

    // Everything but the superblocks, which nothing reads while the volume is open.
    let path = folder.path().join("volumes").join(format!("{}.log", id()));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[16 * 4096..].iter_mut().for_each(|byte| *byte ^= 1);
    std::fs::write(&path, &bytes).unwrap();
    let errno = |result: Result<(), ClientError>| match result {
        Err(ClientError::Request { errno }) => errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(errno(client.read(0, &mut [0; 4096])), 5);

    // The handle that stays with the device cannot keep the key alive.
    handle.close().unwrap();
    assert_eq!(errno(client.write(0, &[1; 4096], Durability::Buffered)), 108);
    assert_eq!(errno(client.read(0, &mut [0; 4096])), 108);
}
