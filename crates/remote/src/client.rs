//! The machine's end: one link to the volume's file that outlives its connections.
//!
//! A request is kept until it is answered, a write until a later flush is. When the connection breaks,
//! or nothing comes on it any more, a new one is dialled and everything kept is sent again, in order: a server that was restarted,
//! or lost power, in between ends up with what it would have had. The link is lost for good when the
//! fence is taken or the lease ends first.

use crate::BoxFuture;
use crate::heard::Heard;
use crate::lease::{Held, SteadyClock};
use crate::server::Snapshots;
use crate::wire::{
    CallFailure, Failure, Reply, Request, SnapshotList, SpaceCall, Welcome, read_frame,
};
use blockstore::live::{Error, Need};
use blockstore::store::{EngineAnswer, EngineCall, StoreError};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

/// Bytes of writes kept until they are durable. Beyond it a write waits for a flush.
const UNFLUSHED_BYTES_MAX: usize = 32 << 20;
/// The pause before dialling again.
const REDIAL: Duration = Duration::from_millis(200);
/// How long dialling may take.
const DIAL_TIME_MAX: Duration = Duration::from_secs(5);
/// Leases are extended this many times within one.
const RENEWALS_PER_LEASE: u32 = 5;
/// A connection on which nothing comes for so many renewals is broken: the next one was asked for since,
/// and the server answers it before all else. Enough of the lease is left to dial twice.
const RENEWALS_UNHEARD_MAX: u32 = 2;

/// A connection's bytes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The server took the volume away by force: dialling again is no use.
    #[error("the volume was taken away by force")]
    Fenced,
    /// The server does not answer; dialling again may help.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The server says that the volume is not this machine's any more.
    #[error("{0}")]
    Refused(String),
}

/// Makes connections for one attachment under one epoch.
pub trait Dial: Send + Sync {
    /// A connection that was upgraded to the channel's protocol.
    fn dial(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, DialError>>;
}

/// Why the link is lost.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Loss {
    /// The server took the fence.
    #[error("the volume was taken away by force")]
    Fenced,
    /// The server could not be heard of in time.
    #[error("the lease ended before the server answered")]
    LeaseEnded,
    /// The server refuses this attachment.
    #[error("the server refused the attachment: {0}")]
    Refused(String),
    /// It was closed here.
    #[error("the volume was closed")]
    Closed,
}

/// Makes a call of the server on the engine.
pub type CallHandler = Arc<dyn Fn(EngineCall) -> Result<EngineAnswer, StoreError> + Send + Sync>;

/// The link. Clones are the same.
#[derive(Clone)]
pub struct Link(Arc<Shared>);

struct Shared {
    clock: Arc<dyn SteadyClock>,
    held: Held,
    state: Mutex<State>,
    calls: Mutex<Option<CallHandler>>,
    lost: watch::Sender<Option<Loss>>,
    failed: watch::Sender<Option<Failure>>,
    let_go: watch::Sender<bool>,
    is_space_short: AtomicBool,
}

#[derive(Default)]
struct State {
    next_id: u64,
    kept: BTreeMap<u64, Kept>,
    unflushed_bytes: usize,
    /// The present connection.
    out: Option<Lanes>,
    renewals: BTreeMap<u64, u64>,
    /// Connections so far. What the server asked to hold ends with the connection it asked on.
    connections: u64,
    lost: Option<Loss>,
    /// The last request is the goodbye.
    leaves: bool,
    /// What the volume was last told to need: a server that was started again does not know.
    told: Option<Need>,
    /// A write or a flush failed at the server; nothing later can be trusted to lie on top of it.
    failed: Option<Failure>,
}

/// The ways into a connection. What waits in the first goes before all that waits in the second.
struct Lanes {
    /// Renewals: a lease must not end because the machine has much to send.
    renewals: mpsc::UnboundedSender<Arc<Vec<u8>>>,
    /// Everything else, in order.
    requests: mpsc::UnboundedSender<Arc<Vec<u8>>>,
}

