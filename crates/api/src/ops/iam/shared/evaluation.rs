//! How simulations show their decisions: a result for each action, and in it one for each resource that
//! the request lists.

use awsproto::Shape;
use iam::{
    Decision, Effect, Layer, Layers, Mismatch, Outcome, Principal, PrincipalKind, Reason, Trace,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Shape)]
#[shape(output, omitted(OrganizationsDecisionDetail))]
pub(crate) struct EvaluationResult {
    eval_action_name: String,
    eval_resource_name: String,
    eval_decision: &'static str,
    matched_statements: Vec<Statement>,
    missing_context_values: Vec<String>,
    permissions_boundary_decision_detail: Option<BoundaryDetail>,
    eval_decision_details: Option<BTreeMap<String, String>>,
    resource_specific_results: Option<Vec<ResourceSpecificResult>>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct ResourceSpecificResult {
    eval_resource_name: String,
    eval_resource_decision: &'static str,
    matched_statements: Vec<Statement>,
    missing_context_values: Vec<String>,
    permissions_boundary_decision_detail: Option<BoundaryDetail>,
    eval_decision_details: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Shape)]
#[shape(output)]
pub(crate) struct Statement {
    source_policy_id: String,
    source_policy_type: &'static str,
    start_position: Position,
    end_position: Position,
}

#[derive(Clone, Shape)]
#[shape(output)]
pub(crate) struct Position {
    line: u32,
    column: u32,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct BoundaryDetail {
    allowed_by_permissions_boundary: bool,
}

/// What is said of a request. Of several the greatest is what all of them together get.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Allowed,
    ImplicitDeny,
    ExplicitDeny,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::ImplicitDeny => "implicitDeny",
            Self::ExplicitDeny => "explicitDeny",
        }
    }

    /// The effect of the statements that lead to it; nothing leads to an implicit deny.
    fn effect(self) -> Option<Effect> {
        match self {
            Self::Allowed => Some(Effect::Allow),
            Self::ImplicitDeny => None,
            Self::ExplicitDeny => Some(Effect::Deny),
        }
    }
}

/// What was decided of an action on a resource.
pub(crate) struct Tested {
    resource: String,
    verdict: Verdict,
    /// By the numbers of their policies and their own, so that a statement is told from one alike.
    matched: BTreeMap<(usize, usize), Statement>,
    missing: BTreeSet<String>,
    /// Whether the boundary allows, if there is one.
    boundary: Option<bool>,
    /// What each kind of policies says, across accounts.
    details: Option<BTreeMap<&'static str, Verdict>>,
}

impl Tested {
    /// Reads it off the decision on these policies.
    pub(crate) fn new(principal: &Principal, layers: &Layers, decision: &Decision) -> Self {
        let trace = &decision.trace;
        let verdict = match decision.reason {
            Reason::ExplicitDeny(_) => Verdict::ExplicitDeny,
            Reason::ImplicitDeny(_) => Verdict::ImplicitDeny,
            Reason::AllowedByStatement(_)
            | Reason::AllowedByGrant { .. }
            | Reason::AllowedAsRoot => Verdict::Allowed,
        };
        let bound = layers.boundary.as_ref().map(|_| said(trace, Layer::Boundary));
        // IAM API, EvaluationResult: what each kind says is told of cross-account requests only.
        let details = trace.cross_account.then(|| {
            let mut details = BTreeMap::from([
                ("IAM Policy", said(trace, Layer::Identity)),
                ("Resource Policy", said(trace, Layer::Resource)),
            ]);
            details.extend(bound.map(|bound| ("Permissions Boundary Policy", bound)));
            details
        });
        Self {
            resource: trace.resource.clone(),
            verdict,
            matched: matched(principal, layers, trace, verdict),
            missing: missing(trace),
            boundary: bound.map(|bound| bound == Verdict::Allowed),
            details,
        }
    }

    fn shown(self) -> ResourceSpecificResult {
        ResourceSpecificResult {
            eval_resource_name: self.resource,
            eval_resource_decision: self.verdict.word(),
            matched_statements: self.matched.into_values().collect(),
            missing_context_values: self.missing.into_iter().collect(),
            permissions_boundary_decision_detail: self.boundary.map(detail),
            eval_decision_details: self.details.map(words),
        }
    }
}

/// What is answered of an action for which the request lists no resources.
pub(crate) fn everywhere(action: &str, tested: Tested) -> EvaluationResult {
    let shown = tested.shown();
    EvaluationResult {
        eval_action_name: action.to_owned(),
        eval_resource_name: shown.eval_resource_name,
        eval_decision: shown.eval_resource_decision,
        matched_statements: shown.matched_statements,
        missing_context_values: shown.missing_context_values,
        permissions_boundary_decision_detail: shown.permissions_boundary_decision_detail,
        eval_decision_details: shown.eval_decision_details,
        resource_specific_results: None,
    }
}

