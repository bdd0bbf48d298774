//! `iam:UntagSAMLProvider`: removes tags of a SAML provider.

use super::shared::{self, SamlProvider};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{saml, tag};

pub(crate) struct UntagSamlProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
    #[shape(required)]
    tag_keys: Vec<String>,
}

pub(crate) struct Plan {
    provider: SamlProvider,
    keys: Vec<String>,
}

impl Operation for UntagSamlProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UntagSAMLProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let provider = SamlProvider::named(call, &input.saml_provider_arn).await?;
        Ok(Plan { provider, keys: input.tag_keys })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let ask = plan.provider.ask("iam:UntagSAMLProvider");
        vec![shared::also(ask, &shared::removed_tags(&plan.keys))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { provider, keys } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let provider = provider.find(tx)?;
            tag::remove(tx, &provider.account, &saml::tag_id(&provider), &keys)
        })
        .await
    }
}
