//! Who looks, and what it may see.

use crate::authorize;
use crate::call::Call;
use crate::error::Error;
use crate::ops::kms::shared::{Named, target};
use base::{AccountId, Arn, Region};
use kms::Action;
use kms::condition::Facts;
use std::collections::{BTreeMap, BTreeSet};

/// What one viewer may read.
pub(crate) struct View {
    /// The viewer's account.
    pub(crate) account: AccountId,
    /// Resources of that account by ARN, and whether the viewer may read their policies.
    readable: BTreeMap<String, bool>,
}

impl View {
    /// The view of a caller on the policies of some resources.
    ///
    /// # Errors
    /// When the policies in force cannot be read.
    pub(crate) async fn of(
        call: &Call,
        resources: impl IntoIterator<Item = String>,
    ) -> Result<Self, Error> {
        let mut readable = BTreeMap::new();
        for arn in resources.into_iter().collect::<BTreeSet<_>>() {
            let may = may_read(call, &arn).await?;
            readable.insert(arn, may);
        }
        Ok(Self { account: call.account().clone(), readable })
    }

    /// The view that a denial carries: what the caller's account may see without asking further. The
    /// policy of a key is not of it.
    pub(crate) fn of_denied(account: &AccountId, resource: &str) -> Self {
        let is_key = Arn::parse(resource).is_some_and(|arn| arn.service == "kms");
        Self {
            account: account.clone(),
            readable: BTreeMap::from([(resource.to_owned(), !is_key)]),
        }
    }

    /// Whether the policy of a resource may be shown.
    pub(crate) fn reads(&self, resource: &str, owner: &AccountId) -> bool {
        *owner == self.account && self.readable.get(resource).copied().unwrap_or(false)
    }
}

/// Whether the caller may read a resource's policy: of a key, `kms:GetKeyPolicy` decides, as it does
/// for the operation of that name. The policies of other resources are read with the account's own.
async fn may_read(call: &Call, resource: &str) -> Result<bool, Error> {
    let Some(arn) = Arn::parse(resource).filter(|arn| arn.service == "kms") else {
        return Ok(true);
    };
    let Ok(region) = Region::parse(&arn.region) else { return Ok(false) };
    if arn.account != call.account().as_str() || !arn.resource.starts_with("key/") {
        return Ok(false);
    }
    let mut there = call.fork(call.caller.clone());
    there.region = region;
    let named = Named { action: Action::GetKeyPolicy, key_id: resource, facts: Facts::None };
    match target(&there, named).await {
        Ok(found) => Ok(authorize::decide(&there, &found.ask).await?.allowed),
        // A key that is gone has no policy to read.
        Err(_) => Ok(false),
    }
}
