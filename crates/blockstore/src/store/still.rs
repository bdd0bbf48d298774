//! A volume that stands still for a moment, so that others can be cut at the same one.

use super::handle::Lease;
use super::owner::Volume;
use crate::live::{CutId, CutInfo, Error};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// The longest a volume stands still. Whoever asked for it and does not come back in time finds it
/// gone on and uncut.
pub const STILL_TIME_MAX: Duration = Duration::from_secs(5);

/// Sees how long members of a cut stand still.
pub trait CutWatch: Send + Sync {
    /// A member stands still from now on.
    fn stands(&self) {}

    /// It goes on.
    fn goes_on(&self) {}
}

/// Does not look.
pub(super) struct Unseen;

impl CutWatch for Unseen {}

/// A volume that stands still, or will. Dropped, it goes on uncut.
pub(super) struct Still {
    stands: Receiver<()>,
    go: Sender<CutId>,
    outcome: Receiver<Result<CutInfo, Error>>,
}

/// What becomes of a cut that was asked for.
pub(super) struct Outcome(Receiver<Result<CutInfo, Error>>);

impl Still {
    /// Asks a volume's thread to stand still when it comes to this.
    pub(super) fn begin(lease: &Lease, watch: Arc<dyn CutWatch>) -> Result<Self, ()> {
        let (say_stands, stands) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<CutId>();
        let (say, outcome) = mpsc::channel();
        let work = move |volume: &mut Volume| {
            // If nobody waits any more, so is the reason to stand still gone.
            if say_stands.send(()).is_err() {
                return;
            }
            watch.stands();
            if let Ok(cut) = may_go.recv_timeout(STILL_TIME_MAX) {
                mark(volume, cut, say);
            }
            watch.goes_on();
        };
        lease.submit(Box::new(work)).map_err(drop)?;
        Ok(Self { stands, go, outcome })
    }

    /// Waits until it stands still; `false` when it was closed first.
    pub(super) fn stands(&self) -> bool {
        self.stands.recv().is_ok()
    }

    /// Cuts it where it stands and lets it go on. `None` when it went on before.
    pub(super) fn cut(self, cut: CutId) -> Option<Outcome> {
        self.go.send(cut).ok()?;
        Some(Outcome(self.outcome))
    }
}

impl Outcome {
    /// Waits until the cut is durable. `None` when the volume went on before it was told to cut, or
    /// was closed.
    pub(super) fn wait(self) -> Option<Result<CutInfo, Error>> {
        self.0.recv().ok()
    }
}

/// Marks the cut; that it is durable is said when it is. The volume need not stand still for that:
/// what is written meanwhile lies behind the mark.
fn mark(volume: &mut Volume, cut: CutId, say: Sender<Result<CutInfo, Error>>) {
    // Whoever asked and is gone needs no answer.
    match volume.engine().mark_cut(cut) {
        Ok(info) => volume.flush_then(Box::new(move |flushed| {
            let _ = say.send(flushed.map(|()| info));
        })),
        Err(error) => drop(say.send(Err(error))),
    }
}
