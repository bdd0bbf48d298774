//! What KMS contributes to a decision: the key's policy, the grants that fit, and the condition keys
//! (spec 20, A.3 and B.6). The decision itself is `iam`'s.

use crate::condition::{self, Facts, Origin};
use crate::error::Result;
use crate::grant::{self, Constraints, Grant, GrantOperation, Strength};
use crate::key::Key;
use crate::policy::POLICY_NAME;
use crate::service::Kms;
use crate::state::Action;
use base::{AccountId, Arn};
use iam::{Context, GrantMatch, Policy, PolicyKind, Principal, ResourceLayer};
use meta::Tx;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
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
    /// The resource on whose behalf a service calls by itself (`aws:SourceArn`).
    pub source_arn: Option<&'a str>,
    /// What else conditions and constraints may look at.
    pub facts: &'a Facts,
    /// Grants that are not there yet, for rehearsals: they count as if they were.
    pub assumed: &'a [Grant],
}

/// How many grants that do not fit are told.
pub const MISSED_MAX: usize = 16;

/// A grant of the caller that does not allow what it asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedGrant {
    /// Its id.
    pub grant_id: String,
    /// The first thing that does not fit.
    pub why: GrantMismatch,
}

/// Why a grant does not allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GrantMismatch {
    /// It allows other operations.
    Operation {
        /// Those it allows.
        granted: Vec<GrantOperation>,
    },
    /// The encryption context is another.
    Context {
        /// What the grant asks for.
        wanted: Constraints,
        /// The request's context.
        found: BTreeMap<String, String>,
    },
    /// It is for requests on behalf of one resource, and this one is not on its behalf.
    Source {
        /// What the grant asks for.
        wanted: String,
        /// The resource on whose behalf a service calls; `None` when a request is on behalf of none.
        found: Option<String>,
    },
    /// The grant that is asked for would give away more than this one gives.
    GivesMore,
    /// The caller is none of those who may retire it: its retiring principal, its grantee if RetireGrant
    /// is among its operations, and whom the account that made it lets.
    OthersRetire {
        /// The retiring principal.
        retiring: Option<String>,
        /// The grantee, if it may.
        grantee: Option<String>,
        /// The account that made it.
        issuing_account: AccountId,
    },
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
    /// Grants of the caller that do not fit, for explanations; at most [`MISSED_MAX`].
    pub missed: Vec<MissedGrant>,
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
        // No policy of the key allows what would have no effect on a key of another account.
        let (policy, Grants { fitting, missed }) = if foreign && !action.works_across_accounts() {
            (Arc::new(Policy::nothing(PolicyKind::KeyPolicy)), Grants::default())
        } else {
            (self.policy_of(key)?, grants_of_caller(tx, question)?)
        };
        Ok(Guard {
            action: action.iam_name(),
            resource: key.arn().clone(),
            resource_account: key.account.clone(),
            layer: ResourceLayer {
                policy,
                name: format!("{POLICY_NAME} policy of {}", key.arn()),
                mandatory: true,
            },
            grants: fitting,
            missed,
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
        let missed = (strength.is_none() && !issued_here).then(|| MissedGrant {
            grant_id: grant.id.clone(),
            why: GrantMismatch::OthersRetire {
                retiring: grant.retiring.as_ref().map(|party| party.shown.clone()),
                grantee: by_grantee.then(|| grant.grantee.shown.clone()),
                issuing_account: grant.issuing_account.clone(),
            },
        });
        Ok(Guard {
            action: action.iam_name(),
            resource: key.arn().clone(),
            resource_account: if issued_here {
                grant.issuing_account.clone()
            } else {
                key.account.clone()
            },
            layer: ResourceLayer {
                policy: Arc::new(if issued_here {
                    delegation(&grant.issuing_account)
                } else {
                    Policy::nothing(PolicyKind::KeyPolicy)
                }),
                name: format!("grant {}", grant.id),
                mandatory: true,
            },
            grants: grants.into_iter().collect(),
            missed: missed.into_iter().collect(),
            context,
        })
    }
}

/// The grants of the caller on the key.
#[derive(Default)]
struct Grants {
    fitting: Vec<GrantMatch>,
    missed: Vec<MissedGrant>,
}

fn grants_of_caller(tx: &mut Tx<'_>, question: &Question<'_>) -> Result<Grants> {
    let mut grants = Grants::default();
    let Some(operation) = GrantOperation::of_action(question.action) else {
        return Ok(grants);
    };
    let assumed = question.assumed.iter().filter(|grant| grant.is_on(question.key));
    let assumed =
        assumed.filter_map(|grant| Some((grant.clone(), grant.grantee.strength(question.caller)?)));
    let stored = grant::of_caller(tx, question.key, question.caller)?;
    for (grant, strength) in stored.into_iter().chain(assumed) {
        match mismatch(&grant, operation, question) {
            None => grants.fitting.push(GrantMatch {
                grant_id: grant.id,
                issuing_account: grant.issuing_account,
                exact_session_or_user: strength == Strength::Exact,
            }),
            Some(why) if grants.missed.len() < MISSED_MAX => {
                grants.missed.push(MissedGrant { grant_id: grant.id, why });
            }
            Some(_) => {}
        }
    }
    Ok(grants)
}

/// Why a grant of the caller does not allow an operation.
fn mismatch(
    grant: &Grant,
    operation: GrantOperation,
    question: &Question<'_>,
) -> Option<GrantMismatch> {
    if !grant.operations.contains(&operation) {
        return Some(GrantMismatch::Operation { granted: grant.operations.clone() });
    }
    if let Some(wanted) = &grant.constraints.source_arn
        && !grant.constraints.accept_source(question.source_arn)
    {
        let (wanted, found) = (wanted.clone(), question.source_arn.map(str::to_owned));
        return Some(GrantMismatch::Source { wanted, found });
    }
    match question.facts {
        Facts::Crypto { context, .. }
        | Facts::ReEncrypt { context, .. }
        | Facts::KeyPair { context, .. } => {
            let differs = !grant.constraints.accept(context);
            differs.then(|| GrantMismatch::Context {
                wanted: grant.constraints.clone(),
                found: context.pairs().clone(),
            })
        }
        // A grant that lets its grantee grant on gives away no more than itself.
        Facts::CreateGrant(child) => (!child.is_within(grant)).then_some(GrantMismatch::GivesMore),
        // Encryption contexts do not apply to DescribeKey.
        _ => None,
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
