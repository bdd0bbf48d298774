//! `--seal SOURCE`: what unseals the root of trust, as the command line writes it.

mod kms;
mod offered;

pub(crate) use offered::OfferedToken;

use ::kms::seal::{Argon2Cost, Provider, TokenKey};
use ::kms::token::TokenName;
use clap::Args;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Label of the key on a token when none is given.
const TOKEN_KEY: &str = "strongroom-root";

/// What unseals, for every command that opens a data directory.
#[derive(Args, Clone, Default)]
pub(crate) struct SealArgs {
    /// What unseals the root of trust [default: key-file:DIR/seal.key]:
    ///
    /// key-file:FILE (32 bytes; made when the data directory is new),
    /// passphrase:FILE (stretched with Argon2id),
    /// pkcs11:token=LABEL[;object=KEY]?module-path=FILE&pin-source=FILE (a key on a token, RFC 7512),
    /// kms:KEY-ARN[?endpoint=URL&credentials=FILE&ca=FILE] (a key of another KMS, AWS's unless an
    /// endpoint is given; without a file the credentials are AWS_ACCESS_KEY_ID and its kin).
    #[arg(long, value_name = "SOURCE", value_parser = SealSource::parse,
          conflicts_with_all = ["seal_key_file", "seal_passphrase_file"])]
    pub(crate) seal: Option<SealSource>,
    /// The same as --seal key-file:FILE.
    #[arg(long, value_name = "FILE", conflicts_with = "seal_passphrase_file")]
    pub(crate) seal_key_file: Option<PathBuf>,
    /// The same as --seal passphrase:FILE.
    #[arg(long, value_name = "FILE")]
    pub(crate) seal_passphrase_file: Option<PathBuf>,
}

impl SealArgs {
    /// The source for a data directory.
    pub(crate) fn source(&self, data_dir: &Path) -> SealSource {
        match (&self.seal, &self.seal_key_file, &self.seal_passphrase_file) {
            (Some(source), _, _) => source.clone(),
            (_, Some(file), _) => SealSource::KeyFile { file: file.clone() },
            (_, _, Some(file)) => SealSource::Passphrase { file: file.clone() },
            (None, None, None) => SealSource::KeyFile { file: data_dir.join("seal.key") },
        }
    }
}

/// A source, parsed. It travels to a running server as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum SealSource {
    KeyFile { file: PathBuf },
    Passphrase { file: PathBuf },
    Token { module: PathBuf, token: String, key: String, pin_file: PathBuf },
    Kms { key: String, endpoint: Option<String>, credentials: Option<PathBuf>, ca: Option<PathBuf> },
}

impl SealSource {
    /// Reads a source.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let form = "write key-file:FILE, passphrase:FILE, pkcs11:… or kms:…";
        let (kind, rest) = text.split_once(':').ok_or_else(|| format!("'{text}': {form}"))?;
        if rest.is_empty() {
            return Err(format!("'{text}' names nothing: {form}"));
        }
        match kind {
            "key-file" => Ok(Self::KeyFile { file: rest.into() }),
            "passphrase" => Ok(Self::Passphrase { file: rest.into() }),
            "pkcs11" => token(rest),
            "kms" => kms_key(rest),
            _ => Err(format!("'{kind}' is no kind of seal: {form}")),
        }
    }

    /// The same with paths that do not depend on where a process was started.
    pub(crate) fn absolute(self) -> std::io::Result<Self> {
        let absolute = |path: PathBuf| std::path::absolute(path);
        Ok(match self {
            Self::KeyFile { file } => Self::KeyFile { file: absolute(file)? },
            Self::Passphrase { file } => Self::Passphrase { file: absolute(file)? },
            Self::Token { module, token, key, pin_file } => {
                Self::Token { module: absolute(module)?, token, key, pin_file: absolute(pin_file)? }
            }
            Self::Kms { key, endpoint, credentials, ca } => Self::Kms {
                key,
                endpoint,
                credentials: credentials.map(absolute).transpose()?,
                ca: ca.map(absolute).transpose()?,
            },
        })
    }

    /// The provider; reads credentials, connects to nothing yet.
    pub(crate) fn provider(&self) -> Result<Provider, String> {
        Ok(match self.clone() {
            Self::KeyFile { file } => Provider::KeyFile(file),
            Self::Passphrase { file } => Provider::Passphrase { file, cost: Argon2Cost::RFC_9106 },
            Self::Token { module, token, key, pin_file } => {
                let token = TokenName { module, label: token };
                Provider::Token(TokenKey { token, key, pin_file })
            }
            Self::Kms { key, endpoint, credentials, ca } => {
                let at = kms::Reach { endpoint, credentials, ca };
                Provider::RemoteKms { kms: Arc::new(kms::KmsEndpoint::new(&key, &at)?), key }
            }
        })
    }
}

