//! The EBS direct APIs from request to reply (spec 03, "Acceptance").

use crate::Call;
use crate::ops::ebs::complete_snapshot::CompleteSnapshot;
use crate::ops::ebs::get_snapshot_block::GetSnapshotBlock;
use crate::ops::ebs::list_changed_blocks::ListChangedBlocks;
use crate::ops::ebs::list_snapshot_blocks::ListSnapshotBlocks;
use crate::ops::ebs::put_snapshot_block::PutSnapshotBlock;
use crate::ops::ebs::start_snapshot::StartSnapshot;
use crate::ops::ec2::delete_snapshot::DeleteSnapshot;
use crate::ops::ec2::describe_snapshots::DescribeSnapshots;
use crate::ops::ec2::modify_snapshot_attribute::ModifySnapshotAttribute;
use crate::ops::kms::create_key::CreateKey;
use crate::ops::kms::disable_key::DisableKey;
use crate::testing::{Bench, account, bench, run};
use crate::{Error, Operation};
use base::SnapshotId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blockstore::snapshot::{Digest, linear_checksum};
use lifecycle::workflow::watch_upload::{self, WatchUpload};
use serde_json::{Value as Json, json};

const REGION: &str = "us-east-1";
const BYTES: usize = 524_288;
const DAY_SECONDS: i64 = 86_400;

/// A block of one letter; `0` stands for zeros.
fn block(letter: char) -> String {
    let byte = if letter == '0' { '\0' } else { letter };
    byte.to_string().repeat(BYTES)
}

fn digest(letter: char) -> Digest {
    Digest::of(block(letter).as_bytes())
}

fn text(digest: Digest) -> String {
    STANDARD.encode(digest.0)
}

struct Client<'a> {
    bench: &'a Bench,
    digit: u8,
}

impl Client<'_> {
    /// A call as of now.
    fn call(&self) -> Call {
        self.bench.root(&account(self.digit), REGION)
    }

    async fn ok<O: Operation>(&self, input: Json) -> Json {
        run::<O>(&self.call(), input).await.expect("the request is good")
    }

    /// Code and reason of a refusal.
    async fn refused<O: Operation>(&self, input: Json) -> (String, String) {
        let error: Error = run::<O>(&self.call(), input).await.map(drop).expect_err("refused");
        let reason = error.0.members.iter().find(|(name, _)| *name == "Reason");
        (error.code().to_owned(), reason.map(|(_, text)| text.clone()).unwrap_or_default())
    }

    async fn start(&self, input: Json) -> String {
        let mut all = json!({"VolumeSize": 1});
        for (name, value) in input.as_object().expect("an object") {
            all[name] = value.clone();
        }
        let reply = self.ok::<StartSnapshot>(all).await;
        assert_eq!((&reply["Status"], &reply["BlockSize"]), (&json!("pending"), &json!(BYTES)));
        reply["SnapshotId"].as_str().expect("an id").to_owned()
    }

    async fn put(&self, id: &str, index: i32, letter: char) {
        let reply = self.ok::<PutSnapshotBlock>(put(id, index, letter)).await;
        assert_eq!(reply["Checksum"], json!(text(digest(letter))));
    }

    async fn complete(&self, id: &str, count: i32) {
        let reply = self.ok::<CompleteSnapshot>(complete(id, count)).await;
        assert_eq!(reply["Status"], "completed");
    }

    /// A completed snapshot of these blocks.
    async fn uploaded(&self, start: Json, blocks: &[(i32, char)]) -> String {
        let id = self.start(start).await;
        for (index, letter) in blocks {
            self.put(&id, *index, *letter).await;
        }
        self.complete(&id, i32::try_from(blocks.len()).expect("few")).await;
        id
    }

    /// Index and token of every block.
    async fn list(&self, id: &str) -> Vec<(i64, String)> {
        let reply = self.ok::<ListSnapshotBlocks>(json!({"SnapshotId": id})).await;
        assert_eq!(reply.get("NextToken"), None);
        let blocks = reply["Blocks"].as_array().expect("a list").iter();
        blocks.map(|b| (int(&b["BlockIndex"]), string(&b["BlockToken"]))).collect()
    }

    async fn state(&self, id: &str) -> Json {
        let input = json!({"SnapshotIds": [id]});
        self.ok::<DescribeSnapshots>(input).await["Snapshots"][0].clone()
    }

    async fn watch(&self, id: &str) -> Option<base::Timestamp> {
        let call = self.call();
        let job = WatchUpload {
            region: call.region.clone(),
            account: call.account().clone(),
            snapshot: SnapshotId::parse(id).expect("an id"),
            look: 0,
        };
        watch_upload::run(&call.world.services, &job).await.expect("the rows answer")
    }
}

