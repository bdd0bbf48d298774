//! The space of a store, shared out among its volumes before it is gone.
//!
//! A volume promises nothing about the size of its file: what the volumes of a store may hold
//! together can be far more than there is. Each open volume therefore asks before its log grows
//! ([`crate::live::Space`]), and is refused while a reserve is left that checkpoints, flushes and
//! cleaning can still use. Long before that somebody is told.

use crate::live::{Need, Space};
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
    /// Writes that need more space are refused. Reads, discards and snapshots go on.
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

/// Told when the level changes, on the thread of the volume whose request changed it: it must not
/// block, and must not call the store.
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
    volumes: HashMap<VolumeId, Need>,
    level: SpaceLevel,
}

/// Space as measured.
struct Measured {
    /// Bytes the open volumes may need together.
    room: u64,
    capacity: u64,
}

impl Account {
    pub(super) fn new(folder: PathBuf, limits: SpaceLimits) -> Self {
        let books = Books { volumes: HashMap::new(), level: SpaceLevel::Ample };
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

    /// What the open volumes may need: what the file system has left, beyond the reserve, and what
    /// their files take already; and no more than was configured, less what closed ones take.
    fn measure(&self, books: &Books) -> io::Result<Measured> {
        let system = statvfs(&self.folder)?;
        let left = system.f_bavail.saturating_mul(system.f_frsize);
        let (mut open, mut closed) = (0, 0);
        for entry in std::fs::read_dir(&self.folder)? {
            let path = entry?.path();
            match std::fs::metadata(&path) {
                Ok(file) if is_open(&path, books) => open += file.blocks() * STAT_BLOCK_BYTES,
                Ok(file) => closed += file.blocks() * STAT_BLOCK_BYTES,
                // It was deleted meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let room = (open + left).saturating_sub(self.limits.reserve_bytes);
        let total = system.f_blocks.saturating_mul(system.f_frsize);
        Ok(match self.limits.capacity_bytes {
            None => Measured { room, capacity: total },
            Some(limit) => Measured {
                room: room.min(limit.saturating_sub(closed)),
                capacity: limit.min(total),
            },
        })
    }

    fn settle(&self, id: &VolumeId, need: Need, asked: Asked) -> bool {
        let mut books = self.books();
        let others: u64 =
            books.volumes.iter().filter(|(other, _)| *other != id).map(|(_, n)| total(*n)).sum();
        let measured = match self.measure(&books) {
            Ok(measured) => measured,
            Err(error) => {
                // Not knowing is no reason to stop the guests; the disk itself still refuses.
                tracing::warn!(%error, "the space of the volumes could not be measured");
                if asked != Asked::Refused {
                    books.volumes.insert(id.clone(), need);
                }
                return true;
            }
        };
        let wanted = others.saturating_add(total(need));
        let granted = asked == Asked::No || wanted <= measured.room;
        if granted && asked != Asked::Refused {
            books.volumes.insert(id.clone(), need);
        }
        // What the guests hold is what they are warned of; what upkeep may need varies.
        let held: u64 = books.volumes.values().map(|need| need.held).sum();
        let free = measured.room.saturating_sub(held);
        let low = measured.capacity / 100 * u64::from(self.limits.low_percent);
        let level = match (asked, books.level) {
            (Asked::Refused, _) => SpaceLevel::Full,
            // Until the next checkpoint what is held is an estimate, and too high.
            (Asked::Yes, level) => level,
            // What was refused once will be asked for again: only real room ends the shortage.
            (Asked::No, SpaceLevel::Full) if free < low / 4 => SpaceLevel::Full,
            (Asked::No, SpaceLevel::Ample) if free >= low => SpaceLevel::Ample,
            // A little more than the limit, so that the level does not flutter.
            (Asked::No, _) if free >= low + low / 4 => SpaceLevel::Ample,
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

/// Whether a need is a question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Yes,
    No,
    /// The answer was no, and that is what the guest was told.
    Refused,
}

fn total(need: Need) -> u64 {
    need.held.saturating_add(need.upkeep)
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
}

impl Space for VolumeSpace {
    fn ask(&self, need: Need) -> bool {
        self.account.settle(&self.id, need, Asked::Yes)
    }

    fn refused(&self) {
        self.account.settle(&self.id, Need::default(), Asked::Refused);
    }

    fn tell(&self, need: Need) {
        self.account.settle(&self.id, need, Asked::No);
    }

    fn is_short(&self) -> bool {
        self.account.short.load(Ordering::Acquire)
    }
}

impl Drop for VolumeSpace {
    fn drop(&mut self) {
        self.account.books().volumes.remove(&self.id);
    }
}