/// The attributes of a URI: `name=value` with a separator, percent-encoded.
fn attributes(text: &str, separator: char) -> Result<Vec<(&str, String)>, String> {
    let parts = text.split(separator).filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) =
                part.split_once('=').ok_or_else(|| format!("'{part}' is not name=value"))?;
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| format!("'{part}' is not UTF-8"))?;
            Ok((name, value.into_owned()))
        })
        .collect()
}

/// RFC 7512, as far as it names a key on a token and how to log in.
fn token(rest: &str) -> Result<SealSource, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut token, mut key, mut module, mut pin) = (None, None, None, None);
    for (name, value) in attributes(path, ';')? {
        match name {
            "token" => token = Some(value),
            "object" => key = Some(value),
            // Says what is the case anyway.
            "type" if value == "secret-key" => {}
            _ => return Err(format!("pkcs11: the attribute {name} is not supported")),
        }
    }
    for (name, value) in attributes(query, '&')? {
        match name {
            "module-path" => module = Some(PathBuf::from(value)),
            "pin-source" => {
                pin = Some(PathBuf::from(value.strip_prefix("file:").unwrap_or(&value)))
            }
            "pin-value" => {
                return Err("pkcs11: a PIN on the command line is seen by everyone on this \
                            machine; put it in a file and write pin-source=FILE"
                    .to_owned());
            }
            _ => return Err(format!("pkcs11: the attribute {name} is not supported")),
        }
    }
    let needed = |name: &str| format!("pkcs11: {name} is missing");
    Ok(SealSource::Token {
        token: token.ok_or_else(|| needed("token=LABEL"))?,
        key: key.unwrap_or_else(|| TOKEN_KEY.to_owned()),
        module: module.ok_or_else(|| needed("module-path=FILE"))?,
        pin_file: pin.ok_or_else(|| needed("pin-source=FILE"))?,
    })
}

fn kms_key(rest: &str) -> Result<SealSource, String> {
    let (key, query) = rest.split_once('?').unwrap_or((rest, ""));
    kms::region_of(key)?;
    let (mut endpoint, mut credentials, mut ca) = (None, None, None);
    for (name, value) in attributes(query, '&')? {
        match name {
            "endpoint" => endpoint = Some(value),
            "credentials" => credentials = Some(PathBuf::from(value)),
            "ca" => ca = Some(PathBuf::from(value)),
            _ => return Err(format!("kms: there is no attribute {name}")),
        }
    }
    Ok(SealSource::Kms { key: key.to_owned(), endpoint, credentials, ca })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read() {
        let parse = |text| SealSource::parse(text);
        assert_eq!(parse("key-file:/a"), Ok(SealSource::KeyFile { file: "/a".into() }));
        assert_eq!(parse("passphrase:b"), Ok(SealSource::Passphrase { file: "b".into() }));
        let token = "pkcs11:token=my%20token;object=k?module-path=/m.so&pin-source=file:/pin";
        let read = SealSource::Token {
            module: "/m.so".into(),
            token: "my token".to_owned(),
            key: "k".to_owned(),
            pin_file: "/pin".into(),
        };
        assert_eq!(parse(token), Ok(read));
        let arn = "arn:aws:kms:eu-west-1:111122223333:key/k";
        let read = SealSource::Kms {
            key: arn.to_owned(),
            endpoint: Some("http://127.0.0.1:1".to_owned()),
            credentials: Some("c".into()),
            ca: None,
        };
        assert_eq!(
            parse(&format!("kms:{arn}?endpoint=http://127.0.0.1:1&credentials=c")),
            Ok(read)
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "",
            "x",
            "key-file:",
            "vault:x",
            "pkcs11:object=k?module-path=/m&pin-source=/p",
            "pkcs11:token=t?pin-source=/p",
            "pkcs11:token=t?module-path=/m",
            "pkcs11:token=t?module-path=/m&pin-value=1234",
            "pkcs11:slot-id=1?module-path=/m&pin-source=/p",
            "kms:alias/x",
            "kms:arn:aws:s3:::x",
            "kms:arn:aws:kms:eu-west-1:111122223333:key/k?profile=x",
        ] {
            assert!(SealSource::parse(text).is_err(), "{text}");
        }
    }
}
