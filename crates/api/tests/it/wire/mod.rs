//! The wire as AWS's own client speaks it: requests that botocore wrote, replies that botocore has
//! read. `cargo xtask wire record` writes the files; here they are only compared.

mod recording;
mod samples;
mod tree;

use awsproto::{OperationInfo, Request, reply};
use base::{Secret, Timestamp};
use recording::Recorded;
use samples::Extent;
use serde_json::Value as Json;
use std::collections::BTreeSet;
use std::path::Path;

/// When every recorded request was signed: 2026-11-21T09:30:00Z.
const SIGNED_AT: Timestamp = Timestamp(1_795_253_400_000);
const HINT: &str = "run `cargo xtask wire record` and look at what changed";

/// Calls `check` with every case of every operation: its name, folder and frozen values.
fn for_all_cases(check: impl Fn(&OperationInfo, &str, &Path, &Json)) {
    for operation in api::registry::of_aws().map(|operation| operation.info()) {
        let folder = recording::folder(operation);
        let path = folder.join("values.json");
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: {HINT}", path.display()));
        let values: Json = serde_json::from_str(&text).expect("the values are JSON");
        let cases = values.as_object().expect("the values are by case");
        for extent in Extent::ALL {
            assert!(cases.contains_key(extent.name()), "{}: {HINT}", path.display());
        }
        for (case, values) in cases {
            check(operation, case, &folder, values);
        }
    }
}

#[test]
fn requests_of_botocore_are_understood() {
    let router = recording::router();
    for_all_cases(|operation, case, folder, values| {
        let what = format!("{} {} {case}", operation.service, operation.name);
        let recorded = Recorded::read(&folder.join(format!("{case}.http")));
        let request = recorded.request();
        let route = router.route(Some(operation.service), &request).unwrap_or_else(|refused| {
            panic!("{what}: {}: {}", refused.error.spec.code, refused.error.message)
        });
        assert_eq!(route.operation.name, operation.name, "{what}");
        let value = route.decode(&request).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(tree::to_json(&value), values["request"], "{what}: {HINT}");
    });
}

#[test]
fn signatures_of_botocore_are_good() {
    for_all_cases(|operation, case, folder, _| {
        let recorded = Recorded::read(&folder.join(format!("{case}.http")));
        let signed = recorded.headers.iter().any(|(name, _)| name == "Authorization");
        if !signed {
            // What has no credentials yet cannot sign.
            assert!(operation.name.starts_with("AssumeRoleWith"), "{}", operation.name);
            return;
        }
        let what = format!("{} {} {case}", operation.service, operation.name);
        let Request { method, path, query, headers, body } = recorded.request();
        let parts = iam::sigv4::Parts { method, path, query, headers, body };
        let read = iam::sigv4::read(&parts, SIGNED_AT);
        let read = read.unwrap_or_else(|rejection| panic!("{what}: {rejection}"));
        assert_eq!(read.access_key_id, recording::ACCESS_KEY_ID);
        assert_eq!(read.scope.service, operation.service, "{what}");
        let verify = |secret: &str| read.verify(&Secret::new(secret.to_owned()));
        assert_eq!(verify(recording::SECRET_KEY), Ok(()), "{what}");
        assert!(verify("another").is_err(), "{what}");
    });
}

#[test]
fn replies_are_those_botocore_has_read() {
    let router = recording::router();
    for_all_cases(|operation, case, folder, values| {
        let service = router.service(operation.service).expect("every operation has a service");
        let value = tree::structure(operation.output, &values["reply"]);
        let response = reply::success(service, operation, &value, recording::REQUEST_ID);
        let path = folder.join(format!("{case}.reply.http"));
        let golden = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}: {HINT}", path.display()));
        let (golden, ours) = (golden.escape_ascii(), recording::written(&response));
        let ours = ours.escape_ascii().to_string();
        assert_eq!(golden.to_string(), ours, "{}: {HINT}", path.display());
    });
}

#[test]
fn the_generated_cases_are_up_to_date() {
    for_all_cases(|operation, case, _, values| {
        let Some(extent) = Extent::ALL.into_iter().find(|extent| extent.name() == case) else {
            return;
        };
        let what = format!("{} {} {case}: {HINT}", operation.service, operation.name);
        let reply = tree::to_json(&samples::reply(operation.output, extent));
        assert_eq!(reply, values["reply"], "{what}");
        let request = tree::to_json(&samples::request(operation.input, extent));
        let request = request.as_object().expect("a request is a structure");
        for (name, value) in request {
            assert_eq!(*value, values["request"][name], "{what}: {name}");
        }
    });
}

#[test]
fn nothing_is_recorded_of_what_is_not_served() {
    let mut served = BTreeSet::new();
    for operation in api::registry::all().iter().map(|operation| operation.info()) {
        served.insert(recording::folder(operation));
    }
    let folders = |path: &Path| {
        let entries = std::fs::read_dir(path).expect("the recordings are readable");
        let paths = entries.map(|entry| entry.expect("the recordings are readable").path());
        paths.filter(|path| path.is_dir()).collect::<Vec<_>>()
    };
    for service in folders(&recording::root()) {
        for operation in folders(&service) {
            assert!(served.contains(&operation), "{}: {HINT}", operation.display());
        }
    }
}
