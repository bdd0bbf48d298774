//! The folders of the local store, and which of them a power cut cannot take any more.
//!
//! An object is there after a power cut when its entry is durable, and that of every folder on the way
//! to it. Whoever finds a folder there cannot know that of it: another thread may have made it just
//! now, or an earlier process that was killed before it could sync. So every folder is synced into the
//! one above once by this process, and remembered.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often folders are made for one file while others remove them.
const MAKE_ATTEMPTS_MAX: u32 = 16;

/// Folders that are remembered, at most. Names are sharded over hundreds of them; more costs syncs
/// that are not needed.
const DURABLE_MAX: usize = 16 << 10;

/// A call to the file system about one folder.
type Call = Box<dyn Fn(&Path) -> io::Result<()> + Send + Sync>;

/// The folders below one directory.
pub(crate) struct Folders {
    root: PathBuf,
    /// Makes a folder in one that is there.
    create: Call,
    /// Makes the entries of a folder durable.
    sync: Call,
    durable: Mutex<Durable>,
}

#[derive(Default)]
struct Durable {
    /// Folders whose entries in the folders above are durable.
    paths: HashSet<PathBuf>,
    /// Folders made by this process, counted.
    made: u64,
}

impl Folders {
    /// Those below `root`, which is made if it is missing.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        let missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
        let made: Vec<&Path> = root.ancestors().take_while(missing).collect();
        std::fs::create_dir_all(root)?;
        for parent in made.into_iter().filter_map(Path::parent) {
            // A relative path begins where the process is.
            let is_here = parent.as_os_str().is_empty();
            sync_folder(if is_here { Path::new(".") } else { parent })?;
        }
        Ok(Self::with(root, Box::new(sync_folder)))
    }

    fn with(root: &Path, sync: Call) -> Self {
        let create = Box::new(|folder: &Path| std::fs::create_dir(folder));
        Self { root: root.to_owned(), create, sync, durable: Mutex::default() }
    }

    fn durable(&self) -> MutexGuard<'_, Durable> {
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `begin`, which leaves a file in `folder`, once the folders on the way to it are made.
    /// They are not durable yet.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn begin_in<T>(
        &self,
        folder: &Path,
        begin: impl Fn() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut attempt = 1;
        loop {
            match self.make(folder).and_then(|()| begin()) {
                // Until the file is there, any of the folders may go with the last object below it.
                Err(error)
                    if error.kind() == ErrorKind::NotFound && attempt < MAKE_ATTEMPTS_MAX => {}
                begun => return begun,
            }
            attempt += 1;
        }
    }

    /// Makes the folders that are missing on the way to `folder`.
    fn make(&self, folder: &Path) -> io::Result<()> {
        if folder.is_dir() {
            return Ok(());
        }
        let parent = folder.parent().filter(|_| folder != self.root).ok_or(ErrorKind::NotFound)?;
        self.make(parent)?;
        // One of that name may have been durable and deleted since. Nobody sees the new one while the
        // old one is remembered.
        let mut durable = self.durable();
        match (self.create)(folder) {
            Ok(()) => {
                durable.paths.remove(folder);
                durable.made += 1;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes `folder` and those on the way to it, up to the first that is not empty. One that cannot
    /// be removed stays, and does no harm.
    pub(crate) fn remove_empty(&self, folder: &Path) {
        let below_root = |folder: &&Path| *folder != self.root;
        for folder in folder.ancestors().take_while(below_root) {
            if std::fs::remove_dir(folder).is_err() {
                return;
            }
        }
    }

    /// Makes what is in `folder` durable, and the way to it.
    ///
    /// # Errors
    /// What the file system says; then nothing is known of what is in it.
    pub(crate) fn settle(&self, folder: &Path) -> io::Result<()> {
        (self.sync)(folder)?;
        let below_root = |folder: &&Path| *folder != self.root;
        for folder in folder.ancestors().take_while(below_root) {
            let made = {
                let durable = self.durable();
                if durable.paths.contains(folder) {
                    continue;
                }
                durable.made
            };
            (self.sync)(folder.parent().expect("it lies below the root"))?;
            let mut durable = self.durable();
            // What was synced may be another folder than that which has the name now.
            if durable.made == made {
                if durable.paths.len() >= DURABLE_MAX {
                    durable.paths.clear();
                }
                durable.paths.insert(folder.to_owned());
            }
        }
        Ok(())
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::LocalStore;
    use crate::{ATTEMPTS_MAX, Bytes, ObjectStore, put_settled};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
    use tempfile::TempDir;

    /// What was synced of a store, and how many of the next syncs fail.
    #[derive(Default)]
    struct Syncs {
        done: Mutex<Vec<PathBuf>>,
        failing: Mutex<u32>,
    }

    impl Syncs {
        fn sync(&self, folder: &Path) -> io::Result<()> {
            let mut failing = self.failing.lock().unwrap();
            if *failing > 0 {
                *failing -= 1;
                return Err(io::Error::other("too many files are open"));
            }
            self.done.lock().unwrap().push(folder.to_owned());
            sync_folder(folder)
        }

        fn fail(&self, times: u32) {
            *self.failing.lock().unwrap() = times;
        }

        /// What was synced since this was last asked, relative to `root`.
        fn take(&self, root: &Path) -> Vec<String> {
            let done = std::mem::take(&mut *self.done.lock().unwrap());
            let relative = done.iter().map(|path| path.strip_prefix(root).unwrap());
            relative.map(|path| path.display().to_string()).collect()
        }
    }

    fn store() -> (TempDir, Arc<Syncs>, LocalStore) {
        let root = tempfile::tempdir().unwrap();
        let syncs = Arc::new(Syncs::default());
        let store = reopened(root.path(), &syncs);
        (root, syncs, store)
    }

    /// As a new process has it.
    fn reopened(root: &Path, syncs: &Arc<Syncs>) -> LocalStore {
        let syncs = Arc::clone(syncs);
        let folders = Folders::with(root, Box::new(move |folder| syncs.sync(folder)));
        LocalStore::with(folders, root)
    }

    /// A store that makes folders in this way.
    fn creating(
        root: &Path,
        create: impl Fn(&Path) -> io::Result<()> + Send + Sync + 'static,
    ) -> LocalStore {
        let folders = Folders { create: Box::new(create), ..Folders::open(root).unwrap() };
        LocalStore::with(folders, root)
    }

    #[test]
    fn an_object_is_acknowledged_only_when_its_entry_is_durable() {
        let (root, syncs, store) = store();
        let bytes = Bytes::from_static(b"content");
        store.put("packs/00/a", bytes.clone()).unwrap();
        syncs.take(root.path());
        // The file is linked, and its folder cannot be synced.
        syncs.fail(ATTEMPTS_MAX);
        let refused = put_settled(&store, "packs/00/b", &bytes).unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        assert_eq!(store.head("packs/00/b").unwrap().size, 7);
        assert!(syncs.take(root.path()).is_empty());
        // Once it can be, whoever repeats the put syncs what is there before it counts as stored.
        syncs.fail(1);
        put_settled(&store, "packs/00/c", &bytes).unwrap();
        assert_eq!(syncs.take(root.path()), ["packs/00"]);
        let again = store.put("packs/00/b", bytes);
        assert!(matches!(again, Err(crate::Error::AlreadyExists { .. })), "{again:?}");
        assert_eq!(syncs.take(root.path()), ["packs/00"]);
    }

    #[test]
    fn a_folder_that_somebody_else_made_is_synced_once() {
        let (root, syncs, store) = store();
        // By a process that was killed before it synced them.
        std::fs::create_dir_all(root.path().join("packs/00")).unwrap();
        store.put("packs/00/a", Bytes::new()).unwrap();
        assert_eq!(syncs.take(root.path()), ["packs/00", "packs", ""]);
        store.put("packs/00/b", Bytes::new()).unwrap();
        assert_eq!(syncs.take(root.path()), ["packs/00"]);
        store.put("packs/01/a", Bytes::new()).unwrap();
        assert_eq!(syncs.take(root.path()), ["packs/01", "packs"]);
        let store = reopened(root.path(), &syncs);
        store.put("packs/01/b", Bytes::new()).unwrap();
        assert_eq!(syncs.take(root.path()), ["packs/01", "packs", ""]);
    }

    #[test]
    fn a_folder_that_could_not_be_synced_is_not_taken_for_durable() {
        let (root, syncs, store) = store();
        store.put("packs/00/a", Bytes::new()).unwrap();
        syncs.take(root.path());
        // The first sync is that of the object's own folder.
        syncs.fail(1);
        assert!(store.put("packs/01/a", Bytes::new()).unwrap_err().is_transient());
        store.put("packs/01/b", Bytes::new()).unwrap();
        assert_eq!(syncs.take(root.path()), ["packs/01", "packs"]);
    }

    #[test]
    fn a_folder_that_was_deleted_and_made_anew_is_synced_again() {
        let (root, syncs, store) = store();
        store.put("packs/00/a", Bytes::new()).unwrap();
        // With the last object the folder goes.
        store.delete("packs/00/a").unwrap();
        assert!(!root.path().join("packs/00").exists());
        syncs.take(root.path());
        store.put("packs/00/b", Bytes::new()).unwrap();
        let synced = syncs.take(root.path());
        assert!(synced.contains(&"packs".to_owned()), "{synced:?}");
    }

    #[test]
    fn a_folder_whose_parent_goes_just_before_it_is_made_is_made_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let collector = LocalStore::open(root.path()).unwrap();
        collector.put("packs/ab/w1/a", Bytes::new()).unwrap();
        let store = creating(root.path(), move |folder| {
            if folder.ends_with("w2") {
                // The first time, all folders go with it.
                let _ = collector.delete("packs/ab/w1/a");
            }
            std::fs::create_dir(folder)
        });
        store.put("packs/ab/w2/a", Bytes::from_static(b"content")).unwrap();
        assert_eq!(&store.get("packs/ab/w2/a").unwrap()[..], b"content");
        assert_eq!(store.list("").unwrap().len(), 1);
    }

    #[test]
    fn a_folder_that_goes_before_its_first_file_comes_is_made_anew() {
        let root = tempfile::tempdir().unwrap();
        let is_first = AtomicBool::new(true);
        let store = creating(root.path(), move |folder| {
            std::fs::create_dir(folder)?;
            if folder.ends_with("00") && is_first.swap(false, Ordering::Relaxed) {
                std::fs::remove_dir(folder)?;
            }
            Ok(())
        });
        store.put("packs/00/a", Bytes::from_static(b"content")).unwrap();
        assert_eq!(&store.get("packs/00/a").unwrap()[..], b"content");
    }

    #[test]
    fn folders_that_go_every_time_are_no_missing_object() {
        let root = tempfile::tempdir().unwrap();
        let made = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&made);
        let store = creating(root.path(), move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(ErrorKind::NotFound.into())
        });
        let refused = store.put("packs/00/a", Bytes::new()).unwrap_err();
        assert!(refused.is_transient(), "{refused}");
        assert_eq!(made.load(Ordering::Relaxed), MAKE_ATTEMPTS_MAX);
    }
}
