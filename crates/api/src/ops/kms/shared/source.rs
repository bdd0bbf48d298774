//! The ciphertext of a request that opens one, and the key that is asked for it.

use super::{Requester, needed, usable};
use crate::Error;
use awsproto::{Blob, string_enum};
use kms::cipher::{self, Located};
use kms::{Action, Key, resolve, spec};
use meta::Tx;

string_enum! {
    /// `DryRunModifierType`.
    pub(crate) enum DryRunModifier {
        /// Only the permissions, the state of the key and the algorithm are asked about.
        IgnoreCiphertext = "IGNORE_CIPHERTEXT",
    }
}

/// The ciphertext of a request, if it is looked at.
pub(crate) struct Ciphertext(Option<Blob>);

impl Ciphertext {
    /// What a request says of its ciphertext, which only a dry run may ignore, and then it has to name the
    /// key (KMS API, Decrypt and ReEncrypt, DryRunModifiers).
    pub(crate) fn of(
        blob: Option<Blob>,
        dry_run: Option<bool>,
        modifiers: &[DryRunModifier],
        (member, key_id): (&'static str, Option<&str>),
    ) -> Result<Self, Error> {
        if modifiers.is_empty() {
            return Ok(Self(Some(needed("CiphertextBlob", blob)?)));
        }
        if dry_run != Some(true) {
            let message = "DryRunModifiers can be used only when DryRun is true".to_owned();
            return Err(kms::Error::Validation { message }.into());
        }
        needed(member, key_id)?;
        Ok(Self(None))
    }
}

/// A ciphertext that is to be opened, and the key that is asked for it: the one the request names, or else the one
/// the ciphertext names. What is wrong with it is told only after permission.
#[derive(Clone)]
pub(crate) struct Source {
    key: Key,
    found: Found,
}

#[derive(Clone)]
enum Found {
    Located(Box<Located>),
    OtherKey,
    Invalid,
    /// A dry run asks about the key alone.
    Ignored,
}

impl Source {
    pub(crate) fn find(
        tx: &mut Tx<'_>,
        action: Action,
        from: &Requester,
        key_id: Option<&str>,
        Ciphertext(ciphertext): &Ciphertext,
    ) -> kms::Result<(Self, resolve::Resolved)> {
        let located = match ciphertext {
            None => None,
            Some(bytes) => match cipher::locate(tx, &from.region, bytes) {
                Err(kms::Error::InvalidCiphertext) => None,
                other => Some(other?),
            },
        };
        let Some(key_id) = key_id else {
            let located = located.ok_or(kms::Error::InvalidCiphertext)?;
            let resolved = resolve::Resolved { key: located.key.clone(), request_alias: None };
            return Ok((
                Self { key: located.key.clone(), found: Found::Located(Box::new(located)) },
                resolved,
            ));
        };
        let resolved = resolve::resolve(tx, action, &from.caller, &from.region, key_id)?;
        let found = match (ciphertext, located) {
            (None, _) => Found::Ignored,
            // What RSA made does not say by which key.
            (Some(bytes), _) if !resolved.key.kind.is_symmetric() => {
                Found::Located(Box::new(Located::under(&resolved.key, bytes)))
            }
            (Some(_), None) => Found::Invalid,
            (Some(_), Some(located)) if located.key.arn() != resolved.key.arn() => Found::OtherKey,
            (Some(_), Some(located)) => Found::Located(Box::new(located)),
        };
        Ok((Self { key: resolved.key.clone(), found }, resolved))
    }

    /// The ciphertext, once the key's state and the algorithm allow to open it; none where a dry run
    /// ignores it.
    pub(crate) fn rehearse(
        &self,
        tx: &mut Tx<'_>,
        action: Action,
        algorithm: spec::EncryptionAlgorithm,
    ) -> kms::Result<Option<&Located>> {
        self.check_state(tx, action)?;
        cipher::check_algorithm(self.key.kind, algorithm)?;
        match &self.found {
            Found::Located(located) => Ok(Some(located)),
            Found::OtherKey => Err(kms::Error::IncorrectKey),
            Found::Invalid => Err(kms::Error::InvalidCiphertext),
            Found::Ignored => Ok(None),
        }
    }

    /// The ciphertext, once the key's state and the algorithm allow to open it.
    pub(crate) fn ready(
        &self,
        tx: &mut Tx<'_>,
        action: Action,
        algorithm: spec::EncryptionAlgorithm,
    ) -> kms::Result<&Located> {
        self.rehearse(tx, action, algorithm)?.ok_or(kms::Error::InvalidCiphertext)
    }

    pub(crate) fn check_state(&self, tx: &mut Tx<'_>, action: Action) -> kms::Result<()> {
        usable(tx, action, &self.key).map(drop)
    }
}
