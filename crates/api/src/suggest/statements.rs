//! Statements from rows of the table.

use super::{AutoScaling, Use, Wanted};
use crate::decided::Mode;
use crate::preflight::table::{Implied, table};
use serde_json::{Value as Json, json};

/// For which key and in whose policy statements are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The snapshot's key, in its policy.
    SourceInItsPolicy,
    /// The snapshot's key, in the recipient's policy.
    Source,
    /// The recipient's key, in the recipient's policy.
    Target,
}

impl Key {
    fn is_source(self) -> bool {
        self != Self::Target
    }
}

/// The calls of the table a caller has to be allowed.
fn needed(wanted: &Wanted) -> impl Iterator<Item = &'static Implied> {
    let (operation, variant) = wanted.purpose.variant();
    let mode = wanted.mode;
    let rows = table().variants.iter();
    let row = rows.filter(move |row| row.operation == operation && row.variant == variant);
    row.flat_map(|row| &row.calls).filter(move |call| {
        call.by == "caller"
            && match mode {
                Mode::Native => call.enforced == "yes",
                Mode::Documented => call.enforced == "yes" || call.documented,
            }
    })
}

/// The KMS actions on one of the keys, without CreateGrant.
fn actions(wanted: &Wanted, key: Key) -> Vec<String> {
    let mut actions: Vec<String> = needed(wanted)
        .filter_map(|call| match (call.operation.as_str(), call.key.as_str()) {
            // One call, two permissions: one on each key.
            ("ReEncrypt", "source->target") if key.is_source() => {
                Some("kms:ReEncryptFrom".to_owned())
            }
            ("ReEncrypt", "source->target") => Some("kms:ReEncryptTo".to_owned()),
            ("CreateGrant", _) => None,
            (operation, "source") if key.is_source() => Some(format!("kms:{operation}")),
            (operation, "target") if !key.is_source() => Some(format!("kms:{operation}")),
            _ => None,
        })
        .collect();
    actions.sort();
    actions.dedup();
    actions
}

fn needs_grant(wanted: &Wanted, key: Key) -> bool {
    let role = if key.is_source() { "source" } else { "target" };
    needed(wanted).any(|call| call.operation == "CreateGrant" && call.key == role)
}

/// The statements for one key. Grants are wrapped so that only EC2 can make them, for its own use.
pub(super) fn key_statements(wanted: &Wanted, key: Key) -> Vec<Json> {
    let region = if key.is_source() { &wanted.snapshot_region } else { &wanted.target_region };
    let via = format!("ec2.{region}.amazonaws.com");
    let resource = match key {
        Key::SourceInItsPolicy => json!("*"),
        Key::Source => json!(wanted.source_key),
        Key::Target => match &wanted.target_key {
            Some(arn) => json!(arn),
            None => json!(format!("arn:aws:kms:{region}:{}:key/*", wanted.recipient_account)),
        },
    };
    let name = if key.is_source() { "TheSnapshotsKey" } else { "OwnKey" };
    let statement = |sid: String, actions: Json, condition: Json| {
        let mut statement = json!({
            "Sid": sid, "Effect": "Allow", "Action": actions, "Resource": resource,
            "Condition": condition,
        });
        if key == Key::SourceInItsPolicy {
            statement["Principal"] = json!({ "AWS": principal(wanted) });
        }
        statement
    };
    let mut statements = Vec::new();
    let actions = actions(wanted, key);
    if !actions.is_empty() {
        let condition = json!({ "StringEquals": { "kms:ViaService": via } });
        statements.push(statement(format!("Use{name}"), json!(actions), condition));
    }
    if needs_grant(wanted, key) {
        // A copy that continues an earlier one under the same key is encrypted on a grant too.
        let operations = match (key, wanted.purpose) {
            (Key::Target, Use::Copy) => json!(["Decrypt", "Encrypt"]),
            _ => json!(["Decrypt"]),
        };
        let condition = json!({
            "Bool": { "kms:GrantIsForAWSResource": "true" },
            "StringEquals": { "kms:ViaService": via },
            "ForAllValues:StringEquals": { "kms:GrantOperations": operations },
        });
        statements.push(statement(format!("LendTo{name}"), json!(["kms:CreateGrant"]), condition));
    }
    if key.is_source() && wanted.auto_scaling == AutoScaling::Yes {
        statements.push(role_grant(wanted, &resource, key));
    }
    statements
}

/// The grant to the service-linked role is made by the recipient itself, not through EC2.
fn role_grant(wanted: &Wanted, resource: &Json, key: Key) -> Json {
    let role = format!(
        "arn:aws:iam::{}:role/aws-service-role/autoscaling.amazonaws.com/\
         AWSServiceRoleForAutoScaling",
        wanted.recipient_account
    );
    let mut statement = json!({
        "Sid": "GrantToAutoScaling", "Effect": "Allow", "Action": ["kms:CreateGrant"],
        "Resource": resource,
        "Condition": { "StringEquals": { "kms:GranteePrincipal": role } },
    });
    if key == Key::SourceInItsPolicy {
        statement["Principal"] = json!({ "AWS": principal(wanted) });
    }
    statement
}

fn principal(wanted: &Wanted) -> String {
    match wanted.recipient.starts_with("arn:") {
        true => wanted.recipient.clone(),
        false => format!("arn:aws:iam::{}:root", wanted.recipient_account),
    }
}

pub(super) fn identity_policy(wanted: &Wanted) -> Json {
    let mut statements = vec![ec2(wanted)];
    statements.extend(key_statements(wanted, Key::Source));
    statements.extend(key_statements(wanted, Key::Target));
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// What EC2 itself asks for, before any key (spec 20, C.4).
fn ec2(wanted: &Wanted) -> Json {
    let Wanted { snapshot, snapshot_region, target_region, recipient_account, .. } = wanted;
    let source = format!("arn:aws:ec2:{snapshot_region}::snapshot/{snapshot}");
    let (actions, resources) = match wanted.purpose {
        Use::Copy => (
            json!(["ec2:CopySnapshot"]),
            json!([source, format!("arn:aws:ec2:{target_region}::snapshot/*")]),
        ),
        Use::Restore => {
            let volumes = format!("arn:aws:ec2:{target_region}:{recipient_account}:volume/*");
            (json!(["ec2:CreateVolume"]), json!([source, volumes]))
        }
        // What is launched decides which resources RunInstances asks for.
        Use::Launch => (json!(["ec2:RunInstances"]), json!(["*"])),
    };
    json!({ "Sid": "Ec2", "Effect": "Allow", "Action": actions, "Resource": resources })
}
