//! Everything that calls share: rows, keys, clock, regions, volumes.

use crate::channel::Channels;
use crate::decision::DecisionSealer;
use crate::direct::uploads::Uploads;
use crate::directory::People;
use crate::error::Error;
use crate::forge::Forge;
use crate::issuer_keys::{IssuerDocuments, IssuerKeys};
use crate::key_stores::{self, Places};
use crate::kms_port::FrontDoor;
use crate::last_use::{AccessKeyUses, KeyUses};
use crate::trail::{Keeper, Trail};
use base::{Clock, Region, Rng};
use iam::{Layers, Principal};
use identity::{Credential, CredentialError, Identity};
use kms::Kms;
use kms::seal::Root;
use lifecycle::cells::Cells;
use lifecycle::jobs::Waker;
use lifecycle::plain_key::{PlainKeys, SERVICE_KEY_LABEL};
use lifecycle::port::host::AttachHost;
use lifecycle::{Enforcement, Services, VolumeTurns};
use meta::Db;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// What a server is made of.
pub struct Parts {
    /// The rows; migrated by [`World::open`].
    pub db: Db,
    /// The present moment.
    pub clock: Arc<dyn Clock>,
    /// Keys, nonces and ids come from here.
    pub rng: Arc<dyn Rng>,
    /// The root of trust, unsealed.
    pub seal: Arc<Root>,
    /// The regions served.
    pub regions: Regions,
    /// Which permissions EBS asks of KMS.
    pub enforcement: Enforcement,
    /// Whether replies say where to ask why.
    pub explain_ids: ExplainIds,
    /// Volumes' and snapshots' bytes.
    pub cells: Arc<Cells>,
    /// Devices at instances.
    pub host: Arc<dyn AttachHost>,
    /// Channels of machines that attach volumes themselves.
    pub channels: Arc<dyn Channels>,
    /// Fetches the keys of token issuers.
    pub issuers: Arc<dyn IssuerDocuments>,
    /// How records of calls that changed nothing are kept.
    pub trail: Trail,
    /// The tokens that tenants may make custom key stores of.
    pub clusters: kms::key_store::stores::Clusters,
}

/// Whether `StateMessage` of a failed snapshot names the explanation, beside AWS's sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExplainIds {
    /// Only to calls that ask for it.
    OnRequest,
    /// Always: for clients that cannot set a header.
    InStateMessages,
}

/// The server's state. One value, shared by reference; what changes lives in rows.
pub struct World {
    /// The rows.
    pub db: Db,
    /// The present moment.
    pub clock: Arc<dyn Clock>,
    /// Keys, nonces and ids come from here.
    pub rng: Arc<dyn Rng>,
    /// The root of trust, unsealed.
    pub seal: Arc<Root>,
    /// The regions served.
    pub regions: Regions,
    /// Keys, grants and ciphertexts.
    pub kms: Kms,
    /// Whether replies say where to ask why.
    pub explain_ids: ExplainIds,
    /// Makes key pairs, off the threads that answer.
    pub(crate) forge: Forge,
    /// This server's name in shared rows, the same at every start.
    pub server: String,
    /// What the storage workflows work with: KMS through the front door, blocks, hosts.
    pub services: Arc<Services>,
    /// Accounts, users, roles, and their credentials and policies.
    pub identity: Identity,
    /// Wakes whoever remembers outside the rows how far they have come, after a call changed something.
    pub changes: tokio::sync::Notify,
    /// Uses of access keys that are not written yet.
    pub(crate) last_uses: AccessKeyUses,
    /// Keys of token issuers.
    pub(crate) issuer_keys: IssuerKeys,
    /// Places at the tokens of custom key stores.
    pub(crate) places: Places,
    /// Seals decisions into the texts that EC2 denials carry.
    pub(crate) decisions: DecisionSealer,
    /// Volumes' and snapshots' bytes, for operations that read and write single blocks.
    pub cells: Arc<Cells>,
    /// Wakes whoever runs jobs, after one was enqueued.
    pub waker: Waker,
    /// Snapshots being uploaded.
    pub(crate) uploads: Uploads,
    /// Uses of keys that are not written down yet.
    pub(crate) key_uses: KeyUses,
    /// Channels of machines that attach volumes themselves.
    pub channels: Arc<dyn Channels>,
    /// Keeps records of calls that changed nothing.
    pub(crate) trail: Keeper,
}

/// The regions served and their zones, in order.
#[derive(Clone, Debug)]
pub struct Regions(BTreeMap<Region, Vec<String>>);

impl Regions {
    /// Regions with a number of zones each: `us-east-1` with 3 has `us-east-1a` to `us-east-1c`.
    pub fn new(regions: impl IntoIterator<Item = (Region, u8)>) -> Self {
        let zones = |region: &Region, count: u8| {
            (b'a'..b'a' + count).map(|letter| format!("{region}{}", char::from(letter))).collect()
        };
        Self(
            regions
                .into_iter()
                .map(|(region, count)| {
                    let zones = zones(&region, count);
                    (region, zones)
                })
                .collect(),
        )
    }

    /// Whether the region is served.
    pub fn contains(&self, region: &Region) -> bool {
        self.0.contains_key(region)
    }

    /// All regions, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.0.keys()
    }

    /// The names of a region's zones; empty when the region is not served.
    pub fn zones(&self, region: &Region) -> &[String] {
        self.0.get(region).map_or(&[], Vec::as_slice)
    }

    /// The region a zone lies in.
    pub fn of_zone(&self, zone: &str) -> Option<&Region> {
        self.0.iter().find(|(_, zones)| zones.iter().any(|z| z == zone)).map(|(region, _)| region)
    }
}

