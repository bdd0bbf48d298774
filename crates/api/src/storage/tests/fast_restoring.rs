//! Fast snapshot restore: who may have it, how far it is, and what its volumes are (spec 07).

use super::archiving::CONTENT;
use super::leaks::{BLOCK, dies_at};
use super::{HERE, Stage, merge, text};
use crate::Service;
use objstore::{FaultPlan, ObjectStore};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const A: &str = "us-east-1a";
const B: &str = "us-east-1b";
const BY_USER: &str = "Client.UserInitiated";
const BY_ITSELF: &str = "Client.UserInitiated - Lifecycle state transition";
pub(super) const GONE: &str = "Client.InvalidSnapshot.InvalidState - The requested snapshot was \
                               deleted or access permissions were revoked";

impl Stage {
    /// Asks for fast restore and gives the reply, whatever it is.
    async fn ask_fast(&self, digit: u8, snapshot: &str, zones: &[&str]) -> Value {
        let input = json!({ "SourceSnapshotIds": [snapshot], "AvailabilityZones": zones });
        self.ec2_at(digit, HERE, "EnableFastSnapshotRestores", input).await
    }

    /// Enables a snapshot in the first zone and waits until it is.
    pub(super) async fn fast(&mut self, digit: u8, snapshot: &str) {
        let reply = self.ask_fast(digit, snapshot, &[A]).await;
        assert_eq!(reply["Unsuccessful"], json!([]), "{reply}");
        self.settle().await;
        assert_eq!(self.fast_state(digit, snapshot, A).await.0, "enabled");
    }

    pub(super) async fn disable_fast(&self, digit: u8, snapshot: &str) -> Value {
        let input = json!({ "SourceSnapshotIds": [snapshot], "AvailabilityZones": [A] });
        self.ec2_at(digit, HERE, "DisableFastSnapshotRestores", input).await
    }

    async fn fast_row(&self, digit: u8, snapshot: &str, zone: &str) -> Value {
        let filters = json!([{ "Name": "snapshot-id", "Values": [snapshot] },
                             { "Name": "availability-zone", "Values": [zone] }]);
        let input = json!({ "Filters": filters });
        let reply = self.ec2_at(digit, HERE, "DescribeFastSnapshotRestores", input).await;
        reply["FastSnapshotRestores"][0].clone()
    }

    /// State and reason.
    pub(super) async fn fast_state(
        &self,
        digit: u8,
        snapshot: &str,
        zone: &str,
    ) -> (String, String) {
        let row = self.fast_row(digit, snapshot, zone).await;
        (text(&row, "State"), text(&row, "StateTransitionReason"))
    }

    /// A volume from a snapshot, and whether it was whole from the start.
    pub(super) async fn restored(
        &mut self,
        digit: u8,
        snapshot: &str,
        extra: Value,
    ) -> (String, bool) {
        let mut input = json!({ "SnapshotId": snapshot });
        merge(&mut input, extra);
        let volume = self.volume(digit, HERE, input).await;
        let shown = self.describe_volume(digit, HERE, &volume).await;
        assert_eq!(shown["State"], "available");
        (volume, shown["FastRestored"].as_bool().unwrap())
    }

    /// Every change of state that an account was told of.
    async fn fast_events(&self, digit: u8) -> Vec<String> {
        let (account, region) = (crate::testing::account(digit), crate::testing::region(HERE));
        let read =
            move |tx: &mut meta::Tx<'_>| events::list_events(tx, &account, &region, None, 1000);
        let events = self.bench.world.db.read(read).await.unwrap();
        let told = events.iter().filter_map(|(_, event)| {
            let detail = event.detail();
            let part = |name: &str| detail.get(name)?.as_str();
            Some(format!("{} {} {}", part("zone")?, part("state")?, part("message")?))
        });
        told.collect()
    }

    pub(super) fn twin_objects(&self) -> usize {
        self.bench.objects["us-east-1/twins"].inner().list("packs").unwrap().len()
    }

