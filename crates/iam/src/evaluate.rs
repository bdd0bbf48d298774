//! The decision: which layers have to agree, and who is asked first (spec 20, A.2, A.3 and B.6).

use crate::compare::components;
use crate::context::{Context, ContextValue, Keys, Precedence};
use crate::pattern::split_arn;
use crate::policy::{Effect, Element, Policy, PolicyKind, ResourcePattern, Statement};
use crate::principal::{Maker, Principal, PrincipalKind};
use crate::principal_element::PrincipalMatch;
use crate::trace::{
    GrantTrace, Layer, Mismatch, Outcome, PolicyTrace, StatementRef, StatementTrace, Trace,
};
use base::AccountId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One question: may this caller do this to that?
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// `kms:Decrypt`.
    pub action: &'a str,
    /// The ARN of the resource, or `*` for actions that have none.
    pub resource: &'a str,
    /// Whose the resource is; `None` when that is the caller's account or there is no resource.
    pub resource_account: Option<&'a AccountId>,
    /// What else is known.
    pub context: &'a Context,
}

/// A policy on the caller's side.
#[derive(Clone, Debug)]
pub struct AttachedPolicy {
    /// Where it acts.
    pub layer: Layer,
    /// The ARN of a managed policy, the name of an inline one.
    pub name_or_arn: String,
    /// The policy.
    pub policy: Arc<Policy>,
}

/// The policy of the resource.
#[derive(Clone, Debug)]
pub struct ResourceLayer {
    /// The policy, bound to the unique ids of its principals.
    pub policy: Arc<Policy>,
    /// What it is called in explanations.
    pub name: String,
    /// Identity policies alone never suffice: KMS key policies and trust policies.
    pub mandatory: bool,
}

/// A grant whose grantee, operation and constraints fit the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantMatch {
    /// Its id.
    pub grant_id: String,
    /// The account it was issued from.
    pub issuing_account: AccountId,
    /// The grantee is exactly this user or session, not the session's role.
    pub exact_session_or_user: bool,
}

/// All policies that concern a request.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// Identity policies: inline, managed and of the groups.
    pub identity: Vec<AttachedPolicy>,
    /// The permissions boundary.
    pub boundary: Option<AttachedPolicy>,
    /// Session policies. Together they allow what any of them allows; empty means no limit.
    pub session: Vec<AttachedPolicy>,
    /// The policy of the resource.
    pub resource: Option<ResourceLayer>,
    /// Grants that fit.
    pub grants: Vec<GrantMatch>,
}

impl Layers {
    /// Every policy, in the order of [`Trace::policies`].
    pub fn policies(&self) -> impl Iterator<Item = (Layer, &str, &Policy)> {
        let attached = self.identity.iter().chain(&self.boundary).chain(&self.session);
        let resource = self.resource.iter();
        attached
            .map(|one| (one.layer, one.name_or_arn.as_str(), &*one.policy))
            .chain(resource.map(|one| (Layer::Resource, one.name.as_str(), &*one.policy)))
    }
}

/// The answer, with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the caller may.
    pub allowed: bool,
    /// Why or why not.
    pub reason: Reason,
    /// What was looked at.
    pub trace: Trace,
}

/// Why a decision is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// This statement allows, and every other layer agrees.
    AllowedByStatement(StatementRef),
    /// This grant allows.
    AllowedByGrant {
        /// Its id.
        grant_id: String,
    },
    /// The caller is the root of its account.
    AllowedAsRoot,
    /// This statement denies, whatever others allow.
    ExplicitDeny(StatementRef),
    /// Nothing in this layer allows.
    ImplicitDeny(Layer),
}

/// Decides one request.
pub fn evaluate(request: &Request<'_>, layers: &Layers) -> Decision {
    decision(request, layers, Precedence::Derived)
}

/// Decides a request that nobody makes: its context is believed also in what would follow from the
/// caller and the resource, such as `aws:MultiFactorAuthPresent`.
pub fn simulate(request: &Request<'_>, layers: &Layers) -> Decision {
    decision(request, layers, Precedence::Context)
}

