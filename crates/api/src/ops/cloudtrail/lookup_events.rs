//! `cloudtrail:LookupEvents`: finds management events of the last 90 days.

use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape, string_enum};
use base::Timestamp;
use events::{Cursor, Filter, Found, Lookup};

pub(crate) struct LookupEvents;

const INVALID_LOOKUP_ATTRIBUTES: ErrorSpec =
    ErrorSpec::sender("InvalidLookupAttributesException", 400);
const INVALID_MAX_RESULTS: ErrorSpec = ErrorSpec::sender("InvalidMaxResultsException", 400);
const INVALID_NEXT_TOKEN: ErrorSpec = ErrorSpec::sender("InvalidNextTokenException", 400);
const INVALID_TIME_RANGE: ErrorSpec = ErrorSpec::sender("InvalidTimeRangeException", 400);

string_enum! {
    /// What a lookup may go by.
    pub(crate) enum AttributeKey {
        /// The record's id.
        EventId = "EventId",
        /// The operation.
        EventName = "EventName",
        /// `true` or `false`.
        ReadOnly = "ReadOnly",
        /// The user's or session's name.
        Username = "Username",
        /// `AWS::KMS::Key`.
        ResourceType = "ResourceType",
        /// An ARN or id.
        ResourceName = "ResourceName",
        /// `kms.amazonaws.com`.
        EventSource = "EventSource",
        /// The signing key.
        AccessKeyId = "AccessKeyId",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct LookupAttribute {
    attribute_key: AttributeKey,
    attribute_value: String,
}

#[derive(Shape)]
#[shape(input, unsupported(EventCategory))]
pub(crate) struct Input {
    lookup_attributes: Vec<LookupAttribute>,
    start_time: Option<Timestamp>,
    end_time: Option<Timestamp>,
    max_results: Option<i32>,
    next_token: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Resource {
    resource_type: String,
    resource_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Event {
    event_id: String,
    event_name: String,
    read_only: String,
    access_key_id: Option<String>,
    event_time: Timestamp,
    event_source: String,
    username: Option<String>,
    resources: Vec<Resource>,
    cloud_trail_event: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    events: Vec<Event>,
    next_token: Option<String>,
}

impl Operation for LookupEvents {
    const SPEC: Spec = Spec::reads(Service::CloudTrail, "LookupEvents");
    type Input = Input;
    type Plan = Lookup;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Lookup, Error> {
        let default = i32::try_from(events::trail::PAGE_MAX).expect("a page fits an integer");
        let max = input.max_results.unwrap_or(default);
        if !(1..=default).contains(&max) {
            let message = format!("The value of MaxResults must be between 1 and {default}.");
            return Err(Error::new(INVALID_MAX_RESULTS, message));
        }
        if input.start_time > input.end_time && input.end_time.is_some() {
            let message = "The start time must be before the end time.";
            return Err(Error::new(INVALID_TIME_RANGE, message));
        }
        let after = input.next_token.as_deref().map(Cursor::from_token).transpose();
        let after = after.map_err(|_| {
            Error::new(INVALID_NEXT_TOKEN, "The NextToken is not one of an earlier response.")
        })?;
        Ok(Lookup {
            account: call.account().clone(),
            region: call.region.clone(),
            filter: filter(input.lookup_attributes)?,
            start: input.start_time,
            end: input.end_time,
            now: call.now,
            max: max.unsigned_abs(),
            after,
        })
    }

    fn asks(_plan: &Lookup) -> Vec<Ask> {
        vec![Ask::any("cloudtrail:LookupEvents")]
    }

    async fn act(call: &Call, plan: Granted<Lookup>) -> Result<Output, Error> {
        let lookup = plan.into_inner();
        call.world.trail.settle().await;
        let page = call.world.db.read(move |tx| events::lookup(tx, &lookup)).await?;
        Ok(Output {
            events: page.records.into_iter().map(event).collect(),
            next_token: page.next.map(|cursor| cursor.to_token()),
        })
    }
}

fn filter(mut attributes: Vec<LookupAttribute>) -> Result<Option<Filter>, Error> {
    if attributes.len() > 1 {
        // CloudTrail API, LookupEvents: "currently the list can contain only one item".
        let message = "You can specify only one lookup attribute.";
        return Err(Error::new(INVALID_LOOKUP_ATTRIBUTES, message));
    }
    let Some(LookupAttribute { attribute_key, attribute_value: value }) = attributes.pop() else {
        return Ok(None);
    };
    Ok(Some(match attribute_key {
        AttributeKey::EventId => Filter::EventId(value),
        AttributeKey::EventName => Filter::EventName(value),
        AttributeKey::Username => Filter::Username(value),
        AttributeKey::ResourceType => Filter::ResourceType(value),
        AttributeKey::ResourceName => Filter::ResourceName(value),
        AttributeKey::EventSource => Filter::EventSource(value),
        AttributeKey::AccessKeyId => Filter::AccessKeyId(value),
        AttributeKey::ReadOnly => match value.as_str() {
            "true" => Filter::ReadOnly(true),
            "false" => Filter::ReadOnly(false),
            _ => {
                let message = "The value of ReadOnly must be true or false.";
                return Err(Error::new(INVALID_LOOKUP_ATTRIBUTES, message));
            }
        },
    }))
}

fn event(found: Found) -> Event {
    Event {
        event_id: found.event_id,
        event_name: found.event_name,
        read_only: found.read_only.to_string(),
        access_key_id: found.access_key_id,
        event_time: found.time,
        event_source: found.event_source,
        username: found.username,
        resources: found
            .resources
            .into_iter()
            .map(|resource| Resource { resource_type: resource.kind, resource_name: resource.arn })
            .collect(),
        cloud_trail_event: found.record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::sts::get_caller_identity::GetCallerIdentity;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn every_call_is_found_newest_first() {
        let bench = bench().await;
        let call = |seconds| {
            bench.clock.advance_seconds(seconds);
            bench.root(&account(1), "us-east-1")
        };
        for _ in 0..3 {
            run::<GetCallerIdentity>(&call(1), json!({})).await.expect("allowed");
        }
        let input = json!({
            "LookupAttributes": [
                {"AttributeKey": "EventName", "AttributeValue": "GetCallerIdentity"}
            ],
            "MaxResults": 2,
        });
        let page = run::<LookupEvents>(&call(1), input).await.expect("allowed");
        assert_eq!(page["Events"].as_array().map(Vec::len), Some(2));
        let newest = page["Events"][0]["CloudTrailEvent"].as_str().expect("a record");
        let record: serde_json::Value = serde_json::from_str(newest).expect("JSON");
        assert_eq!(record["eventName"], "GetCallerIdentity");
        assert_eq!(record["userIdentity"]["type"], "Root");
        assert_eq!(record["eventTime"], "2026-01-01T00:00:03Z");

        let input = json!({"NextToken": page["NextToken"], "MaxResults": 2, "LookupAttributes": [
            {"AttributeKey": "EventName", "AttributeValue": "GetCallerIdentity"}]});
        let rest = run::<LookupEvents>(&call(1), input).await.expect("allowed");
        assert_eq!(rest["Events"].as_array().map(Vec::len), Some(1));
        assert!(rest.get("NextToken").is_none());

        let other = bench.root(&account(2), "us-east-1");
        let none = run::<LookupEvents>(&other, json!({})).await.expect("allowed");
        assert_eq!(none["Events"], json!([]));
    }

    #[tokio::test]
    async fn refusals_are_recorded_too() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let refused = run::<LookupEvents>(&call, json!({"MaxResults": 51})).await;
        assert_eq!(refused.expect_err("too many").code(), "InvalidMaxResultsException");
        let page = run::<LookupEvents>(&call, json!({})).await.expect("allowed");
        let record = page["Events"][0]["CloudTrailEvent"].as_str().expect("a record");
        assert!(record.contains(r#""errorCode":"InvalidMaxResultsException""#), "{record}");
    }
}
