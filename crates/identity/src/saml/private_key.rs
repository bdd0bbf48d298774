//! The private keys that open a provider's encrypted assertions: as they are handed over, and as they are kept.

use super::Provider;
use crate::Identity;
use crate::error::{Error, Result};
use crate::name::{UNIQUE_ID_TAIL, unique_id};
use aws_lc_rs::rsa::{OaepAlgorithm, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meta::{Tx, params};

/// How many a provider may have (IAM API, `privateKeyList`).
pub const PRIVATE_KEYS_MAX: usize = 2;

/// The longest key. Whoever can send a response can have it work, and the work grows with the third power.
const BITS_MAX: usize = 4096;

/// What stands before a `RSAPrivateKey` (RFC 8017) of two bytes' length in a `PrivateKeyInfo` (RFC 5208), behind the
/// outer length: version 0, and the algorithm rsaEncryption without parameters.
const RSA_INFO: [u8; 18] = [
    0x02, 0x01, 0x00, 0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01,
    0x05, 0x00,
];

/// A key that is kept, without what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateKeyEntry {
    /// `SAMLK…`.
    pub id: String,
    /// When it was handed over.
    pub added_at: Timestamp,
}

/// Keys that open: PKCS #8 documents of RSA keys, in DER.
#[derive(Debug, Default)]
pub struct PrivateKeys(pub(super) Vec<Secret<Vec<u8>>>);

impl PrivateKeys {
    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Opens a key with whichever of these it was wrapped for.
    pub(super) fn unwrap(
        &self,
        algorithm: &'static OaepAlgorithm,
        wrapped: &[u8],
    ) -> Option<Secret<Vec<u8>>> {
        self.0.iter().find_map(|pkcs8| {
            let key = PrivateDecryptingKey::from_pkcs8(pkcs8.expose()).ok()?;
            let key = OaepPrivateDecryptingKey::new(key).ok()?;
            let mut opened = Secret::new(vec![0; key.min_output_size()]);
            let length = key.decrypt(algorithm, wrapped, opened.expose_mut(), None).ok()?.len();
            opened.expose_mut().truncate(length);
            Some(opened)
        })
    }
}

/// Reads a file in PEM (RFC 7468) with one RSA private key and nothing else, as PKCS #8 or PKCS #1.
///
/// # Errors
/// A sentence about what is wrong with it; nothing of what is in it.
pub(super) fn read_pem(text: &str) -> std::result::Result<Secret<Vec<u8>>, &'static str> {
    const NO_PEM: &str = "it is not a file in PEM format with one private key and nothing else";
    let rest = text.trim().strip_prefix("-----BEGIN ").ok_or(NO_PEM)?;
    let (label, rest) = rest.split_once("-----").ok_or(NO_PEM)?;
    let body = rest.strip_suffix(&format!("-----END {label}-----")).ok_or(NO_PEM)?;
    match label {
        "PRIVATE KEY" | "RSA PRIVATE KEY" => {}
        "ENCRYPTED PRIVATE KEY" => return Err("it is encrypted"),
        _ => return Err(NO_PEM),
    }
    if body.contains("Proc-Type:") {
        return Err("it is encrypted");
    }
    let mut compact = Secret::new(Vec::with_capacity(body.len()));
    compact.expose_mut().extend(body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
    let der = Secret::new(STANDARD.decode(compact.expose()).map_err(|_| NO_PEM)?);
    let pkcs8 = if label == "PRIVATE KEY" { der } else { in_pkcs8(der.expose()).ok_or(NO_PEM)? };
    match PrivateDecryptingKey::from_pkcs8(pkcs8.expose()) {
        Ok(key) if key.key_size_bits() <= BITS_MAX => Ok(pkcs8),
        _ => Err("it is not an RSA key of 2048 to 4096 bits"),
    }
}

/// An RSA key of PKCS #1 in the form of PKCS #8.
fn in_pkcs8(pkcs1: &[u8]) -> Option<Secret<Vec<u8>>> {
    // The shortest key that is taken has more than 255 bytes, so both lengths have two.
    let inner = u16::try_from(pkcs1.len()).ok().filter(|length| *length > 0xff)?;
    let outer = inner.checked_add(4 + RSA_INFO.len() as u16)?;
    // Of its final size at once: what grows leaves copies behind.
    let mut whole = Vec::with_capacity(4 + usize::from(outer));
    whole.extend_from_slice(&[0x30, 0x82]);
    whole.extend_from_slice(&outer.to_be_bytes());
    whole.extend_from_slice(&RSA_INFO);
    whole.extend_from_slice(&[0x04, 0x82]);
    whole.extend_from_slice(&inner.to_be_bytes());
    whole.extend_from_slice(pkcs1);
    Some(Secret::new(whole))
}

/// To what a sealed key is bound: it opens in the row of its provider alone.
fn aad(provider: &Provider, id: &str) -> Vec<u8> {
    format!("saml-private-key|{}|{id}", provider.unique_id).into_bytes()
}

