//! The wire as AWS's own models describe it.
//!
//! `wire models` writes extracts of botocore's service models to `tests/models`: of the operations in
//! `scope.txt` the names, types and places of their members and the errors they list, without documentation. Tests compare
//! the operations here with these extracts and so need no Python. `wire table` writes what is served
//! of them to `docs/compatibility.md`. `wire record` keeps the bytes botocore sends to every operation
//! and the replies it has understood in `tests/wire`.

use crate::command;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Task {
    /// Writes `tests/models/*.json` and `crates/api/src/bounds.txt` anew from the botocore of the client tests.
    Models,
    /// Writes `docs/compatibility.md` anew.
    Table,
    /// Records requests and replies of every operation in `tests/wire` anew.
    Record,
}

pub(crate) fn run(task: &Task) -> Result<(), String> {
    match task {
        Task::Models => models(),
        Task::Table => table(),
        Task::Record => record(),
    }
}

/// Prints the newest model of a service.
const LOAD: &str = "import sys, json, botocore, botocore.loaders as loaders
model = loaders.Loader().load_service_model(sys.argv[1], 'service-2')
model['metadata']['botocore'] = botocore.__version__
json.dump(model, sys.stdout)";

/// Enumerations longer than this name things, not choices: instance types, resource types.
const ENUMERATION_MAX: usize = 64;

/// What the comparison reads; the rest is documentation and constraints.
const KEPT: [&str; 20] = [
    "type",
    "members",
    "member",
    "key",
    "value",
    "shape",
    "required",
    "enum",
    "sensitive",
    "locationName",
    "location",
    "queryName",
    "flattened",
    "payload",
    "timestampFormat",
    "streaming",
    "resultWrapper",
    "box",
    "union",
    "jsonvalue",
];

fn models() -> Result<(), String> {
    let python = crate::test::environment()?;
    let python = python.to_str().ok_or("the path of the Python is not UTF-8")?;
    let dir = command::root().join("tests/models");
    let mut bounds = Vec::new();
    for (service, operations) in scope(&dir)? {
        let text = command::output(python, &["-c", LOAD, &service])?;
        let model: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let path = dir.join(format!("{service}.json"));
        std::fs::write(&path, extract(&service, &model, &operations)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        if BOUNDED.contains(&service.as_str()) {
            bounds.extend(operations.iter().flat_map(|name| bounds_of(&service, &model, name)));
        }
    }
    let path = command::root().join("crates/api/src/bounds.txt");
    std::fs::write(&path, bounds.concat()).map_err(|error| format!("{}: {error}", path.display()))
}

/// The services whose requests are held to the bounds of their models.
const BOUNDED: [&str; 3] = ["iam", "kms", "sts"];

/// The bounds of an operation's request, a line each.
fn bounds_of(service: &str, model: &Value, operation: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(shape) = model["operations"][operation]["input"]["shape"].as_str() {
        bounds_in(model, shape, "", &mut Vec::new(), &mut found);
    }
    found.sort();
    let line = |(path, min, max): (String, u64, Option<u64>)| {
        // These the server itself gave out, opaque, and some are longer than AWS's.
        let ours = [("iam", "Marker"), ("sts", "EncodedMessage")];
        let max = max.filter(|_| !ours.contains(&(service, path.as_str())));
        let max = max.map_or("-".to_owned(), |max| max.to_string());
        format!("{service} {operation} {path} {min} {max}\n")
    };
    found.into_iter().map(line).collect()
}

/// Adds the bounds of a shape and of what it is made of. Shapes that hold themselves are followed once.
fn bounds_in<'a>(
    model: &'a Value,
    name: &'a str,
    path: &str,
    outer: &mut Vec<&'a str>,
    found: &mut Vec<(String, u64, Option<u64>)>,
) {
    if outer.contains(&name) {
        return;
    }
    outer.push(name);
    let shape = &model["shapes"][name];
    let (min, max) = (shape["min"].as_u64(), shape["max"].as_u64());
    if !path.is_empty() && shape["type"] != "map" && (min.is_some() || max.is_some()) {
        found.push((path.to_owned(), min.unwrap_or(0), max));
    }
    if let Some(item) = shape["member"]["shape"].as_str() {
        bounds_in(model, item, &format!("{path}[]"), outer, found);
    }
    for (member, inner) in shape["members"].as_object().into_iter().flatten() {
        let dot = if path.is_empty() { "" } else { "." };
        if let Some(inner) = inner["shape"].as_str() {
            bounds_in(model, inner, &format!("{path}{dot}{member}"), outer, found);
        }
    }
    outer.pop();
}

