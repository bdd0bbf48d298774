//! `strongroom serve`: takes the data directory, unseals, opens rows and volumes, and answers.

mod anchor;
mod background;
mod cells;
mod data_dir;
mod host;
mod issuers;
mod lending;
mod local;
mod memory;
mod nbd;
mod seal;
mod space;
mod tls;

use crate::admin::socket;
use crate::args::{CheckOptions, Enforcement, ServeOptions, TrailKeeping, VolumeArgs};
use crate::exit::{EXIT_CANNOT_START, Failure};
use crate::signals::Signals;
use api::http::Transport;
use api::{Parts, Regions, Trail, World};
use attach::tls::Authority;
use background::Background;
use base::{OsRng, Region, SystemClock};
use cells::Leftovers;
pub(crate) use data_dir::{DataDir, UNFINISHED_RESTORE};
use events::journal::{Files, SEGMENT_BYTES};
use host::Host;
use kms::anchor::Anchor;
use kms::seal::Root;
use lending::Lending;
use lifecycle::BandwidthLimits;
use lifecycle::workflow::collect::Schedule;
use local::Offers;
pub(crate) use nbd::{Issued, Nbd};
use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Regions served when none are named, three zones each.
const DEFAULT_REGIONS: [&str; 6] =
    ["us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-central-1", "ap-northeast-1"];
const DEFAULT_ZONES: u8 = 3;

pub(crate) fn run(options: &ServeOptions) -> Result<(), Failure> {
    log_to_stderr();
    memory::harden()?;
    let runtime = runtime()?;
    runtime.block_on(async {
        let server = Server::start(options).await?;
        let mut signals = Signals::new()?;
        let mut out = std::io::stdout();
        writeln!(out, "strongroom ready on {}", server.url())?;
        if let Some(address) = server.nbd.address() {
            writeln!(out, "strongroom serves NBD over TLS on {address}")?;
        }
        out.flush()?;
        signals.asked().await;
        server.stop().await;
        Ok(())
    })
}

/// The runtime every part of the server shares.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(cannot_start)
}

pub(crate) fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// A running server.
pub(crate) struct Server {
    address: SocketAddr,
    url: String,
    stop: watch::Sender<bool>,
    http: JoinHandle<()>,
    admin: JoinHandle<()>,
    background: Background,
    anchoring: anchor::Following,
    host: Arc<Host>,
    nbd: Arc<Nbd>,
    /// Held until everything that uses the directory has ended.
    _data_dir: DataDir,
}

impl Server {
    /// Starts everything; when this returns, clients are answered.
    pub(crate) async fn start(options: &ServeOptions) -> Result<Self, Failure> {
        let data_dir = DataDir::take(&options.data_dir)?;
        if options.ublk {
            // Better said now than at the first attachment.
            attach::ublk::probe().map_err(cannot_start)?;
        }
        let Opened { world, host, authority } =
            open_world(&data_dir, options, Leftovers::Remove).await?;
        let token = seal::token(&data_dir, options)?;
        let anchor = Anchor::new(data_dir.path(), &world.seal, token);
        let anchor = anchor::check(&world, anchor, options.accept_rollback.as_deref()).await?;
        memory::warn_of_swap();
        background::recover(&world).await.map_err(cannot_start)?;
        let nbd = Arc::new(Nbd::start(options, authority, Arc::clone(&host))?);
        let listener = TcpListener::bind(options.listen).await.map_err(|error| {
            cannot_start(format!("cannot listen on {}: {error}", options.listen))
        })?;
        let address = listener.local_addr()?;
        let transport = tls::transport(options)?;
        let scheme = if matches!(transport, Transport::Tls(_)) { "https" } else { "http" };
        let admin_socket = socket::bind(data_dir.path()).map_err(cannot_start)?;
        let (stop, stopped) = watch::channel(false);
        let url = format!("{scheme}://{address}");
        let endpoint = url.clone();
        let rewrap = Arc::new(tokio::sync::Notify::new());
        let desk = Arc::new(socket::Desk {
            world: Arc::clone(&world),
            nbd: Arc::clone(&nbd),
            data_dir: data_dir.path().to_owned(),
            sealing: tokio::sync::Mutex::new(()),
            rewrap: Arc::clone(&rewrap),
            endpoint,
        });
        let admin = tokio::spawn(socket::serve(admin_socket, desk));
        let anchoring = anchor::follow(&world, anchor);
        let background = background::start(&world, &stopped, rewrap);
        space::watch(&world);
        let http = tokio::spawn(api::http::serve(listener, transport, world, stopped));
        Ok(Self {
            address,
            url,
            stop,
            http,
            admin,
            background,
            anchoring,
            host,
            nbd,
            _data_dir: data_dir,
        })
    }

    /// Where it answers.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint to give to clients.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends requests under way, then everything else.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.admin.abort();
        if let Err(error) = self.http.await {
            tracing::error!(%error, "the listener ended badly");
        }
        self.background.stop().await;
        // After everything that changes rows.
        self.anchoring.stop().await;
        self.host.close_all().await;
    }
}

/// What a server that is not running keeps, for looking at. Nothing runs, nobody is answered.
pub(crate) struct Stopped {
    world: Arc<World>,
    _data_dir: DataDir,
}

