//! A sparse block device in memory, with a thread of its own and a gate that holds requests back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;

use attach::{Answer, BlockDevice, Command, DeviceError, Durability, Extent, ExtentState, Request};

pub(crate) const PAGE: u64 = 4096;

/// A device whose requests are worked on by one thread, like the engine's.
pub(crate) struct Memory {
    size: u64,
    requests: mpsc::Sender<Vec<Request>>,
    pub(crate) state: Arc<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Flushes and durable writes seen.
    pub(crate) flushes: AtomicUsize,
    pub(crate) submitted: AtomicUsize,
    /// Every request fails.
    pub(crate) broken: AtomicBool,
    gate: Mutex<bool>,
    moved: Condvar,
}

impl State {
    pub(crate) fn hold(&self) {
        *self.gate.lock().unwrap() = true;
    }

    pub(crate) fn release(&self) {
        *self.gate.lock().unwrap() = false;
        self.moved.notify_all();
    }

    /// Waits until `count` requests were submitted in all.
    pub(crate) fn wait_for_submissions(&self, count: usize) {
        let gate = self.gate.lock().unwrap();
        let seen = |_: &mut bool| self.submitted.load(Ordering::SeqCst) < count;
        drop(self.moved.wait_while(gate, seen).unwrap());
    }
}

impl Memory {
    pub(crate) fn start(size: u64) -> Arc<Self> {
        let (requests, receiver) = mpsc::channel::<Vec<Request>>();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            let mut pages = Pages::default();
            for batch in receiver {
                drop(shared.moved.wait_while(shared.gate.lock().unwrap(), |held| *held).unwrap());
                // Completed in reverse: the protocol allows any order.
                let done: Vec<_> =
                    batch.into_iter().map(|r| (pages.apply(r.command, &shared), r.reply)).collect();
                done.into_iter().rev().for_each(|(result, reply)| reply.complete(result));
            }
        });
        Arc::new(Self { size, requests, state })
    }
}

impl BlockDevice for Memory {
    fn size(&self) -> u64 {
        self.size
    }

    fn submit(&self, batch: Vec<Request>) {
        let count = batch.len();
        self.requests.send(batch).unwrap();
        let gate = self.state.gate.lock().unwrap();
        self.state.submitted.fetch_add(count, Ordering::SeqCst);
        drop(gate);
        self.state.moved.notify_all();
    }
}

#[derive(Default)]
struct Pages(BTreeMap<u64, Box<[u8]>>);

impl Pages {
    fn apply(&mut self, command: Command, state: &State) -> Result<Answer, DeviceError> {
        if state.broken.load(Ordering::SeqCst) {
            return Err(DeviceError::Io);
        }
        let sync = |durability: Durability| {
            state
                .flushes
                .fetch_add(usize::from(durability == Durability::Durable), Ordering::SeqCst);
        };
        match command {
            Command::Read { offset, mut buffer } => {
                for (at, byte) in (offset..).zip(buffer.iter_mut()) {
                    *byte = self.0.get(&(at / PAGE)).map_or(0, |page| page[(at % PAGE) as usize]);
                }
                Ok(Answer::Bytes(buffer))
            }
            Command::Write { offset, data, durability } => {
                sync(durability);
                self.write(offset, &data);
                Ok(Answer::Bytes(data))
            }
            Command::Flush => {
                sync(Durability::Durable);
                Ok(Answer::Done)
            }
            Command::Trim { offset, length, durability }
            | Command::WriteZeroes { offset, length, durability, hole: _ } => {
                sync(durability);
                self.zero(offset, length);
                Ok(Answer::Done)
            }
            Command::Status { offset, length } => Ok(Answer::Extents(self.status(offset, length))),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..).zip(data) {
            let page = self.0.entry(at / PAGE).or_insert_with(|| vec![0; PAGE as usize].into());
            page[(at % PAGE) as usize] = *byte;
        }
    }

    fn zero(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let touched: BTreeSet<u64> =
            self.0.range(offset / PAGE..end.div_ceil(PAGE)).map(|(&page, _)| page).collect();
        for page in touched {
            let start = page * PAGE;
            if offset <= start && start + PAGE <= end {
                self.0.remove(&page);
            } else {
                let (from, to) = (offset.max(start), end.min(start + PAGE));
                self.write(from, &vec![0; (to - from) as usize]);
            }
        }
    }

    /// One extent per page; the last one reaches beyond the range.
    fn status(&self, offset: u64, length: u64) -> Vec<Extent> {
        let mut extents = Vec::new();
        let mut at = offset;
        while at < offset + length {
            let end = (at / PAGE + 1) * PAGE;
            let stored = self.0.contains_key(&(at / PAGE));
            let state = if stored { ExtentState::Data } else { ExtentState::Hole };
            extents.push(Extent { length: end - at, state });
            at = end;
        }
        extents
    }
}