    pub(super) fn twin_plan(&self, plan: FaultPlan) {
        self.bench.objects["us-east-1/twins"].restart(plan);
    }

    /// A snapshot of a volume of so many GiB, of which some blocks were written.
    async fn snapshot_of(&mut self, size: Value, host: &str) -> String {
        let volume = self.volume(1, HERE, size).await;
        self.attach(1, HERE, &volume, host).await;
        self.fill(&volume, 0..6, 1);
        let snapshot = self.snapshot(1, HERE, &volume).await;
        for (name, input) in [
            ("DetachVolume", json!({ "VolumeId": volume })),
            ("DeleteVolume", json!({ "VolumeId": volume })),
        ] {
            self.ec2(name, input).await;
            self.settle().await;
        }
        snapshot
    }

    pub(super) fn read_blocks(&self, volume: &str) -> Vec<u8> {
        (0..6).map(|block| self.bench.host.read(volume, block * BLOCK, 1)[0]).collect()
    }

    pub(super) async fn drop_volume(&mut self, digit: u8, volume: &str) {
        let input = json!({ "VolumeId": volume });
        self.ec2_at(digit, HERE, "DeleteVolume", input).await;
        self.settle().await;
    }
}

/// Code and message of the only failure in a reply.
fn failure(reply: &Value) -> (String, String) {
    assert_eq!(reply["Successful"], json!([]), "{reply}");
    let errors = &reply["Unsuccessful"][0]["FastSnapshotRestoreStateErrors"];
    assert_eq!(errors.as_array().unwrap().len(), 1, "{reply}");
    assert_eq!(errors[0]["AvailabilityZoneId"], "use1-az1");
    let error = &errors[0]["Error"];
    (text(error, "Code"), text(error, "Message"))
}

