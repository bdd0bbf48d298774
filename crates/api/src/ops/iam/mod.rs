//! What the operations of IAM share: whom a request is about, transactions, pages, and the shapes that
//! several replies have.
//!
//! Permission comes before existence: `plan` looks a name up only to know its ARN and tags for the ask, and
//! a name that is not there is asked for under the root path. `act` finds it again in its own transaction
//! and is the one to say that it does not exist.

#[path = "shared/evaluation.rs"]
mod evaluation;
#[path = "shared/instance_profile.rs"]
mod instance_profile;

#[path = "shared/issuer.rs"]
mod issuer;
#[path = "shared/login.rs"]
mod login;
#[cfg(test)]
#[path = "shared/quota_tests.rs"]
mod quota_tests;
#[path = "shared/saml_provider.rs"]
mod saml_provider;
#[path = "shared/simulation.rs"]
mod simulation;

pub(crate) use instance_profile::{InstanceProfile, Profile};
pub(crate) use issuer::Issuer;
pub(crate) use login::{LoginProfile, hash, is_password, named_or_own_user, reset};
pub(crate) use saml_provider::{AssertionEncryptionMode, SamlProvider};
pub(crate) use simulation::{
    Circumstances, ContextEntry, Simulation, SimulationOutput, invalid, member, session,
};

use crate::pipeline::Ask;
use crate::world::World;
use crate::{Call, Error};
use awsproto::{ErrorSpec, Shape, code, string_enum};
use base::{AccountId, Arn, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam::{Context, PrincipalKind};
use identity::access_key::Owner;
use identity::attachment::{self, Usage};
use identity::managed::{self, ManagedPolicy};
use identity::role::Role as RoleRow;
use identity::tag::{self, Tags};
use identity::{Entity, Identity, Kind, Listed, Page, entity};
use meta::Tx;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const INVALID_INPUT: ErrorSpec = ErrorSpec::sender("InvalidInput", 400);

/// The most items one page has, and how many it has when nothing is said (IAM API, `MaxItems`).
const PAGE_MAX: i32 = 1000;
const PAGE_DEFAULT: i32 = 100;

/// Runs a transaction that changes something.
pub(crate) async fn write<T: Send + 'static>(
    call: &Call,
    f: impl Fn(&mut Tx<'_>, &Identity) -> identity::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let identity = call.world.identity.clone();
    Ok(call.world.db.write(move |tx| f(tx, &identity)).await?)
}

/// Runs a transaction that only reads.
pub(crate) async fn read<T: Send + 'static>(
    call: &Call,
    f: impl Fn(&mut Tx<'_>) -> identity::Result<T> + Send + 'static,
) -> Result<T, Error> {
    Ok(call.world.db.read(f).await?)
}

/// [`read`] of what may be there; `None` where it is not.
pub(crate) async fn read_if_there<T: Send + 'static>(
    call: &Call,
    f: impl Fn(&mut Tx<'_>) -> identity::Result<T> + Send + 'static,
) -> Result<Option<T>, Error> {
    let found = read(call, move |tx| match f(tx) {
        Ok(found) => Ok(Some(found)),
        Err(identity::Error::NoSuchEntity { .. }) => Ok(None),
        Err(error) => Err(error),
    });
    found.await
}

/// A user, group or role that a request names.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) account: AccountId,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    arn: Arn,
    tags: Tags,
    boundary: Option<String>,
}

impl Subject {
    /// One that is to be made.
    pub(crate) fn new(call: &Call, kind: Kind, name: String, path: Option<&str>) -> Self {
        let path = path.unwrap_or("/");
        let account = call.account().clone();
        let arn = Arn::global("iam", &account, &format!("{}{path}{name}", kind.word()));
        Self { account, kind, name, arn, tags: Tags::new(), boundary: None }
    }

    /// One that may be there.
    pub(crate) async fn named(call: &Call, kind: Kind, name: String) -> Result<Self, Error> {
        let mut subject = Self::new(call, kind, name, None);
        let wanted = subject.clone();
        let found = read_if_there(call, move |tx| {
            let entity = wanted.find(tx)?;
            let tags = tag::of(tx, &entity.account, &entity.unique_id)?;
            Ok((entity, tags))
        });
        if let Some((entity, tags)) = found.await? {
            subject.arn = entity.arn();
            subject.tags = tags;
            subject.boundary = entity.boundary;
        }
        Ok(subject)
    }

    /// Finds it, or says that it does not exist.
    pub(crate) fn find(&self, tx: &mut Tx<'_>) -> identity::Result<Entity> {
        entity::find(tx, &self.account, self.kind, &self.name)
    }

    /// The permission to do something with it.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        let mut context = resource_tags(&self.tags);
        context.set_opt("iam:PermissionsBoundary", self.boundary.clone());
        Ask::on(action, &self.arn, &self.account).with(context)
    }
}

/// An ask under more condition keys.
pub(crate) fn also(mut ask: Ask, more: &Context) -> Ask {
    ask.context.extend(more);
    ask
}

