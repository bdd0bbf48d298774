//! Events on the bus.

use crate::{NOW, account, region};
use base::{Region, SnapshotId, VolumeId};
use events::event::Envelope;
use events::notification::{
    ArnForm, Attachment, Copied, KeyProblem, Outcome, Span, attach_failed, copy_snapshot,
    create_snapshot, create_volume, delete_volume, share_snapshot,
};
use events::{MIGRATIONS, ServiceEvent, latest_events, list_events, put_event};
use meta::testing::engines;
use serde_json::{Value, json};

const KEY: &str = "arn:aws:kms:us-east-1:111111111111:key/k1";
const SPAN: Span = Span { start: NOW, end: NOW };

fn envelope(id: &str) -> Envelope {
    Envelope { event_id: id.to_owned(), account: account('1'), region: region(), time: NOW }
}

fn volume() -> VolumeId {
    VolumeId::parse("vol-0123456789abcdef0").unwrap()
}

fn snapshot() -> SnapshotId {
    SnapshotId::parse("snap-0123456789abcdef0").unwrap()
}

fn detail(event: &ServiceEvent) -> Value {
    Value::Object(event.detail().clone())
}

#[test]
fn a_volume_event_has_the_envelope_of_version_0() {
    let event = create_volume(envelope("e-1"), &volume(), "r-1", &Outcome::Succeeded);
    assert_eq!(
        event.to_json(),
        concat!(
            r#"{"version":"0","id":"e-1","detail-type":"EBS Volume Notification","source":"aws.ec2","#,
            r#""account":"111111111111","time":"2026-11-21T09:30:00Z","region":"us-east-1","#,
            r#""resources":["arn:aws:ec2:us-east-1:111111111111:volume/vol-0123456789abcdef0"],"#,
            r#""detail":{"cause":"","event":"createVolume","request-id":"r-1","result":"available"}}"#
        )
    );
}

#[test]
fn volume_failures_name_the_key() {
    let failed = Outcome::Failed(KeyProblem::Disabled.cause(KEY));
    let event = create_volume(envelope("e"), &volume(), "r", &failed).with_explain_id("d-1");
    assert_eq!(
        detail(&event),
        json!({"event": "createVolume", "result": "failed", "cause": format!("{KEY} is disabled."),
            "request-id": "r", "explain-id": "d-1"})
    );
    let event = attach_failed(
        envelope("e"),
        Attachment::Reattach,
        &volume(),
        KEY,
        KeyProblem::PendingDeletion,
    );
    assert_eq!(
        detail(&event),
        json!({"event": "reattachVolume", "result": "failed", "cause": format!("{KEY} is pending deletion."),
            "request-id": ""})
    );
    assert_eq!(
        event.resources(),
        ["arn:aws:ec2:us-east-1:111111111111:volume/vol-0123456789abcdef0", KEY]
    );
    let event = delete_volume(envelope("e"), &volume(), "r");
    assert_eq!(detail(&event)["result"], "deleted");
}

#[test]
fn snapshot_events_tell_source_and_times() {
    let event = create_snapshot(
        envelope("e"),
        ArnForm::Historic,
        &snapshot(),
        &volume(),
        SPAN,
        &Outcome::Succeeded,
    );
    assert_eq!(
        detail(&event),
        json!({"event": "createSnapshot", "result": "succeeded", "cause": "", "request-id": "",
            "snapshot_id": "arn:aws:ec2::us-east-1:snapshot/snap-0123456789abcdef0",
            "source": "arn:aws:ec2::us-east-1:volume/vol-0123456789abcdef0",
            "startTime": "2026-11-21T09:30:00Z", "endTime": "2026-11-21T09:30:00Z"})
    );
    let copied = Copied {
        source: SnapshotId::parse("snap-11111111").unwrap(),
        source_region: Region::parse("eu-west-1").unwrap(),
        incremental: true,
        time_based: Some((NOW, Some("too much data".to_owned()))),
    };
    let failed = Outcome::Failed("Source snapshot ID is not valid".to_owned());
    let event = copy_snapshot(envelope("e"), ArnForm::Regular, &snapshot(), &copied, SPAN, &failed);
    assert_eq!(
        detail(&event),
        json!({"event": "copySnapshot", "result": "failed", "cause": "Source snapshot ID is not valid",
            "request-id": "", "snapshot_id": "arn:aws:ec2:us-east-1::snapshot/snap-0123456789abcdef0",
            "source": "arn:aws:ec2:eu-west-1::snapshot/snap-11111111", "incremental": "true",
            "startTime": "2026-11-21T09:30:00Z", "endTime": "2026-11-21T09:30:00Z",
            "transferType": "time-based", "completionDurationStartTime": "2026-11-21T09:30:00Z",
            "metCompletionDuration": "false", "missedCompletionDurationCause": "too much data"})
    );
    let event = share_snapshot(envelope("e"), ArnForm::Regular, &snapshot(), &account('2'), SPAN);
    assert_eq!(
        (event.account(), &detail(&event)["source"]),
        (&account('1'), &json!("222222222222"))
    );
}

#[test]
fn the_bus_keeps_events_in_order_once_each_and_apart() {
    for db in engines(MIGRATIONS) {
        db.write_blocking(|tx| {
            for n in (0..10_i64).rev() {
                let at = Envelope {
                    time: base::Timestamp(NOW.0 + n / 2),
                    ..envelope(&format!("e-{n}"))
                };
                let event = delete_volume(at, &volume(), "r");
                put_event(tx, &event)?;
                put_event(tx, &event)?;
            }
            let other = Envelope { account: account('2'), ..envelope("f") };
            put_event(tx, &delete_volume(other, &volume(), "r"))
        })
        .unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let cursor = after.clone();
            let page = db
                .read_blocking(move |tx| {
                    list_events(tx, &account('1'), &region(), cursor.as_ref(), 3)
                })
                .unwrap();
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            seen.extend(page.into_iter().map(|(_, event)| event));
        }
        let ids: Vec<&str> = seen.iter().map(ServiceEvent::id).collect();
        let expected: Vec<String> = (0..10).map(|n| format!("e-{n}")).collect();
        assert_eq!(ids, expected, "{}", db.name);
        assert_eq!(seen[9].time(), base::Timestamp(NOW.0 + 4));
        let latest = db.read_blocking(|tx| latest_events(tx, &account('1'), &region(), 3)).unwrap();
        assert_eq!(latest, seen[7..], "{}", db.name);
    }
}
