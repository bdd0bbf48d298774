//! Policies that are accepted and do not do what they seem to (spec 21, 3.7; spec 20, A.7).
//!
//! A warning never refuses anything: what AWS accepts is accepted. Each names a statement and says
//! what it does instead.

use crate::condition::{Condition, SetPrefix, Test};
use crate::policy::{Effect, Policy, PolicyKind, Statement, StatementPrincipal};
use base::AccountId;
use serde::Serialize;

/// Which trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trap {
    /// A condition on a key that requests for the action never carry.
    KeyNotCarried,
    /// A principal or a condition on one that no session ever matches.
    PrincipalNeverMatches,
    /// A key policy that does not let the account's identity policies count.
    DelegationMissing,
    /// A boundary that allows storage and forgets its keys.
    BoundaryForgetsKms,
    /// `ForAllValues` holds for requests without the key.
    ForAllValuesWithoutKey,
    /// A deny by address or network that also stops calls services make.
    NetworkDenyStopsServices,
    /// A deny of everybody but some that also stops the roles of services.
    DenyStopsServiceRoles,
    /// A key policy after which nobody of the account can change it.
    Lockout,
}

impl Trap {
    /// The trap's name in records, headers and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeyNotCarried => "key-not-carried",
            Self::PrincipalNeverMatches => "principal-never-matches",
            Self::DelegationMissing => "delegation-missing",
            Self::BoundaryForgetsKms => "boundary-forgets-kms",
            Self::ForAllValuesWithoutKey => "for-all-values-without-key",
            Self::NetworkDenyStopsServices => "network-deny-stops-services",
            Self::DenyStopsServiceRoles => "deny-stops-service-roles",
            Self::Lockout => "lockout",
        }
    }
}

/// Something that does not do what it seems to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Which trap.
    pub trap: Trap,
    /// The statement, from zero; absent when the whole policy is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<usize>,
    /// Its Sid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// What it does instead, as a sentence.
    pub message: String,
}

/// What the policy is for.
#[derive(Clone, Copy, Debug)]
pub struct Purpose<'a> {
    /// Whether it is used as a permissions boundary.
    pub boundary: Boundary,
    /// The account that owns the key, of a key policy.
    pub account: Option<&'a AccountId>,
}

/// Whether a policy limits or permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// It permits.
    No,
    /// It limits.
    Yes,
}

