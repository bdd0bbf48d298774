//! `iam:SimulatePrincipalPolicy`: tells what the policies of a user or role would decide.
//!
//! The evaluator is the one that decides real requests; only the circumstances are those given.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape, string_enum};
use base::Arn;
use iam::{
    AttachedPolicy, Context, Decision, Effect, Layer, Layers, Mismatch, Outcome, Policy,
    PolicyKind, Principal, Reason,
};
use identity::{Entity, Kind, Listed, Page, tag};
use meta::Tx;
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) struct SimulatePrincipalPolicy;

const INVALID_INPUT: ErrorSpec = ErrorSpec::sender("InvalidInput", 400);

/// How many actions on how many resources one request may ask about.
const PAIRS_MAX: usize = 10_000;

string_enum! {
    /// What the values of a condition key are.
    pub(crate) enum ContextKeyType {
        /// A text.
        String = "string",
        /// Texts.
        StringList = "stringList",
        /// A number.
        Numeric = "numeric",
        /// Numbers.
        NumericList = "numericList",
        /// `true` or `false`.
        Boolean = "boolean",
        /// Several of them.
        BooleanList = "booleanList",
        /// An address.
        Ip = "ip",
        /// Addresses.
        IpList = "ipList",
        /// Base 64.
        Binary = "binary",
        /// Several of them.
        BinaryList = "binaryList",
        /// An instant.
        Date = "date",
        /// Instants.
        DateList = "dateList",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct ContextEntry {
    context_key_name: Option<String>,
    context_key_values: Vec<String>,
    context_key_type: Option<ContextKeyType>,
}

#[derive(Shape)]
#[shape(input, unsupported(ResourcePolicy, ResourceOwner, CallerArn, ResourceHandlingOption))]
pub(crate) struct Input {
    policy_source_arn: String,
    policy_input_list: Vec<String>,
    permissions_boundary_policy_input_list: Vec<String>,
    #[shape(required)]
    action_names: Vec<String>,
    resource_arns: Vec<String>,
    context_entries: Vec<ContextEntry>,
    max_items: Option<i32>,
    marker: Option<String>,
}

#[derive(Shape)]
#[shape(output, omitted(StartPosition, EndPosition))]
pub(crate) struct Statement {
    source_policy_id: String,
    source_policy_type: &'static str,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct BoundaryDetail {
    allowed_by_permissions_boundary: bool,
}

#[derive(Shape)]
#[shape(output, omitted(EvalDecisionDetails, OrganizationsDecisionDetail, ResourceSpecificResults))]
pub(crate) struct EvaluationResult {
    eval_action_name: String,
    eval_resource_name: String,
    eval_decision: &'static str,
    matched_statements: Vec<Statement>,
    missing_context_values: Vec<String>,
    permissions_boundary_decision_detail: Option<BoundaryDetail>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    evaluation_results: Vec<EvaluationResult>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    source: Subject,
    source_arn: String,
    added: Vec<AttachedPolicy>,
    boundary: Option<AttachedPolicy>,
    pairs: Listed<(usize, String, String)>,
    context: Context,
}

impl Operation for SimulatePrincipalPolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "SimulatePrincipalPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        let added = policies("PolicyInputList", Layer::Identity, &input.policy_input_list)?;
        let name = "PermissionsBoundaryPolicyInputList";
        let mut bounds =
            policies(name, Layer::Boundary, &input.permissions_boundary_policy_input_list)?;
        if bounds.len() > 1 {
            return Err(invalid(format!("{name} can hold one policy only.")));
        }
        let mut context = Context::new();
        context.set_now(call.now).extend(&given(&input.context_entries)?);
        Ok(Plan {
            source: source(call, &input.policy_source_arn).await?,
            source_arn: input.policy_source_arn,
            added,
            boundary: bounds.pop(),
            pairs: pairs(&input.action_names, input.resource_arns, &page)?,
            context,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.source.ask("iam:SimulatePrincipalPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { source, source_arn, added, boundary, pairs, context } = plan.into_inner();
        let identity = call.world.identity.clone();
        let (principal, mut layers) = shared::read(call, move |tx| {
            let entity = source.find(tx)?;
            if entity.arn().to_string() != source_arn {
                let message = format!("The entity with ARN {source_arn} cannot be found.");
                return Err(identity::Error::NoSuchEntity { message });
            }
            let principal = principal(tx, &entity)?;
            let layers = identity.layers(tx, &principal, &[])?;
            Ok((principal, layers))
        })
        .await?;
        layers.identity.extend(added);
        layers.boundary = boundary.or(layers.boundary);
        let shown = pairs.items.iter().map(|(_, action, resource)| {
            let request = iam::Request {
                principal: &principal,
                action,
                resource,
                resource_account: None,
                context: &context,
            };
            result(&principal, &layers, &iam::evaluate(&request, &layers))
        });
        Ok(Output {
            evaluation_results: shown.collect(),
            is_truncated: pairs.next.is_some(),
            marker: shared::marker(pairs.next.as_ref()),
        })
    }
}

fn invalid(message: String) -> Error {
    Error::new(INVALID_INPUT, message)
}

/// The user or role whose policies are asked about.
async fn source(call: &Call, arn: &str) -> Result<Subject, Error> {
    let own = Arn::parse(arn)
        .filter(|arn| arn.service == "iam" && arn.account == call.account().as_str());
    let kind_and_name = own.as_ref().and_then(|arn| {
        let kind = match arn.resource.split_once('/')?.0 {
            "user" => Kind::User,
            "role" => Kind::Role,
            _ => return None,
        };
        Some((kind, arn.resource.rsplit('/').next()?.to_owned()))
    });
    let Some((kind, name)) = kind_and_name else {
        return Err(invalid(format!("{arn} is no user or role of the account.")));
    };
    Subject::named(call, kind, name).await
}

fn policies(list: &str, layer: Layer, texts: &[String]) -> Result<Vec<AttachedPolicy>, Error> {
    let policy = |(index, text): (usize, &String)| {
        let name_or_arn = format!("{list}.{}", index + 1);
        let policy = Policy::parse(text, PolicyKind::Identity)
            .map_err(|error| invalid(format!("{name_or_arn}: {error}")))?;
        Ok(AttachedPolicy { layer, name_or_arn, policy: Arc::new(policy) })
    };
    texts.iter().enumerate().map(policy).collect()
}

/// The condition keys that the request gives.
fn given(entries: &[ContextEntry]) -> Result<Context, Error> {
    use ContextKeyType as Type;
    let mut context = Context::new();
    for ContextEntry { context_key_name, context_key_values: values, context_key_type } in entries {
        let Some(key) = context_key_name else {
            return Err(invalid("A context entry needs a ContextKeyName.".to_owned()));
        };
        // Without a type, a value is a text.
        let kind = context_key_type.as_ref().unwrap_or(&Type::String);
        match (kind, values.as_slice()) {
            (
                Type::StringList
                | Type::NumericList
                | Type::BooleanList
                | Type::IpList
                | Type::BinaryList
                | Type::DateList,
                values,
            ) => context.set_multi(key, values.to_vec()),
            (
                Type::String | Type::Numeric | Type::Boolean | Type::Ip | Type::Binary | Type::Date,
                [value],
            ) => context.set(key, value.as_str()),
            (_, _) => return Err(invalid(format!("The context key {key} needs one value."))),
        };
    }
    Ok(context)
}

/// Every action on every resource, numbered, as far as the page reaches.
fn pairs(
    actions: &[String],
    mut resources: Vec<String>,
    page: &Page,
) -> Result<Listed<(usize, String, String)>, Error> {
    if resources.is_empty() {
        resources.push("*".to_owned());
    }
    if let Some(bad) = actions.iter().find(|action| !action.contains(':')) {
        return Err(invalid(format!("Invalid action name: {bad}")));
    }
    if actions.len().saturating_mul(resources.len()) > PAIRS_MAX {
        return Err(invalid(format!("More than {PAIRS_MAX} combinations are asked about.")));
    }
    let both = actions.iter().flat_map(|a| resources.iter().map(move |r| (a.clone(), r.clone())));
    let all = both.enumerate().map(|(index, (action, resource))| (index, action, resource));
    Ok(shared::part(all.collect(), page, |(index, _, _)| format!("{index:08}")))
}

/// The user, or a session of the role.
fn principal(tx: &mut Tx<'_>, entity: &Entity) -> identity::Result<Principal> {
    let Entity { account, path, name, unique_id, .. } = entity;
    let mut principal = match entity.kind {
        Kind::Role => Principal::assumed_role(account, path, name, unique_id, "simulation"),
        Kind::User | Kind::Group => Principal::user(account, path, name, unique_id),
    };
    principal.tags = tag::of(tx, account, unique_id)?;
    Ok(principal)
}

fn result(principal: &Principal, layers: &Layers, decision: &Decision) -> EvaluationResult {
    let trace = &decision.trace;
    let (eval_decision, effect) = match decision.reason {
        Reason::ExplicitDeny(_) => ("explicitDeny", Some(Effect::Deny)),
        Reason::ImplicitDeny(_) => ("implicitDeny", None),
        Reason::AllowedByStatement(_) | Reason::AllowedByGrant { .. } | Reason::AllowedAsRoot => {
            ("allowed", Some(Effect::Allow))
        }
    };
    let mut matched = Vec::new();
    let mut missing = BTreeSet::new();
    let (mut bound_allows, mut bound_denies) = (false, false);
    for policy in &trace.policies {
        for statement in &policy.statements {
            match &statement.outcome {
                Outcome::Applies(_) => {
                    if policy.layer == Layer::Boundary {
                        bound_allows |= statement.effect == Effect::Allow;
                        bound_denies |= statement.effect == Effect::Deny;
                    }
                    if Some(statement.effect) == effect {
                        matched.push(Statement {
                            source_policy_id: policy.policy.clone(),
                            source_policy_type: policy_type(principal, &policy.policy),
                        });
                    }
                }
                Outcome::Misses(Mismatch::Condition { key, found: None, .. }) => {
                    missing.insert(key.clone());
                }
                Outcome::Misses(_) => {}
            }
        }
    }
    EvaluationResult {
        eval_action_name: trace.action.clone(),
        eval_resource_name: trace.resource.clone(),
        eval_decision,
        matched_statements: matched,
        missing_context_values: missing.into_iter().collect(),
        permissions_boundary_decision_detail: layers.boundary.as_ref().map(|_| BoundaryDetail {
            allowed_by_permissions_boundary: bound_allows && !bound_denies,
        }),
    }
}

/// Where a policy comes from, by its name in the layers: names of inline policies hold no spaces.
fn policy_type(principal: &Principal, name: &str) -> &'static str {
    if name.starts_with("arn:aws:iam::aws:") {
        "aws-managed"
    } else if name.starts_with("arn:") {
        "user-managed"
    } else if name.contains("InputList.") {
        "none"
    } else if name.contains(" of group ") {
        "group"
    } else if matches!(principal.kind, iam::PrincipalKind::AssumedRole { .. }) {
        "role"
    } else {
        "user"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run};
    use serde_json::{Value as Json, json};

    const AMY: &str = "arn:aws:iam::111111111111:user/amy";
    const KEY: &str = "arn:aws:kms:us-east-1:111111111111:key/k1";

    fn decisions(reply: &Json) -> Vec<&str> {
        let results = reply["EvaluationResults"].as_array().expect("a list");
        results.iter().map(|one| one["EvalDecision"].as_str().expect("a text")).collect()
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
        assert_eq!(decisions(&reply), ["explicitDeny", "allowed", "implicitDeny", "implicitDeny"]);
        let results = &reply["EvaluationResults"];
        let source = json!([{"SourcePolicyId": "test", "SourcePolicyType": "user"}]);
        assert_eq!(results[0]["MatchedStatements"], source);
        assert_eq!(results[2]["MatchedStatements"], json!([]));
        assert_eq!(results[2]["MissingContextValues"], json!(["ec2:Region"]));

        input["ContextEntries"] = json!([{"ContextKeyName": "ec2:Region",
            "ContextKeyType": "string", "ContextKeyValues": ["us-east-1"]}]);
        input["PolicyInputList"] = json!([json!({"Version": "2012-10-17", "Statement":
            {"Effect": "Deny", "Action": "kms:*", "Resource": "*"}})
        .to_string()]);
        let reply = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&reply), ["explicitDeny", "explicitDeny", "allowed", "allowed"]);

        input["PermissionsBoundaryPolicyInputList"] = json!([json!({"Version": "2012-10-17",
            "Statement": {"Effect": "Allow", "Action": "kms:*", "Resource": "*"}})
        .to_string()]);
        input["MaxItems"] = json!(3);
        let first = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&first), ["explicitDeny", "explicitDeny", "implicitDeny"]);
        let detail = &first["EvaluationResults"][2]["PermissionsBoundaryDecisionDetail"];
        assert_eq!(detail["AllowedByPermissionsBoundary"], false);
        input["Marker"] = first["Marker"].clone();
        let rest = run::<SimulatePrincipalPolicy>(&root, input.clone()).await.expect("allowed");
        assert_eq!(decisions(&rest), ["implicitDeny"]);
        assert_eq!(rest["IsTruncated"], false);

        let denied = run::<SimulatePrincipalPolicy>(&amy, input).await;
        assert_eq!(denied.expect_err("no such permission").code(), "AccessDenied");
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
            ("arn:aws:iam::111111111111:group/amy", "kms:Decrypt", "InvalidInput"),
            ("arn:aws:iam::111111111111:user/dev/amy", "kms:Decrypt", "NoSuchEntity"),
            ("arn:aws:iam::111111111111:role/amy", "kms:Decrypt", "NoSuchEntity"),
            (AMY, "Decrypt", "InvalidInput"),
        ] {
            let input = json!({"PolicySourceArn": source, "ActionNames": [action]});
            let refused = run::<SimulatePrincipalPolicy>(&root, input).await;
            assert_eq!(refused.expect_err(source).code(), code, "{source} {action}");
        }
    }
}
