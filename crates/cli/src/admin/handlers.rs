//! What the admin socket can do.

use super::hosts::{self, HostKind};
use super::socket::Desk;
use super::{
    AccountEnv, AccountRow, NbdCredentials, NewAccount, Reply, Request, TrailQuery, TwinLine,
    UsageLine,
};
use super::{attachments, backup, events, initializations, root};
use crate::serve::{Issued, Nbd};
use ::events::{Filter, Found, Lookup};
use api::World;
use base::{AccountId, Region};
use identity::access_key::{self, Owner};
use identity::account;
use identity::oidc;
use identity::web_identity::KeySet;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;

/// Pages read from one account's trail in one region while looking for refused calls.
const TRAIL_PAGES_MAX: usize = 40;
/// What an account is called when nothing is said.
const UNNAMED: &str = "unnamed";

/// Answers one request. The reason of a refusal is a sentence for the person at the terminal.
pub(crate) async fn handle(desk: &Desk, request: Request) -> Reply {
    let world = &desk.world;
    let answer = match request {
        Request::AccountCreate { name } => create_account(world, name).await,
        Request::AccountList => list_accounts(world).await,
        Request::HostCreate { account, az, name, remote } => {
            let kind = if remote { HostKind::Remote } else { HostKind::Here };
            hosts::create(world, &account, az, (name, kind)).await
        }
        Request::HostCredentials { instance } => hosts::renew(world, &instance).await,
        Request::Env { account } => env(world, &desk.endpoint, &account).await,
        Request::NbdCredentials { instance, device } => {
            nbd_credentials(&desk.nbd, &instance, &device)
        }
        Request::OidcKeys { account, url, keys } => oidc_keys(world, &account, &url, keys).await,
        Request::Trail(query) => trail(world, query).await,
        Request::Collections { region, limit } => collections(world, &region, limit).await,
        Request::Usage { region } => usage(world, &region).await,
        Request::Twins { region } => twins(world, &region).await,
        Request::Initializations { region } => initializations::list(world, &region).await,
        Request::Attachments { region } => attachments::list(world, &region).await,
        Request::Events { account, region, limit } => {
            events::list(world, account.as_deref(), &region, limit).await
        }
        Request::SealRotate { to } => root::rotate_seal(desk, to).await,
        Request::DomainKeyRotate { region } => root::rotate_domain_keys(desk, region).await,
        Request::BackupCreate { to, recovery } => backup::create(desk, to, recovery).await,
        Request::DomainKeyStatus => root::domain_key_status(world).await,
        Request::Check(_) => unreachable!("a check is answered in many lines, by the socket"),
    };
    answer.map_or_else(Reply::Error, Reply::Ok)
}

pub(super) fn sentence(error: impl Display) -> String {
    error.to_string()
}

fn nbd_credentials(nbd: &Nbd, instance: &str, device: &str) -> Result<Value, String> {
    let Issued { credentials, volume, address } = nbd.issue(instance, device)?;
    let made = NbdCredentials {
        authority: credentials.authority,
        certificate: credentials.certificate,
        key: credentials.key.expose().clone(),
        volume,
        address,
    };
    serde_json::to_value(made).map_err(sentence)
}

async fn oidc_keys(
    world: &Arc<World>,
    account: &str,
    url: &str,
    keys: Option<String>,
) -> Result<Value, String> {
    let account = AccountId::parse(account).map_err(sentence)?;
    let issuer = oidc::issuer_of_url(url).map_err(sentence)?;
    if let Some(text) = &keys {
        KeySet::parse(text)?;
    }
    let written = world.db.write(move |tx| {
        let provider = oidc::find(tx, &account, &issuer)?;
        oidc::set_keys(tx, &provider, keys.as_deref())
    });
    written.await.map_err(sentence)?;
    Ok(Value::Null)
}

async fn create_account(world: &Arc<World>, name: String) -> Result<Value, String> {
    let name = if name.is_empty() { UNNAMED.to_owned() } else { name };
    let identity = world.identity.clone();
    let (account, key) = world
        .db
        .write(move |tx| identity.create_account(tx, None, &name))
        .await
        .map_err(sentence)?;
    let new = NewAccount {
        account_id: account.id.to_string(),
        access_key_id: key.key.id.clone(),
        secret_access_key: key.secret.expose().clone(),
    };
    serde_json::to_value(new).map_err(sentence)
}

async fn list_accounts(world: &Arc<World>) -> Result<Value, String> {
    let accounts = world.db.read(account::list).await.map_err(sentence)?;
    let rows: Vec<AccountRow> = accounts
        .into_iter()
        .map(|account| AccountRow { account_id: account.id.to_string(), name: account.name })
        .collect();
    serde_json::to_value(rows).map_err(sentence)
}

/// A region by its name.
pub(super) fn served(world: &World, name: &str) -> Result<Region, String> {
    let region = Region::parse(name).map_err(sentence)?;
    if world.regions.contains(&region) {
        return Ok(region);
    }
    let regions: Vec<&str> = world.regions.iter().map(Region::as_str).collect();
    Err(format!("the region {region} is not served; regions are {}", regions.join(", ")))
}

async fn collections(world: &Arc<World>, region: &str, limit: u32) -> Result<Value, String> {
    let region = served(world, region)?;
    let lines = world.db.read(move |tx| lifecycle::collections::latest(tx, &region, limit)).await;
    serde_json::to_value(lines.map_err(sentence)?).map_err(sentence)
}

