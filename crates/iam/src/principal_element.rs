//! The Principal element: its forms, and how strongly one names a caller (spec 20, A.4).

use crate::json::Json;
use crate::parse::{At, member, object, string, strings};
use crate::policy::{Effect, Element, PolicyError, PolicyKind, StatementPrincipal};
use crate::principal::{Maker, Principal, PrincipalKind};
use base::{AccountId, Arn};
use serde::{Deserialize, Serialize};

/// How a statement names the caller; the variants are ordered from weak to strong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PrincipalMatch {
    /// The caller's account: this only delegates to its identity policies.
    Account,
    /// The caller's role: boundary and session policies still limit.
    Role,
    /// The caller itself, or everyone: an allow stands on its own in the same account.
    Exact,
}

/// Parses Principal or NotPrincipal where the kind of policy requires it.
pub(crate) fn parse(
    members: &[(String, Json)],
    kind: PolicyKind,
    effect: Effect,
    at: &At<'_>,
) -> Result<Option<Element<StatementPrincipal>>, PolicyError> {
    let (name, negated, value) =
        match (member(members, "Principal"), member(members, "NotPrincipal")) {
            (Some(_), Some(_)) => {
                return at.wrong("a statement has either Principal or NotPrincipal, not both");
            }
            (Some(value), None) => ("Principal", false, Some(value)),
            (None, Some(value)) => ("NotPrincipal", true, Some(value)),
            (None, None) => ("Principal", false, None),
        };
    let at = &at.member(name);
    match (kind, value) {
        (PolicyKind::Identity | PolicyKind::Session, None) => Ok(None),
        (PolicyKind::Identity | PolicyKind::Session, Some(_)) => {
            at.wrong("Policy document should not specify a principal")
        }
        (PolicyKind::KeyPolicy | PolicyKind::Trust, None) => {
            at.wrong("Missing required field Principal")
        }
        (PolicyKind::KeyPolicy | PolicyKind::Trust, Some(value)) => {
            if negated && effect == Effect::Allow {
                return at.wrong("NotPrincipal is only allowed with the effect Deny");
            }
            Ok(Some(Element { negated, items: forms(value, at)? }))
        }
    }
}

fn forms(value: &Json, at: &At<'_>) -> Result<Vec<StatementPrincipal>, PolicyError> {
    if let Json::String(_) = value {
        return match string(value, at)? {
            "*" => Ok(vec![StatementPrincipal::Anyone]),
            other => at.invalid_principal(format!("\"{other}\"")),
        };
    }
    let mut items = Vec::new();
    for (form, values) in object(value, at)? {
        let at = &at.member(form);
        for (i, text) in strings(values, at)?.into_iter().enumerate() {
            let item = match form.as_str() {
                "AWS" => aws(text),
                "Service" => service(text),
                "Federated" => (!text.is_empty() && !text.contains('*'))
                    .then(|| StatementPrincipal::Federated(text.to_owned())),
                _ => None,
            };
            let Some(item) = item else {
                return at.index(i).invalid_principal(format!("\"{form}\":\"{text}\""));
            };
            items.push(item);
        }
    }
    if items.is_empty() {
        return at.wrong("Missing required field Principal");
    }
    Ok(items)
}

fn service(text: &str) -> Option<StatementPrincipal> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    (text.contains('.') && text.chars().all(legal))
        .then(|| StatementPrincipal::Service(text.to_owned()))
}

/// One value under `AWS`; `None` when it has no legal form. Wildcards inside are none (spec 20, A.4).
fn aws(text: &str) -> Option<StatementPrincipal> {
    if text == "*" {
        return Some(StatementPrincipal::Anyone);
    }
    if let Ok(account) = AccountId::parse(text) {
        return Some(StatementPrincipal::Account(account));
    }
    let unique = |t: &str| t.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if (text.starts_with("AIDA") || text.starts_with("AROA")) && text.len() >= 16 && unique(text) {
        return Some(StatementPrincipal::UniqueId(text.to_owned()));
    }
    if text.contains(['*', '?']) {
        return None;
    }
    let arn = Arn::parse(text)?;
    let account = AccountId::parse(&arn.account).ok()?;
    if arn.partition != base::arn::PARTITION || !arn.region.is_empty() {
        return None;
    }
    let (kind, rest) = arn.resource.split_once('/').unwrap_or((&arn.resource, ""));
    match (arn.service.as_str(), kind) {
        ("iam", "root") if arn.resource == "root" => Some(StatementPrincipal::Account(account)),
        ("iam", "user" | "role") if !rest.is_empty() && !rest.ends_with('/') => {
            Some(StatementPrincipal::Entity { arn: text.to_owned(), unique_id: None })
        }
        ("sts", "assumed-role") if rest.split('/').filter(|p| !p.is_empty()).count() == 2 => {
            Some(StatementPrincipal::Session(text.to_owned()))
        }
        ("sts", "federated-user") if !rest.is_empty() => {
            Some(StatementPrincipal::Session(text.to_owned()))
        }
        _ => None,
    }
}

