//! Temporary credentials. Nothing is stored: the session token holds, sealed, all there is to know.
//!
//! The secret access key is derived from the token's salt, so it is nowhere but with the client. The
//! access key id is authenticated with the token: a token opens only beside its own key.

use crate::access_key::secret_text;
use crate::document::{self, quota_bytes};
use crate::error::{Error, Result};
use crate::role::{Role, SESSION_SECONDS_DEFAULT};
use crate::seal::{SALT_BYTES, SealingKey};
use crate::tag::{self, Tags};
use crate::{Identity, managed, session_key};
use base::{AccountId, Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iam::{PolicyKind, Principal, PrincipalKind};
use meta::Tx;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Longest session policy, all given together (STS API, `Policy`).
pub const SESSION_POLICY_BYTES_MAX: usize = 2048;
/// How many managed policies a session may be limited by.
pub const SESSION_POLICY_ARNS_MAX: usize = 10;
/// The shortest session.
pub const SESSION_SECONDS_MIN: i64 = 900;
/// The longest session of a user's own.
pub const USER_SESSION_SECONDS_MAX: i64 = 129_600;
/// How long a user's own session lasts when nothing else is said.
pub const USER_SESSION_SECONDS_DEFAULT: i64 = 43_200;
/// Longest name of a federated user (STS API, `Name`).
const FEDERATED_NAME_MAX: usize = 32;
/// The longest session of a root's own, and of a role assumed by another role's session.
pub const HOUR_SECONDS: i64 = 3600;

/// The most bytes a token's content may have: a token then fits where SigV4 reads it.
const CONTENT_BYTES_MAX: usize = 8192;

/// Fresh temporary credentials.
#[derive(Debug)]
pub struct Session {
    /// `ASIA…`.
    pub access_key_id: String,
    /// The secret access key.
    pub secret: Secret<String>,
    /// The session token, to be sent with every request.
    pub token: String,
    /// When the session ends.
    pub expires_at: Timestamp,
    /// Whose the session is.
    pub principal: Principal,
    /// How much of the room for policies and tags is used.
    pub packed_percent: usize,
}

/// What limits and describes a session of a role.
#[derive(Clone, Debug, Default)]
pub struct AssumeRole {
    /// The session's name.
    pub session_name: String,
    /// How long it shall last.
    pub duration_seconds: Option<i64>,
    /// A policy that limits it.
    pub policy: Option<String>,
    /// Managed policies that limit it.
    pub policy_arns: Vec<String>,
    /// Its tags.
    pub tags: Tags,
    /// Keys of tags that a further role assumed from the session inherits.
    pub transitive_tag_keys: Vec<String>,
    /// Who is behind it; cannot be changed later.
    pub source_identity: Option<String>,
    /// The most seconds it may last, whatever is asked for: what a provider's response says.
    pub seconds_max: Option<i64>,
    /// When it ends at the latest, however short it then is: the end of the session at a provider.
    pub ends_by: Option<Timestamp>,
}

/// What limits and describes a federated user.
#[derive(Clone, Debug, Default)]
pub struct Federate {
    /// The name.
    pub name: String,
    /// How long the session shall last.
    pub duration_seconds: Option<i64>,
    /// A policy that limits it. Without any, the session may do nothing by itself.
    pub policy: Option<String>,
    /// Managed policies that limit it.
    pub policy_arns: Vec<String>,
    /// Its tags.
    pub tags: Tags,
}

impl AssumeRole {
    /// Whether the session carries policies or tags, which take room.
    pub fn is_limited(&self) -> bool {
        self.policy.is_some() || !self.policy_arns.is_empty() || !self.tags.is_empty()
    }
}

/// What a token says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Content {
    #[serde(rename = "w")]
    pub(crate) whose: Whose,
    #[serde(rename = "i")]
    pub(crate) issued_at: i64,
    #[serde(rename = "e")]
    pub(crate) expires_at: i64,
    /// JSON texts and ARNs of managed policies.
    #[serde(rename = "p", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) policies: Vec<String>,
    #[serde(rename = "t", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: Tags,
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) transitive_tag_keys: Vec<String>,
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub(crate) source_identity: Option<String>,
    /// The provider whose token began the session.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) federated_provider: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(crate) enum Whose {
    /// The root of this account.
    #[serde(rename = "a")]
    Root(String),
    /// The user with this unique id.
    #[serde(rename = "u")]
    User(String),
    /// The role with this unique id, under this session name.
    #[serde(rename = "r")]
    Role(String, String),
    /// A federated user: the account whose root made it or the unique id of the user who did, and
    /// the name.
    #[serde(rename = "f")]
    Federated(String, String),
}

