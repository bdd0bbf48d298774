//! Errors in words.

use std::error::Error;

/// An error and all its causes in one line, the innermost last: that one says what happened.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn every_cause_is_told() {
        #[derive(Debug, thiserror::Error)]
        #[error("the key was not read")]
        struct NotRead(#[source] io::Error);
        let error = NotRead(io::Error::other("the disk is away"));
        assert_eq!(with_causes(&error), "the key was not read: the disk is away");
    }
}
