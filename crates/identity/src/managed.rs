//! Managed policies: those of an account with their versions, and those of AWS.

use crate::document::{self, quota_bytes};
use crate::error::{Error, Result};
use crate::name::{
    Listed, Page, UNIQUE_ID_TAIL, check_length, check_name, check_path, end_of_prefix, unique_id,
};
use crate::tag::{self, Tags};
use crate::{Identity, aws_managed, linked_role};
use base::{AccountId, Timestamp};
use iam::PolicyKind;
use meta::{Row, Tx, params};

/// Longest document, without white space (IAM guide, "IAM quotas").
pub const DOCUMENT_BYTES_MAX: usize = 6144;
/// How many versions a policy may have.
pub const VERSIONS_MAX: usize = 5;
/// How many policies an account may have.
pub(crate) const POLICIES_MAX: u64 = 1500;

/// Whose a policy is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// AWS: nobody can change it.
    Aws,
    /// An account.
    Customer(AccountId),
}

/// A managed policy, without its documents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedPolicy {
    /// Whose.
    pub owner: Owner,
    /// Its name, without its path.
    pub name: String,
    /// `/` or `/division/team/`.
    pub path: String,
    /// `ANPA…`.
    pub policy_id: String,
    /// What it is for.
    pub description: String,
    /// The version in force: 1 for `v1`.
    pub default_version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its versions last changed.
    pub updated_at: Timestamp,
}

impl ManagedPolicy {
    /// `arn:aws:iam::111122223333:policy/division/name`, or `arn:aws:iam::aws:policy/…`.
    pub fn arn(&self) -> String {
        let owner = match &self.owner {
            Owner::Aws => "aws",
            Owner::Customer(account) => account.as_str(),
        };
        format!("arn:aws:iam::{owner}:policy{}{}", self.path, self.name)
    }

    /// Whether an account may attach it: policies of service-linked roles are for these alone.
    pub fn is_attachable(&self) -> bool {
        self.owner != Owner::Aws || self.path != linked_role::PATH
    }
}

/// One version of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyVersion {
    /// 1 for `v1`.
    pub version: u32,
    /// Whether it is the one in force.
    pub is_default: bool,
    /// Its text.
    pub document: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a policy is made from.
#[derive(Clone, Debug)]
pub struct NewPolicy<'a> {
    /// Whose.
    pub account: &'a AccountId,
    /// Its name.
    pub name: &'a str,
    /// Its path; `/` when not given.
    pub path: Option<&'a str>,
    /// What it is for.
    pub description: &'a str,
    /// Its first version.
    pub document: &'a str,
    /// Its tags.
    pub tags: &'a Tags,
}

/// Whether a new version comes into force at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InForce {
    /// It becomes the default version.
    AtOnce,
    /// The default version stays.
    Later,
}

const COLUMNS: &str = "account_id, name, path, policy_id, description, default_version, \
                       created_at, updated_at";

fn from_row(row: &Row) -> Result<ManagedPolicy> {
    Ok(ManagedPolicy {
        owner: Owner::Customer(row.get(0)?),
        name: row.get(1)?,
        path: row.get(2)?,
        policy_id: row.get(3)?,
        description: row.get(4)?,
        default_version: row.get(5)?,
        created_at: row.get(6)?,
        updated_at: row.get(7)?,
    })
}

/// Whether a text can be a version of a managed policy.
///
/// # Errors
/// [`Error::MalformedPolicy`]; [`Error::LimitExceeded`] beyond [`DOCUMENT_BYTES_MAX`].
pub fn check_document(text: &str) -> Result<()> {
    document::check(text, PolicyKind::Identity)?;
    if quota_bytes(text) > DOCUMENT_BYTES_MAX {
        let message = format!("Cannot exceed quota for PolicySize: {DOCUMENT_BYTES_MAX}");
        return Err(Error::LimitExceeded { message });
    }
    Ok(())
}

