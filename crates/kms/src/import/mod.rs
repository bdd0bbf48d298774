//! Key material that its owner brings, and may take away again (KMS guide, "Importing key material").
//!
//! The owner asks for a public key and a token ([`token`]), wraps the material ([`wrapping`]) and sends both back.
//! A version's id is derived from key id and material, so the same material is known again by whoever brings it, in
//! every region of the key, and other material is not taken for it.

pub mod token;
pub(crate) mod unwrap;
pub mod wrapping;

use crate::error::{Error, Result};
use crate::key::{self, Key};
use crate::material::{Material, MaterialId};
use crate::multi_region::{self, MultiRegionRole};
use crate::origin::KeyOrigin;
use crate::primitive::{self, push_field};
use crate::service::Kms;
use crate::state::KeyState;
use crate::version::{self, Version};
use base::{AccountId, Timestamp};
use meta::{Tx, params};

/// How far away an expiry may be (botocore: ImportKeyMaterialRequest, ValidTo).
const VALIDITY_SECONDS_MAX: i64 = 365 * 86_400;
/// Longest `KeyMaterialDescription` (botocore: KeyMaterialDescriptionType).
pub const DESCRIPTION_CHARS_MAX: usize = 256;

/// `ImportType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportType {
    /// Material the key does not have: its first, or one to rotate to.
    New,
    /// Material the key has or had.
    Existing,
}

/// Material that was brought: unwrapped, and of its key's kind.
#[derive(Debug)]
pub struct Brought {
    material: Material,
}

/// What ImportKeyMaterial says about the material.
#[derive(Clone, Debug)]
pub struct Import {
    /// When it is to be deleted; see [`check_expiry`].
    pub expires: Option<Timestamp>,
    /// Whether the key knows it. By default the first material is new and any other is not.
    pub import_type: Option<ImportType>,
    /// What its owner says about it; `None` leaves what was said.
    pub description: Option<String>,
    /// The id it must have.
    pub material_id: Option<MaterialId>,
}

/// When material expires, from `ExpirationModel` and `ValidTo`.
///
/// # Errors
/// [`Error::Validation`] when the two do not fit or the date is not within a year.
pub fn check_expiry(
    model: Option<&str>,
    valid_to: Option<Timestamp>,
    now: Timestamp,
) -> Result<Option<Timestamp>> {
    match (model.unwrap_or(EXPIRES), valid_to) {
        (EXPIRES_NOT, None) => Ok(None),
        (EXPIRES_NOT, Some(_)) => Err(Error::validation(
            "A validTo date must not be set if the ExpirationModel is KEY_MATERIAL_DOES_NOT_EXPIRE.",
        )),
        (_, None) => Err(Error::validation(
            "A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES.",
        )),
        (_, Some(at)) if at <= now || at > now.plus_seconds(VALIDITY_SECONDS_MAX) => {
            Err(Error::validation("ValidTo must be in the future and within 365 days."))
        }
        (_, Some(at)) => Ok(Some(at)),
    }
}

/// `ExpirationModel` of material with a date.
pub const EXPIRES: &str = "KEY_MATERIAL_EXPIRES";
/// `ExpirationModel` of material without.
pub const EXPIRES_NOT: &str = "KEY_MATERIAL_DOES_NOT_EXPIRE";

/// Whether a description is one.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_description(text: &str) -> Result<()> {
    let legal =
        |c: char| c.is_ascii_alphanumeric() || ":/_.-".contains(c) || c.is_ascii_whitespace();
    if text.chars().count() <= DESCRIPTION_CHARS_MAX && text.chars().all(legal) {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value '{text}' at 'keyMaterialDescription' failed to satisfy \
         constraint: Member must have length less than or equal to {DESCRIPTION_CHARS_MAX} and satisfy \
         regular expression pattern: ^[a-zA-Z0-9:/_\\s.-]+$"
    )))
}

/// Whether material can be imported into a key.
///
/// # Errors
/// [`Error::Unsupported`].
pub fn check_importable(key: &Key) -> Result<()> {
    match key.origin {
        KeyOrigin::External => Ok(()),
        KeyOrigin::AwsKms | KeyOrigin::AwsCloudHsm => Err(Error::Unsupported {
            message: format!(
                "{} origin is {} which is not valid for this operation.",
                key.arn(),
                key.origin.as_str()
            ),
        }),
    }
}

