//! The explanation as data: the members of `--output json`, documented in `docs/explain.md`.

use super::view::View;
use crate::decided::{Decided, DecisionId, Decisions, Mode};
use crate::refusal::Refusal;
use base::{AccountId, Arn};
use events::Record;
use iam::{Layer, Mismatch, Outcome, PolicyTrace, Reason, StatementRef, StatementTrace};
use kms::guard::{GrantMismatch, MissedGrant};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the document.
const VERSION: u8 = 1;

/// Why calls went as they did.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explanation {
    pub(crate) version: u8,
    /// Oldest first.
    pub(crate) calls: Vec<CallStory>,
}

/// One call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CallStory {
    pub(crate) explain_id: String,
    pub(crate) event_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) request_id: Option<String>,
    /// The request that a service made this call for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made_for: Option<String>,
    pub(crate) time: String,
    pub(crate) region: String,
    pub(crate) service: String,
    pub(crate) operation: String,
    /// The caller's ARN; its account alone for viewers of other accounts.
    pub(crate) caller: String,
    pub(crate) caller_account: AccountId,
    /// The service that spoke for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) via: Option<String>,
    /// `native` or `documented`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) enforcement: Option<Mode>,
    /// How the call failed; absent when it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) failure: Option<FailureStory>,
    /// What will come of a call that succeeded; absent when nothing was foreseen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) foreseen: Option<ForeseenStory>,
    pub(crate) decisions: Vec<DecisionStory>,
}

/// A failure as the trail has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct FailureStory {
    pub(crate) code: String,
    pub(crate) message: String,
    /// What stopped the call: `policy`, `key state`, `request`, …
    pub(crate) layer: String,
    /// The rule that refused it, when it was no policy and its caller looks.
    #[serde(flatten)]
    pub(crate) rule: Option<RuleStory>,
}

/// What a rule wanted, what it found, and who has to do what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RuleStory {
    pub(crate) wanted: String,
    pub(crate) found: String,
    pub(crate) remedy: String,
}

/// Why what was asked for will not come about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ForeseenStory {
    /// What is seen of it.
    pub(crate) looks: String,
    pub(crate) layer: String,
    #[serde(flatten)]
    pub(crate) rule: RuleStory,
}

impl RuleStory {
    pub(crate) fn of(refusal: &Refusal) -> Self {
        let Refusal { wanted, found, remedy, .. } = refusal.clone();
        Self { wanted, found, remedy }
    }
}

/// One decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DecisionStory {
    pub(crate) id: String,
    pub(crate) allowed: bool,
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) resource_account: AccountId,
    /// Which layer decided: `key policy`, `identity-based policy`, `grant`, …
    pub(crate) layer: String,
    /// One sentence.
    pub(crate) why: String,
    /// Who has to allow what; only of denials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    /// The statement that decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) statement: Option<StatementRef>,
    /// The statements that came nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) considered: Vec<Considered>,
    /// Grants of the caller that do not allow it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) grants: Vec<GrantStory>,
    /// Condition keys of the request.
    pub(crate) context: iam::Context,
}

/// A statement that was looked at and did not decide.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Considered {
    pub(crate) layer: String,
    pub(crate) policy: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sid: Option<String>,
    /// From zero.
    pub(crate) index: usize,
    pub(crate) effect: iam::Effect,
    /// `Applies`, or the first element that does not fit, with what it wants and what was found.
    pub(crate) outcome: Outcome,
}

/// A grant that was looked at.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GrantStory {
    pub(crate) grant_id: String,
    pub(crate) why: GrantMismatch,
}

impl Explanation {
    /// Of calls, oldest first.
    pub(crate) fn of(calls: Vec<CallStory>) -> Self {
        Self { version: VERSION, calls }
    }
}

