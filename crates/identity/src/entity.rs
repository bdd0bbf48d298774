//! Users, groups and roles: what they have in common.

use crate::error::{Error, Result};
use crate::name::{Listed, Page, UNIQUE_ID_TAIL, check_name, check_path, end_of_prefix, unique_id};
use crate::tag::{self, Tags};
use crate::{Identity, last_use, linked_role, managed};
use base::{AccountId, Arn, Timestamp};
use meta::{Row, Tx, params};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A user.
    User,
    /// A group of users. It has policies and no credentials.
    Group,
    /// A role.
    Role,
}

impl Kind {
    /// `user`, `group`, `role`: in ARNs, in rows and in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
            Self::Role => "role",
        }
    }

    /// `User`, `Group`, `Role`: at the beginning of messages.
    pub fn title(self) -> &'static str {
        match self {
            Self::User => "User",
            Self::Group => "Group",
            Self::Role => "Role",
        }
    }

    fn id_prefix(self) -> &'static str {
        match self {
            Self::User => "AIDA",
            Self::Group => "AGPA",
            Self::Role => "AROA",
        }
    }

    /// Longest name (IAM guide, "IAM quotas").
    fn name_length_max(self) -> usize {
        match self {
            Self::User | Self::Role => 64,
            Self::Group => 128,
        }
    }

    /// How many an account may have (IAM guide, "IAM quotas").
    pub(crate) fn quota(self) -> (&'static str, usize) {
        match self {
            Self::User => ("UsersPerAccount", 5000),
            Self::Group => ("GroupsPerAccount", 300),
            Self::Role => ("RolesPerAccount", 1000),
        }
    }

    /// How many bytes of inline policies it may have, without white space.
    pub(crate) fn inline_bytes_max(self) -> usize {
        match self {
            Self::User => 2048,
            Self::Group => 5120,
            Self::Role => 10_240,
        }
    }
}

/// A user, group or role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    /// Which.
    pub kind: Kind,
    /// Whose.
    pub account: AccountId,
    /// Its name, without its path.
    pub name: String,
    /// `/` or `/division/team/`.
    pub path: String,
    /// `AIDA…`, `AGPA…` or `AROA…`.
    pub unique_id: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The ARN of the managed policy that bounds it.
    pub boundary: Option<String>,
}

impl Entity {
    /// `arn:aws:iam::111122223333:user/division/name`.
    pub fn arn(&self) -> Arn {
        Arn::global(
            "iam",
            &self.account,
            &format!("{}{}{}", self.kind.word(), self.path, self.name),
        )
    }
}

/// What a user, group or role is made from.
#[derive(Clone, Debug)]
pub struct New<'a> {
    /// Which.
    pub kind: Kind,
    /// Whose.
    pub account: &'a AccountId,
    /// Its name.
    pub name: &'a str,
    /// Its path; `/` when not given.
    pub path: Option<&'a str>,
    /// The ARN of the managed policy that is to bound it.
    pub boundary: Option<&'a str>,
    /// Its tags; groups have none.
    pub tags: &'a Tags,
}

const COLUMNS: &str = "kind, account_id, name, path, unique_id, created_at, boundary";

fn from_row(row: &Row) -> Result<Entity> {
    let kind = match row.get::<String>(0)?.as_str() {
        "user" => Kind::User,
        "group" => Kind::Group,
        "role" => Kind::Role,
        _ => return Err(Error::damaged("an entity")),
    };
    Ok(Entity {
        kind,
        account: row.get(1)?,
        name: row.get(2)?,
        path: row.get(3)?,
        unique_id: row.get(4)?,
        created_at: row.get(5)?,
        boundary: row.get(6)?,
    })
}

impl Identity {
    /// Makes a user, group or role. A role needs more: [`Identity::create_role`].
    ///
    /// # Errors
    /// Names, paths, tags, boundary and quotas as AWS checks them.
    pub(crate) fn create_entity(&self, tx: &mut Tx<'_>, new: &New<'_>) -> Result<Entity> {
        check_name(&format!("{}Name", new.kind.word()), new.name, new.kind.name_length_max())?;
        let path = new.path.unwrap_or("/");
        check_path(path)?;
        tag::check(new.tags)?;
        if let Some(arn) = new.boundary {
            managed::find_boundary(tx, new.account, arn)?;
        }
        check_quota(tx, new.account, new.kind)?;
        let entity = Entity {
            kind: new.kind,
            account: new.account.clone(),
            name: new.name.to_owned(),
            path: path.to_owned(),
            unique_id: unique_id(self.rng(), new.kind.id_prefix(), UNIQUE_ID_TAIL),
            created_at: self.now(),
            boundary: new.boundary.map(str::to_owned),
        };
        let inserted = tx.execute(
            "INSERT INTO iam_entities \
             (account_id, kind, name_key, name, path, unique_id, created_at, boundary) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
            params![
                &entity.account,
                entity.kind.word(),
                entity.name.to_lowercase(),
                &entity.name,
                &entity.path,
                &entity.unique_id,
                entity.created_at,
                entity.boundary.clone(),
            ],
        )?;
        if inserted == 0 {
            let (title, name) = (new.kind.title(), new.name);
            let message = format!("{title} with name {name} already exists.");
            return Err(Error::EntityAlreadyExists { message });
        }
        tag::put(tx, &entity.account, &entity.unique_id, new.tags)?;
        Ok(entity)
    }

