//! Sessions of well-behaved clients.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use attach::client::{Client, ClientError, Wishes};
use attach::nbd::handshake::{ExportInfo, Mode};
use attach::nbd::{BYTES_IN_FLIGHT_MAX, DRAIN_SECONDS_MAX, REQUESTS_IN_FLIGHT_MAX};
use attach::{Durability, Export, Extent, ExtentState, Hole, Stop, StopError};
use base::{Clock, SystemClock};

use crate::memory::{Memory, PAGE};

pub(crate) struct Served {
    pub(crate) memory: Arc<Memory>,
    pub(crate) export: Export,
    pub(crate) path: PathBuf,
    _directory: tempfile::TempDir,
}

pub(crate) fn serve(size: u64) -> Served {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.sock");
    let memory = Memory::start(size);
    let info = ExportInfo { name: "sdf".into(), aliases: vec![], description: "test".into() };
    let export =
        Export::start(&path, info, Arc::clone(&memory) as _, Arc::new(SystemClock)).unwrap();
    Served { memory, export, path, _directory: directory }
}

fn client(served: &Served) -> Client {
    Client::connect(&served.path, "").unwrap()
}

#[test]
fn bytes_come_back() {
    let served = serve(64 << 20);
    let mut client = client(&served);
    assert_eq!(client.size(), 64 << 20);
    for (offset, length) in [(0, 1), (511, 4097), (4096, 4096), (1 << 20, 9 << 20), (20 << 20, 3)] {
        let data: Vec<u8> = (0..length).map(|i| (i * 7 + offset) as u8 | 1).collect();
        client.write(offset as u64, &data, Durability::Buffered).unwrap();
        let mut back = vec![0; data.len()];
        client.read(offset as u64, &mut back).unwrap();
        assert!(back == data, "{offset} {length}");
    }
    let mut around = vec![9; 3 * PAGE as usize];
    client.read(30 << 20, &mut around).unwrap();
    assert!(around.iter().all(|&b| b == 0), "holes read as zeroes");
    client.disconnect().unwrap();
}

#[test]
fn trim_zeroes_and_status_agree() {
    let served = serve(1 << 20);
    let mut client = client(&served);
    client.write(0, &vec![1; 16 * PAGE as usize], Durability::Buffered).unwrap();
    client.trim(PAGE, 2 * PAGE, Durability::Buffered).unwrap();
    client.write_zeroes(PAGE * 4 + 1, PAGE * 2, Hole::Refused, Durability::Buffered).unwrap();
    let data = |pages| Extent { length: pages * PAGE, state: ExtentState::Data };
    let hole = |pages| Extent { length: pages * PAGE, state: ExtentState::Hole };
    let expected = [data(1), hole(2), data(2), hole(1), data(10), hole(16)];
    assert_eq!(client.block_status(0, 32 * PAGE).unwrap(), expected);
    let mut back = vec![9; 8 * PAGE as usize];
    client.read(0, &mut back).unwrap();
    let page = PAGE as usize;
    let zero =
        |byte: usize| (page..3 * page).contains(&byte) || (4 * page + 1..=6 * page).contains(&byte);
    assert!(back.iter().enumerate().all(|(i, &b)| (b == 0) == zero(i)));
}

#[test]
fn flush_and_fua_reach_the_device() {
    let served = serve(1 << 20);
    let mut client = client(&served);
    client.write(0, &[1; 512], Durability::Buffered).unwrap();
    let flushes = || served.memory.state.flushes.load(Ordering::SeqCst);
    assert_eq!(flushes(), 0);
    client.write(0, &[1; 512], Durability::Durable).unwrap();
    assert_eq!(flushes(), 1);
    client.flush().unwrap();
    assert_eq!(flushes(), 2);
    client.trim(0, 4096, Durability::Durable).unwrap();
    client.write_zeroes(0, 4096, Hole::Allowed, Durability::Durable).unwrap();
    assert_eq!(flushes(), 4);
}

