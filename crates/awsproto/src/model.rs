//! Compares operations with the service models that the real clients are made from.
//!
//! The models are botocore's `service-2.json`, or the extracts of them in `tests/models`, which
//! `cargo xtask wire models` writes. Reading the file is the caller's business.

use crate::error::shortened;
use crate::name::upper_first;
use crate::route::{OperationInfo, Protocol};
use crate::schema::{Kind, Location, Member, Schema, TimestampFormat};
use crate::xml;
use serde_json::{Map, Value as Json};

/// A service model.
#[derive(Debug)]
pub struct Model(Json);

/// Why a text is no service model.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The text is not JSON.
    #[error("the service model is not JSON")]
    Json(#[source] serde_json::Error),
    /// A part that every service model has is absent.
    #[error("the service model has no '{part}'")]
    Part {
        /// `metadata`, `operations` or `shapes`.
        part: &'static str,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Input,
    Output,
}

impl Model {
    /// Reads the text of a `service-2.json`.
    ///
    /// # Errors
    /// When it is not JSON or lacks a part.
    pub fn parse(text: &str) -> Result<Self, ModelError> {
        let json: Json = serde_json::from_str(text).map_err(ModelError::Json)?;
        for part in ["metadata", "operations", "shapes"] {
            if !json[part].is_object() {
                return Err(ModelError::Part { part });
            }
        }
        Ok(Self(json))
    }

    /// The operations the model has, by name.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.0["operations"]
            .as_object()
            .into_iter()
            .flat_map(|operations| operations.keys().map(String::as_str))
    }

    /// Everything in which an operation differs from the model, as sentences. Empty is good.
    pub fn check(&self, operation: &OperationInfo) -> Vec<String> {
        let mut check =
            Check { model: self, protocol: operation.protocol, at: Vec::new(), found: Vec::new() };
        check.operation(operation);
        check.found
    }

    fn shape(&self, name: &str) -> &Json {
        &self.0["shapes"][name]
    }
}

struct Check<'a> {
    model: &'a Model,
    protocol: Protocol,
    at: Vec<String>,
    found: Vec<String>,
}

