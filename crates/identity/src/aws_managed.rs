//! The managed policies of AWS that are offered here, as `aws_managed.json` lists them.
//!
//! The documents are those AWS publishes, except `ReadOnlyAccess` and those of service-linked roles,
//! which list only the actions of the services served here. Any other `arn:aws:iam::aws:policy/…` does not exist.

use crate::managed::{ManagedPolicy, Owner};
use base::Timestamp;
use serde::Deserialize;
use std::sync::LazyLock;

#[derive(Deserialize)]
struct Entry {
    name: String,
    path: String,
    version: u32,
    created: String,
    updated: String,
    document: Box<serde_json::value::RawValue>,
}

/// A policy and its one version.
pub(crate) struct Offered {
    pub(crate) policy: ManagedPolicy,
    pub(crate) document: String,
}

/// By name.
static OFFERED: LazyLock<Vec<Offered>> = LazyLock::new(|| {
    let entries: Vec<Entry> = serde_json::from_str(include_str!("aws_managed.json"))
        .expect("the file is a list of policies");
    let mut offered: Vec<Offered> = entries.into_iter().map(offer).collect();
    offered.sort_by(|a, b| a.policy.name.cmp(&b.policy.name));
    offered
});

fn offer(entry: Entry) -> Offered {
    let Entry { name, path, version, created, updated, document } = entry;
    let instant = |text: &str| Timestamp::parse_iso(text).expect("the file has instants");
    let policy = ManagedPolicy {
        owner: Owner::Aws,
        policy_id: policy_id(&name),
        name,
        path,
        description: String::new(),
        default_version: version,
        created_at: instant(&created),
        updated_at: instant(&updated),
    };
    Offered { policy, document: document.get().to_owned() }
}

/// An id that follows from the name, so that it is the same at every start.
fn policy_id(name: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, name.as_bytes());
    let letter = |byte: &u8| char::from(b'A' + byte % 26);
    let tail: String = hash.as_ref().iter().take(crate::name::UNIQUE_ID_TAIL).map(letter).collect();
    format!("ANPA{tail}")
}

/// All of them, by name.
pub(crate) fn all() -> &'static [Offered] {
    &OFFERED
}

/// The one with this ARN.
pub(crate) fn find(arn: &str) -> Option<&'static Offered> {
    OFFERED.iter().find(|offered| offered.policy.arn() == arn)
}
