//! Two phases, crashes, and looking records up.

use crate::{NOW, account, call, record, region};
use base::Timestamp;
use events::trail::INTERRUPTED;
use events::{
    Call, Category, Cursor, Filter, Lookup, MIGRATIONS, Page, Record, Resource, append, begin,
    finish, lookup, recover_unfinished,
};
use meta::testing::engines;
use serde_json::{Value, json};

fn everything() -> Lookup {
    Lookup {
        account: account('2'),
        region: region(),
        filter: None,
        start: None,
        end: None,
        now: NOW.plus_seconds(1),
        max: 50,
        after: None,
    }
}

fn find(db: &meta::Db, query: Lookup) -> Page {
    db.read_blocking(move |tx| lookup(tx, &query)).unwrap()
}

fn ids(page: &Page) -> Vec<&str> {
    page.records.iter().map(|found| found.event_id.as_str()).collect()
}

fn write(db: &meta::Db, f: impl Fn(&mut meta::Tx<'_>) -> events::Result<()> + Send + 'static) {
    db.write_blocking(f).unwrap();
}

#[test]
fn a_call_is_listed_once_it_is_finished() {
    for db in engines(MIGRATIONS) {
        write(&db, |tx| begin(tx, "a", &record("CreateKey", "e-1")));
        assert_eq!(ids(&find(&db, everything())), [""; 0], "{}", db.name);
        let done = record("CreateKey", "e-1").with_response(json!({"keyId": "k"}));
        write(&db, move |tx| finish(tx, "a", &done, &[]));
        let page = find(&db, everything());
        assert_eq!(ids(&page), ["e-1"]);
        assert_eq!((page.records[0].time, page.records[0].username.as_deref()), (NOW, Some("bob")));
        let left = db.write_blocking(|tx| recover_unfinished(tx, "a", NOW)).unwrap();
        assert_eq!(left, [], "a finished call leaves no intent");
    }
}

#[test]
fn what_a_crash_left_is_recorded_as_interrupted() {
    for db in engines(MIGRATIONS) {
        write(&db, |tx| {
            begin(tx, "a", &record("DeleteVolume", "e-1"))?;
            begin(tx, "b", &record("DeleteVolume", "e-2"))
        });
        // Another server is alive and its intent is young.
        let recovered = db.write_blocking(|tx| recover_unfinished(tx, "a", NOW)).unwrap();
        assert_eq!(recovered.len(), 1, "{}", db.name);
        let page = find(&db, everything());
        assert_eq!(ids(&page), ["e-1"]);
        let text: Value = serde_json::from_str(&page.records[0].record).unwrap();
        assert_eq!(text["errorCode"], INTERRUPTED);
        assert_eq!(page.records[0].time, NOW, "the milliseconds are kept");
        // Long after, its intent is nobody's.
        let later =
            db.write_blocking(|tx| recover_unfinished(tx, "a", NOW.plus_seconds(1))).unwrap();
        assert_eq!(later.len(), 1);
        // The other server was only slow: what it knows replaces the guess.
        write(&db, |tx| finish(tx, "b", &record("DeleteVolume", "e-2"), &[]));
        let page = find(&db, everything());
        assert_eq!(ids(&page), ["e-2", "e-1"]);
        assert!(!page.records[0].record.contains(INTERRUPTED));
    }
}

#[test]
fn copies_go_to_their_own_trails() {
    for db in engines(MIGRATIONS) {
        write(&db, |tx| {
            let mut record = record("Decrypt", "e-1");
            let copy = record.share_with(&account('1'), &base::SeededRng::new(3));
            finish(tx, "a", &record, &[copy])
        });
        let owner = find(&db, Lookup { account: account('1'), ..everything() });
        assert_eq!(owner.records.len(), 1, "{}", db.name);
        assert_eq!(ids(&find(&db, everything())), ["e-1"]);
        let elsewhere = base::Region::parse("eu-west-1").unwrap();
        assert_eq!(find(&db, Lookup { region: elsewhere, ..everything() }).records, []);
    }
}

/// 200 records, several in the same millisecond, of two users, three operations and two volumes.
fn many() -> Vec<Record> {
    (0..200_i64)
        .map(|n| {
            let name = ["CreateVolume", "DeleteVolume", "DescribeVolumes"][n as usize % 3];
            let mut call = call(name, &format!("e-{n:03}"));
            call.time = Timestamp(NOW.0 - n / 3);
            call.read_only = n % 3 == 2;
            if n % 5 == 0 {
                call.identity = events::UserIdentity::root(&account('2'));
                call.event_source = "ec2.amazonaws.com".to_owned();
            }
            let resource = |name: &str| Resource {
                account_id: account('2'),
                kind: "AWS::EC2::Volume".to_owned(),
                arn: format!("arn:aws:ec2:us-east-1:222222222222:volume/{name}"),
            };
            let resources = match n % 4 {
                0 => vec![],
                1 => vec![resource("vol-1")],
                _ => vec![resource("vol-1"), resource("vol-2")],
            };
            Record::api_call(call).with_resources(resources)
        })
        .collect()
}

/// Walks through all pages.
fn walk(db: &meta::Db, query: &Lookup) -> Vec<String> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = find(db, Lookup { after: after.clone(), ..query.clone() });
        assert!(page.records.len() <= query.max as usize);
        found.extend(page.records.into_iter().map(|found| found.event_id));
        match page.next {
            None => return found,
            Some(cursor) => after = Some(Cursor::from_token(&cursor.to_token()).unwrap()),
        }
    }
}

