//! A store in a directory of the local file system.

use crate::file;
use crate::folders::Folders;
use crate::name::check_prefix;
use crate::{Bytes, Error, LIST_NAMES_MAX, OBJECT_BYTES_MAX, ObjectMeta, ObjectStore, check_name};
use base::Timestamp;
use futures_util::StreamExt;
use object_store::ObjectStoreExt;
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use std::future::Future;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// Objects as files below one directory.
///
/// An object is written beside its name, synced, linked to its name without replacing what is
/// there, and the folder synced, as is the way to it. A crash can leave the file written first,
/// named `…#<n>`; listings (those of `object_store`, as checked in its source, version 0.14) skip
/// such files and [`LocalStore::remove_stale_uploads`] removes them.
pub struct LocalStore {
    files: LocalFileSystem,
    folders: Folders,
    root: PathBuf,
}

impl LocalStore {
    /// Opens the store in `root`, making the directory if need be.
    ///
    /// # Errors
    /// [`Error::Transient`] when the directory cannot be made or opened.
    pub fn open(root: &Path) -> Result<Self, Error> {
        let folders = Folders::open(root).map_err(|error| failed(root, error.into()))?;
        Self::with(folders, root)
    }

    /// The store over these folders, those of `root`.
    pub(crate) fn with(folders: Folders, root: &Path) -> Result<Self, Error> {
        let files = LocalFileSystem::new_with_prefix(root);
        let files = files.map_err(|error| failed(root, error.into()))?;
        let files = files.with_automatic_cleanup(true);
        Ok(Self { files, folders, root: root.to_owned() })
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
            let failed = |error: std::io::Error| Error::Transient {
                operation: "list",
                name: directory.display().to_string(),
                source: error.into(),
            };
            for entry in std::fs::read_dir(&directory).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                if entry.file_type().map_err(failed)?.is_dir() {
                    directories.push(entry.path());
                } else if is_staging_name(&entry.file_name().to_string_lossy()) {
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

fn failed(root: &Path, source: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::Transient { operation: "open", name: root.display().to_string(), source }
}

/// Valid object names have no `#`, so such a file is never an object.
fn is_staging_name(name: &str) -> bool {
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
        file::create(&self.folders, &self.root.join(name), &bytes)
            .map_err(|error| translate_io("put", name, error))
    }

    fn get(&self, name: &str) -> Result<Bytes, Error> {
        check_name(name)?;
        let path = StorePath::from(name);
        let read = async { self.files.get(&path).await?.bytes().await };
        block_on(read).map_err(|error| translate("get", name, error))
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        check_name(name)?;
        match file::read_range(&self.root.join(name), range.clone()) {
            Ok(bytes) => Ok(bytes.into()),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(Error::OutOfRange { name: name.to_owned(), end: range.end })
            }
            Err(error) => Err(translate_io("get", name, error)),
        }
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        block_on(self.files.delete(&StorePath::from(name)))
            .map_err(|error| translate("delete", name, error))
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        check_prefix(prefix)?;
        let path = StorePath::from(prefix);
        let collect = async {
            let mut stream = object_store::ObjectStore::list(&self.files, Some(&path));
            let mut found = Vec::new();
            while let Some(entry) = stream.next().await {
                let entry = entry.map_err(|error| translate("list", prefix, error))?;
                if found.len() == LIST_NAMES_MAX {
                    return Err(Error::TooMany { prefix: prefix.to_owned() });
                }
                found.push(meta(entry));
            }
            Ok(found)
        };
        let mut found = block_on(collect)?;
        found.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, Error> {
        check_name(name)?;
        let found = block_on(self.files.head(&StorePath::from(name)));
        found.map(meta).map_err(|error| translate("head", name, error))
    }

    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        let failed = |error: rustix::io::Errno| translate_io("measure", "the disk", error.into());
        let found = rustix::fs::statvfs(&self.root).map_err(failed)?;
        Ok(Some(found.f_bavail.saturating_mul(found.f_frsize)))
    }
}

fn meta(found: object_store::ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: found.location.to_string(),
        size: found.size,
        modified: Timestamp(found.last_modified.timestamp_millis()),
    }
}

fn translate(operation: &'static str, name: &str, error: object_store::Error) -> Error {
    let name = name.to_owned();
    match error {
        object_store::Error::NotFound { .. } => Error::NotFound { name },
        object_store::Error::AlreadyExists { .. } => Error::AlreadyExists { name },
        object_store::Error::InvalidPath { .. } => Error::InvalidName { name },
        source => Error::Transient { operation, name, source: source.into() },
    }
}

fn translate_io(operation: &'static str, name: &str, error: io::Error) -> Error {
    let name = name.to_owned();
    match error.kind() {
        ErrorKind::NotFound => Error::NotFound { name },
        ErrorKind::AlreadyExists => Error::AlreadyExists { name },
        _ => Error::Transient { operation, name, source: error.into() },
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs one call of the asynchronous store to its end on this thread. Inside a runtime the file
/// work happens on its blocking threads, outside of one right here.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park();
    }
}
