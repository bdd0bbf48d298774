//! Moving the seal to another secret, while the server runs.
//!
//! The header first holds both slots, is read back and opened with the new secret, and only then loses the old
//! slot. Each write replaces the whole file durably, so at every moment either the old secret opens it, or both, or
//! the new one. The root key itself stays what it is: nothing sealed under it has to be touched.

use super::header::{self, Header, SLOTS_MAX};
use super::{HEADER_FILE, Provider, Root, SealError, file};
use base::Rng;
use std::path::{Path, PathBuf};
use subtle::ConstantTimeEq;

/// What [`Root::reseal`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// The key file made for it, when the provider named one that was not there.
    pub key_file_made: Option<PathBuf>,
    /// How many secrets opened the header before and do not now.
    pub retired: usize,
}

impl Root {
    /// Seals the root under another secret, in place of all that open it now.
    ///
    /// # Errors
    /// See [`SealError`]. What opened the header before an error still opens it, until the last write.
    pub fn reseal(
        &self,
        directory: &Path,
        provider: &Provider,
        rng: &dyn Rng,
    ) -> Result<Resealed, SealError> {
        self.reseal_watched(directory, provider, rng, &mut || {})
    }

    /// As [`Root::reseal`]; calls `written` after each write, where a power cut could follow.
    fn reseal_watched(
        &self,
        directory: &Path,
        provider: &Provider,
        rng: &dyn Rng,
        written: &mut dyn FnMut(),
    ) -> Result<Resealed, SealError> {
        let path = directory.join(HEADER_FILE);
        let missing = || SealError::HeaderDamaged { header: path.clone(), problem: "it is gone" };
        let mut old = header::read(&path)?.ok_or_else(missing)?;
        if old.root_id != self.id {
            return Err(SealError::OtherRoot { header: path });
        }
        let key_file_made = match provider {
            Provider::KeyFile(key) => file::make_key(key, rng)?.then(|| key.clone()),
            _ => None,
        };
        let new = self.seal_slot(provider, rng)?;
        // Rotations that were cut short again and again leave slots; the one this server was started with stays.
        while old.slots.len() >= SLOTS_MAX {
            let idle = old.slots.iter().position(|slot| slot.salt != self.salt).unwrap_or(0);
            old.slots.remove(idle);
        }
        let retired = old.slots.len();
        old.slots.push(new.clone());
        header::write(&path, &old)?;
        written();

        let stored = header::read(&path)?.ok_or_else(missing)?;
        let slot = stored.slots.last().ok_or_else(missing)?;
        let again = Self::open_slot(&path, &stored, slot, provider)?;
        if !again.is_some_and(|again| again.is_same_as(self)) {
            return Err(SealError::NotVerified { header: path });
        }
        header::write(&path, &Header { root_id: self.id, slots: vec![new] })?;
        written();
        Ok(Resealed { key_file_made, retired })
    }

    /// How many secrets open the header: more than one after a rotation that was cut short.
    ///
    /// # Errors
    /// When the header cannot be read.
    pub fn slots(directory: &Path) -> Result<usize, SealError> {
        let header = header::read(&directory.join(HEADER_FILE))?;
        Ok(header.map_or(0, |header| header.slots.len()))
    }

