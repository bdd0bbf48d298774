//! The instance profile that a request names, and how replies show it.

use super::{Role, Tag, Tags, read_if_there, resource_tags, tags_out};
use crate::pipeline::Ask;
use crate::{Call, Error};
use awsproto::Shape;
use base::{AccountId, Arn, Timestamp};
use identity::instance_profile::{self, InstanceProfile as Row};
use identity::{role, tag};
use meta::Tx;

/// An instance profile that a request names.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    arn: Arn,
    tags: Tags,
}

impl Profile {
    /// One that is to be made.
    pub(crate) fn new(call: &Call, name: String, path: Option<&str>) -> Self {
        let (account, path) = (call.account().clone(), path.unwrap_or("/"));
        let arn = Arn::global("iam", &account, &format!("instance-profile{path}{name}"));
        Self { account, name, arn, tags: Tags::new() }
    }

    /// One that may be there.
    pub(crate) async fn named(call: &Call, name: String) -> Result<Self, Error> {
        let mut profile = Self::new(call, name, None);
        let wanted = profile.clone();
        let found = read_if_there(call, move |tx| {
            let found = wanted.find(tx)?;
            Ok((found.arn(), tag::of(tx, &found.account, &found.profile_id)?))
        });
        if let Some((arn, tags)) = found.await? {
            (profile.arn, profile.tags) = (arn, tags);
        }
        Ok(profile)
    }

    /// Finds it, or says that it does not exist.
    pub(crate) fn find(&self, tx: &mut Tx<'_>) -> identity::Result<Row> {
        instance_profile::find(tx, &self.account, &self.name)
    }

    /// The permission to do something with it.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        Ask::on(action, &self.arn, &self.account).with(resource_tags(&self.tags))
    }
}

/// An instance profile.
#[derive(Debug, Shape)]
#[shape(output)]
pub(crate) struct InstanceProfile {
    path: String,
    instance_profile_name: String,
    instance_profile_id: String,
    arn: String,
    create_date: Timestamp,
    roles: Vec<Role>,
    tags: Option<Vec<Tag>>,
}

impl InstanceProfile {
    /// As lists show it: without tags (IAM API, ListInstanceProfiles).
    pub(crate) fn brief(tx: &mut Tx<'_>, profile: &Row) -> identity::Result<Self> {
        let mut roles = Vec::new();
        if let Some(entity) = profile.role(tx)? {
            let role = role::complete(tx, entity)?;
            roles.push(Role::brief(tx, &role)?);
        }
        Ok(Self {
            path: profile.path.clone(),
            instance_profile_name: profile.name.clone(),
            instance_profile_id: profile.profile_id.clone(),
            arn: profile.arn().to_string(),
            create_date: profile.created_at,
            roles,
            tags: None,
        })
    }

    /// With everything.
    pub(crate) fn whole(tx: &mut Tx<'_>, profile: &Row) -> identity::Result<Self> {
        let tags = tags_out(tag::of(tx, &profile.account, &profile.profile_id)?);
        let tags = Some(tags).filter(|tags| !tags.is_empty());
        Ok(Self { tags, ..Self::brief(tx, profile)? })
    }
}
