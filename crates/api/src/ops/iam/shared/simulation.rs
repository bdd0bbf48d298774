//! What both simulations share: circumstances as requests give them, and what is decided under them. The
//! evaluator is the one that decides real requests.

use super::evaluation::{EvaluationResult, Tested, everywhere, on_each};
use super::{marker, part};
use crate::{Call, Error};
use awsproto::{ErrorSpec, Shape, string_enum};
use base::{AccountId, Arn};
use iam::{
    AttachedPolicy, Context, ContextValue, Layer, Layers, Policy, PolicyKind, Principal,
    PrincipalKind, ResourceLayer,
};
use identity::{Listed, Page};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

const INVALID_INPUT: ErrorSpec = ErrorSpec::sender("InvalidInput", 400);

/// How many actions on how many resources one request may ask about.
const PAIRS_MAX: usize = 10_000;
/// How many policies one list may have; each has its own limit of length.
const POLICIES_MAX: usize = 100;

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

/// What both requests say of the circumstances.
pub(crate) struct Circumstances {
    pub(crate) policy_input_list: Vec<String>,
    pub(crate) boundary_input_list: Vec<String>,
    pub(crate) action_names: Vec<String>,
    pub(crate) resource_arns: Vec<String>,
    pub(crate) resource_policy: Option<String>,
    pub(crate) resource_owner: Option<String>,
    pub(crate) context_entries: Vec<ContextEntry>,
    pub(crate) caller_arn: Option<String>,
}

/// What is to be decided, read and checked.
pub(crate) struct Simulation {
    added: Vec<AttachedPolicy>,
    boundary: Option<AttachedPolicy>,
    resource_policy: Option<String>,
    resource_owner: Option<AccountId>,
    caller: Option<Principal>,
    actions: Listed<(usize, String)>,
    resources: Resources,
    context: Context,
}

/// On what the actions are tried.
enum Resources {
    /// On nothing in particular.
    Any,
    /// On each of these, of which one at least is an ARN.
    Listed(Vec<String>),
}

/// One of them, with what belongs to it.
struct Target {
    resource: String,
    owner: Option<AccountId>,
    policy: Option<ResourceLayer>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct SimulationOutput {
    evaluation_results: Vec<EvaluationResult>,
    is_truncated: bool,
    marker: Option<String>,
}

impl Simulation {
    /// Reads what a request says.
    pub(crate) fn read(call: &Call, given_by: Circumstances, page: &Page) -> Result<Self, Error> {
        let added = policies("PolicyInputList", Layer::Identity, &given_by.policy_input_list)?;
        let name = "PermissionsBoundaryPolicyInputList";
        let mut bounds = policies(name, Layer::Boundary, &given_by.boundary_input_list)?;
        if bounds.len() > 1 {
            return Err(invalid(format!("{name} can hold one policy only.")));
        }
        let mut context = Context::new();
        context.set_now(call.now).extend(&given(&given_by.context_entries)?);
        let caller = given_by.caller_arn.as_deref().map(caller).transpose()?;
        let resource_owner = given_by.resource_owner.as_deref().map(account).transpose()?;
        Ok(Self {
            added,
            boundary: bounds.pop(),
            resource_policy: given_by.resource_policy,
            resource_owner,
            caller,
            actions: actions(given_by.action_names, given_by.resource_arns.len(), page)?,
            resources: resources(given_by.resource_arns),
            context,
        })
    }

