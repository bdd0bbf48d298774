//! What was decided about a call, inside of its record.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// JSON that the record carries and does not look into: text once it is written, and not a tree before,
/// because every call has one.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Decisions(Box<RawValue>);

impl Decisions {
    pub(crate) fn new(decisions: &impl Serialize) -> Self {
        let text = serde_json::value::to_raw_value(decisions);
        Self(text.expect("decisions have only text keys and finite numbers"))
    }

    pub(crate) fn text(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for Decisions {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}
