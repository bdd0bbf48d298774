//! A key that is not for symmetric encryption, with its secret: for the length of one operation, outside any
//! transaction, because what RSA and ML-DSA do takes milliseconds.

use crate::error::{Error, Result};
use crate::key::Key;
use crate::service::Kms;
use crate::spec::{
    EncapsulationAlgorithm, KeyAgreementAlgorithm, KeySpec, Kind, MacAlgorithm, MessageType,
    SigningAlgorithm,
};
use crate::{mac, pair};
use base::Secret;
use meta::Tx;

/// A key and its secret. What it is asked to do must fit its kind; the checks of this module say whether it does.
#[derive(Debug)]
pub struct Opened {
    spec: KeySpec,
    secret: Secret<Vec<u8>>,
}

impl Kms {
    /// Opens a key pair or HMAC key. The caller has checked state and usage.
    ///
    /// # Errors
    /// As the database answers, or damaged material.
    pub fn open_key(&self, tx: &mut Tx<'_>, key: &Key) -> Result<Opened> {
        let secret = self.secret(tx, key, key.material_id)?;
        Ok(Opened { spec: key.kind.spec(), secret })
    }
}

impl Opened {
    /// Sign.
    ///
    /// # Errors
    /// As [`crate::check_message`], or when the library fails.
    pub fn sign(
        &self,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &[u8],
    ) -> Result<Vec<u8>> {
        pair::sign(self.spec, self.secret.expose(), algorithm, message_type, message)
    }

    /// Verify.
    ///
    /// # Errors
    /// [`Error::InvalidSignature`], or as [`Opened::sign`].
    pub fn verify(
        &self,
        algorithm: SigningAlgorithm,
        message_type: MessageType,
        message: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        let key = self.secret.expose();
        pair::verify(self.spec, key, algorithm, message_type, message, signature)
    }

    /// The public half, a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// Damaged material.
    pub fn public_key(&self) -> Result<Vec<u8>> {
        pair::public_key(self.spec, self.secret.expose())
    }

    /// DeriveSharedSecret.
    ///
    /// # Errors
    /// [`Error::Validation`] when the peer's key is none of the same curve.
    pub fn shared_secret(&self, peer: &[u8]) -> Result<Secret<Vec<u8>>> {
        pair::shared_secret(self.spec, self.secret.expose(), peer)
    }

    /// Encapsulate: a new shared secret, and before it what it is encapsulated in.
    ///
    /// # Errors
    /// When the library fails.
    pub fn encapsulate(&self) -> Result<(Vec<u8>, Secret<Vec<u8>>)> {
        pair::encapsulate(self.spec, self.secret.expose())
    }

    /// Decapsulate. What was made for another key gives another secret, and no error.
    ///
    /// # Errors
    /// [`Error::InvalidCiphertext`] for a length that does not fit the key spec.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<Vec<u8>>> {
        pair::decapsulate(self.spec, self.secret.expose(), ciphertext)
    }

    /// GenerateMac.
    pub fn mac(&self, algorithm: MacAlgorithm, message: &[u8]) -> Vec<u8> {
        mac::generate(algorithm, self.secret.expose(), message)
    }

    /// VerifyMac.
    ///
    /// # Errors
    /// [`Error::InvalidMac`].
    pub fn verify_mac(&self, algorithm: MacAlgorithm, message: &[u8], tag: &[u8]) -> Result<()> {
        if mac::verifies(algorithm, self.secret.expose(), message, tag) {
            Ok(())
        } else {
            Err(Error::InvalidMac)
        }
    }
}

/// Whether the key signs with the algorithm.
///
/// # Errors
/// [`Error::InvalidKeyUsage`].
pub fn check_signing_algorithm(kind: Kind, algorithm: SigningAlgorithm) -> Result<()> {
    check(kind.signing_algorithms(), algorithm, kind)
}

/// Whether the key makes MACs with the algorithm.
///
/// # Errors
/// [`Error::InvalidKeyUsage`].
pub fn check_mac_algorithm(kind: Kind, algorithm: MacAlgorithm) -> Result<()> {
    check(kind.mac_algorithms(), algorithm, kind)
}

/// Whether the key agrees on secrets with the algorithm.
///
/// # Errors
/// [`Error::InvalidKeyUsage`].
pub fn check_agreement_algorithm(kind: Kind, algorithm: KeyAgreementAlgorithm) -> Result<()> {
    check(kind.key_agreement_algorithms(), algorithm, kind)
}

/// Whether the key encapsulates secrets with the algorithm.
///
/// # Errors
/// [`Error::InvalidKeyUsage`].
pub fn check_encapsulation_algorithm(kind: Kind, algorithm: EncapsulationAlgorithm) -> Result<()> {
    check(kind.encapsulation_algorithms(), algorithm, kind)
}

pub(crate) fn check<A: Copy + PartialEq + std::fmt::Display>(
    fitting: &[A],
    algorithm: A,
    kind: Kind,
) -> Result<()> {
    if fitting.contains(&algorithm) {
        return Ok(());
    }
    let spec = kind.spec();
    Err(Error::InvalidKeyUsage {
        message: format!("Algorithm {algorithm} is incompatible with key spec {spec}."),
    })
}
