//! The command line of what answers "why".

use crate::args::{Enforcement, Output};
use crate::attach::HttpPolicy;
use clap::{Args, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Where the server is and who asks; as the `aws` CLI, from the same variables and files.
#[derive(Args, Clone)]
pub(crate) struct ServerArgs {
    /// The server: https://HOST:PORT, or http:// on the same machine [default: the profile's
    /// endpoint_url, or http://127.0.0.1:4577].
    #[arg(long, value_name = "URL", env = "AWS_ENDPOINT_URL")]
    pub(crate) endpoint_url: Option<String>,
    /// The region to ask in [default: AWS_DEFAULT_REGION, or the profile's].
    #[arg(long, value_name = "REGION", env = "AWS_REGION")]
    pub(crate) region: Option<String>,
    /// The profile in the credentials file and in ~/.aws/config (AWS_CONFIG_FILE).
    #[arg(long, value_name = "NAME", env = "AWS_PROFILE", default_value = "default")]
    pub(crate) profile: String,
    /// The credentials file [default: ~/.aws/credentials]. Keys in AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN come first.
    #[arg(long, value_name = "FILE", env = "AWS_SHARED_CREDENTIALS_FILE")]
    pub(crate) credentials_file: Option<PathBuf>,
    /// Certificates (PEM) the server's is checked against [default: the system's].
    #[arg(long, value_name = "FILE", env = "AWS_CA_BUNDLE")]
    pub(crate) ca: Option<PathBuf>,
    /// Let the request cross a network in the clear.
    #[arg(long)]
    pub(crate) allow_insecure_http: bool,
    /// How to print the answer; json is stable and described in docs/explain.md.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    #[arg(long, hide = true, env = "AWS_CONFIG_FILE")]
    pub(crate) config_file: Option<PathBuf>,
    #[arg(long, hide = true, env = "AWS_DEFAULT_REGION")]
    pub(crate) default_region: Option<String>,
    #[arg(long, hide = true, env = "AWS_ACCESS_KEY_ID")]
    pub(crate) access_key_id: Option<String>,
    #[arg(long, hide = true, hide_env_values = true, env = "AWS_SECRET_ACCESS_KEY")]
    pub(crate) secret_access_key: Option<String>,
    #[arg(long, hide = true, hide_env_values = true, env = "AWS_SESSION_TOKEN")]
    pub(crate) session_token: Option<String>,
    #[arg(long, hide = true, env = "HOME")]
    pub(crate) home: Option<PathBuf>,
}

impl ServerArgs {
    pub(crate) fn http_policy(&self) -> HttpPolicy {
        if self.allow_insecure_http { HttpPolicy::Anywhere } else { HttpPolicy::Loopback }
    }
}

/// Says why a call was allowed or denied, as it was when it was decided.
///
/// ID is a decision (d-…, in the trail under additionalEventData.explainId, in events under
/// explain-id, in the reply header x-strongroom-explain-id), the id of an event or a request, or an
/// encoded authorization message. Policies of other accounts are not shown.
///
/// Exit codes: 0 explained, 1 nothing of that name, or refused, 4 no server answers.
#[derive(Args)]
pub(crate) struct ExplainOptions {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// What to explain.
    #[arg(value_name = "ID")]
    pub(crate) id: String,
}

/// Decides a request and everything it would lead to, without making it.
///
/// COMMAND is the request as the aws CLI takes it, with values in JSON, shorthand or files: strongroom
/// preflight aws ec2 copy-snapshot --source-region us-east-1 --source-snapshot-id snap-…. Every KMS
/// call that EC2 and EBS would make for it, now or later, is decided with the policies and grants in
/// force. Nothing is changed. Operations that are not served here are planned from the table of
/// implied calls.
///
/// Exit codes: 0 it would succeed, 1 the request cannot be read, or preflight is refused, 4 no server
/// answers, 6 nothing could be decided, 7 it would fail.
#[derive(Args)]
pub(crate) struct PreflightOptions {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// `aws SERVICE OPERATION` and its options.
    #[arg(
        value_name = "COMMAND",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    pub(crate) command: Vec<String>,
}

/// Policies for other accounts: what to write.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    Suggest(Box<SuggestOptions>),
    Lint(LintOptions),
}

/// Finds traps in a policy: what is accepted and does not do what it seems to.
///
/// Asks no server. Saving a policy tells the same, in the trail and in the reply header
/// x-strongroom-policy-warnings.
///
/// Exit codes: 0 nothing found, 1 no policy, 8 traps found.
#[derive(Args)]
pub(crate) struct LintOptions {
    /// The policy, JSON.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Where the policy stands.
    #[arg(long, value_enum, default_value_t = LintKind::Identity)]
    pub(crate) kind: LintKind,
    /// The account that owns the key, of a key policy.
    #[arg(long, value_name = "ACCOUNT", required_if_eq("kind", "key"), value_parser = account)]
    pub(crate) account: Option<base::AccountId>,
    /// How to print the warnings; json is stable.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

fn account(text: &str) -> Result<base::AccountId, String> {
    base::AccountId::parse(text).map_err(|_| "expected twelve digits".to_owned())
}

/// Where a policy stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LintKind {
    /// At a user, group or role.
    Identity,
    /// A permissions boundary.
    Boundary,
    /// The policy of a key.
    Key,
    /// Who may assume a role.
    Trust,
}

