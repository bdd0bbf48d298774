//! Long writes, which the device is given in pieces of 1 MiB, and long ranges, in pieces of 1 GiB.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use attach::client::{Client, ClientError, Wishes};
use attach::nbd::handshake::{ExportInfo, Mode};
use attach::{Answer, BlockDevice, Command, DeviceError, Durability, Export, Hole, Request, Stop};
use base::{Clock, SystemClock};

use crate::session::{Served, raw, request, serve};

const MIB: usize = 1 << 20;
const WRITE: u16 = 1;
const FLUSH: u16 = 3;

/// Longer than any step of these tests takes, and shorter than a connection waits for its client.
const PATIENCE: Duration = Duration::from_secs(10);

fn read(served: &Served, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![9; length];
    let mut client = Client::connect(&served.path, "").unwrap();
    client.read(offset as u64, &mut bytes).unwrap();
    bytes
}

fn write(cookie: u64, offset: usize, length: usize, byte: u8) -> Vec<u8> {
    let mut bytes = request(WRITE, cookie, offset as u64, length as u32);
    bytes.resize(bytes.len() + length, byte);
    bytes
}

/// Has a write last until it is durable.
pub(crate) fn durable(mut write: Vec<u8>) -> Vec<u8> {
    write[5] = 1;
    write
}

/// The cookie and the error of a reply without a payload.
pub(crate) fn reply(stream: &mut impl Read) -> (u64, u32) {
    let mut reply = [0; 16];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(reply[..4], [0x67, 0x44, 0x66, 0x98]);
    let error = u32::from_be_bytes(reply[4..8].try_into().unwrap());
    (u64::from_be_bytes(reply[8..].try_into().unwrap()), error)
}

#[test]
fn a_write_of_several_pieces_is_answered_once() {
    let served = serve(64 << 20);
    let mut stream = raw(&served.path);
    stream.write_all(&write(1, 0, 3 * MIB + 5, 1)).unwrap();
    assert_eq!(reply(&mut stream), (1, 0));
    assert_eq!(served.memory.state.submitted.load(Ordering::SeqCst), 4);
    stream.write_all(&request(FLUSH, 2, 0, 0)).unwrap();
    assert_eq!(reply(&mut stream), (2, 0), "nothing else was said of the write");
    let back = read(&served, 0, 4 * MIB);
    assert!(back.iter().enumerate().all(|(at, byte)| *byte == u8::from(at < 3 * MIB + 5)));
}

#[test]
fn pieces_end_at_pages_of_the_device() {
    let served = serve(64 << 20);
    let mut stream = raw(&served.path);
    let bytes: Vec<u8> = (0..5 * MIB + 3).map(|at| (at / 3) as u8 | 1).collect();
    for offset in [700, 16 * MIB + 4095] {
        stream.write_all(&request(WRITE, 1, offset as u64, bytes.len() as u32)).unwrap();
        stream.write_all(&bytes).unwrap();
        assert_eq!(reply(&mut stream), (1, 0));
    }
    assert_eq!(served.memory.state.submitted.load(Ordering::SeqCst), 2 * 6);
    assert_eq!(served.memory.state.torn.load(Ordering::SeqCst), 2, "the beginnings alone");
    assert!(read(&served, 700, bytes.len()) == bytes);
    assert!(read(&served, 16 * MIB + 4095, bytes.len()) == bytes);
}

#[test]
fn a_durable_write_of_several_pieces_is_flushed_once() {
    let served = serve(64 << 20);
    let state = &served.memory.state;
    let mut stream = raw(&served.path);
    stream.write_all(&durable(write(1, 0, 3 * MIB, 1))).unwrap();
    assert_eq!(reply(&mut stream), (1, 0));
    assert_eq!(state.submitted.load(Ordering::SeqCst), 4, "three pieces and a flush");
    assert_eq!(state.flushes.load(Ordering::SeqCst), 1);
    assert_eq!(state.unflushed.load(Ordering::SeqCst), 0, "after the last piece");
    stream.write_all(&durable(write(2, 0, MIB, 1))).unwrap();
    assert_eq!(reply(&mut stream), (2, 0));
    assert_eq!(state.flushes.load(Ordering::SeqCst), 2);
    assert_eq!(state.submitted.load(Ordering::SeqCst), 5, "one write, durable at once");
}

#[test]
fn a_piece_that_fails_fails_its_write_alone() {
    let served = serve(64 << 20);
    let state = &served.memory.state;
    let mut stream = raw(&served.path);
    // The second of five, then the last of them.
    for failing in [MIB, 4 * MIB] {
        state.broken_at.store(failing as u64, Ordering::SeqCst);
        let buffered = write(1, 0, 5 * MIB, 1);
        for sent in [buffered.clone(), durable(buffered)] {
            stream.write_all(&sent).unwrap();
            assert_eq!(reply(&mut stream), (1, 5));
            assert_eq!(state.flushes.load(Ordering::SeqCst), 0, "nothing to flush for");
        }
    }
    state.broken_at.store(0, Ordering::SeqCst);
    // What was not taken by the device was taken from the socket.
    stream.write_all(&write(2, MIB, 5 * MIB, 2)).unwrap();
    assert_eq!(reply(&mut stream), (2, 0));
    assert!(read(&served, 0, MIB) == vec![1; MIB], "the pieces before it are there");
    assert!(read(&served, MIB, 5 * MIB) == vec![2; 5 * MIB]);
}

