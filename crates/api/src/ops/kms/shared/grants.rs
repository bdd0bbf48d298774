//! What the operations on grants share: who a request names, and grants as lists show them.

use super::needed;
use crate::{Call, Error};
use awsproto::Shape;
use base::Timestamp;
use iam::PrincipalKind;
use kms::grant::{Party, Trust};
use kms::{Error as KmsError, Kms};
use meta::Tx;
use std::collections::BTreeMap;

/// Whether the request may name principals that only services deal with.
pub(crate) fn trust(call: &Call) -> Trust {
    if call.caller.forwarded.is_some() { Trust::Service } else { Trust::Caller }
}

/// A filter by service principal is for those themselves (KMS API, ListGrants and ListRetirableGrants).
///
/// # Errors
/// `ValidationException`, when anybody else uses it.
pub(crate) fn by_service(call: &Call, member: &str) -> Result<(), Error> {
    match call.caller.principal.kind {
        PrincipalKind::Service { .. } => Ok(()),
        _ => {
            let message = format!("{member} is a filter that only service principals may use.");
            Err(KmsError::Validation { message }.into())
        }
    }
}

/// How a request names a principal of a grant.
#[derive(Clone, Debug)]
pub(crate) enum Named {
    /// `GranteePrincipal`, `RetiringPrincipal`.
    Principal(String),
    /// `GranteeServicePrincipal`, `RetiringServicePrincipal`.
    Service(Party),
}

impl Named {
    /// Reads two members of which a request has one at most.
    ///
    /// # Errors
    /// `ValidationException` for both, or for what is no service principal.
    pub(crate) fn read(
        members: [&'static str; 2],
        principal: Option<String>,
        service: Option<&str>,
    ) -> Result<Option<Self>, Error> {
        match (principal, service) {
            (Some(_), Some(_)) => {
                let [one, other] = members;
                let message = format!("Specify either {one} or {other}, but not both.");
                Err(KmsError::Validation { message }.into())
            }
            (Some(text), None) => Ok(Some(Self::Principal(text))),
            (None, Some(text)) => Ok(Some(Self::Service(Party::service_principal(text)?))),
            (None, None) => Ok(None),
        }
    }

    /// The same where a request has one.
    ///
    /// # Errors
    /// As [`Named::read`], and when there is none.
    pub(crate) fn read_one(
        members: [&'static str; 2],
        principal: Option<String>,
        service: Option<&str>,
    ) -> Result<Self, Error> {
        needed(members[0], Self::read(members, principal, service)?)
    }

    /// Who it is.
    ///
    /// # Errors
    /// As [`Kms::grant_party`].
    pub(crate) fn resolve(&self, kms: &Kms, tx: &mut Tx<'_>, trust: Trust) -> kms::Result<Party> {
        match self {
            Self::Principal(text) => kms.grant_party(tx, text, trust),
            Self::Service(party) => Ok(party.clone()),
        }
    }
}

/// One grant in a list.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct GrantEntry {
    key_id: String,
    grant_id: String,
    name: String,
    creation_date: Timestamp,
    grantee_principal: Option<String>,
    grantee_service_principal: Option<String>,
    retiring_principal: Option<String>,
    retiring_service_principal: Option<String>,
    issuing_account: String,
    operations: Vec<&'static str>,
    constraints: Option<GrantConstraints>,
}

/// `Constraints` of a grant.
#[derive(Shape)]
pub(crate) struct GrantConstraints {
    pub(crate) encryption_context_subset: Option<BTreeMap<String, String>>,
    pub(crate) encryption_context_equals: Option<BTreeMap<String, String>>,
    pub(crate) source_arn: Option<String>,
}

impl GrantEntry {
    /// A grant as it is shown now: principals deleted since appear as unique ids.
    pub(crate) fn new(kms: &Kms, tx: &mut Tx<'_>, grant: &kms::grant::Grant) -> kms::Result<Self> {
        let mut shown = |party: Option<&Party>| {
            Ok::<_, kms::Error>(match party {
                Some(party) if party.is_service_principal() => (None, Some(party.shown.clone())),
                Some(party) => (Some(kms.shown_party(tx, party)?), None),
                None => (None, None),
            })
        };
        let (grantee_principal, grantee_service_principal) = shown(Some(&grant.grantee))?;
        let (retiring_principal, retiring_service_principal) = shown(grant.retiring.as_ref())?;
        let kms::grant::Constraints { equals, subset, source_arn } = grant.constraints.clone();
        let constrained = equals.is_some() || subset.is_some() || source_arn.is_some();
        Ok(Self {
            key_id: grant.key_arn().to_string(),
            grant_id: grant.id.clone(),
            name: grant.name.clone(),
            creation_date: grant.created,
            grantee_principal,
            grantee_service_principal,
            retiring_principal,
            retiring_service_principal,
            issuing_account: format!("arn:aws:iam::{}:root", grant.issuing_account),
            operations: grant.operations.iter().map(|operation| operation.as_str()).collect(),
            constraints: constrained.then_some(GrantConstraints {
                encryption_context_subset: subset,
                encryption_context_equals: equals,
                source_arn,
            }),
        })
    }
}
