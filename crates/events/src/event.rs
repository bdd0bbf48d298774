//! Events that services send, in EventBridge's envelope, kept in the order of their time.

use crate::error::{Error, Result};
use crate::trail::Cursor;
use base::{AccountId, Region, Timestamp};
use meta::{Migration, Row, Tx, params};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The most events of one page.
pub const EVENTS_PAGE_MAX: u32 = 1000;

pub(crate) const MIGRATION: Migration = Migration {
    name: "events-002-event-log",
    sql: "
        CREATE TABLE event_log (
            account_id TEXT NOT NULL, region TEXT NOT NULL, time_ms BIGINT NOT NULL, event_id TEXT NOT NULL,
            source TEXT NOT NULL, detail_type TEXT NOT NULL, event TEXT NOT NULL,
            PRIMARY KEY (account_id, region, time_ms, event_id));",
};

/// An event in EventBridge's envelope, version 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServiceEvent {
    version: String,
    id: String,
    detail_type: String,
    source: String,
    account: AccountId,
    #[serde(with = "crate::record::iso_seconds")]
    time: Timestamp,
    region: Region,
    resources: Vec<String>,
    detail: Map<String, Value>,
}

/// Whose bus an event goes to, and when.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// A new UUID.
    pub event_id: String,
    /// The account whose bus receives it.
    pub account: AccountId,
    /// The region it happened in.
    pub region: Region,
    /// When it happened.
    pub time: Timestamp,
}

impl ServiceEvent {
    /// An event of a service: `source` is `aws.ec2`, `detail_type` is `EBS Volume Notification`.
    pub fn new(
        envelope: Envelope,
        source: &str,
        detail_type: &str,
        resources: Vec<String>,
        detail: Map<String, Value>,
    ) -> Self {
        Self {
            version: "0".to_owned(),
            id: envelope.event_id,
            detail_type: detail_type.to_owned(),
            source: source.to_owned(),
            account: envelope.account,
            time: envelope.time,
            region: envelope.region,
            resources,
            detail,
        }
    }

    /// Names the recorded decision behind a failure: our extension `detail.explain-id` (spec 21, 2).
    #[must_use]
    pub fn with_explain_id(mut self, id: &str) -> Self {
        self.detail.insert("explain-id".to_owned(), json!(id));
        self
    }

    pub(crate) fn insert_detail(&mut self, name: &str, value: Value) {
        self.detail.insert(name.to_owned(), value);
    }

    /// The event's own id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The account whose bus received it.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// When it happened.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// `aws.ec2`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// `EBS Volume Notification`.
    pub fn detail_type(&self) -> &str {
        &self.detail_type
    }

    /// What happened.
    pub fn detail(&self) -> &Map<String, Value> {
        &self.detail
    }

    /// The ARNs it is about.
    pub fn resources(&self) -> &[String] {
        &self.resources
    }

    /// The event as receivers get it.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an event has only text keys and finite numbers")
    }
}

/// Puts an event on its account's bus, in the transaction of what it tells about. The same event twice is one.
///
/// # Errors
/// When the row cannot be written.
pub fn put_event(tx: &mut Tx<'_>, event: &ServiceEvent) -> Result<()> {
    tx.execute(
        "INSERT INTO event_log (account_id, region, time_ms, event_id, source, detail_type, event)
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
        params![
            &event.account,
            &event.region,
            event.time,
            event.id(),
            event.source(),
            event.detail_type(),
            event.to_json()
        ],
    )?;
    Ok(())
}

/// The events of a bus after a cursor, oldest first, at most [`EVENTS_PAGE_MAX`]. The cursor of the last one
/// leads to the next page; an event of the same or an earlier moment may still be committed behind it, so
/// whoever must not miss one reads again from a little before.
///
/// # Errors
/// When the rows cannot be read.
pub fn list_events(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<(Cursor, ServiceEvent)>> {
    let (time, id) = after.map_or((Timestamp(i64::MIN), ""), |c| (c.time, c.event_id.as_str()));
    let rows = tx.query(
        "SELECT time_ms, event_id, event FROM event_log
         WHERE account_id = $1 AND region = $2 AND (time_ms, event_id) > ($3, $4)
         ORDER BY time_ms, event_id LIMIT $5",
        params![account, region, time, id, limit.clamp(1, EVENTS_PAGE_MAX)],
    )?;
    rows.iter().map(from_row).collect()
}

/// The newest events of a bus, oldest of them first, at most [`EVENTS_PAGE_MAX`].
///
/// # Errors
/// When the rows cannot be read.
pub fn latest_events(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    limit: u32,
) -> Result<Vec<ServiceEvent>> {
    let rows = tx.query(
        "SELECT time_ms, event_id, event FROM event_log
         WHERE account_id = $1 AND region = $2
         ORDER BY time_ms DESC, event_id DESC LIMIT $3",
        params![account, region, limit.clamp(1, EVENTS_PAGE_MAX)],
    )?;
    rows.iter().rev().map(|row| from_row(row).map(|(_, event)| event)).collect()
}

fn from_row(row: &Row) -> Result<(Cursor, ServiceEvent)> {
    let (time, event_id) = (row.get(0)?, row.get::<String>(1)?);
    let event: ServiceEvent = serde_json::from_str(&row.get::<String>(2)?)
        .map_err(|source| Error::Damaged { what: "event", id: event_id.clone(), source })?;
    Ok((Cursor { time, event_id }, ServiceEvent { time, ..event }))
}