fn put(id: &str, index: i32, letter: char) -> Json {
    json!({
        "SnapshotId": id, "BlockIndex": index, "BlockData": block(letter), "DataLength": BYTES,
        "Checksum": text(digest(letter)), "ChecksumAlgorithm": "SHA256",
    })
}

fn complete(id: &str, count: i32) -> Json {
    json!({"SnapshotId": id, "ChangedBlocksCount": count})
}

fn complete_with(id: &str, count: i32, checksum: Digest) -> Json {
    json!({
        "SnapshotId": id, "ChangedBlocksCount": count, "Checksum": text(checksum),
        "ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR",
    })
}

fn get(id: &str, index: i64, token: &str) -> Json {
    json!({"SnapshotId": id, "BlockIndex": index, "BlockToken": token})
}

fn int(value: &Json) -> i64 {
    value.as_i64().expect("an integer")
}

fn string(value: &Json) -> String {
    value.as_str().expect("a string").to_owned()
}

fn pair(code: &str, reason: &str) -> (String, String) {
    (code.to_owned(), reason.to_owned())
}

fn validation(reason: &str) -> (String, String) {
    pair("ValidationException", reason)
}

#[tokio::test]
async fn what_is_uploaded_is_listed_and_read_back() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let id = client.start(json!({"Description": "mine"})).await;
    for (index, letter) in [(7, 'a'), (2047, 'b'), (7, 'c')] {
        client.put(&id, index, letter).await;
    }
    let refused = client.refused::<ListSnapshotBlocks>(json!({"SnapshotId": id})).await;
    assert_eq!(refused, validation("INVALID_SNAPSHOT_ID"));
    let aggregate = linear_checksum(&[digest('c'), digest('b')]);
    client.ok::<CompleteSnapshot>(complete_with(&id, 2, aggregate)).await;

    let listed = client.list(&id).await;
    assert_eq!(listed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [7, 2047]);
    for ((index, token), letter) in listed.iter().zip(['c', 'b']) {
        let reply = client.ok::<GetSnapshotBlock>(get(&id, *index, token)).await;
        assert!(reply["BlockData"] == json!(block(letter).as_bytes()));
        assert_eq!(reply["Checksum"], json!(text(digest(letter))));
        assert_eq!(
            (&reply["DataLength"], &reply["ChecksumAlgorithm"]),
            (&json!(BYTES), &json!("SHA256"))
        );
        assert!(token.len() <= 256);
    }
    let shown = client.state(&id).await;
    assert_eq!((&shown["State"], &shown["Progress"]), (&json!("completed"), &json!("100%")));
    assert_eq!(
        (&shown["VolumeId"], &shown["Description"]),
        (&json!("vol-ffffffff"), &json!("mine"))
    );
    assert_eq!(shown["FullSnapshotSizeInBytes"], json!(2 * BYTES));
    for late in [put(&id, 1, 'a')] {
        let refused = client.refused::<PutSnapshotBlock>(late).await;
        assert_eq!(refused, validation("INVALID_SNAPSHOT_ID"));
    }
    let refused = client.refused::<CompleteSnapshot>(complete(&id, 2)).await;
    assert_eq!(refused, validation("INVALID_SNAPSHOT_ID"));
}

#[tokio::test]
async fn bad_blocks_are_refused_and_not_stored() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let id = client.start(json!({})).await;
    let changed = |member: &str, value: Json| {
        let mut input = put(&id, 0, 'a');
        input[member] = value;
        input
    };
    let cases = [
        ("BlockData", json!(block('b')), "INVALID_BLOCK"),
        ("BlockData", json!("short"), "INVALID_BLOCK"),
        ("DataLength", json!(BYTES - 1), "INVALID_BLOCK"),
        ("BlockIndex", json!(2048), "INVALID_PARAMETER_VALUE"),
        ("BlockIndex", json!(-1), "INVALID_PARAMETER_VALUE"),
        ("Checksum", json!("nonsense"), "INVALID_PARAMETER_VALUE"),
        ("Progress", json!(101), "INVALID_PARAMETER_VALUE"),
    ];
    for (member, value, reason) in cases {
        let refused = client.refused::<PutSnapshotBlock>(changed(member, value)).await;
        assert_eq!(refused, validation(reason), "{member}");
    }
    client.complete(&id, 0).await;
    assert!(client.list(&id).await.is_empty());
}