impl Identity {
    /// Makes a managed policy with its version `v1`.
    ///
    /// # Errors
    /// Name, document, tags and quotas as AWS checks them.
    pub fn create_policy(&self, tx: &mut Tx<'_>, new: &NewPolicy<'_>) -> Result<ManagedPolicy> {
        check_name("policyName", new.name, 128)?;
        check_length("description", new.description, 1000)?;
        let path = new.path.unwrap_or("/");
        check_path(path)?;
        tag::check(new.tags)?;
        check_document(new.document)?;
        let row = tx.query_opt(
            "SELECT COUNT(*) FROM iam_policies WHERE account_id = $1",
            params![new.account],
        )?;
        if row.map_or(Ok(0), |row| row.get::<u64>(0))? >= POLICIES_MAX {
            let message = format!("Cannot exceed quota for PoliciesPerAccount: {POLICIES_MAX}");
            return Err(Error::LimitExceeded { message });
        }
        let now = self.now();
        let policy = ManagedPolicy {
            owner: Owner::Customer(new.account.clone()),
            name: new.name.to_owned(),
            path: path.to_owned(),
            policy_id: unique_id(self.rng(), "ANPA", UNIQUE_ID_TAIL),
            description: new.description.to_owned(),
            default_version: 1,
            created_at: now,
            updated_at: now,
        };
        let inserted = tx.execute(
            "INSERT INTO iam_policies (account_id, name_key, name, path, policy_id, description, \
             default_version, last_version, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, 1, 1, $7, $7) ON CONFLICT DO NOTHING",
            params![
                new.account,
                new.name.to_lowercase(),
                &policy.name,
                &policy.path,
                &policy.policy_id,
                &policy.description,
                now
            ],
        )?;
        if inserted == 0 {
            let name = new.name;
            let message =
                format!("A policy called {name} already exists. Duplicate names are not allowed.");
            return Err(Error::EntityAlreadyExists { message });
        }
        insert_version(tx, new.account, &policy.policy_id, 1, new.document, now)?;
        tag::put(tx, new.account, &policy.policy_id, new.tags)?;
        Ok(policy)
    }

    /// Adds a version.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] beyond [`VERSIONS_MAX`]; the document's own.
    pub fn create_policy_version(
        &self,
        tx: &mut Tx<'_>,
        policy: &ManagedPolicy,
        document: &str,
        in_force: InForce,
    ) -> Result<PolicyVersion> {
        let account = customer(policy)?;
        check_document(document)?;
        if versions(tx, policy)?.len() >= VERSIONS_MAX {
            return Err(Error::LimitExceeded {
                message: format!(
                    "A managed policy can have up to {VERSIONS_MAX} versions. Before you create a new \
                     version, you must delete an existing version."
                ),
            });
        }
        let row = tx.query_opt(
            "SELECT last_version FROM iam_policies WHERE account_id = $1 AND name_key = $2",
            params![account, policy.name.to_lowercase()],
        )?;
        let last: u32 = row.ok_or_else(|| not_found(&policy.arn()))?.get(0)?;
        let (version, now) = (last + 1, self.now());
        let is_default = in_force == InForce::AtOnce;
        insert_version(tx, account, &policy.policy_id, version, document, now)?;
        tx.execute(
            "UPDATE iam_policies SET last_version = $1, default_version = $2, updated_at = $3 \
             WHERE account_id = $4 AND name_key = $5",
            params![
                version,
                if is_default { version } else { policy.default_version },
                now,
                account,
                policy.name.to_lowercase()
            ],
        )?;
        Ok(PolicyVersion { version, is_default, document: document.to_owned(), created_at: now })
    }

    /// Puts another version in force.
    ///
    /// # Errors
    /// [`Error::NoSuchEntity`].
    pub fn set_default_version(
        &self,
        tx: &mut Tx<'_>,
        policy: &ManagedPolicy,
        version: u32,
    ) -> Result<()> {
        let account = customer(policy)?;
        find_version(tx, policy, version)?;
        tx.execute(
            "UPDATE iam_policies SET default_version = $1, updated_at = $2 \
             WHERE account_id = $3 AND name_key = $4",
            params![version, self.now(), account, policy.name.to_lowercase()],
        )?;
        Ok(())
    }
}

fn insert_version(
    tx: &mut Tx<'_>,
    account: &AccountId,
    policy_id: &str,
    version: u32,
    document: &str,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO iam_policy_versions (account_id, policy_id, version, document, created_at) \
         VALUES ($1, $2, $3, $4, $5)",
        params![account, policy_id, version, document, now],
    )?;
    Ok(())
}

