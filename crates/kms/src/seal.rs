//! The root of trust: one key, sealed in `seal.json` by a key file, a passphrase, a token or a KMS elsewhere.
//!
//! ```text
//! provider secret ──HKDF──> sealing key ──AES-256-GCM──> { root key, service secret }
//!                                                          │          └─HKDF─> service keys, by label
//!                                                          └─AES-256-GCM─> domain keys (rows)
//! ```
//!
//! Invariants: root key and service secret are random and made once; nothing in the header is trusted before
//! the seal over it opens; an existing header is never overwritten here; a key file is created only while
//! there is no header, because a new key can open nothing that exists. Losing the provider's secret is
//! losing every volume, so each error says what to do.

pub(crate) mod file;
pub(crate) mod header;
pub(crate) mod provider;
mod rotation;
pub use rotation::Resealed;

pub use file::make_key;
pub use provider::{Argon2Cost, Provider, RemoteKms, TokenKey};

use crate::locked::Locked;
use crate::primitive::{self, KEY_LEN, OpenError};
use crate::token::TokenError;
use base::{Rng, Secret};
use file::PASSPHRASE_CHARS_MIN;
use header::{Header, Slot};
use std::path::{Path, PathBuf};

/// Name of the header inside the data directory.
pub const HEADER_FILE: &str = "seal.json";

