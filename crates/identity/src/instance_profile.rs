//! Instance profiles: how an instance is given a role. One holds at most one role.

use crate::Identity;
use crate::entity::{self, Entity, Kind};
use crate::error::{Error, Result};
use crate::linked_role;
use crate::name::{Listed, Page, UNIQUE_ID_TAIL, check_name, check_path, end_of_prefix, unique_id};
use crate::tag::{self, Tags};
use base::{AccountId, Arn, Timestamp};
use meta::{Row, Tx, params};

/// How many an account may have (IAM guide, "IAM quotas").
pub(crate) const PROFILES_MAX: u64 = 1000;

/// An instance profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceProfile {
    /// Whose.
    pub account: AccountId,
    /// Its name, without its path.
    pub name: String,
    /// `/` or `/division/team/`.
    pub path: String,
    /// `AIPA…`.
    pub profile_id: String,
    /// The unique id of the role in it.
    pub role_id: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl InstanceProfile {
    /// `arn:aws:iam::111122223333:instance-profile/division/name`.
    pub fn arn(&self) -> Arn {
        Arn::global("iam", &self.account, &format!("instance-profile{}{}", self.path, self.name))
    }

    /// The role in it.
    ///
    /// # Errors
    /// As the database answers.
    pub fn role(&self, tx: &mut Tx<'_>) -> Result<Option<Entity>> {
        match &self.role_id {
            Some(id) => entity::find_by_id(tx, id),
            None => Ok(None),
        }
    }
}

const COLUMNS: &str = "account_id, name, path, profile_id, role_id, created_at";

fn from_row(row: &Row) -> Result<InstanceProfile> {
    Ok(InstanceProfile {
        account: row.get(0)?,
        name: row.get(1)?,
        path: row.get(2)?,
        profile_id: row.get(3)?,
        role_id: row.get(4)?,
        created_at: row.get(5)?,
    })
}

impl Identity {
    /// Makes an instance profile without a role.
    ///
    /// # Errors
    /// Name, path, tags and quota as AWS checks them.
    pub fn create_instance_profile(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        name: &str,
        path: Option<&str>,
        tags: &Tags,
    ) -> Result<InstanceProfile> {
        check_name("instanceProfileName", name, 128)?;
        let path = path.unwrap_or("/");
        check_path(path)?;
        tag::check(tags)?;
        let row = tx.query_opt(
            "SELECT COUNT(*) FROM iam_instance_profiles WHERE account_id = $1",
            params![account],
        )?;
        if row.map_or(Ok(0), |row| row.get::<u64>(0))? >= PROFILES_MAX {
            let message =
                format!("Cannot exceed quota for InstanceProfilesPerAccount: {PROFILES_MAX}");
            return Err(Error::LimitExceeded { message });
        }
        let profile = InstanceProfile {
            account: account.clone(),
            name: name.to_owned(),
            path: path.to_owned(),
            profile_id: unique_id(self.rng(), "AIPA", UNIQUE_ID_TAIL),
            role_id: None,
            created_at: self.now(),
        };
        let inserted = tx.execute(
            "INSERT INTO iam_instance_profiles \
             (account_id, name_key, name, path, profile_id, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            params![
                account,
                name.to_lowercase(),
                name,
                path,
                &profile.profile_id,
                profile.created_at
            ],
        )?;
        if inserted == 0 {
            let message = format!("Instance Profile {name} already exists.");
            return Err(Error::EntityAlreadyExists { message });
        }
        tag::put(tx, account, &profile.profile_id, tags)?;
        Ok(profile)
    }
}

/// The instance profile with this name.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find(tx: &mut Tx<'_>, account: &AccountId, name: &str) -> Result<InstanceProfile> {
    let row = tx.query_opt(
        &format!(
            "SELECT {COLUMNS} FROM iam_instance_profiles \
             WHERE account_id = $1 AND name_key = $2 AND name = $3"
        ),
        params![account, name.to_lowercase(), name],
    )?;
    let missing = || Error::missing(format!("Instance Profile {name} cannot be found."));
    from_row(&row.ok_or_else(missing)?)
}

/// The instance profiles of an account whose path begins so, by name.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    path_prefix: &str,
    page: &Page,
) -> Result<Listed<InstanceProfile>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM iam_instance_profiles WHERE account_id = $1 \
             AND name_key > $2 AND path >= $3 AND path < $4 ORDER BY name_key LIMIT $5"
        ),
        params![account, page.after(), path_prefix, end_of_prefix(path_prefix), page.rows()],
    )?;
    let items = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(items, |profile| profile.name.to_lowercase()))
}

/// The instance profiles that hold a role, by name.
///
/// # Errors
/// As the database answers.
pub fn of_role(tx: &mut Tx<'_>, role: &Entity, page: &Page) -> Result<Listed<InstanceProfile>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM iam_instance_profiles WHERE account_id = $1 \
             AND role_id = $2 AND name_key > $3 ORDER BY name_key LIMIT $4"
        ),
        params![&role.account, &role.unique_id, page.after(), page.rows()],
    )?;
    let items = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(items, |profile| profile.name.to_lowercase()))
}

/// Puts a role into an instance profile.
///
/// # Errors
/// [`Error::LimitExceeded`] when there is one already, also the same.
pub fn add_role(tx: &mut Tx<'_>, profile: &InstanceProfile, role: &Entity) -> Result<()> {
    assert_eq!(role.kind, Kind::Role, "an instance profile holds roles");
    linked_role::check_modifiable(role)?;
    if profile.role_id.is_some() {
        let message = "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1".to_owned();
        return Err(Error::LimitExceeded { message });
    }
    set_role(tx, profile, Some(&role.unique_id))
}

/// Takes a role out of an instance profile.
///
/// # Errors
/// [`Error::NoSuchEntity`] when it is not in it.
pub fn remove_role(tx: &mut Tx<'_>, profile: &InstanceProfile, role: &Entity) -> Result<()> {
    if profile.role_id.as_ref() != Some(&role.unique_id) {
        let (role, profile) = (&role.name, &profile.name);
        let message = format!("The role {role} is not in the instance profile {profile}.");
        return Err(Error::missing(message));
    }
    set_role(tx, profile, None)
}

fn set_role(tx: &mut Tx<'_>, profile: &InstanceProfile, role_id: Option<&str>) -> Result<()> {
    tx.execute(
        "UPDATE iam_instance_profiles SET role_id = $1 WHERE account_id = $2 AND name_key = $3",
        params![role_id, &profile.account, profile.name.to_lowercase()],
    )?;
    Ok(())
}

/// Removes an instance profile that holds no role.
///
/// # Errors
/// [`Error::DeleteConflict`].
pub fn delete(tx: &mut Tx<'_>, profile: &InstanceProfile) -> Result<()> {
    if profile.role_id.is_some() {
        return Err(Error::DeleteConflict {
            message: "Cannot delete entity, must remove roles from instance profile first.",
        });
    }
    tag::delete_all(tx, &profile.account, &profile.profile_id)?;
    tx.execute(
        "DELETE FROM iam_instance_profiles WHERE account_id = $1 AND name_key = $2",
        params![&profile.account, profile.name.to_lowercase()],
    )?;
    Ok(())
}
