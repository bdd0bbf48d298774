//! What a change of a user's or role's own policies would break or open. Recorded decisions about it
//! are taken again, with its policies as they are and as they would be.

use super::{Affected, Changed, RECORDS_MAX, VERSION, WhatIf, broken, context, facts, list, told};
use crate::call::Call;
use crate::decided::{Decided, DecisionId, Decisions};
use crate::error::Error;
use crate::explain::story::decisions;
use awsproto::code::VALIDATION_ERROR;
use base::{AccountId, Arn, Region, Timestamp};
use events::Record;
use iam::{AttachedPolicy, Layer, Layers, Policy, PolicyKind, Reason, ResourceLayer};
use identity::entity::Entity;
use identity::{managed, role};
use kms::Kms;
use kms::guard::Question;
use std::sync::Arc;

/// A change that is not made.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// PutUserPolicy or PutRolePolicy.
    Put {
        /// Of the policy.
        name: String,
        /// Its text.
        document: String,
    },
    /// DeleteUserPolicy or DeleteRolePolicy of this name.
    Delete(String),
    /// AttachUserPolicy or AttachRolePolicy of this ARN.
    Attach(String),
    /// DetachUserPolicy or DetachRolePolicy of this ARN.
    Detach(String),
    /// PutUserPermissionsBoundary or PutRolePermissionsBoundary with this ARN.
    Bound(String),
    /// DeleteUserPermissionsBoundary or DeleteRolePermissionsBoundary.
    Unbound,
}

/// The change, applied to the layers of a decision.
enum Applied {
    Replaced(AttachedPolicy),
    Removed(String),
    Bounded(Option<AttachedPolicy>),
}

/// Looks at everything that was decided about a user or role.
///
/// # Errors
/// When rows cannot be read, the policy could not be saved, or what shall go is not there.
pub(crate) async fn what_if(
    call: &Call,
    entity: Entity,
    change: Change,
    since: Timestamp,
) -> Result<WhatIf, Error> {
    let applied = Arc::new(applied(call, &entity, &change).await?);
    call.world.trail.settle().await;
    let (mut replayed, mut changed) = (0, Vec::<Changed>::new());
    for record in &records(call, &entity, since).await? {
        let Some(decisions) = decisions(record) else { continue };
        if decisions.principal.unique_id != entity.unique_id {
            continue;
        }
        for (index, decided) in decisions.asks.iter().enumerate() {
            let again = Again { call, record, decisions: &decisions, decided };
            let Some((was, (allowed, why))) = again.decide(&applied).await? else { continue };
            replayed += 1;
            if was == allowed {
                continue;
            }
            let id = DecisionId {
                account: record.recipient().clone(),
                event_id: record.event_id().to_owned(),
                number: Some(index + 1),
            };
            let otherwise = super::Otherwise { allowed, why };
            let mut told = told(call, &id, record, &decisions, decided, otherwise);
            told.resource.get_or_insert_with(|| decided.resource.clone());
            changed.push(told);
        }
    }
    Ok(WhatIf {
        version: VERSION,
        key: None,
        principal: Some(entity.arn().to_string()),
        change: words(&change),
        affected: affected(&changed),
        changed,
        replayed,
        since: since.iso_seconds(),
    })
}

fn words(change: &Change) -> String {
    match change {
        Change::Put { name, .. } => format!("its policy {name} has the candidate text"),
        Change::Delete(name) => format!("its policy {name} is deleted"),
        Change::Attach(arn) => format!("{arn} is attached"),
        Change::Detach(arn) => format!("{arn} is detached"),
        Change::Bound(arn) => format!("{arn} is its boundary"),
        Change::Unbound => "it has no boundary".to_owned(),
    }
}

