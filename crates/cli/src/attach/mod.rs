//! `strongroom attach`: the host side of an attachment on a machine of its own.
//!
//! It authenticates as its host, unwraps the volume's data key through KMS on the attachment's grant,
//! keeps it in secret memory, runs the volume's engine over the server's file, and serves the device
//! on a unix socket. Only sealed bytes go to the server and come from it.

pub(crate) mod endpoint;
mod host_api;
mod place;
pub(crate) mod signed;

use crate::args::AttachOptions;
use crate::exit::{EXIT_LOST, EXIT_NO_SERVER, Failure};
use crate::history::VolumeHistory;
use crate::serve::{log_to_stderr, runtime};
use crate::signals::Signals;
use ::attach::nbd::handshake::ExportInfo;
use ::attach::{Export, Lease, LeasedDevice, Protection, Stop, Swap, Vault, VolumeDevice};
use base::{OsRng, SystemClock, VolumeId};
use blockstore::live::{Base, Engine, EngineConfig, OpenOptions, TailFile};
use blockstore::page::{DataKey, KeyCell, StructureKey};
use blockstore::store::{
    EngineAnswer, EngineCall, LentVolume, StoreConfig, StoreError, VolumeHandle,
};
pub(crate) use endpoint::{Endpoint, HttpPolicy};
use host_api::{HostApi, Opened};
use lifecycle::port::host::Force;
use place::Place;
use remote::wire::Welcome;
use remote::{BootClock, DialError, Link, Loss, RemoteBase, RemoteDisk, RemoteSpace};
use serde::Serialize;
use signed::Credentials;
use std::io::Write;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::spawn_blocking;

/// The pause before asking again for a volume that another agent may have; the server has waited too.
const HELD_PAUSE: Duration = Duration::from_millis(500);

/// Said beside what is printed, in words and with `--json` alike: a program may not look at it.
const SWAP_WARNING: &str = "memory of this process, with keys of single segments in it, may be swapped \
    out: the limit on locked memory is too low (LimitMEMLOCK=infinity in a unit, ulimit -l unlimited)";

/// What is printed when the device serves.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Serving<'a> {
    volume_id: &'a str,
    instance_id: &'a str,
    device: &'a str,
    socket: &'a Path,
    size_bytes: u64,
    epoch: u64,
    key_memory: &'static str,
    process_memory: &'static str,
}

pub(crate) fn run(options: &AttachOptions) -> Result<(), Failure> {
    log_to_stderr();
    let swap = ::attach::harden_process()?;
    // Sockets made below are the owner's only.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let credentials = Credentials::read_with_region(&options.credentials)?;
    let endpoint = Endpoint::new(&options.endpoint, options.ca.as_deref(), options.http_policy())?;
    let api = Arc::new(HostApi::new(endpoint, credentials, options.volume.clone()));
    runtime()?.block_on(attach_and_serve(options, api, swap))
}

async fn attach_and_serve(
    options: &AttachOptions,
    api: Arc<HostApi>,
    swap: Swap,
) -> Result<(), Failure> {
    let place = Arc::new(Place::of(options));
    check(&place, &options.volume).await?;
    // From here on the volume is closed in order when the process is told to end.
    let mut signals = Signals::new()?;
    // Until there is a link nothing is open here that would have to be closed.
    let (opened, keys, link, welcome) = tokio::select! {
        linked = open_link(&api, options.force()) => linked?,
        () = signals.asked() => return Ok(()),
    };
    say("opening the volume");
    let id = options.volume.clone();
    let tail = place.tail();
    let config = options.engine.config();
    let volume = Opening { link: link.clone(), tail, id, welcome, keys, config };
    // A signal waits until the volume is open: what a killed agent left is on its way into it. A server
    // that does not answer is waited for until the lease ends.
    let volume = spawn_blocking(move || volume.open()).await.map_err(Failure::failed).flatten();
    let (handle, protection) = match volume {
        Ok(open) => open,
        Err(failure) => return Err(leave(link, None, failure).await),
    };
    let calls = LentVolume::new(handle.clone());
    link.on_call(Arc::new(move |call| calls.call(call)));
    let export = match start_export(options, &place, &opened, &link, &handle) {
        Ok(export) => export,
        Err(failure) => return Err(leave(link, Some(handle), failure).await),
    };
    let began = async {
        api.complete(opened.epoch).await?;
        print(options, &place, &opened, &handle, (protection, swap))
    };
    let mut over = pin!(serve_until_over(&link, signals));
    let ended = tokio::select! {
        biased;
        ended = &mut over => ended,
        began = began => match began {
            Ok(()) => over.await,
            Err(failure) => Ended::Failed(failure),
        },
    };
    refuse_calls(&link);
    let closing = link.clone();
    spawn_blocking(move || close(ended, export, handle, &closing)).await.map_err(Failure::failed)?
}

