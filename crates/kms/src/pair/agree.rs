//! Elliptic-curve Diffie-Hellman (NIST SP 800-56A, 5.7.1.2): DeriveSharedSecret.

use super::failed;
use crate::error::{Error, Result};
use crate::spec::KeySpec;
use aws_lc_rs::agreement::{
    Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, ParsedPublicKey, ParsedPublicKeyFormat, PrivateKey,
    UnparsedPublicKey, agree,
};
use base::Secret;

/// The raw x coordinate of the shared point.
///
/// # Errors
/// [`Error::Validation`] when the peer's key is no `SubjectPublicKeyInfo` of a point on the key's curve.
pub(crate) fn shared_secret(spec: KeySpec, pkcs8: &[u8], peer: &[u8]) -> Result<Secret<Vec<u8>>> {
    // The point: a byte that says that it is uncompressed, and two coordinates.
    let (algorithm, point_len): (&'static Algorithm, usize) = match spec {
        KeySpec::EccNistP256 => (&ECDH_P256, 1 + 2 * 32),
        KeySpec::EccNistP384 => (&ECDH_P384, 1 + 2 * 48),
        KeySpec::EccNistP521 => (&ECDH_P521, 1 + 2 * 66),
        _ => return Err(failed("agreeing with a key of another kind")),
    };
    let refused = || {
        Error::validation(format!(
            "The public key is not a DER-encoded X.509 SubjectPublicKeyInfo of key spec {spec}."
        ))
    };
    // Another encoding of the same point could bring parameters of its own along, which nobody would look at. The own
    // public key shows the one that is taken: a curve by its name, a point uncompressed.
    let own = super::public_key(spec, pkcs8)?;
    let header = own.len() - point_len;
    if peer.len() != own.len() || peer[..header] != own[..header] {
        return Err(refused());
    }
    let peer = ParsedPublicKey::try_from(UnparsedPublicKey::new(algorithm, peer))
        .map_err(|_| refused())?;
    if peer.format() != ParsedPublicKeyFormat::X509 {
        return Err(refused());
    }
    let private = PrivateKey::from_private_key_der(algorithm, pkcs8)
        .map_err(|_| failed("reading a private key"))?;
    agree(&private, peer, refused(), |secret| Ok(Secret::new(secret.to_vec())))
}
