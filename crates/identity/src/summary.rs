//! How much an account has, and how much it may have.

use crate::attachment::ATTACHED_MAX;
use crate::entity::Kind;
use crate::error::Result;
use crate::group::GROUPS_PER_USER_MAX;
use crate::{access_key, instance_profile, managed, oidc, role};
use base::AccountId;
use meta::{Tx, params};
use std::collections::BTreeMap;

/// Counts and quotas by their names in `GetAccountSummary`.
///
/// # Errors
/// As the database answers.
pub fn of(tx: &mut Tx<'_>, account: &AccountId) -> Result<BTreeMap<String, i32>> {
    let mut summary = BTreeMap::new();
    let mut say = |name: &str, count: u64| {
        summary.insert(name.to_owned(), i32::try_from(count).unwrap_or(i32::MAX));
    };
    for (kind, counted, quota) in [
        (Kind::User, "Users", "UsersQuota"),
        (Kind::Group, "Groups", "GroupsQuota"),
        (Kind::Role, "Roles", "RolesQuota"),
    ] {
        let row = tx.query_opt(
            "SELECT COUNT(*) FROM iam_entities WHERE account_id = $1 AND kind = $2",
            params![account, kind.word()],
        )?;
        say(counted, row.map_or(Ok(0), |row| row.get(0))?);
        say(quota, kind.quota().1 as u64);
    }
    for (query, counted) in [
        ("SELECT COUNT(*) FROM iam_policies WHERE account_id = $1", "Policies"),
        ("SELECT COUNT(*) FROM iam_policy_versions WHERE account_id = $1", "PolicyVersionsInUse"),
        ("SELECT COUNT(*) FROM iam_instance_profiles WHERE account_id = $1", "InstanceProfiles"),
        (
            "SELECT (SELECT COUNT(*) FROM iam_oidc_providers WHERE account_id = $1) \
             + (SELECT COUNT(*) FROM iam_saml_providers WHERE account_id = $1)",
            "Providers",
        ),
        (
            // The owner of a root's keys is the account itself.
            "SELECT COUNT(*) FROM iam_access_keys WHERE account_id = $1 AND owner_id = $1",
            "AccountAccessKeysPresent",
        ),
    ] {
        let row = tx.query_opt(query, params![account])?;
        let count: u64 = row.map_or(Ok(0), |row| row.get(0))?;
        say(counted, if counted == "AccountAccessKeysPresent" { count.min(1) } else { count });
    }
    let bytes = |kind: Kind| kind.inline_bytes_max() as u64;
    for (name, quota) in [
        ("PoliciesQuota", managed::POLICIES_MAX),
        ("PolicySizeQuota", managed::DOCUMENT_BYTES_MAX as u64),
        ("VersionsPerPolicyQuota", managed::VERSIONS_MAX as u64),
        ("InstanceProfilesQuota", instance_profile::PROFILES_MAX),
        ("ProvidersQuota", oidc::PROVIDERS_MAX),
        ("AccessKeysPerUserQuota", access_key::KEYS_MAX as u64),
        ("GroupsPerUserQuota", GROUPS_PER_USER_MAX as u64),
        ("AttachedPoliciesPerUserQuota", ATTACHED_MAX as u64),
        ("AttachedPoliciesPerGroupQuota", ATTACHED_MAX as u64),
        ("AttachedPoliciesPerRoleQuota", ATTACHED_MAX as u64),
        ("UserPolicySizeQuota", bytes(Kind::User)),
        ("GroupPolicySizeQuota", bytes(Kind::Group)),
        ("RolePolicySizeQuota", bytes(Kind::Role)),
        ("AssumeRolePolicySizeQuota", role::TRUST_BYTES_MAX as u64),
        ("PolicyVersionsInUseQuota", managed::POLICIES_MAX * managed::VERSIONS_MAX as u64),
        // Tokens are good in every region that is served.
        ("GlobalEndpointTokenVersion", 2),
        // Nobody signs in with a second factor, a root has no password, and there are no certificates.
        ("MFADevices", 0),
        ("MFADevicesInUse", 0),
        ("AccountMFAEnabled", 0),
        ("AccountPasswordPresent", 0),
        ("AccountSigningCertificatesPresent", 0),
        ("SigningCertificatesPerUserQuota", 0),
        ("ServerCertificates", 0),
        ("ServerCertificatesQuota", 0),
    ] {
        say(name, quota);
    }
    Ok(summary)
}
