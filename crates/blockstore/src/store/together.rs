//! One cut through several volumes, as if power had failed on all of them at one moment.
//!
//! Every member is stopped first; only when all stand still do they cut. A write that was
//! acknowledged on any member before is therefore in its member's cut, and a write that somebody
//! makes because of such an acknowledgement is never in a cut without it. Members here go on when
//! all their cuts are marked in their logs: what is acknowledged from then on is in nobody's cut,
//! because those elsewhere stopped before. The flush that makes the marks durable comes after.
//!
//! Whatever takes long happens before anybody is stopped: in a first round members are opened, merged
//! and flushed, and begin no chores any more. In the second all are told at once to begin nothing,
//! and what they do is waited for, which is a request each; whoever called then marks all cuts itself
//! and wakes nobody for it. Members at other machines are stopped first and all at once, so that those
//! here stand still for one message there and back. No request waits longer than [`STILL_TIME_MAX`]: a
//! member that went on by itself is not cut any more, and then none is.

#[cfg(doc)]
use super::STILL_TIME_MAX;
use super::handle::{Joined, Lease};
use super::still::{CutWatch, Marked, Outcome, Still, Unseen};
use super::{Borrower, EngineAnswer, EngineCall, Store, StoreError};
use crate::live::{CutId, CutInfo, Error};
use base::VolumeId;
use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, PoisonError};

/// Members of one cut. An instance has fewer volumes.
pub const CUT_MEMBERS_MAX: usize = 128;

/// One volume of a cut.
struct Member {
    id: VolumeId,
    cut: CutId,
    place: Joined,
}

impl Member {
    fn closed(&self) -> StoreError {
        StoreError::Closed { id: self.id.clone() }
    }

    fn lease(&self) -> Option<&Lease> {
        match &self.place {
            Joined::Here(lease) => Some(lease),
            Joined::Lent(_) => None,
        }
    }

    /// The machine that has it open, if it is not this one.
    fn borrower(&self) -> Option<&Arc<dyn Borrower>> {
        match &self.place {
            Joined::Here(_) => None,
            Joined::Lent(borrower) => Some(borrower),
        }
    }

    /// Does beforehand what would make its cut wait.
    fn prepare(&self) -> Preparing<'_> {
        let cut = self.cut;
        let lease = match &self.place {
            Joined::Lent(borrower) => {
                return Preparing::Away(Box::new(move || {
                    borrower.call(EngineCall::PrepareCut(cut)).map(drop)
                }));
            }
            Joined::Here(lease) => lease,
        };
        let (sender, receiver) = mpsc::channel();
        let work = move |volume: &mut super::Volume| {
            // Whoever asked and is gone needs no answer.
            match volume.engine().prepare_cut(cut) {
                Ok(()) => volume.flush_then(Box::new(move |flushed| drop(sender.send(flushed)))),
                Err(error) => drop(sender.send(Err(error))),
            }
        };
        match lease.submit(Box::new(work)) {
            Ok(()) => Preparing::Here(receiver),
            Err(_) => Preparing::Closed,
        }
    }

    /// Cuts it where it stands still, at its machine.
    fn cut_away(&self, borrower: &Arc<dyn Borrower>) -> Result<CutInfo, StoreError> {
        match borrower.call(EngineCall::CutStill(self.cut))? {
            EngineAnswer::Cut(info) => Ok(info),
            _ => Err(StoreError::Away { id: self.id.clone() }),
        }
    }

    fn drop_cut(&self) -> Result<(), StoreError> {
        let call = EngineCall::DropCut(self.cut);
        match &self.place {
            Joined::Here(lease) => lease.make(call).map(drop),
            Joined::Lent(borrower) => borrower.call(call).map(drop),
        }
    }
}

/// A member that is being prepared.
enum Preparing<'a> {
    Here(Receiver<Result<(), Error>>),
    Away(Box<dyn FnOnce() -> Result<(), StoreError> + Send + 'a>),
    Closed,
}

impl Store {
    /// Cuts several volumes at one moment: no write is in its member's cut without every write, on
    /// any member, that was acknowledged before it was made. All members are cut or none: when one
    /// fails, the cuts made are dropped again. A crash may leave some, and so may a machine that is
    /// not heard of any more; whoever repeats the call, or gives it up, drops those. Infos are in the
    /// order of `members`.
    ///
    /// # Errors
    /// [`StoreError::Member`] names the member that could not be cut and says why.
    pub fn cut_many(&self, members: &[(VolumeId, CutId)]) -> Result<Vec<CutInfo>, StoreError> {
        self.cut_many_watched(members, &(Arc::new(Unseen) as _))
    }

    /// As [`Store::cut_many`]; `watch` sees the members that are open here stand still.
    ///
    /// # Errors
    /// As [`Store::cut_many`].
    pub fn cut_many_watched(
        &self,
        members: &[(VolumeId, CutId)],
        watch: &Arc<dyn CutWatch>,
    ) -> Result<Vec<CutInfo>, StoreError> {
        let distinct: BTreeSet<_> = members.iter().map(|(id, _)| id).collect();
        if distinct.len() != members.len() || members.len() > CUT_MEMBERS_MAX {
            return Err(StoreError::Members { count: members.len(), limit: CUT_MEMBERS_MAX });
        }
        let mut joined = Vec::with_capacity(members.len());
        for (id, cut) in members {
            let place = Lease::join(&self.0, id).map_err(|error| error.of_member(id))?;
            joined.push(Member { id: id.clone(), cut: *cut, place });
        }
        let calm: Vec<_> = joined.iter().filter_map(Member::lease).map(Lease::calm).collect();
        for (member, prepared) in joined.iter().zip(prepare(&joined)) {
            prepared.map_err(|error| error.of_member(&member.id))?;
        }
        let outcomes = self.cut_together(&joined, watch);
        drop(calm);
        if outcomes.iter().any(Result::is_err) {
            undo(&joined, &outcomes);
        }
        let outcomes = outcomes.into_iter().zip(&joined);
        // A member that only went on because another failed is not the one to name.
        let (mut infos, mut failed) = (Vec::with_capacity(members.len()), None);
        for (outcome, member) in outcomes {
            match outcome {
                Ok(info) => infos.push(info),
                Err(error) => {
                    let follows = matches!(error, StoreError::WentOn { .. });
                    if failed.as_ref().is_none_or(|(_, followed)| *followed && !follows) {
                        failed = Some((error.of_member(&member.id), follows));
                    }
                }
            }
        }
        if let Some((error, _)) = failed {
            return Err(error);
        }
        for Member { id, place, .. } in joined {
            if let Joined::Here(lease) = place {
                lease.end().map_err(|error| error.of_member(&id))?;
            }
        }
        Ok(infos)
    }

