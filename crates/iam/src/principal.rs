//! Who asks: the record carried through the system for one authenticated caller (spec 20, A.1).

use base::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What sort of caller it is, with what only that sort has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrincipalKind {
    /// The root of an account. It has no identity policies: everything its account may do, it may.
    Root,
    /// An IAM user.
    User {
        /// The user's name, without its path.
        name: String,
        /// `/` or `/division/team/`.
        path: String,
    },
    /// A session of a role.
    AssumedRole {
        /// The role's name, without its path.
        role_name: String,
        /// `/` or `/division/team/`.
        role_path: String,
        /// The role's unique id, `AROA…`.
        role_id: String,
        /// The name chosen when the role was assumed.
        session_name: String,
    },
    /// Somebody for whom a user or root took out credentials (`sts:GetFederationToken`).
    FederatedUser {
        /// The name chosen then.
        name: String,
        /// Whose policies are the most it can have.
        maker: Maker,
    },
    /// Somebody an OpenID Connect issuer vouches for and who is nobody yet: it can only assume a role.
    WebIdentity {
        /// The ARN of the provider, as trust policies name it.
        provider_arn: String,
        /// `sub` of its token.
        subject: String,
    },
    /// Somebody a SAML provider vouches for and who is nobody yet: it can only assume a role.
    Saml {
        /// The ARN of the provider, as trust policies name it.
        provider_arn: String,
        /// `NameID` of its assertion.
        subject: String,
        /// What tells the provider's subjects from those of others: `saml:namequalifier`.
        name_qualifier: String,
    },
    /// An AWS service acting by itself, not on behalf of a caller.
    Service {
        /// `ec2.us-east-1.amazonaws.com` or `ec2.amazonaws.com`.
        name: String,
    },
}

impl PrincipalKind {
    /// Whether this is nobody of the account: a service, or somebody a provider vouches for. Such a
    /// one has no policies of its own.
    pub fn is_nobody(&self) -> bool {
        matches!(self, Self::Service { .. } | Self::WebIdentity { .. } | Self::Saml { .. })
    }
}

/// Who took out a federated user's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maker {
    /// The root of its account.
    Root,
    /// A user; its unique id is the principal's.
    User,
}

/// One authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Principal {
    /// The account of the caller; for a service, the account it acts in.
    pub account: AccountId,
    /// What sort of caller.
    pub kind: PrincipalKind,
    /// The ARN shown in messages and the trail: for a session the `sts` one; for a service its name.
    pub arn: String,
    /// `aws:PrincipalArn`: the role's ARN with its path for a session, otherwise the same as `arn`.
    pub principal_arn: String,
    /// `aws:userid`: `AIDA…`, `AROA…:session` or the account id.
    pub user_id: String,
    /// What stored policies resolve a user or role ARN to: `AIDA…` or `AROA…`; the account id of a root.
    pub unique_id: String,
    /// The tags of the user or role, overlaid by those of the session: `aws:PrincipalTag/…`.
    pub tags: BTreeMap<String, String>,
    /// `aws:SourceIdentity`, set when a role was first assumed and kept along a chain.
    pub source_identity: Option<String>,
    /// When the temporary credentials were issued: `aws:TokenIssueTime`. `None` for long-term keys.
    pub token_issue_time: Option<Timestamp>,
    /// `aws:FederatedProvider`: the ARN of the provider whose token began the session.
    #[serde(default)]
    pub federated_provider: Option<String>,
    /// Keys of session tags that a further role assumed from this session inherits.
    #[serde(default)]
    pub transitive_tag_keys: BTreeSet<String>,
}

/// `path` followed by `name`, as both stand in an ARN after `user` or `role`.
fn in_arn(path: &str, name: &str) -> String {
    format!("{path}{name}")
}

impl Principal {
    /// The root of an account.
    pub fn root(account: &AccountId) -> Self {
        let arn = format!("arn:aws:iam::{account}:root");
        Self {
            account: account.clone(),
            kind: PrincipalKind::Root,
            principal_arn: arn.clone(),
            arn,
            user_id: account.to_string(),
            unique_id: account.to_string(),
            tags: BTreeMap::new(),
            source_identity: None,
            token_issue_time: None,
            federated_provider: None,
            transitive_tag_keys: BTreeSet::new(),
        }
    }

    /// A user; `path` begins and ends with a slash.
    pub fn user(account: &AccountId, path: &str, name: &str, unique_id: &str) -> Self {
        let arn = format!("arn:aws:iam::{account}:user{}", in_arn(path, name));
        Self {
            kind: PrincipalKind::User { name: name.to_owned(), path: path.to_owned() },
            principal_arn: arn.clone(),
            arn,
            user_id: unique_id.to_owned(),
            unique_id: unique_id.to_owned(),
            ..Self::root(account)
        }
    }

