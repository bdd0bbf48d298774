//! The table of promises names tests that exist.

use std::path::{Path, PathBuf};

/// Texts of every Rust and Python file below a directory.
fn sources(directory: &Path, found: &mut Vec<String>) {
    let entries = std::fs::read_dir(directory).expect("a directory of the repository");
    for path in entries.map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs" || end == "py") {
            found.push(std::fs::read_to_string(&path).expect("a source"));
        }
    }
}

#[test]
fn every_test_that_is_named_exists() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = std::fs::read_to_string(root.join("docs/acceptance.md")).expect("the table");
    let mut code = Vec::new();
    for directory in ["crates", "tests"] {
        sources(&root.join(directory), &mut code);
    }
    let rows = table.lines().filter(|line| line.starts_with("| ") && line.contains('`'));
    let tests = rows.filter_map(|row| row.trim_end_matches(" |").rsplit_once(" | "));
    let names: Vec<_> = tests.flat_map(|(_, tests)| tests.split('`').skip(1).step_by(2)).collect();
    let exists = |name: &str| {
        // A function, or what a macro makes one of.
        let forms = [format!("fn {name}("), format!("def {name}("), format!("        {name},\n")];
        let scenes = format!("macro_rules! {name} ");
        code.iter()
            .any(|text| text.contains(&scenes) || forms.iter().any(|form| text.contains(form)))
    };
    let missing: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "docs/acceptance.md names {missing:?}");
    assert!(names.len() > 100, "{}", names.len());
}