fn decision(request: &Request<'_>, layers: &Layers, precedence: Precedence) -> Decision {
    let trace = trace(request, layers, precedence);
    let reason = decide(&request.principal.kind, &trace);
    let allowed = match &reason {
        Reason::AllowedByStatement(_) | Reason::AllowedByGrant { .. } | Reason::AllowedAsRoot => {
            true
        }
        Reason::ExplicitDeny(_) | Reason::ImplicitDeny(_) => false,
    };
    Decision { allowed, reason, trace }
}

fn decide(kind: &PrincipalKind, trace: &Trace) -> Reason {
    if let Some((denying, _)) = trace.applying(Effect::Deny).next() {
        return Reason::ExplicitDeny(denying);
    }
    let allows = Allows { trace, statements: trace.applying(Effect::Allow).collect() };
    let source = if kind.is_nobody() {
        // None of them has an identity side (spec 20, A.2).
        allows.resource_side().map(Source::AloneBy).ok_or(Layer::Resource)
    } else if trace.cross_account {
        allows.across_accounts(kind)
    } else {
        allows.within_account(kind)
    };
    let by = match source {
        Err(layer) => return Reason::ImplicitDeny(layer),
        Ok(Source::AloneBy(by)) => return by,
        Ok(Source::WithinLimits(by)) => by,
    };
    // Policies of an organization would be one more layer here: spec 20, A.2 step 2 asks them as it
    // asks the boundary, but also of what stands on its own.
    for layer in [Layer::Boundary, Layer::Session] {
        let limits = trace.policies.iter().any(|policy| policy.layer == layer);
        if limits && allows.in_layer(layer).is_none() {
            return Reason::ImplicitDeny(layer);
        }
    }
    by
}

/// What allows, before boundary and session policies are asked.
enum Source {
    /// Stands on its own: missing allows in boundary and session policies do not matter.
    AloneBy(Reason),
    /// Boundary and session policies have to allow as well.
    WithinLimits(Reason),
}

/// Every statement that allows and applies, and the grants.
struct Allows<'a> {
    trace: &'a Trace,
    statements: Vec<(StatementRef, Option<PrincipalMatch>)>,
}

impl Allows<'_> {
    fn in_layer(&self, layer: Layer) -> Option<Reason> {
        let found = self.statements.iter().find(|(statement, _)| statement.layer == layer);
        found.map(|(statement, _)| Reason::AllowedByStatement(statement.clone()))
    }

    /// A statement of the resource policy that names the caller in this way.
    fn naming(&self, wanted: PrincipalMatch) -> Option<Reason> {
        let found = self.statements.iter().find(|(_, named)| *named == Some(wanted));
        found.map(|(statement, _)| Reason::AllowedByStatement(statement.clone()))
    }

    fn grant(&self, fits: impl Fn(&GrantTrace) -> bool) -> Option<Reason> {
        let found = self.trace.grants.iter().find(|grant| fits(grant));
        found.map(|grant| Reason::AllowedByGrant { grant_id: grant.grant_id.clone() })
    }

    /// Anything on the side of the resource, by whomever it was granted.
    fn resource_side(&self) -> Option<Reason> {
        self.in_layer(Layer::Resource).or_else(|| self.grant(|_| true))
    }

    fn identity(&self, kind: &PrincipalKind) -> Option<Reason> {
        match kind {
            PrincipalKind::Root | PrincipalKind::FederatedUser { maker: Maker::Root, .. } => {
                Some(Reason::AllowedAsRoot)
            }
            PrincipalKind::User { .. }
            | PrincipalKind::AssumedRole { .. }
            | PrincipalKind::FederatedUser { maker: Maker::User, .. }
            | PrincipalKind::WebIdentity { .. }
            | PrincipalKind::Saml { .. }
            | PrincipalKind::Service { .. } => self.in_layer(Layer::Identity),
        }
    }

    /// Both sides have to allow; a grant issued from the caller's account supplies the caller's
    /// side (spec 20, A.2 step 4 and B.6).
    fn across_accounts(&self, kind: &PrincipalKind) -> Result<Source, Layer> {
        self.resource_side().ok_or(Layer::Resource)?;
        let own = |exact: bool| {
            self.grant(|g| g.issued_by_callers_account && g.exact_session_or_user == exact)
        };
        if let Some(exact) = own(true) {
            return Ok(Source::AloneBy(exact));
        }
        let by = own(false).or_else(|| self.identity(kind)).ok_or(Layer::Identity)?;
        Ok(Source::WithinLimits(by))
    }

    /// Spec 20, A.2 step 3, and A.3 for resource policies that are mandatory.
    fn within_account(&self, kind: &PrincipalKind) -> Result<Source, Layer> {
        let exact = self.naming(PrincipalMatch::Exact);
        if let Some(exact) = exact.or_else(|| self.grant(|g| g.exact_session_or_user)) {
            return Ok(Source::AloneBy(exact));
        }
        let role = self.naming(PrincipalMatch::Role);
        if let Some(role) = role.or_else(|| self.grant(|g| !g.exact_session_or_user)) {
            return Ok(Source::WithinLimits(role));
        }
        let delegated = self.naming(PrincipalMatch::Account).is_some();
        if self.trace.resource_policy_is_mandatory && !delegated {
            return Err(Layer::Resource);
        }
        self.identity(kind).map(Source::WithinLimits).ok_or(Layer::Identity)
    }
}

