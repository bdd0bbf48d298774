//! Keys of several regions that share id and material, so that what one encrypts the others open (KMS guide,
//! "Multi-Region keys").
//!
//! Each is a key of its own, with its own policy, grants, aliases, tags, description and state. Id, material,
//! origin and rotation are shared; they are changed at the primary key and for all at once, in one transaction.

use crate::error::{Error, Result};
use crate::key::{self, Key, KeyFacts, PolicyWriter, insert_row, key_arn};
use crate::origin::KeyOrigin;
use crate::policy;
use crate::service::Kms;
use crate::state::KeyState;
use crate::tag;
use crate::version::{self, Version};
use base::{Region, Rng};
use meta::{Tx, params};

/// `MultiRegionKeyType`: a key's part among its relatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MultiRegionRole {
    /// The one that is replicated and rotated.
    Primary,
    /// A copy of it in another region.
    Replica,
}

impl MultiRegionRole {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "PRIMARY",
            Self::Replica => "REPLICA",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Primary, Self::Replica].into_iter().find(|role| role.as_str() == text)
    }
}

/// The id of a new multi-Region key.
pub(crate) fn new_id(rng: &dyn Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill(&mut bytes);
    format!("mrk-{}", hex::encode(bytes))
}

/// A multi-Region key and its relatives, by region; nothing for a key of one region.
///
/// # Errors
/// As the database answers.
pub fn family(tx: &mut Tx<'_>, key: &Key) -> Result<Vec<Key>> {
    if key.multi_region.is_none() {
        return Ok(Vec::new());
    }
    let rows = tx.query(
        "SELECT region FROM kms_keys WHERE key_id = $1 AND account_id = $2 ORDER BY region",
        params![&key.id, &key.account],
    )?;
    rows.iter().map(|row| key::get(tx, &key.account, &row.get(0)?, &key.id)).collect()
}

/// The replicas of a primary key; none of any other key.
pub(crate) fn replicas(tx: &mut Tx<'_>, key: &Key) -> Result<Vec<Key>> {
    if key.multi_region != Some(MultiRegionRole::Primary) {
        return Ok(Vec::new());
    }
    let mut family = family(tx, key)?;
    family.retain(|other| other.region != key.region);
    Ok(family)
}

/// The replicas that have what the primary key has. One that is being made takes it when it is.
pub(crate) fn settled_replicas(tx: &mut Tx<'_>, key: &Key) -> Result<Vec<Key>> {
    let mut settled = Vec::new();
    for replica in replicas(tx, key)? {
        if !version::all(tx, &replica)?.is_empty() {
            settled.push(replica);
        }
    }
    Ok(settled)
}

/// The replicas that are complete but for imported material: all that are not being made.
pub(crate) fn settled_replicas_of_import(tx: &mut Tx<'_>, key: &Key) -> Result<Vec<Key>> {
    let mut replicas = replicas(tx, key)?;
    replicas.retain(|replica| replica.state != KeyState::Creating);
    Ok(replicas)
}

pub(crate) fn has_replicas(tx: &mut Tx<'_>, key: &Key) -> Result<bool> {
    Ok(!replicas(tx, key)?.is_empty())
}

/// The primary key that waited for `gone`, its last replica.
pub(crate) fn waiting_primary(tx: &mut Tx<'_>, gone: &Key) -> Result<Option<Key>> {
    let family = family(tx, gone)?;
    match <[Key; 1]>::try_from(family) {
        Ok([last]) if last.state == KeyState::PendingReplicaDeletion => Ok(Some(last)),
        _ => Ok(None),
    }
}

/// What ReplicateKey is asked for.
#[derive(Clone, Debug)]
pub struct NewReplica<'a> {
    /// Where.
    pub region: &'a Region,
    /// What its owner says about it.
    pub description: &'a str,
    /// Its tags.
    pub tags: &'a [tag::Tag],
    /// Its policy; the default one when `None`.
    pub policy: Option<&'a str>,
    /// Who asks.
    pub writer: PolicyWriter<'a>,
}

/// Whether a key can be replicated, or give up being the primary one.
///
/// # Errors
/// [`Error::Unsupported`] for a replica and for a key of one region.
pub fn check_primary(key: &Key) -> Result<()> {
    let what = match key.multi_region {
        Some(MultiRegionRole::Primary) => return Ok(()),
        Some(MultiRegionRole::Replica) => "a multi-Region replica key",
        None => "a single-Region key",
    };
    Err(Error::Unsupported {
        message: format!("{} is {what}, not a multi-Region primary key.", key.arn()),
    })
}

