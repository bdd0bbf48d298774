//! `strongroom:WhatIf`: what a change of a key, of the policies of a user, role or group, or of a
//! managed policy would break, without making it.

use crate::error::{INTERNAL, invalid_parameter_of};
use crate::inquiry::what_if::policies::{self, Change as PolicyChange, OwnChange, VersionChange};
use crate::inquiry::what_if::{Change, what_if};
use crate::ops::iam::shared::version_number;
use crate::ops::kms::shared::{Named, target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use identity::entity::{self, Entity};
use identity::{Kind as EntityKind, managed};
use kms::condition::Facts;
use kms::{Action, Key};

pub(crate) struct WhatIf;

/// How far back decisions are taken again when nothing is said, and at most.
const DAYS_DEFAULT: i32 = 7;
const DAYS_MAX: i32 = 90;

string_enum! {
    /// The change.
    pub(crate) enum Kind {
        /// DisableKey.
        DisableKey = "disable-key",
        /// ScheduleKeyDeletion.
        ScheduleKeyDeletion = "schedule-key-deletion",
        /// PutKeyPolicy.
        PutKeyPolicy = "put-key-policy",
        /// RevokeGrant.
        RevokeGrant = "revoke-grant",
        /// PutUserPolicy, PutRolePolicy or PutGroupPolicy.
        PutPolicy = "put-policy",
        /// DeleteUserPolicy, DeleteRolePolicy or DeleteGroupPolicy.
        DeletePolicy = "delete-policy",
        /// AttachUserPolicy, AttachRolePolicy or AttachGroupPolicy.
        AttachPolicy = "attach-policy",
        /// DetachUserPolicy, DetachRolePolicy or DetachGroupPolicy.
        DetachPolicy = "detach-policy",
        /// PutUserPermissionsBoundary or PutRolePermissionsBoundary.
        PutBoundary = "put-boundary",
        /// DeleteUserPermissionsBoundary or DeleteRolePermissionsBoundary.
        DeleteBoundary = "delete-boundary",
        /// AddUserToGroup.
        AddToGroup = "add-to-group",
        /// RemoveUserFromGroup.
        RemoveFromGroup = "remove-from-group",
        /// CreatePolicyVersion, in force at once.
        CreatePolicyVersion = "create-policy-version",
        /// SetDefaultPolicyVersion.
        SetDefaultPolicyVersion = "set-default-policy-version",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    change: Kind,
    days: Option<i32>,
    grant_id: Option<String>,
    group_name: Option<String>,
    key_id: Option<String>,
    policy: Option<String>,
    policy_arn: Option<String>,
    policy_name: Option<String>,
    /// The user, role or group of a change of its policies.
    principal_arn: Option<String>,
    version_id: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    /// A JSON document, described in `docs/explain.md`.
    answer: String,
    /// The same for people.
    text: String,
}

/// What would change.
enum Wanted {
    Key { key: Box<Key>, change: Change, reads_policy: Box<Ask> },
    Policies(Box<PolicyChange>),
}

pub(crate) struct Plan {
    wanted: Wanted,
    days: i32,
}

impl Operation for WhatIf {
    const SPEC: Spec = Spec::reads(Service::Strongroom, "WhatIf");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let days = input.days.unwrap_or(DAYS_DEFAULT);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(bad("Days must be between 1 and 90."));
        }
        Ok(Plan { wanted: wanted(call, input).await?, days })
    }

    /// The answer tells what policies say, so it takes the right to read the key's, or to have those of
    /// the user, role or group evaluated; of everybody where a managed policy may be anybody's.
    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut asks = vec![Ask::any("strongroom:WhatIf")];
        let simulates =
            |of: &Entity| Ask::on("iam:SimulatePrincipalPolicy", &of.arn(), &of.account);
        match &plan.wanted {
            Wanted::Key { reads_policy, .. } => asks.push((**reads_policy).clone()),
            Wanted::Policies(change) => match &**change {
                PolicyChange::Own(entity, change) => {
                    asks.push(simulates(entity));
                    if let OwnChange::Join(group) | OwnChange::Leave(group) = change {
                        asks.push(simulates(group));
                    }
                }
                PolicyChange::Managed(..) => asks.push(Ask::any("iam:SimulatePrincipalPolicy")),
            },
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { wanted, days } = plan.into_inner();
        let since = call.now.plus_seconds(-i64::from(days) * 86_400);
        let found = match wanted {
            Wanted::Key { key, change, .. } => what_if(call, *key, change, since).await?,
            Wanted::Policies(change) => policies::what_if(call, *change, since).await?,
        };
        let text = found.to_string();
        let answer = serde_json::to_string(&found)
            .map_err(|error| Error::from(INTERNAL.error("").with_cause(error)))?;
        Ok(Output { answer, text })
    }
}

fn bad(message: &str) -> Error {
    Error::new(invalid_parameter_of(Service::Strongroom), message)
}

