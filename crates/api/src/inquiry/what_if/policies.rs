//! What a change of policies would break or open: of a user's, role's or group's own, of who is in a
//! group, or of a managed policy wherever it is attached. Recorded decisions about those concerned are
//! taken again, with their policies as they are and as they would be.

use super::{
    Affected, Changed, RECORDS_MAX, VERSION, WhatIf, broken, context, denied, facts, told,
};
use crate::call::Call;
use crate::decided::{Decided, DecisionId, Decisions, Origin};
use crate::error::Error;
use crate::explain::story::decisions;
use awsproto::code::VALIDATION_ERROR;
use base::{AccountId, Arn, Region, Timestamp};
use events::Record;
use iam::{AttachedPolicy, Layer, Layers, Policy, PolicyKind, Reason, ResourceLayer};
use identity::entity::Entity;
use identity::managed::{self, ManagedPolicy};
use identity::{Kind, group, inline_name, role};
use kms::Kms;
use kms::guard::Question;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A change that is not made.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Of the own policies of a user, role or group.
    Own(Entity, OwnChange),
    /// Of a managed policy.
    Managed(ManagedPolicy, VersionChange),
}

/// A change of the policies of a user, role or group.
#[derive(Clone, Debug)]
pub(crate) enum OwnChange {
    /// PutUserPolicy, PutRolePolicy or PutGroupPolicy.
    Put {
        /// Of the policy.
        name: String,
        /// Its text.
        document: String,
    },
    /// DeleteUserPolicy, DeleteRolePolicy or DeleteGroupPolicy of this name.
    Delete(String),
    /// AttachUserPolicy, AttachRolePolicy or AttachGroupPolicy of this ARN.
    Attach(String),
    /// DetachUserPolicy, DetachRolePolicy or DetachGroupPolicy of this ARN.
    Detach(String),
    /// PutUserPermissionsBoundary or PutRolePermissionsBoundary with this ARN.
    Bound(String),
    /// DeleteUserPermissionsBoundary or DeleteRolePermissionsBoundary.
    Unbound,
    /// AddUserToGroup with this group.
    Join(Entity),
    /// RemoveUserFromGroup with this group.
    Leave(Entity),
}

/// A change of a managed policy.
#[derive(Clone, Debug)]
pub(crate) enum VersionChange {
    /// CreatePolicyVersion with this text, in force at once.
    Create(String),
    /// SetDefaultPolicyVersion with this number.
    Default(u32),
}

/// The change, applied to the layers of a decision.
enum Applied {
    /// Identity policies that go, by name or ARN, and those that come.
    Exchanged { gone: Vec<String>, come: Vec<AttachedPolicy> },
    /// Another boundary.
    Bounded(Option<AttachedPolicy>),
    /// Another text of a managed policy, wherever it stands.
    Rewritten { arn: String, policy: Arc<Policy> },
}

/// Whose decisions may come out otherwise.
enum Concerned {
    /// These users or roles, by unique id.
    Only(BTreeSet<String>),
    /// Whoever has the policy.
    WhoHasIt,
}

