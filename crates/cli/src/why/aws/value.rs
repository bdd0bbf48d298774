//! What the words of an option mean to the operation's schema.
//!
//! Values become the JSON that a preflight takes: binary ones base64, instants seconds since the epoch (ISO 8601
//! where a schema says so). What JSON on the command line has of a wrong type is left to the server to refuse; a
//! member that the schema lacks is refused here, as the CLI does, for the server would not look at it.

use super::super::args::ServerArgs;
use super::file::{self, Content};
use super::globals::{BinaryFormat, Settings};
use super::shorthand::{self, Node};
use awsproto::{Kind, Location, Member, Schema, TimestampFormat};
use base::Timestamp;
use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value, json};

/// Instants later than the year 9999 have no ISO 8601 text, and the server takes none.
const SECONDS_MAX: f64 = 253_402_300_799.0;

/// Base64 as Python reads it, which does not mind what the last bits are.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true),
);

/// Reads values by kind. Errors are sentences without the option's name, which the caller has.
pub(super) struct Values<'a> {
    /// For the home directory and the profile.
    pub(super) server: &'a ServerArgs,
    pub(super) settings: &'a Settings,
}

/// Whether a member is a body of bytes, which the CLI streams from or to a file.
pub(super) fn is_streamed(member: &Member) -> bool {
    member.location == Location::Payload && member.kind == Kind::Blob
}

