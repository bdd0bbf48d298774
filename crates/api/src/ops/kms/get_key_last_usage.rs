//! `kms:GetKeyLastUsage`: when a key was last used, and for what. Uses are written down once a minute; what another
//! server of the same database saw within the last minute is not known here.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use kms::Action;
use kms::condition::Facts;
use kms::usage::{self, Use, UsedKey};

pub(crate) struct GetKeyLastUsage;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    key_last_usage: KeyLastUsage,
    tracking_start_date: Timestamp,
    key_creation_date: Timestamp,
}

/// `KeyLastUsage`; empty when the key was not used since uses are noted.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct KeyLastUsage {
    operation: Option<String>,
    timestamp: Option<Timestamp>,
    cloud_trail_event_id: Option<String>,
    kms_request_id: Option<String>,
}

impl From<Option<Use>> for KeyLastUsage {
    fn from(used: Option<Use>) -> Self {
        let Some(Use { operation, at, event_id, request_id }) = used else {
            return Self {
                operation: None,
                timestamp: None,
                cloud_trail_event_id: None,
                kms_request_id: None,
            };
        };
        Self {
            operation: Some(operation),
            timestamp: Some(at),
            cloud_trail_event_id: Some(event_id),
            kms_request_id: Some(request_id),
        }
    }
}

impl Operation for GetKeyLastUsage {
    const SPEC: Spec = Spec::reads(Service::Kms, "GetKeyLastUsage");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let action = Action::GetKeyLastUsage;
        shared::target(call, Named { action, key_id: &input.key_id, facts: Facts::None }).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        let noted = call.world.key_uses.of(&UsedKey::from(&key));
        shared::read(call, move |_, tx, _| {
            let key = shared::usable(tx, Action::GetKeyLastUsage, &key)?;
            let written = usage::written(tx, &key)?;
            let last = [written, noted.clone()].into_iter().flatten().max_by_key(|used| used.at);
            Ok(Output {
                key_id: key.arn().to_string(),
                key_last_usage: last.into(),
                tracking_start_date: usage::tracked_since(tx, &key)?,
                key_creation_date: key.created,
            })
        })
        .await
    }
}
