//! The live volumes of one region: files in a folder, and a thread for each volume in use.
//!
//! One thread owns an open volume and takes work from a bounded queue; nothing else touches its
//! engine. A second thread per volume waits for the disk's flushes, so that reads go on meanwhile.
//! Operations on a volume that nobody has open (a cut, an export) open it without its data key for
//! as long as they last.
//!
//! The lock of the registry of open volumes is never held during I/O on a volume; the one that
//! orders cuts through several volumes is held only while they stand still.

mod calls;
mod check;
mod chores;
mod crew;
mod error;
mod flusher;
mod gate;
mod handle;
mod held_key;
mod lent;
mod owner;
mod reader;
mod registry;
mod size;
mod space;
mod still;
mod together;

pub use calls::{Borrower, EngineAnswer, EngineCall, Kept, Loan};
pub use check::CheckError;
pub use error::StoreError;
pub use flusher::FlushDone;
pub use handle::{CutHandle, VolumeHandle};
pub use held_key::HeldKey;
pub use lent::LentVolume;
pub use owner::{Volume, Work};
pub use reader::ReadThen;
pub use size::{SizeWatch, SizeWatcher};
pub use space::{SpaceLevel, SpaceLimits, SpaceReport, SpaceWatcher};
pub use still::{CutWatch, STILL_TIME_MAX};
pub use together::CUT_MEMBERS_MAX;

use crate::live::{
    self, Corrections, CutId, CutInfo, CutReader, Disk, Engine, EngineConfig, FileDisk, IoMode,
    OpenOptions, TailFile, VolumeOptions, read_cut,
};
use crate::page::{CipherLibrary, StructureKey};
use crate::snapshot::Floor;
use base::{Rng, Secret, VolumeId};
use crew::Crew;
use handle::Joined;
use owner::{IDLE, QueueLimits};
use registry::{LentSlot, Registry};
use rustix::fs::{FlockOperation, flock};
use space::{Account, VolumeSpace};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

/// The folder of the volumes, below the store's.
const VOLUMES: &str = "volumes";
/// The ending of a volume's file. What lies beside it has others.
const LOG: &str = "log";
/// The file that keeps a second process out.
const LOCK: &str = "lock";
/// How often a cut of a volume that another machine writes is looked up before it is damaged.
const LENT_CUT_TRIES: u32 = 5;

/// Sizes of a store.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// Sizes of each volume's engine.
    pub engine: EngineConfig,
    /// Batches of work a volume's queue holds before submitting waits.
    pub queue_batches: usize,
    /// A volume that was asked for nothing in this time gives back what it can.
    pub idle: Duration,
    /// How files are read and written, where the system allows it.
    pub io: IoMode,
    /// How much the volumes may take together.
    pub space: SpaceLimits,
}

impl StoreConfig {
    /// The sizes of a server.
    pub const fn server() -> Self {
        Self {
            engine: EngineConfig::server(),
            queue_batches: 64,
            idle: IDLE,
            io: IoMode::Ring,
            space: SpaceLimits::server(),
        }
    }

    fn queue(&self) -> QueueLimits {
        QueueLimits { batches: self.queue_batches, idle: self.idle }
    }
}

/// The live volumes of one region. Clones are the same store.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    service_key: Secret<[u8; 32]>,
    rng: Arc<dyn Rng>,
    config: StoreConfig,
    /// How files are read and written.
    io: IoMode,
    /// Opens large reads of all volumes; started with the first of them.
    crew: OnceLock<Arc<Crew>>,
    registry: Registry,
    account: Arc<Account>,
    /// Held while the members of one cut that are open here stand still.
    cutting: Mutex<()>,
    /// Held through a cut that has members at other machines.
    cutting_away: Mutex<()>,
    /// Names what is kept for a check at another machine.
    holds: AtomicU64,
    /// Batches of requests that came from users of volumes.
    guest_work: AtomicU64,
    /// Held for as long as the store lives.
    _lock: File,
}

