//! The server's end: sessions of the machine that has a volume, over the volume's file.
//!
//! Of the two locks of a volume, the gate is taken first, and may be held for as long as a disk takes.
//! Whoever has the other one, of its connection, waits for nothing.

mod need;

use crate::gate::{Gate, SessionId};
use crate::lease::{Granted, SteadyClock};
use crate::wire::{
    BASE_PAGES_MAX, BlockSet, CallFailure, Failure, Reply, Request, SnapshotList, SpaceCall,
    VERSION, Welcome, read_frame,
};
use base::{Secret, VolumeId};
use blockstore::live::{Base, CUTS_MAX, CutId, Error, Space};
use blockstore::page::SourceError;
use blockstore::store::{Borrower, EngineAnswer, EngineCall, Loan, STILL_TIME_MAX, StoreError};
use need::bounded;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender as StdSender, SyncSender, channel, sync_channel,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Bytes of requests read from a session and not done yet. More than a machine keeps unflushed, so that
/// its renewals are read however long the disk takes.
const REQUEST_BYTES_WAITING_MAX: usize = 64 << 20;
/// What a request takes beside its frame.
const REQUEST_BYTES: usize = size_of::<Waiting>();
/// Replies that wait for the connection.
const REPLIES_WAITING_MAX: usize = 64;
/// How long a call of the server may take at the machine; it includes writing out what a cut needs. A cut
/// that takes longer to be dropped is dropped all the same, and whoever asks again waits for the rest.
const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// The same for a call that others stand still for.
const STILL_CALL_TIME_MAX: Duration = STILL_TIME_MAX;
/// How often is looked whether a machine that owes an answer is heard of at all.
const SILENCE_LOOK: Duration = Duration::from_millis(100);
/// Failures of one attachment's requests that are told.
const FAILURES_TOLD_MAX: u32 = 100;
/// How long a peer may take to accept bytes.
const SEND_TIME_MAX: Duration = Duration::from_secs(30);

/// A volume that is away: whether its machine is connected, and until when it holds its lease.
pub struct Away {
    id: VolumeId,
    gate: Gate,
    granted: Granted,
    clock: Arc<dyn SteadyClock>,
    lease_ms: u32,
    said_goodbye: AtomicBool,
    is_stopping: AtomicBool,
    /// Failures of its requests that were told.
    told: AtomicU32,
    /// The largest size it was asked to grow to.
    grown_bytes: AtomicU64,
    present: Mutex<Present>,
    /// One connection at a time waits for the requests of the one before.
    beginning: Arc<Semaphore>,
}

/// The connection of the machine, while there is one.
#[derive(Default)]
struct Present {
    session: Option<Connected>,
    calls: BTreeMap<u64, SyncSender<Result<EngineAnswer, CallFailure>>>,
    next_call: u64,
}

struct Connected {
    id: SessionId,
    out: mpsc::Sender<Out>,
    urgent: mpsc::Sender<Vec<u8>>,
    /// Dropped to end the connection.
    _end: oneshot::Sender<()>,
}

/// A request that was read, with its part of what may wait.
struct Waiting {
    id: u64,
    request: Request,
    part: OwnedSemaphorePermit,
}

/// A flush that waits for the disk, with its part of what may wait.
type Flushing = (u64, OwnedSemaphorePermit);

/// A frame to send, behind those before it. What is urgent goes before all of them: renewals, and what
/// the server asks.
enum Out {
    Frame(Vec<u8>),
    /// The connection ends behind it.
    Last(Vec<u8>),
}

impl Away {
    /// A volume whose machine was not connected yet. Leases last `lease_ms`.
    pub fn new(id: VolumeId, clock: Arc<dyn SteadyClock>, lease_ms: u32) -> Self {
        Self::standing(id, clock, lease_ms, 0)
    }

