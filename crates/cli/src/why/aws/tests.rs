//! Lines, and what is read in them. `tests/clients` compares more of them with the stock CLI.

use super::*;
use clap::Parser;
use std::path::Path;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    server: ServerArgs,
}

/// A home with files in it, among them a profile that says how bytes are written.
fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().expect("a directory");
    std::fs::create_dir(home.path().join(".aws")).expect("made");
    for (name, content) in [
        ("policy.json", &b"{\"Version\":\r\n\"2012-10-17\"}"[..]),
        ("bytes", &[0, 1, 255]),
        ("base64.txt", b"aGVsbG8=\n"),
        ("tags.json", b"\n[{\"Key\": \"a\", \"Value\": \"b\"}]\n"),
        ("ids.json", b"[\"1\", \"2\"]"),
        ("size", b" 8\n"),
        ("context.txt", b"a=b,c=d\n"),
        ("context.json", b"\n{\"a\": \"b\"}\n"),
        ("volume.json", b"{\"Size\": 1, \"AvailabilityZone\": \"z\", \"Encrypted\": true}"),
        (".aws/config", b"[profile raw]\ncli_binary_format = raw-in-base64-out\n"),
    ] {
        std::fs::write(home.path().join(name), content).expect("written");
    }
    home
}

/// Reads a line whose words are divided by `␣` when that is in it, and by spaces otherwise.
fn read_at(home: &Path, line: &str) -> Result<(Request, ServerArgs), String> {
    let divider = if line.contains('␣') { '␣' } else { ' ' };
    let words: Vec<String> = line.split(divider).map(str::to_owned).collect();
    let mut server = Line::parse_from(["strongroom"]).server;
    server.home = Some(home.to_owned());
    server.config_file = None;
    server.profile = "default".to_owned();
    let request = parse(&words, &mut server).map_err(|error| error.to_string())?;
    Ok((request, server))
}