#[tokio::test]
async fn completion_compares_what_was_announced() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let id = client.start(json!({})).await;
    for index in [3, 1] {
        client.put(&id, index, 'a').await;
    }
    let wrong = client.refused::<CompleteSnapshot>(complete(&id, 3)).await;
    assert_eq!(wrong, validation("INVALID_PARAMETER_VALUE"));
    let wrong = client.refused::<CompleteSnapshot>(complete_with(&id, 2, digest('a'))).await;
    assert_eq!(wrong, validation("INVALID_PARAMETER_VALUE"));
    let mut partly = complete_with(&id, 2, digest('a'));
    partly.as_object_mut().expect("an object").remove("ChecksumAlgorithm");
    let wrong = client.refused::<CompleteSnapshot>(partly).await;
    assert_eq!(wrong, validation("INVALID_DEPENDENCY_REQUEST"));
    assert_eq!(client.state(&id).await["State"], "pending");

    // As after a restart; and the checksum in the guide's other reading.
    bench.world.uploads.forget(&SnapshotId::parse(&id).expect("an id"));
    let texts = text(digest('a')).repeat(2);
    let aggregate = Digest::of(texts.as_bytes());
    client.ok::<CompleteSnapshot>(complete_with(&id, 2, aggregate)).await;
    assert_eq!(client.state(&id).await["State"], "completed");
}

#[tokio::test]
async fn a_client_token_begins_one_snapshot() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let tags = json!([{"Key": "a", "Value": "b"}]);
    let input = json!({"VolumeSize": 1, "ClientToken": "t", "Tags": tags});
    let first = client.ok::<StartSnapshot>(input.clone()).await;
    assert_eq!(client.ok::<StartSnapshot>(input).await, first);
    assert_eq!((&first["Tags"], &first["SseType"]), (&tags, &json!("none")));
    let other = json!({"VolumeSize": 2, "ClientToken": "t", "Tags": tags});
    assert_eq!(client.refused::<StartSnapshot>(other).await, pair("ConflictException", ""));
}

#[tokio::test]
async fn bad_starts_are_refused() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let parent = client.uploaded(json!({"VolumeSize": 2}), &[]).await;
    let pending = client.start(json!({})).await;
    let cases = [
        (json!({"VolumeSize": 0}), validation("INVALID_VOLUME_SIZE")),
        (json!({"VolumeSize": 65_537}), validation("INVALID_VOLUME_SIZE")),
        (json!({"VolumeSize": 1, "Timeout": 9}), validation("INVALID_PARAMETER_VALUE")),
        (json!({"VolumeSize": 1, "Timeout": 4_321}), validation("INVALID_PARAMETER_VALUE")),
        (json!({"VolumeSize": 1, "Tags": [{"Value": "x"}]}), validation("INVALID_TAG")),
        (json!({"VolumeSize": 1, "ClientToken": "é"}), validation("INVALID_PARAMETER_VALUE")),
        (json!({"VolumeSize": 1, "ParentSnapshotId": parent}), validation("INVALID_VOLUME_SIZE")),
        (json!({"VolumeSize": 2, "ParentSnapshotId": pending}), validation("INVALID_SNAPSHOT_ID")),
        (
            json!({"VolumeSize": 2, "ParentSnapshotId": "snap-00000000000000000"}),
            pair("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"),
        ),
        (
            json!({"VolumeSize": 2, "ParentSnapshotId": parent, "Encrypted": true}),
            validation("INVALID_PARAMETER_VALUE"),
        ),
    ];
    for (input, expected) in cases {
        assert_eq!(client.refused::<StartSnapshot>(input.clone()).await, expected, "{input}");
    }
}