/// A request that may have to be sent again.
struct Kept {
    frame: Arc<Vec<u8>>,
    waiting: Waiting,
}

enum Waiting {
    /// A write, or what is told of space: for the next flush.
    Flush,
    /// What only saves time or space. It is not sent again: what was written over it may have arrived
    /// already, and would be gone until it is sent again itself.
    Nothing,
    /// The flush itself, and who asked for it.
    Flushed(SyncSender<Reply>),
    /// Anything else.
    Reply(SyncSender<Reply>),
}

impl Link {
    /// Dials and returns the link with the server's welcome. It is kept up by a task of the present
    /// runtime until it is lost.
    ///
    /// # Errors
    /// When the first connection does not come about.
    pub async fn open(
        dial: Arc<dyn Dial>,
        clock: Arc<dyn SteadyClock>,
    ) -> Result<(Self, Welcome), DialError> {
        let (lost, let_go) = (watch::Sender::new(None), watch::Sender::new(false));
        let shared = Arc::new(Shared {
            clock,
            held: Held::default(),
            state: Mutex::default(),
            calls: Mutex::default(),
            lost,
            failed: watch::Sender::new(None),
            let_go,
            is_space_short: AtomicBool::default(),
        });
        let (stream, welcome) = shared.connect(&*dial).await?;
        let (epoch, lease) = (welcome.epoch, welcome.lease_ms);
        let keeper = Arc::clone(&shared);
        tokio::spawn(async move {
            tokio::select! {
                loss = keeper.keep(&*dial, (stream, lease), epoch) => keeper.lose(loss),
                () = keeper.watch_lease() => keeper.lose(Loss::LeaseEnded),
                () = keeper.until_lost() => {}
            }
        });
        Ok((Self(shared), welcome))
    }

    /// Who makes the server's calls. Until one is named they fail.
    pub fn on_call(&self, handler: CallHandler) {
        *self.0.calls.lock().unwrap_or_else(PoisonError::into_inner) = Some(handler);
    }

    /// Whether the volume may be used now.
    pub fn holds(&self) -> bool {
        self.0.held.holds(self.0.clock.millis())
    }

    /// Turns to the reason when the link is lost.
    pub fn lost(&self) -> watch::Receiver<Option<Loss>> {
        self.0.lost.subscribe()
    }

    /// Turns to the reason when a write or a flush failed at the server: nothing is taken any more, and
    /// only another link may be.
    pub fn failed(&self) -> watch::Receiver<Option<Failure>> {
        self.0.failed.subscribe()
    }

    /// Turns true when the server wants the volume back.
    pub fn let_go(&self) -> watch::Receiver<bool> {
        self.0.let_go.subscribe()
    }

    /// Tells the server that the volume is closed here, and ends the link. Waits for the server's
    /// answer at most as long as the lease lasts.
    pub fn goodbye(&self) {
        let (sender, reply) = sync_channel(1);
        let posted = {
            let mut state = self.0.state();
            // Together: a connection that breaks now is no answer to it.
            state.leaves = true;
            state.post(|id| Request::Goodbye.encode(id), Waiting::Reply(sender))
        };
        if posted.is_ok() {
            // A server that does not answer finds out when the lease ends.
            let _ = self.await_reply(&reply);
        }
        self.0.lose(Loss::Closed);
    }

    /// Sends a request and waits for its reply, through as many connections as it takes.
    pub(crate) fn ask(&self, request: &Request) -> io::Result<Reply> {
        self.await_reply(&self.start(request)?)
    }

    /// Sends a request; its reply is waited for with [`Link::await_reply`].
    pub(crate) fn start(&self, request: &Request) -> io::Result<Receiver<Reply>> {
        let (sender, reply) = sync_channel(1);
        let waiting = match request {
            Request::Flush => Waiting::Flushed(sender),
            _ => Waiting::Reply(sender),
        };
        self.0.post(|id| request.encode(id), waiting)?;
        Ok(reply)
    }

