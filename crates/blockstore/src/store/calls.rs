//! What the service asks of a volume without its data key, as data: the same call is made here when
//! the volume is closed or open in this process, and at another machine when the volume is lent.

use super::registry::LentSlot;
use super::{StoreError, Volume};
#[cfg(doc)]
use crate::live::Engine;
use crate::live::{CutId, CutInfo, Error};
use crate::page::StructureKey;
use std::sync::{Arc, Mutex, PoisonError};

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
    /// [`Engine::resize`].
    Resize {
        /// The new size.
        size_bytes: u64,
    },
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
}

impl EngineCall {
    /// Makes the call on an open volume.
    ///
    /// # Errors
    /// What the engine answers.
    pub fn make(self, volume: &mut Volume) -> Result<EngineAnswer, Error> {
        let engine = volume.engine();
        match self {
            Self::Cut(id) => engine.cut(id).map(EngineAnswer::Cut),
            Self::Cuts => Ok(EngineAnswer::Cuts(engine.cuts())),
            Self::ShowCut(id) => engine.open_cut(id, None).map(|_| EngineAnswer::Done),
            Self::NoteExport { cut, snapshot } => {
                engine.note_export(cut, snapshot).map(|()| EngineAnswer::Done)
            }
            Self::ExportedGeneration { snapshot } => {
                Ok(EngineAnswer::Generation(engine.exported_generation(snapshot)))
            }
            Self::DropCut(id) => engine.drop_cut(id).map(|()| EngineAnswer::Done),
            Self::Resize { size_bytes } => volume.resize(size_bytes).map(|()| EngineAnswer::Done),
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
    pub(super) slot: Mutex<Option<LentSlot>>,
}

impl Loan {
    /// Ends the loan, as dropping it does. Nothing must be able to write the volume through `disk`
    /// any more: it may be opened elsewhere when this returns.
    pub fn end(&self) {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
