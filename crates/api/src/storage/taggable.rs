//! Resources that carry tags, found by their ids.

use super::code::invalid_value;
use super::code::snapshot_not_found;
use super::find::{FoundInstance, FoundSnapshot, FoundVolume};
use crate::call::Call;
use crate::error::Error;
use crate::pipeline::Ask;
use awsproto::ErrorSpec;
use base::{InstanceId, SnapshotId, VolumeId};
use ebs::visibility::Visibility;

const INVALID_ID: ErrorSpec = ErrorSpec::sender("InvalidID", 400);
/// Resources in one request (EC2 guide, "Tag your resources").
const RESOURCES_MAX: usize = 1000;

/// A resource of the caller's account.
pub(crate) enum Taggable {
    Volume(FoundVolume),
    Snapshot(FoundSnapshot),
    Instance(FoundInstance),
}

impl Taggable {
    /// The resources of these ids, all of them or an error.
    pub(crate) async fn find_all(call: &Call, ids: &[String]) -> Result<Vec<Self>, Error> {
        if ids.len() > RESOURCES_MAX {
            return Err(invalid_value(format!("At most {RESOURCES_MAX} resources can be named.")));
        }
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            found.push(Self::find(call, id).await?);
        }
        Ok(found)
    }

    async fn find(call: &Call, id: &str) -> Result<Self, Error> {
        match resource_type(id) {
            Some("volume") => {
                let id = VolumeId::parse(id).map_err(|_| malformed(id))?;
                Ok(Self::Volume(FoundVolume::find(call, &id).await?))
            }
            Some("snapshot") => {
                let id = SnapshotId::parse(id).map_err(|_| malformed(id))?;
                let found = FoundSnapshot::find(call, &id).await?;
                // Tags are the owner's: others can neither see nor set them.
                if found.seen == Visibility::Owner {
                    Ok(Self::Snapshot(found))
                } else {
                    Err(snapshot_not_found(id.as_str()))
                }
            }
            Some("instance") => {
                let id = InstanceId::parse(id).map_err(|_| malformed(id))?;
                Ok(Self::Instance(FoundInstance::find(call, &id).await?))
            }
            Some(_) | None => Err(malformed(id)),
        }
    }

    /// The resource's id.
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Volume(found) => found.volume.id.as_str(),
            Self::Snapshot(found) => found.snapshot.id.as_str(),
            Self::Instance(found) => found.instance.id.as_str(),
        }
    }

    /// Permission for an action on the resource.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        match self {
            Self::Volume(found) => found.ask(action),
            Self::Snapshot(found) => found.ask(action),
            Self::Instance(found) => found.ask(action),
        }
    }
}

fn malformed(id: &str) -> Error {
    Error::new(INVALID_ID, format!("The ID '{id}' is not valid"))
}

/// The type of a resource by the prefix of its id.
pub(crate) fn resource_type(id: &str) -> Option<&'static str> {
    [("vol-", "volume"), ("snap-", "snapshot"), ("i-", "instance")]
        .into_iter()
        .find(|(prefix, _)| id.starts_with(prefix))
        .map(|(_, name)| name)
}
