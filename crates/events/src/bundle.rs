//! Bundles: many records of one account and region in one row.
//!
//! The records of a busy server would cost more as rows, with their indexes, than the calls themselves.
//! [`keep`] moves what the journal made durable into the rows: few records become ordinary rows, many
//! become a bundle, in one transaction with the number up to which the journal is in the rows. So a
//! record is there once, whatever crash comes between. A bundle carries hashes of everything a lookup
//! can ask for; whose hash is missing need not be opened.

use crate::error::{Error, Result};
use crate::journal::{
    Batch, JournalError, Kept, RECORD_HEADER_LEN, Recovered, push_record, read_records,
};
use crate::record::{Category, Record};
use crate::trail::{self, Filter};
use base::{AccountId, Region, Timestamp};
use meta::{Migration, Row, Tx, params};
use std::collections::BTreeMap;

/// Fewer records than this become rows of their own.
const BUNDLE_RECORDS_MIN: usize = 8;
/// The most records of a bundle.
const BUNDLE_RECORDS_MAX: usize = 512;
/// The longest time between two records of a bundle, in milliseconds. A lookup relies on it.
const BUNDLE_SPAN_MS: i64 = 600_000;
/// Bundles whose heads are read at once.
const HEADS_MAX: i64 = 64;

pub(crate) const MIGRATION: Migration = Migration {
    name: "events-003-bundles",
    sql: "
        CREATE TABLE events_bundles (
            account_id TEXT NOT NULL, region TEXT NOT NULL, category TEXT NOT NULL, until_ms BIGINT NOT NULL,
            bundle_id TEXT NOT NULL, from_ms BIGINT NOT NULL, hashes BYTES NOT NULL, records BYTES NOT NULL,
            PRIMARY KEY (account_id, region, category, until_ms, bundle_id));
        CREATE TABLE events_journals (
            journal TEXT NOT NULL, next_number BIGINT NOT NULL,
            PRIMARY KEY (journal));",
};

/// What is known of a record without reading it.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) account: AccountId,
    pub(crate) region: Region,
    pub(crate) category: Category,
    pub(crate) time: Timestamp,
    /// Of everything a lookup can ask for.
    hashes: Vec<u64>,
}

impl Facts {
    pub(crate) fn of(record: &Record) -> Self {
        let identity = record.identity();
        let mut hashes = vec![
            hash("id", record.event_id()),
            hash("name", record.event_name()),
            hash("source", record.event_source()),
            hash("read-only", read_only(record.is_read_only())),
        ];
        hashes.extend(identity.username().map(|name| hash("user", name)));
        hashes.extend(identity.access_key().map(|key| hash("key", key)));
        for resource in record.resources() {
            hashes.push(hash("type", &resource.kind));
            hashes.push(hash("resource", &resource.arn));
            hashes.push(hash("resource", trail::resource_id(&resource.arn)));
        }
        Self {
            account: record.recipient().clone(),
            region: record.region().clone(),
            category: record.category(),
            time: record.time(),
            hashes,
        }
    }
}

fn read_only(yes: bool) -> &'static str {
    if yes { "true" } else { "false" }
}