impl Store {
    /// Opens the store in a folder, which is created if it is missing.
    ///
    /// # Errors
    /// When another process has it open, or the file system refuses.
    pub fn open(
        folder: &Path,
        service_key: Secret<[u8; 32]>,
        rng: Arc<dyn Rng>,
        config: StoreConfig,
    ) -> Result<Self, StoreError> {
        let volumes = folder.join(VOLUMES);
        std::fs::create_dir_all(&volumes).map_err(StoreError::file("create the store"))?;
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(folder.join(LOCK))
            .map_err(StoreError::file("open the store's lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| StoreError::Locked)?;
        for folder in [&volumes, folder] {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(StoreError::file("flush the store's folder"))?;
        }
        let (io, refusal) =
            config.io.probe(&volumes).map_err(StoreError::file("try out the volumes' folder"))?;
        match refusal {
            None => tracing::info!("volumes are read and written with {io}"),
            Some(refusal) => tracing::warn!(
                %refusal,
                "volumes are read and written with {io}: {} is refused here",
                config.io
            ),
        }
        tracing::info!("pages are sealed and opened with {}", CipherLibrary::fastest());
        let registry = Registry::default();
        let account = Arc::new(Account::new(volumes.clone(), config.space));
        Ok(Self(Arc::new(Inner {
            folder: volumes,
            service_key,
            rng,
            config,
            io,
            crew: OnceLock::new(),
            registry,
            account,
            cutting: Mutex::default(),
            cutting_away: Mutex::default(),
            holds: AtomicU64::new(0),
            guest_work: AtomicU64::new(0),
            _lock: lock,
        })))
    }

    /// How volumes are read and written here.
    pub fn io(&self) -> IoMode {
        self.0.io
    }

    /// What has to stay free for the volumes when something is stored in `folder`: the reserve, and what
    /// the open ones may take without asking. `None` where that is another file system than theirs.
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn floor(&self, folder: &Path) -> Result<Option<Arc<dyn Floor>>, StoreError> {
        let disk = |folder: &Path| folder.metadata().map(|found| found.dev());
        let look = StoreError::file("look where snapshots lie");
        let shares = disk(&self.0.folder).and_then(|own| Ok(disk(folder)? == own)).map_err(look)?;
        Ok(shares.then(|| Arc::clone(&self.0.account) as Arc<dyn Floor>))
    }

    /// Creates an empty volume.
    ///
    /// # Errors
    /// When it exists, its size is impossible, or the file system refuses.
    pub fn create_volume(&self, id: &VolumeId, options: &VolumeOptions) -> Result<(), StoreError> {
        let inner = &*self.0;
        let _busy = inner.registry.reserve(id)?;
        let path = inner.path(id);
        if path.exists() {
            // Whoever made it may have ended before its name was durable.
            inner.sync_folder()?;
            return Err(StoreError::Exists { id: id.clone() });
        }
        // The name appears when the volume is whole: a crash leaves no half volume behind.
        let draft = path.with_extension("new");
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::file("remove an unfinished volume")(error));
            }
            _ => {}
        }
        let disk =
            FileDisk::create(&draft, inner.io).map_err(StoreError::file("create a volume"))?;
        let engine = &inner.config.engine;
        Engine::create(&disk, &inner.structure(id), &*inner.rng, engine, options)?;
        std::fs::rename(&draft, &path).map_err(StoreError::file("name a volume"))?;
        inner.sync_folder()
    }

    /// Has `watcher` told when the space for volumes runs low, is used up, or is ample again.
    pub fn watch_space(&self, watcher: Arc<dyn SpaceWatcher>) {
        self.0.account.watch(watcher);
    }

    /// Whether a volume exists.
    pub fn contains(&self, id: &VolumeId) -> bool {
        self.0.path(id).exists()
    }

    /// Where the file of a volume lies.
    pub fn path_of(&self, id: &VolumeId) -> PathBuf {
        self.0.path(id)
    }

    /// Opens a volume for reading and writing. Only one at a time has it open.
    ///
    /// # Errors
    /// When it does not exist, is open already, is damaged, or key or base are not its own.
    pub fn open_volume(
        &self,
        id: &VolumeId,
        options: OpenOptions,
    ) -> Result<VolumeHandle, StoreError> {
        VolumeHandle::open(&self.0, id, options)
    }

    /// Deletes a volume with its cuts.
    ///
    /// # Errors
    /// When it does not exist, or something has it open.
    pub fn delete_volume(&self, id: &VolumeId) -> Result<(), StoreError> {
        let inner = &*self.0;
        let _busy = inner.registry.reserve(id)?;
        let path = inner.path(id);
        // First: without its volume nobody would know it.
        TailFile::of(&path)
            .remove()
            .map_err(StoreError::file("remove what a killed server left"))?;
        match std::fs::remove_file(path) {
            Ok(()) => inner.sync_folder(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NotFound { id: id.clone() })
            }
            Err(error) => Err(StoreError::file("delete a volume")(error)),
        }
    }

    /// Takes a cut of a volume, open or not. Needs no data key.
    ///
    /// # Errors
    /// As [`Engine::cut`].
    pub fn cut(&self, id: &VolumeId, cut: CutId) -> Result<CutInfo, StoreError> {
        match self.call(id, EngineCall::Cut(cut))? {
            EngineAnswer::Cut(info) => Ok(info),
            _ => Err(StoreError::Away { id: id.clone() }),
        }
    }

    /// The cuts a volume retains.
    ///
    /// # Errors
    /// When the volume cannot be opened.
    pub fn cuts(&self, id: &VolumeId) -> Result<Vec<CutInfo>, StoreError> {
        match self.call(id, EngineCall::Cuts)? {
            EngineAnswer::Cuts(cuts) => Ok(cuts),
            _ => Err(StoreError::Away { id: id.clone() }),
        }
    }

    /// Opens a cut for export; [`Engine::open_cut`] says what `since` does. The cut cannot be
    /// dropped, nor the volume deleted, while the handle lives.
    ///
    /// # Errors
    /// As [`Engine::open_cut`].
    pub fn open_cut(
        &self,
        id: &VolumeId,
        cut: CutId,
        since: Option<u32>,
    ) -> Result<CutHandle, StoreError> {
        let pin = Registry::pin(&self.0, id, cut);
        let reader = match handle::Lease::join(&self.0, id)? {
            Joined::Here(lease) => {
                let reader = lease.open_cut(cut, since);
                lease.end()?;
                reader?
            }
            Joined::Lent(borrower) => {
                borrower.call(EngineCall::ShowCut(cut))?;
                self.0.read_lent_cut(id, cut, since)?
            }
        };
        Ok(CutHandle::new(reader, pin))
    }

    /// Remembers which snapshot a cut became; see [`Engine::note_export`].
    ///
    /// # Errors
    /// As [`Engine::note_export`].
    pub fn note_export(
        &self,
        id: &VolumeId,
        cut: CutId,
        snapshot: [u8; 16],
    ) -> Result<(), StoreError> {
        self.call(id, EngineCall::NoteExport { cut, snapshot }).map(drop)
    }

    /// The generation at which the volume equalled a snapshot, if it is remembered.
    ///
    /// # Errors
    /// When the volume cannot be opened.
    pub fn exported_generation(
        &self,
        id: &VolumeId,
        snapshot: [u8; 16],
    ) -> Result<Option<u32>, StoreError> {
        match self.call(id, EngineCall::ExportedGeneration { snapshot })? {
            EngineAnswer::Generation(generation) => Ok(generation),
            _ => Err(StoreError::Away { id: id.clone() }),
        }
    }

    /// Drops a cut, exported or not.
    ///
    /// # Errors
    /// When it is being read, or as [`Engine::drop_cut`].
    pub fn drop_cut(&self, id: &VolumeId, cut: CutId) -> Result<(), StoreError> {
        let lease = match handle::Lease::join(&self.0, id)? {
            Joined::Here(lease) => lease,
            Joined::Lent(borrower) => {
                // The machine knows of no pins.
                self.0.registry.check_unpinned(id, cut)?;
                return borrower.call(EngineCall::DropCut(cut)).map(drop);
            }
        };
        let (store, own_id) = (Arc::clone(&self.0), id.clone());
        let dropped = lease.drop_cut(cut, move || store.registry.check_unpinned(&own_id, cut));
        lease.end()?;
        dropped
    }

    /// Makes a volume larger, open or not; who has it open sees it grow.
    ///
    /// # Errors
    /// As [`Engine::resize`].
    pub fn resize(&self, id: &VolumeId, size_bytes: u64) -> Result<(), StoreError> {
        self.call(id, EngineCall::Resize { size_bytes }).map(drop)
    }

    /// Bytes in a volume, open or not.
    ///
    /// # Errors
    /// When the volume cannot be opened.
    pub fn size(&self, id: &VolumeId) -> Result<u64, StoreError> {
        match self.call(id, EngineCall::Size)? {
            EngineAnswer::Size(bytes) => Ok(bytes),
            _ => Err(StoreError::Away { id: id.clone() }),
        }
    }

    /// Gives a volume to another machine. Until the loan is dropped, calls on the volume go to the
    /// borrower.
    ///
    /// # Errors
    /// When it does not exist, somebody has it open and keeps it, or what a killed server left in its
    /// tail cannot be put back.
    pub fn lend(&self, id: &VolumeId, borrower: Arc<dyn Borrower>) -> Result<Loan, StoreError> {
        let slot = Registry::lend(&self.0, id, borrower)?;
        let disk = self.0.disk_anew(id)?;
        if self.0.has_tail(id)? {
            self.0.settle_tail(id)?;
        }
        Ok(self.loan(id, slot, disk))
    }

    /// As [`Store::lend`], to a machine that may have opened the volume as attachment `writer` before
    /// this process began, and goes on with it.
    ///
    /// # Errors
    /// As [`Store::lend`].
    pub fn lend_again(
        &self,
        id: &VolumeId,
        writer: u64,
        borrower: Arc<dyn Borrower>,
    ) -> Result<Loan, StoreError> {
        let slot = Registry::lend(&self.0, id, borrower)?;
        let disk = self.0.disk_anew(id)?;
        // A machine that has it open knows where its log ends. Nobody else may begin an incarnation.
        if self.0.has_tail(id)? && self.0.last_writer(id)? < writer {
            self.0.settle_tail(id)?;
        }
        Ok(self.loan(id, slot, disk))
    }

    /// Keeps a volume away that cannot be lent, whatever is wrong with it: its machine may have it open.
    /// Calls on the volume go to `borrower` until what is returned is dropped.
    ///
    /// # Errors
    /// When somebody has it open and keeps it.
    pub fn keep(&self, id: &VolumeId, borrower: Arc<dyn Borrower>) -> Result<Kept, StoreError> {
        let slot = Registry::lend(&self.0, id, borrower)?;
        Ok(Kept { slot: Mutex::new(Some(slot)) })
    }

    fn loan(&self, id: &VolumeId, slot: LentSlot, disk: Arc<dyn Disk>) -> Loan {
        let structure = self.0.structure(id);
        let space = VolumeSpace::new(&self.0.account, id);
        let slot = Mutex::new(Some((space, slot)));
        Loan { disk, structure, slot, is_denied: AtomicBool::default() }
    }

    /// Makes a call on a volume, wherever it is open.
    fn call(&self, id: &VolumeId, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        match handle::Lease::join(&self.0, id)? {
            Joined::Lent(borrower) => borrower.call(call),
            Joined::Here(lease) => {
                let result = lease.make(call);
                lease.end()?;
                result
            }
        }
    }

    /// Whether somebody has a volume open.
    pub fn is_open(&self, id: &VolumeId) -> bool {
        self.0.registry.is_open(id)
    }

    /// Runs something on the engine of a volume that somebody has open; `None` when nobody has.
    ///
    /// # Errors
    /// What `action` gives, or [`StoreError::Closed`].
    pub fn with_open<T: Send + 'static>(
        &self,
        id: &VolumeId,
        action: impl FnOnce(&mut Engine) -> Result<T, crate::live::Error> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let Some(lease) = handle::Lease::join_open(&self.0, id) else { return Ok(None) };
        let result = lease.call(move |volume| action(volume.engine()))?;
        lease.end()?;
        Ok(Some(result?))
    }

    /// Counts what users of volumes asked for. Whoever sees it grow shares the machine with them.
    pub fn guest_work(&self) -> u64 {
        self.0.guest_work.load(Ordering::Relaxed)
    }

    /// Bytes that are free on the file system.
    ///
    /// # Errors
    /// When the file system does not say.
    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        let found = rustix::fs::statvfs(&self.0.folder)
            .map_err(|error| StoreError::file("look for free space")(error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Runs something on a volume's engine, opening the volume without its key if nobody has it
    /// open.
    ///
    /// # Errors
    /// What opening gives, or what `action` gives.
    pub fn with<T: Send + 'static>(
        &self,
        id: &VolumeId,
        action: impl FnOnce(&mut Engine) -> Result<T, crate::live::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Joined::Here(lease) = handle::Lease::join(&self.0, id)? else {
            return Err(StoreError::InUse { id: id.clone() });
        };
        let result = lease.call(move |volume| action(volume.engine()))?;
        lease.end()?;
        Ok(result?)
    }
}