/// Reads each line as the operation's parameters.
fn check(operation: &str, lines: &[(&str, Value)]) {
    let home = home();
    for (line, expected) in lines {
        let read = read_at(home.path(), line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(read.0.operation, operation, "{line}");
        assert_eq!(&read.0.parameters, expected, "{line}");
    }
}

/// Refuses each line with a message that has these words.
fn refuse(lines: &[(&str, &str)]) {
    let home = home();
    for (line, expected) in lines {
        let error = read_at(home.path(), line).map(|(request, _)| request).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn options_take_what_argparse_gives_them() {
    let size = json!({ "AvailabilityZone": "a", "Size": 8, "Encrypted": false });
    check(
        "CreateVolume",
        &[
            ("ec2 create-volume --availability-zone a --size 8 --no-encrypted", size.clone()),
            ("aws ec2 create-volume --availability-zone=a --size=8 --no-encrypted", size.clone()),
            // The last of several counts, of flags too.
            (
                "aws ec2 create-volume --availability-zone b --size 9 --encrypted --availability-zone a \
          --no-encrypted --size 8",
                size.clone(),
            ),
            // What has no value may stand before the operation.
            ("aws --no-encrypted ec2 --size=8 create-volume --availability-zone a", size),
            (
                "aws ec2 create-volume --size -8 --no-dry-run",
                json!({ "Size": -8, "DryRun": false }),
            ),
            ("aws␣ec2␣create-volume␣--kms-key-id␣-a b", json!({ "KmsKeyId": "-a b" })),
            ("aws ec2 create-volume --kms-key-id=--size", json!({ "KmsKeyId": "--size" })),
            ("aws ec2 create-volume --kms-key-id=", json!({ "KmsKeyId": "" })),
        ],
    );
    check(
        "ModifySnapshotAttribute",
        &[
            ("ec2 modify-snapshot-attribute --user-ids 1 2", json!({ "UserIds": ["1", "2"] })),
            ("ec2 modify-snapshot-attribute --user-ids=1", json!({ "UserIds": ["1"] })),
            (
                "ec2 modify-snapshot-attribute --user-ids=[\"1\",\"2\"]",
                json!({ "UserIds": ["1", "2"] }),
            ),
            ("ec2 modify-snapshot-attribute --user-ids", json!({ "UserIds": [] })),
            // The CLI's own options do not end a list.
            (
                "ec2 modify-snapshot-attribute --user-ids 1 --region x 2",
                json!({ "UserIds": ["1", "2"] }),
            ),
        ],
    );
    refuse(&[
        ("ec2 create-volume --size big", "--size: 'big' is no integer"),
        ("ec2 create-volume --size", "--size: expected one value"),
        ("ec2 create-volume --size --encrypted", "--size: expected one value"),
        ("ec2 create-volume --no-such-option x", "Unknown options: --no-such-option, x"),
        ("ec2 create-volume --no-size", "Unknown options: --no-size"),
        ("ec2 create-volume --encr", "Unknown options: --encr"),
        ("ec2 create-volume --encrypted true", "Unknown options: true"),
        ("ec2 create-volume --encrypted=true", "--encrypted takes no value"),
        ("ec2 create-volume stray", "Unknown options: stray"),
        ("ec2 create-volume --size=8 9", "Unknown options: 9"),
        ("ec2 create-volume --outpost-arn a", "OutpostArn is not supported"),
        ("ec2", "expected: aws SERVICE OPERATION"),
    ]);
}

#[test]
fn the_options_of_the_cli_stand_anywhere() {
    let home = home();
    for line in [
        "aws --region r --profile=p --endpoint-url http://h:1 ec2 create-volume --size 8",
        "aws --debug ec2 --region r --profile p --endpoint-url=http://h:1 create-volume --size 8",
        "aws --output json --region q ec2 create-volume --profile p --size 8 --no-cli-pager --region r \
         --endpoint-url http://h:1 --query a --color off --cli-read-timeout 5",
    ] {
        let (request, server) = read_at(home.path(), line).expect("read");
        assert_eq!(request.parameters, json!({ "Size": 8 }), "{line}");
        assert_eq!(server.region.as_deref(), Some("r"), "{line}");
        assert_eq!(server.endpoint_url.as_deref(), Some("http://h:1"), "{line}");
        assert_eq!(server.profile, "p", "{line}");
    }
    let mut server = Line::parse_from(["strongroom"]).server;
    server.access_key_id = Some("A".to_owned());
    let words = ["aws", "--ca-bundle", "c.pem", "--profile", "p", "ec2", "create-volume"];
    parse(&words.map(str::to_owned), &mut server).expect("read");
    assert_eq!(server.ca.as_deref(), Some(Path::new("c.pem")));
    assert_eq!(server.access_key_id, None, "the profile's keys are meant");
    refuse(&[
        ("aws --region", "--region: expected one value"),
        ("aws --output xml ec2 create-volume", "'xml' is none of json, text"),
        ("aws --debug=1 ec2 create-volume", "--debug takes no value"),
        ("aws --cli-read-timeout soon ec2 create-volume", "no number of seconds"),
        ("aws ec2 create-volume --no-sign-request", "nobody asks with this option"),
        ("aws --version", "--version: it prints"),
        ("aws --reg=r ec2 create-volume", "Unknown options: --reg=r"),
    ]);
}

#[test]
fn values_are_read_from_files() {
    check(
        "CreateVolume",
        &[
            ("ec2 create-volume --size file://~/size", json!({ "Size": 8 })),
            ("ec2 create-volume --size fileb://~/size", json!({ "Size": 8 })),
        ],
    );
    check(
        "Decrypt",
        &[
            (
                "kms decrypt --encryption-context file://~/context.txt",
                json!({
            "EncryptionContext": { "a": "b", "c": "d" } }),
            ),
            (
                "kms decrypt --encryption-context file://~/context.json",
                json!({
            "EncryptionContext": { "a": "b" } }),
            ),
        ],
    );
    check(
        "CreateTags",
        &[
            (
                "ec2 create-tags --tags file://~/tags.json",
                json!({ "Tags": [{ "Key": "a", "Value": "b" }] }),
            ),
            (
                "ec2 create-tags --tags fileb://~/tags.json",
                json!({ "Tags": [{ "Key": "a", "Value": "b" }] }),
            ),
            ("ec2 create-tags --resources file://~/ids.json", json!({ "Resources": ["1", "2"] })),
            (
                "ec2 create-tags --tags Key@=file://~/size,Value=b",
                json!({ "Tags": [{ "Key": " 8\n", "Value": "b" }] }),
            ),
        ],
    );
    check(
        "CreatePolicy",
        &[(
            "iam create-policy --policy-name p --policy-document file://~/policy.json",
            json!({ "PolicyName": "p", "PolicyDocument": "{\"Version\":\n\"2012-10-17\"}" }),
        )],
    );
    refuse(&[
        ("iam create-policy --policy-document file://~/none.json", "--policy-document: /"),
        ("iam create-policy --policy-document file://~/none.json", "/none.json: No such file"),
        ("iam create-policy --policy-document file://~/bytes", "bytes is no text in UTF-8"),
        ("iam create-policy --policy-document file://~someone/x", "homes of others"),
        ("ec2 create-tags --tags Key@=file://~/none", "--tags: /"),
        ("ec2 create-tags --resources file://~/size", "--resources: the file holds no list"),
        ("ec2 create-volume --cli-input-json file://~/none", "--cli-input-json: /"),
    ]);
}

#[test]
fn bytes_are_read_as_the_format_says() {
    let hello = json!({ "Plaintext": "aGVsbG8=" });
    check(
        "Encrypt",
        &[
            ("kms encrypt --plaintext aGVsbG8=", hello.clone()),
            ("kms encrypt --plaintext hello --cli-binary-format raw-in-base64-out", hello.clone()),
            ("kms --profile raw encrypt --plaintext hello", hello.clone()),
            (
                "kms --profile raw encrypt --plaintext aGVsbG8= --cli-binary-format base64",
                hello.clone(),
            ),
            ("kms encrypt --plaintext file://~/base64.txt", hello.clone()),
            ("kms encrypt --cli-input-json {\"Plaintext\":\"aGVsbG8=\"}", hello.clone()),
            ("kms encrypt --plaintext fileb://~/bytes", json!({ "Plaintext": "AAH/" })),
            (
                "kms --profile raw encrypt --plaintext fileb://~/bytes",
                json!({ "Plaintext": "AAH/" }),
            ),
        ],
    );
    refuse(&[
        ("kms encrypt --plaintext hello", "--plaintext: no base64"),
        ("kms encrypt --plaintext a --cli-binary-format hex", "'hex' is none of base64"),
    ]);
    let home = home();
    let path = home.path().join("bytes");
    let line = format!("ebs put-snapshot-block --snapshot-id s --block-data {}", path.display());
    let (request, _) = read_at(home.path(), &line).expect("read");
    assert_eq!(request.parameters, json!({ "SnapshotId": "s", "BlockData": "AAH/" }));
    check(
        "PutSnapshotBlock",
        &[("ebs put-snapshot-block --block-data ~/bytes", json!({ "BlockData": "AAH/" }))],
    );
    refuse(&[("ebs put-snapshot-block --block-data AAH/", "--block-data: AAH/: No such file")]);
}

#[test]
fn a_reply_of_bytes_takes_the_name_of_a_file() {
    let read = json!({ "SnapshotId": "s", "BlockIndex": 1 });
    check(
        "GetSnapshotBlock",
        &[
            ("ebs get-snapshot-block --snapshot-id s --block-index 1 out", read.clone()),
            ("ebs get-snapshot-block out --snapshot-id=s --block-index=1", read.clone()),
            ("ebs get-snapshot-block --snapshot-id s --region r - --block-index 1", read),
        ],
    );
    refuse(&[
        ("ebs get-snapshot-block --snapshot-id s", "OUTFILE"),
        ("ebs get-snapshot-block --snapshot-id s out more", "Unknown options: out, more"),
        ("ebs get-snapshot-block --snapshot-id s --out", "Unknown options: --out"),
        ("ebs get-snapshot-block --cli-input-json {} out", "Unknown options: --cli-input-json"),
    ]);
}

#[test]
fn instants_are_read_in_iso_8601_and_in_seconds() {
    let at = |seconds: f64| json!({ "StartTime": seconds });
    check(
        "LookupEvents",
        &[
            ("cloudtrail lookup-events --start-time 2026-01-02T03:04:05Z", at(1_767_323_045.0)),
            (
                "cloudtrail lookup-events --start-time 2026-01-02T03:04:05.250Z",
                at(1_767_323_045.25),
            ),
            (
                "cloudtrail lookup-events --start-time 2026-01-02T05:04:05+02:00",
                at(1_767_323_045.0),
            ),
            ("cloudtrail lookup-events --start-time 2026-01-01T23:34:05-0330", at(1_767_323_045.0)),
            ("cloudtrail lookup-events --start-time 2026-01-02T05:04:05+02", at(1_767_323_045.0)),
            ("cloudtrail lookup-events --start-time 2026-01-02", at(1_767_312_000.0)),
            ("cloudtrail lookup-events --start-time 1767323045", at(1_767_323_045.0)),
            ("cloudtrail lookup-events --start-time 1767323045.5", at(1_767_323_045.5)),
            (
                "cloudtrail lookup-events --cli-input-json {\"StartTime\":\"2026-01-02\"}",
                at(1_767_312_000.0),
            ),
        ],
    );
    refuse(&[
        ("cloudtrail lookup-events --start-time soon", "--start-time: 'soon' is no instant"),
        ("cloudtrail lookup-events --start-time inf", "'inf' is no instant"),
        ("cloudtrail lookup-events --start-time 2026-13-01", "'2026-13-01' is no instant"),
    ]);
}

#[test]
fn pages_are_the_business_of_the_cli() {
    let size = json!({ "MaxItems": 5 });
    check(
        "ListUsers",
        &[
            ("iam list-users --max-items 3", json!({})),
            ("iam list-users --max-items 3 --page-size 5", size.clone()),
            ("iam list-users --starting-token abc", json!({ "Marker": "abc" })),
            (
                "iam list-users --starting-token eyJNYXJrZXIiOiAiYWJjIn0=",
                json!({ "Marker": "abc" }),
            ),
            // Where the CLI does not page, the hidden member is back.
            ("iam list-users --no-paginate --max-items 5", size),
            ("iam list-users --marker m --max-items 5", json!({ "Marker": "m", "MaxItems": 5 })),
        ],
    );
    check("ListKeys", &[("kms list-keys --page-size 5 --max-items 1", json!({ "Limit": 5 }))]);
    check(
        "DescribeVolumes",
        &[
            ("ec2 describe-volumes --page-size 5", json!({ "MaxResults": 5 })),
            ("ec2 describe-volumes --max-results 5", json!({ "MaxResults": 5 })),
        ],
    );
    check(
        "ListSnapshotBlocks",
        &[("ebs list-snapshot-blocks --max-results 100", json!({ "MaxResults": 100 }))],
    );
    refuse(&[
        ("ec2 describe-volumes --max-results 5 --page-size 5", "--page-size pages"),
        ("ec2 describe-volumes --no-paginate --max-items 5", "--max-items pages"),
        ("ec2 describe-volumes --starting-token eyJNYXJrZXIiOiAiYWJjIn0=", "no token of NextToken"),
        ("ec2 describe-volumes --max-items many", "--max-items: expected an integer"),
        ("ebs list-snapshot-blocks --max-items 1", "Unknown options: --max-items, 1"),
        ("ec2 create-volume --max-items 1", "Unknown options: --max-items, 1"),
    ]);
}

#[test]
fn documents_come_after_options() {
    check(
        "CreateVolume",
        &[
            (
                "ec2 create-volume --cli-input-json file://~/volume.json --size 9 --no-encrypted",
                json!({ "Size": 9, "AvailabilityZone": "z", "Encrypted": false }),
            ),
            ("ec2 create-volume --size 9 --cli-input-json={\"Size\":1}", json!({ "Size": 9 })),
        ],
    );
    refuse(&[
        ("ec2 create-volume --cli-input-json [1]", "--cli-input-json: it is no JSON object"),
        ("ec2 create-volume --cli-input-json {", "--cli-input-json: no JSON"),
        ("ec2 create-volume --cli-input-json {\"size\":1}", "there is no member size: there are"),
        (
            "ec2 create-volume --cli-input-json {\"OutpostArn\":\"a\"}",
            "OutpostArn is not supported",
        ),
        ("ec2 create-volume --cli-input-yaml file://x", "--cli-input-yaml: YAML is not read here"),
        ("ec2 create-volume --generate-cli-skeleton", "--generate-cli-skeleton: it prints a form"),
        ("ec2 create-volume --generate-cli-skeleton output", "it prints a form"),
    ]);
}

#[test]
fn shorthand_is_read_as_the_cli_reads_it() {
    let tags = |tags: Value| json!({ "Tags": tags });
    let one = |value: &str| tags(json!([{ "Key": "k", "Value": value }]));
    check(
        "CreateTags",
        &[
            ("ec2 create-tags --tags Key=k,Value=v", one("v")),
            ("ec2 create-tags --tags Key=k,Value='a,b'", one("a,b")),
            ("ec2 create-tags --tags Key=k,Value=\"a,b\"", one("a,b")),
            ("ec2 create-tags --tags Key=k,Value='it\\'s'", one("it's")),
            ("ec2 create-tags --tags Key=k,Value=a\\,b", one("a,b")),
            ("ec2 create-tags --tags Key=k,Value=a=b", one("a=b")),
            ("ec2 create-tags --tags Key=k,Value=", one("")),
            ("ec2 create-tags --tags Value=v,Key=k", one("v")),
            ("ec2␣create-tags␣--tags␣Key = k , Value = a b ", one("a b")),
            (
                "ec2 create-tags --tags Key=k,Value=v Key=l,Value=w",
                tags(json!([
            { "Key": "k", "Value": "v" }, { "Key": "l", "Value": "w" }])),
            ),
            ("ec2 create-tags --tags {\"Key\":\"k\",\"Value\":\"v\"}", one("v")),
        ],
    );
}

#[test]
fn lists_and_structures_are_written_in_shorthand() {
    let values = json!({ "Filters": [{ "Name": "n", "Values": ["a", "b"] }] });
    check(
        "DescribeVolumes",
        &[
            ("ec2 describe-volumes --filters Name=n,Values=a,b", values.clone()),
            ("ec2 describe-volumes --filters Values=a,b,Name=n", values.clone()),
            ("ec2 describe-volumes --filters Name=n,Values=[a,b]", values.clone()),
            ("ec2 describe-volumes --filters Name=n,Values='a',\"b\"", values),
            (
                "ec2 describe-volumes --filters Name=n,Values=a",
                json!({
            "Filters": [{ "Name": "n", "Values": ["a"] }] }),
            ),
        ],
    );
    check(
        "CreateVolume",
        &[
            (
                "ec2 create-volume --tag-specifications ResourceType=volume,Tags=[{Key=a,Value=b},{Key=c,Value=d}]",
                json!({ "TagSpecifications": [{ "ResourceType": "volume", "Tags": [
            { "Key": "a", "Value": "b" }, { "Key": "c", "Value": "d" }] }] }),
            ),
            (
                "ec2 create-volume --tag-specifications ResourceType=volume,Tags={Key=a,Value=b}",
                json!({ "TagSpecifications": [{ "ResourceType": "volume", "Tags": [
            { "Key": "a", "Value": "b" }] }] }),
            ),
        ],
    );
    check(
        "CreateGrant",
        &[(
            "kms create-grant --constraints EncryptionContextSubset={a=b,c=d} --operations Decrypt Encrypt",
            json!({ "Constraints": { "EncryptionContextSubset": { "a": "b", "c": "d" } },
            "Operations": ["Decrypt", "Encrypt"] }),
        )],
    );
    check(
        "Decrypt",
        &[
            (
                "kms decrypt --encryption-context a=b,aws:ebs:id=vol-1",
                json!({
            "EncryptionContext": { "a": "b", "aws:ebs:id": "vol-1" } }),
            ),
            (
                "kms decrypt --encryption-context={\"a\":\"b\"}",
                json!({ "EncryptionContext": { "a": "b" } }),
            ),
        ],
    );
}

#[test]
fn what_is_no_shorthand_is_refused() {
    refuse(&[
        ("ec2 copy-snapshot --tag-specifications Nonsense", "expected '=', found the end"),
        ("ec2 create-tags --tags Key=k,Value=a,b", "Value: expected one value, found several"),
        ("ec2 create-tags --tags Key=k,Value='a", "expected a closing quote"),
        ("ec2 create-tags --tags Key=k,", "expected"),
        ("ec2 create-tags --tags key=k", "there is no member key: there are Key, Value"),
        ("ec2 create-tags --tags Key=k,Key=l", "Key stands twice"),
        ("ec2 create-tags --tags Key={a=b}", "expected a value, found {Key=value}"),
        ("ec2 create-volume --tag-specifications Tags=[{Key=a", "expected"),
        ("kms decrypt --encryption-context a=b,c", "expected"),
        ("kms decrypt --encryption-context a", "--encryption-context: expected '='"),
    ]);
}

#[test]
fn names_are_made_as_botocore_makes_them() {
    for (name, expected) in [
        ("CopySnapshot", "copy-snapshot"),
        ("KmsKeyId", "kms-key-id"),
        ("SAMLMetadataDocument", "saml-metadata-document"),
        ("ClientIDList", "client-id-list"),
        ("OpenIDConnectProviderArn", "open-id-connect-provider-arn"),
        ("AssumeRoleWithSAML", "assume-role-with-saml"),
        ("ListIDs", "list-ids"),
        ("PolicyArns", "policy-arns"),
    ] {
        assert_eq!(kebab(name), expected);
    }
}

#[test]
fn an_operation_that_is_not_served_keeps_its_name() {
    check(
        "RunInstances",
        &[
            ("aws ec2 run-instances --image-id ami-1 --count 2 stray", json!({})),
            ("ec2 run-instances --region r", json!({})),
        ],
    );
    refuse(&[
        ("aws ec2 CopySnapshot --no-such", "CopySnapshot is written copy-snapshot"),
        ("aws ec2 copy--snapshot", "CopySnapshot is written copy-snapshot"),
    ]);
}
