//! `strongroom admin backup`: the rows and the root of trust in one sealed file.

use super::socket::Desk;
use super::{Request, ask, read};
use crate::args::BackupCommand;
use crate::exit::Failure;
use api::backup::{self, Backup, Contents, Making};
use base::{OsRng, Timestamp, with_causes};
use kms::backup::Recovery;
use kms::seal::{Argon2Cost, make_key};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What opens a backup, as it travels to the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) enum RecoverySource {
    KeyFile { file: PathBuf },
    Passphrase { file: PathBuf },
}

impl RecoverySource {
    pub(crate) fn recovery(&self) -> Recovery {
        match self.clone() {
            Self::KeyFile { file } => Recovery::KeyFile(file),
            Self::Passphrase { file } => Recovery::Passphrase { file, cost: Argon2Cost::RFC_9106 },
        }
    }
}

pub(super) fn run(
    out: &mut impl Write,
    dir: &Path,
    command: &BackupCommand,
) -> Result<(), Failure> {
    match command {
        BackupCommand::Create { to, recovery, json } => {
            let recovery = recovery.source()?;
            if let RecoverySource::KeyFile { file } = &recovery
                && make_key(file, &OsRng).map_err(|e| Failure::failed(with_causes(&e)))?
            {
                eprintln!(
                    "strongroom: made the recovery key {}. Keep it elsewhere, away from the backups: \
                     whoever has both has everything.",
                    file.display()
                );
            }
            let to = std::path::absolute(to)?;
            let value = ask(dir, &Request::BackupCreate { to, recovery })?;
            if *json {
                writeln!(out, "{value}")?;
                return Ok(());
            }
            show(out, &read(value)?)
        }
        BackupCommand::Verify { file, recovery, json } => {
            let opened = Backup::open(file, &recovery.source()?.recovery());
            let contents = opened.and_then(Backup::verify);
            let contents = contents.map_err(|error| Failure::failed(with_causes(&error)))?;
            if *json {
                let value = serde_json::to_string(&contents).map_err(Failure::failed)?;
                writeln!(out, "{value}")?;
                return Ok(());
            }
            show(out, &contents)
        }
    }
}

fn show(out: &mut impl Write, contents: &Contents) -> Result<(), Failure> {
    let Contents { manifest, counts, bytes } = contents;
    writeln!(out, "made      {}", Timestamp(manifest.made_ms).iso_millis())?;
    writeln!(out, "root      {}", manifest.root_id)?;
    writeln!(out, "epoch     {}", manifest.epoch)?;
    writeln!(out, "bytes     {bytes}")?;
    for count in counts.iter().filter(|count| count.rows > 0) {
        writeln!(out, "{:9} {}", count.rows, count.table)?;
    }
    writeln!(out, "left out  {}", manifest.left_out.join(", "))?;
    Ok(())
}

pub(super) async fn create(
    desk: &Desk,
    to: PathBuf,
    recovery: RecoverySource,
) -> Result<Value, String> {
    let world = &desk.world;
    let making = Making {
        db: world.db.clone(),
        root: Arc::clone(&world.seal),
        rng: Arc::clone(&world.rng),
        now: world.clock.now(),
        recovery: recovery.recovery(),
    };
    let contents = backup::create(making, &to).await.map_err(|error| with_causes(&error))?;
    let details = json!({
        "file": to.display().to_string(),
        "epoch": contents.manifest.epoch,
        "bytes": contents.bytes,
    });
    let noted = world.note_operator(&world.first_region(), "CreateBackup", details).await;
    noted.map_err(|error| error.to_string())?;
    serde_json::to_value(contents).map_err(|error| error.to_string())
}