impl Kms {
    /// ReplicateKey. The replica is being made until [`Kms::settle`] gives it the material.
    ///
    /// # Errors
    /// [`Error::ReplicaExists`], what CreateKey refuses, and regions that are not served.
    pub fn replicate(&self, tx: &mut Tx<'_>, key: &Key, new: &NewReplica<'_>) -> Result<Key> {
        check_primary(key)?;
        key::check_description(new.description)?;
        key::check_quota(tx, &key.account, new.region)?;
        // Without a domain key the region could not keep the material.
        self.domain_keys().newest(new.region)?;
        let arn = key_arn(&key.account, new.region, &key.id);
        if key::find(tx, &key.account, new.region, &key.id)?.is_some() {
            return Err(Error::ReplicaExists { arn: arn.to_string() });
        }
        let default = policy::default_policy(&key.account);
        let text = new.policy.unwrap_or(&default);
        let bindings = policy::accept(tx, self.directory(), text, &arn, &new.writer)?;
        let replica = Key::from(KeyFacts {
            region: new.region.clone(),
            state: KeyState::Creating,
            description: new.description.to_owned(),
            created: self.now(),
            deletion: None,
            policy: text.to_owned(),
            bindings,
            multi_region: Some(MultiRegionRole::Replica),
            pending_window_days: None,
            next_state: Some(match key.origin {
                KeyOrigin::AwsKms | KeyOrigin::AwsCloudHsm => KeyState::Enabled,
                KeyOrigin::External => KeyState::PendingImport,
            }),
            ..KeyFacts::clone(key)
        });
        insert_row(tx, &replica)?;
        tag::set(tx, &replica, new.tags)?;
        Ok(replica)
    }

    /// UpdatePrimaryRegion: the replica of that region becomes the primary key, and the primary key its replica.
    /// Both are [`KeyState::Updating`] until [`Kms::settle`].
    ///
    /// # Errors
    /// As the database answers. The caller has checked both states.
    pub fn update_primary(&self, tx: &mut Tx<'_>, key: &Key, replica: &Key) -> Result<()> {
        check_primary(key)?;
        for (each, role) in [(key, MultiRegionRole::Replica), (replica, MultiRegionRole::Primary)] {
            let next = each.next_state.unwrap_or(each.state);
            tx.execute(
                "UPDATE kms_keys SET multi_region = $1, state = $2, next_state = $3 \
                 WHERE account_id = $4 AND region = $5 AND key_id = $6",
                params![
                    role.as_str(),
                    KeyState::Updating.as_str(),
                    next.as_str(),
                    &each.account,
                    &each.region,
                    &each.id,
                ],
            )?;
        }
        Ok(())
    }

    /// Ends what ReplicateKey and UpdatePrimaryRegion begin: a replica gets its material, and the state that
    /// follows. Does nothing when there is nothing to do.
    ///
    /// # Errors
    /// As the database answers.
    pub fn settle(&self, tx: &mut Tx<'_>, key: &Key) -> Result<()> {
        if version::all(tx, key)?.is_empty() {
            self.copy_versions(tx, key)?;
        }
        match (key.state, key.next_state) {
            (KeyState::Creating | KeyState::Updating, Some(next)) => {
                key::set_state(tx, key, next, key.deletion)
            }
            _ => Ok(()),
        }
    }

    /// Every version of the material, from a relative that has them. Imported material does not travel: its owner
    /// imports it into each region.
    fn copy_versions(&self, tx: &mut Tx<'_>, key: &Key) -> Result<()> {
        for relative in family(tx, key)? {
            let versions = version::all(tx, &relative)?;
            if versions.is_empty() {
                continue;
            }
            for from in versions {
                let here =
                    Version { created: self.now(), description: None, expires: None, ..from };
                match key.origin {
                    // A key in a custom key store has no relatives; its material would be refused here.
                    KeyOrigin::AwsKms | KeyOrigin::AwsCloudHsm => {
                        let material = self.open_material(tx, &relative, here.material_id)?;
                        self.add_version(tx, key, &here, material.bytes())?;
                    }
                    KeyOrigin::External => version::insert_absent(tx, key, &here)?,
                }
            }
            return version::set_current(tx, key, relative.material_id);
        }
        Ok(())
    }
}
