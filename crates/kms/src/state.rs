//! Key states, and which operation works in which (KMS guide, "Key states of AWS KMS keys"; spec 20, B.3).
//!
//! The table itself is data: `tables/key_states.txt`, one line per operation, one column per state.

use crate::error::{Error, Result};
use crate::origin::KeyOrigin;
use crate::spec::{KeyUsage, Kind};
use std::fmt;
use std::sync::LazyLock;

/// The state of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// Usable.
    Enabled,
    /// Switched off; can be switched on again.
    Disabled,
    /// Waiting to be destroyed.
    PendingDeletion,
    /// The material that its owner imports is missing, in whole or in part.
    PendingImport,
    /// A multi-Region primary key that waits until its replicas are destroyed; then its own time begins.
    PendingReplicaDeletion,
    /// The store that holds its material does not answer.
    Unavailable,
    /// A replica whose material is on its way.
    Creating,
    /// A multi-Region key while another becomes the primary one.
    Updating,
}

impl KeyState {
    /// Every state a key can have.
    pub const ALL: [Self; 8] = [
        Self::Enabled,
        Self::Disabled,
        Self::PendingDeletion,
        Self::PendingImport,
        Self::PendingReplicaDeletion,
        Self::Unavailable,
        Self::Creating,
        Self::Updating,
    ];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
            Self::PendingImport => "PendingImport",
            Self::PendingReplicaDeletion => "PendingReplicaDeletion",
            Self::Unavailable => "Unavailable",
            Self::Creating => "Creating",
            Self::Updating => "Updating",
        }
    }

    /// Whether the key is to be destroyed, at once or after its replicas.
    pub fn is_pending_deletion(self) -> bool {
        matches!(self, Self::PendingDeletion | Self::PendingReplicaDeletion)
    }

    /// What an error says about a key in this state.
    fn sentence(self) -> &'static str {
        match self {
            Self::Enabled => "is enabled",
            Self::Disabled => "is disabled",
            Self::PendingDeletion => "is pending deletion",
            Self::PendingImport => "is pending import",
            Self::PendingReplicaDeletion => "is pending replica deletion",
            Self::Unavailable => "is unavailable",
            Self::Creating => "is creating",
            Self::Updating => "is updating",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Position of the state's column in the table, which has one for both ways to wait for the end.
    fn column(self) -> usize {
        match self {
            Self::Enabled => 0,
            Self::Disabled => 1,
            Self::PendingDeletion | Self::PendingReplicaDeletion => 2,
            Self::PendingImport => 3,
            Self::Unavailable => 4,
            Self::Creating => 5,
            Self::Updating => 6,
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An IAM action on a key. `ReEncrypt` is two: one on each of its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the variants are the API's operations, by name")]
pub enum Action {
    CancelKeyDeletion,
    CreateAlias,
    CreateGrant,
    Decapsulate,
    Decrypt,
    DeleteAlias,
    DeleteImportedKeyMaterial,
    DeriveSharedSecret,
    DescribeKey,
    DisableKey,
    DisableKeyRotation,
    EnableKey,
    EnableKeyRotation,
    Encapsulate,
    Encrypt,
    GenerateDataKey,
    GenerateDataKeyPair,
    GenerateDataKeyPairWithoutPlaintext,
    GenerateDataKeyWithoutPlaintext,
    GenerateMac,
    GetKeyLastUsage,
    GetKeyPolicy,
    GetKeyRotationStatus,
    GetParametersForImport,
    ImportKeyMaterial,
    GetPublicKey,
    ListAliases,
    ListGrants,
    ListKeyPolicies,
    ListKeyRotations,
    ListResourceTags,
    PutKeyPolicy,
    ReEncryptFrom,
    ReEncryptTo,
    ReplicateKey,
    RetireGrant,
    RevokeGrant,
    RotateKeyOnDemand,
    ScheduleKeyDeletion,
    Sign,
    TagResource,
    UntagResource,
    UpdateAlias,
    UpdateKeyDescription,
    Verify,
    VerifyMac,
    UpdatePrimaryRegion,
}

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 47] = [
        Self::CancelKeyDeletion,
        Self::CreateAlias,
        Self::CreateGrant,
        Self::Decapsulate,
        Self::Decrypt,
        Self::DeleteAlias,
        Self::DeleteImportedKeyMaterial,
        Self::DeriveSharedSecret,
        Self::DescribeKey,
        Self::DisableKey,
        Self::DisableKeyRotation,
        Self::EnableKey,
        Self::EnableKeyRotation,
        Self::Encapsulate,
        Self::Encrypt,
        Self::GenerateDataKey,
        Self::GenerateDataKeyPair,
        Self::GenerateDataKeyPairWithoutPlaintext,
        Self::GenerateDataKeyWithoutPlaintext,
        Self::GenerateMac,
        Self::GetKeyLastUsage,
        Self::GetKeyPolicy,
        Self::GetKeyRotationStatus,
        Self::GetParametersForImport,
        Self::ImportKeyMaterial,
        Self::GetPublicKey,
        Self::ListAliases,
        Self::ListGrants,
        Self::ListKeyPolicies,
        Self::ListKeyRotations,
        Self::ListResourceTags,
        Self::PutKeyPolicy,
        Self::ReEncryptFrom,
        Self::ReEncryptTo,
        Self::ReplicateKey,
        Self::RetireGrant,
        Self::RevokeGrant,
        Self::RotateKeyOnDemand,
        Self::ScheduleKeyDeletion,
        Self::Sign,
        Self::TagResource,
        Self::UntagResource,
        Self::UpdateAlias,
        Self::UpdateKeyDescription,
        Self::Verify,
        Self::VerifyMac,
        Self::UpdatePrimaryRegion,
    ];

    /// The action's name without its `kms:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CancelKeyDeletion => "CancelKeyDeletion",
            Self::CreateAlias => "CreateAlias",
            Self::CreateGrant => "CreateGrant",
            Self::Decapsulate => "Decapsulate",
            Self::Decrypt => "Decrypt",
            Self::DeleteAlias => "DeleteAlias",
            Self::DeleteImportedKeyMaterial => "DeleteImportedKeyMaterial",
            Self::DeriveSharedSecret => "DeriveSharedSecret",
            Self::DescribeKey => "DescribeKey",
            Self::DisableKey => "DisableKey",
            Self::DisableKeyRotation => "DisableKeyRotation",
            Self::EnableKey => "EnableKey",
            Self::EnableKeyRotation => "EnableKeyRotation",
            Self::Encapsulate => "Encapsulate",
            Self::Encrypt => "Encrypt",
            Self::GenerateDataKey => "GenerateDataKey",
            Self::GenerateDataKeyPair => "GenerateDataKeyPair",
            Self::GenerateDataKeyPairWithoutPlaintext => "GenerateDataKeyPairWithoutPlaintext",
            Self::GenerateDataKeyWithoutPlaintext => "GenerateDataKeyWithoutPlaintext",
            Self::GenerateMac => "GenerateMac",
            Self::GetKeyLastUsage => "GetKeyLastUsage",
            Self::GetKeyPolicy => "GetKeyPolicy",
            Self::GetKeyRotationStatus => "GetKeyRotationStatus",
            Self::GetParametersForImport => "GetParametersForImport",
            Self::ImportKeyMaterial => "ImportKeyMaterial",
            Self::GetPublicKey => "GetPublicKey",
            Self::ListAliases => "ListAliases",
            Self::ListGrants => "ListGrants",
            Self::ListKeyPolicies => "ListKeyPolicies",
            Self::ListKeyRotations => "ListKeyRotations",
            Self::ListResourceTags => "ListResourceTags",
            Self::PutKeyPolicy => "PutKeyPolicy",
            Self::ReEncryptFrom => "ReEncryptFrom",
            Self::ReEncryptTo => "ReEncryptTo",
            Self::ReplicateKey => "ReplicateKey",
            Self::RetireGrant => "RetireGrant",
            Self::RevokeGrant => "RevokeGrant",
            Self::RotateKeyOnDemand => "RotateKeyOnDemand",
            Self::ScheduleKeyDeletion => "ScheduleKeyDeletion",
            Self::Sign => "Sign",
            Self::TagResource => "TagResource",
            Self::UntagResource => "UntagResource",
            Self::UpdateAlias => "UpdateAlias",
            Self::UpdateKeyDescription => "UpdateKeyDescription",
            Self::Verify => "Verify",
            Self::VerifyMac => "VerifyMac",
            Self::UpdatePrimaryRegion => "UpdatePrimaryRegion",
        }
    }

    /// The action as policies write it.
    pub fn iam_name(self) -> String {
        format!("kms:{}", self.as_str())
    }

    /// Whether an ARN that is none of a key is an `InvalidArnException` of the action, and not a key that is not
    /// found: what uses key material, and what points an alias, lists no such exception (botocore model).
    pub fn lists_invalid_arn(self) -> bool {
        !matches!(
            self,
            Self::CreateAlias
                | Self::Decapsulate
                | Self::Decrypt
                | Self::DeleteAlias
                | Self::DeriveSharedSecret
                | Self::Encapsulate
                | Self::Encrypt
                | Self::GenerateDataKey
                | Self::GenerateDataKeyPair
                | Self::GenerateDataKeyPairWithoutPlaintext
                | Self::GenerateDataKeyWithoutPlaintext
                | Self::GenerateMac
                | Self::ReEncryptFrom
                | Self::ReEncryptTo
                | Self::Sign
                | Self::UpdateAlias
                | Self::Verify
                | Self::VerifyMac
        )
    }

    /// Whether a caller of another account can be allowed it at all (spec 20, A.3).
    pub fn works_across_accounts(self) -> bool {
        matches!(
            self,
            Self::CreateGrant
                | Self::Decapsulate
                | Self::Decrypt
                | Self::DeriveSharedSecret
                | Self::DescribeKey
                | Self::Encapsulate
                | Self::Encrypt
                | Self::GenerateDataKey
                | Self::GenerateDataKeyPair
                | Self::GenerateDataKeyPairWithoutPlaintext
                | Self::GenerateDataKeyWithoutPlaintext
                | Self::GenerateMac
                | Self::GetKeyRotationStatus
                | Self::GetPublicKey
                | Self::ListGrants
                | Self::ReEncryptFrom
                | Self::ReEncryptTo
                | Self::RetireGrant
                | Self::RevokeGrant
                | Self::Sign
                | Self::Verify
                | Self::VerifyMac
        )
    }

    /// Whether the key may be named by an alias (spec 20, B.7).
    pub fn takes_alias(self) -> bool {
        matches!(
            self,
            Self::Decapsulate
                | Self::Decrypt
                | Self::DeriveSharedSecret
                | Self::DescribeKey
                | Self::Encapsulate
                | Self::Encrypt
                | Self::GenerateDataKey
                | Self::GenerateDataKeyPair
                | Self::GenerateDataKeyPairWithoutPlaintext
                | Self::GenerateDataKeyWithoutPlaintext
                | Self::GenerateMac
                | Self::GetPublicKey
                | Self::ReEncryptFrom
                | Self::ReEncryptTo
                | Self::Sign
                | Self::Verify
                | Self::VerifyMac
        )
    }

    /// The line of the table: operations, not actions.
    fn operation(self) -> &'static str {
        match self {
            Self::ReEncryptFrom | Self::ReEncryptTo => "ReEncrypt",
            other => other.as_str(),
        }
    }

    /// Whether the operation is one for keys of this kind. Asked after the state (spec 20, B.3).
    ///
    /// # Errors
    /// [`Error::InvalidKeyUsage`], and for a public key where there is none [`Error::Unsupported`].
    pub fn check_kind(self, arn: &str, kind: Kind) -> Result<()> {
        let operation = self.operation();
        let (spec, usage) = (kind.spec(), kind.usage());
        let needed = match self {
            Self::Decrypt
            | Self::Encrypt
            | Self::GenerateDataKey
            | Self::GenerateDataKeyPair
            | Self::GenerateDataKeyPairWithoutPlaintext
            | Self::GenerateDataKeyWithoutPlaintext
            | Self::ReEncryptFrom
            | Self::ReEncryptTo => KeyUsage::EncryptDecrypt,
            Self::Sign | Self::Verify => KeyUsage::SignVerify,
            Self::GenerateMac | Self::VerifyMac => KeyUsage::GenerateVerifyMac,
            Self::DeriveSharedSecret => KeyUsage::KeyAgreement,
            Self::Decapsulate | Self::Encapsulate => KeyUsage::EncapsulateDecapsulate,
            Self::GetPublicKey if !spec.is_pair() => {
                return Err(Error::Unsupported {
                    message: format!(
                        "{arn} key spec is {spec} which is not valid for {operation}."
                    ),
                });
            }
            _ => return Ok(()),
        };
        let wrong = |what: String| Err(Error::InvalidKeyUsage { message: what });
        if usage != needed {
            return wrong(format!(
                "{arn} key usage is {usage} which is not valid for {operation}."
            ));
        }
        let makes_data_keys = matches!(
            self,
            Self::GenerateDataKey
                | Self::GenerateDataKeyPair
                | Self::GenerateDataKeyPairWithoutPlaintext
                | Self::GenerateDataKeyWithoutPlaintext
        );
        if makes_data_keys && !kind.is_symmetric() {
            return wrong(format!("{arn} key spec is {spec} which is not valid for {operation}."));
        }
        Ok(())
    }

    /// Whether the operation works on a key in this state. Asked only after authorization, because the answer
    /// tells the state. Where the table has a verdict of its own for keys of an origin, that goes first: what an
    /// operation is never for does not depend on a state that may change.
    ///
    /// # Errors
    /// [`Error::Disabled`], [`Error::InvalidState`] or [`Error::Unsupported`], with KMS's words.
    pub fn check_state(self, arn: &str, state: KeyState, origin: KeyOrigin) -> Result<()> {
        let cell = TABLE
            .iter()
            .find(|line| line[0] == self.operation())
            .map(|line| line[1 + state.column()])
            .expect("a test reads every action's line");
        match Verdict::parse(cell, self, origin).expect("a test reads every cell") {
            Verdict::Works => Ok(()),
            Verdict::Disabled => Err(Error::Disabled { arn: arn.to_owned() }),
            Verdict::WrongState => {
                Err(Error::InvalidState { arn: arn.to_owned(), state: state.sentence() })
            }
            Verdict::NotPendingDeletion => {
                Err(Error::InvalidState { arn: arn.to_owned(), state: "is not pending deletion" })
            }
            Verdict::Origin => Err(Error::Unsupported {
                message: format!(
                    "{arn} origin is {} which is not valid for this operation.",
                    origin.as_str()
                ),
            }),
        }
    }

    /// Whether the operation changes or tells the rotation of keys of this origin: what note 7 excepts. Imported
    /// material rotates on demand alone (API reference, RotateKeyOnDemand).
    fn rotates(self, origin: KeyOrigin) -> bool {
        match origin {
            KeyOrigin::AwsKms => true,
            KeyOrigin::External => {
                matches!(self, Self::RotateKeyOnDemand | Self::ListKeyRotations)
            }
            KeyOrigin::AwsCloudHsm => false,
        }
    }
}