/// Finds what would keep this process from serving the volume before it is taken from one that does.
async fn check(place: &Arc<Place>, volume: &VolumeId) -> Result<(), Failure> {
    let (place, volume) = (Arc::clone(place), volume.to_string());
    spawn_blocking(move || {
        place.check(&volume)?;
        // Memory for a key is refused now rather than later.
        keep(base::Secret::new([0; 64])).map(drop)
    })
    .await
    .map_err(Failure::failed)?
}

/// The data keys that KMS unwrapped.
#[derive(Default)]
struct Keys {
    data: Option<(DataKey, Protection)>,
    /// That of the base, if it is another and under the same KMS key.
    base: Option<DataKey>,
}

/// Takes the volume, has its keys unwrapped, and connects to its file.
async fn open_link(
    api: &Arc<HostApi>,
    force: Force,
) -> Result<(Opened, Keys, Link, Welcome), Failure> {
    let opened = take(api, force).await?;
    let mut keys = Keys::default();
    if let Some(wrapped) = opened.unwrap_with() {
        say("unwrapping the data key through KMS");
        keys.data = Some(keep(api.decrypt(opened.epoch, wrapped).await?)?);
    }
    if let Some(wrapped) = opened.unwrap_base_with() {
        keys.base = Some(keep(api.decrypt(opened.epoch, wrapped).await?)?.0);
    }
    let dial = Arc::clone(api).dialler(&opened);
    let (link, welcome) =
        Link::open(dial, Arc::new(BootClock)).await.map_err(|error| match error {
            DialError::Unreachable(_) => Failure::new(EXIT_NO_SERVER, error),
            DialError::Fenced | DialError::Refused(_) => Failure::failed(error),
        })?;
    Ok((opened, keys, link, welcome))
}

/// Takes the volume; waits while another agent may have it.
async fn take(api: &HostApi, force: Force) -> Result<Opened, Failure> {
    let mut is_told = false;
    loop {
        if let Some(opened) = api.open(force).await? {
            return Ok(opened);
        }
        if !std::mem::replace(&mut is_told, true) {
            say(
                "another agent may still have the volume: it is asked to close it, and waited for \
                 until it has, or its lease has ended (--force takes the volume at once, and what \
                 that agent has not flushed is lost if it still runs)",
            );
        }
        tokio::time::sleep(HELD_PAUSE).await;
    }
}

/// Puts the data key where nothing but this process reads it.
fn keep(bytes: base::Secret<[u8; 64]>) -> Result<(DataKey, Protection), Failure> {
    let mut protection = None;
    let key = DataKey::kept_in(&bytes, |key| {
        let vault = Vault::new(key)?;
        protection = Some(vault.protection());
        Ok::<_, std::io::Error>(Arc::new(vault) as Arc<dyn KeyCell>)
    })?;
    Ok((key, protection.expect("a key that is kept is in the vault")))
}

/// A volume to be opened over a link.
struct Opening {
    link: Link,
    tail: TailFile,
    id: VolumeId,
    welcome: Welcome,
    keys: Keys,
    config: EngineConfig,
}

impl Opening {
    /// Opens the engine. A key that no KMS key guards came with the welcome: that of a plain volume, or
    /// that of the plain snapshot an encrypted volume came from.
    fn open(self) -> Result<(VolumeHandle, Protection), Failure> {
        let Self { link, tail, id, welcome, keys, config } = self;
        let Welcome { epoch, structure, base, plain_key, .. } = welcome;
        let mut base_key = keys.base;
        let (data_key, protection) = match (keys.data, plain_key) {
            (Some(kept), None) => kept,
            (Some(kept), Some(of_base)) if base_key.is_none() => {
                base_key = Some(keep(of_base)?.0);
                kept
            }
            (None, Some(bytes)) => keep(bytes)?,
            _ => return Err(Failure::failed("the server gave no data key, or two")),
        };
        let reader = Arc::new(RemoteBase::new(link.clone()));
        let options = OpenOptions {
            data_key: Some(data_key),
            base: base.map(|id| Base { id, reader, key: base_key.map(Arc::new) }),
            writer: Some(epoch),
        };
        let space = Arc::new(RemoteSpace::new(link.clone()));
        let mut engine = Engine::open(
            Arc::new(RemoteDisk::new(link, tail)),
            StructureKey::from_bytes(structure),
            Arc::new(OsRng),
            config,
            options,
        )
        .map_err(Failure::failed)?;
        engine.limit_space(space);
        let queue = StoreConfig::server().queue_batches;
        let handle = VolumeHandle::over(&id, engine, queue).map_err(Failure::failed)?;
        Ok((handle, protection))
    }
}