async fn usage(world: &Arc<World>, region: &str) -> Result<Value, String> {
    let region = served(world, region)?;
    let found = world.db.read(move |tx| ebs::usage::early_deletions(tx, &region)).await;
    let line = |row: ebs::usage::EarlyDeletion| UsageLine {
        kind: "early-delete".to_owned(),
        account_id: row.account.to_string(),
        snapshot_id: row.snapshot.to_string(),
        ended_ms: row.ended.0,
        hours: row.hours_left,
        bytes: row.bytes,
    };
    let lines: Vec<UsageLine> = found.map_err(sentence)?.into_iter().map(line).collect();
    serde_json::to_value(lines).map_err(sentence)
}

async fn twins(world: &Arc<World>, region: &str) -> Result<Value, String> {
    let region = served(world, region)?;
    let found = world
        .db
        .read(move |tx| {
            let twins = ebs::twin::list_all(tx, &region)?;
            Ok::<_, ebs::Error>((twins, ebs::twin::read_by_volume(tx, &region)?))
        })
        .await;
    let (twins, read) = found.map_err(sentence)?;
    let mut readers: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
    for (volume, root) in read {
        readers.entry(root).or_default().push(volume.to_string());
    }
    let mut lines: Vec<TwinLine> = twins
        .into_iter()
        .map(|twin| TwinLine {
            volumes: twin.root.and_then(|root| readers.remove(&root)).unwrap_or_default(),
            snapshot_id: Some(twin.snapshot.to_string()),
            account_id: Some(twin.account.to_string()),
            progress: twin.progress,
        })
        .collect();
    lines.extend(readers.into_values().map(|volumes| TwinLine {
        snapshot_id: None,
        account_id: None,
        progress: 100,
        volumes,
    }));
    serde_json::to_value(lines).map_err(sentence)
}

pub(super) async fn known_account(world: &Arc<World>, id: &str) -> Result<AccountId, String> {
    let id = AccountId::parse(id).map_err(sentence)?;
    let wanted = id.clone();
    let found = world.db.read(move |tx| account::find(tx, &wanted)).await.map_err(sentence)?;
    match found {
        Some(_) => Ok(id),
        None => Err(format!("there is no account {id}; `strongroom admin account list` shows all")),
    }
}

async fn env(world: &Arc<World>, endpoint: &str, account: &str) -> Result<Value, String> {
    let account = known_account(world, account).await?;
    let identity = world.identity.clone();
    let owner = Owner::Root(account);
    let found = world
        .db
        .read(move |tx| {
            let keys = access_key::list(tx, &owner)?;
            let Some(key) = keys.into_iter().find(|key| key.active) else { return Ok(None) };
            Ok::<_, identity::CredentialError>(Some((
                key.id.clone(),
                identity.credential(tx, &key.id, None)?.secret,
            )))
        })
        .await
        .map_err(sentence)?;
    let Some((id, secret)) = found else {
        return Err("the root of this account has no active access key".to_owned());
    };
    let env = AccountEnv {
        access_key_id: id,
        secret_access_key: secret.expose().clone(),
        endpoint: endpoint.to_owned(),
    };
    serde_json::to_value(env).map_err(sentence)
}

/// The account that is asked about, or all of them with the operator's.
pub(super) async fn accounts(
    world: &Arc<World>,
    wanted: Option<&str>,
) -> Result<Vec<AccountId>, String> {
    match wanted {
        Some(id) if *id == *api::operator().to_string() => Ok(vec![api::operator()]),
        Some(id) => Ok(vec![known_account(world, id).await?]),
        None => {
            let all = world.db.read(account::list).await.map_err(sentence)?;
            let tenants = all.into_iter().map(|account| account.id);
            Ok(tenants.chain([api::operator()]).collect())
        }
    }
}

/// The newest records that fit, oldest of them first.
async fn trail(world: &Arc<World>, query: TrailQuery) -> Result<Value, String> {
    let accounts = accounts(world, query.account.as_deref()).await?;
    let regions: Vec<Region> = match &query.region {
        Some(name) => vec![Region::parse(name).map_err(sentence)?],
        None => world.regions.iter().cloned().collect(),
    };
    let limit = usize::try_from(query.limit).map_err(sentence)?;
    let mut found = Vec::new();
    for account in &accounts {
        for region in &regions {
            found.extend(newest(world, account, region, &query, limit).await?);
        }
    }
    found.sort_by(|a, b| (a.time, &a.event_id).cmp(&(b.time, &b.event_id)));
    let skipped = found.len().saturating_sub(limit);
    let records: Result<Vec<Value>, _> =
        found[skipped..].iter().map(|found| serde_json::from_str(&found.record)).collect();
    serde_json::to_value(records.map_err(sentence)?).map_err(sentence)
}

async fn newest(
    world: &Arc<World>,
    account: &AccountId,
    region: &Region,
    query: &TrailQuery,
    limit: usize,
) -> Result<Vec<Found>, String> {
    let mut lookup = Lookup {
        account: account.clone(),
        region: region.clone(),
        filter: query.event.clone().map(Filter::EventName),
        start: None,
        end: None,
        now: world.clock.now(),
        max: ::events::trail::PAGE_MAX,
        after: None,
    };
    let mut found = Vec::new();
    world.settle_trail().await;
    for _ in 0..TRAIL_PAGES_MAX {
        let asked = lookup.clone();
        let page = world.db.read(move |tx| ::events::lookup(tx, &asked)).await.map_err(sentence)?;
        let fits = |found: &Found| !query.failed || found.record.contains("\"errorCode\":");
        found.extend(page.records.into_iter().filter(fits));
        match page.next {
            Some(next) if found.len() < limit => lookup.after = Some(next),
            _ => break,
        }
    }
    found.truncate(limit);
    Ok(found)
}
