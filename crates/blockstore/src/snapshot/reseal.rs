//! The keys of a change of data key, and how often each is derived.

use crate::page::{DataKey, PageOpener, PageSealer, Salt};
use base::Rng;
use std::collections::HashMap;

/// Keys kept for salts of the source. Pages written at one time share a salt.
const OPENERS_MAX: usize = 1024;

/// Opens under one data key and seals under another; one per thread.
pub(super) struct Reseal<'a> {
    source: &'a DataKey,
    target: &'a DataKey,
    rng: &'a dyn Rng,
    openers: HashMap<Salt, PageOpener>,
    /// The one used last: most pages were sealed together with those before them.
    last: Option<PageOpener>,
}

impl<'a> Reseal<'a> {
    pub(super) fn new(source: &'a DataKey, target: &'a DataKey, rng: &'a dyn Rng) -> Self {
        Self { source, target, rng, openers: HashMap::new(), last: None }
    }

    /// The key that opens what was sealed with `salt`.
    pub(super) fn opener(&mut self, salt: Salt) -> &PageOpener {
        if let Some(before) = self.last.take_if(|last| last.salt() != salt) {
            if self.openers.len() >= OPENERS_MAX {
                self.openers.clear();
            }
            self.openers.insert(before.salt(), before);
        }
        let (openers, source) = (&mut self.openers, self.source);
        self.last
            .get_or_insert_with(|| openers.remove(&salt).unwrap_or_else(|| source.opener(salt)))
    }

    /// A sealer for one block, under a salt of its own.
    pub(super) fn sealer(&self) -> PageSealer {
        self.target.sealer(Salt::generate(self.rng))
    }
}
