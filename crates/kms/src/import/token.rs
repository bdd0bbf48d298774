//! The import token: the private half of a wrapping key, sealed, in its owner's hands. The server keeps nothing, so
//! any server of the region takes the token back, also after a restart. Layout: `docs/format.kms.md`.

use crate::error::{Error, Result};
use crate::import::wrapping::{WrappingAlgorithm, WrappingKeySpec};
use crate::import::{Brought, unwrap};
use crate::key::Key;
use crate::material::Material;
use crate::primitive::{self, NONCE_LEN, TAG_LEN, push_field};
use crate::service::Kms;
use crate::spec::Kind;
use base::{AccountId, Region, Secret, Timestamp};
use meta::Tx;

/// Version of the layout, its first byte.
const VERSION: u8 = 1;
const HEADER_LEN: usize = 1 + 4 + 8 + 1 + NONCE_LEN;
/// How long a token can be used (KMS guide, "Importing key material").
const VALIDITY_SECONDS: i64 = 24 * 3600;

/// What GetParametersForImport returns.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// `ImportToken`.
    pub token: Vec<u8>,
    /// `PublicKey`: a SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// `ParametersValidTo`.
    pub valid_to: Timestamp,
}

/// A new wrapping key. Takes up to seconds to make; not for a thread that others wait for.
#[derive(Debug)]
pub struct WrappingKey {
    /// PKCS #8, DER.
    private: Secret<Vec<u8>>,
    /// SubjectPublicKeyInfo, DER.
    public: Vec<u8>,
}

impl WrappingKey {
    /// Makes one, from the cryptographic library's own generator: it takes no other for RSA.
    ///
    /// # Errors
    /// [`Error::Wrapping`] when the library fails.
    pub fn generate(spec: WrappingKeySpec) -> Result<Self> {
        let (private, public) = unwrap::generate(spec)?;
        Ok(Self { private, public })
    }
}

impl Kms {
    /// GetParametersForImport: seals a new wrapping key for a KMS key and an algorithm.
    ///
    /// # Errors
    /// When the region has no domain key.
    pub fn import_parameters(
        &self,
        key: &Key,
        algorithm: WrappingAlgorithm,
        wrapping: WrappingKey,
    ) -> Result<Parameters> {
        let valid_to = self.now().plus_seconds(VALIDITY_SECONDS);
        let (number, domain_key) = self.domain_keys().newest(&key.region)?;
        let nonce = primitive::random_nonce(self.rng());
        let token = seal(
            domain_key.expose(),
            nonce,
            &Header { number, valid_to, algorithm },
            &Owner::of(key),
            wrapping.private.expose(),
        );
        Ok(Parameters { token, public_key: wrapping.public, valid_to })
    }

    /// Takes a token back.
    ///
    /// # Errors
    /// [`Error::InvalidImportToken`] when the token is none, was altered or belongs to another key,
    /// [`Error::ExpiredImportToken`] after a day.
    pub fn open_import_token(&self, tx: &mut Tx<'_>, key: &Key, token: &[u8]) -> Result<Unwrapper> {
        let header = Header::parse(token).ok_or(Error::InvalidImportToken)?;
        let domain_key = match self.domain_keys().numbered(tx, &key.region, header.number) {
            Err(Error::DomainKeyMissing { .. }) => return Err(Error::InvalidImportToken),
            found => found?,
        };
        let private = open(domain_key.expose(), &header, &Owner::of(key), token)?;
        if header.valid_to <= self.now() {
            return Err(Error::ExpiredImportToken);
        }
        Ok(Unwrapper { private, algorithm: header.algorithm, kind: key.kind })
    }
}

/// What opens the material of one key, for the length of one call.
#[derive(Debug)]
pub struct Unwrapper {
    private: Secret<Vec<u8>>,
    algorithm: WrappingAlgorithm,
    kind: Kind,
}

