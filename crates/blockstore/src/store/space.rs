//! The space of a store, shared out among its volumes before it is gone.
//!
//! A volume promises nothing about the size of its file: what the volumes of a store may hold
//! together can be far more than there is. Each open volume therefore asks before its log grows
//! ([`crate::live::Space`]), and is refused while a reserve is left that checkpoints, flushes and
//! cleaning can still use. Long before that somebody is told.

use super::{LOG, log_path};
use crate::live::{Need, Space};
use crate::snapshot::Floor;
use base::VolumeId;
use rustix::fs::statvfs;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a block in which the file system counts what a file takes (stat(2)).
const STAT_BLOCK_BYTES: u64 = 512;

/// How much a store may take.
#[derive(Clone, Copy, Debug)]
pub struct SpaceLimits {
    /// All volumes together; without it, as much as the file system has.
    pub capacity_bytes: Option<u64>,
    /// What must stay free in the file system.
    pub reserve_bytes: u64,
    /// Percent of the capacity that must be free, or the owner is warned.
    pub low_percent: u32,
}

impl SpaceLimits {
    /// The limits of a server.
    pub const fn server() -> Self {
        Self { capacity_bytes: None, reserve_bytes: 512 << 20, low_percent: 10 }
    }
}

/// How the space stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpaceLevel {
    /// There is enough.
    Ample,
    /// Less than [`SpaceLimits::low_percent`] is left: add space or delete volumes.
    Low,
    /// Writes that need more space are refused, and new snapshots wait where they lie on the same file
    /// system. Reads and discards go on, and cuts that keep little.
    Full,
}

/// How the space stands, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceReport {
    /// The verdict.
    pub level: SpaceLevel,
    /// Bytes the open volumes could still take.
    pub free_bytes: u64,
    /// Bytes there are for everything.
    pub capacity_bytes: u64,
}

/// Told when the level changes, on the thread whose request or work changed it: it must not block, and
/// must not call the store.
pub trait SpaceWatcher: Send + Sync {
    /// The level is another one now.
    fn space_changed(&self, report: SpaceReport);
}

/// The books of one store.
pub(super) struct Account {
    folder: PathBuf,
    limits: SpaceLimits,
    /// What each open volume needs.
    open: Mutex<Books>,
    /// Whether volumes should clean more than they must.
    short: AtomicBool,
    watcher: Mutex<Option<Arc<dyn SpaceWatcher>>>,
}

struct Books {
    volumes: HashMap<VolumeId, Noted>,
    level: SpaceLevel,
    /// When the files were last looked at, unless a volume was opened or closed since.
    measured: Option<Measured>,
}

/// What a volume needs.
#[derive(Clone, Copy)]
struct Noted {
    need: Need,
    /// The least upkeep it has needed while it was open: as much is never its guest's.
    steady: u64,
}

/// What the files of volumes take.
#[derive(Default)]
struct Taken {
    /// Logs of open volumes, which the volumes say that they hold.
    open: u64,
    /// Everything of volumes that are not open.
    closed: u64,
}

impl Books {
    fn note(&mut self, id: Option<&VolumeId>, need: Need, asked: Asked) {
        let Some(id) = id.filter(|_| asked != Asked::Refused) else { return };
        let before = self.volumes.get(id).map(|noted| noted.steady);
        let steady = before.map_or(need.upkeep, |before| before.min(need.upkeep));
        self.volumes.insert(id.clone(), Noted { need, steady });
        if before.is_none() {
            self.measured = None;
        }
    }

    fn forget(&mut self, id: &VolumeId) {
        self.volumes.remove(id);
        self.measured = None;
    }
}

/// Space as measured.
#[derive(Clone, Copy)]
struct Measured {
    /// Bytes the open volumes may need together.
    room: u64,
    capacity: u64,
    /// Bytes the file system had left.
    left: u64,
    /// Bytes that files may still grow by, the reserve among them, whatever anybody may need.
    growth: u64,
}

impl Measured {
    /// The room there surely is while the file system has so much left: what went since may all have gone
    /// to others.
    fn room_at_least(&self, left: u64) -> u64 {
        self.room.saturating_sub(self.left.saturating_sub(left))
    }
}

impl Account {
    pub(super) fn new(folder: PathBuf, limits: SpaceLimits) -> Self {
        let (volumes, level) = (HashMap::new(), SpaceLevel::Ample);
        let books = Books { volumes, level, measured: None };
        Self {
            folder,
            limits,
            open: Mutex::new(books),
            short: AtomicBool::new(false),
            watcher: Mutex::default(),
        }
    }