fn trace(request: &Request<'_>, layers: &Layers, precedence: Precedence) -> Trace {
    let of = |layer: Layer, name: &str, policy: &Policy| {
        let keys = Keys {
            principal: request.principal,
            resource_account: request.resource_account,
            context: request.context,
            policy: policy.kind,
            precedence,
        };
        policy_trace(layer, name, policy, request, &keys)
    };
    let policies = layers.policies().map(|(layer, name, policy)| of(layer, name, policy)).collect();
    let callers = &request.principal.account;
    let foreign = request.resource_account.is_some_and(|account| account != callers);
    Trace {
        principal: request.principal.arn.clone(),
        action: request.action.to_owned(),
        resource: request.resource.to_owned(),
        // Without a resource policy there is no trusting side: sharing is then the service's own.
        cross_account: foreign && layers.resource.is_some(),
        resource_policy_is_mandatory: layers.resource.as_ref().is_some_and(|r| r.mandatory),
        policies,
        grants: layers
            .grants
            .iter()
            .map(|grant| GrantTrace {
                grant_id: grant.grant_id.clone(),
                exact_session_or_user: grant.exact_session_or_user,
                issued_by_callers_account: grant.issuing_account == *callers,
            })
            .collect(),
    }
}

fn policy_trace(
    layer: Layer,
    name: &str,
    policy: &Policy,
    request: &Request<'_>,
    keys: &Keys<'_>,
) -> PolicyTrace {
    let statements = policy.statements.iter().enumerate().map(|(index, statement)| {
        let outcome = match statement_fits(statement, request, keys) {
            Ok(named) => Outcome::Applies(named),
            Err(mismatch) => Outcome::Misses(mismatch),
        };
        StatementTrace { index, sid: statement.sid.clone(), effect: statement.effect, outcome }
    });
    PolicyTrace { layer, policy: name.to_owned(), statements: statements.collect() }
}

