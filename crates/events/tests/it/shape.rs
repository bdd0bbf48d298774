//! The members of a record, their order, and what never gets in.

use crate::{NOW, account, call, record, region};
use base::{InstanceId, SeededRng};
use events::{Call, Category, Record, Resource, SessionIssuer, UserIdentity, scrub};
use serde_json::{Value, json};

fn key(owner: char) -> Resource {
    Resource {
        account_id: account(owner),
        kind: "AWS::KMS::Key".to_owned(),
        arn: format!("arn:aws:kms:us-east-1:{}:key/k1", account(owner)),
    }
}

#[test]
fn a_record_has_cloudtrails_members_in_cloudtrails_order() {
    let record = record("CreateGrant", "e-1")
        .with_request(json!({"keyId": "k1", "operations": ["Decrypt"]}))
        .with_response(json!({"grantId": "g", "keyId": "k1"}))
        .with_additional("grantId", "g")
        .with_explain_id("d-1")
        .with_resources(vec![key('1')])
        .with_shared_event_id("s-1")
        .with_internal_endpoint();
    let expected = concat!(
        r#"{"eventVersion":"1.11","userIdentity":{"type":"IAMUser","principalId":"AIDABOB","#,
        r#""arn":"arn:aws:iam::222222222222:user/bob","accountId":"222222222222","accessKeyId":"AKIABOB","userName":"bob"},"#,
        r#""eventTime":"2026-11-21T09:30:00Z","eventSource":"kms.amazonaws.com","eventName":"CreateGrant","#,
        r#""awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","userAgent":"test/1","#,
        r#""requestParameters":{"keyId":"k1","operations":["Decrypt"]},"responseElements":{"grantId":"g","keyId":"k1"},"#,
        r#""additionalEventData":{"explainId":"d-1","grantId":"g"},"requestID":"r-1","eventID":"e-1","readOnly":false,"#,
        r#""resources":[{"accountId":"111111111111","type":"AWS::KMS::Key","ARN":"arn:aws:kms:us-east-1:111111111111:key/k1"}],"#,
        r#""eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"222222222222","sharedEventID":"s-1","#,
        r#""vpcEndpointId":"AWS Internal","vpcEndpointAccountId":"AWS Internal","eventCategory":"Management"}"#
    );
    assert_eq!(record.to_json(), expected);
    let read: Record = serde_json::from_str(expected).unwrap();
    assert_eq!(read.to_json(), expected);
}

#[test]
fn a_denied_key_call_shows_neither_parameters_nor_resources() {
    let record = record("Decrypt", "e-1")
        .with_request(json!({"encryptionContext": {"a": "b"}}))
        .with_resources(vec![key('1')])
        .denied("no statement allows it");
    let value: Value = serde_json::from_str(&record.to_json()).unwrap();
    assert_eq!(value["errorCode"], "AccessDenied");
    assert_eq!(value["requestParameters"], Value::Null);
    assert_eq!(value.get("resources"), None);
}

#[test]
fn each_kind_of_caller_has_its_own_members() {
    let check = |identity: UserIdentity, username: Option<&str>, expected: Value| {
        assert_eq!(serde_json::to_value(&identity).unwrap(), expected);
        assert_eq!(identity.username(), username);
    };
    let account = account('1');
    check(
        UserIdentity::root(&account),
        Some("root"),
        json!({"type": "Root", "principalId": "111111111111", "arn": "arn:aws:iam::111111111111:root", "accountId": "111111111111"}),
    );
    let issuer = SessionIssuer::role(&account, "AROAX", "arn:aws:iam::111111111111:role/r", "r");
    let session =
        UserIdentity::assumed_role(issuer, "arn:aws:sts::111111111111:assumed-role/r/s", "s")
            .with_access_key("ASIAX")
            .with_session_start(NOW)
            .invoked_by("ec2-frontend-api.amazonaws.com");
    check(
        session,
        Some("s"),
        json!({
            "type": "AssumedRole", "principalId": "AROAX:s", "arn": "arn:aws:sts::111111111111:assumed-role/r/s",
            "accountId": "111111111111", "accessKeyId": "ASIAX",
            "sessionContext": {
                "sessionIssuer": {"type": "Role", "principalId": "AROAX", "arn": "arn:aws:iam::111111111111:role/r",
                    "accountId": "111111111111", "userName": "r"},
                "attributes": {"creationDate": "2026-11-21T09:30:00Z", "mfaAuthenticated": "false"}
            },
            "invokedBy": "ec2-frontend-api.amazonaws.com"
        }),
    );
    let instance = InstanceId::parse("i-0123456789abcdef0").unwrap();
    check(
        UserIdentity::infrastructure(&account, &region(), &instance),
        Some("i-0123456789abcdef0"),
        json!({
            "type": "AssumedRole", "principalId": "111111111111:aws:ec2-infrastructure:i-0123456789abcdef0",
            "arn": "arn:aws:sts::111111111111:assumed-role/aws:ec2-infrastructure/i-0123456789abcdef0",
            "accountId": "111111111111",
            "sessionContext": {
                "sessionIssuer": {"type": "Role", "principalId": "111111111111:aws:ec2-infrastructure",
                    "arn": "arn:aws:iam::111111111111:role/aws:ec2-infrastructure",
                    "accountId": "111111111111", "userName": "aws:ec2-infrastructure"},
                "inScopeOf": {"issuerType": "AWS::EC2::Instance",
                    "credentialsIssuedTo": "arn:aws:ec2:us-east-1:111111111111:instance/i-0123456789abcdef0"}
            },
            "invokedBy": "AWS Internal"
        }),
    );
    check(
        UserIdentity::service("ebs.amazonaws.com"),
        Some("ebs.amazonaws.com"),
        json!({"type": "AWSService", "invokedBy": "ebs.amazonaws.com"}),
    );
    check(
        UserIdentity::internal(&account),
        None,
        json!({"accountId": "111111111111", "invokedBy": "AWS Internal"}),
    );
}

