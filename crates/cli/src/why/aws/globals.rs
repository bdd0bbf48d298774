//! The CLI's own options, which may stand anywhere in a command.

use super::super::args::ServerArgs;
use super::super::profile;
use super::words::{Arity, Taken};
use crate::exit::Failure;

/// How binary values are written in text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BinaryFormat {
    /// In base64: what version 2 of the CLI does if nothing else is said.
    Base64,
    /// As they are.
    Raw,
}

/// What the CLI's own options say besides where to ask and as whom.
#[derive(Debug, Default)]
pub(super) struct Settings {
    binary_format: Option<BinaryFormat>,
    /// Whether the CLI was told not to page by itself.
    pub(super) no_paginate: bool,
}

const BINARY_FORMATS: &[&str] = &["base64", "raw-in-base64-out"];

/// Options with a value, and the values there are. What is done with the reply is nothing to a preflight, and so
/// are the times that a request of the CLI may take.
const WITH_VALUE: [(&str, &[&str]); 11] = [
    ("region", &[]),
    ("profile", &[]),
    ("endpoint-url", &[]),
    ("ca-bundle", &[]),
    ("cli-binary-format", BINARY_FORMATS),
    ("output", &["json", "text", "table", "yaml", "yaml-stream", "off"]),
    ("color", &["on", "off", "auto"]),
    ("cli-error-format", &[]),
    ("query", &[]),
    ("cli-read-timeout", &[]),
    ("cli-connect-timeout", &[]),
];

/// Options without a value. Certificates are checked in spite of `no-verify-ssl`: a request that the CLI would send
/// to anybody is no reason to.
const FLAGS: [&str; 6] =
    ["debug", "v2-debug", "no-verify-ssl", "no-paginate", "no-cli-pager", "no-cli-auto-prompt"];

/// Options that ask for something else than a request that is signed, and why they are refused.
const REFUSED: [(&str, &str); 3] = [
    ("no-sign-request", "a preflight is decided for who asks, and nobody asks with this option"),
    ("cli-auto-prompt", "nothing is asked for here: write the command out"),
    ("version", "it prints the CLI's version and makes no request"),
];

/// How many words an option of the CLI takes; `None` when it is none of the CLI's own.
pub(super) fn arity(option: &str) -> Option<Arity> {
    if WITH_VALUE.iter().any(|(name, _)| *name == option) {
        return Some(Arity::One);
    }
    let flag = FLAGS.contains(&option) || REFUSED.iter().any(|(name, _)| *name == option);
    flag.then_some(Arity::None)
}

impl Settings {
    /// Reads the CLI's own options. What they say of the server and the caller goes into `server`.
    ///
    /// # Errors
    /// An option that is refused, or a value that the CLI has not.
    pub(super) fn read(taken: &[Taken<'_>], server: &mut ServerArgs) -> Result<Self, Failure> {
        let mut settings = Self::default();
        for Taken { option, words } in taken {
            if let Some((_, why)) = REFUSED.iter().find(|(name, _)| name == option) {
                return Err(Failure::failed(format!("--{option}: {why}")));
            }
            let Some(value) = words.first().copied() else {
                settings.no_paginate |= *option == "no-paginate";
                continue;
            };
            let choices = WITH_VALUE.iter().find(|(name, _)| name == option);
            let choices = choices.map_or(&[][..], |(_, choices)| choices);
            if !choices.is_empty() && !choices.contains(&value) {
                let message = format!("--{option}: '{value}' is none of {}", choices.join(", "));
                return Err(Failure::failed(message));
            }
            match *option {
                "region" => server.region = Some(value.to_owned()),
                "endpoint-url" => server.endpoint_url = Some(value.to_owned()),
                "ca-bundle" => server.ca = Some(value.into()),
                "profile" => {
                    server.profile = value.to_owned();
                    // The CLI asks as the profile then, whatever keys the environment has.
                    server.access_key_id = None;
                    server.secret_access_key = None;
                    server.session_token = None;
                }
                "cli-binary-format" => settings.binary_format = binary_format(value),
                "cli-read-timeout" | "cli-connect-timeout" if value.parse::<u64>().is_err() => {
                    let message = format!("--{option}: '{value}' is no number of seconds");
                    return Err(Failure::failed(message));
                }
                _ => {}
            }
        }
        Ok(settings)
    }

    /// How binary values are written: as the command says, then the profile, then in base64.
    ///
    /// # Errors
    /// A profile that cannot be read or names no such format.
    pub(super) fn binary_format(&self, server: &ServerArgs) -> Result<BinaryFormat, String> {
        if let Some(format) = self.binary_format {
            return Ok(format);
        }
        let set = profile::setting(server, "cli_binary_format").map_err(|e| e.to_string())?;
        let Some(set) = set else { return Ok(BinaryFormat::Base64) };
        binary_format(&set).ok_or_else(|| {
            format!(
                "cli_binary_format in the profile {}: '{set}' is none of {}",
                server.profile,
                BINARY_FORMATS.join(", ")
            )
        })
    }
}

fn binary_format(value: &str) -> Option<BinaryFormat> {
    match value {
        "base64" => Some(BinaryFormat::Base64),
        "raw-in-base64-out" => Some(BinaryFormat::Raw),
        _ => None,
    }
}
