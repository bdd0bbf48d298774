//! A request written as for the `aws` CLI: `aws ec2 copy-snapshot --source-region us-east-1 …`.
//!
//! Lines are read as the CLI reads them: its own options may stand anywhere, values are plain, JSON, shorthand
//! (`Key=a,Value=b`), `file://` or `fileb://`, and an operation's pages are the CLI's. What follows from a line is
//! compared with the stock CLI in `tests/clients`. Of its two versions the second is followed where they differ:
//! options have no abbreviations, and bytes are written in base64.

mod file;
mod globals;
mod pages;
mod shorthand;
#[cfg(test)]
mod tests;
mod value;
mod words;

use super::args::ServerArgs;
use crate::exit::Failure;
use api::registry;
use awsproto::{Kind, Member, OperationInfo};
use globals::Settings;
use pages::Pages;
use serde_json::{Map, Value, json};
use value::Values;
use words::{Arity, Taken};

/// A request by model names.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) parameters: Value,
}

/// Reads a command. What it says of endpoint, region and profile goes into `server`.
pub(crate) fn parse(command: &[String], server: &mut ServerArgs) -> Result<Request, Failure> {
    let words: Vec<&str> = command.iter().map(String::as_str).collect();
    let words = words.strip_prefix(&["aws"]).unwrap_or(&words);
    let (own, mut words) = words::divide(words, globals::arity)?;
    let settings = Settings::read(&own, server)?;
    let service = words::name(&mut words);
    let (Some(service), Some(name)) = (service, words::name(&mut words)) else {
        return Err(Failure::failed("expected: aws SERVICE OPERATION [OPTIONS]"));
    };
    let served = registry::of_aws()
        .map(|operation| operation.info())
        .find(|info| info.service == service && kebab(info.name) == name);
    let (operation, parameters) = match served {
        Some(info) => {
            let values = Values { server, settings: &settings };
            (info.name.to_owned(), parameters(info, &words, &values)?)
        }
        None => (not_served(service, name)?, Map::new()),
    };
    Ok(Request { service: service.to_owned(), operation, parameters: Value::Object(parameters) })
}

