//! Key material and credentials never enter the trail, whatever a caller hands over.

use serde_json::Value;

/// Members that are dropped wherever they stand, compared without regard to case (spec 20, D.1:
/// "Never logged: plaintext, ciphertext, grant tokens").
pub const FORBIDDEN: &[&str] = &[
    "authorizationToken",
    "ciphertext",
    "ciphertextBlob",
    "ciphertextForRecipient",
    "encryptedKeyMaterial",
    "grantToken",
    "grantTokens",
    "importToken",
    "mac",
    "message",
    "password",
    "plaintext",
    "privateKeyCiphertextBlob",
    "privateKeyPlaintext",
    "secretAccessKey",
    "secretKey",
    "sessionToken",
    "signature",
];

/// Removes every forbidden member, at any depth, and returns how many there were.
pub fn scrub(value: &mut Value) -> usize {
    match value {
        Value::Object(members) => {
            let before = members.len();
            members.retain(|name, _| !is_forbidden(name));
            before - members.len() + members.values_mut().map(scrub).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(scrub).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Whether [`scrub`] would remove something.
pub(crate) fn is_to_be_scrubbed(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.iter().any(|(name, value)| is_forbidden(name) || is_to_be_scrubbed(value))
        }
        Value::Array(items) => items.iter().any(is_to_be_scrubbed),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

pub(crate) fn is_forbidden(name: &str) -> bool {
    FORBIDDEN.iter().any(|forbidden| forbidden.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn forbidden_members_go_at_any_depth_and_others_stay() {
        let mut value = json!({
            "keyId": "k",
            "Plaintext": "AAAA",
            "items": [{"grantTokens": ["t"], "name": "n"}, {"inner": {"ciphertextBlob": {"a": 1}}}],
            "plaintextLength": 3,
        });
        assert!(is_to_be_scrubbed(&value));
        assert_eq!(scrub(&mut value), 3);
        assert!(!is_to_be_scrubbed(&value));
        assert_eq!(
            value,
            json!({"keyId": "k", "items": [{"name": "n"}, {"inner": {}}], "plaintextLength": 3})
        );
    }

    #[test]
    fn every_listed_name_is_dropped() {
        for name in FORBIDDEN {
            let mut value = json!({ name.to_uppercase(): "x" });
            assert_eq!(scrub(&mut value), 1, "{name}");
        }
    }
}