    pub(crate) fn await_reply(&self, reply: &Receiver<Reply>) -> io::Result<Reply> {
        let reply = reply.recv().map_err(|_| self.0.error())?;
        if !self.holds() {
            return Err(self.0.error());
        }
        match reply {
            Reply::Failed(failure) => Err(error_of(failure)),
            reply => Ok(reply),
        }
    }

    /// Makes what was written durable.
    pub(crate) fn flush(&self) -> io::Result<()> {
        match self.ask(&Request::Flush)? {
            Reply::Done => self.all_went_well(),
            _ => Err(unexpected()),
        }
    }

    /// Waits until the server has made what was sent before: it answers in order.
    pub(crate) fn wait_for_writes(&self) -> io::Result<()> {
        self.ask(&Request::Length)?;
        self.all_went_well()
    }

    /// Says what the volume needs, and waits for no answer.
    pub(crate) fn tell_space(&self, call: SpaceCall, need: Need) {
        if call == SpaceCall::Tell {
            self.0.state().told = Some(need);
        }
        let request = Request::Space { call, need };
        if let Err(error) = self.0.post(|id| request.encode(id), Waiting::Flush) {
            tracing::debug!(%error, "the server is not told what the volume needs");
        }
    }

    /// Whether the server had little space left when it last answered.
    pub(crate) fn is_space_short(&self) -> bool {
        self.0.is_space_short.load(Ordering::Acquire)
    }

    /// Whether no write failed that was answered so far.
    fn all_went_well(&self) -> io::Result<()> {
        self.0.state().failed.map_or(Ok(()), |failure| Err(error_of(failure)))
    }

    /// Sends what only saves time or space, once, and does not wait for it.
    pub(crate) fn prepare(&self, request: &Request) -> io::Result<()> {
        if !self.holds() {
            return Err(self.0.error());
        }
        self.0.post(|id| request.encode(id), Waiting::Nothing)
    }

    /// Sends a write and does not wait for it; its failure fails everything later.
    pub(crate) fn write(&self, bytes: usize, frame: impl Fn(u64) -> Vec<u8>) -> io::Result<()> {
        if self.0.state().unflushed_bytes + bytes > UNFLUSHED_BYTES_MAX {
            self.flush()?;
        }
        if !self.holds() {
            return Err(self.0.error());
        }
        self.0.post(frame, Waiting::Flush)
    }
}

