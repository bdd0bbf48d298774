//! Requests that no credentials stand behind, as bytes at the front door.

use super::Verdict;
use super::fixtures::Fixtures;
use crate::Service;
use crate::front::{self, Peer};
use crate::registry::AnyOperation;
use crate::testing::{Bench, account, run_named};
use awsproto::{Protocol, client};
use base::{Secret, Timestamp};
use iam::sigv4::{Parts, Signer};
use serde_json::{Value as Json, json};
use std::net::SocketAddr;

/// The callers, in order.
pub(super) const NAMES: [&str; 4] = ["unsigned", "inactive", "forged", "expired"];

/// The code of a refusal in the protocol of a service (spec 20, A.9).
pub(super) fn usual_code(service: Service, persona: &str) -> &'static str {
    let [unsigned, inactive, forged, expired] = match service.info().protocol {
        Protocol::Ec2Query => ["AuthFailure", "AuthFailure", "AuthFailure", "RequestExpired"],
        Protocol::AwsQuery => [
            "MissingAuthenticationToken",
            "InvalidClientTokenId",
            "SignatureDoesNotMatch",
            "ExpiredToken",
        ],
        Protocol::AwsJson11 | Protocol::RestJson1 => [
            "MissingAuthenticationTokenException",
            "UnrecognizedClientException",
            "InvalidSignatureException",
            "ExpiredTokenException",
        ],
    };
    match persona {
        "unsigned" => unsigned,
        "inactive" => inactive,
        "forged" => forged,
        "expired" => expired,
        other => panic!("{other} has credentials"),
    }
}

/// A credential that is not good.
struct Bad {
    id: String,
    secret: Secret<String>,
    token: Option<String>,
}

pub(super) struct Door {
    inactive: Bad,
    forged: Bad,
    expired: Bad,
    now: Timestamp,
}

fn text(reply: &Json, name: &str) -> String {
    reply[name].as_str().unwrap_or_else(|| panic!("no {name}: {reply}")).to_owned()
}

impl Door {
    /// Makes credentials and spoils them. The clock goes on by a quarter of an hour.
    pub(super) async fn make(bench: &Bench) -> Self {
        let root = bench.root(&account(1), "us-east-1");
        let call = async |service, name: &'static str, input: Json| {
            let made = run_named(&root, service, name, input).await;
            made.unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let new_key = async || {
            let made = call(Service::Iam, "CreateAccessKey", json!({ "UserName": "admin" })).await;
            let key = &made["AccessKey"];
            (text(key, "AccessKeyId"), Secret::new(text(key, "SecretAccessKey")))
        };
        let (id, secret) = new_key().await;
        let off = json!({ "UserName": "admin", "AccessKeyId": id, "Status": "Inactive" });
        call(Service::Iam, "UpdateAccessKey", off).await;
        let inactive = Bad { id, secret, token: None };
        let (id, _) = new_key().await;
        let forged = Bad { id, secret: Secret::new("another".to_owned()), token: None };
        let made = call(Service::Sts, "GetSessionToken", json!({ "DurationSeconds": 900 })).await;
        let made = &made["Credentials"];
        let expired = Bad {
            id: text(made, "AccessKeyId"),
            secret: Secret::new(text(made, "SecretAccessKey")),
            token: Some(text(made, "SessionToken")),
        };
        bench.clock.advance_seconds(901);
        Self { inactive, forged, expired, now: bench.world.clock.now() }
    }

    pub(super) async fn ask(
        &self,
        bench: &Bench,
        operation: &'static dyn AnyOperation,
        fixtures: &Fixtures,
    ) -> Vec<(&'static str, Verdict)> {
        let credentials = [None, Some(&self.inactive), Some(&self.forged), Some(&self.expired)];
        let mut verdicts = Vec::new();
        for (name, credential) in NAMES.into_iter().zip(credentials) {
            let verdict = self.knock(bench, operation, fixtures, credential).await;
            verdicts.push((name, verdict));
        }
        verdicts
    }

    async fn knock(
        &self,
        bench: &Bench,
        operation: &'static dyn AnyOperation,
        fixtures: &Fixtures,
        credential: Option<&Bad>,
    ) -> Verdict {
        let service = operation.spec().service.info();
        let input = fixtures.request(operation.info(), &account(1));
        let mut written = client::request(service, operation.info(), &input);
        written.headers.push(("host".to_owned(), "localhost".to_owned()));
        if let Some(Bad { id, secret, token }) = credential {
            let signer = Signer {
                access_key_id: id,
                secret,
                token: token.as_deref(),
                region: "us-east-1",
                service: service.name,
            };
            let received = written.received();
            let parts = Parts {
                method: received.method,
                path: received.path,
                query: received.query,
                headers: received.headers,
                body: received.body,
            };
            let signature = signer.headers(&parts, self.now);
            written.headers.extend(signature);
        }
        let uri = match written.query.as_str() {
            "" => written.path.clone(),
            query => format!("{}?{query}", written.path),
        };
        let mut head = http::Request::builder().method(written.method.as_str()).uri(uri);
        for (name, value) in &written.headers {
            head = head.header(name, value);
        }
        let (head, ()) = head.body(()).expect("a request").into_parts();
        let peer = Peer { address: SocketAddr::from(([192, 0, 2, 1], 4000)), secure: false };
        let response = front::answer(&bench.world, peer, &head, &written.body).await;
        assert!((400..500).contains(&response.status), "{} {response:?}", operation.info().name);
        Verdict::Refused(code(&response))
    }
}

/// The code of an error, in whichever form its protocol has.
fn code(response: &awsproto::Response) -> String {
    let named =
        response.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("x-amzn-errortype"));
    if let Some((_, code)) = named {
        return code.clone();
    }
    let body = String::from_utf8_lossy(&response.body);
    let within = |start: &str, end: char| {
        let rest = body.split_once(start)?.1;
        rest.split(end).next().map(str::to_owned)
    };
    let code = within("<Code>", '<').or_else(|| within("\"__type\":\"", '"'));
    code.unwrap_or_else(|| panic!("no code in {body}"))
}
