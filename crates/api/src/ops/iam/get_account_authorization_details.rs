//! `iam:GetAccountAuthorizationDetails`: everything that decides in the account, in one list: users,
//! groups, roles and policies, with all that hangs on them.

use super::shared::{
    self, AttachedPolicy, Boundary, InstanceProfile, PolicyVersion, RoleLastUsed, Tag, boundary,
    tags_out,
};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use base::{AccountId, Timestamp};
use identity::attachment::{self, Usage};
use identity::managed::{self, ManagedPolicy, Owner, Scope};
use identity::{Entity, Kind, Page, entity, group, inline, instance_profile, role, tag};
use meta::Tx;
use std::sync::Arc;

string_enum! {
    /// Which part of the list is wanted.
    pub(crate) enum EntityType {
        /// Users.
        User = "User",
        /// Roles.
        Role = "Role",
        /// Groups.
        Group = "Group",
        /// Policies of the account.
        LocalManagedPolicy = "LocalManagedPolicy",
        /// Policies of AWS that are in use.
        AwsManagedPolicy = "AWSManagedPolicy",
    }
}

pub(crate) struct GetAccountAuthorizationDetails;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    filter: Vec<EntityType>,
    marker: Option<String>,
    max_items: Option<i32>,
}

/// An inline policy.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct PolicyDetail {
    policy_name: String,
    policy_document: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct UserDetail {
    path: String,
    user_name: String,
    user_id: String,
    arn: String,
    create_date: Timestamp,
    user_policy_list: Vec<PolicyDetail>,
    group_list: Vec<String>,
    attached_managed_policies: Vec<AttachedPolicy>,
    permissions_boundary: Option<Boundary>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct GroupDetail {
    path: String,
    group_name: String,
    group_id: String,
    arn: String,
    create_date: Timestamp,
    group_policy_list: Vec<PolicyDetail>,
    attached_managed_policies: Vec<AttachedPolicy>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct RoleDetail {
    path: String,
    role_name: String,
    role_id: String,
    arn: String,
    create_date: Timestamp,
    assume_role_policy_document: String,
    instance_profile_list: Vec<InstanceProfile>,
    role_policy_list: Vec<PolicyDetail>,
    attached_managed_policies: Vec<AttachedPolicy>,
    permissions_boundary: Option<Boundary>,
    tags: Vec<Tag>,
    role_last_used: RoleLastUsed,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct ManagedPolicyDetail {
    policy_name: String,
    policy_id: String,
    arn: String,
    path: String,
    default_version_id: String,
    attachment_count: i32,
    permissions_boundary_usage_count: i32,
    is_attachable: bool,
    description: Option<String>,
    create_date: Timestamp,
    update_date: Timestamp,
    policy_version_list: Vec<PolicyVersion>,
}

#[derive(Default, Shape)]
#[shape(output)]
pub(crate) struct Output {
    user_detail_list: Vec<UserDetail>,
    group_detail_list: Vec<GroupDetail>,
    role_detail_list: Vec<RoleDetail>,
    policies: Vec<ManagedPolicyDetail>,
    #[shape(default)]
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    filter: Vec<EntityType>,
    page: Page,
}

impl Operation for GetAccountAuthorizationDetails {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetAccountAuthorizationDetails");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { filter: input.filter, page })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("iam:GetAccountAuthorizationDetails")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { filter, page } = plan.into_inner();
        let account = call.account().clone();
        let (world, now) = (Arc::clone(&call.world), call.now);
        shared::read(call, move |tx| {
            let mut found = Vec::new();
            let wanted = |kind: EntityType| filter.is_empty() || filter.contains(&kind);
            for (entity_type, kind) in [
                (EntityType::User, Kind::User),
                (EntityType::Group, Kind::Group),
                (EntityType::Role, Kind::Role),
            ] {
                if wanted(entity_type) {
                    found.extend(entities(tx, &account, kind)?.into_iter().map(Item::Entity));
                }
            }
            if wanted(EntityType::LocalManagedPolicy) {
                found.extend(policies(tx, &account, Scope::Local)?);
            }
            if wanted(EntityType::AwsManagedPolicy) {
                found.extend(policies(tx, &account, Scope::Aws)?);
            }
            found.sort_by_key(Item::key);
            let listed = shared::part(found, &page, Item::key);
            let mut output = Output {
                is_truncated: listed.next.is_some(),
                marker: shared::marker(listed.next.as_ref()),
                ..Output::default()
            };
            for item in listed.items {
                match item {
                    Item::Policy(policy) => {
                        output.policies.push(policy_detail(tx, &account, &policy)?);
                    }
                    Item::Entity(entity) => match entity.kind {
                        Kind::User => output.user_detail_list.push(user_detail(tx, entity)?),
                        Kind::Group => output.group_detail_list.push(group_detail(tx, entity)?),
                        Kind::Role => {
                            let last_used = RoleLastUsed::of(tx, &world, now, &entity)?;
                            output.role_detail_list.push(role_detail(tx, entity, last_used)?);
                        }
                    },
                }
            }
            Ok(output)
        })
        .await
    }
}

/// One of the list, before what hangs on it is read.
enum Item {
    Entity(Entity),
    Policy(Box<ManagedPolicy>),
}

impl Item {
    /// The order of the list: by kind, then by name.
    fn key(&self) -> String {
        match self {
            Self::Entity(entity) => {
                let rank = match entity.kind {
                    Kind::User => 1,
                    Kind::Group => 2,
                    Kind::Role => 3,
                };
                format!("{rank}{}", entity.name.to_lowercase())
            }
            Self::Policy(policy) => {
                let rank = if policy.owner == Owner::Aws { 5 } else { 4 };
                format!("{rank}{}", policy.name.to_lowercase())
            }
        }
    }
}

fn entities(tx: &mut Tx<'_>, account: &AccountId, kind: Kind) -> identity::Result<Vec<Entity>> {
    let mut page = Page::all();
    let mut found = Vec::new();
    loop {
        let listed = entity::list(tx, account, kind, "/", &page)?;
        found.extend(listed.items);
        page.after = listed.next;
        if page.after.is_none() {
            return Ok(found);
        }
    }
}

fn policies(tx: &mut Tx<'_>, account: &AccountId, scope: Scope) -> identity::Result<Vec<Item>> {
    let mut page = Page::all();
    let mut found = Vec::new();
    loop {
        let listed = managed::list(tx, account, scope, "/", &page)?;
        for policy in listed.items {
            // Of AWS's policies, those in use are part of the account.
            if scope == Scope::Local || in_use(tx, account, &policy)? {
                found.push(Item::Policy(Box::new(policy)));
            }
        }
        page.after = listed.next;
        if page.after.is_none() {
            return Ok(found);
        }
    }
}

fn in_use(tx: &mut Tx<'_>, account: &AccountId, policy: &ManagedPolicy) -> identity::Result<bool> {
    let attached = attachment::count(tx, account, policy, Usage::PermissionsPolicy)?;
    Ok(attached + attachment::count(tx, account, policy, Usage::PermissionsBoundary)? > 0)
}

fn inline_policies(tx: &mut Tx<'_>, entity: &Entity) -> identity::Result<Vec<PolicyDetail>> {
    let detail = |policy: inline::InlinePolicy| PolicyDetail {
        policy_name: policy.name,
        policy_document: shared::encoded(&policy.document),
    };
    Ok(inline::list(tx, entity)?.into_iter().map(detail).collect())
}

fn attached(tx: &mut Tx<'_>, entity: &Entity) -> identity::Result<Vec<AttachedPolicy>> {
    Ok(shared::attached(tx, entity, "/", &Page::all())?.items)
}

fn user_detail(tx: &mut Tx<'_>, user: Entity) -> identity::Result<UserDetail> {
    Ok(UserDetail {
        arn: user.arn().to_string(),
        create_date: user.created_at,
        user_policy_list: inline_policies(tx, &user)?,
        group_list: group::groups_of(tx, &user)?.into_iter().map(|group| group.name).collect(),
        attached_managed_policies: attached(tx, &user)?,
        permissions_boundary: boundary(&user),
        tags: tags_out(tag::of(tx, &user.account, &user.unique_id)?),
        path: user.path,
        user_name: user.name,
        user_id: user.unique_id,
    })
}

fn group_detail(tx: &mut Tx<'_>, group: Entity) -> identity::Result<GroupDetail> {
    Ok(GroupDetail {
        arn: group.arn().to_string(),
        create_date: group.created_at,
        group_policy_list: inline_policies(tx, &group)?,
        attached_managed_policies: attached(tx, &group)?,
        path: group.path,
        group_name: group.name,
        group_id: group.unique_id,
    })
}

fn role_detail(
    tx: &mut Tx<'_>,
    entity: Entity,
    role_last_used: RoleLastUsed,
) -> identity::Result<RoleDetail> {
    let role = role::complete(tx, entity)?;
    let trust = role.shown_trust(tx)?;
    let entity = role.entity;
    let profiles = instance_profile::of_role(tx, &entity, &Page::all())?.items;
    let profiles = profiles.iter().map(|profile| InstanceProfile::brief(tx, profile));
    Ok(RoleDetail {
        instance_profile_list: profiles.collect::<identity::Result<_>>()?,
        arn: entity.arn().to_string(),
        create_date: entity.created_at,
        assume_role_policy_document: shared::encoded(&trust),
        role_policy_list: inline_policies(tx, &entity)?,
        attached_managed_policies: attached(tx, &entity)?,
        permissions_boundary: boundary(&entity),
        tags: tags_out(tag::of(tx, &entity.account, &entity.unique_id)?),
        path: entity.path,
        role_name: entity.name,
        role_id: entity.unique_id,
        role_last_used,
    })
}

fn policy_detail(
    tx: &mut Tx<'_>,
    account: &AccountId,
    policy: &ManagedPolicy,
) -> identity::Result<ManagedPolicyDetail> {
    let count = |tx: &mut Tx<'_>, usage| {
        let count = attachment::count(tx, account, policy, usage)?;
        Ok::<_, identity::Error>(i32::try_from(count).unwrap_or(i32::MAX))
    };
    Ok(ManagedPolicyDetail {
        policy_name: policy.name.clone(),
        policy_id: policy.policy_id.clone(),
        arn: policy.arn(),
        path: policy.path.clone(),
        default_version_id: format!("v{}", policy.default_version),
        attachment_count: count(tx, Usage::PermissionsPolicy)?,
        permissions_boundary_usage_count: count(tx, Usage::PermissionsBoundary)?,
        is_attachable: policy.is_attachable(),
        description: Some(policy.description.clone()).filter(|text| !text.is_empty()),
        create_date: policy.created_at,
        update_date: policy.updated_at,
        policy_version_list: managed::versions(tx, policy)?
            .iter()
            .map(PolicyVersion::whole)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run, run_named};
    use serde_json::{Value as Json, json};

    const NOTHING: &str =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}}"#;

    #[tokio::test]
    async fn everything_is_in_one_list_page_by_page() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
        bench.user(&account(1), "amy", NOTHING).await;
        bench.user(&account(2), "not-ours", NOTHING).await;
        call("CreateGroup", json!({ "GroupName": "g" })).await.expect("a group");
        call("AddUserToGroup", json!({ "GroupName": "g", "UserName": "amy" })).await.expect("in");
        let role = json!({ "RoleName": "r", "AssumeRolePolicyDocument": TRUST });
        call("CreateRole", role).await.expect("a role");
        call("CreateInstanceProfile", json!({ "InstanceProfileName": "p" })).await.expect("one");
        let add = json!({ "InstanceProfileName": "p", "RoleName": "r" });
        call("AddRoleToInstanceProfile", add).await.expect("in");
        let policy = json!({ "PolicyName": "m", "PolicyDocument": NOTHING });
        call("CreatePolicy", policy).await.expect("a policy");
        let attach =
            json!({ "RoleName": "r", "PolicyArn": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" });
        call("AttachRolePolicy", attach).await.expect("attached");

        let get = |input: Json| run::<GetAccountAuthorizationDetails>(&root, input);
        let whole = get(json!({})).await.expect("allowed");
        let user = &whole["UserDetailList"][0];
        assert_eq!((&user["UserName"], &user["GroupList"]), (&json!("amy"), &json!(["g"])));
        assert_eq!(user["UserPolicyList"][0]["PolicyName"], "test");
        let encoded = user["UserPolicyList"][0]["PolicyDocument"].as_str().expect("a text");
        assert!(encoded.starts_with("%7B"), "{encoded}");
        assert_eq!(whole["GroupDetailList"][0]["GroupName"], "g");
        let role = &whole["RoleDetailList"][0];
        assert_eq!(role["InstanceProfileList"][0]["InstanceProfileName"], "p");
        assert_eq!(role["AttachedManagedPolicies"][0]["PolicyName"], "IAMReadOnlyAccess");
        let names: Vec<_> = whole["Policies"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|policy| policy["PolicyName"].as_str().expect("a name"))
            .collect();
        assert_eq!(names, ["m", "IAMReadOnlyAccess"], "AWS's policies only as far as used");
        assert_eq!(whole["Policies"][0]["PolicyVersionList"][0]["IsDefaultVersion"], true);

        let mut marker = Json::Null;
        let mut seen = 0;
        loop {
            let mut input = json!({ "MaxItems": 2 });
            if marker != Json::Null {
                input["Marker"] = marker;
            }
            let part = get(input).await.expect("allowed");
            let lists = ["UserDetailList", "GroupDetailList", "RoleDetailList", "Policies"];
            seen += lists
                .iter()
                .map(|list| part[list].as_array().expect("a list").len())
                .sum::<usize>();
            marker = part["Marker"].clone();
            if part["IsTruncated"] == false {
                break;
            }
        }
        assert_eq!(seen, 5);
        let groups =
            get(json!({ "Filter": ["Group", "LocalManagedPolicy"] })).await.expect("allowed");
        assert_eq!(groups["UserDetailList"], json!([]));
        assert_eq!(groups["GroupDetailList"].as_array().expect("a list").len(), 1);
        assert_eq!(groups["Policies"].as_array().expect("a list").len(), 1);
    }
}
