//! Upload sessions: snapshots written block by block by a client (EBS direct APIs).
//!
//! A block is durable when [`DirectSession::put_block`] returns. Concurrent puts share a pack:
//! whoever finds no write in progress stores what has queued up, the others wait for the outcome.
//!
//! What a session has written is found again from the store alone. `sessions/<name>/` holds one
//! empty object per process that wrote to it, `<ordinal>-<writer>`, stored before the writer's
//! first pack; the directories of the writer's packs say which blocks they hold. Later packs hide
//! earlier ones. A pack whose put failed may exist all the same, so it is put again, unchanged,
//! before anything else happens: memory and store never disagree about what was written.

use super::Error;
use super::export::begin_facts;
use super::frame::{Digest, Frame, PlainBlock};
use super::node::BLOCKS_MAX;
use super::pack::{ItemRef, PACK_ITEMS_MAX, PackBuilder, PackId, PackIds, PackKind, WriterId};
use super::reader::{SnapshotReader, open_frame};
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, retried};
use super::tree::SnapshotWriter;
use crate::page::{BLOCK_BYTES, DataKey, KeyCheckValue};
use objstore::{Bytes, put_settled};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard};

/// The directory of all sessions.
pub(super) const SESSIONS: &str = "sessions";
/// The longest session name.
pub const SESSION_NAME_BYTES_MAX: usize = 64;

/// What a session is about; the caller keeps it and gives it again after a restart.
#[derive(Clone, Debug)]
pub struct SessionSpec {
    /// Names the session in the store: the snapshot's id.
    pub name: String,
    /// Bytes in the volume.
    pub volume_bytes: u64,
    /// The snapshot that this one begins as. Its root must stay live until the session ends.
    pub parent: Option<SnapshotRoot>,
    /// Recognises the data key that blocks are sealed under.
    pub key_check: KeyCheckValue,
}

/// What the client announced about everything it wrote.
pub struct Announced<'a> {
    /// How many distinct blocks it wrote.
    pub changed_blocks: u64,
    /// A checksum over all of them, if it sent one.
    pub aggregate: Option<AggregateCheck<'a>>,
}

/// Judges the digests of all written blocks, ascending by block.
pub struct AggregateCheck<'a> {
    /// Opens digests that were stored before a restart.
    pub key: &'a DataKey,
    /// Whether the digests are those the client meant.
    pub accepts: &'a dyn Fn(&[Digest]) -> bool,
}

/// SHA-256 over the raw digests in block order: the `LINEAR` aggregation of CompleteSnapshot.
pub fn linear_checksum(digests: &[Digest]) -> Digest {
    let all: Vec<u8> = digests.iter().flat_map(|digest| digest.0).collect();
    Digest::of(&all)
}

/// A snapshot being uploaded. One process at a time may have a session open; within it all
/// methods may be called from any thread.
pub struct DirectSession {
    store: SnapshotStore,
    spec: SessionSpec,
    parent: Option<SnapshotReader>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy)]
struct Written {
    item: ItemRef,
    /// Known since this process started.
    digest: Option<Digest>,
}

struct Queued {
    ticket: u64,
    block: u64,
    digest: Digest,
    frame: Frame,
}

/// A pack whose put has begun.
struct Group {
    pack: PackId,
    bytes: Bytes,
    blocks: Vec<(u64, Written)>,
    tickets: Vec<u64>,
}

struct State {
    written: BTreeMap<u64, Written>,
    queue: Vec<Queued>,
    next_ticket: u64,
    /// Outcomes not yet picked up.
    outcomes: HashMap<u64, Result<(), objstore::Error>>,
    is_writing: bool,
    /// A put that failed and may have happened.
    unsettled: Option<Group>,
    ids: Option<PackIds>,
    next_ordinal: u32,
    is_closed: bool,
}

impl DirectSession {
    /// Opens a session, new or interrupted.
    ///
    /// # Errors
    /// [`Error::SessionName`]; [`Error::WrongKey`] when the parent is under another key; or what
    /// reading gives.
    pub fn open(store: &SnapshotStore, spec: SessionSpec) -> Result<Self, Error> {
        check_session_name(&spec.name)?;
        let parent = spec.parent.as_ref().map(|root| SnapshotReader::open(store, root));
        let parent = parent.transpose()?;
        if let Some(parent) = &parent
            && parent.root().key_check().is_some_and(|check| check != spec.key_check)
        {
            return Err(Error::WrongKey);
        }
        let (written, next_ordinal) = recover(store, &spec.name)?;
        let state = State {
            written,
            queue: Vec::new(),
            next_ticket: 0,
            outcomes: HashMap::new(),
            is_writing: false,
            unsettled: None,
            ids: None,
            next_ordinal,
            is_closed: false,
        };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        Ok(Self { store: store.clone(), spec, parent, state, changed })
    }

