//! The second half of reads: the disk, and opening what it gives.
//!
//! It happens on the disk's thread, several reads at once, or on that of who asked, if the read is
//! the only one: then nothing is gained by waking another thread.

use super::crew::Crew;
use super::owner::Command;
use crate::live::{
    AlignedBuffer, Disk, Engine, Error, MapPage, Misses, Planned, Port, ReadJob, ReadPart, ReadPlan,
};
use std::io;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};

/// A read up to this long is done by who asked for it, if it is the only one.
const ALONE_BYTES_MAX: usize = 64 << 10;
/// A read from this length on is opened by the crew.
const CREW_BYTES_MIN: usize = 256 << 10;
/// Bytes of a buffer that is kept for what is read apart from its target, and how many are kept.
const SPARE_BYTES: usize = 2 << 20;
const SPARES_MAX: usize = 8;

/// Called once with the outcome of a read and its buffer, which holds zeros after an error, on the
/// thread that asked or on another. It must not wait for the volume.
pub type ReadThen = Box<dyn FnOnce(Result<(), Error>, AlignedBuffer) + Send>;

/// What somebody asked for.
pub(super) struct Read {
    pub(super) offset: u64,
    pub(super) buffer: AlignedBuffer,
    pub(super) done: ReadThen,
}

/// A read whose first half is done.
pub(super) struct PlannedRead {
    plan: Planned,
    read: Read,
    under_way: UnderWay,
}

