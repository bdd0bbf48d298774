//! `iam:ListEntitiesForPolicy`: lists the users, groups and roles that use a managed policy.

use super::shared::{self, Target, UsageName};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use identity::attachment::{self, Usage};
use identity::{Entity, Kind, Page};

string_enum! {
    /// Which entities are listed.
    pub(crate) enum EntityFilter {
        /// Users.
        User = "User",
        /// Roles.
        Role = "Role",
        /// Groups.
        Group = "Group",
        /// None: a policy is attached to no policy.
        LocalManagedPolicy = "LocalManagedPolicy",
        /// None: a policy is attached to no policy.
        AwsManagedPolicy = "AWSManagedPolicy",
    }
}

pub(crate) struct ListEntitiesForPolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_arn: String,
    entity_filter: Option<EntityFilter>,
    path_prefix: Option<String>,
    policy_usage_filter: Option<UsageName>,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct PolicyGroup {
    group_name: String,
    group_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct PolicyUser {
    user_name: String,
    user_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct PolicyRole {
    role_name: String,
    role_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policy_groups: Vec<PolicyGroup>,
    policy_users: Vec<PolicyUser>,
    policy_roles: Vec<PolicyRole>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    filter: Option<EntityFilter>,
    path_prefix: String,
    usages: Vec<Usage>,
    page: Page,
}

impl Operation for ListEntitiesForPolicy {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListEntitiesForPolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let usages = match input.policy_usage_filter {
            None => vec![Usage::PermissionsPolicy, Usage::PermissionsBoundary],
            Some(name) => vec![name.usage()],
        };
        Ok(Plan {
            page: shared::page(input.marker.as_ref(), input.max_items)?,
            target: Target::named(call, input.policy_arn).await?,
            filter: input.entity_filter,
            path_prefix: input.path_prefix.unwrap_or_else(|| "/".to_owned()),
            usages,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask("iam:ListEntitiesForPolicy")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, filter, path_prefix, usages, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let policy = target.find(tx)?;
            let mut found = Vec::new();
            for usage in &usages {
                found.extend(attachment::entities(tx, &target.account, &policy, *usage)?);
            }
            found.retain(|entity| {
                entity.path.starts_with(&path_prefix) && filter.is_none_or(|f| fits(f, entity.kind))
            });
            found.sort_by_key(key);
            found.dedup();
            Ok(shared::part(found, &page, key))
        });
        let listed = listed.await?;
        let of = |kind: Kind| listed.items.iter().filter(move |entity| entity.kind == kind);
        let named = |e: &Entity| (e.name.clone(), e.unique_id.clone());
        Ok(Output {
            policy_groups: of(Kind::Group)
                .map(named)
                .map(|(group_name, group_id)| PolicyGroup { group_name, group_id })
                .collect(),
            policy_users: of(Kind::User)
                .map(named)
                .map(|(user_name, user_id)| PolicyUser { user_name, user_id })
                .collect(),
            policy_roles: of(Kind::Role)
                .map(named)
                .map(|(role_name, role_id)| PolicyRole { role_name, role_id })
                .collect(),
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
        })
    }
}

fn fits(filter: EntityFilter, kind: Kind) -> bool {
    match filter {
        EntityFilter::User => kind == Kind::User,
        EntityFilter::Role => kind == Kind::Role,
        EntityFilter::Group => kind == Kind::Group,
        EntityFilter::LocalManagedPolicy | EntityFilter::AwsManagedPolicy => false,
    }
}

/// The order of the list: by kind and name.
fn key(entity: &Entity) -> String {
    format!("{} {}", entity.kind.word(), entity.name.to_lowercase())
}
