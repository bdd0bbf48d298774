//! What a change of a key would break: its volumes and snapshots, and the recorded decisions that
//! would come out otherwise. The decisions are taken again, over the key as it would be. The same of
//! policies of users, roles and groups is in [`policies`].

pub(crate) mod policies;

use crate::authorize;
use crate::call::{Call, Caller, Forwarded};
use crate::decided::{Decided, DecisionId, Decisions, Origin};
use crate::error::Error;
use crate::explain::story::{decisions, service};
use base::{AccountId, Region, Timestamp};
use ebs::{attachment, snapshot, volume};
use events::Record;
use iam::{Context, Layers, PrincipalKind};
use kms::condition::Facts;
use kms::guard::Question;
use kms::key_store;
use kms::spec::EncryptionAlgorithm;
use kms::{Action, EncryptionContext, Key, KeyFacts, KeyState, Kms};
use lifecycle::port::kms::CONTEXT_KEY;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u8 = 1;
/// Records of each account that are looked at.
const RECORDS_MAX: usize = 5_000;
/// Of the condition keys that hold an encryption context.
const CONTEXT_PREFIX: &str = "kms:EncryptionContext:";

/// A change that is not made.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// DisableKey.
    Disable,
    /// ScheduleKeyDeletion.
    ScheduleDeletion,
    /// PutKeyPolicy with this text.
    Policy(String),
    /// RevokeGrant.
    Revoke(String),
}

/// What would break.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WhatIf {
    pub(crate) version: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    /// The user, role or group whose policies would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) principal: Option<String>,
    /// The managed policy that would change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// The change, in words.
    pub(crate) change: String,
    /// Volumes and snapshots under the key that would next fail, and at what.
    pub(crate) affected: Vec<Affected>,
    /// Recorded decisions that would come out otherwise, newest first.
    pub(crate) changed: Vec<Changed>,
    /// Decisions that were taken again.
    pub(crate) replayed: usize,
    /// The earliest record that was looked at.
    pub(crate) since: String,
}

/// Something under the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Affected {
    pub(crate) resource: String,
    /// What fails next, as a sentence.
    pub(crate) next: String,
}

/// A decision that would come out otherwise.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Changed {
    pub(crate) explain_id: String,
    pub(crate) time: String,
    pub(crate) operation: String,
    pub(crate) action: String,
    /// The caller; of another account only which.
    pub(crate) who: String,
    /// The volume or snapshot in the encryption context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    pub(crate) was_allowed: bool,
    pub(crate) would_be_allowed: bool,
    pub(crate) why: String,
}

/// Looks at everything under a key.
///
/// # Errors
/// When rows cannot be read, or the policy could not be saved.
pub(crate) async fn what_if(
    call: &Call,
    key: Key,
    change: Change,
    since: Timestamp,
) -> Result<WhatIf, Error> {
    if let Change::Revoke(id) = &change {
        let (key, id) = (key.clone(), id.clone());
        call.world.db.read(move |tx| kms::grant::of_key(tx, &key, &id).map(drop)).await?;
    }
    let replay = Replay {
        kms: call.world.kms.clone(),
        identity: call.world.identity.clone(),
        key: key.clone(),
        changed: changed_key(call, &key, &change).await?,
        revoked: match &change {
            Change::Revoke(id) => Some(id.clone()),
            Change::Disable | Change::ScheduleDeletion | Change::Policy(_) => None,
        },
    };
    call.world.trail.settle().await;
    let records = records(call, &key, since).await?;
    let (mut replayed, mut changed) = (0, Vec::new());
    for record in &records {
        let Some(decisions) = decisions(record) else { continue };
        for (index, decided) in decisions.asks.iter().enumerate() {
            if decided.resource != key.arn().to_string() {
                continue;
            }
            replayed += 1;
            let id = DecisionId {
                account: record.recipient().clone(),
                event_id: record.event_id().to_owned(),
                number: Some(index + 1),
            };
            let outcome = replay.decide(call, record, &decisions, decided).await?;
            changed.extend(
                outcome.map(|outcome| told(call, &id, record, &decisions, decided, outcome)),
            );
        }
    }
    Ok(WhatIf {
        version: VERSION,
        key: Some(key.arn().to_string()),
        principal: None,
        policy: None,
        change: words(&change),
        affected: affected(call, &key, &change, &changed).await?,
        changed,
        replayed,
        since: since.iso_seconds(),
    })
}

