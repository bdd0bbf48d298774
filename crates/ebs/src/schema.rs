//! The tables of this crate. One statement list per migration; a released one is never edited.

use meta::Migration;

/// Applied in order by `meta::Db::migrate`.
pub const MIGRATIONS: &[Migration] = &[
    TABLES,
    UPLOADS,
    TOGETHER,
    INITIALIZATIONS,
    DELETED_ROOTS,
    REMOTE_HOSTS,
    FOREIGN_BASES,
    FIRST_TOUCHES,
    SNAPSHOT_TIERS,
    EARLY_DELETIONS,
    FAST_RESTORES,
    COPY_BASES,
    LEASES,
    NOTED_AGAIN,
    KIN_OF_SNAPSHOTS,
    GIVEN_UP,
    VOLUME_FILES,
    WAITING,
];

const TABLES: Migration = Migration {
    name: "ebs-0001",
    sql: "
CREATE TABLE ebs_instances (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    zone TEXT NOT NULL,
    name TEXT,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, instance_id)
);
CREATE TABLE ebs_volumes (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    zone TEXT NOT NULL,
    size_gib BIGINT NOT NULL,
    volume_type TEXT NOT NULL,
    iops BIGINT,
    throughput_mib BIGINT,
    state TEXT NOT NULL,
    kms_key_arn TEXT,
    wrapped_key BYTES,
    context_id TEXT,
    lineage TEXT,
    snapshot_id TEXT,
    base_root BYTES,
    continues_snapshot BIGINT NOT NULL,
    latest_snapshot_id TEXT,
    checkpoint BYTES,
    checkpoint_root BYTES,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, volume_id)
);
CREATE UNIQUE INDEX ebs_volumes_by_id ON ebs_volumes (region, volume_id);
CREATE TABLE ebs_attachments (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    device TEXT NOT NULL,
    state TEXT NOT NULL,
    attached_ms BIGINT NOT NULL,
    delete_on_termination BIGINT NOT NULL,
    grant_id TEXT,
    impaired TEXT,
    PRIMARY KEY (account_id, region, volume_id, instance_id)
);
CREATE UNIQUE INDEX ebs_attachments_by_device
    ON ebs_attachments (account_id, region, instance_id, device);
CREATE TABLE ebs_snapshots (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    size_gib BIGINT NOT NULL,
    state TEXT NOT NULL,
    state_message TEXT,
    progress BIGINT NOT NULL,
    started_ms BIGINT NOT NULL,
    completed_ms BIGINT,
    description TEXT NOT NULL,
    kms_key_arn TEXT,
    wrapped_key BYTES,
    context_id TEXT,
    lineage TEXT,
    root BYTES,
    pinned_root BYTES,
    checkpoint BYTES,
    checkpoint_root BYTES,
    full_bytes BIGINT NOT NULL,
    parent_id TEXT,
    source_snapshot_id TEXT,
    source_region TEXT,
    source_account_id TEXT,
    completion_minutes BIGINT,
    delete_requested BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, snapshot_id)
);
CREATE UNIQUE INDEX ebs_snapshots_by_id ON ebs_snapshots (region, snapshot_id);
CREATE TABLE ebs_snapshot_permissions (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    grantee TEXT NOT NULL,
    PRIMARY KEY (account_id, region, snapshot_id, grantee)
);
CREATE INDEX ebs_snapshot_permissions_by_grantee
    ON ebs_snapshot_permissions (region, grantee, snapshot_id);
CREATE TABLE ebs_tags (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    PRIMARY KEY (account_id, region, resource_id, tag_key)
);
CREATE TABLE ebs_account_settings (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    encryption_by_default BIGINT NOT NULL,
    default_key_arn TEXT,
    public_access_block TEXT NOT NULL,
    PRIMARY KEY (account_id, region)
);
CREATE TABLE ebs_client_tokens (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    operation TEXT NOT NULL,
    token TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    resource_id TEXT NOT NULL,
    used_ms BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, operation, token)
);
",
};

