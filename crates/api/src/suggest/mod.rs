//! The smallest policies with which another account can use an encrypted snapshot, read off the table
//! of implied calls: what the table says a caller needs is what is suggested, and nothing else.

mod statements;
#[cfg(test)]
mod tests;
mod text;

use crate::decided::Mode;
use base::{AccountId, Region, SnapshotId};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use statements::{Key, key_statements};

/// The version of the document.
const VERSION: u8 = 1;

/// What the other account wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Use {
    /// Copy the snapshot under a key of its own.
    Copy,
    /// Make volumes from it, under a key of its own.
    Restore,
    /// Launch instances from an image of it, under a key of its own.
    Launch,
}

impl Use {
    /// The operation and the variant of it in the table.
    pub(crate) fn variant(self) -> (&'static str, &'static str) {
        match self {
            Self::Copy => ("CopySnapshot", "encrypted-to-encrypted"),
            // A launch makes its volumes first; the grant of the attachment is on their key.
            Self::Restore | Self::Launch => ("CreateVolume", "snapshot-other-key-or-shared"),
        }
    }
}

/// What is to be suggested.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) purpose: Use,
    pub(crate) mode: Mode,
    pub(crate) snapshot: SnapshotId,
    pub(crate) snapshot_region: Region,
    pub(crate) owner: AccountId,
    /// The snapshot's key.
    pub(crate) source_key: String,
    /// An account, or the ARN of a user or role in one.
    pub(crate) recipient: String,
    pub(crate) recipient_account: AccountId,
    /// The recipient's key; absent for any of its keys.
    pub(crate) target_key: Option<String>,
    pub(crate) target_region: Region,
    /// Whether an Auto Scaling group launches.
    pub(crate) auto_scaling: AutoScaling,
}

/// Whether instances are launched by a service-linked role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoScaling {
    /// By people and roles of the account.
    No,
    /// By an Auto Scaling group.
    Yes,
}

/// Policies for both accounts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Suggestion {
    pub(crate) version: u8,
    #[serde(rename = "use")]
    pub(crate) purpose: Use,
    pub(crate) mode: Mode,
    pub(crate) owner: AccountId,
    pub(crate) recipient: String,
    pub(crate) key: String,
    /// To be added to the policy of the snapshot's key.
    pub(crate) key_policy_statements: Vec<Json>,
    /// For who acts in the recipient's account.
    pub(crate) identity_policy: Json,
    /// The parameters of ModifySnapshotAttribute, for the owner.
    pub(crate) snapshot_attribute: Json,
    /// The parameters of CreateGrant, for the recipient, when an Auto Scaling group launches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service_linked_role_grant: Option<Json>,
}

/// What the service-linked role of Auto Scaling has to be granted (EC2 Auto Scaling guide, "Required
/// AWS KMS key policy for use with encrypted volumes").
const ROLE_OPERATIONS: [&str; 7] = [
    "Encrypt",
    "Decrypt",
    "ReEncryptFrom",
    "ReEncryptTo",
    "GenerateDataKey",
    "GenerateDataKeyWithoutPlaintext",
    "DescribeKey",
];

/// Writes the policies.
pub(crate) fn suggest(wanted: &Wanted) -> Suggestion {
    let grant = (wanted.auto_scaling == AutoScaling::Yes).then(|| {
        let mut operations = ROLE_OPERATIONS.to_vec();
        operations.push("CreateGrant");
        serde_json::json!({
            "KeyId": wanted.source_key,
            "GranteePrincipal": format!(
                "arn:aws:iam::{}:role/aws-service-role/autoscaling.amazonaws.com/\
                 AWSServiceRoleForAutoScaling",
                wanted.recipient_account
            ),
            "Operations": operations,
        })
    });
    Suggestion {
        version: VERSION,
        purpose: wanted.purpose,
        mode: wanted.mode,
        owner: wanted.owner.clone(),
        recipient: wanted.recipient.clone(),
        key: wanted.source_key.clone(),
        key_policy_statements: key_statements(wanted, Key::SourceInItsPolicy),
        identity_policy: statements::identity_policy(wanted),
        snapshot_attribute: serde_json::json!({
            "SnapshotId": wanted.snapshot,
            "CreateVolumePermission": { "Add": [{ "UserId": wanted.recipient_account }] },
        }),
        service_linked_role_grant: grant,
    }
}