    /// Decides every action for a principal with the policies that it has already.
    pub(crate) fn decide(
        self,
        principal: Principal,
        mut layers: Layers,
    ) -> Result<SimulationOutput, Error> {
        let Self {
            added,
            boundary,
            resource_policy,
            resource_owner,
            caller,
            actions,
            resources,
            context,
        } = self;
        let mut targets = Targets::new(resource_policy, resource_owner);
        layers.identity.extend(added);
        layers.boundary = boundary.or(layers.boundary);
        let mut principal = caller.unwrap_or(principal);
        describe(&mut principal, &context);
        let mut test = |action: &str, target: &Target| {
            layers.resource.clone_from(&target.policy);
            let request = iam::Request {
                principal: &principal,
                action,
                resource: &target.resource,
                resource_account: target.owner.as_ref(),
                context: &context,
            };
            Tested::new(&principal, &layers, &iam::simulate(&request, &layers))
        };
        let actions_asked = actions.items.iter().map(|(_, action)| action);
        let evaluation_results = match resources {
            Resources::Any => {
                let any = targets.target("*".to_owned())?;
                actions_asked.map(|action| everywhere(action, test(action, &any))).collect()
            }
            Resources::Listed(listed) => {
                let listed: Vec<Target> =
                    listed.into_iter().map(|one| targets.target(one)).collect::<Result<_, _>>()?;
                let mut each = |action| listed.iter().map(|one| test(action, one)).collect();
                actions_asked.map(|action| on_each(action, each(action))).collect()
            }
        };
        Ok(SimulationOutput {
            evaluation_results,
            is_truncated: actions.next.is_some(),
            marker: marker(actions.next.as_ref()),
        })
    }
}

pub(crate) fn invalid(message: String) -> Error {
    Error::new(INVALID_INPUT, message)
}

/// Who is to be the caller (IAM API, `CallerArn`: a user, group or role, no session and no service).
/// The policies given name callers by ARN, so an id of its own is never compared.
fn caller(arn: &str) -> Result<Principal, Error> {
    let parsed = Arn::parse(arn).filter(|arn| arn.service == "iam");
    let found = parsed.and_then(|parsed| {
        let account = AccountId::parse(&parsed.account).ok()?;
        let (kind, _) = parsed.resource.split_once('/')?;
        let path_and_name = &parsed.resource[kind.len()..];
        let (path, name) = path_and_name.split_at(path_and_name.rfind('/')? + 1);
        let id = format!("simulated:{arn}");
        match kind {
            _ if name.is_empty() => None,
            "user" => Some(Principal::user(&account, path, name, &id)),
            "role" => Some(session(&account, path, name, &id)),
            "group" => Some(member(&account, path, name, &id)),
            _ => None,
        }
    });
    found.ok_or_else(|| {
        invalid(format!("Invalid CallerArn: {arn} is not the ARN of a user, group or role."))
    })
}

/// Who calls as a role.
pub(crate) fn session(account: &AccountId, path: &str, name: &str, id: &str) -> Principal {
    Principal::assumed_role(account, path, name, id, "simulation")
}

/// Who calls as a group: one of the account under the group's ARN, which no policy can name.
pub(crate) fn member(account: &AccountId, path: &str, name: &str, id: &str) -> Principal {
    let arn = format!("arn:aws:iam::{account}:group{path}{name}");
    Principal { principal_arn: arn.clone(), arn, ..Principal::user(account, path, name, id) }
}

/// An account by its number or by the ARN of its root.
fn account(text: &str) -> Result<AccountId, Error> {
    let root = text.strip_prefix("arn:aws:iam::").and_then(|rest| rest.strip_suffix(":root"));
    AccountId::parse(root.unwrap_or(text)).map_err(|_| {
        invalid(format!("Invalid ResourceOwner: {text} is not the ARN of an account."))
    })
}

/// The account that a resource's ARN names.
fn owner_of(resource: &str) -> Option<AccountId> {
    Arn::parse(resource).and_then(|arn| AccountId::parse(&arn.account).ok())
}

/// What is known of all resources.
struct Targets {
    policy: Option<String>,
    owner: Option<AccountId>,
    /// The policy as each kind that it was needed as.
    parsed: HashMap<PolicyKind, Arc<Policy>>,
}

impl Targets {
    fn new(policy: Option<String>, owner: Option<AccountId>) -> Self {
        Self { policy, owner, parsed: HashMap::new() }
    }

