//! Who exists: what principals in stored policies are resolved to, and shown as afterwards.

use crate::account;
use crate::entity::{self, Kind};
use crate::error::Result;
use base::{AccountId, Arn};
use iam::{Bindings, Policy, StatementPrincipal};
use meta::Tx;

/// The unique id of the user or role with this ARN.
///
/// # Errors
/// As the database answers.
pub fn unique_id(tx: &mut Tx<'_>, arn: &str) -> Result<Option<String>> {
    let entity = entity::find_by_arn(tx, arn)?;
    Ok(entity.filter(|entity| entity.kind != Kind::Group).map(|entity| entity.unique_id))
}

/// The ARN of the user or role with this unique id.
///
/// # Errors
/// As the database answers.
pub fn arn_of(tx: &mut Tx<'_>, unique_id: &str) -> Result<Option<String>> {
    let entity = entity::find_by_id(tx, unique_id)?;
    Ok(entity.filter(|entity| entity.kind != Kind::Group).map(|entity| entity.arn().to_string()))
}

/// Resolves the principals of a policy that is to be saved: the ids its user and role ARNs mean, or
/// the first principal that does not exist (spec 20, A.4).
///
/// # Errors
/// As the database answers.
pub fn resolve(
    tx: &mut Tx<'_>,
    policy: &Policy,
) -> Result<std::result::Result<Bindings, StatementPrincipal>> {
    let mut bindings = Bindings::default();
    for principal in policy.principals() {
        let exists = match principal {
            StatementPrincipal::Anyone
            | StatementPrincipal::Service(_)
            | StatementPrincipal::Federated(_) => true,
            StatementPrincipal::Account(account) => account::find(tx, account)?.is_some(),
            StatementPrincipal::Session(arn) => {
                let account = Arn::parse(arn).and_then(|arn| AccountId::parse(&arn.account).ok());
                match account {
                    Some(account) => account::find(tx, &account)?.is_some(),
                    None => false,
                }
            }
            StatementPrincipal::UniqueId(id) => arn_of(tx, id)?.is_some(),
            StatementPrincipal::Entity { arn, .. } => match unique_id(tx, arn)? {
                Some(id) => {
                    bindings.0.insert(arn.clone(), id);
                    true
                }
                None => false,
            },
        };
        if !exists {
            return Ok(Err(principal.clone()));
        }
    }
    Ok(Ok(bindings))
}

/// Those bindings whose user or role does not exist any more, for [`iam::render`].
///
/// # Errors
/// As the database answers.
pub fn deleted(tx: &mut Tx<'_>, bindings: &Bindings) -> Result<Bindings> {
    let mut deleted = Bindings::default();
    for (arn, id) in &bindings.0 {
        if unique_id(tx, arn)?.as_ref() != Some(id) {
            deleted.0.insert(arn.clone(), id.clone());
        }
    }
    Ok(deleted)
}