impl Element<StatementPrincipal> {
    /// How the element names the caller; `None` when it does not apply.
    pub(crate) fn names(&self, principal: &Principal) -> Option<PrincipalMatch> {
        let strongest = self.items.iter().filter_map(|item| item.names(principal)).max();
        if !self.negated {
            return strongest;
        }
        // To spare a caller, each of its names has to be listed (spec 20, A.4).
        let listed = |wanted| self.items.iter().any(|item| item.names(principal) == Some(wanted));
        let spared = match principal.kind {
            PrincipalKind::Service { .. }
            | PrincipalKind::WebIdentity { .. }
            | PrincipalKind::Saml { .. } => listed(PrincipalMatch::Exact),
            PrincipalKind::Root => listed(PrincipalMatch::Account),
            PrincipalKind::User { .. }
            | PrincipalKind::FederatedUser { maker: Maker::Root, .. } => {
                listed(PrincipalMatch::Account) && listed(PrincipalMatch::Exact)
            }
            PrincipalKind::AssumedRole { .. }
            | PrincipalKind::FederatedUser { maker: Maker::User, .. } => {
                listed(PrincipalMatch::Account)
                    && listed(PrincipalMatch::Role)
                    && listed(PrincipalMatch::Exact)
            }
        };
        let everyone = self.items.contains(&StatementPrincipal::Anyone);
        (!spared && !everyone).then_some(PrincipalMatch::Exact)
    }
}

impl StatementPrincipal {
    fn names(&self, principal: &Principal) -> Option<PrincipalMatch> {
        let is_nobody = principal.kind.is_nobody();
        match self {
            Self::Anyone => Some(PrincipalMatch::Exact),
            Self::Account(account) => {
                (!is_nobody && *account == principal.account).then_some(PrincipalMatch::Account)
            }
            Self::Entity { arn, unique_id } => match unique_id {
                Some(id) => entity(principal, |p| p.unique_id == *id),
                None => entity(principal, |p| p.principal_arn == *arn),
            },
            Self::UniqueId(id) => entity(principal, |p| p.unique_id == *id),
            Self::Session(arn) => {
                let session = matches!(
                    principal.kind,
                    PrincipalKind::AssumedRole { .. } | PrincipalKind::FederatedUser { .. }
                );
                (session && principal.arn == *arn).then_some(PrincipalMatch::Exact)
            }
            Self::Service(name) => {
                principal.service_names().contains(name).then_some(PrincipalMatch::Exact)
            }
            Self::Federated(provider) => match &principal.kind {
                PrincipalKind::WebIdentity { provider_arn, .. }
                | PrincipalKind::Saml { provider_arn, .. } => {
                    (provider_arn == provider).then_some(PrincipalMatch::Exact)
                }
                PrincipalKind::Root
                | PrincipalKind::User { .. }
                | PrincipalKind::AssumedRole { .. }
                | PrincipalKind::FederatedUser { .. }
                | PrincipalKind::Service { .. } => None,
            },
        }
    }
}

fn entity(principal: &Principal, same: impl Fn(&Principal) -> bool) -> Option<PrincipalMatch> {
    let strength = match principal.kind {
        PrincipalKind::User { .. } => PrincipalMatch::Exact,
        // What names the role or user behind a session is limited by the session's policies.
        PrincipalKind::AssumedRole { .. }
        | PrincipalKind::FederatedUser { maker: Maker::User, .. } => PrincipalMatch::Role,
        PrincipalKind::Root
        | PrincipalKind::FederatedUser { maker: Maker::Root, .. }
        | PrincipalKind::WebIdentity { .. }
        | PrincipalKind::Saml { .. }
        | PrincipalKind::Service { .. } => return None,
    };
    same(principal).then_some(strength)
}
