//! Requests as the real clients write them, replies as they read them.

use crate::shapes::*;
use awsproto::{Blob, FromWire, Request, Response, RouteError, ToWire, Value, client, reply};
use base::{Arn, Timestamp, VolumeId};
use bytes::Bytes;
use expect_test::{Expect, expect};

/// A request in the shape a test writes it.
#[derive(Default)]
pub(crate) struct Wire {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) query: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) body: &'static [u8],
}

/// Decodes a request into its operation's name and input, or the reply that refuses it.
pub(crate) fn received<T: FromWire>(service: &str, wire: &Wire) -> Result<(String, T), Response> {
    let headers: Vec<_> =
        wire.headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let body = Bytes::from_static(wire.body);
    let Wire { method, path, query, .. } = *wire;
    let request = Request { method, path, query, headers: &headers, body: &body };
    let refuse = |protocol, error| reply::failure(protocol, &error, "rid");
    let route = router()
        .route(Some(service), &request)
        .map_err(|RouteError { protocol, error }| refuse(protocol, error))?;
    let (name, protocol) = (route.operation.name.to_owned(), route.operation.protocol);
    let input = route.decode(&request).and_then(T::from_wire);
    input.map(|input| (name, input)).map_err(|e| refuse(protocol, e.into_error(protocol)))
}

pub(crate) fn form<T: FromWire>(service: &str, body: &'static str) -> Result<T, Response> {
    let wire = Wire { method: "POST", path: "/", body: body.as_bytes(), ..Wire::default() };
    received(service, &wire).map(|(_, input)| input)
}

fn sent(service: &str, name: &str, output: &impl ToWire) -> Response {
    let (service, operation) = find(service, name);
    let output = output.to_wire().unwrap_or_else(Value::empty);
    let response = reply::success(service, operation, &output, "rid-1");
    // What is written is what a client reads back.
    let read = client::output(operation, &response).unwrap();
    let again = reply::success(service, operation, &read, "rid-1");
    assert_eq!(again, response);
    response
}

pub(crate) fn show(response: &Response, expected: &Expect) {
    use std::fmt::Write as _;
    let mut text = format!("{}\n", response.status);
    for (name, value) in &response.headers {
        writeln!(text, "{name}: {value}").unwrap();
    }
    let body = String::from_utf8_lossy(&response.body).replace("><", ">\n<");
    expected.assert_eq(&format!("{text}\n{body}"));
}

#[test]
fn create_volume_request() {
    let input: CreateVolumeInput = form(
        "ec2",
        "Action=CreateVolume&Version=2016-11-15&AvailabilityZone=us-east-1a&Encrypted=true&Size=8\
         &VolumeType=gp3&KmsKeyId=alias%2Fmy+key&SnapshotId=snap-0123456789abcdef0\
         &TagSpecification.1.ResourceType=volume&TagSpecification.1.Tag.1.Key=a\
         &TagSpecification.1.Tag.1.Value=b%26c&TagSpecification.1.Tag.2.Key=d\
         &TagSpecification.1.Tag.2.Value=&DryRun=false&ClientToken=t",
    )
    .unwrap();
    assert_eq!(input.availability_zone.as_deref(), Some("us-east-1a"));
    assert_eq!((input.encrypted, input.size, input.iops), (Some(true), Some(8), None));
    assert_eq!((input.throughput, input.volume_type), (None, Some(VolumeType::Gp3)));
    assert_eq!(input.kms_key_id.as_deref(), Some("alias/my key"));
    assert_eq!(input.snapshot_id.unwrap().as_str(), "snap-0123456789abcdef0");
    assert_eq!(input.client_token.as_deref(), Some("t"));
    let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
    let expected = TagSpecification {
        resource_type: Some("volume".into()),
        tags: vec![tag("a", "b&c"), tag("d", "")],
    };
    assert_eq!(input.tag_specifications, [expected]);
}

#[test]
fn describe_volumes_request_in_the_query_string() {
    let wire = Wire {
        method: "GET",
        path: "/",
        query: "Action=DescribeVolumes&Version=2016-11-15&VolumeId.2=vol-22222222&VolumeId.1=vol-11111111\
                &VolumeId.10=vol-aaaaaaaa&Filter.1.Name=tag%3Ax&Filter.1.Value.1=y&MaxResults=5\
                &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00",
        ..Wire::default()
    };
    let (name, input): (_, DescribeVolumesInput) = received("ec2", &wire).unwrap();
    assert_eq!(name, "DescribeVolumes");
    let ids: Vec<_> = input.volume_ids.iter().map(VolumeId::as_str).collect();
    assert_eq!(ids, ["vol-11111111", "vol-22222222", "vol-aaaaaaaa"]);
    assert_eq!(input.filters[0].name.as_deref(), Some("tag:x"));
    assert_eq!(input.filters[0].values, ["y"]);
    assert_eq!((input.max_results, input.next_token), (Some(5), None));
}