#[test]
fn errors_name_their_reason() {
    let served = serve(1 << 20);
    let mut client = client(&served);
    let errno = |result: Result<(), ClientError>| match result {
        Err(ClientError::Request { errno }) => errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(errno(client.read(1 << 20, &mut [0])), 22);
    assert_eq!(errno(client.write(1 << 20, &[0], Durability::Buffered)), 28);
    assert_eq!(errno(client.trim(0, 2 << 20, Durability::Buffered)), 22);
    assert_eq!(errno(client.block_status(1 << 20, 1).map(drop)), 22);
    served.memory.state.broken.store(true, Ordering::SeqCst);
    assert_eq!(errno(client.read(0, &mut [0])), 5);
    assert_eq!(errno(client.flush()), 5);
    served.memory.state.broken.store(false, Ordering::SeqCst);
    client.read(0, &mut [0; 4096]).unwrap();
    assert!(matches!(
        Client::connect(&served.path, "other"),
        Err(ClientError::Refused { option: 10, .. })
    ));
}

#[test]
fn a_graceful_stop_answers_what_is_in_flight_and_flushes() {
    let served = serve(1 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut client = client(&served);
    state.hold();
    let writer = std::thread::spawn(move || {
        client.write(0, &[7; 4096], Durability::Buffered).unwrap();
        client.write(0, &[8; 4096], Durability::Buffered)
    });
    state.wait_for_submissions(1);
    let Served { export, path, memory, .. } = served;
    export.retire(Stop::Graceful);
    assert!(!path.exists(), "nobody new can connect");
    state.release();
    export.stop(Stop::Graceful).unwrap();
    assert_eq!(state.flushes.load(Ordering::SeqCst), 1);
    let second = writer.join().unwrap();
    assert!(matches!(second, Err(ClientError::Socket(_))), "{second:?}");
    drop(memory);
}

#[test]
fn a_forced_stop_waits_for_nothing() {
    let served = serve(1 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut client = client(&served);
    state.hold();
    let writer = std::thread::spawn(move || client.write(0, &[7; 4096], Durability::Buffered));
    state.wait_for_submissions(1);
    served.export.stop(Stop::Force).unwrap();
    assert!(matches!(writer.join().unwrap(), Err(ClientError::Socket(_))));
    assert_eq!(state.flushes.load(Ordering::SeqCst), 0);
    state.release();
}

#[test]
fn a_stop_that_becomes_urgent_reaches_those_who_finish() {
    let served = serve(1 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut client = client(&served);
    state.hold();
    let writer = std::thread::spawn(move || client.write(0, &[7; 4096], Durability::Buffered));
    state.wait_for_submissions(1);
    let mut idle = raw(&served.path);
    served.export.retire(Stop::Graceful);
    // Told after the one that has something to finish.
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    let latest = SystemClock.now().0 + DRAIN_SECONDS_MAX * 1000 / 2;
    served.export.stop(Stop::Force).unwrap();
    assert!(SystemClock.now().0 < latest, "nothing was waited for");
    assert!(matches!(writer.join().unwrap(), Err(ClientError::Socket(_))));
    assert_eq!(state.flushes.load(Ordering::SeqCst), 0);
    state.release();
}

#[test]
fn a_failed_last_flush_is_reported() {
    let served = serve(1 << 20);
    served.memory.state.broken.store(true, Ordering::SeqCst);
    assert!(matches!(served.export.stop(Stop::Graceful), Err(StopError::Flush(_))));
}

#[test]
fn connections_share_the_volume() {
    let served = serve(1 << 20);
    let (mut one, mut two) = (client(&served), client(&served));
    one.write(4096, &[5; 4096], Durability::Buffered).unwrap();
    two.flush().unwrap();
    let mut back = [0; 4096];
    two.read(4096, &mut back).unwrap();
    assert_eq!(back, [5; 4096]);
}

/// A raw session in transmission without structured replies.
pub(crate) fn raw(path: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    let mut hello = 3u32.to_be_bytes().to_vec();
    hello.extend_from_slice(b"IHAVEOPT\0\0\0\x01\0\0\0\x03sdf");
    stream.write_all(&hello).unwrap();
    stream.read_exact(&mut [0; 10]).unwrap();
    stream
}

pub(crate) fn request(command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(&command.to_be_bytes());
    bytes.extend_from_slice(&cookie.to_be_bytes());
    bytes.extend_from_slice(&offset.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn plain_replies_to_a_client_that_negotiates_nothing() {
    let served = serve(1 << 20);
    let mut stream = raw(&served.path);
    let mut write = request(1, 1, 8192, 4096);
    write.extend_from_slice(&[3; 4096]);
    stream.write_all(&write).unwrap();
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..8], [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
    stream.write_all(&request(0, 2, 8192 - 4096, 8192)).unwrap();
    let mut reply = vec![0; 16 + 8192];
    stream.read_exact(&mut reply).unwrap();
    assert!(reply[16..16 + 4096].iter().all(|&b| b == 0));
    assert!(reply[16 + 4096..].iter().all(|&b| b == 3));
    // BLOCK_STATUS was not negotiated, RESIZE is not offered.
    for command in [7, 8] {
        stream.write_all(&request(command, 3, 0, 4096)).unwrap();
        let mut reply = [0; 16];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[4..8], [0, 0, 0, 22]);
    }
}

#[test]
fn a_burst_beyond_the_limits_is_served_in_parts() {
    let served = serve(64 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut stream = raw(&served.path);
    state.hold();
    let count = REQUESTS_IN_FLIGHT_MAX + 100;
    let burst: Vec<u8> = (0..count as u64).flat_map(|i| request(0, i, i * PAGE, 4096)).collect();
    stream.write_all(&burst).unwrap();
    state.wait_for_submissions(REQUESTS_IN_FLIGHT_MAX);
    assert_eq!(state.submitted.load(Ordering::SeqCst), REQUESTS_IN_FLIGHT_MAX);
    state.release();
    let mut cookies: Vec<u64> = (0..count)
        .map(|_| {
            let mut reply = [0; 16 + 4096];
            stream.read_exact(&mut reply).unwrap();
            u64::from_be_bytes(reply[8..16].try_into().unwrap())
        })
        .collect();
    cookies.sort_unstable();
    assert!(cookies.iter().copied().eq(0..count as u64));
}

#[test]
fn bytes_in_flight_are_bounded() {
    let served = serve(64 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut stream = raw(&served.path);
    state.hold();
    let length = 16 << 20;
    let fitting = BYTES_IN_FLIGHT_MAX / length;
    let burst: Vec<u8> =
        (0..fitting as u64 + 2).flat_map(|i| request(0, i, 0, length as u32)).collect();
    stream.write_all(&burst).unwrap();
    state.wait_for_submissions(fitting);
    assert_eq!(state.submitted.load(Ordering::SeqCst), fitting);
    state.release();
    let mut reply = vec![0; 16 + length];
    (0..fitting + 2).for_each(|_| stream.read_exact(&mut reply).unwrap());
}

const CHANGES: &str = "qemu:dirty-bitmap:snap-0";

fn extended(served: &Served, contexts: &[&str]) -> Client {
    let wishes = Wishes { mode: Mode::Extended, contexts };
    Client::connect_with(&served.path, "", &wishes).unwrap()
}

#[test]
fn extended_headers_carry_everything() {
    let served = serve(64 << 20);
    let mut client = extended(&served, &["base:allocation"]);
    let data: Vec<u8> = (0..3 << 20).map(|i| (i * 7) as u8 | 1).collect();
    client.write(511, &data, Durability::Buffered).unwrap();
    let mut back = vec![0; data.len()];
    client.read(511, &mut back).unwrap();
    assert!(back == data);
    client.read(40 << 20, &mut back[..1 << 20]).unwrap();
    assert!(back[..1 << 20].iter().all(|byte| *byte == 0));
    client.flush().unwrap();
    client.write_zeroes(0, 8 << 20, Hole::Allowed, Durability::Buffered).unwrap();
    client.trim(8 << 20, 1 << 20, Durability::Buffered).unwrap();
    client.write(0, &[1; 512], Durability::Durable).unwrap();
    assert_eq!(served.memory.state.flushes.load(Ordering::SeqCst), 2);
    let extents = client.block_status(0, 64 << 20).unwrap();
    let state = |state| extents.iter().filter(|e| e.state == state).map(|e| e.length).sum::<u64>();
    assert_eq!((state(ExtentState::Data), state(ExtentState::Hole)), (4096, (64 << 20) - 4096));
    client.cache(4096, 1 << 20).unwrap();
    assert_eq!(served.memory.state.warmed.load(Ordering::SeqCst), 1 << 20);
    let errno = |result: Result<(), ClientError>| match result {
        Err(ClientError::Request { errno }) => errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(errno(client.read(64 << 20, &mut [0])), 22);
    assert_eq!(errno(client.write(64 << 20, &[0], Durability::Buffered)), 28);
    assert_eq!(errno(client.fast_zero(1, 4096)), 95);
    client.fast_zero(0, 4096).unwrap();
    served.memory.state.broken.store(true, Ordering::SeqCst);
    assert_eq!(errno(client.flush()), 5);
    assert_eq!(errno(client.write(0, &[0], Durability::Buffered)), 5);
    assert_eq!(errno(client.read(0, &mut [0])), 5);
    served.memory.state.broken.store(false, Ordering::SeqCst);
    client.disconnect().unwrap();
}

/// One request zeroes, trims, prepares or reports on more than 4 GiB.
#[test]
fn extended_lengths_have_64_bits() {
    let size = 1 << 40;
    let served = serve(size);
    let mut client = extended(&served, &["base:allocation"]);
    client.write(0, &[1; 4096], Durability::Buffered).unwrap();
    client.write(5 << 30, &[1; 4096], Durability::Buffered).unwrap();
    client.cache(0, size).unwrap();
    assert_eq!(served.memory.state.warmed.load(Ordering::SeqCst), size);
    let errno = |result: Result<(), ClientError>| match result {
        Err(ClientError::Request { errno }) => errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(errno(client.cache(1, size)), 22);
    assert_eq!(errno(client.cache(1, u64::MAX)), 22);
    let extents = client.block_status(0, size).unwrap();
    assert_eq!(extents[0], Extent { length: 4096, state: ExtentState::Data });
    let structured = Client::connect(&served.path, "").unwrap().cache(0, size);
    assert!(matches!(structured, Err(ClientError::Protocol { .. })), "32 bits are too few");
}

#[test]
fn changes_are_told_against_a_snapshot() {
    let served = serve(1 << 20);
    let generation = &served.memory.state.generation;
    let mut client = Client::connect(&served.path, "").unwrap();
    client.write(0, &[1; 4096], Durability::Buffered).unwrap();
    generation.store(1, Ordering::SeqCst);
    client.write(8192, &[1; 4096], Durability::Buffered).unwrap();
    for mode in [Mode::Structured, Mode::Extended] {
        let wishes = Wishes { mode, contexts: &["base:allocation", CHANGES, "x:y"] };
        let mut client = Client::connect_with(&served.path, "", &wishes).unwrap();
        let told = client.status(0, 20480).unwrap();
        let names: Vec<&str> = told.iter().map(|status| status.context.as_str()).collect();
        assert_eq!(names, ["base:allocation", CHANGES]);
        assert_eq!(told[0].runs, [(4096, 0), (4096, 3), (4096, 0), (8192, 3)]);
        assert_eq!(told[1].runs, [(8192, 0), (4096, 1), (8192, 0)]);
    }
}

#[test]
fn a_payload_narrows_a_status_to_some_contexts() {
    let served = serve(1 << 20);
    served.memory.state.generation.store(1, Ordering::SeqCst);
    let mut client = extended(&served, &["base:allocation", CHANGES]);
    client.write(4096, &[1; 4096], Durability::Buffered).unwrap();
    let told = client.status_of(&[CHANGES], 0, 1 << 20).unwrap();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].runs, [(4096, 0), (4096, 1), ((1 << 20) - 8192, 0)]);
    let refused = |result: Result<_, ClientError>| {
        assert!(matches!(result, Err(ClientError::Request { errno: 22 })), "{result:?}");
    };
    refused(client.status_of(&[], 0, 4096));
    refused(client.status_of(&["unknown:context"], 0, 4096));
    refused(client.status_of(&[CHANGES, CHANGES], 0, 4096));
    refused(client.status_of(&[CHANGES; 100], 0, 4096));
    refused(client.status_of(&[CHANGES], 4096, 1 << 20));
    assert_eq!(client.status_of(&[CHANGES, "base:allocation"], 0, 4096).unwrap().len(), 2);
    client.disconnect().unwrap();
}

#[test]
fn a_device_that_grew_is_larger_at_once() {
    let served = serve(1 << 20);
    let mut before = client(&served);
    let refused = before.write(1 << 20, &[1; 4096], Durability::Buffered);
    assert!(matches!(refused, Err(ClientError::Request { errno: 28 })), "{refused:?}");
    served.memory.grow(2 << 20);
    before.write(1 << 20, &[1; 4096], Durability::Buffered).unwrap();
    assert_eq!(before.size(), 1 << 20, "what it was told is not taken back");
    assert_eq!(client(&served).size(), 2 << 20);
}
