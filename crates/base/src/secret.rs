//! Values that must not be shown and must not linger.

use std::fmt;
use zeroize::{Zeroize, Zeroizing};

/// Key material or another secret: wiped on drop, never printed, never cloned by accident.
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Takes ownership of a secret. The caller must not keep another copy.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
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
