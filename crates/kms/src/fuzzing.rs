//! Entries for the fuzz targets: a ciphertext of a known key, and its opening; private keys, and their import with its
//! tokens; the rows of materials and grants; backups under a known recovery key, anchors, and headers of seals.

use crate::anchor::Anchor;
use crate::backup::{BackupReader, BackupWriter, Recovery};
use crate::blob::{self, Blob, BlobKind};
use crate::context::EncryptionContext;
use crate::grant::{Constraints, GrantOperation};
use crate::import::wrapping::WrappingAlgorithm;
use crate::import::{token, unwrap};
use crate::material::{self, Binding, Material, MaterialId};
use crate::pair;
use crate::primitive::Key;
use crate::seal::{Root, header};
use crate::spec::{KeySpec, KeyUsage, Kind};
use base::{AccountId, Region, Secret, SeededRng, Timestamp};
use std::path::Path;

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

fn root() -> Root {
    Root::recovered([3; 16], &[5; 64]).expect("memory that can be locked")
}

/// A backup of these records under a recovery key in a file.
pub fn backup(records: &[Vec<u8>], key: &Path) -> Vec<u8> {
    let recovery = Recovery::KeyFile(key.to_owned());
    let writer = BackupWriter::new(Vec::new(), &recovery, &root(), &SeededRng::new(1));
    let mut writer = writer.expect("the key can be read");
    let target = "memory takes everything";
    records.iter().for_each(|record| writer.record(record).expect(target));
    writer.finish().expect(target)
}

/// The records that bytes give out as a backup, and whether it ended where it says it does.
pub fn read_backup(bytes: &[u8], key: &Path) -> (Vec<Vec<u8>>, bool) {
    let mut records = Vec::new();
    let Ok(mut reader) = BackupReader::new(bytes, &Recovery::KeyFile(key.to_owned())) else {
        return (records, false);
    };
    loop {
        match reader.record() {
            Ok(Some(record)) => records.push(record),
            Ok(None) => return (records, true),
            Err(_) => return (records, false),
        }
    }
}

/// An anchor that remembers this epoch.
pub fn anchor(epoch: u64) -> Vec<u8> {
    Anchor::new(Path::new("/"), &root(), None).text(epoch)
}

/// The epoch that bytes remember as an anchor of the same root.
pub fn anchored(bytes: &[u8]) -> Option<u64> {
    Anchor::new(Path::new("/"), &root(), None).verified(bytes)
}

/// What would be written of the header of a seal, if the bytes are one.
pub fn seal_header(bytes: &[u8]) -> Option<Vec<u8>> {
    header::again(bytes)
}

/// An import token of a known domain key, with these bytes as its private key.
pub fn import_token(private: &[u8]) -> Vec<u8> {
    token::sample(private)
}

/// The private key that bytes hold as an import token of the same key and owner.
pub fn opened_import_token(bytes: &[u8]) -> Option<Vec<u8>> {
    token::opened(bytes)
}

/// Whether something opens under what an import token held as its private key.
pub fn unwraps(private: &[u8], wrapped: &[u8]) -> bool {
    let ways = WrappingAlgorithm::ALL.into_iter();
    ways.map(|way| unwrap::unwrap(private, way, wrapped)).any(|opened| opened.is_ok())
}

/// Hands `work` where the material of the samples belongs, if it is of this spec.
fn bound<T>(spec: KeySpec, work: impl Fn(&Binding<'_>) -> T) -> Option<T> {
    let usage = match spec {
        KeySpec::SymmetricDefault => KeyUsage::EncryptDecrypt,
        _ => KeyUsage::SignVerify,
    };
    Some(work(&Binding {
        account: &AccountId::parse("111122223333").ok()?,
        region: &Region::parse("us-east-1").ok()?,
        key_id: "k",
        material_id: MaterialId([9; 32]),
        kind: Kind::new(spec, usage)?,
        origin: "AWS_KMS",
        created: Timestamp(5),
    }))
}

/// Specs of the materials in the samples: one of each version of the row.
const MATERIALS: [KeySpec; 2] = [KeySpec::SymmetricDefault, KeySpec::EccNistP256];
const DOMAIN_KEY: [u8; 32] = [1; 32];

/// What rows hold of key materials.
pub fn materials() -> Vec<Vec<u8>> {
    let wrap = |binding: &Binding<'_>| {
        material::wrap(&DOMAIN_KEY, 3, binding, PLAINTEXT, &SeededRng::new(1))
    };
    MATERIALS.into_iter().filter_map(|spec| bound(spec, wrap)).collect()
}

/// The material that bytes hold as a row of either kind.
pub fn opened_material(bytes: &[u8]) -> Option<Vec<u8>> {
    let unwrap = |binding: &Binding<'_>| material::unwrap(&DOMAIN_KEY, binding, bytes).ok();
    let opened = MATERIALS.into_iter().find_map(|spec| bound(spec, unwrap).flatten());
    opened.map(|material| material.bytes().to_vec())
}

/// What rows hold of grants: operations and constraints. Frozen.
pub fn grants() -> Vec<Vec<u8>> {
    let rows = [
        r#"["Decrypt","CreateGrant"]"#,
        "[]",
        "{}",
        r#"{"equals":{"a":"b"}}"#,
        r#"{"subset":{}}"#,
        r#"{"source_arn":"arn:aws:ec2:us-east-1:111122223333:volume/vol-a"}"#,
    ];
    rows.map(|text| text.as_bytes().to_vec()).into()
}

/// Whether bytes are either. What is read is written, and read again the same.
///
/// # Panics
/// When it is not.
pub fn is_of_grant(bytes: &[u8]) -> bool {
    let operations = stable::<Vec<GrantOperation>>(bytes);
    stable::<Constraints>(bytes) || operations
}

fn stable<T: serde::Serialize + serde::de::DeserializeOwned + PartialEq>(bytes: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<T>(bytes) else { return false };
    let written = serde_json::to_vec(&read).expect("plain data");
    let again = serde_json::from_slice::<T>(&written);
    assert!(again.is_ok_and(|again| again == read), "what was written is read");
    true
}
