//! The cryptographic operations, on keys that were resolved, authorized and found in the right state.

use crate::blob::{self, Blob, BlobKind, PLAINTEXT_BYTES_MAX};
use crate::context::EncryptionContext;
use crate::error::{Error, Result};
use crate::key::{self, KEY_SPEC, Key};
use crate::material::MaterialId;
use crate::service::Kms;
use base::{AccountId, Region, Secret};
use meta::{Tx, params};

/// Largest data key, in bytes (spec 20, B.7).
pub const DATA_KEY_BYTES_MAX: usize = 1024;

/// A ciphertext whose key is known.
#[derive(Clone, Debug)]
pub struct Located {
    /// The key that made it.
    pub key: Key,
    /// The version of its material.
    pub material_id: MaterialId,
    bytes: Vec<u8>,
}

/// A data key in both forms.
#[derive(Debug)]
pub struct DataKey {
    /// The key itself.
    pub plaintext: Secret<Vec<u8>>,
    /// The key, encrypted under a KMS key.
    pub ciphertext: Vec<u8>,
    /// The version that encrypted it.
    pub material_id: MaterialId,
}

/// Finds the key that made a ciphertext, by the material id inside. Nothing is opened.
///
/// # Errors
/// [`Error::InvalidCiphertext`] when it is no ciphertext, or of a key that is not or no longer here.
pub fn locate(tx: &mut Tx<'_>, region: &Region, ciphertext: &[u8]) -> Result<Located> {
    let blob = Blob::parse(ciphertext)?;
    let row = tx.query_opt(
        "SELECT account_id, key_id FROM kms_materials WHERE region = $1 AND material_id = $2",
        params![region, blob.material_id().0.to_vec()],
    )?;
    let row = row.ok_or(Error::InvalidCiphertext)?;
    let (account, id): (AccountId, String) = (row.get(0)?, row.get(1)?);
    Ok(Located {
        key: key::get(tx, &account, region, &id)?,
        material_id: blob.material_id(),
        bytes: ciphertext.to_vec(),
    })
}

/// Whether the algorithm named fits the key. Only the symmetric one does.
///
/// # Errors
/// [`Error::InvalidKeyUsage`].
pub fn check_algorithm(algorithm: Option<&str>) -> Result<()> {
    match algorithm {
        None | Some(KEY_SPEC) => Ok(()),
        Some(other) => Err(Error::InvalidKeyUsage {
            message: format!("Algorithm {other} and key spec {KEY_SPEC} are incompatible."),
        }),
    }
}

/// Whether Encrypt takes a plaintext.
///
/// # Errors
/// [`Error::Validation`] when it is empty or too large.
pub fn check_plaintext(plaintext: &[u8]) -> Result<()> {
    if (1..=PLAINTEXT_BYTES_MAX).contains(&plaintext.len()) {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: Member must \
         have length between 1 and {PLAINTEXT_BYTES_MAX}"
    )))
}

/// The length of a data key from `KeySpec` and `NumberOfBytes`, of which a request has one.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_data_key_length(spec: Option<&str>, number: Option<i64>) -> Result<usize> {
    match (spec, number) {
        (Some("AES_128"), None) => Ok(16),
        (Some("AES_256"), None) => Ok(32),
        (Some(other), None) => Err(Error::validation(format!(
            "1 validation error detected: Value '{other}' at 'keySpec' failed to satisfy constraint: \
             Member must satisfy enum value set: [AES_256, AES_128]"
        ))),
        (None, Some(bytes)) => usize::try_from(bytes)
            .ok()
            .filter(|bytes| (1..=DATA_KEY_BYTES_MAX).contains(bytes))
            .ok_or_else(|| {
                Error::validation(format!(
                    "1 validation error detected: Value '{bytes}' at 'numberOfBytes' failed to satisfy \
                     constraint: Member must have value between 1 and {DATA_KEY_BYTES_MAX}"
                ))
            }),
        (None, None) | (Some(_), Some(_)) => {
            Err(Error::validation("Please specify either number of bytes or key spec."))
        }
    }
}

impl Kms {
    /// Encrypt.
    ///
    /// # Errors
    /// As the database answers, or damaged material.
    ///
    /// # Panics
    /// When the plaintext does not pass [`check_plaintext`].
    pub fn encrypt(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        assert!(check_plaintext(plaintext).is_ok(), "the caller has checked the size");
        self.seal(tx, BlobKind::Encrypt, key, context, plaintext)
    }

    /// Decrypt.
    ///
    /// # Errors
    /// [`Error::InvalidCiphertext`] for altered bytes or another context.
    pub fn decrypt(
        &self,
        tx: &mut Tx<'_>,
        located: &Located,
        context: &EncryptionContext,
    ) -> Result<Secret<Vec<u8>>> {
        let material = self.material(tx, &located.key, located.material_id)?;
        Ok(Blob::parse(&located.bytes)?.open(&material, context)?)
    }

    /// ReEncrypt: under another key, another context or both; the plaintext goes nowhere else.
    ///
    /// # Errors
    /// As [`Kms::decrypt`].
    pub fn re_encrypt(
        &self,
        tx: &mut Tx<'_>,
        source: &Located,
        source_context: &EncryptionContext,
        target: &Key,
        target_context: &EncryptionContext,
    ) -> Result<Vec<u8>> {
        let plaintext = self.decrypt(tx, source, source_context)?;
        self.seal(tx, BlobKind::Encrypt, target, target_context, plaintext.expose())
    }

    /// GenerateDataKey; without its plaintext when the caller drops that.
    ///
    /// # Errors
    /// As the database answers, or damaged material.
    ///
    /// # Panics
    /// When the length does not pass [`check_data_key_length`].
    pub fn generate_data_key(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        context: &EncryptionContext,
        bytes: usize,
    ) -> Result<DataKey> {
        assert!((1..=DATA_KEY_BYTES_MAX).contains(&bytes), "the caller has checked the length");
        let mut plaintext = Secret::new(vec![0; bytes]);
        self.rng().fill(plaintext.expose_mut());
        let ciphertext = self.seal(tx, BlobKind::DataKey, key, context, plaintext.expose())?;
        Ok(DataKey { plaintext, ciphertext, material_id: key.material_id })
    }

    fn seal(
        &self,
        tx: &mut Tx<'_>,
        kind: BlobKind,
        key: &Key,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        let material = self.material(tx, key, key.material_id)?;
        Ok(blob::seal(kind, key.material_id, &material, context, plaintext, self.rng()))
    }
}
