//! Key records: making, reading, enabling, scheduling for deletion.

use crate::error::{Error, Result};
use crate::key_store;
use crate::material::{self, Binding, Material, MaterialId, NewMaterial, Source};
use crate::multi_region::{self, MultiRegionRole};
use crate::origin::KeyOrigin;
use crate::policy;
use crate::primitive;
use crate::rotation::Schedule;
use crate::service::Kms;
use crate::spec::{KeySpec, KeyUsage, Kind};
use crate::state::KeyState;
use crate::tag;
use crate::version::{self, Version};
use base::{AccountId, Arn, Region, Secret, Timestamp};
use iam::{Bindings, Context, Principal};
use meta::{Row, Tx, params};
use std::ops::Deref;
use std::sync::{Arc, LazyLock};

/// Longest description, in characters (botocore: DescriptionType).
pub const DESCRIPTION_CHARS_MAX: usize = 8192;
/// Keys per account and region (spec 20, B.7).
pub const KEYS_MAX: u32 = 100_000;
/// Days a deletion can wait (spec 20, B.7).
pub const PENDING_WINDOW_DAYS: std::ops::RangeInclusive<u32> = 7..=30;
/// Days a deletion waits when none are given.
pub const PENDING_WINDOW_DAYS_DEFAULT: u32 = 30;

/// Who manages a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyManager {
    /// The account that made it.
    Customer,
    /// A service, for the account: `aws/ebs`.
    Aws,
}

impl KeyManager {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "CUSTOMER",
            Self::Aws => "AWS",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Customer, Self::Aws].into_iter().find(|manager| manager.as_str() == text)
    }
}

/// A KMS key at one moment. Clones share what is known of it, and while its row stands still so do reads.
#[derive(Clone, Debug, PartialEq)]
pub struct Key(Arc<Named>);

/// A key's facts with its ARN, which every request asks for several times.
#[derive(Debug, PartialEq)]
struct Named {
    facts: KeyFacts,
    arn: Arn,
}

impl Deref for Key {
    type Target = KeyFacts;

    fn deref(&self) -> &KeyFacts {
        &self.0.facts
    }
}

impl From<KeyFacts> for Key {
    fn from(facts: KeyFacts) -> Self {
        Self(Arc::new(Named::from(facts)))
    }
}

impl From<KeyFacts> for Named {
    fn from(facts: KeyFacts) -> Self {
        let arn = key_arn(&facts.account, &facts.region, &facts.id);
        Self { facts, arn }
    }
}

/// What is known of a [`Key`].
#[derive(Clone, Debug, PartialEq)]
pub struct KeyFacts {
    /// Owner.
    pub account: AccountId,
    /// Where it lives.
    pub region: Region,
    /// Its id: a UUID.
    pub id: String,
    /// What it is and what it is for.
    pub kind: Kind,
    /// Its state.
    pub state: KeyState,
    /// Who manages it.
    pub manager: KeyManager,
    /// What its owner says about it.
    pub description: String,
    /// When it was made.
    pub created: Timestamp,
    /// When it is destroyed; only while pending deletion.
    pub deletion: Option<Timestamp>,
    /// Its policy, as written.
    pub policy: String,
    /// What the policy's principals meant when it was saved.
    pub bindings: Bindings,
    /// The version that encrypts; [`MaterialId::NONE`] while nothing was ever imported.
    pub material_id: MaterialId,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// Its part among keys that share one id and one material; `None` for a key of one region.
    pub multi_region: Option<MultiRegionRole>,
    /// How long its deletion waits once its replicas are gone; only while pending replica deletion.
    pub pending_window_days: Option<u32>,
    /// When its material is replaced, if it is from time to time. The same for all keys of one id.
    pub rotation: Option<Schedule>,
    /// The state that follows Creating and Updating.
    pub next_state: Option<KeyState>,
}

impl Key {
    /// The version that encrypts, once there is one.
    pub fn current_material_id(&self) -> Option<MaterialId> {
        (self.material_id != MaterialId::NONE).then_some(self.material_id)
    }

    /// The key's ARN.
    pub fn arn(&self) -> &Arn {
        &self.0.arn
    }
}

/// The ARN of a key.
pub(crate) fn key_arn(account: &AccountId, region: &Region, id: &str) -> Arn {
    Arn::regional("kms", region, account, &format!("key/{id}"))
}