/// The boundary a request gives.
pub(crate) fn boundary_context(arn: Option<&String>) -> Context {
    let mut context = Context::new();
    context.set_opt("iam:PermissionsBoundary", arn.cloned());
    context
}

/// The policy a request attaches or detaches.
pub(crate) fn policy_context(arn: &str) -> Context {
    let mut context = Context::new();
    context.set("iam:PolicyARN", arn);
    context
}

/// The tags a request gives.
pub(crate) fn request_tags(tags: &Tags) -> Context {
    let mut context = Context::new();
    for (key, value) in tags {
        context.set(format!("aws:RequestTag/{key}"), value.as_str());
    }
    tag_keys(&mut context, tags.keys().cloned().collect());
    context
}

/// The keys of tags a request removes.
pub(crate) fn removed_tags(keys: &[String]) -> Context {
    let mut context = Context::new();
    tag_keys(&mut context, keys.to_vec());
    context
}

fn tag_keys(context: &mut Context, keys: Vec<String>) {
    if !keys.is_empty() {
        context.set_multi("aws:TagKeys", keys);
    }
}

fn resource_tags(tags: &Tags) -> Context {
    let mut context = Context::new();
    for (key, value) in tags {
        context.set(format!("aws:ResourceTag/{key}"), value.as_str());
        context.set(format!("iam:ResourceTag/{key}"), value.as_str());
    }
    context
}

/// The permission to list users, groups or roles below a path.
pub(crate) fn ask_list(call: &Call, action: &str, kind: Kind) -> Ask {
    let account = call.account();
    Ask::on(action, &Arn::global("iam", account, &format!("{}/", kind.word())), account)
}

/// Whose access keys, or whose record, a request is about: a user named, or the caller itself.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    Root(AccountId),
    User(Box<Subject>),
}

impl Whose {
    pub(crate) async fn resolve(call: &Call, user_name: Option<String>) -> Result<Self, Error> {
        let name = match (user_name, &call.caller.principal.kind) {
            (Some(name), _) => name,
            (None, PrincipalKind::User { name, .. }) => name.clone(),
            (None, PrincipalKind::Root) => return Ok(Self::Root(call.account().clone())),
            (
                None,
                PrincipalKind::AssumedRole { .. }
                | PrincipalKind::FederatedUser { .. }
                | PrincipalKind::WebIdentity { .. }
                | PrincipalKind::Saml { .. }
                | PrincipalKind::Service { .. },
            ) => {
                let message = "Must specify userName when calling with non-User credentials";
                return Err(Error::new(code::VALIDATION_ERROR, message));
            }
        };
        Ok(Self::User(Box::new(Subject::named(call, Kind::User, name).await?)))
    }

    pub(crate) fn ask(&self, action: &str) -> Ask {
        match self {
            Self::Root(account) => Ask::on(action, &Arn::global("iam", account, "root"), account),
            Self::User(user) => user.ask(action),
        }
    }

    /// The owner of access keys.
    pub(crate) fn owner(&self, tx: &mut Tx<'_>) -> identity::Result<Owner> {
        match self {
            Self::Root(account) => Ok(Owner::Root(account.clone())),
            Self::User(user) => user.find(tx).map(Owner::User),
        }
    }

    /// The user's name; a root has none.
    pub(crate) fn user_name(&self) -> String {
        match self {
            Self::Root(_) => String::new(),
            Self::User(user) => user.name.clone(),
        }
    }
}

/// A managed policy that a request names.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) account: AccountId,
    pub(crate) arn: String,
    parsed: Arn,
    tags: Tags,
}

impl Target {
    pub(crate) async fn named(call: &Call, arn: String) -> Result<Self, Error> {
        let policy =
            |parsed: &Arn| parsed.service == "iam" && parsed.resource.starts_with("policy/");
        let Some(parsed) = Arn::parse(&arn).filter(policy) else {
            return Err(Error::new(INVALID_INPUT, format!("ARN {arn} is not valid.")));
        };
        let account = call.account().clone();
        let mut target = Self { account, arn, parsed, tags: Tags::new() };
        let wanted = target.clone();
        let found = read_if_there(call, move |tx| {
            let policy = wanted.find(tx)?;
            tag::of(tx, &wanted.account, &policy.policy_id)
        });
        target.tags = found.await?.unwrap_or_default();
        Ok(target)
    }

    /// Finds it, or says that it does not exist.
    pub(crate) fn find(&self, tx: &mut Tx<'_>) -> identity::Result<ManagedPolicy> {
        managed::find(tx, &self.account, &self.arn)
    }

    /// The permission to do something with it.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        Ask::on(action, &self.parsed, &self.account).with(resource_tags(&self.tags))
    }
}

/// A version as requests name it: `v2`.
pub(crate) fn version_number(version_id: &str) -> Result<u32, Error> {
    let digits = version_id.strip_prefix('v').filter(|digits| !digits.starts_with(['0', '+']));
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        let message = format!(
            "1 validation error detected: Value '{version_id}' at 'versionId' failed to satisfy \
             constraint: Member must satisfy regular expression pattern: v[1-9][0-9]*"
        );
        Error::new(code::VALIDATION_ERROR, message)
    })
}