/// What is answered of an action on the resources listed, at least one: in short of all, then of each.
pub(crate) fn on_each(action: &str, tested: Vec<Tested>) -> EvaluationResult {
    let name = match tested.as_slice() {
        [only] => only.resource.clone(),
        _ => "*".to_owned(),
    };
    let verdict = tested.iter().map(|one| one.verdict).max().expect("a resource is listed");
    let mut matched = BTreeMap::new();
    let mut details = BTreeMap::new();
    for one in &tested {
        if one.verdict == verdict {
            let more = one.matched.iter().map(|(place, statement)| (*place, statement.clone()));
            matched.extend(more);
        }
        for (kind, verdict) in one.details.iter().flatten() {
            let all = details.entry(*kind).or_insert(*verdict);
            *all = (*all).max(*verdict);
        }
    }
    // One boundary bounds all of them or none.
    let allowed = tested.iter().map(|one| one.boundary).min().flatten();
    EvaluationResult {
        eval_action_name: action.to_owned(),
        eval_resource_name: name,
        eval_decision: verdict.word(),
        matched_statements: matched.into_values().collect(),
        // IAM API, EvaluationResult: of resources that are listed these are in the results of each,
        // and what each kind of policies says is there, but empty, when no resource is foreign.
        missing_context_values: Vec::new(),
        permissions_boundary_decision_detail: allowed.map(detail),
        eval_decision_details: Some(words(details)),
        resource_specific_results: Some(tested.into_iter().map(Tested::shown).collect()),
    }
}

fn detail(allowed_by_permissions_boundary: bool) -> BoundaryDetail {
    BoundaryDetail { allowed_by_permissions_boundary }
}

fn words(details: BTreeMap<&'static str, Verdict>) -> BTreeMap<String, String> {
    let word = |(kind, verdict): (&str, Verdict)| (kind.to_owned(), verdict.word().to_owned());
    details.into_iter().map(word).collect()
}

/// What one kind of policies says by itself.
fn said(trace: &Trace, layer: Layer) -> Verdict {
    let policies = trace.policies.iter().filter(|policy| policy.layer == layer);
    let applying = policies.flat_map(|policy| &policy.statements);
    let effects: Vec<Effect> = applying
        .filter(|statement| matches!(statement.outcome, Outcome::Applies(_)))
        .map(|statement| statement.effect)
        .collect();
    if effects.contains(&Effect::Deny) {
        Verdict::ExplicitDeny
    } else if effects.contains(&Effect::Allow) {
        Verdict::Allowed
    } else {
        Verdict::ImplicitDeny
    }
}

/// The statements that lead to the verdict, where they stand.
fn matched(
    principal: &Principal,
    layers: &Layers,
    trace: &Trace,
    verdict: Verdict,
) -> BTreeMap<(usize, usize), Statement> {
    let mut matched = BTreeMap::new();
    let policies = trace.policies.iter().zip(layers.policies());
    for (number, (policy, (_, _, parsed))) in policies.enumerate() {
        for (statement, span) in policy.statements.iter().zip(parsed.spans()) {
            let applies = matches!(statement.outcome, Outcome::Applies(_));
            if applies && Some(statement.effect) == verdict.effect() {
                let shown = Statement {
                    source_policy_id: policy.policy.clone(),
                    source_policy_type: policy_type(principal, policy.layer, &policy.policy),
                    start_position: position(span.start),
                    end_position: position(span.end),
                };
                matched.insert((number, statement.index), shown);
            }
        }
    }
    matched
}

fn position(iam::Position { line, column }: iam::Position) -> Position {
    Position { line, column }
}

/// The condition keys that statements asked for in vain.
fn missing(trace: &Trace) -> BTreeSet<String> {
    let statements = trace.policies.iter().flat_map(|policy| &policy.statements);
    let key = |outcome: &Outcome| match outcome {
        Outcome::Misses(Mismatch::Condition { key, found: None, .. }) => Some(key.clone()),
        Outcome::Applies(_) | Outcome::Misses(_) => None,
    };
    statements.filter_map(|statement| key(&statement.outcome)).collect()
}

/// Where a policy comes from, by its name in the layers: names of inline policies hold no spaces.
fn policy_type(principal: &Principal, layer: Layer, name: &str) -> &'static str {
    if layer == Layer::Resource {
        "resource"
    } else if name.starts_with("arn:aws:iam::aws:") {
        "aws-managed"
    } else if name.starts_with("arn:") {
        "user-managed"
    } else if name.contains("InputList.") {
        "none"
    } else if name.contains(" of group ") {
        "group"
    } else if matches!(principal.kind, PrincipalKind::AssumedRole { .. }) {
        "role"
    } else {
        "user"
    }
}
