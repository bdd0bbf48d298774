//! What callers hold: a use of an open volume, an attached volume, a cut that is being read.

use super::crew::Crew;
use super::owner::{IDLE, Queue, QueueLimits, Volume, Work};
use super::registry::{Found, Pin};
use super::size::{SizeWatch, SizeWatcher};
use super::still::{Calm, CutWatch, Still};
use super::{Borrower, EngineAnswer, EngineCall, Inner, StoreError};
use crate::live::{
    CutId, CutInfo, CutReader, Dropped, Engine, Error, Extent, MapPage, Misses, OpenOptions, Port,
};
use crate::page::{BlockPages, CutPage, CutSource, KeyCheckValue, Lba, SourceError};
use base::VolumeId;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};

/// One use of an open volume. The last one closes it.
pub(super) struct Lease {
    /// The store the volume is registered in; absent for a volume on a disk of its own.
    store: Option<Arc<Inner>>,
    id: VolumeId,
    queue: Queue,
    ended: bool,
}

/// Where a volume is in use.
pub(super) enum Joined {
    /// In this process.
    Here(Lease),
    /// At another machine.
    Lent(Arc<dyn Borrower>),
}

/// What became of pages of the map that were read for an engine. What is not good, or could not be read,
/// the engine reads itself, and says what is wrong.
enum Read {
    Sealed(MapPage, Vec<u8>),
    Failed,
}

impl Lease {
    /// Joins the users of a volume, opening it without its data key if there are none.
    pub(super) fn join(store: &Arc<Inner>, id: &VolumeId) -> Result<Joined, StoreError> {
        Self::join_with(store, id, |store| store.open_engine(id, OpenOptions::default()))
    }

    /// As [`Lease::join`], with a way to open of one's own.
    pub(super) fn join_with(
        store: &Arc<Inner>,
        id: &VolumeId,
        open: impl FnOnce(&Inner) -> Result<Engine, StoreError>,
    ) -> Result<Joined, StoreError> {
        match store.registry.join(id) {
            Found::Open(queue) => Ok(Joined::Here(Self::new(store, id, queue))),
            Found::Lent(borrower) => Ok(Joined::Lent(borrower)),
            Found::Reserved(reservation) => {
                let engine = open(store)?;
                let queue = Queue::start(id, engine, false, store.config.queue(), store.crew()?)
                    .map_err(StoreError::file("start a volume's threads"))?;
                reservation.fill(queue.clone());
                Ok(Joined::Here(Self::new(store, id, queue)))
            }
        }
    }

    /// Joins the users of a volume, if there are any.
    pub(super) fn join_open(store: &Arc<Inner>, id: &VolumeId) -> Option<Self> {
        store.registry.join_open(id).map(|queue| Self::new(store, id, queue))
    }

    fn new(store: &Arc<Inner>, id: &VolumeId, queue: Queue) -> Self {
        Self { store: Some(Arc::clone(store)), id: id.clone(), queue, ended: false }
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed { id: self.id.clone() }
    }