#[tokio::test]
async fn a_snapshot_goes_through_all_states() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, _, _]) = stage.three(&host).await;
    let input =
        json!({ "SourceSnapshotIds": [first], "AvailabilityZoneIds": ["use1-az1", "use1-az2"] });
    let reply = stage.ec2("EnableFastSnapshotRestores", input).await;
    assert_eq!(reply["Unsuccessful"], json!([]));
    for (item, zone) in reply["Successful"].as_array().unwrap().iter().zip([A, B]) {
        assert_eq!(
            (text(item, "State").as_str(), text(item, "AvailabilityZone").as_str()),
            ("enabling", zone)
        );
        assert_eq!(item["StateTransitionReason"], BY_USER);
        assert_eq!(item["OwnerId"], "111111111111");
        assert!(item["EnablingTime"].is_string() && item["EnabledTime"].is_null());
    }
    assert_eq!(stage.twin_objects(), 0);
    stage.settle().await;
    for zone in [A, B] {
        let row = stage.fast_row(1, &first, zone).await;
        assert_eq!(
            (&row["State"], &row["StateTransitionReason"]),
            (&json!("enabled"), &json!(BY_ITSELF))
        );
        assert!(row["OptimizingTime"].is_string() && row["EnabledTime"].is_string());
        assert!(row["DisablingTime"].is_null());
    }
    // One twin for both.
    let objects = stage.twin_objects();
    assert!(objects > 0);
    // Asking again changes nothing.
    let again = stage.ask_fast(1, &first, &[A]).await;
    assert_eq!(again["Successful"][0]["State"], "enabled");
    stage.settle().await;
    // Another zone finds the twin there.
    stage.ask_fast(1, &first, &["us-east-1c"]).await;
    stage.settle().await;
    assert_eq!(stage.fast_state(1, &first, "us-east-1c").await.0, "enabled");
    assert_eq!(stage.twin_objects(), objects);
    // What happens at one moment of this clock is in no order.
    let mut told = stage.fast_events(1).await;
    told.sort();
    let expected = |zone: &str| {
        [("enabled", BY_ITSELF), ("enabling", BY_USER), ("optimizing", BY_ITSELF)]
            .map(|(state, reason)| format!("{zone} {state} {reason}"))
    };
    for zone in [A, B, "us-east-1c"] {
        let of_zone: Vec<_> = told.iter().filter(|told| told.starts_with(zone)).collect();
        assert_eq!(of_zone, expected(zone).iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn it_ends_zone_by_zone_and_gives_its_space_back() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let (_, [first, _, _]) = stage.three(&host).await;
    stage.ask_fast(1, &first, &[A, B, "us-east-1c"]).await;
    stage.settle().await;
    let objects = stage.twin_objects();
    let reply = stage.disable_fast(1, &first).await;
    let item = &reply["Successful"][0];
    assert_eq!(
        (&item["State"], &item["StateTransitionReason"]),
        (&json!("disabling"), &json!(BY_USER))
    );
    assert!(item["DisablingTime"].is_string());
    assert_eq!(
        failure(&stage.disable_fast(1, &first).await),
        (
            "IncorrectState".into(),
            format!("The snapshot '{first}' is not enabled for fast restores in {A}.")
        )
    );
    assert_eq!(
        failure(&stage.ask_fast(1, &first, &[A]).await),
        (
            "IncorrectState".into(),
            format!("Fast snapshot restores are being disabled for '{first}' in {A}.")
        )
    );
    stage.settle().await;
    let row = stage.fast_row(1, &first, A).await;
    assert_eq!(
        (&row["State"], &row["StateTransitionReason"]),
        (&json!("disabled"), &json!(BY_ITSELF))
    );
    assert_eq!(stage.fast_state(1, &first, B).await.0, "enabled", "a zone is by itself");
    assert_eq!(stage.twin_objects(), objects);
    let input = json!({ "SourceSnapshotIds": [first], "AvailabilityZones": [B, "us-east-1c"] });
    stage.ec2("DisableFastSnapshotRestores", input).await;
    stage.settle().await;
    stage.days(2).await;
    assert_eq!(stage.twin_objects(), 0, "the space is given back");
    assert!(stage.fast_row(1, &first, A).await.is_null(), "and the rows are forgotten");
    // It can be enabled again.
    stage.fast(1, &first).await;
    assert_eq!(stage.content(&first, &host).await, CONTENT[0]);
}

/// Acceptance 8: a credit comes back in 7.5 minutes at 128 GiB.
#[tokio::test]
async fn credits_are_used_up_and_come_back() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let snapshot = stage.snapshot_of(json!({ "Size": 128 }), &host).await;
    stage.fast(1, &snapshot).await;
    stage.bench.clock.advance_seconds(7 * 60);
    assert!(!stage.restored(1, &snapshot, json!({})).await.1, "none has come back yet");
    stage.bench.clock.advance_seconds(60);
    // Whoever asks for a rate gets that, and keeps the credit. So does who is in another zone.
    let rate = json!({ "VolumeInitializationRate": 100 });
    assert!(!stage.restored(1, &snapshot, rate).await.1);
    assert!(!stage.restored(1, &snapshot, json!({ "AvailabilityZone": B })).await.1);
    let (fast, is_fast) = stage.restored(1, &snapshot, json!({})).await;
    assert!(is_fast);
    let (_, is_fast) = stage.restored(1, &snapshot, json!({})).await;
    assert!(!is_fast);
    for (value, expected) in [("true", vec![fast.clone()]), ("false", vec![])] {
        let filters = json!([{ "Name": "fast-restored", "Values": [value] },
                             { "Name": "volume-id", "Values": [fast] }]);
        let reply = stage.ec2("DescribeVolumes", json!({ "Filters": filters })).await;
        let volumes = reply["Volumes"].as_array().unwrap();
        assert_eq!(volumes.iter().map(|v| text(v, "VolumeId")).collect::<Vec<_>>(), expected);
    }
    // An hour's are held, and no more: eight.
    stage.bench.clock.advance_seconds(24 * 3600);
    let mut fast = 0;
    for _ in 0..10 {
        fast += usize::from(stage.restored(1, &snapshot, json!({})).await.1);
    }
    assert_eq!(fast, 8);
}

