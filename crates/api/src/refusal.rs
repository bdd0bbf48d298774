//! Why a request was refused that no policy refused, or none was asked about: what the rule wanted, what it
//! found, and what to do. It is kept in the row of the call's trail record, beside the decisions (RFD 15).
//!
//! The error says the same in the service's words, which tell a program what to do and a person too little.

use base::Arn;
use events::notification::KeyProblem;
use lifecycle::port::kms::KmsFailure;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What stands in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// Whose rule it is.
    pub(crate) layer: Layer,
    /// What the rule wants.
    pub(crate) wanted: String,
    /// What is there instead.
    pub(crate) found: String,
    /// Who has to do what.
    pub(crate) remedy: String,
    /// What is seen of it, when the request itself is accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) later: Option<String>,
}

/// Whose rule refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layer {
    /// A key is disabled, pending or without its material.
    KeyState,
    /// A call to KMS that was made for the request was refused; it has decisions of its own.
    KeyUse,
    /// What may be shared with whom.
    Sharing,
    /// The account blocks public access.
    PublicAccess,
    /// What is named is not there, or not for this caller.
    Visibility,
    /// A resource is in a state in which this cannot be done with it.
    ResourceState,
    /// So many and no more.
    Quota,
    /// The request contradicts itself or the place it was sent to.
    Request,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyState => "key state",
            Self::KeyUse => "key use",
            Self::Sharing => "sharing rule",
            Self::PublicAccess => "block public access",
            Self::Visibility => "visibility",
            Self::ResourceState => "resource state",
            Self::Quota => "quota",
            Self::Request => "request",
        })
    }
}

impl Refusal {
    /// A rule of `layer` wants one thing and finds another.
    pub(crate) fn new(
        layer: Layer,
        wanted: impl Into<String>,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (wanted, found, remedy) = (wanted.into(), found.into(), remedy.into());
        Self { layer, wanted, found, remedy, later: None }
    }

    /// The request is accepted, and this is seen of it later.
    #[must_use]
    pub(crate) fn seen_later(mut self, seen: impl Into<String>) -> Self {
        self.later = Some(seen.into());
        self
    }

    /// Something that is not there, or not for the caller; which of both is not told.
    pub(crate) fn unseen(kind: &str, id: &str) -> Self {
        Self::new(
            Layer::Visibility,
            format!("a {kind} of this region that the caller's account owns or was given"),
            format!(
                "{id} is none: it does not exist here, was deleted, or is another account's alone"
            ),
            "look for it in the region it was made in; a snapshot of another account must be shared \
             by its owner with ec2:ModifySnapshotAttribute",
        )
    }

    /// A resource that is in a state in which this cannot be done with it.
    pub(crate) fn state(
        wanted: impl Into<String>,
        id: &str,
        state: &str,
        remedy: impl Into<String>,
    ) -> Self {
        Self::new(Layer::ResourceState, wanted, format!("{id} is '{state}'"), remedy)
    }

    /// A key that is not in the state to be used in; `state` as in `is disabled`.
    pub(crate) fn key_state(key_arn: &str, state: &str) -> Self {
        let owner = owner(key_arn);
        let remedy = match state {
            "is disabled" => format!("{owner} must enable it again: kms:EnableKey"),
            "is pending deletion" => format!(
                "{owner} must keep it, kms:CancelKeyDeletion, and enable it, kms:EnableKey; after \
                 its deletion date it is gone"
            ),
            "is pending import" => {
                format!("{owner} must import its key material again: kms:ImportKeyMaterial")
            }
            _ => format!("{owner} sees its state with kms:DescribeKey"),
        };
        let wanted = "a key in a state that allows the operation";
        Self::new(Layer::KeyState, wanted, format!("{key_arn} {state}"), remedy)
    }

    /// A key that KMS did not let the caller use, as KMS answered.
    pub(crate) fn of_key(key_arn: &str, failure: &KmsFailure) -> Option<Self> {
        let wanted = format!("that the caller may use the key {key_arn}");
        match failure {
            KmsFailure::State { key_arn, problem, .. } => {
                let state = match problem {
                    KeyProblem::Disabled => "is disabled",
                    KeyProblem::PendingImport => "is pending import",
                    KeyProblem::PendingDeletion => "is pending deletion",
                };
                Some(Self::key_state(key_arn, state))
            }
            KmsFailure::Denied { message, explain_id } => {
                let remedy = match explain_id {
                    Some(id) => {
                        format!("`strongroom explain {id}` names the permission and who gives it")
                    }
                    None => format!(
                        "the policies of the caller, and of the key in {}, must allow it",
                        owner(key_arn)
                    ),
                };
                Some(Self::new(Layer::KeyUse, wanted, message, remedy))
            }
            KmsFailure::NotFound { message, .. } => Some(Self::new(
                Layer::Visibility,
                wanted,
                message,
                "name a key that exists, by its ARN if it is of another account",
            )),
            KmsFailure::Unusable { message, .. } => Some(Self::new(
                Layer::KeyUse,
                "a symmetric key that encrypts and decrypts",
                message,
                "name another key",
            )),
            // Ours: nothing the caller could change.
            KmsFailure::Unavailable { .. } => None,
        }
    }
}

/// `account 111122223333`, the owner of a key.
fn owner(key_arn: &str) -> String {
    let arn = Arn::parse(key_arn);
    arn.map_or_else(|| "the key's owner".to_owned(), |arn| format!("account {}", arn.account))
}
