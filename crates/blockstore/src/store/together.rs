//! One cut through several volumes, as if power had failed on all of them at one moment.
//!
//! Every member's thread is stopped first; only when all stand still do they cut. A write that was
//! acknowledged on any member before is therefore in its member's cut, and a write that somebody
//! makes because of such an acknowledgement is never in a cut without it. Each member goes on as
//! soon as it has cut: what it acknowledges from then on is in nobody's cut, because the others
//! stopped before.
//!
//! Whatever takes long (opening, merging, flushing what was written before) happens before anybody
//! is stopped, so that the hold lasts about as long as the slowest member's cut.

use super::handle::{Joined, Lease};
use super::owner::Volume;
use super::{Store, StoreError};
use crate::live::{CutId, CutInfo, Error};
use base::VolumeId;
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::mpsc::{self, Receiver, Sender};

/// Members of one cut. An instance has fewer volumes.
pub const CUT_MEMBERS_MAX: usize = 128;

/// A member that stands still, or will.
struct Held {
    /// Says that the member stands still.
    still: Receiver<()>,
    /// Lets it cut; dropped unused, it goes on without.
    go: Sender<()>,
    outcome: Receiver<Result<CutInfo, Error>>,
}

impl Store {
    /// Cuts several volumes at one moment: no write is in its member's cut without every write, on
    /// any member, that was acknowledged before it was made. All members are cut or none: when one
    /// fails, the cuts made are dropped again. A crash may leave some; whoever repeats the call
    /// drops those first. Infos are in the order of `members`.
    ///
    /// # Errors
    /// [`StoreError::Member`] names the member that could not be cut and says why.
    pub fn cut_many(&self, members: &[(VolumeId, CutId)]) -> Result<Vec<CutInfo>, StoreError> {
        let distinct: BTreeSet<_> = members.iter().map(|(id, _)| id).collect();
        if distinct.len() != members.len() || members.len() > CUT_MEMBERS_MAX {
            return Err(StoreError::Members { count: members.len(), limit: CUT_MEMBERS_MAX });
        }
        let mut leases = Vec::with_capacity(members.len());
        for (id, cut) in members {
            leases.push(self.prepare(id, *cut).map_err(|error| error.of_member(id))?);
        }
        let outcomes = self.cut_together(members, &leases);
        let failed = outcomes.iter().zip(members).find(|(outcome, _)| outcome.is_err());
        if let Some((_, (id, _))) = failed {
            let id = id.clone();
            self.undo(members, &leases, &outcomes);
            let first = outcomes.into_iter().find_map(Result::err);
            return Err(first.unwrap_or(StoreError::Closed { id: id.clone() }).of_member(&id));
        }
        for (lease, (id, _)) in leases.into_iter().zip(members) {
            lease.end().map_err(|error| error.of_member(id))?;
        }
        outcomes.into_iter().collect()
    }

    /// Opens a member and does beforehand what would make its cut wait.
    fn prepare(&self, id: &VolumeId, cut: CutId) -> Result<Lease, StoreError> {
        // A machine of its own would have to stand still over the network.
        let Joined::Here(lease) = Lease::join(&self.0, id)? else {
            return Err(StoreError::InUse { id: id.clone() });
        };
        let (sender, receiver) = mpsc::sync_channel(1);
        lease.call(move |volume| {
            volume.engine().prepare_cut(cut)?;
            volume.flush_then(Box::new(move |result| {
                // Whoever asked and is gone needs no answer.
                let _ = sender.send(result);
            }));
            Ok::<_, Error>(())
        })??;
        receiver.recv().map_err(|_| StoreError::Closed { id: id.clone() })??;
        Ok(lease)
    }

    /// Stops all members, lets all cut, and collects what came of it.
    fn cut_together(
        &self,
        members: &[(VolumeId, CutId)],
        leases: &[Lease],
    ) -> Vec<Result<CutInfo, StoreError>> {
        let closed = |id: &VolumeId| StoreError::Closed { id: id.clone() };
        let mut held = Vec::with_capacity(members.len());
        {
            // Two calls that share members reach all of them in the same order: neither waits for
            // a member that waits for the other.
            let _order = self.0.cutting.lock().unwrap_or_else(PoisonError::into_inner);
            for (lease, (id, cut)) in leases.iter().zip(members) {
                held.push(hold(lease, *cut).map_err(|()| closed(id)));
            }
        }
        let mut still = true;
        for held in &held {
            still &= held.as_ref().is_ok_and(|held| held.still.recv().is_ok());
        }
        let mut waiting = Vec::with_capacity(members.len());
        for (held, (id, _)) in held.into_iter().zip(members) {
            let outcome = held.and_then(|Held { go, outcome, .. }| {
                if still && go.send(()).is_ok() { Ok(outcome) } else { Err(closed(id)) }
            });
            waiting.push(outcome);
        }
        let outcomes = waiting.into_iter().zip(members);
        outcomes.map(|(waiting, (id, _))| Ok(waiting?.recv().map_err(|_| closed(id))??)).collect()
    }

    /// Drops the cuts that were made although others were not.
    fn undo(
        &self,
        members: &[(VolumeId, CutId)],
        leases: &[Lease],
        outcomes: &[Result<CutInfo, StoreError>],
    ) {
        for ((outcome, lease), (id, cut)) in outcomes.iter().zip(leases).zip(members) {
            if outcome.is_err() {
                continue;
            }
            let cut = *cut;
            let dropped = lease.call(move |volume| volume.engine().drop_cut(cut));
            match dropped {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, %id, %cut, "a cut was not undone"),
                Err(error) => tracing::error!(%error, %id, %cut, "a cut was not undone"),
            }
        }
    }
}

/// Asks a member to stand still and then to cut.
fn hold(lease: &Lease, cut: CutId) -> Result<Held, ()> {
    let (say_still, still) = mpsc::channel();
    let (go, may_go) = mpsc::channel();
    let (say, outcome) = mpsc::channel();
    let work = move |volume: &mut Volume| {
        // The coordinator waits for all of these; if it is gone, so is the reason to stand still.
        if say_still.send(()).is_err() || may_go.recv().is_err() {
            return;
        }
        let _ = say.send(volume.engine().cut(cut));
    };
    lease.submit(Box::new(work)).map_err(drop)?;
    Ok(Held { still, go, outcome })
}
