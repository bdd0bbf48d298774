//! Ciphertexts of KMS.

use fuzz::target;

target!(
    /// No bytes but the original open under its key.
    ciphertexts,
    vec![kms::fuzzing::sample()],
    |bytes: &[u8]| {
        if let Some(plaintext) = kms::fuzzing::open(bytes) {
            assert_eq!(plaintext, kms::fuzzing::PLAINTEXT);
            assert_eq!(bytes, kms::fuzzing::sample(), "an altered ciphertext was opened");
        }
    }
);

target!(
    /// Nor as an encryption context: every one that is accepted can be written again.
    encryption_contexts,
    vec![b"aws:ebs:id=vol-0123456789abcdef0".to_vec()],
    |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        let pairs: Vec<_> = pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        if let Ok(context) = kms::EncryptionContext::new(pairs) {
            let again = kms::EncryptionContext::new(context.pairs().clone());
            assert_eq!(again.as_ref().map(|c| c.pairs()), Ok(context.pairs()));
        }
    }
);

target!(
    /// What is imported as a private key is one, in the form in which it is kept.
    private_keys,
    kms::fuzzing::private_keys(),
    |bytes: &[u8]| {
        if let Some(kept) = kms::fuzzing::imported(bytes) {
            assert_eq!(kms::fuzzing::imported(&kept).as_ref(), Some(&kept));
        }
    }
);

target!(
    /// No bytes but the original are taken back as an import token.
    import_tokens,
    vec![kms::fuzzing::import_token(b"a private key")],
    |bytes: &[u8]| {
        let opened = kms::fuzzing::opened_import_token(bytes);
        let original = bytes == kms::fuzzing::import_token(b"a private key");
        assert_eq!(opened.as_deref(), original.then_some(&b"a private key"[..]));
    }
);

target!(
    /// What an import token held, when it opens, need not be a private key: then nothing opens under it.
    unwrapping_keys,
    kms::fuzzing::private_keys(),
    |bytes: &[u8]| assert!(!kms::fuzzing::unwraps(bytes, b"wrapped"))
);

target!(
    /// No bytes but the original open as the material of a key.
    materials,
    kms::fuzzing::materials(),
    |bytes: &[u8]| {
        if let Some(material) = kms::fuzzing::opened_material(bytes) {
            assert_eq!(material, kms::fuzzing::PLAINTEXT);
            let original = kms::fuzzing::materials().iter().any(|sample| sample == bytes);
            assert!(original, "altered material was opened");
        }
    }
);

target!(
    /// Operations and constraints of grants, as rows hold them.
    grants,
    kms::fuzzing::grants(),
    |bytes: &[u8]| {
        kms::fuzzing::is_of_grant(bytes);
    }
);

#[test]
fn the_samples_of_rows_open() {
    let samples = kms::fuzzing::materials();
    let opened = samples.iter().filter_map(|sample| kms::fuzzing::opened_material(sample)).count();
    assert_eq!(opened, 2);
    assert!(kms::fuzzing::grants().iter().all(|text| kms::fuzzing::is_of_grant(text)));
}
