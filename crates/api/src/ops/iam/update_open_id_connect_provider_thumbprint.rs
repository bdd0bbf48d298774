//! `iam:UpdateOpenIDConnectProviderThumbprint`: replaces the certificates that an issuer's has to rest on.

use super::shared::{self, Issuer};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::oidc::{self, Settings};

pub(crate) struct UpdateOpenIdConnectProviderThumbprint;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
    #[shape(required)]
    thumbprint_list: Vec<String>,
}

pub(crate) struct Plan {
    issuer: Issuer,
    thumbprints: Vec<String>,
}

impl Operation for UpdateOpenIdConnectProviderThumbprint {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateOpenIDConnectProviderThumbprint");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let issuer = Issuer::named(call, &input.open_id_connect_provider_arn).await?;
        Ok(Plan { issuer, thumbprints: input.thumbprint_list })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.issuer.ask("iam:UpdateOpenIDConnectProviderThumbprint")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { issuer, thumbprints } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let provider = issuer.find(tx)?;
            let client_ids = provider.settings.client_ids.clone();
            oidc::set(tx, &provider, &Settings { client_ids, thumbprints: thumbprints.clone() })
        })
        .await
    }
}
