//! The threads of a copy: each makes a whole pack out of the blocks it is given, and stores it.
//!
//! A pack is sealed by one of a few threads at a time and is then written and made durable while
//! others seal, so that neither the processors nor the disk wait for each other. Results come back
//! in the order the batches were sent, whatever order they were finished in. Where there may not be room
//! for all, packs are stored in that order too: one that is stored before another that finds no room
//! would be stored in vain.

use super::Error;
use super::copy::CopyKeys;
use super::frame::FrameError;
use super::node::Pointer;
use super::observer::Observer;
use super::pack::{ItemRef, PACK_OVERHEAD_BYTES_MAX, PackBuilder, PackId, PackKind};
use super::reader::open_failure;
use super::reseal::Reseal;
use super::room::Room;
use super::store::SnapshotStore;
use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Packs that are written while others are sealed.
const WRITES_MAX: usize = 2;

/// Blocks of the source, ascending; at most a pack full. `None` where the source holds none.
pub(super) type Batch = Vec<(u64, Option<Pointer>)>;

/// Where the blocks of a batch lie now. All of them are durable.
pub(super) type Moved = Vec<(u64, Option<ItemRef>)>;

/// What every thread of a copy needs.
pub(super) struct Mover<'a> {
    pub(super) source: &'a SnapshotStore,
    pub(super) target: &'a SnapshotStore,
    pub(super) keys: &'a CopyKeys<'a>,
    pub(super) observer: &'a dyn Observer,
}

struct Order {
    pack: PackId,
    batch: Batch,
    reply: SyncSender<Result<Moved, Error>>,
}

/// The threads at work.
pub(super) struct Movers<'a> {
    shared: &'a Shared,
    orders: SyncSender<Order>,
    /// Where the answers will come, and the packs they are of, oldest first.
    pending: VecDeque<(PackId, Receiver<Result<Moved, Error>>)>,
    room: usize,
}

/// Work that ended before its time.
pub(super) struct Unfinished {
    pub(super) error: Error,
    /// Packs that are stored, and that nobody was told of.
    pub(super) stored: Vec<PackId>,
}

impl Movers<'_> {
    /// Whether another batch may be sent.
    pub(super) fn have_room(&self) -> bool {
        self.pending.len() < self.room
    }

    /// Has a batch moved into the pack of this id, which is above those of all before.
    pub(super) fn send(&mut self, pack: PackId, batch: Batch) {
        let (reply, answer) = mpsc::sync_channel(1);
        lock(&self.shared.under_way).insert(pack);
        let sent = self.orders.send(Order { pack, batch, reply });
        sent.expect("the threads take orders for as long as this lives");
        self.pending.push_back((pack, answer));
    }

    /// Waits for the oldest batch; `None` when all that were sent have come back.
    pub(super) fn receive(&mut self) -> Option<Result<Moved, Error>> {
        let (pack, answer) = self.pending.pop_front()?;
        let answer = answer.recv().expect("a thread answers every order it takes");
        lock(&self.shared.stored).retain(|stored| *stored != pack);
        Some(answer)
    }
}

/// What the threads share.
struct Shared {
    orders: Mutex<Receiver<Order>>,
    /// Threads that may still begin to seal.
    permits: Mutex<usize>,
    freed: Condvar,
    /// Memory of packs that are stored.
    buffers: Mutex<Vec<Vec<u8>>>,
    /// Packs that are stored, until somebody receives them.
    stored: Mutex<Vec<PackId>>,
    /// Packs of orders that were sent and are not done.
    under_way: Mutex<BTreeSet<PackId>>,
    done: Condvar,
    /// Nobody waits for answers any more.
    ended: AtomicBool,
}

