//! The cryptographic operations, on keys that were resolved, authorized and found in the right state.

use crate::blob::{self, Blob, BlobKind, PLAINTEXT_BYTES_MAX};
use crate::context::EncryptionContext;
use crate::error::{Error, Result};
use crate::key::{self, Key};
use crate::material::MaterialId;
use crate::opened;
use crate::pair;
use crate::service::Kms;
use crate::spec::{EncryptionAlgorithm, KeySpec, Kind};
use base::{AccountId, Region, Rng, Secret};
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

impl Located {
    /// A ciphertext of RSA, which does not say what made it: it is the key's that the request names.
    pub fn under(key: &Key, ciphertext: &[u8]) -> Self {
        Self { key: key.clone(), material_id: key.material_id, bytes: ciphertext.to_vec() }
    }
}

/// A key pair for use elsewhere, with its private half encrypted under a KMS key.
#[derive(Debug)]
pub struct DataKeyPair {
    /// The public half: a `SubjectPublicKeyInfo` in DER.
    pub public: Vec<u8>,
    /// The private half: a PKCS #8 document.
    pub private: Secret<Vec<u8>>,
}

impl DataKeyPair {
    /// A new pair. Made before the transaction that encrypts its private half, as a pair for RSA takes seconds.
    ///
    /// # Errors
    /// When the library fails.
    ///
    /// # Panics
    /// When the spec does not pass [`check_data_key_pair`].
    pub fn generate(spec: KeySpec, rng: &dyn Rng) -> Result<Self> {
        let (public, private) = pair::generate_for_export(spec, rng)?;
        Ok(Self { public, private })
    }
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

/// Whether the key encrypts with the algorithm.
///
/// # Errors
/// [`Error::InvalidKeyUsage`].
pub fn check_algorithm(kind: Kind, algorithm: EncryptionAlgorithm) -> Result<()> {
    opened::check(kind.encryption_algorithms(), algorithm, kind)
}

/// Whether the key takes an encryption context: only symmetric encryption keys do (KMS API, Encrypt).
///
/// # Errors
/// [`Error::Validation`].
pub fn check_context(kind: Kind, context: &EncryptionContext) -> Result<()> {
    if context.is_empty() || kind.is_symmetric() {
        return Ok(());
    }
    let spec = kind.spec();
    Err(Error::validation(format!("EncryptionContext is not supported with key spec {spec}.")))
}

/// Whether a plaintext is within what an RSA key takes.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_fits(kind: Kind, algorithm: EncryptionAlgorithm, plaintext: &[u8]) -> Result<()> {
    let spec = kind.spec();
    match pair::plaintext_max(spec, algorithm) {
        Some(max) if plaintext.len() > max => Err(Error::validation(format!(
            "Algorithm {algorithm} and key spec {spec} cannot encrypt data larger than {max} bytes."
        ))),
        _ => Ok(()),
    }
}