/// Writes the smallest policies with which another account can use an encrypted snapshot.
///
/// For the owner: statements for the key's policy and the snapshot's attribute. For the recipient: an
/// identity policy, and with --auto-scaling the grant to the role that launches. Grants are wrapped so
/// that only EC2 can make them.
///
/// Exit codes: 0 written, 1 refused, 4 no server answers.
#[derive(Args)]
pub(crate) struct SuggestOptions {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// What the other account wants to do.
    #[arg(value_enum)]
    pub(crate) purpose: Purpose,
    /// The snapshot, snap-….
    #[arg(long, value_name = "SNAPSHOT")]
    pub(crate) snapshot: String,
    /// The other account, or the ARN of a user or role in it.
    #[arg(long, value_name = "ACCOUNT|ARN")]
    pub(crate) to: String,
    /// The ARN of the key the other account copies to [default: any of its keys].
    #[arg(long, value_name = "ARN")]
    pub(crate) target_key: Option<String>,
    /// The region the other account copies to [default: the region asked in].
    #[arg(long, value_name = "REGION")]
    pub(crate) target_region: Option<String>,
    /// Which permissions count as needed [default: the server's enforcement].
    #[arg(long, value_enum)]
    pub(crate) mode: Option<Enforcement>,
    /// An Auto Scaling group launches, by its service-linked role.
    #[arg(long)]
    pub(crate) auto_scaling: bool,
}

/// What an account may want with another's snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Copy it under a key of its own.
    Copy,
    /// Make volumes from it, under a key of its own.
    Restore,
    /// Launch instances from an image of it.
    Launch,
}

/// Who gets at something.
#[derive(Subcommand)]
pub(crate) enum WhoCanCommand {
    Read(WhoCanOptions),
}

/// Says who can read a snapshot or a volume, and by which chain of permissions.
///
/// For a snapshot: reading its blocks, copying it, making volumes of it. For a volume: attaching it.
/// Every user and role of the account is asked for; of accounts it is shared with, what the owner may
/// know. Shares that lead nowhere are named.
///
/// Exit codes: 0 answered, 1 refused, 4 no server answers.
#[derive(Args)]
pub(crate) struct WhoCanOptions {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The snapshot or volume.
    #[arg(value_name = "SNAPSHOT|VOLUME")]
    pub(crate) resource: String,
}

/// Says what a change of a key, of the policies of a user, role or group, or of a managed policy would
/// break, without making it.
///
/// Volumes and snapshots that are concerned, and the decisions recorded lately that would come out
/// otherwise: they are taken again over the key, or with the policies, as it would be.
///
/// Exit codes: 0 answered, 1 refused, 4 no server answers.
#[derive(Args)]
pub(crate) struct WhatIfOptions {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// The change.
    #[arg(value_enum)]
    pub(crate) change: WhatIfChange,
    /// The key's id or ARN, of a change of a key.
    #[arg(long, value_name = "KEY", required_unless_present_any = ["principal_arn", "policy_arn"])]
    pub(crate) key_id: Option<String>,
    /// The user, role or group, of a change of its policies.
    #[arg(long, value_name = "ARN", conflicts_with = "key_id")]
    pub(crate) principal_arn: Option<String>,
    /// The candidate policy, of put-key-policy, put-policy and create-policy-version.
    #[arg(long, value_name = "FILE", required_if_eq_any([("change", "put-key-policy"), ("change", "put-policy"), ("change", "create-policy-version")]))]
    pub(crate) policy: Option<PathBuf>,
    /// The name of the inline policy, of put-policy and delete-policy.
    #[arg(long, value_name = "NAME", required_if_eq_any([("change", "put-policy"), ("change", "delete-policy")]))]
    pub(crate) policy_name: Option<String>,
    /// The managed policy, of attach-policy, detach-policy, put-boundary, create-policy-version and
    /// set-default-policy-version.
    #[arg(long, value_name = "ARN", required_if_eq_any([("change", "attach-policy"), ("change", "detach-policy"), ("change", "put-boundary"), ("change", "create-policy-version"), ("change", "set-default-policy-version")]))]
    pub(crate) policy_arn: Option<String>,
    /// The version, of set-default-policy-version: v2.
    #[arg(long, value_name = "VERSION", required_if_eq("change", "set-default-policy-version"))]
    pub(crate) version_id: Option<String>,
    /// The group, of add-to-group and remove-from-group.
    #[arg(long, value_name = "NAME", required_if_eq_any([("change", "add-to-group"), ("change", "remove-from-group")]))]
    pub(crate) group_name: Option<String>,
    /// The grant, of revoke-grant.
    #[arg(long, value_name = "GRANT", required_if_eq("change", "revoke-grant"))]
    pub(crate) grant_id: Option<String>,
    /// How many days of recorded decisions are taken again, 90 at most.
    #[arg(long, default_value_t = 7)]
    pub(crate) days: u32,
}

/// A change that is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WhatIfChange {
    /// The key is disabled.
    DisableKey,
    /// The key's deletion is scheduled.
    ScheduleKeyDeletion,
    /// The key has another policy.
    PutKeyPolicy,
    /// A grant is revoked.
    RevokeGrant,
    /// The user, role or group has an inline policy with this text.
    PutPolicy,
    /// An inline policy is deleted.
    DeletePolicy,
    /// A managed policy is attached.
    AttachPolicy,
    /// A managed policy is detached.
    DetachPolicy,
    /// A managed policy is its permissions boundary.
    PutBoundary,
    /// It has no permissions boundary.
    DeleteBoundary,
    /// The user is in the group.
    AddToGroup,
    /// The user is not in the group.
    RemoveFromGroup,
    /// The managed policy has a version with this text, in force.
    CreatePolicyVersion,
    /// Another version of the managed policy is in force.
    SetDefaultPolicyVersion,
}
