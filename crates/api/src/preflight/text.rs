//! The preflight for people: one table, and under it why something would be denied.

use super::{Preflight, StepStory};
use crate::decided::Mode;
use iam::ContextValue;
use std::fmt::{self, Display, Formatter};

/// Condition keys that tell one implied call from another; the document has all.
const TELLING: [&str; 3] =
    ["kms:ViaService", "kms:GrantIsForAWSResource", "kms:EncryptionContext:"];
/// The titles of the table.
const TITLES: [&str; 7] = ["step", "when", "verdict", "action", "on", "who", "context"];

impl Display for Preflight {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mode = match self.enforcement {
            Mode::Native => "native",
            Mode::Documented => "documented",
        };
        let verdict = match self.allowed {
            Some(true) => "would succeed",
            Some(false) => "would FAIL",
            None => "is planned from the table of implied calls, nothing decided",
        };
        writeln!(f, "{}:{} in {} ({mode}) {verdict}", self.service, self.operation, self.region)?;
        if let Some(why) = &self.not_served {
            writeln!(f, "{why}")?;
        }
        let mut rows: Vec<_> = self.steps.iter().map(cells).collect();
        if !rows.is_empty() {
            rows.insert(0, TITLES.map(str::to_owned));
        }
        let widths: [usize; 7] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].len()).max().unwrap_or(0)
        });
        for row in &rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "  {}", line.trim_end())?;
        }
        for step in &self.steps {
            explain(f, step)?;
        }
        match &self.ending {
            None => Ok(()),
            Some(ending) if ending.when == "sync" => {
                writeln!(f, "It would be refused: {}: {}", ending.code, ending.message)?;
                ending.rule.as_ref().map_or(Ok(()), |rule| write!(f, "{rule}"))
            }
            Some(ending) => writeln!(f, "It would fail later: {}", ending.message),
        }
    }
}

fn cells(step: &StepStory) -> [String; 7] {
    let account = step.decision.as_ref().map(|decision| decision.resource_account.to_string());
    let on = match account {
        Some(account) if !step.resource.contains(&account) && step.resource != "*" => {
            format!("{} (account {account})", step.resource)
        }
        Some(_) | None => step.resource.clone(),
    };
    let via = step.via.as_ref().map(|via| format!(" via {via}")).unwrap_or_default();
    let needed = if step.required { "" } else { " (documented only)" };
    [
        step.step.to_string(),
        step.when.clone(),
        format!("{}{needed}", step.verdict),
        step.action.clone(),
        on,
        format!("{}{via}", step.who),
        context(step),
    ]
}

fn context(step: &StepStory) -> String {
    let Some(decision) = &step.decision else { return String::new() };
    let telling = |key: &str| TELLING.iter().any(|prefix| key.starts_with(prefix));
    let told: Vec<String> = decision
        .context
        .iter()
        .filter(|(key, _)| telling(key))
        .map(|(key, value)| match value {
            ContextValue::Single(value) => format!("{key}={value}"),
            ContextValue::Multi(values) => format!("{key}={}", values.join(",")),
        })
        .collect();
    told.join(" ")
}

fn explain(f: &mut Formatter<'_>, step: &StepStory) -> fmt::Result {
    if step.verdict == "allowed" && step.note.is_none() {
        return Ok(());
    }
    let StepStory { step: number, action, verdict, looks, .. } = step;
    match &step.decision {
        Some(decision) if verdict == "denied" => {
            writeln!(f, "step {number} {action}, layer {}: {}", decision.layer, decision.why)?;
            for considered in decision.considered.iter().take(3) {
                writeln!(f, "    {considered}")?;
            }
            for grant in decision.grants.iter().take(3) {
                writeln!(f, "    {grant}")?;
            }
            if let Some(remedy) = &decision.remedy {
                writeln!(f, "    remedy: {remedy}")?;
            }
        }
        Some(_) | None => {
            if let Some(note) = &step.note {
                writeln!(f, "step {number} {action}: {note}")?;
            }
        }
    }
    if verdict != "allowed" && !looks.is_empty() {
        writeln!(f, "    looks like: {looks}")?;
    }
    Ok(())
}
