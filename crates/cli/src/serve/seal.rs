//! Opening the root of trust at start.

use super::cannot_start;
use super::data_dir::{DataDir, UNFINISHED_RESTORE};
use crate::args::ServeOptions;
use crate::exit::Failure;
use crate::seal::SealSource;
use base::{OsRng, with_causes};
use kms::key_store::stores::Clusters;
use kms::seal::{Opening, Root};
use kms::token::Token;

/// Unseals, or on the first start makes the root of trust.
pub(super) fn open(data_dir: &DataDir, options: &ServeOptions) -> Result<Root, Failure> {
    let source = options.seal.source(data_dir.path());
    let provider = source.provider().map_err(cannot_start)?;
    settle_restore(data_dir)?;
    if data_dir.has_rows() && !Root::exists(data_dir.path()) {
        return Err(cannot_start(format!(
            "{} holds data, but its seal is gone; restore the seal header from a backup",
            data_dir.path().display()
        )));
    }
    let (root, opening) = Root::open_or_create(data_dir.path(), &provider, &OsRng)
        .map_err(|error| cannot_start(with_causes(&error)))?;
    if let Opening::CreatedWithKeyFile(path) = &opening {
        eprintln!(
            "strongroom: made the seal key {}. Keep a copy elsewhere: without it nothing that is \
             encrypted here can be read again, and whoever has it and this directory can read it.",
            path.display()
        );
    }
    if Root::slots(data_dir.path()).is_ok_and(|slots| slots > 1) {
        tracing::warn!(
            "a rotation of the seal was cut short: the secret before it and the one after both unseal. \
             Run `strongroom admin seal rotate` again to be left with one"
        );
    }
    Ok(root)
}

/// Refuses what a restore that was cut short has left: a new root of trust beside those rows, or in place of rows
/// that are still to come, would keep the restore from ever being finished. One that came as far as its seal is
/// whole, and its mark goes.
fn settle_restore(data_dir: &DataDir) -> Result<(), Failure> {
    let mark = data_dir.path().join(UNFINISHED_RESTORE);
    if !mark.exists() {
        return Ok(());
    }
    if !Root::exists(data_dir.path()) {
        return Err(cannot_start(format!(
            "a restore into {} was cut short; run `strongroom restore` again",
            data_dir.path().display()
        )));
    }
    Ok(std::fs::remove_file(mark)?)
}

/// The token that seals the root, if one does: it remembers how far the rows have come.
pub(super) fn token(data_dir: &DataDir, options: &ServeOptions) -> Result<Option<Token>, Failure> {
    let provider = options.seal.source(data_dir.path()).provider().map_err(cannot_start)?;
    provider.token().map_err(|error| cannot_start(with_causes(&error)))
}

/// The tokens offered to tenants. One that seals the root is none of them.
pub(super) fn clusters(options: &ServeOptions) -> Result<Clusters, Failure> {
    let mut clusters = Clusters::new();
    for offered in &options.key_stores {
        let (id, cluster) = offered.cluster().map_err(cannot_start)?;
        if let Some(SealSource::Token { module, token, .. }) = &options.seal.seal
            && (module, token) == (&cluster.token.module, &cluster.token.label)
        {
            return Err(cannot_start(format!("{} seals the root; offer another", cluster.token)));
        }
        if clusters.insert(id.clone(), cluster).is_some() {
            return Err(cannot_start(format!("--key-store {id} is given twice")));
        }
    }
    Ok(clusters)
}