    /// Runs something on the volume's thread and waits for its answer.
    pub(super) fn call<T: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Volume) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        let work = move |volume: &mut Volume| {
            // Whoever asked and is gone needs no answer.
            let _ = sender.send(action(volume));
        };
        self.queue.submit(Box::new(work), None).map_err(|_| self.closed())?;
        receiver.recv().map_err(|_| self.closed())
    }

    /// Makes a call that is over when it is answered. One that takes long goes in steps, between which
    /// the volume does what others ask.
    pub(super) fn make(&self, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        match call {
            EngineCall::ShowCut(cut) => self.open_cut(cut, None).map(|_| EngineAnswer::Done),
            EngineCall::DropCut(cut) => self.drop_cut(cut, || Ok(())).map(|()| EngineAnswer::Done),
            call => Ok(self.call(move |volume| call.make(volume))??),
        }
    }

    /// Opens a cut once it is merged.
    pub(super) fn open_cut(&self, cut: CutId, since: Option<u32>) -> Result<CutReader, StoreError> {
        loop {
            let opened = self.call(move |volume| {
                let engine = volume.engine();
                let is_shown = engine.show_cut_step(cut)?;
                is_shown.then(|| engine.open_cut(cut, since)).transpose()
            })?;
            if let Some(reader) = opened? {
                return Ok(reader);
            }
        }
    }

    /// Drops a cut if `may_begin` does not object. That is asked where cuts are opened, and from when it
    /// has answered none can be opened any more.
    pub(super) fn drop_cut(
        &self,
        cut: CutId,
        may_begin: impl Fn() -> Result<(), StoreError> + Send + Sync + 'static,
    ) -> Result<(), StoreError> {
        let may_begin = Arc::new(may_begin);
        let (mut generation, mut read) = (None, None);
        loop {
            let may_begin = Arc::clone(&may_begin);
            let step = self.call(move |volume| {
                let engine = volume.engine();
                let found = engine.retained_generation(cut);
                if generation.is_some() && generation != found {
                    // The last step was somebody else's, and another cut may have the name.
                    return Ok((found, Dropped::Whole));
                }
                // Also where somebody else's step has failed since, and it begins anew.
                if !engine.is_dropping(cut) {
                    may_begin()?;
                }
                let misses = match read {
                    None => Misses::Report,
                    Some(Read::Failed) => Misses::Read,
                    Some(Read::Sealed(page, sealed)) => match engine.supply(&page, &sealed) {
                        Ok(()) => Misses::Report,
                        Err(_) => Misses::Read,
                    },
                };
                Ok::<_, StoreError>((found, engine.drop_cut_step(cut, misses)?))
            })?;
            let (found, dropped) = step?;
            generation = found;
            read = match dropped {
                Dropped::Whole => return Ok(()),
                Dropped::InPart => None,
                Dropped::Needs(page) => Some(self.read_map_page(page)),
            };
        }
    }

    fn read_map_page(&self, page: MapPage) -> Read {
        let part = page.part();
        let mut sealed = vec![0; part.length];
        match self.queue.disk().read(part.offset, &mut sealed) {
            Ok(()) => Read::Sealed(page, sealed),
            Err(_) => Read::Failed,
        }
    }

    /// Hands work to the volume's thread.
    pub(super) fn submit(&self, work: Box<dyn Work>) -> Result<(), Box<dyn Work>> {
        self.queue.submit(work, None)
    }

    /// Has the volume begin no chores.
    pub(super) fn calm(&self) -> Calm<'_> {
        Calm::begin(&self.queue)
    }

    /// Has the volume begin nothing more.
    pub(super) fn stand_still(&self, watch: &Arc<dyn CutWatch>) -> Still {
        Still::begin(&self.id, &self.queue, watch)
    }

    /// Gives the use up; closing, if it was the last, has happened when this returns.
    pub(super) fn end(mut self) -> Result<(), StoreError> {
        self.leave()
    }

    fn leave(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let reservation = match &self.store {
            None => None,
            Some(store) => match store.registry.leave(&self.id) {
                None => return Ok(()),
                last => last,
            },
        };
        let result = self.queue.stop();
        drop(reservation);
        result.unwrap_or(Err(Error::Failed)).map_err(StoreError::from)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::error!(%error, id = %self.id, "a volume did not close cleanly");
        }
    }
}

/// An open, unlocked volume. Clones are the same attachment.
///
/// The calls here wait for their answers; a server of many requests hands over [`Work`].
#[derive(Clone)]
pub struct VolumeHandle(Arc<Lease>);

impl VolumeHandle {
    pub(super) fn open(
        store: &Arc<Inner>,
        id: &VolumeId,
        options: OpenOptions,
    ) -> Result<Self, StoreError> {
        let lease = match store.registry.join(id) {
            Found::Reserved(reservation) => {
                let engine = store.open_engine(id, options)?;
                let queue = Queue::start(id, engine, true, store.config.queue(), store.crew()?)
                    .map_err(StoreError::file("start a volume's threads"))?;
                reservation.fill(queue.clone());
                Lease::new(store, id, queue)
            }
            Found::Lent(_) => return Err(StoreError::InUse { id: id.clone() }),
            Found::Open(queue) => {
                let lease = Lease::new(store, id, queue);
                if !lease.call(|volume| attach(volume, options))?? {
                    return Err(StoreError::InUse { id: id.clone() });
                }
                lease
            }
        };
        Ok(Self(Arc::new(lease)))
    }

