//! Attachments at machines that open their volumes themselves.

use super::{HERE, Stage};
use crate::Service;
use crate::testing::{account, region};
use base::{InstanceId, VolumeId};
use ebs::{AttachmentKey, AttachmentState};
use iam::Principal;
use lifecycle::port::host::{AttachHost, LEASE_SECONDS_MAX};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Stage {
    /// Registers a machine of account 111… that attaches its volumes itself.
    async fn own_machine(&self, name: &str) -> Principal {
        let id = InstanceId::parse(&self.host(1, HERE, name).await).unwrap();
        let wanted = id.clone();
        let set = move |tx: &mut meta::Tx<'_>| {
            let row = ebs::instance::get(tx, &account(1), &region(HERE), &wanted)?;
            ebs::instance::set_remote(tx, &row.expect("it was just registered"))
        };
        self.bench.world.db.write(set).await.unwrap();
        identity::host_principal(&account(1), &id)
    }

    /// A call of Strongroom's own by a machine, or by whoever else.
    async fn ask(&self, who: &Principal, name: &str, input: Value) -> Result<Value, String> {
        self.try_as(who.clone(), HERE, Service::Strongroom, name, input).await
    }

    async fn attachment(&self, volume: &str) -> Value {
        self.describe_volume(1, HERE, volume).await["Attachments"][0]["State"].clone()
    }
}

/// An encrypted volume of the key, attached to the machine, which has not opened it.
async fn attached_to_a_machine() -> (Stage, String, Principal, String) {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let machine = stage.own_machine("a").await;
    let volume = stage.encrypted(&key).await;
    stage.attach(1, HERE, &volume, instance(&machine)).await;
    (stage, key, machine, volume)
}

fn instance(machine: &Principal) -> &str {
    machine.arn.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn the_machine_an_attachment_names_opens_it_and_nobody_else() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let (machine, other) = (stage.own_machine("a").await, stage.own_machine("b").await);
    let volume: String = stage.encrypted(&key).await;
    let input = json!({ "VolumeId": volume });
    stage.attach(1, HERE, &volume, instance(&machine)).await;
    assert_eq!(stage.attachment(&volume).await, "attaching");
    assert_eq!(stage.grants(1, HERE, &key).await, 1);
    for stranger in [other, Principal::root(&account(1)), Principal::root(&account(2))] {
        let error = stage.ask(&stranger, "OpenAttachment", input.clone()).await.unwrap_err();
        assert!(error.starts_with("AttachmentNotFoundException"), "{error}");
    }

    let opened = stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap();
    assert_eq!((&opened["Epoch"], &opened["Device"]), (&json!(1), &json!("/dev/sdf")));
    assert_eq!(opened["KmsKeyId"], json!(key));
    assert!(!stage.bench.host.has(&volume), "the server did not open it");
    // The key is unwrapped on the grant, with the context and the machine it was made for.
    let wrapped = opened["WrappedKey"].as_array().unwrap();
    let wrapped: Vec<u8> = wrapped.iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
    let decrypt = |who: &Principal, context: Value| {
        let (call, wrapped) = (stage.bench.call(who.clone(), HERE), wrapped.clone());
        async move {
            use awsproto::{Blob, Fields, Value as Wire};
            let mut fields = Fields::default();
            fields.push("CiphertextBlob", Wire::Blob(Blob::from(&wrapped[..])));
            let pairs = context.as_object().unwrap().iter();
            let pairs = pairs.map(|(k, v)| (k.clone(), Wire::String(v.as_str().unwrap().into())));
            fields.push("EncryptionContext", Wire::Map(pairs.collect()));
            let operation = crate::registry::find(Service::Kms, "Decrypt").unwrap();
            operation.run(&call, Wire::Struct(fields)).await.map(drop)
        }
    };
    let context = opened["EncryptionContext"].clone();
    decrypt(&machine, context.clone()).await.unwrap();
    let stranger = stage.own_machine("c").await;
    assert_eq!(decrypt(&stranger, context).await.unwrap_err().code(), "AccessDeniedException");

    let at = |epoch: i64| json!({ "VolumeId": volume, "Epoch": epoch });
    stage.ask(&machine, "CompleteAttachment", at(1)).await.unwrap();
    assert_eq!(stage.attachment(&volume).await, "attached");
    stage.ask(&machine, "ResumeAttachment", at(1)).await.unwrap();

    // Opening it again fences the opening before.
    let again = stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap();
    assert_eq!(again["Epoch"], json!(2));
    for name in ["ResumeAttachment", "CompleteAttachment"] {
        let error = stage.ask(&machine, name, at(1)).await.unwrap_err();
        assert!(error.starts_with("FencedException"), "{error}");
    }
    stage.ec2("DetachVolume", input.clone()).await;
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
    assert_eq!(stage.grants(1, HERE, &key).await, 0, "no grant stays");
    let error = stage.ask(&machine, "ResumeAttachment", at(2)).await.unwrap_err();
    assert!(error.starts_with("AttachmentNotFoundException"), "{error}");
}

