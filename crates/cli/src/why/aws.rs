//! A request written as for the `aws` CLI: `aws ec2 copy-snapshot --source-region us-east-1 …`.
//!
//! Options are matched with the operation's members by their letters, so `--kms-key-id` is `KmsKeyId`.
//! Values may be plain, JSON, `file://` or the CLI's shorthand (`Key=a,Value=b`).

use super::args::ServerArgs;
use crate::exit::Failure;
use api::registry;
use awsproto::{Kind, Schema};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// A request by model names.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) parameters: Value,
}

/// Options of the CLI itself that take a value, and those that do not.
const WITH_VALUE: [&str; 8] = [
    "output",
    "query",
    "color",
    "cli-read-timeout",
    "cli-connect-timeout",
    "cli-binary-format",
    "ca-bundle",
    "cli-error-format",
];
const WITHOUT_VALUE: [&str; 7] = [
    "debug",
    "no-verify-ssl",
    "no-paginate",
    "no-sign-request",
    "no-cli-pager",
    "cli-auto-prompt",
    "no-cli-auto-prompt",
];

/// Reads a command. What it says of endpoint, region and profile goes into `server`.
pub(crate) fn parse(command: &[String], server: &mut ServerArgs) -> Result<Request, Failure> {
    let mut words = command.iter().map(String::as_str).peekable();
    words.next_if_eq(&"aws");
    let (Some(service), Some(name)) = (words.next(), words.next()) else {
        return Err(Failure::failed("expected: aws SERVICE OPERATION [OPTIONS]"));
    };
    let served = registry::of_aws().find(|operation| {
        operation.info().service == service && letters(operation.info().name) == letters(name)
    });
    let operation = served.map_or_else(|| pascal(name), |served| served.info().name.to_owned());
    let mut parameters = Map::new();
    while let Some(word) = words.next() {
        let option = word
            .strip_prefix("--")
            .ok_or_else(|| Failure::failed(format!("'{word}' is no option")))?;
        let mut values = Vec::new();
        while let Some(value) = words.next_if(|word| !word.starts_with("--")) {
            values.push(value);
        }
        if is_global(option, &values, server) {
            continue;
        }
        if option == "cli-input-json" {
            let given = json_of(values.first().copied().unwrap_or_default(), option)?;
            let Value::Object(given) = given else {
                return Err(Failure::failed("--cli-input-json is no JSON object"));
            };
            parameters.extend(given);
            continue;
        }
        // Of an operation that is not served only the name matters.
        if let Some(served) = served {
            let (name, value) = member(served.info().input, option, &values)?;
            parameters.insert(name, value);
        }
    }
    Ok(Request { service: service.to_owned(), operation, parameters: Value::Object(parameters) })
}

fn is_global(option: &str, values: &[&str], server: &mut ServerArgs) -> bool {
    let first = || values.first().map(|value| (*value).to_owned());
    match option {
        "region" => server.region = first(),
        "profile" => server.profile = first().unwrap_or_default(),
        "endpoint-url" => server.endpoint_url = first(),
        other => return WITH_VALUE.contains(&other) || WITHOUT_VALUE.contains(&other),
    }
    true
}

/// Letters and digits in lower case.
fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// `RunInstances` of `run-instances`.
fn pascal(name: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    name.split('-').map(capital).collect()
}

fn member(
    schema: &'static Schema,
    option: &str,
    values: &[&str],
) -> Result<(String, Value), Failure> {
    let find = |name: &str| schema.members.iter().find(|m| letters(m.name) == letters(name));
    if let Some(member) = find(option) {
        return Ok((member.name.to_owned(), value(&member.kind, option, values)?));
    }
    match option.strip_prefix("no-").and_then(find) {
        Some(member) if matches!(member.kind, Kind::Bool) && values.is_empty() => {
            Ok((member.name.to_owned(), json!(false)))
        }
        Some(_) | None => Err(Failure::failed(format!("Unknown options: --{option}"))),
    }
}

fn value(kind: &Kind, option: &str, values: &[&str]) -> Result<Value, Failure> {
    let expected = |what: &str| Failure::failed(format!("--{option}: expected {what}"));
    match (kind, values) {
        (Kind::Bool, []) => Ok(json!(true)),
        (Kind::List(item), values) => match values {
            [one] if one.starts_with('[') || one.starts_with("file://") => json_of(one, option),
            values => values
                .iter()
                .map(|one| value(item, option, &[one]))
                .collect::<Result<Vec<_>, _>>()
                .map(Value::Array),
        },
        (kind, [one]) => scalar(kind, option, one),
        _ => Err(expected("one value")),
    }
}

fn scalar(kind: &Kind, option: &str, text: &str) -> Result<Value, Failure> {
    let expected = |what: &str| Failure::failed(format!("--{option}: '{text}' is no {what}"));
    match kind {
        Kind::Bool => text.parse().map(Value::Bool).map_err(|_| expected("boolean")),
        Kind::Integer | Kind::Long => {
            text.parse::<i64>().map(Value::from).map_err(|_| expected("integer"))
        }
        Kind::Double => text.parse::<f64>().map(Value::from).map_err(|_| expected("number")),
        Kind::Timestamp => text
            .parse::<f64>()
            .map(Value::from)
            .map_err(|_| expected("number of seconds since the epoch")),
        Kind::Blob => match text.strip_prefix("fileb://") {
            Some(path) => Ok(Value::String(STANDARD.encode(std::fs::read(path)?))),
            None => Ok(json!(text)),
        },
        Kind::String | Kind::Enum(_) => match text.strip_prefix("file://") {
            Some(path) => Ok(Value::String(std::fs::read_to_string(path)?)),
            None => Ok(json!(text)),
        },
        Kind::List(_) => value(kind, option, &[text]),
        Kind::Struct(_) | Kind::Map(_)
            if text.starts_with(['{', '[']) || text.starts_with("file://") =>
        {
            json_of(text, option)
        }
        Kind::Struct(_) | Kind::Map(_) => {
            let mut reader = Shorthand { rest: text };
            let read = reader.pairs(kind, "").filter(|_| reader.rest.is_empty());
            read.ok_or_else(|| expected("shorthand or JSON"))
        }
    }
}

