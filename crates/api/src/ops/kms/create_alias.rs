//! `kms:CreateAlias`: gives a key a name. Needs permission on the name and on the key (spec 20, A.3).

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, alias};

pub(crate) struct CreateAlias;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    alias_name: String,
    target_key_id: String,
}

pub(crate) struct Plan {
    name: String,
    target: Target,
    alias: Ask,
}

impl Operation for CreateAlias {
    const SPEC: Spec = Spec::mutates(Service::Kms, "CreateAlias");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let name = input.alias_name;
        alias::check_name(&name)?;
        let action = Action::CreateAlias;
        let named = Named { action, key_id: &input.target_key_id, facts: Facts::None };
        let target = shared::target(call, named).await?;
        let arn = alias::arn(call.account(), &call.region, &name);
        let alias = Ask::on(action.iam_name(), &arn, call.account()).with(shared::context(call));
        Ok(Plan { name, target, alias })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.alias.clone(), plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { name, target, .. } = plan.into_inner();
        shared::change(call, Action::CreateAlias, target.key, move |kms, tx, key| {
            kms.create_alias(tx, &name, key)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn bad_and_taken_names_are_refused() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = &created["KeyMetadata"]["KeyId"];
        let create =
            |name: &str| run::<CreateAlias>(&call, json!({"AliasName": name, "TargetKeyId": id}));
        create("alias/a").await.expect("allowed");
        for (name, code) in [
            ("alias/a", "AlreadyExistsException"),
            ("alias/aws/x", "InvalidAliasNameException"),
            ("a", "InvalidAliasNameException"),
        ] {
            assert_eq!(create(name).await.expect_err("refused").code(), code, "{name}");
        }
        let by_alias = json!({"AliasName": "alias/b", "TargetKeyId": "alias/a"});
        let error = run::<CreateAlias>(&call, by_alias).await.expect_err("refused");
        assert_eq!(error.0.message, "Invalid keyId 'alias/a'");
    }
}
