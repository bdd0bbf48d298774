//! The canonical form of a request, over which the signature is made.

use super::Parts;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// As [`RESERVED`], and the slash between segments stays.
const RESERVED_IN_PATH: &AsciiSet = &RESERVED.remove(b'/');

/// One text as SigV4 encodes it.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Room for a usual request.
const REQUEST_BYTES: usize = 1024;

/// The canonical request.
pub(super) fn request(
    parts: &Parts<'_>,
    query: &[(String, String)],
    signed_headers: &[impl AsRef<str>],
    payload_hash: &str,
) -> String {
    let mut out = String::with_capacity(REQUEST_BYTES);
    for line in [parts.method, &path(parts.path), &query_string(query)] {
        out.push_str(line);
        out.push('\n');
    }
    for name in signed_headers {
        header_line(&mut out, parts, name.as_ref());
    }
    out.push('\n');
    for (number, name) in signed_headers.iter().enumerate() {
        out.push_str(if number > 0 { ";" } else { "" });
        out.push_str(name.as_ref());
    }
    out.push('\n');
    out.push_str(payload_hash);
    out
}

/// Runs of white space become one space each, and repeated headers one line.
fn header_line(out: &mut String, parts: &Parts<'_>, name: &str) {
    out.push_str(name);
    out.push(':');
    for (number, value) in parts.header_values(name).enumerate() {
        out.push_str(if number > 0 { "," } else { "" });
        for (number, word) in value.split_ascii_whitespace().enumerate() {
            out.push_str(if number > 0 { " " } else { "" });
            out.push_str(word);
        }
    }
    out.push('\n');
}

/// Resolves `.`, `..` and empty segments, then encodes each segment once more.
fn path(received: &str) -> String {
    if received == "/" {
        return received.to_owned();
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in received.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let is_folder = ["/", "/.", "/.."].iter().any(|end| received.ends_with(end));
    let mut out = format!("/{}", segments.join("/"));
    if is_folder && !segments.is_empty() {
        out.push('/');
    }
    utf8_percent_encode(&out, RESERVED_IN_PATH).to_string()
}

/// The parameters of a query string, decoded.
pub(super) fn query_pairs(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// The parameters encoded and sorted by their encoded form.
pub(super) fn query_string(pairs: &[(String, String)]) -> String {
    let mut encoded: Vec<_> = pairs.iter().map(|(k, v)| (encode(k), encode(v))).collect();
    encoded.sort();
    let joined: Vec<String> = encoded.into_iter().map(|(k, v)| format!("{k}={v}")).collect();
    joined.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (received, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/a/../", "/"),
            ("/a/./b/", "/a/b/"),
            ("/a//b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a%20b", "/a%2520b"),
            ("/a b", "/a%20b"),
            ("/../..", "/"),
        ] {
            assert_eq!(path(received), canonical, "{received}");
        }
    }

    #[test]
    fn queries() {
        assert_eq!(
            query_string(&query_pairs("b=2&a=%2f&a=1&c&&d=a+b")),
            "a=%2F&a=1&b=2&c=&d=a%2Bb"
        );
        assert_eq!(query_string(&query_pairs("")), "");
    }
}
