//! `strongroom:WhatIf`: what a change of a key, or of a user's or role's own policies, would break,
//! without making it.

use crate::error::{INTERNAL, invalid_parameter_of};
use crate::inquiry::what_if::principal::{self, Change as PolicyChange};
use crate::inquiry::what_if::{Change, what_if};
use crate::ops::kms::shared::{Named, target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use identity::Kind as EntityKind;
use identity::entity::{self, Entity};
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
        /// PutUserPolicy or PutRolePolicy.
        PutPolicy = "put-policy",
        /// DeleteUserPolicy or DeleteRolePolicy.
        DeletePolicy = "delete-policy",
        /// AttachUserPolicy or AttachRolePolicy.
        AttachPolicy = "attach-policy",
        /// DetachUserPolicy or DetachRolePolicy.
        DetachPolicy = "detach-policy",
        /// PutUserPermissionsBoundary or PutRolePermissionsBoundary.
        PutBoundary = "put-boundary",
        /// DeleteUserPermissionsBoundary or DeleteRolePermissionsBoundary.
        DeleteBoundary = "delete-boundary",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    change: Kind,
    days: Option<i32>,
    grant_id: Option<String>,
    key_id: Option<String>,
    policy: Option<String>,
    policy_arn: Option<String>,
    policy_name: Option<String>,
    /// The user or role of a change of policies.
    principal_arn: Option<String>,
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
    Policies { entity: Entity, change: PolicyChange },
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
    /// the user or role evaluated.
    fn asks(plan: &Plan) -> Vec<Ask> {
        let reads = match &plan.wanted {
            Wanted::Key { reads_policy, .. } => (**reads_policy).clone(),
            Wanted::Policies { entity, .. } => {
                Ask::on("iam:SimulatePrincipalPolicy", &entity.arn(), &entity.account)
            }
        };
        vec![Ask::any("strongroom:WhatIf"), reads]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { wanted, days } = plan.into_inner();
        let since = call.now.plus_seconds(-i64::from(days) * 86_400);
        let found = match wanted {
            Wanted::Key { key, change, .. } => what_if(call, *key, change, since).await?,
            Wanted::Policies { entity, change } => {
                principal::what_if(call, entity, change, since).await?
            }
        };
        let text = found.to_string();
        let answer = serde_json::to_string(&found)
            .map_err(|error| Error(INTERNAL.error("").with_cause(error)))?;
        Ok(Output { answer, text })
    }
}

fn bad(message: &str) -> Error {
    Error::new(invalid_parameter_of(Service::Strongroom), message)
}

async fn wanted(call: &Call, input: Input) -> Result<Wanted, Error> {
    let Input { change, grant_id, key_id, policy, policy_arn, policy_name, principal_arn, .. } =
        input;
    let of_key = |change| (key_id.clone(), change);
    let (key_id, change) = match (change, policy, grant_id, policy_arn, policy_name) {
        (Kind::DisableKey, None, None, None, None) => of_key(Change::Disable),
        (Kind::ScheduleKeyDeletion, None, None, None, None) => of_key(Change::ScheduleDeletion),
        (Kind::PutKeyPolicy, Some(text), None, None, None) => of_key(Change::Policy(text)),
        (Kind::RevokeGrant, None, Some(id), None, None) => of_key(Change::Revoke(id)),
        (kind, policy, None, arn, name) => {
            let change = policy_change(kind, policy, arn, name)?;
            let (Some(arn), None) = (principal_arn, key_id) else {
                return Err(bad("A change of policies takes PrincipalArn, and no KeyId."));
            };
            let entity = principal(call, &arn).await?;
            return Ok(Wanted::Policies { entity, change });
        }
        _ => return Err(bad(TAKES)),
    };
    let (Some(key_id), None) = (key_id, principal_arn) else {
        return Err(bad("A change of a key takes KeyId, and no PrincipalArn."));
    };
    let named = Named { action: Action::GetKeyPolicy, key_id: &key_id, facts: Facts::None };
    let found = target(call, named).await?;
    Ok(Wanted::Key { key: Box::new(found.key), change, reads_policy: Box::new(found.ask) })
}

const TAKES: &str = "put-key-policy takes Policy, revoke-grant takes GrantId, put-policy takes Policy and \
     PolicyName, delete-policy takes PolicyName, attach-policy, detach-policy and put-boundary take \
     PolicyArn, the others none of these.";

fn policy_change(
    kind: Kind,
    policy: Option<String>,
    arn: Option<String>,
    name: Option<String>,
) -> Result<PolicyChange, Error> {
    match (kind, policy, arn, name) {
        (Kind::PutPolicy, Some(document), None, Some(name)) => {
            Ok(PolicyChange::Put { name, document })
        }
        (Kind::DeletePolicy, None, None, Some(name)) => Ok(PolicyChange::Delete(name)),
        (Kind::AttachPolicy, None, Some(arn), None) => Ok(PolicyChange::Attach(arn)),
        (Kind::DetachPolicy, None, Some(arn), None) => Ok(PolicyChange::Detach(arn)),
        (Kind::PutBoundary, None, Some(arn), None) => Ok(PolicyChange::Bound(arn)),
        (Kind::DeleteBoundary, None, None, None) => Ok(PolicyChange::Unbound),
        _ => Err(bad(TAKES)),
    }
}

/// A user or role of the caller's account.
async fn principal(call: &Call, arn: &str) -> Result<Entity, Error> {
    let wanted = arn.to_owned();
    let found = call.world.db.read(move |tx| entity::find_by_arn(tx, &wanted)).await?;
    let own = found.filter(|entity| entity.account == *call.account());
    own.filter(|entity| matches!(entity.kind, EntityKind::User | EntityKind::Role))
        .ok_or_else(|| bad(&format!("{arn} is no user or role of the account.")))
}
