//! Recorded requests and replies as files: `tests/wire/<service>/<Operation>/<case>.http` and
//! `<case>.reply.http`. A line with method and target, or the status; the headers; an empty line;
//! the body, byte for byte.

use awsproto::{OperationInfo, Request, Response, Router};
use bytes::Bytes;
use std::path::{Path, PathBuf};

/// The access key every recorded request is signed with, and its secret.
pub(crate) const ACCESS_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(crate) const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// The request id in every recorded reply.
pub(crate) const REQUEST_ID: &str = "1f1f0e9e-0000-4000-8000-000000000001";

/// Where recordings are kept.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire")
}

/// The folder of an operation.
pub(crate) fn folder(operation: &OperationInfo) -> PathBuf {
    root().join(operation.service).join(operation.name)
}

/// Every operation, routed as the server does.
pub(crate) fn router() -> Router {
    let operations = api::registry::all().iter().map(|operation| operation.info());
    Router::new(api::Service::ALL.iter().map(|service| service.info()), operations)
}

/// A recorded request.
pub(crate) struct Recorded {
    method: String,
    path: String,
    query: String,
    pub(crate) headers: Vec<(String, String)>,
    body: Bytes,
}

impl Recorded {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        Self::parse(&bytes).unwrap_or_else(|| panic!("{path:?} is no recorded request"))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n")?;
        let mut lines = std::str::from_utf8(&bytes[..end]).ok()?.lines();
        let (method, target) = lines.next()?.split_once(' ')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        Some(Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: lines.map(header).collect::<Option<_>>()?,
            body: Bytes::copy_from_slice(&bytes[end + 2..]),
        })
    }

    /// The request as the server sees it.
    pub(crate) fn request(&self) -> Request<'_> {
        let Self { method, path, query, headers, body } = self;
        Request { method, path, query, headers, body }
    }
}

/// A reply as its file has it.
pub(crate) fn written(response: &Response) -> Vec<u8> {
    let mut bytes = format!("{}\n", response.status).into_bytes();
    for (name, value) in &response.headers {
        bytes.extend(format!("{name}: {value}\n").bytes());
    }
    bytes.push(b'\n');
    bytes.extend(&response.body);
    bytes
}
