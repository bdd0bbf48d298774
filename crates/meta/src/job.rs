//! A transaction on its way to an engine's thread and back.
//!
//! The caller's closure travels in a [`Call`]; the engine sees only [`Job`]. A call is answered
//! exactly once, after its fate is durable or, written behind, visible. The caller may have stopped
//! waiting by then: the transaction runs all the same, wholly or not at all.

use crate::error::Error;
use crate::tx::Tx;
use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::sync::oneshot;

/// Whether a transaction may write, and what its answer promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// Answered when it is durable.
    Write,
    /// Answered when others see it; durable with the next [`Access::Write`].
    WriteBehind,
}

/// What the engine is to do with the work of one run of a closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Keep,
    Discard,
}

/// A transaction as an engine sees it.
pub(crate) trait Job: Send {
    fn access(&self) -> Access;
    /// Runs the closure, again if it ran before.
    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict;
    /// Answers the caller with the last run's outcome, or with `end`'s error if that run was good or never was.
    fn finish(self: Box<Self>, end: Result<(), Error>);
}

/// What a closure returned, or the panic that ended it.
pub(crate) type Outcome<T, E> = Result<Result<T, E>, Box<dyn Any + Send>>;

pub(crate) struct Call<F, T, E> {
    access: Access,
    closure: F,
    outcome: Option<Outcome<T, E>>,
    reply: oneshot::Sender<Outcome<T, E>>,
}

impl<F, T, E> Call<F, T, E> {
    pub(crate) fn new(access: Access, closure: F) -> (Box<Self>, oneshot::Receiver<Outcome<T, E>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { access, closure, outcome: None, reply }), answer)
    }
}

impl<F, T, E> Job for Call<F, T, E>
where
    F: Fn(&mut Tx<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    fn access(&self) -> Access {
        self.access
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Verdict {
        INSIDE.set(true);
        // Nothing of a panicking run survives: the engine rolls it back and the closure is not called again.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.closure)(tx)));
        INSIDE.set(false);
        let outcome = match outcome {
            Ok(Ok(_)) if tx.has_failed() => Ok(Err(E::from(Error::Aborted))),
            other => other,
        };
        let verdict = match &outcome {
            Ok(Ok(_)) => Verdict::Keep,
            Ok(Err(_)) | Err(_) => Verdict::Discard,
        };
        self.outcome = Some(outcome);
        verdict
    }

    fn finish(self: Box<Self>, end: Result<(), Error>) {
        let answer = match (self.outcome, end) {
            (Some(Ok(Ok(_))) | None, Err(error)) => Ok(Err(E::from(error))),
            (Some(outcome), _) => outcome,
            (None, Ok(())) => Ok(Err(E::from(Error::Closed))),
        };
        // A caller that stopped waiting has no use for the answer.
        drop(self.reply.send(answer));
    }
}

thread_local! {
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is inside a transaction's closure, where another transaction would wait for itself.
pub(crate) fn inside_transaction() -> bool {
    INSIDE.get()
}
