//! The CLI's shorthand: `Key=a,Value=b`, `Name=x,Values=a,b`, `Tags=[{Key=a,Value=b}]`, `Key='a,b'`, `Key@=file://f`.
//!
//! It is read without a schema, as the CLI reads it: `a=b,c` is a list of two, and `a=b,c=d` two members, whatever
//! the members are. The grammar is that of `awscli.shorthand`, with its way of going back to the last comma when what
//! it took for an item turns out to be a key.

use super::file::Content;

/// What is written in shorthand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Text(String),
    /// Of `Key@=fileb://f`.
    Bytes(Vec<u8>),
    List(Vec<Node>),
    Object(Vec<(String, Node)>),
}

/// Reads a text as members. `follow` reads the files that values behind `@=` name.
///
/// # Errors
/// Where the text is no shorthand, or a file that cannot be read.
pub(super) fn parse(
    text: &str,
    follow: impl Fn(&str) -> Result<Option<Content>, String>,
) -> Result<Node, String> {
    let mut parser = Parser { input: text.chars().collect(), at: 0, follow };
    parser.members().map_err(|error| match error {
        Stop::Syntax(message) | Stop::File(message) => message,
    })
}

/// Why reading stops. The first is tried again from the last comma.
enum Stop {
    Syntax(String),
    File(String),
}

/// Whether a value names a file, as `@=` says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Files {
    Follow,
    Keep,
}

struct Parser<F> {
    input: Vec<char>,
    at: usize,
    follow: F,
}

impl<F: Fn(&str) -> Result<Option<Content>, String>> Parser<F> {
    /// `member,member,…` up to the end.
    fn members(&mut self) -> Result<Node, Stop> {
        let mut members: Vec<(String, Node)> = Vec::new();
        loop {
            let (key, files) = self.key()?;
            let value = self.values(files)?;
            if members.iter().any(|(other, _)| *other == key) {
                let message = format!("{key} stands twice; items of a list are divided by spaces");
                return Err(Stop::Syntax(message));
            }
            members.push((key, value));
            if self.current().is_none() {
                return Ok(Node::Object(members));
            }
            self.expect(',')?;
        }
    }

    /// `Key=` or `Key@=`.
    fn key(&mut self) -> Result<(String, Files), Stop> {
        let start = self.at;
        while self.current().is_some_and(|c| c.is_ascii_alphanumeric() || "-_.#/:".contains(c)) {
            self.at += 1;
        }
        let key: String = self.input[start..self.at].iter().collect();
        self.whitespace();
        let files = if self.current() == Some('@') {
            self.at += 1;
            Files::Follow
        } else {
            Files::Keep
        };
        self.expect('=')?;
        Ok((key, files))
    }

    /// What stands behind the `=` of a member: the only place where a list has no brackets.
    fn values(&mut self, files: Files) -> Result<Node, Stop> {
        match self.current() {
            None => Ok(Node::Text(String::new())),
            Some('[') => self.list(files),
            Some('{') => self.object(),
            Some(_) => self.comma_separated(files),
        }
    }

    fn comma_separated(&mut self, files: Files) -> Result<Node, Stop> {
        let first = self.first_value(files)?;
        self.whitespace();
        if self.current() != Some(',') {
            return Ok(first);
        }
        self.expect(',')?;
        let mut items = vec![first];
        loop {
            match self.item(files) {
                Ok((item, Last::No)) => items.push(item),
                Ok((item, Last::Yes)) => {
                    items.push(item);
                    break;
                }
                Err(Stop::Syntax(_)) if self.current().is_some() => {
                    // What follows the last comma is a key.
                    while self.input[self.at] != ',' {
                        self.at -= 1;
                    }
                    break;
                }
                Err(stop) => return Err(stop),
            }
        }
        if items.len() == 1 {
            return Ok(items.remove(0));
        }
        Ok(Node::List(items))
    }