/// Condition keys that only some actions of KMS carry, in lower case (spec 20, A.7, and the conditions of
/// each action in its table). One that ends in `:` or `/` stands for all that begin so.
const CARRIED: &[(&str, &[&str])] = &[
    ("aws:requesttag/", &["CreateKey", "TagResource"]),
    ("aws:tagkeys", &["CreateKey", "TagResource", "UntagResource"]),
    ("ebs:", &[]),
    ("ec2:", &[]),
    ("kms:bypasspolicylockoutsafetycheck", &["CreateKey", "PutKeyPolicy"]),
    ("kms:datakeypairspec", &["GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"]),
    ("kms:encryptionalgorithm", ENCRYPTING),
    ("kms:encryptioncontext:", SYMMETRIC),
    ("kms:encryptioncontextkeys", SYMMETRIC),
    ("kms:expirationmodel", &["ImportKeyMaterial"]),
    ("kms:grantconstraintsourcearn", &["CreateGrant"]),
    ("kms:grantconstrainttype", &["CreateGrant", "RetireGrant"]),
    ("kms:granteeprincipal", &["CreateGrant"]),
    ("kms:granteeserviceprincipal", &["CreateGrant"]),
    ("kms:grantisforawsresource", &["CreateGrant", "ListGrants", "RevokeGrant"]),
    ("kms:grantoperations", &["CreateGrant"]),
    ("kms:keyagreementalgorithm", &["DeriveSharedSecret"]),
    ("kms:macalgorithm", &["GenerateMac", "VerifyMac"]),
    ("kms:messagetype", &["Sign", "Verify"]),
    ("kms:primaryregion", &["UpdatePrimaryRegion"]),
    (
        "kms:recipientattestation:",
        &[
            "Decrypt",
            "DeriveSharedSecret",
            "GenerateDataKey",
            "GenerateDataKeyPair",
            "GenerateRandom",
        ],
    ),
    ("kms:reencryptonsamekey", &["ReEncryptFrom", "ReEncryptTo"]),
    ("kms:replicaregion", &["ReplicateKey"]),
    ("kms:requestalias", NAMED_BY_ALIAS),
    ("kms:retiringprincipal", &["CreateGrant"]),
    ("kms:retiringserviceprincipal", &["CreateGrant"]),
    ("kms:rotationperiodindays", &["EnableKeyRotation"]),
    ("kms:schedulekeydeletionpendingwindowindays", &["ScheduleKeyDeletion"]),
    ("kms:signingalgorithm", &["Sign", "Verify"]),
    ("kms:validto", &["ImportKeyMaterial"]),
    ("kms:wrappingalgorithm", &["GetParametersForImport"]),
    ("kms:wrappingkeyspec", &["GetParametersForImport"]),
];
/// Actions with an encryption context.
const SYMMETRIC: &[&str] = &[
    "CreateGrant",
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
    "RetireGrant",
];
/// Actions with an algorithm of encryption.
const ENCRYPTING: &[&str] = &[
    "Decrypt",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "ReEncryptFrom",
    "ReEncryptTo",
];
/// Actions that take the alias of a key in its place.
const NAMED_BY_ALIAS: &[&str] = &[
    "Decrypt",
    "DeriveSharedSecret",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GetPublicKey",
    "ReEncryptFrom",
    "ReEncryptTo",
    "Sign",
    "Verify",
    "VerifyMac",
];
/// The actions of KMS: what a statement may mean, and what is checked against [`CARRIED`].
const ACTIONS: &[&str] = &[
    "CancelKeyDeletion",
    "ConnectCustomKeyStore",
    "CreateAlias",
    "CreateCustomKeyStore",
    "CreateGrant",
    "CreateKey",
    "Decrypt",
    "DeleteAlias",
    "DeleteCustomKeyStore",
    "DeleteImportedKeyMaterial",
    "DeriveSharedSecret",
    "DescribeCustomKeyStores",
    "DescribeKey",
    "DisableKey",
    "DisableKeyRotation",
    "DisconnectCustomKeyStore",
    "EnableKey",
    "EnableKeyRotation",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "GenerateRandom",
    "GetKeyPolicy",
    "GetKeyRotationStatus",
    "GetParametersForImport",
    "GetPublicKey",
    "ImportKeyMaterial",
    "ListAliases",
    "ListGrants",
    "ListKeyPolicies",
    "ListKeyRotations",
    "ListKeys",
    "ListResourceTags",
    "ListRetirableGrants",
    "PutKeyPolicy",
    "ReEncryptFrom",
    "ReEncryptTo",
    "ReplicateKey",
    "RetireGrant",
    "RevokeGrant",
    "RotateKeyOnDemand",
    "ScheduleKeyDeletion",
    "Sign",
    "SynchronizeMultiRegionKey",
    "TagResource",
    "UntagResource",
    "UpdateAlias",
    "UpdateCustomKeyStore",
    "UpdateKeyDescription",
    "UpdatePrimaryRegion",
    "Verify",
    "VerifyMac",
];
/// Those that services use on the keys of others.
const OF_SERVICES: &[&str] = &[
    "CreateGrant",
    "Decrypt",
    "DescribeKey",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "ListGrants",
    "ReEncryptFrom",
    "ReEncryptTo",
    "RetireGrant",
    "RevokeGrant",
];
/// How many actions a sentence lists.
const LISTED_MAX: usize = 12;
/// What EC2 needs of a key for a volume.
const FOR_VOLUMES: [&str; 3] =
    ["kms:CreateGrant", "kms:GenerateDataKeyWithoutPlaintext", "kms:Decrypt"];

