//! `strongroom trail`: the audit trail for people.

use crate::admin::{self, Request, TrailQuery};
use crate::args::TrailOptions;
use crate::exit::Failure;
use serde_json::Value;
use std::io::Write;
use std::path::Path;

pub(crate) fn run(options: &TrailOptions) -> Result<(), Failure> {
    let query = TrailQuery {
        account: options.account.as_ref().map(ToString::to_string),
        region: options.region.as_ref().map(ToString::to_string),
        event: options.event.clone(),
        failed: options.failed,
        limit: options.limit,
    };
    let records = fetch(&options.data_dir, query)?;
    if options.json {
        let mut out = std::io::stdout().lock();
        for record in &records {
            writeln!(out, "{record}")?;
        }
        return Ok(());
    }
    print(&records, "")
}

/// Asks the server for records, oldest first.
pub(crate) fn fetch(data_dir: &Path, query: TrailQuery) -> Result<Vec<Value>, Failure> {
    admin::read(admin::ask(data_dir, &Request::Trail(query))?)
}

/// Prints records, a line each; a refused one with its reason on the next.
pub(crate) fn print(records: &[Value], indent: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for record in records {
        writeln!(out, "{indent}{}", line(record))?;
        if let Some(message) = record["errorMessage"].as_str() {
            writeln!(out, "{indent}    {message}")?;
        }
    }
    Ok(())
}

fn line(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut line = format!(
        "{}  {:<14} {:<34} {}",
        text(&record["eventTime"]),
        text(&record["awsRegion"]),
        format!("{}:{}", service(record), text(&record["eventName"])),
        who(&record["userIdentity"]),
    );
    let context = &record["requestParameters"]["encryptionContext"];
    if let Some(id) = context["aws:ebs:id"].as_str() {
        line.push_str(&format!("  aws:ebs:id={id}"));
    }
    match record["errorCode"].as_str() {
        Some(code) => line.push_str(&format!("  {code}")),
        None => line.push_str("  ok"),
    }
    line
}

fn service(record: &Value) -> String {
    let source = record["eventSource"].as_str().unwrap_or_default();
    source.split('.').next().unwrap_or_default().to_owned()
}

/// The caller, and the service that spoke for it.
fn who(identity: &Value) -> String {
    let name = ["arn", "principalId", "invokedBy"].iter().find_map(|key| identity[*key].as_str());
    let name = name.unwrap_or_default();
    match identity["invokedBy"].as_str() {
        Some(service) if service != name => format!("{name} via {service}"),
        _ => name.to_owned(),
    }
}
