//! The two halves of `cargo xtask wire record` that know the operations.
//!
//! `samples` prints a request and a reply of every operation, the reply also as the bytes sent;
//! a client library turns the requests into bytes and reads the replies. `freeze` then keeps what
//! the recorded requests are understood as.

#[path = "../tests/it/wire/recording.rs"]
mod recording;
#[path = "../tests/it/wire/samples.rs"]
mod samples;
#[path = "../tests/it/wire/tree.rs"]
mod tree;

use awsproto::{OperationInfo, Router, reply};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use recording::Recorded;
use samples::Extent;
use serde_json::{Map, Value as Json, json};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("samples") => println!("{}", samples_of_all()),
        Some("freeze") => freeze_all(),
        _ => panic!("usage: wire samples | freeze"),
    }
}

fn operations() -> impl Iterator<Item = &'static OperationInfo> {
    api::registry::of_aws().map(|operation| operation.info())
}

/// Every case: a name and the two values.
fn cases(operation: &OperationInfo, written: &Json) -> Vec<(String, Json, Json)> {
    let (input, output) = (operation.input, operation.output);
    let generated = Extent::ALL.map(|extent| {
        let request = tree::to_json(&samples::request(input, extent));
        (extent.name().to_owned(), request, tree::to_json(&samples::reply(output, extent)))
    });
    let reply = tree::to_json(&samples::reply(output, Extent::Full));
    let by_hand = written[operation.service][operation.name].as_object().into_iter().flatten();
    let by_hand = by_hand.map(|(name, request)| (name.clone(), request.clone(), reply.clone()));
    generated.into_iter().chain(by_hand).collect()
}

fn samples_of_all() -> Json {
    let router = recording::router();
    let path = recording::root().join("cases.json");
    let text = std::fs::read_to_string(&path).expect("tests/wire/cases.json is readable");
    let written: Json = serde_json::from_str(&text).expect("tests/wire/cases.json is JSON");
    operations()
        .flat_map(|operation| {
            let cases = cases(operation, &written);
            cases.into_iter().map(|case| sample(&router, operation, case)).collect::<Vec<_>>()
        })
        .collect()
}

fn sample(
    router: &Router,
    operation: &OperationInfo,
    (case, request, reply): (String, Json, Json),
) -> Json {
    let service = router.service(operation.service).expect("every operation has a service");
    let value = tree::structure(operation.output, &reply);
    let response = reply::success(service, operation, &value, recording::REQUEST_ID);
    json!({
        "service": operation.service,
        "operation": operation.name,
        "case": case,
        "request": request,
        "reply": reply,
        "status": response.status,
        "headers": response.headers,
        "body": STANDARD.encode(&response.body),
        "file": STANDARD.encode(recording::written(&response)),
        "access_key_id": recording::ACCESS_KEY_ID,
        "secret_key": recording::SECRET_KEY,
    })
}

/// Members that botocore adds to requests by itself.
const ADDED_BY_CLIENT: [&str; 3] = ["ClientToken", "DestinationRegion", "PresignedUrl"];

fn freeze_all() {
    let router = recording::router();
    for operation in operations() {
        let path = recording::folder(operation).join("values.json");
        let text = std::fs::read_to_string(&path).expect("the recorder wrote the values");
        let mut cases: Map<String, Json> = serde_json::from_str(&text).expect("values are JSON");
        for (case, values) in &mut cases {
            let what = format!("{} {} {case}", operation.service, operation.name);
            let path = recording::folder(operation).join(format!("{case}.http"));
            let recorded = Recorded::read(&path);
            let request = recorded.request();
            let route = router.route(Some(operation.service), &request);
            let route = route.unwrap_or_else(|refused| panic!("{what}: {}", refused.error.message));
            let value = route.decode(&request);
            let value = value.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            let understood = tree::to_json(&value);
            check(&what, &values["request"], &understood);
            values["request"] = understood;
        }
        let text = serde_json::to_string_pretty(&cases).expect("JSON is written");
        std::fs::write(&path, text + "\n").expect("the values are writable");
    }
}

/// What was meant and what was understood differ at most in what the client added.
fn check(what: &str, meant: &Json, understood: &Json) {
    let (meant, understood) = (meant.as_object(), understood.as_object());
    let (Some(meant), Some(understood)) = (meant, understood) else {
        panic!("{what}: a request is a structure");
    };
    for (name, value) in meant {
        assert_eq!(Some(value), understood.get(name), "{what}: {name}");
    }
    for name in understood.keys().filter(|name| !meant.contains_key(*name)) {
        assert!(ADDED_BY_CLIENT.contains(&name.as_str()), "{what}: {name} came from nowhere");
    }
}
