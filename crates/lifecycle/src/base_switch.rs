//! What open volumes read where they were never written, exchangeable while they are open.
//!
//! A base that was sealed anew holds what the old one held, page for page. Whoever has the volume open,
//! here or at another machine, reads through one of these and does not notice the exchange but by the
//! data key that opens what it reads.

use base::VolumeId;
use blockstore::page::{BasePage, BaseReader, Lba, SourceError};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// One volume's base.
pub(crate) struct SwitchedBase(Arc<Current>);

type Current = RwLock<Arc<dyn BaseReader>>;

impl SwitchedBase {
    fn current(&self) -> Arc<dyn BaseReader> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl BaseReader for SwitchedBase {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        self.current().read_page(lba)
    }

    fn read_page_proven(&self, lba: Lba) -> Result<BasePage, SourceError> {
        self.current().read_page_proven(lba)
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        self.current().has_block(block)
    }
}

/// The bases of a region that are in use.
#[derive(Clone, Default)]
pub(crate) struct BaseSwitches(Arc<Mutex<BTreeMap<VolumeId, Vec<Weak<Current>>>>>);

impl BaseSwitches {
    /// A base that [`BaseSwitches::switch`] reaches for as long as it lives.
    pub(crate) fn serve(&self, volume: &VolumeId, reader: Arc<dyn BaseReader>) -> SwitchedBase {
        let current = Arc::new(RwLock::new(reader));
        let mut bases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bases.retain(|_, served| {
            served.retain(|base| base.strong_count() > 0);
            !served.is_empty()
        });
        bases.entry(volume.clone()).or_default().push(Arc::downgrade(&current));
        SwitchedBase(current)
    }

    /// Has every base of a volume read from `reader`.
    pub(crate) fn switch(&self, volume: &VolumeId, reader: Arc<dyn BaseReader>) {
        let bases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for base in bases.get(volume).into_iter().flatten().filter_map(Weak::upgrade) {
            *base.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&reader);
        }
    }
}