#[test]
fn the_owner_gets_its_own_copy_without_the_callers_arn() {
    let rng = SeededRng::new(1);
    let mut callers = record("Decrypt", "e-1").with_resources(vec![key('1')]);
    let owners = callers.share_with(&account('1'), &rng);
    let third = callers.share_with(&account('3'), &rng);
    let read = |record: &Record| serde_json::from_str::<Value>(&record.to_json()).unwrap();
    let (callers, owners, third) = (read(&callers), read(&owners), read(&third));
    assert_eq!(
        owners["userIdentity"],
        json!({"type": "AWSAccount", "principalId": "AIDABOB", "accountId": "222222222222"})
    );
    assert_eq!(owners["recipientAccountId"], "111111111111");
    assert_ne!(owners["eventID"], callers["eventID"]);
    assert!(callers["sharedEventID"].is_string());
    assert_eq!(owners["sharedEventID"], callers["sharedEventID"]);
    assert_eq!(third["sharedEventID"], callers["sharedEventID"]);
    assert_eq!(callers["userIdentity"]["arn"], "arn:aws:iam::222222222222:user/bob");
}

#[test]
fn a_service_event_has_no_caller() {
    let event = Record::service_event(call("RotateKey", "e-1"), json!({"keyId": "k1"}));
    let value: Value = serde_json::from_str(&event.to_json()).unwrap();
    assert_eq!(
        value["userIdentity"],
        json!({"accountId": "222222222222", "invokedBy": "AWS Internal"})
    );
    assert_eq!(value["eventType"], "AwsServiceEvent");
    assert_eq!(value["serviceEventDetails"], json!({"keyId": "k1"}));
    assert_eq!(value["requestParameters"], Value::Null);
    assert!(!event.to_json().contains("192.0.2.7"));
}

#[test]
fn secrets_do_not_get_in_by_any_way() {
    for name in scrub::FORBIDDEN {
        let secret = json!({"outer": [{*name: "geheim"}]});
        let ways = [
            record("Decrypt", "e").with_request(secret.clone()),
            record("Decrypt", "e").with_response(secret.clone()),
            record("Decrypt", "e").with_additional(name, "geheim"),
            Record::service_event(call("DeleteKey", "e"), secret.clone()),
        ];
        for record in ways {
            // Debug builds stop here; release builds write the record without the secret.
            let json = std::panic::catch_unwind(|| record.to_json()).unwrap_or_default();
            assert!(!json.contains("geheim"), "{name}: {json}");
            assert_eq!(json.is_empty(), cfg!(debug_assertions), "{name}");
        }
    }
}

#[test]
fn elements_that_are_too_long_are_left_out() {
    let long = "x".repeat(events::record::ELEMENT_BYTES_MAX);
    let record = record("PutKeyPolicy", "e").with_request(json!({"policy": long}));
    let value: Value = serde_json::from_str(&record.to_json()).unwrap();
    assert_eq!(value["requestParameters"]["omitted"], true);
    assert_eq!(value["requestParameters"]["reason"], "requestParameters too large");
}

#[test]
fn data_events_are_marked() {
    let call = Call { category: Category::Data, ..call("GetSnapshotBlock", "e") };
    let value: Value = serde_json::from_str(&Record::api_call(call).to_json()).unwrap();
    assert_eq!(
        (&value["managementEvent"], &value["eventCategory"]),
        (&json!(false), &json!("Data"))
    );
}
