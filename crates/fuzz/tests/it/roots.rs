//! What the root of trust is kept in: backups, seals, and the anchor.

use fuzz::target;
use kms::fuzzing;

/// Records of a backup: a frame holds the first, the second lies in two.
fn records() -> Vec<Vec<u8>> {
    vec![b"a row".to_vec(), vec![7; 70 << 10], Vec::new()]
}

/// The file with the recovery key, in a directory that goes with it.
fn recovery_key() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("recovery.key");
    std::fs::write(&path, "ab".repeat(32)).expect("a file");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&path, private).expect("a file of ours");
    (directory, path)
}

target!(
    /// Records that a backup gives out are those that went in, in order; it ends only as it was written.
    backups,
    {
        let (_directory, key) = recovery_key();
        let samples = vec![fuzzing::backup(&records(), &key), fuzzing::backup(&records()[..1], &key)];
        assert_eq!(fuzzing::read_backup(&samples[0], &key), (records(), true));
        samples
    },
    {
        let (directory, key) = recovery_key();
        let samples = [fuzzing::backup(&records(), &key), fuzzing::backup(&records()[..1], &key)];
        move |bytes: &[u8]| {
            let _stays = &directory;
            let (found, ended) = fuzzing::read_backup(bytes, &key);
            assert!(records().starts_with(&found), "an altered record was given out");
            assert!(!ended || samples.iter().any(|sample| sample == bytes), "an altered end");
        }
    }
);

target!(
    /// No text remembers another epoch than the one it was made for.
    anchors,
    {
        assert_eq!(fuzzing::anchored(&fuzzing::anchor(77)), Some(77));
        vec![fuzzing::anchor(77)]
    },
    |bytes: &[u8]| assert!(fuzzing::anchored(bytes).is_none_or(|epoch| epoch == 77))
);

target!(
    /// The header of a seal that is read is written as what it was read as.
    seals,
    {
        let samples = ["v1", "v2"].map(|version| {
            let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/../kms/vectors");
            std::fs::read(format!("{vectors}/seal-{version}.json")).expect("a vector")
        });
        assert!(samples.iter().all(|sample| fuzzing::seal_header(sample).is_some()));
        samples.to_vec()
    },
    |bytes: &[u8]| {
        if let Some(written) = fuzzing::seal_header(bytes) {
            assert_eq!(fuzzing::seal_header(&written).as_ref(), Some(&written));
        }
    }
);