#[tokio::test]
async fn an_opening_waits_until_the_one_before_has_stopped_unless_forced() {
    let (stage, _, machine, volume) = attached_to_a_machine().await;
    let open = json!({ "VolumeId": volume });
    let at = |epoch: i64| json!({ "VolumeId": volume, "Epoch": epoch });
    stage.ask(&machine, "OpenAttachment", open.clone()).await.unwrap();
    stage.bench.host.machine_connects(&volume);
    stage.ask(&machine, "CompleteAttachment", at(1)).await.unwrap();

    let held = stage.ask(&machine, "OpenAttachment", open.clone()).await.unwrap_err();
    assert!(held.starts_with("AttachmentHeldException"), "{held}");
    // It goes on under its epoch, and may connect to write out.
    stage.ask(&machine, "ResumeAttachment", at(1)).await.unwrap();
    stage.bench.host.machine_stops(&volume);
    let opened = stage.ask(&machine, "OpenAttachment", open).await.unwrap();
    assert_eq!(opened["Epoch"], json!(2));

    stage.bench.host.machine_connects(&volume);
    let forced = json!({ "VolumeId": volume, "Force": true });
    let opened = stage.ask(&machine, "OpenAttachment", forced).await.unwrap();
    assert_eq!(opened["Epoch"], json!(3));
    let fenced = stage.ask(&machine, "ResumeAttachment", at(2)).await.unwrap_err();
    assert!(fenced.starts_with("FencedException"), "{fenced}");
}

/// Of two openings at once the later one leaves the earlier one its epoch.
#[tokio::test]
async fn an_opening_that_is_overtaken_fences_nobody() {
    let (stage, _, machine, volume) = attached_to_a_machine().await;
    let open = json!({ "VolumeId": volume });
    stage.ask(&machine, "OpenAttachment", open.clone()).await.unwrap();
    let id = VolumeId::parse(&volume).unwrap();
    let (db, host) = (&stage.bench.world.db, &stage.bench.host);
    let overtaken = async |input: Value| {
        host.machine_connects(&volume);
        let overtakes = async {
            while !host.is_waited_for() {
                tokio::task::yield_now().await;
            }
            let id = id.clone();
            let raise = move |tx: &mut meta::Tx<'_>| ebs::fence::raise(tx, &region(HERE), &id);
            let epoch = db.write(raise).await.unwrap();
            host.machine_stops(&volume);
            epoch
        };
        tokio::join!(stage.ask(&machine, "OpenAttachment", input), overtakes)
    };
    let (held, epoch) = overtaken(open.clone()).await;
    let held = held.unwrap_err();
    assert!(held.starts_with("AttachmentHeldException"), "{held}");
    let current = move |tx: &mut meta::Tx<'_>| ebs::fence::current(tx, &region(HERE), &id);
    assert_eq!(db.read(current).await.unwrap(), epoch, "the other one is fenced");
    let opened = stage.ask(&machine, "OpenAttachment", open).await.unwrap();
    assert_eq!(opened["Epoch"], json!(epoch + 1));
}

