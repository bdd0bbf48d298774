//! From what a request calls a key to the key: id, ARN, alias or alias ARN (spec 20, A.3).

use crate::error::{Error, Result};
use crate::key::{self, Key};
use crate::state::Action;
use crate::{alias, managed};
use base::{AccountId, Arn, Region};
use iam::Principal;
use meta::Tx;

/// A key and how it was named.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The key.
    pub key: Key,
    /// The alias the request used, with its prefix, for `kms:RequestAlias`.
    pub request_alias: Option<String>,
}

/// Resolves a `KeyId` for one action of a caller. A bare id or alias means the caller's own account; a key of
/// another account is named by an ARN.
///
/// # Errors
/// The exceptions of spec 20, B.2. A key of another account that does not exist is hidden behind
/// [`Error::AccessDenied`] where that account's keys cannot be used for the action anyway.
pub fn resolve(
    tx: &mut Tx<'_>,
    action: Action,
    caller: &Principal,
    region: &Region,
    text: &str,
) -> Result<Resolved> {
    let invalid = || Error::InvalidKeyId { text: text.to_owned() };
    if text.starts_with("arn:") {
        return resolve_arn(tx, action, caller, region, text);
    }
    if text.starts_with(alias::PREFIX) {
        if !action.takes_alias() {
            return Err(invalid());
        }
        return resolve_alias(tx, &caller.account, region, text);
    }
    if !is_key_id(text) {
        return Err(invalid());
    }
    Ok(Resolved { key: key::get(tx, &caller.account, region, text)?, request_alias: None })
}

fn resolve_arn(
    tx: &mut Tx<'_>,
    action: Action,
    caller: &Principal,
    region: &Region,
    text: &str,
) -> Result<Resolved> {
    let invalid = || match action.lists_invalid_arn() {
        true => Error::InvalidArn { message: format!("Invalid arn {text}") },
        false => Error::InvalidKeyId { text: text.to_owned() },
    };
    let arn = Arn::parse(text).ok_or_else(invalid)?;
    if arn.service != "kms" || arn.partition != base::arn::PARTITION {
        return Err(invalid());
    }
    if arn.region != region.as_str() {
        return Err(Error::OtherRegion { region: arn.region });
    }
    let owner = AccountId::parse(&arn.account).map_err(|_| invalid())?;
    let resolved = match arn.resource.strip_prefix("key/") {
        Some(id) => {
            key::get(tx, &owner, region, id).map(|key| Resolved { key, request_alias: None })
        }
        None if arn.resource.starts_with(alias::PREFIX) && action.takes_alias() => {
            resolve_alias(tx, &owner, region, &arn.resource)
        }
        None => return Err(invalid()),
    };
    match resolved {
        Err(Error::KeyNotFound { .. } | Error::AliasNotFound { .. })
            if owner != caller.account && !action.works_across_accounts() =>
        {
            Err(Error::AccessDenied {
                message: format!(
                    "User: {} is not authorized to perform: {action} on resource: {text} because no \
                     resource-based policy allows the {action} action",
                    caller.arn,
                    action = action.iam_name(),
                ),
            })
        }
        other => other,
    }
}

fn resolve_alias(
    tx: &mut Tx<'_>,
    owner: &AccountId,
    region: &Region,
    name: &str,
) -> Result<Resolved> {
    let alias = alias::get(tx, owner, region, name)?;
    let not_found = || Error::AliasNotFound { arn: alias.arn().to_string() };
    let id = alias.key_id.as_deref().ok_or_else(not_found)?;
    let key = key::get(tx, owner, region, id)?;
    Ok(Resolved { key, request_alias: Some(name.to_owned()) })
}

/// A UUID, or `mrk-` and 32 hexadecimal digits: what an id may look like, whether or not such a key exists.
fn is_key_id(text: &str) -> bool {
    let hex = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_hexdigit());
    match text.strip_prefix("mrk-") {
        Some(digits) => digits.len() == 32 && hex(digits),
        None => {
            let lengths = [8, 4, 4, 4, 12];
            text.split('-').map(str::len).eq(lengths) && text.split('-').all(hex)
        }
    }
}

impl crate::service::Kms {
    /// [`resolve`] in a transaction that may write: makes the caller's `aws/ebs` key when it is what the text
    /// names and this is its first use (spec 20, B.5: also DescribeKey makes it).
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn resolve_or_create(
        &self,
        tx: &mut Tx<'_>,
        action: Action,
        caller: &Principal,
        region: &Region,
        text: &str,
    ) -> Result<Resolved> {
        let account = &caller.account;
        if action.takes_alias() && managed::names_ebs_managed_key(text, account, region) {
            self.ebs_managed_key(tx, account, region)?;
        }
        resolve(tx, action, caller, region, text)
    }
}