/// Finds the traps of a policy.
pub fn lint(policy: &Policy, purpose: &Purpose<'_>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (index, statement) in policy.statements.iter().enumerate() {
        let mut warn = |trap, message: String| {
            let sid = statement.sid.clone();
            warnings.push(Warning { trap, statement: Some(index), sid, message });
        };
        carried(policy.kind, statement, &mut warn);
        principals(statement, &mut warn);
        for_all_values(statement, &mut warn);
        networks(policy.kind, statement, &mut warn);
        service_roles(statement, &mut warn);
    }
    let mut whole = |trap, message: &str| {
        let message = message.to_owned();
        warnings.push(Warning { trap, statement: None, sid: None, message });
    };
    match (policy.kind, purpose.account) {
        (PolicyKind::KeyPolicy, Some(account)) => whole_key_policy(policy, account, &mut whole),
        _ if purpose.boundary == Boundary::Yes => boundary(policy, &mut whole),
        _ => {}
    }
    warnings
}

/// Which of some actions of KMS a statement means.
fn meant(statement: &Statement, of: &[&'static str]) -> Vec<&'static str> {
    let Some(actions) = &statement.actions else { return Vec::new() };
    let means = |name: &&&str| {
        let action = format!("kms:{name}");
        actions.items.iter().any(|item| item.matches(&action)) != actions.negated
    };
    of.iter().filter(means).copied().collect()
}

/// A test that fails for requests without the key, so that an Allow under it never applies to them.
fn fails_without_key(condition: &Condition) -> bool {
    match condition.operator.test {
        Test::Null => condition.operands.iter().any(|operand| operand.shown() == "false"),
        Test::Compare { negated, .. } => {
            !negated
                && !condition.operator.if_exists
                && condition.operator.set != Some(SetPrefix::All)
        }
    }
}

/// The actions of KMS that carry a key; `None` when any may.
fn carriers(key: &str, kind: PolicyKind) -> Option<&'static [&'static str]> {
    let key = key.to_lowercase();
    // Identity policies alone see a key's aliases (spec 20, A.3).
    if key == "kms:resourcealiases" && kind == PolicyKind::KeyPolicy {
        return Some(&[]);
    }
    let found = CARRIED.iter().find(|(name, _)| match name.ends_with([':', '/']) {
        true => key.starts_with(name),
        false => key == *name,
    });
    found.map(|(_, carriers)| *carriers)
}

fn carried(kind: PolicyKind, statement: &Statement, warn: &mut impl FnMut(Trap, String)) {
    let lacks = |condition: &Condition, action: &str| {
        carriers(&condition.key, kind).is_some_and(|carriers| !carriers.contains(&action))
    };
    // One that allows everything under a key of other services does not mean KMS.
    let names_kms = statement.actions.as_ref().is_some_and(|actions| {
        let kms =
            |text: &str| text.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("kms:"));
        !actions.negated && actions.items.iter().any(|item| kms(item.written()))
    });
    for condition in &statement.conditions {
        let of_kms = condition.key.to_lowercase().starts_with("kms:");
        let applies = match (statement.effect, fails_without_key(condition)) {
            (Effect::Allow, true) if of_kms || names_kms => "does not allow them",
            (Effect::Deny, false) => "always denies them",
            (Effect::Allow, _) | (Effect::Deny, true) => continue,
        };
        // A Deny that another condition keeps from applying denies nothing.
        let spared = |action: &str| {
            statement.effect == Effect::Deny
                && statement
                    .conditions
                    .iter()
                    .any(|other| fails_without_key(other) && lacks(other, action))
        };
        let bare: Vec<&str> = meant(statement, ACTIONS)
            .into_iter()
            .filter(|action| lacks(condition, action) && !spared(action))
            .collect();
        if bare.is_empty() {
            continue;
        }
        let mut list = bare[..bare.len().min(LISTED_MAX)].join(", ");
        if let Some(more) = bare.len().checked_sub(LISTED_MAX).filter(|more| *more > 0) {
            list.push_str(&format!(" and {more} more"));
        }
        let key = &condition.key;
        warn(
            Trap::KeyNotCarried,
            format!("Requests for {list} never carry {key}, so this statement {applies}."),
        );
    }
}

