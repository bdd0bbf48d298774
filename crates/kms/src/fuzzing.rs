//! Entries for the fuzz targets: a ciphertext of a known key, and its opening.

use crate::blob::{self, Blob, BlobKind};
use crate::context::EncryptionContext;
use crate::material::MaterialId;
use crate::primitive::Key;
use base::SeededRng;

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
