//! `strongroom admin seal` and `admin domain-key`: what the root of trust is sealed with, and what is
//! sealed under it.

use super::socket::Desk;
use super::{Request, ask, read};
use crate::args::{DomainKeyCommand, SealCommand};
use crate::exit::Failure;
use crate::seal::SealSource;
use api::World;
use base::{OsRng, Region, with_causes};
use kms::{domain_key, rewrap};
use meta::Tx;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// A seal that was moved.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rotated {
    sealed_with: String,
    key_file_made: Option<PathBuf>,
    retired: usize,
}

/// A domain key, and how far the move of key material to it is.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DomainKeyRow {
    region: String,
    domain_key: u32,
    created: String,
    looked_at: u64,
    rewrapped: u64,
    /// There is nothing to move to the first one.
    finished: bool,
}

pub(super) fn seal(out: &mut impl Write, dir: &Path, command: &SealCommand) -> Result<(), Failure> {
    let SealCommand::Rotate { to } = command;
    let to = to.clone().absolute()?;
    let done: Rotated = read(ask(dir, &Request::SealRotate { to })?)?;
    writeln!(out, "sealed with {}", done.sealed_with)?;
    if let Some(file) = &done.key_file_made {
        eprintln!(
            "strongroom: made the seal key {}. Keep a copy elsewhere: without it nothing that is \
             encrypted here can be read again.",
            file.display()
        );
    }
    eprintln!(
        "strongroom: start the server with it from now on. {} opened the seal before and no longer \
         does; destroy it, and copies of seal.json that it still opens.",
        if done.retired == 1 { "What".to_owned() } else { format!("{} secrets", done.retired) }
    );
    Ok(())
}

pub(super) fn domain_key(
    out: &mut impl Write,
    dir: &Path,
    command: &DomainKeyCommand,
) -> Result<(), Failure> {
    match command {
        DomainKeyCommand::Rotate { region } => {
            let region = region.as_ref().map(Region::to_string);
            let made = read::<Vec<(String, u32)>>(ask(dir, &Request::DomainKeyRotate { region })?)?;
            for (region, number) in made {
                writeln!(out, "{region}  domain key {number}")?;
            }
        }
        DomainKeyCommand::Status { json } => {
            let value = ask(dir, &Request::DomainKeyStatus)?;
            if *json {
                writeln!(out, "{value}")?;
                return Ok(());
            }
            for row in read::<Vec<DomainKeyRow>>(value)? {
                write!(out, "{:16} domain key {:4}  ", row.region, row.domain_key)?;
                write!(out, "made {}", row.created)?;
                if row.domain_key > 1 {
                    let state = if row.finished { "moved" } else { "moving" };
                    let (rewrapped, looked_at) = (row.rewrapped, row.looked_at);
                    write!(
                        out,
                        "  {state}: {rewrapped} of {looked_at} versions of key material sealed anew"
                    )?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}

fn sentence(error: impl Display) -> String {
    error.to_string()
}

pub(super) async fn rotate_seal(desk: &Desk, to: SealSource) -> Result<Value, String> {
    let _one_at_a_time = desk.sealing.lock().await;
    let (world, directory) = (Arc::clone(&desk.world), desk.data_dir.clone());
    let work = move || {
        let provider = to.provider()?;
        let done = world.seal.reseal(&directory, &provider, &OsRng);
        let done = done.map_err(|error| with_causes(&error))?;
        Ok::<_, String>(Rotated {
            sealed_with: provider.describe(),
            key_file_made: done.key_file_made,
            retired: done.retired,
        })
    };
    // Tokens and other KMSs take their time.
    let done = spawn_blocking(work).await.map_err(sentence)??;
    let details = json!({ "sealedWith": done.sealed_with });
    let region = desk.world.first_region();
    desk.world.note_operator(&region, "RotateSeal", details).await.map_err(sentence)?;
    serde_json::to_value(done).map_err(sentence)
}

pub(super) async fn rotate_domain_keys(
    desk: &Desk,
    region: Option<String>,
) -> Result<Value, String> {
    let world = &desk.world;
    let regions: Vec<Region> = match region {
        Some(name) => vec![Region::parse(&name).map_err(sentence)?],
        None => world.regions.iter().cloned().collect(),
    };
    let mut made = Vec::new();
    for region in regions {
        let number = world.rotate_domain_key(&region).await.map_err(sentence)?;
        let details = json!({ "domainKey": number });
        world.note_operator(&region, "RotateDomainKey", details).await.map_err(sentence)?;
        made.push((region.to_string(), number));
    }
    desk.rewrap.notify_one();
    serde_json::to_value(made).map_err(sentence)
}

pub(super) async fn domain_key_status(world: &Arc<World>) -> Result<Value, String> {
    let both =
        |tx: &mut Tx<'_>| Ok::<_, meta::Error>((domain_key::made(tx)?, rewrap::progress(tx)?));
    let (keys, moves) = world.db.read(both).await.map_err(sentence)?;
    let row = |key: domain_key::Made| {
        let to_it = |it: &&rewrap::Progress| it.region == key.region && it.number == key.number;
        let moved = moves.iter().find(to_it);
        DomainKeyRow {
            region: key.region.to_string(),
            domain_key: key.number,
            created: key.at.iso_seconds(),
            looked_at: moved.map_or(0, |moved| moved.looked_at),
            rewrapped: moved.map_or(0, |moved| moved.rewrapped),
            finished: moved.is_none_or(|moved| moved.finished),
        }
    };
    serde_json::to_value(keys.into_iter().map(row).collect::<Vec<_>>()).map_err(sentence)
}