/// Which part of a list a request wants.
pub(crate) fn page(marker: Option<&String>, max_items: Option<i32>) -> Result<Page, Error> {
    let limit = max_items.unwrap_or(PAGE_DEFAULT);
    if !(1..=PAGE_MAX).contains(&limit) {
        let message = format!(
            "1 validation error detected: Value '{limit}' at 'maxItems' failed to satisfy constraint: \
             Member must have value between 1 and {PAGE_MAX}"
        );
        return Err(Error::new(code::VALIDATION_ERROR, message));
    }
    let after = marker.map(|marker| {
        let bytes = URL_SAFE_NO_PAD.decode(marker).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| Error::new(code::VALIDATION_ERROR, "Invalid Marker."))
    });
    Ok(Page { after: after.transpose()?, limit: usize::try_from(limit).expect("it is positive") })
}

/// Where the next part of a list begins, as replies say it.
pub(crate) fn marker(next: Option<&String>) -> Option<String> {
    next.map(|next| URL_SAFE_NO_PAD.encode(next))
}

/// A part of a list that is read as a whole and ordered by `key`.
pub(crate) fn part<T>(items: Vec<T>, page: &Page, key: impl Fn(&T) -> String) -> Listed<T> {
    let after = page.after.as_deref().unwrap_or("");
    let mut items: Vec<T> =
        items.into_iter().filter(|item| after.is_empty() || key(item).as_str() > after).collect();
    let more = items.len() > page.limit;
    items.truncate(page.limit);
    let next = items.last().filter(|_| more).map(key);
    Listed { items, next }
}

/// A policy text as IAM returns it: URI-encoded (IAM API, `GetUserPolicy`, "URL-encoded compliant with
/// RFC 3986").
pub(crate) fn encoded(document: &str) -> String {
    const RESERVED: &AsciiSet =
        &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    utf8_percent_encode(document, RESERVED).to_string()
}

/// A tag.
#[derive(Clone, Debug, Shape)]
pub(crate) struct Tag {
    key: String,
    value: String,
}

/// The tags of a request.
pub(crate) fn tags_in(tags: Vec<Tag>) -> Result<Tags, Error> {
    let count = tags.len();
    let tags: Tags = tags.into_iter().map(|Tag { key, value }| (key, value)).collect();
    if tags.len() < count {
        let message = "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
        return Err(Error::new(INVALID_INPUT, message));
    }
    Ok(tags)
}

/// Tags for a reply.
pub(crate) fn tags_out(tags: Tags) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key, value }).collect()
}

/// A permissions boundary.
#[derive(Debug, Shape)]
#[shape(output)]
pub(crate) struct Boundary {
    permissions_boundary_type: String,
    permissions_boundary_arn: String,
}

pub(crate) fn boundary(entity: &Entity) -> Option<Boundary> {
    let arn = entity.boundary.clone()?;
    // The one type there is, spelled as the service does, not as its model.
    let permissions_boundary_type = "Policy".to_owned();
    Some(Boundary { permissions_boundary_type, permissions_boundary_arn: arn })
}

/// A user.
#[derive(Debug, Shape)]
#[shape(output, omitted(PasswordLastUsed))]
pub(crate) struct User {
    path: String,
    user_name: Option<String>,
    user_id: String,
    arn: String,
    create_date: Timestamp,
    permissions_boundary: Option<Boundary>,
    tags: Option<Vec<Tag>>,
}

impl User {
    /// As lists show it: without boundary and tags.
    pub(crate) fn brief(entity: &Entity) -> Self {
        Self {
            path: entity.path.clone(),
            user_name: Some(entity.name.clone()),
            user_id: entity.unique_id.clone(),
            arn: entity.arn().to_string(),
            create_date: entity.created_at,
            permissions_boundary: None,
            tags: None,
        }
    }

    pub(crate) fn whole(entity: &Entity, tags: Tags) -> Self {
        let tags = Some(tags_out(tags)).filter(|tags| !tags.is_empty());
        Self { permissions_boundary: boundary(entity), tags, ..Self::brief(entity) }
    }

    /// The root of an account, which has no name.
    pub(crate) fn root(account: &identity::account::Account) -> Self {
        Self {
            path: "/".to_owned(),
            user_name: None,
            user_id: account.id.to_string(),
            arn: Arn::global("iam", &account.id, "root").to_string(),
            create_date: account.created_at,
            permissions_boundary: None,
            tags: None,
        }
    }
}

/// A group.
#[derive(Debug, Shape)]
#[shape(output)]
pub(crate) struct Group {
    path: String,
    group_name: String,
    group_id: String,
    arn: String,
    create_date: Timestamp,
}

impl From<&Entity> for Group {
    fn from(entity: &Entity) -> Self {
        Self {
            path: entity.path.clone(),
            group_name: entity.name.clone(),
            group_id: entity.unique_id.clone(),
            arn: entity.arn().to_string(),
            create_date: entity.created_at,
        }
    }
}

