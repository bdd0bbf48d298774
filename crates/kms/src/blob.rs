//! The ciphertext blob: what Encrypt and GenerateDataKey return and Decrypt takes.
//!
//! Same shape and size as AWS's, field by field in `docs/format.md`. The blob names the material version
//! that made it, so Decrypt needs no key id; it is bound to its encryption context, and to its own header,
//! by the additional data. Each blob is sealed under a key of its own, derived from the version's material
//! and the random `N`; ten bytes derived beside it commit the ciphertext to that key.

use crate::context::EncryptionContext;
use crate::der;
use crate::material::MaterialId;
use crate::primitive::{self, Key, TAG_LEN};
use base::{Rng, Secret};
use subtle::ConstantTimeEq;

/// Largest plaintext of Encrypt (spec 20, B.7).
pub const PLAINTEXT_BYTES_MAX: usize = 4096;
/// Largest ciphertext accepted (spec 20, B.7).
pub const CIPHERTEXT_BYTES_MAX: usize = 6144;

const PREFIX_LEN: usize = 5;
const N_LEN: usize = 16;
const HEADER_LEN: usize = PREFIX_LEN + 32 + 1 + N_LEN + 4;
/// KBKDF-HMAC-SHA-256 to AES-256-GCM.
const SUITE: u8 = 1;
/// AES-256-GCM under the material itself, which is on a token; N is random and unused, and there is no
/// commitment: nothing can be derived from material that nobody has.
const SUITE_ON_TOKEN: u8 = 2;
/// Version of the frame inside the ciphertext.
const FRAME_VERSION: u8 = 1;
const COMMITMENT_LEN: usize = 10;
const FRAME_LEN: usize = 1 + COMMITMENT_LEN;

/// Which operation made a blob; told apart by the third byte only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    /// Encrypt and ReEncrypt.
    Encrypt,
    /// GenerateDataKey and GenerateDataKeyWithoutPlaintext.
    DataKey,
}

impl BlobKind {
    fn prefix(self) -> [u8; PREFIX_LEN] {
        match self {
            Self::Encrypt => [0x01, 0x02, 0x02, 0x00, 0x78],
            Self::DataKey => [0x01, 0x02, 0x03, 0x00, 0x78],
        }
    }
}

/// The blob is not ours, was altered, or was made under another context. KMS does not say which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ciphertext is invalid")]
pub struct InvalidCiphertext;

/// A blob whose outer form is right; nothing in it is trusted before [`Blob::open`].
#[derive(Clone, Copy, Debug)]
pub struct Blob<'a> {
    header: &'a [u8],
    material_id: MaterialId,
    nonce: [u8; primitive::NONCE_LEN],
    sealed: &'a [u8],
}

impl<'a> Blob<'a> {
    /// Reads the form.
    ///
    /// # Errors
    /// When the bytes are not exactly one blob.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, InvalidCiphertext> {
        let (header, cms) = bytes.split_at_checked(HEADER_LEN).ok_or(InvalidCiphertext)?;
        let known =
            [BlobKind::Encrypt, BlobKind::DataKey].iter().any(|k| header.starts_with(&k.prefix()));
        let length = u32::from_be_bytes(header[HEADER_LEN - 4..].try_into().expect("four bytes"));
        if !known
            || ![SUITE, SUITE_ON_TOKEN].contains(&header[PREFIX_LEN + 32])
            || usize::try_from(length) != Ok(cms.len())
            || bytes.len() > CIPHERTEXT_BYTES_MAX
        {
            return Err(InvalidCiphertext);
        }
        let (nonce, sealed) = der::decode(cms).ok_or(InvalidCiphertext)?;
        let id = header[PREFIX_LEN..PREFIX_LEN + 32].try_into().expect("32 bytes");
        Ok(Self { header, material_id: MaterialId(id), nonce, sealed })
    }

    /// The material version that made the blob.
    pub fn material_id(&self) -> MaterialId {
        self.material_id
    }

    /// Opens the blob with the material it names.
    ///
    /// # Errors
    /// When material, context or bytes are not those it was made with.
    pub(crate) fn open(
        &self,
        material: &Key,
        context: &EncryptionContext,
    ) -> Result<Secret<Vec<u8>>, InvalidCiphertext> {
        if self.header[PREFIX_LEN + 32] != SUITE {
            return Err(InvalidCiphertext);
        }
        let n = &self.header[PREFIX_LEN + 32 + 1..HEADER_LEN - 4];
        let keys = BlobKeys::derive(material, n);
        let aad = additional_data(self.header, context);
        let framed = primitive::open(keys.sealing.expose(), self.nonce, &aad, self.sealed)
            .map_err(|_| InvalidCiphertext)?;
        let (frame, plaintext) =
            framed.expose().split_at_checked(FRAME_LEN).ok_or(InvalidCiphertext)?;
        let committed: bool = frame[1..].ct_eq(&keys.commitment).into();
        if frame[0] != FRAME_VERSION || !committed {
            return Err(InvalidCiphertext);
        }
        Ok(Secret::new(plaintext.to_vec()))
    }
}