/// Whether a policy may lock its own writer out (spec 20, B.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockoutCheck {
    /// The caller must still be able to change the policy afterwards.
    Required,
    /// `BypassPolicyLockoutSafetyCheck`.
    Bypassed,
}

/// Who writes a policy, for the lockout check.
#[derive(Clone, Copy, Debug)]
pub struct PolicyWriter<'a> {
    /// The caller.
    pub principal: &'a Principal,
    /// The request's condition keys.
    pub context: &'a Context,
    /// Whether to check.
    pub lockout: LockoutCheck,
}

/// What CreateKey is asked for. All other members of the request are refused by [`check_creatable`].
#[derive(Clone, Debug)]
pub struct NewKey<'a> {
    /// Owner.
    pub account: &'a AccountId,
    /// Where.
    pub region: &'a Region,
    /// Its first material, made beforehand; it says what kind of key this is.
    pub material: &'a NewMaterial,
    /// What its owner says about it.
    pub description: &'a str,
    /// Its tags.
    pub tags: &'a [tag::Tag],
    /// Its policy; the default one when `None`.
    pub policy: Option<&'a str>,
    /// [`MultiRegionRole::Primary`] for a key that can have replicas.
    pub multi_region: Option<MultiRegionRole>,
    /// Who asks.
    pub writer: PolicyWriter<'a>,
}

/// Members of CreateKey that choose a kind of key.
#[derive(Clone, Debug, Default)]
pub struct KeyKind<'a> {
    /// `KeySpec`, or its old name `CustomerMasterKeySpec`.
    pub key_spec: Option<&'a str>,
    /// `KeyUsage`.
    pub key_usage: Option<&'a str>,
    /// `Origin`.
    pub origin: Option<&'a str>,
    /// `MultiRegion`.
    pub multi_region: Option<bool>,
    /// `CustomKeyStoreId`.
    pub custom_key_store_id: Option<&'a str>,
    /// `XksKeyId`.
    pub xks_key_id: Option<&'a str>,
}

/// The kind of key that is asked for. What this server does not make is refused by name.
///
/// # Errors
/// As [`Kind::parse`], and [`Error::Unsupported`].
pub fn check_creatable(kind: &KeyKind<'_>) -> Result<(Kind, KeyOrigin)> {
    let refused = |message: String| Err(Error::Unsupported { message });
    let parsed = Kind::parse(kind.key_spec, kind.key_usage)?;
    let origin = match kind.origin {
        None => KeyOrigin::AwsKms,
        Some(text) => match KeyOrigin::parse(text) {
            Some(origin) => origin,
            None => return refused(format!("Origin {text} is not supported by this server.")),
        },
    };
    let in_store = origin == KeyOrigin::AwsCloudHsm;
    if kind.custom_key_store_id.is_some() != in_store {
        return Err(Error::validation(
            "A key of origin AWS_CLOUDHSM needs a CustomKeyStoreId, and only such a key has one.",
        ));
    }
    if in_store && !parsed.is_symmetric() {
        let spec = parsed.spec();
        return refused(format!("KeySpec {spec} is not supported in a custom key store."));
    }
    if origin == KeyOrigin::External && parsed.usage() == KeyUsage::EncapsulateDecapsulate {
        let spec = parsed.spec();
        return refused(format!("Origin EXTERNAL is not supported with KeySpec {spec}."));
    }
    if in_store && kind.multi_region == Some(true) {
        return refused("A multi-Region key cannot be in a custom key store.".to_owned());
    }
    if kind.xks_key_id.is_some() {
        return refused("External key stores are not supported by this server.".to_owned());
    }
    Ok((parsed, origin))
}

const COLUMNS: &str = "account_id, region, key_id, state, manager, description, created_at, \
                       deletion_at, policy, bindings, material_id, key_spec, key_usage, origin, \
                       multi_region, pending_window_days, rotation_days, next_rotation_at, next_state";

fn read(row: &Row) -> Result<Key> {
    row.decoded(|row| decode(row).map(Named::from)).map(Key)
}

