//! Why a token does not answer as asked, in words for the person who runs the server.

use super::TokenName;
use cryptoki::error::{Error as ModuleError, RvError};
use std::path::PathBuf;

/// See the variants. No text holds a PIN.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The module cannot be loaded or initialised.
    #[error("the PKCS#11 module {} cannot be used", path.display())]
    Module {
        /// The shared library.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<ModuleError>,
    },
    /// No token with the label is there now.
    #[error("{token} is not there: plug it in, or check the label and that its service runs")]
    Absent {
        /// The token sought.
        token: TokenName,
    },
    /// More than one has the label.
    #[error("{token} is not one token but {count}: give each a label of its own")]
    Ambiguous {
        /// The token sought.
        token: TokenName,
        /// How many have the label.
        count: usize,
    },
    /// The PIN is refused.
    #[error("{token} refuses the PIN: it is another one, and few tries may be left")]
    PinWrong {
        /// The token.
        token: TokenName,
    },
    /// The PIN may not be tried any more.
    #[error("the PIN of {token} is locked: its security officer has to set it again")]
    PinLocked {
        /// The token.
        token: TokenName,
    },
    /// The PIN is no text.
    #[error("the PIN for {token} is no UTF-8 text")]
    PinMalformed {
        /// The token.
        token: TokenName,
    },
    /// There is no key with the label.
    #[error("{token} holds no key '{key}': it is another token, or the key was destroyed")]
    KeyMissing {
        /// The token.
        token: TokenName,
        /// The label.
        key: String,
    },
    /// There is a key with the label already.
    #[error("{token} holds a key '{key}' already")]
    KeyExists {
        /// The token.
        token: TokenName,
        /// The label.
        key: String,
    },
    /// The token does not take the caller's nonce.
    #[error(
        "{token} chooses AES-GCM nonces itself, which is not supported: use one that takes them"
    )]
    OwnNonce {
        /// The token.
        token: TokenName,
    },
    /// The token went away under way.
    #[error("{token} went away while asked to {action} it")]
    Gone {
        /// The token.
        token: TokenName,
        /// What was asked.
        action: &'static str,
        /// The token's words.
        #[source]
        source: Box<ModuleError>,
    },
    /// Anything else a token may answer.
    #[error("cannot {action} {token}")]
    Failed {
        /// The token.
        token: TokenName,
        /// What was asked.
        action: &'static str,
        /// The token's words.
        #[source]
        source: Box<ModuleError>,
    },
}

impl TokenError {
    pub(super) fn of(token: &TokenName, action: &'static str, error: ModuleError) -> Self {
        let token = token.clone();
        match error {
            ModuleError::Pkcs11(
                RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                _,
            ) => Self::PinWrong { token },
            ModuleError::Pkcs11(RvError::PinLocked, _) => Self::PinLocked { token },
            ModuleError::Pkcs11(RvError::TokenNotPresent | RvError::TokenNotRecognized, _) => {
                Self::Absent { token }
            }
            ModuleError::Pkcs11(
                RvError::DeviceRemoved
                | RvError::DeviceError
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::UserNotLoggedIn,
                _,
            ) => Self::Gone { token, action, source: Box::new(error) },
            error => Self::Failed { token, action, source: Box::new(error) },
        }
    }
}
