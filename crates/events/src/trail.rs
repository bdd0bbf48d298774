//! The trail's rows: intents before acts, records after them, and looking them up.
//!
//! A mutating call is [`begin`]-ed in a transaction that is durable before it acts, and
//! [`finish`]-ed in the one that keeps its effect or after it. If the server stops in between,
//! [`recover_unfinished`] turns the intent into a record that says so. Reads and refusals are
//! [`append`]-ed in one step.

use crate::bundle::{self, Span};
use crate::error::{Error, Result};
use crate::record::{Category, Record, Resource};
use base::{AccountId, Region, Timestamp};
use meta::{Migration, Param, Row, Tx, params};

/// How far back LookupEvents reaches (CloudTrail API, LookupEvents: "the last 90 days").
pub const LOOKUP_DAYS: i64 = 90;
/// The most records of one page (CloudTrail API, LookupEvents, `MaxResults`).
pub const PAGE_MAX: u32 = 50;
/// Intents that one call of [`recover_unfinished`] settles.
pub const RECOVER_MAX: i64 = 500;
/// The error code of a call whose server stopped before its outcome was recorded.
pub const INTERRUPTED: &str = "ServerInterrupted";
const INTERRUPTED_MESSAGE: &str =
    "The server stopped before the outcome of this call was recorded. It may have taken effect.";

pub(crate) const MIGRATION: Migration = Migration {
    name: "events-001-trail",
    sql: "
        CREATE TABLE events_intents (
            server TEXT NOT NULL, event_id TEXT NOT NULL, time_ms BIGINT NOT NULL, record TEXT NOT NULL,
            PRIMARY KEY (server, event_id));
        CREATE INDEX events_intents_by_time ON events_intents (time_ms);
        CREATE TABLE events_records (
            account_id TEXT NOT NULL, region TEXT NOT NULL, time_ms BIGINT NOT NULL, event_id TEXT NOT NULL,
            category TEXT NOT NULL, event_source TEXT NOT NULL, event_name TEXT NOT NULL,
            username TEXT, access_key_id TEXT, read_only BIGINT NOT NULL, record TEXT NOT NULL,
            PRIMARY KEY (account_id, region, time_ms, event_id));
        CREATE INDEX events_records_by_id ON events_records (account_id, region, event_id);
        CREATE INDEX events_records_by_name ON events_records (account_id, region, event_name, time_ms, event_id);
        CREATE INDEX events_records_by_source ON events_records (account_id, region, event_source, time_ms, event_id);
        CREATE INDEX events_records_by_user ON events_records (account_id, region, username, time_ms, event_id)
            WHERE username IS NOT NULL;
        CREATE INDEX events_records_by_access_key ON events_records (account_id, region, access_key_id, time_ms, event_id)
            WHERE access_key_id IS NOT NULL;
        CREATE TABLE events_resources (
            account_id TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, time_ms BIGINT NOT NULL,
            event_id TEXT NOT NULL, type TEXT NOT NULL,
            PRIMARY KEY (account_id, region, name, time_ms, event_id));
        CREATE INDEX events_resources_by_type ON events_resources (account_id, region, type, time_ms, event_id);",
};

/// Declares that a call is about to act. `server` names this server process's state directory or node,
/// and stays the same over its restarts.
///
/// # Errors
/// When the intent cannot be kept; then the call must not act.
pub fn begin(tx: &mut Tx<'_>, server: &str, record: &Record) -> Result<()> {
    tx.execute(
        "INSERT INTO events_intents (server, event_id, time_ms, record) VALUES ($1, $2, $3, $4)",
        params![server, record.event_id(), record.time(), record.to_json()],
    )?;
    Ok(())
}

/// Records the outcome of a call that was begun, and the copies for other accounts.
///
/// # Errors
/// When the rows cannot be written; the intent then stays and is settled at the next start.
pub fn finish(tx: &mut Tx<'_>, server: &str, record: &Record, copies: &[Record]) -> Result<()> {
    tx.execute(
        "DELETE FROM events_intents WHERE server = $1 AND event_id = $2",
        params![server, record.event_id()],
    )?;
    append(tx, record)?;
    copies.iter().try_for_each(|copy| append(tx, copy))
}

/// Records a call in one step: one that only read, or was refused before it acted.
/// A record with the same id replaces the one before it.
///
/// # Errors
/// When the row cannot be written.
pub fn append(tx: &mut Tx<'_>, record: &Record) -> Result<()> {
    let identity = record.identity();
    tx.execute(
        "INSERT INTO events_records (account_id, region, time_ms, event_id, category, event_source,
             event_name, username, access_key_id, read_only, record)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (account_id, region, time_ms, event_id) DO UPDATE SET record = $11",
        params![
            record.recipient(),
            record.region(),
            record.time(),
            record.event_id(),
            category(record.category()),
            record.event_source(),
            record.event_name(),
            identity.username(),
            identity.access_key(),
            record.is_read_only(),
            record.to_json()
        ],
    )?;
    if record.category() == Category::Management {
        append_resources(tx, record)?;
    }
    Ok(())
}

