//! What a volume may contain: the oracle of the simulation.
//!
//! Every page has a durable content and the contents written since the last acknowledged flush. A
//! power cut may take writes from the end, never from the middle: what remains must be the durable
//! state plus a prefix of the later writes, in order.

use blockstore::page::{Lba, PAGE_BYTES, Page};
use std::collections::{BTreeMap, BTreeSet};

/// Sectors in a page: a write may cover a part of a page, never a part of a sector.
pub const SECTORS: usize = PAGE_BYTES / 512;

/// The content of a page: a stamp per sector, 0 for zeros.
pub type Content = [u64; SECTORS];

/// A page of zeros.
pub const ZEROS: Content = [0; SECTORS];

/// What was read is nothing that may be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A read returned something that was never the page's newest content.
    WrongRead {
        /// The page.
        lba: Lba,
    },
    /// After a power cut no prefix of the unflushed writes explains what is there.
    NoPrefix {
        /// Pages that agree with no prefix, or all touched pages when only their combination fails.
        pages: Vec<Lba>,
    },
    /// An acknowledged cut is gone, or a dropped one is back.
    Cuts {
        /// Which cut.
        id: String,
    },
    /// The volume does not have the size it was last given.
    Size {
        /// Which it has.
        found: u64,
    },
    /// The volume's file takes more than the place it lies in has.
    Space {
        /// Bytes it takes.
        held: u64,
        /// Bytes there are.
        capacity: u64,
    },
    /// A cut's content is not the volume's content at that moment.
    WrongCut {
        /// Which cut.
        id: String,
        /// Where it differs.
        lba: Lba,
    },
    /// A snapshot does not hold what the volume held at its cut.
    WrongSnapshot {
        /// Of which cut.
        id: String,
        /// Where it differs.
        lba: Lba,
    },
    /// Something was sealed with a salt that something else was sealed with before.
    SaltReused,
    /// The engine failed although the disk did not.
    Failed {
        /// What it was doing.
        action: &'static str,
        /// What it said.
        error: String,
    },
}

/// The state of one volume.
#[derive(Clone)]
pub struct Model {
    durable: BTreeMap<Lba, Content>,
    /// Writes since the last acknowledged flush.
    history: Vec<(Lba, Content)>,
    /// How many of those were answered.
    answered: usize,
    visible: BTreeMap<Lba, Content>,
    /// Pages of the base, below everything.
    base: BTreeMap<Lba, Content>,
    next_stamp: u64,
}

impl Model {
    /// An empty volume over a base.
    pub fn new(base: BTreeMap<Lba, Content>) -> Self {
        let (durable, visible) = (BTreeMap::new(), BTreeMap::new());
        Self { durable, history: Vec::new(), answered: 0, visible, base, next_stamp: 1 << 32 }
    }

    /// A stamp nothing else has.
    pub fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// The newest content of a page.
    pub fn get(&self, lba: Lba) -> Content {
        self.visible.get(&lba).or_else(|| self.base.get(&lba)).copied().unwrap_or(ZEROS)
    }

    /// Records a write of a page.
    pub fn put(&mut self, lba: Lba, content: Content) {
        self.visible.insert(lba, content);
        self.history.push((lba, content));
    }

    /// Records that everything written so far is durable.
    pub fn flushed(&mut self) {
        self.durable.clone_from(&self.visible);
        self.forget_history();
    }

    /// Records that everything written so far was answered.
    pub fn answer(&mut self) {
        self.answered = self.history.len();
    }

    /// Records that what was answered and not flushed may be lost all the same.
    pub fn forget_answers(&mut self) {
        self.answered = 0;
    }

    /// How many of the writes that are not known to be durable were answered.
    pub fn answered(&self) -> usize {
        self.answered
    }

    fn forget_history(&mut self) {
        self.history.clear();
        self.answered = 0;
    }

    /// How many writes are not known to be durable.
    pub fn unflushed(&self) -> usize {
        self.history.len()
    }

    /// Every page something was written to, and those of the base.
    pub fn pages(&self) -> BTreeSet<Lba> {
        let written = self.durable.keys().chain(self.history.iter().map(|(lba, _)| lba));
        written.chain(self.base.keys()).copied().collect()
    }

    /// All that is visible, without the base.
    pub fn snapshot(&self) -> BTreeMap<Lba, Content> {
        self.visible.clone()
    }

