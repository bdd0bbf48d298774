//! Every operation on every kind of key in every state such a key can have, against the guide's table
//! (`crates/kms/tables`): the exception, its HTTP status and its words.
//!
//! States that some kinds of keys never have here, as in AWS:
//!
//! - `Unavailable` is of keys in a custom key store alone: the others' material is at hand, or its absence is
//!   `PendingImport`.
//! - `Creating` is of replicas: any other key is made with its material, in the request that makes it.
//! - `Updating` and `PendingReplicaDeletion` are of families of keys.
//! - `PendingImport` is of keys whose material is imported.

mod keys;
mod stores;

use crate::registry;
use crate::testing::{Bench, bench};
use crate::{Error, Service};
use keys::{Made, Sort, made};
use serde_json::Value as Json;

const TABLE: &str = include_str!("../../../kms/tables/kms_key_states.json");

/// The operation that names no key.
const OF_NO_KEY: &str = "ListRetirableGrants";

/// Operations that leave another key behind where they work: each gets a key of its own.
const CHANGING: [&str; 8] = [
    "CancelKeyDeletion",
    "DeleteImportedKeyMaterial",
    "DisableKey",
    "EnableKey",
    "ImportKeyMaterial",
    "ReplicateKey",
    "ScheduleKeyDeletion",
    "UpdatePrimaryRegion",
];

/// Lines that the table infers from others, where the API reference says otherwise: a key that waits for its import
/// is listed with what it lacks, and is of an origin that rotates on demand.
const INFERRED: [(&str, Option<Answer>); 2] =
    [("ListKeyRotations", None), ("RotateKeyOnDemand", Some(Answer::State("is pending import")))];

/// How an operation refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// `KMSInvalidStateException`, and what it says about the key.
    State(&'static str),
    /// `DisabledException`.
    Disabled,
    /// `UnsupportedOperationException`, because of the key's origin.
    Origin,
    /// Another exception, which is not about the state.
    Other(&'static str, u16),
}

const UNSUPPORTED: Answer = Answer::Other("UnsupportedOperationException", 400);
const WRONG_USAGE: Answer = Answer::Other("InvalidKeyUsageException", 400);

impl Answer {
    /// Whether an error of an operation on a key is this one, to the word where the table gives the words.
    fn is(self, error: &Error, key: &Made) -> bool {
        let (code, status) = (error.0.spec.code, error.0.spec.status);
        let arn = &key.arn;
        let (wanted, words) = match self {
            Self::State(state) => ("KMSInvalidStateException", format!("{arn} {state}.")),
            Self::Disabled => ("DisabledException", format!("{arn} is disabled.")),
            Self::Origin => (
                "UnsupportedOperationException",
                format!(
                    "{arn} origin is {} which is not valid for this operation.",
                    key.sort.origin()
                ),
            ),
            Self::Other(wanted, with) => return (code, status) == (wanted, with),
        };
        (code, status) == (wanted, 400) && error.0.message == words
    }
}

fn sentence(state: &str) -> &'static str {
    match state {
        "PendingDeletion" => "is pending deletion",
        "PendingReplicaDeletion" => "is pending replica deletion",
        "PendingImport" => "is pending import",
        "Unavailable" => "is unavailable",
        "Creating" => "is creating",
        "Updating" => "is updating",
        other => panic!("nothing is refused because a key is {other}"),
    }
}

/// What the table says about an operation on a key of a sort in a state; `None` where it works.
fn verdict(table: &Json, name: &str, sort: Sort, state: &str) -> Option<Answer> {
    let inferred = INFERRED.iter().find(|(line, _)| (*line, state) == (name, "PendingImport"));
    if let Some((_, answer)) = inferred {
        return *answer;
    }
    let column = if state == "PendingReplicaDeletion" { "PendingDeletion" } else { state };
    let cell = &table["ops"][name][column];
    let notes: Vec<_> =
        cell["notes"].as_array().expect("notes").iter().filter_map(Json::as_str).collect();
    let has = |note: &str| notes.contains(&note);
    let rotates = match sort.origin() {
        "AWS_KMS" => true,
        "EXTERNAL" => ["RotateKeyOnDemand", "ListKeyRotations"].contains(&name),
        _ => false,
    };
    let sign = |sign: &str| cell[sign] == true;
    let (works, conditional, nothing) = (sign("ok"), sign("conditional"), sign("na"));
    if has("6") || (has("7") && !rotates) || (has("9") && sort.origin() != "EXTERNAL") {
        return Some(Answer::Origin);
    }
    if works || (conditional && !has("10")) || (nothing && state == "Unavailable") {
        return None;
    }
    if has("4") {
        return Some(Answer::State("is not pending deletion"));
    }
    if has("1") {
        return Some(Answer::Disabled);
    }
    // Notes 2 and 3 leave the choice between two exceptions; EBS's events show the latter's words.
    let known = ["3", "5", "8", "10", "11", "14", "15"].into_iter().any(has);
    assert!(known || (nothing && state == "PendingImport"), "{name} {state}: {cell}");
    Some(Answer::State(sentence(state)))
}

