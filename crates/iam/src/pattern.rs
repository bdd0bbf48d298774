//! Texts with `*`, `?` and policy variables, and how they match (spec 20, A.5 and A.6).

mod wildcard;

use crate::context::{Keys, Variable};
use std::borrow::Cow;

const STAR: u16 = b'*' as u16;
const QUESTION: u16 = b'?' as u16;

/// One piece of a written pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// What stands between variables: the same for every request, so it is made ready once.
    Fixed(Pattern),
    Variable {
        key: String,
        default: Option<String>,
    },
}

/// A pattern as written in a policy, with its variables not yet replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    written: String,
    /// No two pieces that are fixed stand side by side.
    pieces: Vec<Piece>,
}

/// Which of the special texts a pattern knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Syntax {
    /// `*` and `?` are wildcards; otherwise they stand for themselves.
    pub(crate) wildcards: bool,
    /// `${key}` is replaced. Not in documents of Version 2008-10-17.
    pub(crate) variables: bool,
}

/// One UTF-16 unit of a pattern. `?` consumes one such unit (spec 20, A.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Unit(u16),
    Star,
    Question,
}

/// A pattern whose variables are replaced: ready to match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Token>);

impl Template {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with a policy variable in it.
    pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut fixed = Vec::new();
        let mut rest = text;
        while syntax.variables
            && let Some(at) = rest.find("${")
        {
            push(&mut fixed, &rest[..at], syntax);
            let (variable, after) = parse_variable(&rest[at + 2..])?;
            rest = after;
            match variable {
                Written::Special(unit) => fixed.push(Token::Unit(unit)),
                Written::Key(variable) => {
                    if !fixed.is_empty() {
                        pieces.push(Piece::Fixed(Pattern(std::mem::take(&mut fixed))));
                    }
                    pieces.push(variable);
                }
            }
        }
        push(&mut fixed, rest, syntax);
        if !fixed.is_empty() {
            pieces.push(Piece::Fixed(Pattern(fixed)));
        }
        Ok(Self { written: text.to_owned(), pieces })
    }

    /// The text as it stands in the policy.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Whether the text has a policy variable.
    pub(crate) fn has_variable(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece, Piece::Variable { .. }))
    }

    /// Replaces the variables; `None` when one has neither a value nor a default.
    ///
    /// Replaced text is literal: a `*` in a user's name is no wildcard. A multivalued key never
    /// expands, not even to its default (spec 20, A.6).
    pub(crate) fn resolve(&self, keys: &Keys<'_>) -> Option<Cow<'_, Pattern>> {
        if let [Piece::Fixed(pattern)] = &self.pieces[..] {
            return Some(Cow::Borrowed(pattern));
        }
        let mut tokens = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Fixed(pattern) => tokens.extend_from_slice(&pattern.0),
                Piece::Variable { key, default } => {
                    let text = match keys.variable(key) {
                        Variable::Value(value) => value,
                        Variable::Absent => default.clone()?,
                        Variable::Multivalued => return None,
                    };
                    tokens.extend(text.encode_utf16().map(Token::Unit));
                }
            }
        }
        Some(Cow::Owned(Pattern(tokens)))
    }
}

/// Takes over a text without variables.
fn push(tokens: &mut Vec<Token>, text: &str, syntax: Syntax) {
    tokens.reserve(text.len());
    tokens.extend(text.encode_utf16().map(|unit| match unit {
        STAR if syntax.wildcards => Token::Star,
        QUESTION if syntax.wildcards => Token::Question,
        unit => Token::Unit(unit),
    }));
}

/// What stands between `${` and `}`.
enum Written {
    /// `${*}`, `${?}` or `${$}`: the character itself.
    Special(u16),
    Key(Piece),
}

/// Reads a variable from just after its `${`: what it is, and the text behind its `}`.
fn parse_variable(text: &str) -> Result<(Written, &str), String> {
    let unclosed = || format!("the policy variable '${{{text}' is not closed");
    for special in [b'*', b'?', b'$'] {
        let after = text.strip_prefix(char::from(special)).and_then(|t| t.strip_prefix('}'));
        if let Some(after) = after {
            return Ok((Written::Special(u16::from(special)), after));
        }
    }
    let key_end = text.find(['}', ',']).ok_or_else(unclosed)?;
    let key = text[..key_end].trim();
    if key.is_empty() || key.contains(['$', '{', '*', '?', '\'']) || !key.contains(':') {
        return Err(format!("'{key}' is not a key that a policy variable can name"));
    }
    let rest = &text[key_end..];
    if let Some(after) = rest.strip_prefix('}') {
        let variable = Piece::Variable { key: key.to_owned(), default: None };
        return Ok((Written::Key(variable), after));
    }
    let quoted = rest[1..].trim_start().strip_prefix('\'').ok_or_else(|| {
        format!("the default of the policy variable '{key}' is not in single quotes")
    })?;
    let quote_end = quoted.find('\'').ok_or_else(unclosed)?;
    let after = quoted[quote_end + 1..].trim_start().strip_prefix('}').ok_or_else(unclosed)?;
    let default = Some(quoted[..quote_end].to_owned());
    Ok((Written::Key(Piece::Variable { key: key.to_owned(), default }), after))
}

