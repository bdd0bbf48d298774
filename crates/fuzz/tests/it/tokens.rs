//! Tokens that come back from clients, and ids.

use base::{AccountId, Arn, InstanceId, SnapshotId, Timestamp, VolumeId};
use ebs::page::paginate;
use fuzz::target;

fn items() -> Vec<String> {
    (0..9).map(|n| format!("vol-{n}")).collect()
}

fn token() -> String {
    let page = paginate(items(), |item| item.as_str(), "query", None, Some(3));
    page.ok().and_then(|page| page.next_token).expect("there are more than three")
}

target!(
    /// A token that is taken goes on behind what it names, and belongs to one query. Whoever knows how
    /// they are made can make one, and learns no more than from the first page.
    page_tokens,
    vec![token().into_bytes()],
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let page = |query: &str| {
            paginate(items(), |item| item.as_str(), query, Some(text), Some(3))
        };
        let Ok(taken) = page("query") else { return };
        let digits = text.as_bytes()[16..].chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).expect("digits");
            u8::from_str_radix(pair, 16).expect("digits")
        });
        let last = String::from_utf8(digits.collect()).expect("a key");
        let behind: Vec<String> = items().into_iter().filter(|item| *item > last).take(3).collect();
        assert_eq!(taken.items, behind);
        assert!(page("another query").is_err(), "{text}");
    }
);

target!(
    /// What is taken as an id, an ARN or an instant is written as it was read.
    names,
    [
        "vol-0123456789abcdef0",
        "snap-01234567",
        "i-0123456789abcdef0",
        "111122223333",
        "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
        "2026-11-21T09:30:00.123Z",
        "20261121T093000Z",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into(),
    |bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let written = [
            VolumeId::parse(text).ok().map(|id| id.to_string()),
            SnapshotId::parse(text).ok().map(|id| id.to_string()),
            InstanceId::parse(text).ok().map(|id| id.to_string()),
            AccountId::parse(text).ok().map(|id| id.to_string()),
            Arn::parse(text).map(|arn| arn.to_string()),
        ];
        for written in written.into_iter().flatten() {
            assert_eq!(written, text);
        }
        if let Some(at) = Timestamp::parse_iso(text) {
            assert_eq!(Timestamp::parse_iso(&at.iso_millis()), Some(at), "{text}");
        }
    }
);