fn principals(statement: &Statement, warn: &mut impl FnMut(Trap, String)) {
    for condition in &statement.conditions {
        if condition.key.eq_ignore_ascii_case("aws:PrincipalArn") {
            let sessions = condition.operands.iter().map(|operand| operand.shown());
            for session in sessions.filter(|arn| arn.contains(":assumed-role/")) {
                warn(
                    Trap::PrincipalNeverMatches,
                    format!(
                        "aws:PrincipalArn of a session is the ARN of its role, so {session} matches \
                         nobody. Name the role, or compare aws:userid."
                    ),
                );
            }
        }
    }
    let Some(element) = &statement.principals else { return };
    let names_session =
        element.items.iter().any(|item| matches!(item, StatementPrincipal::Session(_)));
    let role = element.items.iter().find(|item| match item {
        StatementPrincipal::Entity { arn, .. } => arn.contains(":role/"),
        _ => false,
    });
    if let (true, Some(role), false) = (element.negated, role, names_session) {
        let role = role.written();
        warn(
            Trap::PrincipalNeverMatches,
            format!(
                "NotPrincipal spares {role} and not its sessions: a session is spared only when it, \
                 its role and its account are all listed."
            ),
        );
    }
    for item in &element.items {
        if let StatementPrincipal::UniqueId(id) = item {
            warn(
                Trap::PrincipalNeverMatches,
                format!("{id} was deleted. Whoever has its name now is somebody else."),
            );
        }
    }
}

/// With an Allow, `ForAllValues` opens to requests without the key; with a Deny it closes to them.
fn for_all_values(statement: &Statement, warn: &mut impl FnMut(Trap, String)) {
    for condition in &statement.conditions {
        if condition.operator.set != Some(SetPrefix::All) {
            continue;
        }
        let guards = statement.conditions.iter().any(|other| {
            other.key.eq_ignore_ascii_case(&condition.key)
                && other.operator.test == Test::Null
                && other.operands.iter().any(|operand| operand.shown() == "false")
        });
        // A grant always says its operations.
        let always = condition.key.eq_ignore_ascii_case("kms:GrantOperations")
            && meant(statement, ACTIONS) == ["CreateGrant"];
        if !guards && !always {
            let verb = match statement.effect {
                Effect::Allow => "allows",
                Effect::Deny => "denies",
            };
            warn(
                Trap::ForAllValuesWithoutKey,
                format!(
                    "{} also holds when the request has no {}, so this statement {verb} such \
                     requests. Add Null {} false.",
                    condition.operator.written, condition.key, condition.key
                ),
            );
        }
    }
}

/// Keys that name a caller's network, in lower case.
const NETWORK: [&str; 4] = [SOURCE_IP, "aws:vpcsourceip", "aws:sourcevpc", "aws:sourcevpce"];
/// The one of them that calls a service makes for the caller keep (spec 20, A.7).
const SOURCE_IP: &str = "aws:sourceip";

fn networks(kind: PolicyKind, statement: &Statement, warn: &mut impl FnMut(Trap, String)) {
    let networks: Vec<&str> = statement
        .conditions
        .iter()
        .filter(|condition| matches!(condition.operator.test, Test::Compare { negated: true, .. }))
        .map(|condition| condition.key.as_str())
        .filter(|key| NETWORK.iter().any(|network| key.eq_ignore_ascii_case(network)))
        .collect();
    let touches_keys = kind == PolicyKind::KeyPolicy || !meant(statement, OF_SERVICES).is_empty();
    let (Effect::Deny, true, Some(first)) = (statement.effect, touches_keys, networks.first())
    else {
        return;
    };
    let spares = |name: &str, value: &str| {
        statement.conditions.iter().any(|condition| {
            condition.key.eq_ignore_ascii_case(name)
                && condition.operands.iter().any(|operand| operand.shown() == value)
        })
    };
    let lost = networks.iter().find(|key| !key.eq_ignore_ascii_case(SOURCE_IP));
    if kind == PolicyKind::KeyPolicy && !spares("aws:PrincipalIsAWSService", "false") {
        warn(
            Trap::NetworkDenyStopsServices,
            format!(
                "Calls that EC2 makes on a grant carry no {first} and are denied: attaching a \
                 volume fails. Spare services (aws:PrincipalIsAWSService false) and the role \
                 aws:ec2-infrastructure."
            ),
        );
    } else if let Some(lost) = lost
        && !spares("aws:ViaAWSService", "false")
    {
        warn(
            Trap::NetworkDenyStopsServices,
            format!(
                "Calls that services make for the caller come without the caller's {lost} and are \
                 denied. Add Bool aws:ViaAWSService false."
            ),
        );
    }
}