/// The meaning of one cell.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Works,
    Disabled,
    WrongState,
    NotPendingDeletion,
    Origin,
}

impl Verdict {
    /// `+` works, `c` works under a condition the operation itself checks, `-` fails, `n` a key of that kind is never
    /// in that state; behind it the guide's footnotes. Where 2 and 3 both stand, either exception is possible;
    /// EBS's events show 3's. Notes 7 and 9 are of keys of some origins, and beside another note they are what those
    /// keys answer.
    fn parse(cell: &str, action: Action, origin: KeyOrigin) -> Option<Self> {
        let (sign, notes) = cell.split_at_checked(1)?;
        let has = |list: &[&str]| notes.split(',').any(|note| list.contains(&note));
        Some(match sign {
            "+" | "c" => Self::Works,
            // No key in a store is of a kind the operation is for; that is what it says.
            "n" if origin == KeyOrigin::AwsCloudHsm => Self::Works,
            "n" => Self::WrongState,
            "-" if has(&["6"]) => Self::Origin,
            "-" if has(&["7"]) && !action.rotates(origin) => Self::Origin,
            "-" if has(&["9"]) && origin != KeyOrigin::External => Self::Origin,
            "-" if has(&["3", "5", "8", "11", "14", "15"]) => Self::WrongState,
            "-" if has(&["1"]) => Self::Disabled,
            "-" if has(&["4"]) => Self::NotPendingDeletion,
            // A key of this origin is never in this state.
            "-" if has(&["7", "9"]) => Self::WrongState,
            _ => return None,
        })
    }
}

