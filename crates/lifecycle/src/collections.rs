//! What collections did: a line for each, kept for whoever runs the server.

use crate::workflow::collect::Scope;
use base::{Region, Timestamp};
use meta::{Migration, Result, Tx, params};
use serde::{Deserialize, Serialize};

/// Lines kept of a region.
const LINES_MAX: i64 = 500;

pub(crate) const MIGRATION: Migration = Migration {
    name: "lifecycle-collections",
    sql: "
        CREATE TABLE lifecycle_collections (
            region TEXT NOT NULL, number BIGINT NOT NULL, scope TEXT NOT NULL,
            started_ms BIGINT NOT NULL, ended_ms BIGINT NOT NULL, report TEXT NOT NULL,
            PRIMARY KEY (region, number));",
};

/// A collection that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Line {
    /// Where.
    pub region: String,
    /// Counts the region's collections.
    pub number: i64,
    /// Whether it looked everywhere.
    pub scope: String,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: i64,
    /// What it did.
    pub report: Figures,
}

/// What a collection did, and why it did not do more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Figures {
    /// Deleted snapshots and bases that were compared with what is left.
    pub roots_compared: u64,
    /// Packs in which those had something to themselves.
    pub packs_nominated: u64,
    /// Packs deleted.
    pub packs_deleted: u64,
    /// Packs rewritten without what is unused.
    pub packs_rewritten: u64,
    /// Bytes given back by both.
    pub bytes_reclaimed: u64,
    /// Packs that are unused in whole or in part and wait.
    pub packs_condemned: u64,
    /// Packs left as they are because something could not be read or written.
    pub packs_postponed: u64,
    /// Why a store was not looked through, the first if there are several. The others were.
    pub error: Option<String>,
}

/// Keeps a line.
pub(crate) fn record(
    tx: &mut Tx<'_>,
    region: &Region,
    scope: Scope,
    (started, ended): (Timestamp, Timestamp),
    figures: &Figures,
) -> Result<()> {
    let last = tx.query_opt(
        "SELECT number FROM lifecycle_collections WHERE region = $1 ORDER BY number DESC LIMIT 1",
        params![region],
    )?;
    let number: i64 = last.map(|row| row.get(0)).transpose()?.unwrap_or(0) + 1;
    let report = serde_json::to_string(figures).expect("figures are JSON");
    tx.execute(
        "INSERT INTO lifecycle_collections (region, number, scope, started_ms, ended_ms, report) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        params![region, number, scope.as_str(), started, ended, report],
    )?;
    tx.execute(
        "DELETE FROM lifecycle_collections WHERE region = $1 AND number <= $2",
        params![region, number - LINES_MAX],
    )?;
    Ok(())
}

/// The latest collections of a region, newest first.
///
/// # Errors
/// When the database fails or holds something else.
pub fn latest(tx: &mut Tx<'_>, region: &Region, limit: u32) -> Result<Vec<Line>> {
    let sql = format!(
        "SELECT number, scope, started_ms, ended_ms, report FROM lifecycle_collections \
         WHERE region = $1 ORDER BY number DESC LIMIT {limit}"
    );
    let rows = tx.query(&sql, params![region])?;
    let line = |row: &meta::Row| {
        let report: String = row.get(4)?;
        let report = serde_json::from_str(&report)
            .map_err(|error| meta::Error::Corrupt { detail: error.to_string() })?;
        Ok(Line {
            region: region.to_string(),
            number: row.get(0)?,
            scope: row.get(1)?,
            started_ms: row.get(2)?,
            ended_ms: row.get(3)?,
            report,
        })
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fuzz::target!(
        /// Reports are written as they are read.
        reports,
        vec![
            br#"{"RootsCompared":1,"PacksNominated":2,"PacksDeleted":3,"PacksRewritten":4,
                "BytesReclaimed":5,"PacksCondemned":6,"PacksPostponed":7,"Error":"why"}"#
                .to_vec(),
        ],
        |bytes: &[u8]| {
            let Ok(read) = serde_json::from_slice::<Figures>(bytes) else { return };
            let written = serde_json::to_vec(&read).expect("plain data");
            assert_eq!(serde_json::from_slice::<Figures>(&written).ok(), Some(read));
        }
    );
}
