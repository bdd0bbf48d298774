//! `strongroom:WhatIf`: what a change of a key would break, without making it.

use crate::error::{INTERNAL, invalid_parameter_of};
use crate::inquiry::what_if::{Change, what_if};
use crate::ops::kms::shared::{Named, target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use kms::condition::Facts;
use kms::{Action, Key};

pub(crate) struct WhatIf;

/// How far back decisions are taken again when nothing is said, and at most.
const DAYS_DEFAULT: i32 = 7;
const DAYS_MAX: i32 = 90;

string_enum! {
    /// The change.
    pub(crate) enum Kind {
        /// DisableKey.
        DisableKey = "disable-key",
        /// ScheduleKeyDeletion.
        ScheduleKeyDeletion = "schedule-key-deletion",
        /// PutKeyPolicy.
        PutKeyPolicy = "put-key-policy",
        /// RevokeGrant.
        RevokeGrant = "revoke-grant",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    change: Kind,
    days: Option<i32>,
    grant_id: Option<String>,
    key_id: String,
    policy: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    /// A JSON document, described in `docs/explain.md`.
    answer: String,
    /// The same for people.
    text: String,
}

pub(crate) struct Plan {
    key: Key,
    change: Change,
    days: i32,
    reads_policy: Ask,
}

impl Operation for WhatIf {
    const SPEC: Spec = Spec::reads(Service::Strongroom, "WhatIf");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let bad = |message: &str| Error::new(invalid_parameter_of(Service::Strongroom), message);
        let change = match (input.change, input.policy, input.grant_id) {
            (Kind::DisableKey, None, None) => Change::Disable,
            (Kind::ScheduleKeyDeletion, None, None) => Change::ScheduleDeletion,
            (Kind::PutKeyPolicy, Some(text), None) => Change::Policy(text),
            (Kind::RevokeGrant, None, Some(id)) => Change::Revoke(id),
            _ => {
                return Err(bad(
                    "put-key-policy takes Policy, revoke-grant takes GrantId, the others neither.",
                ));
            }
        };
        let days = input.days.unwrap_or(DAYS_DEFAULT);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(bad("Days must be between 1 and 90."));
        }
        let named =
            Named { action: Action::GetKeyPolicy, key_id: &input.key_id, facts: Facts::None };
        let found = target(call, named).await?;
        Ok(Plan { key: found.key, change, days, reads_policy: found.ask })
    }

    /// The answer tells what the key's policy says, so it takes the right to read that.
    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("strongroom:WhatIf"), plan.reads_policy.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { key, change, days, .. } = plan.into_inner();
        let since = call.now.plus_seconds(-i64::from(days) * 86_400);
        let found = what_if(call, key, change, since).await?;
        let text = found.to_string();
        let answer = serde_json::to_string(&found)
            .map_err(|error| Error(INTERNAL.error("").with_cause(error)))?;
        Ok(Output { answer, text })
    }
}
