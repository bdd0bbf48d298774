//! What the operations of STS share: credentials as replies show them, and what assuming a role asks
//! for.

use crate::{Ask, Call, Error, Guard};
use awsproto::Shape;
use base::{Secret, Timestamp};
use iam::{Context, Principal};
use identity::role::{self, Role};
use identity::session::{self, Session};
use identity::tag::{self, Tags};

/// Temporary credentials.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct Credentials {
    access_key_id: String,
    #[shape(sensitive)]
    secret_access_key: Secret<String>,
    #[shape(sensitive)]
    session_token: Secret<String>,
    expiration: Timestamp,
}

impl From<Session> for Credentials {
    fn from(session: Session) -> Self {
        Self {
            access_key_id: session.access_key_id,
            secret_access_key: session.secret,
            session_token: Secret::new(session.token),
            expiration: session.expires_at,
        }
    }
}

/// `SessionTokenSize` and `SessionTokenUtilization`.
pub(crate) struct TokenSize {
    pub(crate) bytes: i32,
    /// Of the largest token there can be.
    pub(crate) percent: i32,
}

impl TokenSize {
    pub(crate) fn of(session: &Session) -> Self {
        Self {
            bytes: i32::try_from(session.token.len()).expect("a token's room is limited"),
            percent: i32::try_from(session.packed_percent).expect("a hundred at most"),
        }
    }
}

/// A managed policy of a request.
#[derive(Shape)]
#[shape(input)]
pub(crate) struct PolicyDescriptor {
    #[shape(name = "arn")]
    arn: Option<String>,
}

/// The ARNs of a request's managed policies.
pub(crate) fn arns(policies: Vec<PolicyDescriptor>) -> Vec<String> {
    policies.into_iter().filter_map(|policy| policy.arn).collect()
}

/// Whose session a reply begins.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct AssumedRoleUser {
    assumed_role_id: String,
    arn: String,
}

impl AssumedRoleUser {
    pub(crate) fn of(session: &Principal) -> Self {
        Self { assumed_role_id: session.user_id.clone(), arn: session.arn.clone() }
    }
}

/// The role with this ARN and its tags, if there is one.
pub(crate) async fn role_of(call: &Call, arn: &str) -> Result<Option<(Role, Tags)>, Error> {
    let wanted = arn.to_owned();
    let found = call.world.db.read(move |tx| {
        let Some(role) = role::find_by_arn(tx, &wanted)? else { return Ok(None) };
        let tags = tag::of(tx, &role.entity.account, &role.entity.unique_id)?;
        Ok::<_, identity::Error>(Some((role, tags)))
    });
    Ok(found.await?)
}

/// One permission to assume the role, and one each for what the session carries (STS guide, "Passing
/// session tags" and "Monitor and control actions taken with assumed roles"). `assume` is the action
/// with the condition keys that only it has.
pub(crate) fn role_asks(
    call: &Call,
    assume: (&str, Context),
    role: &Role,
    role_tags: &Tags,
    request: &session::AssumeRole,
) -> Result<Vec<Ask>, Error> {
    let (action, mut context) = assume;
    context.set("sts:RoleSessionName", request.session_name.as_str());
    context.set_opt("sts:DurationSeconds", request.duration_seconds.map(|n| n.to_string()));
    let caller = &call.caller.principal;
    let source_identity = request.source_identity.as_ref().or(caller.source_identity.as_ref());
    context.set_opt("sts:SourceIdentity", source_identity.cloned());
    set_tags(&mut context, "aws:RequestTag", &request.tags);
    set_tags(&mut context, "aws:ResourceTag", role_tags);
    set_tags(&mut context, "iam:ResourceTag", role_tags);
    if !request.tags.is_empty() {
        context.set_multi("aws:TagKeys", request.tags.keys().cloned());
    }
    if !request.transitive_tag_keys.is_empty() {
        context.set_multi("sts:TransitiveTagKeys", request.transitive_tag_keys.clone());
    }
    let mut actions = vec![action];
    if !request.tags.is_empty() || !caller.transitive_tag_keys.is_empty() {
        actions.push("sts:TagSession");
    }
    if source_identity.is_some() {
        actions.push("sts:SetSourceIdentity");
    }
    let layer = role.trust_layer()?;
    let ask = |action: &str| {
        Ask::on(action, &role.entity.arn(), &role.entity.account).with(context.clone()).guarded(
            Guard::Resource { layer: layer.clone(), grants: Vec::new(), missed: Vec::new() },
        )
    };
    Ok(actions.into_iter().map(ask).collect())
}

/// Condition keys of tags.
pub(crate) fn set_tags(context: &mut Context, prefix: &str, tags: &Tags) {
    for (key, value) in tags {
        context.set(format!("{prefix}/{key}"), value.as_str());
    }
}
