//! A volume at the machine that borrowed it, as the lender's calls meet it: some of them ask for
//! something that outlasts the call.

use super::handle::VolumeHandle;
use super::still::{Still, Unseen};
use super::{EngineAnswer, EngineCall, StoreError};
use crate::live::{CutId, Hold};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Holds of the stored state at one time.
const HOLDS_MAX: usize = 16;

/// The volume, and what the lender asked to hold.
pub struct LentVolume {
    handle: VolumeHandle,
    still: Mutex<Option<Still>>,
    holds: Mutex<BTreeMap<u64, Hold>>,
}

impl LentVolume {
    /// A volume over the lender's file.
    pub fn new(handle: VolumeHandle) -> Self {
        Self { handle, still: Mutex::default(), holds: Mutex::default() }
    }

    /// Makes a call of the lender's.
    ///
    /// # Errors
    /// What the engine answers; [`StoreError::WentOn`] where the volume should stand still and does
    /// not.
    pub fn call(&self, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        match call {
            EngineCall::PrepareCut(cut) => {
                self.handle.ask(move |engine| engine.prepare_cut(cut))??;
                self.handle.flush().map(|()| EngineAnswer::Done)
            }
            EngineCall::StandStill => self.stand_still(),
            EngineCall::CutStill(cut) => self.cut_still(cut),
            EngineCall::GoOn => {
                self.take_still();
                Ok(EngineAnswer::Done)
            }
            EngineCall::HoldState(name) => self.hold(name),
            EngineCall::StateStands(name) => {
                let holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
                Ok(EngineAnswer::Stands(holds.get(&name).is_some_and(Hold::stands)))
            }
            EngineCall::ReleaseState(name) => {
                self.holds.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                Ok(EngineAnswer::Done)
            }
            EngineCall::LetGo => {
                self.take_still();
                self.holds.lock().unwrap_or_else(PoisonError::into_inner).clear();
                Ok(EngineAnswer::Done)
            }
            EngineCall::Cut(_)
            | EngineCall::Cuts
            | EngineCall::ShowCut(_)
            | EngineCall::NoteExport { .. }
            | EngineCall::ExportedGeneration { .. }
            | EngineCall::DropCut(_)
            | EngineCall::Size
            | EngineCall::Resize { .. } => self.handle.call(call),
        }
    }

    fn stand_still(&self) -> Result<EngineAnswer, StoreError> {
        let closed = || StoreError::Closed { id: self.handle.id().clone() };
        // One that was asked for before goes on first: its lender has given it up.
        self.take_still();
        let still = self.handle.stand_still(&(Arc::new(Unseen) as _)).ok_or_else(closed)?;
        *self.still.lock().unwrap_or_else(PoisonError::into_inner) = Some(still);
        Ok(EngineAnswer::Done)
    }

    fn cut_still(&self, cut: CutId) -> Result<EngineAnswer, StoreError> {
        let went_on = || StoreError::WentOn { id: self.handle.id().clone() };
        // It goes on when it is marked.
        let marked = self.take_still().and_then(|still| still.mark(cut)).ok_or_else(went_on)?;
        Ok(EngineAnswer::Cut(marked.flush().wait().ok_or_else(went_on)??))
    }

    fn hold(&self, name: u64) -> Result<EngineAnswer, StoreError> {
        let hold = self.handle.ask(|engine| engine.pin().hold())?;
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        if holds.len() >= HOLDS_MAX {
            return Err(StoreError::InUse { id: self.handle.id().clone() });
        }
        holds.insert(name, hold);
        Ok(EngineAnswer::Done)
    }

    fn take_still(&self) -> Option<Still> {
        self.still.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
