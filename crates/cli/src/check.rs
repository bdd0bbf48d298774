//! `strongroom check`: verifies everything that is stored, through the running server, or by itself
//! when no server has the data directory.

use crate::admin::check::Pace;
use crate::admin::{self, CheckProgress, CheckRequest, Request};
use crate::args::{CheckOptions, Output};
use crate::exit::{EXIT_DAMAGED, EXIT_INCOMPLETE, EXIT_NO_SERVER, Failure};
use crate::serve;
use base::{SnapshotId, SystemClock, VolumeId};
use indicatif::{ProgressBar, ProgressStyle};
use lifecycle::check::{FindingLine, Mode, Report, Subject, Target};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// How often the progress of an offline check is shown.
const SHOW_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) fn run(options: &CheckOptions) -> Result<(), Failure> {
    let request = CheckRequest {
        target: target(options)?,
        mode: if options.repair_index { Mode::RepairIndex } else { Mode::Report },
        rate_bytes: (options.rate_mib > 0).then(|| options.rate_mib.saturating_mul(MIB)),
    };
    let bar = bar();
    let online = admin::follow(&options.data_dir, &Request::Check(request.clone()), &mut |now| {
        show(&bar, &now);
    });
    let report = match online {
        Ok(value) => admin::read(value)?,
        Err(failure) if failure.code() == EXIT_NO_SERVER => offline(options, request, &bar)?,
        Err(failure) => return Err(failure),
    };
    bar.finish_and_clear();
    match options.output {
        Output::Json => print_json(&report)?,
        Output::Text => print_text(&report)?,
    }
    outcome(&report)
}

fn target(options: &CheckOptions) -> Result<Target, Failure> {
    let Some(id) = &options.target else { return Ok(Target::All) };
    if let Ok(id) = VolumeId::parse(id) {
        return Ok(Target::Volume(id));
    }
    let id = SnapshotId::parse(id);
    id.map(Target::Snapshot).map_err(|_| Failure::failed("that is no id of a volume or snapshot"))
}

/// Checks without a server. Nobody waits for the disk, so nothing is held back.
fn offline(
    options: &CheckOptions,
    request: CheckRequest,
    bar: &ProgressBar,
) -> Result<Report, Failure> {
    serve::runtime()?.block_on(async {
        let stopped = serve::Stopped::open(options).await?;
        let pace = Arc::new(Pace::new(Arc::new(SystemClock), None));
        let work = admin::check::run(stopped.world(), request, Arc::clone(&pace));
        tokio::pin!(work);
        let mut due = tokio::time::interval(SHOW_INTERVAL);
        loop {
            tokio::select! {
                report = &mut work => return report.map_err(Failure::failed),
                _ = due.tick() => show(bar, &pace.progress()),
            }
        }
    })
}

fn bar() -> ProgressBar {
    let template = "[{bar:20}] {pos}/{len} {msg}";
    let style = ProgressStyle::with_template(template).expect("the template is constant");
    ProgressBar::new(0).with_style(style.progress_chars("=> "))
}

fn show(bar: &ProgressBar, now: &CheckProgress) {
    bar.set_length(now.total);
    bar.set_position(now.number);
    bar.set_message(format!("{} ({} MiB read)", now.id, now.bytes / MIB));
}

/// Exit codes are part of the interface; see `exit.rs`.
fn outcome(report: &Report) -> Result<(), Failure> {
    if report.damage() > 0 {
        return Err(Failure::new(EXIT_DAMAGED, ""));
    }
    if !report.is_complete() {
        return Err(Failure::new(EXIT_INCOMPLETE, ""));
    }
    Ok(())
}

fn print_json(report: &Report) -> Result<(), Failure> {
    let mut value = serde_json::to_value(report).map_err(Failure::failed)?;
    value["Damage"] = report.damage().into();
    value["Complete"] = report.is_complete().into();
    writeln!(std::io::stdout(), "{value}")?;
    Ok(())
}

fn print_text(report: &Report) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    for subject in &report.subjects {
        writeln!(out, "{}", line(subject))?;
        for finding in &subject.findings {
            writeln!(out, "    {}", finding_line(finding))?;
        }
        if subject.more_findings > 0 {
            writeln!(out, "    and {} findings more", subject.more_findings)?;
        }
    }
    for repair in &report.repairs {
        let what = if repair.done { "repaired" } else { "not repaired" };
        writeln!(out, "{what}: {}: {}", repair.place, repair.detail)?;
    }
    match (report.damage(), report.is_complete()) {
        (0, true) => writeln!(out, "everything is in order")?,
        (0, false) => writeln!(out, "nothing wrong was found, but not everything was seen")?,
        (count, _) => writeln!(out, "{count} things are wrong")?,
    }
    Ok(())
}

fn line(subject: &Subject) -> String {
    let Subject { kind, id, region, bytes, opened, compared, .. } = subject;
    let mut text = match kind.as_str() {
        "store" => format!("packs of {region}"),
        "archive" => format!("archived packs of {region}"),
        "twins" => format!("packs of twins in {region}"),
        "work" => format!("snapshots being made in {region}"),
        _ => format!("{kind} {id} in {region}"),
    };
    if *bytes > 0 {
        text.push_str(&format!(": {bytes} bytes read, {opened} opened, {compared} compared"));
    }
    if subject.unreferenced_bytes > 0 {
        text.push_str(&format!("; {} bytes that nothing names now", subject.unreferenced_bytes));
    }
    if let Some(reason) = &subject.unchecked {
        text.push_str(&format!("; not seen whole: {reason}"));
    }
    text
}

fn finding_line(finding: &FindingLine) -> String {
    let block = finding.block.map_or(String::new(), |block| format!(", block {block}"));
    let repaired = if finding.repaired { " (repaired)" } else { "" };
    format!("{} at {}{block}: {}{repaired}", finding.fault, finding.place, finding.detail)
}
