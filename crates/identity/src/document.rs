//! Policy documents: checked where they are saved, parsed once for evaluation.

use crate::error::{Error, Result};
use iam::{Policy, PolicyKind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Bytes that count towards a quota: all but white space (IAM guide, "IAM quotas").
pub(crate) fn quota_bytes(document: &str) -> usize {
    document.chars().filter(|c| !c.is_whitespace()).map(char::len_utf8).sum()
}

/// Parses a document that is to be saved.
///
/// # Errors
/// [`Error::MalformedPolicy`].
pub(crate) fn check(document: &str, kind: PolicyKind) -> Result<Policy> {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
    if !document.chars().all(legal) {
        return Err(Error::MalformedPolicy {
            message:
                "The policy document contains characters outside of U+0020 to U+00FF, tab and \
                      line breaks."
                    .to_owned(),
        });
    }
    Policy::parse(document, kind)
        .map_err(|error| Error::MalformedPolicy { message: error.to_string() })
}

/// Parsed policies by their whole text. A changed policy has another text, so nothing here can be
/// stale.
#[derive(Default)]
pub(crate) struct Parsed(Mutex<HashMap<(PolicyKind, String), Arc<Policy>>>);

/// Policies kept parsed; when there are more, all are forgotten.
const PARSED_MAX: usize = 4096;

impl Parsed {
    /// The policy of a text that was checked when it was saved.
    pub(crate) fn get(&self, kind: PolicyKind, document: &str) -> Result<Arc<Policy>> {
        let key = (kind, document.to_owned());
        let lock = || self.0.lock().expect("no code panics while it holds the policies");
        if let Some(policy) = lock().get(&key) {
            return Ok(Arc::clone(policy));
        }
        let policy = Policy::parse(document, kind).map_err(|_| Error::damaged("a policy"))?;
        let policy = Arc::new(policy);
        let mut parsed = lock();
        if parsed.len() >= PARSED_MAX {
            parsed.clear();
        }
        parsed.insert(key, Arc::clone(&policy));
        Ok(policy)
    }
}
