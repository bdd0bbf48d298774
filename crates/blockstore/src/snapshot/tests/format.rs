//! The bytes of format version 1. A change here is a change of format: stored snapshots would no
//! longer open.

use super::*;
use expect_test::{Expect, expect};

fn check(objects: &MemoryStore, expected: &Expect) {
    let mut lines = String::new();
    for meta in objects.list("").unwrap() {
        let digest = Digest::of(&objects.get(&meta.name).unwrap());
        lines += &format!("{} {} {}\n", meta.name, meta.size, hex::encode(digest.0));
    }
    expected.assert_eq(&lines);
}

#[test]
fn exported_objects_are_frozen() {
    let objects = memory();
    let store = snapshots(objects.clone(), 1);
    let mut volume = Volume::new(GIB, 1, 1);
    volume.write(3, 0x1111);
    volume.write(PAGES_PER_BLOCK as u64 * 1025 + 7, 0x2222);
    let root = snapshot(&store, &mut volume, None);
    check(
        &objects,
        &expect![[r#"
        packs/b9/b9b501d1d854bb7180021590/00000000 8613 06e082da55d3df50c2995b032c990340afecf44e4c8a07ce181a96400c3b6aed
        packs/b9/b9b501d1d854bb7180021590/00000001 603 6c61710a51d08d8c8ddfd4331de4b01708fc9bcf4dd403e69be53231450b2097
    "#]],
    );
    expect!["01b9b501d1d854bb71800215900000000103f0000000800000004647d89f4a18780fb78e2265dcf13c3a614f560177dc7567fe8bcf144dd4fc9a5e5532fbeea293f80bc942ee9086c171000000400000000001d324183e52106169c54d670434ae52430100000002000000000000000200000000000000"].assert_eq(&hex::encode(root.to_bytes()));
}

#[test]
fn uploaded_objects_are_frozen() {
    let objects = memory();
    let store = snapshots(objects.clone(), 2);
    let key = key(1);
    let session = DirectSession::open(&store, direct::spec("snap-1", &key, None)).unwrap();
    let mut block = vec![0; whole_block()];
    block[5] = 5;
    session.put_block(1, &block, None, &key).unwrap();
    session.complete(&direct::announce(1)).unwrap();
    check(
        &objects,
        &expect![[r#"
        packs/29/29fb173fb546c44fb3b2c77b/00000000 4427 b22a390cb235e805b938c2b454bc41625e3b9fbbd8237a94e2c3fd7d36204496
        packs/f3/f35da430279f97ee1932da1e/00000000 468 9cf66faca344faecc35f782e3657e4ae45a496ff208049bec67a62b9f86e4cb7
        sessions/snap-1/00000000-29fb173fb546c44fb3b2c77b 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    "#]],
    );
}

#[test]
fn rewritten_objects_and_ledgers_are_frozen() {
    let objects = memory();
    let store = snapshots(objects.clone(), 3);
    let mut volume = Volume::new(GIB, 1, 1);
    (0..3).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, block + 1));
    let first = snapshot(&store, &mut volume, None);
    (0..2).for_each(|block| volume.write(block * PAGES_PER_BLOCK as u64, block + 9));
    let second = snapshot(&store, &mut volume, Some(&first));
    for days in 0..2 {
        let now = START.plus_seconds(days * 86_400);
        let policy = CollectPolicy { now, grace_seconds: 86_400, rewrite_below_percent: 50 };
        collect(&store, [Ok::<_, Error>(second)], &[], &policy).unwrap();
    }
    check(
        &objects,
        &expect![[r#"
        gc/0000000000000002 56 72f5233b857e01481ce6a31db643d6147362ff54e3b53af66f63d51f40e17940
        packs/96/9699b7caad8d6837074f1f09/00000000.1 4374 e3221af1000957cdc05a16bcd81cc2f72dc9d8e5271a1c5bda0502aff1b19f32
        packs/a8/a8060ef6c85f4b2c2dcfc2e8/00000000 8613 0594ff288cb544613c29a0dcf29778ed971f48872a93788bb594b37847484d68
        packs/a8/a8060ef6c85f4b2c2dcfc2e8/00000001 550 9ab4a290b7886dd884f77626b991feddb80d42fb23d6268cbdcb0ca0a9dc7891
    "#]],
    );
}
