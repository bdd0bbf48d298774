//! `kms:UpdateCustomKeyStore`: changes a store's name, and of a disconnected one the password or token.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Secret;
use kms::key_store::{self, Changes};
use std::sync::Arc;

pub(crate) struct UpdateCustomKeyStore;

#[derive(Shape)]
#[shape(
    input,
    unsupported(
        XksProxyUriEndpoint,
        XksProxyUriPath,
        XksProxyVpcEndpointServiceName,
        XksProxyVpcEndpointServiceOwner,
        XksProxyAuthenticationCredential,
        XksProxyConnectivity
    )
)]
pub(crate) struct Input {
    custom_key_store_id: String,
    new_custom_key_store_name: Option<String>,
    #[shape(sensitive)]
    key_store_password: Option<String>,
    cloud_hsm_cluster_id: Option<String>,
}

pub(crate) struct Plan {
    id: String,
    name: Option<String>,
    password: Option<Arc<Secret<String>>>,
    cluster: Option<String>,
}

impl Operation for UpdateCustomKeyStore {
    const SPEC: Spec = Spec::mutates(Service::Kms, "UpdateCustomKeyStore");
    type Input = Input;
    type Plan = Plan;
    type Output = shared::Empty;

    async fn plan(_call: &Call, input: Input) -> Result<Plan, Error> {
        Ok(Plan {
            id: input.custom_key_store_id,
            name: input.new_custom_key_store_name,
            password: input.key_store_password.map(|text| Arc::new(Secret::new(text))),
            cluster: input.cloud_hsm_cluster_id,
        })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("kms:UpdateCustomKeyStore")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<shared::Empty, Error> {
        let plan = plan.into_inner();
        shared::write(call, move |kms, tx, from| {
            let store = key_store::get(tx, &from.caller.account, &from.region, &plan.id)?;
            let changes = Changes {
                name: plan.name.as_deref(),
                password: plan.password.as_deref(),
                cluster: plan.cluster.as_deref(),
            };
            kms.update_key_store(tx, &store, &changes)
        })
        .await?;
        Ok(shared::Empty {})
    }
}
