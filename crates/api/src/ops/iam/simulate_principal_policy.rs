//! `iam:SimulatePrincipalPolicy`: tells what the policies of a user, role or group would decide.
//!
//! The evaluator is the one that decides real requests; only the circumstances are those given.

use super::shared::{
    self, Circumstances, ContextEntry, Simulation, SimulationOutput, Subject, invalid,
};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Arn;
use iam::{Layers, Principal};
use identity::{Entity, Kind, tag};
use meta::Tx;

pub(crate) struct SimulatePrincipalPolicy;

#[derive(Shape)]
#[shape(input, unsupported(ResourceHandlingOption, PolicyExclusionList))]
pub(crate) struct Input {
    policy_source_arn: String,
    policy_input_list: Vec<String>,
    permissions_boundary_policy_input_list: Vec<String>,
    #[shape(required)]
    action_names: Vec<String>,
    resource_arns: Vec<String>,
    resource_policy: Option<String>,
    resource_owner: Option<String>,
    caller_arn: Option<String>,
    context_entries: Vec<ContextEntry>,
    max_items: Option<i32>,
    marker: Option<String>,
}

pub(crate) struct Plan {
    source: Subject,
    source_arn: String,
    simulation: Simulation,
}

impl Operation for SimulatePrincipalPolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "SimulatePrincipalPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = SimulationOutput;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        let source = source(call, &input.policy_source_arn).await?;
        let circumstances = Circumstances {
            policy_input_list: input.policy_input_list,
            boundary_input_list: input.permissions_boundary_policy_input_list,
            action_names: input.action_names,
            resource_arns: input.resource_arns,
            resource_policy: input.resource_policy,
            resource_owner: input.resource_owner,
            context_entries: input.context_entries,
            caller_arn: input.caller_arn,
        };
        Ok(Plan {
            source,
            source_arn: input.policy_source_arn,
            simulation: Simulation::read(call, circumstances, &page)?,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.source.ask("iam:SimulatePrincipalPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<SimulationOutput, Error> {
        let Plan { source, source_arn, simulation } = plan.into_inner();
        let identity = call.world.identity.clone();
        let (principal, layers) = shared::read(call, move |tx| {
            let entity = source.find(tx)?;
            if entity.arn().to_string() != source_arn {
                let message = format!("The entity with ARN {source_arn} cannot be found.");
                return Err(identity::Error::NoSuchEntity { message });
            }
            let principal = principal(tx, &entity)?;
            let layers = match entity.kind {
                Kind::User | Kind::Role => identity.layers(tx, &principal, &[])?,
                // What a group gives, without what its members have besides.
                Kind::Group => {
                    let identity = identity.policies_of(tx, &entity)?;
                    Layers { identity, ..Layers::default() }
                }
            };
            Ok((principal, layers))
        })
        .await?;
        simulation.decide(principal, layers)
    }
}

/// The user, role or group whose policies are asked about.
async fn source(call: &Call, arn: &str) -> Result<Subject, Error> {
    let own = Arn::parse(arn)
        .filter(|arn| arn.service == "iam" && arn.account == call.account().as_str());
    let kind_and_name = own.as_ref().and_then(|arn| {
        let kind = match arn.resource.split_once('/')?.0 {
            "user" => Kind::User,
            "role" => Kind::Role,
            "group" => Kind::Group,
            _ => return None,
        };
        Some((kind, arn.resource.rsplit('/').next()?.to_owned()))
    });
    let Some((kind, name)) = kind_and_name else {
        return Err(invalid(format!("{arn} is no user, role or group of the account.")));
    };
    Subject::named(call, kind, name).await
}

/// The user, a session of the role, or a member of the group that has no policies of its own: the
/// caller unless another is given (IAM API, `CallerArn`).
fn principal(tx: &mut Tx<'_>, entity: &Entity) -> identity::Result<Principal> {
    let Entity { account, path, name, unique_id, .. } = entity;
    let mut principal = match entity.kind {
        Kind::User => Principal::user(account, path, name, unique_id),
        Kind::Role => shared::session(account, path, name, unique_id),
        Kind::Group => shared::member(account, path, name, unique_id),
    };
    principal.tags = tag::of(tx, account, unique_id)?;
    Ok(principal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run, run_named};
    use serde_json::{Value as Json, json};

    const AMY: &str = "arn:aws:iam::111111111111:user/amy";
    const KEY: &str = "arn:aws:kms:us-east-1:111111111111:key/k1";

    fn decisions(reply: &Json) -> Vec<&str> {
        let results = reply["EvaluationResults"].as_array().expect("a list");
        results.iter().map(|one| one["EvalDecision"].as_str().expect("a text")).collect()
    }

    /// The decisions on each resource for one of the actions.
    fn on_each(reply: &Json, action: usize) -> Vec<&str> {
        let results = reply["EvaluationResults"][action]["ResourceSpecificResults"].as_array();
        let results = results.expect("a list").iter();
        results.map(|one| one["EvalResourceDecision"].as_str().expect("a text")).collect()
    }

    #[tokio::test]
    async fn the_policies_in_force_decide() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "kms:*", "Resource": "*"},
            {"Effect": "Deny", "Action": "kms:Decrypt", "Resource": KEY},
            {"Effect": "Allow", "Action": "ec2:*", "Resource": "*",
             "Condition": {"StringEquals": {"ec2:Region": "us-east-1"}}}]});
        let amy = bench.user(&account(1), "amy", &policy.to_string()).await;

        let mut input = json!({"PolicySourceArn": AMY, "ResourceArns": [KEY, "*"],
            "ActionNames": ["kms:Decrypt", "ec2:CreateVolume"]});
        let reply = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&reply), ["explicitDeny", "implicitDeny"]);
        assert_eq!(on_each(&reply, 0), ["explicitDeny", "allowed"]);
        assert_eq!(on_each(&reply, 1), ["implicitDeny", "implicitDeny"]);
        let results = &reply["EvaluationResults"];
        // The text is the one that was saved, in which the first statement ends where this one starts.
        let text = policy.to_string();
        let column = |text: &str| json!({"Line": 1, "Column": text.len() + 1});
        let (before, _) = text.split_once(",{\"Action\":\"kms:Decrypt\"").expect("it is there");
        let (until, _) = text.split_once(",{\"Action\":\"ec2:*\"").expect("it is there");
        let source = json!([{"SourcePolicyId": "test", "SourcePolicyType": "user",
            "StartPosition": column(before), "EndPosition": column(until)}]);
        assert_eq!(results[0]["MatchedStatements"], source);
        assert_eq!(results[0]["ResourceSpecificResults"][0]["MatchedStatements"], source);
        assert_eq!(results[1]["MatchedStatements"], json!([]));
        assert_eq!(results[1]["MissingContextValues"], json!([]));
        let on_key = &results[1]["ResourceSpecificResults"][0];
        assert_eq!(on_key["MissingContextValues"], json!(["ec2:Region"]));

        input["ContextEntries"] = json!([{"ContextKeyName": "ec2:Region",
            "ContextKeyType": "string", "ContextKeyValues": ["us-east-1"]}]);
        input["PolicyInputList"] = json!([json!({"Version": "2012-10-17", "Statement":
            {"Effect": "Deny", "Action": "kms:*", "Resource": "*"}})
        .to_string()]);
        let reply = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&reply), ["explicitDeny", "allowed"]);
        assert_eq!(on_each(&reply, 0), ["explicitDeny", "explicitDeny"]);

        input["PermissionsBoundaryPolicyInputList"] = json!([json!({"Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}})
        .to_string()]);
        input["MaxItems"] = json!(1);
        let first = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&first), ["explicitDeny"], "a page of one action");
        assert_eq!(on_each(&first, 0), ["explicitDeny", "explicitDeny"]);
        input["Marker"] = first["Marker"].clone();
        let rest = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&rest), ["implicitDeny"]);
        let detail = &rest["EvaluationResults"][0]["PermissionsBoundaryDecisionDetail"];
        assert_eq!(detail["AllowedByPermissionsBoundary"], false);
        assert_eq!(rest["IsTruncated"], false);

        let denied = run::<SimulatePrincipalPolicy>(&amy, input).await;
        assert_eq!(denied.expect_err("no such permission").code(), "AccessDenied");
    }

    #[tokio::test]
    async fn a_group_gives_what_its_policies_say() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let policy = |action: &str| {
            json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow", "Action": action,
                "Resource": "*" } })
            .to_string()
        };
        bench.user(&account(1), "amy", &policy("kms:*")).await;
        let iam = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
        let managed = json!({ "PolicyName": "ec2", "PolicyDocument": policy("ec2:Describe*") });
        let managed =
            iam("CreatePolicy", managed).await.expect("a policy")["Policy"]["Arn"].clone();
        iam("CreateGroup", json!({ "GroupName": "devs", "Path": "/eu/" })).await.expect("a group");
        let inline =
            json!({ "GroupName": "devs", "PolicyName": "p", "PolicyDocument": policy("s3:*") });
        iam("PutGroupPolicy", inline).await.expect("put");
        let attach = json!({ "GroupName": "devs", "PolicyArn": managed });
        iam("AttachGroupPolicy", attach).await.expect("attached");
        iam("AddUserToGroup", json!({ "GroupName": "devs", "UserName": "amy" })).await.expect("in");
        let mut input = json!({ "PolicySourceArn": "arn:aws:iam::111111111111:group/eu/devs",
            "ActionNames": ["s3:GetObject", "ec2:DescribeVolumes", "kms:Decrypt"] });
        let reply = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&reply), ["allowed", "allowed", "implicitDeny"]);
        let matched = &reply["EvaluationResults"][0]["MatchedStatements"][0];
        assert_eq!(matched["SourcePolicyType"], "group");
        // The policy of a key names the account of a group, and never a group or who is called like it.
        input["ActionNames"] = json!(["kms:Decrypt"]);
        input["ResourceArns"] = json!([KEY]);
        input["PolicyInputList"] = json!([policy("kms:*")]);
        for (named, decision) in [
            ("arn:aws:iam::111111111111:root", "allowed"),
            ("arn:aws:iam::111111111111:user/eu/devs", "implicitDeny"),
        ] {
            input["ResourcePolicy"] = json!(key_policy(named));
            let reply = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("told");
            assert_eq!(decisions(&reply), [decision], "{named}");
        }
    }

    fn key_policy(principal: &str) -> String {
        json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
            "Principal": { "AWS": principal }, "Action": "kms:*", "Resource": "*" } })
        .to_string()
    }

    #[tokio::test]
    async fn a_role_is_its_own_caller_unless_another_is_given() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let trust = json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
            "Principal": { "AWS": "111111111111" }, "Action": "sts:AssumeRole" } })
        .to_string();
        let role = json!({ "RoleName": "dev", "Path": "/eu/", "AssumeRolePolicyDocument": trust });
        run_named(&root, Service::Iam, "CreateRole", role).await.expect("a role");
        let arn = "arn:aws:iam::111111111111:role/eu/dev";
        let mut input = json!({ "PolicySourceArn": arn, "ActionNames": ["kms:Decrypt"],
            "ResourceArns": [KEY], "ResourcePolicy": key_policy(arn) });
        let reply = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("told");
        assert_eq!(decisions(&reply), ["allowed"]);
        input["CallerArn"] = json!("arn:aws:iam::111111111111:role/eu/other");
        let reply = run::<SimulatePrincipalPolicy>(&root, input).await.expect("told");
        assert_eq!(decisions(&reply), ["implicitDeny"]);
    }

    #[tokio::test]
    async fn refusals() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        bench
            .user(
                &account(1),
                "amy",
                r#"{"Version":"2012-10-17","Statement":{
            "Effect":"Deny","Action":"*","Resource":"*"}}"#,
            )
            .await;
        for (source, action, code) in [
            ("arn:aws:iam::222222222222:user/amy", "kms:Decrypt", "InvalidInput"),
            ("arn:aws:iam::111111111111:group/amy", "kms:Decrypt", "NoSuchEntity"),
            ("arn:aws:iam::111111111111:policy/amy", "kms:Decrypt", "InvalidInput"),
            ("arn:aws:iam::111111111111:user/dev/amy", "kms:Decrypt", "NoSuchEntity"),
            ("arn:aws:iam::111111111111:role/amy", "kms:Decrypt", "NoSuchEntity"),
            (AMY, "Decrypt", "InvalidInput"),
        ] {
            let input = json!({"PolicySourceArn": source, "ActionNames": [action]});
            let refused = run::<SimulatePrincipalPolicy>(&root, input).await;
            assert_eq!(refused.expect_err(source).code(), code, "{source} {action}");
        }
        // Every action on every resource counts, whatever the page.
        let mut input = json!({"PolicySourceArn": AMY, "MaxItems": 1,
            "ActionNames": vec!["kms:Decrypt"; 101], "ResourceArns": vec![KEY; 100]});
        let refused = run::<SimulatePrincipalPolicy>(&root, input.clone()).await;
        assert_eq!(refused.expect_err("too many").code(), "InvalidInput");
        input["ActionNames"] = json!(vec!["kms:Decrypt"; 100]);
        run::<SimulatePrincipalPolicy>(&root, input).await.expect("as many as may be");
    }
}
