//! A volume that stands still for a moment, so that others can be cut at the same one.

use super::gate::Closing;
use super::owner::{Queue, Rest, Volume};
use crate::live::{CutId, CutInfo, Error};
use base::VolumeId;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// The longest a request is kept waiting by a volume that stands still. Whoever asked for it and does
/// not come back in time finds the volume gone on and uncut.
pub const STILL_TIME_MAX: Duration = Duration::from_secs(5);

/// Sees how long members of a cut stand still.
pub trait CutWatch: Send + Sync {
    /// A member begins nothing more from now on.
    fn stands(&self, _volume: &VolumeId) {}

    /// Its cut is in its log; others may still be without theirs.
    fn marked(&self, _volume: &VolumeId) {}

    /// It goes on.
    fn goes_on(&self, _volume: &VolumeId) {}
}

/// Does not look.
pub(super) struct Unseen;

impl CutWatch for Unseen {}

/// A volume that begins no chores, because it is about to stand still.
pub(super) struct Calm<'a>(&'a Queue);

impl<'a> Calm<'a> {
    /// Asks for it. Chores that have begun go on: they are over when work that is handed over from
    /// now on is done.
    pub(super) fn begin(queue: &'a Queue) -> Self {
        queue.gate().calm();
        Self(queue)
    }
}

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.gate().end_calm();
        self.0.see_to_chores();
    }
}

/// A volume that stands still, or will. Dropped, it goes on.
pub(super) struct Still {
    id: VolumeId,
    queue: Queue,
    closing: Closing,
    watch: Arc<dyn CutWatch>,
}

/// A cut in the log, and what makes it durable.
pub(super) struct Marked {
    queue: Queue,
    rest: Rest,
    outcome: Outcome,
}

/// What becomes of a cut that was asked for.
pub(super) struct Outcome(Receiver<Result<CutInfo, Error>>);

impl Still {
    /// Has a volume begin nothing more.
    pub(super) fn begin(id: &VolumeId, queue: &Queue, watch: &Arc<dyn CutWatch>) -> Self {
        let closing = queue.gate().close();
        watch.stands(id);
        Self { id: id.clone(), queue: queue.clone(), closing, watch: Arc::clone(watch) }
    }

    /// Waits until what had begun is done; `false` when the volume is closed or went on.
    pub(super) fn stands(&self) -> bool {
        self.queue.at_rest(self.closing, |_| ()).is_some()
    }

    /// Cuts it where it stands. `None` when it went on before, or is closed.
    pub(super) fn mark(&self, cut: CutId) -> Option<Marked> {
        let (say, outcome) = mpsc::channel();
        let rest = self.queue.at_rest(self.closing, move |open| {
            open.work(Box::new(move |volume: &mut Volume| mark(volume, cut, say)))
        })?;
        self.watch.marked(&self.id);
        Some(Marked { queue: self.queue.clone(), rest, outcome: Outcome(outcome) })
    }
}

impl Drop for Still {
    fn drop(&mut self) {
        self.queue.gate().open(self.closing);
        self.watch.goes_on(&self.id);
    }
}

impl Marked {
    /// Has the cut made durable and its layer merged. The volume need not stand still for that: what
    /// is written meanwhile lies behind the mark.
    pub(super) fn flush(self) -> Outcome {
        self.rest.hand_over();
        self.queue.see_to_chores();
        self.outcome
    }
}

impl Outcome {
    /// Waits until the cut is durable. `None` when the volume was closed.
    pub(super) fn wait(self) -> Option<Result<CutInfo, Error>> {
        self.0.recv().ok()
    }
}

/// Marks the cut; that it is durable is said when it is.
fn mark(volume: &mut Volume, cut: CutId, say: Sender<Result<CutInfo, Error>>) {
    // Whoever asked and is gone needs no answer.
    match volume.engine().mark_cut(cut) {
        Ok(info) => volume.flush_then(Box::new(move |flushed| {
            let _ = say.send(flushed.map(|()| info));
        })),
        Err(error) => drop(say.send(Err(error))),
    }
}
