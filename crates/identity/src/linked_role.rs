//! Service-linked roles: made for a service, trusted by it alone, and changed by nobody.
//!
//! Such a role is one whose path begins with `/aws-service-role/`; no other role can have that path.

use crate::entity::{self, Entity, Kind, New};
use crate::error::{Error, Result};
use crate::role::{self, NewRole, Role};
use crate::tag::Tags;
use crate::{Identity, attachment, name};
use base::{AccountId, Rng};
use meta::{Tx, params};

/// Where the paths of service-linked roles begin.
pub(crate) const PATH: &str = "/aws-service-role/";

/// A service that may have such roles.
struct Linked {
    /// Its principal.
    service: &'static str,
    /// What follows `AWSServiceRoleFor` in the role's name.
    name: &'static str,
    /// The policy of the role.
    policy: &'static str,
    /// Whether one account may have several, told apart by a suffix.
    suffix: Suffix,
}

#[derive(PartialEq, Eq)]
enum Suffix {
    Allowed,
    Refused,
}

/// The services of which parts are served here and that have such roles on AWS. Data Lifecycle
/// Manager has none: it is given a role (EBS guide, "IAM service roles").
const LINKED: &[Linked] = &[
    Linked {
        service: "autoscaling.amazonaws.com",
        name: "AutoScaling",
        policy: "AutoScalingServiceRolePolicy",
        suffix: Suffix::Allowed,
    },
    Linked {
        service: "backup.amazonaws.com",
        name: "Backup",
        policy: "AWSBackupServiceLinkedRolePolicyForBackup",
        suffix: Suffix::Refused,
    },
    Linked {
        service: "cks.kms.amazonaws.com",
        name: "KeyManagementServiceCustomKeyStores",
        policy: "AWSKeyManagementServiceCustomKeyStoresServiceRolePolicy",
        suffix: Suffix::Refused,
    },
    Linked {
        service: "mrk.kms.amazonaws.com",
        name: "KeyManagementServiceMultiRegionKeys",
        policy: "AWSKeyManagementServiceMultiRegionKeysServiceRolePolicy",
        suffix: Suffix::Refused,
    },
];

/// What a service-linked role is made from.
#[derive(Clone, Debug)]
pub struct NewLinkedRole<'a> {
    /// Whose.
    pub account: &'a AccountId,
    /// The service's principal.
    pub service: &'a str,
    /// What tells it from others of the same service.
    pub custom_suffix: Option<&'a str>,
    /// What it is for.
    pub description: &'a str,
}

/// The path and name of the role, before it is made.
///
/// # Errors
/// [`Error::InvalidInput`] for a service without such roles, or a suffix that it does not take.
pub fn path_and_name(service: &str, custom_suffix: Option<&str>) -> Result<(String, String)> {
    let linked = linked(service, custom_suffix)?;
    let suffix = custom_suffix.map_or_else(String::new, |suffix| format!("_{suffix}"));
    Ok((format!("{PATH}{service}/"), format!("AWSServiceRoleFor{}{suffix}", linked.name)))
}

fn linked(service: &str, custom_suffix: Option<&str>) -> Result<&'static Linked> {
    let found = LINKED.iter().find(|linked| linked.service == service);
    let linked = found.ok_or_else(|| Error::InvalidInput {
        message: format!("Service {service} has no service-linked roles here."),
    })?;
    if custom_suffix.is_some() && linked.suffix == Suffix::Refused {
        let message = format!("Custom suffix is not allowed for {service}");
        return Err(Error::InvalidInput { message });
    }
    Ok(linked)
}

/// Refuses a change of a service-linked role.
///
/// # Errors
/// [`Error::UnmodifiableEntity`].
pub(crate) fn check_modifiable(entity: &Entity) -> Result<()> {
    if !is_linked(entity) {
        return Ok(());
    }
    let name = &entity.name;
    let message = format!(
        "Cannot perform the operation on the protected role '{name}' - this role is only modifiable \
         by AWS"
    );
    Err(Error::UnmodifiableEntity { message })
}

/// Whether an entity is a service-linked role.
pub fn is_linked(entity: &Entity) -> bool {
    entity.kind == Kind::Role && entity.path.starts_with(PATH)
}

impl Identity {
    /// Makes a service-linked role.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for services, suffixes and roles that exist.
    pub fn create_linked_role(&self, tx: &mut Tx<'_>, new: &NewLinkedRole<'_>) -> Result<Role> {
        let NewLinkedRole { account, service, custom_suffix, description } = *new;
        let linked = linked(service, custom_suffix)?;
        let (path, name) = path_and_name(service, custom_suffix)?;
        let tags = Tags::new();
        let trust = format!(
            "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Principal\":\
             {{\"Service\":\"{service}\"}},\"Action\":\"sts:AssumeRole\"}}]}}"
        );
        let entity = New {
            kind: Kind::Role,
            account,
            name: &name,
            path: Some(&path),
            boundary: None,
            tags: &tags,
        };
        let new = NewRole { entity, trust: &trust, description, max_session_seconds: None };
        let made = self.create_any_role(tx, &new).map_err(|error| match error {
            Error::EntityAlreadyExists { .. } => Error::InvalidInput {
                message: format!(
                    "Service role name {name} has been taken in this account, please try a different \
                     suffix."
                ),
            },
            other => other,
        })?;
        let policy = format!("arn:aws:iam::aws:policy{PATH}{}", linked.policy);
        attachment::insert(tx, &made.entity, &policy)?;
        Ok(made)
    }

    /// Removes a service-linked role and returns the id of the task that did it. It is done when
    /// this returns.
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`], also for roles of other kinds.
    pub fn delete_linked_role(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        name: &str,
    ) -> Result<String> {
        let role = role::find(tx, account, name)?.entity;
        if !is_linked(&role) {
            let message = format!("The role {name} is not a service-linked role.");
            return Err(Error::missing(message));
        }
        for policy in attachment::of(tx, &role)? {
            attachment::remove(tx, &role, &policy)?;
        }
        entity::remove(tx, &role)?;
        let task = task_id(self.rng(), &role);
        tx.execute(
            "INSERT INTO iam_role_deletions (account_id, task_id, created_at) VALUES ($1, $2, $3)",
            params![account, &task, self.now()],
        )?;
        Ok(task)
    }
}

fn task_id(rng: &dyn Rng, role: &Entity) -> String {
    format!("task{}{}/{}", role.path, role.name, base::id::uuid(rng))
}

/// The path of the role that a deletion task was about.
///
/// # Errors
/// [`Error::InvalidInput`] for what is no task id.
pub fn task_role(task_id: &str) -> Result<&str> {
    let inner = task_id.strip_prefix("task").filter(|rest| rest.starts_with(PATH));
    let role = inner.and_then(|rest| rest.rsplit_once('/')).map(|(role, _)| role);
    role.filter(|_| task_id.len() <= name::TASK_ID_MAX).ok_or_else(|| Error::InvalidInput {
        message: format!("The deletion task id {task_id} is not valid."),
    })
}

/// Whether a deletion task is known. What is known is done.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find_task(tx: &mut Tx<'_>, account: &AccountId, task_id: &str) -> Result<()> {
    let row = tx.query_opt(
        "SELECT 1 FROM iam_role_deletions WHERE account_id = $1 AND task_id = $2",
        params![account, task_id],
    )?;
    match row {
        Some(_) => Ok(()),
        None => Err(Error::missing(format!("The deletion task {task_id} cannot be found."))),
    }
}
