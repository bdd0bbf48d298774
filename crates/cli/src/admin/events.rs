//! `admin events`: what the services told the accounts' event buses, which no API serves yet.

use super::handlers::{accounts, sentence, served};
use super::read;
use crate::exit::Failure;
use api::World;
use events::{ServiceEvent, latest_events};
use serde_json::Value;
use std::io::Write;
use std::sync::Arc;

/// Answers the request: the newest events of all buses asked for, oldest of them first.
pub(super) async fn list(
    world: &Arc<World>,
    account: Option<&str>,
    region: &str,
    limit: u32,
) -> Result<Value, String> {
    let accounts = accounts(world, account).await?;
    let region = served(world, region)?;
    let read = world.db.read(move |tx| {
        let of_each = accounts.iter().map(|account| latest_events(tx, account, &region, limit));
        of_each.collect::<Result<Vec<_>, _>>()
    });
    let mut found: Vec<ServiceEvent> =
        read.await.map_err(sentence)?.into_iter().flatten().collect();
    found.sort_by(|a, b| (a.time(), a.id()).cmp(&(b.time(), b.id())));
    let skipped = found.len().saturating_sub(usize::try_from(limit).map_err(sentence)?);
    serde_json::to_value(&found[skipped..]).map_err(sentence)
}

/// Prints an answer, a line for each event; a cause on the next.
pub(super) fn print(out: &mut dyn Write, value: Value) -> Result<(), Failure> {
    let found: Vec<Value> = read(value)?;
    for event in &found {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let detail = &event["detail"];
        let what =
            detail["event"].as_str().map_or_else(|| text(&event["detail-type"]), str::to_owned);
        let about = event["resources"].as_array().into_iter().flatten().map(text);
        writeln!(
            out,
            "{}  {}  {what} {}  {}",
            text(&event["time"]),
            text(&event["account"]),
            text(&detail["result"]),
            about.collect::<Vec<_>>().join(" ")
        )?;
        match detail["cause"].as_str() {
            Some(cause) if !cause.is_empty() => writeln!(out, "    {cause}")?,
            Some(_) | None => {}
        }
    }
    Ok(())
}
