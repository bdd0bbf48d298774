//! Plays a trace over any disk and knows what must be there at every moment.

use super::script::{Ask, PAGES};
use crate::model::{Content, Model, SECTORS, Violation, ZEROS, parse, render};
use base::{Rng, Secret, SeededRng};
use blockstore::live::{CutId, Disk, Engine, EngineConfig, Error, OpenOptions, VolumeOptions};
use blockstore::page::{
    CutPage, CutSource, DataKey, Lba, PAGE_BYTES, PAGES_PER_BLOCK, Page, StructureKey,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a volume may be, at one moment.
#[derive(Clone)]
pub(super) struct Expected {
    pub(super) model: Model,
    /// Every write since the beginning, for disks that lie: never told of a flush.
    pub(super) ever: Model,
    /// Acknowledged cuts and what they hold.
    pub(super) cuts: BTreeMap<CutId, BTreeMap<Lba, Content>>,
    /// Asked for and not acknowledged, with the number of unflushed writes before it.
    pub(super) unsure_cut: Option<(CutId, usize)>,
    pub(super) unsure_drop: Option<CutId>,
    /// Every cut that was asked for.
    pub(super) ever_cuts: BTreeMap<CutId, BTreeMap<Lba, Content>>,
    pub(super) pages: u64,
    /// A growth that was asked for, with the number of unflushed writes before it.
    pub(super) unsure_pages: Option<(u64, usize)>,
    /// Whether the volume's creation was acknowledged.
    pub(super) created: bool,
}

/// A volume that a trace is played on.
pub(super) struct Player {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) engine: Option<Engine>,
    pub(super) expected: Expected,
    rng: Arc<SeededRng>,
    key: DataKey,
    structure: StructureKey,
}

/// Why a request was not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The engine said so.
    Error(Error),
    /// What it said instead is wrong.
    Violation(Violation),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Violation> for Refusal {
    fn from(violation: Violation) -> Self {
        Self::Violation(violation)
    }
}

impl Player {
    /// A player whose engines take randomness from `seed`. Nothing is on the disk yet.
    pub(super) fn new(disk: Arc<dyn Disk>, seed: u64) -> Self {
        let expected = Expected {
            model: Model::new(BTreeMap::new()),
            ever: Model::new(BTreeMap::new()),
            cuts: BTreeMap::new(),
            unsure_cut: None,
            unsure_drop: None,
            ever_cuts: BTreeMap::new(),
            pages: PAGES,
            unsure_pages: None,
            created: false,
        };
        Self::on(disk, expected, seed)
    }

    /// A player that finds a disk in some state.
    pub(super) fn on(disk: Arc<dyn Disk>, expected: Expected, seed: u64) -> Self {
        Self {
            disk,
            engine: None,
            expected,
            rng: Arc::new(SeededRng::new(seed)),
            key: DataKey::new(&Secret::new([5; 64])),
            structure: StructureKey::derive(&Secret::new([7; 32]), "vol-00000000"),
        }
    }

    /// Makes the volume and opens it.
    pub(super) fn create(&mut self) -> Result<(), Error> {
        let options = VolumeOptions {
            size_bytes: PAGES * PAGE_BYTES as u64,
            key_check: Some(self.key.check_value()),
            base: None,
        };
        let config = EngineConfig::tiny();
        Engine::create(&*self.disk, &self.structure, &*self.rng, &config, &options)?;
        self.expected.created = true;
        self.open()
    }

    pub(super) fn open(&mut self) -> Result<(), Error> {
        self.engine = None;
        let options =
            OpenOptions { data_key: Some(self.key.duplicate()), base: None, writer: None };
        let rng = Arc::clone(&self.rng) as Arc<dyn Rng>;
        let (disk, structure) = (Arc::clone(&self.disk), self.structure.duplicate());
        self.engine = Some(Engine::open(disk, structure, rng, EngineConfig::tiny(), options)?);
        Ok(())
    }

    pub(super) fn engine(&mut self) -> Result<&mut Engine, Error> {
        self.engine.as_mut().ok_or(Error::Failed)
    }

    /// Notes what `ask` may do. Afterwards [`Player::expected`] is what a stop at any moment of the
    /// request must leave.
    pub(super) fn announce(&mut self, ask: Ask) -> Vec<u8> {
        let expected = &mut self.expected;
        let mut bytes = Vec::new();
        match ask {
            Ask::Write(first, count) => {
                for lba in first..first + count {
                    let content = [expected.model.stamp(); SECTORS];
                    expected.put(lba, content);
                    bytes.extend_from_slice(&render(lba, &content));
                }
            }
            Ask::Sectors(first, count) => {
                let stamp = expected.model.stamp();
                let mut sector = first;
                // One page is one write, however many of its sectors change.
                while sector < first + count {
                    let (lba, at) = (sector / SECTORS as u64, (sector % SECTORS as u64) as usize);
                    let here = (SECTORS - at).min((first + count - sector) as usize);
                    let mut content = expected.model.get(lba);
                    content[at..at + here].fill(stamp);
                    expected.put(lba, content);
                    bytes.extend_from_slice(&render(lba, &content)[at * 512..(at + here) * 512]);
                    sector += here as u64;
                }
            }
            Ask::Zero(first, count) | Ask::Discard(first, count) => {
                (first..first + count).for_each(|lba| expected.put(lba, ZEROS));
            }
            Ask::Cut(number) => {
                expected.unsure_cut = Some((cut_id(number), expected.model.unflushed()));
                expected.ever_cuts.insert(cut_id(number), expected.model.snapshot());
            }
            Ask::Drop(number) => expected.unsure_drop = Some(cut_id(number)),
            Ask::Grow(pages) => {
                let unflushed = expected.model.unflushed();
                expected.unsure_pages = Some((expected.pages + pages, unflushed));
            }
            Ask::Read | Ask::Flush | Ask::Checkpoint | Ask::Maintain => {}
            Ask::Clean | Ask::Reopen | Ask::Die => {}
        }
        bytes
    }