impl Mover<'_> {
    /// Runs `work` beside threads of which `threads` seal at a time. When it returns, each thread
    /// finishes the pack it is at and ends. With none, packs are made one after the other while `work`
    /// waits for each: the store then sees the same requests in the same order every time.
    pub(super) fn with_threads<T>(
        &self,
        threads: usize,
        work: impl FnOnce(&mut Movers<'_>) -> Result<T, Error>,
    ) -> Result<T, Unfinished> {
        let workers = if threads == 0 { 1 } else { threads + WRITES_MAX };
        let (orders, receiver) = mpsc::sync_channel(workers);
        let shared = Shared {
            orders: Mutex::new(receiver),
            permits: Mutex::new(threads.max(1)),
            freed: Condvar::new(),
            buffers: Mutex::default(),
            stored: Mutex::default(),
            under_way: Mutex::default(),
            done: Condvar::new(),
            ended: AtomicBool::new(false),
        };
        let done = std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| self.move_all(&shared));
            }
            let (shared, pending) = (&shared, VecDeque::new());
            let done = work(&mut Movers { shared, orders, pending, room: workers });
            shared.ended.store(true, Ordering::Relaxed);
            done
        });
        done.map_err(|error| {
            let stored = shared.stored.into_inner().unwrap_or_else(PoisonError::into_inner);
            Unfinished { error, stored }
        })
    }

    fn move_all(&self, shared: &Shared) {
        let mut reseal = match self.keys {
            CopyKeys::Same => None,
            CopyKeys::Change { source, target } => {
                Some(Reseal::new(source, target, self.target.rng()))
            }
        };
        loop {
            // The lock is held while waiting: whoever has it takes the next order.
            let order = lock(&shared.orders).recv();
            let Ok(Order { pack, batch, reply }) = order else { return };
            let order = UnderWay { shared, pack };
            if shared.ended.load(Ordering::Relaxed) {
                return;
            }
            // Whoever gave up on the copy needs no answer.
            let _ = reply.send(self.move_batch(&order, &batch, reseal.as_mut()));
        }
    }

    fn move_batch(
        &self,
        order: &UnderWay<'_>,
        batch: &Batch,
        reseal: Option<&mut Reseal<'_>>,
    ) -> Result<Moved, Error> {
        if batch.iter().all(|(_, pointer)| pointer.is_none()) {
            return Ok(batch.iter().map(|(block, _)| (*block, None)).collect());
        }
        let UnderWay { shared, pack: id } = *order;
        let buffer = lock(&shared.buffers).pop().unwrap_or_default();
        let bytes_max = pack_bytes_max(batch);
        let room = Room::new(buffer, bytes_max);
        let mut pack = PackBuilder::in_room(id, PackKind::Frames, self.target.key(), room);
        let permit = Permit::take(shared);
        let moved = self.fill(&mut pack, batch, reseal)?;
        drop(permit);
        if self.target.is_near_floor((bytes_max * order.count()) as u64)? {
            order.wait_for_earlier();
        }
        lock(&shared.buffers).push(self.target.put_pack(pack)?);
        lock(&shared.stored).push(id);
        Ok(moved)
    }

    fn fill(
        &self,
        pack: &mut PackBuilder,
        batch: &Batch,
        mut reseal: Option<&mut Reseal<'_>>,
    ) -> Result<Moved, Error> {
        let mut moved = Vec::with_capacity(batch.len());
        for (block, pointer) in batch {
            let Some(Pointer { frame: item, .. }) = pointer else {
                moved.push((*block, None));
                continue;
            };
            self.observer.admit(u64::from(item.length));
            let item = match &mut reseal {
                None => pack.push_frame(*block, &self.source.frame(*block, item)?),
                Some(keys) => {
                    let frame = self.source.frame_to_open(*block, item)?;
                    let pushed = pack.push_resealed(*block, &frame, keys);
                    pushed.map_err(|error: FrameError| open_failure(error, item))?
                }
            };
            moved.push((*block, Some(item)));
        }
        Ok(moved)
    }
}

/// At least what the batch becomes, so that a pack does not move while it grows.
fn pack_bytes_max(batch: &Batch) -> usize {
    let items = batch.iter().filter_map(|(_, pointer)| *pointer);
    PACK_OVERHEAD_BYTES_MAX + items.map(|pointer| pointer.frame.length as usize).sum::<usize>()
}

/// An order that a thread has taken, until it is done.
struct UnderWay<'a> {
    shared: &'a Shared,
    pack: PackId,
}

impl UnderWay<'_> {
    /// How many there are, with this one and those that no thread has taken yet.
    fn count(&self) -> usize {
        lock(&self.shared.under_way).len()
    }

    fn wait_for_earlier(&self) {
        let is_earlier = |packs: &mut BTreeSet<PackId>| packs.first() < Some(&self.pack);
        let waited = self.shared.done.wait_while(lock(&self.shared.under_way), is_earlier);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(&self.shared.under_way).remove(&self.pack);
        self.shared.done.notify_all();
    }
}

/// The right to keep a processor busy.
struct Permit<'a>(&'a Shared);

impl<'a> Permit<'a> {
    fn take(shared: &'a Shared) -> Self {
        let none_left = |permits: &mut usize| *permits == 0;
        let permits = shared.freed.wait_while(lock(&shared.permits), none_left);
        *permits.unwrap_or_else(PoisonError::into_inner) -= 1;
        Self(shared)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *lock(&self.0.permits) += 1;
        self.0.freed.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