/// The account a policy can be changed by.
///
/// # Errors
/// [`Error::InvalidInput`] for policies of AWS.
pub fn customer(policy: &ManagedPolicy) -> Result<&AccountId> {
    match &policy.owner {
        Owner::Customer(account) => Ok(account),
        Owner::Aws => Err(Error::InvalidInput {
            message: format!("{} is managed by AWS and cannot be changed.", policy.arn()),
        }),
    }
}

fn not_found(arn: &str) -> Error {
    Error::missing(format!("Policy {arn} was not found."))
}

/// The policy with this ARN, as an account sees it: its own and those of AWS.
///
/// # Errors
/// [`Error::NoSuchEntity`], also for policies of other accounts.
pub fn find(tx: &mut Tx<'_>, account: &AccountId, arn: &str) -> Result<ManagedPolicy> {
    if let Some(offered) = aws_managed::find(arn) {
        return Ok(offered.policy.clone());
    }
    let own = arn.strip_prefix(&format!("arn:aws:iam::{account}:policy/"));
    let Some(path_and_name) = own else { return Err(not_found(arn)) };
    let name = path_and_name.rsplit('/').next().unwrap_or_default();
    let row = tx.query_opt(
        &format!("SELECT {COLUMNS} FROM iam_policies WHERE account_id = $1 AND name_key = $2"),
        params![account, name.to_lowercase()],
    )?;
    let policy = row.map(|row| from_row(&row)).transpose()?;
    policy.filter(|policy| policy.arn() == arn).ok_or_else(|| not_found(arn))
}

/// A policy that is to be attached or to bound something.
pub(crate) fn find_attachable(
    tx: &mut Tx<'_>,
    account: &AccountId,
    arn: &str,
) -> Result<ManagedPolicy> {
    let policy = find(tx, account, arn).map_err(|error| match error {
        Error::NoSuchEntity { .. } => {
            Error::missing(format!("Policy {arn} does not exist or is not attachable."))
        }
        other => other,
    })?;
    if !policy.is_attachable() {
        let message = format!("Cannot attach a Service Role Policy to a Customer Role: {arn}");
        return Err(Error::PolicyNotAttachable { message });
    }
    Ok(policy)
}

/// A policy that is to bound something.
pub(crate) fn find_boundary(
    tx: &mut Tx<'_>,
    account: &AccountId,
    arn: &str,
) -> Result<ManagedPolicy> {
    find(tx, account, arn).map_err(|error| match error {
        Error::NoSuchEntity { .. } => {
            Error::missing(format!("Scope ARN: {arn} does not exist or is not attachable."))
        }
        other => other,
    })
}

/// Which policies a list is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of AWS and of the account.
    All,
    /// Those of AWS.
    Aws,
    /// Those of the account.
    Local,
}

/// Policies whose path begins so, by name, the account's own before those of AWS.
///
/// # Errors
/// As the database answers.
pub fn list(
    tx: &mut Tx<'_>,
    account: &AccountId,
    scope: Scope,
    path_prefix: &str,
    page: &Page,
) -> Result<Listed<ManagedPolicy>> {
    // The list is ordered by this key: `1` and the name for the account's own, `2` for AWS.
    let key = |policy: &ManagedPolicy| match policy.owner {
        Owner::Customer(_) => format!("1{}", policy.name.to_lowercase()),
        Owner::Aws => format!("2{}", policy.name),
    };
    let after = page.after().to_owned();
    let mut policies = Vec::new();
    if scope != Scope::Aws && !after.starts_with('2') {
        let rows = tx.query(
            &format!(
                "SELECT {COLUMNS} FROM iam_policies WHERE account_id = $1 AND name_key > $2 \
                 AND path >= $3 AND path < $4 ORDER BY name_key LIMIT $5"
            ),
            params![
                account,
                after.strip_prefix('1').unwrap_or(""),
                path_prefix,
                end_of_prefix(path_prefix),
                page.rows()
            ],
        )?;
        policies = rows.iter().map(from_row).collect::<Result<Vec<_>>>()?;
    }
    if scope != Scope::Local {
        let offered = aws_managed::all().iter().map(|offered| &offered.policy);
        let fits = |p: &&ManagedPolicy| p.path.starts_with(path_prefix) && key(p) > after;
        policies.extend(offered.filter(fits).cloned());
    }
    Ok(page.cut(policies, key))
}

