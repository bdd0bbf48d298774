//! What the service asks of a volume without its data key, as data: the same call is made here when
//! the volume is closed or open in this process, and at another machine when the volume is lent.

#[cfg(doc)]
use super::STILL_TIME_MAX;
use super::registry::LentSlot;
use super::space::VolumeSpace;
use super::{StoreError, Volume};
use crate::live::{CutId, CutInfo, Error, Need, Space};
#[cfg(doc)]
use crate::live::{Engine, Hold, Pin};
use crate::page::StructureKey;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineCall {
    /// [`Engine::cut`].
    Cut(CutId),
    /// [`Engine::cuts`].
    Cuts,
    /// Has the superblock name a retained cut, so that others can read it.
    ShowCut(CutId),
    /// [`Engine::note_export`].
    NoteExport {
        /// The cut that was exported.
        cut: CutId,
        /// The id of its root.
        snapshot: [u8; 16],
    },
    /// [`Engine::exported_generation`].
    ExportedGeneration {
        /// The id of the root.
        snapshot: [u8; 16],
    },
    /// [`Engine::drop_cut`].
    DropCut(CutId),
    /// [`Engine::size`].
    Size,
    /// [`Engine::resize`].
    Resize {
        /// The new size.
        size_bytes: u64,
    },
    /// [`Engine::prepare_cut`], and a flush.
    PrepareCut(CutId),
    /// Acknowledge no write any more until one of the next two comes or [`STILL_TIME_MAX`] is over.
    /// Answered when the volume stands still.
    StandStill,
    /// Cut where the volume stands still, and go on.
    CutStill(CutId),
    /// Go on without a cut.
    GoOn,
    /// [`Pin::hold`], under a name of the caller's choice.
    HoldState(u64),
    /// [`Hold::stands`]; a hold that nobody knows of does not stand.
    StateStands(u64),
    /// Give up a hold.
    ReleaseState(u64),
    /// Give up whatever the lender had asked to hold: it is gone.
    LetGo,
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAnswer {
    /// It is done.
    Done,
    /// The cut that was taken.
    Cut(CutInfo),
    /// The retained cuts.
    Cuts(Vec<CutInfo>),
    /// The generation at which the volume equalled a snapshot.
    Generation(Option<u32>),
    /// Bytes in the volume.
    Size(u64),
    /// Whether a hold stands.
    Stands(bool),
}

impl EngineCall {
    /// Makes a call that is over at once.
    ///
    /// # Errors
    /// What the engine answers.
    pub(super) fn make(self, volume: &mut Volume) -> Result<EngineAnswer, Error> {
        let engine = volume.engine();
        match self {
            Self::Cut(id) => engine.cut(id).map(EngineAnswer::Cut),
            Self::Cuts => Ok(EngineAnswer::Cuts(engine.cuts())),
            Self::NoteExport { cut, snapshot } => {
                engine.note_export(cut, snapshot).map(|()| EngineAnswer::Done)
            }
            Self::ExportedGeneration { snapshot } => {
                Ok(EngineAnswer::Generation(engine.exported_generation(snapshot)))
            }
            Self::Size => Ok(EngineAnswer::Size(engine.size())),
            Self::Resize { size_bytes } => volume.resize(size_bytes).map(|()| EngineAnswer::Done),
            Self::ShowCut(_) | Self::DropCut(_) => unreachable!("{self:?} takes several steps"),
            Self::PrepareCut(_)
            | Self::StandStill
            | Self::CutStill(_)
            | Self::GoOn
            | Self::HoldState(_)
            | Self::StateStands(_)
            | Self::ReleaseState(_)
            | Self::LetGo => unreachable!("{self:?} is the business of a lent volume"),
        }
    }
}

/// Whoever has a lent volume open: the way to the machine that writes it.
pub trait Borrower: Send + Sync {
    /// Has it make a call and waits for the answer.
    ///
    /// # Errors
    /// [`StoreError::Away`] when the machine does not answer; otherwise what its engine says.
    fn call(&self, call: EngineCall) -> Result<EngineAnswer, StoreError>;
}

/// What the borrower of a volume works on.
pub struct Loan {
    /// The volume's file.
    pub disk: Arc<dyn crate::live::Disk>,
    /// The volume's own structure key.
    pub structure: StructureKey,
    /// Its line in the books of space goes before it may be opened, and have another, elsewhere.
    pub(super) slot: Mutex<Option<(VolumeSpace, LentSlot)>>,
    /// The last question for space was answered with no.
    pub(super) is_denied: AtomicBool,
}

impl Loan {
    /// Ends the loan, as dropping it does. Nothing must be able to write the volume through `disk`
    /// any more: it may be opened elsewhere when this returns.
    pub fn end(&self) {
        self.slot().take();
    }

    /// Bytes that the volume's file takes on its file system; `None` when that does not say.
    pub fn stored_bytes(&self) -> Option<u64> {
        self.slot().as_ref().and_then(|(space, _)| space.stored_bytes())
    }

    fn slot(&self) -> MutexGuard<'_, Option<(VolumeSpace, LentSlot)>> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark of a volume that is not lent, but away all the same: nobody opens it here.
pub struct Kept {
    pub(super) slot: Mutex<Option<LentSlot>>,
}

impl Kept {
    /// Gives the volume free, as dropping this does.
    pub fn end(&self) {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What the borrower's engine asks and tells of the place that the file lies in. A loan that has ended
/// gets nothing.
impl Space for Loan {
    fn ask(&self, need: Need) -> bool {
        let granted = self.slot().as_ref().is_some_and(|(space, _)| space.ask(need));
        self.is_denied.store(!granted, Ordering::Relaxed);
        granted
    }

    /// A machine is not taken at its word: only who was told no here has refused its guest.
    fn refused(&self) {
        if self.is_denied.swap(false, Ordering::Relaxed) {
            self.slot().iter().for_each(|(space, _)| space.refused());
        }
    }

    fn tell(&self, need: Need) {
        self.slot().iter().for_each(|(space, _)| space.tell(need));
    }

    fn is_short(&self) -> bool {
        self.slot().as_ref().is_some_and(|(space, _)| space.is_short())
    }
}
