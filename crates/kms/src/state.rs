//! Key states, and which operation works in which (KMS guide, "Key states of AWS KMS keys"; spec 20, B.3).
//!
//! The table itself is data: `tables/key_states.txt`, one line per operation, one column per state.

use crate::error::{Error, Result};
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
}

impl KeyState {
    /// Every state a key can have here. Imported, replicated and custom-store keys have more.
    pub const ALL: [Self; 3] = [Self::Enabled, Self::Disabled, Self::PendingDeletion];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "Enabled",
            Self::Disabled => "Disabled",
            Self::PendingDeletion => "PendingDeletion",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Position of the state's column in the table.
    fn column(self) -> usize {
        match self {
            Self::Enabled => 0,
            Self::Disabled => 1,
            Self::PendingDeletion => 2,
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
    Decrypt,
    DeleteAlias,
    DeriveSharedSecret,
    DescribeKey,
    DisableKey,
    EnableKey,
    Encrypt,
    GenerateDataKey,
    GenerateDataKeyPair,
    GenerateDataKeyPairWithoutPlaintext,
    GenerateDataKeyWithoutPlaintext,
    GenerateMac,
    GetKeyPolicy,
    GetKeyRotationStatus,
    GetPublicKey,
    ListAliases,
    ListGrants,
    ListKeyPolicies,
    ListResourceTags,
    PutKeyPolicy,
    ReEncryptFrom,
    ReEncryptTo,
    RetireGrant,
    RevokeGrant,
    ScheduleKeyDeletion,
    Sign,
    TagResource,
    UntagResource,
    UpdateAlias,
    UpdateKeyDescription,
    Verify,
    VerifyMac,
}

impl Action {
    /// Every action there is.
    pub const ALL: [Self; 35] = [
        Self::CancelKeyDeletion,
        Self::CreateAlias,
        Self::CreateGrant,
        Self::Decrypt,
        Self::DeleteAlias,
        Self::DeriveSharedSecret,
        Self::DescribeKey,
        Self::DisableKey,
        Self::EnableKey,
        Self::Encrypt,
        Self::GenerateDataKey,
        Self::GenerateDataKeyPair,
        Self::GenerateDataKeyPairWithoutPlaintext,
        Self::GenerateDataKeyWithoutPlaintext,
        Self::GenerateMac,
        Self::GetKeyPolicy,
        Self::GetKeyRotationStatus,
        Self::GetPublicKey,
        Self::ListAliases,
        Self::ListGrants,
        Self::ListKeyPolicies,
        Self::ListResourceTags,
        Self::PutKeyPolicy,
        Self::ReEncryptFrom,
        Self::ReEncryptTo,
        Self::RetireGrant,
        Self::RevokeGrant,
        Self::ScheduleKeyDeletion,
        Self::Sign,
        Self::TagResource,
        Self::UntagResource,
        Self::UpdateAlias,
        Self::UpdateKeyDescription,
        Self::Verify,
        Self::VerifyMac,
    ];

    /// The action's name without its `kms:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CancelKeyDeletion => "CancelKeyDeletion",
            Self::CreateAlias => "CreateAlias",
            Self::CreateGrant => "CreateGrant",
            Self::Decrypt => "Decrypt",
            Self::DeleteAlias => "DeleteAlias",
            Self::DeriveSharedSecret => "DeriveSharedSecret",
            Self::DescribeKey => "DescribeKey",
            Self::DisableKey => "DisableKey",
            Self::EnableKey => "EnableKey",
            Self::Encrypt => "Encrypt",
            Self::GenerateDataKey => "GenerateDataKey",
            Self::GenerateDataKeyPair => "GenerateDataKeyPair",
            Self::GenerateDataKeyPairWithoutPlaintext => "GenerateDataKeyPairWithoutPlaintext",
            Self::GenerateDataKeyWithoutPlaintext => "GenerateDataKeyWithoutPlaintext",
            Self::GenerateMac => "GenerateMac",
            Self::GetKeyPolicy => "GetKeyPolicy",
            Self::GetKeyRotationStatus => "GetKeyRotationStatus",
            Self::GetPublicKey => "GetPublicKey",
            Self::ListAliases => "ListAliases",
            Self::ListGrants => "ListGrants",
            Self::ListKeyPolicies => "ListKeyPolicies",
            Self::ListResourceTags => "ListResourceTags",
            Self::PutKeyPolicy => "PutKeyPolicy",
            Self::ReEncryptFrom => "ReEncryptFrom",
            Self::ReEncryptTo => "ReEncryptTo",
            Self::RetireGrant => "RetireGrant",
            Self::RevokeGrant => "RevokeGrant",
            Self::ScheduleKeyDeletion => "ScheduleKeyDeletion",
            Self::Sign => "Sign",
            Self::TagResource => "TagResource",
            Self::UntagResource => "UntagResource",
            Self::UpdateAlias => "UpdateAlias",
            Self::UpdateKeyDescription => "UpdateKeyDescription",
            Self::Verify => "Verify",
            Self::VerifyMac => "VerifyMac",
        }
    }

    /// The action as policies write it.
    pub fn iam_name(self) -> String {
        format!("kms:{}", self.as_str())
    }

    /// Whether a caller of another account can be allowed it at all (spec 20, A.3).
    pub fn works_across_accounts(self) -> bool {
        matches!(
            self,
            Self::CreateGrant
                | Self::Decrypt
                | Self::DeriveSharedSecret
                | Self::DescribeKey
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
            Self::Decrypt
                | Self::DeriveSharedSecret
                | Self::DescribeKey
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
    /// tells the state.
    ///
    /// # Errors
    /// [`Error::Disabled`] or [`Error::InvalidState`], with KMS's words.
    pub fn check_state(self, arn: &str, state: KeyState) -> Result<()> {
        let cell = TABLE
            .iter()
            .find(|line| line[0] == self.operation())
            .map(|line| line[1 + state.column()])
            .expect("a test reads every action's line");
        match Verdict::parse(cell).expect("a test reads every cell") {
            Verdict::Works => Ok(()),
            Verdict::Disabled => Err(Error::Disabled { arn: arn.to_owned() }),
            Verdict::Wrong(state) => Err(Error::InvalidState { arn: arn.to_owned(), state }),
        }
    }
}

/// The meaning of one cell.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Works,
    Disabled,
    Wrong(&'static str),
}

impl Verdict {
    /// `+` works, `c` works under a condition the operation itself checks, `-` fails; behind it the guide's
    /// footnotes. Where 2 and 3 both stand, either exception is possible; EBS's events show 3's.
    fn parse(cell: &str) -> Option<Self> {
        let (sign, notes) = cell.split_at_checked(1)?;
        let has = |note: &str| notes.split(',').any(|n| n == note);
        Some(match sign {
            "+" | "c" => Self::Works,
            "-" if has("3") => Self::Wrong("is pending deletion"),
            "-" if has("1") => Self::Disabled,
            "-" if has("4") => Self::Wrong("is not pending deletion"),
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
                assert!(Verdict::parse(line[1 + state.column()]).is_some(), "{action:?} {state}");
            }
        }
    }

    #[test]
    fn columns_are_the_guides() {
        let header =
            include_str!("../tables/key_states.txt").lines().find(|l| l.contains("Enabled"));
        let columns: Vec<_> = header.unwrap().split_ascii_whitespace().skip(2).collect();
        for state in KeyState::ALL {
            assert_eq!(columns[state.column()], state.as_str());
        }
    }

    #[test]
    fn the_essentials_hold() {
        use Action::*;
        use KeyState::*;
        let message = |action: Action, state| match action.check_state("arn", state) {
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
    }
}