/// The versions of a policy, newest first.
///
/// # Errors
/// As the database answers.
pub fn versions(tx: &mut Tx<'_>, policy: &ManagedPolicy) -> Result<Vec<PolicyVersion>> {
    let account = match &policy.owner {
        Owner::Customer(account) => account,
        Owner::Aws => {
            let offered =
                aws_managed::find(&policy.arn()).ok_or_else(|| not_found(&policy.arn()))?;
            return Ok(vec![PolicyVersion {
                version: policy.default_version,
                is_default: true,
                document: offered.document.clone(),
                created_at: policy.updated_at,
            }]);
        }
    };
    let rows = tx.query(
        "SELECT version, document, created_at FROM iam_policy_versions \
         WHERE account_id = $1 AND policy_id = $2 ORDER BY version DESC",
        params![account, &policy.policy_id],
    )?;
    let version = |row: &Row| -> Result<PolicyVersion> {
        let version = row.get(0)?;
        let is_default = version == policy.default_version;
        Ok(PolicyVersion { version, is_default, document: row.get(1)?, created_at: row.get(2)? })
    };
    rows.iter().map(version).collect()
}

/// One version of a policy.
///
/// # Errors
/// [`Error::NoSuchEntity`].
pub fn find_version(
    tx: &mut Tx<'_>,
    policy: &ManagedPolicy,
    version: u32,
) -> Result<PolicyVersion> {
    let found = versions(tx, policy)?.into_iter().find(|v| v.version == version);
    found.ok_or_else(|| {
        let arn = policy.arn();
        Error::missing(format!(
            "Policy {arn} version v{version} does not exist or is not attachable."
        ))
    })
}

/// Removes a version that is not in force.
///
/// # Errors
/// [`Error::NoSuchEntity`]; [`Error::DeleteConflict`] for the default version.
pub fn delete_version(tx: &mut Tx<'_>, policy: &ManagedPolicy, version: u32) -> Result<()> {
    let account = customer(policy)?;
    if find_version(tx, policy, version)?.is_default {
        let message = "Cannot delete the default version of a policy.";
        return Err(Error::DeleteConflict { message });
    }
    tx.execute(
        "DELETE FROM iam_policy_versions WHERE account_id = $1 AND policy_id = $2 AND version = $3",
        params![account, &policy.policy_id, version],
    )?;
    Ok(())
}

/// Removes a policy that is attached to nothing, bounds nothing and has only its default version.
///
/// # Errors
/// [`Error::DeleteConflict`].
pub fn delete(tx: &mut Tx<'_>, policy: &ManagedPolicy) -> Result<()> {
    let account = customer(policy)?;
    let arn = policy.arn();
    let attached = tx.query_opt(
        "SELECT 1 FROM iam_attachments WHERE account_id = $1 AND policy_arn = $2 LIMIT 1",
        params![account, &arn],
    )?;
    let bounds = tx.query_opt(
        "SELECT 1 FROM iam_entities WHERE account_id = $1 AND boundary = $2 LIMIT 1",
        params![account, &arn],
    )?;
    if attached.or(bounds).is_some() {
        return Err(Error::DeleteConflict {
            message: "Cannot delete a policy attached to entities.",
        });
    }
    if versions(tx, policy)?.len() > 1 {
        return Err(Error::DeleteConflict {
            message: "This policy has more than one version. Before you delete a policy, you must \
                      delete the policy's versions. The default version is deleted with the policy.",
        });
    }
    tag::delete_all(tx, account, &policy.policy_id)?;
    tx.execute(
        "DELETE FROM iam_policy_versions WHERE account_id = $1 AND policy_id = $2",
        params![account, &policy.policy_id],
    )?;
    tx.execute(
        "DELETE FROM iam_policies WHERE account_id = $1 AND name_key = $2",
        params![account, policy.name.to_lowercase()],
    )?;
    Ok(())
}
