//! `iam:GetOpenIDConnectProvider`: shows an issuer whose tokens the account trusts.

use super::shared::{self, Issuer, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use identity::{oidc, tag};

pub(crate) struct GetOpenIdConnectProvider;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
}

#[derive(Shape)]
#[shape(output, omitted(ContextProvider, IdentityCenterInstanceArn, IdentityStoreArn))]
pub(crate) struct Output {
    url: String,
    #[shape(name = "ClientIDList")]
    client_id_list: Vec<String>,
    thumbprint_list: Vec<String>,
    create_date: Timestamp,
    tags: Vec<Tag>,
}

impl Operation for GetOpenIdConnectProvider {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetOpenIDConnectProvider");
    type Input = Input;
    type Plan = Issuer;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Issuer, Error> {
        Issuer::named(call, &input.open_id_connect_provider_arn).await
    }

    fn asks(plan: &Issuer) -> Vec<Ask> {
        vec![plan.ask("iam:GetOpenIDConnectProvider")]
    }

    async fn act(call: &Call, plan: Granted<Issuer>) -> Result<Output, Error> {
        let issuer = plan.into_inner();
        shared::read(call, move |tx| {
            let provider = issuer.find(tx)?;
            let tags = tag::of(tx, &provider.account, &oidc::tag_id(&provider))?;
            Ok(Output {
                url: provider.issuer,
                client_id_list: provider.settings.client_ids,
                thumbprint_list: provider.settings.thumbprints,
                create_date: provider.created_at,
                tags: shared::tags_out(tags),
            })
        })
        .await
    }
}
