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

/// What is to be signed, and what an error says.
const MESSAGE: &str = "message";

/// Removes every forbidden member, at any depth, and returns how many there were.
pub fn scrub(value: &mut Value) -> usize {
    match value {
        Value::Object(members) => {
            let (before, is_error) = (members.len(), is_error(members));
            members.retain(|name, _| !is_forbidden(name) || (is_error && name == MESSAGE));
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
            let is_error = is_error(members);
            members.iter().any(|(name, value)| {
                let is_dropped = is_forbidden(name) && !(is_error && name == MESSAGE);
                is_dropped || is_to_be_scrubbed(value)
            })
        }
        Value::Array(items) => items.iter().any(is_to_be_scrubbed),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Whether this is the code and the text of an error and nothing else, as replies have it that fail item
/// by item. What is signed has no code beside it.
fn is_error(members: &serde_json::Map<String, Value>) -> bool {
    let is_text = |name: &str| members.get(name).is_some_and(Value::is_string);
    members.len() == 2 && is_text(MESSAGE) && is_text("code")
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
    fn the_text_of_an_error_is_no_message() {
        let error = json!({ "items": [{ "error": { "code": "C", "message": "no such thing" } }] });
        let mut value = error.clone();
        assert!(!is_to_be_scrubbed(&value));
        assert_eq!((scrub(&mut value), value), (0, error));
        for mut value in [
            json!({ "message": "secret" }),
            json!({ "code": 1, "message": "secret" }),
            json!({ "code": "C", "message": { "inner": "secret" } }),
            json!({ "code": "C", "message": "secret", "keyId": "k" }),
        ] {
            assert!(is_to_be_scrubbed(&value));
            assert_eq!(scrub(&mut value), 1);
        }
    }

    #[test]
    fn every_listed_name_is_dropped() {
        for name in FORBIDDEN {
            let mut value = json!({ name.to_uppercase(): "x" });
            assert_eq!(scrub(&mut value), 1, "{name}");
        }
    }
}