const UPLOADS: Migration = Migration {
    name: "ebs-0002-uploads",
    sql: "
CREATE TABLE ebs_uploads (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    timeout_minutes BIGINT NOT NULL,
    active_ms BIGINT NOT NULL,
    PRIMARY KEY (account_id, region, snapshot_id)
);
",
};

const TOGETHER: Migration = Migration {
    name: "ebs-0003-modifications-and-sets",
    sql: "
CREATE TABLE ebs_volume_modifications (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    state TEXT NOT NULL,
    progress BIGINT NOT NULL,
    status_message TEXT,
    original_size_gib BIGINT NOT NULL,
    original_type TEXT NOT NULL,
    original_iops BIGINT,
    original_throughput_mib BIGINT,
    target_size_gib BIGINT NOT NULL,
    target_type TEXT NOT NULL,
    target_iops BIGINT,
    target_throughput_mib BIGINT,
    started_ms BIGINT NOT NULL,
    ended_ms BIGINT,
    PRIMARY KEY (account_id, region, volume_id, number)
);
CREATE TABLE ebs_snapshot_sets (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    set_id TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    PRIMARY KEY (account_id, region, set_id, snapshot_id)
);
CREATE UNIQUE INDEX ebs_snapshot_sets_by_snapshot
    ON ebs_snapshot_sets (account_id, region, snapshot_id);
",
};

const INITIALIZATIONS: Migration = Migration {
    name: "ebs-0004-volume-initializations",
    sql: "
CREATE TABLE ebs_volume_initializations (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    rate_mib BIGINT,
    progress BIGINT NOT NULL,
    checkpoint BYTES,
    started_ms BIGINT NOT NULL,
    completed_ms BIGINT,
    PRIMARY KEY (region, volume_id)
);
",
};

const DELETED_ROOTS: Migration = Migration {
    name: "ebs-0005-deleted-roots",
    sql: "
CREATE TABLE ebs_deleted_roots (
    region TEXT NOT NULL,
    root BYTES NOT NULL,
    PRIMARY KEY (region, root)
);
",
};

const REMOTE_HOSTS: Migration = Migration {
    name: "ebs-0006-remote-hosts",
    sql: "
CREATE TABLE ebs_remote_hosts (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    PRIMARY KEY (account_id, region, instance_id)
);
CREATE TABLE ebs_fences (
    region TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (region, volume_id)
);
",
};

const FOREIGN_BASES: Migration = Migration {
    name: "ebs-0007-foreign-bases",
    sql: "
CREATE TABLE ebs_foreign_bases (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    wrapped_key BYTES NOT NULL,
    context_id TEXT NOT NULL,
    lineage TEXT NOT NULL,
    guard TEXT NOT NULL,
    grant_id TEXT NOT NULL,
    former_root BYTES,
    waits_for TEXT,
    given_up BIGINT NOT NULL,
    PRIMARY KEY (region, volume_id)
);
ALTER TABLE ebs_volumes ADD COLUMN first_base_root BYTES;
",
};

const FIRST_TOUCHES: Migration = Migration {
    name: "ebs-0008-first-touches",
    sql: "
CREATE TABLE ebs_first_touches (
    region TEXT NOT NULL,
    root BYTES NOT NULL,
    blocks BYTES NOT NULL,
    PRIMARY KEY (region, root)
);
",
};

const SNAPSHOT_TIERS: Migration = Migration {
    name: "ebs-0009-snapshot-tiers",
    sql: "
CREATE TABLE ebs_snapshot_tiers (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    operation TEXT NOT NULL,
    status TEXT NOT NULL,
    progress BIGINT NOT NULL,
    detail TEXT,
    started_ms BIGINT NOT NULL,
    restore_days BIGINT,
    archived_ms BIGINT,
    archive_root BYTES,
    expires_ms BIGINT,
    checkpoint BYTES,
    checkpoint_root BYTES,
    PRIMARY KEY (region, snapshot_id)
);
CREATE INDEX ebs_snapshot_tiers_by_account ON ebs_snapshot_tiers (account_id, region);
CREATE INDEX ebs_snapshot_tiers_by_expiry ON ebs_snapshot_tiers (region, expires_ms)
    WHERE expires_ms IS NOT NULL;
ALTER TABLE ebs_deleted_roots ADD COLUMN tier TEXT NOT NULL DEFAULT 'standard';
",
};

