//! `iam:ListSAMLProviders`: lists the identity providers whose SAML responses the account trusts.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{Arn, Timestamp};
use identity::saml;

pub(crate) struct ListSamlProviders;

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Entry {
    arn: String,
    valid_until: Timestamp,
    create_date: Timestamp,
    /// Never: no IAM Identity Center is associated with a provider.
    is_trusted_identity_propagation_enabled: bool,
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(name = "SAMLProviderList")]
    saml_provider_list: Vec<Entry>,
}

impl Operation for ListSamlProviders {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListSAMLProviders");
    type Input = Input;
    type Plan = Ask;
    type Output = Output;

    async fn plan(call: &Call, _input: Input) -> Result<Ask, Error> {
        let account = call.account();
        let all = Arn::global("iam", account, "saml-provider/*");
        Ok(Ask::on("iam:ListSAMLProviders", &all, account))
    }

    fn asks(plan: &Ask) -> Vec<Ask> {
        vec![plan.clone()]
    }

    async fn act(call: &Call, _plan: Granted<Ask>) -> Result<Output, Error> {
        let account = call.account().clone();
        let found = shared::read(call, move |tx| saml::list(tx, &account)).await?;
        let entry = |provider: saml::Provider| Entry {
            arn: provider.arn().to_string(),
            valid_until: provider.valid_until,
            create_date: provider.created_at,
            is_trusted_identity_propagation_enabled: false,
        };
        Ok(Output { saml_provider_list: found.into_iter().map(entry).collect() })
    }
}
