//! `iam:AddClientIDToOpenIDConnectProvider`: accepts tokens of an issuer for one more audience.

use super::shared::{self, Issuer};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::oidc;

pub(crate) struct AddClientIdToOpenIdConnectProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
    #[shape(name = "ClientID")]
    client_id: String,
}

pub(crate) struct Plan {
    issuer: Issuer,
    client_id: String,
}

impl Operation for AddClientIdToOpenIdConnectProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "AddClientIDToOpenIDConnectProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let issuer = Issuer::named(call, &input.open_id_connect_provider_arn).await?;
        Ok(Plan { issuer, client_id: input.client_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.issuer.ask("iam:AddClientIDToOpenIDConnectProvider")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { issuer, client_id } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let provider = issuer.find(tx)?;
            let mut settings = provider.settings.clone();
            settings.client_ids.push(client_id.clone());
            oidc::set(tx, &provider, &settings)
        })
        .await
    }
}
