//! What servers keep in rows as JSON: nothing that a row holds makes one fall over, and what earlier
//! releases wrote is read as a whole.

use fuzz::target;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Records and an event as they stand in rows; frozen.
const RECORDS: [&str; 2] = [
    r#"{"eventVersion":"1.11","userIdentity":{"type":"AssumedRole","principalId":"AROA1:s","arn":"arn:aws:sts::222222222222:assumed-role/dev/s","accountId":"222222222222","accessKeyId":"ASIA1","sessionContext":{"sessionIssuer":{"type":"Role","principalId":"AROA1","arn":"arn:aws:iam::222222222222:role/dev","accountId":"222222222222","userName":"dev"},"attributes":{"creationDate":"2026-11-21T09:00:00Z","mfaAuthenticated":"false"},"sourceIdentity":"ann"}},"eventTime":"2026-11-21T09:30:00Z","eventSource":"kms.amazonaws.com","eventName":"CreateGrant","awsRegion":"us-east-1","sourceIPAddress":"192.0.2.7","userAgent":"test/1","requestParameters":{"keyId":"k1","operations":["Decrypt"]},"responseElements":{"grantId":"g","keyId":"k1"},"additionalEventData":{"explainId":"d-1","grantId":"g"},"requestID":"r-1","eventID":"e-1","readOnly":false,"resources":[{"accountId":"111111111111","type":"AWS::KMS::Key","ARN":"arn:aws:kms:us-east-1:111111111111:key/k1"}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"222222222222","sharedEventID":"s-1","vpcEndpointId":"AWS Internal","vpcEndpointAccountId":"AWS Internal","eventCategory":"Management","strongroomDecisions":{"v":1,"asks":[]}}"#,
    r#"{"eventVersion":"1.11","userIdentity":{"accountId":"111111111111","invokedBy":"AWS Internal"},"eventTime":"2026-11-21T09:30:00Z","eventSource":"kms.amazonaws.com","eventName":"RotateKey","awsRegion":"us-east-1","sourceIPAddress":"AWS Internal","userAgent":"AWS Internal","errorCode":"AccessDenied","errorMessage":"m","requestParameters":null,"responseElements":null,"eventID":"e-2","readOnly":true,"eventType":"AwsServiceEvent","managementEvent":false,"recipientAccountId":"111111111111","serviceEventDetails":{"keyId":"k1"},"eventCategory":"Data"}"#,
];
const EVENT: &str = r#"{"version":"0","id":"e-1","detail-type":"EBS Volume Notification","source":"aws.ec2","account":"111111111111","time":"2026-11-21T09:30:00Z","region":"us-east-1","resources":["arn:aws:ec2:us-east-1:111111111111:volume/vol-1"],"detail":{"result":"available","cause":"","event":"createVolume"}}"#;
/// Columns of grants: operations and constraints.
const OPERATIONS: &str = r#"["CreateGrant","Decrypt","RetireGrant"]"#;
const CONSTRAINTS: &str = r#"{"equals":{"a":"b"},"subset":{"c":"d"}}"#;
/// Beside the texts of policies.
const BINDINGS: &str = r#"{"arn:aws:iam::111111111111:user/bob":"AIDABOB"}"#;
/// Of identity providers.
const SETTINGS: &str = r#"{"client_ids":["sts.amazonaws.com"],"thumbprints":["0123456789abcdef0123456789abcdef01234567"]}"#;
const METADATA: &str = r#"{"entity_id":"https://idp.example.org","keys":[{"kind":"P256","public":[1,2]}],"valid_until":7}"#;

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// Numbers with fractions come back as one of their neighbours; nothing here writes any.
fn has_fractions(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fractions),
        Value::Object(members) => members.values().any(has_fractions),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// What is read of a row is written as it was, once it was written by a server.
fn kept<T: DeserializeOwned + Serialize>(row: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(row) else { return };
    if serde_json::from_slice(row).is_ok_and(|value| has_fractions(&value)) {
        return;
    }
    let written = serde_json::to_string(&read).expect("rows are plain data");
    let again: T = serde_json::from_str(&written).unwrap_or_else(|e| panic!("{e}: {written}"));
    assert_eq!(serde_json::to_string(&again).expect("as before"), written);
}

target!(
    /// Records of the trail.
    records,
    bytes(&RECORDS),
    kept::<events::Record>
);

target!(
    /// Events of the bus.
    service_events,
    bytes(&[EVENT]),
    kept::<events::ServiceEvent>
);

target!(
    /// Grants, bindings of policies, and what is known of identity providers.
    columns,
    bytes(&[OPERATIONS, CONSTRAINTS, BINDINGS, SETTINGS, METADATA]),
    |bytes: &[u8]| {
        kept::<Vec<kms::grant::GrantOperation>>(bytes);
        kept::<kms::grant::Constraints>(bytes);
        kept::<iam::Bindings>(bytes);
        kept::<identity::oidc::Settings>(bytes);
        kept::<identity::saml::Metadata>(bytes);
    }
);

#[test]
fn rows_of_earlier_releases_are_read_as_a_whole() {
    fn whole<T: DeserializeOwned + Serialize>(row: &str) {
        let read: T = serde_json::from_str(row).unwrap_or_else(|error| panic!("{error}: {row}"));
        let written = serde_json::to_string(&read).expect("rows are plain data");
        let parsed = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
        assert_eq!(parsed(&written), parsed(row));
    }
    RECORDS.into_iter().for_each(whole::<events::Record>);
    whole::<events::ServiceEvent>(EVENT);
    whole::<Vec<kms::grant::GrantOperation>>(OPERATIONS);
    whole::<kms::grant::Constraints>(CONSTRAINTS);
    whole::<iam::Bindings>(BINDINGS);
    whole::<identity::oidc::Settings>(SETTINGS);
    whole::<identity::saml::Metadata>(METADATA);
}
