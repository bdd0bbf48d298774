//! `iam:TagSAMLProvider`: adds tags to a SAML provider or replaces their values.

use super::shared::{self, SamlProvider, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::saml;
use identity::tag::{self, Tags};

pub(crate) struct TagSamlProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
    #[shape(required)]
    tags: Vec<Tag>,
}

pub(crate) struct Plan {
    provider: SamlProvider,
    tags: Tags,
}

impl Operation for TagSamlProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "TagSAMLProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let tags = shared::tags_in(input.tags)?;
        Ok(Plan { provider: SamlProvider::named(call, &input.saml_provider_arn).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let ask = plan.provider.ask("iam:TagSAMLProvider");
        vec![shared::also(ask, &shared::request_tags(&plan.tags))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { provider, tags } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let provider = provider.find(tx)?;
            tag::put(tx, &provider.account, &saml::tag_id(&provider), &tags)
        })
        .await
    }
}