impl Identity {
    /// Begins a session of a role. Whether the caller may is decided before.
    ///
    /// # Errors
    /// [`Error::Validation`] for names and durations; [`Error::MalformedPolicy`],
    /// [`Error::PackedPolicyTooLarge`] and the tags' own.
    pub fn assume_role(
        &self,
        tx: &mut Tx<'_>,
        caller: &Principal,
        role: &Role,
        request: &AssumeRole,
    ) -> Result<Session> {
        check_session_name("roleSessionName", &request.session_name)?;
        let chained = matches!(caller.kind, PrincipalKind::AssumedRole { .. });
        let seconds = request.duration_seconds.unwrap_or(SESSION_SECONDS_DEFAULT);
        check_duration(seconds, SESSION_SECONDS_MIN, role.max_session_seconds)?;
        if chained && seconds > HOUR_SECONDS {
            return Err(Error::validation(
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by \
                 role chaining",
            ));
        }
        let policies = session_policies(
            tx,
            &role.entity.account,
            request.policy.as_deref(),
            &request.policy_arns,
        )?;
        let (tags, transitive_tag_keys) = session_tags(caller, request)?;
        let source_identity = source_identity(caller, request)?;
        let now = self.now();
        let seconds = request.seconds_max.map_or(seconds, |max| seconds.min(max));
        let expires_at = now.plus_seconds(seconds);
        let expires_at = request.ends_by.map_or(expires_at, |end| expires_at.min(end));
        let content = Content {
            whose: Whose::Role(role.entity.unique_id.clone(), request.session_name.clone()),
            issued_at: now.0,
            expires_at: expires_at.0,
            policies,
            tags,
            transitive_tag_keys,
            source_identity,
            federated_provider: match &caller.kind {
                PrincipalKind::WebIdentity { provider_arn, .. }
                | PrincipalKind::Saml { provider_arn, .. } => Some(provider_arn.clone()),
                PrincipalKind::Root
                | PrincipalKind::User { .. }
                | PrincipalKind::AssumedRole { .. }
                | PrincipalKind::FederatedUser { .. }
                | PrincipalKind::Service { .. } => None,
            },
        };
        let role_tags = tag::of(tx, &role.entity.account, &role.entity.unique_id)?;
        let principal = role_principal(role, &content, role_tags);
        self.issue(content, principal)
    }

    /// Begins a session of a user's or root's own.
    ///
    /// # Errors
    /// [`Error::Validation`] for the duration.
    pub fn session_for(&self, caller: &Principal, seconds: Option<i64>) -> Result<Session> {
        let (whose, max) = match &caller.kind {
            PrincipalKind::Root => (Whose::Root(caller.account.to_string()), HOUR_SECONDS),
            PrincipalKind::User { .. } => {
                (Whose::User(caller.unique_id.clone()), USER_SESSION_SECONDS_MAX)
            }
            PrincipalKind::AssumedRole { .. }
            | PrincipalKind::FederatedUser { .. }
            | PrincipalKind::WebIdentity { .. }
            | PrincipalKind::Saml { .. }
            | PrincipalKind::Service { .. } => {
                return Err(Error::validation(
                    "Cannot call GetSessionToken with session credentials",
                ));
            }
        };
        let seconds = seconds.unwrap_or(USER_SESSION_SECONDS_DEFAULT.min(max));
        // A root may ask for more and gets an hour (STS API, `DurationSeconds`).
        check_duration(seconds, SESSION_SECONDS_MIN, USER_SESSION_SECONDS_MAX)?;
        let now = self.now();
        let content = Content {
            whose,
            issued_at: now.0,
            expires_at: now.plus_seconds(seconds.min(max)).0,
            policies: Vec::new(),
            tags: Tags::new(),
            transitive_tag_keys: Vec::new(),
            source_identity: None,
            federated_provider: None,
        };
        let principal = Principal { token_issue_time: Some(now), ..caller.clone() };
        self.issue(content, principal)
    }

