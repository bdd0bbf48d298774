//! Calls that AWS's operations imply, from the table; for operations this server does not have.

use super::{Preflight, StepStory, VERSION, mode};
use crate::call::Call;
use crate::error::{Error, invalid_parameter_of};
use crate::service::Service;
use serde::Deserialize;
use std::sync::OnceLock;

#[derive(Deserialize)]
pub(crate) struct Table {
    pub(crate) variants: Vec<Variant>,
}

/// One way an operation may go.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Variant {
    pub(crate) service: String,
    pub(crate) operation: String,
    pub(crate) variant: String,
    when: String,
    #[serde(default)]
    composed_of: Vec<String>,
    #[serde(default)]
    note: Option<String>,
    pub(crate) calls: Vec<Implied>,
}

/// One call it implies.
#[derive(Deserialize)]
pub(crate) struct Implied {
    pub(crate) operation: String,
    /// The key's part: `source`, `target`, …
    pub(crate) key: String,
    /// `caller`, `service:ec2` or a role.
    #[serde(rename = "as")]
    pub(crate) by: String,
    /// `yes`, `no`, `by-grant` or `unknown`.
    pub(crate) enforced: String,
    pub(crate) documented: bool,
    #[serde(default)]
    sync: bool,
    #[serde(default)]
    looks: Option<String>,
    #[serde(default)]
    note: Option<String>,
}

pub(crate) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("implied.json")).expect("the table is well formed")
    })
}

/// Operations of the table that are not served here, why, and the operations that do the same here.
pub(crate) const UNSERVED: [(&str, &str, &[&str]); 4] = [
    (
        "StartInstances",
        "machines start and stop by themselves here; a volume is opened when it is attached",
        &["AttachVolume"],
    ),
    (
        "RunInstances",
        "no machines are launched here; their volumes are made and attached one by one",
        &["CreateVolume", "AttachVolume"],
    ),
    (
        "CopyImage",
        "there are no images here; the snapshots of one are copied one by one",
        &["CopySnapshot"],
    ),
    (
        "CopyVolumes",
        "volumes are not copied in one step here, but by a snapshot that a volume is made from",
        &["CreateSnapshot", "CreateVolume"],
    ),
];

/// Why an operation is not served, and what to ask about in its place.
fn unserved(operation: &str) -> String {
    let known = UNSERVED.iter().find(|(name, _, _)| *name == operation);
    match known {
        Some((name, why, instead)) => {
            format!("{name} is not served here: {why}. Ask about {}.", instead.join(" and "))
        }
        None => format!("{operation} is not served here."),
    }
}

/// What the table says of an operation that is not served here: every variant of it, undecided.
pub(crate) fn planned(call: &Call, service: &str, operation: &str) -> Result<Preflight, Error> {
    let of = |variant: &&Variant| variant.service == service && variant.operation == operation;
    let variants: Vec<&Variant> = table().variants.iter().filter(of).collect();
    if variants.is_empty() {
        return Err(Error::new(
            invalid_parameter_of(Service::Strongroom),
            format!(
                "{service}:{operation} is neither served here nor in the table of implied calls."
            ),
        ));
    }
    let steps = variants.iter().flat_map(|variant| rows(variant)).enumerate();
    Ok(Preflight {
        version: VERSION,
        service: service.to_owned(),
        operation: operation.to_owned(),
        region: call.region.to_string(),
        enforcement: mode(call),
        allowed: None,
        not_served: Some(unserved(operation)),
        ending: None,
        steps: steps.map(|(index, row)| StepStory { step: index + 1, ..row }).collect(),
    })
}

/// The rows of a variant, behind those of what it is composed of.
fn rows(variant: &Variant) -> Vec<StepStory> {
    let parts = variant.composed_of.iter().filter_map(|name| name.split_once(':'));
    let mut rows: Vec<StepStory> = parts
        .flat_map(|(service, operation)| {
            let of = move |part: &&Variant| part.service == service && part.operation == operation;
            table().variants.iter().filter(of).flat_map(rows)
        })
        .collect();
    let condition = format!("{}, {}", variant.variant, variant.when);
    rows.extend(variant.calls.iter().map(|implied| row(variant, &condition, implied)));
    if rows.is_empty() {
        let note = variant.note.clone().unwrap_or_default();
        rows.push(StepStory {
            verdict: "allowed".to_owned(),
            note: Some(format!("{condition}: {note}")),
            looks: String::new(),
            ..row(variant, &condition, &NOTHING)
        });
    }
    rows
}

static NOTHING: Implied = Implied {
    operation: String::new(),
    key: String::new(),
    by: String::new(),
    enforced: String::new(),
    documented: false,
    sync: true,
    looks: None,
    note: None,
};

fn row(variant: &Variant, condition: &str, implied: &Implied) -> StepStory {
    let note = implied.note.as_ref().map(|note| format!("; {note}")).unwrap_or_default();
    StepStory {
        step: 0,
        service: variant.service.clone(),
        operation: variant.operation.clone(),
        when: if implied.sync { "sync" } else { "async" }.to_owned(),
        required: implied.enforced != "no",
        source: "table".to_owned(),
        who: implied.by.clone(),
        via: None,
        verdict: "unknown".to_owned(),
        action: format!("kms:{}", implied.operation),
        resource: implied.key.clone(),
        decision: None,
        note: Some(format!("{condition}{note}")),
        looks: implied.looks.clone().unwrap_or_default(),
    }
}
