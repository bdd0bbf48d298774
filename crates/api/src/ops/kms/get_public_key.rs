//! `kms:GetPublicKey`: the public half of a key pair, with what it may be used for.

use super::shared::opened::{self, Use};
use super::shared::{Target, words};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape};
use kms::Action;
use kms::condition::Facts;

pub(crate) struct GetPublicKey;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    #[shape(sensitive)]
    grant_tokens: Vec<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    public_key: Blob,
    customer_master_key_spec: &'static str,
    key_spec: &'static str,
    key_usage: &'static str,
    encryption_algorithms: Option<Vec<&'static str>>,
    signing_algorithms: Option<Vec<&'static str>>,
    key_agreement_algorithms: Option<Vec<&'static str>>,
    encapsulation_algorithms: Option<Vec<&'static str>>,
}

impl Operation for GetPublicKey {
    const SPEC: Spec = Spec::reads(Service::Kms, "GetPublicKey");
    type Input = Input;
    type Plan = Target;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Target, Error> {
        let wanted = Use {
            action: Action::GetPublicKey,
            key_id: &input.key_id,
            grant_tokens: &input.grant_tokens,
            facts: Facts::None,
        };
        opened::find(call, wanted).await
    }

    fn asks(plan: &Target) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Target>) -> Result<Output, Error> {
        let key = plan.into_inner().key;
        let (key_id, kind) = (key.arn().to_string(), key.kind);
        let public =
            opened::work(call, Action::GetPublicKey, key, |_| Ok(()), |key| key.public_key())
                .await?;
        let spec = kind.spec().as_str();
        Ok(Output {
            key_id,
            public_key: Blob::from(public),
            customer_master_key_spec: spec,
            key_spec: spec,
            key_usage: kind.usage().as_str(),
            encryption_algorithms: words(kind.encryption_algorithms(), |a| a.as_str()),
            signing_algorithms: words(kind.signing_algorithms(), |a| a.as_str()),
            key_agreement_algorithms: words(kind.key_agreement_algorithms(), |a| a.as_str()),
            encapsulation_algorithms: words(kind.encapsulation_algorithms(), |a| a.as_str()),
        })
    }
}
