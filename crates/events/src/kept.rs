//! Records as they are kept, with what was decided about their calls: for explanations, and for taking
//! decisions again. Rows and bundles are read alike.

use crate::bundle::{self, Span};
use crate::error::{Error, Result};
use crate::record::{Category, Record};
use crate::trail::Filter;
use base::{AccountId, Region, Timestamp};
use meta::{Row, Tx, params};
use serde::Deserialize;

/// How many of the newest records [`of_request`] looks at.
pub const REQUEST_SCAN_MAX: usize = 50_000;
/// Records of one request that are found.
const OF_REQUEST_MAX: usize = 50;
/// Records of one step of a scan.
const PAGE: usize = 500;

/// The record of an event.
///
/// # Errors
/// When the rows cannot be read.
pub fn stored(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    event_id: &str,
) -> Result<Option<Record>> {
    let rows = tx.query(
        "SELECT time_ms, event_id, record FROM events_records
         WHERE account_id = $1 AND region = $2 AND event_id = $3",
        params![account, region, event_id],
    )?;
    if let Some(row) = rows.first() {
        return read(row).map(Some);
    }
    let filter = Filter::EventId(event_id.to_owned());
    let whole = Scan { account, region, since: Timestamp(i64::MIN) };
    let before = (Timestamp(i64::MAX), "");
    let mut found = bundled(tx, &whole, before, Some(&filter), 1)?;
    Ok(found.pop())
}

/// The records of an account that name a request: its own, and those of the calls that services made for
/// it later. Looks at the newest [`REQUEST_SCAN_MAX`] records; oldest first.
///
/// # Errors
/// When the rows cannot be read.
pub fn of_request(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    request_id: &str,
) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    let whole = Scan { account, region, since: Timestamp(i64::MIN) };
    scan(tx, &whole, REQUEST_SCAN_MAX, |record| {
        if record.request_id() == Some(request_id) || is_caused(&record, request_id) {
            found.push(record);
        }
        found.len() < OF_REQUEST_MAX
    })?;
    found.reverse();
    Ok(found)
}

fn is_caused(record: &Record, request_id: &str) -> bool {
    #[derive(Deserialize)]
    struct Decided {
        origin: Origin,
    }
    #[derive(Deserialize)]
    struct Origin {
        #[serde(default)]
        cause: Option<String>,
    }
    // Most records do not name the request anywhere, and need not be read.
    let named = record.decisions().filter(|text| text.contains(request_id));
    let decided = named.and_then(|text| serde_json::from_str(text).ok());
    decided.is_some_and(|Decided { origin }| origin.cause.as_deref() == Some(request_id))
}

/// The newest records since a moment, newest first.
///
/// # Errors
/// When the rows cannot be read.
pub fn decided(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    since: Timestamp,
    max: usize,
) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    scan(tx, &Scan { account, region, since }, max, |record| {
        found.push(record);
        true
    })?;
    Ok(found)
}

/// Whose records, and since when.
struct Scan<'a> {
    account: &'a AccountId,
    region: &'a Region,
    since: Timestamp,
}

/// Shows records, newest first, until there are no more, `max` were shown or `more` says no.
fn scan(
    tx: &mut Tx<'_>,
    scan: &Scan<'_>,
    max: usize,
    mut more: impl FnMut(Record) -> bool,
) -> Result<()> {
    let (mut time, mut id, mut left) = (Timestamp(i64::MAX), String::new(), max);
    while left > 0 {
        let limit = left.min(PAGE);
        let records = page(tx, scan, (time, &id), limit)?;
        let Some(last) = records.last() else { return Ok(()) };
        (time, id) = (last.time(), last.event_id().to_owned());
        left -= records.len();
        let is_last = records.len() < limit;
        for record in records {
            if !more(record) {
                return Ok(());
            }
        }
        if is_last {
            return Ok(());
        }
    }
    Ok(())
}

fn page(
    tx: &mut Tx<'_>,
    scan: &Scan<'_>,
    before: (Timestamp, &str),
    limit: usize,
) -> Result<Vec<Record>> {
    let rows = tx.query(
        "SELECT time_ms, event_id, record FROM events_records
         WHERE account_id = $1 AND region = $2 AND time_ms >= $3 AND (time_ms, event_id) < ($4, $5)
         ORDER BY time_ms DESC, event_id DESC LIMIT $6",
        params![
            scan.account,
            scan.region,
            scan.since,
            before.0,
            before.1,
            i64::try_from(limit).expect("a page is small")
        ],
    )?;
    let mut records = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
    records.extend(bundled(tx, scan, before, None, limit)?);
    records.sort_by(|a, b| (b.time(), b.event_id()).cmp(&(a.time(), a.event_id())));
    records.truncate(limit);
    Ok(records)
}

fn bundled(
    tx: &mut Tx<'_>,
    scan: &Scan<'_>,
    before: (Timestamp, &str),
    filter: Option<&Filter>,
    limit: usize,
) -> Result<Vec<Record>> {
    let mut found = Vec::new();
    for category in [Category::Management, Category::Data] {
        let span = Span {
            account: scan.account,
            region: scan.region,
            category,
            start: scan.since,
            end: before.0,
            before,
            filter,
        };
        found.extend(bundle::find(tx, &span, limit)?);
    }
    Ok(found)
}

fn read(row: &Row) -> Result<Record> {
    let (time, id): (Timestamp, String) = (row.get(0)?, row.get(1)?);
    let record: Record = serde_json::from_str(&row.get::<String>(2)?)
        .map_err(|source| Error::Damaged { what: "record", id, source })?;
    Ok(record.at(time))
}
