//! Rules of the house that no compiler checks: which crate may use which, how long a file and a
//! function may be, and what may not be merged.

use crate::command;
use std::path::Path;
use syn::spanned::Spanned;
use syn::visit::Visit;

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
/// 300 were planned; TLS with certificates of its own, the rings of virtual disks and `io_uring` need
/// some more.
const LOCKED_PACKAGES_MAX: usize = 340;

/// Which workspace crates each crate may use. Arrows point down only.
const EDGES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("objstore", &["base"]),
    ("meta", &["base"]),
    ("iam", &["base"]),
    ("awsproto-derive", &[]),
    ("awsproto", &["base", "awsproto-derive"]),
    ("blockstore", &["base", "objstore"]),
    ("identity", &["base", "iam", "meta"]),
    ("kms", &["base", "iam", "meta"]),
    ("events", &["base", "meta"]),
    ("ebs", &["base", "meta"]),
    ("attach", &["base", "blockstore"]),
    ("remote", &["base", "blockstore"]),
    ("lifecycle", &["base", "meta", "iam", "kms", "ebs", "events", "blockstore"]),
    (
        "api",
        &[
            "base",
            "awsproto",
            "iam",
            "identity",
            "kms",
            "meta",
            "ebs",
            "events",
            "lifecycle",
            "blockstore",
            "remote",
        ],
    ),
    ("sim", &["base", "blockstore", "objstore"]),
    // Not shipped: its tests reach every parser.
    ("fuzz", &[]),
    (
        "cli",
        &[
            "api",
            "attach",
            "awsproto",
            "base",
            "blockstore",
            "ebs",
            "events",
            "iam",
            "identity",
            "kms",
            "lifecycle",
            "meta",
            "objstore",
            "remote",
        ],
    ),
];

pub(crate) fn run() -> Result<(), String> {
    let mut problems = Vec::new();
    check_edges(&mut problems)?;
    check_lock(&mut problems)?;
    for path in command::files(".rs")? {
        check_source(&path, &mut problems)?;
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{} rule(s) of the house broken:\n{}", problems.len(), problems.join("\n")))
}

fn check_edges(problems: &mut Vec<String>) -> Result<(), String> {
    let names: Vec<&str> = EDGES.iter().map(|(name, _)| *name).collect();
    for (name, allowed) in EDGES {
        let path = command::root().join("crates").join(name).join("Cargo.toml");
        let manifest = read(&path)?;
        let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        for line in shipped.lines() {
            let used = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if names.contains(&used) && used != *name && !allowed.contains(&used) {
                problems.push(format!("{}: `{name}` may not use `{used}`", path.display()));
            }
        }
    }
    Ok(())
}

fn check_lock(problems: &mut Vec<String>) -> Result<(), String> {
    let lock = read(&command::root().join("Cargo.lock"))?;
    let packages = lock.matches("[[package]]").count();
    if packages > LOCKED_PACKAGES_MAX {
        problems.push(format!("Cargo.lock: {packages} packages; at most {LOCKED_PACKAGES_MAX}"));
    }
    Ok(())
}

fn check_source(path: &Path, problems: &mut Vec<String>) -> Result<(), String> {
    let text = read(path)?;
    let shown = path.strip_prefix(command::root()).unwrap_or(path).display().to_string();
    let file = syn::parse_file(&text).map_err(|error| format!("{shown}: {error}"))?;

    let tests_from = file.items.iter().find_map(test_module_line);
    let lines = tests_from.unwrap_or_else(|| text.lines().count());
    let is_test = shown.contains("/tests/");
    if lines > FILE_LINES_MAX && !is_test {
        problems.push(format!("{shown}: {lines} lines without tests; at most {FILE_LINES_MAX}"));
    }
    for (number, line) in text.lines().enumerate() {
        // Written in two parts so that this file passes its own rule.
        if line.contains(concat!("FIX", "ME")) || line.contains(concat!("TO", "DO:")) {
            problems.push(format!("{shown}:{}: unfinished work cannot be merged", number + 1));
        }
        if line.trim_start().starts_with("// ====") || line.trim_start().starts_with("// ----") {
            problems.push(format!("{shown}:{}: no banner comments", number + 1));
        }
    }
    let mut functions = Functions { shown, problems };
    functions.visit_file(&file);
    Ok(())
}

fn test_module_line(item: &syn::Item) -> Option<usize> {
    match item {
        syn::Item::Mod(module) if module.ident == "tests" => {
            Some(module.span().start().line.saturating_sub(1))
        }
        _ => None,
    }
}

struct Functions<'a> {
    shown: String,
    problems: &'a mut Vec<String>,
}

impl Functions<'_> {
    fn check(&mut self, name: &syn::Ident, block: &syn::Block) {
        let lines = block.span().end().line - block.span().start().line + 1;
        if lines > FUNCTION_LINES_MAX {
            let Self { shown, problems } = self;
            problems.push(format!(
                "{shown}: function `{name}` has {lines} lines; at most {FUNCTION_LINES_MAX}"
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.check(&item.sig.ident, &item.block);
        syn::visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.check(&item.sig.ident, &item.block);
        syn::visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if item.ident != "tests" {
            syn::visit::visit_item_mod(self, item);
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}
