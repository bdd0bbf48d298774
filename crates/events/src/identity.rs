//! Who made a call: the `userIdentity` element of a record.

use base::{AccountId, Arn, InstanceId, Timestamp};
use serde::{Deserialize, Serialize};

/// The role's own identity that a session descends from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionIssuer {
    #[serde(rename = "type")]
    kind: String,
    /// `AROA…`, or `<account>:aws:ec2-infrastructure`.
    pub principal_id: String,
    /// The role's ARN.
    pub arn: String,
    /// The role's account.
    pub account_id: AccountId,
    /// The role's name.
    pub user_name: String,
}

impl SessionIssuer {
    /// A role as the issuer of a session.
    pub fn role(account: &AccountId, role_id: &str, arn: &str, name: &str) -> Self {
        Self {
            kind: "Role".to_owned(),
            principal_id: role_id.to_owned(),
            arn: arn.to_owned(),
            account_id: account.clone(),
            user_name: name.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionAttributes {
    creation_date: String,
    mfa_authenticated: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InScopeOf {
    issuer_type: String,
    credentials_issued_to: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    session_issuer: Option<SessionIssuer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attributes: Option<SessionAttributes>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_identity: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_scope_of: Option<InScopeOf>,
}

/// The `userIdentity` of a record, made only by the constructors below, one per kind of caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserIdentity {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<AccountId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity_provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_context: Option<SessionContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invoked_by: Option<String>,
}

impl UserIdentity {
    /// The root user of an account.
    pub fn root(account: &AccountId) -> Self {
        Self {
            kind: Some("Root".to_owned()),
            principal_id: Some(account.to_string()),
            arn: Some(Arn::global("iam", account, "root").to_string()),
            account_id: Some(account.clone()),
            ..Self::default()
        }
    }

    /// An IAM user; `user_id` is its `AIDA…`.
    pub fn iam_user(account: &AccountId, user_id: &str, arn: &str, name: &str) -> Self {
        Self {
            kind: Some("IAMUser".to_owned()),
            principal_id: Some(user_id.to_owned()),
            arn: Some(arn.to_owned()),
            account_id: Some(account.clone()),
            user_name: Some(name.to_owned()),
            ..Self::default()
        }
    }

    /// A session of a role; `arn` is the session's (`arn:aws:sts::…:assumed-role/<role>/<session>`).
    pub fn assumed_role(issuer: SessionIssuer, arn: &str, session_name: &str) -> Self {
        Self {
            kind: Some("AssumedRole".to_owned()),
            principal_id: Some(format!("{}:{session_name}", issuer.principal_id)),
            arn: Some(arn.to_owned()),
            account_id: Some(issuer.account_id.clone()),
            session_context: Some(SessionContext {
                session_issuer: Some(issuer),
                ..SessionContext::default()
            }),
            ..Self::default()
        }
    }

    /// The role under which a machine uses the volumes attached to it: `aws:ec2-infrastructure`
    /// (spec 20, D.1, "infra-role Decrypt").
    pub fn infrastructure(
        account: &AccountId,
        region: &base::Region,
        instance: &InstanceId,
    ) -> Self {
        const ROLE: &str = "aws:ec2-infrastructure";
        let role_arn = Arn::global("iam", account, &format!("role/{ROLE}")).to_string();
        let issuer = SessionIssuer::role(account, &format!("{account}:{ROLE}"), &role_arn, ROLE);
        let arn =
            Arn::global("sts", account, &format!("assumed-role/{ROLE}/{instance}")).to_string();
        let machine = Arn::regional("ec2", region, account, &format!("instance/{instance}"));
        let mut identity = Self::assumed_role(issuer, &arn, instance.as_str());
        if let Some(context) = &mut identity.session_context {
            context.in_scope_of = Some(InScopeOf {
                issuer_type: "AWS::EC2::Instance".to_owned(),
                credentials_issued_to: machine.to_string(),
            });
        }
        identity.invoked_by("AWS Internal")
    }

    /// Somebody a user took out credentials for.
    pub fn federated_user(account: &AccountId, user_id: &str, arn: &str, name: &str) -> Self {
        Self {
            kind: Some("FederatedUser".to_owned()),
            ..Self::iam_user(account, user_id, arn, name)
        }
    }

    /// Somebody an OpenID Connect provider vouches for; not a principal of an account yet.
    pub fn web_identity(account: &AccountId, provider: &str, subject: &str) -> Self {
        Self {
            kind: Some("WebIdentityUser".to_owned()),
            principal_id: Some(format!("{provider}:{subject}")),
            account_id: Some(account.clone()),
            user_name: Some(subject.to_owned()),
            ..Self::default()
        }
    }

    /// Somebody a SAML provider vouches for; not a principal of an account yet. `name_qualifier` is
    /// what tells its subjects from those of other providers.
    pub fn saml(account: &AccountId, name_qualifier: &str, subject: &str) -> Self {
        Self {
            kind: Some("SAMLUser".to_owned()),
            principal_id: Some(format!("{name_qualifier}:{subject}")),
            account_id: Some(account.clone()),
            user_name: Some(subject.to_owned()),
            identity_provider: Some(name_qualifier.to_owned()),
            ..Self::default()
        }
    }

    /// A service that acts for itself, as on a grant made to it.
    pub fn service(name: &str) -> Self {
        Self { kind: Some("AWSService".to_owned()), ..Self::default() }.invoked_by(name)
    }

    /// A caller of another account, as the owner of a resource is shown it: without its ARN.
    pub fn other_account(account: &AccountId, principal_id: &str) -> Self {
        Self {
            kind: Some("AWSAccount".to_owned()),
            principal_id: Some(principal_id.to_owned()),
            account_id: Some(account.clone()),
            ..Self::default()
        }
    }

    /// Nobody: something the system did by itself in an account, as `DeleteKey` after its waiting period.
    pub fn internal(account: &AccountId) -> Self {
        Self { account_id: Some(account.clone()), ..Self::default() }.invoked_by("AWS Internal")
    }

    /// A request whose signature could not be attributed: only the key id that was presented.
    pub fn unknown(access_key_id: Option<&str>) -> Self {
        Self {
            kind: Some("Unknown".to_owned()),
            access_key_id: access_key_id.map(str::to_owned),
            ..Self::default()
        }
    }

    /// Adds the access key that signed the request.
    #[must_use]
    pub fn with_access_key(mut self, id: &str) -> Self {
        self.access_key_id = Some(id.to_owned());
        self
    }

    /// Adds when a session began. Multi-factor authentication is not offered, so never claimed.
    #[must_use]
    pub fn with_session_start(mut self, start: Timestamp) -> Self {
        let context = self.session_context.get_or_insert_default();
        context.attributes = Some(SessionAttributes {
            creation_date: start.iso_seconds(),
            mfa_authenticated: "false".to_owned(),
        });
        self
    }

    /// Adds the source identity a session was made with.
    #[must_use]
    pub fn with_source_identity(mut self, name: &str) -> Self {
        self.session_context.get_or_insert_default().source_identity = Some(name.to_owned());
        self
    }

    /// Adds the service that made the call in this identity's name.
    #[must_use]
    pub fn invoked_by(mut self, service: &str) -> Self {
        self.invoked_by = Some(service.to_owned());
        self
    }

    /// The service that made the call in this identity's name.
    pub fn invoker(&self) -> Option<&str> {
        self.invoked_by.as_deref()
    }

    /// The access key that signed the request.
    pub fn access_key(&self) -> Option<&str> {
        self.access_key_id.as_deref()
    }

    /// The account of the caller.
    pub fn account(&self) -> Option<&AccountId> {
        self.account_id.as_ref()
    }

    /// What LookupEvents calls `Username`: the user's name, the session's name, `root`, or the service.
    pub fn username(&self) -> Option<&str> {
        match self.kind.as_deref() {
            Some("Root") => Some("root"),
            Some("AssumedRole") => {
                self.principal_id.as_deref()?.rsplit_once(':').map(|(_, name)| name)
            }
            Some("AWSService") => self.invoked_by.as_deref(),
            _ => self.user_name.as_deref(),
        }
    }

    /// How the owner of a resource in another account is shown this caller (spec 20, D.1, "Cross-account").
    pub(crate) fn seen_from_outside(&self) -> Self {
        Self {
            kind: Some("AWSAccount".to_owned()),
            principal_id: self.principal_id.clone(),
            account_id: self.account_id.clone(),
            invoked_by: self.invoked_by.clone(),
            ..Self::default()
        }
    }
}
