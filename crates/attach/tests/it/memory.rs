//! A sparse block device in memory, with a thread of its own and a gate that holds requests back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;

use attach::{
    Answer, BlockDevice, Command, DeviceError, Durability, Extent, ExtentState, Milestone, Request,
    View,
};

pub(crate) const PAGE: u64 = 4096;

/// A device whose requests are worked on by one thread, like the engine's.
pub(crate) struct Memory {
    size: AtomicU64,
    requests: mpsc::Sender<Vec<Request>>,
    pub(crate) state: Arc<State>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Flushes and durable writes seen.
    pub(crate) flushes: AtomicUsize,
    pub(crate) submitted: AtomicUsize,
    /// Bytes the device was asked to prepare.
    pub(crate) warmed: AtomicU64,
    /// What changes now is of this generation; it has a milestone of each earlier one.
    pub(crate) generation: AtomicU32,
    /// Writes since the last of these.
    pub(crate) unflushed: AtomicUsize,
    /// Writes that begin within a page.
    pub(crate) torn: AtomicUsize,
    /// Every request fails.
    pub(crate) broken: AtomicBool,
    /// A write that begins here fails, unless it is 0.
    pub(crate) broken_at: AtomicU64,
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
        Arc::new(Self { size: size.into(), requests, state })
    }

    pub(crate) fn grow(&self, size: u64) {
        self.size.store(size, Ordering::SeqCst);
    }
}

impl BlockDevice for Memory {
    fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }

    fn milestones(&self) -> Vec<Milestone> {
        let milestone =
            |generation| Milestone { snapshot: format!("snap-{generation}"), generation };
        (0..self.state.generation.load(Ordering::SeqCst)).map(milestone).collect()
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

/// Pages of a range: which, where in it the range begins, and what of the range lies there.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, Range<usize>)> {
    let end = offset + length as u64;
    (offset / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let (from, to) = (offset.max(page * PAGE), end.min((page + 1) * PAGE));
        (page, (from % PAGE) as usize, (from - offset) as usize..(to - offset) as usize)
    })
}

#[derive(Default)]
struct Pages {
    stored: BTreeMap<u64, Box<[u8]>>,
    /// The generation of each page's newest change.
    changed: BTreeMap<u64, u32>,
}

impl Pages {
    fn apply(&mut self, command: Command, state: &State) -> Result<Answer, DeviceError> {
        if state.broken.load(Ordering::SeqCst) {
            return Err(DeviceError::Io);
        }
        let sync = |durability: Durability| {
            if durability == Durability::Durable {
                state.flushes.fetch_add(1, Ordering::SeqCst);
                state.unflushed.store(0, Ordering::SeqCst);
            }
        };
        match command {
            Command::Read { offset, mut buffer } => {
                for (page, from, part) in parts(offset, buffer.len()) {
                    match self.stored.get(&page) {
                        Some(stored) => {
                            buffer[part.clone()].copy_from_slice(&stored[from..from + part.len()])
                        }
                        None => buffer[part].fill(0),
                    }
                }
                Ok(Answer::Bytes(buffer))
            }
            Command::Write { offset, .. }
                if offset > 0 && offset == state.broken_at.load(Ordering::SeqCst) =>
            {
                Err(DeviceError::Io)
            }
            Command::Write { offset, data, durability } => {
                state.torn.fetch_add(usize::from(offset % PAGE > 0), Ordering::SeqCst);
                state.unflushed.fetch_add(1, Ordering::SeqCst);
                sync(durability);
                self.note(offset, data.len() as u64, state);
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
                self.note(offset, length, state);
                self.zero(offset, length);
                Ok(Answer::Done)
            }
            Command::Status { offset, length, views } => {
                let status = |view| self.status(view, offset, length.min(64 << 20));
                Ok(Answer::Extents(views.into_iter().map(status).collect()))
            }
            Command::Cache { length, .. } => {
                state.warmed.fetch_add(length, Ordering::SeqCst);
                Ok(Answer::Done)
            }
        }
    }

    fn note(&mut self, offset: u64, length: u64, state: &State) {
        let generation = state.generation.load(Ordering::SeqCst);
        for page in offset / PAGE..(offset + length).div_ceil(PAGE) {
            self.changed.insert(page, generation);
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        for (page, from, part) in parts(offset, data.len()) {
            let stored = self.stored.entry(page).or_insert_with(|| vec![0; PAGE as usize].into());
            stored[from..from + part.len()].copy_from_slice(&data[part]);
        }
    }

    fn zero(&mut self, offset: u64, length: u64) {
        let end = offset + length;
        let touched: BTreeSet<u64> =
            self.stored.range(offset / PAGE..end.div_ceil(PAGE)).map(|(&page, _)| page).collect();
        for page in touched {
            let start = page * PAGE;
            if offset <= start && start + PAGE <= end {
                self.stored.remove(&page);
            } else {
                let (from, to) = (offset.max(start), end.min(start + PAGE));
                self.write(from, &vec![0; (to - from) as usize]);
            }
        }
    }

    /// One extent per page; the last one reaches beyond the range.
    fn status(&self, view: View, offset: u64, length: u64) -> Vec<Extent> {
        let mut extents = Vec::new();
        let mut at = offset;
        while at < offset + length {
            let end = (at / PAGE + 1) * PAGE;
            let page = at / PAGE;
            let state = match view {
                View::Allocation if self.stored.contains_key(&page) => ExtentState::Data,
                View::Allocation => ExtentState::Hole,
                View::ChangedSince(since) => match self.changed.get(&page) {
                    Some(changed) if *changed > since => ExtentState::Changed,
                    _ => ExtentState::Unchanged,
                },
            };
            extents.push(Extent { length: end - at, state });
            at = end;
        }
        extents
    }
}