impl Import {
    /// Whether what is said about the material is said of a key that has several: a symmetric encryption key.
    ///
    /// # Errors
    /// [`Error::Unsupported`].
    fn check_members(&self, key: &Key) -> Result<()> {
        let members = [
            ("ImportType", self.import_type.is_some()),
            ("KeyMaterialDescription", self.description.is_some()),
            ("KeyMaterialId", self.material_id.is_some()),
        ];
        match members.into_iter().find(|(_, is_given)| *is_given) {
            Some((member, _)) if !key.kind.is_symmetric() => Err(Error::Unsupported {
                message: format!("{member} is supported for symmetric encryption keys only."),
            }),
            _ => Ok(()),
        }
    }
}

/// The id of imported material: a PRF keyed with the material over whose it is.
fn material_id(account: &AccountId, key_id: &str, material: &[u8]) -> MaterialId {
    let mut owner = Vec::new();
    push_field(&mut owner, account.as_str().as_bytes());
    push_field(&mut owner, key_id.as_bytes());
    let mut id = [0; 32];
    primitive::kbkdf(material, "kmsimportid1", &owner, &mut id);
    MaterialId(id)
}

/// `ExpirationModel` of material.
pub fn model(expires: Option<Timestamp>) -> &'static str {
    if expires.is_some() { EXPIRES } else { EXPIRES_NOT }
}

