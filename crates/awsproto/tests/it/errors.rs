//! Refusals in each protocol's words.

use crate::golden::{Wire, form, received, show};
use crate::shapes::*;
use awsproto::{ErrorSpec, Protocol, Response, client, reply};
use expect_test::expect;

fn code_and_message<T>(protocol: Protocol, refused: Result<T, Response>) -> String {
    let response = refused.err().expect("refused");
    let (code, message) = client::error_of(protocol, &response).expect("an error reply");
    format!("{} {code}: {message}", response.status)
}

fn ec2(rest: &'static str) -> String {
    let body = format!("Action=CreateVolume&Version=2016-11-15&{rest}").leak();
    code_and_message(Protocol::Ec2Query, form::<CreateVolumeInput>("ec2", body))
}

#[test]
fn ec2_refusals() {
    let cases = [
        "SnapshotId=snap-xyz",
        "VolumeType=gp9",
        "Size=big",
        "Size=3000000000",
        "Encrypted=perhaps",
        "OutpostArn=o",
        "Operator.Principal=p",
        "Colour=red",
        "TagSpecification.1.Colour.1=x",
        "TagSpecification.x=1",
        "TagSpecification.1.Tag.1.Key=k",
        "TagSpecification.01.ResourceType=v",
        "Size.1=3",
        "TagSpecification=1",
        "Size=1&Size=2",
        "Size=%ff",
        "KmsKeyId.Foo=x",
    ];
    let text: String = cases.iter().map(|case| format!("{case}\n    {}\n", ec2(case))).collect();
    expect![[r#"
        SnapshotId=snap-xyz
            400 InvalidParameterValue: Value (snap-xyz) for parameter snapshotId is invalid. Expected: 'snap-...'.
        VolumeType=gp9
            400 InvalidParameterValue: Value (gp9) for parameter volumeType is invalid. Expected one of: gp2, gp3, io2.
        Size=big
            400 InvalidParameterValue: Value (big) for parameter size is invalid. Expected an integer between -2147483648 and 2147483647.
        Size=3000000000
            400 InvalidParameterValue: Value (3000000000) for parameter size is invalid. Expected an integer between -2147483648 and 2147483647.
        Encrypted=perhaps
            400 InvalidParameterValue: Value (perhaps) for parameter encrypted is invalid. Expected true or false.
        OutpostArn=o
            400 UnsupportedOperation: The parameter OutpostArn is not supported.
        Operator.Principal=p
            400 UnsupportedOperation: The parameter Operator is not supported.
        Colour=red
            400 UnknownParameter: The parameter Colour is not recognized
        TagSpecification.1.Colour.1=x
            400 UnknownParameter: The parameter TagSpecification.1.Colour.1 is not recognized
        TagSpecification.x=1
            400 UnknownParameter: The parameter TagSpecification.x is not recognized
        TagSpecification.1.Tag.1.Key=k
            400 MissingParameter: The request must contain the parameter tagSpecifications.1.tags.1.value
        TagSpecification.01.ResourceType=v
            400 UnknownParameter: The parameter TagSpecification.01 is not recognized
        Size.1=3
            400 InvalidParameterValue: The parameter Size is invalid. Expected a single value.
        TagSpecification=1
            400 InvalidParameterValue: The parameter TagSpecification is invalid. Expected a list.
        Size=1&Size=2
            400 MalformedQueryString: The query string is malformed: a parameter is given twice.
        Size=%ff
            400 MalformedQueryString: The query string is malformed: a parameter is not UTF-8.
        KmsKeyId.Foo=x
            400 InvalidParameterValue: The parameter KmsKeyId is invalid. Expected a single value.
    "#]].assert_eq(&text);
    let missing = form::<DeleteVolumeInput>("ec2", "Action=DeleteVolume&Version=2016-11-15");
    expect!["400 MissingParameter: The request must contain the parameter volumeId"]
        .assert_eq(&code_and_message(Protocol::Ec2Query, missing));
}

#[test]
fn iam_refusals() {
    let cases = [
        "AssumeRolePolicyDocument=x",
        "RoleName=r&AssumeRolePolicyDocument=x&MaxSessionDuration=x",
        "RoleName=r&PermissionsBoundary=x",
        "Tags.member.1.Key=k&RoleName=r&AssumeRolePolicyDocument=x",
        "Tags.1.Key=k",
        "Tags=x",
    ];
    let refuse = |case: &str| {
        let body = format!("Action=CreateRole&Version=2010-05-08&{case}").leak();
        code_and_message(Protocol::AwsQuery, form::<CreateRoleInput>("iam", body))
    };
    let text: String = cases.iter().map(|case| format!("{case}\n    {}\n", refuse(case))).collect();
    expect![[r#"
        AssumeRolePolicyDocument=x
            400 ValidationError: 1 validation error detected: Value null at 'roleName' failed to satisfy constraint: Member must not be null
        RoleName=r&AssumeRolePolicyDocument=x&MaxSessionDuration=x
            400 ValidationError: 1 validation error detected: Value 'x' at 'maxSessionDuration' failed to satisfy constraint: Expected an integer between -2147483648 and 2147483647.
        RoleName=r&PermissionsBoundary=x
            400 ValidationError: The parameter 'permissionsBoundary' is not supported.
        Tags.member.1.Key=k&RoleName=r&AssumeRolePolicyDocument=x
            400 ValidationError: 1 validation error detected: Value null at 'tags.1.member.value' failed to satisfy constraint: Member must not be null
        Tags.1.Key=k
            400 MalformedInput: The value at 'tags' is not a list.
        Tags=x
            400 MalformedInput: The value at 'tags' is not a list.
    "#]].assert_eq(&text);
}

#[test]
fn kms_refusals() {
    let cases = [
        "",
        "[]",
        "{",
        r#"{"KeyId":1}"#,
        r#"{"KeyId":"k","Plaintext":"%%"}"#,
        r#"{"KeyId":"k","Plaintext":"","EncryptionContext":{"secret":1}}"#,
        r#"{"KeyId":"k","Plaintext":"","GrantTokens":["a",2]}"#,
        r#"{"KeyId":"k"}"#,
    ];
    let refuse = |case: &'static str| {
        let wire = Wire {
            method: "POST",
            path: "/",
            headers: &[("x-amz-target", "TrentService.Encrypt")],
            body: case.as_bytes(),
            ..Wire::default()
        };
        code_and_message(Protocol::AwsJson11, received::<EncryptInput>("kms", &wire))
    };
    let text: String = cases.iter().map(|case| format!("{case}\n    {}\n", refuse(case))).collect();
    expect![[r#"

            400 ValidationException: 1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null
        []
            400 SerializationException: The request is malformed: the document is not an object.
        {
            400 SerializationException: The request is malformed: the document is not JSON.
        {"KeyId":1}
            400 SerializationException: The value at 'keyId' is not a string.
        {"KeyId":"k","Plaintext":"%%"}
            400 SerializationException: The value at 'plaintext' is not base64.
        {"KeyId":"k","Plaintext":"","EncryptionContext":{"secret":1}}
            400 SerializationException: The value at 'encryptionContext.secret' is not a string.
        {"KeyId":"k","Plaintext":"","GrantTokens":["a",2]}
            400 SerializationException: The value at 'grantTokens.2.member' is not a string.
        {"KeyId":"k"}
            400 ValidationException: 1 validation error detected: Value null at 'plaintext' failed to satisfy constraint: Member must not be null
    "#]].assert_eq(&text);
}

#[test]
fn rest_refusals() {
    let refuse = |path: &'static str, query: &'static str, body: &'static str| {
        let wire = Wire { method: "POST", path, query, body: body.as_bytes(), ..Wire::default() };
        code_and_message(Protocol::RestJson1, received::<Everywhere>("ebs", &wire))
    };
    let all = [
        refuse("/everywhere/a/at/noon", "mark", "{}"),
        refuse("/everywhere/a/at/2026-01-01", "mark&since=x", "{}"),
        refuse("/everywhere/a/at/2026-01-01", "mark", "{\"Later\":1}"),
        refuse("/everywhere/a/at/2026-01-01", "mark&later=1", "{}"),
        refuse("/everywhere/a/at/2026-01-01", "mark", "{}"),
        refuse(
            "/everywhere/a/at/2026-01-01",
            "mark",
            "{\"Body\":{\"Address\":\"x\",\"Password\":9}}",
        ),
        refuse("/everywhere/a/at/2026-01-01", "", "{}"),
    ];
    expect![[r#"
        400 ValidationException: 1 validation error detected: Value 'noon' at 'when' failed to satisfy constraint: Expected a timestamp.
        400 ValidationException: 1 validation error detected: Value 'x' at 'since' failed to satisfy constraint: Expected a timestamp.
        400 ValidationException: The parameter 'later' is not supported.
        400 ValidationException: The parameter 'later' is not supported.
        400 ValidationException: 1 validation error detected: Value null at 'body' failed to satisfy constraint: Member must not be null
        400 SerializationException: The value at 'body.password' is not a string.
        404 UnknownOperationException: No operation has the method POST and the path /everywhere/a/at/2026-01-01."#]].assert_eq(&all.join("\n"));
}

#[test]
fn sensitive_values_are_not_repeated() {
    let wire = Wire {
        method: "POST",
        path: "/",
        headers: &[("x-amz-target", "TrentService.Encrypt")],
        body: br#"{"KeyId":"k","Plaintext":"hunter2 is not base64"}"#,
        ..Wire::default()
    };
    let refused = code_and_message(Protocol::AwsJson11, received::<EncryptInput>("kms", &wire));
    assert!(!refused.contains("hunter2"), "{refused}");
}

#[test]
fn error_replies() {
    const SPEC: ErrorSpec = ErrorSpec::sender("ValidationException", 400);
    let error = SPEC.error("no <block>").with_member("Reason", "INVALID_BLOCK");
    show(
        &reply::failure(Protocol::Ec2Query, &error, "rid"),
        &expect![[r#"
        400
        Content-Type: text/xml;charset=UTF-8
        x-amzn-RequestId: rid

        <?xml version="1.0" encoding="UTF-8"?>
        <Response>
        <Errors>
        <Error>
        <Code>ValidationException</Code>
        <Message>no &lt;block&gt;</Message>
        <Reason>INVALID_BLOCK</Reason>
        </Error>
        </Errors>
        <Reason>INVALID_BLOCK</Reason>
        <RequestID>rid</RequestID>
        </Response>"#]],
    );
    show(
        &reply::failure(Protocol::AwsQuery, &error, "rid"),
        &expect![[r#"
        400
        Content-Type: text/xml
        x-amzn-RequestId: rid

        <?xml version="1.0" encoding="UTF-8"?>
        <ErrorResponse>
        <Error>
        <Type>Sender</Type>
        <Code>ValidationException</Code>
        <Message>no &lt;block&gt;</Message>
        <Reason>INVALID_BLOCK</Reason>
        </Error>
        <RequestId>rid</RequestId>
        </ErrorResponse>"#]],
    );
    show(
        &reply::failure(Protocol::AwsJson11, &error, "rid"),
        &expect![[r#"
        400
        Content-Type: application/x-amz-json-1.1
        x-amzn-RequestId: rid

        {"Reason":"INVALID_BLOCK","__type":"ValidationException","message":"no <block>"}"#]],
    );
    show(
        &reply::failure(Protocol::RestJson1, &error, "rid"),
        &expect![[r#"
        400
        Content-Type: application/json
        x-amzn-ErrorType: ValidationException
        x-amzn-RequestId: rid

        {"Message":"no <block>","Reason":"INVALID_BLOCK"}"#]],
    );
    assert!(!SPEC.retryable && ErrorSpec::receiver("X", 500).retryable);
}
