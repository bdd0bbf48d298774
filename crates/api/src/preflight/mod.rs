//! What a request would lead to, decided with the policies in force and without doing it.
//!
//! Operations served here are rehearsed ([`crate::rehearsal`]). For those that are not, the table of
//! implied calls (`implied.json`, as observed on AWS) says what AWS would ask; it names no key, so
//! nothing of it is decided.

pub(crate) mod table;
#[cfg(test)]
mod tests;
mod text;

use crate::call::Call;
use crate::decided::{Decided, Mode};
use crate::error::Error;
use crate::explain::View;
use crate::explain::story::{DecisionStory, RuleStory};
use crate::rehearsal::{Ending, Judged, Need, Rehearsal, Step, When};
use crate::{Service, registry};
use base::AccountId;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::sync::Arc;

/// The version of the document.
const VERSION: u8 = 1;

/// Every decision a request would lead to, and how it would end.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preflight {
    pub(crate) version: u8,
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) region: String,
    pub(crate) enforcement: Mode,
    /// Whether the request and everything it leads to would be allowed; absent when that was not
    /// decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) allowed: Option<bool>,
    /// Of an operation that is not served here: its name, why, and what to ask about in its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) not_served: Option<String>,
    /// How it would fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ending: Option<EndingStory>,
    pub(crate) steps: Vec<StepStory>,
}

/// How a request would fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndingStory {
    /// `sync` or `async`.
    pub(crate) when: String,
    /// The error's code, or `error`.
    pub(crate) code: String,
    /// The error's message, or what is seen later.
    pub(crate) message: String,
    /// The rule that would refuse it, when it is no policy's and no key's.
    #[serde(flatten)]
    pub(crate) rule: Option<RuleStory>,
}

/// One decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StepStory {
    /// From one, in the order of execution.
    pub(crate) step: usize,
    pub(crate) service: String,
    pub(crate) operation: String,
    /// `sync` or `async`.
    pub(crate) when: String,
    /// Whether execution takes it under this server's enforcement.
    pub(crate) required: bool,
    /// `decided`, or `table` when only the table of implied calls says so.
    pub(crate) source: String,
    /// Who would ask: an ARN, or a service.
    pub(crate) who: String,
    /// The service that would speak for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<String>,
    /// `allowed`, `denied`, `failed` or `unknown`.
    pub(crate) verdict: String,
    pub(crate) action: String,
    /// The resource; of a table's row the role of the key.
    pub(crate) resource: String,
    /// The decision; absent of a table's row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) decision: Option<DecisionStory>,
    /// What stopped it besides policies, or what is known of a row that was not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// What a failure looks like.
    pub(crate) looks: String,
}

/// What a preflight is asked about.
pub(crate) struct Wanted {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) parameters: Json,
}

/// Rehearses a request in the caller's name.
///
/// # Errors
/// Only what kept it from being rehearsed; a denial is part of the answer.
pub(crate) async fn preflight(call: &Call, wanted: Wanted) -> Result<Preflight, Error> {
    let Wanted { service, operation, parameters } = wanted;
    let served = Service::from_signing_name(&service)
        .and_then(|service| registry::find(service, &operation));
    let Some(served) = served else {
        return table::planned(call, &service, &operation);
    };
    let input = awsproto::from_json(served.info().input, parameters)
        .map_err(|error| Error::from(error.into_error(served.info().protocol)))?;
    rehearse(call, served, input).await
}

