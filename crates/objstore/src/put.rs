//! Storing through an unreliable answer.

use crate::{ATTEMPTS_MAX, Bytes, Error, ObjectStore};

/// Stores an object under a name that nobody else uses, repeating calls whose outcome is unknown.
///
/// Because the name is the caller's alone, an object found there after a failed attempt is the
/// one that attempt stored; its size is compared all the same.
///
/// # Errors
/// [`Error::AlreadyExists`] when the name was taken before the first attempt or is taken by an
/// object of another size; [`Error::Transient`] after [`ATTEMPTS_MAX`] attempts: the object may
/// exist, so the caller must not use the name for other content.
pub fn put_settled(store: &dyn ObjectStore, name: &str, bytes: &Bytes) -> Result<(), Error> {
    let mut attempt = 1;
    loop {
        match store.put(name, bytes.clone()) {
            Ok(()) => return Ok(()),
            Err(Error::AlreadyExists { name }) if attempt > 1 => match store.head(&name) {
                Ok(meta) if meta.size == bytes.len() as u64 => return Ok(()),
                Ok(_) => return Err(Error::AlreadyExists { name }),
                Err(error) if error.is_transient() && attempt < ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            },
            Err(error) if error.is_transient() && attempt < ATTEMPTS_MAX => {}
            Err(error) => return Err(error),
        }
        attempt += 1;
    }
}
