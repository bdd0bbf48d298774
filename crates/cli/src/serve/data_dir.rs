//! The data directory: one server or restore at a time, nobody else's business.

use super::cannot_start;
use crate::exit::Failure;
use base::Region;
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Unix socket paths end at 107 bytes; what is appended to the directory needs this many.
const SOCKET_TAIL_BYTES: usize = "/attach/i-0123456789abcdef0/xvdba.sock".len();
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Is in the directory while a restore has not sealed the root yet.
pub(crate) const UNFINISHED_RESTORE: &str = "restore.unfinished";

/// The directory, locked for this process.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Makes the directory if it is missing, with mode 0700, and locks it.
    pub(crate) fn take(path: &Path) -> Result<Self, Failure> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
            cannot_start(format!("cannot make the data directory {}: {error}", path.display()))
        })?;
        let path = path.canonicalize()?;
        if path.as_os_str().len() + SOCKET_TAIL_BYTES > SOCKET_PATH_BYTES_MAX {
            return Err(cannot_start(format!(
                "the path {} is too long for the unix sockets below it; use one of at most {} bytes",
                path.display(),
                SOCKET_PATH_BYTES_MAX - SOCKET_TAIL_BYTES
            )));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            cannot_start(format!(
                "another server or restore is using the data directory {}",
                path.display()
            ))
        })?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The embedded database.
    pub(crate) fn rows(&self) -> PathBuf {
        self.path.join("meta.sqlite")
    }

    /// Whether a server has kept rows here before.
    pub(crate) fn has_rows(&self) -> bool {
        self.rows().exists()
    }

    /// The volumes and objects of all regions.
    pub(crate) fn regions(&self) -> PathBuf {
        self.path.join("regions")
    }

    /// The regions something is kept for. How many zones they have is not known here.
    pub(crate) fn stored_regions(&self) -> Result<Vec<(Region, u8)>, Failure> {
        let mut regions = Vec::new();
        for entry in std::fs::read_dir(self.regions())? {
            let name = entry?.file_name();
            if let Some(Ok(region)) = name.to_str().map(Region::parse) {
                regions.push((region, 1));
            }
        }
        Ok(regions)
    }

    /// The trail's journal.
    pub(crate) fn trail(&self) -> PathBuf {
        self.path.join("trail")
    }

    /// The sockets of attached volumes.
    pub(crate) fn attachments(&self) -> PathBuf {
        self.path.join("attach")
    }
}
