//! The two principals of a grant: who receives it and who may end it.

use crate::error::{Error, Result};
use crate::service::Kms;
use base::{AccountId, Arn};
use iam::{Principal, PrincipalKind};
use meta::Tx;

/// A principal of a grant, resolved when the grant was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The ARN or service name as lists show it.
    pub shown: String,
    /// What a caller is compared with: `account:…`, `id:…`, `session:…` or `service:…`. A user or role is meant
    /// by its unique id, so that one made later under the same name does not inherit the grant.
    pub(crate) matched: String,
}

/// How a grant names its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// Exactly this user, session, root or service.
    Exact,
    /// The role or account of the caller, whose other policies still limit.
    Wide,
}

/// Whether a request may name principals only services deal with: service names and the role that hosts attach
/// volumes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A caller's own request.
    Caller,
    /// A request a service makes.
    Service,
}

/// What the role of a host that attaches volumes is called (spec 20, A.8).
const INFRASTRUCTURE_ROLE: &str = "aws:ec2-infrastructure";

impl Party {
    /// How the party names a caller; `None` when it does not.
    pub(crate) fn strength(&self, caller: &Principal) -> Option<Strength> {
        names(caller).into_iter().find(|(name, _)| *name == self.matched).map(|(_, s)| s)
    }
}

/// Every name a party may have for a caller.
pub(crate) fn names(caller: &Principal) -> Vec<(String, Strength)> {
    let account = format!("account:{}", caller.account);
    let id = format!("id:{}", caller.unique_id);
    match &caller.kind {
        PrincipalKind::Root => vec![(account, Strength::Exact)],
        PrincipalKind::User { .. } => vec![(id, Strength::Exact), (account, Strength::Wide)],
        PrincipalKind::AssumedRole { .. } => vec![
            (format!("session:{}", caller.arn), Strength::Exact),
            (id, Strength::Wide),
            (account, Strength::Wide),
        ],
        // A grant to the user is one to what stands behind the session.
        PrincipalKind::FederatedUser { .. } => vec![
            (format!("session:{}", caller.arn), Strength::Exact),
            (id, Strength::Wide),
            (account, Strength::Wide),
        ],
        PrincipalKind::WebIdentity { .. } | PrincipalKind::Saml { .. } => Vec::new(),
        PrincipalKind::Service { .. } => {
            let names = caller.service_names();
            names.into_iter().map(|n| (format!("service:{n}"), Strength::Exact)).collect()
        }
    }
}

impl Kms {
    /// Resolves `GranteePrincipal` or `RetiringPrincipal`.
    ///
    /// # Errors
    /// [`Error::InvalidArn`] when it names nobody.
    pub fn grant_party(&self, tx: &mut Tx<'_>, text: &str, trust: Trust) -> Result<Party> {
        let nobody = || Error::InvalidArn {
            message: format!("ARN does not refer to a valid principal: {text}"),
        };
        let party = |shown: &str, matched: String| Party { shown: shown.to_owned(), matched };
        if let Ok(account) = AccountId::parse(text) {
            return self.account_party(tx, &account)?.ok_or_else(nobody);
        }
        if !text.starts_with("arn:") {
            if trust == Trust::Service && text.ends_with(".amazonaws.com") {
                return Ok(party(text, format!("service:{text}")));
            }
            let arn = self.directory().arn_of(tx, text)?.ok_or_else(nobody)?;
            return Ok(party(&arn, format!("id:{text}")));
        }
        let arn = Arn::parse(text).ok_or_else(nobody)?;
        let account = AccountId::parse(&arn.account).map_err(|_| nobody())?;
        let mut parts = arn.resource.split('/');
        match (arn.service.as_str(), parts.next()) {
            ("iam", Some("root")) if arn.resource == "root" => {
                self.account_party(tx, &account)?.ok_or_else(nobody)
            }
            ("iam", Some("user" | "role")) => {
                let id = self.directory().unique_id(tx, text)?.ok_or_else(nobody)?;
                Ok(party(text, format!("id:{id}")))
            }
            ("sts", Some("assumed-role")) => {
                let (role, session) = (parts.next(), parts.next());
                let ours = role == Some(INFRASTRUCTURE_ROLE);
                let complete = session.is_some_and(|s| !s.is_empty()) && parts.next().is_none();
                let known = self.directory().account_exists(tx, &account)?;
                if !complete || !known || (ours && trust == Trust::Caller) {
                    return Err(nobody());
                }
                Ok(party(text, format!("session:{text}")))
            }
            ("sts", Some("federated-user")) => {
                let named = parts.next().is_some_and(|name| !name.is_empty());
                if !named || parts.next().is_some() || self.account_party(tx, &account)?.is_none() {
                    return Err(nobody());
                }
                Ok(party(text, format!("session:{text}")))
            }
            _ => Err(nobody()),
        }
    }

    fn account_party(&self, tx: &mut Tx<'_>, account: &AccountId) -> Result<Option<Party>> {
        let exists = self.directory().account_exists(tx, account)?;
        Ok(exists.then(|| Party {
            shown: Arn::global("iam", account, "root").to_string(),
            matched: format!("account:{account}"),
        }))
    }

    /// A party as a list shows it now: a deleted user or role appears as its unique id.
    ///
    /// # Errors
    /// As the database answers.
    pub fn shown_party(&self, tx: &mut Tx<'_>, party: &Party) -> Result<String> {
        if let Some(id) = party.matched.strip_prefix("id:")
            && self.directory().unique_id(tx, &party.shown)?.as_deref() != Some(id)
        {
            return Ok(id.to_owned());
        }
        Ok(party.shown.clone())
    }
}
