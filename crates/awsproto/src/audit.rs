//! Parameters as the audit trail shows them: CloudTrail's `requestParameters`.

use crate::name::lower_first;
use crate::route::Protocol;
use crate::schema::{Kind, Member, Schema};
use crate::text::{self, Fraction};
use crate::value::{Fields, Value};
use crate::{TimestampFormat, xml};
use serde_json::{Map, Value as Json, json};

/// An input or output in the trail's form; `null` when nothing may be shown.
///
/// Keys are `lowerCamel`. Bytes and sensitive members are left out. EC2 shows a list as
/// `{"items": [..]}` under its element name (spec 20, D.1).
pub fn parameters(protocol: Protocol, schema: &Schema, value: &Value) -> Json {
    let shown = value.as_fields().map(|fields| structure(protocol, schema, fields));
    shown.filter(|object| !object.is_empty()).map_or(Json::Null, Json::Object)
}

fn structure(protocol: Protocol, schema: &Schema, fields: &Fields) -> Map<String, Json> {
    let mut object = Map::new();
    for member in schema.members.iter().filter(|member| !member.sensitive) {
        let shown = fields.get(member.name).and_then(|v| show(protocol, member, member.kind, v));
        if let Some(shown) = shown {
            let name = match protocol {
                Protocol::Ec2Query => xml::element_name(protocol, member).into_owned(),
                _ => lower_first(member.name),
            };
            object.insert(name, shown);
        }
    }
    object
}

fn show(protocol: Protocol, member: &Member, kind: Kind, value: &Value) -> Option<Json> {
    Some(match (kind, value) {
        (_, Value::Blob(_)) => return None,
        (_, Value::Bool(truth)) => Json::Bool(*truth),
        (_, Value::Int(number)) => Json::Number((*number).into()),
        (_, Value::Float(number)) => serde_json::Number::from_f64(*number).map(Json::Number)?,
        (Kind::Struct(schema), Value::Struct(fields)) => {
            Json::Object(structure(protocol, schema, fields))
        }
        (Kind::Map(kind), Value::Map(entries)) => {
            let entry =
                |(key, v): (&String, _)| Some((key.clone(), show(protocol, member, *kind, v)?));
            Json::Object(entries.iter().filter_map(entry).collect())
        }
        (Kind::List(kind), Value::List(items)) => {
            let items: Vec<Json> =
                items.iter().filter_map(|item| show(protocol, member, *kind, item)).collect();
            match (protocol, member.list_item) {
                (Protocol::Ec2Query, Some(name)) if !matches!(kind, Kind::Struct(_)) => {
                    let name = lower_first(name);
                    let named = |item: Json| Json::Object(Map::from_iter([(name.clone(), item)]));
                    json!({ "items": items.into_iter().map(named).collect::<Vec<_>>() })
                }
                (Protocol::Ec2Query, _) => json!({ "items": items }),
                _ => Json::Array(items),
            }
        }
        (_, scalar) => Json::String(text::write(scalar, TimestampFormat::Iso8601, Fraction::None)?),
    })
}
