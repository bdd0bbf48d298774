//! Which key a new volume or snapshot ends under: the three outcome matrices of spec 20 §C.2 and spec 03.
//!
//! Pure tables. They say *whose choice* the key is, never which key; resolving a choice to an ARN,
//! and asking KMS whether the caller may use it, is the caller's work.

/// Whose key a new volume or snapshot gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChoice {
    /// No customer key: bytes are sealed under a key of the service.
    Plain,
    /// The key named in the request.
    Given,
    /// The key of the source snapshot.
    Source,
    /// The default key of the account in this region; `aws/ebs` when none was set.
    AccountDefault,
    /// The AWS managed key `aws/ebs`, whatever the account's default is.
    AwsManaged,
}

/// Where a new volume's blocks come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// Nothing: all zeros.
    Blank,
    /// A snapshot of the caller's account.
    Own {
        /// Whether it is encrypted.
        encrypted: bool,
    },
    /// A snapshot another account shares.
    Shared {
        /// Whether it is encrypted.
        encrypted: bool,
    },
}

/// The encryption parameters of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncryptionRequest {
    /// `Encrypted`, if it was sent.
    pub encrypted: Option<bool>,
    /// Whether `KmsKeyId` was sent.
    pub key_given: bool,
    /// Whether the account encrypts by default in this region.
    pub by_default: bool,
}

/// Why an encryption request makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncryptionError {
    /// Code `InvalidParameterDependency`.
    #[error("The parameter KmsKeyId requires the parameter Encrypted to be set.")]
    KeyWithoutEncrypted,
}

/// `CreateVolume`, spec 20 §C.2 first matrix.
///
/// # Errors
/// A key without `Encrypted=true`; tolerated while the account encrypts by default (spec 04).
pub fn create_volume(
    request: EncryptionRequest,
    source: VolumeSource,
) -> Result<KeyChoice, EncryptionError> {
    let asked = request.encrypted == Some(true);
    if request.key_given {
        return if asked || request.by_default {
            Ok(KeyChoice::Given)
        } else {
            Err(EncryptionError::KeyWithoutEncrypted)
        };
    }
    Ok(match source {
        // An encrypted source stays encrypted whatever was asked.
        VolumeSource::Own { encrypted: true } => KeyChoice::Source,
        VolumeSource::Shared { encrypted: true } => KeyChoice::AccountDefault,
        VolumeSource::Blank
        | VolumeSource::Own { encrypted: false }
        | VolumeSource::Shared { encrypted: false } => {
            if asked || request.by_default {
                KeyChoice::AccountDefault
            } else {
                KeyChoice::Plain
            }
        }
    })
}

/// `CopySnapshot`, spec 20 §C.2 second matrix.
///
/// An encrypted source copied without a key while encryption by default is off goes under `aws/ebs`,
/// not under the account's default key: the user guide's table of 2026.
///
/// # Errors
/// A key without `Encrypted=true`, also while the account encrypts by default.
pub fn copy_snapshot(
    request: EncryptionRequest,
    source_encrypted: bool,
) -> Result<KeyChoice, EncryptionError> {
    let asked = request.encrypted == Some(true);
    if request.key_given {
        return if asked {
            Ok(KeyChoice::Given)
        } else {
            Err(EncryptionError::KeyWithoutEncrypted)
        };
    }
    Ok(match (source_encrypted, request.by_default) {
        (true, false) => KeyChoice::AwsManaged,
        (_, true) => KeyChoice::AccountDefault,
        (false, false) if asked => KeyChoice::AccountDefault,
        (false, false) => KeyChoice::Plain,
    })
}

/// What a snapshot made block by block begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartParent {
    /// No parent.
    None,
    /// A plain parent.
    Plain,
    /// An encrypted parent.
    Encrypted,
}

/// The combination of parent and encryption parameters is not allowed (spec 03).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "The parameters Encrypted and KmsKeyArn are not valid for this parent snapshot and account."
)]
pub struct StartRefused;