const EARLY_DELETIONS: Migration = Migration {
    name: "ebs-0010-early-deletions",
    sql: "
CREATE TABLE ebs_early_deletions (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    archived_ms BIGINT NOT NULL,
    ended_ms BIGINT NOT NULL,
    hours_left BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (region, snapshot_id, archived_ms)
);
",
};

const FAST_RESTORES: Migration = Migration {
    name: "ebs-0011-fast-restores",
    sql: "
CREATE TABLE ebs_fast_restores (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    zone TEXT NOT NULL,
    size_gib BIGINT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    enabling_ms BIGINT NOT NULL,
    optimizing_ms BIGINT,
    enabled_ms BIGINT,
    disabling_ms BIGINT,
    disabled_ms BIGINT,
    empty_ms BIGINT,
    PRIMARY KEY (account_id, region, snapshot_id, zone)
);
CREATE INDEX ebs_fast_restores_by_snapshot ON ebs_fast_restores (region, snapshot_id);
CREATE TABLE ebs_twins (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    run TEXT NOT NULL,
    progress BIGINT NOT NULL,
    source_root BYTES NOT NULL,
    root BYTES,
    checkpoint BYTES,
    checkpoint_root BYTES,
    PRIMARY KEY (region, snapshot_id)
);
CREATE TABLE ebs_fast_volumes (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    volume_id TEXT NOT NULL,
    twin_root BYTES,
    PRIMARY KEY (region, volume_id)
);
CREATE INDEX ebs_fast_volumes_by_account ON ebs_fast_volumes (account_id, region);
",
};

const COPY_BASES: Migration = Migration {
    name: "ebs-0012-copy-bases",
    sql: "
CREATE TABLE ebs_copy_bases (
    region TEXT NOT NULL,
    snapshot_id TEXT NOT NULL,
    source_region TEXT NOT NULL,
    source_root BYTES NOT NULL,
    copy_root BYTES NOT NULL,
    PRIMARY KEY (region, snapshot_id)
);
",
};

const LEASES: Migration = Migration {
    name: "ebs-0013-leases",
    sql: "
ALTER TABLE ebs_fences ADD COLUMN lease_ms BIGINT;
",
};

const NOTED_AGAIN: Migration = Migration {
    name: "ebs-0014-noted-again",
    sql: "
ALTER TABLE ebs_deleted_roots ADD COLUMN times BIGINT NOT NULL DEFAULT 1;
",
};

const KIN_OF_SNAPSHOTS: Migration = Migration {
    name: "ebs-0015-kin-of-snapshots",
    sql: "
CREATE INDEX ebs_snapshots_by_source ON ebs_snapshots (source_region, source_snapshot_id);
CREATE INDEX ebs_snapshots_by_parent ON ebs_snapshots (region, parent_id);
CREATE INDEX ebs_volumes_by_latest_snapshot ON ebs_volumes (region, latest_snapshot_id);
",
};

const GIVEN_UP: Migration = Migration {
    name: "ebs-0016-given-up",
    sql: "
ALTER TABLE ebs_volume_initializations ADD COLUMN given_up TEXT;
",
};

const VOLUME_FILES: Migration = Migration {
    name: "ebs-0017-volume-files",
    sql: "
ALTER TABLE ebs_volumes ADD COLUMN file_made BIGINT NOT NULL DEFAULT 0;
",
};

const WAITING: Migration = Migration {
    name: "ebs-0018-waiting",
    sql: "
ALTER TABLE ebs_volume_initializations ADD COLUMN waits_for TEXT;
",
};
