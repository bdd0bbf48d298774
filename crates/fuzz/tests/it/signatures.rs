//! Signatures in headers and in query strings.

use crate::requests::Parsed;
use base::{Secret, Timestamp};
use fuzz::target;
use iam::sigv4::{Parts, read};

const NOW: Timestamp = Timestamp(1_795_253_400_000);
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Recordings with a good signature: one in the header, one of a URL.
fn samples() -> Vec<Vec<u8>> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/wire");
    let recorded = ["kms/Encrypt/full.http", "ebs/GetSnapshotBlock/full.http"]
        .map(|name| std::fs::read(root.join(name)).expect("a recording is readable"));
    let values = std::fs::read(root.join("ec2/CopySnapshot/full.http")).expect("readable");
    let presigned = concat!(
        "GET /?Action=CopySnapshot&X-Amz-Algorithm=AWS4-HMAC-SHA256",
        "&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20261121%2Feu-west-1%2Fec2%2Faws4_request",
        "&X-Amz-Date=20261121T093000Z&X-Amz-Expires=3600&X-Amz-SignedHeaders=host",
        "&X-Amz-Signature=",
        "fba5bbe8021404e7b395ae45986522d182a8ebd956303358e32284615f40dd60\n",
        "Host: ec2.eu-west-1.amazonaws.com\n\n",
    );
    recorded.into_iter().chain([values, presigned.as_bytes().to_vec()]).collect()
}

fn is_good(parsed: &Parsed, secret: &str) -> bool {
    let Parsed { method, path, query, headers, body } = parsed;
    let parts = Parts { method, path, query, headers, body };
    read(&parts, NOW).is_ok_and(|signed| signed.verify(&Secret::new(secret.to_owned())).is_ok())
}

target!(
    /// A signature is good for the body, the target and the secret it was made with only.
    signatures,
    samples(),
    {
        let originals: Vec<Parsed> = samples().iter().map(|s| Parsed::from(s)).collect();
        move |bytes: &[u8]| {
            let parsed = Parsed::from(bytes);
            assert!(!is_good(&parsed, "another secret"));
            if is_good(&parsed, SECRET) {
                let same = |original: &Parsed| {
                    parsed.body == original.body && parsed.method == original.method
                };
                assert!(originals.iter().any(same), "a signature was good for something else");
            }
        }
    }
);

#[test]
fn the_recorded_samples_are_good() {
    for sample in &samples()[..3] {
        assert!(is_good(&Parsed::from(sample), SECRET));
    }
}
