//! SAML providers as requests name them.

use super::{read_if_there, resource_tags};
use crate::pipeline::Ask;
use crate::{Call, Error};
use awsproto::string_enum;
use base::{AccountId, Arn};
use identity::saml::{self, EncryptionMode, Provider};
use identity::tag::{self, Tags};
use meta::Tx;

string_enum! {
    /// `AssertionEncryptionMode`.
    pub(crate) enum AssertionEncryptionMode {
        /// Every assertion has to be encrypted.
        Required = "Required",
        /// Assertions may be encrypted.
        Allowed = "Allowed",
    }
}

impl AssertionEncryptionMode {
    pub(crate) fn known(self) -> EncryptionMode {
        match self {
            Self::Required => EncryptionMode::Required,
            Self::Allowed => EncryptionMode::Allowed,
        }
    }
}

/// A provider that a request names.
#[derive(Clone, Debug)]
pub(crate) struct SamlProvider {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    arn: Arn,
    tags: Tags,
}

impl SamlProvider {
    /// One that is to be made.
    pub(crate) fn new(call: &Call, name: String) -> Self {
        let account = call.account().clone();
        Self { arn: saml::arn(&account, &name), account, name, tags: Tags::new() }
    }

    /// One that may be there. Those of other accounts are nobody's to see.
    pub(crate) async fn named(call: &Call, arn: &str) -> Result<Self, Error> {
        let (account, name) = saml::named(arn)?;
        let mut named = Self::new(call, name);
        if named.account != account {
            let message = format!("{arn} is not a provider of this account.");
            return Err(Error::new(awsproto::code::ACCESS_DENIED, message));
        }
        let wanted = named.clone();
        let found = read_if_there(call, move |tx| {
            let provider = wanted.find(tx)?;
            tag::of(tx, &provider.account, &saml::tag_id(&provider))
        });
        named.tags = found.await?.unwrap_or_default();
        Ok(named)
    }

    /// Finds it, or says that it does not exist.
    pub(crate) fn find(&self, tx: &mut Tx<'_>) -> identity::Result<Provider> {
        saml::find(tx, &self.account, &self.name)
    }

    /// The permission to do something with it.
    pub(crate) fn ask(&self, action: &str) -> Ask {
        Ask::on(action, &self.arn, &self.account).with(resource_tags(&self.tags))
    }
}