/// The category as rows have it.
pub(crate) fn category(category: Category) -> &'static str {
    match category {
        Category::Management => "Management",
        Category::Data => "Data",
    }
}

/// The id an ARN ends with.
pub(crate) fn resource_id(arn: &str) -> &str {
    arn.rsplit(['/', ':']).next().unwrap_or(arn)
}

/// A resource is found by its ARN and by the id the ARN ends with.
fn append_resources(tx: &mut Tx<'_>, record: &Record) -> Result<()> {
    for Resource { kind, arn, .. } in record.resources() {
        let id = resource_id(arn);
        tx.execute(
            "INSERT INTO events_resources (account_id, region, name, time_ms, event_id, type)
             VALUES ($1, $2, $3, $5, $6, $7), ($1, $2, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            params![
                record.recipient(),
                record.region(),
                arn,
                id,
                record.time(),
                record.event_id(),
                kind.as_str()
            ],
        )?;
    }
    Ok(())
}

/// Turns intents that nobody will finish into records: those of this server's own past lives, and those of
/// any server that are older than `stale_before`. Call it at the start of a server, before it serves, and
/// repeatedly until it returns nothing.
///
/// # Errors
/// When the rows cannot be read or written.
pub fn recover_unfinished(
    tx: &mut Tx<'_>,
    server: &str,
    stale_before: Timestamp,
) -> Result<Vec<Record>> {
    let rows = tx.query(
        "SELECT server, event_id, time_ms, record FROM events_intents
         WHERE server = $1 OR time_ms < $2 ORDER BY time_ms LIMIT $3",
        params![server, stale_before, RECOVER_MAX],
    )?;
    let mut records = Vec::with_capacity(rows.len());
    for row in rows {
        let (owner, id, time) = (row.get::<String>(0)?, row.get::<String>(1)?, row.get(2)?);
        let record: Record = serde_json::from_str(&row.get::<String>(3)?)
            .map_err(|source| Error::Damaged { what: "intent", id, source })?;
        let record = record.at(time).failed(INTERRUPTED, INTERRUPTED_MESSAGE);
        finish(tx, &owner, &record, &[])?;
        records.push(record);
    }
    Ok(records)
}

/// The one attribute a lookup may name (CloudTrail API, LookupAttribute).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The record's own id.
    EventId(String),
    /// The operation.
    EventName(String),
    /// The service, `kms.amazonaws.com`.
    EventSource(String),
    /// See [`crate::UserIdentity::username`].
    Username(String),
    /// The key that signed the request.
    AccessKeyId(String),
    /// A resource's ARN or id.
    ResourceName(String),
    /// `AWS::KMS::Key`.
    ResourceType(String),
    /// Whether the operation changes nothing.
    ReadOnly(bool),
}

/// A lookup of one account's records in one region.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The account whose trail is read.
    pub account: AccountId,
    /// The region.
    pub region: Region,
    /// At most one attribute.
    pub filter: Option<Filter>,
    /// The earliest time, inclusive; reaches back [`LOOKUP_DAYS`] at most.
    pub start: Option<Timestamp>,
    /// The latest time, inclusive; `None` means now.
    pub end: Option<Timestamp>,
    /// The present moment.
    pub now: Timestamp,
    /// Records per page, at most [`PAGE_MAX`].
    pub max: u32,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

/// A place between two records, or two events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The time of the last one seen.
    pub time: Timestamp,
    /// Its id.
    pub event_id: String,
}

impl Cursor {
    /// The cursor as a token for clients.
    pub fn to_token(&self) -> String {
        format!("{}.{}", self.time.0, self.event_id)
    }

    /// Reads a token.
    ///
    /// # Errors
    /// [`Error::Token`] when it is none of ours.
    pub fn from_token(token: &str) -> Result<Self> {
        let (time, event_id) = token.split_once('.').ok_or(Error::Token)?;
        let time = time.parse().map(Timestamp).map_err(|_| Error::Token)?;
        let known = !event_id.is_empty()
            && event_id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if known { Ok(Self { time, event_id: event_id.to_owned() }) } else { Err(Error::Token) }
    }
}

/// A record that a lookup found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The record's own id.
    pub event_id: String,
    /// The operation.
    pub event_name: String,
    /// The service.
    pub event_source: String,
    /// When, in milliseconds; the record itself has whole seconds.
    pub time: Timestamp,
    /// See [`crate::UserIdentity::username`].
    pub username: Option<String>,
    /// The key that signed the request.
    pub access_key_id: Option<String>,
    /// Whether the operation changes nothing.
    pub read_only: bool,
    /// The resources the call was about.
    pub resources: Vec<Resource>,
    /// The whole record, `CloudTrailEvent` in LookupEvents.
    pub record: String,
}

/// A page of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Newest first.
    pub records: Vec<Found>,
    /// Where to go on; `None` when there is no more.
    pub next: Option<Cursor>,
}

