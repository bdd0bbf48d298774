//! `strongroom policy lint`: traps in a policy that lies in a file.

use super::args::{LintKind, LintOptions};
use crate::args::Output;
use crate::exit::{EXIT_TRAPS, Failure};
use iam::lint::{Boundary, Purpose, Warning, lint};
use iam::{Policy, PolicyKind};
use std::io::Write;

pub(crate) fn run(options: &LintOptions) -> Result<(), Failure> {
    let (kind, boundary) = match options.kind {
        LintKind::Identity => (PolicyKind::Identity, Boundary::No),
        LintKind::Boundary => (PolicyKind::Identity, Boundary::Yes),
        LintKind::Key => (PolicyKind::KeyPolicy, Boundary::No),
        LintKind::Trust => (PolicyKind::Trust, Boundary::No),
    };
    let problem = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("{}: {error}", options.file.display()))
    };
    let text = std::fs::read_to_string(&options.file).map_err(|error| problem(&error))?;
    let policy = Policy::parse(&text, kind).map_err(|error| problem(&error))?;
    let warnings = lint(&policy, &Purpose { boundary, account: options.account.as_ref() });
    print(&warnings, options.output)?;
    match warnings.is_empty() {
        true => Ok(()),
        false => Err(Failure::new(EXIT_TRAPS, "")),
    }
}

fn print(warnings: &[Warning], output: Output) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match output {
        Output::Json => {
            let document = serde_json::json!({ "version": 1, "warnings": warnings });
            writeln!(out, "{document}")?;
        }
        Output::Text => {
            for warning in warnings {
                let at = match (warning.statement, &warning.sid) {
                    (Some(index), Some(sid)) => format!("statement {} {sid:?}", index + 1),
                    (Some(index), None) => format!("statement {}", index + 1),
                    (None, _) => "the policy".to_owned(),
                };
                writeln!(out, "{at}: {}: {}", warning.trap.name(), warning.message)?;
            }
        }
    }
    Ok(())
}