/// An intent of another server older than this belongs to no call that still runs.
const INTENT_AGE_MAX_SECONDS: i64 = 3600;

/// Every table of the crates below, in the order of their dependencies.
pub(crate) const MIGRATIONS: &[&[meta::Migration]] = &[
    events::MIGRATIONS,
    identity::MIGRATIONS,
    kms::MIGRATIONS,
    ebs::MIGRATIONS,
    lifecycle::MIGRATIONS,
];

/// What the sealing keys of identity and of decisions are derived under.
const IDENTITY_KEY_LABEL: &str = "identity-1";
const DECISION_KEY_LABEL: &str = "authorization-decision-1";

/// Why a server cannot be put together, in words for the person who starts it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The rows cannot be migrated.
    #[error("the database cannot be used: {0}")]
    Rows(#[from] meta::Error),
    /// The keys of the database do not open.
    #[error(transparent)]
    Keys(#[from] kms::StartError),
    /// The custom key stores cannot be read.
    #[error("the custom key stores cannot be read: {0}")]
    KeyStores(#[source] kms::Error),
    /// Calls that an earlier run began cannot be settled.
    #[error("the trail of an earlier run cannot be settled: {0}")]
    Trail(#[from] events::Error),
}

impl World {
    /// Brings the schema up to date and puts the parts together.
    ///
    /// # Errors
    /// When the rows cannot be migrated.
    pub async fn open(parts: Parts) -> Result<Arc<Self>, StartError> {
        let Parts { db, clock, rng, seal, regions, enforcement, .. } = parts;
        let Parts { explain_ids, cells, host, channels, issuers, trail, clusters, .. } = parts;
        for migrations in MIGRATIONS {
            db.migrate(migrations).await?;
        }
        let config = kms::Config {
            root: Arc::clone(&seal),
            regions: regions.iter().cloned().collect(),
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            directory: Arc::new(People),
            clusters,
        };
        let kms = Kms::open(&db, config).await?;
        let server = hex::encode(seal.id());
        let identity = Identity::new(identity::Config {
            clock: Arc::clone(&clock),
            rng: Arc::clone(&rng),
            service_key: seal.service_key(IDENTITY_KEY_LABEL),
        });
        let trail = Keeper::open(&db, trail, &*rng).await?;
        let decisions = DecisionSealer::new(&seal.service_key(DECISION_KEY_LABEL));
        let forge = Forge::new(Arc::clone(&rng));
        let world = Arc::new_cyclic(|world| {
            let services = Arc::new(Services {
                db: db.clone(),
                clock: Arc::clone(&clock),
                rng: Arc::clone(&rng),
                kms: Arc::new(FrontDoor { world: Weak::clone(world), rehearsal: None }),
                blocks: Arc::clone(&cells) as _,
                host,
                plain: PlainKeys::new(&seal.service_key(SERVICE_KEY_LABEL)),
                enforcement,
                cuts: VolumeTurns::default(),
                openings: VolumeTurns::default(),
            });
            Self {
                db,
                clock,
                rng,
                seal,
                regions,
                kms,
                explain_ids,
                forge,
                server,
                identity,
                last_uses: AccessKeyUses::default(),
                issuer_keys: IssuerKeys::new(issuers),
                decisions,
                places: Places::default(),
                changes: tokio::sync::Notify::new(),
                cells,
                services,
                waker: Waker::new(),
                uploads: Uploads::default(),
                key_uses: KeyUses::default(),
                channels,
                trail,
            }
        });
        world.recover_trail().await?;
        let served: Vec<Region> = world.regions.iter().cloned().collect();
        key_stores::resume(&world.db, &world.kms, &served).await.map_err(StartError::KeyStores)?;
        Ok(world)
    }

    /// Returns when every record acknowledged before is in the rows.
    pub async fn settle_trail(&self) {
        self.trail.settle().await;
    }

    /// Has enqueued jobs looked at now rather than at the next poll.
    pub(crate) fn wake_jobs(&self) {
        self.waker.wake();
    }

    /// The caller's own policies: identity policies, boundary and session policies.
    ///
    /// # Errors
    /// When the rows cannot be read.
    pub async fn identity_layers(
        &self,
        principal: &Principal,
        session_policies: &[String],
    ) -> Result<Layers, Error> {
        let identity = self.identity.clone();
        let (principal, session_policies) = (principal.clone(), session_policies.to_vec());
        let layers =
            self.db.read_often(move |tx| identity.layers(tx, &principal, &session_policies)).await;
        layers.map_err(Error::internal)
    }

    /// Finds a credential by its access key and, for temporary ones, its session token.
    pub(crate) async fn credential(
        &self,
        access_key_id: &str,
        token: Option<&str>,
    ) -> Result<Credential, CredentialError> {
        let identity = self.identity.clone();
        let (id, token) = (access_key_id.to_owned(), token.map(str::to_owned));
        self.db.read_often(move |tx| identity.credential(tx, &id, token.as_deref())).await
    }

    /// Records the calls that an earlier run of this server began and did not finish.
    async fn recover_trail(&self) -> Result<(), events::Error> {
        loop {
            let server = self.server.clone();
            let stale_before = self.clock.now().plus_seconds(-INTENT_AGE_MAX_SECONDS);
            let settled = self
                .db
                .write(move |tx| events::recover_unfinished(tx, &server, stale_before))
                .await?;
            if settled.is_empty() {
                return Ok(());
            }
            tracing::warn!(calls = settled.len(), "recorded calls that were interrupted");
        }
    }
}