/// The server's list, through the link.
impl Snapshots for Link {
    fn list(&self) -> SnapshotList {
        match self.ask(&Request::Snapshots) {
            Ok(Reply::Snapshots(list)) => list,
            Ok(_) | Err(_) => {
                tracing::warn!("the server did not say which snapshots the volume has");
                SnapshotList::default()
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, frame: impl Fn(u64) -> Vec<u8>, waiting: Waiting) -> io::Result<()> {
        self.state().post(frame, waiting)
    }

    fn error(&self) -> io::Error {
        let loss = self.state().lost.clone();
        io::Error::other(loss.unwrap_or(Loss::LeaseEnded))
    }

    /// Ends the link: whoever waits gets an error, and nothing is sent any more.
    fn lose(&self, loss: Loss) {
        self.held.give_up();
        let mut state = self.state();
        if state.lost.is_none() {
            state.lost = Some(loss.clone());
            state.kept.clear();
            state.out = None;
            drop(state);
            self.lost.send_replace(Some(loss));
        }
    }

    async fn until_lost(&self) {
        // The sender lives as long as `self`.
        let _ = self.lost.subscribe().wait_for(Option::is_some).await;
    }

    /// Returns when the lease has ended.
    async fn watch_lease(&self) {
        loop {
            match self.held.left(self.clock.millis()) {
                0 => return,
                left => tokio::time::sleep(Duration::from_millis(left)).await,
            }
        }
    }

    /// Dials, and reads the welcome. The lease counts from before.
    async fn connect(&self, dial: &dyn Dial) -> Result<(Box<dyn Stream>, Welcome), DialError> {
        let sent = self.clock.millis();
        let attempt = async {
            let mut stream = dial.dial().await?;
            let broken = |error: io::Error| DialError::Unreachable(error.to_string());
            let frame = read_frame(&mut stream).await.map_err(broken)?;
            let frame = frame.ok_or_else(|| broken(io::ErrorKind::UnexpectedEof.into()))?;
            match Reply::decode(&frame) {
                Some((_, Reply::Welcome(welcome))) => Ok((stream, *welcome)),
                Some((_, Reply::Fenced)) => Err(DialError::Fenced),
                _ => Err(DialError::Refused("it speaks another version".to_owned())),
            }
        };
        let (stream, welcome) = tokio::time::timeout(DIAL_TIME_MAX, attempt)
            .await
            .map_err(|_| DialError::Unreachable("no answer in time".to_owned()))??;
        self.held.granted(sent, u64::from(welcome.lease_ms));
        Ok((stream, welcome))
    }

    /// Serves connections one after the other; returns why there can be no more.
    async fn keep(
        self: &Arc<Self>,
        dial: &dyn Dial,
        mut connection: (Box<dyn Stream>, u32),
        epoch: u64,
    ) -> Loss {
        loop {
            match self.session(connection).await {
                Err(SessionEnd::Lost(loss)) => return loss,
                // The server ends it when it has answered.
                _ if self.has_left() => return Loss::Closed,
                Ok(()) => tracing::warn!("the connection ended; dialling again"),
                Err(SessionEnd::Broken(error)) => {
                    tracing::warn!(%error, "the connection broke; dialling again");
                }
            }
            self.disconnected().await;
            connection = loop {
                match self.connect(dial).await {
                    Ok((stream, welcome)) if welcome.epoch == epoch => {
                        break (stream, welcome.lease_ms);
                    }
                    Ok(_) => return Loss::Fenced,
                    Err(DialError::Fenced) => return Loss::Fenced,
                    Err(DialError::Refused(why)) => return Loss::Refused(why),
                    Err(DialError::Unreachable(error)) => {
                        tracing::debug!(error, "not connected yet");
                        tokio::time::sleep(REDIAL).await;
                    }
                }
            };
            tracing::info!("connected again");
        }
    }

    /// Whether the goodbye was answered.
    fn has_left(&self) -> bool {
        let state = self.state();
        let waits = |kept: &Kept| matches!(kept.waiting, Waiting::Reply(_));
        state.leaves && !state.kept.values().any(waits)
    }

    /// Drops what is not sent again, and gives up what the server had asked to hold, before another
    /// connection can ask for more.
    async fn disconnected(self: &Arc<Self>) {
        {
            let mut state = self.state();
            state.out = None;
            state.connections += 1;
            state.kept.retain(|_, kept| !matches!(kept.waiting, Waiting::Nothing));
        }
        let shared = Arc::clone(self);
        let let_go = tokio::task::spawn_blocking(move || {
            if let Some(Err(error)) = shared.handler().map(|handler| handler(EngineCall::LetGo)) {
                tracing::error!(%error, "what the server had asked to hold was not given up");
            }
        });
        if let Err(error) = let_go.await {
            tracing::error!(%error, "giving up what the server had asked to hold panicked");
        }
    }

    fn handler(&self) -> Option<CallHandler> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn session(
        self: &Arc<Self>,
        (stream, lease_ms): (Box<dyn Stream>, u32),
    ) -> Result<(), SessionEnd> {
        let (reader, mut writer) = tokio::io::split(stream);
        let heard = Heard::new(Arc::clone(&self.clock));
        let mut reader = heard.listen(reader);
        let (renewals, urgent) = mpsc::unbounded_channel();
        let (requests, frames) = mpsc::unbounded_channel();
        {
            let mut state = self.state();
            if let Some(need) = state.told {
                let request = Request::Space { call: SpaceCall::Tell, need };
                // As below. Nobody waits for the answer.
                let _ = requests.send(Arc::new(request.encode(0)));
            }
            for kept in state.kept.values() {
                // The receiver is here.
                let _ = requests.send(Arc::clone(&kept.frame));
            }
            state.renewals.clear();
            state.out = Some(Lanes { renewals, requests });
        }
        let reading = async {
            while let Some(frame) = read_frame(&mut reader).await? {
                self.receive(&frame)?;
            }
            Ok(())
        };
        let writing = async { Ok(write_frames(&mut writer, urgent, frames).await?) };
        let pause = Duration::from_millis(u64::from(lease_ms / RENEWALS_PER_LEASE));
        let renewing = async {
            loop {
                tokio::time::sleep(pause).await;
                self.renew();
            }
        };
        tokio::select! {
            read = reading => read,
            written = writing => written,
            ended = renewing => ended,
            () = heard.silence_of(pause * RENEWALS_UNHEARD_MAX) => {
                Err(SessionEnd::Broken(io::ErrorKind::TimedOut.into()))
            }
        }
    }

    fn renew(&self) {
        let now = self.clock.millis();
        let mut state = self.state();
        state.next_id += 1;
        let id = state.next_id;
        state.renewals.insert(id, now);
        if let Some(out) = &state.out {
            // As in `post`; a renewal is not sent again.
            let _ = out.renewals.send(Arc::new(Request::Renew.encode(id)));
        }
    }

    fn receive(self: &Arc<Self>, frame: &[u8]) -> Result<(), SessionEnd> {
        let (id, reply) = Reply::decode(frame).ok_or_else(unexpected)?;
        match reply {
            Reply::Fenced => return Err(SessionEnd::Lost(Loss::Fenced)),
            Reply::LetGo => drop(self.let_go.send_replace(true)),
            Reply::Call(call) => self.make_call(id, call),
            Reply::Renewed(lease_ms) => {
                if let Some(sent) = self.state().renewals.remove(&id) {
                    self.held.granted(sent, u64::from(lease_ms));
                }
            }
            reply => {
                if let Reply::Space { is_short, .. } = reply {
                    self.is_space_short.store(is_short, Ordering::Release);
                }
                self.replied(id, reply);
            }
        }
        Ok(())
    }

    fn replied(&self, id: u64, reply: Reply) {
        let mut state = self.state();
        // A request that was sent twice is answered twice.
        let Some(kept) = state.kept.remove(&id) else { return };
        let asker = match kept.waiting {
            Waiting::Flush => {
                state.unflushed_bytes -= kept.frame.len();
                if let Reply::Failed(failure) = reply {
                    self.fail(&mut state, failure);
                }
                return;
            }
            Waiting::Nothing => {
                return tracing::warn!(
                    ?reply,
                    "the server did not do what would save time or space"
                );
            }
            Waiting::Flushed(asker) => {
                match reply {
                    Reply::Done => state.forget_writes_before(id),
                    Reply::Failed(failure) => self.fail(&mut state, failure),
                    _ => {}
                }
                asker
            }
            Waiting::Reply(asker) => asker,
        };
        // Whoever asked and is gone needs no answer.
        let _ = asker.try_send(reply);
    }

    fn fail(&self, state: &mut State, failure: Failure) {
        state.failed = Some(failure);
        self.failed.send_replace(Some(failure));
    }

    /// Makes a call beside the connection, whose requests the engine may need for it.
    fn make_call(self: &Arc<Self>, id: u64, call: EngineCall) {
        let shared = Arc::clone(self);
        let connection = self.state().connections;
        tokio::task::spawn_blocking(move || {
            let Some(handler) = shared.handler() else {
                return shared.answer(connection, id, Err(CallFailure::Failed));
            };
            let made = handler(call).map_err(|error| failure_of(&error));
            let ended = shared.state().connections != connection;
            if ended && handler(EngineCall::LetGo).is_err() {
                tracing::error!("what the server had asked to hold was not given up");
            }
            shared.answer(connection, id, made);
        });
    }

    /// Answers on the connection that was asked on. A server whose connection has ended asks again, perhaps
    /// as another process, whose call by that number is another.
    fn answer(&self, connection: u64, id: u64, made: Result<EngineAnswer, CallFailure>) {
        let state = self.state();
        if state.connections == connection
            && let Some(out) = &state.out
        {
            // As in `post`.
            let _ = out.requests.send(Arc::new(Request::Answer(made).encode(id)));
        }
    }
}

/// Writes what comes until nothing can come any more. An urgent frame waits for one other at most.
async fn write_frames(
    writer: &mut (impl AsyncWrite + Unpin),
    mut urgent: mpsc::UnboundedReceiver<Arc<Vec<u8>>>,
    mut frames: mpsc::UnboundedReceiver<Arc<Vec<u8>>>,
) -> io::Result<()> {
    loop {
        let frame = match urgent.try_recv().or_else(|_| frames.try_recv()) {
            Ok(frame) => frame,
            Err(_) => {
                writer.flush().await?;
                let frame = tokio::select! {
                    biased;
                    frame = urgent.recv() => frame,
                    frame = frames.recv() => frame,
                };
                // Both end together, with the connection.
                let Some(frame) = frame else { return Ok(()) };
                frame
            }
        };
        writer.write_all(&frame).await?;
    }
}

impl State {
    /// Sends a request, or has it sent on the next connection.
    fn post(&mut self, frame: impl Fn(u64) -> Vec<u8>, waiting: Waiting) -> io::Result<()> {
        if let Some(loss) = &self.lost {
            return Err(io::Error::other(loss.clone()));
        }
        // A goodbye writes nothing.
        if let Some(failure) = self.failed
            && !self.leaves
        {
            return Err(error_of(failure));
        }
        self.next_id += 1;
        let id = self.next_id;
        let frame = Arc::new(frame(id));
        if matches!(waiting, Waiting::Flush) {
            self.unflushed_bytes += frame.len();
        }
        if let Some(out) = &self.out {
            // A connection that has ended is replaced, and the request sent then.
            let _ = out.requests.send(Arc::clone(&frame));
        }
        self.kept.insert(id, Kept { frame, waiting });
        Ok(())
    }

    /// What came before a flush is durable.
    fn forget_writes_before(&mut self, flush: u64) {
        let later = self.kept.split_off(&flush);
        let earlier = std::mem::replace(&mut self.kept, later);
        for (id, kept) in earlier {
            match kept.waiting {
                Waiting::Flush => self.unflushed_bytes -= kept.frame.len(),
                Waiting::Nothing => {}
                Waiting::Flushed(_) | Waiting::Reply(_) => drop(self.kept.insert(id, kept)),
            }
        }
    }
}

/// How a connection ended.
enum SessionEnd {
    /// There is no use in another.
    Lost(Loss),
    Broken(io::Error),
}

impl From<io::Error> for SessionEnd {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

pub(crate) fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the server's reply is not one to this request")
}

fn error_of(failure: Failure) -> io::Error {
    match failure {
        Failure::NoSpace => io::ErrorKind::StorageFull.into(),
        Failure::Storage => io::Error::other("the server's storage failed"),
        // As the server's system said.
        Failure::Unreadable => Errno::IO.into(),
        Failure::Unavailable => io::ErrorKind::NotConnected.into(),
        Failure::Damaged => io::ErrorKind::InvalidData.into(),
    }
}

fn failure_of(error: &StoreError) -> CallFailure {
    match error {
        StoreError::Volume(Error::CutNotFound { .. }) => CallFailure::CutNotFound,
        StoreError::Volume(Error::CutExists { .. }) => CallFailure::CutExists,
        StoreError::Volume(Error::TooManyCuts { .. }) => CallFailure::TooManyCuts,
        StoreError::Volume(Error::BadSize { .. }) => CallFailure::BadSize,
        StoreError::Volume(Error::Full) => CallFailure::Full,
        StoreError::WentOn { .. } => CallFailure::WentOn,
        error => {
            tracing::error!(%error, "a call of the server failed");
            CallFailure::Failed
        }
    }
}
