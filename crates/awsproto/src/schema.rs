//! What a shape looks like, as constant data that every codec reads.

/// A structure of the wire API: an operation's input or output, or a part of one.
///
/// Implemented by `#[derive(Shape)]`; the guide is in the crate's documentation.
pub trait Shape {
    /// The shape's description.
    const SCHEMA: &'static Schema;
}

/// An operation without input or without output.
impl Shape for () {
    const SCHEMA: &'static Schema =
        &Schema { name: "()", members: &[], unsupported: &[], omitted: &[] };
}

/// Description of a structure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schema {
    /// The Rust name of the structure, for messages of the model check.
    pub name: &'static str,
    /// The members, in the order they are written.
    pub members: &'static [Member],
    /// Names of model members that are known and refused by name when a request carries them.
    pub unsupported: &'static [&'static str],
    /// Names of model members that an output never returns.
    pub omitted: &'static [&'static str],
}

impl Schema {
    /// Whether this is the schema of `()`: no document at all, unlike a structure without members.
    pub fn is_unit(&self) -> bool {
        self.name == "()"
    }

    /// The member of a canonical name.
    pub fn member(&self, name: &str) -> Option<&'static Member> {
        self.members.iter().find(|m| m.name == name)
    }
}

/// Description of one member of a structure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Member {
    /// The name in the service model: `VolumeId`. Also the key in [`crate::Fields`].
    pub name: &'static str,
    /// The type.
    pub kind: Kind,
    /// Whether a request without it is refused.
    pub required: bool,
    /// Parameter name of ec2Query and awsQuery requests where it is not `name`.
    pub query: Option<&'static str>,
    /// Element name of XML replies where it is not the protocol's default.
    pub xml: Option<&'static str>,
    /// Key of JSON documents where it is not `name`.
    pub json: Option<&'static str>,
    /// Name of a list's items where it is not the protocol's default (`item`, `member`).
    pub list_item: Option<&'static str>,
    /// Whether a list has no wrapping element.
    pub flattened: bool,
    /// Where restJson1 carries it.
    pub location: Location,
    /// How an instant is written where it is not the protocol's default.
    pub timestamp: Option<TimestampFormat>,
    /// Whether the content must not reach logs, errors or the audit trail.
    pub sensitive: bool,
}

impl Member {
    /// `DryRun`, which the one who runs the operations answers for all of them. Structures say
    /// `#[shape(dry_run)]` instead of having a field that nothing would read.
    pub const DRY_RUN: Self = Self {
        name: "DryRun",
        kind: Kind::Bool,
        required: false,
        query: None,
        xml: None,
        json: None,
        list_item: None,
        flattened: false,
        location: Location::Body,
        timestamp: None,
        sensitive: false,
    };
}

/// The type of a member, an item or a map value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A 32-bit integer.
    Integer,
    /// A 64-bit integer.
    Long,
    /// A floating-point number.
    Double,
    /// Text.
    String,
    /// One of the listed texts.
    Enum(&'static [&'static str]),
    /// Bytes; base64 in documents, raw as a payload.
    Blob,
    /// An instant.
    Timestamp,
    /// A list.
    List(&'static Kind),
    /// A map from text.
    Map(&'static Kind),
    /// A nested structure.
    Struct(&'static Schema),
}

/// Where restJson1 carries a member. The other protocols carry every member in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Location {
    /// A key of the JSON document.
    Body,
    /// A `{label}` of the path template.
    Label(&'static str),
    /// A parameter of the query string.
    QueryString(&'static str),
    /// A header.
    Header(&'static str),
    /// The whole body: raw bytes or one JSON document.
    Payload,
    /// The HTTP status of the reply.
    StatusCode,
}

/// How an instant is written. No served model has an instant in a header, so the header format of
/// restJson1 is not here; the model check would report one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// `2026-11-21T09:30:00.000Z`.
    Iso8601,
    /// Seconds since the epoch with a fraction.
    Unix,
}