fn words(change: &Change) -> String {
    match change {
        Change::Disable => "the key is disabled".to_owned(),
        Change::ScheduleDeletion => "the key's deletion is scheduled".to_owned(),
        Change::Policy(_) => "the key has the candidate policy".to_owned(),
        Change::Revoke(id) => format!("grant {id} is revoked"),
    }
}

fn in_state(key: &Key, state: KeyState) -> Key {
    KeyFacts { state, ..KeyFacts::clone(key) }.into()
}

async fn changed_key(call: &Call, key: &Key, change: &Change) -> Result<Key, Error> {
    let key = key.clone();
    match change {
        Change::Disable => Ok(in_state(&key, KeyState::Disabled)),
        Change::ScheduleDeletion => Ok(in_state(&key, KeyState::PendingDeletion)),
        Change::Revoke(_) => Ok(key),
        Change::Policy(text) => {
            let (kms, text) = (call.world.kms.clone(), text.clone());
            Ok(call.world.db.read(move |tx| kms.with_policy(tx, &key, &text)).await?)
        }
    }
}

/// The records of calls on the key: those of its owner's account, and those of others that the owner
/// has copies of.
async fn records(call: &Call, key: &Key, since: Timestamp) -> Result<Vec<Record>, Error> {
    let (account, region) = (key.account.clone(), key.region.clone());
    let found = call.world.db.read(move |tx| {
        let own = events::decided(tx, &account, &region, since, RECORDS_MAX)?;
        let mut records = Vec::new();
        for record in own {
            if record.decisions().is_some() {
                records.push(record);
                continue;
            }
            let original = record.explain_id().and_then(DecisionId::parse);
            if let Some(id) = original.filter(|id| id.account != account) {
                records.extend(events::stored(tx, &id.account, &region, &id.event_id)?);
            }
        }
        Ok::<_, events::Error>(records)
    });
    Ok(found.await?)
}

struct Replay {
    kms: Kms,
    identity: identity::Identity,
    key: Key,
    changed: Key,
    revoked: Option<String>,
}

/// What a decision would be, when that is not what it was.
struct Otherwise {
    allowed: bool,
    why: String,
}

