//! The explanation for people.

use super::story::{CallStory, Considered, DecisionStory, Explanation, GrantStory, RuleStory};
use crate::decided::Mode;
use iam::{Effect, Mismatch, Outcome};
use kms::guard::GrantMismatch;
use std::fmt::{self, Display, Formatter};

/// Statements that are told of one decision; all are in the document.
const TOLD_MAX: usize = 6;

impl Display for Explanation {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (index, call) in self.calls.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{call}")?;
        }
        Ok(())
    }
}

impl Display for CallStory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { service, operation, time, region, .. } = self;
        let verdict = match (&self.failure, self.decisions.iter().any(|d| !d.allowed)) {
            (_, true) => "denied",
            (Some(_), false) => "failed",
            (None, false) => "allowed",
        };
        writeln!(f, "{service}:{operation} in {region} at {time}: {verdict}")?;
        writeln!(f, "  id       {}", self.explain_id)?;
        let via = self.via.as_ref().map(|via| format!(", via {via}")).unwrap_or_default();
        writeln!(f, "  caller   {} (account {}){via}", self.caller, self.caller_account)?;
        if let Some(request) = &self.made_for {
            writeln!(f, "  made for request {request}")?;
        }
        if let Some(mode) = self.enforcement {
            let mode = match mode {
                Mode::Native => "native",
                Mode::Documented => "documented",
            };
            writeln!(f, "  mode     {mode}")?;
        }
        for decision in &self.decisions {
            write!(f, "{decision}")?;
        }
        if let Some(failure) = &self.failure {
            let message = match failure.message.is_empty() {
                true => String::new(),
                false => format!(": {}", failure.message),
            };
            writeln!(f, "  outcome  {}{message}", failure.code)?;
            if failure.layer != "policy" {
                writeln!(f, "  layer    {}: no policy denied the call", failure.layer)?;
            }
            if let Some(rule) = &failure.rule {
                write!(f, "{rule}")?;
            }
        }
        if let Some(foreseen) = &self.foreseen {
            writeln!(f, "  later    {}", foreseen.looks)?;
            writeln!(f, "  layer    {}: no policy denied the call", foreseen.layer)?;
            write!(f, "{}", foreseen.rule)?;
        }
        Ok(())
    }
}

impl Display for RuleStory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  wanted   {}", self.wanted)?;
        writeln!(f, "  found    {}", self.found)?;
        writeln!(f, "  remedy   {}", self.remedy)
    }
}

impl Display for DecisionStory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let verdict = if self.allowed { "allowed" } else { "DENIED" };
        let Self { action, resource, resource_account, layer, why, .. } = self;
        writeln!(f, "  {verdict}  {action}")?;
        if resource != "*" {
            writeln!(f, "    on     {resource} (account {resource_account})")?;
        }
        writeln!(f, "    layer  {layer}")?;
        writeln!(f, "    why    {why}")?;
        for considered in self.considered.iter().take(TOLD_MAX) {
            writeln!(f, "           {considered}")?;
        }
        let more = self.considered.len().saturating_sub(TOLD_MAX);
        if more > 0 {
            writeln!(f, "           and {more} more statements, in --output json")?;
        }
        for grant in &self.grants {
            writeln!(f, "           {grant}")?;
        }
        match &self.remedy {
            Some(remedy) => writeln!(f, "    remedy {remedy}"),
            None => Ok(()),
        }
    }
}

impl Display for Considered {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let sid = self.sid.as_ref().map(|sid| format!(" {sid:?}")).unwrap_or_default();
        let effect = match self.effect {
            Effect::Allow => "Allow",
            Effect::Deny => "Deny",
        };
        let Self { layer, policy, index, .. } = self;
        write!(f, "{layer} {policy}, {effect} statement {}{sid}: ", index + 1)?;
        match &self.outcome {
            Outcome::Applies(_) => write!(f, "applies"),
            Outcome::Misses(mismatch) => write!(f, "{}", missed(mismatch)),
        }
    }
}

fn missed(mismatch: &Mismatch) -> String {
    let list = |values: &[String]| values.join(", ");
    match mismatch {
        Mismatch::Principal { wanted, found } => {
            format!("is for {}, the caller is {found}", list(wanted))
        }
        Mismatch::Action { wanted, found } => {
            format!("is for {}, the action is {found}", list(wanted))
        }
        Mismatch::Resource { wanted, found } => {
            format!("is for {}, the resource is {found}", list(wanted))
        }
        Mismatch::Inert { missing } => format!("has no {missing} and never applies"),
        Mismatch::Condition { operator, key, wanted, found } => {
            let found = match found {
                Some(found) => format!("it is {}", list(found)),
                None => "the request has no such key".to_owned(),
            };
            format!("wants {operator} {key} {}, {found}", list(wanted))
        }
    }
}

impl Display for GrantStory {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "grant {} ", self.grant_id)?;
        match &self.why {
            GrantMismatch::Operation { granted } => {
                let names: Vec<&str> = granted.iter().map(|operation| operation.as_str()).collect();
                write!(f, "allows {} only", names.join(", "))
            }
            GrantMismatch::Context { wanted, found } => {
                let wanted = serde_json::to_string(wanted).map_err(|_| fmt::Error)?;
                let found = serde_json::to_string(found).map_err(|_| fmt::Error)?;
                write!(f, "is for the encryption context {wanted}, the request's is {found}")
            }
            GrantMismatch::Source { wanted, found: Some(found) } => {
                write!(f, "is for requests on behalf of {wanted}, this one is for {found}")
            }
            GrantMismatch::Source { wanted, found: None } => {
                write!(
                    f,
                    "is for a service's requests on behalf of {wanted}, this one is on behalf of none"
                )
            }
            GrantMismatch::GivesMore => write!(f, "gives away less than the grant asked for"),
            GrantMismatch::OthersRetire { retiring, grantee, issuing_account } => {
                write!(f, "is retired by whom account {issuing_account} lets")?;
                let others: Vec<&str> =
                    retiring.iter().chain(grantee).map(String::as_str).collect();
                match others.is_empty() {
                    true => Ok(()),
                    false => write!(f, ", and by {}", others.join(" and ")),
                }
            }
        }
    }
}