    /// Makes a user.
    ///
    /// # Errors
    /// Names, paths, tags, boundary and quotas as AWS checks them.
    pub fn create_user(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        name: &str,
        path: Option<&str>,
        boundary: Option<&str>,
        tags: &Tags,
    ) -> Result<Entity> {
        let new = New { kind: Kind::User, account, name, path, boundary, tags };
        self.create_entity(tx, &new)
    }
}

fn check_quota(tx: &mut Tx<'_>, account: &AccountId, kind: Kind) -> Result<()> {
    let (name, max) = kind.quota();
    let row = tx.query_opt(
        "SELECT COUNT(*) FROM iam_entities WHERE account_id = $1 AND kind = $2",
        params![account, kind.word()],
    )?;
    let count: u64 = row.map_or(Ok(0), |row| row.get(0))?;
    if count >= max as u64 {
        return Err(Error::LimitExceeded {
            message: format!("Cannot exceed quota for {name}: {max}"),
        });
    }
    Ok(())
}

/// The user, group or role with this name.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find(tx: &mut Tx<'_>, account: &AccountId, kind: Kind, name: &str) -> Result<Entity> {
    let row = tx.query_opt(
        &format!(
            "SELECT {COLUMNS} FROM iam_entities \
             WHERE account_id = $1 AND kind = $2 AND name_key = $3 AND name = $4"
        ),
        params![account, kind.word(), name.to_lowercase(), name],
    )?;
    let word = kind.word();
    let missing = || Error::missing(format!("The {word} with name {name} cannot be found."));
    from_row(&row.ok_or_else(missing)?)
}

/// The user, group or role with this unique id, in whatever account.
///
/// # Errors
/// As the database answers.
pub fn find_by_id(tx: &mut Tx<'_>, unique_id: &str) -> Result<Option<Entity>> {
    let row = tx.query_opt(
        &format!("SELECT {COLUMNS} FROM iam_entities WHERE unique_id = $1"),
        params![unique_id],
    )?;
    row.map(|row| from_row(&row)).transpose()
}