    /// Begins a session of a federated user. Whether the caller may is decided before.
    ///
    /// # Errors
    /// [`Error::Validation`] for name and duration; policies' and tags' own.
    pub fn federate(
        &self,
        tx: &mut Tx<'_>,
        caller: &Principal,
        request: &Federate,
    ) -> Result<Session> {
        let name = &request.name;
        check_session_name("name", name)?;
        if name.len() > FEDERATED_NAME_MAX {
            return Err(Error::validation(format!(
                "1 validation error detected: Value '{name}' at 'name' failed to satisfy constraint: \
                 Member must have length less than or equal to {FEDERATED_NAME_MAX}"
            )));
        }
        let max = match &caller.kind {
            PrincipalKind::Root => HOUR_SECONDS,
            PrincipalKind::User { .. } => USER_SESSION_SECONDS_MAX,
            PrincipalKind::AssumedRole { .. }
            | PrincipalKind::FederatedUser { .. }
            | PrincipalKind::WebIdentity { .. }
            | PrincipalKind::Saml { .. }
            | PrincipalKind::Service { .. } => {
                return Err(Error::validation(
                    "Cannot call GetFederationToken with session credentials",
                ));
            }
        };
        let seconds = request.duration_seconds.unwrap_or(USER_SESSION_SECONDS_DEFAULT.min(max));
        // A root may ask for more and gets an hour, as with a session of its own.
        check_duration(seconds, SESSION_SECONDS_MIN, USER_SESSION_SECONDS_MAX)?;
        tag::check(&request.tags).map_err(of_session)?;
        let (policy, arns) = (request.policy.as_deref(), &request.policy_arns);
        let mut policies = session_policies(tx, &caller.account, policy, arns)?;
        if policies.is_empty() {
            policies.push(crate::layers::NOTHING.to_owned());
        }
        let now = self.now();
        let content = Content {
            whose: Whose::Federated(caller.unique_id.clone(), name.clone()),
            issued_at: now.0,
            expires_at: now.plus_seconds(seconds.min(max)).0,
            policies,
            tags: request.tags.clone(),
            transitive_tag_keys: Vec::new(),
            source_identity: None,
            federated_provider: None,
        };
        let principal = federated_principal(caller, name, &content);
        self.issue(content, principal)
    }

    fn issue(&self, content: Content, principal: Principal) -> Result<Session> {
        let text = serde_json::to_vec(&content).expect("a token's content serializes");
        let packed_percent = (text.len() * 100).div_ceil(CONTENT_BYTES_MAX);
        if packed_percent > 100 {
            return Err(Error::PackedPolicyTooLarge { percent: packed_percent });
        }
        let access_key_id = session_key::generate(self.rng(), &principal.account);
        let mut salt = [0; SALT_BYTES];
        self.rng().fill(&mut salt);
        let sealed = self.tokens_key().seal_with_salt(&salt, &aad(&access_key_id), &text);
        Ok(Session {
            secret: session_secret(self.tokens_key(), &salt),
            access_key_id,
            token: STANDARD.encode(sealed),
            expires_at: Timestamp(content.expires_at),
            principal,
            packed_percent,
        })
    }

    /// What a token says, and the secret that belongs to it.
    pub(crate) fn open_token(
        &self,
        access_key_id: &str,
        token: &str,
    ) -> Option<(Content, Secret<String>)> {
        let sealed = STANDARD.decode(token).ok()?;
        let (text, salt) = self.tokens_key().open(&aad(access_key_id), &sealed).ok()?;
        let content = serde_json::from_slice(text.expose()).ok()?;
        Some((content, session_secret(self.tokens_key(), &salt)))
    }
}