impl Check<'_> {
    fn report(&mut self, what: impl AsRef<str>) {
        self.found.push(format!("{}: {}", self.at.join("."), what.as_ref()));
    }

    fn inside(&mut self, name: &str, check: impl FnOnce(&mut Self)) {
        self.at.push(name.to_owned());
        check(self);
        self.at.pop();
    }

    fn operation(&mut self, ours: &OperationInfo) {
        self.at.push(ours.name.to_owned());
        let theirs = &self.model.0["operations"][ours.name];
        if theirs.is_null() {
            self.report("the model has no such operation");
            return;
        }
        let protocol = match self.model.0["metadata"]["protocol"].as_str() {
            Some("ec2") => Some(Protocol::Ec2Query),
            Some("query") => Some(Protocol::AwsQuery),
            Some("json") => Some(Protocol::AwsJson11),
            Some("rest-json") => Some(Protocol::RestJson1),
            _ => None,
        };
        if protocol != Some(ours.protocol) {
            let theirs = self.model.0["metadata"]["protocol"].as_str().unwrap_or_default();
            self.report(format!("the protocol is {theirs}"));
        }
        self.http(ours, &theirs["http"]);
        let (input, output) = (&theirs["input"]["shape"], &theirs["output"]);
        self.inside("Input", |check| check.side(ours.input, input, Direction::Input));
        self.inside("Output", |check| {
            if ours.output.is_unit() && !output["resultWrapper"].is_null() {
                check.report("replies have a result element: use a structure without members");
            }
            check.side(ours.output, &output["shape"], Direction::Output);
        });
    }

    fn http(&mut self, ours: &OperationInfo, theirs: &Json) {
        let expected = theirs["responseCode"].as_u64().unwrap_or(200);
        let by_member = ours.output.members.iter().any(|m| m.location == Location::StatusCode);
        if u64::from(ours.success_status) != expected && !by_member {
            self.report(format!("success is {expected}, not {}", ours.success_status));
        }
        if self.protocol == Protocol::RestJson1 {
            let expected = (theirs["method"].as_str(), theirs["requestUri"].as_str());
            if ours.http.map(|(m, p)| (Some(m), Some(p))) != Some(expected) {
                let [theirs, ours] = [expected, (ours.http.map(|h| h.0), ours.http.map(|h| h.1))]
                    .map(|(m, p)| format!("{} {}", m.unwrap_or_default(), p.unwrap_or_default()));
                self.report(format!("the method and path are {theirs}, not {ours}"));
            }
        }
    }

    fn side(&mut self, ours: &Schema, theirs: &Json, direction: Direction) {
        match theirs.as_str() {
            Some(shape) => self.structure(ours, shape, direction),
            None => {
                let names: Vec<_> = ours.members.iter().map(|m| m.name).collect();
                if !names.is_empty() {
                    self.report(format!("the model has none, ours has {}", names.join(", ")));
                }
            }
        }
    }

    fn structure(&mut self, ours: &Schema, shape_name: &str, direction: Direction) {
        let model = self.model;
        let shape = model.shape(shape_name);
        let nothing = Map::new();
        let members = shape["members"].as_object().unwrap_or(&nothing);
        let listed = |name: &str| match direction {
            Direction::Input => ours.unsupported.contains(&name),
            // A shape of both directions says once that it lacks a member.
            Direction::Output => ours.omitted.contains(&name) || ours.unsupported.contains(&name),
        };
        let mut lacking = Vec::new();
        for (name, theirs) in members {
            match ours.member(name) {
                Some(member) => {
                    self.inside(name, |check| check.member(member, shape, theirs, direction));
                }
                None if listed(name) => {}
                None => lacking.push(name.as_str()),
            }
        }
        if !lacking.is_empty() {
            let word = if direction == Direction::Input { "unsupported" } else { "omitted" };
            let lacking = lacking.join(", ");
            self.report(format!("{} lacks, and does not list as {word}: {lacking}", ours.name));
        }
        let absent = || ours.unsupported.iter().chain(ours.omitted).copied();
        for name in ours.members.iter().map(|m| m.name).chain(absent()) {
            if !members.contains_key(name) {
                self.report(format!("'{name}' is not a member of {shape_name}"));
            }
        }
        for name in absent().filter(|name| ours.member(name).is_some()) {
            self.report(format!("'{name}' is both a member and listed as absent"));
        }
    }

    fn member(&mut self, ours: &Member, parent: &Json, theirs: &Json, direction: Direction) {
        let shape_name = theirs["shape"].as_str().unwrap_or_default();
        let shape = self.model.shape(shape_name);
        self.name(ours, parent, theirs, direction);
        self.list_items(ours, shape, theirs, direction);
        self.timestamp(ours, shape, theirs);
        if shape["sensitive"].as_bool() == Some(true) && !ours.sensitive {
            self.report("is sensitive in the model");
        }
        let required = parent["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|name| name.as_str() == Some(ours.name)));
        if direction == Direction::Input {
            match (required, ours.required) {
                (true, false) => self.report("is required in the model"),
                // EC2's model says of few parts of its inputs that they are required.
                (false, true) if self.protocol != Protocol::Ec2Query => {
                    self.report("is optional in the model");
                }
                _ => {}
            }
        }
        self.kind(ours.kind, shape_name, direction);
    }

    fn name(&mut self, ours: &Member, parent: &Json, theirs: &Json, direction: Direction) {
        let location_name = theirs["locationName"].as_str();
        let plain = location_name.unwrap_or(ours.name);
        let (expected, actual) = match (self.protocol, direction) {
            (Protocol::Ec2Query, Direction::Input) => {
                let query_name = theirs["queryName"].as_str().map(str::to_owned);
                let expected = query_name
                    .or_else(|| location_name.map(upper_first))
                    .unwrap_or_else(|| ours.name.to_owned());
                (expected, ours.query.unwrap_or(ours.name).to_owned())
            }
            (Protocol::AwsQuery, Direction::Input) => {
                (plain.to_owned(), ours.query.unwrap_or(ours.name).to_owned())
            }
            (Protocol::Ec2Query | Protocol::AwsQuery, Direction::Output) => {
                (plain.to_owned(), xml::element_name(self.protocol, ours).into_owned())
            }
            (Protocol::AwsJson11, _) => {
                (plain.to_owned(), ours.json.unwrap_or(ours.name).to_owned())
            }
            (Protocol::RestJson1, _) => return self.location(ours, parent, theirs, plain),
        };
        if expected != actual {
            self.report(format!("is called '{expected}' on the wire, not '{actual}'"));
        }
    }

    fn location(&mut self, ours: &Member, parent: &Json, theirs: &Json, plain: &str) {
        let payload = parent["payload"].as_str() == Some(ours.name);
        let expected = match theirs["location"].as_str() {
            _ if payload => "the payload".to_owned(),
            None => format!("the body as '{plain}'"),
            Some("uri") => format!("the path as '{plain}'"),
            Some("querystring") => format!("the query string as '{plain}'"),
            Some("header") => format!("the header '{plain}'"),
            Some("statusCode") => "the status".to_owned(),
            Some(other) => format!("'{other}', which no codec knows"),
        };
        let actual = match ours.location {
            Location::Body => format!("the body as '{}'", ours.json.unwrap_or(ours.name)),
            Location::Label(name) => format!("the path as '{name}'"),
            Location::QueryString(name) => format!("the query string as '{name}'"),
            Location::Header(name) => format!("the header '{name}'"),
            Location::Payload => "the payload".to_owned(),
            Location::StatusCode => "the status".to_owned(),
        };
        if expected != actual {
            self.report(format!("is in {expected}, not in {actual}"));
        }
    }

    fn list_items(&mut self, ours: &Member, shape: &Json, theirs: &Json, direction: Direction) {
        if shape["type"] != "list" || !matches!(ours.kind, Kind::List(_)) {
            return;
        }
        let flattened = [shape, theirs].iter().any(|j| j["flattened"].as_bool() == Some(true));
        // ec2Query requests have no list markers at all.
        let marked = match self.protocol {
            Protocol::Ec2Query => direction == Direction::Output,
            Protocol::AwsQuery => true,
            Protocol::AwsJson11 | Protocol::RestJson1 => false,
        };
        if !marked {
            return;
        }
        if flattened != ours.flattened {
            self.report(format!("flattened is {flattened} in the model"));
        }
        let expected = shape["member"]["locationName"].as_str().unwrap_or("member");
        let actual = xml::item_name(self.protocol, ours);
        if !flattened && expected != actual {
            self.report(format!("items are called '{expected}', not '{actual}'"));
        }
    }

    fn timestamp(&mut self, ours: &Member, shape: &Json, theirs: &Json) {
        if shape["type"] != "timestamp" {
            return;
        }
        let in_json = match self.protocol {
            Protocol::Ec2Query | Protocol::AwsQuery => false,
            Protocol::AwsJson11 => true,
            Protocol::RestJson1 => matches!(ours.location, Location::Body | Location::Payload),
        };
        let default = if in_json { TimestampFormat::Unix } else { TimestampFormat::Iso8601 };
        let said = [theirs, shape].iter().find_map(|j| j["timestampFormat"].as_str());
        let expected = match said {
            Some("iso8601") => Some(TimestampFormat::Iso8601),
            Some("unixTimestamp") => Some(TimestampFormat::Unix),
            Some(_) => None,
            None if matches!(ours.location, Location::Header(_)) => None,
            None => Some(default),
        };
        if expected != Some(ours.timestamp.unwrap_or(default)) {
            self.report(format!("the timestamp format is {expected:?} ({said:?} in the model)"));
        }
    }

    fn kind(&mut self, ours: Kind, shape_name: &str, direction: Direction) {
        let model = self.model;
        let shape = model.shape(shape_name);
        let theirs = shape["type"].as_str().unwrap_or_default();
        match (theirs, ours) {
            ("string", Kind::String)
            | ("boolean", Kind::Bool)
            | ("integer", Kind::Integer)
            | ("long", Kind::Long)
            | ("float" | "double", Kind::Double)
            | ("blob", Kind::Blob)
            | ("timestamp", Kind::Timestamp) => {}
            ("string", Kind::Enum(texts)) => self.enumeration(texts, shape),
            ("list", Kind::List(item)) => {
                let item_shape = shape["member"]["shape"].as_str().unwrap_or_default();
                self.inside("item", |check| check.kind(*item, item_shape, direction));
            }
            ("map", Kind::Map(item)) => {
                if !shape["key"]["locationName"].is_null()
                    || !shape["value"]["locationName"].is_null()
                {
                    self.report("the map's keys and values have names of their own");
                }
                let value_shape = shape["value"]["shape"].as_str().unwrap_or_default();
                self.inside("value", |check| check.kind(*item, value_shape, direction));
            }
            ("structure", Kind::Struct(schema)) => self.structure(schema, shape_name, direction),
            _ => self.report(format!("is {theirs} in the model, not {}", kind_name(ours))),
        }
    }

    fn enumeration(&mut self, ours: &[&str], shape: &Json) {
        let Some(theirs) = shape["enum"].as_array() else {
            return;
        };
        for text in ours.iter().filter(|text| !theirs.iter().any(|t| t.as_str() == Some(**text))) {
            self.report(format!(
                "'{}' is not in the model's enumeration",
                shortened((*text).to_owned())
            ));
        }
    }
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Integer => "i32",
        Kind::Long => "i64",
        Kind::Double => "f64",
        Kind::String => "String",
        Kind::Enum(_) => "an enumeration",
        Kind::Blob => "Blob",
        Kind::Timestamp => "Timestamp",
        Kind::List(_) => "Vec",
        Kind::Map(_) => "BTreeMap",
        Kind::Struct(_) => "a structure",
    }
}
