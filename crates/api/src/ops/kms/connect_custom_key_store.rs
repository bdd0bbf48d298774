//! `kms:ConnectCustomKeyStore`: begins to log in to a store's token, unless somebody is logged in or about to.
//! How it ended is seen with DescribeCustomKeyStores.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::key_store;

pub(crate) struct ConnectCustomKeyStore;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    custom_key_store_id: String,
}

impl Operation for ConnectCustomKeyStore {
    const SPEC: Spec = Spec::mutates(Service::Kms, "ConnectCustomKeyStore");
    type Input = Input;
    type Plan = String;
    type Output = shared::Empty;

    async fn plan(_call: &Call, input: Input) -> Result<String, Error> {
        Ok(input.custom_key_store_id)
    }

    fn asks(_plan: &String) -> Vec<Ask> {
        vec![Ask::any("kms:ConnectCustomKeyStore")]
    }

    async fn act(call: &Call, plan: Granted<String>) -> Result<shared::Empty, Error> {
        let id = plan.into_inner();
        let begun = shared::write(call, move |_, tx, from| {
            let store = key_store::get(tx, &from.caller.account, &from.region, &id)?;
            Ok(key_store::begin_connect(tx, &store)?.then_some(store))
        })
        .await?;
        if let Some(store) = begun {
            tokio::spawn(crate::key_stores::connect(
                call.world.db.clone(),
                call.world.kms.clone(),
                store,
            ));
        }
        Ok(shared::Empty {})
    }
}
