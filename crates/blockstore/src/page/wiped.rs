//! Memory that is overwritten when its value goes.
//!
//! An expanded cipher key is as good as the key it came from, and the cipher library does not wipe
//! it. Copies the compiler leaves on the stack while moving a value are out of reach and are said
//! so in the threat notes of `docs/format.md`.
#![expect(unsafe_code, reason = "wiping a foreign type needs its bytes after its drop")]

use std::mem::MaybeUninit;
use std::ops::Deref;
use zeroize::Zeroize;

/// A value on the heap whose memory is zeroed after it is dropped.
pub(super) struct Wiped<T>(Box<MaybeUninit<T>>);

impl<T> Wiped<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Box::new(MaybeUninit::new(value)))
    }
}

impl<T> Deref for Wiped<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` initialises the value and only `drop` ends it; no method makes it
        // uninitialised while a `&self` can exist.
        unsafe { self.0.assume_init_ref() }
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        // SAFETY: the value is initialised (see `deref`) and is dropped exactly once, here; the
        // box then frees a `MaybeUninit`, which has no drop of its own.
        unsafe { self.0.assume_init_drop() };
        (*self.0).zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn the_value_is_usable_and_dropped_once() {
        let counted = Rc::new(7);
        let wiped = Wiped::new(Rc::clone(&counted));
        assert_eq!(**wiped, 7);
        assert_eq!(Rc::strong_count(&counted), 2);
        drop(wiped);
        assert_eq!(Rc::strong_count(&counted), 1);
    }
}
