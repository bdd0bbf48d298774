//! What a journal holds after a stop, orderly or not.

use super::frame::{ALIGN, SegmentHeader};
use super::{JournalError, Media, failed};
use base::Timestamp;

/// The journal as an earlier run left it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The journal's id; `None` when there was no journal.
    pub(crate) id: Option<[u8; 16]>,
    /// The number of the first record below.
    pub(crate) first: u64,
    /// Records without gap. All that were acknowledged and not yet removed are here; of the last ones
    /// some may be here that were not acknowledged.
    pub(crate) records: Vec<(Timestamp, String)>,
    /// Everything before this number must be in the rows: a segment in between is gone.
    pub(crate) needs: u64,
    /// The segments they were found in, and those without a whole header.
    pub(super) segments: Vec<u64>,
}

/// Reads all segments.
///
/// # Errors
/// [`JournalError::Damaged`] when acknowledged records are missing or no longer whole;
/// [`JournalError::Failed`] when a segment cannot be read.
pub(super) fn recover(media: &mut dyn Media) -> Result<Recovered, JournalError> {
    let mut numbers = media.list().map_err(|error| failed("list the segments", &error))?;
    numbers.sort_unstable();
    let mut found = Recovered { segments: numbers.clone(), ..Recovered::default() };
    let mut headless = Vec::new();
    for number in numbers {
        let bytes = media.read(number).map_err(|error| failed("read a segment", &error))?;
        match SegmentHeader::decode(&bytes).filter(|header| header.number == number) {
            Some(header) => found.add(header, &bytes)?,
            None => headless.push((number, bytes)),
        }
    }
    // A power cut while a segment is made leaves it without header, and without a batch of its own.
    for (number, bytes) in headless {
        let header = SegmentHeader { journal: found.id.unwrap_or_default(), number, first: 0 };
        let magic_alone = found.id.is_none() && bytes.chunks(ALIGN).any(|c| c.starts_with(b"SRTB"));
        if magic_alone || later_batch(&header, &bytes, ALIGN) {
            return Err(JournalError::Damaged { segment: number, at: 0 });
        }
    }
    Ok(found)
}

impl Recovered {
    /// The journal's id; `None` when there was no journal.
    pub fn id(&self) -> Option<[u8; 16]> {
        self.id
    }

    /// The number the next record gets.
    pub fn next(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    fn add(&mut self, header: SegmentHeader, bytes: &[u8]) -> Result<(), JournalError> {
        let damaged = |at: usize| JournalError::Damaged { segment: header.number, at: at as u64 };
        if self.id.is_none() {
            (self.id, self.first) = (Some(header.journal), header.first);
        }
        if self.id != Some(header.journal) || header.first < self.first {
            return Err(damaged(0));
        }
        if self.next() < header.first {
            // Segments are removed in order, but a power cut may bring an older one back.
            (self.needs, self.first) = (header.first, header.first);
            self.records.clear();
        }
        // What the segment before says of these numbers was never acknowledged.
        let keep = usize::try_from(header.first - self.first).map_err(|_| damaged(0))?;
        self.records.truncate(keep);
        let mut at = ALIGN;
        while let Some(batch) = bytes.get(at..).and_then(|rest| header.open(rest)) {
            if batch.first != self.next() {
                return Err(damaged(at));
            }
            self.records.extend(batch.records);
            at += batch.len;
        }
        // A batch is written when the one before is durable: none can follow a torn one.
        if later_batch(&header, bytes, at) { Err(damaged(at)) } else { Ok(()) }
    }
}

/// Whether a whole batch of this segment stands at or behind a place.
fn later_batch(header: &SegmentHeader, bytes: &[u8], at: usize) -> bool {
    (at..bytes.len()).step_by(ALIGN).any(|at| header.open(&bytes[at..]).is_some())
}
