//! Requests of every operation in every protocol.

use awsproto::{Request, Route, RouteError, Router, reply};
use bytes::Bytes;
use fuzz::target;
use std::path::{Path, PathBuf};

/// The recorded requests: `tests/wire`.
fn samples() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "there are recorded requests");
    paths.iter().map(|path| std::fs::read(path).expect("a recording is readable")).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the recordings are readable") {
        let path = entry.expect("the recordings are readable").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "http")
            && !path.to_string_lossy().ends_with(".reply.http")
        {
            paths.push(path);
        }
    }
}

/// A request in the form of the recordings, read without mercy for what is not one.
pub(crate) struct Parsed {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Parsed {
    pub(crate) fn from(bytes: &[u8]) -> Self {
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]);
        let mut lines = head.split('\n');
        let (method, target) = lines.next().and_then(|l| l.split_once(' ')).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let header = |line: &str| line.split_once(": ").map(|(n, v)| (n.to_owned(), v.to_owned()));
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers: lines.filter_map(header).collect(),
            body: Bytes::copy_from_slice(bytes.get(end + 2..).unwrap_or_default()),
        }
    }

    fn request(&self) -> Request<'_> {
        let Self { method, path, query, headers, body } = self;
        Request { method, path, query, headers, body }
    }
}

fn router() -> Router {
    let operations = api::registry::all().iter().map(|operation| operation.info());
    Router::new(api::Service::ALL.iter().map(|service| service.info()), operations)
}

fn check(router: &Router, service: Option<&str>, request: &Request<'_>) {
    let route: Route = match router.route(service, request) {
        Ok(route) => route,
        Err(RouteError { protocol, error }) => {
            drop(reply::failure(protocol, &error, "r"));
            return;
        }
    };
    let operation = route.operation;
    let known = api::registry::all().iter().find(|o| std::ptr::eq(o.info(), operation));
    let known = known.expect("a route leads to an operation");
    if let Err(refused) = route.decode(request).and_then(|value| known.check(value)) {
        drop(reply::failure(operation.protocol, &refused.into_error(operation.protocol), "r"));
    }
}

target!(
    /// Every request is understood or refused, by its service and without one.
    whole_requests,
    samples(),
    {
        let router = router();
        move |bytes: &[u8]| {
            let parsed = Parsed::from(bytes);
            for service in [None, Some("ec2"), Some("ebs"), Some("kms"), Some("iam")] {
                check(&router, service, &parsed.request());
            }
        }
    }
);

target!(
    /// The body alone varies; method, path and target stay those of an operation.
    bodies,
    vec![
        b"{\"KeyId\":\"k\",\"EncryptionContext\":{\"a\":\"b\"},\"Plaintext\":\"AA==\"}".to_vec(),
        b"Action=CreateVolume&Version=2016-11-15&Size=1&TagSpecification.1.Tag.1.Key=k".to_vec(),
        b"Action=CreateRole&Version=2010-05-08&Tags.member.1.Key=k&Tags.member.1.Value=".to_vec(),
        b"{\"VolumeSize\":1,\"Tags\":[{\"Key\":\"k\",\"Value\":\"v\"}],\"Timeout\":60}".to_vec(),
    ],
    {
        let router = router();
        move |bytes: &[u8]| {
            let body = Bytes::copy_from_slice(bytes);
            let target = vec![
                ("Content-Type".to_owned(), "application/x-amz-json-1.1".to_owned()),
                ("X-Amz-Target".to_owned(), "TrentService.Encrypt".to_owned()),
            ];
            let form = vec![(
                "Content-Type".to_owned(),
                "application/x-www-form-urlencoded; charset=utf-8".to_owned(),
            )];
            for (service, path, headers) in [
                ("kms", "/", &target),
                ("ec2", "/", &form),
                ("iam", "/", &form),
                ("ebs", "/snapshots", &Vec::new()),
            ] {
                let (method, query) = ("POST", "");
                let request = Request { method, path, query, headers, body: &body };
                check(&router, Some(service), &request);
            }
        }
    }
);
