//! The other direction: requests written and replies read, as a client does.
//!
//! For tests of operations over the wire and for our own command line; the server never calls it.

use crate::error::{ParameterError, Problem};
use crate::http::{Request, Response};
use crate::limits::DEPTH_MAX;
use crate::route::{OperationInfo, Protocol, ServiceInfo};
use crate::schema::{Kind, Location, Member, Schema, TimestampFormat};
use crate::text::{self, Fraction};
use crate::value::{Blob, Fields, Value};
use crate::{json, rest, xml};
use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use quick_xml::XmlVersion;
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Everything but the characters RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A written request, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenRequest {
    /// `GET`, `POST`.
    pub method: String,
    /// The path, percent-encoded.
    pub path: String,
    /// The query string.
    pub query: String,
    /// Headers of the protocol.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl WrittenRequest {
    /// The request as a server sees it.
    pub fn received(&self) -> Request<'_> {
        let Self { method, path, query, headers, body } = self;
        Request { method, path, query, headers, body }
    }
}

/// Writes a request.
pub fn request(service: &ServiceInfo, operation: &OperationInfo, input: &Value) -> WrittenRequest {
    let nothing = Fields::default();
    let fields = input.as_fields().unwrap_or(&nothing);
    let content_type = |text: &str| vec![("Content-Type".to_owned(), text.to_owned())];
    let post = |headers, body: Bytes| WrittenRequest {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers,
        body,
    };
    match operation.protocol {
        Protocol::Ec2Query | Protocol::AwsQuery => {
            let mut form = Form(format!("Action={}&Version={}", operation.name, service.version));
            form.structure(operation.protocol, "", operation.input, fields);
            post(content_type("application/x-www-form-urlencoded; charset=utf-8"), form.0.into())
        }
        Protocol::AwsJson11 => {
            let mut headers = content_type("application/x-amz-json-1.1");
            let target = format!("{}.{}", service.target_prefix, operation.name);
            headers.push(("X-Amz-Target".to_owned(), target));
            let body = json::encode_all(operation.input, fields);
            post(headers, json::body(body))
        }
        Protocol::RestJson1 => rest_request(operation, fields),
    }
}

fn rest_request(operation: &OperationInfo, fields: &Fields) -> WrittenRequest {
    let (method, template) = operation.http.unwrap_or(("POST", "/"));
    let (path, query) = template.split_once('?').unwrap_or((template, ""));
    let (mut path, mut query) = (path.to_owned(), query.to_owned());
    for member in operation.input.members {
        let Some(value) = fields.get(member.name) else { continue };
        match (member.location, value) {
            (Location::Label(name), value) => {
                if let Some(text) = plain_text(member, value) {
                    let text = utf8_percent_encode(&text, RESERVED).to_string();
                    path = path.replace(&format!("{{{name}}}"), &text);
                }
            }
            (Location::QueryString(name), Value::List(items)) => {
                for item in items {
                    push_pair(&mut query, name, &plain_text(member, item).unwrap_or_default());
                }
            }
            (Location::QueryString(name), value) => {
                push_pair(&mut query, name, &plain_text(member, value).unwrap_or_default());
            }
            _ => {}
        }
    }
    // Headers and body are written as those of a reply.
    let rest::Parts { headers, body, .. } = rest::encode(operation.input, fields);
    WrittenRequest { method: method.to_owned(), path, query, headers, body }
}

fn plain_text(member: &Member, value: &Value) -> Option<String> {
    text::write(value, member.timestamp.unwrap_or(TimestampFormat::Iso8601), Fraction::Millis)
}

fn push_pair(text: &mut String, name: &str, value: &str) {
    if !text.is_empty() {
        text.push('&');
    }
    text.extend(utf8_percent_encode(name, RESERVED));
    text.push('=');
    text.extend(utf8_percent_encode(value, RESERVED));
}

struct Form(String);

