//! The document of what is served says what is served.

use crate::models;
use std::path::Path;

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/compatibility.md");
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let now = api::compatibility::render(&models::load_all());
    assert!(kept == now, "docs/compatibility.md is out of date: run `cargo xtask wire table`");
}