impl CallStory {
    /// What a viewer may learn of a recorded call; `number` picks one decision. `None` when the call
    /// is neither the viewer's account's nor about anything of it.
    pub(crate) fn of(record: &Record, number: Option<usize>, view: &View) -> Option<Self> {
        let decisions = decisions(record);
        let own = *record.recipient() == view.account;
        let account = record.recipient().clone();
        let id = |number| {
            let event_id = record.event_id().to_owned();
            DecisionId { account: account.clone(), event_id, number }.to_string()
        };
        let mut stories = Vec::new();
        for (index, decided) in decisions.iter().flat_map(|d| d.asks.iter().enumerate()) {
            let concerns = own || decided.account.as_ref() == Some(&view.account);
            if concerns && number.is_none_or(|number| number == index + 1) {
                let id = id(Some(index + 1));
                stories.push(DecisionStory::of(id, decided, &account, view));
            }
        }
        if !own && stories.is_empty() {
            return None;
        }
        let caller = match &decisions {
            Some(decisions) if own => decisions.principal.arn.clone(),
            Some(_) | None => format!("a principal of account {account}"),
        };
        let origin = decisions.as_ref().map(|decisions| &decisions.origin);
        let denied = stories.iter().any(|story| !story.allowed);
        let refusal = decisions.as_ref().and_then(|decisions| decisions.refusal.as_ref());
        Some(Self {
            explain_id: id(number),
            event_id: record.event_id().to_owned(),
            request_id: record.request_id().filter(|_| own).map(str::to_owned),
            made_for: origin.and_then(|origin| origin.cause.clone()).filter(|_| own),
            time: record.time().iso_millis(),
            region: record.region().to_string(),
            service: service(record.event_source()).to_owned(),
            operation: record.event_name().to_owned(),
            caller,
            caller_account: account.clone(),
            via: origin.and_then(|origin| origin.via_service.clone()),
            enforcement: decisions.as_ref().map(|decisions| decisions.mode),
            failure: record.error().map(|(code, message)| FailureStory {
                code: code.to_owned(),
                // The sentence names the caller, which is not everybody's to know.
                message: if own { message.to_owned() } else { String::new() },
                layer: match refusal.filter(|_| !denied) {
                    Some(refusal) => refusal.layer.to_string(),
                    None => layer_of_failure(code, denied).to_owned(),
                },
                // What was found may be the caller's alone to know.
                rule: refusal.filter(|_| own).map(RuleStory::of),
            }),
            foreseen: refusal.filter(|_| own).and_then(|refusal| {
                let (looks, layer) = (refusal.later.clone()?, refusal.layer.to_string());
                Some(ForeseenStory { looks, layer, rule: RuleStory::of(refusal) })
            }),
            decisions: stories,
        })
    }
}

/// What a record keeps of decisions, when it is of a shape this server reads.
pub(crate) fn decisions(record: &Record) -> Option<Decisions> {
    let decisions: Decisions = serde_json::from_str(record.decisions()?).ok()?;
    decisions.is_known().then_some(decisions)
}

/// `ec2` of `ec2.amazonaws.com`.
pub(crate) fn service(source: &str) -> &str {
    source.split('.').next().unwrap_or(source)
}

fn layer_of_failure(code: &str, denied: bool) -> &'static str {
    let state = matches!(
        code,
        "DisabledException"
            | "KMSInvalidStateException"
            | "Client.CustomerKeyHasBeenRevoked"
            | "KeyUnavailableException"
    );
    match (denied, state) {
        (true, _) => "policy",
        (false, true) => "key state",
        (false, false) => "request",
    }
}

/// Which sides of one decision may be shown.
struct Sight<'a> {
    caller: &'a AccountId,
    owner: AccountId,
    is_key: bool,
    /// No policy of the key says who retires a grant (spec 20, B.6).
    retires: bool,
    /// Policies of the caller's side.
    identity: bool,
    /// Policy and grants of the resource.
    resource: bool,
}

impl<'a> Sight<'a> {
    fn of(decided: &Decided, caller: &'a AccountId, view: &View) -> Self {
        let owner = decided.account.clone().unwrap_or_else(|| caller.clone());
        let is_key = Arn::parse(&decided.resource).is_some_and(|arn| arn.service == "kms");
        Self {
            identity: *caller == view.account,
            resource: view.reads(&decided.resource, &owner),
            caller,
            owner,
            is_key,
            retires: decided.action == "kms:RetireGrant",
        }
    }

    fn shows(&self, layer: Layer) -> bool {
        match layer {
            Layer::Identity | Layer::Boundary | Layer::Session => self.identity,
            Layer::Resource => self.resource,
        }
    }