fn decode(row: &Row) -> Result<KeyFacts> {
    let (account, region, id): (AccountId, Region, String) =
        (row.get(0)?, row.get(1)?, row.get(2)?);
    let damaged =
        |what| Error::RowDamaged { arn: key_arn(&account, &region, &id).to_string(), what };
    let material: Vec<u8> = row.get(10)?;
    let (spec, usage): (String, String) = (row.get(11)?, row.get(12)?);
    let kind = KeySpec::parse(&spec).zip(KeyUsage::parse(&usage));
    let word = |index: usize| row.get::<Option<String>>(index);
    Ok(KeyFacts {
        kind: kind
            .and_then(|(spec, usage)| Kind::new(spec, usage))
            .ok_or_else(|| damaged("key spec or usage"))?,
        origin: KeyOrigin::parse(&row.get::<String>(13)?).ok_or_else(|| damaged("origin"))?,
        multi_region: word(14)?
            .map(|role| MultiRegionRole::parse(&role).ok_or_else(|| damaged("multi-Region role")))
            .transpose()?,
        pending_window_days: row.get(15)?,
        rotation: Schedule::read(row.get(16)?, row.get(17)?),
        next_state: word(18)?
            .map(|state| KeyState::parse(&state).ok_or_else(|| damaged("next state")))
            .transpose()?,
        state: KeyState::parse(&row.get::<String>(3)?).ok_or_else(|| damaged("state"))?,
        manager: KeyManager::parse(&row.get::<String>(4)?).ok_or_else(|| damaged("manager"))?,
        description: row.get(5)?,
        created: row.get(6)?,
        deletion: row.get(7)?,
        policy: row.get(8)?,
        bindings: serde_json::from_str(&row.get::<String>(9)?).map_err(|_| damaged("bindings"))?,
        material_id: MaterialId(material.try_into().map_err(|_| damaged("material id"))?),
        account,
        region,
        id,
    })
}

/// Reads a key.
///
/// # Errors
/// [`Error::KeyNotFound`].
pub fn get(tx: &mut Tx<'_>, account: &AccountId, region: &Region, id: &str) -> Result<Key> {
    find(tx, account, region, id)?
        .ok_or_else(|| Error::KeyNotFound { arn: key_arn(account, region, id).to_string() })
}

/// Reads a key by its ARN, whatever its region.
///
/// # Errors
/// [`Error::KeyNotFound`], also for what is no key's ARN.
pub fn of_arn(tx: &mut Tx<'_>, text: &str) -> Result<Key> {
    let not_found = || Error::KeyNotFound { arn: text.to_owned() };
    let arn = Arn::parse(text).ok_or_else(not_found)?;
    let account = AccountId::parse(&arn.account).map_err(|_| not_found())?;
    let region = Region::parse(&arn.region).map_err(|_| not_found())?;
    get(tx, &account, &region, arn.resource.strip_prefix("key/").ok_or_else(not_found)?)
}

pub(crate) fn find(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    id: &str,
) -> Result<Option<Key>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        format!(
            "SELECT {COLUMNS} FROM kms_keys WHERE account_id = $1 AND region = $2 AND key_id = $3"
        )
    });
    tx.query_opt(&SQL, params![account, region, id])?.as_ref().map(read).transpose()
}

/// A page of an account's keys, by id. Ask for one more than shown to learn whether there are more.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    after: &str,
    limit: u32,
) -> Result<Vec<Key>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM kms_keys WHERE account_id = $1 AND region = $2 AND key_id > $3 \
         ORDER BY key_id LIMIT $4"
    );
    tx.query(&sql, params![account, region, after, limit])?.iter().map(read).collect()
}

impl Kms {
    /// Makes a customer managed key. Durable with the transaction.
    ///
    /// # Errors
    /// A bad policy, bad tags, a description that is too long, or the quota.
    pub fn create_key(&self, tx: &mut Tx<'_>, new: &NewKey<'_>) -> Result<Key> {
        check_description(new.description)?;
        check_quota(tx, new.account, new.region)?;
        let id = match new.multi_region {
            None => base::id::uuid(self.rng()),
            Some(_) => multi_region::new_id(self.rng()),
        };
        let default = policy::default_policy(new.account);
        let text = new.policy.unwrap_or(&default);
        let arn = key_arn(new.account, new.region, &id);
        let bindings = policy::accept(tx, self.directory(), text, &arn, &new.writer)?;
        let origin = new.material.origin();
        let (state, material_id) = match new.material.source() {
            Source::Here(_) => (KeyState::Enabled, MaterialId::generate(self.rng())),
            Source::OnToken(id) => (KeyState::Enabled, *id),
            Source::Awaited => (KeyState::PendingImport, MaterialId::NONE),
        };
        let key = Key::from(KeyFacts {
            account: new.account.clone(),
            region: new.region.clone(),
            id,
            kind: new.material.kind(),
            state,
            manager: KeyManager::Customer,
            description: new.description.to_owned(),
            created: self.now(),
            deletion: None,
            policy: text.to_owned(),
            bindings,
            material_id,
            origin,
            multi_region: new.multi_region,
            pending_window_days: None,
            rotation: None,
            next_state: None,
        });
        self.insert(tx, &key, new.material)?;
        tag::set(tx, &key, new.tags)?;
        Ok(key)
    }

