//! What the trail shows of a request.

use crate::shapes::find;
use awsproto::{Request, Value, audit};
use bytes::Bytes;
use expect_test::{Expect, expect};

fn check(service: &str, name: &str, headers: &[(&str, &str)], body: &str, expected: &Expect) {
    let headers: Vec<_> = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let body = Bytes::from(body.to_owned());
    let request = Request { method: "POST", path: "/", query: "", headers: &headers, body: &body };
    let route = crate::shapes::router().route(Some(service), &request).unwrap();
    let value = route.decode(&request).unwrap();
    let (_, operation) = find(service, name);
    let shown = audit::parameters(operation.protocol, operation.input, &value);
    expected.assert_eq(&serde_json::to_string_pretty(&shown).unwrap());
}

#[test]
fn requests_as_the_trail_shows_them() {
    check(
        "ec2",
        "DescribeVolumes",
        &[],
        "Action=DescribeVolumes&Version=2016-11-15&VolumeId.1=vol-12345678&Filter.1.Name=n&Filter.1.Value.1=v",
        &expect![[r#"
            {
              "filterSet": {
                "items": [
                  {
                    "name": "n",
                    "values": {
                      "items": [
                        "v"
                      ]
                    }
                  }
                ]
              },
              "volumeSet": {
                "items": [
                  {
                    "volumeId": "vol-12345678"
                  }
                ]
              }
            }"#]],
    );
    check(
        "kms",
        "Encrypt",
        &[("x-amz-target", "TrentService.Encrypt")],
        r#"{"KeyId":"k","Plaintext":"aGVsbG8=","EncryptionContext":{"aws:ebs:id":"vol-1"}}"#,
        &expect![[r#"
            {
              "encryptionContext": {
                "aws:ebs:id": "vol-1"
              },
              "keyId": "k"
            }"#]],
    );
}

#[test]
fn secrets_and_bytes_are_left_out() {
    check(
        "kms",
        "Everything",
        &[("x-amz-target", "TrentService.Everything")],
        r#"{"Address":"1.2.3.4","Password":"p","kmsKey":"k","At":"2026-11-21T09:30:00Z","Until":1.5,
            "Bytes":"AA==","Flat":["f"],"Things":[{"Key":"a","Value":"b"}],"Ratio":0.5}"#,
        &expect![[r#"
            {
              "address": "1.2.3.4",
              "at": "2026-11-21T09:30:00Z",
              "flat": [
                "f"
              ],
              "kMSKey": "k",
              "ratio": 0.5,
              "things": [
                {
                  "key": "a",
                  "value": "b"
                }
              ],
              "until": "1970-01-01T00:00:01Z"
            }"#]],
    );
}

#[test]
fn nothing_to_show_is_null() {
    let (_, operation) = find("kms", "Encrypt");
    let shown = audit::parameters(operation.protocol, operation.input, &Value::empty());
    assert!(shown.is_null());
}
