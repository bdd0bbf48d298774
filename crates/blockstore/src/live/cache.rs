//! A bounded cache with second-chance eviction, and the hash its keys use.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// A map keyed by numbers.
pub(super) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// Multiplies and folds. Keys are page and block numbers of one volume: a guest that provokes
/// collisions slows only itself.
#[derive(Default)]
pub(super) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        let wide = u128::from(self.0 ^ number ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}

/// At most `capacity` values; inserting into a full cache drops one that was not used lately.
pub(super) struct Cache<K, V> {
    index: NumberMap<K, usize>,
    slots: Vec<Slot<K, V>>,
    capacity: usize,
    hand: usize,
}

struct Slot<K, V> {
    key: K,
    value: V,
    used: bool,
}

impl<K: Hash + Eq + Copy, V> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { index: NumberMap::default(), slots: Vec::new(), capacity: capacity.max(1), hand: 0 }
    }

    pub(super) fn get(&mut self, key: K) -> Option<&V> {
        let slot = &mut self.slots[*self.index.get(&key)?];
        slot.used = true;
        Some(&slot.value)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if let Some(at) = self.index.get(&key) {
            self.slots[*at] = Slot { key, value, used: true };
        } else if self.slots.len() < self.capacity {
            self.index.insert(key, self.slots.len());
            self.slots.push(Slot { key, value, used: true });
        } else {
            while std::mem::take(&mut self.slots[self.hand].used) {
                self.hand = (self.hand + 1) % self.slots.len();
            }
            self.index.remove(&self.slots[self.hand].key);
            self.index.insert(key, self.hand);
            self.slots[self.hand] = Slot { key, value, used: true };
            self.hand = (self.hand + 1) % self.slots.len();
        }
    }

    /// Values it holds.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn remove(&mut self, key: K) {
        let Some(at) = self.index.remove(&key) else { return };
        self.slots.swap_remove(at);
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(moved.key, at);
        }
        if self.hand >= self.slots.len() {
            self.hand = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.index.clear();
        self.slots.clear();
        self.hand = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_is_used_and_no_more_than_its_capacity() {
        let mut cache = Cache::new(8);
        for key in 0..1000u64 {
            cache.insert(key, key * 2);
            cache.insert(0, 0);
            assert_eq!(cache.get(key), Some(&(key * 2)));
            assert!(cache.slots.len() <= 8 && cache.index.len() == cache.slots.len());
        }
        assert_eq!(cache.get(0), Some(&0));
        assert_eq!(cache.get(1), None);
        for key in 0..1000 {
            cache.remove(key);
            assert_eq!(cache.get(key), None);
        }
        assert!(cache.slots.is_empty() && cache.index.is_empty());
    }
}