impl Unwrapper {
    /// Opens wrapped material. Takes milliseconds; not for a thread that others wait for.
    ///
    /// # Errors
    /// [`Error::InvalidCiphertext`] when it does not open, [`Error::IncorrectMaterial`] when what comes out is none
    /// of the key's kind.
    pub fn unwrap(&self, wrapped: &[u8]) -> Result<Brought> {
        let secret = unwrap::unwrap(self.private.expose(), self.algorithm, wrapped)?;
        Ok(Brought { material: Material::imported(self.kind, secret)? })
    }
}

/// The key that a token belongs to.
struct Owner<'a> {
    account: &'a AccountId,
    region: &'a Region,
    key_id: &'a str,
}

impl<'a> Owner<'a> {
    fn of(key: &'a Key) -> Self {
        Self { account: &key.account, region: &key.region, key_id: &key.id }
    }
}

/// What a token says about itself, readable and authenticated.
struct Header {
    /// Of the domain key it is sealed under.
    number: u32,
    valid_to: Timestamp,
    algorithm: WrappingAlgorithm,
}

impl Header {
    fn parse(token: &[u8]) -> Option<Self> {
        if token.len() <= HEADER_LEN + TAG_LEN || token[0] != VERSION {
            return None;
        }
        Some(Self {
            number: u32::from_be_bytes(token[1..5].try_into().ok()?),
            valid_to: Timestamp(i64::from_be_bytes(token[5..13].try_into().ok()?)),
            algorithm: WrappingAlgorithm::of_code(token[13])?,
        })
    }

    fn additional_data(&self, owner: &Owner<'_>) -> Vec<u8> {
        let mut aad = b"import1".to_vec();
        push_field(&mut aad, &self.number.to_be_bytes());
        push_field(&mut aad, &self.valid_to.0.to_be_bytes());
        push_field(&mut aad, &[self.algorithm.code()]);
        push_field(&mut aad, base::arn::PARTITION.as_bytes());
        push_field(&mut aad, owner.account.as_str().as_bytes());
        push_field(&mut aad, owner.region.as_str().as_bytes());
        push_field(&mut aad, owner.key_id.as_bytes());
        aad
    }
}

fn seal(
    domain_key: &[u8; primitive::KEY_LEN],
    nonce: [u8; NONCE_LEN],
    header: &Header,
    owner: &Owner<'_>,
    private: &[u8],
) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(private.len() + TAG_LEN);
    sealed.extend_from_slice(private);
    primitive::seal(domain_key, nonce, &header.additional_data(owner), &mut sealed);
    let mut token = Vec::with_capacity(HEADER_LEN + sealed.len());
    token.push(VERSION);
    token.extend_from_slice(&header.number.to_be_bytes());
    token.extend_from_slice(&header.valid_to.0.to_be_bytes());
    token.push(header.algorithm.code());
    token.extend_from_slice(&nonce);
    token.extend_from_slice(&sealed);
    token
}

fn open(
    domain_key: &[u8; primitive::KEY_LEN],
    header: &Header,
    owner: &Owner<'_>,
    token: &[u8],
) -> Result<Secret<Vec<u8>>> {
    let (head, sealed) = token.split_at(HEADER_LEN);
    let nonce = head[HEADER_LEN - NONCE_LEN..].try_into().expect("the header ends with the nonce");
    primitive::open(domain_key, nonce, &header.additional_data(owner), sealed)
        .map_err(|_| Error::InvalidImportToken)
}