/// A role.
#[derive(Debug, Shape)]
#[shape(output, omitted(MaxSigninSessionDuration, SourceRoleTemplate))]
pub(crate) struct Role {
    path: String,
    role_name: String,
    role_id: String,
    arn: String,
    create_date: Timestamp,
    assume_role_policy_document: String,
    description: Option<String>,
    max_session_duration: i32,
    permissions_boundary: Option<Boundary>,
    tags: Option<Vec<Tag>>,
    role_last_used: Option<RoleLastUsed>,
}

/// When a session of a role last made a request, and where. Empty for a role without such a request.
#[derive(Debug, Shape)]
#[shape(output)]
pub(crate) struct RoleLastUsed {
    last_used_date: Option<Timestamp>,
    region: Option<String>,
}

impl RoleLastUsed {
    /// Older uses are not told (IAM API, `RoleLastUsed`).
    const TRACKED_DAYS: i64 = 400;

    pub(crate) fn of(
        tx: &mut Tx<'_>,
        world: &World,
        now: Timestamp,
        role: &Entity,
    ) -> identity::Result<Self> {
        let last = world.last_uses.newest(tx, &role.account, &role.unique_id)?;
        let oldest = now.plus_seconds(-Self::TRACKED_DAYS * 24 * 60 * 60);
        let (date, region) = last
            .filter(|last| last.at >= oldest)
            .map_or((None, None), |last| (Some(last.at), Some(last.region)));
        Ok(Self { last_used_date: date, region })
    }
}

impl Role {
    /// As lists show it: without boundary and tags.
    pub(crate) fn brief(tx: &mut Tx<'_>, role: &RoleRow) -> identity::Result<Self> {
        let seconds = role.max_session_seconds;
        Ok(Self {
            path: role.entity.path.clone(),
            role_name: role.entity.name.clone(),
            role_id: role.entity.unique_id.clone(),
            arn: role.entity.arn().to_string(),
            create_date: role.entity.created_at,
            assume_role_policy_document: encoded(&role.shown_trust(tx)?),
            description: Some(role.description.clone()).filter(|text| !text.is_empty()),
            max_session_duration: i32::try_from(seconds).expect("twelve hours at most"),
            permissions_boundary: None,
            tags: None,
            role_last_used: None,
        })
    }

    pub(crate) fn whole(tx: &mut Tx<'_>, role: &RoleRow) -> identity::Result<Self> {
        let tags = tag::of(tx, &role.entity.account, &role.entity.unique_id)?;
        let tags = Some(tags_out(tags)).filter(|tags| !tags.is_empty());
        Ok(Self { permissions_boundary: boundary(&role.entity), tags, ..Self::brief(tx, role)? })
    }

    pub(crate) fn with_use(self, last: RoleLastUsed) -> Self {
        Self { role_last_used: Some(last), ..self }
    }
}

/// A managed policy.
#[derive(Debug, Shape)]
#[shape(output)]
pub(crate) struct Policy {
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
    tags: Option<Vec<Tag>>,
}

impl Policy {
    /// As lists show it: without description and tags.
    pub(crate) fn brief(
        tx: &mut Tx<'_>,
        account: &AccountId,
        policy: &ManagedPolicy,
    ) -> identity::Result<Self> {
        let mut count = |usage| {
            let count = attachment::count(tx, account, policy, usage)?;
            Ok::<_, identity::Error>(i32::try_from(count).unwrap_or(i32::MAX))
        };
        Ok(Self {
            policy_name: policy.name.clone(),
            policy_id: policy.policy_id.clone(),
            arn: policy.arn(),
            path: policy.path.clone(),
            default_version_id: format!("v{}", policy.default_version),
            attachment_count: count(Usage::PermissionsPolicy)?,
            permissions_boundary_usage_count: count(Usage::PermissionsBoundary)?,
            is_attachable: policy.is_attachable(),
            description: None,
            create_date: policy.created_at,
            update_date: policy.updated_at,
            tags: None,
        })
    }

    pub(crate) fn whole(
        tx: &mut Tx<'_>,
        account: &AccountId,
        policy: &ManagedPolicy,
    ) -> identity::Result<Self> {
        let description = Some(policy.description.clone()).filter(|text| !text.is_empty());
        let tags = tags_out(tag::of(tx, account, &policy.policy_id)?);
        let tags = Some(tags).filter(|tags| !tags.is_empty());
        Ok(Self { description, tags, ..Self::brief(tx, account, policy)? })
    }

    /// Whether it is attached to or bounds anything.
    pub(crate) fn uses(&self, usage: Usage) -> i32 {
        match usage {
            Usage::PermissionsPolicy => self.attachment_count,
            Usage::PermissionsBoundary => self.permissions_boundary_usage_count,
        }
    }
}

string_enum! {
    /// How a policy has to be used to be listed.
    pub(crate) enum UsageName {
        /// Attached.
        PermissionsPolicy = "PermissionsPolicy",
        /// As a boundary.
        PermissionsBoundary = "PermissionsBoundary",
    }
}

impl UsageName {
    pub(crate) fn usage(self) -> Usage {
        match self {
            Self::PermissionsPolicy => Usage::PermissionsPolicy,
            Self::PermissionsBoundary => Usage::PermissionsBoundary,
        }
    }
}