    /// A volume whose machine was connected to an earlier run of the server and may hold a lease of
    /// `held_ms` since. Leases of this run last `lease_ms`.
    pub fn standing(
        id: VolumeId,
        clock: Arc<dyn SteadyClock>,
        lease_ms: u32,
        held_ms: u32,
    ) -> Self {
        let granted = Granted::unknown(clock.millis(), u64::from(held_ms));
        Self {
            id,
            gate: Gate::default(),
            granted,
            clock,
            lease_ms,
            said_goodbye: AtomicBool::default(),
            is_stopping: AtomicBool::default(),
            told: AtomicU32::default(),
            grown_bytes: AtomicU64::default(),
            present: Mutex::default(),
            beginning: Arc::new(Semaphore::new(1)),
        }
    }

    /// Asks the machine to close the volume; `false` when it is not connected.
    pub fn ask_to_let_go(&self) -> bool {
        let present = self.present();
        let frame = || Reply::LetGo.encode(0);
        present.session.as_ref().is_some_and(|session| session.urgent.try_send(frame()).is_ok())
    }

    /// Whether the machine has surely stopped: it said goodbye, or its lease has ended.
    pub fn has_stopped(&self) -> bool {
        self.has_said_goodbye() || self.granted.has_ended(self.clock.millis())
    }

    fn has_said_goodbye(&self) -> bool {
        self.said_goodbye.load(Ordering::SeqCst)
    }

    /// Whether the machine is connected.
    pub fn is_connected(&self) -> bool {
        self.present().session.is_some()
    }

    /// Whether a connected machine was not heard of for half of its lease, within which it should have
    /// renewed it twice. It may be cut off; what it is asked now it may never hear.
    fn is_silent(&self) -> bool {
        self.granted.has_ended(self.clock.millis() + u64::from(self.lease_ms) / 2)
    }

    /// Takes the fence: when this returns, nothing of this machine reaches the file any more. Waits
    /// for disk calls under way.
    pub fn fence(&self) {
        self.gate.close();
        self.dismiss();
    }

    /// Takes the fence if the machine has surely stopped; `false` when it has not, and then it goes
    /// on. No lease is granted between the look and the fence. Waits for disk calls under way, but not
    /// for those of a machine that goes on: a fence that is waited for holds up renewals.
    pub fn fence_if_stopped(&self) -> bool {
        if !self.has_stopped() {
            return false;
        }
        let fenced = self.gate.close_if(|| self.has_stopped());
        if fenced {
            self.dismiss();
        }
        fenced
    }