/// Where a volume's log lies.
fn log_path(folder: &Path, id: &VolumeId) -> PathBuf {
    folder.join(format!("{id}.{LOG}"))
}

impl Inner {
    fn path(&self, id: &VolumeId) -> PathBuf {
        log_path(&self.folder, id)
    }

    fn structure(&self, id: &VolumeId) -> StructureKey {
        StructureKey::derive(&self.service_key, id.as_str())
    }

    fn crew(&self) -> Result<&Arc<Crew>, StoreError> {
        if self.crew.get().is_none() {
            let crew = Crew::start().map_err(StoreError::file("start the store's threads"))?;
            // Of two at once one is used, and the other ends.
            let _ = self.crew.set(Arc::new(crew));
        }
        Ok(self.crew.get().expect("set above"))
    }

    fn sync_folder(&self) -> Result<(), StoreError> {
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(StoreError::file("flush the volumes' folder"))
    }

    fn disk(&self, id: &VolumeId) -> Result<Arc<dyn Disk>, StoreError> {
        match FileDisk::open(&self.path(id), self.io) {
            Ok(disk) => Ok(Arc::new(disk)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::NotFound { id: id.clone() })
            }
            Err(error) => Err(StoreError::file("open a volume")(error)),
        }
    }

    /// A volume's disk for another machine, which is shown what the medium has, whatever an earlier flush
    /// failed to write. One that goes on with the volume writes that again: it was never told that it was
    /// flushed.
    fn disk_anew(&self, id: &VolumeId) -> Result<Arc<dyn Disk>, StoreError> {
        let disk = self.disk(id)?;
        let flushed = disk.flush().and_then(|()| disk.forget_cached());
        flushed.map_err(live::Error::disk("read anew what was flushed"))?;
        Ok(disk)
    }

    /// Reads a cut beside the machine that writes the volume. What it changes while the way to the
    /// cut is read does not authenticate, and is read again.
    fn read_lent_cut(
        &self,
        id: &VolumeId,
        cut: CutId,
        since: Option<u32>,
    ) -> Result<CutReader, StoreError> {
        let mut tries_left = LENT_CUT_TRIES;
        loop {
            tries_left -= 1;
            match read_cut(self.disk(id)?, self.structure(id), cut, since) {
                Err(live::Error::Corrupt { .. } | live::Error::NoSuperblock) if tries_left > 0 => {}
                read => return Ok(read?),
            }
        }
    }

    /// Whether a killed server left anything of a volume that nobody has open here.
    fn has_tail(&self, id: &VolumeId) -> Result<bool, StoreError> {
        let left = TailFile::of(&self.path(id)).is_left();
        left.map_err(StoreError::file("look for what a killed server left"))
    }

    /// Puts back what lies in a volume's tail, for who opens the volume next through a disk that has
    /// another tail or none. Nobody may have it open.
    fn settle_tail(&self, id: &VolumeId) -> Result<(), StoreError> {
        self.open_engine(id, OpenOptions::default())?.close()?;
        self.check_settled(id)
    }

    /// Nobody may be given a volume beside whose file a tail lies: put back once more, it would end what was
    /// written since. One that could not be removed stops no engine.
    fn check_settled(&self, id: &VolumeId) -> Result<(), StoreError> {
        if self.has_tail(id)? {
            let stays = io::Error::other("it is still there");
            return Err(StoreError::file("remove what a killed server left")(stays));
        }
        Ok(())
    }

    /// The fencing epoch of the attachment that opened a volume last.
    fn last_writer(&self, id: &VolumeId) -> Result<u64, StoreError> {
        Ok(live::last_writer(&*self.disk(id)?, &self.structure(id))?)
    }

    fn open_engine(&self, id: &VolumeId, options: OpenOptions) -> Result<Engine, StoreError> {
        self.open_engine_corrected(id, options, &Corrections::default())
    }

    fn open_engine_corrected(
        &self,
        id: &VolumeId,
        options: OpenOptions,
        corrections: &Corrections,
    ) -> Result<Engine, StoreError> {
        let (disk, structure) = (self.disk(id)?, self.structure(id));
        let (rng, config) = (Arc::clone(&self.rng), self.config.engine);
        let pin = self.registry.stored_state(id);
        let mut engine =
            Engine::open_pinned(disk, structure, rng, config, options, pin, corrections)?;
        engine.limit_space(Arc::new(VolumeSpace::new(&self.account, id)));
        Ok(engine)
    }
}
