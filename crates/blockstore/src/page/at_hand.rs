//! Data keys for who proves stored pages, and can do without.

use super::{DataKey, KeyCheckValue, Lba, PAGE_BYTES, PageOpener, SealedPage};
use zeroize::Zeroizing;

/// A data key that may be at hand. It is lent for a moment each time: whoever owns it may want it gone.
pub trait KeyAtHand: Sync {
    /// Does one short piece of work with the key, or nothing if it is not at hand now.
    fn lend(&self, work: &mut dyn FnMut(&DataKey));
}

impl dyn KeyAtHand + '_ {
    /// This key, unless it is known to be another than the one that was noted.
    pub fn if_noted(&self, noted: Option<KeyCheckValue>) -> &(dyn KeyAtHand + '_) {
        let is_noted = |key: &DataKey| noted.is_none_or(|noted| noted == key.check_value());
        if self.with(is_noted) == Some(false) { &NoKey } else { self }
    }

    /// What comes of one short piece of work with the key; `None` if it is not at hand now.
    pub fn with<T>(&self, work: impl FnOnce(&DataKey) -> T) -> Option<T> {
        let (mut work, mut done) = (Some(work), None);
        self.lend(&mut |key| done = work.take().map(|work| work(key)));
        done
    }
}

/// No key.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoKey;

impl KeyAtHand for NoKey {
    fn lend(&self, _work: &mut dyn FnMut(&DataKey)) {}
}

/// A key of one's own.
impl KeyAtHand for DataKey {
    fn lend(&self, work: &mut dyn FnMut(&DataKey)) {
        work(self);
    }
}

/// A key of one's own, or none.
impl KeyAtHand for Option<DataKey> {
    fn lend(&self, work: &mut dyn FnMut(&DataKey)) {
        self.iter().for_each(work);
    }
}

impl DataKey {
    /// Whether each page opens at its address.
    pub fn prove(&self, pages: &[(Lba, &SealedPage)]) -> Vec<bool> {
        let mut opener: Option<PageOpener> = None;
        let mut target = Zeroizing::new([0; PAGE_BYTES]);
        let mut opens = |(lba, page): &(Lba, &SealedPage)| {
            let salt = page.origin.salt;
            let opener = match &mut opener {
                Some(opener) if opener.salt() == salt => opener,
                opener => opener.insert(self.opener(salt)),
            };
            page.open(opener, *lba, &mut target).is_ok()
        };
        pages.iter().map(&mut opens).collect()
    }
}
