//! What was decided about a call, kept in the row of its trail record (RFD 15).
//!
//! The pipeline writes it down while it decides, so an explanation is what happened and not what would
//! happen now. A denial keeps what was looked at; an allowed ask keeps what allowed it and what it
//! was asked under, which is enough to decide it once more.

use crate::call::Call;
use crate::pipeline::{Ask, Guard};
use crate::refusal::Refusal;
use base::AccountId;
use iam::{Context, Decision, Mismatch, Outcome, Principal, Reason, Trace};
use kms::guard::MissedGrant;
use lifecycle::Enforcement;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of the shape.
const VERSION: u8 = 1;
/// Statements that a kept trace tells of, and values that one of their elements tells of.
const STATEMENTS_MAX: usize = 64;
const VALUES_MAX: usize = 16;

/// The decisions of one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decisions {
    v: u8,
    /// Which permissions EBS asks of KMS.
    pub(crate) mode: Mode,
    /// Who asked.
    pub(crate) principal: Principal,
    /// How the call arrived.
    pub(crate) origin: Origin,
    /// One for each ask, in order; the first that is denied is the last.
    pub(crate) asks: Vec<Decided>,
    /// What refused the call beside policies, or will refuse what was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) refusal: Option<Refusal>,
}

/// How a call arrived, as far as conditions ask for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Origin {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_ip: Option<String>,
    /// Whether the request came over TLS. Absent where none did, as in every decision of a server without.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) secure_transport: bool,
    pub(crate) user_agent: String,
    /// The service that spoke for the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) via_service: Option<String>,
    /// The resource on whose behalf a service acted by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_arn: Option<String>,
    /// The request the service made the call for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<String>,
}

/// [`Enforcement`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    Native,
    Documented,
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub(crate) allowed: bool,
    pub(crate) action: String,
    pub(crate) resource: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) account: Option<AccountId>,
    pub(crate) reason: Reason,
    /// The condition keys of resource and action; those of the call follow from [`Origin`].
    pub(crate) context: Context,
    /// What was looked at; only of denials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<Trace>,
    /// Grants of the caller that did not fit; only of denials.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) missed: Vec<MissedGrant>,
}

impl Decisions {
    /// Nothing decided yet.
    pub(crate) fn of(call: &Call) -> Self {
        let caller = &call.caller;
        Self {
            v: VERSION,
            mode: match call.world.services.enforcement {
                Enforcement::Native => Mode::Native,
                Enforcement::Documented => Mode::Documented,
            },
            principal: caller.principal.clone(),
            origin: Origin {
                source_ip: caller.source_ip.clone(),
                secure_transport: caller.secure_transport,
                user_agent: caller.user_agent.clone(),
                via_service: caller.via_service().map(str::to_owned),
                source_arn: caller.source_arn().map(str::to_owned),
                cause: caller.forwarded.as_ref().and_then(|forwarded| forwarded.cause.clone()),
            },
            asks: Vec::new(),
            refusal: None,
        }
    }

    /// Writes one down.
    pub(crate) fn push(&mut self, ask: &Ask, decision: &Decision) {
        let missed = match &ask.guard {
            Guard::Resource { missed, .. } if !decision.allowed => missed.clone(),
            Guard::Resource { .. } | Guard::Identity | Guard::Anyone => Vec::new(),
        };
        self.asks.push(Decided {
            allowed: decision.allowed,
            action: ask.action.clone(),
            resource: ask.resource.clone(),
            account: ask.resource_account.clone(),
            reason: decision.reason.clone(),
            context: ask.context.clone(),
            trace: (!decision.allowed).then(|| concise(&decision.trace)),
            missed,
        });
    }

    /// The number of the decision that stopped the call, from one.
    pub(crate) fn denied(&self) -> Option<usize> {
        self.asks.iter().position(|ask| !ask.allowed).map(|index| index + 1)
    }

    /// Whether this shape is one this server reads.
    pub(crate) fn is_known(&self) -> bool {
        self.v == VERSION
    }
}

/// The statements that say why: those for actions of other services are left out, and long lists are
/// cut.
fn concise(trace: &Trace) -> Trace {
    let mut kept = trace.clone();
    let mut left = STATEMENTS_MAX;
    for policy in &mut kept.policies {
        policy.statements.retain(|statement| {
            let keep = tells(&statement.outcome) && left > 0;
            left -= usize::from(keep);
            keep
        });
        for statement in &mut policy.statements {
            if let Outcome::Misses(mismatch) = &mut statement.outcome {
                shorten(mismatch);
            }
        }
    }
    kept
}

fn tells(outcome: &Outcome) -> bool {
    let Outcome::Misses(Mismatch::Action { wanted, found }) = outcome else { return true };
    let service = found.split(':').next().unwrap_or_default();
    wanted.iter().any(|action| action.split(':').next().unwrap_or_default() == service)
}

fn shorten(mismatch: &mut Mismatch) {
    match mismatch {
        Mismatch::Principal { wanted, .. }
        | Mismatch::Action { wanted, .. }
        | Mismatch::Resource { wanted, .. } => cut(wanted),
        Mismatch::Condition { wanted, found, .. } => {
            cut(wanted);
            found.iter_mut().for_each(cut);
        }
        Mismatch::Inert { .. } => {}
    }
}

fn cut(values: &mut Vec<String>) {
    let more = values.len().saturating_sub(VALUES_MAX);
    if more > 0 {
        values.truncate(VALUES_MAX);
        values.push(format!("… and {more} more"));
    }
}

