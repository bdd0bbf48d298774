//! The command line.

use crate::admin::RecoverySource;
use crate::attach::HttpPolicy;
use crate::seal::{OfferedToken, SealArgs, SealSource};
use crate::why::args::{
    ExplainOptions, PolicyCommand, PreflightOptions, WhatIfOptions, WhoCanCommand,
};
use blockstore::live::EngineConfig;
use clap::{Args, Parser, Subcommand, ValueEnum};
use lifecycle::MoverKind;
use lifecycle::port::host::{Force, LEASE_SECONDS_MAX};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Encrypted block storage with the EBS and KMS APIs, on your own hardware.
#[derive(Parser)]
#[command(name = "strongroom", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serves all services, regions and accounts on one port.
    Serve(Box<ServeOptions>),
    /// Performs the cross-account copy of an encrypted snapshot, with real bytes.
    Demo(DemoOptions),
    /// Attaches a volume on this machine to its own device, over the network.
    Attach(AttachOptions),
    /// Makes accounts and hosts, through the running server's socket.
    Admin(AdminOptions),
    /// Verifies stored bytes: every tag, digest and reference of volumes and snapshots.
    ///
    /// Asks the running server, which goes on meanwhile; without one it looks by itself. Nothing is
    /// changed unless --repair-index is given. Exit code 0: everything is in order; 5: something is
    /// wrong; 6: nothing wrong was found, but not everything could be seen; others: no check.
    Check(CheckOptions),
    /// Makes a new data directory from a backup, under a seal of its own.
    Restore(RestoreOptions),
    /// Shows who did what: the audit trail of a running server.
    Trail(TrailOptions),
    Explain(Box<ExplainOptions>),
    Preflight(Box<PreflightOptions>),
    /// Writes policies for sharing encrypted snapshots, and finds traps in policies.
    Policy {
        #[command(subcommand)]
        command: Box<PolicyCommand>,
    },
    /// Who gets at a snapshot or a volume.
    WhoCan {
        #[command(subcommand)]
        command: Box<WhoCanCommand>,
    },
    WhatIf(Box<WhatIfOptions>),
}

/// Where a server keeps its data when nothing else is said.
pub(crate) const DEFAULT_DATA_DIR: &str = "strongroom-data";