fn aad(access_key_id: &str) -> Vec<u8> {
    format!("session|{access_key_id}").into_bytes()
}

fn session_secret(key: &SealingKey, salt: &[u8]) -> Secret<String> {
    secret_text(key.derive(salt, b"secret1").expose())
}

/// The principal of a role's session: the role's tags, overlaid by the session's.
pub(crate) fn role_principal(role: &Role, content: &Content, role_tags: Tags) -> Principal {
    let Whose::Role(_, session_name) = &content.whose else {
        unreachable!("only sessions of roles have a role");
    };
    let entity = &role.entity;
    Principal {
        tags: overlaid(role_tags, &content.tags),
        federated_provider: content.federated_provider.clone(),
        source_identity: content.source_identity.clone(),
        token_issue_time: Some(Timestamp(content.issued_at)),
        transitive_tag_keys: content.transitive_tag_keys.iter().cloned().collect(),
        ..Principal::assumed_role(
            &entity.account,
            &entity.path,
            &entity.name,
            &entity.unique_id,
            session_name,
        )
    }
}

/// Checks the policies that are to limit a session.
fn session_policies(
    tx: &mut Tx<'_>,
    account: &AccountId,
    policy: Option<&str>,
    policy_arns: &[String],
) -> Result<Vec<String>> {
    if policy_arns.len() > SESSION_POLICY_ARNS_MAX {
        return Err(Error::validation(format!(
            "1 validation error detected: Value at 'policyArns' failed to satisfy constraint: \
                 Member must have length less than or equal to {SESSION_POLICY_ARNS_MAX}"
        )));
    }
    let mut policies = Vec::new();
    if let Some(text) = policy {
        document::check(text, PolicyKind::Session)?;
        let bytes = quota_bytes(text);
        if bytes > SESSION_POLICY_BYTES_MAX {
            let percent = bytes * 100 / SESSION_POLICY_BYTES_MAX;
            return Err(Error::PackedPolicyTooLarge { percent });
        }
        policies.push(text.to_owned());
    }
    for arn in policy_arns {
        managed::find(tx, account, arn).map_err(|error| match error {
            Error::NoSuchEntity { .. } => {
                let message = format!("Policy {arn} does not exist or is not attachable.");
                Error::MalformedPolicy { message }
            }
            other => other,
        })?;
        policies.push(arn.clone());
    }
    Ok(policies)
}

/// The principal of a federated user: the tags of the user who made it, overlaid by the session's.
pub(crate) fn federated_principal(maker: &Principal, name: &str, content: &Content) -> Principal {
    Principal {
        tags: overlaid(maker.tags.clone(), &content.tags),
        token_issue_time: Some(Timestamp(content.issued_at)),
        ..Principal::federated_user(maker, name)
    }
}

/// Tags with others that replace those of the same key, whatever its case.
fn overlaid(mut tags: Tags, over: &Tags) -> Tags {
    for (key, value) in over {
        tags.retain(|existing, _| existing.to_lowercase() != key.to_lowercase());
        tags.insert(key.clone(), value.clone());
    }
    tags
}

/// Whether a text can be the name of a session (STS API, `RoleSessionName`).
pub(crate) fn is_session_name(name: &str) -> bool {
    (2..=64).contains(&name.len()) && name.chars().all(of_a_name)
}

/// Whether a text can be a source identity (STS API, `SourceIdentity`).
pub(crate) fn is_source_identity(name: &str) -> bool {
    (2..=256).contains(&name.len())
        && name.chars().all(of_a_name)
        && !name.to_ascii_lowercase().starts_with("aws:")
}

fn of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_+=,.@-".contains(c)
}

fn check_session_name(parameter: &str, name: &str) -> Result<()> {
    if is_session_name(name) {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value '{name}' at '{parameter}' failed to satisfy constraint: \
         Member must satisfy regular expression pattern: [\\w+=,.@-]{{2,64}}"
    )))
}

fn check_duration(seconds: i64, min: i64, max: i64) -> Result<()> {
    if seconds < min {
        return Err(Error::validation(format!(
            "1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy \
             constraint: Member must have value greater than or equal to {min}"
        )));
    }
    if seconds > max {
        return Err(Error::validation(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ));
    }
    Ok(())
}