/// A volume that was created with a credit needs nothing of its snapshot's own store, then or later.
#[tokio::test]
async fn a_fast_volume_is_whole_from_the_start() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let snapshot = stage.snapshot_of(json!({ "Size": 1 }), &host).await;
    stage.fast(1, &snapshot).await;
    stage.bench.clock.advance_seconds(3600);
    let (volume, is_fast) = stage.restored(1, &snapshot, json!({})).await;
    assert!(is_fast);
    let initialized = |told: &String| told.contains("initializeVolume");
    assert!(!stage.events(1, HERE).await.iter().any(initialized), "there is nothing to tell");
    stage.plan(HERE, dies_at(1));
    stage.attach(1, HERE, &volume, &host).await;
    assert_eq!(stage.read_blocks(&volume), CONTENT[0]);
    // It stays so when nobody wants the twin any more, and over restarts.
    stage.disable_fast(1, &snapshot).await;
    stage.settle().await;
    stage.plan(HERE, FaultPlan::default());
    stage.days(9).await;
    stage.assert_no_leak("a volume reads its twin").await;
    assert!(stage.twin_objects() > 0);
    stage.plan(HERE, dies_at(1));
    stage.bench.host.forget_all();
    lifecycle::workflow::attach::recover(&stage.bench.world.services).await.unwrap();
    assert_eq!(stage.read_blocks(&volume), CONTENT[0]);
    stage.bench.host.write(&volume, BLOCK, &[77; 4096]);
    stage.plan(HERE, FaultPlan::default());
    let next = stage.snapshot(1, HERE, &volume).await;
    let mut content = CONTENT[0];
    content[1] = 77;
    stage.ec2("DetachVolume", json!({ "VolumeId": volume })).await;
    stage.settle().await;
    assert_eq!(stage.content(&next, &host).await, content);
    stage.drop_volume(1, &volume).await;
    stage.days(2).await;
    assert_eq!(stage.twin_objects(), 0, "nobody reads the twin");
    stage.days(7).await;
    stage.assert_no_leak("a fast volume that is gone").await;
}

/// Acceptance 9, and what else is refused: one by one, and the request succeeds.
#[tokio::test]
async fn refusals_are_told_item_by_item() {
    let mut stage = Stage::new().await;
    let mut snapshots = Vec::new();
    for _ in 0..7 {
        let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
        snapshots.push(stage.snapshot(1, HERE, &volume).await);
    }
    snapshots.sort();
    let input = json!({ "SourceSnapshotIds": snapshots[..6], "AvailabilityZones": [A] });
    let reply = stage.ec2("EnableFastSnapshotRestores", input).await;
    assert_eq!(reply["Successful"].as_array().unwrap().len(), 5);
    assert_eq!(reply["Unsuccessful"].as_array().unwrap().len(), 1);
    assert_eq!(reply["Unsuccessful"][0]["SnapshotId"], json!(snapshots[5]));
    let limit = (
        "ResourceLimitExceeded".to_owned(),
        "The limit of 5 snapshots enabled for fast snapshot restores is reached.".to_owned(),
    );
    assert_eq!(failure(&stage.ask_fast(1, &snapshots[6], &[A]).await), limit);
    stage.settle().await;
    assert_eq!(failure(&stage.ask_fast(1, &snapshots[6], &[A]).await), limit);
    // A further zone is no further snapshot, and one that ended makes room.
    let reply = stage.ask_fast(1, &snapshots[0], &[B]).await;
    assert_eq!(reply["Unsuccessful"], json!([]));
    stage.disable_fast(1, &snapshots[1]).await;
    stage.settle().await;
    stage.fast(1, &snapshots[6]).await;
}