impl Identity {
    /// Keeps one more key of a provider.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for what is no RSA key; [`Error::LimitExceeded`] beyond [`PRIVATE_KEYS_MAX`].
    pub(super) fn add_private_key(
        &self,
        tx: &mut Tx<'_>,
        provider: &Provider,
        pem: &Secret<String>,
    ) -> Result<()> {
        let pkcs8 = read_pem(pem.expose()).map_err(|why| Error::InvalidInput {
            message: format!("Could not parse the private key: {why}."),
        })?;
        if list(tx, provider)?.len() >= PRIVATE_KEYS_MAX {
            let message =
                format!("Cannot exceed quota for PrivateKeysPerSAMLProvider: {PRIVATE_KEYS_MAX}");
            return Err(Error::LimitExceeded { message });
        }
        let id = unique_id(self.rng(), "SAMLK", UNIQUE_ID_TAIL);
        let sealed = self.secrets_key().seal(self.rng(), &aad(provider, &id), pkcs8.expose());
        tx.execute(
            "INSERT INTO iam_saml_private_keys (account_id, provider_id, key_id, sealed, added_at) \
             VALUES ($1, $2, $3, $4, $5)",
            params![&provider.account, &provider.unique_id, &id, sealed, self.now()],
        )?;
        Ok(())
    }

    /// The keys of a provider, opened.
    ///
    /// # Errors
    /// As the database answers, or damaged keys.
    pub fn saml_private_keys(&self, tx: &mut Tx<'_>, provider: &Provider) -> Result<PrivateKeys> {
        let rows = tx.query(
            "SELECT key_id, sealed FROM iam_saml_private_keys \
             WHERE account_id = $1 AND provider_id = $2 ORDER BY added_at, key_id",
            params![&provider.account, &provider.unique_id],
        )?;
        let open = |row: &meta::Row| {
            let (id, sealed): (String, Vec<u8>) = (row.get(0)?, row.get(1)?);
            let opened = self.secrets_key().open(&aad(provider, &id), &sealed);
            let damaged = || Error::damaged(format!("the private key {id} of a SAML provider"));
            Ok(opened.map_err(|_| damaged())?.0)
        };
        Ok(PrivateKeys(rows.iter().map(open).collect::<Result<_>>()?))
    }
}

/// The keys of a provider, oldest first.
///
/// # Errors
/// As the database answers.
pub fn list(tx: &mut Tx<'_>, provider: &Provider) -> Result<Vec<PrivateKeyEntry>> {
    let rows = tx.query(
        "SELECT key_id, added_at FROM iam_saml_private_keys \
         WHERE account_id = $1 AND provider_id = $2 ORDER BY added_at, key_id",
        params![&provider.account, &provider.unique_id],
    )?;
    let entry = |row: &meta::Row| Ok(PrivateKeyEntry { id: row.get(0)?, added_at: row.get(1)? });
    rows.iter().map(entry).collect()
}

/// Forgets a key of a provider.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub(super) fn remove(tx: &mut Tx<'_>, provider: &Provider, id: &str) -> Result<()> {
    let removed = tx.execute(
        "DELETE FROM iam_saml_private_keys \
         WHERE account_id = $1 AND provider_id = $2 AND key_id = $3",
        params![&provider.account, &provider.unique_id, id],
    )?;
    match removed {
        0 => Err(Error::missing(format!("The provider has no private key with the id {id}."))),
        _ => Ok(()),
    }
}

/// Forgets every key of a provider.
///
/// # Errors
/// As the database answers.
pub(super) fn remove_all(tx: &mut Tx<'_>, provider: &Provider) -> Result<()> {
    tx.execute(
        "DELETE FROM iam_saml_private_keys WHERE account_id = $1 AND provider_id = $2",
        params![&provider.account, &provider.unique_id],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
    use aws_lc_rs::rsa::KeySize;

    fn pem(label: &str, der: &[u8]) -> String {
        let text = STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {label}-----\r\n{}\r\n-----END {label}-----\n", lines.join("\r\n"))
    }

    #[test]
    fn one_key_is_read_in_either_form() {
        let key = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
        let der = der.as_ref();
        let good = pem("PRIVATE KEY", der);
        assert_eq!(read_pem(&good).unwrap().expose(), der);
        // What is in the octets of a PKCS #8 document of RSA is the document of PKCS #1.
        let pkcs1 = &der[4 + RSA_INFO.len() + 4..];
        assert_eq!(read_pem(&pem("RSA PRIVATE KEY", pkcs1)).unwrap().expose(), der);
        for (bad, why) in [
            ("key".to_owned(), "not a file in PEM"),
            (good.replace("BEGIN", "START"), "not a file in PEM"),
            (format!("{good}{good}"), "not a file in PEM"),
            (good.replacen("END PRIVATE", "END RSA PRIVATE", 1), "not a file in PEM"),
            (pem("CERTIFICATE", der), "not a file in PEM"),
            (pem("ENCRYPTED PRIVATE KEY", der), "encrypted"),
            (good.replacen("-----\r\n", "-----\r\nProc-Type: 4,ENCRYPTED\r\n", 1), "encrypted"),
            (pem("RSA PRIVATE KEY", &[1; 20]), "not a file in PEM"),
            (pem("RSA PRIVATE KEY", der), "not an RSA key"),
            (pem("PRIVATE KEY", pkcs1), "not an RSA key"),
            (pem("PRIVATE KEY", &der[1..]), "not an RSA key"),
        ] {
            let refused = read_pem(&bad).unwrap_err();
            assert!(refused.contains(why), "{refused}, and not {why}");
        }
    }
}