    /// Writes a new key, with the first version of its material unless that is still to be imported.
    ///
    /// # Panics
    /// When the material is of another kind or origin than the key.
    pub(crate) fn insert(&self, tx: &mut Tx<'_>, key: &Key, material: &NewMaterial) -> Result<()> {
        assert_eq!(key.kind, material.kind(), "a key has material of its kind");
        assert_eq!(key.origin, material.origin(), "a key has material of its origin");
        insert_row(tx, key)?;
        let first = Version::first(key);
        match material.source() {
            Source::Here(secret) => self.add_version(tx, key, &first, secret.bytes()),
            Source::OnToken(_) => version::insert_on_token(tx, key, &first),
            Source::Awaited => Ok(()),
        }
    }

    /// One version of a symmetric encryption key's material, for the length of one operation.
    pub(crate) fn material(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        id: MaterialId,
    ) -> Result<primitive::Key> {
        match self.open_material(tx, key, id)? {
            Material::Symmetric(material) => Ok(material),
            Material::Other(_) => Err(Error::MaterialDamaged { arn: key.arn().to_string() }),
        }
    }

    /// The same of a key of another kind: the bytes of an HMAC key, or a private key.
    pub(crate) fn secret(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        id: MaterialId,
    ) -> Result<Secret<Vec<u8>>> {
        match self.open_material(tx, key, id)? {
            Material::Other(secret) => Ok(secret),
            Material::Symmetric(_) => Err(Error::MaterialDamaged { arn: key.arn().to_string() }),
        }
    }

    pub(crate) fn open_material(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        id: MaterialId,
    ) -> Result<Material> {
        let damaged = || Error::MaterialDamaged { arn: key.arn().to_string() };
        let row = tx
            .query_opt(
                "SELECT token, created_at, expires_at FROM kms_materials \
                 WHERE region = $1 AND material_id = $2 AND account_id = $3 AND key_id = $4",
                params![&key.region, id.0.to_vec(), &key.account, &key.id],
            )?
            .ok_or_else(damaged)?;
        let token: Vec<u8> = row.get(0)?;
        if token == [material::ON_TOKEN] {
            return Err(Error::MaterialOnToken { arn: key.arn().to_string() });
        }
        let expires: Option<Timestamp> = row.get(2)?;
        // Material is gone at the very moment it expires, also when the job that deletes it is late.
        if token.is_empty() || expires.is_some_and(|at| at <= self.now()) {
            return Err(Error::InvalidState {
                arn: key.arn().to_string(),
                state: "is pending import",
            });
        }
        let number = material::domain_key_number(&token).ok_or_else(damaged)?;
        let domain_key = self.domain_keys().numbered(tx, &key.region, number)?;
        material::unwrap(domain_key.expose(), &binding(key, id, row.get(1)?), &token)
            .map_err(|_| damaged())
    }

    /// EnableKey and DisableKey.
    ///
    /// # Errors
    /// As the database answers. The caller has checked the state.
    pub fn set_enabled(&self, tx: &mut Tx<'_>, key: &Key, state: Switch) -> Result<()> {
        let state = match state {
            Switch::On => KeyState::Enabled,
            Switch::Off => KeyState::Disabled,
        };
        set_state(tx, key, state, None)
    }

