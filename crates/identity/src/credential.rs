//! From an access key id to whose it is and what it signs with.

use crate::Identity;
use crate::access_key;
use crate::account;
use crate::entity::{self, Entity, Kind};
use crate::error::{CredentialError, Result};
use crate::role;
use crate::session::{Whose, federated_principal, role_principal};
use crate::tag;
use base::{AccountId, InstanceId, Secret, Timestamp};
use iam::Principal;
use meta::Tx;

/// A credential that is good now.
#[derive(Debug)]
pub struct Credential {
    /// Whose it is.
    pub principal: Principal,
    /// What requests are signed with.
    pub secret: Secret<String>,
    /// What limits the session: policy texts, and ARNs of managed policies.
    pub session_policies: Vec<String>,
    /// When the session ends; `None` for long-term keys.
    pub expires_at: Option<Timestamp>,
}

impl Identity {
    /// The credential with this access key id. A session's token has to be given, and only then.
    ///
    /// # Errors
    /// [`CredentialError`]; a deleted user or role ends its sessions at once.
    pub fn credential(
        &self,
        tx: &mut Tx<'_>,
        access_key_id: &str,
        token: Option<&str>,
    ) -> std::result::Result<Credential, CredentialError> {
        match token {
            Some(token) => self.session_credential(tx, access_key_id, token),
            None if access_key_id.starts_with("ASIA") => Err(CredentialError::InvalidToken),
            None => self.long_term_credential(tx, access_key_id),
        }
    }

    fn long_term_credential(
        &self,
        tx: &mut Tx<'_>,
        access_key_id: &str,
    ) -> std::result::Result<Credential, CredentialError> {
        let stored = access_key::find(tx, access_key_id)?.ok_or(CredentialError::Unknown)?;
        if !stored.active {
            return Err(CredentialError::Unknown);
        }
        let principal = if stored.owner_id == stored.account.as_str() {
            Principal::root(&stored.account)
        } else if let Ok(instance) = InstanceId::parse(&stored.owner_id) {
            host_principal(&stored.account, &instance)
        } else {
            let user = entity::find_by_id(tx, &stored.owner_id)?;
            user_principal(tx, &user.ok_or(CredentialError::Unknown)?)?
        };
        let secret = self.open_secret(access_key_id, &stored)?;
        Ok(Credential { principal, secret, session_policies: Vec::new(), expires_at: None })
    }

    fn session_credential(
        &self,
        tx: &mut Tx<'_>,
        access_key_id: &str,
        token: &str,
    ) -> std::result::Result<Credential, CredentialError> {
        let opened = self.open_token(access_key_id, token);
        let (content, secret) = opened.ok_or(CredentialError::InvalidToken)?;
        let expires_at = Timestamp(content.expires_at);
        if self.now() >= expires_at {
            return Err(CredentialError::Expired);
        }
        let issued = Some(Timestamp(content.issued_at));
        let principal = match &content.whose {
            Whose::Root(account) => {
                let account = AccountId::parse(account).ok();
                let account = account.ok_or(CredentialError::InvalidToken)?;
                account::find(tx, &account)?.ok_or(CredentialError::Unknown)?;
                Principal { token_issue_time: issued, ..Principal::root(&account) }
            }
            Whose::User(id) => {
                let user = of_kind(tx, id, Kind::User)?;
                Principal { token_issue_time: issued, ..user_principal(tx, &user)? }
            }
            Whose::Role(id, _) => {
                let entity = of_kind(tx, id, Kind::Role)?;
                let tags = tag::of(tx, &entity.account, &entity.unique_id)?;
                let role = role::complete(tx, entity)?;
                role_principal(&role, &content, tags)
            }
            Whose::Federated(maker, name) => {
                let maker = match AccountId::parse(maker) {
                    Ok(account) => {
                        account::find(tx, &account)?.ok_or(CredentialError::Unknown)?;
                        Principal::root(&account)
                    }
                    Err(_) => {
                        let user = of_kind(tx, maker, Kind::User)?;
                        user_principal(tx, &user)?
                    }
                };
                federated_principal(&maker, name, &content)
            }
        };
        let session_policies = content.policies;
        Ok(Credential { principal, secret, session_policies, expires_at: Some(expires_at) })
    }
}

/// The role that hosts use volumes with. Only the service itself can assume it.
const INFRASTRUCTURE_ROLE: &str = "aws:ec2-infrastructure";

/// A machine's session of the infrastructure role. It has no policies: only grants, and attachments
/// that name it, speak for it.
pub fn host_principal(account: &AccountId, instance: &InstanceId) -> Principal {
    let role_id = format!("{account}:{INFRASTRUCTURE_ROLE}");
    Principal::assumed_role(account, "/", INFRASTRUCTURE_ROLE, &role_id, instance.as_str())
}

fn of_kind(
    tx: &mut Tx<'_>,
    unique_id: &str,
    kind: Kind,
) -> std::result::Result<Entity, CredentialError> {
    let entity = entity::find_by_id(tx, unique_id)?;
    entity.filter(|entity| entity.kind == kind).ok_or(CredentialError::Unknown)
}

fn user_principal(tx: &mut Tx<'_>, user: &Entity) -> Result<Principal> {
    let tags = tag::of(tx, &user.account, &user.unique_id)?;
    let Entity { account, path, name, unique_id, .. } = user;
    Ok(Principal { tags, ..Principal::user(account, path, name, unique_id) })
}
