//! Writes a disk has accepted and not finished.

use super::AlignedBuffer;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Writes under way at once. With a chunk in each it is 14 MiB.
pub(super) const UNDER_WAY_MAX: usize = 24;

/// The table of accepted writes of one disk.
#[derive(Default)]
pub(super) struct Writes {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The newest ticket given out; each write has one.
    newest: u64,
    /// By ticket, ascending.
    under_way: Vec<UnderWay>,
    /// Buffers of finished writes.
    spare: Vec<AlignedBuffer>,
    /// Likewise, of a region. They are used first.
    of_region: Vec<AlignedBuffer>,
    /// Set by the first write or flush that fails.
    failure: Option<Failure>,
}

struct UnderWay {
    ticket: u64,
    offset: u64,
    bytes: Arc<AlignedBuffer>,
    /// Nobody writes it yet; the next flush or write sees to that.
    deferred: bool,
}

impl UnderWay {
    fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes.len() as u64
    }
}

/// What is left of an error for those who come later.
#[derive(Clone, Copy)]
struct Failure {
    kind: io::ErrorKind,
    code: Option<i32>,
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        failure.code.map_or_else(|| failure.kind.into(), Self::from_raw_os_error)
    }
}

/// When an accepted write is carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    Now,
    /// With the next flush or write.
    Later,
}

/// How much of a range accepted writes hold.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Copied {
    All,
    /// The range must be read once they are finished.
    Part,
    Nothing,
}

/// A write for the caller to carry out.
pub(super) struct Deferral {
    pub(super) ticket: u64,
    pub(super) offset: u64,
    pub(super) bytes: Arc<AlignedBuffer>,
}

impl Writes {
    /// Accepts a write, takes its bytes and leaves another buffer. Returns the write for the caller
    /// to carry out, unless it is to wait.
    pub(super) fn accept(
        &self,
        offset: u64,
        buffer: &mut AlignedBuffer,
        when: When,
    ) -> io::Result<Option<Deferral>> {
        let range = offset..offset + buffer.len() as u64;
        let mut state = self.wait_while(self.state(), |state| {
            state.under_way.len() >= UNDER_WAY_MAX || state.touches(&range)
        })?;
        let mut spare = state
            .take_spare(buffer.capacity())
            .unwrap_or_else(|| AlignedBuffer::zeroed(buffer.capacity()));
        spare.set_length(buffer.len());
        let bytes = Arc::new(std::mem::replace(buffer, spare));
        state.newest += 1;
        let ticket = state.newest;
        let due = Deferral { ticket, offset, bytes: Arc::clone(&bytes) };
        let deferred = when == When::Later;
        state.under_way.push(UnderWay { ticket, offset, bytes, deferred });
        Ok((!deferred).then_some(due))
    }

    /// Notes the end of a write.
    pub(super) fn finish(&self, ticket: u64, result: io::Result<()>, bytes: Arc<AlignedBuffer>) {
        let mut state = self.state();
        state.under_way.retain(|write| write.ticket != ticket);
        if let Err(error) = result {
            state.fail(&error);
        }
        if let Ok(bytes) = Arc::try_unwrap(bytes) {
            if bytes.is_of_a_region() {
                state.of_region.push(bytes);
            } else if state.spare.len() < UNDER_WAY_MAX {
                state.spare.push(bytes);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Offers buffers of a region for writes to come.
    pub(super) fn offer(&self, buffers: Vec<AlignedBuffer>) {
        self.state().of_region.extend(buffers);
    }

    /// Notes that something failed after which nothing is certain.
    pub(super) fn note_failure(&self, error: &io::Error) {
        self.state().fail(error);
    }

    /// The newest write a flush that begins now must cover.
    pub(super) fn newest(&self) -> io::Result<u64> {
        let state = self.state();
        state.check()?;
        Ok(state.newest)
    }

    /// Takes the writes that wait for somebody to carry them out.
    pub(super) fn take_deferred(&self) -> Vec<Deferral> {
        let mut state = self.state();
        let deferred = state.under_way.iter_mut().filter(|write| write.deferred);
        deferred
            .map(|write| {
                write.deferred = false;
                let UnderWay { ticket, offset, .. } = *write;
                Deferral { ticket, offset, bytes: Arc::clone(&write.bytes) }
            })
            .collect()
    }

    /// Waits until no write up to `newest` is under way.
    pub(super) fn await_finished(&self, newest: u64) -> io::Result<()> {
        let unfinished =
            |state: &State| state.under_way.first().is_some_and(|write| write.ticket <= newest);
        self.wait_while(self.state(), unfinished).map(drop)
    }

    /// Waits until nothing is under way in a range. Nothing there may be deferred.
    pub(super) fn await_range(&self, range: &Range<u64>) -> io::Result<()> {
        self.wait_while(self.state(), |state| state.touches(range)).map(drop)
    }

    /// Whether writes are under way in a range.
    pub(super) fn touch(&self, range: &Range<u64>) -> bool {
        self.state().touches(range)
    }

    /// Fills `target` if an accepted write holds all of its range.
    pub(super) fn copy(&self, offset: u64, target: &mut [u8]) -> Copied {
        let state = self.state();
        let end = offset + target.len() as u64;
        // The newest write is the one that counts.
        for write in state.under_way.iter().rev() {
            let range = write.range();
            if range.start <= offset && end <= range.end {
                let at = (offset - range.start) as usize;
                target.copy_from_slice(&write.bytes[at..at + target.len()]);
                return Copied::All;
            }
        }
        if state.touches(&(offset..end)) { Copied::Part } else { Copied::Nothing }
    }

    /// The end of the last accepted write.
    pub(super) fn end(&self) -> u64 {
        self.state().under_way.iter().map(|write| write.range().end).max().unwrap_or(0)
    }

    fn wait_while<'a>(
        &self,
        state: MutexGuard<'a, State>,
        condition: impl Fn(&State) -> bool,
    ) -> io::Result<MutexGuard<'a, State>> {
        let waiting = |state: &mut State| state.failure.is_none() && condition(state);
        let state = self.changed.wait_while(state, waiting).unwrap_or_else(PoisonError::into_inner);
        state.check()?;
        Ok(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A buffer that holds `capacity` bytes and has any content.
    fn take_spare(&mut self, capacity: usize) -> Option<AlignedBuffer> {
        for spares in [&mut self.of_region, &mut self.spare] {
            if let Some(at) = spares.iter().rposition(|spare| spare.capacity() >= capacity) {
                return Some(spares.swap_remove(at));
            }
        }
        None
    }

    fn check(&self) -> io::Result<()> {
        self.failure.map_or(Ok(()), |failure| Err(failure.into()))
    }

    fn fail(&mut self, error: &io::Error) {
        self.failure.get_or_insert(Failure { kind: error.kind(), code: error.raw_os_error() });
    }

    fn touches(&self, range: &Range<u64>) -> bool {
        self.under_way.iter().any(|write| {
            let held = write.range();
            held.start < range.end && range.start < held.end
        })
    }
}