    /// ScheduleKeyDeletion: returns when the key will be destroyed. That of a primary key with replicas is not known
    /// before the last of them is gone.
    ///
    /// # Errors
    /// As the database answers. The caller has checked the state.
    ///
    /// # Panics
    /// When the window does not pass [`check_pending_window`].
    pub fn schedule_deletion(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        days: u32,
    ) -> Result<Option<Timestamp>> {
        assert!(PENDING_WINDOW_DAYS.contains(&days), "the caller has checked the window");
        if multi_region::has_replicas(tx, key)? {
            set_state(tx, key, KeyState::PendingReplicaDeletion, None)?;
            tx.execute(
                "UPDATE kms_keys SET pending_window_days = $1 \
                 WHERE account_id = $2 AND region = $3 AND key_id = $4",
                params![days, &key.account, &key.region, &key.id],
            )?;
            return Ok(None);
        }
        self.begin_deletion(tx, key, days).map(Some)
    }

    fn begin_deletion(&self, tx: &mut Tx<'_>, key: &Key, days: u32) -> Result<Timestamp> {
        let at = self.now().plus_seconds(i64::from(days) * 86_400);
        set_state(tx, key, KeyState::PendingDeletion, Some(at))?;
        Ok(at)
    }

    /// CancelKeyDeletion: the key stays disabled until it is enabled (spec 20, B.3), or waits for the import it
    /// lacks. A replica that has not yet its material goes on being made, and is disabled then.
    ///
    /// # Errors
    /// As the database answers. The caller has checked the state.
    pub fn cancel_deletion(&self, tx: &mut Tx<'_>, key: &Key) -> Result<()> {
        if key.origin == KeyOrigin::AwsKms && version::all(tx, key)?.is_empty() {
            set_state(tx, key, KeyState::Creating, None)?;
            return set_next_state(tx, key, KeyState::Disabled);
        }
        let state = match version::is_complete(tx, key)? {
            true => KeyState::Disabled,
            false => KeyState::PendingImport,
        };
        set_state(tx, key, state, None)
    }

    /// UpdateKeyDescription.
    ///
    /// # Errors
    /// [`Error::Validation`] when it is too long.
    pub fn set_description(&self, tx: &mut Tx<'_>, key: &Key, description: &str) -> Result<()> {
        check_description(description)?;
        tx.execute(
            "UPDATE kms_keys SET description = $1 \
             WHERE account_id = $2 AND region = $3 AND key_id = $4",
            params![description, &key.account, &key.region, &key.id],
        )?;
        Ok(())
    }

    /// Destroys at most `limit` keys whose window has passed: material, aliases, grants, tags and record. From
    /// then on nothing encrypted under them can be read, and nobody can bring that back. The last replica of a
    /// primary key that waits for it starts that key's own window.
    ///
    /// # Errors
    /// As the database answers.
    pub fn destroy_expired(&self, tx: &mut Tx<'_>, limit: u32) -> Result<Destroyed> {
        let sql = format!(
            "SELECT {COLUMNS} FROM kms_keys WHERE deletion_at <= $1 ORDER BY deletion_at LIMIT $2"
        );
        let rows = tx.query(&sql, params![self.now(), limit])?;
        let keys = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        let mut primaries = Vec::new();
        for key in &keys {
            destroy(tx, key)?;
            let Some(primary) = multi_region::waiting_primary(tx, key)? else { continue };
            let days = primary.pending_window_days.unwrap_or(PENDING_WINDOW_DAYS_DEFAULT);
            let at = self.begin_deletion(tx, &primary, days)?;
            primaries.push((primary, at));
        }
        Ok(Destroyed { keys, primaries })
    }
}

/// What [`Kms::destroy_expired`] did.
#[derive(Clone, Debug)]
pub struct Destroyed {
    /// The keys that are gone.
    pub keys: Vec<Key>,
    /// Primary keys that waited for their last replica, and when they will go.
    pub primaries: Vec<(Key, Timestamp)>,
}

/// Which way a key is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// EnableKey.
    On,
    /// DisableKey.
    Off,
}

/// Writes a key's row alone.
pub(crate) fn insert_row(tx: &mut Tx<'_>, key: &Key) -> Result<()> {
    let bindings = serde_json::to_string(&key.bindings).expect("a map of texts serializes");
    let sql = format!(
        "INSERT INTO kms_keys ({COLUMNS}) VALUES \
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)"
    );
    tx.execute(
        &sql,
        params![
            &key.account,
            &key.region,
            &key.id,
            key.state.as_str(),
            key.manager.as_str(),
            &key.description,
            key.created,
            key.deletion,
            &key.policy,
            bindings,
            key.material_id.0.to_vec(),
            key.kind.spec().as_str(),
            key.kind.usage().as_str(),
            key.origin.as_str(),
            key.multi_region.map(MultiRegionRole::as_str),
            key.pending_window_days,
            key.rotation.map(|schedule| schedule.days),
            key.rotation.map(|schedule| schedule.next),
            key.next_state.map(KeyState::as_str),
        ],
    )?;
    Ok(())
}

