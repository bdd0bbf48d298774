//! The tables.

use meta::Migration;

/// Keys, their material, aliases, tags and grants.
pub const MIGRATIONS: &[Migration] = &[
    Migration { name: "kms-001-keys", sql: KEYS },
    Migration { name: "kms-002-key-kinds", sql: KEY_KINDS },
    Migration { name: "kms-020-rewraps", sql: REWRAPS },
    Migration { name: "kms-021-epochs", sql: EPOCHS },
    Migration { name: "kms-022-key-stores", sql: KEY_STORES },
    Migration { name: "kms-030-life", sql: LIFE },
];

/// Every key before this one was for symmetric encryption.
const KEY_KINDS: &str = "
ALTER TABLE kms_keys ADD COLUMN key_spec TEXT NOT NULL DEFAULT 'SYMMETRIC_DEFAULT';
ALTER TABLE kms_keys ADD COLUMN key_usage TEXT NOT NULL DEFAULT 'ENCRYPT_DECRYPT';
";

const KEYS: &str = "
CREATE TABLE kms_domain_keys (
    region TEXT NOT NULL,
    number BIGINT NOT NULL,
    root_id BYTES NOT NULL,
    wrapped BYTES NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (region, number)
);
CREATE TABLE kms_keys (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    key_id TEXT NOT NULL,
    state TEXT NOT NULL,
    manager TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    deletion_at BIGINT,
    policy TEXT NOT NULL,
    bindings TEXT NOT NULL,
    material_id BYTES NOT NULL,
    PRIMARY KEY (account_id, region, key_id)
);
CREATE INDEX kms_keys_by_deletion ON kms_keys (deletion_at);
CREATE TABLE kms_materials (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    key_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    material_id BYTES NOT NULL,
    token BYTES NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, key_id, version)
);
CREATE UNIQUE INDEX kms_materials_by_id ON kms_materials (region, material_id);
CREATE TABLE kms_tags (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    key_id TEXT NOT NULL,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (account_id, region, key_id, tag_key)
);
CREATE TABLE kms_aliases (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    name TEXT NOT NULL,
    key_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, name)
);
CREATE INDEX kms_aliases_by_key ON kms_aliases (account_id, region, key_id, name);
CREATE TABLE kms_grants (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    key_id TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    name TEXT NOT NULL,
    grantee TEXT NOT NULL,
    grantee_shown TEXT NOT NULL,
    retiring TEXT,
    retiring_shown TEXT,
    issuing_account TEXT NOT NULL,
    operations TEXT NOT NULL,
    constraints_json TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, key_id, grant_id)
);
CREATE UNIQUE INDEX kms_grants_by_id ON kms_grants (region, grant_id);
CREATE INDEX kms_grants_by_grantee ON kms_grants (account_id, region, key_id, grantee);
CREATE INDEX kms_grants_by_retiring ON kms_grants (region, retiring, grant_id);
";

const REWRAPS: &str = "
CREATE TABLE kms_rewraps (
    region TEXT NOT NULL,
    number BIGINT NOT NULL,
    position BYTES NOT NULL,
    looked_at BIGINT NOT NULL,
    rewrapped BIGINT NOT NULL,
    finished BIGINT NOT NULL,
    PRIMARY KEY (region, number)
);
";

const EPOCHS: &str = "
CREATE TABLE kms_epochs (
    name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (name)
);
";

/// Custom key stores: what their owners say, whose keys are in them, and what is to be destroyed on their tokens.
const KEY_STORES: &str = "
CREATE TABLE kms_key_stores (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    store_id TEXT NOT NULL,
    name TEXT NOT NULL,
    cluster_id TEXT NOT NULL,
    trust_anchor TEXT NOT NULL,
    password BYTES NOT NULL,
    state TEXT NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, store_id)
);
CREATE UNIQUE INDEX kms_key_stores_by_name ON kms_key_stores (account_id, region, name);
CREATE UNIQUE INDEX kms_key_stores_by_cluster ON kms_key_stores (cluster_id);
CREATE TABLE kms_store_keys (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    key_id TEXT NOT NULL,
    store_id TEXT NOT NULL,
    PRIMARY KEY (account_id, region, key_id)
);
CREATE INDEX kms_store_keys_by_store ON kms_store_keys (account_id, region, store_id, key_id);
CREATE TABLE kms_token_garbage (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    store_id TEXT NOT NULL,
    label TEXT NOT NULL,
    PRIMARY KEY (account_id, region, store_id, label)
);
";

/// Origins, rotation, imported material, multi-Region keys and last uses.
const LIFE: &str = "
ALTER TABLE kms_keys ADD COLUMN origin TEXT NOT NULL DEFAULT 'AWS_KMS';
ALTER TABLE kms_keys ADD COLUMN multi_region TEXT;
ALTER TABLE kms_keys ADD COLUMN pending_window_days BIGINT;
ALTER TABLE kms_keys ADD COLUMN rotation_days BIGINT;
ALTER TABLE kms_keys ADD COLUMN next_rotation_at BIGINT;
ALTER TABLE kms_keys ADD COLUMN next_state TEXT;
CREATE INDEX kms_keys_by_id ON kms_keys (key_id, region);
CREATE INDEX kms_keys_by_rotation ON kms_keys (next_rotation_at);
ALTER TABLE kms_materials ADD COLUMN rotated_at BIGINT;
ALTER TABLE kms_materials ADD COLUMN rotation_type TEXT;
ALTER TABLE kms_materials ADD COLUMN description TEXT;
ALTER TABLE kms_materials ADD COLUMN expires_at BIGINT;
CREATE INDEX kms_materials_by_expiry ON kms_materials (expires_at);
CREATE TABLE kms_key_uses (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    key_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    used_at BIGINT NOT NULL,
    event_id TEXT NOT NULL,
    request_id TEXT NOT NULL,
    PRIMARY KEY (account_id, region, key_id)
);
CREATE TABLE kms_moments (
    name TEXT NOT NULL,
    happened_at BIGINT NOT NULL,
    PRIMARY KEY (name)
);
";