/// Reads and checks the change as the operation that would make it does.
async fn applied(call: &Call, entity: &Entity, change: &Change) -> Result<Applied, Error> {
    let attached = |layer, name: &str, text: &str| {
        let malformed = |error: iam::PolicyError| {
            Error::from(identity::Error::MalformedPolicy { message: error.to_string() })
        };
        let policy = Policy::parse(text, PolicyKind::Identity).map_err(malformed);
        policy.map(|policy| AttachedPolicy {
            layer,
            name_or_arn: name.to_owned(),
            policy: Arc::new(policy),
        })
    };
    match change {
        Change::Put { name, document } => {
            Ok(Applied::Replaced(attached(Layer::Identity, name, document)?))
        }
        Change::Attach(arn) => {
            let text = text_of(call, &entity.account, arn).await?;
            Ok(Applied::Replaced(attached(Layer::Identity, arn, &text)?))
        }
        Change::Bound(arn) => {
            let text = text_of(call, &entity.account, arn).await?;
            Ok(Applied::Bounded(Some(attached(Layer::Boundary, arn, &text)?)))
        }
        Change::Unbound => Ok(Applied::Bounded(None)),
        Change::Delete(name) | Change::Detach(name) => {
            let (wanted, of) = (name.clone(), entity.clone());
            let there = call.world.db.read(move |tx| {
                let inline = identity::inline::list(tx, &of)?;
                let attached = identity::attachment::of(tx, &of)?;
                let mut names = inline.into_iter().map(|policy| policy.name).chain(attached);
                Ok::<_, identity::Error>(names.any(|name| name == wanted))
            });
            match there.await? {
                true => Ok(Applied::Removed(name.clone())),
                false => Err(Error::new(
                    VALIDATION_ERROR,
                    format!("{} has no policy {name}.", entity.arn()),
                )),
            }
        }
    }
}

async fn text_of(call: &Call, account: &AccountId, arn: &str) -> Result<String, Error> {
    let (account, arn) = (account.clone(), arn.to_owned());
    let found = call.world.db.read(move |tx| {
        let policy = managed::find(tx, &account, &arn)?;
        managed::find_version(tx, &policy, policy.default_version)
    });
    Ok(found.await?.document)
}

/// The newest records of the account, in every region.
async fn records(call: &Call, entity: &Entity, since: Timestamp) -> Result<Vec<Record>, Error> {
    let account = entity.account.clone();
    let regions: Vec<Region> = call.world.regions.iter().cloned().collect();
    let found = call.world.db.read(move |tx| {
        let mut records = Vec::new();
        for region in &regions {
            records.extend(events::decided(tx, &account, region, since, RECORDS_MAX)?);
        }
        Ok::<_, events::Error>(records)
    });
    let mut records = found.await?;
    records.sort_by_key(|record| std::cmp::Reverse(record.time()));
    records.truncate(RECORDS_MAX);
    Ok(records)
}

/// What is asked for once more.
struct Again<'a> {
    call: &'a Call,
    record: &'a Record,
    decisions: &'a Decisions,
    decided: &'a Decided,
}

impl Again<'_> {
    /// Whether it would be allowed with the policies of today, and with the change; absent of what
    /// does not hang on them, and of what cannot be asked again.
    async fn decide(
        &self,
        applied: &Arc<Applied>,
    ) -> Result<Option<(bool, (bool, String))>, Error> {
        let Self { call, record, decisions, decided } = self;
        if !hangs_on_policies(decided) {
            return Ok(None);
        }
        let (identity, kms) = (call.world.identity.clone(), call.world.kms.clone());
        let (applied, decided) = (Arc::clone(applied), (*decided).clone());
        let context = context(call, record, decisions, &decided);
        let via = decisions.origin.via_service.clone();
        let caller = decisions.principal.clone();
        let verdicts = call.world.db.read(move |tx| {
            let mut layers = identity.layers(tx, &caller, &[]).map_err(Error::from)?;
            match side_of_resource(tx, &kms, &caller, via.as_deref(), &decided)? {
                Side::None => {}
                Side::Gone => return Ok(None),
                Side::Policy(layer, grants) => {
                    (layers.resource, layers.grants) = (Some(layer), grants)
                }
            }
            let request = iam::Request {
                principal: &caller,
                action: &decided.action,
                resource: &decided.resource,
                resource_account: decided.account.as_ref(),
                context: &context,
            };
            let was = iam::evaluate(&request, &layers).allowed;
            applied.change(&mut layers);
            let is = iam::evaluate(&request, &layers);
            let why = is.message().unwrap_or_default();
            Ok::<_, Error>(Some((was, (is.allowed, why))))
        });
        verdicts.await
    }
}

