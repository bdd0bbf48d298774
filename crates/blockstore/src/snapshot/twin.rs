//! Reading a twin: a snapshot written whole into a store on a local disk, read by single pages.
//!
//! A reader of snapshots fetches a block of 512 KiB for the first page that is wanted of it, because an
//! object store far away answers for either in the same time. A local disk does not. So a twin's reader
//! fetches the table of a block, which says where its pages lie and how each is proven, and then pages
//! alone. Who reads a block from page to page gets it whole after a few.
//!
//! A page that is read alone is proven by its own tag, when it is opened with the data key. The tag comes
//! from the table, and the table is proven by the reference to the frame, under the structure key. So a
//! page is neither another's nor an older one, as with whole frames.
//!
//! What cannot be read of the twin is read from the snapshot itself, which holds the same pages.

use super::Error;
use super::frame::FrameTable;
use super::pack::ItemRef;
use super::reader::{SnapshotReader, source_error};
use super::root::SnapshotRoot;
use super::store::{SnapshotStore, corrupt};
use crate::page::{
    BasePage, BaseReader, Lba, PAGE_BYTES, PAGES_PER_BLOCK, SealedPage, SourceError,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Tables a reader keeps, at about 3 KiB each: those of 1 GiB.
const CACHED_TABLES_MAX: usize = 2048;
/// Pages read one after another until the block is read whole.
const RUN_PAGES: u32 = 4;

/// A snapshot's twin, open for a volume.
pub struct TwinReader {
    store: SnapshotStore,
    twin: SnapshotReader,
    original: Original,
    tables: Mutex<HashMap<u64, Arc<Table>>>,
    /// Whether it was said already that the twin is damaged.
    has_complained: AtomicBool,
}

/// The snapshot, opened when something of it is needed: a twin does not depend on its store.
struct Original {
    store: SnapshotStore,
    root: SnapshotRoot,
    reader: OnceLock<SnapshotReader>,
}

impl Original {
    fn reader(&self) -> Result<&SnapshotReader, Error> {
        if let Some(reader) = self.reader.get() {
            return Ok(reader);
        }
        let reader = SnapshotReader::open(&self.store, &self.root)?;
        // Another thread may have been faster; either will do.
        Ok(self.reader.get_or_init(|| reader))
    }
}

/// A block of the twin.
struct Table {
    item: ItemRef,
    pages: FrameTable,
    /// The page after the last one that was read, and how many were read in a row, times 256.
    run: AtomicU32,
}

impl Table {
    /// Notes that a page is read; whether it continues a long enough run.
    fn is_read_through(&self, page: u8) -> bool {
        let before = self.run.load(Ordering::Relaxed);
        let length = if before & 0xff == u32::from(page) { (before >> 8) + 1 } else { 1 };
        // Two threads that note at once only make a run seem shorter.
        self.run.store(length.min(RUN_PAGES) << 8 | (u32::from(page) + 1), Ordering::Relaxed);
        length >= RUN_PAGES
    }
}

impl TwinReader {
    /// Opens a twin of a snapshot, whose own store is not read for it.
    ///
    /// # Errors
    /// When the twin's root record cannot be read, or is not of that snapshot.
    pub fn open(
        store: &SnapshotStore,
        root: &SnapshotRoot,
        (original, of): (&SnapshotStore, &SnapshotRoot),
    ) -> Result<Self, Error> {
        let is_its_twin = root.volume_bytes() == of.volume_bytes()
            && root.full_blocks() == of.full_blocks()
            && root.key_check() == of.key_check();
        if !is_its_twin {
            return Err(corrupt("root of a twin", &root.record));
        }
        Ok(Self {
            store: store.clone(),
            twin: SnapshotReader::open(store, root)?,
            original: Original { store: original.clone(), root: *of, reader: OnceLock::new() },
            tables: Mutex::default(),
            has_complained: AtomicBool::new(false),
        })
    }

    fn twin_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let (block, page) = (lba / PAGES_PER_BLOCK as u64, (lba % PAGES_PER_BLOCK as u64) as u8);
        if block >= self.twin.root().volume_blocks() {
            return Ok(BasePage::Zero);
        }
        let found = self.table(block).map_err(|error| source_error(error, block))?;
        let Some(table) = found else { return Ok(BasePage::Zero) };
        if table.is_read_through(page) {
            return self.twin.read_page(lba);
        }
        let Some(place) = table.pages.page(page) else { return Ok(BasePage::Zero) };
        let range = place.offset..place.offset + PAGE_BYTES as u32;
        let bytes = self.store.fetch_part(&table.item, range);
        let bytes = bytes.map_err(|error| source_error(error, block))?;
        let ciphertext = Box::<[u8]>::from(&bytes[..]).try_into();
        let Ok(ciphertext) = ciphertext else {
            return Err(SourceError::Corrupt { what: "page", block });
        };
        Ok(BasePage::Sealed(SealedPage { origin: place.origin, tag: place.tag, ciphertext }))
    }

    fn table(&self, block: u64) -> Result<Option<Arc<Table>>, Error> {
        let lock = || self.tables.lock().expect("no code panics while it holds the cache");
        if let Some(table) = lock().get(&block) {
            return Ok(Some(Arc::clone(table)));
        }
        let Some(pointer) = self.twin.pointer(block)? else { return Ok(None) };
        let item = pointer.frame;
        let pages = self.store.frame_table(block, &item)?;
        let table = Arc::new(Table { item, pages, run: AtomicU32::new(0) });
        let mut tables = lock();
        if tables.len() >= CACHED_TABLES_MAX {
            tables.clear();
        }
        tables.insert(block, Arc::clone(&table));
        Ok(Some(table))
    }

    /// Uses the snapshot in the twin's place.
    fn instead<T>(
        &self,
        block: u64,
        outcome: Result<T, SourceError>,
        read: impl FnOnce(&SnapshotReader) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        outcome.or_else(|error| {
            if !self.has_complained.swap(true, Ordering::Relaxed) {
                tracing::error!(%error, "a twin cannot be read, its snapshot is read instead");
            }
            read(self.original.reader().map_err(|error| source_error(error, block))?)
        })
    }
}

impl BaseReader for TwinReader {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let block = lba / PAGES_PER_BLOCK as u64;
        self.instead(block, self.twin_page(lba), |original| original.read_page(lba))
    }

    fn read_page_proven(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let block = lba / PAGES_PER_BLOCK as u64;
        self.instead(block, self.twin.read_page(lba), |original| original.read_page(lba))
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        self.instead(block, self.twin.has_block(block), |original| original.has_block(block))
    }
}