/// FNV-1a of 64 bits. Two texts of one hash only cost the opening of a bundle.
fn hash(what: &str, text: &str) -> u64 {
    let bytes = what.bytes().chain([0]).chain(text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn hash_of(filter: &Filter) -> u64 {
    match filter {
        Filter::EventId(id) => hash("id", id),
        Filter::EventName(name) => hash("name", name),
        Filter::EventSource(source) => hash("source", source),
        Filter::Username(name) => hash("user", name),
        Filter::AccessKeyId(key) => hash("key", key),
        Filter::ResourceName(name) => hash("resource", name),
        Filter::ResourceType(kind) => hash("type", kind),
        Filter::ReadOnly(yes) => hash("read-only", read_only(*yes)),
    }
}

/// The number of the first record of a journal that is not in the rows.
///
/// # Errors
/// When the rows cannot be read.
pub fn position(tx: &mut Tx<'_>, journal: [u8; 16]) -> Result<u64> {
    let row = tx.query_opt(
        "SELECT next_number FROM events_journals WHERE journal = $1",
        params![name(journal)],
    )?;
    Ok(row.map(|row| row.get(0)).transpose()?.unwrap_or(1))
}

fn name(journal: [u8; 16]) -> String {
    journal.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn set_position(tx: &mut Tx<'_>, journal: [u8; 16], next: u64) -> Result<()> {
    let next = i64::try_from(next).expect("a server makes fewer records");
    tx.execute(
        "INSERT INTO events_journals (journal, next_number) VALUES ($1, $2)
         ON CONFLICT (journal) DO UPDATE SET next_number = $2",
        params![name(journal), next],
    )?;
    Ok(())
}

/// Account, region and category: what the records of a bundle have in common.
type Group<'a> = (&'a str, &'a str, &'a str);

/// Durable records as rows, to be written by [`keep`]. Making it takes about a millisecond for 500 records.
#[derive(Debug)]
pub struct Prepared {
    /// The number of the first record.
    from: u64,
    /// The number behind the last.
    end: u64,
    parts: Vec<Part>,
}

/// Rows of one group.
#[derive(Debug)]
enum Part {
    Records(Vec<Record>),
    Bundle {
        account: String,
        region: String,
        category: &'static str,
        id: String,
        first: Timestamp,
        last: Timestamp,
        hashes: Vec<u8>,
        records: Vec<u8>,
    },
}

impl Prepared {
    /// The records from the number `position` on.
    ///
    /// # Errors
    /// [`Error::Damaged`] when one is no record.
    pub fn new(journal: [u8; 16], batches: &[Batch], position: u64) -> Result<Self> {
        let first = batches.first().map_or(position, |batch| batch.first);
        let end = batches.last().map_or(position, Batch::end);
        let mut prepared = Self { from: first.max(position), end, parts: Vec::new() };
        let mut groups: BTreeMap<Group<'_>, Vec<(&Facts, &str)>> = BTreeMap::new();
        for batch in batches {
            let numbers = batch.first..;
            for (_, kept) in numbers.zip(&batch.records).filter(|(number, _)| *number >= position) {
                let Kept { facts, .. } = kept;
                let category = trail::category(facts.category);
                let group = (facts.account.as_str(), facts.region.as_str(), category);
                groups.entry(group).or_default().push((facts, batch.json(kept)));
            }
        }
        for mut records in groups.into_values() {
            records.sort_by_key(|(facts, _)| facts.time);
            for (number, part) in parts(&records).into_iter().enumerate() {
                if part.len() < BUNDLE_RECORDS_MIN {
                    let read = part.iter().map(|(facts, json)| read(json, facts.time));
                    prepared.parts.push(Part::Records(read.collect::<Result<_>>()?));
                } else {
                    let id = format!("{}-{:016x}-{number}", name(journal), prepared.from);
                    prepared.parts.extend(bundle(id, part));
                }
            }
        }
        Ok(prepared)
    }
}

/// Moves durable records into the rows. Those that are there already, because it is not known how an earlier
/// attempt ended, are left out.
///
/// # Errors
/// When the rows cannot be written.
pub fn keep(
    tx: &mut Tx<'_>,
    journal: [u8; 16],
    batches: &[Batch],
    prepared: &Prepared,
) -> Result<()> {
    let position = position(tx, journal)?;
    if position >= prepared.end {
        return Ok(());
    }
    let again;
    let parts = if position <= prepared.from {
        &prepared.parts
    } else {
        again = Prepared::new(journal, batches, position)?.parts;
        &again
    };
    parts.iter().try_for_each(|part| write(tx, part))?;
    set_position(tx, journal, prepared.end)
}

/// Writes a journal's position again, as it is: when the transaction is durable so are those before it.
///
/// # Errors
/// When the rows cannot be written.
pub fn confirm(tx: &mut Tx<'_>, journal: [u8; 16]) -> Result<()> {
    let position = position(tx, journal)?;
    // SQLite writes nothing, and so flushes nothing, when a row is updated to what it was.
    tx.execute("DELETE FROM events_journals WHERE journal = $1", params![name(journal)])?;
    set_position(tx, journal, position)
}

fn write(tx: &mut Tx<'_>, part: &Part) -> Result<()> {
    match part {
        Part::Records(records) => records.iter().try_for_each(|record| trail::append(tx, record)),
        Part::Bundle { account, region, category, id, first, last, hashes, records } => {
            tx.execute(
                "INSERT INTO events_bundles
                     (account_id, region, category, until_ms, bundle_id, from_ms, hashes, records)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                params![account, region, *category, *last, id, *first, &hashes[..], &records[..]],
            )?;
            Ok(())
        }
    }
}

/// Records of one group in runs that are neither too many nor too far apart.
fn parts<'r, 'a>(mut records: &'r [(&'a Facts, &'a str)]) -> Vec<&'r [(&'a Facts, &'a str)]> {
    let mut parts = Vec::new();
    while let Some((first, _)) = records.first() {
        let near = |(facts, _): &&(&Facts, &str)| facts.time.0 - first.time.0 <= BUNDLE_SPAN_MS;
        let length = records.iter().take(BUNDLE_RECORDS_MAX).take_while(near).count();
        let (part, rest) = records.split_at(length);
        parts.push(part);
        records = rest;
    }
    parts
}

/// Records of one group in one row; `None` for none.
fn bundle(id: String, records: &[(&Facts, &str)]) -> Option<Part> {
    let ((first, _), (last, _)) = (records.first()?, records.last()?);
    let mut hashes: Vec<u64> =
        records.iter().flat_map(|(facts, _)| facts.hashes.iter().copied()).collect();
    hashes.sort_unstable();
    hashes.dedup();
    let length = records.iter().map(|(_, json)| json.len() + RECORD_HEADER_LEN).sum();
    let mut plain = Vec::with_capacity(length);
    records.iter().for_each(|(facts, json)| push_record(&mut plain, facts.time, json));
    Some(Part::Bundle {
        account: first.account.as_str().to_owned(),
        region: first.region.as_str().to_owned(),
        category: trail::category(first.category),
        id,
        first: first.time,
        last: last.time,
        hashes: hashes.into_iter().flat_map(u64::to_le_bytes).collect(),
        records: pack(&plain),
    })
}

/// The first byte of a bundle: records as they are in the journal.
const PLAIN: u8 = 1;
/// The first byte of a bundle: the length of the records, 4 bytes, and the records as an LZ4 block. Records of one
/// account repeat each other, so a tenth of the bytes is left to be written, twice, by the database.
const LZ4: u8 = 2;
/// No LZ4 block grows more than this when it is unpacked, so a damaged length asks for no more memory.
const LZ4_RATIO_MAX: usize = 255;

fn pack(records: &[u8]) -> Vec<u8> {
    let length = u32::try_from(records.len()).expect("a bundle is shorter than its limit");
    let mut bytes = vec![LZ4];
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&lz4_flex::block::compress(records));
    bytes
}

/// `None` when the bytes are no bundle.
fn unpack(bytes: &[u8]) -> Option<Vec<(Timestamp, String)>> {
    match bytes.split_first()? {
        (&PLAIN, records) => read_records(records),
        (&LZ4, rest) => {
            let (length, block) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
            if length > block.len().saturating_mul(LZ4_RATIO_MAX) {
                return None;
            }
            let records = lz4_flex::block::decompress(block, length).ok()?;
            (records.len() == length).then(|| read_records(&records))?
        }
        _ => None,
    }
}

fn read(json: &str, time: Timestamp) -> Result<Record> {
    let record: Record = serde_json::from_str(json).map_err(|source| Error::Damaged {
        what: "record",
        id: "of the journal".to_owned(),
        source,
    })?;
    Ok(record.at(time))
}

/// What an earlier run left, as batches of the present.
///
/// # Errors
/// [`JournalError::Damaged`] when records between were lost; [`Error::Damaged`] when one is no record.
pub fn left(recovered: &Recovered, position: u64) -> Result<Vec<Batch>> {
    if recovered.needs > position {
        return Err(JournalError::Damaged { segment: 0, at: recovered.needs }.into());
    }
    let mut batches = Vec::new();
    for (number, (time, json)) in (recovered.first..).zip(&recovered.records) {
        let facts = Facts::of(&read(json, *time)?);
        batches.push(Batch::of_one(number, facts, json));
    }
    Ok(batches)
}

/// A span of a trail, and what records in it must be.
pub(crate) struct Span<'a> {
    pub(crate) account: &'a AccountId,
    pub(crate) region: &'a Region,
    /// `None` for both.
    pub(crate) category: Category,
    /// The earliest time, inclusive.
    pub(crate) start: Timestamp,
    /// The latest time, inclusive.
    pub(crate) end: Timestamp,
    /// Only records before this one, in the order of time and id.
    pub(crate) before: (Timestamp, &'a str),
    pub(crate) filter: Option<&'a Filter>,
}

/// The newest records in bundles that fit, newest first.
///
/// # Errors
/// When the rows cannot be read.
pub(crate) fn find(tx: &mut Tx<'_>, span: &Span<'_>, limit: usize) -> Result<Vec<Record>> {
    let mut found: Vec<Record> = Vec::new();
    let end = span.end.min(span.before.0);
    let mut after = (Timestamp(end.0.saturating_add(BUNDLE_SPAN_MS)), "~".to_owned());
    loop {
        let heads = heads(tx, span, end, &after)?;
        for head in &heads {
            // Bundles come by their newest record: no later one can hold anything newer than this.
            if found.len() >= limit && found[limit - 1].time() > head.until {
                return Ok(found);
            }
            if span.filter.is_none_or(|filter| head.may_hold(hash_of(filter))) {
                found.extend(open(tx, span, head)?.into_iter().filter(|record| span.holds(record)));
                found.sort_by(|a, b| (b.time(), b.event_id()).cmp(&(a.time(), a.event_id())));
                found.truncate(limit);
            }
        }
        match heads.last() {
            Some(last) if heads.len() as i64 == HEADS_MAX => after = (last.until, last.id.clone()),
            _ => return Ok(found),
        }
    }
}

impl Span<'_> {
    fn holds(&self, record: &Record) -> bool {
        let time = record.time();
        let text = |found: Option<&str>, wanted: &String| found == Some(wanted.as_str());
        let is = |filter: &Filter| match filter {
            Filter::EventId(id) => record.event_id() == id,
            Filter::EventName(name) => record.event_name() == name,
            Filter::EventSource(source) => record.event_source() == source,
            Filter::Username(name) => text(record.identity().username(), name),
            Filter::AccessKeyId(key) => text(record.identity().access_key(), key),
            Filter::ReadOnly(yes) => record.is_read_only() == *yes,
            Filter::ResourceType(kind) => record.resources().iter().any(|r| r.kind == *kind),
            Filter::ResourceName(name) => {
                let names = |arn: &str| arn == name || trail::resource_id(arn) == name;
                record.resources().iter().any(|r| names(&r.arn))
            }
        };
        self.start <= time
            && time <= self.end
            && (time, record.event_id()) < self.before
            && self.filter.is_none_or(is)
    }
}

struct Head {
    until: Timestamp,
    id: String,
    hashes: Vec<u8>,
}

impl Head {
    fn may_hold(&self, hash: u64) -> bool {
        // Sorted when the bundle was made.
        let hashes = self.hashes.as_chunks::<8>().0;
        hashes.binary_search_by_key(&hash, |bytes| u64::from_le_bytes(*bytes)).is_ok()
    }
}

fn heads(
    tx: &mut Tx<'_>,
    span: &Span<'_>,
    end: Timestamp,
    (until, id): &(Timestamp, String),
) -> Result<Vec<Head>> {
    let rows = tx.query(
        "SELECT until_ms, bundle_id, hashes FROM events_bundles
         WHERE account_id = $1 AND region = $2 AND category = $3 AND until_ms >= $4 AND from_ms <= $5
           AND (until_ms, bundle_id) < ($6, $7)
         ORDER BY until_ms DESC, bundle_id DESC LIMIT $8",
        params![
            span.account,
            span.region,
            trail::category(span.category),
            span.start,
            end,
            *until,
            id,
            HEADS_MAX
        ],
    )?;
    let head = |row: &Row| Ok(Head { until: row.get(0)?, id: row.get(1)?, hashes: row.get(2)? });
    rows.iter().map(head).collect()
}

fn open(tx: &mut Tx<'_>, span: &Span<'_>, head: &Head) -> Result<Vec<Record>> {
    let row = tx.query_opt(
        "SELECT records FROM events_bundles
         WHERE account_id = $1 AND region = $2 AND category = $3 AND until_ms = $4 AND bundle_id = $5",
        params![span.account, span.region, trail::category(span.category), head.until, &head.id],
    )?;
    let bytes: Vec<u8> = row.map(|row| row.get(0)).transpose()?.unwrap_or_default();
    let records = unpack(&bytes).ok_or_else(|| Error::Bundle { id: head.id.clone() })?;
    records.iter().map(|(time, json)| read(json, *time)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<u8> {
        let mut records = Vec::new();
        for second in 0..20 {
            push_record(&mut records, Timestamp(second * 1000), r#"{"eventName":"Decrypt"}"#);
        }
        records
    }

    #[test]
    fn what_is_packed_is_short_and_comes_back() {
        let (records, packed) = (records(), pack(&records()));
        assert!(packed.len() < records.len() / 4, "{} of {}", packed.len(), records.len());
        assert_eq!(unpack(&packed), read_records(&records));
        let plain = [&[PLAIN], &records[..]].concat();
        assert_eq!(unpack(&plain), read_records(&records));
    }

    /// Another implementation's block of the same records opens: `lz4.block.compress` of Python.
    #[test]
    fn the_layout_is_frozen() {
        let packed = hex_of(include_str!("journal/vectors/bundle.hex"));
        assert_eq!(unpack(&packed), read_records(&records()));
    }

    fn hex_of(text: &str) -> Vec<u8> {
        let pairs = text.trim().as_bytes().chunks(2);
        let pair = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        pairs.map(pair).collect()
    }

    #[test]
    fn confirming_writes_to_the_log() {
        let directory = tempfile::tempdir().unwrap();
        let db = meta::Db::open_sqlite(&directory.path().join("rows")).unwrap();
        db.migrate_blocking(crate::MIGRATIONS).unwrap();
        let log = || std::fs::read(directory.path().join("rows-wal")).unwrap();
        let journal = [7; 16];
        db.write_blocking(move |tx| set_position(tx, journal, 9)).unwrap();
        let before = log();
        db.write_blocking(move |tx| confirm(tx, journal)).unwrap();
        assert_ne!(log(), before);
        assert_eq!(db.read_blocking(move |tx| position(tx, journal)).unwrap(), 9);
    }

    #[test]
    fn damage_is_seen_and_costs_no_memory() {
        let packed = pack(&records());
        for end in 0..packed.len() {
            assert_eq!(unpack(&packed[..end]), None, "cut at {end}");
        }
        for version in [0, 3, 255] {
            assert_eq!(unpack(&[&[version], &packed[1..]].concat()), None);
        }
        for length in [0, 1, u32::MAX] {
            let bytes = [&[LZ4], &length.to_le_bytes()[..], &packed[5..]].concat();
            assert_eq!(unpack(&bytes), None, "length {length}");
        }
    }

    fuzz::target!(
        /// What is read of a row as a bundle is what is written of it again; a damaged length asks for little memory.
        bundles,
        vec![pack(&records()), [&[PLAIN], &records()[..]].concat()],
        |bytes: &[u8]| {
            let Some(found) = unpack(bytes) else { return };
            let mut records = Vec::new();
            found.iter().for_each(|(time, json)| push_record(&mut records, *time, json));
            assert_eq!(unpack(&pack(&records)), Some(found));
        }
    );
}