/// Session policies are not recorded: what they denied, they would deny again. Needing no permission
/// is not changed by any, and neither is who retires a grant or opens an attachment.
fn hangs_on_policies(decided: &Decided) -> bool {
    let of_session = match &decided.reason {
        Reason::ImplicitDeny(layer) => *layer == Layer::Session,
        Reason::ExplicitDeny(statement) => statement.layer == Layer::Session,
        Reason::AllowedByStatement(_) | Reason::AllowedByGrant { .. } | Reason::AllowedAsRoot => {
            false
        }
    };
    let fixed = [
        "kms:RetireGrant",
        "sts:GetCallerIdentity",
        "sts:GetSessionToken",
        "strongroom:CompleteAttachment",
        "strongroom:OpenAttachment",
        "strongroom:ResumeAttachment",
    ];
    !of_session && !fixed.contains(&decided.action.as_str())
}

enum Side {
    /// The resource has no policy of its own.
    None,
    /// It had one and is gone.
    Gone,
    Policy(ResourceLayer, Vec<iam::GrantMatch>),
}

fn side_of_resource(
    tx: &mut meta::Tx<'_>,
    kms: &Kms,
    caller: &iam::Principal,
    via_service: Option<&str>,
    decided: &Decided,
) -> Result<Side, Error> {
    let Some(arn) = Arn::parse(&decided.resource) else { return Ok(Side::None) };
    if decided.action.starts_with("sts:") && arn.resource.starts_with("role/") {
        let role = role::find_by_arn(tx, &decided.resource)?;
        return Ok(match role {
            Some(role) => Side::Policy(role.trust_layer()?, Vec::new()),
            None => Side::Gone,
        });
    }
    let key_id = arn.resource.strip_prefix("key/").filter(|_| arn.service == "kms");
    let (Some(key_id), Some(action)) = (key_id, super::action(&decided.action)) else {
        return Ok(Side::None);
    };
    let (Ok(account), Ok(region)) = (AccountId::parse(&arn.account), Region::parse(&arn.region))
    else {
        return Ok(Side::Gone);
    };
    let key = match kms::key::get(tx, &account, &region, key_id) {
        Ok(key) => key,
        Err(kms::Error::KeyNotFound { .. }) => return Ok(Side::Gone),
        Err(error) => return Err(error.into()),
    };
    let facts = facts(&decided.context);
    let question = Question {
        action,
        key: &key,
        request_alias: None,
        caller,
        via_service,
        facts: &facts,
        assumed: &[],
    };
    let guard = kms.guard(tx, &question)?;
    Ok(Side::Policy(guard.layer, guard.grants))
}

impl Applied {
    fn change(&self, layers: &mut Layers) {
        match self {
            Self::Replaced(policy) => {
                remove(layers, &policy.name_or_arn);
                layers.identity.push(policy.clone());
            }
            Self::Removed(name) => remove(layers, name),
            Self::Bounded(policy) => layers.boundary.clone_from(policy),
        }
    }
}

/// Takes away one policy. What a group has attached as well stays: the principal's own come first.
fn remove(layers: &mut Layers, name: &str) {
    let own = layers.identity.iter().position(|known| known.name_or_arn == name);
    if let Some(own) = own {
        layers.identity.remove(own);
    }
}

/// Volumes and snapshots of the decisions that would be denied.
fn affected(changed: &[Changed]) -> Vec<Affected> {
    let broken = broken(changed);
    let told = |(resource, actions): (&&str, _)| Affected {
        resource: (*resource).to_owned(),
        next: format!("{} is denied", list(actions)),
    };
    broken.iter().map(told).collect()
}