/// Finds management events of one account and region, newest first.
///
/// # Errors
/// When the rows cannot be read.
pub fn lookup(tx: &mut Tx<'_>, lookup: &Lookup) -> Result<Page> {
    let oldest = lookup.now.plus_seconds(-LOOKUP_DAYS * 86_400);
    let start = lookup.start.unwrap_or(oldest).max(oldest);
    let end = lookup.end.unwrap_or(lookup.now);
    // Before the first page everything is older than the cursor.
    let (time, id) = match &lookup.after {
        Some(cursor) => (cursor.time, cursor.event_id.as_str()),
        None => (Timestamp(i64::MAX), ""),
    };
    let limit = lookup.max.clamp(1, PAGE_MAX) as usize;
    // One more than asked for tells whether there is a next page.
    let rows = limit as i64 + 1;
    let mut values = vec![
        Param::from(&lookup.account),
        Param::from(&lookup.region),
        Param::from(start),
        Param::from(end),
        Param::from(time),
        Param::from(id),
        Param::from(rows),
    ];
    let (sql, value) = statement(lookup.filter.as_ref());
    values.extend(value);
    let mut records: Vec<Found> =
        tx.query(&sql, &values)?.iter().map(read_found).collect::<Result<_>>()?;
    let span = Span {
        account: &lookup.account,
        region: &lookup.region,
        category: Category::Management,
        start,
        end,
        before: (time, id),
        filter: lookup.filter.as_ref(),
    };
    let bundled = bundle::find(tx, &span, limit + 1)?;
    if !bundled.is_empty() {
        records.extend(bundled.into_iter().map(found));
        records.sort_by(|a, b| (b.time, &b.event_id).cmp(&(a.time, &a.event_id)));
    }
    let more = records.len() > limit;
    records.truncate(limit);
    let last = if more { records.last() } else { None };
    let next = last.map(|found| Cursor { time: found.time, event_id: found.event_id.clone() });
    Ok(Page { records, next })
}

/// The query for a filter, and the filter's value as `$8`.
fn statement(filter: Option<&Filter>) -> (String, Option<Param>) {
    let text = |value: &String| Some(Param::from(value));
    let (column, value) = match filter {
        None => (None, None),
        Some(Filter::EventId(id)) => (Some("event_id"), text(id)),
        Some(Filter::EventName(name)) => (Some("event_name"), text(name)),
        Some(Filter::EventSource(source)) => (Some("event_source"), text(source)),
        Some(Filter::Username(name)) => (Some("username"), text(name)),
        Some(Filter::AccessKeyId(id)) => (Some("access_key_id"), text(id)),
        Some(Filter::ReadOnly(read_only)) => (Some("read_only"), Some(Param::from(*read_only))),
        Some(Filter::ResourceName(name)) => return (by_resource("name"), text(name)),
        Some(Filter::ResourceType(kind)) => return (by_resource("type"), text(kind)),
    };
    let filtered = column.map_or(String::new(), |column| format!("AND e.{column} = $8"));
    let sql = format!(
        "SELECT {COLUMNS} FROM events_records e
         WHERE e.account_id = $1 AND e.region = $2 AND e.time_ms >= $3 AND e.time_ms <= $4
           AND (e.time_ms, e.event_id) < ($5, $6) AND e.category = 'Management' {filtered}
         ORDER BY e.time_ms DESC, e.event_id DESC LIMIT $7"
    );
    (sql, value)
}

/// Two resources of one call may share a type, so their calls are found first, each once.
fn by_resource(column: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM (
             SELECT DISTINCT time_ms, event_id FROM events_resources
             WHERE account_id = $1 AND region = $2 AND {column} = $8 AND time_ms >= $3 AND time_ms <= $4
               AND (time_ms, event_id) < ($5, $6)
             ORDER BY time_ms DESC, event_id DESC LIMIT $7) r
         JOIN events_records e ON e.account_id = $1 AND e.region = $2
           AND e.time_ms = r.time_ms AND e.event_id = r.event_id
         ORDER BY e.time_ms DESC, e.event_id DESC"
    )
}

const COLUMNS: &str = "e.time_ms, e.event_id, e.event_source, e.event_name, e.username, e.access_key_id, e.read_only, e.record";

fn read_found(row: &Row) -> Result<Found> {
    let event_id: String = row.get(1)?;
    let text: String = row.get(7)?;
    let record: Record = serde_json::from_str(&text).map_err(|source| Error::Damaged {
        what: "record",
        id: event_id.clone(),
        source,
    })?;
    Ok(Found {
        event_id,
        event_name: row.get(3)?,
        event_source: row.get(2)?,
        time: row.get(0)?,
        username: row.get(4)?,
        access_key_id: row.get(5)?,
        read_only: row.get(6)?,
        resources: record.resources().to_vec(),
        record: record.without_decisions().to_json(),
    })
}

/// A record of a bundle, as its row would have been found.
fn found(record: Record) -> Found {
    let identity = record.identity();
    Found {
        event_id: record.event_id().to_owned(),
        event_name: record.event_name().to_owned(),
        event_source: record.event_source().to_owned(),
        time: record.time(),
        username: identity.username().map(str::to_owned),
        access_key_id: identity.access_key().map(str::to_owned),
        read_only: record.is_read_only(),
        resources: record.resources().to_vec(),
        record: record.without_decisions().to_json(),
    }
}
