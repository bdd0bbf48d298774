//! The size of an open volume, for those who show it to somebody: it may grow while it is open.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Called with the new size after a volume has grown. Runs on the thread that works on the volume:
/// it must not block, and must not call the volume.
pub type SizeWatcher = Box<dyn Fn(u64) + Send + Sync>;

/// The present size and who wants to know when it changes.
pub(super) struct Size {
    bytes: AtomicU64,
    watchers: Mutex<Vec<Arc<SizeWatcher>>>,
}

impl Size {
    pub(super) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicU64::new(bytes), watchers: Mutex::default() })
    }

    pub(super) fn get(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Takes note of the size, and tells the watchers if it is another one.
    pub(super) fn note(&self, bytes: u64) {
        if self.bytes.load(Ordering::Relaxed) == bytes {
            return;
        }
        self.bytes.store(bytes, Ordering::Release);
        // Called without the lock, so that a watcher may end its own watch.
        let watchers = self.watchers().clone();
        for watcher in watchers {
            watcher(bytes);
        }
    }

    fn watchers(&self) -> MutexGuard<'_, Vec<Arc<SizeWatcher>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A watch on a volume's size, until it is dropped. A call that has begun may still end after that.
#[must_use = "the watch ends when this is dropped"]
pub struct SizeWatch(Option<(Arc<Size>, Arc<SizeWatcher>)>);

impl SizeWatch {
    /// The watch on a size that never changes.
    pub fn never() -> Self {
        Self(None)
    }

    pub(super) fn begin(size: &Arc<Size>, watcher: SizeWatcher) -> Self {
        let watcher = Arc::new(watcher);
        size.watchers().push(Arc::clone(&watcher));
        Self(Some((Arc::clone(size), watcher)))
    }
}

impl Drop for SizeWatch {
    fn drop(&mut self) {
        if let Some((size, watcher)) = &self.0 {
            size.watchers().retain(|known| !Arc::ptr_eq(known, watcher));
        }
    }
}
