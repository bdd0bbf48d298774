//! `kms:ListKeyPolicies`: the names of a key's policies, of which there is one.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, policy};

pub(crate) struct ListKeyPolicies;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    limit: Option<i32>,
    marker: Option<String>,
}

#[derive(Shape)]
#[shape(output, omitted(NextMarker))]
pub(crate) struct Output {
    policy_names: Vec<&'static str>,
    truncated: bool,
}

impl Operation for ListKeyPolicies {
    const SPEC: Spec = Spec::reads(Service::Kms, "ListKeyPolicies");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        shared::check_limit(input.limit)?;
        if input.marker.is_some() {
            // A list of one is never continued, so no marker was ever given out.
            // The model lists no InvalidMarkerException here, unlike for the other lists.
            let message = kms::Error::InvalidMarker.to_string();
            return Err(kms::Error::Validation { message }.into());
        }
        let action = Action::ListKeyPolicies;
        let named = Named { action, key_id: &input.key_id, facts: Facts::None };
        shared::target(call, named).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        shared::read(call, move |_, tx, _| {
            shared::usable(tx, Action::ListKeyPolicies, &key).map(drop)
        })
        .await?;
        Ok(Output { policy_names: vec![policy::POLICY_NAME], truncated: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn there_is_one() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = &created["KeyMetadata"]["KeyId"];
        let reply = run::<ListKeyPolicies>(&call, json!({"KeyId": id})).await.expect("allowed");
        assert_eq!(reply, json!({"PolicyNames": ["default"], "Truncated": false}));
        let marked = run::<ListKeyPolicies>(&call, json!({"KeyId": id, "Marker": "x"})).await;
        assert_eq!(marked.expect_err("refused").code(), "ValidationException");
    }
}
