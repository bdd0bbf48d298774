//! `iam:UpdateSAMLProvider`: replaces the metadata document of a SAML provider, and with it the keys
//! that are trusted.

use super::shared::{self, SamlProvider};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;

pub(crate) struct UpdateSamlProvider;

#[derive(Shape)]
#[shape(
    input,
    unsupported(
        AssertionEncryptionMode,
        AddPrivateKey,
        RemovePrivateKey,
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
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
}

pub(crate) struct Plan {
    provider: SamlProvider,
    document: String,
}

impl Operation for UpdateSamlProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateSAMLProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let provider = SamlProvider::named(call, &input.saml_provider_arn).await?;
        let Some(document) = input.saml_metadata_document else {
            let message =
                "There is nothing to update: no SAMLMetadataDocument is given.".to_owned();
            return Err(identity::Error::InvalidInput { message }.into());
        };
        Ok(Plan { provider, document })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.provider.ask("iam:UpdateSAMLProvider")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { provider, document } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let provider = provider.find(tx)?;
            identity.update_saml_provider(tx, &provider, &document)?;
            Ok(Output { saml_provider_arn: provider.arn().to_string() })
        })
        .await
    }
}