/// Seals a plaintext of at most [`PLAINTEXT_BYTES_MAX`] bytes into a blob.
pub(crate) fn seal(
    kind: BlobKind,
    material_id: MaterialId,
    material: &Key,
    context: &EncryptionContext,
    plaintext: &[u8],
    rng: &dyn Rng,
) -> Vec<u8> {
    assert!(plaintext.len() <= PLAINTEXT_BYTES_MAX, "the caller has checked the size");
    let mut n = [0; N_LEN];
    rng.fill(&mut n);
    let nonce = primitive::random_nonce(rng);
    let keys = BlobKeys::derive(material, &n);

    // The CMS length is known beforehand, because it is part of the additional data.
    let sealed_len = FRAME_LEN + plaintext.len() + TAG_LEN;
    let cms_len = der::encode(&nonce, &vec![0; sealed_len]).len();
    let mut blob = Vec::with_capacity(HEADER_LEN + cms_len);
    blob.extend_from_slice(&kind.prefix());
    blob.extend_from_slice(&material_id.0);
    blob.push(SUITE);
    blob.extend_from_slice(&n);
    blob.extend_from_slice(&u32::try_from(cms_len).expect("below 6 KiB").to_be_bytes());

    let mut sealed = Vec::with_capacity(sealed_len);
    sealed.push(FRAME_VERSION);
    sealed.extend_from_slice(&keys.commitment);
    sealed.extend_from_slice(plaintext);
    primitive::seal(keys.sealing.expose(), nonce, &additional_data(&blob, context), &mut sealed);
    blob.extend_from_slice(&der::encode(&nonce, &sealed));
    assert_eq!(blob.len(), HEADER_LEN + cms_len, "the length promised in the header is the length");
    blob
}

