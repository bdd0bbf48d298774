//! `kms:CreateGrant`: hands permissions on a key to a principal. Repeating a named request gives the same grant.

use super::shared::{self, GrantConstraints, GrantParty, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::grant::{self, Constraints, GrantOperation, NewGrant};
use kms::{Action, resolve};

pub(crate) struct CreateGrant;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    key_id: String,
    grantee_principal: Option<String>,
    grantee_service_principal: Option<String>,
    retiring_principal: Option<String>,
    retiring_service_principal: Option<String>,
    #[shape(required)]
    operations: Vec<String>,
    constraints: Option<GrantConstraints>,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
    name: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    new: NewGrant,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(sensitive)]
    grant_token: String,
    grant_id: String,
}

impl Operation for CreateGrant {
    const SPEC: Spec = Spec::mutates(Service::Kms, "CreateGrant");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        call.world.kms.check_grant_tokens(&input.grant_tokens)?;
        if let Some(name) = &input.name {
            grant::check_name(name)?;
        }
        let operations = GrantOperation::parse_list(&input.operations)?;
        let constraints = input.constraints.map_or_else(Constraints::default, |c| Constraints {
            equals: c.encryption_context_equals,
            subset: c.encryption_context_subset,
            source_arn: c.source_arn,
        });
        constraints.check()?;
        let grantee = GrantParty::read_one(
            ["GranteePrincipal", "GranteeServicePrincipal"],
            input.grantee_principal,
            input.grantee_service_principal.as_deref(),
        )?;
        let retiring = GrantParty::read(
            ["RetiringPrincipal", "RetiringServicePrincipal"],
            input.retiring_principal,
            input.retiring_service_principal.as_deref(),
        )?;
        let is_service = matches!(grantee, GrantParty::Service(_));
        if is_service && (constraints.source_arn.is_none() || retiring.is_none()) {
            let message =
                "A grant with a GranteeServicePrincipal needs a SourceArn constraint, and a \
                           RetiringPrincipal or a RetiringServicePrincipal."
                    .to_owned();
            return Err(kms::Error::Validation { message }.into());
        }
        let trust = shared::trust(call);
        let action = Action::CreateGrant;
        let name = input.name.unwrap_or_default();
        let key_id = input.key_id;
        shared::read(call, move |kms, tx, from| {
            let resolved = resolve::resolve(tx, action, &from.caller, &from.region, &key_id)?;
            let retiring = retiring.as_ref();
            let new = NewGrant {
                grantee: grantee.resolve(kms, tx, trust)?,
                retiring: retiring.map(|named| named.resolve(kms, tx, trust)).transpose()?,
                operations: operations.clone(),
                constraints: constraints.clone(),
                name: name.clone(),
                issuing_account: from.caller.account.clone(),
            };
            let facts = Facts::CreateGrant(new.clone());
            let ask = from.ask(kms, tx, action, &resolved, &facts)?;
            Ok(Plan { target: Target { key: resolved.key, ask }, new })
        })
        .await
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn rehearse(call: &Call, plan: &Plan) -> Result<(), Error> {
        shared::rehearse(call, Action::CreateGrant, &plan.target.key).await?;
        Ok(grant::check_kind(plan.target.key.kind, &plan.new)?)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, new } = plan.into_inner();
        let (grant, grant_token) = shared::write(call, move |kms, tx, _| {
            let key = shared::usable(tx, Action::CreateGrant, &target.key)?;
            kms.create_grant(tx, &key, &new)
        })
        .await?;
        Ok(Output { grant_token, grant_id: grant.id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::encrypt::Encrypt;
    use crate::ops::kms::list_grants::ListGrants;
    use crate::ops::kms::retire_grant::RetireGrant;
    use crate::ops::kms::revoke_grant::RevokeGrant;
    use crate::testing::{Bench, account, bench, run, run_named};
    use iam::Principal;
    use serde_json::{Value as Json, json};

    const SERVICE: &str = "ec2.us-east-1.amazonaws.com";

    async fn key(call: &Call) -> Json {
        let created = run::<CreateKey>(call, json!({})).await.expect("allowed");
        created["KeyMetadata"]["Arn"].clone()
    }

    /// A call EC2 makes by itself, or in the name of an account's root.
    fn service(bench: &Bench, principal: Principal, via: Option<&str>) -> Call {
        let mut call = bench.call(principal, "us-east-1");
        call.caller.forwarded = Some(crate::call::Forwarded {
            via_service: via.map(str::to_owned),
            source_arn: None,
            invoked_by: "ec2-frontend-api.amazonaws.com".to_owned(),
            shared_request_id: None,
            cause: None,
        });
        call
    }

    #[tokio::test]
    async fn a_grant_gives_and_its_end_takes() {
        let bench = bench().await;
        let owner = bench.root(&account(1), "us-east-1");
        let arn = key(&owner).await;
        let ec2 = service(&bench, Principal::service(&account(1), SERVICE), None);
        let encrypt = || {
            let context = json!({"aws:ebs:id": "vol-a"});
            run::<Encrypt>(
                &ec2,
                json!({"KeyId": arn, "Plaintext": "x", "EncryptionContext": context}),
            )
        };
        assert_eq!(encrypt().await.expect_err("denied").code(), "AccessDeniedException");

        let input = json!({
            "KeyId": arn,
            "GranteePrincipal": SERVICE,
            "RetiringPrincipal": SERVICE,
            "Operations": ["Encrypt"],
            "Constraints": {"EncryptionContextSubset": {"aws:ebs:id": "vol-a"}},
            "Name": "n",
        });
        let direct = run::<CreateGrant>(&owner, input.clone()).await;
        assert_eq!(direct.expect_err("a service").code(), "InvalidArnException");
        let via = service(&bench, Principal::root(&account(1)), Some(SERVICE));
        let made = run::<CreateGrant>(&via, input.clone()).await.expect("allowed");
        encrypt().await.expect("granted");
        let again = run::<CreateGrant>(&via, input).await.expect("allowed");
        assert_eq!(again["GrantId"], made["GrantId"]);
        assert_ne!(again["GrantToken"], made["GrantToken"]);

        let listed = run::<ListGrants>(&owner, json!({"KeyId": arn})).await.expect("allowed");
        assert_eq!(
            listed["Grants"],
            json!([{
                "KeyId": arn,
                "GrantId": made["GrantId"],
                "Name": "n",
                "CreationDate": "2026-01-01T00:00:00.000Z",
                "GranteePrincipal": SERVICE,
                "RetiringPrincipal": SERVICE,
                "IssuingAccount": "arn:aws:iam::111111111111:root",
                "Operations": ["Encrypt"],
                "Constraints": {"EncryptionContextSubset": {"aws:ebs:id": "vol-a"}},
            }])
        );

        let retire = json!({"KeyId": arn, "GrantId": made["GrantId"]});
        let stranger = bench.root(&account(2), "us-east-1");
        let refused = run::<RetireGrant>(&stranger, retire.clone()).await;
        assert_eq!(refused.expect_err("denied").code(), "AccessDeniedException");
        run::<RetireGrant>(&ec2, retire.clone()).await.expect("allowed");
        assert_eq!(encrypt().await.expect_err("denied").code(), "AccessDeniedException");
        let gone = run::<RetireGrant>(&ec2, retire).await.expect_err("gone");
        assert_eq!(gone.code(), "NotFoundException");
    }

    #[tokio::test]
    async fn a_service_uses_the_key_for_the_resource_it_was_let_for() {
        let bench = bench().await;
        let owner = bench.root(&account(1), "us-east-1");
        let arn = key(&owner).await;
        let volume = "arn:aws:ec2:us-east-1:111111111111:volume/vol-a";
        let input = json!({
            "KeyId": arn,
            "GranteeServicePrincipal": SERVICE,
            "RetiringServicePrincipal": "ec2.amazonaws.com",
            "Operations": ["Encrypt", "DescribeKey"],
            "Constraints": {"SourceArn": volume},
        });
        let made = run::<CreateGrant>(&owner, input).await.expect("allowed");

        let on_behalf_of = |source: Option<&str>| {
            let mut call = service(&bench, Principal::service(&account(1), SERVICE), None);
            let forwarded = call.caller.forwarded.as_mut().expect("of a service");
            forwarded.source_arn = source.map(str::to_owned);
            call
        };
        let ec2 = on_behalf_of(Some(volume));
        let other = on_behalf_of(Some("arn:aws:ec2:us-east-1:111111111111:volume/vol-b"));
        let of_none = on_behalf_of(None);
        for operation in ["Encrypt", "DescribeKey"] {
            let mut input = json!({"KeyId": arn});
            if operation == "Encrypt" {
                input["Plaintext"] = json!("x");
            }
            let ask = |call| run_named(call, Service::Kms, operation, input.clone());
            ask(&ec2).await.expect("granted");
            for wrong in [&other, &of_none, &bench.root(&account(2), "us-east-1")] {
                let refused = ask(wrong).await.expect_err("denied");
                assert_eq!(refused.code(), "AccessDeniedException", "{operation}");
            }
        }

        let listed = run::<ListGrants>(&owner, json!({"KeyId": arn})).await.expect("allowed");
        assert_eq!(
            listed["Grants"],
            json!([{
                "KeyId": arn,
                "GrantId": made["GrantId"],
                "Name": "",
                "CreationDate": "2026-01-01T00:00:00.000Z",
                "GranteeServicePrincipal": SERVICE,
                "RetiringServicePrincipal": "ec2.amazonaws.com",
                "IssuingAccount": "arn:aws:iam::111111111111:root",
                "Operations": ["DescribeKey", "Encrypt"],
                "Constraints": {"SourceArn": volume},
            }])
        );
        // Who retires need not act for the resource.
        let retire = json!({"KeyId": arn, "GrantId": made["GrantId"]});
        run::<RetireGrant>(&other, retire).await.expect("allowed");
        let refused = run::<Encrypt>(&ec2, json!({"KeyId": arn, "Plaintext": "x"})).await;
        assert_eq!(refused.expect_err("denied").code(), "AccessDeniedException");
    }

    #[tokio::test]
    async fn tokens_retire_and_owners_revoke() {
        let bench = bench().await;
        let owner = bench.root(&account(1), "us-east-1");
        let other = bench.root(&account(2), "us-east-1");
        let arn = key(&owner).await;
        let grant = async || {
            let root = "arn:aws:iam::222222222222:root";
            let input = json!({
                "KeyId": arn, "GranteePrincipal": root, "RetiringPrincipal": root,
                "Operations": ["Encrypt", "DescribeKey"],
            });
            run::<CreateGrant>(&owner, input).await.expect("allowed")
        };
        let encrypt = || run::<Encrypt>(&other, json!({"KeyId": arn, "Plaintext": "x"}));
        let made = grant().await;
        let with_token =
            json!({"KeyId": arn, "Plaintext": "x", "GrantTokens": [made["GrantToken"]]});
        run::<Encrypt>(&other, with_token).await.expect("granted");
        let token = json!({"GrantToken": made["GrantToken"]});
        run::<RetireGrant>(&other, token).await.expect("allowed");
        assert_eq!(encrypt().await.expect_err("denied").code(), "AccessDeniedException");

        let made = grant().await;
        encrypt().await.expect("granted");
        let revoke = json!({"KeyId": arn, "GrantId": made["GrantId"]});
        let dry = json!({"KeyId": arn, "GrantId": made["GrantId"], "DryRun": true});
        let rehearsed = run::<RevokeGrant>(&owner, dry).await.expect_err("dry");
        assert_eq!(rehearsed.code(), "DryRunOperationException");
        encrypt().await.expect("still granted");
        run::<RevokeGrant>(&owner, revoke).await.expect("allowed");
        assert_eq!(encrypt().await.expect_err("denied").code(), "AccessDeniedException");
    }

    #[tokio::test]
    async fn bad_requests() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let arn = key(&call).await;
        let root = "arn:aws:iam::111111111111:root";
        let base = json!({"KeyId": arn, "GranteePrincipal": root, "Operations": ["Decrypt"]});
        let with = |name: &str, value: Json| {
            let mut input = base.clone();
            input[name] = value;
            input
        };
        let of_service = |without: &str| {
            let mut input = json!({
                "KeyId": arn, "GranteeServicePrincipal": SERVICE, "RetiringPrincipal": root,
                "Operations": ["Decrypt"],
                "Constraints": {"SourceArn": "arn:aws:ec2:us-east-1:111111111111:volume/vol-a"},
            });
            let members = input.as_object_mut().expect("an object");
            members.remove(without);
            input
        };
        run::<CreateGrant>(&call, of_service("")).await.expect("whole");
        let mut both_retire = of_service("");
        both_retire["RetiringServicePrincipal"] = json!(SERVICE);
        let mut no_name = of_service("");
        no_name["GranteeServicePrincipal"] = json!("ec2_x.amazonaws.com");
        for (input, code) in [
            (of_service("RetiringPrincipal"), "ValidationException"),
            (of_service("Constraints"), "ValidationException"),
            (of_service("GranteeServicePrincipal"), "ValidationException"),
            (with("GranteeServicePrincipal", json!(SERVICE)), "ValidationException"),
            (both_retire, "ValidationException"),
            (no_name, "ValidationException"),
            (with("Constraints", json!({"SourceArn": "vol-a"})), "ValidationException"),
            (with("Operations", json!(["Sign"])), "ValidationException"),
            (with("Operations", json!([])), "ValidationException"),
            (with("Name", json!("a b")), "ValidationException"),
            (
                with("GranteePrincipal", json!("arn:aws:iam::111111111111:user/x")),
                "InvalidArnException",
            ),
            (with("GrantTokens", json!(["forged"])), "InvalidGrantTokenException"),
            (with("KeyId", json!("alias/aws/ebs")), "NotFoundException"),
            (with("DryRun", json!(true)), "DryRunOperationException"),
        ] {
            let error = run::<CreateGrant>(&call, input.clone()).await.expect_err("refused");
            assert_eq!(error.code(), code, "{input}");
        }
    }
}
