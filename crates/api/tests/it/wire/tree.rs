//! Values as JSON whose keys are the service model's member names; bytes are base64, instants ISO.

use awsproto::{Blob, Fields, Kind, Schema, Value};
use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;

/// The JSON of a value.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::Int(value) => Json::from(*value),
        Value::Float(value) => Json::from(*value),
        Value::String(value) => Json::from(value.as_str()),
        Value::Blob(value) => Json::from(STANDARD.encode(&**value)),
        Value::Timestamp(value) => Json::from(value.iso_millis()),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
        Value::Struct(fields) => Json::Object(
            fields.iter().map(|(key, value)| (key.to_owned(), to_json(value))).collect(),
        ),
    }
}

/// The structure that [`to_json`] wrote.
pub(crate) fn structure(schema: &'static Schema, json: &Json) -> Value {
    let object = json.as_object().unwrap_or_else(|| panic!("{} is no object", schema.name));
    let mut fields = Fields::default();
    for (name, value) in object {
        let member = schema.member(name).unwrap_or_else(|| panic!("{} has no {name}", schema.name));
        fields.push(member.name, typed(&member.kind, value));
    }
    Value::Struct(fields)
}

fn typed(kind: &Kind, json: &Json) -> Value {
    let text = || json.as_str().unwrap_or_else(|| panic!("{json} is no text"));
    match kind {
        Kind::Bool => Value::Bool(json.as_bool().unwrap_or_else(|| panic!("{json} is no bool"))),
        Kind::Integer | Kind::Long => {
            Value::Int(json.as_i64().unwrap_or_else(|| panic!("{json} is no integer")))
        }
        Kind::Double => {
            Value::Float(json.as_f64().unwrap_or_else(|| panic!("{json} is no number")))
        }
        Kind::String | Kind::Enum(_) => Value::String(text().to_owned()),
        Kind::Blob => Value::Blob(Blob::from(
            STANDARD.decode(text()).unwrap_or_else(|error| panic!("{json}: {error}")),
        )),
        Kind::Timestamp => Value::Timestamp(
            Timestamp::parse_iso(text()).unwrap_or_else(|| panic!("{json} is no instant")),
        ),
        Kind::List(item) => {
            let items = json.as_array().unwrap_or_else(|| panic!("{json} is no list"));
            Value::List(items.iter().map(|value| typed(item, value)).collect())
        }
        Kind::Map(item) => {
            let entries = json.as_object().unwrap_or_else(|| panic!("{json} is no map"));
            let entry = |(key, value): (&String, &Json)| (key.clone(), typed(item, value));
            Value::Map(entries.iter().map(entry).collect())
        }
        Kind::Struct(schema) => structure(schema, json),
    }
}
