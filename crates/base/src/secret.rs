//! Values that must not be shown and must not linger.

use std::fmt;
use zeroize::Zeroize;

/// Key material or another secret: wiped on drop, never printed, never cloned by accident.
///
/// It lies in one place on the heap, because a value that is moved leaves a copy behind where it
/// was, which nobody wipes.
pub struct Secret<T: Zeroize>(Box<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a secret. The caller must not keep another copy; best is to make it from
    /// zeros and fill it in place.
    pub fn new(value: T) -> Self {
        Self(Box::new(value))
    }

    /// The secret itself. Name the use at the call site.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The secret itself, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize + Clone> Secret<T> {
    /// A second copy, wiped by itself; a named method so that copies are easy to find.
    pub fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
