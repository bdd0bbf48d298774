//! ML-KEM (FIPS 203): Encapsulate and Decapsulate, and the two forms in which a key is written.
//!
//! The library gives and takes the expanded decapsulation key, `dk_pke ‖ ek ‖ H(ek) ‖ z` (FIPS 203, 7.1). The
//! encapsulation key is cut out of it, so nothing but the private key has to be kept here either. Keys of KMS are kept
//! in that form. Data key pairs are handed out as what a key is expanded from, the seed.

use super::{failed, native};
use crate::der;
use crate::error::{Error, Result};
use crate::spec::KeySpec;
use aws_lc_rs::digest::{SHA3_256, digest};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::kem::{
    Algorithm, Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_512, ML_KEM_768, ML_KEM_1024,
};
use base::{Rng, Secret};

/// Bytes of H(ek), of z and of a shared secret.
const HASH_LEN: usize = 32;

/// Bytes of a seed: d and z (FIPS 203, 7.1).
const SEED_LEN: usize = 64;

/// OBJECT IDENTIFIER 2.16.840.1.101.3.4.4, without the last number (RFC 9935, 3).
const OID_KEMS: [u8; 10] = [0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x04];

/// A parameter set (FIPS 203, 8).
#[derive(Clone, Copy)]
pub(super) struct ParameterSet {
    algorithm: &'static Algorithm,
    /// The rank of the module.
    k: usize,
    /// The last number of the object identifier.
    oid: u8,
    ciphertext_len: usize,
}

pub(super) const KEM_512: ParameterSet =
    ParameterSet { algorithm: &ML_KEM_512, k: 2, oid: 1, ciphertext_len: 768 };
pub(super) const KEM_768: ParameterSet =
    ParameterSet { algorithm: &ML_KEM_768, k: 3, oid: 2, ciphertext_len: 1088 };
pub(super) const KEM_1024: ParameterSet =
    ParameterSet { algorithm: &ML_KEM_1024, k: 4, oid: 3, ciphertext_len: 1568 };

impl ParameterSet {
    fn of(spec: KeySpec) -> Result<Self> {
        match spec {
            KeySpec::MlKem512 => Ok(KEM_512),
            KeySpec::MlKem768 => Ok(KEM_768),
            KeySpec::MlKem1024 => Ok(KEM_1024),
            _ => Err(failed("encapsulating with a key of another kind")),
        }
    }

    /// Where the encapsulation key begins in a decapsulation key.
    fn public_at(self) -> usize {
        384 * self.k
    }

    fn public_len(self) -> usize {
        384 * self.k + 32
    }

    fn private_len(self) -> usize {
        self.public_at() + self.public_len() + 2 * HASH_LEN
    }

    /// `AlgorithmIdentifier`: the object identifier, and no parameters (RFC 9935, 3).
    fn identifier(self) -> Vec<u8> {
        der::tlv(der::SEQUENCE, &[&OID_KEMS, &[self.oid]])
    }

    /// What stands before the expanded key in a `PrivateKeyInfo` that holds nothing else (RFC 9935, 6: `expandedKey`).
    fn private_header(self) -> Vec<u8> {
        self.header(der::OCTET_STRING, self.private_len())
    }

    /// What stands before the seed in a `PrivateKeyInfo` that holds nothing else (RFC 9935, 6: `seed`).
    fn seed_header(self) -> Vec<u8> {
        self.header(der::CONTEXT_0, SEED_LEN)
    }

    /// What stands before the last `length` bytes of a `PrivateKeyInfo`, which are all of its one alternative.
    fn header(self, alternative: u8, length: usize) -> Vec<u8> {
        let zeros = vec![0; length];
        let choice = der::tlv(alternative, &[&zeros]);
        let octets = der::tlv(der::OCTET_STRING, &[&choice]);
        let version = der::tlv(der::INTEGER, &[&[0]]);
        let mut whole = der::tlv(der::SEQUENCE, &[&version, &self.identifier(), &octets]);
        whole.truncate(whole.len() - length);
        whole
    }
}

/// A decapsulation key, whose hash was right.
pub(super) struct PrivateKey {
    set: ParameterSet,
    expanded: Secret<Vec<u8>>,
}

impl PrivateKey {
    pub(super) fn generate(set: ParameterSet) -> std::result::Result<Self, Unspecified> {
        let bytes = DecapsulationKey::generate(set.algorithm)?.key_bytes()?;
        Self::expanded(set, bytes.as_ref()).ok_or(Unspecified)
    }

    /// Reads what [`Self::pkcs8`] writes, and nothing else.
    pub(super) fn parse(set: ParameterSet, pkcs8: &[u8]) -> Option<Self> {
        Self::expanded(set, pkcs8.strip_prefix(&set.private_header()[..])?)
    }

    /// Reads what [`seed_pkcs8`] writes.
    pub(super) fn expand(set: ParameterSet, pkcs8: &[u8]) -> Option<Self> {
        Self::expanded(set, native::expand_ml_kem(pkcs8)?.expose())
    }

