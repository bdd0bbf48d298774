//! `admin initializations`: how far volumes are filled from their snapshots. AWS's API says only whether
//! they are.

use super::handlers::{sentence, served};
use super::read;
use crate::exit::Failure;
use api::World;
use base::Timestamp;
use ebs::foreign_base::{self, ForeignBase};
use ebs::{Initialization, initialization};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;

/// A line of `initializations --json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InitializationLine {
    account_id: String,
    volume_id: String,
    /// Percent of the snapshot's blocks.
    progress: u32,
    /// The `VolumeInitializationRate` that was asked for, in MiB/s.
    rate_mib: Option<u32>,
    started_ms: i64,
    /// Why it stands still: the key of a snapshot under another key cannot be used at present, or the
    /// snapshot is damaged. It is tried again.
    waits_for: Option<String>,
    /// Why it will never be filled: it was tried too often.
    given_up: Option<String>,
}

/// Answers the request.
pub(super) async fn list(world: &Arc<World>, region: &str) -> Result<Value, String> {
    let region = served(world, region)?;
    let found = world.db.read(move |tx| {
        let under_way = initialization::under_way(tx, &region)?.into_iter();
        let lines = under_way.map(|row| {
            let foreign = foreign_base::get(tx, &region, &row.volume)?;
            Ok::<_, ebs::Error>(line(row, foreign))
        });
        lines.collect::<Result<Vec<_>, _>>()
    });
    serde_json::to_value(found.await.map_err(sentence)?).map_err(sentence)
}

fn line(row: Initialization, foreign: Option<ForeignBase>) -> InitializationLine {
    let of_base = foreign.and_then(|base| base.waits_for);
    InitializationLine {
        account_id: row.account.to_string(),
        volume_id: row.volume.to_string(),
        progress: row.progress,
        rate_mib: row.rate_mib,
        started_ms: row.started.0,
        waits_for: of_base.or(row.waits_for),
        given_up: row.given_up,
    }
}

/// Prints an answer, a line for each volume.
pub(super) fn print(out: &mut dyn Write, value: Value) -> Result<(), Failure> {
    let lines: Vec<InitializationLine> = read(value)?;
    for line in &lines {
        let InitializationLine { account_id, volume_id, progress, rate_mib, .. } = line;
        let since = Timestamp(line.started_ms).iso_millis();
        write!(out, "{since}  {account_id}  {volume_id:21}  {progress:3} %")?;
        if let Some(rate) = rate_mib {
            write!(out, "  at {rate} MiB/s")?;
        }
        if let Some(cause) = &line.waits_for {
            write!(out, "  waits: {cause}")?;
        }
        if let Some(cause) = &line.given_up {
            write!(out, "  given up: {cause}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}