#[tokio::test]
async fn changes_are_listed_by_windows_with_tokens_of_both_sides() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let blocks = [(0, 'a'), (250, 'a'), (999, 'a')];
    let parent = client.uploaded(json!({}), &blocks).await;
    let start = json!({"ParentSnapshotId": parent});
    let child = client.uploaded(start, &[(999, 'b'), (1500, 'c')]).await;
    assert_eq!(client.list(&child).await.len(), 4);

    let mut pages = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let mut input = json!({
            "FirstSnapshotId": parent, "SecondSnapshotId": child, "MaxResults": 100,
            "StartingBlockIndex": 0,
        });
        if let Some(token) = &token {
            input["NextToken"] = json!(token);
        }
        let reply = client.ok::<ListChangedBlocks>(input).await;
        pages.push(reply["ChangedBlocks"].clone());
        match reply.get("NextToken") {
            Some(next) => token = Some(string(next)),
            None => break,
        }
    }
    let sizes: Vec<_> = pages.iter().map(|page| page.as_array().expect("a list").len()).collect();
    assert_eq!(sizes, [0, 0, 1, 1]);
    let changed = &pages[2][0];
    assert_eq!(changed["BlockIndex"], 999);
    for (id, member, letter) in
        [(&parent, "FirstBlockToken", 'a'), (&child, "SecondBlockToken", 'b')]
    {
        let reply = client.ok::<GetSnapshotBlock>(get(id, 999, &string(&changed[member]))).await;
        assert_eq!(reply["Checksum"], json!(text(digest(letter))));
    }
    let added = &pages[3][0];
    assert_eq!((int(&added["BlockIndex"]), added.get("FirstBlockToken")), (1500, None));

    let alone = client.ok::<ListChangedBlocks>(json!({"SecondSnapshotId": child})).await;
    assert_eq!(alone["ChangedBlocks"].as_array().expect("a list").len(), 4);
    let stranger = client.uploaded(json!({}), &[(0, 'a')]).await;
    let input = json!({"FirstSnapshotId": stranger, "SecondSnapshotId": child});
    let refused = client.refused::<ListChangedBlocks>(input).await;
    assert_eq!(refused, validation("UNRELATED_SNAPSHOTS"));
    // A token of one listing is none of another's.
    let input = json!({"SnapshotId": child, "NextToken": token.expect("there were pages")});
    let refused = client.refused::<ListSnapshotBlocks>(input).await;
    assert_eq!(refused, validation("INVALID_PAGE_TOKEN"));
}

#[tokio::test]
async fn block_tokens_are_for_one_block_one_account_and_seven_days() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let id = client.uploaded(json!({}), &[(1, 'a'), (2, 'a')]).await;
    let other = client.uploaded(json!({}), &[(1, 'a')]).await;
    let token = client.list(&id).await[0].1.clone();
    let bad = || validation("INVALID_BLOCK_TOKEN");
    assert_eq!(client.refused::<GetSnapshotBlock>(get(&id, 2, &token)).await, bad());
    assert_eq!(client.refused::<GetSnapshotBlock>(get(&other, 1, &token)).await, bad());
    let mut bytes = STANDARD.decode(&token).expect("base64");
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        let forged = STANDARD.encode(&bytes);
        assert_eq!(client.refused::<GetSnapshotBlock>(get(&id, 1, &forged)).await, bad(), "{at}");
        bytes[at] ^= 1;
    }
    let stranger = Client { bench: &bench, digit: 2 };
    let refused = stranger.refused::<GetSnapshotBlock>(get(&id, 1, &token)).await;
    assert_eq!(refused, pair("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"));
    bench.clock.advance_seconds(7 * DAY_SECONDS - 1);
    client.ok::<GetSnapshotBlock>(get(&id, 1, &token)).await;
    bench.clock.advance_seconds(1);
    assert_eq!(client.refused::<GetSnapshotBlock>(get(&id, 1, &token)).await, bad());
}

#[tokio::test]
async fn an_idle_upload_fails_and_a_busy_one_does_not() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let id = client.start(json!({"Timeout": 10})).await;
    assert!(client.watch(&id).await.is_some());
    bench.clock.advance_seconds(9 * 60);
    client.put(&id, 0, 'a').await;
    bench.clock.advance_seconds(9 * 60);
    assert!(client.watch(&id).await.is_some());
    assert_eq!(client.state(&id).await["State"], "pending");
    bench.clock.advance_seconds(2 * 60);
    let late = client.refused::<PutSnapshotBlock>(put(&id, 1, 'a')).await;
    assert_eq!(late, validation("WRITE_REQUEST_TIMEOUT"));
    let late = client.refused::<CompleteSnapshot>(complete(&id, 1)).await;
    assert_eq!(late, validation("WRITE_REQUEST_TIMEOUT"));
    assert_eq!(client.watch(&id).await, None);
    assert_eq!(client.state(&id).await["State"], "error");
    let late = client.refused::<PutSnapshotBlock>(put(&id, 1, 'a')).await;
    assert_eq!(late, validation("INVALID_SNAPSHOT_ID"));
}