    /// A key as the library writes it, if its parts belong together (FIPS 203, 7.3).
    pub(super) fn expanded(set: ParameterSet, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != set.private_len() {
            return None;
        }
        let key = Self { set, expanded: Secret::new(bytes.to_vec()) };
        let hash_at = set.public_at() + set.public_len();
        let hash = &bytes[hash_at..hash_at + HASH_LEN];
        (digest(&SHA3_256, key.public()).as_ref() == hash).then_some(key)
    }

    /// A `PrivateKeyInfo` in DER that holds the expanded key.
    pub(super) fn pkcs8(&self) -> Secret<Vec<u8>> {
        after(&self.set.private_header(), self.expanded.expose())
    }

    /// A `SubjectPublicKeyInfo` in DER (RFC 9935, 4).
    pub(super) fn public_der(&self) -> Vec<u8> {
        let bits = der::tlv(der::BIT_STRING, &[&[0], self.public()]);
        der::tlv(der::SEQUENCE, &[&self.set.identifier(), &bits])
    }

    /// The encapsulation key.
    fn public(&self) -> &[u8] {
        &self.expanded.expose()[self.set.public_at()..][..self.set.public_len()]
    }

    pub(super) fn encapsulate(
        &self,
    ) -> std::result::Result<(Vec<u8>, Secret<Vec<u8>>), Unspecified> {
        let public = EncapsulationKey::new(self.set.algorithm, self.public())?;
        let (ciphertext, secret) = public.encapsulate()?;
        Ok((ciphertext.as_ref().to_vec(), Secret::new(secret.as_ref().to_vec())))
    }

    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret<Vec<u8>>> {
        if ciphertext.len() != self.set.ciphertext_len {
            return Err(Error::InvalidCiphertext);
        }
        let failed = |_| failed("decapsulating");
        let private = DecapsulationKey::new(self.set.algorithm, self.expanded.expose());
        let private = private.map_err(|_| failed(Unspecified))?;
        let secret = private.decapsulate(Ciphertext::from(ciphertext)).map_err(failed)?;
        Ok(Secret::new(secret.as_ref().to_vec()))
    }
}

/// A header and the secret it announces. Of its final size at once: what grows leaves copies behind.
fn after(header: &[u8], secret: &[u8]) -> Secret<Vec<u8>> {
    let mut whole = Vec::with_capacity(header.len() + secret.len());
    whole.extend_from_slice(header);
    whole.extend_from_slice(secret);
    Secret::new(whole)
}

/// A `PrivateKeyInfo` in DER that holds a seed and nothing else.
pub(super) fn seed_pkcs8(set: ParameterSet, seed: &[u8]) -> Secret<Vec<u8>> {
    after(&set.seed_header(), seed)
}

/// A new key pair as GenerateDataKeyPair hands it out: the public half, and the private one "in seed format" (KMS API,
/// GenerateDataKeyPair), which is as long for each key spec.
///
/// # Errors
/// When the library fails.
pub(super) fn seeded_pair(set: ParameterSet, rng: &dyn Rng) -> Result<(Vec<u8>, Secret<Vec<u8>>)> {
    let mut seed = Secret::new(vec![0; SEED_LEN]);
    rng.fill(seed.expose_mut());
    let private = seed_pkcs8(set, seed.expose());
    let key =
        PrivateKey::expand(set, private.expose()).ok_or_else(|| failed("expanding a seed"))?;
    Ok((key.public_der(), private))
}

/// A new shared secret, and what it is encapsulated in.
///
/// # Errors
/// Damaged material, or when the library fails.
pub(crate) fn encapsulate(spec: KeySpec, pkcs8: &[u8]) -> Result<(Vec<u8>, Secret<Vec<u8>>)> {
    let private = read(spec, pkcs8)?;
    private.encapsulate().map_err(|_| failed("encapsulating"))
}

/// The shared secret that was encapsulated. What was made for another key, or altered, gives another secret and no
/// error (FIPS 203, 6.3: implicit rejection).
///
/// # Errors
/// [`Error::InvalidCiphertext`] for a length that is none of this spec's; or damaged material.
pub(crate) fn decapsulate(
    spec: KeySpec,
    pkcs8: &[u8],
    ciphertext: &[u8],
) -> Result<Secret<Vec<u8>>> {
    read(spec, pkcs8)?.decapsulate(ciphertext)
}