    fn target(&mut self, resource: String) -> Result<Target, Error> {
        let owner = owner_of(&resource).or_else(|| self.owner.clone());
        Ok(Target { policy: self.policy(&resource)?, owner, resource })
    }

    /// The resource's policy. Those of keys and of roles are mandatory (spec 20, A.3).
    fn policy(&mut self, resource: &str) -> Result<Option<ResourceLayer>, Error> {
        let Some(text) = &self.policy else { return Ok(None) };
        let arn = Arn::parse(resource);
        let is = |service: &str, kind: &str| {
            arn.as_ref().is_some_and(|arn| arn.service == service && arn.resource.starts_with(kind))
        };
        let kind = if is("iam", "role/") { PolicyKind::Trust } else { PolicyKind::KeyPolicy };
        let policy = match self.parsed.entry(kind) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                let policy = Policy::parse(text, kind)
                    .map_err(|error| invalid(format!("ResourcePolicy: {error}")))?;
                Arc::clone(new.insert(Arc::new(policy)))
            }
        };
        Ok(Some(ResourceLayer {
            policy,
            name: "ResourcePolicy".to_owned(),
            mandatory: kind == PolicyKind::Trust || is("kms", "key/"),
        }))
    }
}

/// What the context says of the caller is the caller's also where policies name it: in principals,
/// messages and the name of a user.
fn describe(principal: &mut Principal, context: &Context) {
    for (key, value) in context.iter() {
        let ContextValue::Single(value) = value else { continue };
        let value = value.as_ref();
        match key.to_ascii_lowercase().as_str() {
            "aws:userid" => value.clone_into(&mut principal.user_id),
            "aws:principalarn" => value.clone_into(&mut principal.principal_arn),
            "aws:sourceidentity" => principal.source_identity = Some(value.to_owned()),
            "aws:username" => {
                if let PrincipalKind::User { name, .. } = &mut principal.kind {
                    value.clone_into(name);
                }
            }
            _ => {
                if let Some(tag) = iam::after_prefix(key, "aws:PrincipalTag/") {
                    let folded = tag.to_lowercase();
                    principal.tags.retain(|known, _| known.to_lowercase() != folded);
                    principal.tags.insert(tag.to_owned(), value.to_owned());
                }
            }
        }
    }
}

fn policies(list: &str, layer: Layer, texts: &[String]) -> Result<Vec<AttachedPolicy>, Error> {
    if texts.len() > POLICIES_MAX {
        return Err(invalid(format!("{list} has more than {POLICIES_MAX} policies.")));
    }
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
        let name = key.clone();
        match (kind, values.as_slice()) {
            (
                Type::StringList
                | Type::NumericList
                | Type::BooleanList
                | Type::IpList
                | Type::BinaryList
                | Type::DateList,
                values,
            ) => context.set_multi(name, values.to_vec()),
            (
                Type::String | Type::Numeric | Type::Boolean | Type::Ip | Type::Binary | Type::Date,
                [value],
            ) => context.set(name, value.as_str()),
            (_, _) => return Err(invalid(format!("The context key {key} needs one value."))),
        };
    }
    Ok(context)
}

/// The actions, numbered, as far as the page reaches.
fn actions(
    actions: Vec<String>,
    resources: usize,
    page: &Page,
) -> Result<Listed<(usize, String)>, Error> {
    if let Some(bad) = actions.iter().find(|action| !action.contains(':')) {
        return Err(invalid(format!("Invalid action name: {bad}")));
    }
    if actions.len().saturating_mul(resources.max(1)) > PAIRS_MAX {
        return Err(invalid(format!("More than {PAIRS_MAX} combinations are asked about.")));
    }
    Ok(part(actions.into_iter().enumerate().collect(), page, |(index, _)| format!("{index:08}")))
}

/// IAM API, `ResourceArns`: without any it is `*`, which is no list of resources.
fn resources(arns: Vec<String>) -> Resources {
    match arns.iter().all(|arn| arn == "*") {
        true => Resources::Any,
        false => Resources::Listed(arns),
    }
}