#[test]
fn every_filter_finds_what_a_scan_finds_in_pages_of_any_size() {
    let records = many();
    let keep = |test: &dyn Fn(&Record) -> bool| {
        let mut kept: Vec<&Record> = records.iter().filter(|r| test(r)).collect();
        kept.sort_by_key(|r| std::cmp::Reverse((r.time(), r.event_id().to_owned())));
        kept.into_iter().map(|r| r.event_id().to_owned()).collect::<Vec<_>>()
    };
    let has = |record: &Record, end: &str| record.resources().iter().any(|r| r.arn.ends_with(end));
    let text = str::to_owned;
    let cases: Vec<(Option<Filter>, Vec<String>)> = vec![
        (None, keep(&|_| true)),
        (Some(Filter::EventId(text("e-007"))), vec![text("e-007")]),
        (
            Some(Filter::EventName(text("DeleteVolume"))),
            keep(&|r| r.event_name() == "DeleteVolume"),
        ),
        (
            Some(Filter::EventSource(text("ec2.amazonaws.com"))),
            keep(&|r| r.event_source() == "ec2.amazonaws.com"),
        ),
        (Some(Filter::Username(text("root"))), keep(&|r| r.identity().username() == Some("root"))),
        (
            Some(Filter::AccessKeyId(text("AKIABOB"))),
            keep(&|r| r.identity().access_key().is_some()),
        ),
        (Some(Filter::ReadOnly(true)), keep(&|r| r.is_read_only())),
        (Some(Filter::ResourceName(text("vol-2"))), keep(&|r| has(r, "vol-2"))),
        (
            Some(Filter::ResourceName(text("arn:aws:ec2:us-east-1:222222222222:volume/vol-1"))),
            keep(&|r| has(r, "vol-1")),
        ),
        (
            Some(Filter::ResourceType(text("AWS::EC2::Volume"))),
            keep(&|r| !r.resources().is_empty()),
        ),
        (Some(Filter::EventName(text("Nothing"))), vec![]),
    ];
    for db in engines(MIGRATIONS) {
        let all = records.clone();
        write(&db, move |tx| all.iter().try_for_each(|record| append(tx, record)));
        for (filter, expected) in &cases {
            for max in [1, 7, 50] {
                let query = Lookup { filter: filter.clone(), max, ..everything() };
                assert_eq!(&walk(&db, &query), expected, "{}: {filter:?} by {max}", db.name);
            }
        }
        let (start, end) = (Timestamp(NOW.0 - 20), Timestamp(NOW.0 - 10));
        let query = Lookup { start: Some(start), end: Some(end), ..everything() };
        assert_eq!(walk(&db, &query), keep(&|r| (start..=end).contains(&r.time())));
    }
}

#[test]
fn data_events_and_old_events_are_not_listed() {
    for db in engines(MIGRATIONS) {
        write(&db, |tx| {
            append(
                tx,
                &Record::api_call(Call {
                    category: Category::Data,
                    ..call("PutSnapshotBlock", "e-1")
                }),
            )?;
            append(
                tx,
                &Record::api_call(Call {
                    time: NOW.plus_seconds(-90 * 86_400),
                    ..call("Old", "e-2")
                }),
            )?;
            append(
                tx,
                &Record::api_call(Call {
                    time: NOW.plus_seconds(-90 * 86_400 + 2),
                    ..call("New", "e-3")
                }),
            )
        });
        let query = Lookup { start: Some(Timestamp(0)), ..everything() };
        assert_eq!(ids(&find(&db, query)), ["e-3"], "{}", db.name);
    }
}

#[test]
fn foreign_tokens_are_refused() {
    for token in ["", "x", "1", "1.", ".a", "1.a'b", "99999999999999999999.a"] {
        assert!(Cursor::from_token(token).is_err(), "{token}");
    }
}

#[test]
fn the_schema_is_portable() {
    for migration in MIGRATIONS {
        assert_eq!(meta::portable::check(migration.sql), [], "{}", migration.name);
    }
}