/// Whose the token of the fuzz targets is, and what it is sealed under.
fn with_sample<T>(f: impl FnOnce(&[u8; primitive::KEY_LEN], &Owner<'_>) -> T) -> Option<T> {
    let account = AccountId::parse("111122223333").ok()?;
    let region = Region::parse("us-east-1").ok()?;
    Some(f(&[7; primitive::KEY_LEN], &Owner { account: &account, region: &region, key_id: "k" }))
}

/// A token of a known domain key, for the fuzz targets.
pub(crate) fn sample(private: &[u8]) -> Vec<u8> {
    let algorithm = WrappingAlgorithm::RsaesOaepSha256;
    let header = Header { number: 1, valid_to: Timestamp(1), algorithm };
    with_sample(|key, owner| seal(key, [3; NONCE_LEN], &header, owner, private)).unwrap_or_default()
}

/// What opens of bytes as a token of the same key.
pub(crate) fn opened(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(bytes)?;
    with_sample(|key, owner| open(key, &header, owner, bytes))?.ok().map(|p| p.expose().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::material_id;

    /// Bytes of this version, frozen: what any release gave out must be taken back by every later one.
    const FROZEN: &str = include_str!("../../vectors/import-v1.txt");

    fn bytes(text: &str) -> Vec<u8> {
        hex::decode(text).unwrap()
    }

    fn check_token(fields: &[&str]) {
        let [
            domain_key,
            number,
            account,
            region,
            key_id,
            valid_to,
            algorithm,
            code,
            private,
            token,
        ] = fields[..]
        else {
            panic!("{fields:?}")
        };
        let (account, region) =
            (AccountId::parse(account).unwrap(), Region::parse(region).unwrap());
        let owner = Owner { account: &account, region: &region, key_id };
        let domain_key = bytes(domain_key).try_into().unwrap();
        let token = bytes(token);
        let header = Header::parse(&token).unwrap();
        assert_eq!(header.number.to_string(), number);
        assert_eq!(header.valid_to.0.to_string(), valid_to);
        assert_eq!(header.algorithm.as_str(), algorithm);
        assert_eq!(header.algorithm.code().to_string(), code);
        let opened = open(&domain_key, &header, &owner, &token).unwrap();
        assert_eq!(hex::encode(opened.expose()), private);
        let nonce = token[HEADER_LEN - NONCE_LEN..HEADER_LEN].try_into().unwrap();
        assert_eq!(seal(&domain_key, nonce, &header, &owner, opened.expose()), token);

        let west = Region::parse("us-west-2").unwrap();
        let other = AccountId::parse("444455556666").unwrap();
        for wrong in [
            Owner { account: &other, ..owner },
            Owner { region: &west, ..owner },
            Owner { key_id: "another", ..owner },
        ] {
            assert!(open(&domain_key, &header, &wrong, &token).is_err());
        }
        for index in 0..token.len() {
            let mut altered = token.clone();
            altered[index] ^= 1;
            let opened = Header::parse(&altered)
                .is_some_and(|header| open(&domain_key, &header, &owner, &altered).is_ok());
            assert!(!opened, "byte {index}");
        }
        assert!(Header::parse(&token[..HEADER_LEN + TAG_LEN]).is_none());
    }

    fn check_wrapped(fields: &[&str]) {
        let [algorithm, private, material, wrapped] = fields[..] else { panic!("{fields:?}") };
        let algorithm = WrappingAlgorithm::parse(algorithm).unwrap();
        let (private, wrapped) = (bytes(private), bytes(wrapped));
        let opened = unwrap::unwrap(&private, algorithm, &wrapped).unwrap();
        assert_eq!(hex::encode(opened.expose()), material);
        let wrong = unwrap::unwrap(&private, algorithm, &wrapped[..wrapped.len() - 1]);
        assert!(matches!(wrong, Err(Error::InvalidCiphertext)));
    }

    #[test]
    fn frozen_bytes_still_open() {
        let mut ran = [0; 3];
        for line in FROZEN.lines().filter(|line| !line.starts_with('#')) {
            let (what, fields) = line.split_once(' ').unwrap();
            let fields: Vec<&str> = fields.split(' ').collect();
            let kind = match what {
                "token" => {
                    check_token(&fields);
                    0
                }
                "wrapped" => {
                    check_wrapped(&fields);
                    1
                }
                _ => {
                    let account = AccountId::parse(fields[0]).unwrap();
                    let id = material_id(&account, fields[1], &bytes(fields[2]));
                    assert_eq!(id.to_string(), fields[3]);
                    2
                }
            };
            ran[kind] += 1;
        }
        assert_eq!(ran, [4, 4, 3]);
    }
}
