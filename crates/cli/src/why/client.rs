//! One signed call to the `strongroom` service of a server.

use super::args::ServerArgs;
use super::profile::{Caller, caller};
use crate::attach::Endpoint;
use crate::exit::{EXIT_NO_SERVER, Failure};
use crate::serve::runtime;
use base::{Clock, SystemClock};
use iam::sigv4::{Parts, Signer};
use serde_json::Value;

const TARGET: &str = "Strongroom_20261126";

/// Calls an operation and returns its reply.
pub(crate) fn call(server: &ServerArgs, operation: &str, input: &Value) -> Result<Value, Failure> {
    let Caller { region, endpoint_url, credentials } = caller(server)?;
    let endpoint = Endpoint::new(&endpoint_url, server.ca.as_deref(), server.http_policy())?;
    let body = input.to_string();
    let mut headers = vec![
        ("content-type".to_owned(), "application/x-amz-json-1.1".to_owned()),
        ("host".to_owned(), endpoint.authority().to_owned()),
        ("x-amz-target".to_owned(), format!("{TARGET}.{operation}")),
    ];
    let signer = Signer {
        access_key_id: &credentials.access_key_id,
        secret: &credentials.secret,
        token: credentials.token.as_deref(),
        region: &region,
        service: "strongroom",
    };
    let parts =
        Parts { method: "POST", path: "/", query: "", headers: &headers, body: body.as_bytes() };
    headers.extend(signer.headers(&parts, SystemClock.now()));
    let mut head = "POST / HTTP/1.1\r\n".to_owned();
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len()));
    let reply =
        runtime()?.block_on(endpoint.exchange(&head, body.as_bytes())).map_err(|error| {
            Failure::new(
                EXIT_NO_SERVER,
                format!("the server at {endpoint_url} cannot be reached: {error}"),
            )
        })?;
    let parsed: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    if (200..300).contains(&reply.status) {
        return Ok(parsed);
    }
    let text = |name: &str| parsed[name].as_str().unwrap_or_default().to_owned();
    Err(Failure::failed(format!("{}: {}", text("__type"), text("message"))))
}
