//! What may happen to the material of which key.

use crate::world::{World, account, region, world};
use base::{OsRng, Timestamp};
use iam::{Context, Principal};
use kms::key::{LockoutCheck, NewKey, PolicyWriter};
use kms::spec::{KeySpec, KeyUsage, Kind};
use kms::{Error, Key, KeyOrigin, KeyState, MaterialId, NewMaterial, import, rotation, version};
use meta::params;

fn key(world: &World, material: NewMaterial) -> Key {
    let made = world.write(move |kms, tx| {
        let owner = account("1");
        kms.create_key(
            tx,
            &NewKey {
                account: &owner,
                region: &region("us-east-1"),
                material: &material,
                description: "",
                tags: &[],
                policy: None,
                multi_region: None,
                writer: PolicyWriter {
                    principal: &Principal::root(&owner),
                    context: &Context::new(),
                    lockout: LockoutCheck::Bypassed,
                },
            },
        )
    });
    made.unwrap()
}

fn kind(spec: KeySpec, usage: KeyUsage) -> Kind {
    Kind::new(spec, usage).unwrap()
}

#[test]
fn origin_and_kind_say_what_can_be_done() {
    let world = world();
    let here = |kind| NewMaterial::generate(kind, &OsRng).unwrap();
    let hmac = kind(KeySpec::Hmac256, KeyUsage::GenerateVerifyMac);
    let pair = kind(KeySpec::EccNistP256, KeyUsage::SignVerify);
    let on_token = NewMaterial::on_token(MaterialId::generate(&OsRng));
    // Rotates on a schedule, rotates at all, takes imports.
    for (material, on_schedule, on_demand, imports) in [
        (here(Kind::SYMMETRIC), true, true, false),
        (NewMaterial::awaited(Kind::SYMMETRIC), false, true, true),
        (on_token, false, false, false),
        (here(hmac), false, false, false),
        (NewMaterial::awaited(hmac), false, false, true),
        (here(pair), false, false, false),
        (NewMaterial::awaited(pair), false, false, true),
    ] {
        let key = key(&world, material);
        let what = format!("{} {}", key.origin.as_str(), key.kind.spec());
        let checks = [
            (rotation::check_made_here(&key), on_schedule),
            (rotation::check_rotatable(&key), on_demand),
            (import::check_importable(&key), imports),
        ];
        for (check, expected) in checks {
            match check {
                Ok(()) => assert!(expected, "{what}"),
                Err(Error::Unsupported { .. }) => assert!(!expected, "{what}"),
                Err(other) => panic!("{what}: {other}"),
            }
        }
        let waits = key.origin == KeyOrigin::External;
        assert_eq!(key.state == KeyState::PendingImport, waits, "{what}");
    }
}

#[test]
fn keys_in_stores_of_earlier_releases_get_their_origin() {
    let world = world();
    let plain = world.key("1", None);
    let stored = key(&world, NewMaterial::on_token(MaterialId::generate(&OsRng)));
    let row = stored.clone();
    let made = world.write(move |_, tx| {
        tx.execute("UPDATE kms_keys SET origin = 'AWS_KMS' WHERE key_id = $1", params![&row.id])?;
        tx.execute(
            "INSERT INTO kms_store_keys (account_id, region, key_id, store_id) \
             VALUES ($1, $2, $3, 'cks-1')",
            params![&row.account, &row.region, &row.id],
        )?;
        Ok(())
    });
    made.unwrap();
    assert_eq!(world.reload(&stored).unwrap().origin, KeyOrigin::AwsKms);
    world.again();
    assert_eq!(world.reload(&stored).unwrap().origin, KeyOrigin::AwsCloudHsm);
    assert_eq!(world.reload(&plain).unwrap().origin, KeyOrigin::AwsKms);
}

#[test]
fn a_service_key_of_an_earlier_release_gets_its_schedule() {
    let world = world();
    let (owner, east) = (account("1"), region("us-east-1"));
    let key = world.write(move |kms, tx| kms.ebs_managed_key(tx, &owner, &east)).unwrap();
    let id = key.id.clone();
    let forgotten = world.write(move |_, tx| {
        tx.execute(
            "UPDATE kms_keys SET rotation_days = NULL, next_rotation_at = NULL WHERE key_id = $1",
            params![&id],
        )?;
        Ok(())
    });
    forgotten.unwrap();
    assert_eq!(world.reload(&key).unwrap().rotation, None);
    world.again();
    assert_eq!(world.reload(&key).unwrap(), key);
}

#[test]
fn a_rotation_adds_a_version_and_keeps_the_others() {
    let world = world();
    let key = world.key("1", None);
    let target = key.clone();
    let rotated = world.write(move |kms, tx| kms.rotate_on_demand(tx, &target)).unwrap();
    let now = world.reload(&key).unwrap();
    assert_eq!(now.material_id, rotated.current);
    assert_ne!(now.material_id, key.material_id);
    let of = now.clone();
    let versions = world.write(move |_, tx| version::all(tx, &of)).unwrap();
    assert_eq!(versions.iter().map(|v| v.number).collect::<Vec<_>>(), [1, 2]);
    assert!(versions.iter().all(|version| version.is_present && !version.is_pending()));
    let at: Option<Timestamp> = versions[1].rotated.map(|(at, _)| at);
    assert_eq!(at, Some(crate::world::START));
}