fn json_of(text: &str, option: &str) -> Result<Value, Failure> {
    let read;
    let text = match text.strip_prefix("file://") {
        Some(path) => {
            read = std::fs::read_to_string(path)?;
            read.as_str()
        }
        None => text,
    };
    serde_json::from_str(text).map_err(|error| Failure::failed(format!("--{option}: {error}")))
}

/// `Key=a,Value=b`, `ResourceType=volume,Tags=[{Key=a,Value=b}]`.
struct Shorthand<'a> {
    rest: &'a str,
}

impl Shorthand<'_> {
    fn eat(&mut self, c: char) -> bool {
        match self.rest.strip_prefix(c) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self, ends: &str) -> String {
        let end = self.rest.find(|c| ends.contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    /// Pairs up to one of the characters in `until`, which is left.
    fn pairs(&mut self, kind: &Kind, until: &str) -> Option<Value> {
        let mut object = Map::new();
        loop {
            let name = self.word("=");
            let found = match kind {
                Kind::Struct(schema) => {
                    let member = schema.members.iter().find(|m| letters(m.name) == letters(&name));
                    let member = member?;
                    (member.name.to_owned(), &member.kind)
                }
                Kind::Map(item) => (name, *item),
                _ => return None,
            };
            if !self.eat('=') {
                return None;
            }
            let value = self.value(found.1, until)?;
            object.insert(found.0, value);
            if !self.eat(',') {
                return Some(Value::Object(object));
            }
        }
    }

    fn value(&mut self, kind: &Kind, until: &str) -> Option<Value> {
        match kind {
            Kind::List(item) if self.eat('[') => {
                let mut items = Vec::new();
                while !self.eat(']') {
                    items.push(self.value(item, "]")?);
                    self.eat(',');
                }
                Some(Value::Array(items))
            }
            Kind::List(item) => Some(Value::Array(vec![self.value(item, until)?])),
            Kind::Struct(_) | Kind::Map(_) if self.eat('{') => {
                let value = self.pairs(kind, "}")?;
                self.eat('}').then_some(value)
            }
            Kind::Struct(_) | Kind::Map(_) => self.pairs(kind, until),
            scalar_kind => {
                let word = self.word(&format!(",{until}"));
                scalar(scalar_kind, "", &word).ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArgs,
    }

    fn read(command: &str) -> Result<(Request, ServerArgs), Failure> {
        let words: Vec<String> = command.split(' ').map(str::to_owned).collect();
        let mut server = Line::parse_from(["strongroom"]).server;
        let request = parse(&words, &mut server)?;
        Ok((request, server))
    }

    #[test]
    fn requests_are_read_as_the_aws_cli_reads_them() {
        let (request, server) = read(
            "aws ec2 copy-snapshot --region eu-west-1 --source-region us-east-1 \
             --source-snapshot-id snap-1 --encrypted --kms-key-id alias/a --output json \
             --tag-specifications ResourceType=snapshot,Tags=[{Key=a,Value=b},{Key=c,Value=d}]",
        )
        .unwrap();
        assert_eq!(server.region.as_deref(), Some("eu-west-1"));
        assert_eq!((request.service.as_str(), request.operation.as_str()), ("ec2", "CopySnapshot"));
        let tags = json!([{ "Key": "a", "Value": "b" }, { "Key": "c", "Value": "d" }]);
        let expected = json!({
            "SourceRegion": "us-east-1", "SourceSnapshotId": "snap-1", "Encrypted": true,
            "KmsKeyId": "alias/a",
            "TagSpecifications": [{ "ResourceType": "snapshot", "Tags": tags }],
        });
        assert_eq!(request.parameters, expected);
    }

    #[test]
    fn lists_flags_numbers_and_documents_are_told_apart() {
        let (request, _) =
            read("ec2 create-volume --availability-zone a --size 8 --no-encrypted").unwrap();
        let expected = json!({ "AvailabilityZone": "a", "Size": 8, "Encrypted": false });
        assert_eq!(request.parameters, expected);
        let (request, _) = read(
            "ec2 modify-snapshot-attribute --snapshot-id s --create-volume-permission \
             {\"Add\":[{\"UserId\":\"1\"}]} --user-ids 1 2",
        )
        .unwrap();
        assert_eq!(request.parameters["CreateVolumePermission"]["Add"][0]["UserId"], "1");
        assert_eq!(request.parameters["UserIds"], json!(["1", "2"]));
        for bad in [
            "ec2 create-volume --size big",
            "ec2 create-volume --no-such-option x",
            "ec2 create-volume stray",
            "ec2 copy-snapshot --tag-specifications Nonsense",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_operation_that_is_not_served_keeps_its_name() {
        let (request, _) = read("aws ec2 run-instances --image-id ami-1").unwrap();
        assert_eq!(request.operation, "RunInstances");
        assert_eq!(request.parameters, json!({}));
    }
}