#[tokio::test]
async fn deleting_a_pending_upload_ends_it() {
    let bench = bench().await;
    let client = Client { bench: &bench, digit: 1 };
    let id = client.start(json!({})).await;
    client.put(&id, 0, 'a').await;
    client.ok::<DeleteSnapshot>(json!({"SnapshotId": id})).await;
    let gone = pair("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND");
    assert_eq!(client.refused::<PutSnapshotBlock>(put(&id, 1, 'a')).await, gone);
    assert_eq!(client.watch(&id).await, None);
    assert_eq!(client.watch(&id).await, None);
    let (region, wanted) = (client.call().region, SnapshotId::parse(&id).expect("an id"));
    let read = move |tx: &mut meta::Tx<'_>| ebs::snapshot::get(tx, &region, &wanted);
    assert_eq!(bench.world.db.read(read).await.expect("rows"), None);
}

#[tokio::test]
async fn shares_are_readable_and_public_snapshots_are_not() {
    let bench = bench().await;
    let owner = Client { bench: &bench, digit: 1 };
    let friend = Client { bench: &bench, digit: 2 };
    let id = owner.uploaded(json!({}), &[(0, 'a')]).await;
    let share = |whom: Json| json!({"SnapshotId": id, "CreateVolumePermission": {"Add": [whom]}});
    owner.ok::<ModifySnapshotAttribute>(share(json!({"UserId": "222222222222"}))).await;
    let token = friend.list(&id).await[0].1.clone();
    friend.ok::<GetSnapshotBlock>(get(&id, 0, &token)).await;
    let refused = friend.refused::<StartSnapshot>(json!({"VolumeSize": 1, "ParentSnapshotId": id}));
    assert_eq!(refused.await, pair("AccessDeniedException", "UNAUTHORIZED_ACCOUNT"));

    owner.ok::<ModifySnapshotAttribute>(share(json!({"Group": "all"}))).await;
    let stranger = Client { bench: &bench, digit: 3 };
    let refused = stranger.refused::<ListSnapshotBlocks>(json!({"SnapshotId": id})).await;
    assert_eq!(refused, pair("AccessDeniedException", "UNAUTHORIZED_ACCOUNT"));
}

#[tokio::test]
async fn an_encrypted_snapshot_takes_its_key() {
    let bench = bench().await;
    let owner = Client { bench: &bench, digit: 1 };
    let friend = Client { bench: &bench, digit: 2 };
    let key = owner.ok::<CreateKey>(json!({})).await["KeyMetadata"]["Arn"].clone();
    let start = json!({"Encrypted": true, "KmsKeyArn": key});
    let id = owner.uploaded(start, &[(0, 'a')]).await;
    let shown = owner.state(&id).await;
    assert_eq!((&shown["Encrypted"], &shown["KmsKeyId"]), (&json!(true), &key));
    let token = owner.list(&id).await[0].1.clone();
    owner.ok::<GetSnapshotBlock>(get(&id, 0, &token)).await;

    let child = owner.uploaded(json!({"ParentSnapshotId": id}), &[(1, 'b')]).await;
    let shown_child = owner.state(&child).await;
    assert_eq!(shown_child["KmsKeyId"], key);
    assert_eq!(shown_child["DataEncryptionKeyId"], shown["DataEncryptionKeyId"]);
    let inherited = owner.list(&child).await[0].1.clone();
    let reply = owner.ok::<GetSnapshotBlock>(get(&child, 0, &inherited)).await;
    assert_eq!(reply["Checksum"], json!(text(digest('a'))));

    let grantee = json!({"Add": [{"UserId": "222222222222"}]});
    let share = json!({"SnapshotId": id, "CreateVolumePermission": grantee});
    owner.ok::<ModifySnapshotAttribute>(share).await;
    let refused = friend.refused::<ListSnapshotBlocks>(json!({"SnapshotId": id})).await;
    assert_eq!(refused, pair("AccessDeniedException", "DEPENDENCY_ACCESS_DENIED"));

    let pending = owner.start(json!({"Encrypted": true, "KmsKeyArn": key})).await;
    owner.ok::<DisableKey>(json!({"KeyId": key})).await;
    let unusable = validation("INVALID_CUSTOMER_KEY");
    assert_eq!(owner.refused::<GetSnapshotBlock>(get(&id, 0, &token)).await, unusable);
    assert_eq!(owner.refused::<PutSnapshotBlock>(put(&pending, 0, 'a')).await, unusable);
    let start = json!({"VolumeSize": 1, "Encrypted": true, "KmsKeyArn": key});
    assert_eq!(owner.refused::<StartSnapshot>(start).await, unusable);
    // One's own blocks can be listed without the key.
    assert_eq!(owner.list(&id).await.len(), 1);
}
