//! `iam:DeleteSAMLProvider`: forgets a SAML provider; its responses are worth nothing from then on.

use super::shared::{self, SamlProvider};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::saml;

pub(crate) struct DeleteSamlProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
}

impl Operation for DeleteSamlProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteSAMLProvider");
    type Input = Input;
    type Plan = SamlProvider;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<SamlProvider, Error> {
        SamlProvider::named(call, &input.saml_provider_arn).await
    }

    fn asks(plan: &SamlProvider) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteSAMLProvider")]
    }

    async fn act(call: &Call, plan: Granted<SamlProvider>) -> Result<(), Error> {
        let provider = plan.into_inner();
        shared::write(call, move |tx, _| {
            let provider = provider.find(tx)?;
            saml::delete(tx, &provider)
        })
        .await
    }
}