/// Counts a read as under way. Begun by who has the desk and dropped after the plan, so that whoever
/// has the desk and finds none under way is alone with the volume's keys.
struct UnderWay(Arc<Reader>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// A plan that is being carried out. Its keys are gone when the read does not count any more.
struct Counted {
    plan: ReadPlan,
    _under_way: UnderWay,
}

/// A read for the volume's thread.
enum Again {
    /// It did not open: its segment may have been given back and written anew.
    Failed(Read),
    /// A page of the map for its plan.
    Supplied(Read, MapPage, AlignedBuffer),
}

/// Reads of one volume.
pub(super) struct Reader {
    disk: Arc<dyn Disk>,
    crew: Arc<Crew>,
    state: Mutex<State>,
    changed: Condvar,
    /// The way to the volume's own thread.
    owner: Weak<SyncSender<Command>>,
}

#[derive(Default)]
struct State {
    /// Reads that are planned, and reads of pages of the map for a plan.
    under_way: usize,
    /// Buffers for what is read apart from its target.
    spare: Vec<AlignedBuffer>,
    again: Vec<Again>,
    /// The volume's thread has ended.
    closed: bool,
}

impl Reader {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        owner: Weak<SyncSender<Command>>,
        crew: Arc<Crew>,
    ) -> Self {
        Self { disk, crew, state: Mutex::default(), changed: Condvar::new(), owner }
    }

    /// A read that was planned just now. Who calls this has the desk.
    pub(super) fn plan(self: &Arc<Self>, plan: Planned, read: Read) -> PlannedRead {
        self.state().under_way += 1;
        PlannedRead { plan, read, under_way: UnderWay(Arc::clone(self)) }
    }

    /// Whether reads are under way.
    pub(super) fn is_reading(&self) -> bool {
        self.state().under_way > 0
    }

    /// Whether the only read under way is the caller's.
    fn is_alone(&self) -> bool {
        self.state().under_way == 1
    }

    /// Does a read on this thread if it is the only one, and starts the others. Returns whether any
    /// are under way.
    pub(super) fn read_here(
        self: &Arc<Self>,
        mut reads: Vec<PlannedRead>,
        port: Option<&mut Port>,
    ) -> bool {
        if reads.is_empty() {
            return self.is_reading();
        }
        let is_one = reads.len() == 1 && reads[0].read.buffer.len() <= ALONE_BYTES_MAX;
        if is_one
            && self.is_alone()
            && let Some(PlannedRead { plan: Planned::Whole(plan), read, under_way }) =
                reads.pop_if(|read| matches!(read.plan, Planned::Whole(_)))
        {
            self.do_here(Counted { plan, _under_way: under_way }, read);
            return false;
        }
        self.start(reads, port);
        true
    }

    /// Has reads done through a port, or else on the disk's thread, where it has one.
    pub(super) fn start(self: &Arc<Self>, reads: Vec<PlannedRead>, mut port: Option<&mut Port>) {
        for PlannedRead { plan, read, under_way } in reads {
            let port = port.as_deref_mut();
            match plan {
                Planned::Whole(plan) => {
                    self.start_plan(Counted { plan, _under_way: under_way }, read, port);
                }
                Planned::Needs(page) => self.start_map_page(page, read, under_way, port),
            }
        }
    }

    fn start_plan(
        self: &Arc<Self>,
        counted: Counted,
        Read { offset, buffer, done }: Read,
        port: Option<&mut Port>,
    ) {
        let parts = counted.plan.parts();
        if parts.is_empty() {
            return self.do_here(counted, Read { offset, buffer, done });
        }
        let Some(apart) = counted.plan.apart_bytes() else {
            let reader = Arc::clone(self);
            let finish = move |result, buffer| {
                reader.go_on(result, counted, Read { offset, buffer, done }, None);
            };
            return self.read_parts(parts, buffer, port, finish);
        };
        let apart = self.take_spare(apart);
        let reader = Arc::clone(self);
        let finish = move |result, apart| {
            reader.go_on(result, counted, Read { offset, buffer, done }, Some(apart));
        };
        self.read_parts(parts, apart, port, finish);
    }

    /// Opens what the disk gave, here or by the crew.
    fn go_on(
        self: Arc<Self>,
        result: io::Result<()>,
        counted: Counted,
        read: Read,
        apart: Option<AlignedBuffer>,
    ) {
        if let Err(error) = result {
            drop(counted);
            self.finish(Err(Error::disk("read data")(error)), read);
        } else if read.buffer.len() >= CREW_BYTES_MIN {
            let crew = Arc::clone(&self.crew);
            crew.give(Box::new(move || self.open(counted, read, apart)));
        } else {
            self.open(counted, read, apart);
        }
    }

    fn start_map_page(
        self: &Arc<Self>,
        page: MapPage,
        read: Read,
        under_way: UnderWay,
        port: Option<&mut Port>,
    ) {
        let part = page.part();
        let reader = Arc::clone(self);
        let finish = move |result: io::Result<()>, sealed: AlignedBuffer| {
            // Who has the desk and waits for reads would wait for one that waits for the desk.
            drop(under_way);
            // What cannot be read shows when it is read once more.
            reader.give_back(match result {
                Ok(()) => Again::Supplied(read, page, sealed),
                Err(_) => Again::Failed(read),
            });
        };
        self.read_parts(vec![part], AlignedBuffer::zeroed(part.length), port, finish);
    }

    /// Reads through a port or on the disk's thread, or here if there is neither.
    fn read_parts(
        &self,
        parts: Vec<ReadPart>,
        buffer: AlignedBuffer,
        port: Option<&mut Port>,
        done: impl FnOnce(io::Result<()>, AlignedBuffer) + Send + 'static,
    ) {
        let job = ReadJob { parts, buffer, done: Box::new(done) };
        if let Some(port) = port {
            return port.read(job);
        }
        let mut job = Some(job);
        if !self.disk.start_read(&mut job)
            && let Some(ReadJob { parts, mut buffer, done }) = job
        {
            let result = parts.iter().try_for_each(|part| {
                self.disk.read(part.offset, &mut buffer[part.at..part.at + part.length])
            });
            done(result, buffer);
        }
    }

    fn open(&self, counted: Counted, mut read: Read, apart: Option<AlignedBuffer>) {
        let result = counted.plan.open(&mut read.buffer, apart.as_deref().unwrap_or_default());
        drop(counted);
        if let Some(apart) = apart {
            self.give_spare(apart);
        }
        self.finish(result, read);
    }

    /// A buffer for sealed pages, with any content.
    fn take_spare(&self, length: usize) -> AlignedBuffer {
        let mut state = self.state();
        let fitting = state.spare.iter().position(|spare| spare.capacity() >= length);
        let spare = fitting.map(|at| state.spare.swap_remove(at));
        drop(state);
        let mut spare = spare.unwrap_or_else(|| AlignedBuffer::zeroed(length.max(SPARE_BYTES)));
        spare.set_length(length);
        spare
    }

    fn give_spare(&self, spare: AlignedBuffer) {
        let mut state = self.state();
        if state.spare.len() < SPARES_MAX && spare.capacity() == SPARE_BYTES {
            state.spare.push(spare);
        }
    }

    fn do_here(&self, counted: Counted, mut read: Read) {
        let result = counted.plan.carry_out(&*self.disk, &mut read.buffer);
        drop(counted);
        self.finish(result, read);
    }

    /// Answers, or has the volume's thread make the read again: its answer is the last. The read does not
    /// count any more.
    fn finish(&self, result: Result<(), Error>, read: Read) {
        match result {
            Ok(()) => (read.done)(Ok(()), read.buffer),
            Err(_) => self.give_back(Again::Failed(read)),
        }
    }

    fn give_back(&self, again: Again) {
        let mut state = self.state();
        // A request that is dropped is answered as one of a closed volume.
        if !state.closed
            && let Some(owner) = self.owner.upgrade()
        {
            state.again.push(again);
            drop(state);
            // A full queue wakes the thread as well.
            let _ = owner.try_send(Command::Chores);
        }
    }

    /// Makes reads again that were given back.
    pub(super) fn repeat(self: &Arc<Self>, engine: &mut Engine) {
        let again = std::mem::take(&mut self.state().again);
        for again in again {
            match again {
                Again::Failed(read) => answer_last(engine, read),
                Again::Supplied(mut read, page, sealed) => {
                    let planned = engine.supply(&page, &sealed).and_then(|()| {
                        engine.plan_read(read.offset, &mut read.buffer, Misses::Report)
                    });
                    match planned {
                        Ok(plan) => self.start(vec![self.plan(plan, read)], None),
                        Err(_) => answer_last(engine, read),
                    }
                }
            }
        }
    }

    fn end(&self) {
        let mut state = self.state();
        state.under_way -= 1;
        if state.under_way == 0 {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits until no read is under way. Who has the desk then knows that none begins.
    pub(super) fn await_all(&self) {
        let reading = |state: &mut State| state.under_way > 0;
        let waited = self.changed.wait_while(self.state(), reading);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Ends the repeating of reads when the returned value is dropped.
    pub(super) fn close_at_the_end(&self) -> Closing<'_> {
        Closing(self)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer_last(engine: &mut Engine, mut read: Read) {
    let result = engine.read(read.offset, &mut read.buffer);
    (read.done)(result, read.buffer);
}

/// See [`Reader::close_at_the_end`].
pub(super) struct Closing<'a>(&'a Reader);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        let dropped = std::mem::take(&mut state.again);
        drop(state);
        drop(dropped);
    }
}
