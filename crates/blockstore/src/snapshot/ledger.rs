//! Which packs earlier collections found unused, and since when.
//!
//! One sealed object under `gc/`; the highest ordinal counts. Losing it only restarts the grace
//! period.

use super::Error;
use super::codec::{Fields, Malformed};
use super::nominate::UNKNOWN;
use super::pack::PackId;
use super::store::{SnapshotStore, retried};
use crate::page::{SUITE_AES_256_GCM, Salt, StructureKind, Tag};
use base::Timestamp;
use objstore::put_settled;
use std::collections::BTreeMap;

const DIRECTORY: &str = "gc";
const LEDGER_MAGIC: &[u8; 4] = b"SRGC";
pub(super) const LEDGER_VERSION: u8 = 2;
/// Without series: nothing was nominated then.
pub(super) const LEDGER_VERSION_1: u8 = 1;
const ENTRY_BYTES: usize = 48;
const ENTRY_BYTES_1: usize = 32;
/// The most packs a ledger names; the others wait for the next collections.
pub(super) const LEDGER_ENTRIES_MAX: usize = 1 << 20;

const _: () = assert!(LEDGER_ENTRIES_MAX * ENTRY_BYTES < objstore::OBJECT_BYTES_MAX);

/// A pack with items that were unused in every collection since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Condemned {
    pub(super) since: Timestamp,
    /// One bit per slot; all of them for a pack that is unused as a whole.
    pub(super) dead: u64,
    /// The series of snapshots that could name the pack, when a deletion nominated it; otherwise
    /// zeros, and only a sweep knows that it is unused.
    pub(super) series: [u8; 16],
}

#[derive(Default)]
pub(super) struct Ledger {
    ordinal: u64,
    pub(super) entries: BTreeMap<PackId, Condemned>,
}

impl Ledger {
    /// Reads the newest ledger. A damaged one counts as none.
    pub(super) fn load(store: &SnapshotStore) -> Result<Self, Error> {
        let names = retried(|| store.objects().list(DIRECTORY))?;
        let Some(newest) = names.last() else { return Ok(Self::default()) };
        let ordinal = newest.name.rsplit('/').next().and_then(|n| u64::from_str_radix(n, 16).ok());
        let ordinal = ordinal
            .ok_or_else(|| Error::Corrupt { what: "ledger name", object: newest.name.clone() })?;
        let bytes = retried(|| store.objects().get(&newest.name))?;
        let entries = decode(store, ordinal, &bytes).unwrap_or_default();
        Ok(Self { ordinal, entries })
    }

    /// Whether the newest ledger opens. Without one there is nothing to open.
    pub(super) fn is_whole(store: &SnapshotStore) -> Result<bool, Error> {
        let names = retried(|| store.objects().list(DIRECTORY))?;
        let Some(newest) = names.last() else { return Ok(true) };
        let ordinal = newest.name.rsplit('/').next().and_then(|n| u64::from_str_radix(n, 16).ok());
        let Some(ordinal) = ordinal else { return Ok(false) };
        let bytes = retried(|| store.objects().get(&newest.name))?;
        Ok(decode(store, ordinal, &bytes).is_ok())
    }

    /// Stores these entries as the newest ledger, and removes the older ones.
    pub(super) fn replace(
        self,
        store: &SnapshotStore,
        entries: &BTreeMap<PackId, Condemned>,
    ) -> Result<(), Error> {
        let ordinal = self.ordinal + 1;
        let name = format!("{DIRECTORY}/{ordinal:016x}");
        put_settled(store.objects(), &name, &encode(store, ordinal, entries).into())?;
        for meta in retried(|| store.objects().list(DIRECTORY))? {
            if meta.name < name {
                match retried(|| store.objects().delete(&meta.name)) {
                    Ok(()) | Err(Error::Missing { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// What a ledger is authenticated as: one version cannot be read as another.
fn ledger_id(version: u8, ordinal: u64) -> u64 {
    u64::from(version - LEDGER_VERSION_1) << 56 | ordinal
}

fn encode(store: &SnapshotStore, ordinal: u64, entries: &BTreeMap<PackId, Condemned>) -> Vec<u8> {
    let mut sealed = encode_entries(entries);
    let salt = Salt::generate(store.rng());
    let mut sealer = store.key().sealer(salt);
    let id = ledger_id(LEDGER_VERSION, ordinal);
    let tag = sealer.seal_at(0, StructureKind::Condemned, id, &mut sealed);
    let mut bytes = Vec::with_capacity(56 + sealed.len());
    bytes.extend_from_slice(LEDGER_MAGIC);
    bytes.extend_from_slice(&[LEDGER_VERSION, SUITE_AES_256_GCM, 0, 0]);
    bytes.extend_from_slice(&salt.0);
    bytes.extend_from_slice(&tag.0);
    bytes.extend_from_slice(&sealed);
    bytes
}

fn decode(
    store: &SnapshotStore,
    ordinal: u64,
    bytes: &[u8],
) -> Result<BTreeMap<PackId, Condemned>, Malformed> {
    let mut fields = Fields::new(bytes);
    fields.expect(LEDGER_MAGIC)?;
    let version = fields.u8()?;
    if !matches!(version, LEDGER_VERSION | LEDGER_VERSION_1) {
        return Err(Malformed);
    }
    fields.expect(&[SUITE_AES_256_GCM, 0, 0])?;
    let (salt, tag) = (Salt(fields.array()?), Tag(fields.array()?));
    let mut sealed = fields.bytes(bytes.len().saturating_sub(56))?.to_vec();
    let id = ledger_id(version, ordinal);
    let opened = store.key().opener(salt).open(0, StructureKind::Condemned, id, &tag, &mut sealed);
    opened.map_err(|_| Malformed)?;
    decode_entries(version, &sealed)
}

/// The entries before they are sealed.
pub(super) fn encode_entries(entries: &BTreeMap<PackId, Condemned>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
    for (pack, condemned) in entries {
        bytes.extend_from_slice(&pack.0);
        bytes.extend_from_slice(&condemned.since.0.to_le_bytes());
        bytes.extend_from_slice(&condemned.dead.to_le_bytes());
        bytes.extend_from_slice(&condemned.series);
    }
    bytes
}

/// Reads entries of a ledger of this version.
pub(super) fn decode_entries(
    version: u8,
    bytes: &[u8],
) -> Result<BTreeMap<PackId, Condemned>, Malformed> {
    let entry_bytes = match version {
        LEDGER_VERSION => ENTRY_BYTES,
        LEDGER_VERSION_1 => ENTRY_BYTES_1,
        _ => return Err(Malformed),
    };
    let mut fields = Fields::new(bytes);
    let mut entries = BTreeMap::new();
    for _ in 0..bytes.len() / entry_bytes {
        let pack = PackId(fields.array()?);
        let since = Timestamp(i64::from_le_bytes(fields.array()?));
        let dead = fields.u64()?;
        let series = if version == LEDGER_VERSION_1 { UNKNOWN } else { fields.array()? };
        entries.insert(pack, Condemned { since, dead, series });
    }
    fields.finish()?;
    Ok(entries)
}