/// An opening that has raised the epoch is not fenced by another before the volume is its own.
#[tokio::test]
async fn openings_of_a_volume_come_one_after_the_other() {
    let (stage, _, machine, volume) = attached_to_a_machine().await;
    let open = json!({ "VolumeId": volume });
    let db = &stage.bench.world.db;
    let id = VolumeId::parse(&volume).unwrap();
    let current = || {
        let id = id.clone();
        db.read(move |tx| ebs::fence::current(tx, &region(HERE), &id))
    };
    let lending = stage.bench.host.lending.lock().await;
    let others = async {
        while current().await.unwrap() == 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(current().await.unwrap(), 1, "the second one waits");
        drop(lending);
    };
    let (first, second, ()) = tokio::join!(
        stage.ask(&machine, "OpenAttachment", open.clone()),
        stage.ask(&machine, "OpenAttachment", open.clone()),
        others
    );
    let mut epochs = [first.unwrap()["Epoch"].clone(), second.unwrap()["Epoch"].clone()];
    epochs.sort_by_key(|epoch| epoch.as_u64());
    assert_eq!(epochs, [json!(1), json!(2)]);
}

/// A volume that is being lent while it is detached comes back.
#[tokio::test]
async fn a_detach_waits_for_an_opening_that_found_the_attachment_standing() {
    let (stage, _, machine, volume) = attached_to_a_machine().await;
    let (db, host) = (&stage.bench.world.db, &stage.bench.host);
    let id = VolumeId::parse(&volume).unwrap();
    let lending = host.lending.lock().await;
    let input = json!({ "VolumeId": volume });
    let detached = async {
        let is_raised = async || {
            let id = id.clone();
            db.read(move |tx| ebs::fence::current(tx, &region(HERE), &id)).await.unwrap() > 0
        };
        while !is_raised().await {
            tokio::task::yield_now().await;
        }
        let lent = async {
            while stage.attachment(&volume).await != "detaching" {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(lending);
        };
        tokio::join!(stage.ec2("DetachVolume", input.clone()), lent);
    };
    // Whatever the machine is told, it is let in nowhere.
    let (_, ()) = tokio::join!(stage.ask(&machine, "OpenAttachment", input.clone()), detached);
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
    assert!(host.ticket(&region(HERE), &id, 1).unwrap().is_none(), "it is still lent");
}

#[tokio::test]
async fn a_restart_keeps_volumes_for_their_machines() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let machine = stage.own_machine("a").await;
    let (open, begun) = (stage.encrypted(&key).await, stage.encrypted(&key).await);
    stage.attach(1, HERE, &open, instance(&machine)).await;
    let input =
        json!({ "VolumeId": begun, "InstanceId": instance(&machine), "Device": "/dev/sdg" });
    stage.ec2("AttachVolume", input).await;
    for volume in [&open, &begun] {
        let input = json!({ "VolumeId": volume });
        stage.ask(&machine, "OpenAttachment", input).await.unwrap();
    }
    let at = |volume: &str| json!({ "VolumeId": volume, "Epoch": 1 });
    stage.ask(&machine, "CompleteAttachment", at(&open)).await.unwrap();

    stage.bench.host.forget_all();
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    lifecycle::workflow::recover(&services).await.unwrap();
    assert!(!stage.bench.host.has(&open), "it is kept for its machine");
    stage.ask(&machine, "ResumeAttachment", at(&open)).await.unwrap();
    // So is what had not been reported: its machine may serve it already.
    stage.ask(&machine, "ResumeAttachment", at(&begun)).await.unwrap();
    let input = json!({ "VolumeId": begun });
    let held = stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap_err();
    assert!(held.starts_with("AttachmentHeldException"), "{held}");
    stage.ask(&machine, "CompleteAttachment", at(&begun)).await.unwrap();
    assert_eq!(stage.attachment(&begun).await, "attached");
    stage.bench.host.machine_stops(&begun);
    let again = stage.ask(&machine, "OpenAttachment", input).await.unwrap();
    assert_eq!(again["Epoch"], json!(2));
}

#[tokio::test]
async fn a_restart_before_a_machine_came_keeps_nothing() {
    let (stage, _, machine, volume) = attached_to_a_machine().await;
    stage.bench.host.forget_all();
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    lifecycle::workflow::recover(&services).await.unwrap();
    let input = json!({ "VolumeId": volume });
    stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap();

    // Nor where the volume was opened at an attachment before.
    stage.ec2("DetachVolume", input.clone()).await;
    stage.attach(1, HERE, &volume, instance(&machine)).await;
    stage.bench.host.forget_all();
    lifecycle::workflow::recover(&services).await.unwrap();
    stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap();

    // One whose machine never comes is detached as well.
    stage.ec2("DetachVolume", input).await;
    assert_eq!(stage.describe_volume(1, HERE, &volume).await["State"], "available");
}

