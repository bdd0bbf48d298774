//! What KMS contributes to a decision: the key's policy, the grants that fit, and the condition keys
//! (spec 20, A.3 and B.6). The decision itself is `iam`'s.

use crate::condition::{self, Facts, Origin};
use crate::error::Result;
use crate::grant::{self, Grant, GrantOperation, Strength};
use crate::key::Key;
use crate::policy::POLICY_NAME;
use crate::service::Kms;
use crate::state::Action;
use base::{AccountId, Arn};
use iam::{Context, GrantMatch, Policy, PolicyKind, Principal, ResourceLayer, Version};
use meta::Tx;
use std::sync::Arc;

/// May this caller do this with this key?
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What.
    pub action: Action,
    /// With which key.
    pub key: &'a Key,
    /// The alias the request used for it.
    pub request_alias: Option<&'a str>,
    /// Who.
    pub caller: &'a Principal,
    /// How the request got here.
    pub via_service: Option<&'a str>,
    /// What else conditions and constraints may look at.
    pub facts: &'a Facts,
}

/// The key's side of a decision.
#[derive(Clone, Debug)]
pub struct Guard {
    /// `kms:Decrypt`.
    pub action: String,
    /// The key.
    pub resource: Arn,
    /// Its owner.
    pub resource_account: AccountId,
    /// The key policy.
    pub layer: ResourceLayer,
    /// Grants that fit caller, operation and encryption context.
    pub grants: Vec<GrantMatch>,
    /// The condition keys of KMS.
    pub context: Context,
}

impl Kms {
    /// Gathers the key's side of a decision.
    ///
    /// # Errors
    /// As the database answers, or a damaged row.
    pub fn guard(&self, tx: &mut Tx<'_>, question: &Question<'_>) -> Result<Guard> {
        let Question { action, key, caller, .. } = *question;
        let foreign = caller.account != key.account;
        let origin = Origin { account: &caller.account, via_service: question.via_service };
        let context = condition::of_key(tx, &origin, key, question.request_alias, question.facts)?;
        let (policy, grants) = match question.facts {
            // No policy of the key allows what would have no effect on a key of another account.
            _ if foreign && !action.works_across_accounts() => (Arc::new(nothing()), Vec::new()),
            _ => (self.policy_of(key)?, matching_grants(tx, question)?),
        };
        Ok(Guard {
            action: action.iam_name(),
            resource: key.arn(),
            resource_account: key.account.clone(),
            layer: ResourceLayer {
                policy,
                name: format!("{POLICY_NAME} policy of {}", key.arn()),
                mandatory: true,
            },
            grants,
            context,
        })
    }

    /// The same for RetireGrant, which the key policy cannot allow: the retiring principal may, the grantee may
    /// when the grant says so, and so may whom the issuing account lets (spec 20, B.6).
    ///
    /// # Errors
    /// As the database answers.
    pub fn retire_guard(
        &self,
        tx: &mut Tx<'_>,
        question: &Question<'_>,
        grant: &Grant,
    ) -> Result<Guard> {
        let Question { action, key, caller, .. } = *question;
        let origin = Origin { account: &caller.account, via_service: question.via_service };
        let context = condition::of_key(tx, &origin, key, None, question.facts)?;
        let by_grantee = grant.operations.contains(&GrantOperation::RetireGrant);
        let strength = grant
            .retiring
            .as_ref()
            .and_then(|party| party.strength(caller))
            .or_else(|| grant.grantee.strength(caller).filter(|_| by_grantee));
        // The right stands on its own, also from another account; so the match counts as issued there.
        let grants = strength.map(|strength| GrantMatch {
            grant_id: grant.id.clone(),
            issuing_account: caller.account.clone(),
            exact_session_or_user: strength == Strength::Exact,
        });
        let issued_here = caller.account == grant.issuing_account;
        Ok(Guard {
            action: action.iam_name(),
            resource: key.arn(),
            resource_account: if issued_here {
                grant.issuing_account.clone()
            } else {
                key.account.clone()
            },
            layer: ResourceLayer {
                policy: Arc::new(if issued_here {
                    delegation(&grant.issuing_account)
                } else {
                    nothing()
                }),
                name: format!("grant {}", grant.id),
                mandatory: true,
            },
            grants: grants.into_iter().collect(),
            context,
        })
    }
}

fn matching_grants(tx: &mut Tx<'_>, question: &Question<'_>) -> Result<Vec<GrantMatch>> {
    let Some(operation) = GrantOperation::of_action(question.action) else {
        return Ok(Vec::new());
    };
    let candidates = grant::of_caller(tx, question.key, question.caller)?;
    let fitting = candidates.into_iter().filter(|(grant, _)| {
        grant.operations.contains(&operation)
            && match question.facts {
                Facts::Crypto { context, .. }
                | Facts::ReEncrypt { context, .. }
                | Facts::KeyPair { context, .. } => grant.constraints.accept(context),
                // A grant that lets its grantee grant on gives away no more than itself.
                Facts::CreateGrant(child) => child.is_within(grant),
                // Constraints do not apply to DescribeKey.
                _ => true,
            }
    });
    let matches = fitting.map(|(grant, strength)| GrantMatch {
        grant_id: grant.id,
        issuing_account: grant.issuing_account,
        exact_session_or_user: strength == Strength::Exact,
    });
    Ok(matches.collect())
}

fn nothing() -> Policy {
    Policy {
        kind: PolicyKind::KeyPolicy,
        version: Version::V2012,
        id: None,
        statements: Vec::new(),
    }
}

/// The account's own policies decide.
fn delegation(account: &AccountId) -> Policy {
    let text = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "AWS": account.as_str() },
            "Action": "kms:RetireGrant",
            "Resource": "*",
        }],
    });
    Policy::parse(&text.to_string(), PolicyKind::KeyPolicy).expect("the text is a policy")
}