#[tokio::test]
async fn what_cannot_be_restored_fast_is_refused() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let (gone, other) =
        (stage.snapshot(1, HERE, &volume).await, stage.snapshot(1, HERE, &volume).await);

    let large = json!({ "Size": 16385, "VolumeType": "io2", "Iops": 100 });
    let large = stage.volume(1, HERE, large).await;
    let large = stage.snapshot(1, HERE, &large).await;
    assert_eq!(
        failure(&stage.ask_fast(1, &large, &[A]).await),
        (
            "InvalidParameterValue".into(),
            "Fast snapshot restores cannot be enabled for snapshots larger than 16 TiB.".into()
        )
    );
    stage.archived(&gone).await;
    let (code, message) = failure(&stage.ask_fast(1, &gone, &[A]).await);
    assert!(code == "IncorrectState" && message.contains("archive storage tier"), "{message}");
    let pending = stage.ec2("CreateSnapshot", json!({ "VolumeId": volume })).await;
    assert_eq!(
        failure(&stage.ask_fast(1, &text(&pending, "SnapshotId"), &[A]).await),
        ("IncorrectState".into(), "Snapshot is in invalid state - pending".into())
    );
    for (digit, snapshot) in [(1, "snap-00000000000000000"), (2, other.as_str())] {
        let input = json!({ "SourceSnapshotIds": [other, snapshot], "AvailabilityZones": [A] });
        for name in ["EnableFastSnapshotRestores", "DisableFastSnapshotRestores"] {
            assert!(
                stage
                    .ec2_error_at(digit, HERE, name, input.clone())
                    .await
                    .starts_with("InvalidSnapshot.NotFound: The snapshot 'snap-"),
            );
        }
    }
    for (input, expected) in [
        (
            json!({ "AvailabilityZones": ["us-east-1x"] }),
            "InvalidParameterValue: Invalid availability zone: [us-east-1x]",
        ),
        (
            json!({ "AvailabilityZoneIds": ["use1-az9"] }),
            "InvalidParameterValue: Invalid availability zone: [use1-az9]",
        ),
        (json!({}), "MissingParameter: The request must contain the parameter AvailabilityZone"),
        (
            json!({ "AvailabilityZones": [A], "AvailabilityZoneIds": ["use1-az1"] }),
            "InvalidParameterCombination: The parameters AvailabilityZones and AvailabilityZoneIds cannot be used together.",
        ),
        (
            json!({ "AvailabilityZones": [A, A, A, A, A, A, A, A, A, A, A] }),
            "InvalidRequest: Number of values of parameter AvailabilityZones must be less than or equal to 10.",
        ),
    ] {
        let mut full = json!({ "SourceSnapshotIds": [other] });
        merge(&mut full, input);
        for name in ["EnableFastSnapshotRestores", "DisableFastSnapshotRestores"] {
            assert_eq!(stage.ec2_error(name, full.clone()).await, expected);
        }
    }
}

