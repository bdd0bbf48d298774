//! The bytes of the journal: segments that begin with a header, and batches of records in them
//! (docs/format.md, "Trail journal").
//!
//! Numbers are little-endian. A batch begins at a multiple of [`ALIGN`], so that writing one never
//! touches a sector of the one before. It is whole or it is not there: its digest covers the
//! journal's id, the segment's number, its own header and all of its records, so a torn batch, one of
//! another journal, and one left over from an earlier use of the file are told from a good one.

use aws_lc_rs::digest;
use base::Timestamp;

/// Batches and the header begin at multiples of this, in bytes.
pub(super) const ALIGN: usize = 512;
/// Bytes of a batch before its records.
pub(super) const BATCH_HEADER_LEN: usize = 40;
/// Bytes of a record before its JSON text.
pub(crate) const RECORD_HEADER_LEN: usize = 12;
/// The longest batch, in bytes.
pub(super) const BATCH_BYTES_MAX: usize = 64 << 20;

const VERSION: u8 = 1;
const SEGMENT_MAGIC: &[u8; 8] = b"SRTRAIL\0";
const BATCH_MAGIC: &[u8; 4] = b"SRTB";
const DIGEST_LEN: usize = 16;

/// Whose journal it is, and which part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Random, made with the journal.
    pub(super) journal: [u8; 16],
    /// Counts the segments of the journal.
    pub(super) number: u64,
    /// The number of the first record that this segment may hold. It overrules what a segment before it
    /// says of that number and later ones: those were never acknowledged.
    pub(super) first: u64,
}

/// A batch read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// The number of its first record.
    pub(super) first: u64,
    /// Its records: time and JSON text.
    pub(super) records: Vec<(Timestamp, String)>,
    /// Bytes it takes in the segment.
    pub(super) len: usize,
}

fn short_digest(parts: &[&[u8]]) -> [u8; DIGEST_LEN] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    context.finish().as_ref()[..DIGEST_LEN].try_into().expect("a prefix of the digest")
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; ALIGN] {
        let mut block = [0; ALIGN];
        block[..8].copy_from_slice(SEGMENT_MAGIC);
        block[8] = VERSION;
        block[16..32].copy_from_slice(&self.journal);
        block[32..40].copy_from_slice(&self.number.to_le_bytes());
        block[40..48].copy_from_slice(&self.first.to_le_bytes());
        let digest = short_digest(&[&block[..48]]);
        block[48..64].copy_from_slice(&digest);
        block
    }

    /// `None` when the bytes begin with no whole header of this version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let block = bytes.get(..ALIGN)?;
        let good = &block[..8] == SEGMENT_MAGIC
            && block[8] == VERSION
            && block[48..64] == short_digest(&[&block[..48]]);
        if !good {
            return None;
        }
        let journal = block[16..32].try_into().ok()?;
        Some(Self { journal, number: u64_at(block, 32)?, first: u64_at(block, 40)? })
    }

    fn digest(&self, head: &[u8], records: &[u8]) -> [u8; DIGEST_LEN] {
        let number = self.number.to_le_bytes();
        short_digest(&[b"trail-batch1", &self.journal, &number, head, records])
    }

    /// Finishes a batch whose records stand behind [`BATCH_HEADER_LEN`] bytes: fills in its header and
    /// pads it.
    pub(super) fn seal(&self, batch: &mut Vec<u8>, first: u64, count: u32) {
        let length = batch.len() - BATCH_HEADER_LEN;
        let length = u32::try_from(length).expect("a batch is shorter than its limit");
        batch[..4].copy_from_slice(BATCH_MAGIC);
        batch[4..8].copy_from_slice(&[VERSION, 0, 0, 0]);
        batch[8..16].copy_from_slice(&first.to_le_bytes());
        batch[16..20].copy_from_slice(&count.to_le_bytes());
        batch[20..24].copy_from_slice(&length.to_le_bytes());
        let digest = self.digest(&batch[..24], &batch[BATCH_HEADER_LEN..]);
        batch[24..40].copy_from_slice(&digest);
        batch.resize(batch.len().next_multiple_of(ALIGN), 0);
    }

    /// The batch at the beginning of `bytes`; `None` when there is no whole one of this segment.
    pub(super) fn open(&self, bytes: &[u8]) -> Option<Batch> {
        let head = bytes.get(..BATCH_HEADER_LEN)?;
        if &head[..4] != BATCH_MAGIC || head[4] != VERSION {
            return None;
        }
        let (first, count) = (u64_at(head, 8)?, u32_at(head, 16)?);
        let length = usize::try_from(u32_at(head, 20)?).ok()?;
        let records = bytes.get(BATCH_HEADER_LEN..BATCH_HEADER_LEN.checked_add(length)?)?;
        if head[24..40] != self.digest(&head[..24], records) {
            return None;
        }
        let records = read_records(records)?;
        let whole = records.len() == usize::try_from(count).ok()?;
        let len = (BATCH_HEADER_LEN + length).next_multiple_of(ALIGN);
        whole.then_some(Batch { first, records, len })
    }
}

