//! Replies of ec2Query and awsQuery.

use crate::error::{Error, Fault};
use crate::name::lower_first;
use crate::route::{OperationInfo, Protocol, ServiceInfo};
use crate::schema::{Kind, Member, Schema, TimestampFormat};
use crate::text::{self, Fraction};
use crate::value::{Fields, Value};
use std::borrow::Cow;

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// The body of a successful reply.
pub(crate) fn success(
    service: &ServiceInfo,
    operation: &OperationInfo,
    output: &Value,
    request_id: &str,
) -> String {
    let mut out = Writer::new();
    let OperationInfo { name, output: schema, .. } = operation;
    let fields = output.as_fields();
    out.raw(&format!("<{name}Response xmlns=\"{}\">", escaped(service.xml_namespace)));
    match service.protocol {
        Protocol::AwsQuery => {
            if !schema.is_unit() {
                out.open(&format!("{name}Result"));
                out.members(Protocol::AwsQuery, schema, fields);
                out.close(&format!("{name}Result"));
            }
            out.open("ResponseMetadata");
            out.leaf("RequestId", request_id);
            out.close("ResponseMetadata");
        }
        _ => {
            out.leaf("requestId", request_id);
            if schema.is_unit() {
                // EC2 API reference: operations without data answer `return` = true.
                out.leaf("return", "true");
            }
            out.members(Protocol::Ec2Query, schema, fields);
        }
    }
    out.close(&format!("{name}Response"));
    out.0
}

/// The body of an error reply.
pub(crate) fn failure(protocol: Protocol, error: &Error, request_id: &str) -> String {
    let mut out = Writer::new();
    if protocol == Protocol::AwsQuery {
        out.open("ErrorResponse");
        out.open("Error");
        out.leaf("Type", if error.spec.fault == Fault::Sender { "Sender" } else { "Receiver" });
        out.error(error);
        out.close("Error");
        out.leaf("RequestId", request_id);
        out.close("ErrorResponse");
    } else {
        out.open("Response");
        out.open("Errors");
        out.open("Error");
        out.error(error);
        out.close("Error");
        out.close("Errors");
        // The model of an EC2 error has no more than code and message; clients skip what follows.
        for (name, value) in &error.members {
            out.leaf(name, value);
        }
        out.leaf("RequestID", request_id);
        out.close("Response");
    }
    out.0
}

/// The element name of a member in replies.
pub(crate) fn element_name(protocol: Protocol, member: &Member) -> Cow<'static, str> {
    match (member.xml, protocol) {
        (Some(name), _) => Cow::Borrowed(name),
        (None, Protocol::Ec2Query) => Cow::Owned(lower_first(member.name)),
        (None, _) => Cow::Borrowed(member.name),
    }
}

/// The element name of a list's items.
pub(crate) fn item_name(protocol: Protocol, member: &Member) -> &'static str {
    member.list_item.unwrap_or(default_item(protocol))
}

fn default_item(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Ec2Query { "item" } else { "member" }
}

struct Writer(String);

impl Writer {
    fn new() -> Self {
        Self(DECLARATION.to_owned())
    }

    fn raw(&mut self, text: &str) {
        self.0.push_str(text);
    }

    fn open(&mut self, name: &str) {
        self.raw("<");
        self.raw(name);
        self.raw(">");
    }

    fn close(&mut self, name: &str) {
        self.raw("</");
        self.raw(name);
        self.raw(">");
    }

    fn leaf(&mut self, name: &str, text: &str) {
        self.open(name);
        self.raw(&escaped(text));
        self.close(name);
    }

    fn error(&mut self, error: &Error) {
        self.leaf("Code", error.spec.code);
        self.leaf("Message", &error.message);
        for (name, value) in &error.members {
            self.leaf(name, value);
        }
    }

    fn members(&mut self, protocol: Protocol, schema: &Schema, fields: Option<&Fields>) {
        let Some(fields) = fields else { return };
        for member in schema.members {
            if let Some(value) = fields.get(member.name) {
                self.member(protocol, member, value);
            }
        }
    }

    fn member(&mut self, protocol: Protocol, member: &Member, value: &Value) {
        let name = element_name(protocol, member);
        let format = member.timestamp.unwrap_or(TimestampFormat::Iso8601);
        match (member.kind, value) {
            (Kind::List(kind), Value::List(items)) if member.flattened => {
                for item in items {
                    self.value(protocol, &name, *kind, format, item);
                }
            }
            (Kind::List(kind), Value::List(items)) => {
                self.list(&name, item_name(protocol, member), protocol, *kind, format, items);
            }
            (kind, value) => self.value(protocol, &name, kind, format, value),
        }
    }

    fn list(
        &mut self,
        name: &str,
        item_name: &str,
        protocol: Protocol,
        kind: Kind,
        format: TimestampFormat,
        items: &[Value],
    ) {
        self.open(name);
        for item in items {
            self.value(protocol, item_name, kind, format, item);
        }
        self.close(name);
    }

    fn value(
        &mut self,
        protocol: Protocol,
        name: &str,
        kind: Kind,
        format: TimestampFormat,
        value: &Value,
    ) {
        match (kind, value) {
            (Kind::Struct(schema), Value::Struct(fields)) => {
                self.open(name);
                self.members(protocol, schema, Some(fields));
                self.close(name);
            }
            (Kind::List(kind), Value::List(items)) => {
                self.list(name, default_item(protocol), protocol, *kind, format, items);
            }
            (Kind::Map(kind), Value::Map(entries)) => {
                self.open(name);
                for (key, item) in entries {
                    self.open("entry");
                    self.leaf("key", key);
                    self.value(protocol, "value", *kind, format, item);
                    self.close("entry");
                }
                self.close(name);
            }
            (_, scalar) => {
                let fraction = match protocol {
                    Protocol::AwsQuery => Fraction::None,
                    _ => Fraction::Millis,
                };
                if let Some(text) = text::write(scalar, format, fraction) {
                    self.leaf(name, &text);
                }
            }
        }
    }
}

/// Text as element content. XML 1.0 has no way to write most control characters, so they become
/// the replacement character; a bare carriage return would be read back as a line feed.
fn escaped(text: &str) -> Cow<'_, str> {
    let special = |c: char| {
        matches!(c, '&' | '<' | '>' | '"' | '\'' | '\r' | '\u{fffe}' | '\u{ffff}')
            || (c < ' ' && c != '\t' && c != '\n')
    };
    if !text.contains(special) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\r' => out.push_str("&#xD;"),
            c if special(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}
