//! `iam:ListOpenIDConnectProviders`: lists the issuers whose tokens the account trusts.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Arn;
use identity::oidc;

pub(crate) struct ListOpenIdConnectProviders;

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Entry {
    arn: String,
    /// Never: no IAM Identity Center is associated with a provider.
    is_trusted_identity_propagation_enabled: bool,
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(name = "OpenIDConnectProviderList")]
    open_id_connect_provider_list: Vec<Entry>,
}

impl Operation for ListOpenIdConnectProviders {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListOpenIDConnectProviders");
    type Input = Input;
    type Plan = Ask;
    type Output = Output;

    async fn plan(call: &Call, _input: Input) -> Result<Ask, Error> {
        let account = call.account();
        let all = Arn::global("iam", account, "oidc-provider/*");
        Ok(Ask::on("iam:ListOpenIDConnectProviders", &all, account))
    }

    fn asks(plan: &Ask) -> Vec<Ask> {
        vec![plan.clone()]
    }

    async fn act(call: &Call, _plan: Granted<Ask>) -> Result<Output, Error> {
        let account = call.account().clone();
        let found = shared::read(call, move |tx| oidc::list(tx, &account)).await?;
        let entry = |provider: oidc::Provider| Entry {
            arn: provider.arn().to_string(),
            is_trusted_identity_propagation_enabled: false,
        };
        Ok(Output { open_id_connect_provider_list: found.into_iter().map(entry).collect() })
    }
}