fn statement_fits(
    statement: &Statement,
    request: &Request<'_>,
    keys: &Keys<'_>,
) -> Result<Option<PrincipalMatch>, Mismatch> {
    let named = match &statement.principals {
        None => None,
        Some(element) => match element.names(request.principal) {
            Some(named) => Some(named),
            None => {
                return Err(Mismatch::Principal {
                    wanted: element.items.iter().map(|p| p.written()).collect(),
                    found: request.principal.arn.clone(),
                });
            }
        },
    };
    let Some(actions) = &statement.actions else {
        return Err(Mismatch::Inert { missing: "Action".into() });
    };
    if actions.items.iter().any(|a| a.matches(request.action)) == actions.negated {
        return Err(Mismatch::Action {
            wanted: actions.items.iter().map(|a| a.written().to_owned()).collect(),
            found: request.action.to_owned(),
        });
    }
    match &statement.resources {
        // The resource of a trust policy is the role it stands on.
        None if keys.policy == PolicyKind::Trust => {}
        None => return Err(Mismatch::Inert { missing: "Resource".into() }),
        Some(resources) => {
            if !resources_fit(resources, statement.effect, request.resource, keys) {
                return Err(Mismatch::Resource {
                    wanted: resources.items.iter().map(|r| r.shown(keys)).collect(),
                    found: request.resource.to_owned(),
                });
            }
        }
    }
    match statement.conditions.iter().find(|c| !c.holds(keys, statement.effect)) {
        None => Ok(named),
        Some(condition) => Err(Mismatch::Condition {
            operator: condition.operator.written.clone(),
            key: condition.key.clone(),
            wanted: condition.operands.iter().map(|o| o.shown()).collect(),
            found: keys.lookup(&condition.key).map(|found| found.values),
        }),
    }
}

fn resources_fit(
    element: &Element<ResourcePattern>,
    effect: Effect,
    resource: &str,
    keys: &Keys<'_>,
) -> bool {
    let mut unresolved = false;
    let mut listed = false;
    for item in &element.items {
        match item.matches(resource, keys) {
            Some(matches) => listed |= matches,
            None => unresolved = true,
        }
    }
    if element.negated && unresolved && effect == Effect::Allow {
        // What the variable would have excluded is unknown, so nothing is allowed.
        return false;
    }
    listed != element.negated
}

impl ResourcePattern {
    /// Whether the pattern covers a resource; `None` when a variable in it has no value.
    fn matches(&self, resource: &str, keys: &Keys<'_>) -> Option<bool> {
        let Self::Arn { parts, .. } = self else { return Some(true) };
        let patterns: Vec<_> =
            parts.iter().map(|part| part.resolve(keys)).collect::<Option<_>>()?;
        // A pattern that ends early ends in a star, and the components behind it may be anything.
        Some(
            split_arn(resource)
                .is_some_and(|components_found| components(&patterns, components_found)),
        )
    }

    fn shown(&self, keys: &Keys<'_>) -> String {
        let Self::Arn { parts, .. } = self else { return self.written().to_owned() };
        let resolved: Option<Vec<_>> =
            parts.iter().map(|part| part.resolve(keys).map(|p| p.display())).collect();
        resolved.map_or_else(|| self.written().to_owned(), |parts| parts.join(":"))
    }
}

impl Decision {
    /// Why the caller may not, in AWS's words (spec 20, A.9); `None` when it may.
    pub fn message(&self) -> Option<String> {
        let Trace { principal, action, resource, .. } = &self.trace;
        let on = match resource.as_str() {
            "*" | "" => String::new(),
            arn => format!(" on resource: {arn}"),
        };
        let because = match &self.reason {
            Reason::AllowedByStatement(_)
            | Reason::AllowedByGrant { .. }
            | Reason::AllowedAsRoot => return None,
            Reason::ImplicitDeny(layer) => {
                format!("because no {} allows the {action} action", layer.noun())
            }
            Reason::ExplicitDeny(statement) => {
                let noun = statement.layer.noun();
                let article = if noun.starts_with('i') { "an" } else { "a" };
                let policy = match statement.policy.starts_with("arn:") {
                    true => format!(": {}", statement.policy),
                    false => String::new(),
                };
                format!("with an explicit deny in {article} {noun}{policy}")
            }
        };
        Some(format!("User: {principal} is not authorized to perform: {action}{on} {because}"))
    }
}

/// The value of a key as the evaluator sees it, including what follows from the caller.
pub fn context_value(request: &Request<'_>, key: &str) -> Option<ContextValue> {
    let keys = Keys {
        principal: request.principal,
        resource_account: request.resource_account,
        context: request.context,
        policy: PolicyKind::Identity,
        precedence: Precedence::Derived,
    };
    let mut found = keys.lookup(key)?;
    Some(match found.multivalued {
        true => ContextValue::Multi(found.values),
        false => ContextValue::Single(found.values.pop()?.into()),
    })
}