fn read(spec: KeySpec, pkcs8: &[u8]) -> Result<PrivateKey> {
    PrivateKey::parse(ParameterSet::of(spec)?, pkcs8).ok_or_else(|| failed("reading a private key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::OsRng;

    const SETS: [(KeySpec, ParameterSet); 3] = [
        (KeySpec::MlKem512, KEM_512),
        (KeySpec::MlKem768, KEM_768),
        (KeySpec::MlKem1024, KEM_1024),
    ];

    #[test]
    fn keys_are_written_as_rfc_9935_has_them() {
        for ((_, set), (private, public)) in SETS.into_iter().zip([
            ("30820678020100300b0609608648016503040401", "30820332300b0609608648016503040401"),
            ("30820978020100300b0609608648016503040402", "308204b2300b0609608648016503040402"),
            ("30820c78020100300b0609608648016503040403", "30820632300b0609608648016503040403"),
        ]) {
            let key = PrivateKey::generate(set).unwrap();
            let (pkcs8, spki) = (key.pkcs8(), key.public_der());
            assert_eq!(hex::encode(&pkcs8.expose()[..20]), private);
            assert_eq!(hex::encode(&spki[..17]), public);
            assert!(spki.ends_with(key.public()));
            assert!(pkcs8.expose().ends_with(key.expanded.expose()));
            let library = DecapsulationKey::generate(set.algorithm).unwrap();
            let cut = PrivateKey::expanded(set, library.key_bytes().unwrap().as_ref()).unwrap();
            let public = library.encapsulation_key().unwrap().key_bytes().unwrap();
            assert_eq!(cut.public(), public.as_ref(), "what is cut out is the public key");
        }
    }

    #[test]
    fn pairs_for_elsewhere_have_their_seed_as_rfc_9935_has_it() {
        for ((_, set), header) in SETS.into_iter().zip([
            "3054020100300b060960864801650304040104428040",
            "3054020100300b060960864801650304040204428040",
            "3054020100300b060960864801650304040304428040",
        ]) {
            let (public, private) = seeded_pair(set, &OsRng).unwrap();
            let seed = private.expose().strip_prefix(&hex::decode(header).unwrap()[..]).unwrap();
            assert_eq!(seed.len(), SEED_LEN);
            let key = PrivateKey::expand(set, private.expose()).unwrap();
            assert_eq!(key.public_der(), public);
            let (ciphertext, secret) = key.encapsulate().unwrap();
            assert_eq!(key.decapsulate(&ciphertext).unwrap().expose(), secret.expose());
            // z, the second half of the seed, is the last part of the expanded key.
            assert!(key.expanded.expose().ends_with(&seed[SEED_LEN - HASH_LEN..]));
            let (other, _) = seeded_pair(set, &OsRng).unwrap();
            assert_ne!(other, public);
            // Neither what is kept for KMS keys nor another length is a seed.
            for wrong in [
                &key.pkcs8().expose()[..key.pkcs8().expose().len() - 1],
                &private.expose()[1..],
                b"",
            ] {
                assert!(PrivateKey::expand(set, wrong).is_none());
            }
            let trailing = [&private.expose()[..], &[0]].concat();
            assert!(PrivateKey::expand(set, &trailing).is_none());
        }
        let (_, small) = seeded_pair(KEM_512, &OsRng).unwrap();
        assert!(PrivateKey::expand(KEM_768, small.expose()).is_none());
    }

    #[test]
    fn only_what_is_written_is_read() {
        for (spec, set) in SETS {
            let key = PrivateKey::generate(set).unwrap();
            let good = key.pkcs8().expose().clone();
            assert!(PrivateKey::parse(set, &good).is_some());
            let header = set.private_header().len();
            let hash_end = good.len() - HASH_LEN;
            // Of dk_pke and z any bytes are some key's; of all else each byte is checked.
            let public = header + set.public_at()..hash_end;
            for index in (0..header).chain(public.clone()).chain([public.start, hash_end - 1]) {
                let mut bad = good.clone();
                bad[index] ^= 1;
                assert!(PrivateKey::parse(set, &bad).is_none(), "{spec} byte {index}");
            }
            for bad in [&good[1..], &good[..good.len() - 1], &[&good[..], &[0]].concat(), b""] {
                assert!(PrivateKey::parse(set, bad).is_none());
            }
        }
        let small = PrivateKey::generate(KEM_512).unwrap().pkcs8();
        assert!(decapsulate(KeySpec::MlKem768, small.expose(), &[0; 1088]).is_err());
        assert!(encapsulate(KeySpec::EccNistP256, small.expose()).is_err());
    }

    #[test]
    fn what_is_altered_gives_another_secret_and_what_is_cut_an_error() {
        for (spec, set) in SETS {
            let key = PrivateKey::generate(set).unwrap().pkcs8();
            let (ciphertext, secret) = encapsulate(spec, key.expose()).unwrap();
            assert_eq!((ciphertext.len(), secret.expose().len()), (set.ciphertext_len, HASH_LEN));
            let open = |bytes: &[u8]| decapsulate(spec, key.expose(), bytes);
            assert_eq!(open(&ciphertext).unwrap().expose(), secret.expose());
            let mut altered = ciphertext.clone();
            altered[100] ^= 1;
            let other = open(&altered).unwrap();
            assert_ne!(other.expose(), secret.expose());
            assert_eq!(other.expose(), open(&altered).unwrap().expose(), "it is always the same");
            for wrong in [&ciphertext[1..], &[&ciphertext[..], &[0]].concat(), b""] {
                assert!(matches!(open(wrong), Err(Error::InvalidCiphertext)));
            }
        }
    }
}
