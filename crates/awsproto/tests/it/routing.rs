//! Which operation a request is.

use crate::golden::Wire;
use crate::shapes::router;
use awsproto::{Request, RouteError};
use bytes::Bytes;

fn route(service: Option<&str>, wire: &Wire) -> String {
    let headers: Vec<_> =
        wire.headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let body = Bytes::from_static(wire.body);
    let Wire { method, path, query, .. } = *wire;
    let request = Request { method, path, query, headers: &headers, body: &body };
    match router().route(service, &request) {
        Ok(route) => format!("{}:{}", route.service.name, route.operation.name),
        Err(RouteError { protocol, error }) => {
            format!("{protocol:?} {} {}", error.spec.status, error.spec.code)
        }
    }
}

fn form(service: Option<&str>, body: &'static str) -> String {
    route(service, &Wire { method: "POST", path: "/", body: body.as_bytes(), ..Wire::default() })
}

#[test]
fn by_action_and_version() {
    let describe = "Action=DescribeVolumes&Version=2016-11-15";
    assert_eq!(form(Some("ec2"), describe), "ec2:DescribeVolumes");
    assert_eq!(form(None, describe), "ec2:DescribeVolumes");
    assert_eq!(form(Some("iam"), describe), "AwsQuery 400 NoSuchVersion");
    assert_eq!(form(Some("ec2"), "Action=Nope&Version=2016-11-15"), "Ec2Query 400 InvalidAction");
    assert_eq!(form(Some("ec2"), "Version=2016-11-15"), "Ec2Query 400 MissingAction");
    assert_eq!(form(None, ""), "AwsQuery 400 MissingAction");
    assert_eq!(form(Some("s3"), describe), "AwsQuery 404 UnknownOperationException");
    assert_eq!(form(Some("ec2"), "Action=%ff"), "Ec2Query 400 MalformedQueryString");
}

#[test]
fn by_target() {
    let target = |service, headers| {
        route(service, &Wire { method: "POST", path: "/", headers, ..Wire::default() })
    };
    assert_eq!(target(Some("kms"), &[("X-AMZ-TARGET", "TrentService.Encrypt")]), "kms:Encrypt");
    assert_eq!(target(None, &[("x-amz-target", "TrentService.Encrypt")]), "kms:Encrypt");
    for wrong in [&[][..], &[("x-amz-target", "Other.Encrypt")], &[("x-amz-target", "Encrypt")]] {
        assert_eq!(target(Some("kms"), wrong), "AwsJson11 400 UnknownOperationException");
    }
}

#[test]
fn by_path() {
    let at =
        |method, path, query| route(Some("ebs"), &Wire { method, path, query, ..Wire::default() });
    assert_eq!(at("GET", "/snapshots/s/blocks", ""), "ebs:ListSnapshotBlocks");
    assert_eq!(at("GET", "/snapshots/s/blocks/", ""), "ebs:ListSnapshotBlocks");
    assert_eq!(at("PUT", "/snapshots/s/blocks/1", ""), "ebs:PutSnapshotBlock");
    assert_eq!(at("POST", "/everywhere/a%2Fb/at/x/", "mark"), "ebs:Everywhere");
    assert_eq!(at("POST", "/everywhere/a/at/x", "mark=1"), "ebs:Everywhere");
    assert_eq!(at("POST", "/everywhere/fixed/at/x", ""), "ebs:Fixed");
    let none = "RestJson1 404 UnknownOperationException";
    for path in ["", "/", "/snapshots//blocks", "/snapshots/s/blocks/1/2", "/snapshots/%ff/blocks"]
    {
        assert_eq!(at("GET", path, ""), none, "{path}");
    }
    assert_eq!(at("DELETE", "/snapshots/s/blocks", ""), none);
    assert_eq!(at("POST", "/everywhere/a/at/x", "marked"), none);
}

#[test]
#[should_panic(expected = "is listed twice")]
fn a_name_belongs_to_one_operation() {
    use crate::shapes::{OPERATIONS, SERVICES};
    awsproto::Router::new(&SERVICES, OPERATIONS.iter().chain(&OPERATIONS));
}