/// Names a decision, or all decisions of a call: `d-<account>-<event id>[-<number>]`. The account and
/// the event are those of the trail record it is kept in, so it is found without an index of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DecisionId {
    pub(crate) account: AccountId,
    pub(crate) event_id: String,
    /// From one; absent for all of the call's.
    pub(crate) number: Option<usize>,
}

const UUID_CHARS: usize = 36;

impl DecisionId {
    /// Reads what [`fmt::Display`] writes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (account, rest) = text.strip_prefix("d-")?.split_once('-')?;
        let account = AccountId::parse(account).ok()?;
        let (event_id, number) = rest.split_at_checked(UUID_CHARS)?;
        let plain = |b: u8| b.is_ascii_hexdigit() || b == b'-';
        let number = match number {
            "" => None,
            number => Some(number.strip_prefix('-')?.parse().ok().filter(|n| *n > 0)?),
        };
        let event_id = event_id.bytes().all(plain).then(|| event_id.to_owned())?;
        Some(Self { account, event_id, number })
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "d-{}-{}", self.account, self.event_id)?;
        self.number.map_or(Ok(()), |number| write!(f, "-{number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_written() {
        let event_id = "5f0e6c3e-8f7a-4a8b-9a2f-2b8f4a1c9d10".to_owned();
        let account = AccountId::parse("111122223333").unwrap();
        for number in [None, Some(1), Some(12)] {
            let id = DecisionId { account: account.clone(), event_id: event_id.clone(), number };
            assert_eq!(DecisionId::parse(&id.to_string()), Some(id));
        }
        for bad in ["", "d-", "d-1-2", &format!("d-111122223333-{event_id}-0"), &event_id] {
            assert_eq!(DecisionId::parse(bad), None, "{bad}");
        }
    }

    /// Decisions as they stand in the trail, with a trace; frozen.
    const KEPT: &str = r#"{"v":1,"mode":"native","principal":{"account":"111111111111","kind":"Root",
        "arn":"arn:aws:iam::111111111111:root","principal_arn":"arn:aws:iam::111111111111:root",
        "user_id":"111111111111","unique_id":"111111111111","tags":{},"source_identity":null,
        "token_issue_time":null},"origin":{"user_agent":"test"},"asks":[]}"#;

    /// A denial with all that is kept of one; frozen.
    const DENIED: &str = r#"{"v":1,"mode":"documented","principal":{"account":"111111111111","kind":"Root",
        "arn":"arn:aws:iam::111111111111:root","principal_arn":"arn:aws:iam::111111111111:root",
        "user_id":"111111111111","unique_id":"111111111111","tags":{"team":"red"},"source_identity":"ann",
        "token_issue_time":7,"federated_provider":"p","transitive_tag_keys":["team"]},
        "origin":{"source_ip":"192.0.2.1","secure_transport":true,"user_agent":"test","via_service":"ec2.amazonaws.com","source_arn":"s","cause":"r-1"},
        "asks":[
        {"allowed":true,"action":"kms:Decrypt","resource":"*","reason":{"AllowedByGrant":{"grant_id":"g"}},"context":{}},
        {"allowed":false,"action":"kms:Decrypt","resource":"*","account":"111111111111",
        "reason":{"ExplicitDeny":{"layer":"Resource","policy":"p","sid":"s","index":1}},
        "context":{"kms:viaservice":"ec2","aws:tagkeys":["a","b"]},
        "trace":{"principal":"p","action":"kms:Decrypt","resource":"*","cross_account":true,
        "resource_policy_is_mandatory":true,"policies":[{"layer":"Identity","policy":"p","statements":[
        {"index":0,"sid":"s","effect":"Allow","outcome":{"Applies":"Role"}},
        {"index":1,"effect":"Deny","outcome":{"Misses":{"Action":{"wanted":["kms:*"],"found":"ec2:*"}}}},
        {"index":2,"effect":"Deny","outcome":{"Misses":{"Condition":{"operator":"Bool","key":"k","wanted":["true"],
        "found":["false"]}}}}]}],
        "grants":[{"grant_id":"g","exact_session_or_user":true,"issued_by_callers_account":false}]},
        "missed":[{"grant_id":"g","why":{"Operation":{"granted":["Encrypt"]}}},{"grant_id":"h","why":"GivesMore"}]}],
        "refusal":{"layer":"key-state","wanted":"w","found":"f","remedy":"r","later":"l"}}"#;

    #[test]
    fn decisions_kept_by_earlier_releases_are_read() {
        let kept: Decisions = serde_json::from_str(KEPT).unwrap();
        let root = AccountId::parse("111111111111").unwrap();
        assert_eq!(
            (kept.v, kept.mode, &kept.principal),
            (1, Mode::Native, &Principal::root(&root))
        );
        assert_eq!(
            (kept.origin.user_agent.as_str(), kept.asks.len(), kept.refusal),
            ("test", 0, None)
        );
        // Nothing that is written of a denial is lost on the way.
        let denied: Decisions = serde_json::from_str(DENIED).unwrap();
        let [written, text] =
            [serde_json::to_value(denied).unwrap(), serde_json::from_str(DENIED).unwrap()];
        assert_eq!(written, text);
    }

    fuzz::target!(
        /// Decisions as the trail keeps them for those who ask why.
        kept_decisions,
        vec![KEPT.as_bytes().to_vec(), DENIED.as_bytes().to_vec()],
        |bytes: &[u8]| {
            let Ok(read) = serde_json::from_slice::<Decisions>(bytes) else { return };
            let written = serde_json::to_vec(&read).expect("plain data");
            assert_eq!(serde_json::from_slice::<Decisions>(&written).expect("just written"), read);
        }
    );
}