    /// Asks, and notes what the answer acknowledges.
    pub(super) fn perform(&mut self, ask: Ask, bytes: &[u8]) -> Result<(), Refusal> {
        let size = |pages: u64| pages * PAGE_BYTES as u64;
        match ask {
            Ask::Write(first, _) => self.engine()?.write(size(first), bytes)?,
            Ask::Sectors(first, _) => self.engine()?.write(first * 512, bytes)?,
            Ask::Zero(first, count) => self.engine()?.write_zeroes(size(first), size(count))?,
            Ask::Discard(first, count) => self.engine()?.discard(size(first), size(count))?,
            Ask::Read => self.read_all()?,
            Ask::Flush => {
                self.engine()?.flush()?;
                self.expected.model.flushed();
            }
            Ask::Checkpoint => {
                self.engine()?.checkpoint()?;
                self.expected.model.flushed();
            }
            Ask::Maintain => {
                self.engine()?.maintain()?;
                self.engine()?.give_back_step(false);
            }
            Ask::Clean => drop(self.engine()?.clean(4, 60)?),
            Ask::Cut(number) => {
                let id = cut_id(number);
                self.engine()?.cut(id)?;
                let content = self.expected.model.snapshot();
                self.expected.cuts.insert(id, content);
                self.expected.unsure_cut = None;
                self.expected.model.flushed();
            }
            Ask::Drop(number) => {
                match self.engine()?.drop_cut(cut_id(number)) {
                    // A random trace may drop a cut twice.
                    Ok(()) | Err(Error::CutNotFound { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
                self.expected.cuts.remove(&cut_id(number));
                self.expected.unsure_drop = None;
            }
            Ask::Grow(pages) => {
                let pages = self.expected.pages + pages;
                self.engine()?.resize(size(pages))?;
                self.expected.pages = pages;
                self.expected.unsure_pages = None;
                self.expected.model.flushed();
            }
            Ask::Reopen => {
                let engine = self.engine.take().ok_or(Error::Failed)?;
                engine.close()?;
                self.expected.model.flushed();
                self.open()?;
            }
            Ask::Die => {
                self.open()?;
                self.settle()?;
                // What the new process found it has made durable before it looked.
                self.expected.model.flushed();
            }
        }
        Ok(())
    }

    /// Reads every page that was ever written, and compares.
    pub(super) fn read_all(&mut self) -> Result<(), Refusal> {
        for lba in self.expected.model.pages() {
            if self.read_page(lba)? != Some(self.expected.model.get(lba)) {
                return Err(Violation::WrongRead { lba }.into());
            }
        }
        Ok(())
    }

    /// The content of one page; `None` when it is nothing that was ever written there.
    pub(super) fn read_page(&mut self, lba: Lba) -> Result<Option<Content>, Error> {
        let mut page: Page = [0; PAGE_BYTES];
        self.engine()?.read(lba * PAGE_BYTES as u64, &mut page)?;
        Ok(parse(lba, &page))
    }

    /// Everything a cut states. A page without a statement was never written.
    pub(super) fn read_cut(&mut self, id: CutId) -> Result<BTreeMap<Lba, Content>, Refusal> {
        let reader = self.engine()?.open_cut(id, None)?;
        let mut found = BTreeMap::new();
        for block in reader.changed_blocks() {
            let pages = reader.load_block(block.map_err(Error::from)?).map_err(Error::from)?;
            let first = pages.block * PAGES_PER_BLOCK as u64;
            for (lba, page) in (first..).zip(&pages.pages) {
                let content = match page {
                    CutPage::Absent => continue,
                    CutPage::Zero => Some(ZEROS),
                    CutPage::Sealed(sealed) => {
                        let mut bytes = [0; PAGE_BYTES];
                        let opener = self.key.opener(sealed.origin.salt);
                        // Whoever reads the cut with the key sees the damage.
                        sealed
                            .open(&opener, lba, &mut bytes)
                            .map_err(|_| Error::Corrupt { what: "page of a cut", page: lba })?;
                        parse(lba, &bytes)
                    }
                };
                let wrong = || Violation::WrongCut { id: id.to_string(), lba };
                found.insert(lba, content.ok_or_else(wrong)?);
            }
        }
        Ok(found)
    }

    /// Compares a cut with what it must hold.
    pub(super) fn check_cut(
        &mut self,
        id: CutId,
        expected: &BTreeMap<Lba, Content>,
    ) -> Result<(), Refusal> {
        let found = self.read_cut(id)?;
        for lba in found.keys().chain(expected.keys()) {
            let shown = |content: &BTreeMap<Lba, Content>| content.get(lba).copied();
            if shown(&found).unwrap_or(ZEROS) != shown(expected).unwrap_or(ZEROS) {
                return Err(Violation::WrongCut { id: id.to_string(), lba: *lba }.into());
            }
        }
        Ok(())
    }
}

impl Expected {
    fn put(&mut self, lba: Lba, content: Content) {
        self.model.put(lba, content);
        self.ever.put(lba, content);
    }
}

pub(super) fn cut_id(number: u32) -> CutId {
    CutId::new(&format!("snap-{number:08x}")).expect("it is short and ASCII")
}