    fn noun(&self, layer: Layer) -> &'static str {
        match layer {
            Layer::Resource if self.retires => "grant",
            Layer::Resource if self.is_key => "key policy",
            layer => layer.noun(),
        }
    }

    /// Whose policy it is, for whoever may not read it.
    fn hidden(&self, layer: Layer) -> &'static str {
        match layer {
            Layer::Resource if self.retires => "the grant",
            Layer::Resource if self.is_key && self.caller != &self.owner => {
                "the key owner's policy"
            }
            Layer::Resource if self.is_key => "the key's policy",
            Layer::Resource => "the resource's policy",
            Layer::Identity | Layer::Boundary | Layer::Session => "the caller's own policies",
        }
    }
}

impl DecisionStory {
    /// What a viewer may learn of a decision about a caller of an account.
    pub(crate) fn of(id: String, decided: &Decided, caller: &AccountId, view: &View) -> Self {
        story(id, decided, &Sight::of(decided, caller, view))
    }
}

fn story(id: String, decided: &Decided, sight: &Sight<'_>) -> DecisionStory {
    let (layer, why, statement) = reason(decided, sight);
    let (considered, grants) = looked_at(decided, sight);
    DecisionStory {
        id,
        allowed: decided.allowed,
        action: decided.action.clone(),
        resource: decided.resource.clone(),
        resource_account: sight.owner.clone(),
        layer,
        why,
        remedy: remedy(decided, sight),
        statement,
        considered,
        grants,
        context: shown_context(&decided.context, sight),
    }
}

type Told = (String, String, Option<StatementRef>);

fn reason(decided: &Decided, sight: &Sight<'_>) -> Told {
    let by = |statement: &StatementRef, verb: &str, hidden: &str| {
        let noun = sight.noun(statement.layer);
        if sight.shows(statement.layer) {
            let why = format!("{} of {} {verb}", named(statement), statement.policy);
            (noun.to_owned(), why, Some(statement.clone()))
        } else {
            (noun.to_owned(), format!("{} {hidden}", sight.hidden(statement.layer)), None)
        }
    };
    match &decided.reason {
        Reason::AllowedByStatement(statement) => by(statement, "allows it", "allows"),
        Reason::ExplicitDeny(statement) => by(statement, "denies it", "denies"),
        Reason::AllowedAsRoot => {
            ("root".to_owned(), "the caller is the root of its account".to_owned(), None)
        }
        Reason::AllowedByGrant { grant_id } => {
            let why = if sight.resource || sight.identity {
                format!("grant {grant_id} allows it")
            } else {
                "a grant allows it".to_owned()
            };
            ("grant".to_owned(), why, None)
        }
        Reason::ImplicitDeny(layer) => {
            let noun = sight.noun(*layer);
            let why = if sight.shows(*layer) {
                format!("no {noun} allows it")
            } else {
                format!("{} does not allow", sight.hidden(*layer))
                    .replace("policies does", "policies do")
            };
            (noun.to_owned(), why, None)
        }
    }
}

/// `statement 2 "AllowUse"`; counted from one, as people count. What a Sid may hold and a line may not
/// is escaped.
pub(crate) fn named(statement: &StatementRef) -> String {
    let sid = statement.sid.as_ref().map(|sid| format!(" {sid:?}")).unwrap_or_default();
    format!("statement {}{sid}", statement.index + 1)
}

/// Who has to do what.
fn remedy(decided: &Decided, sight: &Sight<'_>) -> Option<String> {
    let Decided { action, resource, .. } = decided;
    let (caller, owner) = (sight.caller, &sight.owner);
    match &decided.reason {
        Reason::AllowedByStatement(_) | Reason::AllowedByGrant { .. } | Reason::AllowedAsRoot => {
            None
        }
        Reason::ExplicitDeny(statement) => {
            let noun = sight.noun(statement.layer);
            let account = if statement.layer == Layer::Resource { owner } else { caller };
            Some(format!("account {account} must lift the deny in its {noun} for {action}"))
        }
        Reason::ImplicitDeny(Layer::Resource) if sight.retires => Some(
            "the account that made the grant, its retiring principal, or its grantee if RetireGrant is \
             among its operations must retire it; or who may kms:RevokeGrant revokes it"
                .to_owned(),
        ),
        Reason::ImplicitDeny(Layer::Resource) if sight.is_key => Some(format!(
            "account {owner} must allow {action} to account {caller} in the key policy of {resource}"
        )),
        Reason::ImplicitDeny(layer) => {
            let account = if *layer == Layer::Resource { owner } else { caller };
            let noun = sight.noun(*layer);
            Some(format!("account {account} must allow {action} on {resource} in its {noun}"))
        }
    }
}

