//! `iam:CreateOpenIDConnectProvider`: makes an issuer known whose tokens the account trusts.

use super::shared::{self, Issuer, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::oidc::{self, Settings};
use identity::tag::Tags;

pub(crate) struct CreateOpenIdConnectProvider;

#[derive(Shape)]
#[shape(input, unsupported(ContextProvider, IdentityCenterInstanceArn))]
pub(crate) struct Input {
    url: String,
    #[shape(name = "ClientIDList")]
    client_id_list: Vec<String>,
    thumbprint_list: Vec<String>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
    tags: Option<Vec<Tag>>,
}

pub(crate) struct Plan {
    issuer: Issuer,
    settings: Settings,
    tags: Tags,
}

impl Operation for CreateOpenIdConnectProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateOpenIDConnectProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let settings =
            Settings { client_ids: input.client_id_list, thumbprints: input.thumbprint_list };
        let issuer = Issuer::new(call, oidc::issuer_of_url(&input.url)?);
        Ok(Plan { issuer, settings, tags: shared::tags_in(input.tags)? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let tags = shared::request_tags(&plan.tags);
        let create = plan.issuer.ask("iam:CreateOpenIDConnectProvider");
        let mut asks = vec![shared::also(create, &tags)];
        if !plan.tags.is_empty() {
            asks.push(shared::also(plan.issuer.ask("iam:TagOpenIDConnectProvider"), &tags));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { issuer: Issuer { account, issuer, .. }, settings, tags } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let made = identity.create_oidc_provider(tx, &account, &issuer, &settings, &tags)?;
            let tags = Some(shared::tags_out(tags.clone())).filter(|tags| !tags.is_empty());
            Ok(Output { open_id_connect_provider_arn: made.arn().to_string(), tags })
        })
        .await
    }
}
