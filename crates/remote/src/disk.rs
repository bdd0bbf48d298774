//! The volume's file and its base, as the engine of another machine sees them.

use crate::client::{Link, unexpected};
use crate::wire::{BASE_PAGES_MAX, DATA_BYTES_MAX, Reply, Request};
use blockstore::live::Disk;
use blockstore::page::{BasePage, BaseReader, Lba, SourceError};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Runs of base pages kept; each has [`BASE_PAGES_MAX`] pages, 128 KiB.
const BASE_RUNS_MAX: usize = 64;

/// The file at the server. Writes are on their way when they return, in order; a flush waits for all.
pub struct RemoteDisk(Link);

impl RemoteDisk {
    /// The file behind a link.
    pub fn new(link: Link) -> Self {
        Self(link)
    }
}

impl Disk for RemoteDisk {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        for (at, part) in (offset..).step_by(DATA_BYTES_MAX).zip(target.chunks_mut(DATA_BYTES_MAX))
        {
            let request = Request::Read { offset: at, length: part.len() as u32 };
            match self.0.ask(&request)? {
                Reply::Data(data) if data.len() == part.len() => part.copy_from_slice(&data),
                _ => return Err(unexpected()),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        for (at, part) in (offset..).step_by(DATA_BYTES_MAX).zip(source.chunks(DATA_BYTES_MAX)) {
            self.0.write(part.len(), |id| Request::encode_write(id, at, part))?;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.0.flush()
    }

    fn len(&self) -> io::Result<u64> {
        match self.0.ask(&Request::Length)? {
            Reply::Length(length) => Ok(length),
            _ => Err(unexpected()),
        }
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.0.write(0, |id| Request::Punch { offset, length }.encode(id))
    }
}

/// The snapshot a volume falls through to, read at the server page by page, still sealed.
pub struct RemoteBase {
    link: Link,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    runs: BTreeMap<Lba, Arc<Vec<BasePage>>>,
    order: VecDeque<Lba>,
    blocks: BTreeMap<u64, bool>,
}

impl RemoteBase {
    /// The base behind a link.
    pub fn new(link: Link) -> Self {
        Self { link, cache: Mutex::default() }
    }

    fn run(&self, first: Lba) -> Result<Arc<Vec<BasePage>>, SourceError> {
        let cached = |cache: &Cache| cache.runs.get(&first).cloned();
        if let Some(run) = cached(&self.cache()) {
            return Ok(run);
        }
        let request = Request::Base { first, count: BASE_PAGES_MAX };
        let run = match self.link.ask(&request).map_err(|error| source_error(error, first))? {
            Reply::Pages(pages) if pages.len() == BASE_PAGES_MAX as usize => Arc::new(pages),
            _ => return Err(source_error(unexpected(), first)),
        };
        let mut cache = self.cache();
        if cache.runs.insert(first, Arc::clone(&run)).is_none() {
            cache.order.push_back(first);
        }
        if cache.order.len() > BASE_RUNS_MAX
            && let Some(oldest) = cache.order.pop_front()
        {
            cache.runs.remove(&oldest);
        }
        Ok(run)
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn source_error(error: io::Error, lba: Lba) -> SourceError {
    match error.kind() {
        io::ErrorKind::InvalidData => SourceError::Corrupt { what: "the base", block: lba / 128 },
        _ => SourceError::Unavailable { cause: Box::new(error) },
    }
}

impl BaseReader for RemoteBase {
    fn read_page(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let within = lba % u64::from(BASE_PAGES_MAX);
        Ok(self.run(lba - within)?[within as usize].clone())
    }

    fn read_page_proven(&self, lba: Lba) -> Result<BasePage, SourceError> {
        let reply = self.link.ask(&Request::ProvenPage { page: lba });
        match reply.map_err(|error| source_error(error, lba))? {
            Reply::Pages(pages) => match <[BasePage; 1]>::try_from(pages) {
                Ok([page]) => Ok(page),
                Err(_) => Err(source_error(unexpected(), lba)),
            },
            _ => Err(source_error(unexpected(), lba)),
        }
    }

    fn has_block(&self, block: u64) -> Result<bool, SourceError> {
        if let Some(known) = self.cache().blocks.get(&block) {
            return Ok(*known);
        }
        let reply = self.link.ask(&Request::HasBlock { block });
        match reply.map_err(|error| source_error(error, block * 128))? {
            Reply::Flag(has) => {
                self.cache().blocks.insert(block, has);
                Ok(has)
            }
            _ => Err(source_error(unexpected(), block * 128)),
        }
    }
}