impl Replay {
    /// Decides once more, with the policies of today and the key as it would be; compared with the
    /// same over the key as it is, so that only the change counts.
    async fn decide(
        &self,
        call: &Call,
        record: &Record,
        decisions: &Decisions,
        decided: &Decided,
    ) -> Result<Option<Otherwise>, Error> {
        // Who retires a grant is the grant's to say, in every state of the key (spec 20, B.6).
        let action = action(&decided.action).filter(|action| *action != Action::RetireGrant);
        let Some(action) = action else { return Ok(None) };
        let facts = facts(&decided.context);
        let context = context(call, record, decisions, decided);
        let (kms, identity) = (self.kms.clone(), self.identity.clone());
        let (key, changed) = (self.key.clone(), self.changed.clone());
        let (revoked, caller) = (self.revoked.clone(), decisions.principal.clone());
        let Origin { via_service: via, source_arn, .. } = decisions.origin.clone();
        let (resource, asked) = (decided.resource.clone(), decided.action.clone());
        let verdicts = call.world.db.read(move |tx| {
            let layers = match caller.kind {
                PrincipalKind::Service { .. }
                | PrincipalKind::WebIdentity { .. }
                | PrincipalKind::Saml { .. } => Layers::default(),
                PrincipalKind::Root
                | PrincipalKind::User { .. }
                | PrincipalKind::AssumedRole { .. }
                | PrincipalKind::FederatedUser { .. } => {
                    identity.layers(tx, &caller, &[]).map_err(Error::from)?
                }
            };
            let mut judge = |key: &Key, revoked: Option<&str>| {
                let question = Question {
                    action,
                    key,
                    request_alias: None,
                    caller: &caller,
                    via_service: via.as_deref(),
                    source_arn: source_arn.as_deref(),
                    facts: &facts,
                    assumed: &[],
                };
                let guard = kms.guard(tx, &question).map_err(Error::from)?;
                let mut layers = layers.clone();
                layers.resource = Some(guard.layer);
                layers.grants = guard.grants;
                layers.grants.retain(|grant| Some(grant.grant_id.as_str()) != revoked);
                let request = iam::Request {
                    principal: &caller,
                    action: &asked,
                    resource: &resource,
                    resource_account: Some(&key.account),
                    context: &context,
                };
                let decision = iam::evaluate(&request, &layers);
                let state = key_store::shown_state(tx, key).map_err(Error::from)?;
                Ok::<_, Error>(match action.check_state(&resource, state, key.origin) {
                    Err(error) if decision.allowed => (false, error.to_string()),
                    _ => (decision.allowed, decision.message().unwrap_or_default()),
                })
            };
            Ok::<_, Error>((judge(&key, None)?, judge(&changed, revoked.as_deref())?))
        });
        let ((was, _), (is, why)) = verdicts.await?;
        Ok((was != is).then_some(Otherwise { allowed: is, why }))
    }
}

fn action(name: &str) -> Option<Action> {
    let name = name.strip_prefix("kms:")?;
    Action::ALL.into_iter().find(|action| action.as_str() == name)
}

/// The encryption context of a recorded decision.
fn facts(context: &Context) -> Facts {
    let pairs = context.iter().filter_map(|(key, value)| {
        // Records of earlier releases have it in lower case.
        let name = iam::after_prefix(key, CONTEXT_PREFIX)?;
        match value {
            iam::ContextValue::Single(value) => Some((name.to_owned(), value.to_string())),
            iam::ContextValue::Multi(_) => None,
        }
    });
    match EncryptionContext::new(pairs) {
        Ok(context) => Facts::Crypto { context, algorithm: EncryptionAlgorithm::SymmetricDefault },
        Err(_) => Facts::None,
    }
}

/// The condition keys as they were.
fn context(call: &Call, record: &Record, decisions: &Decisions, decided: &Decided) -> Context {
    let origin = &decisions.origin;
    let mut then = call.fork(Caller {
        principal: decisions.principal.clone(),
        access_key_id: None,
        session_policies: Vec::new(),
        source_ip: origin.source_ip.clone(),
        secure_transport: origin.secure_transport,
        user_agent: origin.user_agent.clone(),
        forwarded: (origin.via_service.is_some() || origin.source_arn.is_some()).then(|| {
            Forwarded {
                via_service: origin.via_service.clone(),
                source_arn: origin.source_arn.clone(),
                invoked_by: String::new(),
                shared_request_id: None,
                cause: None,
            }
        }),
    });
    (then.now, then.region) = (record.time(), record.region().clone());
    let mut context = authorize::global_context(&then);
    context.extend(&decided.context);
    context
}

fn told(
    call: &Call,
    id: &DecisionId,
    record: &Record,
    decisions: &Decisions,
    decided: &Decided,
    otherwise: Otherwise,
) -> Changed {
    let own = decisions.principal.account == *call.account();
    let resource = decided.context.get(&format!("{CONTEXT_PREFIX}{CONTEXT_KEY}"));
    let account = &decisions.principal.account;
    Changed {
        explain_id: id.to_string(),
        time: record.time().iso_seconds(),
        operation: format!("{}:{}", service(record.event_source()), record.event_name()),
        action: decided.action.clone(),
        who: match own {
            true => decisions.principal.arn.clone(),
            false => format!("a principal of account {account}"),
        },
        resource: match resource {
            Some(iam::ContextValue::Single(id)) => Some(id.to_string()),
            Some(iam::ContextValue::Multi(_)) | None => None,
        },
        was_allowed: !otherwise.allowed,
        would_be_allowed: otherwise.allowed,
        why: if own { otherwise.why } else { String::new() },
    }
}