    /// Serves an engine that was opened on a disk of its own. Nobody else may use that disk.
    ///
    /// # Errors
    /// When its threads cannot be started.
    pub fn over(id: &VolumeId, engine: Engine, queue_batches: usize) -> Result<Self, StoreError> {
        let crew = Crew::start().map_err(StoreError::file("start a volume's threads"))?;
        let limits = QueueLimits { batches: queue_batches, idle: IDLE };
        let queue = Queue::start(id, engine, true, limits, &Arc::new(crew))
            .map_err(StoreError::file("start a volume's threads"))?;
        let lease = Lease { store: None, id: id.clone(), queue, ended: false };
        Ok(Self(Arc::new(lease)))
    }

    /// Makes a call that is over when it is answered.
    pub(super) fn call(&self, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        self.0.make(call)
    }

    /// Has the volume stand still. `None` when it is closed.
    pub(super) fn stand_still(&self, watch: &Arc<dyn CutWatch>) -> Option<Still> {
        let _calm = self.0.calm();
        // What takes long and has begun ends before anybody is kept waiting.
        self.0.call(|_| ()).ok()?;
        Some(self.0.stand_still(watch)).filter(Still::stands)
    }

    /// Which volume this is.
    pub fn id(&self) -> &VolumeId {
        &self.0.id
    }

    /// Hands work to the volume's thread; waits while its queue is full.
    ///
    /// # Errors
    /// The work itself, when the volume is closed.
    pub fn submit(&self, work: Box<dyn Work>) -> Result<(), Box<dyn Work>> {
        self.note_guest_work();
        self.0.submit(work)
    }

    /// As [`VolumeHandle::submit`]; what is read on the calling thread goes through its own port.
    ///
    /// # Errors
    /// As [`VolumeHandle::submit`].
    pub fn submit_through(
        &self,
        work: Box<dyn Work>,
        port: &mut Port,
    ) -> Result<(), Box<dyn Work>> {
        self.note_guest_work();
        self.0.queue.submit(work, Some(port))
    }

    /// A way to read for the calling thread, if the volume's disk has one.
    pub fn port(&self) -> Option<Port> {
        self.0.queue.port()
    }

    fn note_guest_work(&self) {
        if let Some(store) = &self.0.store {
            store.guest_work.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks the volume's engine something and waits for the answer.
    ///
    /// # Errors
    /// When the volume is closed.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Engine) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.call(|volume| question(volume.engine()))
    }

    /// Bytes in the volume now. It may grow while it is open.
    pub fn size(&self) -> u64 {
        self.0.queue.size().get()
    }

    /// Has `watcher` called whenever the volume has grown, until the watch is dropped.
    pub fn watch_size(&self, watcher: SizeWatcher) -> SizeWatch {
        SizeWatch::begin(self.0.queue.size(), watcher)
    }

    /// Reads `length` bytes at `offset`.
    ///
    /// # Errors
    /// As [`crate::live::Engine::read`].
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let bytes = self.0.call(move |volume| {
            let mut bytes = vec![0; length];
            volume.engine().read(offset, &mut bytes).map(|()| bytes)
        })?;
        Ok(bytes?)
    }

    /// Writes bytes at `offset`; a later [`VolumeHandle::flush`] makes them durable.
    ///
    /// # Errors
    /// As [`crate::live::Engine::write`].
    pub fn write(&self, offset: u64, bytes: Vec<u8>) -> Result<(), StoreError> {
        Ok(self.0.call(move |volume| volume.engine().write(offset, &bytes))??)
    }

