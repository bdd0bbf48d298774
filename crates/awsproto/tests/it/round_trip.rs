//! Values written and read back are the same values.

use crate::shapes::find;
use awsproto::{
    Blob, Fields, Kind, Location, Member, Protocol, Router, Schema, Value, client, reply,
};
use base::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use std::sync::LazyLock;

static ROUTER: LazyLock<Router> = LazyLock::new(crate::shapes::router);

/// Text that every codec can carry: XML has no control characters, and line ends are its own.
fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("([ -~]|[\\n\\t]|[äß€😀])*").unwrap()
}

fn value(kind: Kind) -> BoxedStrategy<Value> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::Integer => any::<i32>().prop_map(|n| Value::Int(n.into())).boxed(),
        Kind::Long => any::<i64>().prop_map(Value::Int).boxed(),
        // Halves survive the JSON parser, which is not exact in the last bit.
        Kind::Double => any::<i32>().prop_map(|n| Value::Float(f64::from(n) / 2.0)).boxed(),
        Kind::String | Kind::Enum(_) => text().prop_map(Value::String).boxed(),
        Kind::Blob => vec(any::<u8>(), 0..50).prop_map(|b| Value::Blob(Blob::from(b))).boxed(),
        // Whole seconds: IAM and STS write no fraction.
        Kind::Timestamp => (-62_135_596_800_i64..253_402_300_800)
            .prop_map(|s| Value::Timestamp(Timestamp(s * 1000)))
            .boxed(),
        Kind::List(item) => vec(value(*item), 0..4).prop_map(Value::List).boxed(),
        Kind::Map(item) => btree_map(text(), value(*item), 0..4).prop_map(Value::Map).boxed(),
        Kind::Struct(schema) => structure(schema),
    }
}

fn member(member: &'static Member) -> BoxedStrategy<Option<Value>> {
    let value = match (member.location, member.kind) {
        (Location::Label(_), Kind::String) => text()
            .prop_filter("labels have text", |t| !t.is_empty())
            .prop_map(Value::String)
            .boxed(),
        (Location::StatusCode, _) => (200_i64..=203).prop_map(Value::Int).boxed(),
        (_, kind) => value(kind),
    };
    if member.required { value.prop_map(Some).boxed() } else { proptest::option::of(value).boxed() }
}

fn structure(schema: &'static Schema) -> BoxedStrategy<Value> {
    let members: Vec<_> = schema.members.iter().map(member).collect();
    members
        .prop_map(|values| {
            let mut fields = Fields::default();
            for (member, value) in schema.members.iter().zip(values) {
                if let Some(value) = value {
                    fields.push(member.name, value);
                }
            }
            Value::Struct(fields)
        })
        .boxed()
}

/// What a form cannot say: empty lists (EC2), empty maps, lists of nothing but empty lists.
fn without_unsayable(protocol: Protocol, value: Value) -> Option<Value> {
    Some(match value {
        Value::Struct(fields) => {
            let mut kept = Fields::default();
            for (name, value) in fields.iter() {
                if let Some(value) = without_unsayable(protocol, value.clone()) {
                    kept.push(name, value);
                }
            }
            Value::Struct(kept)
        }
        Value::List(items) => {
            let kept: Vec<_> =
                items.into_iter().filter_map(|v| without_unsayable(protocol, v)).collect();
            if kept.is_empty() && protocol == Protocol::Ec2Query {
                return None;
            }
            Value::List(kept)
        }
        Value::Map(entries) if entries.is_empty() => return None,
        other => other,
    })
}

/// Query-string lists have no empty form.
fn without_empty_query_lists(schema: &Schema, value: Value) -> Value {
    let Value::Struct(fields) = value else { return value };
    let mut kept = Fields::default();
    for (name, value) in fields.iter() {
        let in_query = matches!(schema.member(name).unwrap().location, Location::QueryString(_));
        if !(in_query && *value == Value::List(vec![])) {
            kept.push(name, value.clone());
        }
    }
    Value::Struct(kept)
}

