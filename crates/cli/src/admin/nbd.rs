//! Keeping the credentials of an attachment as files.

use super::NbdCredentials;
use crate::exit::Failure;
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes the files that libnbd (`tls-certificates=DIR`) and QEMU (`tls-creds-x509,dir=DIR`) look
/// for, readable for their owner only, and says how to connect.
pub(super) fn keep(out: &mut impl Write, dir: &Path, made: &NbdCredentials) -> Result<(), Failure> {
    let cannot = |path: &Path, error: io::Error| {
        Failure::failed(format!("cannot write {}: {error}", path.display()))
    };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| cannot(dir, e))?;
    let files = [
        ("ca-cert.pem", &made.authority),
        ("client-cert.pem", &made.certificate),
        ("client-key.pem", &made.key),
    ];
    for (name, text) in files {
        let path = dir.join(name);
        replace(&path, text).map_err(|error| cannot(&path, error))?;
    }
    match &made.address {
        Some(address) => writeln!(
            out,
            "nbds://{address}/{}?tls-certificates={}",
            made.volume,
            dir.canonicalize()?.display()
        )?,
        None => eprintln!("strongroom: the server does not listen; start it with --nbd-listen"),
    }
    Ok(())
}

/// A new file, so that it has the right mode from its first byte on.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