/// Whether material that waits for its rotation is imported in every region of its key, so that it can be.
///
/// # Errors
/// As the database answers.
pub fn is_everywhere(tx: &mut Tx<'_>, key: &Key, id: MaterialId) -> Result<bool> {
    for replica in multi_region::replicas(tx, key)? {
        let there = version::all(tx, &replica)?;
        if !there.iter().any(|version| version.material_id == id && version.is_present) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The earliest date on which a key loses material that it needs, for `ValidTo`.
pub fn expiry(versions: &[Version]) -> Option<Timestamp> {
    versions.iter().filter(|version| !version.is_pending()).filter_map(|v| v.expires).min()
}

impl Kms {
    /// Puts material into a key. Returns its id.
    ///
    /// # Errors
    /// [`Error::IncorrectMaterial`] when it is not what the key expects, [`Error::Validation`] and
    /// [`Error::Unsupported`] when what is said about it does not fit. The caller has checked the state.
    pub fn import(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        brought: &Brought,
        import: &Import,
    ) -> Result<MaterialId> {
        import.check_members(key)?;
        let secret = brought.material.bytes();
        let id = material_id(&key.account, &key.id, secret);
        let versions = version::all(tx, key)?;
        let default = if versions.is_empty() { ImportType::New } else { ImportType::Existing };
        match import.import_type.unwrap_or(default) {
            ImportType::New => self.import_new(tx, key, &versions, (id, secret), import)?,
            ImportType::Existing => {
                let known = versions.iter().find(|version| version.material_id == id);
                let known = known.ok_or(Error::IncorrectMaterial)?;
                if import.material_id.is_some_and(|asked| asked != id) {
                    return Err(Error::IncorrectMaterial);
                }
                let version = Version {
                    description: import.description.clone().or_else(|| known.description.clone()),
                    expires: import.expires,
                    ..known.clone()
                };
                self.restore(tx, key, &version, secret)?;
            }
        }
        settle_state(tx, key)?;
        Ok(id)
    }

    fn import_new(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        versions: &[Version],
        (id, secret): (MaterialId, &[u8]),
        import: &Import,
    ) -> Result<()> {
        if import.material_id.is_some() {
            return Err(Error::validation(
                "KeyMaterialId must not be set if the ImportType is NEW_KEY_MATERIAL.",
            ));
        }
        if key.multi_region == Some(MultiRegionRole::Replica) {
            return Err(Error::Unsupported {
                message: format!(
                    "{} is a replica key; new key material is imported into the primary key first.",
                    key.arn()
                ),
            });
        }
        if versions.iter().any(|version| version.material_id == id) {
            return Err(Error::IncorrectMaterial);
        }
        if versions.iter().any(Version::is_pending) {
            return Err(Error::PendingRotation { arn: key.arn().to_string() });
        }
        let version = Version {
            number: versions.last().map_or(0, |last| last.number) + 1,
            material_id: id,
            created: self.now(),
            rotated: None,
            description: import.description.clone(),
            expires: import.expires,
            is_present: true,
        };
        self.add_version(tx, key, &version, secret)?;
        let absent = Version { description: None, expires: None, ..version.clone() };
        for replica in multi_region::settled_replicas_of_import(tx, key)? {
            version::insert_absent(tx, &replica, &absent)?;
            if versions.is_empty() {
                version::set_current(tx, &replica, id)?;
            }
        }
        if versions.is_empty() {
            version::set_current(tx, key, id)?;
        }
        Ok(())
    }

    /// DeleteImportedKeyMaterial: forgets the material named, or the one that encrypts. Returns its id.
    ///
    /// # Errors
    /// [`Error::MaterialNotFound`] for an id the key does not have. The caller has checked the state.
    pub fn delete_imported(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        id: Option<MaterialId>,
    ) -> Result<Option<MaterialId>> {
        let Some(id) = id.or_else(|| key.current_material_id()) else { return Ok(None) };
        let versions = version::all(tx, key)?;
        let version = versions.iter().find(|version| version.material_id == id);
        let version = version.ok_or_else(|| Error::MaterialNotFound { id: id.to_string() })?;
        if version.is_pending() && key.multi_region != Some(MultiRegionRole::Replica) {
            // Nothing was ever encrypted under it: it leaves no trace, here and at the replicas.
            for each in multi_region::replicas(tx, key)?.iter().chain([key]) {
                version::forget(tx, each, version.number)?;
            }
        } else {
            version::erase(tx, key, version.number)?;
        }
        settle_state(tx, key)?;
        Ok(Some(id))
    }

    /// Deletes at most `limit` versions of imported material whose date has come. Returns what was deleted, for the
    /// events.
    ///
    /// # Errors
    /// As the database answers.
    pub fn expire_materials(&self, tx: &mut Tx<'_>, limit: u32) -> Result<Vec<Expired>> {
        let rows = tx.query(
            "SELECT account_id, region, key_id, version, expires_at FROM kms_materials \
             WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2",
            params![self.now(), limit],
        )?;
        let mut expired = Vec::new();
        for row in rows {
            let id: String = row.get(2)?;
            let key = key::get(tx, &row.get(0)?, &row.get(1)?, &id)?;
            let number: u32 = row.get(3)?;
            version::erase(tx, &key, number)?;
            settle_state(tx, &key)?;
            expired.push(Expired { key, at: row.get(4)? });
        }
        Ok(expired)
    }
}

/// Imported material whose date has come.
#[derive(Clone, Debug)]
pub struct Expired {
    /// The key that lost it.
    pub key: Key,
    /// When it expired.
    pub at: Timestamp,
}

/// A key is usable when all its material is here, unless somebody has switched it off or it waits for its end.
fn settle_state(tx: &mut Tx<'_>, key: &Key) -> Result<()> {
    if key.state.is_pending_deletion() {
        return Ok(());
    }
    let complete = version::is_complete(tx, key)?;
    let resting = key.next_state.unwrap_or(key.state);
    let state = match (complete, resting) {
        (true, KeyState::PendingImport) => KeyState::Enabled,
        (true, other) => other,
        (false, _) => KeyState::PendingImport,
    };
    if state == resting {
        return Ok(());
    }
    match key.next_state {
        // The key is being made or moved; this is what it becomes.
        Some(_) => key::set_next_state(tx, key, state),
        None => key::set_state(tx, key, state, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let now = Timestamp(1_000_000);
        let day = now.plus_seconds(86_400);
        assert_eq!(check_expiry(None, Some(day), now).unwrap(), Some(day));
        assert_eq!(check_expiry(Some(EXPIRES), Some(day), now).unwrap(), Some(day));
        assert_eq!(check_expiry(Some(EXPIRES_NOT), None, now).unwrap(), None);
        assert!(check_expiry(Some(EXPIRES_NOT), Some(day), now).is_err());
        assert!(check_expiry(None, None, now).is_err());
        assert!(check_expiry(None, Some(now), now).is_err());
        assert!(check_expiry(None, Some(now.plus_seconds(365 * 86_400 + 1)), now).is_err());
    }

    #[test]
    fn descriptions() {
        assert!(check_description("from HSM 7: slot_3/a.b-c").is_ok());
        assert!(check_description("").is_ok());
        assert!(check_description("a;b").is_err());
        assert!(check_description(&"x".repeat(257)).is_err());
    }
}