    /// Stops all members, cuts all, and collects what came of it.
    fn cut_together(
        &self,
        members: &[Member],
        watch: &Arc<dyn CutWatch>,
    ) -> Vec<Result<CutInfo, StoreError>> {
        let went_on = |member: &Member| StoreError::WentOn { id: member.id.clone() };
        // Two calls that share members at other machines take turns, and so do those that share
        // members here. So neither waits for one that waits for the other.
        let is_away = members.iter().any(|member| member.borrower().is_some());
        let _turn =
            is_away.then(|| self.0.cutting_away.lock().unwrap_or_else(PoisonError::into_inner));
        let away = at_once(members, |_, borrower| borrower.call(EngineCall::StandStill));
        let here = match away.iter().flatten().all(Result::is_ok) {
            true => self.mark_here(members, watch),
            false => None,
        };
        let Some(here) = here else {
            at_once(members, |_, borrower| borrower.call(EngineCall::GoOn));
            let failed = away.into_iter().zip(members).map(|(stood, member)| match stood {
                Some(Err(error)) => Err(error),
                Some(Ok(_)) | None => Err(went_on(member)),
            });
            return failed.collect();
        };
        let here: Vec<Option<Outcome>> =
            here.into_iter().map(|marked| marked.map(Marked::flush)).collect();
        let away = at_once(members, Member::cut_away);
        let outcomes = here.into_iter().zip(away).zip(members);
        outcomes
            .map(|((here, away), member)| match away {
                Some(cut) => cut,
                None => match here.and_then(Outcome::wait) {
                    Some(cut) => cut.map_err(StoreError::from),
                    None => Err(went_on(member)),
                },
            })
            .collect()
    }

    /// Stops the members that are open here and marks their cuts; `None` when one does not stand.
    /// Entries of members at other machines are `None`.
    fn mark_here(
        &self,
        members: &[Member],
        watch: &Arc<dyn CutWatch>,
    ) -> Option<Vec<Option<Marked>>> {
        let _order = self.0.cutting.lock().unwrap_or_else(PoisonError::into_inner);
        let still: Vec<Option<Still>> =
            members.iter().map(|member| Some(member.lease()?.stand_still(watch))).collect();
        if !still.iter().flatten().all(Still::stands) {
            return None;
        }
        let still_and_members = still.iter().zip(members);
        Some(still_and_members.map(|(still, member)| still.as_ref()?.mark(member.cut)).collect())
    }
}

/// Prepares all members at once.
fn prepare(members: &[Member]) -> Vec<Result<(), StoreError>> {
    let begun: Vec<_> = members.iter().map(Member::prepare).collect();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = begun
            .into_iter()
            .map(|preparing| match preparing {
                Preparing::Away(call) => (None, Some(scope.spawn(call))),
                Preparing::Here(receiver) => (Some(receiver), None),
                Preparing::Closed => (None, None),
            })
            .collect();
        let finished = waiting.into_iter().zip(members);
        finished
            .map(|(waiting, member)| match waiting {
                (Some(receiver), _) => Ok(receiver.recv().map_err(|_| member.closed())??),
                (None, Some(call)) => call.join().unwrap_or_else(|_| Err(member.closed())),
                (None, None) => Err(member.closed()),
            })
            .collect()
    })
}

/// Makes a call to all members at other machines at once; `None` for those here.
fn at_once<T: Send>(
    members: &[Member],
    call: impl Fn(&Member, &Arc<dyn Borrower>) -> Result<T, StoreError> + Sync,
) -> Vec<Option<Result<T, StoreError>>> {
    let call = &call;
    std::thread::scope(|scope| {
        let calls: Vec<_> = members
            .iter()
            .map(|member| {
                member.borrower().map(|borrower| scope.spawn(move || call(member, borrower)))
            })
            .collect();
        let answers = calls.into_iter().zip(members);
        answers
            .map(|(call, member)| {
                call.map(|call| call.join().unwrap_or_else(|_| Err(member.closed())))
            })
            .collect()
    })
}

/// Drops the cuts that were made although others were not. A machine that did not answer may have
/// cut all the same.
fn undo(members: &[Member], outcomes: &[Result<CutInfo, StoreError>]) {
    for (outcome, member) in outcomes.iter().zip(members) {
        if !matches!(outcome, Ok(_) | Err(StoreError::Away { .. })) {
            continue;
        }
        let Member { id, cut, .. } = member;
        match member.drop_cut() {
            Ok(()) | Err(StoreError::Volume(Error::CutNotFound { .. })) => {}
            Err(error) => tracing::error!(%error, %id, %cut, "a cut was not undone"),
        }
    }
}
