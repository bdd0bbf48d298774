//! `strongroom:Explain`: why a call went as it did, from what was written down when it was decided.

use crate::decided::DecisionId;
use crate::decision::EXPLAIN_ID;
use crate::error::{INTERNAL, invalid_parameter_of};
use crate::explain::story::{CallStory, decisions, resources};
use crate::explain::{Explanation, View};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape};
use base::{AccountId, Region};
use events::Record;
use serde_json::Value;

pub(crate) struct Explain;

/// Nothing of that name is kept, or nothing that the caller's account may see.
const NOT_FOUND: ErrorSpec = ErrorSpec::sender("DecisionNotFoundException", 404);
const UUID_CHARS: usize = 36;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    /// A JSON document, described in `docs/explain.md`.
    explanation: String,
    /// The same for people.
    text: String,
}

/// What is asked for.
enum Wanted {
    /// A decision, or all of a call's.
    Decision(DecisionId),
    /// A trail record of the account, or the calls of a request.
    EventOrRequest(String),
}

pub(crate) struct Plan {
    wanted: Wanted,
    /// Whether the id came sealed in an authorization message.
    sealed: bool,
}

impl Operation for Explain {
    const SPEC: Spec = Spec::reads(Service::Strongroom, "Explain");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let id = input.id.trim();
        if let Some(id) = DecisionId::parse(id) {
            return Ok(Plan { wanted: Wanted::Decision(id), sealed: false });
        }
        if id.len() == UUID_CHARS && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            return Ok(Plan { wanted: Wanted::EventOrRequest(id.to_owned()), sealed: false });
        }
        let opened = call.world.decisions.open(id).ok();
        let sealed = opened.and_then(|text| serde_json::from_str::<Value>(&text).ok());
        let id = sealed.as_ref().and_then(|sealed| sealed[EXPLAIN_ID].as_str());
        match id.and_then(DecisionId::parse) {
            Some(id) => Ok(Plan { wanted: Wanted::Decision(id), sealed: true }),
            None => Err(Error::new(
                invalid_parameter_of(Service::Strongroom),
                "The id is neither that of a decision (d-…), an event or a request, nor an encoded \
                 authorization message of this server.",
            )),
        }
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut asks = vec![Ask::any("strongroom:Explain")];
        if plan.sealed {
            asks.push(Ask::any("sts:DecodeAuthorizationMessage"));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        call.world.trail.settle().await;
        let (records, number) = match &plan.wanted {
            Wanted::Decision(id) => (of_event(call, &id.account, &id.event_id).await?, id.number),
            Wanted::EventOrRequest(id) => (of_id(call, id).await?, None),
        };
        let own = resources(&records).into_iter().filter(|(_, owner)| owner == call.account());
        let view = View::of(call, own.map(|(arn, _)| arn)).await?;
        let stories: Vec<CallStory> =
            records.iter().filter_map(|record| CallStory::of(record, number, &view)).collect();
        if stories.is_empty() {
            let message = "No decision of that name is kept, or none that concerns this account.";
            return Err(Error::new(NOT_FOUND, message));
        }
        let explanation = Explanation::of(stories);
        let text = explanation.to_string();
        let explanation = serde_json::to_string(&explanation)
            .map_err(|error| Error::from(INTERNAL.error("").with_cause(error)))?;
        Ok(Output { explanation, text })
    }
}

/// The regions in which to look, this one first.
fn regions(call: &Call) -> Vec<Region> {
    let others = call.world.regions.iter().filter(|region| **region != call.region);
    std::iter::once(&call.region).chain(others).cloned().collect()
}

/// The record of an event, with the one it is a copy of.
async fn of_event(call: &Call, account: &AccountId, event_id: &str) -> Result<Vec<Record>, Error> {
    let (account, event_id, regions) = (account.clone(), event_id.to_owned(), regions(call));
    let found = call.world.db.read(move |tx| {
        for region in &regions {
            if let Some(record) = events::stored(tx, &account, region, &event_id)? {
                return Ok::<_, events::Error>(vec![record]);
            }
        }
        Ok(Vec::new())
    });
    Ok(found.await?)
}

/// An event of the account, or the records of a request and of the calls that were made for it.
async fn of_id(call: &Call, id: &str) -> Result<Vec<Record>, Error> {
    let event = of_event(call, call.account(), id).await?;
    if let Some(record) = event.first() {
        // The owner's copy of a record leads to what was decided, in the caller's trail.
        let original = record.explain_id().and_then(DecisionId::parse);
        return match original.filter(|_| decisions(record).is_none()) {
            Some(id) => of_event(call, &id.account, &id.event_id).await,
            None => Ok(event),
        };
    }
    let (account, id, regions) = (call.account().clone(), id.to_owned(), regions(call));
    let found = call.world.db.read(move |tx| {
        let mut records = Vec::new();
        for region in &regions {
            records.extend(events::of_request(tx, &account, region, &id)?);
        }
        records.sort_by_key(Record::time);
        Ok::<_, events::Error>(records)
    });
    Ok(found.await?)
}