async fn wanted(call: &Call, mut input: Input) -> Result<Wanted, Error> {
    let change = match input.change {
        Kind::DisableKey => Change::Disable,
        Kind::ScheduleKeyDeletion => Change::ScheduleDeletion,
        Kind::PutKeyPolicy => Change::Policy(take(&mut input.policy)?),
        Kind::RevokeGrant => Change::Revoke(take(&mut input.grant_id)?),
        Kind::CreatePolicyVersion | Kind::SetDefaultPolicyVersion => {
            return of_managed(call, input).await;
        }
        Kind::PutPolicy
        | Kind::DeletePolicy
        | Kind::AttachPolicy
        | Kind::DetachPolicy
        | Kind::PutBoundary
        | Kind::DeleteBoundary
        | Kind::AddToGroup
        | Kind::RemoveFromGroup => return of_own(call, input).await,
    };
    let key_id = take(&mut input.key_id)?;
    nothing_else(&input)?;
    let named = Named { action: Action::GetKeyPolicy, key_id: &key_id, facts: Facts::None };
    let found = target(call, named).await?;
    Ok(Wanted::Key { key: Box::new(found.key), change, reads_policy: Box::new(found.ask) })
}

const TAKES: &str = "disable-key and schedule-key-deletion take KeyId, put-key-policy KeyId and Policy, \
     revoke-grant KeyId and GrantId; create-policy-version PolicyArn and Policy, \
     set-default-policy-version PolicyArn and VersionId; with PrincipalArn, put-policy takes Policy and \
     PolicyName, delete-policy PolicyName, attach-policy, detach-policy and put-boundary PolicyArn, \
     add-to-group and remove-from-group GroupName, delete-boundary nothing.";

/// A member that the change needs.
fn take(member: &mut Option<String>) -> Result<String, Error> {
    member.take().ok_or_else(|| bad(TAKES))
}

/// Refuses members that the change does not take.
fn nothing_else(input: &Input) -> Result<(), Error> {
    let Input { grant_id, group_name, key_id, policy, policy_arn, .. } = input;
    let Input { policy_name, principal_arn, version_id, .. } = input;
    let rest =
        [grant_id, group_name, key_id, policy, policy_arn, policy_name, principal_arn, version_id];
    match rest.iter().all(|member| member.is_none()) {
        true => Ok(()),
        false => Err(bad(TAKES)),
    }
}

async fn of_managed(call: &Call, mut input: Input) -> Result<Wanted, Error> {
    let change = match input.change {
        Kind::CreatePolicyVersion => VersionChange::Create(take(&mut input.policy)?),
        _ => VersionChange::Default(version_number(&take(&mut input.version_id)?)?),
    };
    let (account, arn) = (call.account().clone(), take(&mut input.policy_arn)?);
    nothing_else(&input)?;
    let policy = call.world.db.read(move |tx| managed::find(tx, &account, &arn)).await?;
    Ok(Wanted::Policies(Box::new(PolicyChange::Managed(policy, change))))
}

async fn of_own(call: &Call, mut input: Input) -> Result<Wanted, Error> {
    let entity = principal(call, &take(&mut input.principal_arn)?).await?;
    let limits = matches!(input.change, Kind::PutBoundary | Kind::DeleteBoundary);
    let joins = matches!(input.change, Kind::AddToGroup | Kind::RemoveFromGroup);
    let fits = match entity.kind {
        EntityKind::User => true,
        EntityKind::Role => !joins,
        EntityKind::Group => !joins && !limits,
    };
    if !fits {
        let (kind, name) = (entity.kind.word(), input.change.as_str());
        return Err(bad(&format!("A {kind} has no {name}.")));
    }
    let change = match input.change {
        Kind::PutPolicy => OwnChange::Put {
            name: take(&mut input.policy_name)?,
            document: take(&mut input.policy)?,
        },
        Kind::DeletePolicy => OwnChange::Delete(take(&mut input.policy_name)?),
        Kind::AttachPolicy => OwnChange::Attach(take(&mut input.policy_arn)?),
        Kind::DetachPolicy => OwnChange::Detach(take(&mut input.policy_arn)?),
        Kind::PutBoundary => OwnChange::Bound(take(&mut input.policy_arn)?),
        Kind::AddToGroup => OwnChange::Join(group(call, take(&mut input.group_name)?).await?),
        Kind::RemoveFromGroup => OwnChange::Leave(group(call, take(&mut input.group_name)?).await?),
        _ => OwnChange::Unbound,
    };
    nothing_else(&input)?;
    Ok(Wanted::Policies(Box::new(PolicyChange::Own(entity, change))))
}

/// A user, role or group of the caller's account.
async fn principal(call: &Call, arn: &str) -> Result<Entity, Error> {
    let wanted = arn.to_owned();
    let found = call.world.db.read(move |tx| entity::find_by_arn(tx, &wanted)).await?;
    let own = found.filter(|entity| entity.account == *call.account());
    own.ok_or_else(|| bad(&format!("{arn} is no user, role or group of the account.")))
}

async fn group(call: &Call, name: String) -> Result<Entity, Error> {
    let account = call.account().clone();
    let found = move |tx: &mut meta::Tx<'_>| entity::find(tx, &account, EntityKind::Group, &name);
    Ok(call.world.db.read(found).await?)
}
