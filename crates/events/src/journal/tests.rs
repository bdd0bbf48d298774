//! The journal on a disk that loses, tears and refuses, and its way into the rows.

use super::frame::{ALIGN, BATCH_HEADER_LEN, SegmentHeader};
use super::*;
use crate::bundle;
use crate::trail::{Cursor, Filter, Lookup, Page, append, lookup};
use crate::{Call, Category, MIGRATIONS, Resource, UserIdentity};
use base::{AccountId, Region, Rng, SeededRng, Timestamp};
use std::collections::BTreeMap;

const ID: [u8; 16] = *b"0123456789abcdef";
const SEGMENT: u64 = 16 << 10;

#[derive(Default, Clone)]
struct Segment {
    durable: Vec<u8>,
    pending: Vec<(usize, Vec<u8>)>,
}

impl Segment {
    fn put(bytes: &mut Vec<u8>, offset: usize, part: &[u8]) {
        let end = offset + part.len();
        bytes.resize(bytes.len().max(end), 0);
        bytes[offset..end].copy_from_slice(part);
    }

    fn visible(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.pending.iter().for_each(|(offset, part)| Self::put(&mut bytes, *offset, part));
        bytes
    }
}

#[derive(Default)]
struct Disk {
    segments: BTreeMap<u64, Segment>,
    current: u64,
    /// Writes and flushes that still succeed.
    fuse: Option<u32>,
    /// The bytes of the last removed segment, which the next one is made from.
    spare: Option<Vec<u8>>,
}

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
struct Cut(Arc<Mutex<Disk>>);

impl Cut {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Of every unflushed write any subset of its sectors stays.
    fn cut_power(&self, rng: &dyn Rng) {
        let mut disk = self.disk();
        disk.fuse = None;
        for segment in disk.segments.values_mut() {
            for (offset, part) in std::mem::take(&mut segment.pending) {
                for (at, sector) in part.chunks(ALIGN).enumerate() {
                    let mut coin = [0];
                    rng.fill(&mut coin);
                    if coin[0] % 2 == 0 {
                        Segment::put(&mut segment.durable, offset + at * ALIGN, sector);
                    }
                }
            }
        }
    }
}

