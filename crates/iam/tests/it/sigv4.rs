//! Signatures: the published suite, and every way to be refused.

use base::{Secret, Timestamp};
use iam::sigv4::{Part, Parts, Payload, Rejection, Signer, UNSIGNED_PAYLOAD, read};
use serde_json::Value;

const NOW: &str = "2015-08-30T12:36:00Z";

struct Owned {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Owned {
    fn from_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().expect("a text").to_owned();
        let headers = value["headers"].as_array().expect("headers").iter();
        let header = |h: &Value| {
            (h[0].as_str().expect("name").to_owned(), h[1].as_str().expect("value").to_owned())
        };
        Self {
            method: text("method"),
            path: text("path"),
            query: text("query"),
            headers: headers.map(header).collect(),
            body: text("body").into_bytes(),
        }
    }

    fn parts(&self) -> Parts<'_> {
        Parts {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            headers: &self.headers,
            body: &self.body,
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn without(mut self, names: &[&str]) -> Self {
        self.headers.retain(|(n, _)| !names.iter().any(|name| n.eq_ignore_ascii_case(name)));
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

fn suite() -> Value {
    serde_json::from_str(include_str!("sigv4-vectors.json")).expect("the vectors are JSON")
}

fn at(text: &str) -> Timestamp {
    Timestamp::parse_iso(text).expect("an instant")
}

fn suite_secret() -> Secret<String> {
    Secret::new(suite()["secret"].as_str().expect("a secret").to_owned())
}

#[test]
fn the_published_requests_verify() {
    let (suite, secret, now) = (suite(), suite_secret(), at(NOW));
    let cases = suite["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 31);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        for form in ["header", "query"] {
            let request = Owned::from_json(&case[form]);
            let read = read(&request.parts(), now).unwrap_or_else(|e| panic!("{name} {form}: {e}"));
            assert_eq!(read.access_key_id, "AKIDEXAMPLE");
            assert_eq!(read.scope.to_string(), "20150830/us-east-1/service/aws4_request");
            assert_eq!(read.token.as_deref(), case["token"].as_str());
            assert_eq!(read.payload, Payload::Signed);
            let verified = read.verify(&secret);
            // A token added to a query after signing cannot be told from one that was signed.
            if name == "post-sts-header-after" && form == "query" {
                assert_eq!(verified, Err(Rejection::Mismatch));
            } else {
                assert_eq!(verified, Ok(()), "{name} {form}");
            }
            let wrong = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEy".to_owned());
            assert_eq!(read.verify(&wrong), Err(Rejection::Mismatch), "{name} {form}");
        }
    }
}

#[test]
fn signing_makes_the_published_signatures() {
    let (suite, secret, now) = (suite(), suite_secret(), at(NOW));
    for case in suite["cases"].as_array().expect("cases") {
        let name = case["name"].as_str().expect("a name");
        if !case["signs_token"].as_bool().expect("a flag") {
            continue;
        }
        let signer = Signer {
            access_key_id: "AKIDEXAMPLE",
            secret: &secret,
            token: case["token"].as_str(),
            region: "us-east-1",
            service: "service",
        };
        let signed = Owned::from_json(&case["header"]);
        let published = signed.header("authorization").expect("a signature").to_owned();
        let plain = signed.without(&["authorization", "x-amz-date", "x-amz-security-token"]);
        let added = signer.headers(&plain.parts(), now);
        let made = &added.iter().find(|(n, _)| n == "authorization").expect("a signature").1;
        assert_eq!(*made, published, "{name}");

        let mut presigned = Owned::from_json(&case["query"]);
        let signature = presigned.query.split("X-Amz-Signature=").nth(1).expect("one").to_owned();
        let own = |pair: &&str| !pair.starts_with("X-Amz-");
        presigned.query = presigned.query.split('&').filter(own).collect::<Vec<_>>().join("&");
        let made = signer.presign(&presigned.parts(), now, 3600);
        assert!(made.ends_with(&format!("X-Amz-Signature={signature}")), "{name}");
    }
}

fn secret() -> Secret<String> {
    Secret::new("a secret".to_owned())
}

fn plain() -> Owned {
    Owned {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers: Vec::new(),
        body: b"{}".to_vec(),
    }
    .with("Host", "kms.example.test")
    .with("X-Amz-Target", "TrentService.ListKeys")
}

fn signed_with(request: Owned, token: Option<&str>) -> Owned {
    let secret = secret();
    let signer = Signer {
        access_key_id: "AKIAEXAMPLE",
        secret: &secret,
        token,
        region: "us-east-1",
        service: "kms",
    };
    let added = signer.headers(&request.parts(), at(NOW));
    added.iter().fold(request, |request, (name, value)| request.with(name, value))
}

fn signed() -> Owned {
    signed_with(plain(), None)
}

fn presigned(expires: i64) -> Owned {
    let secret = secret();
    let signer = Signer {
        access_key_id: "ASIAEXAMPLE",
        secret: &secret,
        token: Some("tok/en=="),
        region: "us-east-1",
        service: "ec2",
    };
    let mut request = plain().without(&["x-amz-target"]);
    request.query = "Action=CopySnapshot&Version=2016-11-15".to_owned();
    request.query = signer.presign(&request.parts(), at(NOW), expires);
    request
}

fn outcome(request: &Owned, now: &str) -> Result<Payload, Rejection> {
    let read = read(&request.parts(), at(now))?;
    read.verify(&secret())?;
    Ok(read.payload)
}

#[test]
fn any_change_breaks_the_signature() {
    assert_eq!(outcome(&signed(), NOW), Ok(Payload::Signed));
    let changed = [
        Owned { body: b"{ }".to_vec(), ..signed() },
        Owned { path: "/x".to_owned(), ..signed() },
        Owned { query: "a=b".to_owned(), ..signed() },
        Owned { method: "GET".to_owned(), ..signed() },
        signed().without(&["host"]).with("Host", "other.test"),
        signed().without(&["x-amz-target"]).with("x-amz-target", "TrentService.Decrypt"),
        signed().without(&["x-amz-date"]).with("x-amz-date", "20150830T123601Z"),
    ];
    for request in &changed {
        assert_eq!(outcome(request, NOW), Err(Rejection::Mismatch));
    }
    // Headers outside the signature are nobody's business.
    assert_eq!(outcome(&signed().with("user-agent", "x"), NOW), Ok(Payload::Signed));
}

#[test]
fn clocks_may_differ_by_five_minutes() {
    for good in ["2015-08-30T12:31:00Z", "2015-08-30T12:41:00Z"] {
        assert_eq!(outcome(&signed(), good), Ok(Payload::Signed), "{good}");
    }
    assert!(matches!(outcome(&signed(), "2015-08-30T12:41:01Z"), Err(Rejection::Expired { .. })));
    assert!(matches!(
        outcome(&signed(), "2015-08-30T12:30:59Z"),
        Err(Rejection::NotYetCurrent { .. })
    ));
    assert_eq!(
        outcome(&signed(), "2015-08-30T12:46:00Z").expect_err("too old").to_string(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T124100Z \
         (20150830T124600Z - 5 min.)"
    );
}

#[test]
fn presigned_urls() {
    assert_eq!(outcome(&presigned(3600), NOW), Ok(Payload::Signed));
    assert_eq!(outcome(&presigned(3600), "2015-08-30T13:36:00Z"), Ok(Payload::Signed));
    assert!(matches!(
        outcome(&presigned(3600), "2015-08-30T13:36:01Z"),
        Err(Rejection::Expired { .. })
    ));
    assert_eq!(outcome(&presigned(604_800), "2015-09-06T12:36:00Z"), Ok(Payload::Signed));
    let malformed = |name| Err(Rejection::Incomplete(Part::Malformed(name)));
    assert_eq!(outcome(&presigned(604_801), NOW), malformed("X-Amz-Expires"));
    assert_eq!(outcome(&presigned(-1), NOW), malformed("X-Amz-Expires"));
    let read = read(&presigned(60).parts(), at(NOW)).unwrap();
    assert_eq!(read.token.as_deref(), Some("tok/en=="));
    assert_eq!(read.presigned_for, Some(60));

    let edit = |from: &str, to: &str| {
        let request = presigned(60);
        assert!(request.query.contains(from), "{from}");
        Owned { query: request.query.replace(from, to), ..request }
    };
    assert_eq!(outcome(&edit("CopySnapshot", "DeleteSnapshot"), NOW), Err(Rejection::Mismatch));
    assert_eq!(
        outcome(&edit("X-Amz-Expires=60", "X-Amz-Expires=61"), NOW),
        Err(Rejection::Mismatch)
    );
    let missing = |name| Err(Rejection::Incomplete(Part::Missing(name)));
    assert_eq!(outcome(&edit("X-Amz-Expires=60&", ""), NOW), missing("X-Amz-Expires"));
    assert_eq!(outcome(&edit("&X-Amz-Signature=", "&Signature="), NOW), missing("X-Amz-Signature"));
    assert_eq!(
        outcome(&edit("X-Amz-Date=", "X-Amz-Date=20150830T123600Z&X-Amz-Date="), NOW),
        malformed("X-Amz-Date")
    );
    let twice = presigned(60).with("authorization", signed().header("authorization").expect("one"));
    assert_eq!(outcome(&twice, NOW), Err(Rejection::Incomplete(Part::Twice)));
}

#[test]
fn payload_hashes() {
    let unsigned = signed_with(plain().with("x-amz-content-sha256", UNSIGNED_PAYLOAD), None);
    assert_eq!(outcome(&unsigned, NOW), Ok(Payload::Unsigned));
    let changed = Owned { body: b"anything".to_vec(), ..unsigned };
    assert_eq!(outcome(&changed, NOW), Ok(Payload::Unsigned));
    let hash = iam::sigv4::sha256_hex(b"{}");
    let hashed = signed_with(plain().with("x-amz-content-sha256", &hash), None);
    assert_eq!(outcome(&hashed, NOW), Ok(Payload::Signed));
    let changed = Owned { body: b"anything".to_vec(), ..hashed };
    assert_eq!(outcome(&changed, NOW), Err(Rejection::PayloadMismatch));
    let streaming = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let chunked = signed_with(plain().with("x-amz-content-sha256", streaming), None);
    assert_eq!(outcome(&chunked, NOW), Err(Rejection::UnsupportedAlgorithm(streaming.to_owned())));
    // Claiming an unsigned body after signing is a change.
    let claimed = signed().with("x-amz-content-sha256", UNSIGNED_PAYLOAD);
    let error = Rejection::Incomplete(Part::NotSigned("x-amz-content-sha256".to_owned()));
    assert_eq!(outcome(&claimed, NOW), Err(error));
}

#[test]
fn malformed_headers_say_what_is_missing() {
    let with = |authorization: &str| {
        signed().without(&["authorization"]).with("authorization", authorization)
    };
    let original = signed().header("authorization").expect("one").to_owned();
    let edit = |from: &str, to: &str| {
        assert!(original.contains(from), "{from}");
        with(&original.replace(from, to))
    };
    let missing = |name| Err(Rejection::Incomplete(Part::Missing(name)));
    let malformed = |name| Err(Rejection::Incomplete(Part::Malformed(name)));
    assert_eq!(outcome(&plain(), NOW), Err(Rejection::MissingToken));
    assert_eq!(
        outcome(&with("Basic eDp5"), NOW),
        Err(Rejection::UnsupportedAlgorithm("Basic".to_owned()))
    );
    assert_eq!(outcome(&with("AWS4-HMAC-SHA256"), NOW), missing("Credential"));
    assert_eq!(outcome(&edit("Signature=", "Sig="), NOW), missing("Signature"));
    assert_eq!(outcome(&edit("SignedHeaders=", "Headers="), NOW), missing("SignedHeaders"));
    assert_eq!(outcome(&edit("Signature=", "Signature=00"), NOW), malformed("Signature"));
    assert_eq!(
        outcome(&edit("host;x-amz-date;x-amz-target", "x-amz-date;host;x-amz-target"), NOW),
        malformed("SignedHeaders")
    );
    let not_signed = |name: &str| Err(Rejection::Incomplete(Part::NotSigned(name.to_owned())));
    assert_eq!(
        outcome(&edit("host;x-amz-date;x-amz-target", "x-amz-date;x-amz-target"), NOW),
        not_signed("host")
    );
    assert_eq!(
        outcome(&edit("host;x-amz-date;x-amz-target", "host;x-amz-date"), NOW),
        not_signed("x-amz-target")
    );
    let absent = Err(Rejection::Incomplete(Part::Absent("host".to_owned())));
    assert_eq!(outcome(&signed().without(&["host"]), NOW), absent);
    assert_eq!(outcome(&signed().without(&["x-amz-date"]), NOW), missing("X-Amz-Date"));
    assert_eq!(
        outcome(&signed().with("x-amz-date", "20150830T123600Z"), NOW),
        Err(Rejection::Incomplete(Part::RepeatedHeader("x-amz-date")))
    );
    let wordy = signed().without(&["x-amz-date"]).with("x-amz-date", "2015-08-30T12:36:00Z");
    assert_eq!(outcome(&wordy, NOW), malformed("X-Amz-Date"));
    assert!(matches!(
        outcome(&edit("/20150830/", "/20150829/"), NOW),
        Err(Rejection::ScopeDate { .. })
    ));
    for bad in ["/aws4_request", "/us-east-1", "AKIAEXAMPLE/"] {
        assert!(
            matches!(outcome(&edit(bad, ""), NOW), Err(Rejection::MalformedCredential(_))),
            "{bad}"
        );
    }
    assert!(matches!(
        outcome(&edit("/aws4_request", "/aws5_request"), NOW),
        Err(Rejection::MalformedCredential(_))
    ));
    let long = "x".repeat(iam::sigv4::AUTHORIZATION_BYTES_MAX + 1);
    assert!(matches!(
        outcome(&with(&long), NOW),
        Err(Rejection::Incomplete(Part::TooLarge { .. }))
    ));
}

#[test]
fn session_tokens_travel_with_the_signature() {
    let request = signed_with(plain(), Some("a token"));
    assert_eq!(outcome(&request, NOW), Ok(Payload::Signed));
    let swapped = request.without(&["x-amz-security-token"]).with("x-amz-security-token", "other");
    assert_eq!(outcome(&swapped, NOW), Err(Rejection::Mismatch));
    let long = "t".repeat(iam::sigv4::TOKEN_BYTES_MAX + 1);
    let request = signed_with(plain(), Some(&long));
    assert!(matches!(outcome(&request, NOW), Err(Rejection::Incomplete(Part::TooLarge { .. }))));
}

proptest::proptest! {
    /// What a client signs, the server accepts, and arbitrary headers never break the reader.
    #[test]
    fn signing_and_verifying_agree(
        path in "/[ -~é]{0,20}", query in "[a-zA-Z%0-9=&+/ é]{0,30}", value in "[ -~]{0,20}", body in "[ -~]{0,20}"
    ) {
        let mut request = plain().with("x-custom", &value);
        request.path = path;
        request.query = query;
        request.body = body.into_bytes();
        proptest::prop_assert_eq!(outcome(&signed_with(request, None), NOW), Ok(Payload::Signed));
        let _ = read(&plain().with("authorization", &value).parts(), at(NOW));
    }
}
