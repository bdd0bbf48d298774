//! `iam:TagOpenIDConnectProvider`: adds tags to an issuer or replaces their values.

use super::shared::{self, Issuer, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::oidc;
use identity::tag::{self, Tags};

pub(crate) struct TagOpenIdConnectProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
    #[shape(required)]
    tags: Vec<Tag>,
}

pub(crate) struct Plan {
    issuer: Issuer,
    tags: Tags,
}

impl Operation for TagOpenIdConnectProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "TagOpenIDConnectProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let tags = shared::tags_in(input.tags)?;
        Ok(Plan { issuer: Issuer::named(call, &input.open_id_connect_provider_arn).await?, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let ask = plan.issuer.ask("iam:TagOpenIDConnectProvider");
        vec![shared::also(ask, &shared::request_tags(&plan.tags))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { issuer, tags } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let provider = issuer.find(tx)?;
            tag::put(tx, &provider.account, &oidc::tag_id(&provider), &tags)
        })
        .await
    }
}