#[test]
fn a_client_that_leaves_between_pieces_is_not_waited_for() {
    let served = serve(64 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut stream = raw(&served.path);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    state.hold();
    let whole = write(1, 0, 4 * MIB, 7);
    stream.write_all(&whole[..2 * MIB + MIB / 2]).unwrap();
    state.wait_for_submissions(2);
    stream.shutdown(Shutdown::Write).unwrap();
    state.release();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).unwrap();
    assert!(said.is_empty(), "there was no whole request to answer");
    assert!(read(&served, 0, 2 * MIB) == vec![7; 2 * MIB]);
    assert!(read(&served, 2 * MIB, 2 * MIB) == vec![0; 2 * MIB]);
    served.export.stop(Stop::Graceful).unwrap();
}

#[test]
fn a_stop_does_not_wait_for_the_rest_of_a_write() {
    let served = serve(64 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut stream = raw(&served.path);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut sent = write(1, 8 * MIB, MIB, 6);
    sent.extend_from_slice(&write(2, 0, 4 * MIB, 7)[..MIB + MIB / 2]);
    stream.write_all(&sent).unwrap();
    state.wait_for_submissions(2);
    assert_eq!(reply(&mut stream), (1, 0));
    let latest = SystemClock.now().0 + PATIENCE.as_millis() as i64;
    served.export.stop(Stop::Graceful).unwrap();
    assert!(SystemClock.now().0 < latest);
    // A reset is as good an end: there is a rest that nobody reads.
    assert!(!matches!(stream.read(&mut [0]), Ok(1..)), "it was not answered");
}

#[test]
fn writes_that_overlap_land_as_they_were_sent() {
    let served = serve(64 << 20);
    let state = Arc::clone(&served.memory.state);
    let mut stream = raw(&served.path);
    state.hold();
    let mut sent = write(1, 0, 4 * MIB, 1);
    sent.extend(write(2, MIB + 100, 2 * MIB, 2));
    sent.extend(write(3, 2 * MIB, 100, 3));
    stream.write_all(&sent).unwrap();
    state.wait_for_submissions(4 + 3 + 1);
    state.release();
    let mut cookies: Vec<_> = (0..3).map(|_| reply(&mut stream)).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [(1, 0), (2, 0), (3, 0)]);
    let mut expected = vec![1; 4 * MIB];
    expected[MIB + 100..][..2 * MIB].fill(2);
    expected[2 * MIB..][..100].fill(3);
    assert!(read(&served, 0, 4 * MIB) == expected);
}

const GIB: u64 = 1 << 30;

/// What a device was asked: a range and when it is to be durable, or a flush.
type Asked = Option<(u64, u64, Durability)>;

/// A device that notes what it is asked, and fails for ranges that begin at one byte.
#[derive(Default)]
struct Noting {
    asked: Mutex<Vec<Asked>>,
    broken_at: AtomicU64,
}

impl Noting {
    fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl BlockDevice for Noting {
    fn size(&self) -> u64 {
        64 << 40
    }

    fn submit(&self, batch: Vec<Request>) {
        assert_eq!(batch.len(), 1, "pieces come one after the other");
        for Request { command, reply } in batch {
            let asked = match command {
                Command::Trim { offset, length, durability }
                | Command::WriteZeroes { offset, length, durability, hole: Hole::Refused } => {
                    Some((offset, length, durability))
                }
                Command::Flush => None,
                other => panic!("{other:?}"),
            };
            self.asked.lock().unwrap().push(asked);
            let broken = self.broken_at.load(Ordering::SeqCst);
            let fails = broken > 0 && asked.is_some_and(|(offset, ..)| offset == broken);
            reply.complete(if fails { Err(DeviceError::Io) } else { Ok(Answer::Done) });
        }
    }
}

#[test]
fn a_long_range_is_one_request_in_pieces() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.sock");
    let device = Arc::new(Noting::default());
    let info = ExportInfo { name: "sdf".into(), aliases: vec![], description: String::new() };
    let clock = Arc::new(SystemClock);
    let _export = Export::start(&path, info, Arc::clone(&device) as _, clock).unwrap();
    let wishes = Wishes { mode: Mode::Extended, contexts: &[] };
    let mut client = Client::connect_with(&path, "", &wishes).unwrap();
    let (buffered, durable) = (Durability::Buffered, Durability::Durable);

    client.trim(5, 2 * GIB, buffered).unwrap();
    let pieces = [(5, GIB - 5), (GIB, GIB), (2 * GIB, 5)];
    assert_eq!(device.asked(), pieces.map(|(offset, length)| Some((offset, length, buffered))));
    client.trim(5, GIB, durable).unwrap();
    assert_eq!(device.asked(), [Some((5, GIB, durable))]);
    client.write_zeroes(0, 2 * GIB, Hole::Refused, durable).unwrap();
    let pieces = [Some((0, GIB, buffered)), Some((GIB, GIB, buffered)), None];
    assert_eq!(device.asked(), pieces, "they become durable together");

    device.broken_at.store(GIB, Ordering::SeqCst);
    let failed = client.write_zeroes(0, 4 * GIB, Hole::Refused, durable);
    assert!(matches!(failed, Err(ClientError::Request { errno: 5 })), "{failed:?}");
    assert_eq!(device.asked(), pieces[..2], "the rest is left alone");
    client.trim(GIB + 1, 3, buffered).unwrap();
    assert_eq!(device.asked(), [Some((GIB + 1, 3, buffered))]);

    client.trim(0, 64 << 40, buffered).unwrap_err();
    device.broken_at.store(0, Ordering::SeqCst);
    device.asked();
    client.trim(0, 64 << 40, buffered).unwrap();
    assert_eq!(device.asked().len(), 64 << 10);
}
