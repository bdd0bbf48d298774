//! `iam:UpdateSAMLProvider`: replaces the metadata document of a SAML provider, and with it the keys
//! that are trusted; adds and removes keys that open encrypted assertions.

use super::shared::{self, AssertionEncryptionMode, SamlProvider};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Secret;
use identity::saml::Encryption;

pub(crate) struct UpdateSamlProvider;

#[derive(Shape)]
#[shape(
    input,
    unsupported(
        ContextProvider,
        IdentityCenterInstanceArn,
        RemoveContextProvider,
        RemoveIdentityCenterInstance
    )
)]
pub(crate) struct Input {
    #[shape(name = "SAMLMetadataDocument")]
    saml_metadata_document: Option<String>,
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
    assertion_encryption_mode: Option<AssertionEncryptionMode>,
    #[shape(sensitive)]
    add_private_key: Option<Secret<String>>,
    remove_private_key: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
}

pub(crate) struct Plan {
    provider: SamlProvider,
    document: Option<String>,
    encryption: Encryption,
}

impl Operation for UpdateSamlProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateSAMLProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let provider = SamlProvider::named(call, &input.saml_provider_arn).await?;
        let document = input.saml_metadata_document;
        let encryption = Encryption {
            mode: input.assertion_encryption_mode.map(AssertionEncryptionMode::known),
            add: input.add_private_key,
            remove: input.remove_private_key,
        };
        if document.is_none() && encryption.is_empty() {
            let message = "There is nothing to update: neither SAMLMetadataDocument nor \
                           AssertionEncryptionMode, AddPrivateKey or RemovePrivateKey is given.";
            return Err(identity::Error::InvalidInput { message: message.to_owned() }.into());
        }
        Ok(Plan { provider, document, encryption })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.provider.ask("iam:UpdateSAMLProvider")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { provider, document, encryption } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let mut provider = provider.find(tx)?;
            let document = document.as_deref();
            identity.update_saml_provider(tx, &mut provider, document, &encryption)?;
            Ok(Output { saml_provider_arn: provider.arn().to_string() })
        })
        .await
    }
}
