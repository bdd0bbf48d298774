//! Groups and who is in them.

use crate::Identity;
use crate::entity::{self, Entity, Kind, New};
use crate::error::{Error, Result};
use crate::tag::Tags;
use base::AccountId;
use meta::{Tx, params};

/// How many groups a user may be in (IAM guide, "IAM quotas").
pub const GROUPS_PER_USER_MAX: usize = 10;

impl Identity {
    /// Makes a group.
    ///
    /// # Errors
    /// Name, path and quota as AWS checks them.
    pub fn create_group(
        &self,
        tx: &mut Tx<'_>,
        account: &AccountId,
        name: &str,
        path: Option<&str>,
    ) -> Result<Entity> {
        let tags = Tags::new();
        let new = New { kind: Kind::Group, account, name, path, boundary: None, tags: &tags };
        self.create_entity(tx, &new)
    }
}

/// Puts a user into a group. Doing so again changes nothing.
///
/// # Errors
/// [`Error::LimitExceeded`] beyond [`GROUPS_PER_USER_MAX`].
pub fn add(tx: &mut Tx<'_>, group: &Entity, user: &Entity) -> Result<()> {
    tx.execute(
        "INSERT INTO iam_memberships (account_id, group_id, user_id) VALUES ($1, $2, $3) \
         ON CONFLICT DO NOTHING",
        params![&group.account, &group.unique_id, &user.unique_id],
    )?;
    if groups_of(tx, user)?.len() > GROUPS_PER_USER_MAX {
        let message = format!("Cannot exceed quota for GroupsPerUser: {GROUPS_PER_USER_MAX}");
        return Err(Error::LimitExceeded { message });
    }
    Ok(())
}

/// Takes a user out of a group. Doing so again changes nothing.
///
/// # Errors
/// As the database answers.
pub fn remove(tx: &mut Tx<'_>, group: &Entity, user: &Entity) -> Result<()> {
    tx.execute(
        "DELETE FROM iam_memberships WHERE account_id = $1 AND group_id = $2 AND user_id = $3",
        params![&group.account, &group.unique_id, &user.unique_id],
    )?;
    Ok(())
}

/// The groups a user is in, by name.
///
/// # Errors
/// As the database answers.
pub fn groups_of(tx: &mut Tx<'_>, user: &Entity) -> Result<Vec<Entity>> {
    let query = "SELECT group_id FROM iam_memberships WHERE account_id = $1 AND user_id = $2";
    related(tx, query, user)
}

/// The users in a group, by name.
///
/// # Errors
/// As the database answers.
pub fn members_of(tx: &mut Tx<'_>, group: &Entity) -> Result<Vec<Entity>> {
    let query = "SELECT user_id FROM iam_memberships WHERE account_id = $1 AND group_id = $2";
    related(tx, query, group)
}

fn related(tx: &mut Tx<'_>, query: &str, entity: &Entity) -> Result<Vec<Entity>> {
    let rows = tx.query(query, params![&entity.account, &entity.unique_id])?;
    let mut found = Vec::new();
    for row in &rows {
        found.extend(entity::find_by_id(tx, &row.get::<String>(0)?)?);
    }
    found.sort_by_key(|entity| entity.name.to_lowercase());
    Ok(found)
}
