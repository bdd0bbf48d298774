//! A parsed policy document. [`Policy::parse`] is the only way to make one that says something.

use crate::condition::Condition;
use crate::json::Json;
use crate::pattern::{ActionPattern, Template};
use crate::span::Span;
use base::AccountId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a policy stands, which decides what it may say (spec 20, A.4 and A.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum PolicyKind {
    /// Attached to a user, group or role, or a boundary: no Principal, Resource required.
    Identity,
    /// The resource policy of a KMS key: Principal required; a Sid may hold what the document may.
    KeyPolicy,
    /// The trust policy of a role: Principal required, Resource forbidden.
    Trust,
    /// Given when a session is made: as Identity, but malformed operands are tolerated.
    Session,
}

/// Why a text is no policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The text is longer than any policy may be.
    #[error("the policy is {bytes} bytes long, the limit is {limit}")]
    TooLong {
        /// The length given.
        bytes: usize,
        /// The longest allowed.
        limit: usize,
    },
    /// The text is not JSON, or is JSON with a duplicate key or too deep.
    #[error("syntax error in policy: {0}")]
    Syntax(String),
    /// The JSON is no policy.
    #[error("{what} at {at}")]
    Malformed {
        /// What is wrong.
        what: String,
        /// Where: `Statement[0].Condition.StringEquals`.
        at: String,
    },
    /// A principal of no legal form. Each service has words of its own for it.
    #[error("Invalid principal in policy: {written} at {at}")]
    InvalidPrincipal {
        /// As written, with the form it is given as.
        written: String,
        /// Where it stands.
        at: String,
    },
    /// `OverlyPermissiveCondition`: a set operator that also matches requests without the key.
    #[error(
        "ForAllValues on the single-valued key '{key}' at {at} also matches requests without the key; \
         remove the set operator"
    )]
    OverlyPermissiveCondition {
        /// The condition key.
        key: String,
        /// Where it stands.
        at: String,
    },
}

/// Whether a statement allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// `Allow`.
    Allow,
    /// `Deny`.
    Deny,
}

/// The language version of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 2008-10-17, also when none is given: policy variables are literal text.
    V2008,
    /// 2012-10-17.
    V2012,
}

/// A policy ready to be evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// Where it stands.
    pub kind: PolicyKind,
    /// Its language version.
    pub version: Version,
    /// Its `Id`, which means nothing.
    pub id: Option<String>,
    /// Its statements in the order written.
    pub statements: Vec<Statement>,
    /// Where each of them stands in the text. No decision looks at it.
    pub(crate) spans: Vec<Span>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    /// Its name, if it has one.
    pub sid: Option<String>,
    /// Allow or deny.
    pub effect: Effect,
    /// Who; only resource policies have it.
    pub(crate) principals: Option<Element<StatementPrincipal>>,
    /// What. A statement of a key policy may lack it and is then inert (spec 20, B.4).
    pub(crate) actions: Option<Element<ActionPattern>>,
    /// On what. Absent in trust policies; a statement of a key policy that lacks it is inert.
    pub(crate) resources: Option<Element<ResourcePattern>>,
    /// Under which conditions; all must hold.
    pub(crate) conditions: Vec<Condition>,
}

/// An element or its `Not…` form.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Element<T> {
    pub(crate) negated: bool,
    pub(crate) items: Vec<T>,
}

/// One resource of a statement.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ResourcePattern {
    /// `*`.
    All,
    /// An ARN with wildcards, split at its first five colons.
    Arn {
        written: String,
        /// The components written; a pattern that ends early in `*` has fewer than six.
        parts: Vec<Template>,
    },
}

impl ResourcePattern {
    pub(crate) fn written(&self) -> &str {
        match self {
            Self::All => "*",
            Self::Arn { written, .. } => written,
        }
    }
}

/// One principal of a statement (spec 20, A.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatementPrincipal {
    /// `*`: everyone.
    Anyone,
    /// The account, by number or root ARN: all its principals.
    Account(AccountId),
    /// A user or role, by ARN.
    Entity {
        /// As written.
        arn: String,
        /// What it was resolved to when the policy was saved; `None` before [`Policy::bind`].
        unique_id: Option<String>,
    },
    /// One session of a role, by its `sts` ARN; or a federated user.
    Session(String),
    /// A unique id, as a stored policy shows an entity that was deleted. Never matches anyone new.
    UniqueId(String),
    /// A service.
    Service(String),
    /// A federated identity provider.
    Federated(String),
}

