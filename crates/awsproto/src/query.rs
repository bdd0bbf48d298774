//! Form parameters of ec2Query and awsQuery: `Filter.1.Value.2=x`.
//!
//! The two differ in list markers (`X.1` against `X.member.1`), in maps (awsQuery only) and in what
//! becomes of a parameter the operation does not have: EC2 refuses it, IAM and STS do not look.

use crate::error::{ParameterError, Problem, shortened};
use crate::limits::{DEPTH_MAX, ITEMS_MAX, PARAMETER_NAME_BYTES_MAX, PARAMETERS_MAX};
use crate::route::Protocol;
use crate::schema::{Kind, Member, Schema, TimestampFormat};
use crate::text;
use crate::value::{Fields, Value};
use std::collections::BTreeMap;

/// The parameters of one request, as a tree along the dots of their names.
#[derive(Debug, Default)]
pub(crate) struct Parameters(Node);

#[derive(Debug, Default)]
struct Node {
    value: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Parameters {
    /// Reads the parameters of a query string and a form body.
    pub(crate) fn parse(query: &str, body: &[u8]) -> Result<Self, ParameterError> {
        let body = std::str::from_utf8(body).map_err(|_| document("it is not UTF-8"))?;
        let mut root = Node::default();
        let mut count = 0;
        for pair in query.split('&').chain(body.trim_end().split('&')) {
            if pair.is_empty() {
                continue;
            }
            count += 1;
            if count > PARAMETERS_MAX {
                return Err(limit("parameters", PARAMETERS_MAX));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            root.insert(&form_decoded(name)?, form_decoded(value)?)?;
        }
        Ok(Self(root))
    }

    /// The value of a parameter without dots.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.children.get(name)?.value.as_deref()
    }

    /// Reads the parameters as an operation's input.
    pub(crate) fn decode(
        mut self,
        protocol: Protocol,
        schema: &'static Schema,
    ) -> Result<Value, ParameterError> {
        // The signature of a presigned request travels among the parameters.
        self.0.children.retain(|name, _| {
            !matches!(name.as_str(), "Action" | "Version")
                && !name.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("X-Amz-"))
        });
        Decoder { protocol }.structure(self.0, schema)
    }
}

impl Node {
    fn insert(&mut self, name: &str, value: String) -> Result<(), ParameterError> {
        if name.len() > PARAMETER_NAME_BYTES_MAX {
            return Err(limit("bytes of a parameter name", PARAMETER_NAME_BYTES_MAX));
        }
        let mut node = self;
        for (depth, part) in name.split('.').enumerate() {
            if depth >= DEPTH_MAX {
                return Err(limit("nested parameters", DEPTH_MAX));
            }
            node = node.children.entry(part.to_owned()).or_default();
        }
        match node.value.replace(value) {
            None => Ok(()),
            Some(_) => Err(document("a parameter is given twice")),
        }
    }

    /// The dotted rest of the first parameter at or below this node.
    fn first_name(&self) -> String {
        let mut name = String::new();
        let mut node = self;
        while let (None, Some((part, child))) = (&node.value, node.children.iter().next()) {
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(part);
            node = child;
        }
        name
    }
}

struct Decoder {
    protocol: Protocol,
}

impl Decoder {
    fn structure(&self, mut node: Node, schema: &'static Schema) -> Result<Value, ParameterError> {
        if node.value.is_some() {
            return Err(ParameterError::new(Problem::WrongType { expected: "a structure" }));
        }
        let mut fields = Fields::default();
        for member in schema.members {
            let name = member.query.unwrap_or(member.name);
            if let Some(child) = node.children.remove(name) {
                let value = self.member(child, member).map_err(|e| {
                    let e = if member.sensitive { e.redacted() } else { e };
                    e.within(name)
                })?;
                fields.push(member.name, value);
            }
        }
        self.refuse_rest(&node, schema)?;
        Ok(Value::Struct(fields))
    }

    fn refuse_rest(&self, rest: &Node, schema: &Schema) -> Result<(), ParameterError> {
        for (name, child) in &rest.children {
            if schema.unsupported.contains(&name.as_str()) {
                return Err(ParameterError::new(Problem::Unsupported).within(name.clone()));
            }
            if self.protocol == Protocol::Ec2Query {
                let below = child.first_name();
                let name = if below.is_empty() { name.clone() } else { format!("{name}.{below}") };
                return Err(ParameterError::new(Problem::Unknown).within(shortened(name)));
            }
        }
        Ok(())
    }

