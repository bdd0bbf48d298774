//! `sts:AssumeRole`: temporary credentials of a role, for whom its trust policy names.
//!
//! The trust policy is mandatory. Within the role's account it suffices when it names the caller itself;
//! across accounts, and when it names a whole account, the caller's own policies have to allow as well.

use super::shared::{
    AssumedRoleUser, Credentials, PolicyDescriptor, TokenSize, arns, role_asks, role_of,
};
use crate::ops::iam::shared::{Tag, tags_in};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, code};
use base::Arn;
use iam::{Context, PrincipalKind};
use identity::role::Role;
use identity::session;

pub(crate) struct AssumeRole;

#[derive(Shape)]
#[shape(input, unsupported(SerialNumber, TokenCode, ProvidedContexts, MinimumSessionTokenSize))]
pub(crate) struct Input {
    role_arn: String,
    role_session_name: String,
    duration_seconds: Option<i32>,
    policy: Option<String>,
    policy_arns: Vec<PolicyDescriptor>,
    tags: Vec<Tag>,
    transitive_tag_keys: Vec<String>,
    external_id: Option<String>,
    source_identity: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    credentials: Credentials,
    assumed_role_user: AssumedRoleUser,
    packed_policy_size: Option<i32>,
    session_token_size: i32,
    session_token_utilization: i32,
    source_identity: Option<String>,
}

pub(crate) struct Plan {
    role: Role,
    request: session::AssumeRole,
    asks: Vec<Ask>,
}

impl Operation for AssumeRole {
    const SPEC: Spec = Spec::reads(Service::Sts, "AssumeRole");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        if call.caller.principal.kind == PrincipalKind::Root {
            let message = "Roles may not be assumed by root accounts.";
            return Err(Error::new(code::ACCESS_DENIED, message));
        }
        let Some(arn) = Arn::parse(&input.role_arn).filter(|arn| arn.service == "iam") else {
            let message = format!("{} is invalid", input.role_arn);
            return Err(Error::new(code::VALIDATION_ERROR, message));
        };
        // A role that does not exist looks like one that does not trust the caller.
        let Some((role, role_tags)) = role_of(call, &input.role_arn).await? else {
            return Err(unknown_role(call, &arn));
        };
        let mut context = Context::new();
        context.set_opt("sts:ExternalId", input.external_id.clone());
        let request = request(input)?;
        let asks = role_asks(call, ("sts:AssumeRole", context), &role, &role_tags, &request)?;
        Ok(Plan { role, request, asks })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks.clone()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role, request, .. } = plan.into_inner();
        let identity = call.world.identity.clone();
        let principal = call.caller.principal.clone();
        let limited = request.is_limited();
        let session = call
            .world
            .db
            .read(move |tx| identity.assume_role(tx, &principal, &role, &request))
            .await?;
        let token = TokenSize::of(&session);
        Ok(Output {
            assumed_role_user: AssumedRoleUser::of(&session.principal),
            packed_policy_size: limited.then_some(token.percent),
            session_token_size: token.bytes,
            session_token_utilization: token.percent,
            source_identity: session.principal.source_identity.clone(),
            credentials: Credentials::from(session),
        })
    }
}

fn unknown_role(call: &Call, arn: &Arn) -> Error {
    let caller = &call.caller.principal.arn;
    let message = format!(
        "User: {caller} is not authorized to perform: sts:AssumeRole on resource: {arn} because no \
         resource-based policy allows the sts:AssumeRole action"
    );
    Error::new(code::ACCESS_DENIED, message)
}

