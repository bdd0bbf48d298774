//! A store in memory, for tests and simulation.

use crate::name::{check_prefix, is_below};
use crate::{Bytes, Error, OBJECT_BYTES_MAX, ObjectMeta, ObjectStore, check_name};
use base::{Clock, Timestamp};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

type Objects = BTreeMap<String, (Bytes, Timestamp)>;

/// Objects in a map. They live as long as the process.
pub struct MemoryStore {
    objects: Mutex<Objects>,
    clock: Arc<dyn Clock>,
}

impl MemoryStore {
    /// An empty store whose objects are dated by `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { objects: Mutex::default(), clock }
    }

    fn objects(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().expect("no code panics while it holds the map")
    }

    /// Puts `bytes` in the place of an object whether or not it exists: what a broken or hostile
    /// store does. Only tests that check such damage is noticed have a use for it.
    pub fn tamper(&self, name: &str, bytes: Bytes) {
        let now = self.clock.now();
        self.objects().insert(name.to_owned(), (bytes, now));
    }

    /// The sum of all objects' sizes.
    pub fn total_bytes(&self) -> u64 {
        self.objects().values().map(|(bytes, _)| bytes.len() as u64).sum()
    }
}

impl ObjectStore for MemoryStore {
    fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        check_name(name)?;
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(Error::TooLarge { name: name.to_owned(), size: bytes.len() as u64 });
        }
        let now = self.clock.now();
        let mut objects = self.objects();
        if objects.contains_key(name) {
            return Err(Error::AlreadyExists { name: name.to_owned() });
        }
        objects.insert(name.to_owned(), (bytes, now));
        Ok(())
    }

    fn get(&self, name: &str) -> Result<Bytes, Error> {
        check_name(name)?;
        let objects = self.objects();
        let found = objects.get(name).map(|(bytes, _)| bytes.clone());
        found.ok_or_else(|| Error::NotFound { name: name.to_owned() })
    }

    fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, Error> {
        let bytes = self.get(name)?;
        if range.start > range.end || range.end > bytes.len() as u64 {
            return Err(Error::OutOfRange { name: name.to_owned(), end: range.end });
        }
        // The object is in memory, so its offsets fit.
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    fn delete(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        let gone = self.objects().remove(name);
        gone.map(|_| ()).ok_or_else(|| Error::NotFound { name: name.to_owned() })
    }

    fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, Error> {
        check_prefix(prefix)?;
        let objects = self.objects();
        let below = objects.range(prefix.to_owned()..).take_while(|(n, _)| n.starts_with(prefix));
        let below = below.filter(|(name, _)| is_below(name, prefix));
        Ok(below.map(|(name, (bytes, modified))| meta(name, bytes, *modified)).collect())
    }

    fn head(&self, name: &str) -> Result<ObjectMeta, Error> {
        check_name(name)?;
        let objects = self.objects();
        let found = objects.get(name).map(|(bytes, modified)| meta(name, bytes, *modified));
        found.ok_or_else(|| Error::NotFound { name: name.to_owned() })
    }
}

fn meta(name: &str, bytes: &Bytes, modified: Timestamp) -> ObjectMeta {
    ObjectMeta { name: name.to_owned(), size: bytes.len() as u64, modified }
}
