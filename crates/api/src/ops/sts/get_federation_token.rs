//! `sts:GetFederationToken`: temporary credentials that a user or root takes out for somebody it knows.
//!
//! They can do what both the maker's policies and the policies given now allow; without any given,
//! nothing but what a resource's own policy allows that person.

use super::shared::{Credentials, PolicyDescriptor, TokenSize, arns, set_tags};
use crate::ops::iam::shared::{Tag, tags_in};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, code};
use base::Arn;
use iam::{Context, PrincipalKind};
use identity::session::Federate;

pub(crate) struct GetFederationToken;

#[derive(Shape)]
#[shape(input, unsupported(MinimumSessionTokenSize))]
pub(crate) struct Input {
    name: String,
    policy: Option<String>,
    policy_arns: Vec<PolicyDescriptor>,
    duration_seconds: Option<i32>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct FederatedUser {
    federated_user_id: String,
    arn: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    credentials: Credentials,
    federated_user: FederatedUser,
    packed_policy_size: Option<i32>,
    session_token_size: i32,
    session_token_utilization: i32,
}

pub(crate) struct Plan {
    request: Federate,
    asks: Vec<Ask>,
}

impl Operation for GetFederationToken {
    const SPEC: Spec = Spec::reads(Service::Sts, "GetFederationToken");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let caller = &call.caller.principal;
        let long_term = matches!(caller.kind, PrincipalKind::Root | PrincipalKind::User { .. })
            && caller.token_issue_time.is_none();
        if !long_term {
            let message = "Cannot call GetFederationToken with session credentials";
            return Err(Error::new(code::ACCESS_DENIED, message));
        }
        let request = Federate {
            name: input.name,
            duration_seconds: input.duration_seconds.map(i64::from),
            policy: input.policy,
            policy_arns: arns(input.policy_arns),
            tags: tags_in(input.tags)?,
        };
        let account = call.account();
        let arn = Arn::global("sts", account, &format!("federated-user/{}", request.name));
        let mut context = Context::new();
        set_tags(&mut context, "aws:RequestTag", &request.tags);
        let mut actions = vec!["sts:GetFederationToken"];
        if !request.tags.is_empty() {
            context.set_multi("aws:TagKeys", request.tags.keys().cloned());
            actions.push("sts:TagSession");
        }
        let ask = |action: &str| Ask::on(action, &arn, account).with(context.clone());
        Ok(Plan { asks: actions.into_iter().map(ask).collect(), request })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks.clone()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { request, .. } = plan.into_inner();
        let (identity, caller) = (call.world.identity.clone(), call.caller.principal.clone());
        let limited =
            request.policy.is_some() || !request.policy_arns.is_empty() || !request.tags.is_empty();
        let session =
            call.world.db.read(move |tx| identity.federate(tx, &caller, &request)).await?;
        let token = TokenSize::of(&session);
        Ok(Output {
            federated_user: FederatedUser {
                federated_user_id: session.principal.user_id.clone(),
                arn: session.principal.arn.clone(),
            },
            packed_policy_size: limited.then_some(token.percent),
            session_token_size: token.bytes,
            session_token_utilization: token.percent,
            credentials: Credentials::from(session),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run, run_named};
    use serde_json::{Value as Json, json};

    const MAKER: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Action":["sts:GetFederationToken","kms:*"],"Resource":"*"}}"#;
    const LIST: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Action":["kms:ListKeys","ec2:*","iam:*"],"Resource":"*"}}"#;

    /// A call with the credentials of a reply.
    async fn with(bench: &crate::testing::Bench, reply: &Json) -> Call {
        let text = |name: &str| reply["Credentials"][name].as_str().expect("a text").to_owned();
        let found = bench.world.credential(&text("AccessKeyId"), Some(&text("SessionToken"))).await;
        let Ok(credential) = found else { panic!("the credential is good") };
        let mut call = bench.call(credential.principal, "us-east-1");
        call.caller.session_policies = credential.session_policies;
        call
    }

    #[tokio::test]
    async fn a_federated_user_has_what_both_allow() {
        let bench = bench().await;
        let amy = bench.user(&account(1), "amy", MAKER).await;
        let input = json!({ "Name": "ann", "Policy": LIST });
        let reply = run::<GetFederationToken>(&amy, input).await.expect("she may");
        assert_eq!(reply["FederatedUser"]["Arn"], "arn:aws:sts::111111111111:federated-user/ann");
        assert_eq!(reply["FederatedUser"]["FederatedUserId"], "111111111111:ann");
        let ann = with(&bench, &reply).await;
        let kms = |name: &'static str| run_named(&ann, Service::Kms, name, json!({}));
        kms("ListKeys").await.expect("both allow");
        let denied = kms("CreateKey").await.expect_err("the session does not allow");
        assert!(denied.0.message.contains("no session policy allows"), "{denied}");
        let denied = run_named(&ann, Service::Ec2, "DescribeVolumes", json!({})).await;
        let denied = denied.expect_err("amy does not allow");
        assert!(denied.0.message.contains("no identity-based policy allows"), "{denied}");
        // IAM is closed to federated users, and so is STS but for one question.
        for (service, name, code) in [
            (Service::Iam, "ListUsers", "InvalidClientTokenId"),
            (Service::Sts, "GetSessionToken", "AccessDenied"),
        ] {
            let refused = run_named(&ann, service, name, json!({})).await.expect_err(name);
            assert_eq!(refused.code(), code, "{name}");
        }
        let who = run_named(&ann, Service::Sts, "GetCallerIdentity", json!({})).await;
        assert_eq!(who.expect("anyone may")["UserId"], "111111111111:ann");

        // Without a policy the session may do nothing.
        let reply =
            run::<GetFederationToken>(&amy, json!({ "Name": "bea" })).await.expect("she may");
        let bea = with(&bench, &reply).await;
        run_named(&bea, Service::Kms, "ListKeys", json!({})).await.expect_err("no policy");
        let again = run::<GetFederationToken>(&bea, json!({ "Name": "cid" })).await;
        assert_eq!(again.expect_err("a session").code(), "AccessDenied");
        let tagged = json!({ "Name": "ann", "Tags": [{ "Key": "a", "Value": "b" }] });
        let denied = run::<GetFederationToken>(&amy, tagged).await.expect_err("not allowed to tag");
        assert!(denied.0.message.contains("sts:TagSession"), "{denied}");
    }

    #[tokio::test]
    async fn a_root_takes_out_an_hour_at_most() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let input = json!({ "Name": "ann", "Policy": LIST, "DurationSeconds": 7200,
            "Tags": [{ "Key": "team", "Value": "red" }] });
        let reply = run::<GetFederationToken>(&root, input).await.expect("a root may");
        assert_eq!(reply["Credentials"]["Expiration"], "2026-01-01T01:00:00.000Z");
        let ann = with(&bench, &reply).await;
        assert_eq!(ann.caller.principal.tags["team"], "red");
        run_named(&ann, Service::Ec2, "DescribeVolumes", json!({}))
            .await
            .expect("root and session");
        run_named(&ann, Service::Kms, "CreateKey", json!({})).await.expect_err("not the session");
        for bad in ["a", &"x".repeat(33), "a b"] {
            let refused = run::<GetFederationToken>(&root, json!({ "Name": bad })).await;
            assert_eq!(refused.expect_err(bad).code(), "ValidationError");
        }
        let long = json!({ "Name": "ann", "DurationSeconds": 129_601 });
        let refused = run::<GetFederationToken>(&root, long).await.expect_err("too long");
        assert_eq!(refused.code(), "ValidationError");
    }
}