/// Acceptance 10: who loses a snapshot loses its fast restore; the owner does not.
#[tokio::test]
async fn a_grantee_has_credits_of_its_own_for_as_long_as_it_sees_the_snapshot() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let snapshot = stage.snapshot_of(json!({ "Size": 1 }), &host).await;
    stage.fast(1, &snapshot).await;
    stage.share(&snapshot).await;
    stage.bench.clock.advance_seconds(3600);
    assert!(!stage.restored(2, &snapshot, json!({})).await.1, "the owner's credits are its own");
    stage.fast(2, &snapshot).await;
    assert_eq!(stage.fast_row(2, &snapshot, A).await["OwnerId"], "222222222222");
    assert!(!stage.restored(2, &snapshot, json!({})).await.1);
    stage.bench.clock.advance_seconds(400);
    let (volume, is_fast) = stage.restored(2, &snapshot, json!({})).await;
    assert!(is_fast);
    let unshare = |how: usize| match how {
        0 => json!({ "CreateVolumePermission": { "Remove": [{ "UserId": "222222222222" }] } }),
        _ => json!({ "Attribute": "createVolumePermission" }),
    };
    for how in 0..2 {
        let mut input = json!({ "SnapshotId": snapshot });
        merge(&mut input, unshare(how));
        let name = ["ModifySnapshotAttribute", "ResetSnapshotAttribute"][how];
        stage.ec2(name, input).await;
        let state = stage.fast_state(2, &snapshot, A).await;
        assert_eq!(state, ("disabled".into(), GONE.into()), "{name}");
        assert_eq!(stage.fast_state(1, &snapshot, A).await.0, "enabled");
        assert_eq!(stage.fast_events(2).await.last().unwrap(), &format!("{A} disabled {GONE}"));
        stage.share(&snapshot).await;
        stage.fast(2, &snapshot).await;
    }
    // Sharing with more takes nothing from anybody, nor does taking from others.
    let add = json!({ "Add": [{ "Group": "all" }] });
    let input = json!({ "SnapshotId": snapshot, "CreateVolumePermission": add });
    stage.ec2("ModifySnapshotAttribute", input).await;
    let remove = json!({ "Remove": [{ "UserId": "222222222222" }] });
    let input = json!({ "SnapshotId": snapshot, "CreateVolumePermission": remove });
    stage.ec2("ModifySnapshotAttribute", input).await;
    assert_eq!(stage.fast_state(2, &snapshot, A).await.0, "enabled", "it is public");
    let remove = json!({ "Remove": [{ "Group": "all" }] });
    let input = json!({ "SnapshotId": snapshot, "CreateVolumePermission": remove });
    stage.ec2("ModifySnapshotAttribute", input).await;
    assert_eq!(stage.fast_state(2, &snapshot, A).await.0, "disabled");
    stage.share(&snapshot).await;
    stage.fast(2, &snapshot).await;
    stage.delete(&snapshot).await;
    for digit in [1, 2] {
        assert_eq!(stage.fast_state(digit, &snapshot, A).await, ("disabled".into(), GONE.into()));
    }
    stage.settle().await;
    let guest = stage.host(2, HERE, "b").await;
    stage.attach(2, HERE, &volume, &guest).await;
    assert_eq!(stage.read_blocks(&volume), CONTENT[0], "what was made stays");
}

#[tokio::test]
async fn archiving_ends_fast_restore_also_after_a_temporary_return() {
    let mut stage = Stage::new().await;
    let host = stage.host(1, HERE, "a").await;
    let snapshot = stage.snapshot_of(json!({ "Size": 1 }), &host).await;
    let archived = "Client.InvalidSnapshot.InvalidState - The requested snapshot was archived";
    stage.fast(1, &snapshot).await;
    stage.archive(&snapshot).await;
    assert_eq!(stage.fast_state(1, &snapshot, A).await.0, "enabled", "it is still here");
    stage.settle().await;
    assert_eq!(stage.fast_state(1, &snapshot, A).await, ("disabled".into(), archived.into()));
    stage.restore(&snapshot, 1).await;
    stage.settle().await;
    stage.fast(1, &snapshot).await;
    stage.hours(25).await;
    assert_eq!(stage.fast_state(1, &snapshot, A).await, ("disabled".into(), archived.into()));
    stage.days(9).await;
    assert_eq!(stage.twin_objects(), 0);
    stage.assert_no_leak("twins of archived snapshots").await;
}

