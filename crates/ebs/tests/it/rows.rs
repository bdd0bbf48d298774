use base::{AccountId, InstanceId, Region, SnapshotId, Timestamp, VolumeId};
use ebs::attachment::{self, AttachmentKey};
use ebs::client_token::{self, Claim, TokenScope};
use ebs::snapshot::{self, CopySource, Deletion};
use ebs::tag::{self, TagRemoval};
use ebs::visibility::{PublicAccessBlock, Visibility};
use ebs::volume::{self, Created};
use ebs::{
    Attachment, AttachmentState, Initialization, Settings, Snapshot, SnapshotState, StorageTier,
    TieringOperation, Volume, VolumeState, VolumeType, WrappedKey, deletion, garbage,
    initialization, instance, permission, roots, settings, tiering,
};
use meta::{Db, Tx};
use std::slice;

/// Runs a test's statements in one transaction of a fresh database.
async fn with_rows(test: impl Fn(&mut Tx<'_>) -> ebs::Result<()> + Send + 'static) {
    let db = Db::memory().unwrap();
    db.migrate(ebs::MIGRATIONS).await.unwrap();
    db.write(move |tx| test(tx)).await.unwrap();
}

fn region() -> Region {
    Region::parse("us-east-1").unwrap()
}

fn owner() -> AccountId {
    AccountId::parse("111111111111").unwrap()
}

fn other() -> AccountId {
    AccountId::parse("222222222222").unwrap()
}

fn key(context_id: &str) -> WrappedKey {
    WrappedKey {
        wrapped: vec![1, 2, 3],
        context_id: context_id.to_owned(),
        lineage: "lineage-1".to_owned(),
    }
}

fn volume() -> Volume {
    Volume {
        id: VolumeId::parse("vol-00000001").unwrap(),
        account: owner(),
        region: region(),
        zone: "us-east-1a".to_owned(),
        size_gib: 8,
        volume_type: VolumeType::Gp3,
        iops: Some(3000),
        throughput_mib: Some(125),
        state: VolumeState::Creating,
        kms_key_arn: Some("arn:aws:kms:us-east-1:111111111111:key/k".to_owned()),
        data_key: None,
        snapshot_id: Some(SnapshotId::parse("snap-00000001").unwrap()),
        base_root: Some(vec![9]),
        first_base_root: None,
        continues_snapshot: false,
        latest_snapshot_id: None,
        created: Timestamp(1_000),
    }
}

fn snapshot() -> Snapshot {
    Snapshot {
        id: SnapshotId::parse("snap-00000001").unwrap(),
        account: owner(),
        region: region(),
        volume_id: volume().id,
        size_gib: 8,
        state: SnapshotState::Pending(0),
        started: Timestamp(2_000),
        description: "before".to_owned(),
        kms_key_arn: None,
        data_key: Some(key("vol-00000001")),
        root: None,
        pinned_root: Some(vec![7]),
        full_bytes: 0,
        parent: None,
        copied_from: Some(CopySource {
            snapshot: SnapshotId::parse("snap-00000009").unwrap(),
            region: Region::parse("eu-west-1").unwrap(),
            account: Some(other()),
        }),
        completion_minutes: Some(30),
        delete_requested: false,
    }
}

fn noted(tx: &mut Tx<'_>, store: StorageTier) -> ebs::Result<Vec<Vec<u8>>> {
    let noted = garbage::deleted_roots(tx, &region(), store)?;
    Ok(noted.into_iter().map(|noted| noted.root).collect())
}

#[tokio::test]
async fn a_volume_moves_only_from_the_state_expected() {
    with_rows(|tx| {
        let mut expected = volume();
        volume::insert(tx, &expected)?;
        assert_eq!(volume::get(tx, &region(), &expected.id)?, Some(expected.clone()));

        let (region, id) = (region(), expected.id.clone());
        let states = (VolumeState::Available, VolumeState::InUse);
        assert!(!volume::set_state(tx, &region, &id, states.0, states.1)?);
        let created = Created {
            data_key: key(id.as_str()),
            base_root: Some(vec![5]),
            continues_snapshot: true,
        };
        assert!(volume::set_created(tx, &region, &id, &created)?);
        assert!(!volume::set_created(tx, &region, &id, &created)?);
        expected.state = VolumeState::Available;
        expected.data_key = Some(created.data_key);
        expected.base_root = created.base_root;
        expected.continues_snapshot = true;
        assert_eq!(volume::get(tx, &region, &id)?, Some(expected.clone()));

        assert!(!volume::remove(tx, &region, &id, VolumeState::Deleting)?);
        assert!(volume::set_state(tx, &region, &id, states.0, VolumeState::Deleting)?);
        tag::set(tx, &owner(), &region, id.as_str(), &[("k".into(), "v".into())])?.unwrap();
        assert!(volume::remove(tx, &region, &id, VolumeState::Deleting)?);
        assert_eq!(volume::get(tx, &region, &id)?, None);
        assert_eq!(tag::of_resource(tx, &owner(), &region, id.as_str())?, []);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_usable_volume_has_its_file_unless_an_earlier_release_made_none() {
    with_rows(|tx| {
        let old = Volume { state: VolumeState::Available, ..volume() };
        let new = Volume { id: VolumeId::parse("vol-00000002").unwrap(), ..volume() };
        volume::insert(tx, &old)?;
        volume::insert(tx, &new)?;
        assert_eq!(volume::regions_in_use(tx)?, [region()]);
        // One that is being created is made by its creation.
        assert_eq!(volume::without_file(tx)?, slice::from_ref(&old));
        let created =
            Created { data_key: key(new.id.as_str()), base_root: None, continues_snapshot: false };
        assert!(volume::set_created(tx, &region(), &new.id, &created)?);
        assert_eq!(volume::without_file(tx)?, slice::from_ref(&old));
        volume::note_file(tx, &region(), &old.id)?;
        assert_eq!(volume::without_file(tx)?, []);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_completes_once_and_keeps_its_columns() {
    with_rows(|tx| {
        let mut expected = snapshot();
        snapshot::insert(tx, &expected)?;
        assert_eq!(snapshot::get(tx, &region(), &expected.id)?, Some(expected.clone()));
        assert_eq!(snapshot::count_pending_copies(tx, &owner(), &region())?, 1);
        assert_eq!(
            snapshot::count_pending_of_volume(tx, &owner(), &region(), &expected.volume_id)?,
            1
        );

        let id = expected.id.clone();
        snapshot::set_progress(tx, &region(), &id, 40)?;
        snapshot::set_progress(tx, &region(), &id, 30)?;
        let progress = |tx: &mut Tx<'_>| {
            snapshot::get(tx, &region(), &id).map(|s| s.unwrap().state.progress())
        };
        assert_eq!(progress(tx)?, 40, "progress never falls");
        snapshot::set_progress(tx, &region(), &id, 100)?;
        assert_eq!(progress(tx)?, 99, "100 is for completed ones");

        let at = Timestamp(3_000);
        assert!(snapshot::set_completed(tx, &region(), &id, &[8], 4096, at)?);
        assert!(!snapshot::set_failed(tx, &region(), &id, "late")?);
        expected.state = SnapshotState::Completed { at };
        (expected.root, expected.pinned_root, expected.full_bytes) = (Some(vec![8]), None, 4096);
        assert_eq!(snapshot::get(tx, &region(), &id)?, Some(expected));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn deleting_a_pending_snapshot_hides_it_until_its_work_ends() {
    with_rows(|tx| {
        let pending = snapshot();
        snapshot::insert(tx, &pending)?;
        assert_eq!(snapshot::delete(tx, &pending)?, Deletion::Deferred);
        let hidden = snapshot::get(tx, &region(), &pending.id)?.unwrap();
        assert!(hidden.delete_requested);
        assert_eq!(permission::visibility_for(tx, &hidden, &owner())?, Visibility::Hidden);
        assert_eq!(snapshot::list_owned(tx, &owner(), &region())?, []);
        let source_region = Region::parse("eu-west-1").unwrap();
        let read = roots::live_roots(tx, &source_region, StorageTier::Standard)?;
        assert!(read.contains(&vec![7]), "the copy still reads it where it is");

        snapshot::remove(tx, &region(), &pending.id)?;
        assert!(roots::live_roots(tx, &source_region, StorageTier::Standard)?.is_empty());
        Ok(())
    })
    .await;
}

/// A completed snapshot and a pending copy of it, which has a key once it has begun.
fn source_and_copy(copy: &str, has_begun: bool) -> (Snapshot, Snapshot) {
    let state = SnapshotState::Completed { at: Timestamp(1) };
    let source = SnapshotId::parse("snap-000000aa").unwrap();
    let from = CopySource { snapshot: source.clone(), region: region(), account: Some(owner()) };
    let alone = Snapshot { copied_from: None, pinned_root: None, parent: None, ..snapshot() };
    let data_key = has_begun.then(|| key(copy));
    let id = SnapshotId::parse(copy).unwrap();
    let copy = Snapshot {
        id,
        data_key,
        copied_from: Some(from),
        pinned_root: Some(vec![3]),
        ..alone.clone()
    };
    (Snapshot { id: source, state, root: Some(vec![3]), ..alone }, copy)
}

#[tokio::test]
async fn a_snapshot_goes_when_the_last_copy_that_reads_it_ends() {
    with_rows(|tx| {
        let (source, first) = source_and_copy("snap-000000b1", true);
        let (_, second) = source_and_copy("snap-000000b2", true);
        let (_, waiting) = source_and_copy("snap-000000b3", false);
        for row in [&source, &first, &second, &waiting] {
            snapshot::insert(tx, row)?;
        }
        assert_eq!(snapshot::delete(tx, &source)?, Deletion::Deferred);
        let hidden = snapshot::get(tx, &region(), &source.id)?.unwrap();
        assert_eq!(permission::visibility_for(tx, &hidden, &owner())?, Visibility::Hidden);
        assert!(snapshot::set_completed(tx, &region(), &first.id, &[4], 0, Timestamp(2))?);
        assert!(snapshot::get(tx, &region(), &source.id)?.is_some(), "the other reads it");
        assert!(snapshot::set_failed(tx, &region(), &second.id, "why")?);
        assert_eq!(snapshot::get(tx, &region(), &source.id)?, None);
        assert_eq!(noted(tx, StorageTier::Standard)?, [[3]]);

        // One that has not begun reads nothing.
        snapshot::insert(tx, &source)?;
        assert_eq!(snapshot::delete(tx, &source)?, Deletion::Removed);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_work_read_is_looked_at_when_it_ends_if_nobody_owns_it_any_more() {
    with_rows(|tx| {
        let (source, copy) = source_and_copy("snap-000000b1", false);
        snapshot::insert(tx, &source)?;
        snapshot::insert(tx, &copy)?;
        snapshot::set_failed(tx, &region(), &copy.id, "why")?;
        assert_eq!(noted(tx, StorageTier::Standard)?, Vec::<Vec<u8>>::new());
        let (_, copy) = source_and_copy("snap-000000b2", false);
        snapshot::insert(tx, &copy)?;
        snapshot::delete(tx, &source)?;
        let looked_at = garbage::deleted_roots(tx, &region(), StorageTier::Standard)?;
        garbage::forget_root(tx, &region(), &looked_at[0])?;
        snapshot::set_failed(tx, &region(), &copy.id, "why")?;
        assert_eq!(noted(tx, StorageTier::Standard)?, [[3]]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn the_next_snapshot_adds_to_the_latest_that_is_still_there() {
    with_rows(|tx| {
        let volume = volume();
        volume::insert(tx, &volume)?;
        let mut before = None;
        let ids = ["snap-00000001", "snap-00000002", "snap-00000003"];
        let ids = ids.map(|id| SnapshotId::parse(id).unwrap());
        for id in &ids {
            let parent = before.replace(id.clone());
            let row = Snapshot { id: id.clone(), volume_id: volume.id.clone(), ..snapshot() };
            let (copied_from, pinned_root) = (None, None);
            snapshot::insert(tx, &Snapshot { parent, copied_from, pinned_root, ..row })?;
            volume::set_latest_snapshot(tx, &region(), &volume.id, id)?;
        }
        let [first, second, third] = &ids;
        let latest = |tx: &mut Tx<'_>| {
            let row = volume::get(tx, &region(), &volume.id)?;
            Ok::<_, ebs::Error>(row.unwrap().latest_snapshot_id)
        };
        snapshot::remove(tx, &region(), second)?;
        assert_eq!(latest(tx)?.as_ref(), Some(third));
        let parent = snapshot::get(tx, &region(), third)?.unwrap().parent;
        assert_eq!(parent.as_ref(), Some(first));
        snapshot::remove(tx, &region(), third)?;
        assert_eq!(latest(tx)?.as_ref(), Some(first));
        snapshot::remove(tx, &region(), first)?;
        assert_eq!(latest(tx)?, None);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn roots_stay_alive_while_any_row_needs_them() {
    with_rows(|tx| {
        let taken = snapshot();
        snapshot::insert(tx, &taken)?;
        snapshot::set_completed(tx, &region(), &taken.id, &[9], 0, Timestamp(1))?;
        volume::insert(tx, &volume())?;
        let taken = snapshot::get(tx, &region(), &taken.id)?.unwrap();
        assert_eq!(snapshot::delete(tx, &taken)?, Deletion::Removed);
        assert_eq!(snapshot::get(tx, &region(), &taken.id)?, None);
        let live = roots::live_roots(tx, &region(), StorageTier::Standard)?;
        assert_eq!(live.into_iter().collect::<Vec<_>>(), [vec![9]], "the volume still reads it");
        let elsewhere = Region::parse("eu-west-1").unwrap();
        assert!(roots::live_roots(tx, &elsewhere, StorageTier::Standard)?.is_empty());
        Ok(())
    })
    .await;
}

type Roots = Vec<Vec<u8>>;

/// The live roots of both tiers.
fn live(tx: &mut Tx<'_>) -> ebs::Result<(Roots, Roots)> {
    let standard = roots::live_roots(tx, &region(), StorageTier::Standard)?;
    let archive = roots::live_roots(tx, &region(), StorageTier::Archive)?;
    Ok((standard.into_iter().collect(), archive.into_iter().collect()))
}

#[tokio::test]
async fn what_is_noted_while_it_is_looked_at_is_looked_at_again() {
    with_rows(|tx| {
        let row = Snapshot { root: Some(vec![7]), pinned_root: None, ..snapshot() };
        let completed = SnapshotState::Completed { at: Timestamp(1) };
        let copy = SnapshotId::parse("snap-00000002").unwrap();
        let row = Snapshot { state: completed, ..row };
        snapshot::insert(tx, &row)?;
        snapshot::insert(tx, &Snapshot { id: copy.clone(), ..row.clone() })?;
        snapshot::remove(tx, &region(), &row.id)?;
        let looked_at = garbage::deleted_roots(tx, &region(), StorageTier::Standard)?;
        snapshot::remove(tx, &region(), &copy)?;
        garbage::forget_root(tx, &region(), &looked_at[0])?;
        let again = garbage::deleted_roots(tx, &region(), StorageTier::Standard)?;
        assert_eq!(again.iter().map(|noted| &noted.root[..]).collect::<Vec<_>>(), [[7]]);
        garbage::forget_root(tx, &region(), &again[0])?;
        assert_eq!(noted(tx, StorageTier::Standard)?, Vec::<Vec<u8>>::new());
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_that_fails_with_its_set_leaves_its_root_to_be_looked_at() {
    with_rows(|tx| {
        let row = Snapshot { pinned_root: None, copied_from: None, ..snapshot() };
        snapshot::insert(tx, &row)?;
        snapshot::set_completed(tx, &region(), &row.id, &[1], 0, Timestamp(1))?;
        assert!(snapshot::fail_with_set(tx, &region(), &row.id, "another failed")?);
        assert_eq!(noted(tx, StorageTier::Standard)?, [[1]]);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_is_in_one_tier_after_the_other_and_every_root_is_kept_or_noted() {
    use StorageTier::{Archive, Standard};
    use TieringOperation::{Archival, PermanentRestore, TemporaryRestore};
    with_rows(|tx| {
        let mut taken = snapshot();
        (taken.copied_from, taken.pinned_root) = (None, None);
        snapshot::insert(tx, &taken)?;
        snapshot::set_completed(tx, &region(), &taken.id, &[1], 0, Timestamp(1))?;
        let now = |tx: &mut Tx<'_>| {
            Ok::<_, ebs::Error>(snapshot::get(tx, &region(), &taken.id)?.unwrap())
        };
        let row = now(tx)?;
        let first = tiering::begin(tx, &row, Archival, None, Timestamp(2))?;
        assert!(tiering::set_checkpoint(tx, &first, &[0], &[2])?);
        assert_eq!(tiering::checkpoint(tx, &first)?, Some(vec![0]));
        assert_eq!(live(tx)?, (vec![vec![1]], vec![vec![2]]));
        assert!(!now(tx)?.is_archived());
        assert!(tiering::set_archived(tx, &first, &[3], Timestamp(3))?);
        assert!(now(tx)?.is_archived());
        assert_eq!(live(tx)?, (vec![], vec![vec![3]]));
        assert_eq!(noted(tx, Standard)?, [[1]]);
        assert_eq!(noted(tx, Archive)?, [[2]]);
        // Somebody who lost the work finishes it too: what it made is nobody's.
        assert!(!tiering::set_archived(tx, &first, &[4], Timestamp(4))?);
        assert!(!tiering::set_checkpoint(tx, &first, &[9], &[9])?);
        assert_eq!(noted(tx, Archive)?, [[2], [4]]);

        let row = now(tx)?;
        let second = tiering::begin(tx, &row, TemporaryRestore, Some(1), Timestamp(5))?;
        assert!(tiering::set_checkpoint(tx, &second, &[0], &[5])?);
        assert_eq!(live(tx)?, (vec![vec![5]], vec![vec![3]]));
        let (expires, at) = (Some(Timestamp(9)), Timestamp(6));
        assert!(tiering::set_restored(tx, &second, &[6], expires, at)?);
        assert_eq!(live(tx)?, (vec![vec![6]], vec![vec![3]]));
        assert_eq!(tiering::expired(tx, &region(), Timestamp(8))?, []);
        let due = tiering::expired(tx, &region(), Timestamp(9))?;
        assert_eq!(due.len(), 1);
        assert!(tiering::expire(tx, &due[0], Timestamp(9))?);
        assert!(!tiering::expire(tx, &due[0], Timestamp(9))?, "once");
        assert!(now(tx)?.is_archived());

        let row = now(tx)?;
        let third = tiering::begin(tx, &row, PermanentRestore, None, Timestamp(10))?;
        assert_eq!((first.number, second.number, third.number), (1, 2, 3));
        assert!(!tiering::set_archived(tx, &first, &[7], Timestamp(10))?, "another move");
        assert!(tiering::set_failed(tx, &third, "why")?);
        let failed = tiering::get(tx, &region(), &row.id)?.unwrap();
        assert_eq!(failed.state(), "permanent-restore-failed");
        assert_eq!(failed.archive_root, Some(vec![3]));
        let fourth = tiering::begin(tx, &row, PermanentRestore, None, Timestamp(11))?;
        assert!(tiering::set_restored(tx, &fourth, &[8], None, Timestamp(12))?);
        assert_eq!(live(tx)?, (vec![vec![8]], vec![]));
        let row = now(tx)?;
        snapshot::delete(tx, &row)?;
        assert_eq!(tiering::get(tx, &region(), &row.id)?, None);
        assert_eq!(noted(tx, Standard)?, [[1], [5], [6], [8]]);
        assert_eq!(noted(tx, Archive)?, [[2], [3], [4], [7]]);
        Ok(())
    })
    .await;
}

/// How an account sees a snapshot: by itself, and in a list with one that it does not see.
fn visibility_of(tx: &mut Tx<'_>, row: &Snapshot, account: &AccountId) -> ebs::Result<Visibility> {
    let alone = permission::visibility_for(tx, row, account)?;
    let id = SnapshotId::parse("snap-00000002").unwrap();
    let hidden = Snapshot { id, delete_requested: true, ..snapshot() };
    let listed = permission::all_seen(tx, &region(), vec![hidden, row.clone()], account)?;
    let in_list = match listed.as_slice() {
        [] => Visibility::Hidden,
        [one] => {
            assert_eq!((&one.snapshot, &one.permissions), (row, &permission::get(tx, row)?));
            one.visibility
        }
        more => panic!("{} are seen", more.len()),
    };
    assert_eq!(alone, in_list);
    Ok(alone)
}

#[tokio::test]
async fn shares_decide_who_sees_and_the_guard_who_deletes() {
    with_rows(|tx| {
        let shared = snapshot();
        snapshot::insert(tx, &shared)?;
        let (region, id) = (region(), shared.id.clone());
        assert_eq!(visibility_of(tx, &shared, &other())?, Visibility::Hidden);
        let refused = deletion::find(tx, &region, &id, &other())?.unwrap_err();
        assert_eq!(refused.to_string(), "The snapshot 'snap-00000001' does not exist.");

        assert!(permission::add(tx, &shared, other().as_str())?);
        assert!(!permission::add(tx, &shared, other().as_str())?);
        assert_eq!(visibility_of(tx, &shared, &other())?, Visibility::Shared);
        assert_eq!(snapshot::list_granted(tx, &region, other().as_str())?.len(), 1);
        let seen = deletion::find(tx, &region, &id, &other())?.unwrap();
        assert_eq!(deletion::guard(&seen, &other()), Err(deletion::DeletionRefused::NotOwner));
        assert_eq!(deletion::guard(&seen, &owner()), Ok(()));

        permission::remove(tx, &shared, other().as_str())?;
        permission::add(tx, &shared, permission::GROUP_ALL)?;
        assert_eq!(visibility_of(tx, &shared, &other())?, Visibility::Public);
        let block =
            Settings { public_access_block: PublicAccessBlock::AllSharing, ..Settings::default() };
        settings::put(tx, &owner(), &region, &block)?;
        assert_eq!(settings::get(tx, &owner(), &region)?, block);
        assert_eq!(visibility_of(tx, &shared, &other())?, Visibility::Hidden);
        assert!(permission::get(tx, &shared)?.public, "the attribute still says all");
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn a_token_answers_the_same_request_and_no_other() {
    with_rows(|tx| {
        let (account, region) = (owner(), region());
        let scope = TokenScope { account: &account, region: &region, operation: "CreateVolume" };
        let now = Timestamp(100_000_000);
        let mut claim = |digest: &str, id: &str, at: Timestamp| {
            client_token::claim(tx, scope, "t", digest, id, at)
        };
        let repeated = Claim::Repeated { resource_id: "vol-1".to_owned() };
        assert_eq!(claim("a", "vol-1", now)?, Claim::New);
        assert_eq!(claim("a", "vol-2", now)?, repeated);
        assert_eq!(claim("b", "vol-3", now)?, Claim::Mismatch);
        let almost = now.plus_seconds(12 * 3600 - 1);
        assert_eq!(claim("a", "vol-4", almost)?, repeated);
        assert_eq!(claim("b", "vol-5", now.plus_seconds(12 * 3600))?, Claim::New);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn tags_are_limited_and_replaced() {
    with_rows(|tx| {
        let (account, region) = (owner(), region());
        let many: Vec<tag::Tag> = (0..50).map(|n| (format!("k{n:02}"), "v".to_owned())).collect();
        tag::set(tx, &account, &region, "vol-1", &many)?.unwrap();
        let extra = [("k99".to_owned(), "v".to_owned())];
        assert_eq!(tag::set(tx, &account, &region, "vol-1", &extra)?, Err(tag::TagError::TooMany));
        let replace = [("k00".to_owned(), "w".to_owned())];
        tag::set(tx, &account, &region, "vol-1", &replace)?.unwrap();
        assert_eq!(tag::of_resource(tx, &account, &region, "vol-1")?[0].1, "w");

        let removal = |key: &str, value: Option<&str>| TagRemoval {
            key: key.to_owned(),
            value: value.map(str::to_owned),
        };
        let removals = [removal("k00", Some("v")), removal("k01", None), removal("none", None)];
        tag::remove(tx, &account, &region, "vol-1", &removals)?;
        let left = tag::of_resource(tx, &account, &region, "vol-1")?;
        assert_eq!(left.len(), 49, "k00 has another value and stays");
        assert_eq!(tag::list(tx, &other(), &region)?, []);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn one_device_name_holds_one_volume() {
    with_rows(|tx| {
        let instance_id = InstanceId::parse("i-00000001").unwrap();
        let machine = instance::Instance {
            id: instance_id.clone(),
            account: owner(),
            region: region(),
            zone: "us-east-1a".to_owned(),
            name: Some("db".to_owned()),
            created: Timestamp(5),
        };
        instance::insert(tx, &machine)?;
        assert_eq!(instance::list(tx, &owner(), &region())?, std::slice::from_ref(&machine));
        assert_eq!(instance::get(tx, &other(), &region(), &instance_id)?, None);

        let attachment = |volume: &str, device: &str| Attachment {
            account: owner(),
            region: region(),
            volume: VolumeId::parse(volume).unwrap(),
            instance: instance_id.clone(),
            device: device.to_owned(),
            state: AttachmentState::Attaching,
            attached: Timestamp(6),
            delete_on_termination: false,
            grant_id: None,
            impaired: None,
        };
        let first = attachment("vol-00000001", "/dev/sdf");
        assert!(attachment::insert(tx, &first)?);
        assert!(!attachment::insert(tx, &attachment("vol-00000002", "/dev/sdf"))?);
        assert!(!attachment::insert(tx, &attachment("vol-00000001", "/dev/sdg"))?);
        assert!(attachment::insert(tx, &attachment("vol-00000002", "/dev/sdg"))?);

        let (account, region) = (owner(), region());
        let key = AttachmentKey {
            account: &account,
            region: &region,
            volume: &first.volume,
            instance: &instance_id,
        };
        attachment::set_grant(tx, key, "g1")?;
        attachment::set_impaired(tx, key, Some("no key"))?;
        let (attaching, attached) = (AttachmentState::Attaching, AttachmentState::Attached);
        assert!(attachment::set_state(tx, key, attaching, attached)?);
        assert!(!attachment::set_state(tx, key, attaching, attached)?);
        let row = attachment::of_volume(tx, &account, &region, &first.volume)?.remove(0);
        assert_eq!(row.grant_id.as_deref(), Some("g1"));
        assert_eq!(row.impaired.as_deref(), Some("no key"));
        assert_eq!(row.state, attached);
        assert!(attachment::remove(tx, key)?);
        assert_eq!(attachment::of_instance(tx, &account, &region, &instance_id)?.len(), 1);
        assert_eq!(attachment::list_all(tx)?.len(), 1);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn uploads_end_once_and_expire_when_idle() {
    with_rows(|tx| {
        let started = Timestamp(1_000_000);
        let upload = ebs::upload::Upload {
            account: owner(),
            region: region(),
            snapshot: snapshot().id,
            timeout_minutes: 10,
            active: started,
        };
        ebs::upload::insert(tx, &upload)?;
        let get = |tx: &mut Tx<'_>| ebs::upload::get(tx, &owner(), &region(), &snapshot().id);
        assert_eq!(get(tx)?.as_ref(), Some(&upload));
        assert_eq!(ebs::upload::get(tx, &other(), &region(), &snapshot().id)?, None);
        assert_eq!(ebs::upload::count(tx, &owner(), &region())?, 1);
        assert!(!upload.is_expired(started.plus_seconds(599)));
        assert!(upload.is_expired(started.plus_seconds(600)));

        assert!(!ebs::upload::is_touch_due(&upload, started.plus_seconds(14)));
        let later = started.plus_seconds(15);
        assert!(ebs::upload::is_touch_due(&upload, later));
        assert!(ebs::upload::touch(tx, &upload, later)?);
        let touched = get(tx)?.unwrap();
        assert!(!touched.is_expired(started.plus_seconds(600)));

        assert!(ebs::upload::remove(tx, &upload)?);
        assert!(!ebs::upload::remove(tx, &upload)?);
        assert!(!ebs::upload::touch(tx, &upload, later)?);
        assert_eq!(get(tx)?, None);
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn what_stands_still_is_listed_with_its_cause_until_the_volume_goes() {
    with_rows(|tx| {
        let volume = volume();
        let begun = Initialization {
            account: owner(),
            region: region(),
            volume: volume.id.clone(),
            rate_mib: None,
            progress: 7,
            checkpoint: None,
            started: Timestamp(1),
            completed: None,
            waits_for: None,
            given_up: None,
        };
        initialization::insert(tx, &begun)?;
        initialization::set_waits_for(tx, &region(), &volume.id, "a pack")?;
        let waiting = Initialization { waits_for: Some("a pack".into()), ..begun.clone() };
        assert_eq!(initialization::under_way(tx, &region())?, [waiting]);
        assert!(initialization::advance(tx, &region(), &volume.id, 7, &[1])?);
        let begun = Initialization { checkpoint: Some(vec![1]), ..begun };
        assert_eq!(initialization::under_way(tx, &region())?, std::slice::from_ref(&begun));
        initialization::give_up(tx, &region(), &volume.id, "why")?;
        let given_up = Initialization { given_up: Some("why".into()), ..begun };
        assert_eq!(initialization::under_way(tx, &region())?, [given_up]);
        assert!(initialization::complete(tx, &region(), &volume.id, Timestamp(2))?);
        assert_eq!(initialization::under_way(tx, &region())?, []);
        Ok(())
    })
    .await;
}