/// A version of a managed policy.
#[derive(Debug, Shape)]
#[shape(output)]
pub(crate) struct PolicyVersion {
    document: Option<String>,
    version_id: String,
    is_default_version: bool,
    create_date: Timestamp,
}

impl PolicyVersion {
    /// As lists show it: without the document.
    pub(crate) fn brief(version: &managed::PolicyVersion) -> Self {
        Self {
            document: None,
            version_id: format!("v{}", version.version),
            is_default_version: version.is_default,
            create_date: version.created_at,
        }
    }

    pub(crate) fn whole(version: &managed::PolicyVersion) -> Self {
        Self { document: Some(encoded(&version.document)), ..Self::brief(version) }
    }
}

/// A policy attached to something.
#[derive(Debug, Shape)]
#[shape(output)]
pub(crate) struct AttachedPolicy {
    policy_name: String,
    policy_arn: String,
}

/// The policies attached to something, below a path.
pub(crate) fn attached(
    tx: &mut Tx<'_>,
    entity: &Entity,
    path_prefix: &str,
    page: &Page,
) -> identity::Result<Listed<AttachedPolicy>> {
    let mut policies = Vec::new();
    for arn in attachment::of(tx, entity)? {
        let policy = managed::find(tx, &entity.account, &arn)?;
        if policy.path.starts_with(path_prefix) {
            policies.push(AttachedPolicy { policy_name: policy.name, policy_arn: arn });
        }
    }
    policies.sort_by_key(AttachedPolicy::key);
    Ok(part(policies, page, AttachedPolicy::key))
}