#[tokio::test]
async fn a_disabled_key_ends_no_fast_restore_and_none_is_asked_for() {
    let mut stage = Stage::new().await;
    let (host, key) = (stage.host(1, HERE, "a").await, stage.key(1, HERE).await);
    let size = json!({ "Size": 1, "Encrypted": true, "KmsKeyId": key });
    let snapshot = stage.snapshot_of(size, &host).await;
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let mut seen = BTreeSet::new();
    stage.kms_calls(1, HERE, &mut seen).await;
    stage.fast(1, &snapshot).await;
    stage.days(1).await;
    assert_eq!(stage.fast_state(1, &snapshot, A).await.0, "enabled");
    assert_eq!(stage.kms_calls(1, HERE, &mut seen).await, [""; 0]);
    stage.kms(1, HERE, "EnableKey", json!({ "KeyId": key })).await;
    let (volume, is_fast) = stage.restored(1, &snapshot, json!({})).await;
    assert!(is_fast);
    stage.attach(1, HERE, &volume, &host).await;
    assert_eq!(stage.read_blocks(&volume), CONTENT[0]);
}

/// A volume under a key of its own reads the twin until its base is sealed anew, and not after.
#[tokio::test]
async fn a_fast_volume_under_another_key_lets_go_of_the_twin_in_the_end() {
    let mut stage = Stage::new().await;
    let (key, own) = (stage.key(1, HERE).await, stage.key(2, HERE).await);
    let snapshot = stage.shared(&key).await;
    stage.fast(2, &snapshot).await;
    stage.bench.clock.advance_seconds(3600);
    stage.plan(HERE, dies_at(1));
    let extra = json!({ "Encrypted": true, "KmsKeyId": own });
    let (volume, is_fast) = stage.restored(2, &snapshot, extra).await;
    assert!(is_fast && stage.foreign(&volume).await.is_some());
    let guest = stage.host(2, HERE, "b").await;
    stage.attach(2, HERE, &volume, &guest).await;
    assert_eq!(stage.read_blocks(&volume), CONTENT[0], "before a byte was moved");
    stage.recover().await;
    stage.assert_own(&volume, &own).await;
    assert_eq!(stage.read_blocks(&volume), CONTENT[0]);
    assert_eq!(stage.describe_volume(2, HERE, &volume).await["FastRestored"], true);
    stage.disable_fast(2, &snapshot).await;
    stage.settle().await;
    stage.days(2).await;
    assert_eq!(stage.twin_objects(), 0);
    assert_eq!(stage.read_blocks(&volume), CONTENT[0]);
    stage.days(7).await;
    stage.assert_no_leak("a foreign base").await;
}

#[tokio::test]
async fn fast_restores_are_filtered_and_paged() {
    let mut stage = Stage::new().await;
    let mut pairs = Vec::new();
    for zones in [vec![A, B], vec![B], vec![A, "us-east-1c"]] {
        let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
        let snapshot = stage.snapshot(1, HERE, &volume).await;
        stage.ask_fast(1, &snapshot, &zones).await;
        pairs.extend(zones.into_iter().map(|zone| (snapshot.clone(), zone.to_owned())));
    }
    stage.settle().await;
    stage.disable_fast(1, &pairs[0].0).await;
    stage.settle().await;
    let by_zone = |zone: &'static str| move |pair: &(String, String)| pair.1 == zone;
    type Passes = Box<dyn Fn(&(String, String)) -> bool>;
    let (first, last) = (pairs[0].clone(), pairs[4].0.clone());
    let cases: [(&str, &str, Passes); 7] = [
        ("availability-zone", A, Box::new(by_zone(A))),
        ("availability-zone-id", "use1-az2", Box::new(by_zone(B))),
        ("owner-id", "111111111111", Box::new(|_| true)),
        ("owner-id", "222222222222", Box::new(|_| false)),
        (
            "snapshot-id",
            &last,
            Box::new({
                let last = last.clone();
                move |pair| pair.0 == last
            }),
        ),
        (
            "state",
            "disabled",
            Box::new({
                let first = first.clone();
                move |pair| *pair == first
            }),
        ),
        ("state", "enabled", Box::new(move |pair| *pair != first)),
    ];
    for (name, value, passes) in cases {
        let filters = json!([{ "Name": name, "Values": [value] }]);
        let reply = stage.ec2("DescribeFastSnapshotRestores", json!({ "Filters": filters })).await;
        let mut expected: Vec<_> = pairs.iter().filter(|pair| passes(pair)).cloned().collect();
        expected.sort();
        assert_eq!(shown(&reply), expected, "{name}={value}");
    }
    pairs.sort();
    assert_pages(&stage, &pairs).await;
}

