//! Rows of jobs: what earlier releases wrote is read, and nothing that a row holds makes a runner fall over.

use super::*;
use crate::jobs::JobKind;
use meta::testing::engines;
use serde::Serialize;
use std::fmt::Debug;

/// A payload of each kind, as it stands in the rows of running servers. Frozen: jobs outlive releases.
const FROZEN: [(&str, &str); 15] = [
    (
        CreateVolumeKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","volume":"vol-0123456789abcdef0","identity":"{}","request_id":"r","source":{"owned":true,"kms_key_arn":null,"data_key":{"wrapped":[1,2],"context_id":"vol-0","lineage":"l"}}}"#,
    ),
    (
        ExportSnapshotKind::KIND,
        r#"{"region":"us-east-1","snapshot":"snap-0123456789abcdef0","size_bytes":1073741824,"base_root":null,"volume":"vol-0123456789abcdef0"}"#,
    ),
    // From before the volume was named.
    (
        ReleaseCutKind::KIND,
        r#"{"region":"us-east-1","snapshot":"snap-0123456789abcdef0","size_bytes":1073741824,"base_root":null}"#,
    ),
    (
        CopySnapshotKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","snapshot":"snap-0123456789abcdef0","identity":"{}"}"#,
    ),
    (
        DeleteVolumeKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","volume":"vol-0123456789abcdef0","request_id":"r"}"#,
    ),
    (
        ModifyVolumeKind::KIND,
        r#"{"account":"111111111111","region":"us-east-1","volume":"vol-0123456789abcdef0","number":7}"#,
    ),
    (CollectKind::KIND, r#"{"region":"us-east-1"}"#),
    (
        WatchUploadKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","snapshot":"snap-0123456789abcdef0","look":3}"#,
    ),
    (
        InitializeVolumeKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","volume":"vol-0123456789abcdef0"}"#,
    ),
    (
        MoveTierKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","snapshot":"snap-0123456789abcdef0","number":1}"#,
    ),
    (
        PinTwinKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","snapshot":"snap-0123456789abcdef0","run":"r"}"#,
    ),
    (
        EndFastRestoreKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","snapshot":"snap-0123456789abcdef0","zone":"us-east-1a","run":"r"}"#,
    ),
    // As they are written since.
    (
        CopySnapshotKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","snapshot":"snap-0123456789abcdef0","identity":"{}","explain_id":"d-1"}"#,
    ),
    (CollectKind::KIND, r#"{"region":"us-east-1","scope":"Everything"}"#),
    (
        InitializeVolumeKind::KIND,
        r#"{"region":"us-east-1","account":"111111111111","volume":"vol-0123456789abcdef0","look":7}"#,
    ),
];

/// Whether the bytes are a payload of a kind. What is read is written, and read again the same.
fn is_payload<K: JobKind>(bytes: &[u8]) -> bool
where
    K::Payload: PartialEq + Debug + Serialize,
{
    let Ok(read) = serde_json::from_slice::<K::Payload>(bytes) else { return false };
    let written = serde_json::to_vec(&read).expect("payloads are plain data");
    let again = serde_json::from_slice::<K::Payload>(&written);
    assert_eq!(again.expect("what was written is read"), read);
    true
}

/// The kinds that take the bytes for a payload of theirs.
fn takers(bytes: &[u8]) -> Vec<&'static str> {
    [
        (CreateVolumeKind::KIND, is_payload::<CreateVolumeKind>(bytes)),
        (ExportSnapshotKind::KIND, is_payload::<ExportSnapshotKind>(bytes)),
        (ReleaseCutKind::KIND, is_payload::<ReleaseCutKind>(bytes)),
        (CopySnapshotKind::KIND, is_payload::<CopySnapshotKind>(bytes)),
        (DeleteVolumeKind::KIND, is_payload::<DeleteVolumeKind>(bytes)),
        (ModifyVolumeKind::KIND, is_payload::<ModifyVolumeKind>(bytes)),
        (CollectKind::KIND, is_payload::<CollectKind>(bytes)),
        (WatchUploadKind::KIND, is_payload::<WatchUploadKind>(bytes)),
        (InitializeVolumeKind::KIND, is_payload::<InitializeVolumeKind>(bytes)),
        (MoveTierKind::KIND, is_payload::<MoveTierKind>(bytes)),
        (PinTwinKind::KIND, is_payload::<PinTwinKind>(bytes)),
        (EndFastRestoreKind::KIND, is_payload::<EndFastRestoreKind>(bytes)),
    ]
    .into_iter()
    .filter_map(|(kind, takes)| takes.then_some(kind))
    .collect()
}

#[test]
fn payloads_of_earlier_releases_are_read() {
    for (kind, text) in FROZEN {
        assert!(takers(text.as_bytes()).contains(&kind), "{kind}: {text}");
    }
}

fuzz::target!(
    /// Payloads of jobs of every kind.
    payloads,
    FROZEN.map(|(_, text)| text.as_bytes().to_vec()).into(),
    |bytes: &[u8]| drop(takers(bytes))
);

/// Only the end of a turn puts a job back as if nothing had happened.
#[test]
fn a_failure_counts_while_others_wait() {
    let of = |error: BlockError| JobError::from(Trouble::Blocks(error));
    assert_eq!(of(BlockError::TurnOver), JobError::Yielded);
    let cause = || "a disk that stands still".into();
    for failure in [BlockError::Silent(cause()), BlockError::Unavailable(cause())] {
        assert!(matches!(of(failure), JobError::Retry { .. }));
    }
    assert!(matches!(of(BlockError::Damaged(cause())), JobError::Permanent { .. }));
}

/// A region's looks that are to come, one for each scope at most, were there as many sweeps as may be.
#[tokio::test]
async fn looks_that_wait_for_a_grace_do_not_become_more() {
    const DAY: i64 = 86_400;
    let start = Timestamp(1_800_000_000_000);
    let account = || AccountId::parse("111111111111").unwrap();
    for db in engines(crate::MIGRATIONS) {
        let look = |region: &str, hours: i64| {
            let region = Region::parse(region).unwrap();
            let (payload, now) =
                (Collect { region, scope: Scope::Everything }, start.plus_seconds(hours * 3600));
            let next = now.plus_seconds(DAY);
            db.write(move |tx| {
                enqueue_next_look(tx, &account(), &payload, now, next)?;
                Ok::<_, meta::Error>(
                    jobs::list(tx, &account(), &payload.region, "", JOBS_PAGE_MAX)?.len(),
                )
            })
        };
        assert_eq!(look("us-east-1", 0).await, Ok(1), "{}", db.name);
        assert_eq!(look("us-east-1", 3).await, Ok(1), "one waits for {}", db.name);
        assert_eq!(look("eu-west-1", 3).await, Ok(1));
        // The first has its time now: it asks for the next, and nobody else does.
        assert_eq!(look("us-east-1", 24).await, Ok(2));
        assert_eq!(look("us-east-1", 27).await, Ok(2));
    }
}
