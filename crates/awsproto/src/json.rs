//! JSON documents of awsJson1.1 and restJson1.
//!
//! As the real services do, a member that no schema knows is not looked at; one that the shape
//! lists as unsupported is refused by name.

use crate::error::{ParameterError, Problem, shortened};
use crate::limits::ITEMS_MAX;
use crate::schema::{Kind, Location, Member, Schema, TimestampFormat};
use crate::text::{self, Fraction};
use crate::value::{Fields, Value};
use bytes::Bytes;
use serde_json::{Map, Number, Value as Json};

/// The key of a member.
pub(crate) fn key(member: &Member) -> &'static str {
    member.json.unwrap_or(member.name)
}

/// Reads a document as an object. An empty body is an object without members.
pub(crate) fn parse(body: &[u8]) -> Result<Map<String, Json>, ParameterError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    let document = |why| ParameterError::new(Problem::Document { why });
    // The parser itself refuses more than 128 levels; decoding goes no deeper than the schema.
    match serde_json::from_slice(body) {
        Ok(Json::Object(object)) => Ok(object),
        Ok(_) => Err(document("the document is not an object")),
        Err(_) => Err(document("the document is not JSON")),
    }
}

/// Reads the members that `carried` selects into `fields`.
pub(crate) fn decode_into(
    fields: &mut Fields,
    schema: &'static Schema,
    mut object: Map<String, Json>,
    carried: fn(&Member) -> bool,
) -> Result<(), ParameterError> {
    structure(fields, schema, &mut object, carried)
}

fn structure(
    fields: &mut Fields,
    schema: &'static Schema,
    object: &mut Map<String, Json>,
    carried: fn(&Member) -> bool,
) -> Result<(), ParameterError> {
    for name in schema.unsupported {
        if object.get(*name).is_some_and(|value| !value.is_null()) {
            return Err(ParameterError::new(Problem::Unsupported).within(*name));
        }
    }
    for member in schema.members.iter().filter(|m| carried(m)) {
        let Some(json) = object.remove(key(member)).filter(|json| !json.is_null()) else {
            continue;
        };
        let format = member.timestamp.unwrap_or(TimestampFormat::Unix);
        let value = decode(member.kind, format, json).map_err(|e| {
            let e = if member.sensitive { e.redacted() } else { e };
            e.within(member.name)
        })?;
        fields.push(member.name, value);
    }
    Ok(())
}

/// A structure written in JSON by its members' names, whatever the protocol of its operation.
///
/// # Errors
/// The first member that cannot be read.
pub fn from_json(schema: &'static Schema, json: Json) -> Result<Value, ParameterError> {
    decode(Kind::Struct(schema), TimestampFormat::Unix, json)
}

/// Reads one value.
pub(crate) fn decode(
    kind: Kind,
    format: TimestampFormat,
    json: Json,
) -> Result<Value, ParameterError> {
    let wrong = |expected| Err(ParameterError::new(Problem::WrongType { expected }));
    match (kind, json) {
        (Kind::Bool, Json::Bool(truth)) => Ok(Value::Bool(truth)),
        (Kind::Bool, _) => wrong("a boolean"),
        (Kind::Integer, Json::Number(number)) => match number.as_i64() {
            Some(number) if i32::try_from(number).is_ok() => Ok(Value::Int(number)),
            _ => wrong("a 32-bit integer"),
        },
        (Kind::Long, Json::Number(number)) => match number.as_i64() {
            Some(number) => Ok(Value::Int(number)),
            None => wrong("a 64-bit integer"),
        },
        (Kind::Integer | Kind::Long, _) => wrong("an integer"),
        (Kind::Double, Json::Number(number)) => match number.as_f64() {
            Some(number) => Ok(Value::Float(number)),
            None => wrong("a number"),
        },
        (Kind::Double, _) => wrong("a number"),
        (Kind::String | Kind::Enum(_), Json::String(text)) => Ok(Value::String(text)),
        (Kind::String | Kind::Enum(_), _) => wrong("a string"),
        (Kind::Blob, Json::String(text)) => text::parse(Kind::Blob, format, &text),
        (Kind::Blob, _) => wrong("base64"),
        (Kind::Timestamp, json) => timestamp(format, &json),
        (Kind::List(item), Json::Array(items)) => list(*item, format, items),
        (Kind::List(_), _) => wrong("a list"),
        (Kind::Map(item), Json::Object(entries)) => map(*item, format, entries),
        (Kind::Map(_), _) => wrong("a map"),
        (Kind::Struct(schema), Json::Object(mut object)) => {
            let mut fields = Fields::default();
            structure(&mut fields, schema, &mut object, |_| true)?;
            Ok(Value::Struct(fields))
        }
        (Kind::Struct(_), _) => wrong("a structure"),
    }
}

