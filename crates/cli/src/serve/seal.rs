//! Opening the root of trust at start.

use super::cannot_start;
use super::data_dir::DataDir;
use crate::args::ServeOptions;
use crate::exit::Failure;
use base::OsRng;
use kms::seal::{Argon2Cost, Opening, Provider, Root};
use std::error::Error;

/// Unseals, or on the first start makes the root of trust.
pub(super) fn open(data_dir: &DataDir, options: &ServeOptions) -> Result<Root, Failure> {
    let provider = match (&options.seal_key_file, &options.seal_passphrase_file) {
        (_, Some(file)) => Provider::Passphrase { file: file.clone(), cost: Argon2Cost::RFC_9106 },
        (Some(file), None) => Provider::KeyFile(file.clone()),
        (None, None) => Provider::KeyFile(data_dir.path().join("seal.key")),
    };
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
    Ok(root)
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