    /// An item behind the first, and whether the text ends with it.
    fn item(&mut self, files: Files) -> Result<(Node, Last), Stop> {
        let item = match self.current() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote, files)?,
            _ => {
                let word = self.word(|c| !matches!(c, '"' | '\'' | ',' | '='));
                let word = word.ok_or_else(|| self.unexpected("a value"))?;
                self.resolved(word, files)?
            }
        };
        self.whitespace();
        if self.current().is_none() {
            return Ok((item, Last::Yes));
        }
        self.expect(',')?;
        Ok((item, Last::No))
    }

    /// `[value,value,…]`
    fn list(&mut self, files: Files) -> Result<Node, Stop> {
        self.expect('[')?;
        let mut items = Vec::new();
        while self.current() != Some(']') {
            items.push(self.nested(files)?);
            self.between(']')?;
        }
        self.at += 1;
        Ok(Node::List(items))
    }

    /// `{Key=value,Key=value,…}`, in which the last of two keys counts.
    fn object(&mut self) -> Result<Node, Stop> {
        self.expect('{')?;
        let mut members: Vec<(String, Node)> = Vec::new();
        while self.current() != Some('}') {
            let (key, files) = self.key()?;
            let value = self.nested(files)?;
            self.between('}')?;
            members.retain(|(other, _)| *other != key);
            members.push((key, value));
        }
        self.at += 1;
        Ok(Node::Object(members))
    }

    /// The comma behind an item, which the last has none of.
    fn between(&mut self, end: char) -> Result<(), Stop> {
        self.whitespace();
        if self.current() == Some(end) { Ok(()) } else { self.expect(',') }
    }

    fn nested(&mut self, files: Files) -> Result<Node, Stop> {
        match self.current() {
            Some('[') => self.list(files),
            Some('{') => self.object(),
            _ => self.first_value(files),
        }
    }

    fn first_value(&mut self, files: Files) -> Result<Node, Stop> {
        match self.current() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote, files),
            _ => {
                let word = self.word(|c| !matches!(c, '"' | '\'' | ',' | ']' | '}'));
                self.resolved(word.unwrap_or_default(), files)
            }
        }
    }

    /// A word without quotes; `\,` in it is a comma. `None` when none begins here.
    fn word(&mut self, goes_on: fn(char) -> bool) -> Option<String> {
        let begins =
            |c: char| !c.is_whitespace() && !matches!(c, '"' | '\'' | ',' | '=' | '[' | '{');
        let mut word = String::new();
        while let Some(c) = self.current() {
            if c == '\\' && self.input.get(self.at + 1) == Some(&',') {
                word.push(',');
                self.at += 2;
                continue;
            }
            let fits = if word.is_empty() { begins(c) } else { goes_on(c) };
            if !fits {
                break;
            }
            word.push(c);
            self.at += 1;
        }
        (!word.is_empty()).then(|| word.trim_end().to_owned())
    }

    /// Text in quotes, in which a backslash stands before a quote or another backslash.
    fn quoted(&mut self, quote: char, files: Files) -> Result<Node, Stop> {
        let rest = &self.input[self.at + 1..];
        let (mut end, mut escaped, mut at) = (None, None, 0);
        while at < rest.len() {
            if rest[at] == '\\' && rest.get(at + 1) == Some(&quote) {
                escaped = Some(at + 1);
                at += 1;
            } else if rest[at] == quote {
                end = Some(at);
                break;
            }
            at += 1;
        }
        // A text that ends with a backslash: the quote behind it is the last there is.
        let Some(end) = end.or(escaped) else {
            return Err(self.unexpected("a closing quote"));
        };
        let text: String = rest[..end].iter().collect();
        self.at += end + 2;
        let text = text.replace(&format!("\\{quote}"), &quote.to_string()).replace("\\\\", "\\");
        self.resolved(text, files)
    }

    fn resolved(&self, text: String, files: Files) -> Result<Node, Stop> {
        if files == Files::Keep {
            return Ok(Node::Text(text));
        }
        Ok(match (self.follow)(&text).map_err(Stop::File)? {
            Some(Content::Text(text)) => Node::Text(text),
            Some(Content::Bytes(bytes)) => Node::Bytes(bytes),
            None => Node::Text(text),
        })
    }

    fn current(&self) -> Option<char> {
        self.input.get(self.at).copied()
    }

    fn whitespace(&mut self) {
        while self.current().is_some_and(|c| c.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// A character, with space around it.
    fn expect(&mut self, expected: char) -> Result<(), Stop> {
        self.whitespace();
        if self.current() != Some(expected) {
            return Err(self.unexpected(&format!("'{expected}'")));
        }
        self.at += 1;
        self.whitespace();
        Ok(())
    }

    fn unexpected(&self, expected: &str) -> Stop {
        let found = self.current().map_or_else(|| "the end".to_owned(), |c| format!("'{c}'"));
        let place = self.at + 1;
        Stop::Syntax(format!("expected {expected}, found {found} at character {place} of it"))
    }
}

/// Whether an item is the last of its text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Yes,
    No,
}
