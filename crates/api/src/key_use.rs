//! Notes which keys a successful call used, for GetKeyLastUsage. In memory only; housekeeping writes it down, and a
//! server that stops without that loses the last minute of it.

use base::Arn;
use events::Record;
use kms::usage::{Use, UsedKey};

/// The operations that use a key (botocore: KeyLastUsageTrackingOperation).
const OPERATIONS: &[&str] = &[
    "Decapsulate",
    "Decrypt",
    "DeriveSharedSecret",
    "Encapsulate",
    "Encrypt",
    "GenerateDataKey",
    "GenerateDataKeyPair",
    "GenerateDataKeyPairWithoutPlaintext",
    "GenerateDataKeyWithoutPlaintext",
    "GenerateMac",
    "ReEncrypt",
    "Sign",
    "Verify",
    "VerifyMac",
];

/// The uses that a call's records tell of. Each key has the record of its owner's account.
pub(crate) fn of(request_id: &str, record: &Record, copies: &[Record]) -> Vec<(UsedKey, Use)> {
    if record.event_source() != "kms.amazonaws.com" || !OPERATIONS.contains(&record.event_name()) {
        return Vec::new();
    }
    let uses = record.resources().iter().filter_map(|resource| {
        let id = Arn::parse(&resource.arn)?.resource.strip_prefix("key/")?.to_owned();
        let owners = copies.iter().find(|copy| *copy.recipient() == resource.account_id);
        let key =
            UsedKey { account: resource.account_id.clone(), region: record.region().clone(), id };
        let used = Use {
            operation: record.event_name().to_owned(),
            at: record.time(),
            event_id: owners.unwrap_or(record).event_id().to_owned(),
            request_id: request_id.to_owned(),
        };
        Some((key, used))
    });
    uses.collect()
}
