//! Rotation of domain keys.

use crate::world::{block_on, region, world};
use kms::key::Switch;
use kms::rewrap::{Progress, progress};
use kms::spec::EncryptionAlgorithm;
use kms::{EncryptionContext, Key, cipher};
use meta::params;

const SYMMETRIC: EncryptionAlgorithm = EncryptionAlgorithm::SymmetricDefault;

fn numbers(world: &crate::world::World) -> Vec<u32> {
    let tokens = world.db.read_blocking(|tx| {
        tx.query("SELECT token FROM kms_materials ORDER BY material_id", params![])
    });
    let number = |row: &meta::Row| {
        let token: Vec<u8> = row.get(0).unwrap();
        u32::from_be_bytes(token[1..5].try_into().unwrap())
    };
    tokens.unwrap().iter().map(number).collect()
}

#[test]
fn material_moves_to_the_new_domain_key_and_opens_all_along() {
    let world = world();
    let keys: Vec<Key> = (0..250).map(|_| world.key("1", None)).collect();
    let context = EncryptionContext::default();
    let seal = |key: &Key| {
        let (key, context) = (key.clone(), context.clone());
        world.write(move |kms, tx| kms.encrypt(tx, &key, SYMMETRIC, &context, b"text")).unwrap()
    };
    let texts: Vec<_> = keys.iter().map(seal).collect();
    let east = region("us-east-1");
    assert_eq!(block_on(world.kms.rotate_domain_key(&world.db, &east)).unwrap(), 2);
    let fresh = world.key("1", None);
    assert_eq!(numbers(&world).iter().filter(|number| **number == 2).count(), 1, "the fresh one");

    let open = |text: &Vec<u8>| {
        let (text, context, east) = (text.clone(), context.clone(), region("us-east-1"));
        world.write(move |kms, tx| {
            let located = cipher::locate(tx, &east, &text)?;
            kms.decrypt(tx, &located, SYMMETRIC, &context).map(|text| text.expose().clone())
        })
    };
    let mut steps = Vec::new();
    // Each step is durable: a server that is started again goes on from there.
    loop {
        let east = region("us-east-1");
        let Some(step) = world.write(move |kms, tx| kms.rewrap_step(tx, &east)).unwrap() else {
            break;
        };
        for text in &texts {
            assert_eq!(open(text).unwrap(), b"text");
        }
        steps.push(step);
        if steps.last().is_some_and(|step| step.finished) {
            break;
        }
    }
    let looked: Vec<_> = steps.iter().map(|step| step.looked_at).collect();
    assert_eq!(looked, [100, 200, 251]);
    assert!(numbers(&world).iter().all(|number| *number == 2));
    let last = Progress { region: east, number: 2, looked_at: 251, rewrapped: 250, finished: true };
    assert_eq!(world.db.read_blocking(progress).unwrap(), [last]);
    let east = region("us-east-1");
    let more = world.write(move |kms, tx| kms.rewrap_step(tx, &east)).unwrap();
    assert_eq!(more, None, "nothing is left");
    let text = seal(&fresh);
    assert_eq!(open(&text).unwrap(), b"text");
    let key = fresh.clone();
    world.write(move |kms, tx| kms.set_enabled(tx, &key, Switch::Off)).unwrap();
}

#[test]
fn a_server_opens_what_another_sealed_under_a_key_it_has_not_seen() {
    let world = world();
    let other = world.again();
    assert_eq!(block_on(world.kms.rotate_domain_key(&world.db, &region("us-east-1"))).unwrap(), 2);
    let key = world.key("1", None);
    let context = EncryptionContext::default();
    let text =
        world.db.write_blocking(move |tx| other.encrypt(tx, &key, SYMMETRIC, &context, b"text"));
    assert!(text.is_ok());
}

#[test]
fn only_regions_that_are_served_rotate() {
    let world = world();
    let error = block_on(world.kms.rotate_domain_key(&world.db, &region("eu-north-1")));
    assert!(error.unwrap_err().to_string().contains("eu-north-1 is not served"));
}
