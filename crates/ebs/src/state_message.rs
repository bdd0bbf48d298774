//! Why a snapshot is in the state `error`: AWS's sentence, and with it where to ask why.
//!
//! Both stand in one column. The id is shown to nobody who has not asked for it, because clients
//! compare the sentence.

const BEFORE: &str = " (explain-id ";
const AFTER: &str = ")";

/// A snapshot's `StateMessage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateMessage<'a> {
    /// AWS's sentence.
    pub sentence: &'a str,
    /// The id under which the failure can be explained.
    pub explain_id: Option<&'a str>,
}

impl<'a> StateMessage<'a> {
    /// A sentence and where to ask why.
    pub fn new(sentence: &'a str, explain_id: Option<&'a str>) -> Self {
        Self { sentence, explain_id }
    }

    /// Takes what is stored apart.
    pub fn of_stored(stored: &'a str) -> Self {
        let parts = stored.strip_suffix(AFTER).and_then(|text| text.split_once(BEFORE));
        match parts {
            Some((sentence, id)) => Self { sentence, explain_id: Some(id) },
            None => Self { sentence: stored, explain_id: None },
        }
    }

    /// As it is stored, and as it is shown to whoever asked for ids.
    pub fn stored(&self) -> String {
        match self.explain_id {
            Some(id) => format!("{}{BEFORE}{id}{AFTER}", self.sentence),
            None => self.sentence.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_apart_again() {
        for message in [
            StateMessage::new("Out of reach", None),
            StateMessage::new("Out of reach", Some("d-1")),
        ] {
            assert_eq!(StateMessage::of_stored(&message.stored()), message);
        }
        assert_eq!(StateMessage::of_stored("a (b)").sentence, "a (b)");
    }
}
