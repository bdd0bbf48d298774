//! restJson1: members in the path, the query string, headers and the body.

use crate::error::{ParameterError, Problem};
use crate::http::Request;
use crate::json;
use crate::limits::HTTP_TEXT_BYTES_MAX;
use crate::query::form_decoded;
use crate::route::Label;
use crate::schema::{Kind, Location, Member, Schema, TimestampFormat};
use crate::text::{self, Fraction};
use crate::value::{Blob, Fields, Value};
use bytes::Bytes;
use serde_json::Value as Json;

/// Reads a request as an operation's input.
pub(crate) fn decode(
    schema: &'static Schema,
    labels: &[Label],
    request: &Request<'_>,
) -> Result<Value, ParameterError> {
    let query = query_pairs(request.query)?;
    refuse_unsupported(schema, &query)?;
    let mut fields = Fields::default();
    for member in schema.members {
        let value = match member.location {
            Location::Label(name) => {
                let label = labels.iter().find(|label| label.name == name);
                label.map(|label| scalar(member, &label.value)).transpose()
            }
            Location::QueryString(name) => from_query(member, name, &query),
            Location::Header(name) => {
                request.header(name).map(|text| from_header(member, text)).transpose()
            }
            Location::Payload => payload(member, request.body),
            Location::Body | Location::StatusCode => Ok(None),
        };
        let value = value.map_err(|e| {
            let e = if member.sensitive { e.redacted() } else { e };
            e.within(member.name)
        })?;
        if let Some(value) = value {
            fields.push(member.name, value);
        }
    }
    let payload = schema.members.iter().any(|m| m.location == Location::Payload);
    if !payload {
        let object = json::parse(request.body)?;
        json::decode_into(&mut fields, schema, object, |m| m.location == Location::Body)?;
    }
    Ok(Value::Struct(fields))
}

/// Unsupported members may be query parameters, whose names differ in letter case.
fn refuse_unsupported(schema: &Schema, query: &[(String, String)]) -> Result<(), ParameterError> {
    let sent = |name: &str| query.iter().any(|(key, _)| key.eq_ignore_ascii_case(name));
    match schema.unsupported.iter().find(|name| sent(name)) {
        Some(name) => Err(ParameterError::new(Problem::Unsupported).within(*name)),
        None => Ok(()),
    }
}

/// The pairs of a query string, decoded.
pub(crate) fn query_pairs(query: &str) -> Result<Vec<(String, String)>, ParameterError> {
    bounded(query)?;
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((form_decoded(name)?, form_decoded(value)?))
        })
        .collect()
}

fn from_query(
    member: &Member,
    name: &str,
    query: &[(String, String)],
) -> Result<Option<Value>, ParameterError> {
    let mut sent = query.iter().filter(|(key, _)| key == name).map(|(_, text)| text.as_str());
    if let Kind::List(item) = member.kind {
        let read = |(at, text): (usize, _)| {
            parse(*item, member, text).map_err(|e| e.within((at + 1).to_string()))
        };
        let items: Vec<_> = sent.enumerate().map(read).collect::<Result<_, _>>()?;
        return Ok((!items.is_empty()).then_some(Value::List(items)));
    }
    sent.next().map(|text| scalar(member, text)).transpose()
}

fn from_header(member: &Member, text: &str) -> Result<Value, ParameterError> {
    bounded(text)?;
    scalar(member, text.trim())
}

fn scalar(member: &Member, text: &str) -> Result<Value, ParameterError> {
    parse(member.kind, member, text)
}

fn parse(kind: Kind, member: &Member, text: &str) -> Result<Value, ParameterError> {
    text::parse(kind, member.timestamp.unwrap_or(TimestampFormat::Iso8601), text)
}

fn payload(member: &Member, body: &Bytes) -> Result<Option<Value>, ParameterError> {
    if member.kind == Kind::Blob {
        return Ok(Some(Value::Blob(Blob::new(body.clone()))));
    }
    let object = json::parse(body)?;
    if body.is_empty() {
        return Ok(None);
    }
    json::decode(member.kind, TimestampFormat::Unix, Json::Object(object)).map(Some)
}

fn bounded(text: &str) -> Result<(), ParameterError> {
    if text.len() > HTTP_TEXT_BYTES_MAX {
        let what = "bytes of a query string or header";
        return Err(ParameterError::new(Problem::Limit { what, max: HTTP_TEXT_BYTES_MAX }));
    }
    Ok(())
}

/// An output taken apart.
pub(crate) struct Parts {
    /// The status a `status_code` member asks for.
    pub(crate) status: Option<u16>,
    /// The header members.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, and whether it is JSON.
    pub(crate) body: Bytes,
    pub(crate) is_json: bool,
}

/// Writes an output.
pub(crate) fn encode(schema: &Schema, fields: &Fields) -> Parts {
    let mut parts = Parts { status: None, headers: Vec::new(), body: Bytes::new(), is_json: true };
    let mut payload = false;
    for member in schema.members {
        let value = fields.get(member.name);
        match (member.location, value) {
            (Location::Header(name), Some(value)) => {
                if let Some(text) = header_text(member, value) {
                    parts.headers.push((name.to_owned(), text));
                }
            }
            (Location::StatusCode, Some(Value::Int(status))) => {
                parts.status = u16::try_from(*status).ok();
            }
            (Location::Payload, value) => {
                payload = true;
                match (member.kind, value) {
                    (Kind::Blob, Some(Value::Blob(blob))) => {
                        parts.body = blob.clone().into_bytes();
                        parts.is_json = false;
                    }
                    (Kind::Struct(schema), Some(Value::Struct(fields))) => {
                        parts.body = json::body(json::encode_all(schema, fields));
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    if !payload && !schema.is_unit() {
        parts.body = json::body(json::encode_body(schema, fields));
    }
    parts
}

/// A header value; line breaks would end the header.
pub(crate) fn header_text(member: &Member, value: &Value) -> Option<String> {
    let format = member.timestamp.unwrap_or(TimestampFormat::Iso8601);
    let text = text::write(value, format, Fraction::Millis)?;
    Some(text.chars().filter(|c| !c.is_control()).collect())
}
