//! `kms:DisconnectCustomKeyStore`: logs out of a store's token. Its keys are unavailable from then on.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::key_store;

pub(crate) struct DisconnectCustomKeyStore;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    custom_key_store_id: String,
}

impl Operation for DisconnectCustomKeyStore {
    const SPEC: Spec = Spec::mutates(Service::Kms, "DisconnectCustomKeyStore");
    type Input = Input;
    type Plan = String;
    type Output = shared::Empty;

    async fn plan(_call: &Call, input: Input) -> Result<String, Error> {
        Ok(input.custom_key_store_id)
    }

    fn asks(_plan: &String) -> Vec<Ask> {
        vec![Ask::any("kms:DisconnectCustomKeyStore")]
    }

    async fn act(call: &Call, plan: Granted<String>) -> Result<shared::Empty, Error> {
        let id = plan.into_inner();
        let store = shared::write(call, move |_, tx, from| {
            let store = key_store::get(tx, &from.caller.account, &from.region, &id)?;
            key_store::disconnect(tx, &store)?;
            Ok(store)
        })
        .await?;
        let kms = call.world.kms.clone();
        // Closing sessions may wait for the device.
        tokio::task::spawn_blocking(move || kms.disconnect_key_store(&store.id));
        Ok(shared::Empty {})
    }
}