    /// Stores a block; durable on return. Repeating it is harmless; a later put hides an earlier
    /// one. Zeros are stored as a block that holds no page.
    ///
    /// # Errors
    /// [`Error::BlockLength`], [`Error::BlockOutOfRange`], [`Error::DigestMismatch`] when the
    /// bytes do not have the digest `announced`, [`Error::WrongKey`], [`Error::SessionClosed`]:
    /// nothing was stored. [`Error::Store`]: the block may or may not be there; repeat the put.
    pub fn put_block(
        &self,
        index: u64,
        plaintext: &[u8],
        announced: Option<Digest>,
        key: &DataKey,
    ) -> Result<Digest, Error> {
        self.check_index(index)?;
        self.check_key(key)?;
        if plaintext.len() != BLOCK_BYTES {
            return Err(Error::BlockLength { length: plaintext.len() });
        }
        let digest = Digest::of(plaintext);
        if announced.is_some_and(|announced| announced != digest) {
            return Err(Error::DigestMismatch);
        }
        let frame = Frame::seal(index, plaintext, digest, key, self.store.rng());
        self.store_group_of(index, digest, frame)?;
        Ok(digest)
    }

    /// Queues a frame and waits until it is stored, storing a group itself if nobody else does.
    fn store_group_of(&self, block: u64, digest: Digest, frame: Frame) -> Result<(), Error> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Error::SessionClosed);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.queue.push(Queued { ticket, block, digest, frame });
        loop {
            if let Some(outcome) = state.outcomes.remove(&ticket) {
                return outcome.map_err(|source| Error::Store { source });
            }
            state = if state.is_writing { self.wait(state) } else { self.write_group(state) };
        }
    }

    /// Stores one group with the lock released, and records the outcome.
    fn write_group<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.is_writing = true;
        let unsettled = state.unsettled.take();
        let is_repeated = unsettled.is_some();
        let take = if is_repeated { 0 } else { state.queue.len().min(PACK_ITEMS_MAX) };
        let frames: Vec<Queued> = state.queue.drain(..take).collect();
        let (ids, ordinal) = (state.ids.take(), state.next_ordinal);
        drop(state);

        let tickets: Vec<u64> = frames.iter().map(|queued| queued.ticket).collect();
        let stored = match unsettled {
            Some(group) => Ok((ids, group)),
            None => self.ready_ids(ids, ordinal).map(|mut ids| {
                let group = self.build_group(ids.next(), frames);
                (Some(ids), group)
            }),
        };
        let stored = stored.map(|(ids, group)| {
            let put = self.store.put_new(&group.pack.object(0), &group.bytes);
            (ids, group, if is_repeated { settle(put) } else { put })
        });

        let mut state = self.state();
        state.is_writing = false;
        match stored {
            Err(error) => state.fail(tickets, &error),
            Ok((ids, group, put)) => {
                state.ids = ids;
                match put {
                    Ok(()) => state.succeed(group),
                    Err(error) => state.suspend(group, &error),
                }
            }
        }
        self.changed.notify_all();
        state
    }

    /// The ids of this process, announced in the store before the first is used.
    fn ready_ids(&self, ids: Option<PackIds>, ordinal: u32) -> Result<PackIds, objstore::Error> {
        if let Some(ids) = ids {
            return Ok(ids);
        }
        // A marker whose put failed may exist; it then names a writer without packs.
        let writer = WriterId::generate(self.store.rng());
        let marker = format!("{SESSIONS}/{}/{ordinal:08x}-{}", self.spec.name, writer.hex());
        put_settled(self.store.objects(), &marker, &Bytes::new())?;
        Ok(PackIds::new(writer))
    }

    fn build_group(&self, pack: PackId, frames: Vec<Queued>) -> Group {
        let mut builder = PackBuilder::new(pack, PackKind::Frames, self.store.key());
        let mut group =
            Group { pack, bytes: Bytes::new(), blocks: Vec::new(), tickets: Vec::new() };
        for queued in frames {
            let item = builder.push_frame(queued.block, &queued.frame);
            group.blocks.push((queued.block, Written { item, digest: Some(queued.digest) }));
            group.tickets.push(queued.ticket);
        }
        group.bytes = builder.finish(self.store.key(), self.store.rng()).1;
        group
    }

    /// A block as it stands: written in this session, or the parent's. `None` means zeros.
    ///
    /// # Errors
    /// As [`SnapshotReader::read_block`].
    pub fn read_block(&self, index: u64, key: &DataKey) -> Result<Option<PlainBlock>, Error> {
        self.check_index(index)?;
        self.check_key(key)?;
        let written = self.state().written.get(&index).copied();
        match (written, &self.parent) {
            (Some(Written { item, .. }), _) => {
                open_frame(&self.store.frame(index, &item)?, key, &item).map(Some)
            }
            (None, Some(parent)) if index < parent.root().volume_blocks() => {
                parent.read_block(index, key)
            }
            (None, _) => Ok(None),
        }
    }

    /// How many distinct blocks were written so far.
    pub fn written_blocks(&self) -> u64 {
        self.state().written.len() as u64
    }

    /// Turns what was written into a snapshot, if it is what the client announced. Afterwards the
    /// session takes no more blocks; after an error it does. When the root is safe in the control
    /// database, call [`release_session`]; until then the call may be repeated in a new process.
    ///
    /// # Errors
    /// [`Error::CountMismatch`], [`Error::AggregateMismatch`], or what reading and writing give.
    pub fn complete(&self, announced: &Announced<'_>) -> Result<SnapshotRoot, Error> {
        let written = self.close()?;
        let completed = self.complete_closed(&written, announced);
        if completed.is_err() {
            self.state().is_closed = false;
        }
        completed
    }

    /// Takes no more blocks, waits for those under way, settles what is uncertain.
    fn close(&self) -> Result<BTreeMap<u64, Written>, Error> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Error::SessionClosed);
        }
        state.is_closed = true;
        let mut attempted = false;
        while state.is_writing || !state.queue.is_empty() || state.unsettled.is_some() {
            if state.is_writing {
                state = self.wait(state);
            } else if attempted && state.unsettled.is_some() {
                let name = state.unsettled.as_ref().map(|group| group.pack.object(0));
                state.is_closed = false;
                return Err(unsettled_error(name.unwrap_or_default()));
            } else {
                attempted = true;
                state = self.write_group(state);
            }
        }
        Ok(state.written.clone())
    }

    fn complete_closed(
        &self,
        written: &BTreeMap<u64, Written>,
        announced: &Announced<'_>,
    ) -> Result<SnapshotRoot, Error> {
        let (expected, actual) = (announced.changed_blocks, written.len() as u64);
        if expected != actual {
            return Err(Error::CountMismatch { expected, actual });
        }
        if let Some(check) = &announced.aggregate {
            self.check_key(check.key)?;
            if !(check.accepts)(&self.digests(written, check.key)?) {
                return Err(Error::AggregateMismatch);
            }
        }
        let (parent, spec) = (self.spec.parent.as_ref(), &self.spec);
        let facts = begin_facts(&self.store, parent, spec.volume_bytes, Some(spec.key_check));
        let mut writer = match parent {
            None => SnapshotWriter::empty(&self.store, facts),
            Some(parent) => SnapshotWriter::child(&self.store, parent, facts)?,
        };
        for (block, Written { item, .. }) in written {
            writer.point(*block, *item)?;
        }
        writer.commit()
    }

    fn digests(
        &self,
        written: &BTreeMap<u64, Written>,
        key: &DataKey,
    ) -> Result<Vec<Digest>, Error> {
        let digest = |(block, written): (&u64, &Written)| {
            if let Some(digest) = written.digest {
                return Ok(digest);
            }
            let corrupt = || super::store::corrupt("digest", &written.item);
            let frame = self.store.frame(*block, &written.item)?;
            frame.open_digest(key).map_err(|_| corrupt())?.ok_or_else(corrupt)
        };
        written.iter().map(digest).collect()
    }

    fn check_index(&self, index: u64) -> Result<(), Error> {
        let blocks = self.spec.volume_bytes.div_ceil(BLOCK_BYTES as u64).min(BLOCKS_MAX);
        if index < blocks { Ok(()) } else { Err(Error::BlockOutOfRange { block: index, blocks }) }
    }

    fn check_key(&self, key: &DataKey) -> Result<(), Error> {
        if key.check_value() != self.spec.key_check {
            return Err(Error::WrongKey);
        }
        self.spec.parent.as_ref().map_or(Ok(()), |parent| parent.check_key(key))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the state")
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).expect("no code panics while it holds the state")
    }
}

