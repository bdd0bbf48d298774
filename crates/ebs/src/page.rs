//! Pages of a `Describe*` answer: keyset pagination with opaque, self-checking tokens.
//!
//! A token names the last item shown and a digest of the query it belongs to. It grants nothing,
//! so it is checked, not signed: a token of another query is refused because it would silently
//! skip items.

use std::fmt::Write as _;

/// The token is damaged or belongs to another query. Code `InvalidNextToken`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The token is not valid for this request.")]
pub struct BadToken;

/// One page and the token of the next.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// At most as many items as were asked for.
    pub items: Vec<T>,
    /// Present when there are more.
    pub next_token: Option<String>,
}

/// Cuts a page out of `items`, which are sorted by `key` and unique in it.
///
/// `query` is any text that is equal exactly for equal filters and selectors. Without a `limit`
/// everything after the token is the page.
///
/// # Errors
/// When the token was not made by this query.
pub fn paginate<T>(
    items: Vec<T>,
    key: impl Fn(&T) -> &str,
    query: &str,
    token: Option<&str>,
    limit: Option<usize>,
) -> Result<Page<T>, BadToken> {
    let after = token.map(|token| open_token(token, query)).transpose()?;
    let mut rest: Vec<T> = match &after {
        Some(last) => items.into_iter().filter(|item| key(item) > last.as_str()).collect(),
        None => items,
    };
    let limit = limit.unwrap_or(rest.len());
    let more = rest.len() > limit;
    rest.truncate(limit);
    let next_token = rest.last().filter(|_| more).map(|last| make_token(key(last), query));
    Ok(Page { items: rest, next_token })
}

fn make_token(last: &str, query: &str) -> String {
    let mut token = format!("{:016x}", digest(&[query.as_bytes(), last.as_bytes()]));
    for byte in last.bytes() {
        write!(token, "{byte:02x}").expect("writing to a string cannot fail");
    }
    token
}

fn open_token(token: &str, query: &str) -> Result<String, BadToken> {
    let (_, last) = token.split_at_checked(16).ok_or(BadToken)?;
    let digits = last.as_bytes();
    if digits.len() % 2 != 0 {
        return Err(BadToken);
    }
    let bytes = digits
        .chunks(2)
        .map(|pair| {
            let text = std::str::from_utf8(pair).map_err(|_| BadToken)?;
            u8::from_str_radix(text, 16).map_err(|_| BadToken)
        })
        .collect::<Result<Vec<u8>, BadToken>>()?;
    let last = String::from_utf8(bytes).map_err(|_| BadToken)?;
    // Compared as texts: `+` and capitals would be other ways to write the same numbers.
    if make_token(&last, query) == token { Ok(last) } else { Err(BadToken) }
}

/// FNV-1a over parts with their lengths: stable between releases, unlike the standard hasher.
pub(crate) fn digest(parts: &[&[u8]]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut eat = |byte: u8| state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        (part.len() as u64).to_le_bytes().into_iter().for_each(&mut eat);
        part.iter().copied().for_each(&mut eat);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(limit: usize) -> Vec<String> {
        let items: Vec<String> = (0..7).map(|n| format!("vol-{n}")).collect();
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let page = paginate(items.clone(), |s| s.as_str(), "q", token.as_deref(), Some(limit))
                .unwrap();
            assert!(page.items.len() <= limit);
            seen.extend(page.items);
            match page.next_token {
                Some(next) => token = Some(next),
                None => return seen,
            }
        }
    }

    #[test]
    fn pages_add_up_to_the_whole() {
        for limit in 1..9 {
            assert_eq!(walk(limit).len(), 7, "{limit}");
        }
    }

    #[test]
    fn foreign_and_damaged_tokens_are_refused() {
        let items = vec!["a".to_owned(), "b".to_owned()];
        let page = paginate(items.clone(), |s| s.as_str(), "q", None, Some(1)).unwrap();
        let token = page.next_token.unwrap();
        let try_token = |query: &str, token: &str| {
            paginate(items.clone(), |s| s.as_str(), query, Some(token), Some(1)).map(|p| p.items)
        };
        assert_eq!(try_token("q", &token), Ok(vec!["b".to_owned()]));
        assert_eq!(try_token("other", &token), Err(BadToken));
        let capitals = token.to_uppercase();
        for bad in ["", "x", "zzzzzzzzzzzzzzzz61", &token[..17], "é00000000000000061", &capitals] {
            assert_eq!(try_token("q", bad), Err(BadToken), "{bad}");
        }
    }
}
