//! The CLI pages by itself: of an operation that answers in pages, `--max-items`, `--page-size` and
//! `--starting-token` are the CLI's, and hide members of the operation that have the same names.

use awsproto::{Member, OperationInfo};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// The members with which an operation is asked for one page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages {
    /// Where the page begins.
    pub(super) token: &'static Member,
    /// How long it is.
    pub(super) limit: &'static Member,
}

impl Pages {
    /// How an operation is paged by the CLI, if it is.
    pub(super) fn of(info: &OperationInfo) -> Option<Self> {
        // Botocore describes the pages of every such operation of the services here, but of none of the EBS direct
        // APIs: there the members are asked for by their own names. tests/clients compares them all.
        if info.service == "ebs" {
            return None;
        }
        let one_of = |names: &[&str]| names.iter().find_map(|name| info.input.member(name));
        Some(Self {
            token: one_of(&["NextToken", "Marker"])?,
            limit: one_of(&["MaxResults", "MaxItems", "Limit"])?,
        })
    }
}

/// The operation's token of a `--starting-token`: what the CLI printed as `NextToken`, base64 of JSON, or the
/// operation's own, with the number of items to skip behind it as older versions printed it. The skipping is the
/// CLI's. `None` begins at the first page.
///
/// # Errors
/// A token of several parts, or of bytes.
pub(super) fn starting_token(token: &str, member: &str) -> Result<Option<String>, String> {
    let decoded = STANDARD.decode(token).ok();
    let decoded = decoded.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    if let Some(Value::Object(mut parts)) = decoded {
        parts.remove("boto_truncate_amount");
        return match parts.remove(member) {
            None | Some(Value::Null) if parts.is_empty() => Ok(None),
            Some(Value::String(token)) if parts.is_empty() => Ok(Some(token)),
            _ => Err(format!("it is no token of {member} that the CLI made")),
        };
    }
    let plain = match token.rsplit_once("___") {
        Some((token, skipped)) if skipped.parse::<u64>().is_ok() => token,
        _ => token,
    };
    Ok((plain != "None").then(|| plain.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starting_tokens_are_opened() {
        let made = |json: &str| STANDARD.encode(json);
        for (token, expected) in [
            ("abc".to_owned(), Ok(Some("abc"))),
            ("abc___3".to_owned(), Ok(Some("abc"))),
            ("None___3".to_owned(), Ok(None)),
            (made(r#"{"Marker": "abc"}"#), Ok(Some("abc"))),
            (made(r#"{"Marker": "abc", "boto_truncate_amount": 2}"#), Ok(Some("abc"))),
            (made(r#"{"Marker": null, "boto_truncate_amount": 2}"#), Ok(None)),
            (made(r#"{"NextToken": "abc"}"#), Err(())),
            (made(r#"{"Marker": "abc", "boto_encoded_keys": [["Marker"]]}"#), Err(())),
        ] {
            let found = starting_token(&token, "Marker");
            assert_eq!(found.as_ref().map(Option::as_deref).map_err(drop), expected, "{token}");
        }
    }
}