#[derive(Args, Clone)]
pub(crate) struct ServeOptions {
    /// Everything the server keeps: rows, volumes, snapshots, sockets.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// The address to answer on; port 0 picks a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:4577")]
    pub(crate) listen: SocketAddr,
    /// Also serve attached volumes over NBD on this address, with TLS only; port 0 picks a free one.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) nbd_listen: Option<SocketAddr>,
    /// A name or address by which NBD clients reach this server, for its certificate; repeat for
    /// more. Loopback and the listening address are always among them.
    #[arg(long = "nbd-name", value_name = "NAME", requires = "nbd_listen")]
    pub(crate) nbd_names: Vec<String>,
    /// Answer over TLS with this certificate (PEM, the chain after it).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,
    /// The certificate's private key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,
    /// Requests come from a proxy that has them over TLS, and only from there: policies find
    /// aws:SecureTransport true. Keep the address from everybody else.
    #[arg(long, conflicts_with = "tls_cert")]
    pub(crate) behind_tls: bool,
    /// Authorities (PEM) that the certificates of token issuers may rest on, beside the thumbprints
    /// that accounts name.
    #[arg(long, value_name = "FILE")]
    pub(crate) oidc_ca_file: Option<PathBuf>,
    /// Keep rows in PostgreSQL instead of the embedded database.
    #[arg(long, value_name = "postgres://…")]
    pub(crate) meta_url: Option<String>,
    #[command(flatten)]
    pub(crate) seal: SealArgs,
    /// Offer a token to tenants as a custom key store: CLUSTER-ID=pkcs11:token=LABEL?module-path=FILE,
    /// and perhaps &trust-anchor=FILE, the certificate (PEM) that stores have to name. CLUSTER-ID is what
    /// CreateCustomKeyStore calls CloudHsmClusterId: cluster- and 11 to 16 letters and digits 2 to 7.
    /// Repeat for more.
    #[arg(long = "key-store", value_name = "CLUSTER-ID=TOKEN", value_parser = OfferedToken::parse)]
    pub(crate) key_stores: Vec<OfferedToken>,
    /// Start although the rows are older than this server has seen, and say why. What was revoked or
    /// destroyed since is back; the reason is kept in the trail.
    #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) accept_rollback: Option<String>,
    /// A region and how many zones it has; repeat for more. Replaces the default list.
    #[arg(long = "region", value_name = "NAME[:ZONES]", value_parser = parse_region)]
    pub(crate) regions: Vec<(base::Region, u8)>,
    /// Which permissions EBS asks of KMS: those that deny on AWS (native), or all documented ones.
    #[arg(long, value_enum, default_value_t = Enforcement::Native)]
    pub(crate) enforcement: Enforcement,
    /// How records of calls that change nothing are made durable before the answer: in a journal in
    /// DIR/trail, from where they go into the rows within a fraction of a second, or as rows at once.
    #[arg(long, value_enum, default_value_t = TrailKeeping::Journal)]
    pub(crate) trail: TrailKeeping,
    /// Name the explanation in the StateMessage of snapshots that failed, after AWS's sentence, for
    /// `strongroom explain`. Without this only events, the trail and reply headers name it.
    #[arg(long)]
    pub(crate) explain_ids: bool,
    /// Serve attached volumes to virtual machines as well: beside DEVICE.sock (NBD) stands
    /// DEVICE.vhost.sock (vhost-user-blk).
    #[arg(long)]
    pub(crate) vhost_user: bool,
    /// Make attached volumes block devices of this machine as well: beside DEVICE.sock stands
    /// DEVICE.ublk, a link to /dev/ublkbN. Needs root and a kernel with ublk_drv.
    #[arg(long)]
    pub(crate) ublk: bool,
    #[command(flatten)]
    pub(crate) volumes: VolumeArgs,
    /// Hold a kind of job (export, copy, initialize, archive, fast-restore) to so many MiB/s, such as
    /// export=200. By default jobs take what guests leave.
    #[arg(long, value_name = "KIND=MIB", value_delimiter = ',', value_parser = parse_bandwidth)]
    pub(crate) job_bandwidth_mib: Vec<BandwidthLimit>,
    /// How long a stored object must be known to be unused before it is deleted. Longer than any
    /// time between two checkpoints of a snapshot being written.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_seconds)]
    pub(crate) collect_grace: i64,
    /// How often to look at what deletions left behind.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_seconds)]
    pub(crate) collect_interval: i64,
    /// How often to look at everything stored, for what failed work left behind.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_seconds)]
    pub(crate) sweep_interval: i64,
    /// How long a host on another machine may go on without hearing from the server, in seconds;
    /// a host that vanished is waited for as long when its volume is detached without force (2 to 300).
    #[arg(long, value_name = "SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(2..=i64::from(LEASE_SECONDS_MAX)))]
    pub(crate) attach_lease_seconds: u32,
}

/// Default of both memory options of a volume.
const VOLUME_MEMORY_MIB: u32 = 64;
/// Default live share of a volume's file.
const VOLUME_LIVE_PERCENT: u32 = 75;
/// Default of what stays free in the file system.
const VOLUME_RESERVE_MIB: u32 = 512;

/// What an open volume takes of the machine that opens it.
#[derive(Args, Clone, Copy)]
pub(crate) struct EngineArgs {
    /// Locked memory for recently read pages of each attached volume; 0 keeps none.
    #[arg(long, value_name = "MIB", default_value_t = VOLUME_MEMORY_MIB)]
    pub(crate) volume_read_cache_mib: u32,
    /// Memory for each open volume's map, and as much again for changes not merged into it.
    #[arg(long, value_name = "MIB", default_value_t = VOLUME_MEMORY_MIB,
        value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) volume_map_memory_mib: u32,
    /// How full of live data a volume's file may be, in percent (25 to 90). More takes less space
    /// and more cleaning.
    #[arg(long, value_name = "PERCENT", default_value_t = VOLUME_LIVE_PERCENT,
        value_parser = clap::value_parser!(u32).range(25..=90))]
    pub(crate) volume_live_percent: u32,
}