impl StatementPrincipal {
    /// The principal as written.
    pub fn written(&self) -> String {
        match self {
            Self::Anyone => "*".to_owned(),
            Self::Account(account) => format!("arn:aws:iam::{account}:root"),
            Self::Entity { arn, .. } => arn.clone(),
            Self::Session(text)
            | Self::UniqueId(text)
            | Self::Service(text)
            | Self::Federated(text) => text.clone(),
        }
    }
}

/// The unique ids that the user and role ARNs of a stored policy meant when it was saved.
///
/// Kept beside the policy's text. A re-created entity has another id, so it does not match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Bindings(pub BTreeMap<String, String>);

impl Policy {
    /// Parses a policy text.
    ///
    /// # Errors
    /// What is wrong and where.
    pub fn parse(text: &str, kind: PolicyKind) -> Result<Self, PolicyError> {
        crate::parse::policy(text, kind)
    }

    /// A policy without statements. No text is one.
    pub fn nothing(kind: PolicyKind) -> Self {
        let (statements, spans) = (Vec::new(), Vec::new());
        Self { kind, version: Version::V2012, id: None, statements, spans }
    }

    /// Where each statement stands in the text that was parsed, in the order of the statements.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Every principal named, once: what has to exist when the policy is saved (spec 20, A.4).
    pub fn principals(&self) -> Vec<&StatementPrincipal> {
        let elements = self.statements.iter().filter_map(|s| s.principals.as_ref());
        let mut all: Vec<_> = elements.flat_map(|element| &element.items).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Every text of an Action or NotAction element.
    pub fn actions(&self) -> impl Iterator<Item = &str> {
        let elements = self.statements.iter().filter_map(|s| s.actions.as_ref());
        elements.flat_map(|element| &element.items).map(ActionPattern::written)
    }

    /// Replaces the meaning of user and role ARNs by the ids they had when the policy was saved.
    ///
    /// An ARN without a binding keeps matching by its text.
    #[must_use]
    pub fn bind(mut self, bindings: &Bindings) -> Self {
        let elements = self.statements.iter_mut().filter_map(|s| s.principals.as_mut());
        for item in elements.flat_map(|element| &mut element.items) {
            if let StatementPrincipal::Entity { arn, unique_id } = item {
                *unique_id = bindings.0.get(arn).cloned();
            }
        }
        self
    }

    /// What is legal but rarely meant, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (index, statement) in self.statements.iter().enumerate() {
            if statement.principals.as_ref().is_some_and(|p| p.negated) {
                warnings.push(format!(
                    "Statement[{index}].NotPrincipal: to spare a role session, list its role ARN, \
                     its session ARN and its account."
                ));
            }
            if self.kind == PolicyKind::KeyPolicy
                && (statement.actions.is_none() || statement.resources.is_none())
            {
                warnings.push(format!(
                    "Statement[{index}] lacks Action or Resource and therefore has no effect."
                ));
            }
        }
        warnings
    }
}

/// The text of a stored policy as it is shown: principals in `deleted` appear as their unique ids
/// (spec 20, A.4), and accounts by the ARN of their root, however they were written. Where neither is
/// there, the text is returned as it was saved.
///
/// # Errors
/// When the text is not JSON.
pub fn render(text: &str, deleted: &Bindings) -> Result<String, PolicyError> {
    let mut document = Json::parse(text).map_err(PolicyError::Syntax)?;
    let mut changed = false;
    if let Some(statements) = member_mut(&mut document, "Statement") {
        for statement in items_mut(statements) {
            for name in ["Principal", "NotPrincipal"] {
                let aws = member_mut(statement, name).and_then(|p| member_mut(p, "AWS"));
                for principal in aws.into_iter().flat_map(items_mut) {
                    changed |= replace(principal, deleted);
                }
            }
        }
    }
    Ok(if changed { document.to_pretty() } else { text.to_owned() })
}

/// The items of an array, or a single value as one.
fn items_mut(value: &mut Json) -> &mut [Json] {
    match value {
        Json::Array(items) => items.as_mut_slice(),
        single => std::slice::from_mut(single),
    }
}

fn member_mut<'a>(value: &'a mut Json, name: &str) -> Option<&'a mut Json> {
    match value {
        Json::Object(members) => members.iter_mut().find(|(k, _)| k == name).map(|(_, v)| v),
        _ => None,
    }
}

/// Whether the principal is shown otherwise than it was written.
fn replace(principal: &mut Json, deleted: &Bindings) -> bool {
    let Json::String(text) = principal else { return false };
    if let Some(id) = deleted.0.get(text) {
        text.clone_from(id);
    } else if AccountId::parse(text).is_ok() {
        *text = format!("arn:aws:iam::{text}:root");
    } else {
        return false;
    }
    true
}
