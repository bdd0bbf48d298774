//! Roles: an entity that whoever its trust policy names may become for a while.

use crate::document::{self, quota_bytes};
use crate::entity::{self, Entity, Kind, New};
use crate::error::{Error, Result};
use crate::name::{Listed, Page, check_length};
use crate::{Identity, directory, linked_role};
use base::AccountId;
use iam::{Bindings, Policy, PolicyKind, ResourceLayer};
use meta::{Tx, params};
use std::sync::Arc;

/// Longest trust policy, without white space (IAM guide, "IAM quotas").
pub const TRUST_BYTES_MAX: usize = 2048;
/// How long sessions last when nothing else is said.
pub const SESSION_SECONDS_DEFAULT: i64 = 3600;
/// The longest session a role may allow.
pub const SESSION_SECONDS_MAX: i64 = 43_200;

/// A role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Name, path, id, boundary.
    pub entity: Entity,
    /// The trust policy as it was saved.
    pub trust: String,
    /// What the principals in it meant then.
    pub bindings: Bindings,
    /// What it is for.
    pub description: String,
    /// The longest session it allows.
    pub max_session_seconds: i64,
}

/// What a role has besides an entity.
#[derive(Clone, Debug)]
pub struct NewRole<'a> {
    /// What it has in common with users; its kind has to be [`Kind::Role`].
    pub entity: New<'a>,
    /// The trust policy.
    pub trust: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// The longest session it allows; [`SESSION_SECONDS_DEFAULT`] when not given.
    pub max_session_seconds: Option<i64>,
}

impl Identity {
    /// Makes a role.
    ///
    /// # Errors
    /// As for users, and [`Error::MalformedPolicy`] for the trust policy.
    pub fn create_role(&self, tx: &mut Tx<'_>, new: &NewRole<'_>) -> Result<Role> {
        if new.entity.path.is_some_and(|path| path.starts_with(linked_role::PATH)) {
            return Err(Error::validation(
                "The specified value for path is invalid: paths of service-linked roles are reserved.",
            ));
        }
        self.create_any_role(tx, new)
    }

    /// Makes a role under any path.
    pub(crate) fn create_any_role(&self, tx: &mut Tx<'_>, new: &NewRole<'_>) -> Result<Role> {
        assert_eq!(new.entity.kind, Kind::Role, "only roles have trust policies");
        let seconds = new.max_session_seconds.unwrap_or(SESSION_SECONDS_DEFAULT);
        check_settings(new.description, seconds)?;
        let bindings = check_trust(tx, new.trust)?;
        let entity = self.create_entity(tx, &new.entity)?;
        tx.execute(
            "INSERT INTO iam_roles \
             (account_id, role_id, trust, bindings, description, max_session_seconds) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            params![
                &entity.account,
                &entity.unique_id,
                new.trust,
                to_text(&bindings),
                new.description,
                seconds
            ],
        )?;
        Ok(Role {
            entity,
            trust: new.trust.to_owned(),
            bindings,
            description: new.description.to_owned(),
            max_session_seconds: seconds,
        })
    }
}

fn to_text(bindings: &Bindings) -> String {
    serde_json::to_string(bindings).expect("a map of texts serializes")
}

fn check_settings(description: &str, max_session_seconds: i64) -> Result<()> {
    check_length("description", description, 1000)?;
    if (SESSION_SECONDS_DEFAULT..=SESSION_SECONDS_MAX).contains(&max_session_seconds) {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value '{max_session_seconds}' at 'maxSessionDuration' failed to \
         satisfy constraint: Member must have value between {SESSION_SECONDS_DEFAULT} and \
         {SESSION_SECONDS_MAX}"
    )))
}

/// Checks a trust policy and finds out whom its principals mean.
fn check_trust(tx: &mut Tx<'_>, text: &str) -> Result<Bindings> {
    let policy = document::check(text, PolicyKind::Trust)?;
    let malformed = |message: String| Error::MalformedPolicy { message };
    if policy.actions().any(|action| !action.to_lowercase().starts_with("sts:")) {
        return Err(malformed(
            "AssumeRole policy may only specify STS AssumeRole actions.".to_owned(),
        ));
    }
    if quota_bytes(text) > TRUST_BYTES_MAX {
        let message = format!("Cannot exceed quota for ACLSizePerRole: {TRUST_BYTES_MAX}");
        return Err(Error::LimitExceeded { message });
    }
    let invalid =
        |written: String| malformed(format!("Invalid principal in policy: \"AWS\":\"{written}\""));
    directory::resolve(tx, &policy)?.map_err(|principal| invalid(principal.written()))
}