impl Default for EngineArgs {
    fn default() -> Self {
        Self {
            volume_read_cache_mib: VOLUME_MEMORY_MIB,
            volume_map_memory_mib: VOLUME_MEMORY_MIB,
            volume_live_percent: VOLUME_LIVE_PERCENT,
        }
    }
}

impl EngineArgs {
    pub(crate) fn config(self) -> EngineConfig {
        let bytes = |mib: u32| (mib as usize) << 20;
        EngineConfig {
            read_cache_bytes: bytes(self.volume_read_cache_mib),
            map_cache_bytes: bytes(self.volume_map_memory_mib),
            delta_bytes_max: bytes(self.volume_map_memory_mib),
            live_percent_max: self.volume_live_percent,
            ..EngineConfig::server()
        }
    }
}

/// How volumes use the machine.
#[derive(Args, Clone)]
pub(crate) struct VolumeArgs {
    /// How volumes' files are read and written; what the system refuses falls back to the next
    /// simpler way, and the log says so.
    #[arg(long, value_enum, default_value_t = VolumeIo::Ring)]
    pub(crate) volume_io: VolumeIo,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// What writes to volumes, and new snapshots beside them, leave free in the file system.
    #[arg(long, value_name = "MIB", default_value_t = VOLUME_RESERVE_MIB)]
    pub(crate) volume_reserve_mib: u32,
    /// What the files of a region's volumes may take together [default: what the file system has]. They
    /// hold less than that: see --volume-live-percent, and 200 MiB or more are kept for the upkeep of
    /// each attached volume.
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) volume_capacity_gib: Option<u32>,
}

impl Default for VolumeArgs {
    fn default() -> Self {
        Self {
            volume_io: VolumeIo::Ring,
            engine: EngineArgs::default(),
            volume_reserve_mib: VOLUME_RESERVE_MIB,
            volume_capacity_gib: None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VolumeIo {
    /// Past the page cache, many requests at once (io_uring).
    Ring,
    /// Past the page cache, one request at a time.
    Direct,
    /// Through the page cache.
    Buffered,
}

/// What one kind of job may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BandwidthLimit {
    pub(crate) kind: MoverKind,
    pub(crate) mib_per_second: u32,
}

fn parse_bandwidth(text: &str) -> Result<BandwidthLimit, String> {
    let kinds = || MoverKind::ALL.map(MoverKind::as_str).join(", ");
    let (kind, mib) = text.split_once('=').ok_or_else(|| "expected KIND=MIB".to_owned())?;
    let kind = MoverKind::ALL
        .into_iter()
        .find(|known| known.as_str() == kind)
        .ok_or_else(|| format!("'{kind}' is none of {}", kinds()))?;
    match mib.parse() {
        Ok(mib_per_second) if mib_per_second > 0 => Ok(BandwidthLimit { kind, mib_per_second }),
        _ => Err(format!("'{mib}' is no whole number of MiB/s above 0")),
    }
}

/// Where records of calls that change nothing go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TrailKeeping {
    /// A journal of this server, many calls to a flush.
    Journal,
    /// The rows, a transaction for each call.
    Rows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Enforcement {
    /// Deny where denial has been observed to change the outcome on AWS.
    Native,
    /// Also require every permission the documentation lists for the caller.
    Documented,
}

/// Serves one volume that was attached to this host with AttachVolume.
///
/// The data key is unwrapped through KMS on the attachment's grant and kept in secret memory of this
/// process; the server stores and sees only sealed bytes. The device is served as NBD on a unix
/// socket until the volume is detached or this process is told to stop (SIGTERM).
///
/// Exit codes: 0 detached or stopped, 1 refused or failed, 4 no server answers, 5 the volume was lost
/// (fenced, or the lease ended before the server could be heard of).
#[derive(Args)]
pub(crate) struct AttachOptions {
    /// The server: https://HOST:PORT, or http:// on the same machine.
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: String,
    /// What `strongroom admin host create --remote --json` printed.
    #[arg(long, value_name = "FILE", default_value = "strongroom-host.json")]
    pub(crate) credentials: PathBuf,
    /// Where to serve the device [default: VOLUME.sock].
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Certificates (PEM) the server's is checked against [default: the system's].
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Let credentials and the volume's structure key cross a network in the clear.
    #[arg(long)]
    pub(crate) allow_insecure_http: bool,
    /// Take the volume at once from an agent that may still have it. What that one had accepted and not
    /// flushed is lost. Without this it is asked to close the volume, and waited for until it has, or its
    /// lease has ended.
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) engine: EngineArgs,
    /// Print one JSON object when the device serves.
    #[arg(long)]
    pub(crate) json: bool,
    /// The volume, vol-….
    #[arg(value_parser = parse_volume)]
    pub(crate) volume: base::VolumeId,
}

