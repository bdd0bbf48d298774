//! The fence of one volume at the server: which session may touch its file.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

/// One connection of one attachment, as the gate counts them. Later ones are larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SessionId(u64);

/// Lets one session at a time through. Leases are granted inside it too, so that the fence knows of
/// every one.
#[derive(Debug, Default)]
pub struct Gate(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    newest: u64,
    closed: bool,
}

/// The gate is held open while this lives; taking the fence waits for it.
pub struct Passage<'a>(
    #[expect(dead_code, reason = "held for its lock")] RwLockReadGuard<'a, State>,
);

impl Gate {
    /// Begins a session; requests of earlier ones are refused from now on. `None` once the fence
    /// is taken.
    pub fn begin(&self) -> Option<SessionId> {
        self.begin_with(|session| session)
    }

    /// As [`Gate::begin`], with what must be done before a request of the session or the fence. Waits
    /// for requests that have passed.
    pub fn begin_with<T>(&self, begun: impl FnOnce(SessionId) -> T) -> Option<T> {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return None;
        }
        state.newest += 1;
        Some(begun(SessionId(state.newest)))
    }

    /// Lets a request of a session pass, for as long as the passage is held.
    pub fn pass(&self, session: SessionId) -> Option<Passage<'_>> {
        let state = self.0.read().unwrap_or_else(PoisonError::into_inner);
        (!state.closed && state.newest == session.0).then_some(Passage(state))
    }

    /// As [`Gate::pass`], but never waits; `None` also while the fence is being taken.
    pub fn try_pass(&self, session: SessionId) -> Option<Passage<'_>> {
        let state = self.0.try_read().ok()?;
        (!state.closed && state.newest == session.0).then_some(Passage(state))
    }

    /// Takes the fence: waits for requests that have passed, and lets none through ever after.
    pub fn close(&self) {
        self.close_if(|| true);
    }

    /// Takes the fence if a condition holds; `false` when it does not. No session begins and no request
    /// passes between the look and the fence.
    pub fn close_if(&self, condition: impl FnOnce() -> bool) -> bool {
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        state.closed |= condition();
        state.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_newer_session_and_the_fence_refuse_older_requests() {
        let gate = Gate::default();
        let first = gate.begin().unwrap();
        assert!(gate.pass(first).is_some());
        let second = gate.begin().unwrap();
        assert!(gate.pass(first).is_none());
        assert!(gate.pass(second).is_some());
        gate.close();
        assert!(gate.pass(second).is_none());
        assert!(gate.begin().is_none());
    }

    #[test]
    fn a_fence_on_a_condition_lets_nothing_pass_while_it_looks() {
        let gate = Gate::default();
        let session = gate.begin().unwrap();
        let refused = gate.close_if(|| {
            assert!(gate.try_pass(session).is_none(), "a request passed while it was looked");
            false
        });
        assert!(!refused && gate.pass(session).is_some());
        assert!(gate.close_if(|| true) && gate.pass(session).is_none());
        assert!(gate.close_if(|| false), "it is taken for good");
    }

    #[test]
    fn the_fence_waits_for_requests_that_passed() {
        let gate = Gate::default();
        let session = gate.begin().unwrap();
        let written = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let passage = gate.pass(session).unwrap();
            let fence = scope.spawn(|| {
                gate.close();
                assert!(written.load(Ordering::SeqCst), "the fence did not wait");
            });
            std::thread::sleep(std::time::Duration::from_millis(20));
            written.store(true, Ordering::SeqCst);
            drop(passage);
            fence.join().unwrap();
        });
    }
}
