//! The tables.

use meta::Migration;

/// Accounts, users, groups, roles, policies, access keys and instance profiles.
///
/// Rows that belong to a user, group, role or managed policy carry its unique id, so that nothing of
/// a deleted one comes back with a new one of the same name. `…_key` columns hold the name in lower
/// case: names are unique whatever their case (IAM guide, "IAM identifiers").
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "identity-001-entities", sql: ENTITIES },
    Migration { name: "identity-002-instance-profiles", sql: INSTANCE_PROFILES },
    Migration { name: "identity-003-sign-in", sql: SIGN_IN },
    Migration { name: "identity-004-saml-providers", sql: SAML_PROVIDERS },
    Migration { name: "identity-005-saml-private-keys", sql: SAML_PRIVATE_KEYS },
];

/// Private keys that open encrypted assertions, sealed as secrets of access keys are, and whether assertions have to
/// be encrypted. `provider_id` is a provider's unique id, so one that is made again has none of the old one's.
const SAML_PRIVATE_KEYS: &str = "
ALTER TABLE iam_saml_providers ADD COLUMN encryption_mode TEXT;
CREATE TABLE iam_saml_private_keys (
    account_id TEXT NOT NULL,
    provider_id TEXT NOT NULL,
    key_id TEXT NOT NULL,
    sealed BYTES NOT NULL,
    added_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, provider_id, key_id)
);";

/// SAML providers. `document` is the metadata as it was handed over; `metadata` is JSON of what was
/// read from it, so that no sign-in reads a long document again.
const SAML_PROVIDERS: &str = "
CREATE TABLE iam_saml_providers (
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    unique_id TEXT NOT NULL,
    document TEXT NOT NULL,
    metadata TEXT NOT NULL,
    valid_until BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, name)
);";

/// Aliases, passwords, deleted service-linked roles, uses of access keys, token issuers. `settings`
/// is JSON; `keys` a JSON web key set that was handed over.
const SIGN_IN: &str = "
CREATE TABLE iam_aliases (
    alias TEXT NOT NULL,
    account_id TEXT NOT NULL,
    PRIMARY KEY (alias)
);
CREATE UNIQUE INDEX iam_aliases_by_account ON iam_aliases (account_id);
CREATE TABLE iam_login_profiles (
    account_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    hash BYTES NOT NULL,
    reset_required BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, user_id)
);
CREATE TABLE iam_role_deletions (
    account_id TEXT NOT NULL,
    task_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, task_id)
);
CREATE TABLE iam_access_key_uses (
    account_id TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    service TEXT NOT NULL,
    region TEXT NOT NULL,
    PRIMARY KEY (account_id, access_key_id)
);
CREATE TABLE iam_oidc_providers (
    account_id TEXT NOT NULL,
    issuer TEXT NOT NULL,
    settings TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    keys TEXT,
    PRIMARY KEY (account_id, issuer)
);";

const INSTANCE_PROFILES: &str = "
CREATE TABLE iam_instance_profiles (
    account_id TEXT NOT NULL,
    name_key TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    profile_id TEXT NOT NULL,
    role_id TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, name_key)
);
CREATE INDEX iam_instance_profiles_by_role
    ON iam_instance_profiles (account_id, role_id, name_key);";

const ENTITIES: &str = "
CREATE TABLE iam_accounts (
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id)
);
CREATE TABLE iam_entities (
    account_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    name_key TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    unique_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    boundary TEXT,
    PRIMARY KEY (account_id, kind, name_key)
);
CREATE UNIQUE INDEX iam_entities_by_id ON iam_entities (unique_id);
CREATE TABLE iam_roles (
    account_id TEXT NOT NULL,
    role_id TEXT NOT NULL,
    trust TEXT NOT NULL,
    bindings TEXT NOT NULL,
    description TEXT NOT NULL,
    max_session_seconds BIGINT NOT NULL,
    PRIMARY KEY (account_id, role_id)
);
CREATE TABLE iam_inline_policies (
    account_id TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    name_key TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (account_id, entity_id, name_key)
);
CREATE TABLE iam_policies (
    account_id TEXT NOT NULL,
    name_key TEXT NOT NULL,
    name TEXT NOT NULL,
    path TEXT NOT NULL,
    policy_id TEXT NOT NULL,
    description TEXT NOT NULL,
    default_version BIGINT NOT NULL,
    last_version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, name_key)
);
CREATE TABLE iam_policy_versions (
    account_id TEXT NOT NULL,
    policy_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    document TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, policy_id, version)
);
CREATE TABLE iam_attachments (
    account_id TEXT NOT NULL,
    entity_id TEXT NOT NULL,
    policy_arn TEXT NOT NULL,
    PRIMARY KEY (account_id, entity_id, policy_arn)
);
CREATE INDEX iam_attachments_by_policy ON iam_attachments (account_id, policy_arn, entity_id);
CREATE TABLE iam_memberships (
    account_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    PRIMARY KEY (account_id, group_id, user_id)
);
CREATE INDEX iam_memberships_by_user ON iam_memberships (account_id, user_id, group_id);
CREATE TABLE iam_access_keys (
    account_id TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    owner_id TEXT NOT NULL,
    active BIGINT NOT NULL,
    sealed BYTES NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, access_key_id)
);
CREATE UNIQUE INDEX iam_access_keys_by_id ON iam_access_keys (access_key_id);
CREATE INDEX iam_access_keys_by_owner ON iam_access_keys (account_id, owner_id, access_key_id);
CREATE TABLE iam_tags (
    account_id TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    tag_key_folded TEXT NOT NULL,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (account_id, resource_id, tag_key_folded)
);";