    /// Ends the machine's connection, and lets none begin: when this returns, nothing of it reaches the file
    /// through this process any more. It is not told that it was fenced, and dials whoever serves next.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.gate.close();
        self.disconnect();
    }

    /// Ends the machine's connection. It may dial again.
    pub fn disconnect(&self) {
        let mut present = self.present();
        present.session = None;
        present.calls.clear();
    }

    /// Tells the machine that the fence was taken, if it is connected.
    fn dismiss(&self) {
        let mut present = self.present();
        let last = || Out::Last(Reply::Fenced.encode(0));
        // A connection that takes no bytes is ended without the word; others end behind it.
        if present.session.as_ref().is_some_and(|session| session.out.try_send(last()).is_err()) {
            present.session = None;
        }
        present.calls.clear();
    }

    /// Begins a session and grants its lease, before the fence can be taken again. Waits for what the
    /// session before asked of the disk.
    fn begin(
        &self,
        out: mpsc::Sender<Out>,
        urgent: mpsc::Sender<Vec<u8>>,
    ) -> Option<(SessionId, oneshot::Receiver<()>)> {
        let begun = |id| {
            if self.has_said_goodbye() {
                return None;
            }
            let (end, ended) = oneshot::channel();
            let mut present = self.present();
            present.session = Some(Connected { id, out, urgent, _end: end });
            present.calls.clear();
            self.granted.grant(self.clock.millis(), u64::from(self.lease_ms));
            Some((id, ended))
        };
        self.gate.begin_with(begun).flatten()
    }

    /// As [`Away::begin`], on a thread that may wait. Of connections that are given up and dialled
    /// again while a disk stands still, one has such a thread.
    async fn begin_elsewhere(
        self: &Arc<Self>,
        out: mpsc::Sender<Out>,
        urgent: mpsc::Sender<Vec<u8>>,
    ) -> io::Result<Option<(SessionId, oneshot::Receiver<()>)>> {
        let turn = Arc::clone(&self.beginning).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let away = Arc::clone(self);
        let begun = move || {
            let _turn = turn;
            away.begin(out, urgent)
        };
        tokio::task::spawn_blocking(begun).await.map_err(io::Error::other)
    }

    fn end(&self, id: SessionId) {
        let mut present = self.present();
        if present.session.as_ref().is_some_and(|session| session.id == id) {
            present.session = None;
            present.calls.clear();
        }
    }

    /// Extends the lease, if the session is still the volume's.
    fn renew(&self, id: SessionId) -> Option<Reply> {
        let _passage = self.gate.try_pass(id)?;
        self.granted.grant(self.clock.millis(), u64::from(self.lease_ms));
        Some(Reply::Renewed(self.lease_ms))
    }

    fn say_goodbye(&self) {
        self.said_goodbye.store(true, Ordering::SeqCst);
    }

    fn answered(&self, id: u64, answer: Result<EngineAnswer, CallFailure>) {
        if let Some(waiting) = self.present().calls.remove(&id) {
            // Whoever asked and gave up needs no answer.
            let _ = waiting.try_send(answer);
        }
    }

    /// Waits for the answer of a machine that is heard of.
    fn wait(
        &self,
        answer: &Receiver<Result<EngineAnswer, CallFailure>>,
        call: EngineCall,
    ) -> Option<Result<EngineAnswer, CallFailure>> {
        let limit = match call {
            EngineCall::StandStill | EngineCall::CutStill(_) | EngineCall::GoOn => {
                STILL_CALL_TIME_MAX
            }
            _ => CALL_TIME_MAX,
        };
        let until = self.clock.millis() + limit.as_millis() as u64;
        loop {
            match answer.recv_timeout(SILENCE_LOOK) {
                Ok(answer) => return Some(answer),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.has_said_goodbye() || self.is_silent() || self.clock.millis() >= until {
                return None;
            }
        }
    }

    /// Tells of a request that failed. Who asks for more and more of them fills no log.
    fn tell(&self, error: &io::Error, what: &'static str) {
        if self.told.fetch_add(1, Ordering::Relaxed) < FAILURES_TOLD_MAX {
            tracing::warn!(volume = %self.id, %error, what, "a request of a volume's machine failed");
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Borrower for Away {
    fn call(&self, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        let away = || StoreError::Away { id: self.id.clone() };
        if let EngineCall::Resize { size_bytes } = call {
            self.grown_bytes.fetch_max(size_bytes, Ordering::Relaxed);
        }
        let (sender, answer) = sync_channel(1);
        let id = {
            let mut present = self.present();
            present.next_call += 1;
            let id = present.next_call;
            let session = present.session.as_ref().ok_or_else(away)?;
            let frame = Reply::Call(call).encode(id);
            session.urgent.try_send(frame).map_err(|_| away())?;
            present.calls.insert(id, sender);
            id
        };
        let answer = self.wait(&answer, call);
        self.present().calls.remove(&id);
        match answer {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(CallFailure::WentOn)) => Err(StoreError::WentOn { id: self.id.clone() }),
            Some(Err(failure)) => Err(StoreError::Volume(engine_error(call, failure))),
            None => Err(away()),
        }
    }
}

/// The machine's failure as its engine put it.
fn engine_error(call: EngineCall, failure: CallFailure) -> Error {
    let named: Option<CutId> = match call {
        EngineCall::Cut(id)
        | EngineCall::ShowCut(id)
        | EngineCall::DropCut(id)
        | EngineCall::PrepareCut(id)
        | EngineCall::CutStill(id) => Some(id),
        EngineCall::NoteExport { cut, .. } => Some(cut),
        EngineCall::Cuts
        | EngineCall::ExportedGeneration { .. }
        | EngineCall::Size
        | EngineCall::Resize { .. }
        | EngineCall::StandStill
        | EngineCall::GoOn
        | EngineCall::HoldState(_)
        | EngineCall::StateStands(_)
        | EngineCall::ReleaseState(_)
        | EngineCall::LetGo => None,
    };
    match (failure, call, named) {
        (CallFailure::CutNotFound, _, Some(id)) => Error::CutNotFound { id },
        (CallFailure::CutExists, _, Some(id)) => Error::CutExists { id },
        (CallFailure::TooManyCuts, ..) => Error::TooManyCuts { limit: CUTS_MAX },
        (CallFailure::BadSize, EngineCall::Resize { size_bytes }, _) => {
            Error::BadSize { size: size_bytes }
        }
        (CallFailure::Full, ..) => Error::Full,
        _ => Error::Failed,
    }
}

/// Who knows the snapshots of a lent volume.
pub trait Snapshots: Send + Sync {
    /// Those there are now; none when they cannot be asked for. May wait for storage.
    fn list(&self) -> SnapshotList;
}

/// What the sessions of one attachment work on.
pub struct Served {
    /// The volume.
    pub away: Arc<Away>,
    /// The attachment's fencing epoch.
    pub epoch: u64,
    /// Bytes in the volume when it was lent.
    pub size_bytes: u64,
    /// Its file and structure key.
    pub loan: Loan,
    /// The snapshot it falls through to.
    pub base: Option<Base>,
    /// The data key, of a volume that is not encrypted under a KMS key.
    pub plain_key: Option<Secret<[u8; 64]>>,
    /// Its snapshots.
    pub snapshots: Arc<dyn Snapshots>,
}

impl Served {
    /// Serves one connection to its end.
    pub async fn serve(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Send + 'static) {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let (out, frames) = mpsc::channel(REPLIES_WAITING_MAX);
        let (urgent, urgent_frames) = mpsc::channel(REPLIES_WAITING_MAX);
        let (session, ended) = match self.away.begin_elsewhere(out.clone(), urgent.clone()).await {
            Ok(Some(begun)) => begun,
            // Whoever serves next tells it where it stands.
            Ok(None) if self.away.is_stopping.load(Ordering::SeqCst) => return,
            Ok(None) => {
                // The peer learns why, if it still listens.
                let _ = send(&mut writer, &Reply::Fenced.encode(0)).await;
                return;
            }
            Err(error) => {
                tracing::error!(volume = %self.away.id, %error, "a channel did not begin");
                return;
            }
        };
        let (queue, requests) = mpsc::unbounded_channel();
        let worker = Worker { served: Arc::clone(&self), session, out };
        let started = worker.start(requests);
        let reading = self.read(&mut reader, session, queue, urgent);
        let writing = async {
            // Its frame holds keys, and is gone when it is sent: a session may last for months.
            send(&mut writer, &self.welcome()).await?;
            write_frames(&mut writer, urgent_frames, frames).await
        };
        let outcome = match started {
            Err(error) => Err(error),
            Ok(()) => tokio::select! {
                read = reading => read,
                written = writing => written,
                _ = ended => Ok(()),
            },
        };
        if let Err(error) = outcome {
            tracing::info!(volume = %self.away.id, %error, "the channel of a volume broke");
        }
        self.away.end(session);
    }

    fn welcome(&self) -> Vec<u8> {
        let welcome = Reply::Welcome(Box::new(Welcome {
            epoch: self.epoch,
            lease_ms: self.away.lease_ms,
            structure: self.loan.structure.to_bytes(),
            base: self.base.as_ref().map(|base| base.id),
            plain_key: self.plain_key.as_ref().map(Secret::duplicate),
        }));
        welcome.encode(0)
    }

    async fn read(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        session: SessionId,
        queue: mpsc::UnboundedSender<Waiting>,
        urgent: mpsc::Sender<Vec<u8>>,
    ) -> io::Result<()> {
        let room = Arc::new(Semaphore::new(REQUEST_BYTES_WAITING_MAX));
        while let Some(frame) = read_frame(reader).await? {
            let Some((id, request)) = Request::decode(&frame) else {
                let what = format!("no request of version {VERSION}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            };
            match request {
                Request::Renew => {
                    if let Some(reply) = self.away.renew(session)
                        && urgent.send(reply.encode(id)).await.is_err()
                    {
                        return Ok(());
                    }
                }
                Request::Answer(answer) => self.away.answered(id, answer),
                request => {
                    let bytes = (frame.len() + REQUEST_BYTES) as u32;
                    let part = Arc::clone(&room).acquire_many_owned(bytes).await;
                    let part = part.expect("the semaphore is never closed");
                    if queue.send(Waiting { id, request, part }).is_err() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Does what a request asks of the file; `None` when it is done and needs no reply.
    fn execute(&self, request: Request) -> Option<Reply> {
        let disk = &self.loan.disk;
        let failed = |error: io::Error| {
            self.away.tell(&error, "its file failed");
            Reply::Failed(match error.kind() {
                io::ErrorKind::StorageFull => Failure::NoSpace,
                _ => Failure::Storage,
            })
        };
        let unread = |error: io::Error| match error.raw_os_error() {
            Some(code) if code == Errno::IO.raw_os_error() => {
                self.away.tell(&error, "a place of its file cannot be read");
                Reply::Failed(Failure::Unreadable)
            }
            _ => failed(error),
        };
        match request {
            Request::Read { offset, length } => {
                let mut data = vec![0; length as usize];
                Some(disk.read(offset, &mut data).map_or_else(unread, |()| Reply::Data(data)))
            }
            Request::Write { offset, data } => disk.write(offset, &data).map_err(failed).err(),
            Request::FillAhead { offset, length } => {
                self.not_needed(disk.fill_ahead(offset, u64::from(length)))
            }
            Request::Punch { offset, length } => self.not_needed(disk.punch(offset, length)),
            Request::Length => Some(disk.len().map_or_else(failed, Reply::Length)),
            Request::ForgetCached => {
                Some(disk.forget_cached().map_or_else(failed, |()| Reply::Done))
            }
            Request::Base { first, count } => Some(self.read_base(first, count)),
            Request::ProvenPage { page } => Some(match &self.base {
                None => Reply::Failed(Failure::Storage),
                Some(base) => {
                    let read = base.reader.read_page_proven(page);
                    read.map_or_else(|e| base_failed(&e), |page| Reply::Pages(vec![page]))
                }
            }),
            Request::Blocks { first, count } => Some(self.find_blocks(first, count)),
            Request::Snapshots => Some(Reply::Snapshots(self.snapshots.list())),
            Request::Space { call, need } => {
                let space = &self.loan;
                let size_bytes = self.size_bytes.max(self.away.grown_bytes.load(Ordering::Relaxed));
                let need = bounded(need, size_bytes, space.stored_bytes());
                let granted = match call {
                    SpaceCall::Ask => space.ask(need),
                    SpaceCall::Tell => {
                        space.tell(need);
                        true
                    }
                    SpaceCall::Refused => {
                        space.refused();
                        false
                    }
                };
                Some(Reply::Space { granted, is_short: space.is_short() })
            }
            Request::Goodbye => {
                self.away.say_goodbye();
                Some(Reply::Done)
            }
            Request::Renew | Request::Flush | Request::Answer(_) => None,
        }
    }

    /// What only saves time or space fails nobody: a file system may know no holes, or be too full for one.
    fn not_needed(&self, done: io::Result<()>) -> Option<Reply> {
        if let Err(error) = done {
            self.away.tell(&error, "space was not given back, or not filled ahead");
        }
        None
    }

    fn read_base(&self, first: u64, count: u32) -> Reply {
        let Some(base) = &self.base else { return Reply::Failed(Failure::Storage) };
        let mut pages = Vec::with_capacity(count.min(BASE_PAGES_MAX) as usize);
        for lba in first..first + u64::from(count) {
            match base.reader.read_page(lba) {
                Ok(page) => pages.push(page),
                Err(error) => return base_failed(&error),
            }
        }
        Reply::Pages(pages)
    }

    fn find_blocks(&self, first: u64, count: u32) -> Reply {
        let has = |block| self.base.as_ref().map_or(Ok(false), |base| base.reader.has_block(block));
        BlockSet::of(first, count, has).map_or_else(|error| base_failed(&error), Reply::Blocks)
    }
}

fn base_failed(error: &SourceError) -> Reply {
    Reply::Failed(match error {
        SourceError::Corrupt { .. } => Failure::Damaged,
        SourceError::Unavailable { .. } => Failure::Unavailable,
    })
}

/// Writes what comes until the last. An urgent frame waits for one other at most.
async fn write_frames(
    writer: &mut (impl AsyncWrite + Unpin),
    mut urgent: mpsc::Receiver<Vec<u8>>,
    mut frames: mpsc::Receiver<Out>,
) -> io::Result<()> {
    loop {
        let frame = tokio::select! {
            biased;
            frame = urgent.recv() => frame.map(Out::Frame),
            frame = frames.recv() => frame,
        };
        match frame {
            Some(Out::Frame(frame)) => send(writer, &frame).await?,
            Some(Out::Last(frame)) => return send(writer, &frame).await,
            None => return Ok(()),
        }
    }
}

async fn send(writer: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> io::Result<()> {
    let sent = async {
        writer.write_all(frame).await?;
        writer.flush().await
    };
    tokio::time::timeout(SEND_TIME_MAX, sent).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// The threads of a session: one executes its requests in order, one waits for the disk's flushes.
#[derive(Clone)]
struct Worker {
    served: Arc<Served>,
    session: SessionId,
    out: mpsc::Sender<Out>,
}

impl Worker {
    fn start(self, requests: mpsc::UnboundedReceiver<Waiting>) -> io::Result<()> {
        let name = |what: &str| format!("{} {what}", self.served.away.id);
        let (flushes, waiting) = channel();
        let flusher = self.clone();
        let (requests_name, flush_name) = (name("remote"), name("sync"));
        std::thread::Builder::new().name(flush_name).spawn(move || flusher.flush(&waiting))?;
        std::thread::Builder::new()
            .name(requests_name)
            .spawn(move || self.work(requests, &flushes))?;
        Ok(())
    }

    fn work(self, mut requests: mpsc::UnboundedReceiver<Waiting>, flushes: &StdSender<Flushing>) {
        while let Some(Waiting { id, request, part }) = requests.blocking_recv() {
            if request == Request::Flush {
                if flushes.send((id, part)).is_err() {
                    return;
                }
                continue;
            }
            // Held through the disk call: the fence waits for it.
            let Some(passage) = self.served.away.gate.pass(self.session) else { return };
            let reply = self.served.execute(request);
            drop(passage);
            if let Some(reply) = reply
                && self.out.blocking_send(Out::Frame(reply.encode(id))).is_err()
            {
                return;
            }
            drop(part);
        }
    }

    /// Flushes that wait for the disk together are answered together. A flush that ended after the
    /// fence was taken is not acknowledged.
    fn flush(self, waiting: &Receiver<Flushing>) {
        let away = &self.served.away;
        while let Ok(first) = waiting.recv() {
            let round = std::iter::once(first).chain(waiting.try_iter()).collect::<Vec<_>>();
            if away.gate.pass(self.session).is_none() {
                return;
            }
            let flushed = self.served.loan.disk.flush();
            if away.gate.pass(self.session).is_none() {
                return;
            }
            let reply = match &flushed {
                Ok(()) => Reply::Done,
                Err(error) => {
                    tracing::error!(volume = %away.id, %error, "a volume's file was not flushed");
                    Reply::Failed(Failure::Storage)
                }
            };
            for (id, _part) in round {
                if self.out.blocking_send(Out::Frame(reply.encode(id))).is_err() {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