fn table() -> Result<(), String> {
    let arguments = ["run", "--quiet", "--package", "api", "--example", "compatibility"];
    let text = command::cargo_output(&arguments)?;
    let path = command::root().join("docs/compatibility.md");
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Has botocore write every request and read every reply.
const RECORD: &str = include_str!("wire/record.py");

fn record() -> Result<(), String> {
    let python = crate::test::environment()?;
    let wire = ["run", "--quiet", "--package", "api", "--example", "wire", "--"];
    let samples = command::cargo_output(&[&wire[..], &["samples"]].concat())?;
    let mut recorder = Command::new(python)
        .args(["-c", RECORD])
        .arg(command::root().join("tests/wire"))
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start the recorder: {error}"))?;
    let mut stdin = recorder.stdin.take().expect("it is piped");
    // A recorder that ends early says why by itself.
    drop(stdin.write_all(samples.as_bytes()));
    drop(stdin);
    let status = recorder.wait().map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(format!("the recorder failed: {status}"));
    }
    command::cargo(&[&wire[..], &["freeze"]].concat())
}

/// Service to operations, as `scope.txt` lists them.
fn scope(dir: &Path) -> Result<BTreeMap<String, Vec<String>>, String> {
    let path = dir.join("scope.txt");
    let text =
        std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (service, operations) = line.split_once(": ").ok_or("a line without a service")?;
            let operations = operations.split_whitespace().map(str::to_owned).collect();
            Ok((service.to_owned(), operations))
        })
        .collect()
}

/// The text of an extract: one operation or shape a line, so that changes read well.
fn extract(service: &str, model: &Value, names: &[String]) -> Result<String, String> {
    let mut operations = BTreeMap::new();
    let mut shapes = BTreeMap::new();
    let mut errors = BTreeMap::new();
    for name in names {
        let theirs = &model["operations"][name.as_str()];
        if theirs.is_null() {
            return Err(format!("{service} has no operation {name}"));
        }
        let mut ours = json!({ "http": theirs["http"] });
        for side in ["input", "output"] {
            if let Some(shape) = theirs[side]["shape"].as_str() {
                ours[side] = kept(&theirs[side], false);
                collect(model, shape, &mut shapes);
            }
        }
        let thrown = theirs["errors"].as_array().into_iter().flatten();
        let thrown: Vec<_> = thrown.filter_map(|error| error["shape"].as_str()).collect();
        if !thrown.is_empty() {
            ours["errors"] = json!(thrown);
            errors.extend(thrown.iter().map(|name| (*name, error(model, name))));
        }
        operations.insert(name.as_str(), ours);
    }
    let metadata = &model["metadata"];
    let metadata = json!({
        "protocol": metadata["protocol"],
        "apiVersion": metadata["apiVersion"],
        "targetPrefix": metadata["targetPrefix"],
        "botocore": metadata["botocore"],
    });
    let lines = |entries: BTreeMap<&str, Value>| {
        let lines: Vec<_> =
            entries.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
        lines.join(",\n")
    };
    Ok(format!(
        "{{\"metadata\": {metadata},\n\"operations\": {{\n{}\n}},\n\"errors\": {{\n{}\n}},\n\"shapes\": {{\n{}\n}}}}\n",
        lines(operations),
        lines(errors),
        lines(shapes)
    ))
}

/// What is on the wire for an error: its code, and the status where a model leaves that to the protocol.
fn error(model: &Value, name: &str) -> Value {
    let shape = &model["shapes"][name];
    let fault = shape["fault"].as_bool() == Some(true);
    let status = shape["error"]["httpStatusCode"].as_u64();
    json!({
        "code": shape["error"]["code"].as_str().unwrap_or(name),
        "status": status.unwrap_or(if fault { 500 } else { 400 }),
    })
}

/// Adds a shape and everything it is made of.
fn collect<'a>(model: &'a Value, name: &'a str, shapes: &mut BTreeMap<&'a str, Value>) {
    if shapes.contains_key(name) {
        return;
    }
    let shape = &model["shapes"][name];
    shapes.insert(name, kept(shape, false));
    let parts = ["member", "key", "value"].iter().map(|part| &shape[*part]);
    let members = shape["members"].as_object().into_iter().flat_map(Map::values);
    for part in parts.chain(members) {
        if let Some(part) = part["shape"].as_str() {
            collect(model, part, shapes);
        }
    }
}

/// A copy with the words of [`KEPT`]; below `members` the keys are names, not words.
fn kept(value: &Value, names: bool) -> Value {
    match value {
        Value::Object(object) => {
            let wanted = object.iter().filter(|(key, value)| {
                let long = value.as_array().is_some_and(|items| items.len() > ENUMERATION_MAX);
                names || (KEPT.contains(&key.as_str()) && !(key.as_str() == "enum" && long))
            });
            let entry = |(key, value): (&String, &Value)| {
                (key.clone(), kept(value, !names && key == "members"))
            };
            Value::Object(wanted.map(entry).collect())
        }
        other => other.clone(),
    }
}