    fn member(&self, node: Node, member: &Member) -> Result<Value, ParameterError> {
        let format = member.timestamp.unwrap_or(TimestampFormat::Iso8601);
        match member.kind {
            Kind::List(item) => {
                let marker = match self.protocol {
                    Protocol::AwsQuery if !member.flattened => {
                        Some(member.list_item.unwrap_or("member"))
                    }
                    _ => None,
                };
                self.list(node, item, format, marker)
            }
            kind => self.value(node, kind, format),
        }
    }

    fn value(
        &self,
        node: Node,
        kind: Kind,
        format: TimestampFormat,
    ) -> Result<Value, ParameterError> {
        match kind {
            Kind::Struct(schema) => self.structure(node, schema),
            Kind::List(item) => {
                let marker = (self.protocol == Protocol::AwsQuery).then_some("member");
                self.list(node, item, format, marker)
            }
            Kind::Map(item) => self.map(node, item, format),
            scalar => match (node.value, node.children.is_empty()) {
                (Some(text), true) => text::parse(scalar, format, &text),
                _ => Err(ParameterError::new(Problem::WrongType { expected: "a single value" })),
            },
        }
    }

    fn list(
        &self,
        mut node: Node,
        item: &Kind,
        format: TimestampFormat,
        marker: Option<&str>,
    ) -> Result<Value, ParameterError> {
        // `X=` is how awsQuery says that a list is present and empty.
        let empty = self.protocol == Protocol::AwsQuery && node.value.as_deref() == Some("");
        if empty && node.children.is_empty() {
            return Ok(Value::List(Vec::new()));
        }
        if let Some(marker) = marker {
            let inner = node.children.remove(marker);
            if node.value.is_some() || !node.children.is_empty() {
                return Err(ParameterError::new(Problem::WrongType { expected: "a list" }));
            }
            node = inner.unwrap_or_default();
        }
        let items = positions(node)?.into_iter().map(|(at, child)| {
            self.value(child, *item, format).map_err(|e| e.within(at.to_string()))
        });
        items.collect::<Result<_, _>>().map(Value::List)
    }

    fn map(
        &self,
        mut node: Node,
        item: &Kind,
        format: TimestampFormat,
    ) -> Result<Value, ParameterError> {
        let wrong = || ParameterError::new(Problem::WrongType { expected: "a map" });
        let entries = node.children.remove("entry").unwrap_or_default();
        if node.value.is_some() || !node.children.is_empty() {
            return Err(wrong());
        }
        let mut map = BTreeMap::new();
        for (at, mut entry) in positions(entries)? {
            let key = entry.children.remove("key").and_then(|n| n.value).ok_or_else(wrong)?;
            let value = entry.children.remove("value").ok_or_else(wrong)?;
            let value = self.value(value, *item, format).map_err(|e| e.within(at.to_string()))?;
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }
}

/// The children of a list node in the order of their numbers. Gaps are not an error in EC2.
fn positions(node: Node) -> Result<Vec<(u32, Node)>, ParameterError> {
    let wrong = || ParameterError::new(Problem::WrongType { expected: "a list" });
    if node.value.is_some() {
        return Err(wrong());
    }
    if node.children.len() > ITEMS_MAX {
        return Err(limit("items", ITEMS_MAX));
    }
    let mut items = Vec::with_capacity(node.children.len());
    for (name, child) in node.children {
        // A sign or a leading zero would let two names mean one position.
        let canonical = name.bytes().all(|b| b.is_ascii_digit()) && !name.starts_with('0');
        match name.parse() {
            Ok(at) if canonical => items.push((at, child)),
            _ => return Err(ParameterError::new(Problem::Unknown).within(shortened(name))),
        }
    }
    items.sort_by_key(|(at, _)| *at);
    Ok(items)
}

/// Decodes `application/x-www-form-urlencoded` text.
pub(crate) fn form_decoded(text: &str) -> Result<String, ParameterError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&spaced).decode_utf8();
    decoded.map(|text| text.into_owned()).map_err(|_| document("a parameter is not UTF-8"))
}

fn document(why: &'static str) -> ParameterError {
    ParameterError::new(Problem::Document { why })
}

fn limit(what: &'static str, max: usize) -> ParameterError {
    ParameterError::new(Problem::Limit { what, max })
}
