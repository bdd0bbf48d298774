//! Reads through a port of the calling thread.

use crate::store::{House, SIZE};
use base::Secret;
use blockstore::live::{AlignedBuffer, Awaited, Error, OpenOptions};
use blockstore::page::{DataKey, PAGE_BYTES};
use blockstore::store::{Volume, Work};
use rustix::event::{EventfdFlags, PollFlags, eventfd};
use std::os::fd::AsFd;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const PAGES: u64 = 2048;

type Answers = Sender<(u64, Result<(), Error>, AlignedBuffer)>;

/// Reads at some offsets, on the spot.
struct Reads {
    offsets: Vec<u64>,
    length: usize,
    /// Are read into first.
    buffers: Vec<AlignedBuffer>,
    answers: Answers,
}

impl Work for Reads {
    fn run(mut self: Box<Self>, volume: &mut Volume) {
        for offset in self.offsets {
            let answers = self.answers.clone();
            let done = move |result, buffer| drop(answers.send((offset, result, buffer)));
            let buffer = self.buffers.pop();
            let buffer = buffer.unwrap_or_else(|| AlignedBuffer::zeroed(self.length));
            volume.read_then(offset, buffer, Box::new(done));
        }
    }

    fn is_small(&self) -> bool {
        true
    }
}

fn page(number: u64, version: u8) -> Vec<u8> {
    let mut page = vec![version; PAGE_BYTES];
    page[..8].copy_from_slice(&number.to_le_bytes());
    page
}

/// A volume in disorder is read in small and large pieces, both before its map is in memory and
/// after, while the same thread waits for something else.
#[test]
fn a_thread_reads_and_waits_for_its_clients_at_once() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let options = || OpenOptions {
        data_key: Some(DataKey::new(&Secret::new([7; 64]))),
        ..Default::default()
    };
    let volume = house.store.open_volume(&id, options()).unwrap();
    let whole: Vec<u8> = (0..PAGES).flat_map(|number| page(number, 1)).collect();
    volume.write(0, whole).unwrap();
    let overwritten = |number: u64| number * 7 % 11 < 4;
    // Backwards, so that neighbours of the volume are no neighbours on the disk.
    for number in (0..PAGES).rev().filter(|number| overwritten(*number)) {
        volume.write(number * PAGE_BYTES as u64, page(number, 2)).unwrap();
    }
    volume.close().unwrap();

    let volume = house.store.open_volume(&id, options()).unwrap();
    // A system without io_uring has no ports.
    let Some(mut port) = volume.port() else { return };
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let mut known = port.buffers();
    assert!(known.iter().all(|buffer| buffer.len() == PAGE_BYTES));
    for length in [PAGE_BYTES, 1 << 20, PAGE_BYTES] {
        let buffers = if length == PAGE_BYTES { std::mem::take(&mut known) } else { vec![] };
        let offsets: Vec<u64> =
            (0..PAGES * PAGE_BYTES as u64).step_by(length.max(64 << 10)).collect();
        let (answers, answered) = channel();
        let mut left = offsets.len();
        let reads = Reads { offsets, length, buffers, answers };
        assert!(volume.submit_through(Box::new(reads), &mut port).is_ok());
        while left > 0 {
            let mut waited = [Awaited::new(wake.as_fd(), PollFlags::IN)];
            port.wait(&mut waited, Some(Duration::from_millis(5))).unwrap();
            assert!(waited[0].happened.is_empty());
            port.answer();
            for (offset, result, buffer) in answered.try_iter() {
                result.unwrap();
                left -= 1;
                for (number, bytes) in (offset / PAGE_BYTES as u64..).zip(buffer.chunks(PAGE_BYTES))
                {
                    let version = if overwritten(number) { 2 } else { 1 };
                    assert!(bytes == page(number, version), "page {number}, {length} at once");
                }
                known.push(buffer);
            }
        }
        known.retain(|buffer| buffer.len() == PAGE_BYTES);
    }
    // A ready file ends the wait at once, and again as long as it is ready.
    rustix::io::write(&wake, &1u64.to_ne_bytes()).unwrap();
    for _ in 0..2 {
        let mut waited = [Awaited::new(wake.as_fd(), PollFlags::IN)];
        port.wait(&mut waited, None).unwrap();
        assert_eq!(waited[0].happened, PollFlags::IN);
    }
    // Reads under way are answered when the port goes.
    let (answers, answered) = channel();
    let offsets = vec![0, SIZE / 2];
    let reads = Reads { offsets, length: PAGE_BYTES, buffers: known, answers };
    assert!(volume.submit_through(Box::new(reads), &mut port).is_ok());
    drop(port);
    assert_eq!(answered.iter().filter(|(_, result, _)| result.is_ok()).count(), 2);
    volume.close().unwrap();
}