/// What an option of an operation is.
enum Meaning {
    Is(&'static Member),
    /// `--no-…` of a boolean.
    IsNot(&'static Member),
    /// A member that the server refuses.
    Unsupported(&'static str),
    InputJson,
    MaxItems,
    PageSize(Pages),
    StartingToken(Pages),
    /// An option of the CLI that leads to no request, and why.
    Refused(&'static str),
}

const SKELETON: &str = "it prints a form to fill in and makes no request: leave it out";
const YAML: &str = "YAML is not read here: say the same in JSON with --cli-input-json";

/// What an option means; `None` when the operation has no such option.
fn meaning(info: &OperationInfo, option: &str) -> Option<Meaning> {
    if let Some(pages) = Pages::of(info) {
        match option {
            "max-items" => return Some(Meaning::MaxItems),
            "page-size" => return Some(Meaning::PageSize(pages)),
            "starting-token" => return Some(Meaning::StartingToken(pages)),
            _ => {}
        }
    }
    match option {
        "generate-cli-skeleton" => return Some(Meaning::Refused(SKELETON)),
        // The CLI has no documents for operations with a file of output.
        "cli-input-json" if !writes_file(info) => return Some(Meaning::InputJson),
        "cli-input-yaml" if !writes_file(info) => return Some(Meaning::Refused(YAML)),
        _ => {}
    }
    if let Some(name) = info.input.unsupported.iter().find(|name| kebab(name) == option) {
        return Some(Meaning::Unsupported(name));
    }
    let find = |name: &str| info.input.members.iter().find(|member| kebab(member.name) == name);
    let negated = || find(option.strip_prefix("no-")?).filter(|member| member.kind == Kind::Bool);
    find(option).map(Meaning::Is).or_else(|| negated().map(Meaning::IsNot))
}

fn arity(meaning: &Meaning) -> Arity {
    match meaning {
        Meaning::Is(member) => match member.kind {
            Kind::Bool => Arity::None,
            Kind::List(_) => Arity::Any,
            _ => Arity::One,
        },
        Meaning::IsNot(_) => Arity::None,
        Meaning::Unsupported(_) | Meaning::Refused(_) => Arity::Any,
        Meaning::InputJson
        | Meaning::MaxItems
        | Meaning::PageSize(_)
        | Meaning::StartingToken(_) => Arity::One,
    }
}

/// Whether the CLI writes a reply's bytes to a file.
fn writes_file(info: &OperationInfo) -> bool {
    info.output.members.iter().any(value::is_streamed)
}

/// The operation's parameters. Of options that say the same thing the last counts, and all of them more than
/// `--cli-input-json`.
fn parameters(
    info: &'static OperationInfo,
    words: &[&str],
    values: &Values<'_>,
) -> Result<Map<String, Value>, Failure> {
    let (taken, stray) = words::divide(words, |option| meaning(info, option).as_ref().map(arity))?;
    strays(info, &stray)?;
    let pages_alone = pages_alone(info, &taken, values);
    let (mut parameters, mut document) = (Map::new(), None);
    for Taken { option, words } in &taken {
        let Some(mut meaning) = meaning(info, option) else { continue };
        if !pages_alone {
            meaning = unpaged(info, option, meaning)?;
        }
        let fail = |error: String| Failure::failed(format!("--{option}: {error}"));
        match meaning {
            Meaning::Is(member) if member.kind == Kind::Bool => {
                parameters.insert(member.name.to_owned(), json!(true));
            }
            Meaning::IsNot(member) => {
                parameters.insert(member.name.to_owned(), json!(false));
            }
            Meaning::Is(member) => {
                let value = values.of_option(member, words).map_err(fail)?;
                parameters.insert(member.name.to_owned(), value);
            }
            Meaning::Unsupported(name) => {
                return Err(fail(format!(
                    "{name} is not supported by the server, which refuses it"
                )));
            }
            Meaning::Refused(why) => return Err(fail(why.to_owned())),
            Meaning::InputJson => {
                document = Some(values.document(info.input, first(words)).map_err(fail)?);
            }
            // How many items the CLI prints.
            Meaning::MaxItems => {
                first(words).parse::<i64>().map_err(|_| fail("expected an integer".to_owned()))?;
            }
            Meaning::PageSize(pages) => {
                let value = values.of_option(pages.limit, words).map_err(fail)?;
                parameters.insert(pages.limit.name.to_owned(), value);
            }
            Meaning::StartingToken(pages) => {
                let name = pages.token.name;
                match pages::starting_token(first(words), name).map_err(fail)? {
                    Some(token) => parameters.insert(name.to_owned(), json!(token)),
                    None => parameters.remove(name),
                };
            }
        }
    }
    if let Some(Value::Object(document)) = document {
        for (name, value) in document {
            parameters.entry(name).or_insert(value);
        }
    }
    Ok(parameters)
}

fn first<'a>(words: &[&'a str]) -> &'a str {
    words.first().copied().unwrap_or_default()
}

/// Refuses words that belong to no option.
fn strays(info: &OperationInfo, stray: &[&str]) -> Result<(), Failure> {
    match (writes_file(info), stray) {
        (false, []) => Ok(()),
        // The file that the CLI writes the reply to. A preflight has no such reply and writes no file, so it does
        // not matter which.
        (true, [outfile]) if !words::is_option(outfile, |_| false) => Ok(()),
        (true, []) => Err(Failure::failed("expected the name of a file, OUTFILE")),
        (_, stray) => Err(Failure::failed(format!("Unknown options: {}", stray.join(", ")))),
    }
}

/// Whether the CLI pages by itself: not when it is told so, and not when a page is asked for by the operation's
/// own members.
fn pages_alone(info: &OperationInfo, taken: &[Taken<'_>], values: &Values<'_>) -> bool {
    let Some(pages) = Pages::of(info) else { return false };
    let by_member = |taken: &Taken<'_>| {
        // Where the member's option has the name of the CLI's, the CLI's is meant.
        taken.option != "max-items"
            && [pages.token, pages.limit].iter().any(|member| kebab(member.name) == taken.option)
    };
    !values.settings.no_paginate && !taken.iter().any(by_member)
}

/// What an option means when the CLI does not page: the members it hid are back, and its own are refused.
fn unpaged(info: &OperationInfo, option: &str, meaning: Meaning) -> Result<Meaning, Failure> {
    if !matches!(meaning, Meaning::MaxItems | Meaning::PageSize(_) | Meaning::StartingToken(_)) {
        return Ok(meaning);
    }
    let hidden = info.input.members.iter().find(|member| kebab(member.name) == option);
    hidden.map(Meaning::Is).ok_or_else(|| {
        Failure::failed(format!(
            "--{option} pages, which the CLI does not do with --no-paginate or with an option that asks for \
             one page"
        ))
    })
}

/// `copy-snapshot` of `CopySnapshot`, by the rules of botocore: `SAMLMetadataDocument` is
/// `saml-metadata-document`, `ARNs` at the end is `arns`.
fn kebab(name: &str) -> String {
    let plural = name
        .strip_suffix('s')
        .map_or(0, |rest| rest.bytes().rev().take_while(u8::is_ascii_uppercase).count());
    let (name, plural) =
        name.split_at(if plural >= 2 { name.len() - plural - 1 } else { name.len() });
    let bytes = name.as_bytes();
    let mut words = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let after_small = at > 0 && !bytes[at - 1].is_ascii_uppercase();
        let before_small = bytes.get(at + 1).is_some_and(u8::is_ascii_lowercase);
        if at > 0 && byte.is_ascii_uppercase() && (after_small || before_small) {
            words.push('-');
        }
        words.push(char::from(byte.to_ascii_lowercase()));
    }
    if !plural.is_empty() {
        words.push('-');
        words.push_str(&plural.to_ascii_lowercase());
    }
    words
}

/// The name of an operation that is not served, of which only the name matters.
fn not_served(service: &str, name: &str) -> Result<String, Failure> {
    let operation = pascal(name);
    let found = registry::of_aws()
        .map(|operation| operation.info())
        .find(|info| info.service == service && info.name.eq_ignore_ascii_case(&operation));
    match found {
        // The server would know it, and would be told nothing of the options.
        Some(info) => Err(Failure::failed(format!(
            "the CLI has no operation {name} of {service}: {} is written {}",
            info.name,
            kebab(info.name)
        ))),
        None => Ok(operation),
    }
}

/// `RunInstances` of `run-instances`.
fn pascal(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| {
            format!("{}{}", first.to_ascii_uppercase(), letters.as_str())
        })
    };
    name.split('-').map(capital).collect()
}
