//! `iam:UntagOpenIDConnectProvider`: removes tags of an issuer.

use super::shared::{self, Issuer};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{oidc, tag};

pub(crate) struct UntagOpenIdConnectProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
    #[shape(required)]
    tag_keys: Vec<String>,
}

pub(crate) struct Plan {
    issuer: Issuer,
    keys: Vec<String>,
}

impl Operation for UntagOpenIdConnectProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UntagOpenIDConnectProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let issuer = Issuer::named(call, &input.open_id_connect_provider_arn).await?;
        Ok(Plan { issuer, keys: input.tag_keys })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let ask = plan.issuer.ask("iam:UntagOpenIDConnectProvider");
        vec![shared::also(ask, &shared::removed_tags(&plan.keys))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { issuer, keys } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let provider = issuer.find(tx)?;
            tag::remove(tx, &provider.account, &oidc::tag_id(&provider), &keys)
        })
        .await
    }
}
