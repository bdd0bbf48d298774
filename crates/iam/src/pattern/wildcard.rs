//! Whether a text fits a pattern of literals, `*` and `?`, in time that no pattern can blow up.
//!
//! Between two stars, the first place where the piece fits is as good as any later one, so the pieces
//! are looked for one after the other and nothing is ever taken back. A piece is looked for by moving
//! the set of its prefixes that end here along the text, 64 prefixes to a word. The whole costs
//! `text × (1 + longest piece / 64) + pattern` steps at most, whatever stands in either.

use super::Token;
use std::collections::HashMap;

/// Whether the whole text fits; `steps` counts the work.
pub(super) fn fits(pattern: &[Token], text: &[u16], steps: &mut usize) -> bool {
    let mut pieces = pattern.split(|token| *token == Token::Star);
    let first = pieces.next().unwrap_or_default();
    let pieces: Vec<&[Token]> = pieces.collect();
    let Some((last, middle)) = pieces.split_last() else {
        return first.len() == text.len() && fits_at(first, text, steps);
    };
    // What precedes the first star and what follows the last one stand at the ends.
    if text.len() < first.len() + last.len()
        || !fits_at(first, text, steps)
        || !fits_at(last, &text[text.len() - last.len()..], steps)
    {
        return false;
    }
    let mut rest = &text[first.len()..text.len() - last.len()];
    for piece in middle.iter().filter(|piece| !piece.is_empty()) {
        match end_of_first(piece, rest, steps) {
            Some(end) => rest = &rest[end..],
            None => return false,
        }
    }
    true
}

/// Whether a text begins with a piece.
fn fits_at(piece: &[Token], text: &[u16], steps: &mut usize) -> bool {
    piece.iter().zip(text).all(|(token, unit)| {
        *steps += 1;
        match token {
            Token::Unit(wanted) => wanted == unit,
            Token::Question => true,
            Token::Star => false,
        }
    })
}

/// Where the first occurrence of a piece ends.
fn end_of_first(piece: &[Token], text: &[u16], steps: &mut usize) -> Option<usize> {
    let words = piece.len().div_ceil(64);
    // By unit: at which places of the piece it may stand.
    let mut anything = vec![0u64; words];
    let mut places: HashMap<u16, Vec<u64>> = HashMap::new();
    for (at, token) in piece.iter().enumerate() {
        *steps += 1;
        let bit = 1 << (at % 64);
        match token {
            Token::Unit(unit) => {
                places.entry(*unit).or_insert_with(|| vec![0; words])[at / 64] |= bit;
            }
            Token::Question | Token::Star => anything[at / 64] |= bit,
        }
    }
    let (last_word, last_bit) = ((piece.len() - 1) / 64, 1 << ((piece.len() - 1) % 64));
    let mut prefixes = vec![0u64; words];
    for (at, unit) in text.iter().enumerate() {
        let here = places.get(unit);
        // The empty prefix ends everywhere.
        let mut carried = 1;
        for word in 0..words {
            *steps += 1;
            let fitting = anything[word] | here.map_or(0, |places| places[word]);
            let moved = prefixes[word] << 1 | carried;
            carried = prefixes[word] >> 63;
            prefixes[word] = moved & fitting;
        }
        if prefixes[last_word] & last_bit != 0 {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(pattern: &str) -> Vec<Token> {
        let token = |unit: u16| match unit {
            0x2a => Token::Star,
            0x3f => Token::Question,
            unit => Token::Unit(unit),
        };
        pattern.encode_utf16().map(token).collect()
    }

    /// Whether it fits, and in how many steps.
    fn count(pattern: &str, text: &str) -> (bool, usize) {
        let mut steps = 0;
        let units: Vec<u16> = text.encode_utf16().collect();
        (fits(&tokens(pattern), &units, &mut steps), steps)
    }

    /// The longest texts a policy may have against patterns made to be slow.
    #[test]
    fn hostile_patterns_take_no_more_steps_than_promised() {
        const LENGTH: usize = 8192;
        let text = "a".repeat(LENGTH);
        let half = LENGTH / 2;
        for pattern in [
            "*a".repeat(half),
            format!("{}b", "*a".repeat(half - 1)),
            format!("*{}b*", "a".repeat(LENGTH - 3)),
            format!("*{}b*", "a".repeat(half)),
            format!("*{}b*", "?".repeat(half)),
            format!("*{}*b", "a?".repeat(half / 2)),
            "?*".repeat(half),
            "*".repeat(LENGTH),
            format!("{}*", "a".repeat(LENGTH - 1)),
        ] {
            let longest = pattern.split('*').map(str::len).max().unwrap_or(0);
            let promised = LENGTH * (1 + longest.div_ceil(64)) + pattern.len();
            let (_, steps) = count(&pattern, &text);
            assert!(steps <= promised, "{steps} > {promised}: {}…", &pattern[..8]);
        }
        // A text of pieces that almost fit, again and again.
        let text = format!("{}b", "aaab".repeat(LENGTH / 4 - 1));
        let (fit, steps) = count(&format!("*{}c*", "aaab".repeat(64)), &text);
        assert!(!fit && steps <= LENGTH * 6 + 512, "{steps}");
    }

    #[test]
    fn pieces_longer_than_a_word_are_found() {
        for length in [1, 63, 64, 65, 127, 128, 129, 200] {
            let piece: String = (0..length).map(|i| char::from(b'a' + (i % 7) as u8)).collect();
            let text = format!("xx{piece}yy");
            assert!(count(&format!("*{piece}*"), &text).0, "{length}");
            assert!(count(&format!("x*{piece}*y"), &text).0, "{length}");
            assert!(!count(&format!("*{piece}z*"), &text).0, "{length}");
            assert!(count(&format!("*{}*", "?".repeat(length)), &text).0, "{length}");
        }
    }
}