    pub(super) fn watch(&self, watcher: Arc<dyn SpaceWatcher>) {
        *self.watcher.lock().unwrap_or_else(PoisonError::into_inner) = Some(watcher);
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the file system how the space stands.
    fn measure(&self, books: &Books) -> io::Result<Measured> {
        let (left, total) = self.left_of_total()?;
        let taken = self.taken(books)?;
        let limit = self.limits.capacity_bytes.unwrap_or(u64::MAX);
        Ok(Measured {
            room: self.room(&taken, left),
            capacity: limit.min(total),
            left,
            growth: left.min(limit.saturating_sub(taken.open + taken.closed)),
        })
    }

    /// Whether so much and more is surely there, as far as that can be said without a look at every file:
    /// a volume asks with every segment it takes, and there may be thousands.
    fn is_plenty(&self, books: &Books, wanted: u64) -> bool {
        let Some(measured) = books.measured.filter(|_| books.level == SpaceLevel::Ample) else {
            return false;
        };
        let Ok((left, _)) = self.left_of_total() else { return false };
        let free = measured.room_at_least(left).checked_sub(wanted);
        free.is_some_and(|free| free >= self.warned(books, measured.capacity))
    }

    /// Bytes that the file system has left, and all that it has.
    fn left_of_total(&self) -> io::Result<(u64, u64)> {
        let system = statvfs(&self.folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        Ok((bytes(system.f_bavail), bytes(system.f_blocks)))
    }

    /// Bytes that should be free.
    fn low(&self, capacity: u64) -> u64 {
        capacity / 100 * u64::from(self.limits.low_percent)
    }

    /// Bytes that must be free besides what guests hold, or owners are warned. Guests are refused long
    /// before all is gone: upkeep needs what it always needs, and about as much again while they write.
    fn warned(&self, books: &Books, capacity: u64) -> u64 {
        let upkeep = sum(books.volumes.values().map(|noted| noted.steady));
        self.low(capacity).saturating_add(upkeep.saturating_mul(2))
    }

    fn taken(&self, books: &Books) -> io::Result<Taken> {
        let mut taken = Taken::default();
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let bytes = match stored_bytes(&path) {
                Ok(bytes) => bytes,
                // It was deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            match (is_open(&path, books), path.extension().is_some_and(|kind| kind == LOG)) {
                (true, true) => taken.open += bytes,
                // Its tail: the file system has no room for a log there, and the volume holds none of it.
                (true, false) => {}
                (false, _) => taken.closed += bytes,
            }
        }
        Ok(taken)
    }

    /// What the open volumes may need when the file system has so much left: that, beyond the reserve,
    /// and what their logs take already; and no more than was configured, less what closed ones take.
    fn room(&self, taken: &Taken, left: u64) -> u64 {
        let room = (taken.open + left).saturating_sub(self.limits.reserve_bytes);
        let limit = self.limits.capacity_bytes.unwrap_or(u64::MAX);
        room.min(limit.saturating_sub(taken.closed))
    }

    /// Reckons anew, with what a volume needs, or nobody more.
    fn settle(&self, id: Option<&VolumeId>, need: Need, asked: Asked) -> bool {
        let mut books = self.books();
        let others = books.volumes.iter().filter(|(other, _)| Some(*other) != id);
        let others = sum(others.map(|(_, noted)| total(noted.need)));
        let wanted = others.saturating_add(total(need));
        if asked != Asked::Refused && self.is_plenty(&books, wanted) {
            books.note(id, need, asked);
            drop(books);
            self.short.store(false, Ordering::Release);
            return true;
        }
        let measured = match self.measure(&books) {
            Ok(measured) => measured,
            Err(error) => {
                // Not knowing is no reason to stop the guests; the disk itself still refuses.
                tracing::warn!(%error, "the space of the volumes could not be measured");
                books.note(id, need, asked);
                return true;
            }
        };
        books.measured = Some(measured);
        let granted = match asked {
            Asked::No => true,
            Asked::ToGiveBack if need.upkeep <= measured.growth => true,
            Asked::Yes | Asked::ToGiveBack | Asked::Refused => wanted <= measured.room,
        };
        if granted {
            books.note(id, need, asked);
        }
        // What the guests hold is what they are warned of; what upkeep may need varies.
        let held = sum(books.volumes.values().map(|noted| noted.need.held));
        let free = measured.room.saturating_sub(held);
        let low = self.low(measured.capacity);
        let warned = self.warned(&books, measured.capacity);
        let level = match (asked, books.level) {
            (Asked::Refused, _) => SpaceLevel::Full,
            // Until the next checkpoint what is held is an estimate, and too high.
            (Asked::Yes | Asked::ToGiveBack, level) => level,
            // What was refused once will be asked for again: only real room ends the shortage.
            (Asked::No, SpaceLevel::Full) if free < low / 4 => SpaceLevel::Full,
            (Asked::No, SpaceLevel::Ample) if free >= warned => SpaceLevel::Ample,
            // A little more than the limit, so that the level does not flutter.
            (Asked::No, _) if free >= warned.saturating_add(low / 4) => SpaceLevel::Ample,
            (Asked::No, _) => SpaceLevel::Low,
        };
        let changed = level != books.level;
        books.level = level;
        drop(books);
        // Cleaning more than is due costs the guests speed: not before there is need.
        let short = !granted || level == SpaceLevel::Full || free < low / 4;
        self.short.store(short, Ordering::Release);
        if changed {
            self.report(SpaceReport { level, free_bytes: free, capacity_bytes: measured.capacity });
        }
        granted
    }

    fn report(&self, report: SpaceReport) {
        let folder = self.folder.display();
        let SpaceReport { level, free_bytes, capacity_bytes } = report;
        match level {
            SpaceLevel::Ample => {
                tracing::info!(%folder, free_bytes, capacity_bytes, "there is enough space again");
            }
            SpaceLevel::Low => {
                tracing::warn!(%folder, free_bytes, capacity_bytes, "space for volumes is low");
            }
            SpaceLevel::Full => {
                tracing::error!(
                    %folder,
                    free_bytes,
                    capacity_bytes,
                    "space for volumes is used up: writes are refused until there is more"
                );
            }
        }
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(watcher) = watcher {
            watcher.space_changed(report);
        }
    }
}

impl Floor for Account {
    fn bytes(&self) -> u64 {
        let upkeep = sum(self.books().volumes.values().map(|noted| noted.need.upkeep));
        self.limits.reserve_bytes.saturating_add(upkeep)
    }