/// One tenant's damaged volume is no reason to serve nobody.
#[tokio::test]
async fn a_restart_goes_on_without_a_volume_that_cannot_be_lent() {
    let (mut stage, key, machine, damaged) = attached_to_a_machine().await;
    let whole = stage.encrypted(&key).await;
    let input =
        json!({ "VolumeId": whole, "InstanceId": instance(&machine), "Device": "/dev/sdg" });
    stage.ec2("AttachVolume", input).await;
    for volume in [&damaged, &whole] {
        stage.ask(&machine, "OpenAttachment", json!({ "VolumeId": volume })).await.unwrap();
    }
    let id = VolumeId::parse(&damaged).unwrap();
    stage.bench.host.damaged.lock().unwrap().insert(id.clone());

    stage.bench.host.forget_all();
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    lifecycle::workflow::recover(&services).await.unwrap();
    let at = |volume: &str| json!({ "VolumeId": volume, "Epoch": 1 });
    stage.ask(&machine, "ResumeAttachment", at(&whole)).await.unwrap();
    let rows = |id: VolumeId| {
        move |tx: &mut meta::Tx<'_>| ebs::attachment::of_volume(tx, &account(1), &region(HERE), &id)
    };
    let row = stage.bench.world.db.read(rows(id.clone())).await.unwrap().remove(0);
    assert!(row.impaired.is_some(), "nobody is told");
    // Its machine may have it: another opening waits as it would for one that is lent.
    let input = json!({ "VolumeId": damaged });
    let held = stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap_err();
    assert!(held.starts_with("AttachmentHeldException"), "{held}");
    stage.bench.host.damaged.lock().unwrap().clear();
    stage.bench.host.machine_stops(&damaged);
    stage.ask(&machine, "OpenAttachment", input).await.unwrap();
    let opened = json!({ "VolumeId": damaged, "Epoch": 2 });
    stage.ask(&machine, "CompleteAttachment", opened).await.unwrap();
    let row = stage.bench.world.db.read(rows(id)).await.unwrap().remove(0);
    assert!(row.impaired.is_none());
}

#[tokio::test]
async fn a_restart_in_a_detachment_waits_for_the_machine_as_before() {
    let (stage, key, machine, volume) = attached_to_a_machine().await;
    stage.ask(&machine, "OpenAttachment", json!({ "VolumeId": volume })).await.unwrap();
    let at = json!({ "VolumeId": volume, "Epoch": 1 });
    stage.ask(&machine, "CompleteAttachment", at.clone()).await.unwrap();
    // The server ends after the row says so, while the machine writes out.
    let (id, host) = (VolumeId::parse(&volume).unwrap(), instance(&machine).to_owned());
    let begin = move |tx: &mut meta::Tx<'_>| {
        let instance = InstanceId::parse(&host).unwrap();
        let (account, region) = (&account(1), &region(HERE));
        let key = AttachmentKey { account, region, volume: &id, instance: &instance };
        let (from, to) = (AttachmentState::Attached, AttachmentState::Detaching);
        ebs::attachment::set_state(tx, key, from, to)
    };
    assert!(stage.bench.world.db.write(begin).await.unwrap());

    stage.bench.host.forget_all();
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    lifecycle::workflow::recover(&services).await.unwrap();
    stage.ask(&machine, "ResumeAttachment", at.clone()).await.unwrap();
    assert_eq!(stage.attachment(&volume).await, "detaching");
    let opened = stage.ask(&machine, "OpenAttachment", json!({ "VolumeId": volume })).await;
    assert!(opened.unwrap_err().starts_with("FencedException"));
    stage.ask(&machine, "ResumeAttachment", at).await.unwrap();

    stage.bench.host.machine_stops(&volume);
    let available = async {
        while stage.describe_volume(1, HERE, &volume).await["State"] != "available" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), available).await.unwrap();
    assert_eq!(stage.grants(1, HERE, &key).await, 0, "no grant stays");
}