/// Completes an entity that is a role.
///
/// # Errors
/// [`Error::RowDamaged`] when half of it is missing.
pub fn complete(tx: &mut Tx<'_>, entity: Entity) -> Result<Role> {
    let damaged = || Error::damaged(format!("the role {}", entity.arn()));
    let row = tx.query_opt(
        "SELECT trust, bindings, description, max_session_seconds FROM iam_roles \
         WHERE account_id = $1 AND role_id = $2",
        params![&entity.account, &entity.unique_id],
    )?;
    let row = row.ok_or_else(damaged)?;
    let bindings = serde_json::from_str(&row.get::<String>(1)?).map_err(|_| damaged())?;
    Ok(Role {
        trust: row.get(0)?,
        bindings,
        description: row.get(2)?,
        max_session_seconds: row.get(3)?,
        entity,
    })
}

/// The role with this name.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find(tx: &mut Tx<'_>, account: &AccountId, name: &str) -> Result<Role> {
    let entity = entity::find(tx, account, Kind::Role, name)?;
    complete(tx, entity)
}

/// The role with this ARN.
///
/// # Errors
/// As the database answers.
pub fn find_by_arn(tx: &mut Tx<'_>, arn: &str) -> Result<Option<Role>> {
    match entity::find_by_arn(tx, arn)? {
        Some(entity) if entity.kind == Kind::Role => complete(tx, entity).map(Some),
        Some(_) | None => Ok(None),
    }
}

/// The roles of an account whose path begins so, by name.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    path_prefix: &str,
    page: &Page,
) -> Result<Listed<Role>> {
    let listed = entity::list(tx, account, Kind::Role, path_prefix, page)?;
    let roles = listed.items.into_iter().map(|entity| complete(tx, entity));
    Ok(Listed { items: roles.collect::<Result<Vec<_>>>()?, next: listed.next })
}

/// Replaces the trust policy.
///
/// # Errors
/// [`Error::MalformedPolicy`].
pub fn set_trust(tx: &mut Tx<'_>, role: &Role, text: &str) -> Result<()> {
    linked_role::check_modifiable(&role.entity)?;
    let bindings = check_trust(tx, text)?;
    tx.execute(
        "UPDATE iam_roles SET trust = $1, bindings = $2 WHERE account_id = $3 AND role_id = $4",
        params![text, to_text(&bindings), &role.entity.account, &role.entity.unique_id],
    )?;
    Ok(())
}

/// Changes the description and the longest session.
///
/// # Errors
/// [`Error::Validation`].
pub fn update(
    tx: &mut Tx<'_>,
    role: &Role,
    description: &str,
    max_session_seconds: i64,
) -> Result<()> {
    check_settings(description, max_session_seconds)?;
    if max_session_seconds != role.max_session_seconds {
        // The description alone may be edited (IAM guide, "Service-linked roles").
        linked_role::check_modifiable(&role.entity)?;
    }
    tx.execute(
        "UPDATE iam_roles SET description = $1, max_session_seconds = $2 \
         WHERE account_id = $3 AND role_id = $4",
        params![description, max_session_seconds, &role.entity.account, &role.entity.unique_id],
    )?;
    Ok(())
}

impl Role {
    /// The trust policy as it is shown: principals deleted since appear as their unique ids.
    ///
    /// # Errors
    /// As the database answers.
    pub fn shown_trust(&self, tx: &mut Tx<'_>) -> Result<String> {
        let deleted = directory::deleted(tx, &self.bindings)?;
        iam::render(&self.trust, &deleted).map_err(|_| self.damaged())
    }

    /// The trust policy as one side of a decision about assuming the role.
    ///
    /// # Errors
    /// [`Error::RowDamaged`].
    pub fn trust_layer(&self) -> Result<ResourceLayer> {
        let policy = Policy::parse(&self.trust, PolicyKind::Trust).map_err(|_| self.damaged())?;
        Ok(ResourceLayer {
            policy: Arc::new(policy.bind(&self.bindings)),
            name: format!("trust policy of {}", self.entity.name),
            mandatory: true,
        })
    }

    fn damaged(&self) -> Error {
        Error::damaged(format!("the role {}", self.entity.arn()))
    }
}