    /// The volumes then clean what they can, and their owners are told.
    fn refused(&self) {
        self.settle(None, Need::default(), Asked::Refused);
    }

    /// Ends a shortage while no volume is open that would.
    fn admitted(&self) {
        let is_full = self.books().level == SpaceLevel::Full;
        if is_full {
            self.settle(None, Need::default(), Asked::No);
        }
    }
}

/// Whether a need is a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    /// For what gives space back.
    ToGiveBack,
    No,
    /// The answer was no, and that is what the guest was told.
    Refused,
}

fn total(need: Need) -> u64 {
    need.held.saturating_add(need.upkeep)
}

/// What volumes at other machines say is theirs to make up.
fn sum(parts: impl Iterator<Item = u64>) -> u64 {
    parts.fold(0, u64::saturating_add)
}

/// Bytes that a file takes on its file system.
fn stored_bytes(path: &Path) -> io::Result<u64> {
    Ok(path.metadata()?.blocks() * STAT_BLOCK_BYTES)
}

fn is_open(path: &Path, books: &Books) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str());
    name.and_then(|name| VolumeId::parse(name).ok())
        .is_some_and(|id| books.volumes.contains_key(&id))
}

/// One open volume's line in the books, for as long as it is open.
pub(super) struct VolumeSpace {
    account: Arc<Account>,
    id: VolumeId,
}

impl VolumeSpace {
    pub(super) fn new(account: &Arc<Account>, id: &VolumeId) -> Self {
        Self { account: Arc::clone(account), id: id.clone() }
    }

    /// Bytes that the volume's log takes; `None` when the file system does not say.
    pub(super) fn stored_bytes(&self) -> Option<u64> {
        stored_bytes(&log_path(&self.account.folder, &self.id)).ok()
    }
}

impl Space for VolumeSpace {
    fn ask(&self, need: Need) -> bool {
        self.account.settle(Some(&self.id), need, Asked::Yes)
    }

    fn ask_to_give_back(&self, need: Need) -> bool {
        self.account.settle(Some(&self.id), need, Asked::ToGiveBack)
    }

