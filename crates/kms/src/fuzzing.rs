//! Entries for the fuzz targets: a ciphertext of a known key, and its opening; private keys, and their import.

use crate::blob::{self, Blob, BlobKind};
use crate::context::EncryptionContext;
use crate::material::{Material, MaterialId};
use crate::pair;
use crate::primitive::Key;
use crate::spec::{KeySpec, KeyUsage, Kind};
use base::{Secret, SeededRng};

/// What the sample holds.
pub const PLAINTEXT: &[u8] = b"a data key of 32 bytes, or words";

fn material() -> Key {
    let mut material = Key::zero();
    material.expose_mut().fill(7);
    material
}

/// A ciphertext of the known key.
pub fn sample() -> Vec<u8> {
    let rng = SeededRng::new(1);
    let (id, context) = (MaterialId([9; 32]), EncryptionContext::ebs("vol-0123456789abcdef0"));
    blob::seal(BlobKind::DataKey, id, &material(), &context, PLAINTEXT, &rng)
}

/// Opens bytes with the known key.
pub fn open(bytes: &[u8]) -> Option<Vec<u8>> {
    let context = EncryptionContext::ebs("vol-0123456789abcdef0");
    let blob = Blob::parse(bytes).ok()?;
    blob.open(&material(), &context).ok().map(|plaintext| plaintext.expose().clone())
}

/// Specs whose private keys are looked at; RSA would take milliseconds for each input.
const SPECS: [KeySpec; 3] = [KeySpec::EccNistP256, KeySpec::EccNistEdwards25519, KeySpec::MlDsa44];

/// A private key of each.
pub fn private_keys() -> Vec<Vec<u8>> {
    let rng = SeededRng::new(1);
    let private = |spec| pair::generate(spec, &rng).map(|key| key.expose().clone());
    SPECS.into_iter().filter_map(|spec| private(spec).ok()).collect()
}

/// A private key as it is kept, if the bytes are one of any of these specs.
pub fn imported(bytes: &[u8]) -> Option<Vec<u8>> {
    SPECS.into_iter().find_map(|spec| {
        let kind = Kind::new(spec, KeyUsage::SignVerify)?;
        let material = Material::imported(kind, Secret::new(bytes.to_vec())).ok()?;
        Some(material.bytes().to_vec())
    })
}