impl Form {
    fn structure(&mut self, protocol: Protocol, prefix: &str, schema: &Schema, fields: &Fields) {
        for member in schema.members {
            let Some(value) = fields.get(member.name) else { continue };
            let name = format!("{prefix}{}", member.query.unwrap_or(member.name));
            let marker = match protocol {
                Protocol::AwsQuery if !member.flattened => member.list_item.unwrap_or("member"),
                _ => "",
            };
            let format = member.timestamp.unwrap_or(TimestampFormat::Iso8601);
            self.value(protocol, &name, member.kind, marker, format, value);
        }
    }

    fn value(
        &mut self,
        protocol: Protocol,
        name: &str,
        kind: Kind,
        marker: &str,
        format: TimestampFormat,
        value: &Value,
    ) {
        match (kind, value) {
            (Kind::Struct(schema), Value::Struct(fields)) => {
                self.structure(protocol, &format!("{name}."), schema, fields);
            }
            (Kind::List(_), Value::List(items)) if items.is_empty() => {
                if protocol == Protocol::AwsQuery {
                    push_pair(&mut self.0, name, "");
                }
            }
            (Kind::List(kind), Value::List(items)) => {
                let marked =
                    if marker.is_empty() { name.to_owned() } else { format!("{name}.{marker}") };
                let inner = if protocol == Protocol::AwsQuery { "member" } else { "" };
                for (at, item) in items.iter().enumerate() {
                    let name = format!("{marked}.{}", at + 1);
                    self.value(protocol, &name, *kind, inner, format, item);
                }
            }
            (Kind::Map(kind), Value::Map(entries)) => {
                for (at, (key, item)) in entries.iter().enumerate() {
                    let name = format!("{name}.entry.{}", at + 1);
                    push_pair(&mut self.0, &format!("{name}.key"), key);
                    let name = format!("{name}.value");
                    self.value(protocol, &name, *kind, "member", format, item);
                }
            }
            (_, scalar) => {
                if let Some(text) = text::write(scalar, format, Fraction::Millis) {
                    push_pair(&mut self.0, name, &text);
                }
            }
        }
    }
}

/// Reads a successful reply.
///
/// # Errors
/// When the reply is no output of the operation.
pub fn output(operation: &OperationInfo, response: &Response) -> Result<Value, ParameterError> {
    let schema = operation.output;
    match operation.protocol {
        Protocol::Ec2Query => structure_from(Protocol::Ec2Query, schema, &document(response)?),
        Protocol::AwsQuery => {
            let root = document(response)?;
            let result = root.child(&format!("{}Result", operation.name));
            structure_from(Protocol::AwsQuery, schema, result.unwrap_or(&Element::default()))
        }
        Protocol::AwsJson11 => {
            let mut fields = Fields::default();
            json::decode_into(&mut fields, schema, json::parse(&response.body)?, |_| true)?;
            Ok(Value::Struct(fields))
        }
        Protocol::RestJson1 => {
            let request = Request {
                method: "",
                path: "",
                query: "",
                headers: &response.headers,
                body: &response.body,
            };
            let Value::Struct(mut fields) = rest::decode(schema, &[], &request)? else {
                return Err(ParameterError::new(Problem::WrongType { expected: "a structure" }));
            };
            let status = schema.members.iter().find(|m| m.location == Location::StatusCode);
            if let Some(member) = status {
                fields.push(member.name, Value::Int(response.status.into()));
            }
            Ok(Value::Struct(fields))
        }
    }
}

/// The code and message of an error reply.
pub fn error_of(protocol: Protocol, response: &Response) -> Option<(String, String)> {
    match protocol {
        Protocol::Ec2Query | Protocol::AwsQuery => {
            let root = document(response).ok()?;
            let error = root.child("Errors").unwrap_or(&root).child("Error")?;
            Some((error.child("Code")?.text.clone(), error.child("Message")?.text.clone()))
        }
        Protocol::AwsJson11 | Protocol::RestJson1 => {
            let body = json::parse(&response.body).ok()?;
            let text = |key: &str| body.get(key).and_then(Json::as_str).map(str::to_owned);
            let code = response.header("x-amzn-ErrorType").map(str::to_owned);
            let message = text("message").or_else(|| text("Message"));
            Some((code.or_else(|| text("__type"))?, message.unwrap_or_default()))
        }
    }
}