fn service_roles(statement: &Statement, warn: &mut impl FnMut(Trap, String)) {
    if statement.effect != Effect::Deny || meant(statement, OF_SERVICES).is_empty() {
        return;
    }
    for condition in &statement.conditions {
        let negated = matches!(condition.operator.test, Test::Compare { negated: true, .. });
        if !negated || !condition.key.eq_ignore_ascii_case("aws:PrincipalArn") {
            continue;
        }
        let shown: Vec<String> = condition.operands.iter().map(|o| o.shown()).collect();
        let spared = |part: &str| shown.iter().any(|arn| arn.contains(part));
        if !spared("aws:ec2-infrastructure") || !spared("aws-service-role") {
            warn(
                Trap::DenyStopsServiceRoles,
                "This denies the roles services use as well: role/aws:ec2-infrastructure, which \
                 attaches volumes, and service-linked roles (role/aws-service-role/*), which launch \
                 instances. List both."
                    .to_owned(),
            );
        }
    }
}

fn whole_key_policy(policy: &Policy, account: &AccountId, warn: &mut impl FnMut(Trap, &str)) {
    let allows = |statement: &Statement, action: &str| {
        statement.effect == Effect::Allow
            && statement.resources.is_some()
            && statement.actions.as_ref().is_some_and(|actions| {
                actions.items.iter().any(|item| item.matches(action)) != actions.negated
            })
    };
    let names = |statement: &Statement, wanted: &dyn Fn(&StatementPrincipal) -> bool| {
        let element = statement.principals.as_ref();
        element.is_some_and(|element| !element.negated && element.items.iter().any(wanted))
    };
    let delegates = policy.statements.iter().any(|statement| {
        statement.conditions.is_empty()
            && allows(statement, "kms:Decrypt")
            && names(
                statement,
                &|principal| matches!(principal, StatementPrincipal::Account(of) if of == account),
            )
    });
    if !delegates {
        warn(
            Trap::DelegationMissing,
            "No statement delegates the use of the key to the account: its identity policies allow \
             nothing with this key, however they read.",
        );
    }
    let text = format!(":{account}:");
    let own = move |principal: &StatementPrincipal| match principal {
        StatementPrincipal::Anyone => true,
        StatementPrincipal::Account(of) => of == account,
        StatementPrincipal::Entity { arn, .. } | StatementPrincipal::Session(arn) => {
            arn.contains(&text)
        }
        StatementPrincipal::UniqueId(_)
        | StatementPrincipal::Service(_)
        | StatementPrincipal::Federated(_) => false,
    };
    let opens =
        |statement: &&Statement| allows(statement, "kms:PutKeyPolicy") && names(statement, &own);
    if !policy.statements.iter().any(|statement| opens(&statement)) {
        warn(Trap::Lockout, "Nobody of the key's account can change this policy any more.");
    }
}

/// Whoever may make volumes has to reach their keys.
fn boundary(policy: &Policy, warn: &mut impl FnMut(Trap, &str)) {
    let allows = |action: &str| {
        policy.statements.iter().any(|statement| {
            statement.effect == Effect::Allow
                && statement.actions.as_ref().is_some_and(|actions| {
                    actions.items.iter().any(|item| item.matches(action)) != actions.negated
                })
        })
    };
    let storage = ["ec2:CreateVolume", "ec2:AttachVolume", "ec2:CopySnapshot"];
    if storage.into_iter().any(allows) && !FOR_VOLUMES.into_iter().all(allows) {
        warn(
            Trap::BoundaryForgetsKms,
            "The boundary allows storage and not the keys of encrypted volumes: creating, attaching \
             and copying them fails. Allow kms:CreateGrant, kms:GenerateDataKeyWithoutPlaintext and \
             kms:Decrypt.",
        );
    }
}

#[cfg(test)]
mod tests;
