//! Keys on a PKCS#11 token: a hardware security module, a smart card, or SoftHSM.
//!
//! A [`Token`] is one token of one module, logged in as its user. Keys are AES-256, made on the token, neither
//! extractable nor readable, and found by their label; here they only encrypt and decrypt (AES-GCM). Every
//! call may wait for a device and must not be made where others wait: not inside a transaction, not on a
//! thread of the runtime.
//!
//! A module is initialised once per process and never finalised: it may be shared with what else the process
//! loaded, and tokens come and go without it.

mod error;
#[cfg(test)]
pub(crate) mod softhsm;

pub use error::TokenError;

use crate::primitive::{NONCE_LEN, TAG_LEN};
use base::Secret;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as ModuleError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Which token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenName {
    /// The module: a shared library that speaks PKCS#11.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token '{}' of {}", self.label, self.module.display())
    }
}

/// Sessions kept open for later calls.
const IDLE_SESSIONS_MAX: usize = 8;
/// Bytes of a key made here.
const KEY_BYTES: u64 = 32;

/// A token, logged in. Dropping it closes its sessions.
pub struct Token {
    name: TokenName,
    context: Pkcs11,
    slot: Slot,
    /// Keeps the login: a token logs out with its last session.
    _login: Mutex<Session>,
    idle: Mutex<Vec<Session>>,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Token").field(&self.name).finish()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Token {
    /// Finds the token and logs in as its user.
    ///
    /// # Errors
    /// The module does not load, there is no such token or more than one, or the PIN is refused.
    pub fn open(name: &TokenName, pin: &Secret<Vec<u8>>) -> Result<Self, TokenError> {
        let context = module(&name.module)?;
        let slot = find(&context, name)?;
        let fail = |error| TokenError::of(name, "log in to", error);
        let login = context.open_rw_session(slot).map_err(fail)?;
        let pin = std::str::from_utf8(pin.expose())
            .map_err(|_| TokenError::PinMalformed { token: name.clone() })?;
        match login.login(UserType::User, Some(&AuthPin::from(pin))) {
            // Another part of this process is logged in; a PIN is checked only by a login, so it is asked for
            // again once that part is logged out and in.
            Ok(()) | Err(ModuleError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(fail(error)),
        }
        let idle = Mutex::default();
        Ok(Self { name: name.clone(), context, slot, _login: Mutex::new(login), idle })
    }

    /// Which token it is.
    pub fn name(&self) -> &TokenName {
        &self.name
    }

    /// Whether there is a key with this label.
    ///
    /// # Errors
    /// As the token answers.
    pub fn has_key(&self, label: &str) -> Result<bool, TokenError> {
        self.with("look on", |session| Ok(!keys(session, label)?.is_empty()))
    }

    /// Makes a key on the token: AES-256, for encryption here only, never readable.
    ///
    /// # Errors
    /// [`TokenError::KeyExists`] when the label is taken; otherwise as the token answers.
    pub fn make_key(&self, label: &str) -> Result<(), TokenError> {
        if self.has_key(label)? {
            return Err(TokenError::KeyExists { token: self.name.clone(), key: label.to_owned() });
        }
        let template = [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::ValueLen(KEY_BYTES.into()),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
            Attribute::Wrap(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ];
        self.with("make a key on", |session| {
            session.generate_key(&Mechanism::AesKeyGen, &template).map(drop)
        })
    }

    /// Destroys a key. One that is not there is destroyed already.
    ///
    /// # Errors
    /// As the token answers.
    pub fn destroy_key(&self, label: &str) -> Result<(), TokenError> {
        self.with("destroy a key of", |session| {
            keys(session, label)?.into_iter().try_for_each(|key| session.destroy_object(key))
        })
    }

    /// Seals under a key of the token: ciphertext, then tag. The nonce must be fresh and random.
    ///
    /// # Errors
    /// [`TokenError::KeyMissing`]; otherwise as the token answers.
    pub fn seal(
        &self,
        key: &str,
        nonce: [u8; NONCE_LEN],
        aad: &[u8],
        text: &[u8],
    ) -> Result<Vec<u8>, TokenError> {
        let mut iv = nonce;
        let sealed = self.with_key("encrypt on", key, |session, key| {
            session.encrypt(&gcm(&mut iv, aad)?, key, text)
        })?;
        // A token that puts a nonce of its own in place of ours would make texts that never open again.
        if iv != nonce || sealed.len() != text.len() + TAG_LEN {
            return Err(TokenError::OwnNonce { token: self.name.clone() });
        }
        Ok(sealed)
    }

    /// Opens what [`Token::seal`] made; `None` when it does not open under this key.
    ///
    /// # Errors
    /// [`TokenError::KeyMissing`]; otherwise as the token answers.
    pub fn open_sealed(
        &self,
        key: &str,
        mut nonce: [u8; NONCE_LEN],
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Option<Secret<Vec<u8>>>, TokenError> {
        if sealed.len() <= TAG_LEN {
            return Ok(None);
        }
        self.with_key("decrypt on", key, |session, key| {
            match session.decrypt(&gcm(&mut nonce, aad)?, key, sealed) {
                Ok(text) => Ok(Some(Secret::new(text))),
                // What tokens answer to a wrong tag; SoftHSM says GENERAL_ERROR.
                Err(ModuleError::Pkcs11(
                    RvError::EncryptedDataInvalid
                    | RvError::EncryptedDataLenRange
                    | RvError::SignatureInvalid
                    | RvError::GeneralError,
                    _,
                )) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// Random bytes made by the token.
    ///
    /// # Errors
    /// As the token answers.
    pub fn random(&self, target: &mut [u8]) -> Result<(), TokenError> {
        self.with("ask for random bytes", |session| session.generate_random_slice(target))
    }

    /// What is kept on the token under a label: one text, or also the one before it when the token was lost
    /// while a new one was kept.
    ///
    /// # Errors
    /// As the token answers.
    pub fn notes(&self, label: &str) -> Result<Vec<Vec<u8>>, TokenError> {
        self.with("read from", |session| {
            let mut notes = Vec::new();
            for object in session.find_objects(&note_named(label))? {
                let read = session.get_attributes(object, &[AttributeType::Value])?;
                notes.extend(read.into_iter().filter_map(|attribute| match attribute {
                    Attribute::Value(value) => Some(value),
                    _ => None,
                }));
            }
            Ok(notes)
        })
    }

    /// Keeps bytes on the token under a label, in place of those before. They are written before the others go, so
    /// that at no moment there are none.
    ///
    /// # Errors
    /// As the token answers; what was kept before is still there then.
    pub fn set_note(&self, label: &str, bytes: &[u8]) -> Result<(), TokenError> {
        self.with("write to", |session| {
            let before = session.find_objects(&note_named(label))?;
            let mut template = note_named(label).to_vec();
            template.extend([Attribute::Private(true), Attribute::Value(bytes.to_vec())]);
            session.create_object(&template)?;
            before.into_iter().try_for_each(|object| session.destroy_object(object))
        })
    }

    fn with_key<T>(
        &self,
        action: &'static str,
        label: &str,
        work: impl FnOnce(&Session, ObjectHandle) -> Result<T, ModuleError>,
    ) -> Result<T, TokenError> {
        let done = self.with(action, |session| match keys(session, label)?.first() {
            Some(key) => work(session, *key).map(Some),
            None => Ok(None),
        })?;
        done.ok_or_else(|| TokenError::KeyMissing {
            token: self.name.clone(),
            key: label.to_owned(),
        })
    }

    /// Lends a session; one that met an error is not used again.
    fn with<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Session) -> Result<T, ModuleError>,
    ) -> Result<T, TokenError> {
        let fail = |error| TokenError::of(&self.name, action, error);
        let idle = locked(&self.idle).pop();
        let session = match idle {
            Some(session) => session,
            None => self.context.open_rw_session(self.slot).map_err(fail)?,
        };
        let done = work(&session).map_err(fail)?;
        let mut idle = locked(&self.idle);
        if idle.len() < IDLE_SESSIONS_MAX {
            idle.push(session);
        }
        Ok(done)
    }
}

fn gcm<'a>(iv: &'a mut [u8], aad: &'a [u8]) -> Result<Mechanism<'a>, ModuleError> {
    let bits = u64::try_from(TAG_LEN * 8).expect("a tag is short");
    Ok(Mechanism::AesGcm(GcmParams::new(iv, aad, bits.into())?))
}

fn keys(session: &Session, label: &str) -> Result<Vec<ObjectHandle>, ModuleError> {
    session.find_objects(&[
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ])
}

fn note_named(label: &str) -> [Attribute; 3] {
    [
        Attribute::Class(ObjectClass::DATA),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ]
}

/// The modules of this process, initialised.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

fn module(path: &Path) -> Result<Pkcs11, TokenError> {
    let mut modules = locked(&MODULES);
    if let Some(context) = modules.get(path) {
        return Ok(context.clone());
    }
    let fail = |source| TokenError::Module { path: path.to_owned(), source: Box::new(source) };
    let context = Pkcs11::new(path).map_err(fail)?;
    match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(ModuleError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(fail(error)),
    }
    modules.insert(path.to_owned(), context.clone());
    Ok(context)
}

fn find(context: &Pkcs11, name: &TokenName) -> Result<Slot, TokenError> {
    let fail = |error| TokenError::of(name, "look for", error);
    let mut found = Vec::new();
    for slot in context.get_slots_with_token().map_err(fail)? {
        match context.get_token_info(slot) {
            Ok(info) if info.label() == name.label => found.push(slot),
            Ok(_) => {}
            // A token that is pulled out while its slot is looked at is none.
            Err(ModuleError::Pkcs11(
                RvError::TokenNotPresent | RvError::TokenNotRecognized | RvError::DeviceRemoved,
                _,
            )) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    match found[..] {
        [slot] => Ok(slot),
        [] => Err(TokenError::Absent { token: name.clone() }),
        _ => Err(TokenError::Ambiguous { token: name.clone(), count: found.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::softhsm::{self, PIN};
    use super::*;

    #[test]
    fn a_token_makes_keys_and_uses_them() {
        let Some(hsm) = softhsm::with("token::tests::a_token_makes_keys_and_uses_them") else {
            return;
        };
        let name = hsm.token("one");
        hsm.token("two");
        let token = Token::open(&name, &softhsm::pin(PIN)).unwrap();
        assert!(!token.has_key("k").unwrap());
        let missing = token.seal("k", [1; 12], b"aad", b"text").unwrap_err();
        assert!(matches!(missing, TokenError::KeyMissing { .. }), "{missing}");
        token.make_key("k").unwrap();
        assert!(matches!(token.make_key("k").unwrap_err(), TokenError::KeyExists { .. }));

        // Whoever has the PIN cannot take the key along either.
        let kinds = [AttributeType::Extractable, AttributeType::Sensitive, AttributeType::Value];
        let look = |session: &Session| {
            let [key] = keys(session, "k")?[..] else { panic!("one key") };
            session.get_attributes(key, &kinds)
        };
        let shown = token.with("look on", look).unwrap();
        assert!(shown.contains(&Attribute::Extractable(false)), "{shown:?}");
        assert!(shown.contains(&Attribute::Sensitive(true)), "{shown:?}");
        assert!(!shown.iter().any(|attribute| matches!(attribute, Attribute::Value(_))));

        let sealed = token.seal("k", [1; 12], b"aad", b"text").unwrap();
        let opened = token.open_sealed("k", [1; 12], b"aad", &sealed).unwrap();
        assert_eq!(opened.unwrap().expose(), b"text");
        assert!(token.open_sealed("k", [1; 12], b"other", &sealed).unwrap().is_none());
        assert!(token.open_sealed("k", [2; 12], b"aad", &sealed).unwrap().is_none());

        let (mut one, mut two) = ([0; 32], [0; 32]);
        token.random(&mut one).unwrap();
        token.random(&mut two).unwrap();
        assert_ne!(one, two);

        assert!(token.notes("n").unwrap().is_empty());
        token.set_note("n", b"1").unwrap();
        token.set_note("n", b"22").unwrap();
        assert_eq!(token.notes("n").unwrap(), [b"22"]);

        token.destroy_key("k").unwrap();
        assert!(!token.has_key("k").unwrap());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let Some(hsm) = softhsm::with("token::tests::what_is_wrong_is_said") else { return };
        let name = hsm.token("one");
        let wrong = Token::open(&name, &softhsm::pin("9999")).unwrap_err();
        assert!(matches!(wrong, TokenError::PinWrong { .. }), "{wrong}");
        let absent = TokenName { label: "none".to_owned(), ..name.clone() };
        let absent = Token::open(&absent, &softhsm::pin(PIN)).unwrap_err();
        assert!(matches!(absent, TokenError::Absent { .. }), "{absent}");
        let module = TokenName { module: PathBuf::from("/none.so"), ..name.clone() };
        let module = Token::open(&module, &softhsm::pin(PIN)).unwrap_err();
        assert!(matches!(module, TokenError::Module { .. }), "{module}");
    }
}