fn request(input: Input) -> Result<session::AssumeRole, Error> {
    Ok(session::AssumeRole {
        session_name: input.role_session_name,
        duration_seconds: input.duration_seconds.map(i64::from),
        policy: input.policy,
        policy_arns: arns(input.policy_arns),
        tags: tags_in(input.tags)?,
        transitive_tag_keys: input.transitive_tag_keys,
        source_identity: input.source_identity,
        ..session::AssumeRole::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::iam::attach_role_policy::AttachRolePolicy;
    use crate::ops::iam::create_role::CreateRole;
    use crate::ops::iam::create_user::CreateUser;
    use crate::ops::iam::delete_role::DeleteRole;
    use crate::ops::iam::detach_role_policy::DetachRolePolicy;
    use crate::ops::iam::list_users::ListUsers;
    use crate::ops::iam::put_user_policy::PutUserPolicy;
    use crate::ops::sts::get_caller_identity::GetCallerIdentity;
    use crate::ops::sts::get_session_token::GetSessionToken;
    use crate::testing::{Bench, account, bench, run};
    use iam::Principal;
    use serde_json::{Value as Json, json};

    const ROLE: &str = "arn:aws:iam::111111111111:role/dev";

    async fn role(bench: &Bench, principal: &str, condition: Json) {
        let trust = json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
            "Principal": { "AWS": principal }, "Action": ["sts:AssumeRole", "sts:TagSession",
            "sts:SetSourceIdentity"], "Condition": condition } });
        let input = json!({ "RoleName": "dev", "AssumeRolePolicyDocument": trust.to_string() });
        let root = bench.root(&account(1), "us-east-1");
        run::<CreateRole>(&root, input).await.expect("a new role");
    }

    /// A user of an account, with a policy that allows one action on the role when given.
    async fn user(bench: &Bench, digit: u8, name: &str, action: Option<&str>) -> Call {
        let root = bench.root(&account(digit), "us-east-1");
        let made = run::<CreateUser>(&root, json!({ "UserName": name })).await.expect("a new user");
        if let Some(action) = action {
            let document = json!({ "Version": "2012-10-17", "Statement": {
                "Effect": "Allow", "Action": action, "Resource": ROLE } });
            let input = json!({ "UserName": name, "PolicyName": "p", "PolicyDocument": document.to_string() });
            run::<PutUserPolicy>(&root, input).await.expect("a policy");
        }
        let id = made["User"]["UserId"].as_str().expect("an id");
        bench.call(Principal::user(&account(digit), "/", name, id), "us-east-1")
    }

    async fn assume(call: &Call, more: Json) -> Result<Json, Error> {
        let mut input = json!({ "RoleArn": ROLE, "RoleSessionName": "s1" });
        for (key, value) in more.as_object().expect("an object") {
            input[key] = value.clone();
        }
        run::<AssumeRole>(call, input).await
    }

    /// A call with the credentials of a reply.
    async fn with(bench: &Bench, reply: &Json) -> Call {
        let text = |name: &str| reply["Credentials"][name].as_str().expect("a text").to_owned();
        let (id, token) = (text("AccessKeyId"), text("SessionToken"));
        let found = bench.world.credential(&id, Some(&token)).await;
        let Ok(credential) = found else { panic!("the credential is good") };
        assert_eq!(credential.secret.expose(), &text("SecretAccessKey"));
        let mut call = bench.call(credential.principal, "us-east-1");
        call.caller.session_policies = credential.session_policies;
        call
    }

    #[tokio::test]
    async fn across_accounts_both_sides_have_to_allow() {
        let bench = bench().await;
        role(&bench, "222222222222", json!({})).await;
        let amy = user(&bench, 2, "amy", Some("sts:AssumeRole")).await;
        let bob = user(&bench, 2, "bob", None).await;
        let eve = user(&bench, 3, "eve", Some("sts:AssumeRole")).await;
        let reply = assume(&amy, json!({})).await.expect("both sides allow");
        assert_eq!(
            reply["AssumedRoleUser"]["Arn"],
            "arn:aws:sts::111111111111:assumed-role/dev/s1"
        );
        assert_eq!(reply["PackedPolicySize"], Json::Null);
        let session = with(&bench, &reply).await;
        let who = run::<GetCallerIdentity>(&session, json!({})).await.expect("anyone may");
        assert_eq!(who["Account"], "111111111111");
        let denied = assume(&bob, json!({})).await.expect_err("no identity policy");
        assert!(denied.0.message.contains("because no identity-based policy allows"), "{denied}");
        let denied = assume(&eve, json!({})).await.expect_err("no trust");
        assert!(denied.0.message.contains("because no resource-based policy allows"), "{denied}");
        let root = assume(&bench.root(&account(2), "us-east-1"), json!({})).await;
        assert!(root.expect_err("roots may not").0.message.contains("root accounts"));
    }

    #[tokio::test]
    async fn a_role_that_does_not_exist_looks_like_one_that_does_not_trust() {
        let bench = bench().await;
        let amy = user(&bench, 1, "amy", Some("sts:*")).await;
        let error = assume(&amy, json!({})).await.expect_err("no such role");
        assert_eq!(error.code(), "AccessDenied");
        let missing = error.0.message;
        role(&bench, "222222222222", json!({})).await;
        let error = assume(&amy, json!({})).await.expect_err("not trusted");
        assert_eq!(error.0.message, missing);
    }

    #[tokio::test]
    async fn the_external_id_has_to_be_the_one_agreed() {
        let bench = bench().await;
        let condition = json!({ "StringEquals": { "sts:ExternalId": "agreed" } });
        role(&bench, "222222222222", condition).await;
        let amy = user(&bench, 2, "amy", Some("sts:AssumeRole")).await;
        assume(&amy, json!({ "ExternalId": "agreed" })).await.expect("agreed");
        for wrong in [json!({}), json!({ "ExternalId": "other" })] {
            assert_eq!(assume(&amy, wrong).await.expect_err("wrong").code(), "AccessDenied");
        }
    }

    #[tokio::test]
    async fn session_policies_limit_and_tags_show() {
        let bench = bench().await;
        role(&bench, "111111111111", json!({})).await;
        let root = bench.root(&account(1), "us-east-1");
        let attach =
            json!({ "RoleName": "dev", "PolicyArn": "arn:aws:iam::aws:policy/IAMFullAccess" });
        run::<AttachRolePolicy>(&root, attach.clone()).await.expect("attached");
        let amy = user(&bench, 1, "amy", Some("sts:*")).await;
        let whole = with(&bench, &assume(&amy, json!({})).await.expect("trusted")).await;
        run::<ListUsers>(&whole, json!({})).await.expect("the role may");
        let policy = json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
            "Action": "iam:GetUser", "Resource": "*" } });
        let more = json!({ "Policy": policy.to_string(), "Tags": [{ "Key": "team", "Value": "red" }],
            "SourceIdentity": "amy" });
        let reply = assume(&amy, more).await.expect("trusted");
        assert!(reply["PackedPolicySize"].as_i64().is_some_and(|n| (1..=100).contains(&n)));
        assert_eq!(reply["SourceIdentity"], "amy");
        let limited = with(&bench, &reply).await;
        assert_eq!(limited.caller.principal.tags["team"], "red");
        let denied = run::<ListUsers>(&limited, json!({})).await.expect_err("limited");
        assert!(denied.0.message.contains("because no session policy allows"), "{denied}");

        // Policies are those of now, and the end of the role is the end of its sessions.
        run::<DetachRolePolicy>(&root, attach).await.expect("detached");
        let denied = run::<ListUsers>(&whole, json!({})).await.expect_err("detached");
        assert!(denied.0.message.contains("because no identity-based policy allows"), "{denied}");
        let text = |name: &str| reply["Credentials"][name].as_str().expect("a text").to_owned();
        run::<DeleteRole>(&root, json!({ "RoleName": "dev" })).await.expect("deleted");
        let found = bench.world.credential(&text("AccessKeyId"), Some(&text("SessionToken"))).await;
        assert!(found.is_err());
    }

    #[tokio::test]
    async fn tags_and_source_identity_need_permissions_of_their_own() {
        let bench = bench().await;
        role(&bench, "222222222222", json!({})).await;
        let amy = user(&bench, 2, "amy", Some("sts:AssumeRole")).await;
        let bob = user(&bench, 2, "bob", Some("sts:*")).await;
        for name in ["a".repeat(257), "AWS:amy".to_owned(), "a b".to_owned()] {
            let refused = assume(&bob, json!({ "SourceIdentity": name })).await;
            assert_eq!(refused.expect_err("no name").code(), "ValidationError", "{name}");
        }
        for (more, action) in [
            (json!({ "Tags": [{ "Key": "a", "Value": "b" }] }), "sts:TagSession"),
            (json!({ "SourceIdentity": "a".repeat(256) }), "sts:SetSourceIdentity"),
        ] {
            let denied = assume(&amy, more).await.expect_err("not allowed");
            assert!(denied.0.message.contains(action), "{denied}");
        }
    }

    #[tokio::test]
    async fn sessions_of_ones_own() {
        let bench = bench().await;
        let amy = user(&bench, 1, "amy", None).await;
        let reply = run::<GetSessionToken>(&amy, json!({ "DurationSeconds": 900 })).await;
        let reply = reply.expect("anyone may");
        assert_eq!(reply["Credentials"]["Expiration"], "2026-01-01T00:15:00.000Z");
        let token = reply["Credentials"]["SessionToken"].as_str().expect("a token");
        assert_eq!(reply["SessionTokenSize"], token.len());
        assert!(reply["SessionTokenUtilization"].as_i64().is_some_and(|n| (1..100).contains(&n)));
        let session = with(&bench, &reply).await;
        assert_eq!(session.caller.principal.arn, amy.caller.principal.arn);
        let again = run::<GetSessionToken>(&session, json!({})).await.expect_err("a session");
        assert_eq!(again.code(), "AccessDenied");
        // IAM is closed to it, however much its user may do there.
        let closed = run::<ListUsers>(&session, json!({})).await;
        assert_eq!(closed.expect_err("a session").code(), "InvalidClientTokenId");
        let text = |name: &str| reply["Credentials"][name].as_str().expect("a text").to_owned();
        bench.clock.advance_seconds(900);
        let found = bench.world.credential(&text("AccessKeyId"), Some(&text("SessionToken"))).await;
        assert!(found.is_err());
    }
}