impl AttachedPolicy {
    fn key(&self) -> String {
        format!("{}\n{}", self.policy_name, self.policy_arn)
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Error;
    use crate::ops::iam::add_user_to_group::AddUserToGroup;
    use crate::ops::iam::attach_role_policy::AttachRolePolicy;
    use crate::ops::iam::attach_user_policy::AttachUserPolicy;
    use crate::ops::iam::create_access_key::CreateAccessKey;
    use crate::ops::iam::create_group::CreateGroup;
    use crate::ops::iam::create_policy::CreatePolicy;
    use crate::ops::iam::create_policy_version::CreatePolicyVersion;
    use crate::ops::iam::create_role::CreateRole;
    use crate::ops::iam::create_user::CreateUser;
    use crate::ops::iam::delete_user::DeleteUser;
    use crate::ops::iam::get_group::GetGroup;
    use crate::ops::iam::get_policy::GetPolicy;
    use crate::ops::iam::get_policy_version::GetPolicyVersion;
    use crate::ops::iam::get_role::GetRole;
    use crate::ops::iam::get_user::GetUser;
    use crate::ops::iam::get_user_policy::GetUserPolicy;
    use crate::ops::iam::list_access_keys::ListAccessKeys;
    use crate::ops::iam::list_attached_user_policies::ListAttachedUserPolicies;
    use crate::ops::iam::list_entities_for_policy::ListEntitiesForPolicy;
    use crate::ops::iam::list_policies::ListPolicies;
    use crate::ops::iam::list_policy_versions::ListPolicyVersions;
    use crate::ops::iam::list_user_tags::ListUserTags;
    use crate::ops::iam::list_users::ListUsers;
    use crate::ops::iam::put_role_permissions_boundary::PutRolePermissionsBoundary;
    use crate::ops::iam::put_user_policy::PutUserPolicy;
    use crate::ops::iam::tag_policy::TagPolicy;
    use crate::ops::iam::tag_user::TagUser;
    use crate::ops::iam::untag_user::UntagUser;
    use crate::ops::iam::update_access_key::UpdateAccessKey;
    use crate::testing::{Bench, account, bench, run};
    use crate::{Call, Operation};
    use iam::Principal;
    use serde_json::{Value as Json, json};

    const ALLOW_ALL: &str =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

    fn root(bench: &Bench) -> Call {
        bench.root(&account(1), "us-east-1")
    }

    async fn ok<O: Operation>(call: &Call, input: Json) -> Json {
        run::<O>(call, input.clone()).await.unwrap_or_else(|e| panic!("{input}: {e}"))
    }

    async fn refused<O: Operation>(call: &Call, input: Json) -> Error {
        run::<O>(call, input.clone()).await.expect_err(&input.to_string())
    }

    /// A call by a user that exists.
    async fn by(bench: &Bench, name: &str) -> Call {
        let made = ok::<CreateUser>(&root(bench), json!({ "UserName": name })).await;
        let id = made["User"]["UserId"].as_str().expect("an id");
        bench.call(Principal::user(&account(1), "/", name, id), "us-east-1")
    }

    async fn allow(bench: &Bench, user: &str, action: &str, resource: &str) {
        let document = json!({
            "Version": "2012-10-17",
            "Statement": { "Effect": "Allow", "Action": action, "Resource": resource },
        });
        let input = json!({
            "UserName": user, "PolicyName": "p", "PolicyDocument": document.to_string(),
        });
        ok::<PutUserPolicy>(&root(bench), input).await;
    }

    #[tokio::test]
    async fn users_are_made_shown_listed_and_removed() {
        let bench = bench().await;
        let root = root(&bench);
        let made = ok::<CreateUser>(
            &root,
            json!({ "UserName": "amy", "Path": "/dev/", "Tags": [{ "Key": "Team", "Value": "red" }] }),
        )
        .await;
        assert_eq!(made["User"]["Arn"], "arn:aws:iam::111111111111:user/dev/amy");
        assert_eq!(made["User"]["CreateDate"], "2026-01-01T00:00:00.000Z");
        assert_eq!(made["User"]["Tags"], json!([{ "Key": "Team", "Value": "red" }]));
        assert_eq!(ok::<GetUser>(&root, json!({ "UserName": "amy" })).await, made);
        let again = refused::<CreateUser>(&root, json!({ "UserName": "AMY" })).await;
        assert_eq!(again.code(), "EntityAlreadyExists");
        ok::<CreateUser>(&root, json!({ "UserName": "bob" })).await;

        let first = ok::<ListUsers>(&root, json!({ "MaxItems": 1 })).await;
        assert_eq!(first["Users"][0]["UserName"], "amy");
        assert_eq!(first["IsTruncated"], true);
        let rest = ok::<ListUsers>(&root, json!({ "Marker": first["Marker"] })).await;
        assert_eq!(rest["Users"][0]["UserName"], "bob");
        assert_eq!(rest["IsTruncated"], false);
        assert_eq!(
            refused::<ListUsers>(&root, json!({ "MaxItems": 0 })).await.code(),
            "ValidationError"
        );
        assert_eq!(
            refused::<ListUsers>(&root, json!({ "Marker": "?" })).await.code(),
            "ValidationError"
        );

        ok::<TagUser>(&root, json!({ "UserName": "amy", "Tags": [{ "Key": "a", "Value": "b" }] }))
            .await;
        ok::<UntagUser>(&root, json!({ "UserName": "amy", "TagKeys": ["team"] })).await;
        let tags = ok::<ListUserTags>(&root, json!({ "UserName": "amy" })).await;
        assert_eq!(tags["Tags"], json!([{ "Key": "a", "Value": "b" }]));

        ok::<CreateAccessKey>(&root, json!({ "UserName": "amy" })).await;
        let conflict = refused::<DeleteUser>(&root, json!({ "UserName": "amy" })).await;
        assert_eq!((conflict.code(), conflict.0.spec.status), ("DeleteConflict", 409));
        ok::<DeleteUser>(&root, json!({ "UserName": "bob" })).await;
        let gone = refused::<GetUser>(&root, json!({ "UserName": "bob" })).await;
        assert_eq!((gone.code(), gone.0.spec.status), ("NoSuchEntity", 404));
        assert_eq!(gone.0.message, "The user with name bob cannot be found.");
        let other = bench.root(&account(2), "us-east-1");
        assert_eq!(ok::<ListUsers>(&other, json!({})).await["Users"], json!([]));
    }

    #[tokio::test]
    async fn permission_comes_before_existence() {
        let bench = bench().await;
        let amy = by(&bench, "amy").await;
        let denied = refused::<GetUser>(&amy, json!({ "UserName": "nobody" })).await;
        assert_eq!((denied.code(), denied.0.spec.status), ("AccessDenied", 403));
        assert_eq!(
            denied.0.message,
            "User: arn:aws:iam::111111111111:user/amy is not authorized to perform: iam:GetUser on \
             resource: arn:aws:iam::111111111111:user/nobody because no identity-based policy allows \
             the iam:GetUser action"
        );
        allow(&bench, "amy", "iam:GetUser", "arn:aws:iam::111111111111:user/*").await;
        let missing = refused::<GetUser>(&amy, json!({ "UserName": "nobody" })).await;
        assert_eq!(missing.code(), "NoSuchEntity");
        assert_eq!(ok::<GetUser>(&amy, json!({})).await["User"]["UserName"], "amy");
        let listed = refused::<ListUsers>(&amy, json!({})).await;
        assert!(listed.0.message.contains("arn:aws:iam::111111111111:user/ because"), "{listed}");
    }

    #[tokio::test]
    async fn conditions_on_what_is_attached_hold() {
        let bench = bench().await;
        let amy = by(&bench, "amy").await;
        let document = json!({ "Version": "2012-10-17", "Statement": [
            { "Effect": "Allow", "Action": "iam:AttachUserPolicy", "Resource": "*",
              "Condition": { "ArnEquals": { "iam:PolicyARN": "arn:aws:iam::aws:policy/IAMReadOnlyAccess" } } },
            { "Effect": "Allow", "Action": "iam:TagUser", "Resource": "*" },
            { "Effect": "Allow", "Action": "iam:CreateUser", "Resource": "*",
              "Condition": { "StringEquals": { "aws:RequestTag/team": "red",
                "iam:PermissionsBoundary": "arn:aws:iam::aws:policy/PowerUserAccess" } } },
        ]});
        let input =
            json!({ "UserName": "amy", "PolicyName": "p", "PolicyDocument": document.to_string() });
        ok::<PutUserPolicy>(&root(&bench), input).await;
        let attach = |name: &str| json!({ "UserName": "amy", "PolicyArn": format!("arn:aws:iam::aws:policy/{name}") });
        ok::<AttachUserPolicy>(&amy, attach("IAMReadOnlyAccess")).await;
        let denied = refused::<AttachUserPolicy>(&amy, attach("AdministratorAccess")).await;
        assert_eq!(denied.code(), "AccessDenied");
        let create = |team: &str, boundary: &str| {
            json!({ "UserName": "new", "Tags": [{ "Key": "team", "Value": team }],
                "PermissionsBoundary": format!("arn:aws:iam::aws:policy/{boundary}") })
        };
        assert_eq!(
            refused::<CreateUser>(&amy, create("blue", "PowerUserAccess")).await.code(),
            "AccessDenied"
        );
        assert_eq!(
            refused::<CreateUser>(&amy, create("red", "IAMFullAccess")).await.code(),
            "AccessDenied"
        );
        let made = ok::<CreateUser>(&amy, create("red", "PowerUserAccess")).await;
        assert_eq!(
            made["User"]["PermissionsBoundary"]["PermissionsBoundaryArn"],
            "arn:aws:iam::aws:policy/PowerUserAccess"
        );
    }

    #[tokio::test]
    async fn access_keys_are_the_callers_own_or_a_named_users() {
        let bench = bench().await;
        let amy = by(&bench, "amy").await;
        allow(&bench, "amy", "iam:*AccessKey*", "arn:aws:iam::111111111111:user/amy").await;
        let made = ok::<CreateAccessKey>(&amy, json!({})).await["AccessKey"].clone();
        assert_eq!(made["UserName"], "amy");
        assert_eq!(made["SecretAccessKey"].as_str().expect("a secret").len(), 40);
        let id = made["AccessKeyId"].clone();
        ok::<UpdateAccessKey>(&amy, json!({ "AccessKeyId": id, "Status": "Inactive" })).await;
        let listed = ok::<ListAccessKeys>(&amy, json!({ "UserName": "amy" })).await;
        assert_eq!(listed["AccessKeyMetadata"][0]["Status"], "Inactive");
        assert_eq!(listed["AccessKeyMetadata"][0]["AccessKeyId"], id);
        let expired = json!({ "AccessKeyId": id, "Status": "Expired" });
        assert_eq!(refused::<UpdateAccessKey>(&amy, expired).await.code(), "ValidationError");
        by(&bench, "bob").await;
        let bobs = refused::<CreateAccessKey>(&amy, json!({ "UserName": "bob" })).await;
        assert_eq!(bobs.code(), "AccessDenied");
        let own = ok::<ListAccessKeys>(&root(&bench), json!({})).await;
        assert_eq!(own["AccessKeyMetadata"][0]["UserName"], "");
    }

    #[tokio::test]
    async fn inline_policies_come_back_encoded() {
        let bench = bench().await;
        by(&bench, "amy").await;
        allow(&bench, "amy", "ec2:*", "*").await;
        let input = json!({ "UserName": "amy", "PolicyName": "p" });
        let shown = ok::<GetUserPolicy>(&root(&bench), input).await;
        let document = shown["PolicyDocument"].as_str().expect("a text");
        assert!(document.starts_with("%7B%22") && document.contains("ec2%3A%2A"), "{document}");
        let bad = json!({ "UserName": "amy", "PolicyName": "q", "PolicyDocument": "{}" });
        let error = refused::<PutUserPolicy>(&root(&bench), bad).await;
        assert_eq!(error.code(), "MalformedPolicyDocument");
    }

    #[tokio::test]
    async fn managed_policies_and_their_versions() {
        let bench = bench().await;
        let root = root(&bench);
        let input = json!({ "PolicyName": "p", "PolicyDocument": ALLOW_ALL, "Description": "d" });
        let made = ok::<CreatePolicy>(&root, input).await["Policy"].clone();
        let arn = made["Arn"].clone();
        assert_eq!(made["DefaultVersionId"], "v1");
        let second = json!({ "PolicyArn": arn, "PolicyDocument": ALLOW_ALL, "SetAsDefault": true });
        let version = ok::<CreatePolicyVersion>(&root, second).await["PolicyVersion"].clone();
        assert_eq!(
            (&version["VersionId"], &version["IsDefaultVersion"]),
            (&json!("v2"), &json!(true))
        );
        let versions = ok::<ListPolicyVersions>(&root, json!({ "PolicyArn": arn })).await;
        assert_eq!(versions["Versions"][0]["VersionId"], "v2");
        assert_eq!(versions["Versions"][1]["IsDefaultVersion"], false);
        let one = json!({ "PolicyArn": arn, "VersionId": "v1" });
        let shown = ok::<GetPolicyVersion>(&root, one).await;
        assert!(shown["PolicyVersion"]["Document"].as_str().expect("a text").starts_with("%7B"));
        for (version, code) in
            [("v3", "NoSuchEntity"), ("1", "ValidationError"), ("v01", "ValidationError")]
        {
            let input = json!({ "PolicyArn": arn, "VersionId": version });
            assert_eq!(refused::<GetPolicyVersion>(&root, input).await.code(), code);
        }
        by(&bench, "amy").await;
        ok::<AttachUserPolicy>(&root, json!({ "UserName": "amy", "PolicyArn": arn })).await;
        ok::<TagPolicy>(&root, json!({ "PolicyArn": arn, "Tags": [{ "Key": "a", "Value": "b" }] }))
            .await;
        let shown = ok::<GetPolicy>(&root, json!({ "PolicyArn": arn })).await["Policy"].clone();
        assert_eq!((&shown["AttachmentCount"], &shown["Description"]), (&json!(1), &json!("d")));
        assert_eq!(shown["Tags"], json!([{ "Key": "a", "Value": "b" }]));
        let attached = ok::<ListAttachedUserPolicies>(&root, json!({ "UserName": "amy" })).await;
        assert_eq!(attached["AttachedPolicies"], json!([{ "PolicyName": "p", "PolicyArn": arn }]));
        let used = ok::<ListPolicies>(&root, json!({ "OnlyAttached": true })).await;
        assert_eq!(used["Policies"].as_array().expect("a list").len(), 1);
        let users = ok::<ListEntitiesForPolicy>(&root, json!({ "PolicyArn": arn })).await;
        assert_eq!(users["PolicyUsers"][0]["UserName"], "amy");
        assert_eq!(users["PolicyRoles"], json!([]));
        let roles = json!({ "PolicyArn": arn, "EntityFilter": "Role" });
        assert_eq!(ok::<ListEntitiesForPolicy>(&root, roles).await["PolicyUsers"], json!([]));

        let aws = "arn:aws:iam::aws:policy/AdministratorAccess";
        assert_eq!(ok::<GetPolicy>(&root, json!({ "PolicyArn": aws })).await["Policy"]["Arn"], aws);
        let tag = json!({ "PolicyArn": aws, "Tags": [{ "Key": "a", "Value": "b" }] });
        assert_eq!(refused::<TagPolicy>(&root, tag).await.code(), "InvalidInput");
        let none = json!({ "PolicyArn": "arn:aws:iam::aws:policy/NoSuch" });
        assert_eq!(refused::<GetPolicy>(&root, none).await.code(), "NoSuchEntity");
        assert_eq!(
            refused::<GetPolicy>(&root, json!({ "PolicyArn": "x".repeat(20) })).await.code(),
            "InvalidInput"
        );
    }

    #[tokio::test]
    async fn groups_give_their_members_what_they_have() {
        let bench = bench().await;
        let root = root(&bench);
        let amy = by(&bench, "amy").await;
        ok::<CreateGroup>(&root, json!({ "GroupName": "admins" })).await;
        let policy = "arn:aws:iam::aws:policy/IAMFullAccess";
        let attach = json!({ "GroupName": "admins", "PolicyArn": policy });
        ok::<crate::ops::iam::attach_group_policy::AttachGroupPolicy>(&root, attach).await;
        refused::<ListUsers>(&amy, json!({})).await;
        ok::<AddUserToGroup>(&root, json!({ "GroupName": "admins", "UserName": "amy" })).await;
        ok::<ListUsers>(&amy, json!({})).await;
        let shown = ok::<GetGroup>(&amy, json!({ "GroupName": "admins" })).await;
        assert_eq!(shown["Users"][0]["UserName"], "amy");
    }

    #[tokio::test]
    async fn roles_show_their_trust_and_boundary() {
        let bench = bench().await;
        let root = root(&bench);
        let trust = json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
            "Principal": { "AWS": "222222222222" }, "Action": "sts:AssumeRole" } });
        let input = json!({ "RoleName": "dev", "AssumeRolePolicyDocument": trust.to_string(),
            "MaxSessionDuration": 7200, "Description": "d" });
        let made = ok::<CreateRole>(&root, input).await;
        assert_eq!(made["Role"]["MaxSessionDuration"], 7200);
        let boundary = "arn:aws:iam::aws:policy/PowerUserAccess";
        let put = json!({ "RoleName": "dev", "PermissionsBoundary": boundary });
        ok::<PutRolePermissionsBoundary>(&root, put).await;
        let attach = json!({ "RoleName": "dev", "PolicyArn": boundary });
        ok::<AttachRolePolicy>(&root, attach).await;
        let shown = ok::<GetRole>(&root, json!({ "RoleName": "dev" })).await["Role"].clone();
        assert_eq!(shown["PermissionsBoundary"]["PermissionsBoundaryArn"], boundary);
        assert!(
            shown["AssumeRolePolicyDocument"].as_str().expect("a text").contains("222222222222")
        );
        let nobody = trust.to_string().replace("222222222222", "999999999999");
        let input = json!({ "RoleName": "ops", "AssumeRolePolicyDocument": nobody });
        let error = refused::<CreateRole>(&root, input).await;
        assert_eq!(error.code(), "MalformedPolicyDocument");
        assert!(error.0.message.contains("Invalid principal in policy"), "{error}");
    }
}