impl Pattern {
    /// Whether the whole text matches.
    pub(crate) fn matches(&self, text: &str) -> bool {
        if self.0 == [Token::Star] {
            return true;
        }
        if !self.0.contains(&Token::Star) {
            // Unit by unit, without a copy of the text.
            let mut units = text.encode_utf16();
            let same = self.0.iter().all(|token| match (units.next(), token) {
                (Some(unit), Token::Unit(wanted)) => unit == *wanted,
                (Some(_), _) => true,
                (None, _) => false,
            });
            return same && units.next().is_none();
        }
        let units: Vec<u16> = text.encode_utf16().collect();
        wildcard(&self.0, &units)
    }

    /// As [`Pattern::matches`] with both sides in lower case (not Unicode folding; spec 20, A.6).
    pub(crate) fn matches_ignoring_case(&self, text: &str) -> bool {
        let lower: Vec<u16> = text.to_lowercase().encode_utf16().collect();
        let mut tokens = Vec::new();
        let mut run: Vec<u16> = Vec::new();
        for token in self.0.iter().copied().map(Some).chain([None]) {
            if let Some(Token::Unit(unit)) = token {
                run.push(unit);
                continue;
            }
            let text = String::from_utf16_lossy(&run).to_lowercase();
            tokens.extend(text.encode_utf16().map(Token::Unit));
            run.clear();
            tokens.extend(token);
        }
        wildcard(&tokens, &lower)
    }

    /// The six components of an ARN pattern; `None` when there are fewer or it begins otherwise.
    pub(crate) fn split_arn(&self) -> Option<[Pattern; 6]> {
        let colon = Token::Unit(u16::from(b':'));
        let parts: Vec<Pattern> =
            self.0.splitn(6, |token| *token == colon).map(|t| Pattern(t.to_vec())).collect();
        let parts: [Pattern; 6] = parts.try_into().ok()?;
        parts[0].matches("arn").then_some(parts)
    }

    /// The text, with `*` and `?` where wildcards are.
    pub(crate) fn display(&self) -> String {
        let units: Vec<u16> = self
            .0
            .iter()
            .map(|token| match token {
                Token::Unit(unit) => *unit,
                Token::Star => STAR,
                Token::Question => QUESTION,
            })
            .collect();
        String::from_utf16_lossy(&units)
    }
}

/// An action of a statement: case-insensitive, with wildcards and without variables (spec 20, A.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActionPattern {
    written: String,
    pattern: Pattern,
}

impl ActionPattern {
    pub(crate) fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        push(&mut tokens, &text.to_lowercase(), Syntax { wildcards: true, variables: false });
        Self { written: text.to_owned(), pattern: Pattern(tokens) }
    }

    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Whether the action is meant. A pattern's service is literal unless it is a bare `*`.
    pub(crate) fn matches(&self, action: &str) -> bool {
        if self.written == "*" {
            return true;
        }
        let vendor = |text: &str| text.split_once(':').map(|(v, _)| v.to_lowercase());
        vendor(&self.written) == vendor(action) && self.pattern.matches(&action.to_lowercase())
    }
}

fn wildcard(pattern: &[Token], text: &[u16]) -> bool {
    wildcard::fits(pattern, text, &mut 0)
}

/// Splits a text at its first five colons into the six components of an ARN.
pub(crate) fn split_arn(text: &str) -> Option<[&str; 6]> {
    let mut parts = text.splitn(6, ':');
    let mut next = || parts.next();
    let parts = [next()?, next()?, next()?, next()?, next()?, next()?];
    (parts[0] == "arn").then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let syntax = Syntax { wildcards: true, variables: false };
        let template = Template::parse(pattern, syntax).unwrap();
        match &template.pieces[..] {
            [] => text.is_empty(),
            [Piece::Fixed(pattern)] => pattern.matches(text),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn stars_and_questions() {
        for (pattern, text) in [
            ("*", ""),
            ("a*c", "abbbc"),
            ("a*b*c", "a-b-b-c"),
            ("?", "x"),
            ("??", "😀"),
            ("*?", "x"),
            ("", ""),
            ("a**", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("?", ""), ("a*c", "abcd"), ("?", "😀"), ("", "x"), ("a?", "a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn wildcards_agree_with_a_naive_matcher() {
        fn naive(p: &[u8], t: &[u8]) -> bool {
            match p.split_first() {
                None => t.is_empty(),
                Some((b'*', rest)) => (0..=t.len()).any(|i| naive(rest, &t[i..])),
                Some((b'?', rest)) => !t.is_empty() && naive(rest, &t[1..]),
                Some((c, rest)) => t.first() == Some(c) && naive(rest, &t[1..]),
            }
        }
        proptest::proptest!(|(p in "[ab*?]{0,8}", t in "[ab]{0,10}")| {
            assert_eq!(matches(&p, &t), naive(p.as_bytes(), t.as_bytes()));
        });
    }

    #[test]
    fn malformed_variables_say_what_is_wrong() {
        let syntax = Syntax { wildcards: true, variables: true };
        for bad in
            ["${aws:username", "${}", "${user}", "${aws:x, y}", "${aws:x, 'y}", "${aws:x,'y' z}"]
        {
            assert!(Template::parse(bad, syntax).is_err(), "{bad}");
        }
        for good in [
            "${aws:username}",
            "${aws:x, 'y z'}",
            "${*}${?}${$}",
            "$x{}",
            "${aws:PrincipalTag/a b}",
        ] {
            assert!(Template::parse(good, syntax).is_ok(), "{good}");
        }
    }
}
