//! The AWS wire protocols: bytes to shapes and back. Knows no service.
//!
//! An operation declares its input and output as structures with `#[derive(Shape)]`. The derive
//! makes a constant [`Schema`] and conversions to and from a protocol-neutral [`Value`]; the codecs
//! read only the two. Nothing here panics on any bytes; everything parsed has a limit in [`limits`].
//!
//! # Writing shapes
//!
//! A member's name is the field's in `PascalCase` (`volume_id` is `VolumeId`); say
//! `#[shape(name = "..")]` where the service model differs in letter case.
//!
//! | on the structure | meaning |
//! |---|---|
//! | `input` | only read. The compiler then reports a parameter that no code looks at |
//! | `output` | only written |
//! | neither | both: `Tag` |
//! | `unsupported(A, B)` | model members of a request that are refused by name |
//! | `omitted(A, B)` | model members of a reply that are never returned |
//!
//! | on a field | meaning |
//! |---|---|
//! | `name = "KMSKeyId"` | the member's name in the service model |
//! | `query = "TagSpecification"` | request parameter of ec2Query and awsQuery; default: name |
//! | `xml = "tagSet"` | reply element; default: `lowerCamel` name in ec2Query, name in awsQuery |
//! | `json = "roleARN"` | key in JSON documents; default: name |
//! | `list_item = "x"` | list item element; default: `item` in ec2Query, `member` in awsQuery |
//! | `flattened` | list without a wrapping element |
//! | `label`, `label = "x"` | restJson1 path label; default: `lowerCamel` name |
//! | `querystring`, `querystring = "x"` | restJson1 query parameter; default: `lowerCamel` name |
//! | `header = "x-amz-.."` | restJson1 header |
//! | `payload` | restJson1 body: a [`Blob`] raw, a structure as the whole document |
//! | `status_code` | restJson1 reply: an `i32` that becomes the HTTP status |
//! | `timestamp = ".."` | `iso8601` or `unix` where not the protocol's default |
//! | `sensitive` | never in the audit trail, an error or a log |
//! | `required` | a list or map whose absence is an error |
//! | `default` | absence is the type's `Default`: `dry_run: bool` |
//! | `text` | any type with `FromStr` and `Display`, also inside `Option`, `Vec`, `BTreeMap` |
//!
//! | field type | |
//! |---|---|
//! | `T` | required; absence is the protocol's missing-parameter error |
//! | `Option<T>` | optional; `None` is not written |
//! | `Vec<T>`, `BTreeMap<String, T>` | absence is empty; empty is written. `Option<Vec<T>>` tells them apart |
//! | `String bool i32 u32 i64 u64 f64` [`Blob`] `Timestamp` `Secret<String>` | as they are |
//! | `VolumeId SnapshotId InstanceId AccountId Region Arn` | parsed; a bad one is refused with its name and value |
//! | [`string_enum!`] types | refused with the list of accepted texts |
//! | other `Shape` structures | nested |

pub mod audit;
pub mod client;
pub mod code;
mod error;
mod http;
mod json;
pub mod limits;
pub mod model;
mod name;
mod query;
pub mod reply;
mod rest;
mod route;
mod schema;
mod text;
mod value;
pub mod wire;
mod xml;

pub use awsproto_derive::Shape;
pub use error::{Error, ErrorSpec, Fault, ParameterError, Problem};
pub use http::{Request, Response};
pub use route::{OperationInfo, Protocol, Route, RouteError, Router, ServiceInfo};
pub use schema::{Kind, Location, Member, Schema, Shape, TimestampFormat};
pub use value::{Blob, Fields, Value};
pub use wire::{FromWire, ToWire, Wire};
