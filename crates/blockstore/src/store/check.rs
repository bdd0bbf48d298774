//! Checking volumes where they lie, whether somebody has them open or not.

use super::handle::{Joined, Lease};
use super::{Borrower, EngineAnswer, EngineCall, Inner, Store, StoreError};
use crate::check::{CheckWatch, Fault, Stopped};
use crate::live::{
    Corrections, CutId, Disk, Error, Hold, InspectJob, OpenOptions, VolumeReport, inspect,
};
use crate::page::KeyAtHand;
use base::VolumeId;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a check begins anew when the volume overtakes it.
const ATTEMPTS_MAX: u32 = 3;

/// Why a volume could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The check ended early.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// The volume could not be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// Checks everything the stored state of a volume names, and changes nothing. Nobody has to
    /// open or close it for that; whoever has it open goes on. `base` is what it should fall
    /// through to, if that is known. Pages are opened where `key` is at hand.
    ///
    /// # Errors
    /// When the volume does not exist or cannot be read at all, or the check ended early. Damage
    /// is no error: it is in the report.
    pub fn check_volume(
        &self,
        id: &VolumeId,
        base: Option<Option<CutId>>,
        key: &dyn KeyAtHand,
        watch: &dyn CheckWatch,
    ) -> Result<VolumeReport, CheckError> {
        self.checked(id, base, key, watch).map(|(report, _)| report)
    }

    /// As [`Store::check_volume`]; then makes the segment table's counts and both superblocks
    /// right, if those were wrong and everything they are derived from was readable. Answers
    /// whether something was stored; under the engine of another machine nothing is.
    ///
    /// # Errors
    /// As [`Store::check_volume`], or when the volume cannot be opened or its disk fails.
    pub fn repair_volume(
        &self,
        id: &VolumeId,
        base: Option<Option<CutId>>,
        key: &dyn KeyAtHand,
        watch: &dyn CheckWatch,
    ) -> Result<(VolumeReport, bool), CheckError> {
        let (report, kept) = self.checked(id, base, key, watch)?;
        let is_due = !report.corrections.is_empty() || report.findings.has(Fault::SuperblockSlot);
        if !is_due || report.findings.has(Fault::Superblock) || kept.away.is_some() {
            return Ok((report, false));
        }
        // While the hold stands no segment has been given back since it was counted.
        if !kept.hold.stands() {
            return Err(Stopped::Overtaken.into());
        }
        Lease::join_corrected(&self.0, id, &report.corrections)?.end()?;
        Ok((report, true))
    }

    fn checked(
        &self,
        id: &VolumeId,
        base: Option<Option<CutId>>,
        key: &dyn KeyAtHand,
        watch: &dyn CheckWatch,
    ) -> Result<(VolumeReport, Kept), CheckError> {
        let inner = &self.0;
        let mut attempt = 1;
        loop {
            // Before anything is read; see `Pin`.
            let kept = Kept::begin(inner, id)?;
            let disk: Arc<dyn Disk> = inner.disk(id)?;
            let job = InspectJob {
                structure: inner.structure(id),
                config: inner.config.engine,
                base,
                key,
                watch,
                hold: &kept.hold,
            };
            let inspected = inspect(&disk, Arc::clone(&inner.rng), job);
            let inspected = match inspected {
                Ok(_) if !kept.stood() => Err(Stopped::Overtaken),
                inspected => inspected,
            };
            match inspected {
                Err(Stopped::Overtaken) if attempt < ATTEMPTS_MAX => attempt += 1,
                outcome => return Ok((outcome?, kept)),
            }
        }
    }
}

/// Keeps the stored state of a volume where it is, until dropped.
struct Kept {
    /// Against the engine here. At another machine it ends when the volume comes back or is lent again.
    hold: Hold,
    away: Option<KeptAway>,
}

/// The same by the engine at another machine.
struct KeptAway {
    borrower: Arc<dyn Borrower>,
    name: u64,
}

impl Kept {
    fn begin(store: &Arc<Inner>, id: &VolumeId) -> Result<Self, StoreError> {
        let hold = store.registry.stored_state(id).hold();
        let away = store.registry.borrower(id).map(|borrower| {
            let name = store.holds.fetch_add(1, Ordering::Relaxed);
            borrower.call(EngineCall::HoldState(name))?;
            Ok::<_, StoreError>(KeptAway { borrower, name })
        });
        Ok(Self { hold, away: away.transpose()? })
    }

    /// Whether everything was kept until now.
    fn stood(&self) -> bool {
        self.hold.stands() && self.away.as_ref().is_none_or(KeptAway::stands)
    }
}

impl KeptAway {
    /// A machine that does not answer may have forgotten.
    fn stands(&self) -> bool {
        let answer = self.borrower.call(EngineCall::StateStands(self.name));
        matches!(answer, Ok(EngineAnswer::Stands(true)))
    }
}

impl Drop for KeptAway {
    fn drop(&mut self) {
        if let Err(error) = self.borrower.call(EngineCall::ReleaseState(self.name)) {
            // It lets go when it notices that its connection has ended.
            tracing::info!(%error, "the end of a check was not heard");
        }
    }
}

impl Lease {
    /// Joins the users of a volume and corrects it; if nobody has it open, before anything is read
    /// from it: recovery allocates segments, and believes the table.
    fn join_corrected(
        store: &Arc<Inner>,
        id: &VolumeId,
        corrections: &Corrections,
    ) -> Result<Self, StoreError> {
        if let Some(lease) = Self::join_open(store, id) {
            let corrections = corrections.clone();
            let corrected = lease.call(move |volume| volume.engine().correct(&corrections))?;
            corrected.map_err(|error: Error| StoreError::from(error))?;
            return Ok(lease);
        }
        let joined = Self::join_with(store, id, |store| {
            store.open_engine_corrected(id, OpenOptions::default(), corrections)
        })?;
        match joined {
            Joined::Here(lease) => Ok(lease),
            Joined::Lent(_) => Err(StoreError::InUse { id: id.clone() }),
        }
    }
}