    fn refused(&self) {
        self.account.settle(Some(&self.id), Need::default(), Asked::Refused);
    }

    fn tell(&self, need: Need) {
        self.account.settle(Some(&self.id), need, Asked::No);
    }

    fn is_short(&self) -> bool {
        self.account.short.load(Ordering::Acquire)
    }
}

impl Drop for VolumeSpace {
    fn drop(&mut self) {
        self.account.books().forget(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::{EngineConfig, OpenOptions, VolumeOptions};
    use crate::page::DataKey;
    use crate::store::{Store, StoreConfig, VolumeHandle};
    use base::{OsRng, Secret};

    const MIB: u64 = 1 << 20;

    fn open(store: &Store, name: &str) -> VolumeHandle {
        let id = VolumeId::parse(name).unwrap();
        let options = VolumeOptions { size_bytes: 64 * MIB, key_check: None, base: None };
        store.create_volume(&id, &options).unwrap();
        let data_key = Some(DataKey::new(&Secret::new([3; 64])));
        store.open_volume(&id, OpenOptions { data_key, base: None, writer: None }).unwrap()
    }

    /// Bytes of the files of a kind.
    fn bytes_of(folder: &Path, kind: &str) -> u64 {
        let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let paths = paths.filter(|path| path.extension().is_some_and(|found| found == kind));
        paths.map(|path| path.metadata().unwrap().blocks() * STAT_BLOCK_BYTES).sum()
    }

    #[test]
    fn tails_larger_than_the_reserve_leave_it_alone() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = 20 * MIB;
        let space = SpaceLimits { reserve_bytes: reserve, ..SpaceLimits::server() };
        let config = StoreConfig { engine: EngineConfig::tiny(), space, ..StoreConfig::server() };
        let key = Secret::new([9; 32]);
        let store = Store::open(folder.path(), key, Arc::new(OsRng), config).unwrap();
        let handles = ["vol-0000000a", "vol-0000000b"].map(|name| open(&store, name));
        for handle in &handles {
            handle.write(0, vec![7; MIB as usize]).unwrap();
            handle.flush().unwrap();
        }
        let account = &store.0.account;
        let (logs, tails) = (bytes_of(&account.folder, LOG), bytes_of(&account.folder, "tail"));
        assert!(logs >= 2 * MIB && tails > reserve, "{logs} and {tails} bytes");
        let taken = account.taken(&account.books()).unwrap();
        assert_eq!((taken.open, taken.closed), (logs, 0));
        assert_eq!(account.room(&taken, reserve + MIB), logs + MIB);
        // What is left is half of the reserve: the logs may not even keep what they have.
        assert_eq!(account.room(&taken, reserve / 2), logs.saturating_sub(reserve / 2));
        handles.into_iter().for_each(|handle| handle.close().unwrap());
        let taken = account.taken(&account.books()).unwrap();
        assert_eq!((taken.open, taken.closed), (0, bytes_of(&account.folder, LOG)));
    }

    #[derive(Default)]
    struct Levels(Mutex<Vec<SpaceLevel>>);

    impl SpaceWatcher for Levels {
        fn space_changed(&self, report: SpaceReport) {
            self.0.lock().unwrap().push(report.level);
        }
    }

    #[test]
    fn what_open_volumes_may_take_is_left_to_them_and_a_shortage_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let space = SpaceLimits { low_percent: 0, ..SpaceLimits::server() };
        let config = StoreConfig { engine: EngineConfig::tiny(), space, ..StoreConfig::server() };
        let key = Secret::new([9; 32]);
        let store = Store::open(folder.path(), key, Arc::new(OsRng), config).unwrap();
        let levels = Arc::new(Levels::default());
        store.watch_space(Arc::clone(&levels) as Arc<dyn SpaceWatcher>);
        let floor = store.floor(folder.path()).unwrap().expect("it lies on the same disk");
        // No disk with files is behind what the kernel makes up.
        assert!(store.floor(Path::new("/proc")).unwrap().is_none());
        assert_eq!(floor.bytes(), space.reserve_bytes);
        let handle = open(&store, "vol-0000000a");
        handle.write(0, vec![7; MIB as usize]).unwrap();
        // A segment of the map and one of moved pages at least.
        assert!(floor.bytes() >= space.reserve_bytes + (256 << 10), "{}", floor.bytes());
        handle.close().unwrap();
        assert_eq!(floor.bytes(), space.reserve_bytes);
        floor.admitted();
        assert!(levels.0.lock().unwrap().is_empty());
        for _ in 0..3 {
            floor.refused();
        }
        floor.admitted();
        floor.admitted();
        assert_eq!(*levels.0.lock().unwrap(), [SpaceLevel::Full, SpaceLevel::Ample]);
    }