impl AttachOptions {
    pub(crate) fn http_policy(&self) -> HttpPolicy {
        if self.allow_insecure_http { HttpPolicy::Anywhere } else { HttpPolicy::Loopback }
    }

    pub(crate) fn force(&self) -> Force {
        if self.force { Force::Yes } else { Force::No }
    }
}

#[derive(Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["target", "all"])))]
pub(crate) struct CheckOptions {
    /// The volume or snapshot to check.
    #[arg(value_name = "VOLUME|SNAPSHOT")]
    pub(crate) target: Option<String>,
    /// Check every volume, snapshot and pack of every region.
    #[arg(long)]
    pub(crate) all: bool,
    /// Make anew what is derived from something that is whole: superblock twins, counts of segment
    /// tables, headers, footers and directories of packs, the ledger of unused packs.
    #[arg(long)]
    pub(crate) repair_index: bool,
    /// How to print the report; json is stable.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// The most MiB a running server reads per second for this; 0 for as fast as it can.
    #[arg(long, value_name = "MIB", default_value_t = 100)]
    pub(crate) rate_mib: u64,
    /// The data directory.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// Without a server: its rows, if not in the data directory.
    #[arg(long, value_name = "postgres://…")]
    pub(crate) meta_url: Option<String>,
    /// Without a server: what unseals it.
    #[command(flatten)]
    pub(crate) seal: SealArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs: one JSON object.
    Json,
}

#[derive(Args)]
pub(crate) struct DemoOptions {
    /// Where to keep the demonstration's data [default: a new temporary directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The address to answer on; port 0 picks a free one.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Stop after the last step instead of leaving the server running.
    #[arg(long)]
    pub(crate) once: bool,
}

#[derive(Args)]
pub(crate) struct AdminOptions {
    /// The data directory of the running server.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR, global = true)]
    pub(crate) data_dir: PathBuf,
    #[command(subcommand)]
    pub(crate) command: AdminCommand,
}

