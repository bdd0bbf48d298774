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
//! | `dry_run` | the request has `DryRun`, answered by the pipeline; there is no field |
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
//! | `String &'static str bool i32 u32 i64 u64 f64` [`Blob`] `Timestamp` `Secret<String>` | as they are |
//! | `VolumeId SnapshotId InstanceId AccountId Region Arn` | parsed; a bad one is refused with its name and value |
//! | [`string_enum!`] types | refused with the list of accepted texts |
//! | other `Shape` structures | nested |
//!
//! Wire names are those of the service model: look them up there, do not guess. The model check
//! ([`model`]) tells every difference, and lists what a shape lacks in the form the attributes take.
//! To look at an operation: `aws ec2 create-volume --generate-cli-skeleton`, or `service-2.json`.
//!
//! ## ec2Query
//!
//! Lists have a request name (`query`, singular) and a reply element (`xml`, mostly `..Set`). On an
//! input, `xml` and `list_item` give the trail's names: `{"volumeSet": {"items": [{"volumeId": ..}]}}`.
//! An unknown parameter is refused. `type Output = ()` answers `<return>true</return>`.
//!
//! ```
//! use awsproto::Shape;
//! use base::{SnapshotId, Timestamp, VolumeId};
//!
//! #[derive(Shape)]
//! #[shape(input, dry_run, unsupported(OutpostArn, Operator))]
//! struct Input {
//!     availability_zone: Option<String>,
//!     size: Option<i32>,
//!     snapshot_id: Option<SnapshotId>,
//!     #[shape(query = "TagSpecification")]
//!     tag_specifications: Vec<TagSpecification>, // TagSpecification.1.Tag.1.Key=..
//! }
//!
//! #[derive(Shape)]
//! #[shape(input)]
//! struct TagSpecification {
//!     resource_type: Option<String>,
//!     #[shape(query = "Tag")]
//!     tags: Vec<Tag>,
//! }
//!
//! #[derive(Shape)]
//! struct Tag {
//!     key: String,
//!     #[shape(default)]
//!     value: String,
//! }
//!
//! #[derive(Shape)]
//! #[shape(output, omitted(OutpostArn, Operator))]
//! struct Output {
//!     volume_id: VolumeId,       // <volumeId>
//!     create_time: Timestamp,    // <createTime>2026-11-21T09:30:00.000Z</createTime>
//!     #[shape(xml = "status")]
//!     state: &'static str,       // <status>
//!     #[shape(xml = "tagSet")]
//!     tags: Vec<Tag>,            // <tagSet><item><key>..
//! }
//! ```
//!
//! ## awsQuery
//!
//! Names are the model's on both sides; lists are `Tags.member.1.Key`. `type Output = ()` is for
//! operations without output in the model; one with an empty output structure declares it, because
//! clients look for its result element.
//!
//! ```
//! # use awsproto::Shape;
//! # use base::Timestamp;
//! # #[derive(Shape)]
//! # struct Tag { key: String, value: String }
//! #[derive(Shape)]
//! #[shape(input, unsupported(PermissionsBoundary))]
//! struct Input {
//!     role_name: String,
//!     assume_role_policy_document: String,
//!     max_session_duration: Option<i32>,
//!     tags: Option<Vec<Tag>>,
//! }
//!
//! #[derive(Shape)]
//! #[shape(output)]
//! struct Output {
//!     role: Role,
//! }
//!
//! #[derive(Shape)]
//! #[shape(output, omitted(RoleLastUsed))]
//! struct Role {
//!     role_name: String,
//!     create_date: Timestamp, // 2026-11-21T09:30:00Z
//! }
//! ```
//!
//! ## awsJson1.1
//!
//! Unknown members are not looked at, as in the real services; list what is known under
//! `unsupported`. Timestamps are seconds with a fraction. Mark plaintext `sensitive`.
//!
//! ```
//! # use awsproto::{Blob, Shape};
//! # use std::collections::BTreeMap;
//! awsproto::string_enum! {
//!     enum Algorithm { SymmetricDefault = "SYMMETRIC_DEFAULT" }
//! }
//!
//! #[derive(Shape)]
//! #[shape(input, dry_run)]
//! struct Input {
//!     key_id: String,
//!     #[shape(sensitive)]
//!     plaintext: Blob,
//!     encryption_context: BTreeMap<String, String>,
//!     grant_tokens: Vec<String>,
//!     encryption_algorithm: Option<Algorithm>,
//! }
//!
//! #[derive(Shape)]
//! #[shape(output)]
//! struct Output {
//!     ciphertext_blob: Blob,
//!     key_id: String,
//!     encryption_algorithm: Algorithm,
//! }
//! ```
//!
//! ## restJson1
//!
//! Everything without a place is a key of the JSON body. The path template and the status of success
//! are [`OperationInfo`]'s.
//!
//! ```
//! # use awsproto::{Blob, Shape};
//! # use base::SnapshotId;
//! #[derive(Shape)] // GET /snapshots/{snapshotId}/blocks/{blockIndex}?blockToken=..
//! #[shape(input)]
//! struct Input {
//!     #[shape(label)]
//!     snapshot_id: SnapshotId,
//!     #[shape(label)]
//!     block_index: i32,
//!     #[shape(querystring)]
//!     block_token: String,
//! }
//!
//! #[derive(Shape)]
//! #[shape(output)]
//! struct Output {
//!     #[shape(header = "x-amz-Data-Length")]
//!     data_length: i32,
//!     #[shape(header = "x-amz-Checksum")]
//!     checksum: String,
//!     #[shape(payload, sensitive)]
//!     block_data: Blob,
//! }
//! ```
//!
//! # Errors
//!
//! ```
//! use awsproto::ErrorSpec;
//!
//! const VOLUME_IN_USE: ErrorSpec = ErrorSpec::sender("VolumeInUse", 400);
//! let error = VOLUME_IN_USE.error("Volume vol-1 is currently attached to i-1");
//!
//! const INVALID: ErrorSpec = ErrorSpec::sender("ValidationException", 400);
//! let error = INVALID.error("The block token is expired.").with_member("Reason", "INVALID_BLOCK_TOKEN");
//! ```
//!
//! Codes of more than one operation are in [`code`].
//!
//! # Serving
//!
//! ```
//! # use awsproto::*;
//! # const SERVICE: ServiceInfo = ServiceInfo { name: "ec2", protocol: Protocol::Ec2Query,
//! #     version: "2016-11-15", target_prefix: "", xml_namespace: "http://ec2.amazonaws.com/doc/2016-11-15/" };
//! # static SERVICES: [ServiceInfo; 1] = [SERVICE];
//! # static OPERATIONS: [OperationInfo; 1] = [OperationInfo { service: "ec2", name: "Nothing",
//! #     protocol: Protocol::Ec2Query, http: None, success_status: 200,
//! #     input: <() as Shape>::SCHEMA, output: <() as Shape>::SCHEMA }];
//! # let body = bytes::Bytes::from_static(b"Action=Nothing&Version=2016-11-15");
//! # let request = Request { method: "POST", path: "/", query: "", headers: &[], body: &body };
//! let router = Router::new(&SERVICES, &OPERATIONS);
//! let response = match router.route(Some("ec2"), &request) {
//!     Err(RouteError { protocol, error }) => reply::failure(protocol, &error, "request-id"),
//!     Ok(route) => {
//!         let (service, operation) = (route.service, route.operation);
//!         match route.decode(&request).and_then(<()>::from_wire) {
//!             Ok(()) => reply::success(service, operation, &Value::empty(), "request-id"),
//!             Err(refused) => {
//!                 let error = refused.into_error(operation.protocol);
//!                 reply::failure(operation.protocol, &error, "request-id")
//!             }
//!         }
//!     }
//! };
//! assert_eq!(response.status, 200);
//! ```

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
pub use json::from_json;
pub use route::{OperationInfo, Protocol, Route, RouteError, Router, ServiceInfo};
pub use schema::{Kind, Location, Member, Schema, Shape, TimestampFormat};
pub use value::{Blob, Fields, Value};
pub use wire::{FromWire, ToWire, Wire};