/// Seals a plaintext with material on a token, which `seal` asks: nonce, additional data, text.
pub(crate) fn seal_on_token<E>(
    kind: BlobKind,
    material_id: MaterialId,
    context: &EncryptionContext,
    plaintext: &[u8],
    rng: &dyn Rng,
    seal: impl FnOnce([u8; primitive::NONCE_LEN], &[u8], &[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    assert!(plaintext.len() <= PLAINTEXT_BYTES_MAX, "the caller has checked the size");
    let mut n = [0; N_LEN];
    rng.fill(&mut n);
    let nonce = primitive::random_nonce(rng);
    let cms_len = der::encode(&nonce, &vec![0; 1 + plaintext.len() + TAG_LEN]).len();
    let mut blob = Vec::with_capacity(HEADER_LEN + cms_len);
    blob.extend_from_slice(&kind.prefix());
    blob.extend_from_slice(&material_id.0);
    blob.push(SUITE_ON_TOKEN);
    blob.extend_from_slice(&n);
    blob.extend_from_slice(&u32::try_from(cms_len).expect("below 6 KiB").to_be_bytes());
    let mut framed = Secret::new(Vec::with_capacity(1 + plaintext.len()));
    framed.expose_mut().push(FRAME_VERSION);
    framed.expose_mut().extend_from_slice(plaintext);
    let sealed = seal(nonce, &additional_data(&blob, context), framed.expose())?;
    blob.extend_from_slice(&der::encode(&nonce, &sealed));
    assert_eq!(blob.len(), HEADER_LEN + cms_len, "the length promised in the header is the length");
    Ok(blob)
}

/// Opens such a blob, with what `open` gets from the token; `None` when it does not open.
pub(crate) fn open_on_token<E>(
    bytes: &[u8],
    context: &EncryptionContext,
    open: impl FnOnce([u8; primitive::NONCE_LEN], &[u8], &[u8]) -> Result<Option<Secret<Vec<u8>>>, E>,
) -> Result<Option<Secret<Vec<u8>>>, E> {
    let Ok(blob) = Blob::parse(bytes) else { return Ok(None) };
    if blob.header[PREFIX_LEN + 32] != SUITE_ON_TOKEN {
        return Ok(None);
    }
    let framed = open(blob.nonce, &additional_data(blob.header, context), blob.sealed)?;
    Ok(framed.and_then(|framed| match framed.expose().split_first() {
        Some((&FRAME_VERSION, plaintext)) => Some(Secret::new(plaintext.to_vec())),
        _ => None,
    }))
}

/// "kmsaad1", everything before the CMS, and the context.
fn additional_data(header: &[u8], context: &EncryptionContext) -> Vec<u8> {
    let mut aad = b"kmsaad1".to_vec();
    aad.extend_from_slice(header);
    context.serialize_into(&mut aad);
    aad
}

struct BlobKeys {
    sealing: Key,
    commitment: [u8; COMMITMENT_LEN],
}

impl BlobKeys {
    fn derive(material: &Key, n: &[u8]) -> Self {
        let mut sealing = Key::zero();
        primitive::kbkdf(material.expose(), "kmsblob1", n, sealing.expose_mut());
        let mut commitment = [0; COMMITMENT_LEN];
        primitive::kbkdf(material.expose(), "kmscommit1", n, &mut commitment);
        Self { sealing, commitment }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;

    fn fixture() -> (SeededRng, MaterialId, Key, EncryptionContext) {
        let rng = SeededRng::new(42);
        let id = MaterialId::generate(&rng);
        let material = crate::material::generate(&rng);
        (rng, id, material, EncryptionContext::ebs("vol-0123456789abcdef0"))
    }

    fn opens(bytes: &[u8], material: &Key, context: &EncryptionContext) -> Option<Vec<u8>> {
        let opened = Blob::parse(bytes).ok()?.open(material, context).ok()?;
        Some(opened.expose().clone())
    }

    #[test]
    fn sizes_are_awss() {
        let (rng, id, material, context) = fixture();
        for (plaintext, size) in [(16, 168), (32, 184), (64, 220), (4096, 4258)] {
            let blob = seal(BlobKind::DataKey, id, &material, &context, &vec![0; plaintext], &rng);
            assert_eq!(blob.len(), size, "{plaintext}");
            assert!(blob.len() <= CIPHERTEXT_BYTES_MAX);
        }
    }

    #[test]
    fn the_prefix_is_the_one_tools_look_for() {
        use base64::Engine;
        let (rng, id, material, context) = fixture();
        let encode = |kind| {
            base64::engine::general_purpose::STANDARD
                .encode(seal(kind, id, &material, &context, b"x", &rng))
        };
        assert!(encode(BlobKind::Encrypt).starts_with("AQICAH"));
        assert!(encode(BlobKind::DataKey).starts_with("AQIDAH"));
    }

    #[test]
    fn opens_only_with_its_material_and_context() {
        let (rng, id, material, context) = fixture();
        let blob = seal(BlobKind::Encrypt, id, &material, &context, b"secret", &rng);
        assert_eq!(opens(&blob, &material, &context).as_deref(), Some(&b"secret"[..]));
        assert_eq!(opens(&blob, &material, &EncryptionContext::default()), None);
        assert_eq!(opens(&blob, &material, &EncryptionContext::ebs("VOL-0123456789abcdef0")), None);
        assert_eq!(opens(&blob, &crate::material::generate(&rng), &context), None);
        assert_eq!(Blob::parse(&blob).unwrap().material_id(), id);
    }

    #[test]
    fn every_bit_counts() {
        let (rng, id, material, context) = fixture();
        let blob = seal(BlobKind::DataKey, id, &material, &context, &[7; 64], &rng);
        for bit in 0..blob.len() * 8 {
            let mut bad = blob.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opens(&bad, &material, &context), None, "bit {bit}");
        }
        for length in 0..blob.len() {
            assert_eq!(opens(&blob[..length], &material, &context), None, "length {length}");
        }
    }

    #[test]
    fn a_foreign_key_commitment_is_refused() {
        // The same sealing key with another commitment: what a crafted multi-key ciphertext looks like.
        let (_, id, material, context) = fixture();
        let n = [3; N_LEN];
        let keys = BlobKeys::derive(&material, &n);
        let mut sealed = Vec::with_capacity(64);
        sealed.push(FRAME_VERSION);
        sealed.extend_from_slice(&[0; COMMITMENT_LEN]);
        let cms_len = der::encode(&[0; 12], &[0; FRAME_LEN + TAG_LEN]).len();
        let mut blob = BlobKind::Encrypt.prefix().to_vec();
        blob.extend_from_slice(&id.0);
        blob.push(SUITE);
        blob.extend_from_slice(&n);
        blob.extend_from_slice(&u32::try_from(cms_len).unwrap().to_be_bytes());
        primitive::seal(
            keys.sealing.expose(),
            [0; 12],
            &additional_data(&blob, &context),
            &mut sealed,
        );
        blob.extend_from_slice(&der::encode(&[0; 12], &sealed));
        assert_eq!(opens(&blob, &material, &context), None);
    }

    /// Bytes of version 1, frozen: data written by any release must open in every later one.
    const FROZEN: &str = include_str!("../vectors/blob-v1.txt");

    #[test]
    fn frozen_blobs_still_open() {
        let mut ran = 0;
        for line in FROZEN.lines().filter(|l| !l.starts_with('#')) {
            let fields: Vec<&str> = line.split(' ').collect();
            let [material, context, plaintext, blob] = fields[..] else { panic!("{line}") };
            let mut key = Key::zero();
            hex::decode_to_slice(material, key.expose_mut()).unwrap();
            let material = key;
            let context = match context {
                "-" => EncryptionContext::default(),
                id => EncryptionContext::ebs(id),
            };
            let opened = opens(&hex::decode(blob).unwrap(), &material, &context).unwrap();
            assert_eq!(hex::encode(opened), plaintext);
            ran += 1;
        }
        assert_eq!(ran, 3);
    }
}