/// The user, group or role with this ARN, whose path has to be right as well.
///
/// # Errors
/// As the database answers.
pub fn find_by_arn(tx: &mut Tx<'_>, arn: &str) -> Result<Option<Entity>> {
    let Some(parsed) = Arn::parse(arn).filter(|arn| arn.service == "iam") else { return Ok(None) };
    let Ok(account) = AccountId::parse(&parsed.account) else { return Ok(None) };
    let kind = match parsed.resource.split_once('/') {
        Some(("user", _)) => Kind::User,
        Some(("group", _)) => Kind::Group,
        Some(("role", _)) => Kind::Role,
        _ => return Ok(None),
    };
    let name = parsed.resource.rsplit('/').next().unwrap_or_default();
    match find(tx, &account, kind, name) {
        Ok(entity) => Ok(Some(entity).filter(|entity| entity.arn().to_string() == arn)),
        Err(Error::NoSuchEntity { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The users, groups or roles of an account whose path begins so, by name.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    kind: Kind,
    path_prefix: &str,
    page: &Page,
) -> Result<Listed<Entity>> {
    let rows = tx.query(
        &format!(
            "SELECT {COLUMNS} FROM iam_entities WHERE account_id = $1 AND kind = $2 \
             AND name_key > $3 AND path >= $4 AND path < $5 ORDER BY name_key LIMIT $6"
        ),
        params![
            account,
            kind.word(),
            page.after(),
            path_prefix,
            end_of_prefix(path_prefix),
            page.rows()
        ],
    )?;
    let items = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    Ok(page.cut(items, |entity| entity.name.to_lowercase()))
}

/// Removes a user, group or role on which nothing hangs any more.
///
/// # Errors
/// [`Error::NoSuchEntity`]; [`Error::DeleteConflict`] with what has to be removed first.
pub fn delete(tx: &mut Tx<'_>, account: &AccountId, kind: Kind, name: &str) -> Result<()> {
    let entity = find(tx, account, kind, name)?;
    linked_role::check_modifiable(&entity)?;
    let id = &entity.unique_id;
    let conflicts = [
        (
            "SELECT 1 FROM iam_login_profiles WHERE account_id = $1 AND user_id = $2 LIMIT 1",
            "Cannot delete entity, must delete login profile first.",
        ),
        (
            "SELECT 1 FROM iam_memberships WHERE account_id = $1 AND group_id = $2 LIMIT 1",
            "Cannot delete entity, must remove users from group first.",
        ),
        (
            "SELECT 1 FROM iam_memberships WHERE account_id = $1 AND user_id = $2 LIMIT 1",
            "Cannot delete entity, must remove users from group first.",
        ),
        (
            "SELECT 1 FROM iam_access_keys WHERE account_id = $1 AND owner_id = $2 LIMIT 1",
            "Cannot delete entity, must delete access keys first.",
        ),
        (
            "SELECT 1 FROM iam_attachments WHERE account_id = $1 AND entity_id = $2 LIMIT 1",
            "Cannot delete entity, must detach all policies first.",
        ),
        (
            "SELECT 1 FROM iam_inline_policies WHERE account_id = $1 AND entity_id = $2 LIMIT 1",
            "Cannot delete entity, must delete policies first.",
        ),
        (
            "SELECT 1 FROM iam_instance_profiles WHERE account_id = $1 AND role_id = $2 LIMIT 1",
            "Cannot delete entity, must remove roles from instance profile first.",
        ),
    ];
    for (query, message) in conflicts {
        if tx.query_opt(query, params![account, id])?.is_some() {
            return Err(Error::DeleteConflict { message });
        }
    }
    remove(tx, &entity)
}

/// Removes the rows of an entity on which nothing hangs.
pub(crate) fn remove(tx: &mut Tx<'_>, entity: &Entity) -> Result<()> {
    let Entity { account, unique_id, kind, name, .. } = entity;
    tag::delete_all(tx, account, unique_id)?;
    last_use::forget(tx, account, unique_id)?;
    tx.execute(
        "DELETE FROM iam_roles WHERE account_id = $1 AND role_id = $2",
        params![account, unique_id],
    )?;
    tx.execute(
        "DELETE FROM iam_entities WHERE account_id = $1 AND kind = $2 AND name_key = $3",
        params![account, kind.word(), name.to_lowercase()],
    )?;
    Ok(())
}

/// Gives a user, group or role another name or path. Its unique id stays, and with it all that hangs on
/// it.
///
/// # Errors
/// [`Error::EntityAlreadyExists`] for a name that another one has; name and path as AWS checks them.
pub fn rename(
    tx: &mut Tx<'_>,
    entity: &Entity,
    name: Option<&str>,
    path: Option<&str>,
) -> Result<()> {
    let (name, path) = (name.unwrap_or(&entity.name), path.unwrap_or(&entity.path));
    check_name(&format!("{}Name", entity.kind.word()), name, entity.kind.name_length_max())?;
    check_path(path)?;
    let (old_key, new_key) = (entity.name.to_lowercase(), name.to_lowercase());
    if old_key != new_key {
        let taken = tx.query_opt(
            "SELECT 1 FROM iam_entities WHERE account_id = $1 AND kind = $2 AND name_key = $3",
            params![&entity.account, entity.kind.word(), &new_key],
        )?;
        if taken.is_some() {
            let title = entity.kind.title();
            let message = format!("{title} with name {name} already exists.");
            return Err(Error::EntityAlreadyExists { message });
        }
    }
    tx.execute(
        "UPDATE iam_entities SET name_key = $1, name = $2, path = $3 \
         WHERE account_id = $4 AND kind = $5 AND name_key = $6",
        params![new_key, name, path, &entity.account, entity.kind.word(), old_key],
    )?;
    Ok(())
}

/// Sets or removes the permissions boundary of a user or role.
///
/// # Errors
/// [`Error::NoSuchEntity`] for the entity, or for a policy that cannot bound it.
pub fn set_boundary(tx: &mut Tx<'_>, entity: &Entity, boundary: Option<&str>) -> Result<()> {
    linked_role::check_modifiable(entity)?;
    if let Some(arn) = boundary {
        managed::find_boundary(tx, &entity.account, arn)?;
    }
    tx.execute(
        "UPDATE iam_entities SET boundary = $1 \
         WHERE account_id = $2 AND kind = $3 AND name_key = $4",
        params![boundary, &entity.account, entity.kind.word(), entity.name.to_lowercase()],
    )?;
    Ok(())
}
