//! Ciphertexts over stored keys.

use crate::world::{World, account, block_on, region, world};
use base::{OsRng, SystemClock};
use kms::cipher::{self, check_algorithm, check_data_key_length, check_plaintext};
use kms::seal::{Provider, Root};
use kms::spec::{EncryptionAlgorithm, Kind};
use kms::{Config, EncryptionContext, Error, Key, Kms, StartError};
use std::sync::Arc;

const SYMMETRIC: EncryptionAlgorithm = EncryptionAlgorithm::SymmetricDefault;

fn encrypt(
    world: &World,
    key: &Key,
    context: &EncryptionContext,
    plaintext: &[u8],
) -> Result<Vec<u8>, Error> {
    let (key, context, plaintext) = (key.clone(), context.clone(), plaintext.to_vec());
    world.write(move |kms, tx| kms.encrypt(tx, &key, SYMMETRIC, &context, &plaintext))
}

fn decrypt(
    world: &World,
    in_region: &str,
    context: &EncryptionContext,
    ciphertext: &[u8],
) -> Result<(Key, Vec<u8>), Error> {
    let (context, ciphertext, place) = (context.clone(), ciphertext.to_vec(), region(in_region));
    world.write(move |kms, tx| {
        let located = cipher::locate(tx, &place, &ciphertext)?;
        let plaintext = kms.decrypt(tx, &located, SYMMETRIC, &context)?;
        Ok((located.key, plaintext.expose().clone()))
    })
}

#[test]
fn a_ciphertext_finds_its_key() {
    let world = world();
    let (one, two) = (world.key("1", None), world.key("2", None));
    let context = EncryptionContext::ebs("vol-0123456789abcdef0");
    for key in [&one, &two] {
        let ciphertext = encrypt(&world, key, &context, b"hello").unwrap();
        let (found, plaintext) = decrypt(&world, "us-east-1", &context, &ciphertext).unwrap();
        assert_eq!((&found, &plaintext[..]), (key, &b"hello"[..]));
        let none = EncryptionContext::default();
        for wrong in [
            decrypt(&world, "us-east-1", &none, &ciphertext),
            decrypt(&world, "eu-west-1", &context, &ciphertext),
            decrypt(&world, "us-east-1", &context, &ciphertext[1..]),
            decrypt(&world, "us-east-1", &context, b""),
        ] {
            assert!(matches!(wrong, Err(Error::InvalidCiphertext)));
        }
    }
}

#[test]
fn re_encrypt_moves_a_data_key_to_another_key_and_context() {
    let world = world();
    let (one, two) = (world.key("1", None), world.key("2", None));
    let (volume, snapshot) = (EncryptionContext::ebs("vol-a"), EncryptionContext::ebs("snap-b"));
    let (from, to) = (volume.clone(), snapshot.clone());
    let (source, target) = (one.clone(), two.clone());
    let (data_key, moved) = world
        .write(move |kms, tx| {
            let data_key = kms.generate_data_key(tx, &source, &from, 64)?;
            let located = cipher::locate(tx, &source.region, &data_key.ciphertext)?;
            let moved =
                kms.re_encrypt(tx, (&located, SYMMETRIC, &from), (&target, SYMMETRIC, &to))?;
            Ok((data_key, moved))
        })
        .unwrap();
    assert_eq!(data_key.plaintext.expose().len(), 64);
    assert_eq!(data_key.ciphertext.len(), 220);
    let (key, plaintext) = decrypt(&world, "us-east-1", &snapshot, &moved).unwrap();
    assert_eq!((key, &plaintext), (two, data_key.plaintext.expose()));
    let (key, plaintext) = decrypt(&world, "us-east-1", &volume, &data_key.ciphertext).unwrap();
    assert_eq!((key, &plaintext), (one, data_key.plaintext.expose()));
}

