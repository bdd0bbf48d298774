//! Where the statements of a policy stand in its text, as the policy simulator of IAM tells it.
//!
//! How it counts is known from its replies only (AWS CLI reference, `simulate-custom-policy` and
//! `simulate-principal-policy`; published replies for policies of two statements): its positions are those
//! of a reader that has just read something. A statement ends right behind its `}`. It starts where the
//! reader was before it: behind the `[`, or behind the `}` of the statement before it, so with the comma
//! and the space between them. Before a statement that stands in no list, the reader has its `{` already.

/// A place in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line, from one.
    pub line: u32,
    /// The character in the line, from one.
    pub column: u32,
}

/// From where to where a statement reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Where it starts.
    pub start: Position,
    /// The first place behind it.
    pub end: Position,
}

/// The spans of the objects that a member of a document is, or is a list of. The member is named by its
/// number, because its name may be written with escapes. The text has to be a JSON object.
pub(crate) fn of_objects(text: &str, member: usize) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut reader = Reader { at: Position { line: 1, column: 1 }, after_return: false };
    let mut start = reader.at;
    // The depth at which the objects stand: a list is one level more.
    let (mut depth, mut outside, mut members) = (0, 1, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        reader.pass(byte);
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth == 2 && members == member {
                    outside = if byte == b'[' { 2 } else { 1 };
                    start = reader.at;
                }
            }
            b'}' | b']' => {
                depth -= 1;
                if byte == b'}' && depth == outside && members == member {
                    spans.push(Span { start, end: reader.at });
                    start = reader.at;
                }
            }
            b',' if depth == 1 => members += 1,
            _ => {}
        }
    }
    spans
}

/// Counts lines and characters.
struct Reader {
    /// Behind what was read.
    at: Position,
    /// A line feed behind a carriage return ends no other line.
    after_return: bool,
}

impl Reader {
    fn pass(&mut self, byte: u8) {
        match byte {
            b'\n' if self.after_return => {}
            b'\n' | b'\r' => self.at = Position { line: self.at.line + 1, column: 1 },
            // The bytes of a character behind its first one.
            0x80..=0xbf => {}
            _ => self.at.column += 1,
        }
        self.after_return = byte == b'\r';
    }
}

#[cfg(test)]
mod tests {
    use crate::{Policy, PolicyKind};

    const STATEMENT: &str = r#"{"Effect":"Allow","Action":"s3:*","Resource":"*"}"#;

    /// Line and column of the start, then of the end.
    fn spans(text: &str) -> Vec<[u32; 4]> {
        let policy = Policy::parse(text, PolicyKind::Identity).unwrap();
        assert_eq!(policy.spans().len(), policy.statements.len());
        let spans = policy.spans().iter();
        spans.map(|s| [s.start.line, s.start.column, s.end.line, s.end.column]).collect()
    }

    #[test]
    fn the_samples_of_the_command_line_reference() {
        let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"dynamodb:*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2018-08-16T12:00:00Z"}}}}"#;
        assert_eq!(spans(text), [[1, 38, 1, 167]]);
        let text = r#"{
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "codecommit:ListRepositories",
            "Resource": "*",
            "Sid": "a"
        }
    ]
}"#;
        assert_eq!(spans(text), [[3, 19, 9, 10]]);
    }

    #[test]
    fn a_statement_starts_where_the_one_before_it_ends() {
        let text = format!(r#"{{"Version":"2012-10-17","Statement":[{STATEMENT}, {STATEMENT}]}}"#);
        let length = u32::try_from(STATEMENT.len()).unwrap();
        let first = 38 + length;
        assert_eq!(spans(&text), [[1, 38, 1, first], [1, first, 1, first + 2 + length]]);
    }

    #[test]
    fn only_the_member_is_looked_at_however_it_is_written() {
        let text = format!(
            r#"{{"Id":"a{{[\"\\","St\u0061tement":[{}],"Version":"2012-10-17"}}"#,
            STATEMENT.replace("s3:*", r#"s3:Get}]\"{"#)
        );
        let start = u32::try_from(text.find("[{\"Effect").unwrap() + 2).unwrap();
        let end = u32::try_from(text.rfind("],\"Version").unwrap() + 1).unwrap();
        assert_eq!(spans(&text), [[1, start, 1, end]]);
    }

    #[test]
    fn characters_are_counted_and_every_kind_of_line_end() {
        let text = format!("{{\"Id\":\"é\",\"Statement\":{STATEMENT}}}");
        assert_eq!(spans(&text)[0][..2], [1, 24]);
        let text = format!("{{\r\n\r\"Statement\":\n\n{STATEMENT}\r\n}}");
        let end = u32::try_from(STATEMENT.len()).unwrap() + 1;
        assert_eq!(spans(&text), [[5, 2, 5, end]]);
    }
}
