//! Which words of a command belong to which option, as the CLI's argparse divides them.
//!
//! The CLI divides three times: its own options are taken out wherever they stand, then the service and the
//! operation are found among what is left, then the operation's options. A list therefore goes on behind an
//! option of the CLI that stands in its middle.

use crate::exit::Failure;

/// How many words an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    /// None: a flag.
    None,
    /// One.
    One,
    /// All up to the next option, or none.
    Any,
}

/// An option, without its dashes, and its words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken<'a> {
    pub(super) option: &'a str,
    pub(super) words: Vec<&'a str>,
}

/// Takes out the options that have an arity. What is left stays in its order.
///
/// # Errors
/// An option with too few or too many words.
pub(super) fn divide<'a>(
    words: &[&'a str],
    arity: impl Fn(&str) -> Option<Arity>,
) -> Result<(Vec<Taken<'a>>, Vec<&'a str>), Failure> {
    let known = |word: &str| word.strip_prefix("--").is_some_and(|name| arity(name).is_some());
    let (mut taken, mut left) = (Vec::new(), Vec::new());
    let mut words = words.iter().copied().peekable();
    while let Some(word) = words.next() {
        let body = word.strip_prefix("--").unwrap_or_default();
        let (option, attached) = match body.split_once('=') {
            Some((option, value)) if arity(body).is_none() => (option, Some(value)),
            _ => (body, None),
        };
        let Some(arity) = arity(option) else {
            left.push(word);
            continue;
        };
        let mut values = Vec::new();
        match (arity, attached) {
            (Arity::None, None) => {}
            (Arity::None, Some(value)) => {
                let message = format!("--{option} takes no value, and '{value}' is one");
                return Err(Failure::failed(message));
            }
            // What is attached is the only word, of a list too.
            (Arity::One | Arity::Any, Some(value)) => values.push(value),
            (Arity::One, None) => match words.next_if(|word| !is_option(word, known)) {
                Some(value) => values.push(value),
                None => return Err(Failure::failed(format!("--{option}: expected one value"))),
            },
            (Arity::Any, None) => {
                while let Some(value) = words.next_if(|word| !is_option(word, known)) {
                    values.push(value);
                }
            }
        }
        taken.push(Taken { option, words: values });
    }
    Ok((taken, left))
}

/// Takes out the first word that is no option: a service, an operation.
pub(super) fn name<'a>(words: &mut Vec<&'a str>) -> Option<&'a str> {
    let at = words.iter().position(|word| !is_option(word, |_| false))?;
    Some(words.remove(at))
}

/// Whether argparse takes a word for an option. Text with a space in it and negative numbers are values,
/// unless they begin with an option that is known.
pub(super) fn is_option(word: &str, known: impl Fn(&str) -> bool) -> bool {
    if !word.starts_with('-') || word == "-" {
        return false;
    }
    if known(word) || word.split_once('=').is_some_and(|(option, _)| known(option)) {
        return true;
    }
    !is_negative(word) && !word.contains(' ')
}

/// Whether a word is `-1`, `-1.5` or `-.5`.
fn is_negative(word: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match word[1..].split_once('.') {
        Some((whole, fraction)) => digits(whole) && !fraction.is_empty() && digits(fraction),
        None => digits(&word[1..]),
    }
}