static TABLE: LazyLock<Vec<Vec<&str>>> = LazyLock::new(|| {
    include_str!("../tables/key_states.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_ascii_whitespace().collect())
        .collect()
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_a_readable_line() {
        assert!(TABLE.iter().all(|line| line.len() == 8), "an operation and seven states");
        for action in Action::ALL {
            let line = TABLE.iter().filter(|line| line[0] == action.operation());
            let [line] = line.collect::<Vec<_>>()[..] else { panic!("{action:?}") };
            for state in KeyState::ALL {
                for origin in [KeyOrigin::AwsKms, KeyOrigin::External, KeyOrigin::AwsCloudHsm] {
                    let verdict = Verdict::parse(line[1 + state.column()], action, origin);
                    assert!(verdict.is_some(), "{action:?} {state}");
                }
            }
        }
    }

    #[test]
    fn columns_are_the_guides() {
        let header =
            include_str!("../tables/key_states.txt").lines().find(|l| l.contains("Enabled"));
        let columns: Vec<_> = header.unwrap().split_ascii_whitespace().skip(2).collect();
        for state in KeyState::ALL {
            if state != KeyState::PendingReplicaDeletion {
                assert_eq!(columns[state.column()], state.as_str());
            }
        }
    }

    #[test]
    fn the_essentials_hold() {
        use Action::*;
        use KeyState::*;
        let message =
            |action: Action, state| match action.check_state("arn", state, KeyOrigin::External) {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            };
        for action in [Decrypt, Encrypt, ReEncryptTo, GenerateDataKey, CreateGrant] {
            assert_eq!(message(action, Enabled), "");
            assert_eq!(message(action, Disabled), "arn is disabled.");
            assert_eq!(message(action, PendingDeletion), "arn is pending deletion.");
        }
        for action in
            [DescribeKey, GetKeyPolicy, PutKeyPolicy, ListGrants, RetireGrant, DeleteAlias]
        {
            KeyState::ALL.into_iter().for_each(|state| assert_eq!(message(action, state), ""));
        }
        for action in
            [TagResource, UpdateKeyDescription, CreateAlias, EnableKey, ScheduleKeyDeletion]
        {
            assert_eq!(message(action, PendingDeletion), "arn is pending deletion.");
            assert_eq!(message(action, Disabled), "");
        }
        assert_eq!(message(CancelKeyDeletion, Enabled), "arn is not pending deletion.");
        assert_eq!(message(CancelKeyDeletion, PendingDeletion), "");
        assert_eq!(message(CancelKeyDeletion, PendingReplicaDeletion), "");
        assert_eq!(message(Decrypt, PendingReplicaDeletion), "arn is pending replica deletion.");
        assert_eq!(message(Decrypt, PendingImport), "arn is pending import.");
        assert_eq!(message(Decrypt, Creating), "arn is creating.");
        assert_eq!(message(Decrypt, Updating), "");
        assert_eq!(message(EnableKey, Updating), "arn is updating.");
        assert_eq!(message(ImportKeyMaterial, PendingDeletion), "arn is pending deletion.");
    }
}
