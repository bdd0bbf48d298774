//! Registers operations by folder: `src/ops/<service>/<operation>.rs` holds the struct `<Operation>`.
//!
//! Writes `registry.rs` into the build's output folder: a module per file and one list of all
//! operations. Adding an operation is adding a file.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let ops = root.join("src/ops");
    println!("cargo::rerun-if-changed={}", ops.display());

    let mut modules = String::new();
    let mut list =
        String::from("pub(crate) static OPERATIONS: &[&dyn crate::registry::AnyOperation] = &[\n");
    for service_dir in sorted(&ops).into_iter().filter(|path| path.is_dir()) {
        let service = stem(&service_dir);
        println!("cargo::rerun-if-changed={}", service_dir.display());
        writeln!(modules, "pub(crate) mod {service} {{").expect("a String takes all writes");
        let shared = service_dir.join("mod.rs");
        if shared.exists() {
            writeln!(modules, "#[path = {shared:?}] pub(crate) mod shared;")
                .expect("a String takes all writes");
        }
        for file in sorted(&service_dir) {
            if file.extension().is_none_or(|ext| ext != "rs") || file == shared {
                continue;
            }
            let module = stem(&file);
            let name = pascal_case(&module);
            writeln!(modules, "#[path = {file:?}] pub(crate) mod {module};")
                .expect("a String takes all writes");
            writeln!(
                list,
                "    &crate::registry::Erased::<crate::ops::{service}::{module}::{name}>::NEW,"
            )
            .expect("a String takes all writes");
        }
        modules.push_str("}\n");
    }
    list.push_str("];\n");

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("registry.rs");
    fs::write(out, modules + &list).expect("the build's output folder is writable");
}

fn sorted(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(dir)
        .expect("the folder of operations is readable")
        .map(|entry| entry.expect("the folder of operations is readable").path())
        .collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().and_then(|stem| stem.to_str()).expect("file names are ASCII").to_owned()
}

fn pascal_case(snake: &str) -> String {
    snake
        .split('_')
        .map(|word| {
            let (head, tail) = word.split_at(1);
            head.to_ascii_uppercase() + tail
        })
        .collect()
}