fn same(schema: &Schema, a: &Value, b: &Value) -> bool {
    // Fields keep the order in which a codec meets them.
    match (a, b) {
        (Value::Struct(a), Value::Struct(b)) => {
            schema.members.iter().all(|m| match (a.get(m.name), b.get(m.name)) {
                (None, None) => true,
                (Some(a), Some(b)) => same_kind(m.kind, a, b),
                _ => false,
            })
        }
        _ => false,
    }
}

fn same_kind(kind: Kind, a: &Value, b: &Value) -> bool {
    match (kind, a, b) {
        (Kind::Struct(schema), a, b) => same(schema, a, b),
        (Kind::List(kind), Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_kind(*kind, a, b))
        }
        (Kind::Map(kind), Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().zip(b).all(|((k, a), (l, b))| k == l && same_kind(*kind, a, b))
        }
        (_, a, b) => a == b,
    }
}

fn request_survives(service: &str, name: &str, input: Value) -> Result<(), TestCaseError> {
    let (service, operation) = find(service, name);
    let input = match operation.protocol {
        Protocol::Ec2Query | Protocol::AwsQuery => {
            without_unsayable(operation.protocol, input).unwrap()
        }
        _ => without_empty_query_lists(operation.input, input),
    };
    let written = client::request(service, operation, &input);
    let request = written.received();
    let route = ROUTER.route(Some(service.name), &request).unwrap();
    prop_assert_eq!(route.operation.name, operation.name);
    let read = route.decode(&request);
    prop_assert!(
        read.as_ref().is_ok_and(|read| same(operation.input, read, &input)),
        "{:?}\n{} {}\n{:?}",
        read,
        written.path,
        written.query,
        String::from_utf8_lossy(&written.body),
    );
    Ok(())
}

fn reply_survives(service: &str, name: &str, output: &Value) -> Result<(), TestCaseError> {
    let (service, operation) = find(service, name);
    let response = reply::success(service, operation, output, "rid");
    let read = client::output(operation, &response);
    // A flattened list without items has no element at all.
    let flat_gone = |v: &Value| match v {
        Value::Struct(fields) => {
            let mut kept = Fields::default();
            for (name, value) in fields.iter() {
                let flat = operation.output.member(name).unwrap().flattened;
                let xml = matches!(operation.protocol, Protocol::Ec2Query | Protocol::AwsQuery);
                if !(flat && xml && *value == Value::List(vec![])) {
                    kept.push(name, value.clone());
                }
            }
            Value::Struct(kept)
        }
        other => other.clone(),
    };
    prop_assert!(
        read.as_ref().is_ok_and(|read| same(operation.output, read, &flat_gone(output))),
        "{:?}\n{}",
        read,
        String::from_utf8_lossy(&response.body),
    );
    Ok(())
}

fn input_of(service: &str, name: &str) -> BoxedStrategy<Value> {
    structure(find(service, name).1.input)
}

fn output_of(service: &str, name: &str) -> BoxedStrategy<Value> {
    structure(find(service, name).1.output)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]

    #[test]
    fn ec2_query(input in input_of("ec2", "Everything"), output in output_of("ec2", "Everything")) {
        request_survives("ec2", "Everything", input)?;
        reply_survives("ec2", "Everything", &output)?;
    }

    #[test]
    fn aws_query(input in input_of("iam", "Everything"), output in output_of("iam", "Everything")) {
        request_survives("iam", "Everything", input)?;
        reply_survives("iam", "Everything", &output)?;
    }

    #[test]
    fn aws_json(input in input_of("kms", "Everything"), output in output_of("kms", "Everything")) {
        request_survives("kms", "Everything", input)?;
        reply_survives("kms", "Everything", &output)?;
    }

    #[test]
    fn rest_json(input in input_of("ebs", "Everywhere"), output in output_of("ebs", "Everywhere")) {
        request_survives("ebs", "Everywhere", input)?;
        reply_survives("ebs", "Everywhere", &output)?;
    }

    #[test]
    fn rest_json_payload(bytes in vec(any::<u8>(), 0..200), index in any::<i32>()) {
        let mut fields = Fields::default();
        fields.push("SnapshotId", Value::String("snap-12345678".into()));
        fields.push("BlockIndex", Value::Int(index.into()));
        fields.push("BlockData", Value::Blob(Blob::from(bytes)));
        request_survives("ebs", "PutSnapshotBlock", Value::Struct(fields))?;
    }
}