    #[test]
    fn needs_without_end_leave_the_sums_right() {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { engine: EngineConfig::tiny(), ..StoreConfig::server() };
        let key = Secret::new([9; 32]);
        let store = Store::open(folder.path(), key, Arc::new(OsRng), config).unwrap();
        let account = &store.0.account;
        let spaces = ["vol-0000000a", "vol-0000000b", "vol-0000000c"]
            .map(|name| VolumeSpace::new(account, &VolumeId::parse(name).unwrap()));
        let half = Need { held: 1 << 63, upkeep: 1 << 63 };
        spaces[..2].iter().for_each(|space| space.tell(half));
        assert!(!spaces[2].ask(Need { held: 1, upkeep: 0 }), "the sum begins anew");
        assert_eq!(account.bytes(), u64::MAX);
    }

    /// What others may need some day keeps nobody from giving space back, and owners are warned in time.
    #[test]
    fn volumes_that_hold_nothing_warn_early_and_keep_no_discard_away() {
        let folder = tempfile::tempdir().unwrap();
        let space = SpaceLimits { capacity_bytes: Some(100 * MIB), ..SpaceLimits::server() };
        let account = Arc::new(Account::new(folder.path().to_owned(), space));
        let levels = Arc::new(Levels::default());
        account.watch(Arc::clone(&levels) as Arc<dyn SpaceWatcher>);
        let [ours, other] = ["vol-0000000a", "vol-0000000b"]
            .map(|name| VolumeSpace::new(&account, &VolumeId::parse(name).unwrap()));
        let need = |held: u64, upkeep: u64| Need { held: held * MIB, upkeep: upkeep * MIB };
        ours.tell(need(50, 12));
        assert!(levels.0.lock().unwrap().is_empty(), "34 should be free, and 50 are");
        // Another that holds little: upkeep of both is no guest's any more.
        other.tell(need(4, 12));
        assert_eq!(*levels.0.lock().unwrap(), [SpaceLevel::Low]);
        assert!(ours.ask(need(70, 12)), "98 of 100");
        assert!(!ours.ask(need(80, 12)));
        assert!(ours.ask_to_give_back(need(80, 12)), "the files take nothing at all");
        assert!(!ours.ask_to_give_back(need(80, 101)));
    }

    /// Where there is plenty files are not looked at again, and where there may not be, they are.
    #[test]
    fn files_are_looked_at_when_space_may_be_short() {
        let folder = tempfile::tempdir().unwrap();
        let space = SpaceLimits { capacity_bytes: Some(100 * MIB), ..SpaceLimits::server() };
        let account = Arc::new(Account::new(folder.path().to_owned(), space));
        let volume = VolumeSpace::new(&account, &VolumeId::parse("vol-0000000a").unwrap());
        let need = |mib: u64| Need { held: mib * MIB, upkeep: 0 };
        volume.tell(need(1));
        assert!(account.books().measured.is_none(), "its file counted as that of a closed one");
        volume.tell(need(1));
        let measured = account.books().measured.unwrap();
        assert_eq!((measured.room, measured.capacity), (100 * MIB, 100 * MIB));
        // What is found shows whether somebody looked.
        let pretend = |room: u64| {
            account.books().measured = Some(Measured { room: room * MIB, ..measured });
        };
        let found = || account.books().measured.unwrap().room / MIB;
        pretend(200);
        assert!(volume.ask(need(110)));
        assert_eq!(found(), 200, "enough for that, and for what should be free");
        assert!(!volume.ask(need(195)));
        assert_eq!(found(), 100);
        assert!(volume.is_short());
        pretend(5);
        assert!(volume.ask(need(50)));
        assert_eq!(found(), 100);
        assert!(!volume.is_short());
        drop(volume);
        assert!(account.books().measured.is_none(), "its file is that of a closed one");
        // Whatever went may have gone to others; what came back may be a volume's own.
        assert_eq!(measured.room_at_least(measured.left - MIB), 99 * MIB);
        assert_eq!(measured.room_at_least(measured.left + MIB), 100 * MIB);
        assert_eq!(measured.room_at_least(0), 0);
    }
}