fn volumes() -> DescribeVolumesOutput {
    let volume_id = VolumeId::parse("vol-0123456789abcdef0").unwrap();
    let attachment = VolumeAttachment {
        device: Some("/dev/sdf".into()),
        instance_id: Some("i-12345678".into()),
        state: Some("attached".into()),
        volume_id: volume_id.clone(),
        attach_time: Some(Timestamp(1_700_000_000_000)),
        delete_on_termination: false,
    };
    let tag = Tag { key: "Name".into(), value: "a<b>&\"c\" \u{1}\r".into() };
    let volume = |attachments, tags| Volume {
        volume_id: volume_id.clone(),
        size: 8,
        state: "in-use".into(),
        create_time: Timestamp(1_700_000_000_123),
        attachments,
        tags,
        encrypted: true,
        volume_type: VolumeType::Io2,
    };
    let volumes = vec![volume(vec![attachment], Some(vec![tag])), volume(vec![], None)];
    DescribeVolumesOutput { volumes, next_token: None }
}

#[test]
fn describe_volumes_reply() {
    let response = sent("ec2", "DescribeVolumes", &volumes());
    show(
        &response,
        &expect![[r#"
        200
        Content-Type: text/xml;charset=UTF-8
        x-amzn-RequestId: rid-1

        <?xml version="1.0" encoding="UTF-8"?>
        <DescribeVolumesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
        <requestId>rid-1</requestId>
        <volumeSet>
        <item>
        <volumeId>vol-0123456789abcdef0</volumeId>
        <size>8</size>
        <status>in-use</status>
        <createTime>2023-11-14T22:13:20.123Z</createTime>
        <attachmentSet>
        <item>
        <device>/dev/sdf</device>
        <instanceId>i-12345678</instanceId>
        <status>attached</status>
        <volumeId>vol-0123456789abcdef0</volumeId>
        <attachTime>2023-11-14T22:13:20.000Z</attachTime>
        <deleteOnTermination>false</deleteOnTermination>
        </item>
        </attachmentSet>
        <tagSet>
        <item>
        <key>Name</key>
        <value>a&lt;b&gt;&amp;&quot;c&quot; �&#xD;</value>
        </item>
        </tagSet>
        <encrypted>true</encrypted>
        <volumeType>io2</volumeType>
        </item>
        <item>
        <volumeId>vol-0123456789abcdef0</volumeId>
        <size>8</size>
        <status>in-use</status>
        <createTime>2023-11-14T22:13:20.123Z</createTime>
        <attachmentSet>
        </attachmentSet>
        <encrypted>true</encrypted>
        <volumeType>io2</volumeType>
        </item>
        </volumeSet>
        </DescribeVolumesResponse>"#]],
    );
    assert_eq!(sent("ec2", "DeleteVolume", &()).body, expect_unit());
}

fn expect_unit() -> Bytes {
    Bytes::from_static(
        b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteVolumeResponse \
          xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>rid-1</requestId>\
          <return>true</return></DeleteVolumeResponse>",
    )
}

#[test]
fn create_role_request() {
    let input: CreateRoleInput = form(
        "iam",
        "Action=CreateRole&Version=2010-05-08&RoleName=r&AssumeRolePolicyDocument=%7B%7D&Path=%2F\
         &Tags.member.1.Key=k&Tags.member.1.Value=v&MaxSessionDuration=3600&Unheard=of",
    )
    .unwrap();
    assert_eq!((input.role_name.as_str(), input.path.as_deref()), ("r", Some("/")));
    assert_eq!(input.assume_role_policy_document, "{}");
    assert_eq!((input.max_session_duration, input.description), (Some(3600), None));
    assert_eq!(input.tags, Some(vec![Tag { key: "k".into(), value: "v".into() }]));
    let empty: CreateRoleInput = form(
        "iam",
        "Action=CreateRole&Version=2010-05-08&RoleName=r&AssumeRolePolicyDocument=x&Tags=",
    )
    .unwrap();
    assert_eq!(empty.tags, Some(vec![]));
}

#[test]
fn create_role_reply() {
    let role = Role {
        path: "/".into(),
        role_name: "r".into(),
        role_id: "AROA1".into(),
        arn: Arn::parse("arn:aws:iam::111122223333:role/r").unwrap(),
        create_date: Timestamp(1_700_000_000_123),
        assume_role_policy_document: Some("%7B%7D".into()),
        tags: vec![Tag { key: "k".into(), value: "v".into() }],
    };
    show(
        &sent("iam", "CreateRole", &CreateRoleOutput { role }),
        &expect![[r#"
        200
        Content-Type: text/xml
        x-amzn-RequestId: rid-1

        <?xml version="1.0" encoding="UTF-8"?>
        <CreateRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
        <CreateRoleResult>
        <Role>
        <Path>/</Path>
        <RoleName>r</RoleName>
        <RoleId>AROA1</RoleId>
        <Arn>arn:aws:iam::111122223333:role/r</Arn>
        <CreateDate>2023-11-14T22:13:20Z</CreateDate>
        <AssumeRolePolicyDocument>%7B%7D</AssumeRolePolicyDocument>
        <Tags>
        <member>
        <Key>k</Key>
        <Value>v</Value>
        </member>
        </Tags>
        </Role>
        </CreateRoleResult>
        <ResponseMetadata>
        <RequestId>rid-1</RequestId>
        </ResponseMetadata>
        </CreateRoleResponse>"#]],
    );
    show(
        &sent("iam", "Nothing", &()),
        &expect![[r#"
        200
        Content-Type: text/xml
        x-amzn-RequestId: rid-1

        <?xml version="1.0" encoding="UTF-8"?>
        <NothingResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
        <ResponseMetadata>
        <RequestId>rid-1</RequestId>
        </ResponseMetadata>
        </NothingResponse>"#]],
    );
}

#[test]
fn encrypt() {
    let wire = Wire {
        method: "POST",
        path: "/",
        headers: &[("X-Amz-Target", "TrentService.Encrypt")],
        body: br#"{"KeyId":"alias/k","Plaintext":"aGVsbG8=","EncryptionContext":{"aws:ebs:id":"vol-1"},
                   "DryRun":false,"GrantTokens":null,"Unheard":{"of":[1]}}"#,
        ..Wire::default()
    };
    let (name, input): (_, EncryptInput) = received("kms", &wire).unwrap();
    assert_eq!((name.as_str(), input.key_id.as_str()), ("Encrypt", "alias/k"));
    assert_eq!(&*input.plaintext, b"hello");
    assert_eq!(input.encryption_context["aws:ebs:id"], "vol-1");
    assert!(input.grant_tokens.is_empty() && input.encryption_algorithm.is_none());
    assert!(!format!("{input:?}").contains("hello"));

    let output = EncryptOutput {
        ciphertext_blob: Blob::from(vec![0, 255]),
        key_id: "arn:aws:kms:us-east-1:111122223333:key/k".into(),
        encryption_algorithm: "SYMMETRIC_DEFAULT".into(),
    };
    show(
        &sent("kms", "Encrypt", &output),
        &expect![[r#"
        200
        Content-Type: application/x-amz-json-1.1
        x-amzn-RequestId: rid-1

        {"CiphertextBlob":"AP8=","EncryptionAlgorithm":"SYMMETRIC_DEFAULT","KeyId":"arn:aws:kms:us-east-1:111122223333:key/k"}"#]],
    );
}

#[test]
fn put_and_list_snapshot_blocks() {
    let wire = Wire {
        method: "PUT",
        path: "/snapshots/snap-0123456789abcdef0/blocks/1000",
        headers: &[
            ("x-amz-data-length", "524288"),
            ("X-Amz-Checksum", "AbC="),
            ("x-amz-checksum-algorithm", "SHA256"),
        ],
        body: b"\x00raw\xff",
        ..Wire::default()
    };
    let (name, input): (_, PutSnapshotBlockInput) = received("ebs", &wire).unwrap();
    assert_eq!((name.as_str(), input.block_index), ("PutSnapshotBlock", 1000));
    assert_eq!((input.data_length, input.progress), (524_288, None));
    assert_eq!((input.checksum.as_str(), input.checksum_algorithm.as_str()), ("AbC=", "SHA256"));
    assert_eq!(&*input.block_data, b"\x00raw\xff");
    assert_eq!(input.snapshot_id.as_str(), "snap-0123456789abcdef0");
    let output =
        PutSnapshotBlockOutput { checksum: "AbC=".into(), checksum_algorithm: "SHA256".into() };
    show(
        &sent("ebs", "PutSnapshotBlock", &output),
        &expect![[r#"
        201
        Content-Type: application/json
        x-amz-Checksum: AbC=
        x-amz-Checksum-Algorithm: SHA256
        x-amzn-RequestId: rid-1

        {}"#]],
    );

    let wire = Wire {
        method: "GET",
        path: "/snapshots/snap-12345678/blocks/",
        query: "maxResults=100&pageToken=a%2Fb%2B%3D",
        ..Wire::default()
    };
    let (name, input): (_, ListSnapshotBlocksInput) = received("ebs", &wire).unwrap();
    assert_eq!((name.as_str(), input.max_results), ("ListSnapshotBlocks", Some(100)));
    assert_eq!(input.next_token.as_deref(), Some("a/b+="));
    assert_eq!((input.snapshot_id.as_str(), input.starting_block_index), ("snap-12345678", None));
    let output = ListSnapshotBlocksOutput {
        blocks: vec![Block { block_index: 7, block_token: "t".into() }],
        expiry_time: Timestamp(1_700_000_000_123),
        volume_size: 8,
        block_size: 524_288,
        next_token: None,
    };
    show(
        &sent("ebs", "ListSnapshotBlocks", &output),
        &expect![[r#"
        200
        Content-Type: application/json
        x-amzn-RequestId: rid-1

        {"BlockSize":524288,"Blocks":[{"BlockIndex":7,"BlockToken":"t"}],"ExpiryTime":1700000000.123,"VolumeSize":8}"#]],
    );
}
