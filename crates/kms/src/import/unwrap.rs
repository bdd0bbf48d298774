//! Opens wrapped material. The private key lives for the length of one call.

use crate::error::{Error, Result};
use crate::import::wrapping::{WrappingAlgorithm, WrappingKeySpec};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPrivateDecryptingKey,
    PrivateDecryptingKey,
};
use base::Secret;

/// A key pair: PKCS #8 and SubjectPublicKeyInfo, both DER.
pub(super) fn generate(spec: WrappingKeySpec) -> Result<(Secret<Vec<u8>>, Vec<u8>)> {
    let size = match spec {
        WrappingKeySpec::Rsa2048 => KeySize::Rsa2048,
        WrappingKeySpec::Rsa3072 => KeySize::Rsa3072,
        WrappingKeySpec::Rsa4096 => KeySize::Rsa4096,
    };
    let key = PrivateDecryptingKey::generate(size).map_err(|_| Error::Wrapping)?;
    let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&key).map_err(|_| Error::Wrapping)?;
    let public = AsDer::<PublicKeyX509Der<'_>>::as_der(&key.public_key());
    let public = public.map_err(|_| Error::Wrapping)?;
    Ok((Secret::new(private.as_ref().to_vec()), public.as_ref().to_vec()))
}

/// The material inside. One error for every cause: how it does not open is nobody's business.
pub(crate) fn unwrap(
    private: &[u8],
    algorithm: WrappingAlgorithm,
    wrapped: &[u8],
) -> Result<Secret<Vec<u8>>> {
    let key = PrivateDecryptingKey::from_pkcs8(private).map_err(|_| Error::Wrapping)?;
    match algorithm {
        WrappingAlgorithm::RsaesOaepSha1 => oaep(key, &OAEP_SHA1_MGF1SHA1, wrapped),
        WrappingAlgorithm::RsaesOaepSha256 => oaep(key, &OAEP_SHA256_MGF1SHA256, wrapped),
        WrappingAlgorithm::RsaAesKeyWrapSha1 => key_wrap(key, &OAEP_SHA1_MGF1SHA1, wrapped),
        WrappingAlgorithm::RsaAesKeyWrapSha256 => key_wrap(key, &OAEP_SHA256_MGF1SHA256, wrapped),
    }
}

fn oaep(
    key: PrivateDecryptingKey,
    algorithm: &'static OaepAlgorithm,
    wrapped: &[u8],
) -> Result<Secret<Vec<u8>>> {
    let key = OaepPrivateDecryptingKey::new(key).map_err(|_| Error::Wrapping)?;
    let mut text = Secret::new(vec![0; key.min_output_size()]);
    let opened = key.decrypt(algorithm, wrapped, text.expose_mut(), None);
    let length = opened.map_err(|_| Error::InvalidCiphertext)?.len();
    text.expose_mut().truncate(length);
    Ok(text)
}

/// An AES-256 key under RSAES-OAEP, then the material under that key with RFC 5649.
fn key_wrap(
    key: PrivateDecryptingKey,
    algorithm: &'static OaepAlgorithm,
    wrapped: &[u8],
) -> Result<Secret<Vec<u8>>> {
    let (head, body) =
        wrapped.split_at_checked(key.key_size_bytes()).ok_or(Error::InvalidCiphertext)?;
    let wrapping = oaep(key, algorithm, head)?;
    let wrapping =
        AesKek::new(&AES_256, wrapping.expose()).map_err(|_| Error::InvalidCiphertext)?;
    let mut text = Secret::new(vec![0; body.len()]);
    let opened = wrapping.unwrap_with_padding(body, text.expose_mut());
    let length = opened.map_err(|_| Error::InvalidCiphertext)?.len();
    text.expose_mut().truncate(length);
    Ok(text)
}