    /// Takes what was found after a power cut for the truth, if a prefix of at least `least`
    /// unflushed writes explains it.
    ///
    /// # Errors
    /// When none does.
    pub fn settle(
        &mut self,
        found: &BTreeMap<Lba, Content>,
        least: usize,
    ) -> Result<(), Violation> {
        let mut state = self.durable.clone();
        let content = |state: &BTreeMap<Lba, Content>, base: &BTreeMap<Lba, Content>, lba: Lba| {
            state.get(&lba).or_else(|| base.get(&lba)).copied().unwrap_or(ZEROS)
        };
        let mut wrong: BTreeSet<Lba> = found
            .iter()
            .filter(|(lba, held)| content(&state, &self.base, **lba) != **held)
            .map(|(lba, _)| *lba)
            .collect();
        let mut ever_wrong = wrong.clone();
        let mut explained = (wrong.is_empty() && least == 0).then(|| state.clone());
        for (count, (lba, written)) in (1..).zip(&self.history) {
            state.insert(*lba, *written);
            if found.get(lba).is_none_or(|held| held == written) {
                wrong.remove(lba);
                ever_wrong.remove(lba);
            } else {
                wrong.insert(*lba);
            }
            if wrong.is_empty() && count >= least {
                explained = Some(state.clone());
            }
        }
        let Some(state) = explained else {
            let pages = if ever_wrong.is_empty() { wrong } else { ever_wrong };
            return Err(Violation::NoPrefix { pages: pages.into_iter().collect() });
        };
        self.durable = state.clone();
        self.visible = state;
        self.forget_history();
        Ok(())
    }
}

/// The bytes of a page with this content at this address.
pub fn render(lba: Lba, content: &Content) -> Page {
    let mut page = [0; PAGE_BYTES];
    for ((sector, bytes), stamp) in (0u64..).zip(page.chunks_exact_mut(512)).zip(content) {
        if *stamp != 0 {
            bytes.fill((*stamp % 255) as u8 + 1);
            bytes[..8].copy_from_slice(&stamp.to_le_bytes());
            bytes[8..16].copy_from_slice(&(lba * SECTORS as u64 + sector).to_le_bytes());
        }
    }
    page
}

/// The content of a page read at an address, or `None` when it is no page that was ever rendered
/// for it.
pub fn parse(lba: Lba, page: &Page) -> Option<Content> {
    let mut content = ZEROS;
    for (bytes, stamp) in page.chunks_exact(512).zip(&mut content) {
        *stamp = u64::from_le_bytes(bytes[..8].try_into().ok()?);
    }
    (render(lba, &content) == *page).then_some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pages: &[(Lba, u64)]) -> BTreeMap<Lba, Content> {
        pages.iter().map(|(lba, stamp)| (*lba, [*stamp; SECTORS])).collect()
    }

    fn model() -> Model {
        let mut model = Model::new(BTreeMap::new());
        model.put(1, [10; SECTORS]);
        model.put(2, [11; SECTORS]);
        model.flushed();
        model.put(1, [12; SECTORS]);
        model.put(2, [13; SECTORS]);
        model.put(1, [14; SECTORS]);
        model
    }

    #[test]
    fn prefixes_are_allowed_and_nothing_else() {
        for good in [[10, 11], [12, 11], [12, 13], [14, 13]] {
            assert_eq!(
                model().settle(&found(&[(1, good[0]), (2, good[1])]), 0),
                Ok(()),
                "{good:?}"
            );
        }
        for bad in [[10, 13], [14, 11], [0, 11], [10, 0], [99, 11]] {
            assert!(model().settle(&found(&[(1, bad[0]), (2, bad[1])]), 0).is_err(), "{bad:?}");
        }
        assert!(model().settle(&found(&[(1, 12), (2, 11)]), 2).is_err());
        assert_eq!(model().settle(&found(&[(1, 12), (2, 13)]), 2), Ok(()));
    }

    #[test]
    fn pages_of_another_address_do_not_parse() {
        let content = [7; SECTORS];
        assert_eq!(parse(5, &render(5, &content)), Some(content));
        assert_eq!(parse(6, &render(5, &content)), None);
        assert_eq!(parse(6, &[0; PAGE_BYTES]), Some(ZEROS));
    }
}
