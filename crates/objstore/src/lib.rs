//! Immutable objects by name, durable when stored.
//!
//! The data plane needs very little of a store: create an object that did not exist, read it or a
//! range of it, list a directory, delete. There is no overwrite and no conditional update, because
//! the layers above give every object a new random name; commit points live in the control
//! database. The trait is synchronous: its callers run on threads of their own.
//!
//! A failed [`ObjectStore::put`] or [`ObjectStore::delete`] may have happened all the same; see
//! [`Error::Transient`].

mod faulty;
mod file;
mod folders;
mod local;
mod memory;
mod name;
mod put;

use base::Timestamp;
use std::ops::Range;

pub use bytes::Bytes;
pub use faulty::{FaultPlan, FaultyStore};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use name::check_name;
pub use put::put_settled;

/// The longest object name in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// The largest object. Packs and node packs stay well below.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;

/// The most names one [`ObjectStore::list`] returns. Names are sharded so that no directory that
/// is listed comes near.
pub const LIST_NAMES_MAX: usize = 4 << 20;

/// How often [`put_settled`] and other retrying callers try one call before they give up.
pub const ATTEMPTS_MAX: u32 = 4;

/// What a store knows of an object without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's full name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// When it was stored, by the store's own clock.
    pub modified: Timestamp,
}

/// Why a store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No object has that name.
    #[error("object {name} does not exist")]
    NotFound {
        /// The name asked for.
        name: String,
    },
    /// An object of that name exists; it was left as it is.
    #[error("object {name} exists already")]
    AlreadyExists {
        /// The name asked for.
        name: String,
    },
    /// The name breaks the rules of [`check_name`].
    #[error("{name:?} is no object name")]
    InvalidName {
        /// The name asked for.
        name: String,
    },
    /// The object is larger than [`OBJECT_BYTES_MAX`].
    #[error("object {name} has {size} bytes, more than an object may have")]
    TooLarge {
        /// The name asked for.
        name: String,
        /// Its size.
        size: u64,
    },
    /// The range reaches beyond the object's end.
    #[error("object {name} ends before byte {end}")]
    OutOfRange {
        /// The name asked for.
        name: String,
        /// The end of the range asked for.
        end: u64,
    },
    /// The directory holds more than [`LIST_NAMES_MAX`] objects.
    #[error("directory {prefix} holds too many objects to list")]
    TooMany {
        /// The directory asked for.
        prefix: String,
    },
    /// The store did not answer as it should. A change asked for may or may not have happened;
    /// the call may be repeated.
    #[error("the store failed to {operation} {name}")]
    Transient {
        /// The verb: put, get, list, delete, head.
        operation: &'static str,
        /// The name asked for.
        name: String,
        /// What the store said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl Error {
    /// Whether repeating the call may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient { .. })
    }

    /// Whether the object is known not to exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// A flat name space of immutable objects.
pub trait ObjectStore: Send + Sync {
    /// Creates an object. When this returns `Ok` the object is complete and survives power loss.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] without touching the object that is there, which survives power loss:
    /// whoever knows that it is their own may take it for stored. [`Error::Transient`] when it is
    /// unknown whether the object exists now. It is never there in part.
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error>;

    /// Reads a whole object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Transient`].
    fn get(&self, name: &str) -> Result<Bytes, Error>;

    /// Reads exactly `range` of an object.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] rather than fewer bytes; [`Error::NotFound`], [`Error::Transient`].
    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error>;

    /// Deletes an object. After a power loss it may be back.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Transient`].
    fn delete(&self, name: &str) -> Result<(), Error>;

    /// Every object below the directory `prefix` (whole name components, no trailing slash; empty
    /// for all), in name order.
    ///
    /// # Errors
    /// [`Error::Transient`]; then nothing may be concluded about any object's absence.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error>;

    /// Size and age of an object.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Transient`].
    fn head(&self, name: &str) -> Result<ObjectMeta, Error>;

    /// Bytes that can still be stored, as far as the store can tell; `None` where it cannot.
    ///
    /// # Errors
    /// [`Error::Transient`].
    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}

impl<S: ObjectStore + ?Sized> ObjectStore for std::sync::Arc<S> {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        (**self).put(name, bytes)
    }

    fn get(&self, name: &str) -> Result<Bytes, Error> {
        (**self).get(name)
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        (**self).get_range(name, range)
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        (**self).delete(name)
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        (**self).list(prefix)
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, Error> {
        (**self).head(name)
    }

    fn free_bytes(&self) -> Result<Option<u64>, Error> {
        (**self).free_bytes()
    }
}
