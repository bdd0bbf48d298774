//! Scripts of edits do what they say.

use fuzz::edited;

#[test]
fn every_script_is_carried_out() {
    assert_eq!(edited(b"abc", &[]), b"abc");
    assert_eq!(edited(b"abc", &[0, 0, 1, b'x']), b"axbc");
    assert_eq!(edited(b"abc", &[1, 0, 1, 1]), b"ac");
    assert_eq!(edited(b"abc", &[2, 0, 1, 0]), b"a");
    assert_eq!(edited(b"abc", &[3, 0, 0, 2]), b"ababc");
    assert_eq!(edited(b"abc", &[4, 0, 0, 11]), b"\xff\x00c");
    assert_eq!(edited(b"abc", &[5, 0, 0, 1]), b"cbc");
    assert_eq!(edited(b"abc", &[6, 0, 2, b'd']), b"abd");
    assert_eq!(edited(b"", &[6, 0, 9, b'd']), b"d");
}
