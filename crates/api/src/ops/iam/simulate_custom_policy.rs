//! `iam:SimulateCustomPolicy`: tells what policies would decide that are attached to nothing yet.

use super::shared::{self, Circumstances, ContextEntry, Simulation, SimulationOutput, invalid};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use iam::{Layers, Principal};

pub(crate) struct SimulateCustomPolicy;

/// The caller when none is given: no policy names it, and nobody has its id.
const SIMULATED: &str = "simulated";

#[derive(Shape)]
#[shape(input, unsupported(ResourceHandlingOption, OrderedOrganizationPolicyInputList))]
pub(crate) struct Input {
    #[shape(required)]
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

impl Operation for SimulateCustomPolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "SimulateCustomPolicy");
    type Input = Input;
    type Plan = Simulation;
    type Output = SimulationOutput;

    async fn plan(call: &Call, input: Input) -> Result<Simulation, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        if input.resource_policy.is_some() && input.caller_arn.is_none() {
            return Err(invalid("A ResourcePolicy needs a CallerArn.".to_owned()));
        }
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
        Simulation::read(call, circumstances, &page)
    }

    fn asks(_plan: &Simulation) -> Vec<Ask> {
        vec![Ask::any("iam:SimulateCustomPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Simulation>) -> Result<SimulationOutput, Error> {
        let caller = Principal::user(call.account(), "/", SIMULATED, SIMULATED);
        plan.into_inner().decide(caller, Layers::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run};
    use serde_json::{Value as Json, json};

    const KEY: &str = "arn:aws:kms:us-east-1:222222222222:key/k1";

    fn policy(statement: &Json) -> String {
        json!({ "Version": "2012-10-17", "Statement": statement }).to_string()
    }

    #[tokio::test]
    async fn both_sides_of_a_foreign_key_are_told_apart() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let allow = json!({ "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*" });
        let key = |principal: &str| {
            policy(&json!({ "Effect": "Allow", "Principal": { "AWS": principal },
                "Action": "kms:*", "Resource": "*" }))
        };
        let mut input = json!({ "PolicyInputList": [policy(&allow)], "ActionNames": ["kms:Decrypt"],
            "ResourceArns": [KEY], "ResourcePolicy": key("111111111111") });
        let error = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect_err("no caller");
        assert_eq!(error.code(), "InvalidInput");
        input["CallerArn"] = json!("arn:aws:iam::111111111111:user/dev/amy");
        let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("both allow");
        let result = &reply["EvaluationResults"][0];
        assert_eq!(result["EvalDecision"], "allowed");
        assert_eq!(
            result["EvalDecisionDetails"],
            json!({ "IAM Policy": "allowed", "Resource Policy": "allowed" })
        );
        let types: Vec<_> = result["MatchedStatements"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["SourcePolicyType"].as_str().expect("a text"))
            .collect();
        assert_eq!(types, ["none", "resource"]);
        input["ResourcePolicy"] = json!(key("333333333333"));
        let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
        let result = &reply["EvaluationResults"][0];
        assert_eq!(result["EvalDecision"], "implicitDeny");
        assert_eq!(
            result["EvalDecisionDetails"],
            json!({ "IAM Policy": "allowed", "Resource Policy": "implicitDeny" })
        );
        let role = "arn:aws:iam::111111111111:role/eu/dev";
        input["CallerArn"] = json!(role);
        for (named, decision) in
            [(role, "allowed"), ("arn:aws:iam::111111111111:role/dev", "implicitDeny")]
        {
            input["ResourcePolicy"] = json!(key(named));
            let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
            assert_eq!(reply["EvaluationResults"][0]["EvalDecision"], decision, "{named}");
        }
        for nobody in [
            "arn:aws:sts::111111111111:assumed-role/dev/session",
            "arn:aws:iam::111111111111:root",
            "arn:aws:iam::111111111111:role/eu/",
            "ec2.amazonaws.com",
        ] {
            input["CallerArn"] = json!(nobody);
            let error = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect_err(nobody);
            assert_eq!(error.code(), "InvalidInput", "{nobody}");
        }
    }

    #[tokio::test]
    async fn context_entries_describe_the_caller_too() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let statement = json!([
            { "Effect": "Allow", "Action": "iam:GetUser",
              "Resource": "arn:aws:iam::111111111111:user/${aws:username}" },
            { "Effect": "Allow", "Action": "iam:TagUser", "Resource": "*",
              "Condition": { "StringEquals": { "aws:PrincipalTag/Team": "red", "aws:RequestedRegion": "eu" } } },
        ]);
        let entry = |key: &str, value: &str| {
            json!({ "ContextKeyName": key,
            "ContextKeyType": "string", "ContextKeyValues": [value] })
        };
        let mut input = json!({ "PolicyInputList": [policy(&statement)],
            "ActionNames": ["iam:GetUser", "iam:TagUser"],
            "ResourceArns": ["arn:aws:iam::111111111111:user/amy"],
            "ContextEntries": [entry("aws:username", "amy"), entry("aws:PrincipalTag/team", "red")] });
        let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
        let results = &reply["EvaluationResults"];
        assert_eq!(results[0]["EvalDecision"], "allowed");
        assert_eq!(results[1]["EvalDecision"], "implicitDeny");
        // Nothing is foreign, and a resource is listed.
        assert_eq!(results[1]["EvalDecisionDetails"], json!({}));
        assert_eq!(results[1]["MissingContextValues"], json!([]));
        let user = &results[1]["ResourceSpecificResults"][0];
        assert_eq!(user["MissingContextValues"], json!(["aws:RequestedRegion"]));
        assert_eq!(user["EvalDecisionDetails"], Json::Null);
        input["PermissionsBoundaryPolicyInputList"] =
            json!([policy(&json!({ "Effect": "Allow", "Action": "kms:*", "Resource": "*" }))]);
        let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
        let first = &reply["EvaluationResults"][0];
        assert_eq!(first["EvalDecision"], "implicitDeny");
        assert_eq!(
            first["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"],
            false
        );
        input["PolicyInputList"] = json!(["{}"]);
        let error = run::<SimulateCustomPolicy>(&root, input).await.expect_err("no policy");
        assert_eq!(error.code(), "InvalidInput");
    }

    #[tokio::test]
    async fn context_entries_are_supplied_also_for_keys_that_follow_from_the_caller() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        for (operator, key, value) in [
            ("Bool", "aws:MultiFactorAuthPresent", "true"),
            ("StringEquals", "aws:PrincipalType", "AssumedRole"),
            ("StringEquals", "aws:PrincipalAccount", "333333333333"),
            ("DateEquals", "aws:TokenIssueTime", "2026-01-01T00:00:00Z"),
            ("StringEquals", "aws:FederatedProvider", "cognito-identity.amazonaws.com"),
            ("Bool", "aws:PrincipalIsAWSService", "true"),
            ("StringEquals", "aws:PrincipalServiceName", "ec2.amazonaws.com"),
            ("StringEquals", "AWS:resourceAccount", "333333333333"),
        ] {
            let statement = json!({ "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
                "Condition": { operator: { key: value } } });
            let mut input = json!({ "PolicyInputList": [policy(&statement)],
                "ActionNames": ["kms:Decrypt"], "ResourceArns": [KEY] });
            let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
            assert_eq!(reply["EvaluationResults"][0]["EvalDecision"], "implicitDeny", "{key}");
            input["ContextEntries"] = json!([{ "ContextKeyName": key,
                "ContextKeyType": "string", "ContextKeyValues": [value] }]);
            let reply = run::<SimulateCustomPolicy>(&root, input).await.expect("decided");
            let result = &reply["EvaluationResults"][0];
            assert_eq!(result["EvalDecision"], "allowed", "{key}");
            let on_key = &result["ResourceSpecificResults"][0];
            assert_eq!(on_key["MissingContextValues"], json!([]), "{key}");
        }
    }

    #[tokio::test]
    async fn each_resource_listed_has_a_result_of_its_own() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let own = "arn:aws:kms:us-east-1:111111111111:key/own";
        let other = "arn:aws:kms:us-east-1:111111111111:key/other";
        let statements = json!([
            { "Effect": "Allow", "Action": "kms:*", "Resource": [own, KEY] },
            { "Effect": "Deny", "Action": "kms:Sign", "Resource": KEY },
            { "Effect": "Allow", "Action": "kms:Encrypt", "Resource": other },
        ]);
        let bound = json!({ "Effect": "Allow", "Action": "kms:*", "Resource": [own, KEY] });
        let key = json!({ "Effect": "Allow", "Principal": { "AWS": "111111111111" },
            "Action": "kms:*", "Resource": "*" });
        let mut input = json!({ "PolicyInputList": [policy(&statements)],
            "ActionNames": ["kms:Encrypt", "kms:Sign"], "ResourceArns": [own, other, KEY],
            "ResourcePolicy": policy(&key), "CallerArn": "arn:aws:iam::111111111111:user/amy" });
        let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
        let results = &reply["EvaluationResults"];
        assert_eq!(results.as_array().expect("a list").len(), 2);
        assert_eq!(
            verdicts(&results[0]),
            ["* allowed", "own allowed", "other allowed", "k1 allowed"]
        );
        let denied = ["* explicitDeny", "own allowed", "other implicitDeny", "k1 explicitDeny"];
        assert_eq!(verdicts(&results[1]), denied);
        // What leads to the whole: the statements of all keys, each once; then the deny alone.
        let matched = |of: &Json| {
            let starts = of["MatchedStatements"].as_array().expect("a list").iter();
            starts
                .map(|one| one["StartPosition"]["Column"].as_u64().expect("one"))
                .collect::<Vec<_>>()
        };
        let each = |index: usize| matched(&results[0]["ResourceSpecificResults"][index]);
        let all = [each(0), each(1)];
        assert_eq!([all[0].len(), all[1].len()], [2, 2], "one of either side");
        assert_eq!(each(2), each(0));
        assert_eq!(matched(&results[0]), [all[0][0], all[1][0], all[0][1]]);
        assert_eq!(matched(&results[1]), matched(&results[1]["ResourceSpecificResults"][2]));
        assert_eq!(matched(&results[1]).len(), 1);
        // Only one of them is foreign.
        let sides = json!({ "IAM Policy": "explicitDeny", "Resource Policy": "allowed" });
        assert_eq!(results[1]["EvalDecisionDetails"], sides);
        assert_eq!(results[1]["ResourceSpecificResults"][0]["EvalDecisionDetails"], Json::Null);
        assert_eq!(results[1]["ResourceSpecificResults"][2]["EvalDecisionDetails"], sides);

        input["PermissionsBoundaryPolicyInputList"] = json!([policy(&bound)]);
        let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
        let result = &reply["EvaluationResults"][0];
        let bounded = |of: &Json| {
            of["PermissionsBoundaryDecisionDetail"]["AllowedByPermissionsBoundary"].clone()
        };
        assert_eq!(bounded(result), false, "not for all");
        let each: Vec<Json> =
            (0..3).map(|index| bounded(&result["ResourceSpecificResults"][index])).collect();
        assert_eq!(each, [true, false, true]);
        let bounded_too = ["* implicitDeny", "own allowed", "other implicitDeny", "k1 allowed"];
        assert_eq!(verdicts(result), bounded_too);
        input["ResourceArns"] = json!([own]);
        let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
        let result = &reply["EvaluationResults"][0];
        assert_eq!(verdicts(result), ["own allowed", "own allowed"]);
        assert_eq!(bounded(result), true);
        // A star is no list, but it may be in one.
        for (resources, results) in [
            (json!([]), vec!["* implicitDeny"]),
            (json!(["*", "*"]), vec!["* implicitDeny"]),
            (json!(["*", own]), vec!["* implicitDeny", "* implicitDeny", "own allowed"]),
        ] {
            input["ResourceArns"] = resources;
            let reply = run::<SimulateCustomPolicy>(&root, input.clone()).await.expect("decided");
            assert_eq!(verdicts(&reply["EvaluationResults"][0]), results);
        }
    }

    /// The verdict on all resources and those on each, with the last part of their names.
    fn verdicts(result: &Json) -> Vec<String> {
        let told = |of: &Json, decision: &str| {
            let name = of["EvalResourceName"].as_str().expect("a name");
            let name = name.rsplit('/').next().expect("a part");
            format!("{name} {}", of[decision].as_str().expect("a verdict"))
        };
        let each = result["ResourceSpecificResults"].as_array().into_iter().flatten();
        let each = each.map(|one| told(one, "EvalResourceDecision"));
        std::iter::once(told(result, "EvalDecision")).chain(each).collect()
    }

    #[tokio::test]
    async fn statements_are_found_in_the_text_given() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let text = r#"{
  "Version": "2012-10-17",
  "Statement": [
    { "Effect": "Allow", "Action": "kms:*", "Resource": "*" },
    {
      "Effect": "Deny", "Action": "kms:Sign", "Resource": "*"
    }
  ]
}"#;
        let input = json!({ "PolicyInputList": [policy(&json!({ "Effect": "Allow",
            "Action": "s3:*", "Resource": "*" })), text], "ActionNames": ["kms:Encrypt", "kms:Sign"] });
        let reply = run::<SimulateCustomPolicy>(&root, input).await.expect("decided");
        let matched = |index: usize| &reply["EvaluationResults"][index]["MatchedStatements"];
        let place = |line: u32, column: u32| json!({ "Line": line, "Column": column });
        let statement = |start, end| {
            json!([{ "SourcePolicyId": "PolicyInputList.2", "SourcePolicyType": "none",
                "StartPosition": start, "EndPosition": end }])
        };
        assert_eq!(*matched(0), statement(place(3, 17), place(4, 62)));
        assert_eq!(*matched(1), statement(place(4, 62), place(7, 6)));
    }
}