/// Rehearses a request that was read already.
///
/// # Errors
/// As [`preflight`].
pub(crate) async fn rehearse(
    call: &Call,
    served: &'static dyn registry::AnyOperation,
    input: awsproto::Value,
) -> Result<Preflight, Error> {
    let rehearsal = Arc::new(Rehearsal::default());
    let mut rehearsing = call.fork(call.caller.clone());
    rehearsing.rehearsal = Some(Arc::clone(&rehearsal));
    let outcome = served.run(&rehearsing, input).await;
    let (steps, later) = rehearsal.take();
    let ending = match outcome {
        Ok(_) => later,
        Err(error) if error.code().starts_with("DryRunOperation") => later,
        Err(error) if error.0.spec.fault == awsproto::Fault::Receiver => return Err(error),
        Err(error) => {
            let (code, message) = (error.code().to_owned(), without_blob(&error.0.message));
            let refusal = error.refusal().cloned();
            Some(Ending { when: When::Sync, code, message, refusal })
        }
    };
    let spec = served.spec();
    let view = View::of(call, resources(&steps, call.account())).await?;
    let stories = stories(&steps, &view);
    Ok(Preflight {
        version: VERSION,
        service: spec.service.info().name.to_owned(),
        operation: spec.name.to_owned(),
        region: call.region.to_string(),
        enforcement: mode(call),
        allowed: Some(ending.is_none()),
        not_served: None,
        ending: ending.map(|ending| EndingStory {
            when: when(ending.when).to_owned(),
            code: ending.code,
            message: ending.message,
            rule: ending.refusal.as_ref().map(RuleStory::of),
        }),
        steps: stories,
    })
}

/// A preflight records no decision, so its sentence carries no sealed one.
fn without_blob(message: &str) -> String {
    let end = message.find(" Encoded authorization failure message:");
    message[..end.unwrap_or(message.len())].to_owned()
}

fn mode(call: &Call) -> Mode {
    crate::decided::Decisions::of(call).mode
}

fn when(when: When) -> &'static str {
    match when {
        When::Sync => "sync",
        When::Async => "async",
    }
}

fn resources(steps: &[Step], own: &AccountId) -> Vec<String> {
    let asks = steps.iter().flat_map(|step| match &step.judged {
        Judged::Decided { decisions, .. } => decisions.asks.as_slice(),
        Judged::Planned { .. } => &[],
    });
    asks.filter(|ask| ask.account.as_ref() == Some(own)).map(|ask| ask.resource.clone()).collect()
}

fn stories(steps: &[Step], view: &View) -> Vec<StepStory> {
    let mut stories = Vec::new();
    for step in steps {
        match &step.judged {
            Judged::Decided { decisions, problem } => {
                let last = decisions.asks.len();
                for (index, decided) in decisions.asks.iter().enumerate() {
                    let problem = problem.as_ref().filter(|_| index + 1 == last);
                    let caller = &decisions.principal.account;
                    let decision = DecisionStory::of("preflight".to_owned(), decided, caller, view);
                    let via = decisions.origin.via_service.clone();
                    let mut story = story(step, decided, problem, decision);
                    (story.who, story.via) = (decisions.principal.arn.clone(), via);
                    stories.push(story);
                }
            }
            Judged::Planned { resource, why } => stories.push(StepStory {
                verdict: "allowed".to_owned(),
                action: format!("{}:{}", step.service.info().name, step.operation),
                resource: resource.clone(),
                source: "table".to_owned(),
                note: Some((*why).to_owned()),
                ..blank(step)
            }),
        }
    }
    for (index, story) in stories.iter_mut().enumerate() {
        story.step = index + 1;
    }
    stories
}

fn story(
    step: &Step,
    decided: &Decided,
    problem: Option<&(String, String)>,
    decision: DecisionStory,
) -> StepStory {
    let verdict = match (decided.allowed, problem) {
        (false, _) => "denied",
        (true, Some(_)) => "failed",
        (true, None) => "allowed",
    };
    StepStory {
        verdict: verdict.to_owned(),
        action: decided.action.clone(),
        resource: decided.resource.clone(),
        decision: Some(decision),
        note: problem.map(|(code, message)| format!("{code}: {message}")),
        ..blank(step)
    }
}

fn blank(step: &Step) -> StepStory {
    StepStory {
        step: 0,
        service: step.service.info().name.to_owned(),
        operation: step.operation.to_owned(),
        when: when(step.when).to_owned(),
        required: step.need == Need::Required,
        source: "decided".to_owned(),
        who: String::new(),
        via: None,
        verdict: String::new(),
        action: String::new(),
        resource: String::new(),
        decision: None,
        note: None,
        looks: match (step.need, step.looks) {
            (Need::Documented, _) => "nothing under this server's enforcement".to_owned(),
            (Need::Required, "") => "the request is refused".to_owned(),
            (Need::Required, looks) => looks.to_owned(),
        },
    }
}
