//! RSAES-OAEP (RFC 8017): Encrypt and Decrypt with RSA keys. No label; the mask uses the hash that the text uses.

use super::failed;
use crate::error::{Error, Result};
use crate::spec::{EncryptionAlgorithm, KeySpec};
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    OaepPublicEncryptingKey, PrivateDecryptingKey,
};
use base::Secret;

/// The library's algorithm and the bytes of its hash.
fn algorithm(named: EncryptionAlgorithm) -> Option<(&'static OaepAlgorithm, usize)> {
    match named {
        EncryptionAlgorithm::SymmetricDefault => None,
        EncryptionAlgorithm::RsaesOaepSha1 => Some((&OAEP_SHA1_MGF1SHA1, 20)),
        EncryptionAlgorithm::RsaesOaepSha256 => Some((&OAEP_SHA256_MGF1SHA256, 32)),
    }
}

/// The largest plaintext of an RSA key (RFC 8017, 7.1.1); `None` for other keys and algorithms.
pub(crate) fn plaintext_max(spec: KeySpec, named: EncryptionAlgorithm) -> Option<usize> {
    let (_, hash) = algorithm(named)?;
    Some(spec.modulus_len()? - 2 * hash - 2)
}

/// Encrypts under the public half. The caller has checked algorithm and size.
///
/// # Errors
/// When the key is damaged or the library fails.
pub(crate) fn encrypt(
    pkcs8: &[u8],
    named: EncryptionAlgorithm,
    plaintext: &[u8],
) -> Result<Vec<u8>> {
    let failed = || failed("encrypting with RSA");
    let (algorithm, _) = algorithm(named).ok_or_else(failed)?;
    let public = private(pkcs8)?.public_key();
    let key = OaepPublicEncryptingKey::new(public).map_err(|_| failed())?;
    let mut ciphertext = vec![0; key.ciphertext_size()];
    let length =
        key.encrypt(algorithm, plaintext, &mut ciphertext, None).map_err(|_| failed())?.len();
    ciphertext.truncate(length);
    Ok(ciphertext)
}

/// Decrypts. One error for every cause.
///
/// # Errors
/// [`Error::InvalidCiphertext`], or a damaged key.
pub(crate) fn decrypt(
    pkcs8: &[u8],
    named: EncryptionAlgorithm,
    ciphertext: &[u8],
) -> Result<Secret<Vec<u8>>> {
    let (algorithm, _) = algorithm(named).ok_or_else(|| failed("decrypting with RSA"))?;
    let key = OaepPrivateDecryptingKey::new(private(pkcs8)?)
        .map_err(|_| failed("decrypting with RSA"))?;
    if ciphertext.len() != key.key_size_bytes() {
        return Err(Error::InvalidCiphertext);
    }
    let mut plaintext = Secret::new(vec![0; key.min_output_size()]);
    let length = key
        .decrypt(algorithm, ciphertext, plaintext.expose_mut(), None)
        .map_err(|_| Error::InvalidCiphertext)?
        .len();
    plaintext.expose_mut().truncate(length);
    Ok(plaintext)
}

fn private(pkcs8: &[u8]) -> Result<PrivateDecryptingKey> {
    PrivateDecryptingKey::from_pkcs8(pkcs8).map_err(|_| failed("reading a private key"))
}
