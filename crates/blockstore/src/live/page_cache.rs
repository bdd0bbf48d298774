//! A bounded cache of opened pages, by where they lie.
//!
//! Pages never change in place, so an entry is right as long as the place holds the same page; the
//! page's tag tells. The policy is S3-FIFO: a page read once leaves through a short queue, and only
//! one that is read again reaches the long one, so that a scan displaces nothing that is in use.
//!
//! Copying a page in costs more than opening it did. Once the cache is full, only the place of a page
//! that is read for the first time is noted; the page itself is taken in when it is read again.

use super::cache::NumberMap;
use super::layout::Location;
use super::locked::LockedPages;
use crate::page::{PAGE_BYTES, Page, Tag};
use std::collections::VecDeque;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The share of the short queue, as a divisor.
const SMALL_SHARE: usize = 10;
/// Reads of a page that are counted.
const USES_MAX: u8 = 3;

/// The cache of one volume.
pub(super) struct PageCache(Mutex<State>);

struct State {
    pages: LockedPages,
    capacity: usize,
    slots: Vec<Slot>,
    index: NumberMap<Location, usize>,
    /// Slots of pages that came in lately, the oldest first.
    small: VecDeque<usize>,
    /// Slots of pages that were read again.
    main: VecDeque<usize>,
    /// Places of pages that left the short queue lately, or were read once.
    ghosts: VecDeque<Location>,
    /// How often each place is among them.
    ghost_index: NumberMap<Location, u32>,
}

#[derive(Clone, Copy)]
struct Slot {
    location: Location,
    tag: Tag,
    uses: u8,
}

impl PageCache {
    /// A cache of at most `bytes`; `None` when that is not a page.
    ///
    /// # Errors
    /// When the system does not let this process lock as much memory.
    pub(super) fn new(bytes: usize) -> io::Result<Option<Self>> {
        let capacity = bytes / PAGE_BYTES;
        if capacity == 0 {
            return Ok(None);
        }
        Ok(Some(Self(Mutex::new(State {
            pages: LockedPages::new(capacity)?,
            capacity,
            slots: Vec::new(),
            index: NumberMap::default(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            ghost_index: NumberMap::default(),
        }))))
    }

    /// Fills `target` with the page sealed at `location` with this tag, if it is held.
    pub(super) fn get(&self, location: Location, tag: &Tag, target: &mut Page) -> bool {
        let mut state = self.state();
        let Some(slot) = state.index.get(&location).copied() else { return false };
        if state.slots[slot].tag != *tag {
            return false;
        }
        state.slots[slot].uses = (state.slots[slot].uses + 1).min(USES_MAX);
        target.copy_from_slice(state.pages.page(slot));
        true
    }

    /// Takes a page in, if it may be read again.
    pub(super) fn put(&self, location: Location, tag: &Tag, page: &Page) {
        let mut state = self.state();
        let slot = match state.index.get(&location) {
            Some(slot) => *slot,
            None if state.is_full() && !state.ghost_index.contains_key(&location) => {
                return state.haunt(location);
            }
            None => state.make_room(location),
        };
        state.slots[slot] = Slot { location, tag: *tag, uses: state.slots[slot].uses };
        state.pages.page_mut(slot).copy_from_slice(page);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_full(&self) -> bool {
        self.slots.len() >= self.capacity
    }

    /// A slot for a place that has none, in the queue where it belongs.
    fn make_room(&mut self, location: Location) -> usize {
        let slot = if !self.is_full() {
            self.slots.push(Slot { location, tag: Tag([0; 16]), uses: 0 });
            self.slots.len() - 1
        } else {
            self.evict()
        };
        self.slots[slot].uses = 0;
        self.index.insert(location, slot);
        if self.ghost_index.contains_key(&location) {
            self.main.push_back(slot);
        } else {
            self.small.push_back(slot);
        }
        slot
    }

    /// Frees a slot. A full cache has pages in a queue, and each turn moves or ages one.
    fn evict(&mut self) -> usize {
        loop {
            let from_small = self.small.len() > self.capacity / SMALL_SHARE || self.main.is_empty();
            if from_small && let Some(slot) = self.small.pop_front() {
                if self.slots[slot].uses > 0 {
                    self.slots[slot].uses = 0;
                    self.main.push_back(slot);
                    continue;
                }
                self.haunt(self.slots[slot].location);
                return self.release(slot);
            }
            let Some(slot) = self.main.pop_front() else { continue };
            if self.slots[slot].uses > 0 {
                self.slots[slot].uses -= 1;
                self.main.push_back(slot);
                continue;
            }
            return self.release(slot);
        }
    }

    fn release(&mut self, slot: usize) -> usize {
        self.index.remove(&self.slots[slot].location);
        slot
    }

    /// Remembers a place whose page was read once.
    fn haunt(&mut self, location: Location) {
        if self.ghosts.len() >= self.capacity
            && let Some(oldest) = self.ghosts.pop_front()
            && let Some(count) = self.ghost_index.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                self.ghost_index.remove(&oldest);
            }
        }
        self.ghosts.push_back(location);
        *self.ghost_index.entry(location).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(number: u64) -> Page {
        let mut page = [number as u8; PAGE_BYTES];
        page[..8].copy_from_slice(&number.to_le_bytes());
        page
    }

    fn tag(number: u64) -> Tag {
        Tag(u128::from(number).to_le_bytes())
    }

    fn holds(cache: &PageCache, number: u64) -> bool {
        let mut target = [0; PAGE_BYTES];
        let held = cache.get(number, &tag(number), &mut target);
        assert!(!held || target == page(number), "{number}");
        held
    }

    #[test]
    fn it_is_bounded_and_a_page_of_another_tag_is_not_found() {
        let cache = PageCache::new(64 * PAGE_BYTES + 5).unwrap().unwrap();
        for number in 0..1000 {
            cache.put(number, &tag(number), &page(number));
            assert_eq!(holds(&cache, number), number < 64);
            cache.put(number, &tag(number), &page(number));
            assert!(holds(&cache, number));
            let state = cache.state();
            assert!(state.slots.len() <= 64 && state.index.len() <= 64);
            assert_eq!(state.small.len() + state.main.len(), state.slots.len());
            assert!(state.ghosts.len() <= 64 && state.ghost_index.len() <= 64);
        }
        for _ in 0..2 {
            cache.put(7, &tag(8), &page(8));
        }
        assert!(!cache.get(7, &tag(7), &mut [0; PAGE_BYTES]));
        assert!(PageCache::new(PAGE_BYTES - 1).unwrap().is_none());
    }

    /// The pages of a working set stay while a scan of ten times the cache goes through.
    #[test]
    fn a_scan_does_not_displace_what_is_in_use() {
        let cache = PageCache::new(100 * PAGE_BYTES).unwrap().unwrap();
        let hot = 0..50;
        for round in 0..4 {
            for number in hot.clone() {
                if round == 0 {
                    cache.put(number, &tag(number), &page(number));
                }
                assert!(holds(&cache, number));
            }
        }
        for number in 1000..2000 {
            cache.put(number, &tag(number), &page(number));
        }
        let kept = hot.clone().filter(|number| holds(&cache, *number)).count();
        assert!(kept >= 45, "{kept} of 50 pages stayed");
    }
}
