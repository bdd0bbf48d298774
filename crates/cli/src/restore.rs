//! `strongroom restore`: a backup becomes a new data directory.

use crate::args::RestoreOptions;
use crate::exit::{EXIT_CANNOT_START, Failure};
use crate::serve::{DataDir, UNFINISHED_RESTORE};
use api::backup::{Backup, Count, Onto};
use base::{OsRng, Timestamp, with_causes};
use kms::anchor::Anchor;
use kms::seal::Root;
use meta::Db;
use std::fs::File;
use std::io::Write;
use std::path::Path;

pub(crate) fn run(options: &RestoreOptions) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::failed(with_causes(error));
    let recovery = options.recovery.source()?.recovery();
    // All of it is read once before anything is made: a damaged backup leaves nothing behind.
    let whole = Backup::open(&options.from, &recovery).and_then(Backup::verify);
    whole.map_err(|error| failed(&error))?;
    // Until this process ends, no server and no other restore comes in between.
    let data_dir = DataDir::take(&options.data_dir)?;
    let dir = data_dir.path();
    let onto = prepare(&data_dir)?;
    let provider = options.seal.source(dir).provider().map_err(Failure::failed)?;

    let db = match &options.meta_url {
        Some(url) => Db::open_postgres_blocking(url),
        None => Db::open_sqlite(&data_dir.rows()),
    };
    let db = db.map_err(|error| failed(&error))?;
    let restored = Backup::restore(&options.from, &recovery, &db, onto);
    let (backup, counts) = restored.map_err(|error| failed(&error))?;
    drop(db);
    // The anchor before the seal, the seal last: until it is there, no server takes the directory.
    let anchor = Anchor::new(dir, backup.reader().root(), None);
    anchor.remember(backup.manifest.epoch).map_err(|error| failed(&error))?;
    backup.reader().seal_root(dir, &provider, &OsRng).map_err(|error| failed(&error))?;
    std::fs::remove_file(dir.join(UNFINISHED_RESTORE))?;
    say(&counts, backup.manifest.made_ms, dir)?;
    Ok(())
}

/// The directory is new, or holds nothing but volumes and objects that were brought back first; or a restore was cut
/// short in it, and is done again.
fn prepare(data_dir: &DataDir) -> Result<Onto, Failure> {
    let dir = data_dir.path();
    let unfinished = dir.join(UNFINISHED_RESTORE);
    let again = unfinished.exists();
    if Root::exists(dir) || (data_dir.has_rows() && !again) {
        return Err(Failure::new(
            EXIT_CANNOT_START,
            format!("{} is a data directory already: restore into a new one", dir.display()),
        ));
    }
    // Durable before any row is: rows without it are taken for somebody else's.
    File::create(&unfinished)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    Ok(if again { Onto::CutShort } else { Onto::Empty })
}

fn say(counts: &[Count], made_ms: i64, dir: &Path) -> Result<(), Failure> {
    let rows: u64 = counts.iter().map(|count| count.rows).sum();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "restored {rows} rows as of {} into {}",
        Timestamp(made_ms).iso_millis(),
        dir.display()
    )?;
    eprintln!(
        "strongroom: what was revoked, disabled or destroyed since the backup was made is back; look \
         through it before the server is reached by others. Never run it beside the server it was \
         made from."
    );
    Ok(())
}
