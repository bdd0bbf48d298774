//! `kms:PutKeyPolicy`: replaces a key's policy, unless that would lock its writer out.

use super::shared::{self, Named, Target};
use crate::authorize::global_context;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::key::{LockoutCheck, PolicyWriter};
use kms::{Action, policy};

pub(crate) struct PutKeyPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    policy_name: Option<String>,
    policy: String,
    #[shape(default)]
    bypass_policy_lockout_safety_check: bool,
}

pub(crate) struct Plan {
    target: Target,
    policy: String,
    lockout: LockoutCheck,
}

impl Operation for PutKeyPolicy {
    const SPEC: Spec = Spec::mutates(Service::Kms, "PutKeyPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        policy::check_name(input.policy_name.as_deref())?;
        let lockout = if input.bypass_policy_lockout_safety_check {
            LockoutCheck::Bypassed
        } else {
            LockoutCheck::Required
        };
        let facts = Facts::PutKeyPolicy(lockout);
        let named = Named { action: Action::PutKeyPolicy, key_id: &input.key_id, facts };
        Ok(Plan { target: shared::target(call, named).await?, policy: input.policy, lockout })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { target, policy, lockout } = plan.into_inner();
        let mut context = global_context(call);
        context.extend(&target.ask.context);
        let caller = call.caller.principal.clone();
        shared::change(call, Action::PutKeyPolicy, target.key, move |kms, tx, key| {
            let writer = PolicyWriter { principal: &caller, context: &context, lockout };
            kms.put_policy(tx, key, &policy, &writer)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::describe_key::DescribeKey;
    use crate::ops::kms::get_key_policy::GetKeyPolicy;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_policy_opens_a_key_to_another_account() {
        let bench = bench().await;
        let (one, two) =
            (bench.root(&account(1), "us-east-1"), bench.root(&account(2), "us-east-1"));
        let created = run::<CreateKey>(&one, json!({})).await.expect("allowed");
        let arn = &created["KeyMetadata"]["Arn"];
        let statement = |account: &str, action: &str| json!({"Effect": "Allow", "Principal": {"AWS": account}, "Action": action, "Resource": "*"});
        let policy = json!({"Version": "2012-10-17", "Statement": [
            statement("111111111111", "kms:*"), statement("222222222222", "kms:DescribeKey"),
        ]})
        .to_string();
        let describe = || run::<DescribeKey>(&two, json!({"KeyId": arn}));
        assert_eq!(describe().await.expect_err("denied").code(), "AccessDeniedException");
        run::<PutKeyPolicy>(&one, json!({"KeyId": arn, "Policy": policy})).await.expect("allowed");
        describe().await.expect("allowed now");
        let shown = run::<GetKeyPolicy>(&one, json!({"KeyId": arn})).await.expect("allowed");
        assert_eq!(shown["PolicyName"], "default");
        // An account is shown by its root, however it was written.
        let shown = shown["Policy"].as_str().expect("a text");
        let shown: serde_json::Value = serde_json::from_str(shown).expect("a document");
        let by_root = policy
            .replace("\"111111111111\"", "\"arn:aws:iam::111111111111:root\"")
            .replace("\"222222222222\"", "\"arn:aws:iam::222222222222:root\"");
        assert_eq!(shown, serde_json::from_str::<serde_json::Value>(&by_root).expect("a document"));
    }

    #[tokio::test]
    async fn what_cannot_be_saved() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = &created["KeyMetadata"]["KeyId"];
        let nobody = json!({"Version": "2012-10-17", "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111111111111:user/nobody"},
            "Action": "kms:*", "Resource": "*",
        }]})
        .to_string();
        for (input, code, message) in [
            (
                json!({"KeyId": id, "Policy": nobody}),
                "MalformedPolicyDocumentException",
                "Policy contains a statement with one or more invalid principals.",
            ),
            (
                json!({"KeyId": id, "Policy": "{}", "PolicyName": "AWS_RAM"}),
                "ValidationException",
                "The AWS_RAM policy can only be managed by the RAM service.",
            ),
            (
                json!({"KeyId": id, "Policy": "{}", "PolicyName": "other"}),
                "NotFoundException",
                "No such policy exists",
            ),
        ] {
            let error = run::<PutKeyPolicy>(&call, input).await.expect_err("refused");
            assert_eq!((error.code(), error.0.message.as_str()), (code, message));
        }
    }
}
