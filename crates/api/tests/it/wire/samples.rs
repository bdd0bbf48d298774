//! A request and a reply of every operation, made from its shapes: one with every member, one with
//! as little as possible. New operations and members are so recorded without anybody listing them.

use awsproto::{Blob, Fields, Kind, Location, Member, Schema, Value};
use base::Timestamp;
use std::collections::BTreeMap;

/// How much a sample has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Every member, two items in every list.
    Full,
    /// Requests: what is required. Replies: every member, and nothing in it.
    Sparse,
}

impl Extent {
    pub(crate) const ALL: [Self; 2] = [Self::Full, Self::Sparse];

    /// The name of the case.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Sparse => "sparse",
        }
    }
}

/// Structures inside structures that are written out; shapes may contain themselves.
const DEPTH_MAX: usize = 6;
/// 2026-11-21T09:30:00Z: whole seconds, which is all that some protocols write.
const INSTANT: Timestamp = Timestamp(1_795_253_400_000);

/// A request with these members.
pub(crate) fn request(schema: &'static Schema, extent: Extent) -> Value {
    let required = |member: &Member| extent == Extent::Full || member.required;
    structure(schema, Extent::Full, &required, 0)
}

/// A reply with these members.
pub(crate) fn reply(schema: &'static Schema, extent: Extent) -> Value {
    structure(schema, extent, &|_| true, 0)
}

fn structure(
    schema: &'static Schema,
    extent: Extent,
    wanted: &dyn Fn(&Member) -> bool,
    depth: usize,
) -> Value {
    let mut fields = Fields::default();
    for member in schema.members.iter().filter(|member| wanted(member)) {
        let in_body = matches!(member.location, Location::Body | Location::Payload);
        let extent = if in_body { extent } else { Extent::Full };
        if let Some(value) = value(member.name, &member.kind, extent, wanted, depth) {
            fields.push(member.name, ascii_outside_body(value, in_body));
        }
    }
    Value::Struct(fields)
}

/// Headers carry ASCII.
fn ascii_outside_body(value: Value, in_body: bool) -> Value {
    match value {
        Value::String(text) if !in_body => {
            Value::String(text.chars().filter(char::is_ascii).collect())
        }
        other => other,
    }
}

fn value(
    name: &str,
    kind: &Kind,
    extent: Extent,
    wanted: &dyn Fn(&Member) -> bool,
    depth: usize,
) -> Option<Value> {
    let full = extent == Extent::Full;
    let inner = |item: &Kind, name: &str| value(name, item, extent, wanted, depth);
    Some(match kind {
        Kind::Bool => Value::Bool(full),
        Kind::Integer | Kind::Long => Value::Int(if full { number(name) } else { 0 }),
        Kind::Double => Value::Float(if full { 0.5 } else { 0.0 }),
        Kind::String => Value::String(if full { text(name) } else { String::new() }),
        Kind::Enum(texts) => Value::String((*texts.first()?).to_owned()),
        Kind::Blob => Value::Blob(Blob::from(if full { &b"\0bytes\xff\n"[..] } else { b"" })),
        Kind::Timestamp => Value::Timestamp(INSTANT),
        Kind::List(_) | Kind::Map(_) if !full => match kind {
            Kind::List(_) => Value::List(Vec::new()),
            _ => Value::Map(BTreeMap::new()),
        },
        Kind::List(item) => {
            let second = format!("{name} 2");
            Value::List(vec![inner(item, name)?, inner(item, &second)?])
        }
        Kind::Map(item) => Value::Map(BTreeMap::from([
            ("aws:ebs:id".to_owned(), inner(item, name)?),
            ("Key / 2 & ü".to_owned(), inner(item, name)?),
        ])),
        Kind::Struct(_) if depth >= DEPTH_MAX => return None,
        Kind::Struct(schema) => structure(schema, extent, wanted, depth + 1),
    })
}

/// A number that clients accept for a member of this name.
fn number(name: &str) -> i64 {
    match name {
        "MaxResults" | "MaxItems" | "Limit" => 100,
        "DurationSeconds" | "MaxSessionDuration" => 3600,
        "RotationPeriodInDays" => 365,
        "CompletionDurationMinutes" | "Timeout" => 60,
        _ => 7,
    }
}

/// A text for a member of this name: realistic where clients look at it, else every character that
/// some protocol has to escape.
fn text(name: &str) -> String {
    let known = [
        ("VolumeId", "vol-0123456789abcdef0"),
        ("SnapshotId", "snap-0123456789abcdef0"),
        ("SourceSnapshotId", "snap-0123456789abcdef0"),
        ("InstanceId", "i-0123456789abcdef0"),
        ("AvailabilityZone", "us-east-1a"),
        ("KeyMaterialId", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"),
        ("SourceRegion", "eu-west-1"),
        ("DestinationRegion", "us-east-1"),
        ("ClientToken", "2f1f0e9e-0000-4000-8000-000000000002"),
        ("Checksum", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
        ("ChecksumAlgorithm", "SHA256"),
        ("ThumbprintList", "0123456789abcdef0123456789abcdef01234567"),
        ("ThumbprintList 2", "89abcdef0123456789abcdef0123456789abcdef"),
    ];
    match known.iter().find(|(known, _)| *known == name) {
        Some((_, text)) => (*text).to_owned(),
        None => {
            let text = format!("{name} é漢 &+%=<>\"'~/?#;,\u{e000}");
            // Clients ask for a thousand characters of it.
            text.repeat(if name == "SAMLMetadataDocument" { 30 } else { 1 })
        }
    }
}