/// Why the root of trust cannot be opened, in words for the person who runs the server.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is a header but not the key file that opens it.
    #[error(
        "the key file {} does not exist, but {} was sealed with one. Put the original key file back; \
         a new one cannot open existing data", path.display(), header.display()
    )]
    KeyFileMissing {
        /// The file configured.
        path: PathBuf,
        /// The header found.
        header: PathBuf,
    },
    /// The key file is neither 32 raw bytes nor 64 hexadecimal digits.
    #[error("the key file {} must hold 32 raw bytes or 64 hexadecimal digits", path.display())]
    KeyFileMalformed {
        /// The file configured.
        path: PathBuf,
    },
    /// Other users of the machine may read the secret.
    #[error("{} is accessible to every user of this machine: run `chmod 600` on it", path.display())]
    TooOpen {
        /// The file configured.
        path: PathBuf,
    },
    /// The passphrase file has no passphrase in it.
    #[error("the passphrase file {} is empty", path.display())]
    PassphraseEmpty {
        /// The file configured.
        path: PathBuf,
    },
    /// The passphrase could be guessed. Only where something is sealed with it for the first time.
    #[error(
        "the passphrase in {} is too short to seal with: it needs {PASSPHRASE_CHARS_MIN} characters, \
         as several words have",
        path.display()
    )]
    PassphraseShort {
        /// The file configured.
        path: PathBuf,
    },
    /// The PIN file has no PIN in it.
    #[error("the PIN file {} is empty", path.display())]
    PinEmpty {
        /// The file configured.
        path: PathBuf,
    },
    /// The header was sealed by another kind of provider.
    #[error(
        "{} was sealed with a {sealed}, but the server was started with a {configured}: start it with \
         the {sealed} it was created with", header.display()
    )]
    OtherProvider {
        /// The header found.
        header: PathBuf,
        /// What the header names.
        sealed: String,
        /// What was configured.
        configured: &'static str,
    },
    /// The check value does not match: another key or passphrase.
    #[error(
        "{secret} does not open {}: it is another {kind} than the one this data directory was sealed with",
        header.display()
    )]
    WrongSecret {
        /// What was configured.
        secret: String,
        /// The header found.
        header: PathBuf,
        /// `key` or `passphrase`.
        kind: &'static str,
    },
    /// The header cannot be read, or its seal does not open under the right secret.
    #[error("{} is damaged ({problem}): restore it from a backup", header.display())]
    HeaderDamaged {
        /// The header found.
        header: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The header was written by a later release.
    #[error("{} has version {version}, which this release does not know: upgrade", header.display())]
    HeaderVersion {
        /// The header found.
        header: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The token does not answer as it should.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The KMS that seals the root does not answer as it should.
    #[error("the KMS key {key} does not unseal: {problem}")]
    RemoteKms {
        /// The key.
        key: String,
        /// The client's words.
        problem: String,
    },
    /// A provider gave a secret of the wrong length: it is not one that was made here.
    #[error("the sealing secret has {bytes} bytes, which no release made")]
    SecretLength {
        /// How many it has.
        bytes: usize,
    },
    /// The header names another root of trust than the one that is open.
    #[error("{} is the seal of another root of trust", header.display())]
    OtherRoot {
        /// The header found.
        header: PathBuf,
    },
    /// There is a header where a root of trust is to be restored.
    #[error("{} is there already: restore into a new data directory", header.display())]
    Sealed {
        /// The header found.
        header: PathBuf,
    },
    /// What was just written does not open again; what opened before still does.
    #[error("{} does not open with what it was just sealed with; it still opens as before", header.display())]
    NotVerified {
        /// The header.
        header: PathBuf,
    },
    /// No memory for the root key could be had from the kernel.
    #[error("cannot get protected memory for the root key")]
    Memory(#[source] std::io::Error),
    /// The passphrase could not be stretched.
    #[error("cannot stretch the passphrase: {problem}")]
    Stretch {
        /// The library's words.
        problem: String,
    },
}

/// What [`Root::open_or_create`] had to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The data directory was sealed before.
    Existing,
    /// A new header was sealed with a secret that was there.
    Created,
    /// A new header was sealed with a key file made for it. Tell the operator to keep a copy elsewhere.
    CreatedWithKeyFile(PathBuf),
}

/// The unsealed root of trust. Its secrets stay out of core dumps and are wiped on drop.
#[derive(Debug)]
pub struct Root {
    id: [u8; 16],
    /// Of the slot that it was opened with or made for.
    salt: [u8; 32],
    key: Locked<KEY_LEN>,
    service_secret: Locked<KEY_LEN>,
}

impl Root {
    /// Whether `directory` has been sealed before.
    pub fn exists(directory: &Path) -> bool {
        directory.join(HEADER_FILE).exists()
    }

    /// Opens the header in `directory`, or seals a new root of trust when there is none.
    ///
    /// The caller holds the data directory's lock and makes sure that a directory with data in it but without
    /// a header is not taken for a new one.
    ///
    /// # Errors
    /// See [`SealError`]; nothing is changed on disk then, except that a new key file may remain.
    pub fn open_or_create(
        directory: &Path,
        provider: &Provider,
        rng: &dyn Rng,
    ) -> Result<(Self, Opening), SealError> {
        let path = directory.join(HEADER_FILE);
        match header::read(&path)? {
            Some(header) => Ok((Self::open(&path, &header, provider)?, Opening::Existing)),
            None => Self::create(&path, provider, rng),
        }
    }

    fn open(path: &Path, header: &Header, provider: &Provider) -> Result<Self, SealError> {
        let mut refused = None;
        for slot in &header.slots {
            match Self::open_slot(path, header, slot, provider) {
                Ok(Some(root)) => return Ok(root),
                Ok(None) => {}
                Err(error) => refused = Some(error),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        let mut kinds: Vec<_> = header.slots.iter().map(|slot| slot.parameters.noun()).collect();
        kinds.dedup();
        Err(SealError::OtherProvider {
            header: path.to_owned(),
            sealed: kinds.join(" or "),
            configured: provider.noun(),
        })
    }

    /// `None` when the slot is of another kind than the provider.
    fn open_slot(
        path: &Path,
        header: &Header,
        slot: &Slot,
        provider: &Provider,
    ) -> Result<Option<Self>, SealError> {
        let Some(keys) = provider.derive_existing(path, &header.root_id, slot)? else {
            return Ok(None);
        };
        if !keys.matches(&slot.check) {
            return Err(SealError::WrongSecret {
                secret: provider.describe(),
                header: path.to_owned(),
                kind: provider.noun(),
            });
        }
        let aad = slot.additional_data(&header.root_id);
        let secrets = primitive::open(keys.sealing.expose(), slot.nonce, &aad, &slot.sealed);
        let secrets = secrets.map_err(|OpenError| SealError::HeaderDamaged {
            header: path.to_owned(),
            problem: "its seal does not open",
        })?;
        let root = Self::from_secrets(header.root_id, slot.salt, secrets.expose());
        root.map(Some).map_err(SealError::Memory)
    }

    fn create(
        path: &Path,
        provider: &Provider,
        rng: &dyn Rng,
    ) -> Result<(Self, Opening), SealError> {
        let mut root_id = [0; 16];
        rng.fill(&mut root_id);
        let made = match provider {
            Provider::KeyFile(file) => make_key(file, rng)?.then(|| file.clone()),
            _ => None,
        };
        let mut secrets = Secret::new(vec![0; 2 * KEY_LEN]);
        rng.fill(secrets.expose_mut());
        let mut root =
            Self::from_secrets(root_id, [0; 32], secrets.expose()).map_err(SealError::Memory)?;
        let slots = vec![root.seal_slot(provider, rng)?];
        root.salt = slots[0].salt;
        header::write(path, &Header { root_id, slots })?;
        Ok((root, made.map_or(Opening::Created, Opening::CreatedWithKeyFile)))
    }

    /// A root of trust that was read from a backup.
    pub(crate) fn recovered(id: [u8; 16], secrets: &[u8]) -> std::io::Result<Self> {
        Self::from_secrets(id, [0; 32], secrets)
    }

    /// Root key and service secret, for a backup.
    pub(crate) fn secrets(&self) -> Secret<Vec<u8>> {
        let mut secrets = Secret::new(Vec::with_capacity(2 * KEY_LEN + primitive::TAG_LEN));
        secrets.expose_mut().extend_from_slice(self.key.expose());
        secrets.expose_mut().extend_from_slice(self.service_secret.expose());
        secrets
    }

    /// Seals this root in a directory that has no seal.
    pub(crate) fn seal_new(
        &self,
        directory: &Path,
        provider: &Provider,
        rng: &dyn Rng,
    ) -> Result<(), SealError> {
        let path = directory.join(HEADER_FILE);
        if path.exists() {
            return Err(SealError::Sealed { header: path });
        }
        if let Provider::KeyFile(file) = provider {
            make_key(file, rng)?;
        }
        let slots = vec![self.seal_slot(provider, rng)?];
        header::write(&path, &Header { root_id: self.id, slots })
    }

    /// Seals the root for one more provider.
    fn seal_slot(&self, provider: &Provider, rng: &dyn Rng) -> Result<Slot, SealError> {
        let mut salt = [0; 32];
        rng.fill(&mut salt);
        let (parameters, keys) = provider.derive_new(&self.id, &salt, rng)?;
        let mut slot = Slot::new(parameters, salt, keys.check);
        slot.nonce = primitive::random_nonce(rng);
        let mut secrets = self.secrets();
        let aad = slot.additional_data(&self.id);
        primitive::seal(keys.sealing.expose(), slot.nonce, &aad, secrets.expose_mut());
        slot.sealed.clone_from(secrets.expose());
        Ok(slot)
    }

    fn from_secrets(id: [u8; 16], salt: [u8; 32], secrets: &[u8]) -> std::io::Result<Self> {
        let (key, service_secret) = secrets.split_at(KEY_LEN);
        let fixed = |half: &[u8]| -> std::io::Result<Locked<KEY_LEN>> {
            Locked::new(half.try_into().map_err(|_| std::io::ErrorKind::InvalidData)?)
        };
        Ok(Self { id, salt, key: fixed(key)?, service_secret: fixed(service_secret)? })
    }

    /// Names this root of trust in everything sealed under it, so that rows of another installation are
    /// recognised instead of called damaged.
    pub fn id(&self) -> &[u8; 16] {
        &self.id
    }

    /// A key for one purpose of a service (secrets at rest, tokens, structure keys), the same at every start.
    /// Labels are ASCII, carry a version and are never reused for another purpose.
    pub fn service_key(&self, label: &str) -> Secret<[u8; 32]> {
        let mut key = Secret::new([0; 32]);
        let info = label.as_bytes();
        primitive::hkdf_sha256(b"service1", self.service_secret.expose(), info, key.expose_mut());
        key
    }

    /// Seals a domain key.
    pub(crate) fn wrap(&self, aad: &[u8], key: &primitive::Key, rng: &dyn Rng) -> Vec<u8> {
        let nonce = primitive::random_nonce(rng);
        let mut sealed = Vec::with_capacity(KEY_LEN + primitive::TAG_LEN);
        sealed.extend_from_slice(key.expose());
        primitive::seal(self.key.expose(), nonce, aad, &mut sealed);
        [&nonce[..], &sealed].concat()
    }

    /// Opens a domain key straight into protected memory.
    pub(crate) fn unwrap(&self, aad: &[u8], wrapped: &[u8]) -> Result<Locked<KEY_LEN>, OpenError> {
        let (nonce, sealed) = wrapped.split_at_checked(primitive::NONCE_LEN).ok_or(OpenError)?;
        let nonce = nonce.try_into().map_err(|_| OpenError)?;
        let key = primitive::open_key(self.key.expose(), nonce, aad, sealed)?;
        Locked::new(key.expose()).map_err(|_| OpenError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::softhsm;
    use base::SeededRng;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    /// Far below what [`Argon2Cost::RFC_9106`] asks, so that tests are quick.
    const CHEAP: Argon2Cost = Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };

    /// Headers, and the text of the key file that opens both; made by an independent implementation, frozen.
    pub(super) const FIRST_VERSION: (&str, &str) =
        (include_str!("../vectors/seal-v1.json"), SEAL_KEY);
    const SECOND_VERSION: &str = include_str!("../vectors/seal-v2.json");
    const SEAL_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";
    /// What is sealed in them.
    const ROOT_KEY: [u8; 32] = [0x11; 32];
    const SERVICE_SECRET: [u8; 32] = [0x22; 32];

    pub(super) fn key_file(directory: &Path) -> Provider {
        Provider::KeyFile(directory.join("root.key"))
    }

    pub(super) fn private(file: &Path, text: &str) {
        fs::write(file, text).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(super) fn passphrase(directory: &Path, text: &str) -> Provider {
        let file = directory.join("passphrase");
        private(&file, text);
        Provider::Passphrase { file, cost: CHEAP }
    }

    #[test]
    fn frozen_headers_open() {
        for header in [FIRST_VERSION.0, SECOND_VERSION] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(HEADER_FILE), header).unwrap();
            private(&dir.path().join("root.key"), SEAL_KEY);
            let opened =
                Root::open_or_create(dir.path(), &key_file(dir.path()), &SeededRng::new(1));
            let (root, opening) = opened.unwrap();
            assert_eq!(opening, Opening::Existing);
            assert_eq!(root.key.expose(), &ROOT_KEY);
            assert_eq!(root.service_secret.expose(), &SERVICE_SECRET);
        }
    }

    #[test]
    fn a_token_seals_and_opens() {
        let Some(hsm) = softhsm::with("seal::tests::a_token_seals_and_opens") else { return };
        let dir = tempfile::tempdir().unwrap();
        let pin_file = dir.path().join("pin");
        private(&pin_file, "1234\n");
        // SoftHSM sees the tokens that were there when it was loaded.
        let tokens = ["one", "two", "three"].map(|label| hsm.token(label));
        let [good, two, other] = tokens.map(|token| {
            let (key, pin_file) = ("root".to_owned(), pin_file.clone());
            Provider::Token(TokenKey { token, key, pin_file })
        });
        let (root, opening) = Root::open_or_create(dir.path(), &good, &SeededRng::new(1)).unwrap();
        assert_eq!(opening, Opening::Created);
        let (again, _) = Root::open_or_create(dir.path(), &good, &SeededRng::new(2)).unwrap();
        assert_eq!(again.key.expose(), root.key.expose());

        let error = fails(dir.path(), &two);
        assert!(error.to_string().contains("holds no key 'root'"), "{error}");
        let error = fails(dir.path(), &key_file(dir.path()));
        assert!(matches!(error, SealError::OtherProvider { .. }), "{error}");

        // From the token to a file, and to a key of another token.
        root.reseal(dir.path(), &key_file(dir.path()), &SeededRng::new(3)).unwrap();
        Root::open_or_create(dir.path(), &key_file(dir.path()), &SeededRng::new(4)).unwrap();
        root.reseal(dir.path(), &other, &SeededRng::new(5)).unwrap();
        Root::open_or_create(dir.path(), &other, &SeededRng::new(6)).unwrap();
    }

    #[test]
    fn a_wrong_pin_and_a_token_that_is_away_are_told_apart() {
        let name = "seal::tests::a_wrong_pin_and_a_token_that_is_away_are_told_apart";
        let Some(hsm) = softhsm::with(name) else { return };
        let dir = tempfile::tempdir().unwrap();
        let pin_file = dir.path().join("pin");
        private(&pin_file, "1234");
        let mut at = TokenKey { token: hsm.token("one"), key: "root".to_owned(), pin_file };
        let provider = Provider::Token(at.clone());
        Root::open_or_create(dir.path(), &provider, &SeededRng::new(1)).unwrap();
        private(&at.pin_file, "4321");
        let error = fails(dir.path(), &provider);
        assert!(matches!(error, SealError::Token(TokenError::PinWrong { .. })), "{error}");
        private(&at.pin_file, "\n");
        let error = fails(dir.path(), &provider);
        assert!(matches!(error, SealError::PinEmpty { .. }), "{error}");
        private(&at.pin_file, "1234");
        at.token.label = "away".to_owned();
        let error = fails(dir.path(), &Provider::Token(at));
        assert!(matches!(error, SealError::Token(TokenError::Absent { .. })), "{error}");
    }

    /// A KMS that keeps one key in its head.
    #[derive(Debug)]
    struct Elsewhere {
        away: bool,
    }

    impl RemoteKms for Elsewhere {
        fn encrypt(
            &self,
            key: &str,
            context: &[(String, String)],
            plaintext: &Secret<Vec<u8>>,
        ) -> Result<Vec<u8>, String> {
            let mut text = Vec::with_capacity(plaintext.expose().len() + primitive::TAG_LEN);
            text.extend_from_slice(plaintext.expose());
            let aad = format!("{key}{context:?}");
            primitive::seal(&[7; 32], [0; 12], aad.as_bytes(), &mut text);
            Ok(text)
        }

        fn decrypt(
            &self,
            key: &str,
            context: &[(String, String)],
            ciphertext: &[u8],
        ) -> Result<Secret<Vec<u8>>, String> {
            if self.away {
                return Err("nobody answers".to_owned());
            }
            let aad = format!("{key}{context:?}");
            primitive::open(&[7; 32], [0; 12], aad.as_bytes(), ciphertext)
                .map_err(|error| error.to_string())
        }
    }

    #[test]
    fn another_kms_seals_and_opens() {
        let dir = tempfile::tempdir().unwrap();
        let provider = |away| Provider::RemoteKms {
            key: "arn:aws:kms:us-east-1:111122223333:key/k".to_owned(),
            kms: std::sync::Arc::new(Elsewhere { away }),
        };
        let (root, _) =
            Root::open_or_create(dir.path(), &provider(false), &SeededRng::new(1)).unwrap();
        let (again, _) =
            Root::open_or_create(dir.path(), &provider(false), &SeededRng::new(2)).unwrap();
        assert_eq!(again.key.expose(), root.key.expose());
        let error = fails(dir.path(), &provider(true));
        assert!(error.to_string().contains("nobody answers"), "{error}");
        // The header of another root is not opened with this one's wrapped secret.
        let path = dir.path().join(HEADER_FILE);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&hex::encode(root.id()), &"00".repeat(16))).unwrap();
        let error = fails(dir.path(), &provider(false));
        assert!(matches!(error, SealError::RemoteKms { .. }), "{error}");
    }

    fn fails(directory: &Path, provider: &Provider) -> SealError {
        Root::open_or_create(directory, provider, &SeededRng::new(9)).unwrap_err()
    }

    #[test]
    fn a_key_file_is_made_once_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let provider = key_file(dir.path());
        let (root, opening) =
            Root::open_or_create(dir.path(), &provider, &SeededRng::new(1)).unwrap();
        assert_eq!(opening, Opening::CreatedWithKeyFile(dir.path().join("root.key")));
        let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("root.key"), mode(HEADER_FILE)), (0o600, 0o600));

        let (again, opening) =
            Root::open_or_create(dir.path(), &provider, &SeededRng::new(2)).unwrap();
        assert_eq!(opening, Opening::Existing);
        assert_eq!(again.id(), root.id());
        assert_eq!(again.service_key("a1").expose(), root.service_key("a1").expose());
        assert_ne!(again.service_key("a1").expose(), root.service_key("b1").expose());
    }

    #[test]
    fn raw_and_hexadecimal_key_files_are_the_same_key() {
        let dir = tempfile::tempdir().unwrap();
        let provider = key_file(dir.path());
        let (root, _) = Root::open_or_create(dir.path(), &provider, &SeededRng::new(1)).unwrap();
        let text = fs::read_to_string(dir.path().join("root.key")).unwrap();
        fs::write(dir.path().join("root.key"), hex::decode(text.trim()).unwrap()).unwrap();
        let (raw, _) = Root::open_or_create(dir.path(), &provider, &SeededRng::new(2)).unwrap();
        assert_eq!(raw.service_key("x").expose(), root.service_key("x").expose());
    }

    #[test]
    fn a_passphrase_opens_again_with_or_without_a_final_newline() {
        let dir = tempfile::tempdir().unwrap();
        let (root, opening) = Root::open_or_create(
            dir.path(),
            &passphrase(dir.path(), "correct horse battery"),
            &SeededRng::new(1),
        )
        .unwrap();
        assert_eq!(opening, Opening::Created);
        let again = passphrase(dir.path(), "correct horse battery\n");
        let (again, _) = Root::open_or_create(dir.path(), &again, &SeededRng::new(2)).unwrap();
        assert_eq!(again.service_key("x").expose(), root.service_key("x").expose());
        let header = fs::read_to_string(dir.path().join(HEADER_FILE)).unwrap();
        assert!(header.contains("\"argon2id\""), "{header}");
    }

    #[test]
    fn wrong_secrets_are_told_apart_from_damage() {
        let dir = tempfile::tempdir().unwrap();
        let provider = key_file(dir.path());
        Root::open_or_create(dir.path(), &provider, &SeededRng::new(1)).unwrap();

        let other = passphrase(dir.path(), "x");
        let error = fails(dir.path(), &other);
        assert!(matches!(error, SealError::OtherProvider { .. }), "{error}");

        fs::write(dir.path().join("root.key"), [7; 32]).unwrap();
        let error = fails(dir.path(), &provider);
        assert!(matches!(error, SealError::WrongSecret { .. }), "{error}");

        fs::write(dir.path().join("root.key"), [7; 31]).unwrap();
        let error = fails(dir.path(), &provider);
        assert!(matches!(error, SealError::KeyFileMalformed { .. }), "{error}");

        fs::remove_file(dir.path().join("root.key")).unwrap();
        let error = fails(dir.path(), &provider);
        assert!(matches!(error, SealError::KeyFileMissing { .. }), "{error}");
        assert!(!dir.path().join("root.key").exists(), "no new key may be made for old data");
    }

    #[test]
    fn a_readable_key_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root.key");
        fs::write(&path, [7; 32]).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = fails(dir.path(), &key_file(dir.path()));
        assert!(matches!(error, SealError::TooOpen { .. }), "{error}");
    }

    #[test]
    fn a_short_passphrase_seals_nothing() {
        let dir = tempfile::tempdir().unwrap();
        // Fourteen characters in more bytes.
        let error = fails(dir.path(), &passphrase(dir.path(), "kürze ist böse\n"));
        assert!(matches!(error, SealError::PassphraseShort { .. }), "{error}");
        assert!(!dir.path().join(HEADER_FILE).exists());
    }

    #[test]
    fn an_empty_passphrase_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = fails(dir.path(), &passphrase(dir.path(), "\n"));
        assert!(matches!(error, SealError::PassphraseEmpty { .. }), "{error}");
    }

    #[test]
    fn a_damaged_header_is_named_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let provider = key_file(dir.path());
        Root::open_or_create(dir.path(), &provider, &SeededRng::new(1)).unwrap();
        let path = dir.path().join(HEADER_FILE);
        let good = fs::read_to_string(&path).unwrap();
        let fields: serde_json::Value = serde_json::from_str(&good).unwrap();

        let sealed = fields["slots"][0]["sealed"].as_str().unwrap();
        let flipped =
            format!("{}{}", if sealed.starts_with('0') { '1' } else { '0' }, &sealed[1..]);
        let root_id = fields["root_id"].as_str().unwrap();
        for bad in [
            String::new(),
            "{}".to_owned(),
            good.replace(sealed, &flipped),
            good.replace(sealed, &sealed[2..]),
            good.replace(root_id, &"ab".repeat(16)),
        ] {
            fs::write(&path, &bad).unwrap();
            let error = fails(dir.path(), &provider);
            assert!(matches!(error, SealError::HeaderDamaged { .. }), "{error}: {bad}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
        fs::write(&path, good.replace("\"version\": 2", "\"version\": 3")).unwrap();
        let error = fails(dir.path(), &provider);
        assert!(matches!(error, SealError::HeaderVersion { version: 3, .. }), "{error}");
    }

    #[test]
    fn domain_keys_are_bound_to_their_additional_data() {
        let dir = tempfile::tempdir().unwrap();
        let rng = SeededRng::new(1);
        let (root, _) = Root::open_or_create(dir.path(), &key_file(dir.path()), &rng).unwrap();
        let key = crate::material::generate(&rng);
        let wrapped = root.wrap(b"a", &key, &rng);
        assert_eq!(root.unwrap(b"a", &wrapped).unwrap().expose(), key.expose());
        assert!(root.unwrap(b"b", &wrapped).is_err());
        assert!(root.unwrap(b"a", &wrapped[..11]).is_err());
    }
}