impl Stopped {
    /// Takes the data directory, which must exist, and opens what is in it.
    pub(crate) async fn open(options: &CheckOptions) -> Result<Self, Failure> {
        let path = &options.data_dir;
        if !Root::exists(path) {
            return Err(cannot_start(format!("{} is no data directory", path.display())));
        }
        let data_dir = DataDir::take(path)?;
        let options = ServeOptions {
            data_dir: path.clone(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            nbd_listen: None,
            nbd_names: Vec::new(),
            meta_url: options.meta_url.clone(),
            seal: options.seal.clone(),
            accept_rollback: None,
            key_stores: Vec::new(),
            regions: data_dir.stored_regions()?,
            enforcement: Enforcement::Native,
            explain_ids: false,
            vhost_user: false,
            ublk: false,
            volumes: VolumeArgs::default(),
            job_bandwidth_mib: Vec::new(),
            collect_grace: Schedule::server().grace_seconds,
            collect_interval: Schedule::server().collect_interval_seconds,
            sweep_interval: Schedule::server().sweep_interval_seconds,
            tls_cert: None,
            oidc_ca_file: None,
            tls_key: None,
            behind_tls: false,
            attach_lease_seconds: 20,
            trail: TrailKeeping::Journal,
        };
        let world = open_world(&data_dir, &options, Leftovers::Keep).await?.world;
        Ok(Self { world, _data_dir: data_dir })
    }

    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }
}

/// What a data directory holds, opened.
struct Opened {
    world: Arc<World>,
    host: Arc<Host>,
    authority: Authority,
}

/// Opens rows, keys and stores of a data directory.
async fn open_world(
    data_dir: &DataDir,
    options: &ServeOptions,
    leftovers: Leftovers,
) -> Result<Opened, Failure> {
    let seal = seal::open(data_dir, options)?;
    let db = open_rows(data_dir, options).await?;
    let regions = regions(options)?;
    let limits = bandwidth_limits(options)?;
    let opening = cells::Opening { volumes: &options.volumes, limits: &limits, leftovers };
    let authority = nbd::authority(&seal)?;
    let schedule = Schedule {
        grace_seconds: options.collect_grace,
        collect_interval_seconds: options.collect_interval,
        sweep_interval_seconds: options.sweep_interval,
        ..Schedule::server()
    };
    let cells = cells::open(data_dir, &seal, regions.iter(), &opening)?.with_schedule(schedule);
    for (region, _) in data_dir.stored_regions()? {
        if regions.iter().all(|served| *served != region) {
            tracing::warn!(%region, "what is stored of a region is not served: no --region names it");
        }
    }
    let cells = Arc::new(cells);
    let attachments = data_dir.attachments();
    let clock = Arc::new(SystemClock);
    let lending =
        Arc::new(Lending::new(Arc::clone(&cells), db.clone(), options.attach_lease_seconds));
    let offers = Offers { vhost_user: options.vhost_user, ublk: options.ublk };
    let stores = (Arc::clone(&cells), db.clone(), Arc::clone(&lending));
    let host = Host::new(stores, attachments, clock, offers);
    let host = Arc::new(host);
    let world = World::open(Parts {
        db,
        clock: Arc::new(SystemClock),
        rng: Arc::new(OsRng),
        seal: Arc::new(seal),
        regions,
        cells,
        host: Arc::clone(&host) as _,
        channels: lending,
        issuers: Arc::new(issuers::Issuers::new(options.oidc_ca_file.as_deref())?),
        trail: trail(data_dir, options)?,
        explain_ids: match options.explain_ids {
            true => api::ExplainIds::InStateMessages,
            false => api::ExplainIds::OnRequest,
        },
        clusters: seal::clusters(options)?,
        enforcement: match options.enforcement {
            Enforcement::Native => api::Enforcement::Native,
            Enforcement::Documented => api::Enforcement::Documented,
        },
    });
    let world = world.await.map_err(cannot_start)?;
    Ok(Opened { world, host, authority })
}

async fn open_rows(data_dir: &DataDir, options: &ServeOptions) -> Result<meta::Db, Failure> {
    match &options.meta_url {
        Some(url) => meta::Db::open_postgres(url).await.map_err(cannot_start),
        None => meta::Db::open_sqlite(&data_dir.rows()).map_err(cannot_start),
    }
}

fn trail(data_dir: &DataDir, options: &ServeOptions) -> Result<Trail, Failure> {
    match options.trail {
        TrailKeeping::Rows => Ok(Trail::Rows),
        TrailKeeping::Journal => {
            let files = Files::open(&data_dir.trail(), SEGMENT_BYTES);
            Ok(Trail::Journal(Box::new(files.map_err(cannot_start)?)))
        }
    }
}

fn bandwidth_limits(options: &ServeOptions) -> Result<BandwidthLimits, Failure> {
    let mut limits = BandwidthLimits::new();
    for limit in &options.job_bandwidth_mib {
        if limits.insert(limit.kind, u64::from(limit.mib_per_second) << 20).is_some() {
            let kind = limit.kind.as_str();
            return Err(cannot_start(format!("--job-bandwidth-mib says {kind} twice")));
        }
    }
    Ok(limits)
}

fn regions(options: &ServeOptions) -> Result<Regions, Failure> {
    let mut named = BTreeSet::new();
    if let Some((twice, _)) = options.regions.iter().find(|(region, _)| !named.insert(region)) {
        return Err(cannot_start(format!("--region says {twice} twice")));
    }
    if !options.regions.is_empty() {
        return Ok(Regions::new(options.regions.iter().cloned()));
    }
    let parsed: Result<Vec<_>, _> = DEFAULT_REGIONS
        .iter()
        .map(|name| Region::parse(name).map(|region| (region, DEFAULT_ZONES)))
        .collect();
    Ok(Regions::new(parsed.map_err(cannot_start)?))
}

/// A failure that keeps the server from starting, with its causes.
fn cannot_start(error: impl std::fmt::Display) -> Failure {
    Failure::new(EXIT_CANNOT_START, format!("cannot start: {error}"))
}
