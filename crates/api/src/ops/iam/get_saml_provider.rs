//! `iam:GetSAMLProvider`: shows a SAML provider and its metadata document; of its private keys, that they are there.

use super::shared::{self, SamlProvider, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use identity::saml::{self, EncryptionMode, private_key};
use identity::tag;

pub(crate) struct GetSamlProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
}

#[derive(Shape)]
#[shape(
    output,
    omitted(ContextProvider, IdentityCenterInstanceArn, IdentityStoreArn, SAMLKeyHashes)
)]
pub(crate) struct Output {
    #[shape(name = "SAMLProviderUUID")]
    saml_provider_uuid: String,
    #[shape(name = "SAMLMetadataDocument")]
    saml_metadata_document: String,
    create_date: Timestamp,
    valid_until: Timestamp,
    tags: Vec<Tag>,
    assertion_encryption_mode: Option<&'static str>,
    private_key_list: Option<Vec<SamlPrivateKey>>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct SamlPrivateKey {
    key_id: String,
    timestamp: Timestamp,
}

impl Operation for GetSamlProvider {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetSAMLProvider");
    type Input = Input;
    type Plan = SamlProvider;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<SamlProvider, Error> {
        SamlProvider::named(call, &input.saml_provider_arn).await
    }

    fn asks(plan: &SamlProvider) -> Vec<Ask> {
        vec![plan.ask("iam:GetSAMLProvider")]
    }

    async fn act(call: &Call, plan: Granted<SamlProvider>) -> Result<Output, Error> {
        let provider = plan.into_inner();
        shared::read(call, move |tx| {
            let provider = provider.find(tx)?;
            let tags = tag::of(tx, &provider.account, &saml::tag_id(&provider))?;
            let keys = private_key::list(tx, &provider)?.into_iter();
            let keys: Vec<_> = keys
                .map(|key| SamlPrivateKey { key_id: key.id, timestamp: key.added_at })
                .collect();
            Ok(Output {
                saml_metadata_document: saml::document(tx, &provider)?,
                saml_provider_uuid: provider.unique_id,
                create_date: provider.created_at,
                valid_until: provider.valid_until,
                tags: shared::tags_out(tags),
                assertion_encryption_mode: provider.encryption.map(EncryptionMode::as_str),
                private_key_list: Some(keys).filter(|keys| !keys.is_empty()),
            })
        })
        .await
    }
}
