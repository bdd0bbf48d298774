//! Values that stand in files: `file://` is text, `fileb://` is bytes.

use super::super::args::ServerArgs;
use std::path::PathBuf;

/// What a value was read from a file as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Bytes(Vec<u8>),
}

impl Content {
    /// The content as text, whichever way it was read.
    ///
    /// # Errors
    /// Bytes that are no text.
    pub(super) fn into_text(self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Bytes(bytes) => {
                String::from_utf8(bytes).map_err(|_| "the file is no text in UTF-8".to_owned())
            }
        }
    }
}

/// Reads the file that a value names; `None` when it names none.
///
/// # Errors
/// A file that cannot be read, by its name.
pub(super) fn follow(server: &ServerArgs, value: &str) -> Result<Option<Content>, String> {
    if let Some(path) = value.strip_prefix("fileb://") {
        return read(server, path).map(|bytes| Some(Content::Bytes(bytes)));
    }
    let Some(path) = value.strip_prefix("file://") else { return Ok(None) };
    let text = String::from_utf8(read(server, path)?)
        .map_err(|_| format!("{path} is no text in UTF-8: bytes are read with fileb://"))?;
    // The CLI opens it as text, and Python makes every end of a line one of Unix.
    Ok(Some(Content::Text(text.replace("\r\n", "\n").replace('\r', "\n"))))
}

/// The bytes of a file.
///
/// # Errors
/// A file that cannot be read, by its name.
pub(super) fn read(server: &ServerArgs, path: &str) -> Result<Vec<u8>, String> {
    let expanded = expand(server, path)?;
    std::fs::read(&expanded).map_err(|error| format!("{}: {error}", expanded.display()))
}

/// A path with `~` and variables in it, which the shell leaves alone behind `file://`.
fn expand(server: &ServerArgs, path: &str) -> Result<PathBuf, String> {
    let path = match path.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            let home = server.home.as_ref().ok_or_else(|| format!("{path}: HOME is not set"))?;
            format!("{}{rest}", home.display())
        }
        Some(_) => {
            return Err(format!("{path}: homes of others are not looked up, write the path out"));
        }
        None => path.to_owned(),
    };
    Ok(variables(&path, |name| std::env::var_os(name)?.into_string().ok()).into())
}

/// Replaces `$NAME` and `${NAME}` that are set; others stay as they are.
fn variables(path: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let (mut done, mut rest) = (String::new(), path);
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        done.push_str(before);
        let (name, length) = match from.strip_prefix("${").and_then(|name| name.split_once('}')) {
            Some((name, _)) => (name, name.len() + 3),
            None => {
                let name = &from[1..];
                let end = name.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
                let name = &name[..end.unwrap_or(name.len())];
                (name, name.len() + 1)
            }
        };
        let (written, after) = from.split_at(length);
        match value(name).filter(|_| !name.is_empty()) {
            Some(value) => done.push_str(&value),
            None => done.push_str(written),
        }
        rest = after;
    }
    done + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_are_set_are_replaced() {
        let value = |name: &str| (name == "A_1").then(|| "x".to_owned());
        for (path, expected) in [
            ("/a/b", "/a/b"),
            ("$A_1/b", "x/b"),
            ("/${A_1}b/$B/${B}$", "/xb/$B/${B}$"),
            ("${A_1", "${A_1"),
            ("$$A_1", "$x"),
        ] {
            assert_eq!(variables(path, value), expected, "{path}");
        }
    }
}
