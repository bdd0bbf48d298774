//! `iam:DeleteOpenIDConnectProvider`: forgets an issuer; its tokens are worth nothing from then on.

use super::shared::{self, Issuer};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::oidc;

pub(crate) struct DeleteOpenIdConnectProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
}

impl Operation for DeleteOpenIdConnectProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteOpenIDConnectProvider");
    type Input = Input;
    type Plan = Issuer;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Issuer, Error> {
        Issuer::named(call, &input.open_id_connect_provider_arn).await
    }

    fn asks(plan: &Issuer) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteOpenIDConnectProvider")]
    }

    async fn act(call: &Call, plan: Granted<Issuer>) -> Result<(), Error> {
        let issuer = plan.into_inner();
        shared::write(call, move |tx, _| {
            // Deleting what is not there succeeds (IAM API, DeleteOpenIDConnectProvider).
            match issuer.find(tx) {
                Ok(provider) => oidc::delete(tx, &provider),
                Err(identity::Error::NoSuchEntity { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }
}