impl Values<'_> {
    /// The value of an option that is a member.
    pub(super) fn of_option(&self, member: &Member, words: &[&str]) -> Result<Value, String> {
        let format = format_of(member);
        match (&member.kind, words) {
            (Kind::List(item), [one]) => match file::follow(self.server, one)? {
                Some(content) => {
                    let text = content.into_text()?;
                    if !text.trim_start().starts_with('[') {
                        return Err("the file holds no list in JSON".to_owned());
                    }
                    self.list(item, format, &[&text])
                }
                None => self.list(item, format, words),
            },
            (Kind::List(item), words) => self.list(item, format, words),
            (_, [path]) if is_streamed(member) => {
                let bytes = file::read(self.server, path);
                let bytes = bytes.map_err(|error| format!("{error}; a path is expected here"))?;
                Ok(Value::String(STANDARD.encode(bytes)))
            }
            (kind, [one]) => match file::follow(self.server, one)? {
                Some(content) => self.content(kind, format, content),
                None => self.text(kind, format, one),
            },
            (_, _) => Err("expected one value".to_owned()),
        }
    }

    /// The request of `--cli-input-json`.
    pub(super) fn document(&self, schema: &'static Schema, word: &str) -> Result<Value, String> {
        let text = match file::follow(self.server, word)? {
            Some(content) => content.into_text()?,
            None => word.to_owned(),
        };
        match self.json_text(&Kind::Struct(schema), TimestampFormat::Unix, &text)? {
            object @ Value::Object(_) => Ok(object),
            _ => Err("it is no JSON object".to_owned()),
        }
    }

    /// The words of a list: one that is all of it in JSON, or one for each item.
    fn list(&self, item: &Kind, format: TimestampFormat, words: &[&str]) -> Result<Value, String> {
        if let [one] = words
            && one.trim_start().starts_with('[')
        {
            let items = serde_json::from_str::<Vec<Value>>(one);
            let items = items.map_err(|error| format!("no JSON: {error}"))?;
            return self.items(items, |value| self.json(item, format, value));
        }
        self.items(words, |word| self.text(item, format, word))
    }

    fn items<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        read: impl Fn(T) -> Result<Value, String>,
    ) -> Result<Value, String> {
        items.into_iter().map(read).collect::<Result<Vec<_>, _>>().map(Value::Array)
    }

    fn content(
        &self,
        kind: &Kind,
        format: TimestampFormat,
        content: Content,
    ) -> Result<Value, String> {
        match (kind, content) {
            (Kind::Blob, Content::Bytes(bytes)) => Ok(Value::String(STANDARD.encode(bytes))),
            (kind, content) => self.text(kind, format, &content.into_text()?),
        }
    }

    /// A value that is one text.
    fn text(&self, kind: &Kind, format: TimestampFormat, text: &str) -> Result<Value, String> {
        let expected = |what: &str| format!("'{text}' is no {what}");
        match kind {
            Kind::Bool if text.eq_ignore_ascii_case("true") => Ok(json!(true)),
            Kind::Bool if text.eq_ignore_ascii_case("false") => Ok(json!(false)),
            Kind::Bool => Err(expected("boolean")),
            Kind::Integer | Kind::Long => {
                text.trim().parse::<i64>().map(Value::from).map_err(|_| expected("integer"))
            }
            Kind::Double => match text.trim().parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Value::from(number)),
                _ => Err(expected("number")),
            },
            Kind::Timestamp => {
                instant(text, format).ok_or_else(|| expected("instant in ISO 8601 or in seconds"))
            }
            Kind::Blob => self.blob(text),
            Kind::String | Kind::Enum(_) => Ok(json!(text)),
            Kind::Struct(_) | Kind::Map(_) | Kind::List(_)
                if text.trim_start().starts_with(['{', '[']) =>
            {
                self.json_text(kind, format, text)
            }
            Kind::Struct(_) | Kind::Map(_) | Kind::List(_) => {
                let node = shorthand::parse(text, |value| file::follow(self.server, value))?;
                self.node(kind, format, node)
            }
        }
    }

    /// What was written in shorthand.
    fn node(&self, kind: &Kind, format: TimestampFormat, node: Node) -> Result<Value, String> {
        match (kind, node) {
            (Kind::List(item), Node::List(items)) => {
                self.items(items, |node| self.node(item, format, node))
            }
            // One item needs no brackets.
            (Kind::List(item), one) => Ok(json!([self.node(item, format, one)?])),
            (Kind::Struct(schema), Node::Object(members)) => {
                let members = members.into_iter().map(|(name, node)| {
                    let member = member(schema, &name)?;
                    let value = self.node(&member.kind, format_of(member), node);
                    Ok((name.clone(), value.map_err(|error| format!("{name}: {error}"))?))
                });
                members.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            (Kind::Map(item), Node::Object(entries)) => {
                let entries = entries.into_iter().map(|(key, node)| {
                    let value = self.node(item, format, node);
                    Ok((key.clone(), value.map_err(|error| format!("{key}: {error}"))?))
                });
                entries.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            (kind, Node::Bytes(bytes)) => self.content(kind, format, Content::Bytes(bytes)),
            (Kind::Struct(_) | Kind::Map(_), Node::Text(text)) => {
                Err(format!("expected {{Key=value}}, found '{text}'"))
            }
            (kind, Node::Text(text)) => self.text(kind, format, &text),
            (_, Node::List(_)) => {
                Err("expected one value, found several: a comma in one is written \\,".to_owned())
            }
            (_, Node::Object(_)) => Err("expected a value, found {Key=value}".to_owned()),
        }
    }

    fn json_text(&self, kind: &Kind, format: TimestampFormat, text: &str) -> Result<Value, String> {
        let value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
        self.json(kind, format, value)
    }

    /// JSON in which binary values and instants are as the CLI takes them.
    fn json(&self, kind: &Kind, format: TimestampFormat, value: Value) -> Result<Value, String> {
        match (kind, value) {
            (Kind::Blob, Value::String(text)) => self.blob(&text),
            (Kind::Timestamp, Value::String(text)) => instant(&text, format)
                .ok_or_else(|| format!("'{text}' is no instant in ISO 8601 or in seconds")),
            (Kind::Timestamp, Value::Number(seconds)) => instant(&seconds.to_string(), format)
                .ok_or_else(|| format!("{seconds} is no instant")),
            (Kind::List(item), Value::Array(items)) => {
                self.items(items, |value| self.json(item, format, value))
            }
            (Kind::Struct(schema), Value::Object(members)) => {
                let members = members.into_iter().map(|(name, value)| {
                    let member = member(schema, &name)?;
                    let value = self.json(&member.kind, format_of(member), value);
                    Ok((name.clone(), value.map_err(|error| format!("{name}: {error}"))?))
                });
                members.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            (Kind::Map(item), Value::Object(entries)) => {
                let entries = entries.into_iter().map(|(key, value)| {
                    let value = self.json(item, format, value);
                    Ok((key.clone(), value.map_err(|error| format!("{key}: {error}"))?))
                });
                entries.collect::<Result<Map<_, _>, String>>().map(Value::Object)
            }
            (_, value) => Ok(value),
        }
    }

    /// Bytes that were written as text.
    fn blob(&self, text: &str) -> Result<Value, String> {
        match self.settings.binary_format(self.server)? {
            BinaryFormat::Raw => Ok(Value::String(STANDARD.encode(text))),
            BinaryFormat::Base64 => {
                // Python skips what is no base64, such as the end of the line in a file.
                let in_base64 = |c: &char| c.is_ascii_alphanumeric() || "+/=".contains(*c);
                let text: String = text.chars().filter(in_base64).collect();
                let bytes = LENIENT.decode(text).map_err(|error| {
                    format!(
                        "no base64 ({error}): bytes are read with fileb://, and text as it is with \
                         --cli-binary-format raw-in-base64-out"
                    )
                })?;
                Ok(Value::String(STANDARD.encode(bytes)))
            }
        }
    }
}

/// A member of a structure by its name in the model.
fn member(schema: &Schema, name: &str) -> Result<&'static Member, String> {
    if schema.unsupported.contains(&name) {
        return Err(format!("{name} is not supported by the server, which refuses it"));
    }
    schema.member(name).ok_or_else(|| {
        let names: Vec<_> = schema.members.iter().map(|member| member.name).collect();
        format!("there is no member {name}: there are {}", names.join(", "))
    })
}

/// How the JSON of a preflight has a member's instants.
fn format_of(member: &Member) -> TimestampFormat {
    member.timestamp.unwrap_or(TimestampFormat::Unix)
}

/// An instant: seconds since the epoch, or ISO 8601. Without an offset it is in UTC here; the CLI takes the zone
/// of the machine it runs on.
fn instant(text: &str, format: TimestampFormat) -> Option<Value> {
    let text = text.trim();
    let seconds = match text.parse::<f64>() {
        Ok(seconds) => Some(seconds).filter(|seconds| seconds.abs() <= SECONDS_MAX)?,
        Err(_) => Timestamp::parse_iso(&with_colon(text))?.seconds_f64(),
    };
    Some(match format {
        TimestampFormat::Unix => json!(seconds),
        // Within the bound the conversion is exact.
        TimestampFormat::Iso8601 => {
            json!(Timestamp((seconds * 1000.0).round() as i64).iso_millis())
        }
    })
}

/// An offset `±HHMM` or `±HH` behind a time, written as `±HH:MM`.
fn with_colon(text: &str) -> String {
    let time = text.find(['T', ' ']).unwrap_or(text.len());
    let Some(sign) = text[time..].rfind(['+', '-']) else { return text.to_owned() };
    let (before, offset) = text.split_at(time + sign);
    match offset.len() {
        3 if offset.is_ascii() => format!("{before}{offset}:00"),
        5 if offset.is_ascii() => format!("{before}{}:{}", &offset[..3], &offset[3..]),
        _ => text.to_owned(),
    }
}