/// Appends one record to the records of a batch.
pub(crate) fn push_record(batch: &mut Vec<u8>, time: Timestamp, json: &str) {
    let length = u32::try_from(json.len()).expect("a record is shorter than its limit");
    batch.extend_from_slice(&time.0.to_le_bytes());
    batch.extend_from_slice(&length.to_le_bytes());
    batch.extend_from_slice(json.as_bytes());
}

/// The records of a batch, or of a block of rows.
pub(crate) fn read_records(mut bytes: &[u8]) -> Option<Vec<(Timestamp, String)>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let time = i64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let length = usize::try_from(u32_at(bytes, 8)?).ok()?;
        let json = std::str::from_utf8(bytes.get(12..12usize.checked_add(length)?)?).ok()?;
        records.push((Timestamp(time), json.to_owned()));
        bytes = &bytes[12 + length..];
    }
    Some(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader { journal: *b"0123456789abcdef", number: 3, first: 41 }
    }

    fn batch() -> Vec<u8> {
        let mut batch = vec![0; BATCH_HEADER_LEN];
        push_record(&mut batch, Timestamp(1_767_225_600_000), r#"{"a":1}"#);
        push_record(&mut batch, Timestamp(-1), "{}");
        header().seal(&mut batch, 41, 2);
        batch
    }

    #[test]
    fn the_layout_is_frozen() {
        let shown = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let encoded = header().encode();
        assert_eq!(shown(&encoded[..64]), include_str!("vectors/segment.hex").trim());
        assert!(encoded[64..].iter().all(|b| *b == 0));
        let batch = batch();
        assert_eq!(batch.len(), ALIGN);
        assert_eq!(shown(&batch[..73]), include_str!("vectors/batch.hex").trim());
        assert!(batch[73..].iter().all(|b| *b == 0));
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        assert_eq!(SegmentHeader::decode(&header().encode()), Some(header()));
        let good = batch();
        let read = header().open(&good).unwrap();
        let texts: Vec<&str> = read.records.iter().map(|(_, json)| json.as_str()).collect();
        assert_eq!((read.first, read.len, texts), (41, ALIGN, vec![r#"{"a":1}"#, "{}"]));
        let used = 73;
        for at in 0..used {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let unused = (5..8).contains(&at);
            assert!(header().open(&bad).is_none(), "byte {at}, unused: {unused}");
            assert!(header().open(&good[..at]).is_none(), "cut at {at}");
        }
        for other in [
            SegmentHeader { number: 4, ..header() },
            SegmentHeader { journal: [0; 16], ..header() },
        ] {
            assert!(other.open(&good).is_none(), "{other:?}");
        }
        for at in 0..64 {
            let mut bad = header().encode();
            bad[at] ^= 1;
            assert_eq!(SegmentHeader::decode(&bad), None, "byte {at}");
        }
    }

    fuzz::target!(
        /// Records that are read are written again as they stand.
        records,
        vec![batch()[BATCH_HEADER_LEN..73].to_vec()],
        |bytes: &[u8]| {
            let Some(records) = read_records(bytes) else { return };
            let mut again = Vec::new();
            records.iter().for_each(|(time, json)| push_record(&mut again, *time, json));
            assert_eq!(again, bytes);
        }
    );

    fuzz::target!(
        /// No bytes but a batch of this segment are one, padding aside; nor is a header another's.
        batches_and_headers,
        vec![batch(), header().encode().to_vec()],
        |bytes: &[u8]| {
            if let Some(read) = header().open(bytes) {
                assert_eq!(&bytes[..73], &batch()[..73], "an altered batch was taken");
                assert_eq!((read.first, read.len), (41, ALIGN));
            }
            assert!(SegmentHeader::decode(bytes).is_none_or(|read| read == header()));
        }
    );
}
