//! What keeps everybody from a volume while it stands still, and its chores from beginning just
//! before.
//!
//! Who comes to the volume's desk and finds the gate closed leaves the desk again and waits here, so
//! whoever closed it gets to the desk as soon as what is being done there has ended.

use super::STILL_TIME_MAX;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The gate before a volume.
#[derive(Default)]
pub(super) struct Gate {
    state: Mutex<State>,
    opened: Condvar,
    /// As in `state`, for who has the desk.
    closed: AtomicBool,
    /// How many want chores not to begin.
    calm: AtomicUsize,
}

#[derive(Default)]
struct State {
    /// How often it was closed.
    closings: u64,
    closed: bool,
}

/// One closing of a gate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Closing(u64);

impl Gate {
    /// Closes it; waits while it is closed by somebody else. Who is at the desk already stays until
    /// the work is done.
    pub(super) fn close(&self) -> Closing {
        let mut state = self.await_open();
        state.closings += 1;
        state.closed = true;
        self.closed.store(true, Ordering::SeqCst);
        Closing(state.closings)
    }

    /// Opens it, unless that has happened.
    pub(super) fn open(&self, closing: Closing) {
        let mut state = self.state();
        if state.closed && state.closings == closing.0 {
            self.open_state(&mut state);
        }
    }

    /// Whether nobody can have come to the desk since it was closed and left.
    pub(super) fn is_closed_by(&self, closing: Closing) -> bool {
        let state = self.state();
        state.closed && state.closings == closing.0
    }

    /// For who has the desk: whether to leave it again.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Waits until it is open. Who has waited for [`STILL_TIME_MAX`] opens it.
    pub(super) fn pass(&self) {
        drop(self.await_open());
    }

    /// Asks that no chores begin.
    pub(super) fn calm(&self) {
        self.calm.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes that back.
    pub(super) fn end_calm(&self) {
        self.calm.fetch_sub(1, Ordering::SeqCst);
    }

    /// Whether no chores may begin.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::SeqCst) > 0
    }

    fn await_open(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        while state.closed {
            let closings = state.closings;
            let same = |state: &mut State| state.closed && state.closings == closings;
            let waited = self.opened.wait_timeout_while(state, STILL_TIME_MAX, same);
            let (again, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = again;
            if timeout.timed_out() && same(&mut state) {
                self.open_state(&mut state);
            }
        }
        state
    }

    fn open_state(&self, state: &mut State) {
        state.closed = false;
        self.closed.store(false, Ordering::SeqCst);
        self.opened.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_holds_until_the_gate_is_opened_and_not_in_the_next() {
        let gate = Gate::default();
        let first = gate.close();
        assert!(gate.is_closed() && gate.is_closed_by(first));
        gate.open(first);
        gate.pass();
        assert!(!gate.is_closed() && !gate.is_closed_by(first));
        let second = gate.close();
        gate.open(first);
        assert!(gate.is_closed_by(second) && !gate.is_closed_by(first));
        std::thread::scope(|scope| {
            let third = scope.spawn(|| gate.close());
            gate.open(second);
            assert!(gate.is_closed_by(third.join().unwrap()));
        });
    }
}