#[tokio::test]
async fn a_lease_is_waited_for_as_long_as_it_was_granted() {
    let (stage, _, machine, volume) = attached_to_a_machine().await;
    let open = json!({ "VolumeId": volume });
    let at = |epoch: i64| json!({ "VolumeId": volume, "Epoch": epoch });
    let host = std::sync::Arc::clone(&stage.bench.host);
    let services = std::sync::Arc::clone(&stage.bench.world.services);
    let held_after_restart = async || {
        host.forget_all();
        lifecycle::workflow::recover(&services).await.unwrap();
        host.held_ms.swap(0, Ordering::SeqCst)
    };
    host.lease_ms.store(300_000, Ordering::SeqCst);
    stage.ask(&machine, "OpenAttachment", open.clone()).await.unwrap();
    stage.ask(&machine, "CompleteAttachment", at(1)).await.unwrap();

    // Made shorter: what was granted before may run on, also over a second restart.
    host.lease_ms.store(20_000, Ordering::SeqCst);
    assert_eq!(held_after_restart().await, 300_000);
    assert_eq!(held_after_restart().await, 300_000);
    host.machine_stops(&volume);
    stage.ask(&machine, "OpenAttachment", open).await.unwrap();
    stage.ask(&machine, "CompleteAttachment", at(2)).await.unwrap();
    assert_eq!(held_after_restart().await, 20_000);
    host.lease_ms.store(60_000, Ordering::SeqCst);
    assert_eq!(held_after_restart().await, 60_000);

    // An earlier release noted nothing.
    let forget = |tx: &mut meta::Tx<'_>| {
        tx.execute("UPDATE ebs_fences SET lease_ms = NULL", meta::params![])
    };
    stage.bench.world.db.write(forget).await.unwrap();
    assert_eq!(held_after_restart().await, LEASE_SECONDS_MAX * 1000);
}

#[tokio::test]
async fn a_machine_that_is_refused_the_key_ends_a_new_attachment_and_keeps_a_standing_one() {
    let mut stage = Stage::new().await;
    let key = stage.key(1, HERE).await;
    let machine = stage.own_machine("a").await;
    let volume = stage.encrypted(&key).await;
    let input = json!({ "VolumeId": volume });
    let refused =
        |epoch: i64| json!({ "VolumeId": volume, "Epoch": epoch, "Outcome": "key-refused" });
    let state =
        async |stage: &Stage| stage.describe_volume(1, HERE, &volume).await["State"].clone();
    stage.attach(1, HERE, &volume, instance(&machine)).await;
    stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap();

    // KMS would not refuse: the machine may try again.
    stage.ask(&machine, "CompleteAttachment", refused(1)).await.unwrap();
    assert_eq!(stage.attachment(&volume).await, "attaching");
    assert!(stage.events(1, HERE).await.iter().all(|event| !event.starts_with("attachVolume")));

    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    let stale = stage.ask(&machine, "CompleteAttachment", refused(7)).await.unwrap_err();
    assert!(stale.starts_with("FencedException"), "{stale}");
    stage.ask(&machine, "CompleteAttachment", refused(1)).await.unwrap();
    assert_eq!(state(&stage).await, "available");
    let failed = format!("attachVolume failed {key} is disabled.");
    assert_eq!(stage.events(1, HERE).await.iter().filter(|told| **told == failed).count(), 1);
    let gone = stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap_err();
    assert!(gone.starts_with("AttachmentNotFoundException"), "{gone}");

    // One that was attached before stays, as one of this server's does after a restart.
    stage.kms(1, HERE, "EnableKey", json!({ "KeyId": key })).await;
    assert_eq!(stage.grants(1, HERE, &key).await, 0, "no grant stays");
    stage.attach(1, HERE, &volume, instance(&machine)).await;
    stage.ask(&machine, "OpenAttachment", input.clone()).await.unwrap();
    let opened = json!({ "VolumeId": volume, "Epoch": 2 });
    stage.ask(&machine, "CompleteAttachment", opened).await.unwrap();
    stage.kms(1, HERE, "DisableKey", json!({ "KeyId": key })).await;
    stage.ask(&machine, "OpenAttachment", input).await.unwrap();
    stage.ask(&machine, "CompleteAttachment", refused(3)).await.unwrap();
    assert_eq!(
        (state(&stage).await, stage.attachment(&volume).await),
        (json!("in-use"), json!("attached"))
    );
    let again = format!("reattachVolume failed {key} is disabled.");
    assert!(stage.events(1, HERE).await.contains(&again));
}
