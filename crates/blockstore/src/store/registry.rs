//! Which volumes are open, by how many users, and which cuts are being read.

use super::owner::Queue;
use super::{Borrower, Inner, StoreError};
use crate::live::{self, CutId};
use base::VolumeId;
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// How long lending a volume waits for a cut or an export to let go of it.
const LEND_WAIT_MAX: Duration = Duration::from_secs(10);

/// The registry. Opening, closing and deleting a volume exclude each other here.
#[derive(Default)]
pub(super) struct Registry {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    volumes: HashMap<VolumeId, Slot>,
    pins: HashMap<(VolumeId, CutId), usize>,
    /// Shared by a volume's engine, whenever there is one, and those who read beside it.
    stored_states: HashMap<VolumeId, Weak<live::Pin>>,
}

enum Slot {
    /// Somebody opens, closes, creates or deletes it.
    Busy,
    Open {
        queue: Queue,
        users: usize,
    },
    /// Another machine has it open.
    Lent(Arc<dyn Borrower>),
}

/// What a caller found.
pub(super) enum Found<'a> {
    /// The volume is open; the caller is counted as a user.
    Open(Queue),
    /// Another machine has it open.
    Lent(Arc<dyn Borrower>),
    /// It is not, and nobody else can open it before this is dropped or filled.
    Reserved(Reservation<'a>),
}

/// The right to open, create or delete a volume.
pub(super) struct Reservation<'a> {
    registry: &'a Registry,
    id: VolumeId,
}

/// A volume's mark of being lent; taken back when dropped.
pub(super) struct LentSlot {
    store: Arc<Inner>,
    id: VolumeId,
}

impl Drop for LentSlot {
    fn drop(&mut self) {
        let registry = &self.store.registry;
        registry.state().volumes.remove(&self.id);
        registry.changed.notify_all();
    }
}

/// A cut that must not be dropped.
pub(super) struct Pin {
    store: Arc<Inner>,
    key: (VolumeId, CutId),
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.store.registry.state();
        if let Some(count) = state.pins.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&self.key);
            }
        }
    }
}

