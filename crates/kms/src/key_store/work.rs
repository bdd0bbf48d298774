//! What an operation asks of a token, and how the answer gets back into it.
//!
//! A transaction must not wait for a device. So an operation that meets material on a token ends its transaction
//! with [`Error::OnToken`], which carries the work; whoever runs the transaction does the work elsewhere and runs
//! the transaction again, with the answer at hand ([`Kms::knowing`]). Keys, states and grants are looked at anew then.

use super::{ConnectionState, KeyStore, of_key};
use crate::blob::{self, BlobKind};
use crate::context::EncryptionContext;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::material::MaterialId;
use crate::service::Kms;
use crate::token::{Token, TokenError};
use base::{Rng, Secret};
use meta::Tx;
use std::fmt;
use std::sync::Arc;

/// The label of a version's material on its token: nothing else can be meant by it, so a row that is changed to name
/// another version's material names nothing that opens.
pub fn label(id: MaterialId) -> String {
    format!("strongroom-{id}")
}

/// Work for a token.
#[derive(Debug)]
pub struct TokenWork {
    pub(super) store: KeyStore,
    pub(super) label: String,
    pub(super) task: Task,
}

impl TokenWork {
    /// The store whose token it is for.
    pub fn store_id(&self) -> &str {
        &self.store.id
    }
}

/// One request to a token.
pub(crate) enum Task {
    /// Make a ciphertext.
    Seal {
        kind: BlobKind,
        material_id: MaterialId,
        context: EncryptionContext,
        plaintext: Secret<Vec<u8>>,
    },
    /// Make a data key and encrypt it.
    DataKey { material_id: MaterialId, context: EncryptionContext, bytes: usize },
    /// Open a ciphertext.
    Open { blob: Vec<u8>, context: EncryptionContext },
}

/// Shows what is asked, not with what.
impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Seal { .. } => "Seal",
            Self::DataKey { .. } => "DataKey",
            Self::Open { .. } => "Open",
        })
    }
}

/// What a token answered.
#[derive(Debug)]
pub(super) enum Answer {
    Sealed(Vec<u8>),
    DataKey(Secret<Vec<u8>>, Vec<u8>),
    /// `None` when it does not open.
    Opened(Option<Secret<Vec<u8>>>),
}

/// Work that is done, with its answer.
#[derive(Debug)]
pub struct Performed {
    pub(super) label: String,
    pub(super) task: Task,
    pub(super) answer: Answer,
}

impl Task {
    pub(super) fn run(
        &self,
        token: &Token,
        label: &str,
        rng: &dyn Rng,
    ) -> Result<Answer, TokenError> {
        let seal = |kind, id, context: &EncryptionContext, text: &[u8]| {
            blob::seal_on_token(kind, id, context, text, rng, |nonce, aad, framed| {
                token.seal(label, nonce, aad, framed)
            })
        };
        Ok(match self {
            Self::Seal { kind, material_id, context, plaintext } => {
                Answer::Sealed(seal(*kind, *material_id, context, plaintext.expose())?)
            }
            Self::DataKey { material_id, context, bytes } => {
                let mut plaintext = Secret::new(vec![0; *bytes]);
                rng.fill(plaintext.expose_mut());
                let sealed = seal(BlobKind::DataKey, *material_id, context, plaintext.expose())?;
                Answer::DataKey(plaintext, sealed)
            }
            Self::Open { blob, context } => {
                let opened = blob::open_on_token(blob, context, |nonce, aad, sealed| {
                    token.open_sealed(label, nonce, aad, sealed)
                })?;
                Answer::Opened(opened)
            }
        })
    }

    /// Whether the answer to one is the answer to the other.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Seal { kind, material_id, context, plaintext },
                Self::Seal { kind: k, material_id: m, context: c, plaintext: p },
            ) => (kind, material_id, context) == (k, m, c) && plaintext.expose() == p.expose(),
            (
                Self::DataKey { material_id, context, bytes },
                Self::DataKey { material_id: m, context: c, bytes: b },
            ) => (material_id, context, bytes) == (m, c, b),
            (Self::Open { blob, context }, Self::Open { blob: b, context: c }) => {
                (blob, context) == (b, c)
            }
            _ => false,
        }
    }
}

impl Kms {
    /// The same service, for one more run of an operation that asked a token: it knows these answers.
    #[must_use]
    pub fn knowing(&self, performed: Vec<Arc<Performed>>) -> Self {
        self.with_answers(performed)
    }

    /// Ends the transaction with work for the token that holds a key's material, unless the answer is known.
    pub(crate) fn seal_on_token(
        &self,
        tx: &mut Tx<'_>,
        kind: BlobKind,
        key: &Key,
        context: &EncryptionContext,
        plaintext: &[u8],
    ) -> Result<Vec<u8>> {
        let task = Task::Seal {
            kind,
            material_id: key.material_id,
            context: context.clone(),
            plaintext: Secret::new(plaintext.to_vec()),
        };
        self.ask(tx, key, key.material_id, task, |answer| match answer {
            Answer::Sealed(blob) => Some(blob.clone()),
            _ => None,
        })
    }

    pub(crate) fn data_key_on_token(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        context: &EncryptionContext,
        bytes: usize,
    ) -> Result<(Secret<Vec<u8>>, Vec<u8>)> {
        let task = Task::DataKey { material_id: key.material_id, context: context.clone(), bytes };
        self.ask(tx, key, key.material_id, task, |answer| match answer {
            Answer::DataKey(plaintext, blob) => Some((plaintext.duplicate(), blob.clone())),
            _ => None,
        })
    }

    pub(crate) fn open_on_token(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        material_id: MaterialId,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Secret<Vec<u8>>> {
        let task = Task::Open { blob: blob.to_vec(), context: context.clone() };
        let opened = self.ask(tx, key, material_id, task, |answer| match answer {
            Answer::Opened(opened) => Some(opened.as_ref().map(Secret::duplicate)),
            _ => None,
        })?;
        opened.ok_or(Error::InvalidCiphertext)
    }

    fn ask<T>(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        material_id: MaterialId,
        task: Task,
        take: impl Fn(&Answer) -> Option<T>,
    ) -> Result<T> {
        let arn = || key.arn().to_string();
        let store = of_key(tx, key)?.ok_or_else(|| Error::MaterialDamaged { arn: arn() })?;
        if store.state != ConnectionState::Connected {
            return Err(Error::InvalidState { arn: arn(), state: "is unavailable" });
        }
        let label = label(material_id);
        let known = self.answers().iter().find(|done| done.label == label && done.task.is(&task));
        match known.and_then(|done| take(&done.answer)) {
            Some(answer) => Ok(answer),
            None => Err(Error::OnToken(Box::new(TokenWork { store, label, task }))),
        }
    }
}