impl State {
    fn succeed(&mut self, group: Group) {
        self.written.extend(group.blocks);
        self.outcomes.extend(group.tickets.into_iter().map(|ticket| (ticket, Ok(()))));
    }

    /// Nothing of the group was sent. Whoever queued up meanwhile is told too: the store does not
    /// work, and it is the client that decides when to try again.
    fn fail(&mut self, tickets: Vec<u64>, error: &objstore::Error) {
        let queued = std::mem::take(&mut self.queue);
        for ticket in tickets.into_iter().chain(queued.into_iter().map(|queued| queued.ticket)) {
            self.outcomes.insert(ticket, Err(repeat(error)));
        }
    }

    /// The put may have happened: whoever waits is told to repeat, and the group is kept.
    fn suspend(&mut self, mut group: Group, error: &objstore::Error) {
        self.fail(std::mem::take(&mut group.tickets), error);
        self.unsettled = Some(group);
    }
}

/// The object's name is this session's alone and its bytes never change, so a repeated put that
/// finds it there has happened before.
fn settle(put: Result<(), objstore::Error>) -> Result<(), objstore::Error> {
    match put {
        Err(objstore::Error::AlreadyExists { .. }) => Ok(()),
        outcome => outcome,
    }
}

/// One failure, told to several callers.
fn repeat(error: &objstore::Error) -> objstore::Error {
    match error {
        objstore::Error::Transient { operation, name, source } => {
            // That the disk is full is told from the kind.
            let kind = source.downcast_ref::<io::Error>().map(io::Error::kind);
            let source = match kind {
                Some(kind) => io::Error::new(kind, source.to_string()).into(),
                None => source.to_string().into(),
            };
            objstore::Error::Transient { operation, name: name.clone(), source }
        }
        error => unsettled_source(SESSIONS.to_owned(), error.to_string()),
    }
}