    /// Makes everything written durable.
    ///
    /// # Errors
    /// As [`crate::live::Engine::flush`].
    pub fn flush(&self) -> Result<(), StoreError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.0.call(|volume| {
            volume.flush_then(Box::new(move |result| {
                // Whoever asked and is gone needs no answer.
                let _ = sender.send(result);
            }));
        })?;
        Ok(receiver.recv().map_err(|_| self.0.closed())??)
    }

    /// Gives up the content of the whole pages in a range.
    ///
    /// # Errors
    /// As [`crate::live::Engine::discard`].
    pub fn discard(&self, offset: u64, length: u64) -> Result<(), StoreError> {
        Ok(self.0.call(move |volume| volume.engine().discard(offset, length))??)
    }

    /// Makes a range read as zeros.
    ///
    /// # Errors
    /// As [`crate::live::Engine::write_zeroes`].
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), StoreError> {
        Ok(self.0.call(move |volume| volume.engine().write_zeroes(offset, length))??)
    }

    /// What the beginning of a range holds.
    ///
    /// # Errors
    /// As [`crate::live::Engine::block_status`].
    pub fn block_status(&self, offset: u64, length: u64) -> Result<Vec<Extent>, StoreError> {
        Ok(self.0.call(move |volume| volume.engine().block_status(offset, length))??)
    }

    /// Takes a cut.
    ///
    /// # Errors
    /// As [`crate::live::Engine::cut`].
    pub fn cut(&self, cut: CutId) -> Result<CutInfo, StoreError> {
        Ok(self.0.call(move |volume| volume.engine().cut(cut))??)
    }

    /// Ends the attachment: flushes, wipes the data key, and closes the volume unless a cut of it
    /// is being taken. Clones of the handle can do nothing any more.
    ///
    /// # Errors
    /// When the last flush failed; the key is wiped all the same.
    pub fn close(self) -> Result<(), StoreError> {
        let flushed = self.0.call(|volume| {
            let flushed = volume.engine().flush();
            volume.await_reads();
            volume.engine().lock();
            volume.attached = false;
            flushed
        })?;
        if let Ok(lease) = Arc::try_unwrap(self.0) {
            lease.end()?;
        }
        Ok(flushed?)
    }
}

/// Turns a volume that is open without its key into an attached one; `false` when it is attached.
fn attach(volume: &mut Volume, options: OpenOptions) -> Result<bool, Error> {
    if volume.attached {
        return Ok(false);
    }
    volume.engine().take_over(options.writer)?;
    if let Some(base) = options.base {
        volume.engine().attach_base(base)?;
    }
    if let Some(key) = options.data_key {
        volume.engine().unlock(key)?;
    }
    volume.attached = true;
    Ok(true)
}

/// A cut that is being read. It is not dropped while this lives.
pub struct CutHandle {
    reader: CutReader,
    _pin: Pin,
}

impl CutHandle {
    pub(super) fn new(reader: CutReader, pin: Pin) -> Self {
        Self { reader, _pin: pin }
    }

    /// Which cut this is.
    pub fn info(&self) -> CutInfo {
        self.reader.info()
    }

    /// Recognises the volume's data key; `None` when the volume was never opened with one.
    pub fn key_check(&self) -> Option<KeyCheckValue> {
        self.reader.key_check()
    }

    /// One page as of the cut.
    ///
    /// # Errors
    /// As [`CutReader::read_page`].
    pub fn read_page(&self, lba: Lba) -> Result<CutPage, SourceError> {
        self.reader.read_page(lba)
    }
}

impl CutSource for CutHandle {
    fn volume_bytes(&self) -> u64 {
        self.reader.volume_bytes()
    }

    fn changed_blocks(&self) -> Box<dyn Iterator<Item = Result<u64, SourceError>> + Send + '_> {
        self.reader.changed_blocks()
    }

    fn load_block(&self, block: u64) -> Result<BlockPages, SourceError> {
        self.reader.load_block(block)
    }

    fn compare_block(&self, block: u64) -> Result<u64, SourceError> {
        self.reader.compare_block(block)
    }
}