    /// A session of a role; `path` begins and ends with a slash.
    pub fn assumed_role(
        account: &AccountId,
        path: &str,
        role: &str,
        role_id: &str,
        session: &str,
    ) -> Self {
        Self {
            kind: PrincipalKind::AssumedRole {
                role_name: role.to_owned(),
                role_path: path.to_owned(),
                role_id: role_id.to_owned(),
                session_name: session.to_owned(),
            },
            arn: format!("arn:aws:sts::{account}:assumed-role/{role}/{session}"),
            principal_arn: format!("arn:aws:iam::{account}:role{}", in_arn(path, role)),
            user_id: format!("{role_id}:{session}"),
            unique_id: role_id.to_owned(),
            ..Self::root(account)
        }
    }

    /// A federated user that a user or root makes.
    pub fn federated_user(maker: &Self, name: &str) -> Self {
        let account = &maker.account;
        let by = if maker.kind == PrincipalKind::Root { Maker::Root } else { Maker::User };
        let arn = format!("arn:aws:sts::{account}:federated-user/{name}");
        Self {
            kind: PrincipalKind::FederatedUser { name: name.to_owned(), maker: by },
            principal_arn: arn.clone(),
            arn,
            user_id: format!("{account}:{name}"),
            unique_id: maker.unique_id.clone(),
            ..Self::root(account)
        }
    }

    /// Somebody an issuer vouches for, before a role of this account.
    pub fn web_identity(account: &AccountId, provider_arn: &str, subject: &str) -> Self {
        Self {
            kind: PrincipalKind::WebIdentity {
                provider_arn: provider_arn.to_owned(),
                subject: subject.to_owned(),
            },
            arn: provider_arn.to_owned(),
            principal_arn: provider_arn.to_owned(),
            user_id: subject.to_owned(),
            unique_id: provider_arn.to_owned(),
            federated_provider: Some(provider_arn.to_owned()),
            ..Self::root(account)
        }
    }

    /// Somebody a SAML provider vouches for, before a role of this account.
    pub fn saml(
        account: &AccountId,
        provider_arn: &str,
        subject: &str,
        name_qualifier: &str,
    ) -> Self {
        Self {
            kind: PrincipalKind::Saml {
                provider_arn: provider_arn.to_owned(),
                subject: subject.to_owned(),
                name_qualifier: name_qualifier.to_owned(),
            },
            user_id: format!("{name_qualifier}:{subject}"),
            ..Self::web_identity(account, provider_arn, subject)
        }
    }

    /// A service acting by itself in an account.
    pub fn service(account: &AccountId, name: &str) -> Self {
        Self {
            kind: PrincipalKind::Service { name: name.to_owned() },
            arn: name.to_owned(),
            principal_arn: name.to_owned(),
            user_id: name.to_owned(),
            unique_id: name.to_owned(),
            ..Self::root(account)
        }
    }

    /// `aws:PrincipalType` in words: Account, User, AssumedRole or Service.
    pub fn kind_name(&self) -> PrincipalType {
        match self.kind {
            PrincipalKind::Root => PrincipalType::Account,
            PrincipalKind::User { .. } => PrincipalType::User,
            PrincipalKind::AssumedRole { .. } => PrincipalType::AssumedRole,
            PrincipalKind::FederatedUser { .. } => PrincipalType::FederatedUser,
            PrincipalKind::WebIdentity { .. } => PrincipalType::WebIdentity,
            PrincipalKind::Saml { .. } => PrincipalType::Saml,
            PrincipalKind::Service { .. } => PrincipalType::Service,
        }
    }

    /// `aws:username`: only users have one (spec 20, A.7).
    pub fn username(&self) -> Option<&str> {
        match &self.kind {
            PrincipalKind::User { name, .. } => Some(name),
            PrincipalKind::Root
            | PrincipalKind::AssumedRole { .. }
            | PrincipalKind::FederatedUser { .. }
            | PrincipalKind::WebIdentity { .. }
            | PrincipalKind::Saml { .. }
            | PrincipalKind::Service { .. } => None,
        }
    }

    /// Every name of a service principal: the one it calls with, and the one without the region.
    pub fn service_names(&self) -> Vec<String> {
        let PrincipalKind::Service { name } = &self.kind else { return Vec::new() };
        let mut names = vec![name.clone()];
        let labels: Vec<&str> = name.split('.').collect();
        if let [service, _region, "amazonaws", "com"] = labels[..] {
            names.push(format!("{service}.amazonaws.com"));
        }
        names
    }
}

/// The value of `aws:PrincipalType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum PrincipalType {
    /// The root of an account.
    Account,
    /// An IAM user.
    User,
    /// A session of a role.
    AssumedRole,
    /// A federated user.
    FederatedUser,
    /// Somebody an issuer vouches for; it is no principal of an account, so the key is absent.
    WebIdentity,
    /// Somebody a SAML provider vouches for; likewise.
    Saml,
    /// A service principal; AWS gives no value for it, so the key is absent.
    Service,
}

impl PrincipalType {
    /// The text a policy compares with, when the key is present at all.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::Account => Some("Account"),
            Self::User => Some("User"),
            Self::AssumedRole => Some("AssumedRole"),
            Self::FederatedUser => Some("FederatedUser"),
            Self::WebIdentity | Self::Saml | Self::Service => None,
        }
    }
}