/// Why an operation that the state allows is refused to keys of a sort all the same.
fn beyond(name: &str, key: &Made) -> Option<Answer> {
    let sort = key.sort;
    let primary = matches!(sort, Sort::Primary | Sort::ImportedPrimary);
    let replica = matches!(sort, Sort::Replica | Sort::ImportedReplica);
    let crypto = [
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "ReEncrypt",
    ];
    match name {
        "ReplicateKey" | "UpdatePrimaryRegion" if !primary => Some(UNSUPPORTED),
        "EnableKeyRotation" | "DisableKeyRotation" | "RotateKeyOnDemand" if replica => {
            Some(UNSUPPORTED)
        }
        // Cells that say nothing of the origin, because no key of another is expected there.
        "DeleteImportedKeyMaterial" | "ImportKeyMaterial" if sort.origin() != "EXTERNAL" => {
            Some(Answer::Origin)
        }
        // No other material is imported.
        "RotateKeyOnDemand" if sort.origin() == "EXTERNAL" => {
            Some(Answer::Other("KMSInvalidStateException", 400))
        }
        // Nobody could make one.
        "RetireGrant" | "RevokeGrant" if !key.has_grants() => {
            Some(Answer::Other("NotFoundException", 400))
        }
        "Sign" | "Verify" | "GenerateMac" | "VerifyMac" | "DeriveSharedSecret" | "Encapsulate"
        | "Decapsulate"
            if key.kind.1 == "ENCRYPT_DECRYPT" =>
        {
            Some(WRONG_USAGE)
        }
        "GetPublicKey" if key.kind.1 == "ENCRYPT_DECRYPT" => Some(UNSUPPORTED),
        // The row says that the store is connected, and its token is nowhere: "You can retry".
        _ if sort == Sort::InStore && crypto.contains(&name) => {
            Some(Answer::Other("KeyUnavailableException", 500))
        }
        _ => None,
    }
}

/// What was asked for, and what was wrong with the answers.
#[derive(Default)]
struct Findings {
    asked: usize,
    wrong: Vec<String>,
}

/// Asks for an operation on a key.
async fn judge(table: &Json, name: &str, key: &Made, findings: &mut Findings) {
    let expected = verdict(table, name, key.sort, key.state).or_else(|| beyond(name, key));
    for input in key.inputs(name) {
        findings.asked += 1;
        let operation = registry::find(Service::Kms, name).expect("every operation is served");
        let outcome = operation.run(&key.call, input).await;
        let fits = match (&outcome, expected) {
            (Ok(_), None) => true,
            (Err(error), Some(expected)) => expected.is(error, key),
            (Ok(_), Some(_)) | (Err(_), None) => false,
        };
        if !fits {
            let outcome = outcome.err().map(|error| format!("{} {error}", error.code()));
            let (sort, state) = (key.sort, key.state);
            let found = format!("{name}, {sort:?}, {state}: {outcome:?}, not {expected:?}");
            findings.wrong.push(found);
        }
    }
}

/// Every operation on keys of one sort in one state: first those that leave another key behind, each on a key of its
/// own; then the others, on one key of each kind. What makes a key settles all that were made before it.
async fn walk(
    bench: &Bench,
    table: &Json,
    sort: Sort,
    state: &'static str,
    findings: &mut Findings,
) {
    let names = table["ops"].as_object().expect("operations").keys().map(String::as_str);
    let (changing, others): (Vec<_>, Vec<_>) = names
        .filter(|name| *name != OF_NO_KEY)
        .partition(|name| CHANGING.contains(name) && verdict(table, name, sort, state).is_none());
    for name in changing {
        let key = made(bench, sort, state, name).await;
        key.settle_store(bench).await;
        assert_eq!(key.shown_state().await, state, "{name} {sort:?}");
        judge(table, name, &key, findings).await;
    }
    let mut kinds: Vec<Vec<&str>> = Vec::new();
    for name in others {
        match kinds.iter_mut().find(|names| sort.kind_for(names[0]) == sort.kind_for(name)) {
            Some(names) => names.push(name),
            None => kinds.push(vec![name]),
        }
    }
    for names in kinds {
        let key = made(bench, sort, state, names[0]).await;
        key.settle_store(bench).await;
        for name in names {
            judge(table, name, &key, findings).await;
            assert_eq!(key.shown_state().await, state, "{name} {sort:?}");
        }
    }
}

#[tokio::test]
async fn operations_answer_as_in_the_guide() {
    let bench = bench().await;
    let table: Json = serde_json::from_str(TABLE).expect("the table is JSON");
    let mut findings = Findings::default();
    for sort in Sort::ALL {
        for state in sort.states() {
            walk(&bench, &table, sort, state, &mut findings).await;
        }
    }
    assert!(findings.wrong.is_empty(), "{}", findings.wrong.join("\n"));
    // 28 pairs of a sort and a state, 45 operations on a key, ReEncrypt on either side.
    assert_eq!(findings.asked, 28 * (45 + 1));
}