/// Pairs of snapshot and zone in a reply.
fn shown(reply: &Value) -> Vec<(String, String)> {
    let rows = reply["FastSnapshotRestores"].as_array().unwrap();
    rows.iter().map(|row| (text(row, "SnapshotId"), text(row, "AvailabilityZone"))).collect()
}

async fn assert_pages(stage: &Stage, pairs: &[(String, String)]) {
    let (mut all, mut input) = (Vec::new(), json!({ "MaxResults": 2 }));
    loop {
        let reply = stage.ec2("DescribeFastSnapshotRestores", input.clone()).await;
        all.extend(shown(&reply));
        match reply["NextToken"].as_str() {
            Some(token) => input["NextToken"] = json!(token),
            None => break,
        }
    }
    assert_eq!(all, pairs);
    let others = stage.ec2_at(2, HERE, "DescribeFastSnapshotRestores", json!({})).await;
    assert_eq!(shown(&others), []);
    for (input, expected) in [
        (
            json!({ "MaxResults": 201 }),
            "InvalidParameterValue: Value ( 201 ) for parameter maxResults is invalid. Expecting a value greater than or equal to 1 and less than or equal to 200.",
        ),
        (
            json!({ "Filters": [{ "Name": "zone", "Values": [A] }] }),
            "InvalidParameterValue: The filter 'zone' is invalid",
        ),
    ] {
        assert_eq!(stage.ec2_error("DescribeFastSnapshotRestores", input).await, expected);
    }
}

#[tokio::test]
async fn fast_restore_needs_its_own_permissions() {
    let mut stage = Stage::new().await;
    let volume = stage.volume(1, HERE, json!({ "Size": 1 })).await;
    let snapshot = stage.snapshot(1, HERE, &volume).await;
    let (enable, disable, describe) = (
        "EnableFastSnapshotRestores",
        "DisableFastSnapshotRestores",
        "DescribeFastSnapshotRestores",
    );
    let zones =
        |zones: &[&str]| json!({ "ForAllValues:StringEquals": { "ec2:AvailabilityZone": zones } });
    let one =
        json!({ "SourceSnapshotIds": [snapshot], "AvailabilityZones": [A, B], "DryRun": true });
    let list = json!({ "DryRun": true });
    for (at, (action, condition, resource, name, input, allowed)) in [
        (enable, json!({}), "*", enable, &one, true),
        (enable, json!({}), "*", disable, &one, false),
        (disable, json!({}), "*", disable, &one, true),
        (disable, json!({}), "*", enable, &one, false),
        (enable, zones(&[A, B]), "*", enable, &one, true),
        (enable, zones(&[A]), "*", enable, &one, false),
        (enable, json!({}), "arn:aws:ec2:us-east-1::snapshot/snap-x*", enable, &one, false),
        (enable, json!({}), "arn:aws:ec2:us-east-1::snapshot/*", enable, &one, true),
        (describe, json!({}), "*", describe, &list, true),
        (enable, json!({}), "*", describe, &list, false),
    ]
    .into_iter()
    .enumerate()
    {
        let action = format!("ec2:{action}");
        let statements = json!([{ "Effect": "Allow", "Action": action, "Resource": resource,
                                  "Condition": condition }]);
        let user = stage.user(1, &format!("user{at}"), statements).await;
        let answer = stage.try_as(user, HERE, Service::Ec2, name, input.clone()).await;
        let expected = if allowed { "DryRunOperation: " } else { "UnauthorizedOperation: " };
        let error = answer.unwrap_err();
        assert!(error.starts_with(expected), "{at}: {name} {input}: {error}");
    }
    assert!(stage.fast_row(1, &snapshot, A).await.is_null());
}
