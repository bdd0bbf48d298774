//! `iam:CreateSAMLProvider`: makes an identity provider known whose SAML responses the account trusts.

use super::shared::{self, AssertionEncryptionMode, SamlProvider, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Secret;
use identity::saml::Encryption;
use identity::tag::Tags;

pub(crate) struct CreateSamlProvider;

#[derive(Shape)]
#[shape(input, unsupported(ContextProvider, IdentityCenterInstanceArn))]
pub(crate) struct Input {
    #[shape(name = "SAMLMetadataDocument")]
    saml_metadata_document: String,
    name: String,
    assertion_encryption_mode: Option<AssertionEncryptionMode>,
    #[shape(sensitive)]
    add_private_key: Option<Secret<String>>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
    tags: Option<Vec<Tag>>,
}

pub(crate) struct Plan {
    provider: SamlProvider,
    document: String,
    encryption: Encryption,
    tags: Tags,
}

impl Operation for CreateSamlProvider {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateSAMLProvider");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let (document, tags) = (input.saml_metadata_document, shared::tags_in(input.tags)?);
        let mode = input.assertion_encryption_mode.map(AssertionEncryptionMode::known);
        let encryption = Encryption { mode, add: input.add_private_key, remove: None };
        Ok(Plan { provider: SamlProvider::new(call, input.name), document, encryption, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let tags = shared::request_tags(&plan.tags);
        let create = plan.provider.ask("iam:CreateSAMLProvider");
        let mut asks = vec![shared::also(create, &tags)];
        if !plan.tags.is_empty() {
            asks.push(shared::also(plan.provider.ask("iam:TagSAMLProvider"), &tags));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { provider, document, encryption, tags } = plan.into_inner();
        let SamlProvider { account, name, .. } = provider;
        shared::write(call, move |tx, identity| {
            let made = identity.create_saml_provider(
                tx,
                &account,
                &name,
                &document,
                &encryption,
                &tags,
            )?;
            let tags = Some(shared::tags_out(tags.clone())).filter(|tags| !tags.is_empty());
            Ok(Output { saml_provider_arn: made.arn().to_string(), tags })
        })
        .await
    }
}