fn timestamp(format: TimestampFormat, json: &Json) -> Result<Value, ParameterError> {
    let read = match (format, json) {
        (TimestampFormat::Unix, Json::Number(number)) => {
            number.as_f64().and_then(text::from_seconds)
        }
        (TimestampFormat::Iso8601, Json::String(text)) => text::timestamp(format, text).ok(),
        _ => None,
    };
    let expected = match format {
        TimestampFormat::Unix => "a timestamp in seconds",
        TimestampFormat::Iso8601 => "a timestamp in ISO 8601",
    };
    read.map(Value::Timestamp).ok_or(ParameterError::new(Problem::WrongType { expected }))
}

fn list(kind: Kind, format: TimestampFormat, items: Vec<Json>) -> Result<Value, ParameterError> {
    bounded(items.len())?;
    let read = |(at, json): (usize, Json)| {
        decode(kind, format, json).map_err(|e| e.within((at + 1).to_string()))
    };
    items.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Value::List)
}

fn map(
    kind: Kind,
    format: TimestampFormat,
    entries: Map<String, Json>,
) -> Result<Value, ParameterError> {
    bounded(entries.len())?;
    let read = |(key, json): (String, Json)| match decode(kind, format, json) {
        Ok(value) => Ok((key, value)),
        Err(e) => Err(e.within(shortened(key))),
    };
    let present = entries.into_iter().filter(|(_, json)| !json.is_null());
    present.map(read).collect::<Result<_, _>>().map(Value::Map)
}

fn bounded(count: usize) -> Result<(), ParameterError> {
    if count > ITEMS_MAX {
        return Err(ParameterError::new(Problem::Limit { what: "items", max: ITEMS_MAX }));
    }
    Ok(())
}

/// Writes the members that a body carries.
pub(crate) fn encode_body(schema: &Schema, fields: &Fields) -> Map<String, Json> {
    structure_json(schema, fields, |m| m.location == Location::Body)
}

/// Room for an ordinary body, which then does not move while it grows.
const BODY_BYTES: usize = 1024;

/// A body.
pub(crate) fn body(object: Map<String, Json>) -> Bytes {
    let mut body = Vec::with_capacity(BODY_BYTES);
    serde_json::to_writer(&mut body, &Json::Object(object))
        .expect("an object has only text keys and finite numbers");
    body.into()
}

/// Writes every member, wherever restJson1 would carry it.
pub(crate) fn encode_all(schema: &Schema, fields: &Fields) -> Map<String, Json> {
    structure_json(schema, fields, |_| true)
}

fn structure_json(
    schema: &Schema,
    fields: &Fields,
    carried: fn(&Member) -> bool,
) -> Map<String, Json> {
    let mut object = Map::new();
    for member in schema.members.iter().filter(|m| carried(m)) {
        if let Some(value) = fields.get(member.name) {
            let format = member.timestamp.unwrap_or(TimestampFormat::Unix);
            object.insert(key(member).to_owned(), encode(member.kind, format, value));
        }
    }
    object
}

fn encode(kind: Kind, format: TimestampFormat, value: &Value) -> Json {
    match (kind, value) {
        (Kind::Struct(schema), Value::Struct(fields)) => Json::Object(encode_all(schema, fields)),
        (Kind::List(item), Value::List(items)) => {
            items.iter().map(|value| encode(*item, format, value)).collect()
        }
        (Kind::Map(item), Value::Map(entries)) => {
            let entry = |(key, value): (&String, _)| (key.clone(), encode(*item, format, value));
            Json::Object(entries.iter().map(entry).collect())
        }
        (_, Value::Bool(truth)) => Json::Bool(*truth),
        (_, Value::Int(number)) => Json::Number((*number).into()),
        (_, Value::Float(number)) => number_json(*number),
        (_, Value::Timestamp(at)) if format == TimestampFormat::Unix => {
            number_json(at.seconds_f64())
        }
        (_, scalar) => {
            text::write(scalar, format, Fraction::Millis).map_or(Json::Null, Json::String)
        }
    }
}

/// JSON has no infinities; a value that became one is shown as absent.
fn number_json(number: f64) -> Json {
    Number::from_f64(number).map_or(Json::Null, Json::Number)
}