pub(crate) fn binding(key: &Key, material_id: MaterialId, created: Timestamp) -> Binding<'_> {
    Binding {
        account: &key.account,
        region: &key.region,
        key_id: &key.id,
        material_id,
        kind: key.kind,
        origin: key.origin.as_str(),
        created,
    }
}

pub(crate) fn set_state(
    tx: &mut Tx<'_>,
    key: &Key,
    state: KeyState,
    deletion: Option<Timestamp>,
) -> Result<()> {
    tx.execute(
        "UPDATE kms_keys SET state = $1, deletion_at = $2, pending_window_days = NULL, \
         next_state = NULL WHERE account_id = $3 AND region = $4 AND key_id = $5",
        params![state.as_str(), deletion, &key.account, &key.region, &key.id],
    )?;
    Ok(())
}

/// Notes what a key becomes that is being made or moved.
pub(crate) fn set_next_state(tx: &mut Tx<'_>, key: &Key, next: KeyState) -> Result<()> {
    tx.execute(
        "UPDATE kms_keys SET next_state = $1 \
         WHERE account_id = $2 AND region = $3 AND key_id = $4",
        params![next.as_str(), &key.account, &key.region, &key.id],
    )?;
    Ok(())
}

fn destroy(tx: &mut Tx<'_>, key: &Key) -> Result<()> {
    assert_eq!(key.state, KeyState::PendingDeletion, "only a key that waits for it is destroyed");
    key_store::release(tx, key)?;
    let of_key = params![&key.account, &key.region, &key.id];
    overwrite_materials(tx, key)?;
    for sql in [
        "DELETE FROM kms_materials WHERE account_id = $1 AND region = $2 AND key_id = $3",
        "DELETE FROM kms_grants WHERE account_id = $1 AND region = $2 AND key_id = $3",
        "DELETE FROM kms_aliases WHERE account_id = $1 AND region = $2 AND key_id = $3",
        "DELETE FROM kms_tags WHERE account_id = $1 AND region = $2 AND key_id = $3",
        "DELETE FROM kms_key_uses WHERE account_id = $1 AND region = $2 AND key_id = $3",
        "DELETE FROM kms_keys WHERE account_id = $1 AND region = $2 AND key_id = $3",
    ] {
        tx.execute(sql, of_key)?;
    }
    Ok(())
}

/// Overwrites every token of a key, so that the page that is freed with its row holds no sealed material.
fn overwrite_materials(tx: &mut Tx<'_>, key: &Key) -> Result<()> {
    for version in version::all(tx, key)? {
        version::overwrite(tx, key, version.number)?;
    }
    Ok(())
}

pub(crate) fn check_description(description: &str) -> Result<()> {
    if description.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(Error::validation(format!(
            "1 validation error detected: Value at 'description' failed to satisfy constraint: \
             Member must have length less than or equal to {DESCRIPTION_CHARS_MAX}"
        )));
    }
    Ok(())
}

/// Whether an account may have one more key in a region.
pub(crate) fn check_quota(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<()> {
    let count = tx.query(
        "SELECT key_id FROM kms_keys WHERE account_id = $1 AND region = $2 ORDER BY key_id LIMIT $3",
        params![account, region, KEYS_MAX],
    )?;
    if count.len() >= KEYS_MAX as usize {
        return Err(Error::LimitExceeded {
            message: format!("An account may have {KEYS_MAX} keys in a Region."),
        });
    }
    Ok(())
}

/// Whether a deletion may wait that long.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_pending_window(days: u32) -> Result<()> {
    if PENDING_WINDOW_DAYS.contains(&days) {
        return Ok(());
    }
    let (low, high) = PENDING_WINDOW_DAYS.into_inner();
    Err(Error::validation(format!(
        "PendingWindowInDays must be between {low} and {high} days, {days} is not."
    )))
}