fn looked_at(decided: &Decided, sight: &Sight<'_>) -> (Vec<Considered>, Vec<GrantStory>) {
    let policies = decided.trace.iter().flat_map(|trace| &trace.policies);
    let mut considered: Vec<Considered> = policies
        .filter(|policy| sight.shows(policy.layer))
        .flat_map(|policy| policy.statements.iter().map(move |s| considered(policy, s, sight)))
        .collect();
    considered.sort_by_key(|considered| std::cmp::Reverse(nearness(&considered.outcome)));
    let grant = |missed: &MissedGrant| GrantStory {
        grant_id: missed.grant_id.clone(),
        why: missed.why.clone(),
    };
    let grants = decided.missed.iter().filter(|_| sight.resource).map(grant).collect();
    (considered, grants)
}

fn considered(policy: &PolicyTrace, statement: &StatementTrace, sight: &Sight<'_>) -> Considered {
    let mut outcome = statement.outcome.clone();
    if !sight.identity {
        hide_caller(&mut outcome, sight.caller);
    }
    if !sight.resource {
        hide_resource(&mut outcome);
    }
    Considered {
        layer: sight.noun(policy.layer).to_owned(),
        policy: policy.policy.clone(),
        sid: statement.sid.clone(),
        index: statement.index,
        effect: statement.effect,
        outcome,
    }
}

/// An owner learns which account asked, and nothing else of the caller.
fn hide_caller(outcome: &mut Outcome, account: &AccountId) {
    match outcome {
        Outcome::Misses(Mismatch::Principal { found, .. }) => {
            *found = format!("a principal of account {account}");
        }
        Outcome::Misses(Mismatch::Condition { key, found, .. })
            if key.to_lowercase().starts_with("aws:") =>
        {
            *found = found.as_ref().map(|_| vec!["(not shown)".to_owned()]);
        }
        Outcome::Misses(_) | Outcome::Applies(_) => {}
    }
}

/// Tags and aliases of a resource are its owner's business.
fn is_of_resource(key: &str) -> bool {
    let (_, name) = key.split_once(':').unwrap_or_default();
    let name = name.to_ascii_lowercase();
    name.starts_with("resourcetag/") || name == "resourcealiases"
}

fn hide_resource(outcome: &mut Outcome) {
    match outcome {
        Outcome::Misses(Mismatch::Condition { key, found, .. }) if is_of_resource(key) => {
            *found = found.as_ref().map(|_| vec!["(not shown)".to_owned()]);
        }
        Outcome::Misses(_) | Outcome::Applies(_) => {}
    }
}

fn shown_context(context: &iam::Context, sight: &Sight<'_>) -> iam::Context {
    let mut shown = context.clone();
    if !sight.resource {
        for (key, _) in context.iter().filter(|(key, _)| is_of_resource(key)) {
            shown.remove(key);
        }
    }
    shown
}

/// How far a statement got before it missed.
fn nearness(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Applies(_) => 5,
        Outcome::Misses(Mismatch::Condition { .. }) => 4,
        Outcome::Misses(Mismatch::Resource { .. }) => 3,
        Outcome::Misses(Mismatch::Action { .. }) => 2,
        Outcome::Misses(Mismatch::Inert { .. }) => 1,
        Outcome::Misses(Mismatch::Principal { .. }) => 0,
    }
}

/// Resources of records whose policies a viewer may want to read.
pub(crate) fn resources(records: &[Record]) -> BTreeMap<String, AccountId> {
    let asks = records.iter().filter_map(decisions).flat_map(|decisions| decisions.asks);
    asks.filter_map(|ask| Some((ask.resource, ask.account?))).collect()
}