/// The link's lease, as devices ask for it.
struct LinkLease(Link);

impl Lease for LinkLease {
    fn holds(&self) -> bool {
        self.0.holds()
    }
}

fn start_export(
    options: &AttachOptions,
    place: &Place,
    opened: &Opened,
    link: &Link,
    handle: &VolumeHandle,
) -> Result<Export, Failure> {
    let history = VolumeHistory { snapshots: Arc::new(link.clone()), handle: handle.clone() };
    let device = Arc::new(VolumeDevice::new(handle.clone()).with_history(Arc::new(history)));
    let leased = Arc::new(LeasedDevice::new(device, Arc::new(LinkLease(link.clone()))));
    let info = ExportInfo {
        name: opened.device_name().to_owned(),
        aliases: vec![
            options.volume.to_string(),
            format!("{}/{}", opened.instance_id, opened.device_name()),
        ],
        description: options.volume.to_string(),
    };
    let path = &place.socket;
    if !link.holds() {
        // Whoever has the volume now may serve it there.
        return Err(lost_or(link, lost(Loss::LeaseEnded)));
    }
    Export::start(path, info, leased, Arc::new(SystemClock))
        .map_err(|error| Failure::failed(format!("cannot serve on {}: {error}", path.display())))
}

fn print(
    options: &AttachOptions,
    place: &Place,
    opened: &Opened,
    handle: &VolumeHandle,
    (protection, swap): (Protection, Swap),
) -> Result<(), Failure> {
    let serving = Serving {
        volume_id: options.volume.as_str(),
        instance_id: &opened.instance_id,
        device: &opened.device,
        socket: &place.socket,
        size_bytes: handle.size(),
        epoch: opened.epoch,
        key_memory: protection.as_str(),
        process_memory: match swap {
            Swap::Locked => "locked",
            Swap::Possible => "may be swapped out",
        },
    };
    if swap == Swap::Possible {
        say(SWAP_WARNING);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(announcement(&serving, options.json)?.as_bytes())?;
    Ok(out.flush()?)
}

/// The lines on stdout.
fn announcement(serving: &Serving<'_>, json: bool) -> Result<String, Failure> {
    if json {
        return Ok(format!("{}\n", serde_json::to_string(serving).map_err(Failure::failed)?));
    }
    let Serving { volume_id, device, socket, key_memory, process_memory, .. } = serving;
    Ok(format!(
        "{volume_id} serves {device} on {}\n\
         the data key lies in {key_memory}; other memory of the process, with keys of single segments: \
         {process_memory}\n",
        socket.display()
    ))
}

/// Why the device stops.
enum Ended {
    /// The server wants the volume back.
    LetGo,
    /// The process was asked to end; the volume stays attached.
    Signal,
    /// The volume is not this machine's any more.
    Lost(Loss),
    /// It did not come to serve.
    Failed(Failure),
    /// The server could not store what it was sent, and no write is taken any more.
    Broken(remote::wire::Failure),
}

async fn serve_until_over(link: &Link, mut signals: Signals) -> Ended {
    let (mut let_go, mut lost, mut failed) = (link.let_go(), link.lost(), link.failed());
    tokio::select! {
        biased;
        loss = async { lost.wait_for(Option::is_some).await.map(|loss| loss.clone()) } => {
            Ended::Lost(loss.ok().flatten().unwrap_or(Loss::Closed))
        }
        // A device that fails for ever helps nobody: whoever starts the process again has one that may work.
        failure = async { failed.wait_for(Option::is_some).await.map(|failure| *failure) } => {
            Ended::Broken(failure.ok().flatten().unwrap_or(remote::wire::Failure::Storage))
        }
        _ = async { let_go.wait_for(|wanted| *wanted).await.map(|_| ()) } => Ended::LetGo,
        () = signals.asked() => Ended::Signal,
    }
}

/// Closes what is open of a volume that does not come to serve, and tells the server: nobody has to wait
/// for the end of the lease. Gives what the process ends with.
async fn leave(link: Link, handle: Option<VolumeHandle>, failure: Failure) -> Failure {
    let failure = lost_or(&link, failure);
    refuse_calls(&link);
    let left = spawn_blocking(move || {
        if let Some(Err(error)) = handle.map(VolumeHandle::close) {
            tracing::warn!(%error, "the volume did not close cleanly");
        }
        link.goodbye();
    });
    if let Err(error) = left.await {
        tracing::error!(%error, "closing the volume panicked");
    }
    failure
}

/// What is being closed stands still for nobody.
fn refuse_calls(link: &Link) {
    link.on_call(Arc::new(|call| match call {
        EngineCall::LetGo => Ok(EngineAnswer::Done),
        _ => Err(StoreError::Locked),
    }));
}

/// Ends the device, closes the volume, wipes its key, and tells the server.
fn close(ended: Ended, export: Export, handle: VolumeHandle, link: &Link) -> Result<(), Failure> {
    let outcome = match ended {
        Ended::Lost(loss) => {
            give_up(export, handle);
            return Err(lost(loss));
        }
        Ended::Broken(failure) => {
            give_up(export, handle);
            link.goodbye();
            let words = "the device has ended, and what it had not flushed may be lost";
            return Err(Failure::failed(format!("{failure}: {words}; start again to go on")));
        }
        Ended::LetGo => {
            Ok("the server has the volume back: it is detached, or another agent opens it")
        }
        Ended::Signal => {
            Ok("stopped; the volume stays attached, and starting again goes on with it")
        }
        Ended::Failed(failure) => Err(failure),
    };
    say("closing the volume");
    let stopped = export.stop(Stop::Graceful).map_err(Failure::failed);
    let closed = stopped.and(handle.close().map_err(Failure::failed));
    // Asked for the volume by a server that had not heard of it for too long.
    closed.map_err(|failure| lost_or(link, failure))?;
    link.goodbye();
    outcome.map(say)
}

/// Ends the device of a volume that is lost.
fn give_up(export: Export, handle: VolumeHandle) {
    // Nothing can be written any more; whoever uses the device gets errors at once.
    if let Err(error) = export.stop(Stop::Force) {
        tracing::warn!(%error, "the device did not stop cleanly");
    }
    if let Err(error) = handle.close() {
        tracing::debug!(%error, "what was not flushed is lost");
    }
}

/// Why the volume is lost, if it is: what else failed then is a consequence.
fn lost_or(link: &Link, failure: Failure) -> Failure {
    let watch = link.lost();
    let loss = watch.borrow().clone();
    loss.map_or(failure, lost)
}

fn lost(loss: Loss) -> Failure {
    Failure::new(EXIT_LOST, format!("the volume is lost: {loss}"))
}

fn say(words: &str) {
    eprintln!("strongroom: {words}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use blockstore::live::Disk;
    use remote::wire::{Reply, Request, read_frame};
    use remote::{BoxFuture, Dial, Stream};
    use tokio::io::AsyncWriteExt;

    /// A server without space.
    struct FullServer;

    impl Dial for FullServer {
        fn dial(&self) -> BoxFuture<'_, Result<Box<dyn Stream>, DialError>> {
            Box::pin(async {
                let (ours, mut theirs) = tokio::io::duplex(64 << 10);
                let structure = base::Secret::new([8; 32]);
                let welcome =
                    Welcome { epoch: 1, lease_ms: 20_000, structure, base: None, plain_key: None };
                theirs.write_all(&Reply::Welcome(Box::new(welcome)).encode(0)).await.unwrap();
                tokio::spawn(async move {
                    while let Ok(Some(frame)) = read_frame(&mut theirs).await {
                        if let Some((id, Request::Write { .. })) = Request::decode(&frame) {
                            let failed = Reply::Failed(remote::wire::Failure::NoSpace);
                            theirs.write_all(&failed.encode(id)).await.unwrap();
                        }
                    }
                });
                Ok(Box::new(ours) as Box<dyn Stream>)
            })
        }
    }

    #[tokio::test]
    async fn a_device_that_can_only_fail_ends() {
        let (link, _) = Link::open(Arc::new(FullServer), Arc::new(BootClock)).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let disk = RemoteDisk::new(link.clone(), TailFile::at(folder.path().join("tail")));
        disk.write(0, &[7]).unwrap();
        let over = serve_until_over(&link, Signals::new().unwrap());
        let over = tokio::time::timeout(Duration::from_secs(10), over).await;
        assert!(matches!(over, Ok(Ended::Broken(remote::wire::Failure::NoSpace))));
    }

    #[test]
    fn where_keys_lie_is_said_in_words_and_to_programs() {
        let serving = Serving {
            volume_id: "vol-1",
            instance_id: "i-1",
            device: "/dev/sdf",
            socket: Path::new("vol.sock"),
            size_bytes: 4096,
            epoch: 7,
            key_memory: "locked memory",
            process_memory: "may be swapped out",
        };
        for json in [false, true] {
            let words = announcement(&serving, json).unwrap();
            assert!(words.contains("locked memory") && words.contains("may be swapped out"));
            assert_eq!(words.lines().count(), if json { 1 } else { 2 });
        }
    }
}
