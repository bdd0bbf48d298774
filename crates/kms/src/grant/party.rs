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
    /// What a caller is compared with: `account:…`, `id:…`, `session:…`, `service:…`, or `service-principal:…` for a
    /// service that a request named as one (`GranteeServicePrincipal`). A user or role is meant by its unique id,
    /// so that one made later under the same name does not inherit the grant.
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
/// Before the name of a service that a request named as one.
const SERVICE_PRINCIPAL: &str = "service-principal:";
/// Longest name of a service (botocore: ServicePrincipalType).
const SERVICE_PRINCIPAL_CHARS_MAX: usize = 128;

impl Party {
    /// Resolves `GranteeServicePrincipal` or `RetiringServicePrincipal`. Any service may be named: a grant to one
    /// that never calls gives nothing.
    ///
    /// # Errors
    /// [`Error::Validation`] when the text is no name of a service.
    pub fn service_principal(text: &str) -> Result<Self> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        let labels: Vec<&str> = text.split('.').collect();
        let is_name =
            labels.len() >= 3 && labels.iter().all(|l| !l.is_empty() && l.bytes().all(legal));
        if !is_name || text.len() > SERVICE_PRINCIPAL_CHARS_MAX {
            return Err(Error::validation(format!(
                "'{text}' is not a service principal: name one as in ec2.us-east-1.amazonaws.com, in at most \
                 {SERVICE_PRINCIPAL_CHARS_MAX} characters."
            )));
        }
        Ok(Self { shown: text.to_owned(), matched: format!("{SERVICE_PRINCIPAL}{text}") })
    }

    /// Whether a request named the party as a service principal; lists show it in another member then.
    pub fn is_service_principal(&self) -> bool {
        self.matched.starts_with(SERVICE_PRINCIPAL)
    }

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
            let named = |n: &String| [format!("service:{n}"), format!("{SERVICE_PRINCIPAL}{n}")];
            let names = caller.service_names();
            names.iter().flat_map(named).map(|name| (name, Strength::Exact)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_named_with_dots() {
        for good in ["ec2.amazonaws.com", "us-east-1.supportauthz.amazonaws.com", "a.b.c"] {
            assert!(Party::service_principal(good).is_ok(), "{good}");
        }
        let long = format!("{}.b.c", "a".repeat(SERVICE_PRINCIPAL_CHARS_MAX));
        for bad in
            ["", "ec2", "amazonaws.com", "ec2..com", ".a.b", "a_b.c.d", "*.amazonaws.com", &long]
        {
            let refused = Party::service_principal(bad);
            assert!(matches!(refused, Err(Error::Validation { .. })), "{bad}");
        }
    }

    #[test]
    fn a_service_principal_is_the_service_with_and_without_a_region() {
        let account = AccountId::parse("111122223333").expect("an account");
        let ec2 = Principal::service(&account, "ec2.us-east-1.amazonaws.com");
        let strength = |name: &str| Party::service_principal(name).expect("a name").strength(&ec2);
        assert_eq!(strength("ec2.us-east-1.amazonaws.com"), Some(Strength::Exact));
        assert_eq!(strength("ec2.amazonaws.com"), Some(Strength::Exact));
        assert_eq!(strength("ec2.eu-west-1.amazonaws.com"), None);
        assert_eq!(strength("rds.amazonaws.com"), None);
    }
}
