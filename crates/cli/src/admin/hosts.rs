//! `admin host`: machines, and the credentials of those that open their volumes themselves.

use super::handlers::{known_account, sentence};
use super::{HostCredentials, NewHost};
use api::World;
use base::{InstanceId, Region};
use ebs::attachment::{self, Attachment};
use ebs::instance::{self, Instance};
use ebs::tag;
use identity::access_key::{self, NewAccessKey, Owner};
use serde_json::Value;
use std::fmt::Display;
use std::sync::Arc;

/// Who opens the volumes of a host.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum HostKind {
    /// The server.
    Here,
    /// The host itself, with `strongroom attach`.
    Remote,
}

/// Registers a machine.
pub(super) async fn create(
    world: &Arc<World>,
    account: &str,
    zone: String,
    (name, kind): (Option<String>, HostKind),
) -> Result<Value, String> {
    let account = known_account(world, account).await?;
    let Some(region) = world.regions.of_zone(&zone).cloned() else {
        let zones: Vec<&str> = world
            .regions
            .iter()
            .flat_map(|region| world.regions.zones(region))
            .map(String::as_str)
            .collect();
        return Err(format!("there is no zone {zone}; zones are {}", zones.join(", ")));
    };
    let instance = Instance {
        id: InstanceId::generate(&*world.rng),
        account,
        region,
        zone,
        name,
        created: world.clock.now(),
    };
    let (id, region) = (instance.id.clone(), instance.region.clone());
    let identity = world.identity.clone();
    let key = world
        .db
        .write(move |tx| {
            instance::insert(tx, &instance)?;
            let Instance { account, region, id, name, .. } = &instance;
            if let Some(name) = name {
                let tags = [("Name".to_owned(), name.clone())];
                let set = tag::set(tx, account, region, id.as_str(), &tags);
                set?.map_err(Sentence::of)?;
            }
            if kind == HostKind::Here {
                return Ok(None);
            }
            instance::set_remote(tx, &instance)?;
            let owner = Owner::Host(account.clone(), id.clone());
            identity.create_access_key(tx, &owner).map(Some).map_err(Sentence::of)
        })
        .await
        .map_err(|Sentence(why)| why)?;
    answer(&id, key.map(|key| credentials(region, key)))
}

/// Gives a machine new credentials; those it had are nobody's any more, and what was connected with them
/// must connect anew.
pub(super) async fn renew(world: &Arc<World>, instance: &str) -> Result<Value, String> {
    let id = InstanceId::parse(instance).map_err(sentence)?;
    let (identity, wanted) = (world.identity.clone(), id.clone());
    let (attached, renewed) = world
        .db
        .write(move |tx| {
            let Some(instance) = instance::find_remote(tx, &wanted)? else {
                return Err(Sentence(format!(
                    "no host {wanted} opens its volumes itself; others have no credentials"
                )));
            };
            let Instance { id, account, region, .. } = instance;
            let attached = attachment::of_instance(tx, &account, &region, &id)?;
            let owner = Owner::Host(account, id);
            for key in access_key::list(tx, &owner).map_err(Sentence::of)? {
                access_key::delete(tx, &owner, &key.id).map_err(Sentence::of)?;
            }
            let key = identity.create_access_key(tx, &owner).map_err(Sentence::of)?;
            Ok((attached, credentials(region, key)))
        })
        .await
        .map_err(|Sentence(why)| why)?;
    for Attachment { region, volume, .. } in &attached {
        world.channels.disconnect(region, volume);
    }
    answer(&id, Some(renewed))
}

fn credentials(region: Region, key: NewAccessKey) -> HostCredentials {
    HostCredentials {
        region: region.to_string(),
        access_key_id: key.key.id,
        secret_access_key: key.secret.expose().clone(),
    }
}

fn answer(id: &InstanceId, credentials: Option<HostCredentials>) -> Result<Value, String> {
    serde_json::to_value(NewHost { instance_id: id.to_string(), credentials }).map_err(sentence)
}

/// Why a transaction of several parts failed, for the person at the terminal.
struct Sentence(String);

impl Sentence {
    fn of(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

impl From<meta::Error> for Sentence {
    fn from(error: meta::Error) -> Self {
        Self::of(error)
    }
}

impl From<ebs::Error> for Sentence {
    fn from(error: ebs::Error) -> Self {
        Self::of(error)
    }
}