/// The session's tags with those inherited along a chain, and which of them go on.
fn session_tags(caller: &Principal, request: &AssumeRole) -> Result<(Tags, Vec<String>)> {
    tag::check(&request.tags).map_err(of_session)?;
    let mut tags = Tags::new();
    let mut transitive: Vec<String> = caller.transitive_tag_keys.iter().cloned().collect();
    for key in &transitive {
        let given = request.tags.keys().any(|k| k.to_lowercase() == key.to_lowercase());
        if given {
            let message = format!("The tag '{key}' is inherited and cannot be set again.");
            return Err(Error::Validation { message });
        }
        if let Some(value) = caller.tags.get(key) {
            tags.insert(key.clone(), value.clone());
        }
    }
    for key in &request.transitive_tag_keys {
        if !request.tags.contains_key(key) {
            let message = format!("The specified transitive tag key '{key}' is not a session tag.");
            return Err(Error::Validation { message });
        }
        transitive.push(key.clone());
    }
    tags.extend(request.tags.clone());
    tag::check(&tags).map_err(of_session)?;
    Ok((tags, transitive))
}

/// Tags of sessions: STS lists none of the errors that IAM has for tags.
fn of_session(error: Error) -> Error {
    match error {
        Error::InvalidInput { message } | Error::LimitExceeded { message } => {
            Error::Validation { message }
        }
        other => other,
    }
}

/// Who is behind the session: inherited along a chain, and then not to be changed.
fn source_identity(caller: &Principal, request: &AssumeRole) -> Result<Option<String>> {
    if let Some(name) = &request.source_identity {
        if !is_source_identity(name) {
            return Err(Error::validation(format!(
                "1 validation error detected: Value '{name}' at 'sourceIdentity' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]{{2,256}} and \
                 not begin with aws:"
            )));
        }
        if caller.source_identity.as_ref().is_some_and(|existing| existing != name) {
            return Err(Error::validation(
                "SourceIdentity cannot be changed once it is set in a chain of roles.",
            ));
        }
    }
    Ok(request.source_identity.clone().or_else(|| caller.source_identity.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SealingKey {
        SealingKey::new(&Secret::new([7; 32]), "t1")
    }

    fn content() -> Content {
        Content {
            whose: Whose::Role("AROAEXAMPLE".to_owned(), "session".to_owned()),
            issued_at: 1,
            expires_at: 2,
            policies: vec!["{}".to_owned()],
            tags: Tags::from([("a".to_owned(), "b".to_owned())]),
            transitive_tag_keys: vec!["a".to_owned()],
            source_identity: Some("amy".to_owned()),
            federated_provider: None,
        }
    }

    fn text(content: &Content) -> Vec<u8> {
        serde_json::to_vec(content).expect("a token's content serializes")
    }

    fuzz::target!(
        /// Nothing but the sealed bytes opens, and only beside its own access key.
        sealed_tokens,
        vec![key().seal_with_salt(&[3; SALT_BYTES], &aad("ASIAONE"), &text(&content()))],
        |bytes: &[u8]| {
            let sealed = key().seal_with_salt(&[3; SALT_BYTES], &aad("ASIAONE"), &text(&content()));
            assert_eq!(key().open(&aad("ASIAONE"), bytes).is_ok(), bytes == sealed);
            assert!(key().open(&aad("ASIATWO"), bytes).is_err());
        }
    );

    fuzz::target!(
        /// What a seal has opened, whatever it holds, is read as what is written again.
        contents,
        vec![
            text(&content()),
            text(&Content { whose: Whose::Root("111111111111".to_owned()), ..content() }),
            br#"{"w":{"u":"AIDAEXAMPLE"},"i":-1,"e":9223372036854775807}"#.to_vec(),
        ],
        |bytes: &[u8]| {
            let Ok(read) = serde_json::from_slice::<Content>(bytes) else { return };
            let again: Content = serde_json::from_slice(&text(&read)).expect("just written");
            assert_eq!(text(&again), text(&read));
        }
    );
}