#[derive(Default)]
struct Element {
    name: String,
    text: String,
    children: Vec<Element>,
}

impl Element {
    fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|child| child.name == name)
    }
}

fn malformed() -> ParameterError {
    ParameterError::new(Problem::Document { why: "the reply is not XML" })
}

/// The root element of a reply.
fn document(response: &Response) -> Result<Element, ParameterError> {
    let text = std::str::from_utf8(&response.body).map_err(|_| malformed())?;
    let mut reader = quick_xml::Reader::from_str(text);
    let mut open = vec![Element::default()];
    loop {
        let event = reader.read_event().map_err(|_| malformed())?;
        if open.len() > DEPTH_MAX {
            return Err(ParameterError::new(Problem::Limit { what: "nesting", max: DEPTH_MAX }));
        }
        let top = open.last_mut().ok_or_else(malformed)?;
        match event {
            Event::Start(tag) => {
                let name = tag.local_name().as_ref().to_owned();
                open.push(Element { name, ..Element::default() });
            }
            Event::Empty(tag) => {
                let name = tag.local_name().as_ref().to_owned();
                top.children.push(Element { name, ..Element::default() });
            }
            Event::End(_) => {
                let done = open.pop().ok_or_else(malformed)?;
                open.last_mut().ok_or_else(malformed)?.children.push(done);
            }
            Event::Text(text) => {
                top.text.push_str(&text.xml_content(XmlVersion::Implicit1_0));
            }
            Event::GeneralRef(entity) => match entity.resolve_char_ref() {
                Ok(Some(c)) => top.text.push(c),
                _ => {
                    top.text.push_str(resolve_xml_entity(&entity).ok_or_else(malformed)?);
                }
            },
            Event::Eof => break,
            _ => {}
        }
    }
    let mut root = open.pop().filter(|_| open.is_empty()).ok_or_else(malformed)?;
    root.children.pop().ok_or_else(malformed)
}

fn structure_from(
    protocol: Protocol,
    schema: &Schema,
    element: &Element,
) -> Result<Value, ParameterError> {
    let mut fields = Fields::default();
    for member in schema.members {
        let name = xml::element_name(protocol, member);
        let format = member.timestamp.unwrap_or(TimestampFormat::Iso8601);
        let value = match member.kind {
            Kind::List(item) if member.flattened => {
                let same: Vec<_> = element.children.iter().filter(|c| c.name == name).collect();
                if same.is_empty() {
                    continue;
                }
                let read = |child: &&Element| value_from(protocol, *item, format, child);
                same.iter().map(read).collect::<Result<_, _>>().map(Value::List)
            }
            kind => match element.child(&name) {
                Some(child) => value_from(protocol, kind, format, child),
                None => continue,
            },
        };
        fields.push(member.name, value.map_err(|e| e.within(member.name))?);
    }
    Ok(Value::Struct(fields))
}

fn value_from(
    protocol: Protocol,
    kind: Kind,
    format: TimestampFormat,
    element: &Element,
) -> Result<Value, ParameterError> {
    match kind {
        Kind::Struct(schema) => structure_from(protocol, schema, element),
        Kind::List(item) => {
            let read = |child| value_from(protocol, *item, format, child);
            element.children.iter().map(read).collect::<Result<_, _>>().map(Value::List)
        }
        Kind::Map(item) => {
            let mut entries = BTreeMap::new();
            for entry in &element.children {
                let key = entry.child("key").ok_or_else(malformed)?.text.clone();
                let value = entry.child("value").ok_or_else(malformed)?;
                entries.insert(key, value_from(protocol, *item, format, value)?);
            }
            Ok(Value::Map(entries))
        }
        Kind::Blob if element.text.is_empty() => Ok(Value::Blob(Blob::default())),
        scalar => text::parse(scalar, format, &element.text),
    }
}