/// Looks at everything that was decided about those concerned.
///
/// # Errors
/// When rows cannot be read, the policy could not be saved, or what shall go is not there.
pub(crate) async fn what_if(
    call: &Call,
    change: Change,
    since: Timestamp,
) -> Result<WhatIf, Error> {
    let (concerned, applied) = match &change {
        Change::Own(entity, change) => {
            (concerned(call, entity).await?, applied(call, entity, change).await?)
        }
        Change::Managed(policy, change) => {
            (Concerned::WhoHasIt, rewritten(call, policy, change).await?)
        }
    };
    let (applied, account) = (Arc::new(applied), call.account());
    call.world.trail.settle().await;
    let (mut replayed, mut changed) = (0, Vec::<Changed>::new());
    for record in &records(call, account, since).await? {
        let Some(decisions) = decisions(record) else { continue };
        let about = match &concerned {
            Concerned::Only(ids) => ids.contains(&decisions.principal.unique_id),
            Concerned::WhoHasIt => decisions.principal.account == *account,
        };
        if !about {
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
    let (principal, policy) = match &change {
        Change::Own(entity, _) => (Some(entity.arn().to_string()), None),
        Change::Managed(policy, _) => (None, Some(policy.arn())),
    };
    Ok(WhatIf {
        version: VERSION,
        key: None,
        principal,
        policy,
        change: words(&change),
        affected: affected(&changed),
        changed,
        replayed,
        since: since.iso_seconds(),
    })
}

fn words(change: &Change) -> String {
    match change {
        Change::Own(_, OwnChange::Put { name, .. }) => {
            format!("its policy {name} has the candidate text")
        }
        Change::Own(_, OwnChange::Delete(name)) => format!("its policy {name} is deleted"),
        Change::Own(_, OwnChange::Attach(arn)) => format!("{arn} is attached"),
        Change::Own(_, OwnChange::Detach(arn)) => format!("{arn} is detached"),
        Change::Own(_, OwnChange::Bound(arn)) => format!("{arn} is its boundary"),
        Change::Own(_, OwnChange::Unbound) => "it has no boundary".to_owned(),
        Change::Own(_, OwnChange::Join(group)) => format!("it is in group {}", group.name),
        Change::Own(_, OwnChange::Leave(group)) => format!("it is not in group {}", group.name),
        Change::Managed(_, VersionChange::Create(_)) => {
            "a version with the candidate text is in force".to_owned()
        }
        Change::Managed(_, VersionChange::Default(version)) => {
            format!("its version v{version} is in force")
        }
    }
}

/// Whose policies a change of an entity's changes.
async fn concerned(call: &Call, entity: &Entity) -> Result<Concerned, Error> {
    let of = entity.clone();
    let ids = call.world.db.read(move |tx| match of.kind {
        Kind::Group => Ok(group::members_of(tx, &of)?.into_iter().map(|m| m.unique_id).collect()),
        Kind::User | Kind::Role => Ok::<_, identity::Error>(BTreeSet::from([of.unique_id.clone()])),
    });
    Ok(Concerned::Only(ids.await?))
}

fn malformed(error: iam::PolicyError) -> Error {
    identity::Error::MalformedPolicy { message: error.to_string() }.into()
}

/// Reads and checks the change as the operation that would make it does.
async fn applied(call: &Call, entity: &Entity, change: &OwnChange) -> Result<Applied, Error> {
    let attached = |layer, name: &str, text: &str| {
        let policy = Policy::parse(text, PolicyKind::Identity).map_err(malformed);
        policy.map(|policy| AttachedPolicy {
            layer,
            name_or_arn: name.to_owned(),
            policy: Arc::new(policy),
        })
    };
    let replaced = |policy: AttachedPolicy| Applied::Exchanged {
        gone: vec![policy.name_or_arn.clone()],
        come: vec![policy],
    };
    match change {
        OwnChange::Put { name, document } => {
            let name = inline_name(entity, name);
            Ok(replaced(attached(Layer::Identity, &name, document)?))
        }
        OwnChange::Attach(arn) => {
            let text = text_of(call, &entity.account, arn).await?;
            Ok(replaced(attached(Layer::Identity, arn, &text)?))
        }
        OwnChange::Bound(arn) => {
            let text = text_of(call, &entity.account, arn).await?;
            Ok(Applied::Bounded(Some(attached(Layer::Boundary, arn, &text)?)))
        }
        OwnChange::Unbound => Ok(Applied::Bounded(None)),
        OwnChange::Delete(name) => removed(call, entity, name, &inline_name(entity, name)).await,
        OwnChange::Detach(arn) => removed(call, entity, arn, arn).await,
        // As the operations themselves: doing it again changes nothing.
        OwnChange::Join(group) if is_in(call, entity, group).await? => Ok(Applied::nothing()),
        OwnChange::Join(group) => {
            let come = policies_of(call, group).await?;
            Ok(Applied::Exchanged { gone: Vec::new(), come })
        }
        OwnChange::Leave(group) if is_in(call, entity, group).await? => {
            let policies = policies_of(call, group).await?;
            let gone = policies.into_iter().map(|policy| policy.name_or_arn).collect();
            Ok(Applied::Exchanged { gone, come: Vec::new() })
        }
        OwnChange::Leave(_) => Ok(Applied::nothing()),
    }
}

/// Without the policy that decisions call `shown`, which there must be.
async fn removed(call: &Call, entity: &Entity, name: &str, shown: &str) -> Result<Applied, Error> {
    let own = policies_of(call, entity).await?;
    if own.iter().any(|policy| policy.name_or_arn == shown) {
        return Ok(Applied::Exchanged { gone: vec![shown.to_owned()], come: Vec::new() });
    }
    Err(Error::new(VALIDATION_ERROR, format!("{} has no policy {name}.", entity.arn())))
}

async fn is_in(call: &Call, user: &Entity, group: &Entity) -> Result<bool, Error> {
    let of = user.clone();
    let groups = call.world.db.read(move |tx| group::groups_of(tx, &of)).await?;
    Ok(groups.iter().any(|known| known.unique_id == group.unique_id))
}

async fn policies_of(call: &Call, entity: &Entity) -> Result<Vec<AttachedPolicy>, Error> {
    let (identity, of) = (call.world.identity.clone(), entity.clone());
    Ok(call.world.db.read(move |tx| identity.policies_of(tx, &of)).await?)
}

/// A managed policy with the text of its new version, checked as when that is made.
async fn rewritten(
    call: &Call,
    policy: &ManagedPolicy,
    change: &VersionChange,
) -> Result<Applied, Error> {
    managed::customer(policy)?;
    let text = match change {
        VersionChange::Create(text) => text.clone(),
        VersionChange::Default(version) => {
            let (policy, version) = (policy.clone(), *version);
            let found = move |tx: &mut meta::Tx<'_>| managed::find_version(tx, &policy, version);
            call.world.db.read(found).await?.document
        }
    };
    managed::check_document(&text)?;
    let parsed = Policy::parse(&text, PolicyKind::Identity).map_err(malformed)?;
    Ok(Applied::Rewritten { arn: policy.arn(), policy: Arc::new(parsed) })
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
async fn records(call: &Call, account: &AccountId, since: Timestamp) -> Result<Vec<Record>, Error> {
    let account = account.clone();
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
        let origin = decisions.origin.clone();
        let caller = decisions.principal.clone();
        let verdicts = call.world.db.read(move |tx| {
            let mut layers = identity.layers(tx, &caller, &[]).map_err(Error::from)?;
            match side_of_resource(tx, &kms, &caller, &origin, &decided)? {
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
            if !applied.change(&mut layers) {
                return Ok(None);
            }
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
    origin: &Origin,
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
        via_service: origin.via_service.as_deref(),
        source_arn: origin.source_arn.as_deref(),
        facts: &facts,
        assumed: &[],
    };
    let guard = kms.guard(tx, &question)?;
    Ok(Side::Policy(guard.layer, guard.grants))
}

impl Applied {
    fn nothing() -> Self {
        Self::Exchanged { gone: Vec::new(), come: Vec::new() }
    }

    /// Makes the change; answers whether the layers have what it is about.
    fn change(&self, layers: &mut Layers) -> bool {
        match self {
            Self::Exchanged { gone, come } => {
                for name in gone {
                    remove(layers, name);
                }
                layers.identity.extend(come.iter().cloned());
                true
            }
            Self::Bounded(policy) => {
                layers.boundary.clone_from(policy);
                true
            }
            Self::Rewritten { arn, policy } => {
                let attached = layers.identity.iter_mut().chain(&mut layers.boundary);
                let mut has_it = false;
                for known in attached.filter(|known| known.name_or_arn == *arn) {
                    known.policy = Arc::clone(policy);
                    has_it = true;
                }
                has_it
            }
        }
    }
}

/// Takes away one policy. What is attached elsewhere as well stays, and is the same.
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
        next: denied(actions),
    };
    broken.iter().map(told).collect()
}