fn unsettled_source(name: String, text: String) -> objstore::Error {
    objstore::Error::Transient { operation: "put", name, source: text.into() }
}

fn unsettled_error(name: String) -> Error {
    Error::Store { source: unsettled_source(name, "an earlier put has not settled".to_owned()) }
}

fn check_session_name(name: &str) -> Result<(), Error> {
    let valid = !name.contains('/') && name.len() <= SESSION_NAME_BYTES_MAX;
    if valid && objstore::check_name(name).is_ok() {
        Ok(())
    } else {
        Err(Error::SessionName { name: name.to_owned() })
    }
}

/// Reads back what earlier processes wrote, and the ordinal that follows theirs.
fn recover(store: &SnapshotStore, name: &str) -> Result<(BTreeMap<u64, Written>, u32), Error> {
    let mut written = BTreeMap::new();
    let mut next_ordinal = 0;
    for (ordinal, writer) in session_writers(store, &format!("{SESSIONS}/{name}"))? {
        next_ordinal = next_ordinal.max(ordinal + 1);
        let mut packs: Vec<(PackId, u32)> = Vec::new();
        for meta in retried(|| store.objects().list(&writer.directory()))? {
            packs.extend(PackId::parse_object(&meta.name));
        }
        packs.sort_unstable();
        for (pack, revision) in packs {
            for entry in store.directory(pack, revision)?.entries {
                let (offset, length) = (entry.offset, entry.length);
                let item = ItemRef { pack, slot: entry.slot, offset, length, tag: entry.tag };
                written.insert(entry.id, Written { item, digest: None });
            }
        }
    }
    Ok((written, next_ordinal))
}

/// All writers announced below a directory of markers, in the order they wrote.
pub(super) fn session_writers(
    store: &SnapshotStore,
    directory: &str,
) -> Result<Vec<(u32, WriterId)>, Error> {
    let mut writers = Vec::new();
    for meta in retried(|| store.objects().list(directory))? {
        let corrupt = || Error::Corrupt { what: "session marker", object: meta.name.clone() };
        let file = meta.name.rsplit('/').next().ok_or_else(corrupt)?;
        let (ordinal, writer) = file.split_once('-').ok_or_else(corrupt)?;
        let ordinal = u32::from_str_radix(ordinal, 16).map_err(|_| corrupt())?;
        writers.push((ordinal, WriterId::parse(writer).ok_or_else(corrupt)?));
    }
    writers.sort_unstable();
    Ok(writers)
}

/// The names of all sessions that were neither completed and released nor given up.
///
/// # Errors
/// When the store cannot be listed.
pub fn list_sessions(store: &SnapshotStore) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for meta in retried(|| store.objects().list(SESSIONS))? {
        let name = meta.name.split('/').nth(1).unwrap_or_default();
        if names.last().is_none_or(|last| last != name) {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Ends a session's hold on what it wrote: after its root was recorded, or to give it up. What no
/// root names is then removed by collections. Repeating it is harmless.
///
/// # Errors
/// [`Error::SessionName`], or when the store fails; repeat then.
pub fn release_session(store: &SnapshotStore, name: &str) -> Result<(), Error> {
    check_session_name(name)?;
    for meta in retried(|| store.objects().list(&format!("{SESSIONS}/{name}")))? {
        match retried(|| store.objects().delete(&meta.name)) {
            Ok(()) | Err(Error::Missing { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