#[derive(Subcommand)]
pub(crate) enum AdminCommand {
    /// Accounts: the tenants.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Hosts: the machines volumes are attached to.
    #[command(subcommand)]
    Host(HostCommand),
    /// Makes the certificate with which one attached volume is opened over TCP.
    NbdCredentials {
        /// The host the volume is attached to.
        #[arg(long, value_name = "i-…")]
        instance: String,
        /// Its device name there, for example sdf.
        #[arg(long, value_name = "NAME")]
        device: String,
        /// Where to put ca-cert.pem, client-cert.pem and client-key.pem, as libnbd and QEMU want
        /// them.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Shows what collections of unused space did, newest first.
    Collections {
        /// The region to show.
        #[arg(long, default_value = "us-east-1", value_parser = parse_plain_region)]
        region: base::Region,
        /// How many to show.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Shows what is charged for that no resource shows any more: snapshots that left the archive before
    /// 90 days, with the hours that were left, oldest first.
    Usage {
        /// The region to show.
        #[arg(long, default_value = "us-east-1", value_parser = parse_plain_region)]
        region: base::Region,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Shows the second copies that fast snapshot restore keeps: how much of each is made, and the
    /// volumes that read it. A copy that nobody wants for new volumes any more is shown without a snapshot
    /// until the last of them is gone.
    Twins {
        /// The region to show.
        #[arg(long, default_value = "us-east-1", value_parser = parse_plain_region)]
        region: base::Region,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Shows the volumes that are still being filled from their snapshots: how much of each is done, and
    /// what it waits for.
    Initializations {
        /// The region to show.
        #[arg(long, default_value = "us-east-1", value_parser = parse_plain_region)]
        region: base::Region,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Shows which volumes are attached where, and why one has no device although it is attached: its key
    /// could not be had when the server was started.
    Attachments {
        /// The region to show.
        #[arg(long, default_value = "us-east-1", value_parser = parse_plain_region)]
        region: base::Region,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Shows what the services told the accounts' event buses, among it that space for volumes runs out;
    /// oldest first.
    Events {
        /// The account whose events to show; all accounts without it.
        #[arg(long, value_parser = parse_account)]
        account: Option<base::AccountId>,
        /// The region to show.
        #[arg(long, default_value = "us-east-1", value_parser = parse_plain_region)]
        region: base::Region,
        /// How many to show, the newest.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// The seal: the secret that opens the root of trust.
    #[command(subcommand)]
    Seal(SealCommand),
    /// Backups: the root of trust and the rows in one sealed file.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Domain keys: what the material of a region's keys is sealed under.
    #[command(subcommand)]
    DomainKey(DomainKeyCommand),
    /// Hands over the keys of a token issuer that this server cannot or shall not reach. Without
    /// --file they are fetched from the issuer again.
    OidcKeys {
        /// The account that knows the issuer.
        #[arg(long, value_parser = parse_account)]
        account: base::AccountId,
        /// The issuer, as in CreateOpenIDConnectProvider.
        #[arg(long, value_name = "https://…")]
        url: String,
        /// Its JSON web key set.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Prints the lines that point the `aws` CLI and the SDKs here.
    Env {
        /// The account whose root credentials to print.
        #[arg(long, value_parser = parse_account)]
        account: base::AccountId,
        /// The region to work in.
        #[arg(long, default_value = "us-east-1", value_parser = parse_plain_region)]
        region: base::Region,
    },
}

#[derive(Subcommand)]
pub(crate) enum SealCommand {
    /// Seals the root of trust under another secret, while the server runs.
    ///
    /// At every moment, power cuts included, the secret before or the one after it opens the seal. Start
    /// the server with the new one from then on; the old one opens nothing any more, except backups of
    /// the seal made before.
    Rotate {
        /// The new secret, as with `serve --seal`.
        #[arg(long, value_name = "SOURCE", value_parser = SealSource::parse)]
        to: SealSource,
    },
}

#[derive(Subcommand)]
pub(crate) enum BackupCommand {
    /// Makes a backup while the server runs, of one moment.
    ///
    /// It holds the root of trust and all rows but the trail's: accounts, users, roles, policies,
    /// credentials, KMS keys with their sealed material, grants, aliases, and what the rows say of
    /// volumes, snapshots and jobs. It holds no bytes of volumes and snapshots: copy DIR/regions
    /// with your own tools. With the recovery secret it opens without the server's seal.
    Create {
        /// The file to make; it must not exist.
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        #[command(flatten)]
        recovery: RecoveryArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Reads a whole backup and says what is in it; needs no server.
    Verify {
        /// The backup.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        #[command(flatten)]
        recovery: RecoveryArgs,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// What opens a backup.
#[derive(Args, Clone)]
#[group(required = true, multiple = false)]
pub(crate) struct RecoveryArgs {
    /// A 32-byte recovery key; `backup create` makes it when it does not exist.
    #[arg(long, value_name = "FILE")]
    recovery_key_file: Option<PathBuf>,
    /// A file with a recovery passphrase (Argon2id).
    #[arg(long, value_name = "FILE")]
    recovery_passphrase_file: Option<PathBuf>,
}

impl RecoveryArgs {
    /// What opens it, by a path that does not depend on where a process was started.
    pub(crate) fn source(&self) -> std::io::Result<RecoverySource> {
        Ok(match (&self.recovery_key_file, &self.recovery_passphrase_file) {
            (_, Some(file)) => RecoverySource::Passphrase { file: std::path::absolute(file)? },
            (Some(file), None) => RecoverySource::KeyFile { file: std::path::absolute(file)? },
            (None, None) => unreachable!("one of the two is required"),
        })
    }
}

#[derive(Args)]
pub(crate) struct RestoreOptions {
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// The data directory to make. It may hold `regions`, brought back before, and nothing else.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) recovery: RecoveryArgs,
    /// Put the rows into this empty PostgreSQL database.
    #[arg(long, value_name = "postgres://…")]
    pub(crate) meta_url: Option<String>,
    #[command(flatten)]
    pub(crate) seal: SealArgs,
}

#[derive(Subcommand)]
pub(crate) enum DomainKeyCommand {
    /// Makes a new domain key and moves all key material to it, beside the requests.
    Rotate {
        /// The region whose key to rotate [default: every region].
        #[arg(long, value_parser = parse_plain_region)]
        region: Option<base::Region>,
    },
    /// Shows how far such moves are.
    Status {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum AccountCommand {
    /// Makes an account and its root credentials.
    Create {
        /// A name for people.
        #[arg(long, default_value = "")]
        name: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Lists the accounts.
    List {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Subcommand)]
pub(crate) enum HostCommand {
    /// Registers a machine in an availability zone.
    Create {
        /// The account it belongs to.
        #[arg(long, value_parser = parse_account)]
        account: base::AccountId,
        /// The zone it stands in, for example us-east-1a.
        #[arg(long)]
        az: String,
        /// A name for people; becomes the Name tag.
        #[arg(long)]
        name: Option<String>,
        /// The host attaches its volumes itself, with `strongroom attach`; prints its credentials.
        #[arg(long)]
        remote: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Makes new credentials for a host that attaches its volumes itself, in place of lost or stolen ones.
    /// Those it had end at once: an agent that runs with them loses its volume with its lease. Stop agents
    /// before, where they shall write out what they have, and start them with the new ones.
    Credentials {
        /// The host.
        #[arg(value_name = "i-…")]
        instance: String,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct TrailOptions {
    /// The data directory of the running server.
    #[arg(long, value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub(crate) data_dir: PathBuf,
    /// Only this account.
    #[arg(long, value_parser = parse_account)]
    pub(crate) account: Option<base::AccountId>,
    /// Only this region.
    #[arg(long, value_parser = parse_plain_region)]
    pub(crate) region: Option<base::Region>,
    /// Only this API operation, for example CopySnapshot.
    #[arg(long, value_name = "NAME")]
    pub(crate) event: Option<String>,
    /// Only calls that were refused or failed.
    #[arg(long)]
    pub(crate) failed: bool,
    /// How many records to show, newest last.
    #[arg(long, default_value_t = 50)]
    pub(crate) limit: u32,
    /// Print the full records, one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_volume(text: &str) -> Result<base::VolumeId, base::ParseIdError> {
    base::VolumeId::parse(text)
}

fn parse_account(text: &str) -> Result<base::AccountId, base::ParseIdError> {
    base::AccountId::parse(text)
}

fn parse_plain_region(text: &str) -> Result<base::Region, base::ParseIdError> {
    base::Region::parse(text)
}

/// `90s`, `15m`, `24h` or `7d`, in seconds.
fn parse_seconds(text: &str) -> Result<i64, String> {
    let refused = || format!("'{text}' is no time; write for example 90s, 15m, 24h or 7d");
    let unit = text.chars().next_back().ok_or_else(refused)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(refused()),
    };
    let count: i64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| refused())?;
    count.checked_mul(seconds).filter(|seconds| *seconds > 0).ok_or_else(refused)
}

fn parse_region(text: &str) -> Result<(base::Region, u8), String> {
    let (name, zones) = text.split_once(':').unwrap_or((text, "3"));
    let region = base::Region::parse(name).map_err(|error| error.to_string())?;
    let zones: u8 = zones.parse().map_err(|_| format!("'{zones}' is not a number of zones"))?;
    if (1..=6).contains(&zones) {
        Ok((region, zones))
    } else {
        Err("a region has 1 to 6 zones".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit_and_are_not_zero() {
        assert_eq!(parse_seconds("90s"), Ok(90));
        assert_eq!(parse_seconds("7d"), Ok(604_800));
        for wrong in ["", "h", "24", "0h", "-1h", "1.5h", "9999999999999999d", "5é"] {
            assert!(parse_seconds(wrong).is_err(), "{wrong}");
        }
    }
}
