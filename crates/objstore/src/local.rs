//! A store in a directory of the local file system.

use crate::file;
use crate::folders::Folders;
use crate::name::check_prefix;
use crate::{Bytes, Error, LIST_NAMES_MAX, OBJECT_BYTES_MAX, ObjectMeta, ObjectStore, check_name};
use base::Timestamp;
use std::fs::{DirEntry, Metadata, ReadDir};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Objects as files below one directory.
///
/// An object is written beside its name, synced, linked to its name without replacing what is
/// there, and the folder synced, as is the way to it. A crash can leave the file written first,
/// named `…#<n>`; listings skip such files and [`LocalStore::remove_stale_uploads`] removes them.
/// With the last object of a folder the folder is deleted.
pub struct LocalStore {
    folders: Folders,
    root: PathBuf,
}

impl LocalStore {
    /// Opens the store in `root`, making the directory if need be.
    ///
    /// # Errors
    /// [`Error::Transient`] when the directory cannot be made or opened.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let name = root.display().to_string();
        let folders = Folders::open(root).map_err(|error| failed("open", &name, error))?;
        Ok(Self::with(folders, root))
    }

    /// The store over these folders, those of `root`.
    pub(crate) fn with(folders: Folders, root: &Path) -> Self {
        Self { folders, root: root.to_owned() }
    }

    /// Removes files that an interrupted [`ObjectStore::put`] left, last written before `before`.
    /// Uploads in progress are younger than any sensible `before`. Returns how many it removed.
    ///
    /// # Errors
    /// [`Error::Transient`] when a directory cannot be read.
    pub fn remove_stale_uploads(&self, before: Timestamp) -> Result<u64, Error> {
        let mut directories = vec![self.root.clone()];
        let mut removed = 0;
        while let Some(directory) = directories.pop() {
            let name = directory.display().to_string();
            let failed = |error| failed("list", &name, error);
            for entry in std::fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_type().map_err(failed)?.is_dir() {
                    directories.push(entry.path());
                } else if is_staging(&entry) {
                    let written = entry.metadata().and_then(|m| m.modified()).map_err(failed)?;
                    if since_epoch(written) < before {
                        std::fs::remove_file(entry.path()).map_err(failed)?;
                        removed += 1;
                    }
                }
            }
        }
        Ok(removed)
    }
}

/// Valid object names have no `#`, so such a file is never an object.
fn is_staging(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let name = name.to_string_lossy();
    name.split_once('#').is_some_and(|(_, n)| n.bytes().all(|b| b.is_ascii_digit()))
}

fn since_epoch(time: std::time::SystemTime) -> Timestamp {
    let since = time.duration_since(std::time::UNIX_EPOCH);
    Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

impl ObjectStore for LocalStore {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        check_name(name)?;
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(Error::TooLarge { name: name.to_owned(), size: bytes.len() as u64 });
        }
        match file::create(&self.folders, &self.root.join(name), &bytes) {
            Ok(()) => Ok(()),
            // What is missing is on the way there, which says nothing of any object.
            Err(error) if error.kind() == ErrorKind::NotFound => Err(failed("put", name, error)),
            Err(error) => Err(translate("put", name, error)),
        }
    }

    fn get(&self, name: &str) -> Result<Bytes, Error> {
        check_name(name)?;
        let read = file::read(&self.root.join(name));
        read.map(Bytes::from).map_err(|error| translate("get", name, error))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        check_name(name)?;
        match file::read_range(&self.root.join(name), range.clone()) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(Error::OutOfRange { name: name.to_owned(), end: range.end })
            }
            Err(error) => Err(translate("get", name, error)),
        }
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        file::remove(&self.folders, &self.root.join(name))
            .map_err(|error| translate("delete", name, error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        check_prefix(prefix)?;
        let failed = |error| failed("list", prefix, error);
        // Any other folder may be missing because nothing is in it.
        std::fs::metadata(&self.root).map_err(failed)?;
        let mut folders = vec![prefix.to_owned()];
        let mut found = Vec::new();
        while let Some(folder) = folders.pop() {
            let Some(entries) = entries(&self.root.join(&folder)).map_err(failed)? else {
                continue;
            };
            for entry in entries {
                let entry = entry.map_err(failed)?;
                let Some(metadata) = metadata(&entry).map_err(failed)? else { continue };
                let name = name_in(&folder, &entry).map_err(failed)?;
                if metadata.is_dir() {
                    folders.push(name);
                } else if metadata.is_file() && !is_staging(&entry) {
                    if found.len() == LIST_NAMES_MAX {
                        return Err(Error::TooMany { prefix: prefix.to_owned() });
                    }
                    found.push(meta(name, &metadata).map_err(failed)?);
                }
            }
        }
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, Error> {
        check_name(name)?;
        let opened = file::open(&self.root.join(name));
        let found = opened.and_then(|(_, metadata)| meta(name.to_owned(), &metadata));
        found.map_err(|error| translate("head", name, error))
    }

    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        let found = rustix::fs::statvfs(&self.root);
        let found = found.map_err(|error| failed("measure", "the disk", error.into()))?;
        Ok(Some(found.f_bavail.saturating_mul(found.f_frsize)))
    }
}

/// What is in `folder`; `None` if that is no folder.
fn entries(folder: &Path) -> io::Result<Option<ReadDir>> {
    match std::fs::read_dir(folder) {
        Ok(entries) => Ok(Some(entries)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What an entry is, or leads to if it is a link; `None` if it was deleted since it was read. Links
/// that lead in a circle end in an error, for the file system follows only so many.
fn metadata(entry: &DirEntry) -> io::Result<Option<Metadata>> {
    let is_link = || entry.file_type().is_ok_and(|kind| kind.is_symlink());
    match std::fs::metadata(entry.path()) {
        Ok(found) => Ok(Some(found)),
        // Of a link, it is what it leads to that is missing: a disk, perhaps.
        Err(error) if error.kind() == ErrorKind::NotFound && !is_link() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The full name of what `folder` holds as `entry`.
fn name_in(folder: &str, entry: &DirEntry) -> io::Result<String> {
    let name = entry.file_name();
    let name = name.to_str().ok_or(ErrorKind::InvalidFilename)?;
    Ok(if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") })
}

fn meta(name: String, metadata: &Metadata) -> io::Result<ObjectMeta> {
    Ok(ObjectMeta { name, size: metadata.len(), modified: since_epoch(metadata.modified()?) })
}

/// What an error means that came of the object's own file.
fn translate(operation: &'static str, name: &str, error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound { name: name.to_owned() },
        ErrorKind::AlreadyExists => Error::AlreadyExists { name: name.to_owned() },
        _ => failed(operation, name, error),
    }
}

fn failed(operation: &'static str, name: &str, error: io::Error) -> Error {
    Error::Transient { operation, name: name.to_owned(), source: error.into() }
}