/// `StartSnapshot` of the EBS direct APIs, spec 03.
///
/// # Errors
/// Every row of the table that reads `ValidationException`.
pub fn start_snapshot(
    request: EncryptionRequest,
    parent: StartParent,
) -> Result<KeyChoice, StartRefused> {
    let EncryptionRequest { encrypted, key_given, by_default } = request;
    match (parent, encrypted, key_given) {
        (StartParent::Plain | StartParent::Encrypted, Some(_), _)
        | (StartParent::Plain | StartParent::Encrypted, None, true)
        | (StartParent::None, Some(false), true) => Err(StartRefused),
        (StartParent::Plain, None, false) | (StartParent::None, Some(false), false) => {
            if by_default { Err(StartRefused) } else { Ok(KeyChoice::Plain) }
        }
        (StartParent::Encrypted, None, false) => Ok(KeyChoice::Source),
        (StartParent::None, Some(true) | None, true) => Ok(KeyChoice::Given),
        (StartParent::None, Some(true), false) => Ok(KeyChoice::AccountDefault),
        (StartParent::None, None, false) => {
            Ok(if by_default { KeyChoice::AccountDefault } else { KeyChoice::Plain })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(encrypted: &str, key: &str, by_default: &str) -> EncryptionRequest {
        EncryptionRequest {
            encrypted: match encrypted {
                "absent" => None,
                text => Some(text == "true"),
            },
            key_given: key == "key",
            by_default: by_default == "on",
        }
    }

    fn show<E>(outcome: Result<KeyChoice, E>) -> &'static str {
        match outcome {
            Ok(KeyChoice::Plain) => "plain",
            Ok(KeyChoice::Given) => "given",
            Ok(KeyChoice::Source) => "source",
            Ok(KeyChoice::AccountDefault) => "default",
            Ok(KeyChoice::AwsManaged) => "aws/ebs",
            Err(_) => "refused",
        }
    }

    fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
        table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).filter(|w| !w.is_empty())
    }

    #[test]
    fn create_volume_follows_its_matrix() {
        let sources = [
            VolumeSource::Blank,
            VolumeSource::Own { encrypted: false },
            VolumeSource::Own { encrypted: true },
            VolumeSource::Shared { encrypted: false },
            VolumeSource::Shared { encrypted: true },
        ];
        // Encrypted, key, default | blank, own plain, own encrypted, shared plain, shared encrypted
        let table = "
            absent - off    plain   plain   source  plain   default
            false  - off    plain   plain   source  plain   default
            true   - off    default default source  default default
            true   - on     default default source  default default
            absent - on     default default source  default default
            false  - on     default default source  default default
            true   key off  given   given   given   given   given
            true   key on   given   given   given   given   given
            absent key on   given   given   given   given   given
            absent key off  refused refused refused refused refused
            false  key off  refused refused refused refused refused
        ";
        for words in rows(table) {
            for (source, expected) in sources.iter().zip(&words[3..]) {
                let request = request(words[0], words[1], words[2]);
                assert_eq!(
                    &show(create_volume(request, *source)),
                    expected,
                    "{words:?} {source:?}"
                );
            }
        }
    }

    #[test]
    fn copy_snapshot_follows_its_matrix() {
        // Encrypted, key, default | plain source, encrypted source
        let table = "
            absent - off    plain   aws/ebs
            false  - off    plain   aws/ebs
            true   - off    default aws/ebs
            true   key off  given   given
            true   key on   given   given
            absent - on     default default
            false  - on     default default
            true   - on     default default
            absent key off  refused refused
            absent key on   refused refused
            false  key off  refused refused
        ";
        for words in rows(table) {
            for (encrypted, expected) in [false, true].into_iter().zip(&words[3..]) {
                let request = request(words[0], words[1], words[2]);
                assert_eq!(&show(copy_snapshot(request, encrypted)), expected, "{words:?}");
            }
        }
    }

    #[test]
    fn start_snapshot_follows_its_matrix() {
        // parent, Encrypted, key | default on, default off
        let table = "
            plain     absent -    refused plain
            plain     absent key  refused refused
            plain     true   -    refused refused
            plain     false  -    refused refused
            plain     true   key  refused refused
            encrypted absent -    source  source
            encrypted absent key  refused refused
            encrypted true   -    refused refused
            encrypted false  key  refused refused
            none      true   -    default default
            none      true   key  given   given
            none      false  -    refused plain
            none      false  key  refused refused
            none      absent -    default plain
            none      absent key  given   given
        ";
        for words in rows(table) {
            let parent = match words[0] {
                "plain" => StartParent::Plain,
                "encrypted" => StartParent::Encrypted,
                _ => StartParent::None,
            };
            for (default, expected) in ["on", "off"].into_iter().zip(&words[3..]) {
                let request = request(words[1], words[2], default);
                assert_eq!(&show(start_snapshot(request, parent)), expected, "{words:?} {default}");
            }
        }
    }
}