impl Disk {
    fn spend(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => Err(io::Error::other("no power")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Media for Cut {
    fn segment_bytes(&self) -> u64 {
        SEGMENT
    }

    fn list(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.disk().segments.keys().copied().collect())
    }

    fn read(&mut self, number: u64) -> io::Result<Vec<u8>> {
        self.disk()
            .segments
            .get(&number)
            .map(Segment::visible)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn create(&mut self, number: u64) -> io::Result<()> {
        let mut disk = self.disk();
        disk.spend()?;
        let durable = disk.spare.take().unwrap_or_default();
        disk.segments.insert(number, Segment { durable, pending: Vec::new() });
        disk.current = number;
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk();
        let spent = disk.spend();
        // A write that fails may have written a part.
        let part = if spent.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let number = disk.current;
        let segment = disk.segments.get_mut(&number).unwrap();
        segment.pending.push((usize::try_from(offset).unwrap(), part.to_vec()));
        spent
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut disk = self.disk();
        disk.spend()?;
        let number = disk.current;
        let segment = disk.segments.get_mut(&number).unwrap();
        (segment.durable, segment.pending) = (segment.visible(), Vec::new());
        Ok(())
    }

    fn remove(&mut self, number: u64) -> io::Result<()> {
        let mut disk = self.disk();
        let gone = disk.segments.remove(&number);
        disk.spare = gone.map(|segment| segment.durable);
        Ok(())
    }
}

fn below(rng: &dyn Rng, limit: u32) -> u32 {
    let mut bytes = [0; 4];
    rng.fill(&mut bytes);
    u32::from_le_bytes(bytes) % limit
}

fn batch(numbers: Range<u64>, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; BATCH_HEADER_LEN];
    for number in numbers {
        push_record(&mut bytes, Timestamp(7), &format!("{number}:{}", "x".repeat(size)));
    }
    bytes
}

/// The numbers that texts of [`batch`] begin with.
fn numbers(recovered: &Recovered) -> Vec<u64> {
    let number = |json: &String| json.split(':').next().unwrap().parse().unwrap();
    recovered.records.iter().map(|(_, json)| number(json)).collect()
}

#[test]
fn no_power_cut_loses_or_doubles_what_was_acknowledged() {
    for seed in 0..200 {
        let rng = SeededRng::new(seed);
        let disk = Cut::default();
        let (mut next, mut indexed) = (1, 1);
        for _ in 0..4 {
            let Left { mut media, recovered } = Left::read(Box::new(disk.clone())).unwrap();
            let found = numbers(&recovered);
            assert!(found.iter().copied().eq(recovered.first..recovered.next()), "seed {seed}");
            if recovered.id.is_some() {
                assert!(recovered.needs <= indexed, "seed {seed}");
                assert!(recovered.first <= indexed, "seed {seed}: {indexed} is missing");
                assert!(recovered.next() >= next, "seed {seed}: {next} was acknowledged");
            } else {
                assert_eq!(next, 1, "seed {seed}: everything is missing");
            }
            // Starting takes everything to the rows first.
            next = recovered.next().max(next);
            indexed = next;
            disk.disk().fuse = Some(below(&rng, 60));
            let number = recovered.segments.last().map_or(1, |last| last + 1);
            let header = SegmentHeader { journal: ID, number, first: next };
            if let Ok(mut writer) = Writer::open(&mut *media, header) {
                recovered.segments.iter().for_each(|number| media.remove(*number).unwrap());
                run(&mut writer, &mut *media, &rng, (&mut next, &mut indexed));
            }
            disk.cut_power(&rng);
        }
    }
}

/// Writes until the power goes; every now and then the rows have caught up.
fn run(
    writer: &mut Writer,
    media: &mut dyn Media,
    rng: &dyn Rng,
    (next, indexed): (&mut u64, &mut u64),
) {
    for _ in 0..60 {
        let count = u64::from(below(rng, 4)) + 1;
        // A few batches fill a segment.
        let size = usize::try_from(SEGMENT).unwrap() / 16;
        let written = writer.write(media, batch(*next..*next + count, size), count as usize);
        if written.is_err() {
            return;
        }
        *next += count;
        if below(rng, 3) == 0 {
            *indexed = *next;
        }
        let shared = Shared::default();
        shared.state().released = *indexed;
        writer.remove_released(media, &shared);
    }
}

#[test]
fn a_failed_write_or_flush_fails_its_calls_only() {
    for failing in 0..4 {
        let mut disk = Cut::default();
        let mut writer =
            Writer::open(&mut disk, SegmentHeader { journal: ID, number: 1, first: 1 }).unwrap();
        writer.write(&mut disk, batch(1..3, 9), 2).unwrap();
        disk.disk().fuse = Some(failing % 2);
        assert!(writer.write(&mut disk, batch(100..102, 9), 2).is_err());
        // While the disk refuses, nothing is acknowledged.
        assert!(writer.write(&mut disk, batch(200..201, 9), 1).is_err());
        disk.disk().fuse = None;
        writer.write(&mut disk, batch(3..4, 9), 1).unwrap();
        writer.write(&mut disk, batch(4..5, 9), 1).unwrap();
        if failing >= 2 {
            disk.cut_power(&SeededRng::new(u64::from(failing)));
        }
        let recovered = Left::read(Box::new(disk)).unwrap().recovered;
        assert_eq!(numbers(&recovered), [1, 2, 3, 4], "failing {failing}");
    }
}

#[test]
fn damage_is_told_from_a_torn_end() {
    let mut disk = Cut::default();
    let mut writer =
        Writer::open(&mut disk, SegmentHeader { journal: ID, number: 1, first: 1 }).unwrap();
    for number in 1..4 {
        writer.write(&mut disk, batch(number..number + 1, 9), 1).unwrap();
    }
    let good = disk.disk().segments[&1].durable.clone();
    let read = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        let disk = Cut::default();
        disk.disk().segments.insert(1, Segment { durable: bytes, pending: Vec::new() });
        Left::read(Box::new(disk)).map(|left| numbers(&left.recovered))
    };
    let in_batch = |n: usize| n * ALIGN + BATCH_HEADER_LEN + 14;
    assert_eq!(read(in_batch(3)).unwrap(), [1, 2], "the last one may be torn");
    assert_eq!(read(in_batch(2)), Err(JournalError::Damaged { segment: 1, at: 2 * ALIGN as u64 }));
    assert!(matches!(read(in_batch(1)), Err(JournalError::Damaged { .. })));
    assert!(matches!(read(20), Err(JournalError::Damaged { .. })), "the header");
}

fn account(digit: u32) -> AccountId {
    AccountId::parse(&digit.to_string().repeat(12)).unwrap()
}

fn record(rng: &dyn Rng, number: u64) -> Record {
    let user = below(rng, 3);
    let arn = format!("arn:aws:iam::222222222222:user/u{user}");
    let identity = UserIdentity::iam_user(&account(2), "AIDA", &arn, &format!("u{user}"))
        .with_access_key(&format!("AKIA{user}"));
    let data = below(rng, 8) == 0;
    let key = below(rng, 3);
    let record = Record::api_call(Call {
        event_id: format!("e-{number}"),
        time: Timestamp(1_795_253_400_000 + i64::from(below(rng, 2_000_000))),
        region: Region::parse(if below(rng, 4) == 0 { "eu-west-1" } else { "us-east-1" }).unwrap(),
        recipient: account(2),
        identity,
        event_source: "kms.amazonaws.com".to_owned(),
        event_name: ["Decrypt", "Encrypt", "Sign"][below(rng, 3) as usize].to_owned(),
        source_ip: "192.0.2.7".to_owned(),
        user_agent: "test/1".to_owned(),
        request_id: "r-1".to_owned(),
        read_only: below(rng, 2) == 0,
        category: if data { Category::Data } else { Category::Management },
    });
    record.with_resources(vec![Resource {
        account_id: account(2),
        kind: "AWS::KMS::Key".to_owned(),
        arn: format!("arn:aws:kms:us-east-1:222222222222:key/k{key}"),
    }])
}

fn all_pages(db: &meta::Db, filter: Option<&Filter>, max: u32) -> Vec<String> {
    let mut query = Lookup {
        account: account(2),
        region: Region::parse("us-east-1").unwrap(),
        filter: filter.cloned(),
        start: Some(Timestamp(1_795_253_500_000)),
        end: None,
        now: Timestamp(1_795_255_300_000),
        max,
        after: None,
    };
    let mut found = Vec::new();
    loop {
        let asked = query.clone();
        let Page { records, next } = db.read_blocking(move |tx| lookup(tx, &asked)).unwrap();
        found.extend(records.into_iter().map(|found| format!("{found:?}")));
        match next {
            Some(Cursor { time, event_id }) => query.after = Some(Cursor { time, event_id }),
            None => return found,
        }
    }
}

/// The journal's records in the rows are what rows written one by one are, under every lookup.
#[test]
fn bundles_are_found_as_rows_are() {
    let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let mut filters = vec![None, Some(Filter::ReadOnly(true)), Some(Filter::ReadOnly(false))];
    filters.extend(texts(&["e-3", "e-77", "none"]).into_iter().map(Filter::EventId).map(Some));
    filters.extend(texts(&["Sign", "None"]).into_iter().map(Filter::EventName).map(Some));
    filters.extend(texts(&["u1", "u9"]).into_iter().map(Filter::Username).map(Some));
    filters.extend(texts(&["AKIA2"]).into_iter().map(Filter::AccessKeyId).map(Some));
    filters.extend(texts(&["kms.amazonaws.com"]).into_iter().map(Filter::EventSource).map(Some));
    filters.extend(texts(&["AWS::KMS::Key"]).into_iter().map(Filter::ResourceType).map(Some));
    let names = ["k1", "arn:aws:kms:us-east-1:222222222222:key/k2", "k9"];
    filters.extend(texts(&names).into_iter().map(Filter::ResourceName).map(Some));
    for (seed, db) in (1..).zip(meta::testing::engines(MIGRATIONS)) {
        let plain = meta::Db::memory().unwrap();
        plain.migrate_blocking(MIGRATIONS).unwrap();
        let rng = SeededRng::new(seed);
        let mut number = 1;
        for _ in 0..6 {
            let mut batches = Vec::new();
            for _ in 0..below(&rng, 3) + 1 {
                let records: Vec<_> =
                    (0..below(&rng, 300)).map(|n| record(&rng, number + u64::from(n))).collect();
                let rows = records.clone();
                plain
                    .write_blocking(move |tx| rows.iter().try_for_each(|r| append(tx, r)))
                    .unwrap();
                let count = records.len() as u64;
                batches.push(kept(number, &records));
                number += count;
            }
            let batches = Arc::new(batches);
            // What was already taken to the rows is not taken twice, be it a part or all.
            for taken in [1, batches.len(), batches.len()] {
                let batches = Arc::clone(&batches);
                let prepared = bundle::Prepared::new(ID, &batches[..taken], 0).unwrap();
                db.write_blocking(move |tx| bundle::keep(tx, ID, &batches[..taken], &prepared))
                    .unwrap();
            }
            let position = db.read_blocking(|tx| bundle::position(tx, ID)).unwrap();
            db.write_blocking(|tx| bundle::confirm(tx, ID)).unwrap();
            assert_eq!(position, number);
        }
        assert_eq!(db.read_blocking(|tx| bundle::position(tx, ID)).unwrap(), number);
        for filter in &filters {
            let (found, expected) =
                (all_pages(&db, filter.as_ref(), 50), all_pages(&plain, filter.as_ref(), 50));
            assert_eq!(found.len(), expected.len(), "{}: {filter:?}", db.name);
            assert!(found == expected, "{}: {filter:?}", db.name);
        }
        assert!(all_pages(&db, None, 7) == all_pages(&plain, None, 50));
    }
}

fn kept(first: u64, records: &[Record]) -> Batch {
    let (mut bytes, mut kept) = (Vec::new(), Vec::new());
    for record in records {
        let json = record.to_json();
        bytes.extend_from_slice(json.as_bytes());
        kept.push(Kept { facts: Facts::of(record), json: bytes.len() - json.len()..bytes.len() });
    }
    Batch { first, bytes, records: kept }
}

#[tokio::test]
async fn calls_share_flushes_and_a_new_run_finds_them() {
    let directory = std::env::temp_dir().join(format!("trail-{}", std::process::id()));
    let open = || Left::read(Box::new(Files::open(&directory, 1 << 20).unwrap())).unwrap();
    let journal = Arc::new(open().start(ID, 1).unwrap());
    let rng = SeededRng::new(3);
    let records: Vec<_> = (0..200).map(|n| record(&rng, n)).collect();
    let calls: Vec<_> = records
        .iter()
        .cloned()
        .map(|record| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move { journal.append(&[record]).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(journal.acknowledged(), 201);
    journal.wait_for_records(1).await;
    let batches = journal.take(1, usize::MAX);
    assert!(batches.len() < 200, "{} flushes for 200 calls", batches.len());
    assert_eq!(batches.iter().map(|batch| batch.records.len()).sum::<usize>(), 200);
    drop(journal);
    let left = open();
    let mut found: Vec<_> = left.recovered.records.iter().map(|(_, json)| json.clone()).collect();
    let mut expected: Vec<_> = records.iter().map(Record::to_json).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    let batches = bundle::left(&left.recovered, 1).unwrap();
    assert_eq!(batches.len(), 200);
    drop(left.start(ID, 201).unwrap());
    assert_eq!(open().recovered.records, [], "what is in the rows is gone");
    std::fs::remove_dir_all(&directory).unwrap();
}

/// Three batches of one record each, behind their header.
fn three_batches() -> (Vec<u8>, Vec<(Timestamp, String)>) {
    let header = SegmentHeader { journal: ID, number: 3, first: 41 };
    let (mut bytes, mut written) = (header.encode().to_vec(), Vec::new());
    for first in 41..44 {
        let (time, json) = (Timestamp(first), format!("{{\"n\":{first}}}"));
        let mut batch = vec![0; BATCH_HEADER_LEN];
        frame::push_record(&mut batch, time, &json);
        header.seal(&mut batch, u64::try_from(first).unwrap(), 1);
        bytes.extend(batch);
        written.push((time, json));
    }
    (bytes, written)
}

fuzz::target!(
    /// Whatever a segment has become, what is recovered of it was written to it, in order and without gap.
    segments,
    vec![three_batches().0],
    |bytes: &[u8]| {
        let disk = Cut::default();
        disk.disk().segments.insert(3, Segment { durable: bytes.to_vec(), pending: Vec::new() });
        let (whole, written) = three_batches();
        if let Ok(found) = recover::recover(&mut disk.clone()) {
            assert!(written.starts_with(&found.records), "{:?}", found.records);
            assert!(bytes != whole || found.records == written, "a whole segment is read whole");
        }
    }
);