#[test]
fn sizes_and_algorithms() {
    let world = world();
    let key = world.key("1", None);
    let none = EncryptionContext::default();
    assert!(encrypt(&world, &key, &none, &[1; 4096]).is_ok());
    for size in [0, 4097] {
        let result = check_plaintext(&vec![1; size]);
        assert!(matches!(result, Err(Error::Validation { .. })), "{size}");
    }
    for (spec, number, expected) in [
        (Some("AES_128"), None, Some(16)),
        (Some("AES_256"), None, Some(32)),
        (None, Some(64), Some(64)),
        (None, Some(1024), Some(1024)),
        (None, Some(0), None),
        (None, Some(1025), None),
        (None, Some(-1), None),
        (Some("AES_512"), None, None),
        (Some("AES_256"), Some(32), None),
        (None, None, None),
    ] {
        assert_eq!(check_data_key_length(spec, number).ok(), expected, "{spec:?} {number:?}");
    }
    assert!(check_algorithm(Kind::SYMMETRIC, SYMMETRIC).is_ok());
    assert!(matches!(
        check_algorithm(Kind::SYMMETRIC, EncryptionAlgorithm::RsaesOaepSha256),
        Err(Error::InvalidKeyUsage { .. })
    ));
}

#[test]
fn a_destroyed_key_takes_its_ciphertexts_along() {
    let world = world();
    let key = world.key("1", None);
    let none = EncryptionContext::default();
    let ciphertext = encrypt(&world, &key, &none, b"x").unwrap();
    let target = key.clone();
    world.write(move |kms, tx| kms.schedule_deletion(tx, &target, 7)).unwrap();
    assert!(
        decrypt(&world, "us-east-1", &none, &ciphertext).is_ok(),
        "state is the caller's check"
    );
    world.clock.advance_seconds(7 * 86_400);
    world.write(|kms, tx| kms.destroy_expired(tx, 1)).unwrap();
    assert!(matches!(
        decrypt(&world, "us-east-1", &none, &ciphertext),
        Err(Error::InvalidCiphertext)
    ));
}

#[test]
fn material_moved_to_another_key_does_not_open() {
    let world = world();
    let (one, two) = (world.key("1", None), world.key("1", None));
    let none = EncryptionContext::default();
    let ciphertext = encrypt(&world, &one, &none, b"x").unwrap();
    // Someone with the database in hand gives the second key's row the first key's material.
    let (from, to) = (one.id.clone(), two.id.clone());
    world
        .write(move |_, tx| {
            tx.execute("DELETE FROM kms_materials WHERE key_id = $1", meta::params![&to])?;
            tx.execute(
                "UPDATE kms_materials SET key_id = $2 WHERE key_id = $1",
                meta::params![&from, &to],
            )?;
            Ok(())
        })
        .unwrap();
    assert!(matches!(
        decrypt(&world, "us-east-1", &none, &ciphertext),
        Err(Error::MaterialDamaged { .. })
    ));
}

#[test]
fn a_restart_reads_what_was_written() {
    let world = world();
    let key = world.key("1", None);
    let none = EncryptionContext::default();
    let ciphertext = encrypt(&world, &key, &none, b"still here").unwrap();
    let reopen = |directory: &std::path::Path| {
        let provider = Provider::KeyFile(directory.join("root.key"));
        let (root, _) = Root::open_or_create(directory, &provider, &OsRng).unwrap();
        let config = Config {
            root: Arc::new(root),
            regions: vec![region("us-east-1")],
            clock: Arc::new(SystemClock),
            rng: Arc::new(OsRng),
            directory: world.people.clone(),
            clusters: Default::default(),
        };
        block_on(Kms::open(&world.db, config))
    };
    let again = reopen(world.directory.path()).unwrap();
    let plaintext = world.db.write_blocking(move |tx| {
        let located = cipher::locate(tx, &region("us-east-1"), &ciphertext)?;
        again.decrypt(tx, &located, SYMMETRIC, &EncryptionContext::default())
    });
    assert_eq!(plaintext.unwrap().expose(), b"still here");

    let elsewhere = tempfile::tempdir().unwrap();
    let Err(error) = reopen(elsewhere.path()) else { panic!("another root must be refused") };
    assert!(matches!(error, StartError::OtherRoot { .. }), "{error}");
}

#[test]
fn a_region_that_is_not_served_has_no_keys() {
    let world = world();
    let error = world
        .write(|kms, tx| kms.ebs_managed_key(tx, &account("1"), &region("ap-south-1")))
        .unwrap_err();
    assert!(matches!(error, Error::DomainKeyMissing { .. }), "{error}");
}