/// The spec of a data key pair.
///
/// # Errors
/// [`Error::Unsupported`] for SM2, which AWS has in China only.
pub fn check_data_key_pair(name: &str) -> Result<KeySpec> {
    match KeySpec::parse(name) {
        Some(spec) if spec.is_pair() => Ok(spec),
        _ => Err(Error::Unsupported {
            message: format!("KeyPairSpec {name} is not supported by this server."),
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

/// Whether a member of a request that holds bytes has a length the model allows: 1 to `max`.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_length(member: &str, length: usize, max: usize) -> Result<()> {
    let broken = match length {
        0 => "length greater than or equal to 1".to_owned(),
        _ if length > max => format!("length less than or equal to {max}"),
        _ => return Ok(()),
    };
    Err(Error::validation(format!(
        "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must have {broken}"
    )))
}

/// The length GenerateRandom is asked for.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_random_length(number: Option<i64>) -> Result<usize> {
    let number = number.ok_or_else(|| Error::validation("NumberOfBytes is required."))?;
    usize::try_from(number)
        .ok()
        .filter(|bytes| (1..=DATA_KEY_BYTES_MAX).contains(bytes))
        .ok_or_else(|| outside_length(number))
}

fn outside_length(number: i64) -> Error {
    Error::validation(format!(
        "1 validation error detected: Value '{number}' at 'numberOfBytes' failed to satisfy \
         constraint: Member must have value between 1 and {DATA_KEY_BYTES_MAX}"
    ))
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
            .ok_or_else(|| outside_length(bytes)),
        (None, None) | (Some(_), Some(_)) => {
            Err(Error::validation("Please specify either number of bytes or key spec."))
        }
    }
}

impl Kms {
    /// Encrypt.
    ///
    /// # Errors
    /// What does not fit the key: algorithm, context or size. As the database answers, or damaged material.
    ///
    /// # Panics
    /// When the plaintext does not pass [`check_plaintext`].
    pub fn encrypt(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        algorithm: EncryptionAlgorithm,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        assert!(check_plaintext(plaintext).is_ok(), "the caller has checked the size");
        self.encrypt_any(tx, (key, algorithm, context), plaintext)
    }

    /// Encrypts for Encrypt and ReEncrypt. What was encrypted elsewhere under a public key may be empty.
    fn encrypt_any(
        &self,
        tx: &mut Tx<'_>,
        (key, algorithm, context): (&Key, EncryptionAlgorithm, &EncryptionContext),
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        check_algorithm(key.kind, algorithm)?;
        check_context(key.kind, context)?;
        check_fits(key.kind, algorithm, plaintext)?;
        if key.kind.is_symmetric() {
            return self.seal(tx, BlobKind::Encrypt, key, context, plaintext);
        }
        let private = self.secret(tx, key, key.material_id)?;
        pair::encrypt(private.expose(), algorithm, plaintext)
    }

    /// Decrypt.
    ///
    /// # Errors
    /// [`Error::InvalidCiphertext`] for altered bytes or another context; an algorithm or a context that does not
    /// fit the key.
    pub fn decrypt(
        &self,
        tx: &mut Tx<'_>,
        located: &Located,
        algorithm: EncryptionAlgorithm,
        context: &EncryptionContext,
    ) -> Result<Secret<Vec<u8>>> {
        check_algorithm(located.key.kind, algorithm)?;
        check_context(located.key.kind, context)?;
        if !located.key.kind.is_symmetric() {
            let private = self.secret(tx, &located.key, located.material_id)?;
            return pair::decrypt(private.expose(), algorithm, &located.bytes);
        }
        match self.material(tx, &located.key, located.material_id) {
            Err(Error::MaterialOnToken { .. }) => {
                let Located { key, material_id, bytes } = located;
                self.open_on_token(tx, key, *material_id, bytes, context)
            }
            material => Ok(Blob::parse(&located.bytes)?.open(&material?, context)?),
        }
    }

    /// ReEncrypt: under another key, another context or both; the plaintext goes nowhere else.
    ///
    /// # Errors
    /// As [`Kms::decrypt`].
    pub fn re_encrypt(
        &self,
        tx: &mut Tx<'_>,
        source: (&Located, EncryptionAlgorithm, &EncryptionContext),
        target: (&Key, EncryptionAlgorithm, &EncryptionContext),
    ) -> Result<Vec<u8>> {
        let (located, algorithm, context) = source;
        let plaintext = self.decrypt(tx, located, algorithm, context)?;
        self.encrypt_any(tx, target, plaintext.expose())
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
        let material_id = key.material_id;
        let (plaintext, ciphertext) = match self.material(tx, key, material_id) {
            Err(Error::MaterialOnToken { .. }) => {
                self.data_key_on_token(tx, key, context, bytes)?
            }
            material => {
                let material = material?;
                let mut plaintext = Secret::new(vec![0; bytes]);
                self.rng().fill(plaintext.expose_mut());
                let (kind, text) = (BlobKind::DataKey, plaintext.expose());
                let sealed = blob::seal(kind, material_id, &material, context, text, self.rng());
                (plaintext, sealed)
            }
        };
        Ok(DataKey { plaintext, ciphertext, material_id })
    }

    /// Encrypts the private half of a data key pair.
    ///
    /// # Errors
    /// As the database answers, or damaged material.
    pub fn seal_data_key_pair(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        context: &EncryptionContext,
        pair: &DataKeyPair,
    ) -> Result<Vec<u8>> {
        self.seal(tx, BlobKind::DataKey, key, context, pair.private.expose())
    }

    fn seal(
        &self,
        tx: &mut Tx<'_>,
        kind: BlobKind,
        key: &Key,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        match self.material(tx, key, key.material_id) {
            Err(Error::MaterialOnToken { .. }) => {
                self.seal_on_token(tx, kind, key, context, plaintext)
            }
            material => {
                Ok(blob::seal(kind, key.material_id, &material?, context, plaintext, self.rng()))
            }
        }
    }
}