/// The volumes and snapshots under the key, and what of theirs fails next.
async fn affected(
    call: &Call,
    key: &Key,
    change: &Change,
    changed: &[Changed],
) -> Result<Vec<Affected>, Error> {
    let (account, region): (AccountId, Region) = (key.account.clone(), key.region.clone());
    let arn = key.arn().to_string();
    let under = call.world.db.read(move |tx| {
        let ours = |of: &Option<String>| of.as_deref() == Some(arn.as_str());
        let volumes = volume::list(tx, &account, &region)?;
        let snapshots = snapshot::list_owned(tx, &account, &region)?;
        let attached = attachment::list(tx, &account, &region)?;
        let volumes: Vec<_> = volumes.into_iter().filter(|v| ours(&v.kms_key_arn)).collect();
        let snapshots: Vec<_> = snapshots.into_iter().filter(|s| ours(&s.kms_key_arn)).collect();
        Ok::<_, ebs::Error>((volumes, snapshots, attached))
    });
    let (volumes, snapshots, attached) = under.await?;
    let broken: BTreeMap<&str, BTreeSet<&str>> = broken(changed);
    let mut affected = Vec::new();
    let mut add = |resource: String, next: String| affected.push(Affected { resource, next });
    for volume in &volumes {
        let id = volume.id.as_str();
        let here: Vec<_> = attached.iter().filter(|row| row.volume == volume.id).collect();
        let running = match here.is_empty() {
            true => "",
            false => "; it keeps running until it is detached or the server starts again",
        };
        match change {
            Change::Disable | Change::ScheduleDeletion => {
                add(id.to_owned(), format!("attaching it fails{running}"));
            }
            Change::Revoke(grant) => {
                if here.iter().any(|row| row.grant_id.as_ref() == Some(grant)) {
                    add(id.to_owned(), format!("attaching it again after a start fails{running}"));
                }
            }
            Change::Policy(_) => {
                if let Some(actions) = broken.get(id) {
                    add(id.to_owned(), format!("{}{running}", denied(actions)));
                }
            }
        }
    }
    for snapshot in &snapshots {
        let id = snapshot.id.as_str();
        match change {
            Change::Disable | Change::ScheduleDeletion => add(
                id.to_owned(),
                "copying it, making volumes of it and reading its blocks fail".to_owned(),
            ),
            Change::Revoke(_) => {}
            // A snapshot keeps the context of its volume.
            Change::Policy(_) => {
                let context = snapshot.data_key.as_ref().map(|key| key.context_id.as_str());
                if let Some(actions) = context.and_then(|context| broken.get(context)) {
                    add(id.to_owned(), denied(actions));
                }
            }
        }
    }
    Ok(affected)
}

/// By resource, the actions that would be denied.
fn broken(changed: &[Changed]) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut broken: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for change in changed.iter().filter(|change| !change.would_be_allowed) {
        if let Some(resource) = &change.resource {
            broken.entry(resource).or_default().insert(&change.action);
        }
    }
    broken
}

/// `kms:CreateGrant is denied`, `kms:CreateGrant and kms:Decrypt are denied`.
fn denied(actions: &BTreeSet<&str>) -> String {
    let mut names: Vec<_> = actions.iter().copied().collect();
    match (names.pop(), names.is_empty()) {
        (Some(last), false) => format!("{} and {last} are denied", names.join(", ")),
        (last, _) => format!("{} is denied", last.unwrap_or_default()),
    }
}