impl Registry {
    /// Joins the users of an open volume, or reserves a closed one. Waits while it is busy.
    pub(super) fn join(&self, id: &VolumeId) -> Found<'_> {
        let mut state = self.state();
        loop {
            match state.volumes.get_mut(id) {
                None => {
                    state.volumes.insert(id.clone(), Slot::Busy);
                    return Found::Reserved(Reservation { registry: self, id: id.clone() });
                }
                Some(Slot::Open { queue, users }) => {
                    *users += 1;
                    return Found::Open(queue.clone());
                }
                Some(Slot::Lent(borrower)) => return Found::Lent(Arc::clone(borrower)),
                Some(Slot::Busy) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Whether a volume has users.
    pub(super) fn is_open(&self, id: &VolumeId) -> bool {
        matches!(self.state().volumes.get(id), Some(Slot::Open { .. }))
    }

    /// Joins the users of a volume if it is open.
    pub(super) fn join_open(&self, id: &VolumeId) -> Option<Queue> {
        match self.state().volumes.get_mut(id) {
            Some(Slot::Open { queue, users }) => {
                *users += 1;
                Some(queue.clone())
            }
            Some(Slot::Busy | Slot::Lent(_)) | None => None,
        }
    }

    /// The pin of a volume's stored state: one for all who ask while any of them keeps it.
    pub(super) fn stored_state(&self, id: &VolumeId) -> Arc<live::Pin> {
        let states = &mut self.state().stored_states;
        if let Some(pin) = states.get(id).and_then(Weak::upgrade) {
            return pin;
        }
        states.retain(|_, pin| pin.strong_count() > 0);
        let pin = Arc::new(live::Pin::default());
        states.insert(id.clone(), Arc::downgrade(&pin));
        pin
    }

    /// Reserves a volume that nobody uses, cuts included.
    pub(super) fn reserve(&self, id: &VolumeId) -> Result<Reservation<'_>, StoreError> {
        let in_use = || StoreError::InUse { id: id.clone() };
        let mut state = self.state();
        loop {
            // Each time: who opens a cut pins it and then makes the volume busy.
            if state.pins.keys().any(|(pinned, _)| pinned == id) {
                return Err(in_use());
            }
            match state.volumes.get(id) {
                None => {
                    state.volumes.insert(id.clone(), Slot::Busy);
                    return Ok(Reservation { registry: self, id: id.clone() });
                }
                Some(Slot::Open { .. } | Slot::Lent(_)) => return Err(in_use()),
                Some(Slot::Busy) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// The machine that has a volume open, if it is another.
    pub(super) fn borrower(&self, id: &VolumeId) -> Option<Arc<dyn Borrower>> {
        match self.state().volumes.get(id) {
            Some(Slot::Lent(borrower)) => Some(Arc::clone(borrower)),
            Some(Slot::Open { .. } | Slot::Busy) | None => None,
        }
    }

    /// Marks a volume as open at another machine. Waits for whoever uses it for a moment, and gives up
    /// when it stays in use.
    pub(super) fn lend(
        store: &Arc<Inner>,
        id: &VolumeId,
        borrower: Arc<dyn Borrower>,
    ) -> Result<LentSlot, StoreError> {
        let mut state = store.registry.await_unused(id, LEND_WAIT_MAX)?;
        // Its engine will not know who reads the stored state here.
        if let Some(pin) = state.stored_states.get(id).and_then(Weak::upgrade) {
            pin.overtake();
        }
        state.volumes.insert(id.clone(), Slot::Lent(borrower));
        Ok(LentSlot { store: Arc::clone(store), id: id.clone() })
    }

    /// Waits until nobody uses a volume, so long at most, however often others come and go.
    fn await_unused(
        &self,
        id: &VolumeId,
        wait_max: Duration,
    ) -> Result<MutexGuard<'_, State>, StoreError> {
        let is_used = |state: &mut State| {
            matches!(state.volumes.get(id), Some(Slot::Open { .. } | Slot::Busy))
        };
        let waited = self.changed.wait_timeout_while(self.state(), wait_max, is_used);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.volumes.get(id) {
            None => Ok(state),
            Some(Slot::Open { .. } | Slot::Busy | Slot::Lent(_)) => {
                Err(StoreError::InUse { id: id.clone() })
            }
        }
    }

    /// Gives up a use that was counted. The last user gets the right to close the volume.
    pub(super) fn leave(&self, id: &VolumeId) -> Option<Reservation<'_>> {
        let mut state = self.state();
        let Some(Slot::Open { users, .. }) = state.volumes.get_mut(id) else { return None };
        *users -= 1;
        (*users == 0).then(|| {
            state.volumes.insert(id.clone(), Slot::Busy);
            Reservation { registry: self, id: id.clone() }
        })
    }

    /// Keeps a cut from being dropped.
    pub(super) fn pin(store: &Arc<Inner>, id: &VolumeId, cut: CutId) -> Pin {
        let key = (id.clone(), cut);
        *store.registry.state().pins.entry(key.clone()).or_default() += 1;
        Pin { store: Arc::clone(store), key }
    }

    /// Whether a cut may be dropped. For who has the volume's desk the answer holds: whoever will read the
    /// cut has pinned it before coming there.
    pub(super) fn check_unpinned(&self, id: &VolumeId, cut: CutId) -> Result<(), StoreError> {
        if self.state().pins.contains_key(&(id.clone(), cut)) {
            return Err(StoreError::CutInUse { id: id.clone(), cut });
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reservation<'_> {
    /// The volume is open now, with one user.
    pub(super) fn fill(self, queue: Queue) {
        self.registry.state().volumes.insert(self.id.clone(), Slot::Open { queue, users: 1 });
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        let mut state = self.registry.state();
        if matches!(state.volumes.get(&self.id), Some(Slot::Busy)) {
            state.volumes.remove(&self.id);
        }
        self.registry.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Store, StoreConfig, Volume};
    use super::*;
    use crate::live::{EngineConfig, OpenOptions, VolumeOptions};
    use base::{OsRng, Secret};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;

    fn volume() -> VolumeId {
        "vol-00000001".parse().unwrap()
    }

    fn cut() -> CutId {
        CutId::new("snap-1").unwrap()
    }

    /// A store with a volume that has a cut.
    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { engine: EngineConfig::tiny(), ..StoreConfig::server() };
        let store = Store::open(folder.path(), Secret::new([9; 32]), Arc::new(OsRng), config);
        let store = store.unwrap();
        let options = VolumeOptions { size_bytes: 8 << 20, key_check: None, base: None };
        store.create_volume(&volume(), &options).unwrap();
        store.cut(&volume(), cut()).unwrap();
        (folder, store)
    }

    fn users(registry: &Registry) -> usize {
        match registry.state().volumes.get(&volume()) {
            Some(Slot::Open { users, .. }) => *users,
            Some(Slot::Busy | Slot::Lent(_)) | None => 0,
        }
    }

    /// Also one that is pinned while the request to drop it waits for the volume.
    #[test]
    fn a_pinned_cut_is_not_dropped() {
        let (_folder, store) = store();
        let handle = store.open_volume(&volume(), OpenOptions::default()).unwrap();
        let (go_on, told) = mpsc::channel();
        let busy = move |_: &mut Volume| told.recv().unwrap();
        assert!(handle.submit(Box::new(busy)).is_ok());
        std::thread::scope(|scope| {
            let dropping = scope.spawn(|| store.drop_cut(&volume(), cut()));
            while users(&store.0.registry) < 2 {
                std::thread::yield_now();
            }
            let pin = Registry::pin(&store.0, &volume(), cut());
            go_on.send(()).unwrap();
            let dropped = dropping.join().unwrap();
            assert!(matches!(dropped, Err(StoreError::CutInUse { .. })), "{dropped:?}");
            drop(pin);
        });
        store.drop_cut(&volume(), cut()).unwrap();
        handle.close().unwrap();
    }

    /// Also one of which a cut is pinned while the request waits for who is busy with it.
    #[test]
    fn a_volume_with_a_pinned_cut_is_not_reserved() {
        let (_folder, store) = store();
        let registry = &store.0.registry;
        let Found::Reserved(busy) = registry.join(&volume()) else { panic!("nobody has it open") };
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || sender.send(registry.reserve(&volume()).map(drop)).unwrap());
            // It waits.
            assert!(receiver.recv_timeout(Duration::from_millis(50)).is_err());
            let _pin = Registry::pin(&store.0, &volume(), cut());
            drop(busy);
            let reserved = receiver.recv().unwrap();
            assert!(matches!(reserved, Err(StoreError::InUse { .. })), "{reserved:?}");
        });
        assert!(registry.reserve(&volume()).is_ok());
    }

    #[test]
    fn a_busy_volume_is_waited_for_once_however_much_others_change() {
        let registry = Registry::default();
        let Found::Reserved(busy) = registry.join(&volume()) else { panic!("nobody has it open") };
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| {
                (0..5_000).find(|_| {
                    registry.changed.notify_all();
                    std::thread::sleep(Duration::from_millis(1));
                    is_over.load(Ordering::SeqCst)
                })
            });
            let waited = registry.await_unused(&volume(), Duration::from_millis(50)).map(drop);
            is_over.store(true, Ordering::SeqCst);
            assert!(matches!(waited, Err(StoreError::InUse { .. })), "{waited:?}");
            assert!(changing.join().unwrap().is_some(), "it was waited for until nothing changed");
        });
        drop(busy);
        assert!(registry.await_unused(&volume(), Duration::ZERO).is_ok());
    }
}
