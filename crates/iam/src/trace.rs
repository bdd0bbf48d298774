//! What the evaluator saw: for each statement whether it applies, and if not, why. The decision is
//! computed from this, so an explanation can never differ from the decision.

use crate::policy::Effect;
use crate::principal_element::PrincipalMatch;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Where a policy acts in an evaluation (spec 20, A.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Layer {
    /// Policies of the user, its groups or the role.
    Identity,
    /// The permissions boundary.
    Boundary,
    /// Policies given when the session was made.
    Session,
    /// The policy of the resource.
    Resource,
}

impl Layer {
    /// The layer in the words of a denial (spec 20, A.9).
    pub fn noun(self) -> &'static str {
        match self {
            Self::Identity => "identity-based policy",
            Self::Boundary => "permissions boundary",
            Self::Session => "session policy",
            Self::Resource => "resource-based policy",
        }
    }
}

/// Everything that was looked at for one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// The ARN of the caller.
    pub principal: String,
    /// The action asked for.
    pub action: String,
    /// The resource it is asked for.
    pub resource: String,
    /// Whether caller and resource are in different accounts and the resource has a policy.
    pub cross_account: bool,
    /// Whether only the resource's policy opens it: KMS key policies and trust policies.
    pub resource_policy_is_mandatory: bool,
    /// Each policy with its statements, in the order given.
    pub policies: Vec<PolicyTrace>,
    /// The grants that fit the request.
    pub grants: Vec<GrantTrace>,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyTrace {
    /// Where it acts.
    pub layer: Layer,
    /// Its name or ARN.
    pub policy: String,
    /// Its statements in order.
    pub statements: Vec<StatementTrace>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementTrace {
    /// Its position in the policy, from zero.
    pub index: usize,
    /// Its Sid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Its effect.
    pub effect: Effect,
    /// Whether it applies to the request.
    pub outcome: Outcome,
}

/// Whether a statement applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// All of it fits. A statement of a resource policy also says how it names the caller.
    Applies(Option<PrincipalMatch>),
    /// It does not fit: the first element that does not, in the order of the variants.
    Misses(Mismatch),
}

/// The first element of a statement that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mismatch {
    /// Another caller is meant.
    Principal {
        /// The principals written.
        wanted: Vec<String>,
        /// The caller.
        found: String,
    },
    /// Another action is meant.
    Action {
        /// The actions written.
        wanted: Vec<String>,
        /// The action asked for.
        found: String,
    },
    /// Another resource is meant.
    Resource {
        /// The resources written, with variables replaced where possible.
        wanted: Vec<String>,
        /// The resource asked for.
        found: String,
    },
    /// The statement lacks an element and therefore never applies.
    Inert {
        /// The element missing.
        missing: Cow<'static, str>,
    },
    /// A condition does not hold.
    Condition {
        /// The operator as written.
        operator: String,
        /// The key as written.
        key: String,
        /// The values written.
        wanted: Vec<String>,
        /// The values of the request; `None` when the key is absent.
        found: Option<Vec<String>>,
    },
}

/// A grant that fits the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTrace {
    /// Its id.
    pub grant_id: String,
    /// Whether its grantee is exactly the calling user or session, not the session's role.
    pub exact_session_or_user: bool,
    /// Whether it was issued from the caller's account.
    pub issued_by_callers_account: bool,
}

/// A statement, named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementRef {
    /// Where its policy acts.
    pub layer: Layer,
    /// The policy's name or ARN.
    pub policy: String,
    /// Its Sid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Its position, from zero.
    pub index: usize,
}

impl Trace {
    /// Every statement with this effect that applies, with how it names the caller.
    pub(crate) fn applying(
        &self,
        effect: Effect,
    ) -> impl Iterator<Item = (StatementRef, Option<PrincipalMatch>)> + '_ {
        self.policies.iter().flat_map(move |policy| {
            policy.statements.iter().filter_map(move |statement| match &statement.outcome {
                Outcome::Applies(named) if statement.effect == effect => {
                    let reference = StatementRef {
                        layer: policy.layer,
                        policy: policy.policy.clone(),
                        sid: statement.sid.clone(),
                        index: statement.index,
                    };
                    Some((reference, *named))
                }
                Outcome::Applies(_) | Outcome::Misses(_) => None,
            })
        })
    }
}
