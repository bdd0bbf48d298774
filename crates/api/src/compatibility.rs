//! What of AWS's API is served, as a document that cannot drift from the program: everything in it
//! is read from the registry and from the service models of AWS's own clients.

use crate::registry;
use awsproto::model::Model;
use awsproto::{Kind, Member, OperationInfo, Schema};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const INTRODUCTION: &str = "\
# Compatibility

Which operations of AWS's APIs are served, and what of each. This file is written by
`cargo xtask wire table` from the program and from the service models in `tests/models`; a test
fails when it is out of date.

- **Request**: the members that are read. `A.B` is the member `B` of `A`, or of each of `A`'s items.
- **Refused**: members of the service model that are refused by name when a request has them. No
  member is ignored.
- **Reply**: the members that are returned.
- **Never returned**: members of the service model's reply that have nothing to say here.

AWS managed policies bear AWS's version numbers. Their documents are those AWS publishes, except
`ReadOnlyAccess` and those of service-linked roles, which list only actions of the services served
here. Those that are not offered do not exist.

EC2's operations that cut volumes (`CreateSnapshot`, `CreateSnapshots`) fail with
`InsufficientVolumeCapacity` (503) where the volumes' storage is full, and with `ServiceUnavailable` (503)
where another machine has the volume open and does not answer. SDKs try both again. `AttachVolume` fails with
the first where there is no space to open the volume.
";

/// The document: every operation served, and of each model those that are not.
///
/// `models` are by service name: `ec2`.
pub fn render(models: &BTreeMap<String, Model>) -> String {
    let mut served: BTreeMap<&str, BTreeMap<&str, &OperationInfo>> = BTreeMap::new();
    for operation in registry::all().iter().map(|operation| operation.info()) {
        served.entry(operation.service).or_default().insert(operation.name, operation);
    }
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n| service | served | in the model's extract |\n|---|---|---|\n");
    for (service, model) in models {
        let count = served.get(service.as_str()).map_or(0, BTreeMap::len);
        line(&mut text, format_args!("| {service} | {count} | {} |", model.operations().count()));
    }
    for (service, model) in models {
        let Some(served) = served.get(service.as_str()) else { continue };
        line(&mut text, format_args!("\n## {service}"));
        for operation in served.values() {
            describe(&mut text, operation);
        }
        let absent: Vec<_> = model.operations().filter(|name| !served.contains_key(name)).collect();
        if !absent.is_empty() {
            line(&mut text, format_args!("\n### Not served\n\n{}", absent.join(", ")));
        }
    }
    text.push_str("\n## Services without any operation\n\n");
    for (service, model) in models.iter().filter(|(name, _)| !served.contains_key(name.as_str())) {
        let absent: Vec<_> = model.operations().collect();
        line(&mut text, format_args!("- **{service}**: {}", absent.join(", ")));
    }
    text
}

fn describe(text: &mut String, operation: &OperationInfo) {
    line(text, format_args!("\n### {}\n", operation.name));
    let (input, mut output) = (Listing::of(operation.input), Listing::of(operation.output));
    // A shape of both directions says once that it lacks a member.
    output.omitted.append(&mut output.unsupported);
    for (title, names) in [
        ("Request", &input.members),
        ("Refused", &input.unsupported),
        ("Reply", &output.members),
        ("Never returned", &output.omitted),
    ] {
        if !names.is_empty() {
            let names: Vec<_> = names.iter().map(String::as_str).collect();
            line(text, format_args!("- **{title}**: {}", names.join(", ")));
        }
    }
    if input.members.is_empty() && input.unsupported.is_empty() {
        text.push_str("- **Request**: no members\n");
    }
    if output.members.is_empty() {
        text.push_str("- **Reply**: no members\n");
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("a String takes all writes");
}

/// The names in a structure and in what it is made of, as paths.
#[derive(Default)]
struct Listing {
    members: BTreeSet<String>,
    unsupported: BTreeSet<String>,
    omitted: BTreeSet<String>,
}

impl Listing {
    fn of(schema: &'static Schema) -> Self {
        let mut listing = Self::default();
        listing.structure(schema, "", &mut Vec::new());
        listing
    }

    /// `above` are the structures this one lies in, for shapes that contain themselves.
    fn structure(&mut self, schema: &'static Schema, path: &str, above: &mut Vec<&'static Schema>) {
        if above.iter().any(|known| std::ptr::eq(*known, schema)) {
            self.members.insert(path.trim_end_matches('.').to_owned());
            return;
        }
        above.push(schema);
        let under = |name: &str| format!("{path}{name}");
        self.unsupported.extend(schema.unsupported.iter().map(|name| under(name)));
        self.omitted.extend(schema.omitted.iter().map(|name| under(name)));
        for Member { name, kind, .. } in schema.members {
            match structure_in(kind) {
                None => drop(self.members.insert(under(name))),
                Some(inner) => self.structure(inner, &under(&format!("{name}.")), above),
            }
        }
        above.pop();
    }
}

/// The structure a member is, or is a list or map of.
fn structure_in(kind: &Kind) -> Option<&'static Schema> {
    match kind {
        Kind::Struct(schema) => Some(schema),
        Kind::List(item) | Kind::Map(item) => structure_in(item),
        Kind::Bool
        | Kind::Integer
        | Kind::Long
        | Kind::Double
        | Kind::String
        | Kind::Enum(_)
        | Kind::Blob
        | Kind::Timestamp => None,
    }
}