    fn is_same_as(&self, other: &Self) -> bool {
        let keys = self.key.expose().ct_eq(other.key.expose());
        let secrets = self.service_secret.expose().ct_eq(other.service_secret.expose());
        (keys & secrets).into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{key_file, passphrase};
    use super::super::{Opening, SealError};
    use super::*;
    use base::SeededRng;
    use std::fs;

    fn opens(directory: &Path, provider: &Provider, root: &Root) -> bool {
        match Root::open_or_create(directory, provider, &SeededRng::new(99)) {
            Ok((opened, opening)) => {
                assert_eq!(opening, Opening::Existing);
                assert!(opened.is_same_as(root));
                true
            }
            Err(error) => {
                let expected = matches!(
                    error,
                    SealError::OtherProvider { .. } | SealError::WrongSecret { .. }
                );
                assert!(expected, "{error}");
                false
            }
        }
    }

    /// At every power cut the old or the new secret opens the header; at the end only the new one does.
    fn moves(directory: &Path, root: &Root, old: &Provider, new: &Provider) {
        let mut states = Vec::new();
        let header = directory.join(HEADER_FILE);
        states.push(fs::read(&header).unwrap());
        root.reseal_watched(directory, new, &SeededRng::new(5), &mut || {
            states.push(fs::read(&header).unwrap());
        })
        .unwrap();
        assert_eq!(states.len(), 3);
        for (number, state) in states.iter().enumerate() {
            fs::write(&header, state).unwrap();
            // What a cut during a write leaves is never looked at.
            fs::write(directory.join("seal.json.new"), &state[..state.len() / 2]).unwrap();
            let (with_old, with_new) = (opens(directory, old, root), opens(directory, new, root));
            assert_eq!((with_old, with_new), (number < 2, number > 0), "state {number}");
            // From every state a rotation that is asked for again ends well.
            root.reseal(directory, new, &SeededRng::new(6)).unwrap();
            assert!(opens(directory, new, root) && !opens(directory, old, root));
            assert_eq!(Root::slots(directory).unwrap(), 1);
        }
    }

    #[test]
    fn the_seal_moves_between_files_and_passphrases() {
        let dir = tempfile::tempdir().unwrap();
        let old = key_file(dir.path());
        let (root, _) = Root::open_or_create(dir.path(), &old, &SeededRng::new(1)).unwrap();
        let words = passphrase(dir.path(), "the first words");
        moves(dir.path(), &root, &old, &words);
        let other = words.clone();
        let other_words = {
            let sub = dir.path().join("sub");
            fs::create_dir(&sub).unwrap();
            passphrase(&sub, "the second words")
        };
        moves(dir.path(), &root, &other, &other_words);
        let file = Provider::KeyFile(dir.path().join("another.key"));
        moves(dir.path(), &root, &other_words, &file);
        assert!(dir.path().join("another.key").exists(), "made on the way");
    }

    #[test]
    fn a_header_of_the_first_version_moves_on() {
        let dir = tempfile::tempdir().unwrap();
        let (header, key) = super::super::tests::FIRST_VERSION;
        fs::write(dir.path().join(HEADER_FILE), header).unwrap();
        let old = key_file(dir.path());
        super::super::tests::private(&dir.path().join("root.key"), key);
        let (root, _) = Root::open_or_create(dir.path(), &old, &SeededRng::new(1)).unwrap();
        moves(dir.path(), &root, &old, &passphrase(dir.path(), "several words here"));
    }

    #[test]
    fn rotations_cut_short_again_and_again_keep_the_first_and_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let old = key_file(dir.path());
        let (root, _) = Root::open_or_create(dir.path(), &old, &SeededRng::new(1)).unwrap();
        let header = dir.path().join(HEADER_FILE);
        for round in 0..6 {
            let new = Provider::KeyFile(dir.path().join(format!("{round}.key")));
            let mut cut = None;
            root.reseal_watched(dir.path(), &new, &SeededRng::new(round), &mut || {
                cut.get_or_insert_with(|| fs::read(&header).unwrap());
            })
            .unwrap();
            fs::write(&header, cut.unwrap()).unwrap();
            assert!(opens(dir.path(), &old, &root) && opens(dir.path(), &new, &root));
            assert!(Root::slots(dir.path()).unwrap() <= SLOTS_MAX);
        }
    }

    #[test]
    fn the_seal_of_another_root_is_left_alone() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let create = |dir: &Path, seed| {
            Root::open_or_create(dir, &key_file(dir), &SeededRng::new(seed)).unwrap().0
        };
        let (root, _other) = (create(one.path(), 1), create(two.path(), 2));
        let before = fs::read(two.path().join(HEADER_FILE)).unwrap();
        let error = root.reseal(
            two.path(),
            &passphrase(two.path(), "several words here"),
            &SeededRng::new(3),
        );
        assert!(matches!(error, Err(SealError::OtherRoot { .. })));
        assert_eq!(fs::read(two.path().join(HEADER_FILE)).unwrap(), before);
    }
}
