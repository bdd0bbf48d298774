//! `kms:DeleteCustomKeyStore`: forgets a store without keys. What is on the token stays there.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::key_store;

pub(crate) struct DeleteCustomKeyStore;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    custom_key_store_id: String,
}

impl Operation for DeleteCustomKeyStore {
    const SPEC: Spec = Spec::mutates(Service::Kms, "DeleteCustomKeyStore");
    type Input = Input;
    type Plan = String;
    type Output = shared::Empty;

    async fn plan(_call: &Call, input: Input) -> Result<String, Error> {
        Ok(input.custom_key_store_id)
    }

    fn asks(_plan: &String) -> Vec<Ask> {
        vec![Ask::any("kms:DeleteCustomKeyStore")]
    }

    async fn act(call: &Call, plan: Granted<String>) -> Result<shared::Empty, Error> {
        let id = plan.into_inner();
        shared::write(call, move |_, tx, from| {
            let store = key_store::get(tx, &from.caller.account, &from.region, &id)?;
            key_store::delete(tx, &store)
        })
        .await?;
        Ok(shared::Empty {})
    }
}
