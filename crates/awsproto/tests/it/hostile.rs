//! Any bytes give a value or a refusal of the caller's, never a panic or a fault of ours.

use crate::shapes::{CreateVolumeInput, EncryptInput, Everything, Everywhere, find, router};
use awsproto::{FromWire, ParameterError, Request, Response, Router, Value, client, limits};
use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use std::sync::LazyLock;

static ROUTER: LazyLock<Router> = LazyLock::new(router);

fn survives<T: FromWire>(
    service: &str,
    method: &str,
    path: &str,
    query: &str,
    header: (&str, &str),
    body: &[u8],
) {
    let headers = [(header.0.to_owned(), header.1.to_owned())];
    let body = Bytes::copy_from_slice(body);
    let request = Request { method, path, query, headers: &headers, body: &body };
    let error = match ROUTER.route(Some(service), &request) {
        Err(refused) => refused.error,
        Ok(route) => {
            let protocol = route.operation.protocol;
            match route.decode(&request).and_then(T::from_wire) {
                Ok(_) => return,
                Err(refused) => refused.into_error(protocol),
            }
        }
    };
    assert!((400..500).contains(&error.spec.status), "{error}");
}

/// Pieces of which valid and nearly valid forms are made.
fn form() -> impl Strategy<Value = String> {
    let name = "(Size|Iops|TagSpecification|Tag|Key|Value|[1-9]|member|entry|Until|Nested|Map|Flat|\\.|%2E|%|\\+|[a-z])*";
    let value =
        "(true|false|[0-9]{1,20}|vol-|snap-[0-9a-f]{8}|2026-01-01T00:00:00Z|%[0-9a-f]{2}|[ -~]|é)*";
    vec((name, value), 0..8).prop_map(|pairs| {
        let pairs: Vec<_> =
            pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("&")
    })
}

fn json() -> impl Strategy<Value = String> {
    "(\\{|\\}|\\[|\\]|,|:|null|true|1e999|-1|\"(KeyId|Plaintext|EncryptionContext|Body|Until|Nested|Matrix|Flat|[a-z\\\\u]{0,3})\"){0,30}"
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn queries(bytes in vec(any::<u8>(), 0..300), form in form()) {
        for body in [bytes.as_slice(), form.as_bytes()] {
            for (service, version, name) in
                [("ec2", "2016-11-15", "CreateVolume"), ("iam", "2010-05-08", "Everything"), ("ec2", "2016-11-15", "Everything")]
            {
                let query = format!("Action={name}&Version={version}");
                survives::<CreateVolumeInput>(service, "POST", "/", &query, ("a", "b"), body);
                survives::<Everything>(service, "POST", "/", &query, ("a", "b"), body);
            }
        }
        survives::<CreateVolumeInput>("ec2", "GET", "/", &String::from_utf8_lossy(&bytes), ("", ""), b"");
    }

    #[test]
    fn documents(bytes in vec(any::<u8>(), 0..300), json in json(), target in "[ -~]{0,20}") {
        for body in [bytes.as_slice(), json.as_bytes()] {
            let target = ("x-amz-target", ["TrentService.Encrypt", &target][usize::from(body.len() % 7 == 0)]);
            survives::<EncryptInput>("kms", "POST", "/", "", target, body);
            survives::<Everything>("kms", "POST", "/", "", ("x-amz-target", "TrentService.Everything"), body);
        }
    }

    #[test]
    fn paths(
        path in "(/|everywhere|at|snapshots|blocks|2026-01-01|%[0-9a-fA-F]{2}|%|[ -~]|é){0,12}",
        label in "(%[0-9a-f]{2}|[a-z0-9:+.-]|é){0,20}",
        query in "(mark|since|tagKeys|later|&|=|%[0-9a-f]{2}|[ -~]){0,12}",
        header in "[ -~]{0,10}",
        body in vec(any::<u8>(), 0..100),
        json in json(),
    ) {
        let header = ("x-amz-flag", header.as_str());
        for body in [body.as_slice(), json.as_bytes()] {
            survives::<Everywhere>("ebs", "POST", &path, &query, header, body);
            let path = format!("/everywhere/{label}/at/{label}");
            survives::<Everywhere>("ebs", "POST", &path, &format!("mark&{query}"), header, body);
        }
    }

    #[test]
    fn replies(body in "(<[a-z]{1,3}>|</[a-z]{1,3}>|<[a-z]/>|<!--|-->|<\\?|\\?>|&amp;|&#x?[0-9]{1,4};|&[a-z]{1,4};|<!\\[CDATA\\[|\\]\\]>|[ -~]|é){0,20}") {
        for (service, name) in [("ec2", "Everything"), ("iam", "Everything"), ("kms", "Everything"), ("ebs", "Everywhere")] {
            let (_, operation) = find(service, name);
            let response = Response { status: 200, headers: vec![], body: Bytes::from(body.clone()) };
            let _: Result<Value, ParameterError> = client::output(operation, &response);
        }
    }
}

fn refused(service: &str, query: &str, body: &[u8], target: &str) -> String {
    let headers = [("x-amz-target".to_owned(), target.to_owned())];
    let body = Bytes::copy_from_slice(body);
    let request = Request { method: "POST", path: "/", query, headers: &headers, body: &body };
    match ROUTER.route(Some(service), &request) {
        Err(refused) => refused.error.message,
        Ok(route) => {
            let protocol = route.operation.protocol;
            route.decode(&request).expect_err("refused").into_error(protocol).message
        }
    }
}

#[test]
fn limits_hold() {
    let many = "A.1=x&".repeat(limits::PARAMETERS_MAX + 1);
    assert!(refused("ec2", "", many.as_bytes(), "").contains("given twice"));
    let many: String = (0..=limits::PARAMETERS_MAX).map(|n| format!("A{n}&")).collect();
    assert!(refused("ec2", "", many.as_bytes(), "").contains("parameters"));
    let deep = "A.".repeat(limits::DEPTH_MAX);
    assert!(refused("ec2", "", deep.as_bytes(), "").contains("nested parameters"));
    let long = "A".repeat(limits::PARAMETER_NAME_BYTES_MAX + 1);
    assert!(refused("ec2", "", long.as_bytes(), "").contains("bytes of a parameter name"));
    let query = "Action=Everything&Version=2016-11-15";
    let list: String = (1..=limits::ITEMS_MAX + 1).map(|n| format!("&Flat.{n}=")).collect();
    assert!(refused("ec2", query, list.as_bytes(), "").contains("items"));
    let list = format!("{{\"Flat\":[{}\"\"]}}", "\"\",".repeat(limits::ITEMS_MAX));
    assert!(refused("kms", "", list.as_bytes(), "TrentService.Everything").contains("items"));
    let deep = format!("{{\"Flat\":{}", "[".repeat(100_000));
    assert!(refused("kms", "", deep.as_bytes(), "TrentService.Everything").contains("not JSON"));
    let path = "/".repeat(limits::HTTP_TEXT_BYTES_MAX + 1);
    let request =
        Request { method: "GET", path: &path, query: "", headers: &[], body: &Bytes::new() };
    assert!(ROUTER.route(Some("ebs"), &request).unwrap_err().error.message.contains("longer than"));
}
