//! Replies: an operation's output or an error, in the words of its protocol.

use crate::error::Error;
use crate::http::Response;
use crate::route::{OperationInfo, Protocol, ServiceInfo};
use crate::value::Value;
use crate::{json, rest, xml};
use bytes::Bytes;
use serde_json::Map;

const REQUEST_ID: &str = "x-amzn-RequestId";
const ERROR_TYPE: &str = "x-amzn-ErrorType";
const CONTENT_TYPE: &str = "Content-Type";

/// The reply of a successful operation.
pub fn success(
    service: &ServiceInfo,
    operation: &OperationInfo,
    output: &Value,
    request_id: &str,
) -> Response {
    let mut response = match operation.protocol {
        Protocol::Ec2Query | Protocol::AwsQuery => {
            let body = xml::success(service, operation, output, request_id);
            reply(operation.success_status, xml_type(operation.protocol), body.into())
        }
        Protocol::AwsJson11 => {
            let empty = Bytes::new();
            let body = match output.as_fields() {
                Some(fields) if !operation.output.is_unit() => {
                    json::body(json::encode_all(operation.output, fields))
                }
                _ => empty,
            };
            reply(operation.success_status, "application/x-amz-json-1.1", body)
        }
        Protocol::RestJson1 => rest_success(operation, output),
    };
    response.headers.push((REQUEST_ID.to_owned(), request_id.to_owned()));
    response
}

fn rest_success(operation: &OperationInfo, output: &Value) -> Response {
    let nothing = crate::Fields::default();
    let parts = rest::encode(operation.output, output.as_fields().unwrap_or(&nothing));
    let status = parts.status.unwrap_or(operation.success_status);
    let content_type = if parts.is_json { "application/json" } else { "application/octet-stream" };
    // RFC 9110, 15.3.5: a 204 has no content.
    let body = if status == 204 { Bytes::new() } else { parts.body };
    let mut response = reply(status, content_type, body);
    response.headers.extend(parts.headers);
    response
}

/// The reply of a failed operation, or of a request that reached none.
pub fn failure(protocol: Protocol, error: &Error, request_id: &str) -> Response {
    let status = error.spec.status;
    let mut response = match protocol {
        Protocol::Ec2Query | Protocol::AwsQuery => {
            let body = xml::failure(protocol, error, request_id);
            reply(status, xml_type(protocol), body.into())
        }
        Protocol::AwsJson11 => {
            let mut body = Map::new();
            body.insert("__type".to_owned(), error.spec.code.into());
            body.insert("message".to_owned(), error.message.as_str().into());
            reply(status, "application/x-amz-json-1.1", error_json(body, error))
        }
        Protocol::RestJson1 => {
            // The modelled exceptions of the REST services spell it with a capital.
            let mut body = Map::new();
            body.insert("Message".to_owned(), error.message.as_str().into());
            let mut response = reply(status, "application/json", error_json(body, error));
            response.headers.push((ERROR_TYPE.to_owned(), error.spec.code.to_owned()));
            response
        }
    };
    response.headers.push((REQUEST_ID.to_owned(), request_id.to_owned()));
    response
}

fn error_json(mut body: Map<String, serde_json::Value>, error: &Error) -> Bytes {
    for (name, value) in &error.members {
        body.insert((*name).to_owned(), value.as_str().into());
    }
    json::body(body)
}

fn xml_type(protocol: Protocol) -> &'static str {
    if protocol == Protocol::Ec2Query { "text/xml;charset=UTF-8" } else { "text/xml" }
}

fn reply(status: u16, content_type: &str, body: Bytes) -> Response {
    let mut headers = Vec::new();
    if !body.is_empty() {
        headers.push((CONTENT_TYPE.to_owned(), content_type.to_owned()));
    }
    Response { status, headers, body }
}
