//! `kms:DescribeCustomKeyStores`: the account's key stores in a region, and whether their keys can be used.

use super::shared::{self, Limits, Paging};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use kms::key_store::{self, ConnectionError, KeyStore};
use kms::page::List;

pub(crate) struct DescribeCustomKeyStores;

/// KMS API, DescribeCustomKeyStores: the limit has no default of its own; the model allows up to 1000.
const LIMITS: Limits = Limits { default: 100, max: 1000 };

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    custom_key_store_id: Option<String>,
    custom_key_store_name: Option<String>,
    limit: Option<i32>,
    marker: Option<String>,
}

pub(crate) struct Plan {
    id: Option<String>,
    name: Option<String>,
    paging: Paging,
}

#[derive(Shape)]
#[shape(output, omitted(XksProxyConfiguration))]
pub(crate) struct Entry {
    custom_key_store_id: String,
    custom_key_store_name: String,
    cloud_hsm_cluster_id: String,
    trust_anchor_certificate: String,
    connection_state: &'static str,
    connection_error_code: Option<&'static str>,
    creation_date: Timestamp,
    custom_key_store_type: &'static str,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    custom_key_stores: Vec<Entry>,
    next_marker: Option<String>,
    truncated: bool,
}

impl From<KeyStore> for Entry {
    fn from(store: KeyStore) -> Self {
        Self {
            custom_key_store_id: store.id,
            custom_key_store_name: store.name,
            cloud_hsm_cluster_id: store.cluster,
            trust_anchor_certificate: store.trust_anchor,
            connection_state: store.state.as_str(),
            connection_error_code: store.state.error().map(ConnectionError::as_str),
            creation_date: store.created,
            custom_key_store_type: "AWS_CLOUDHSM",
        }
    }
}

impl Operation for DescribeCustomKeyStores {
    const SPEC: Spec = Spec::reads(Service::Kms, "DescribeCustomKeyStores");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<Plan, Error> {
        if input.custom_key_store_id.is_some() && input.custom_key_store_name.is_some() {
            return Err(kms::Error::Validation {
                message: "CustomKeyStoreId and CustomKeyStoreName cannot both be given.".to_owned(),
            }
            .into());
        }
        let paging = Paging::new(List::KeyStores, LIMITS, input.limit, input.marker.as_deref())?;
        Ok(Plan { id: input.custom_key_store_id, name: input.custom_key_store_name, paging })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("kms:DescribeCustomKeyStores")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { id, name, paging } = plan.into_inner();
        let (after, rows) = (paging.after.clone(), paging.rows());
        let stores = shared::read(call, move |_, tx, from| {
            let (account, region) = (&from.caller.account, &from.region);
            match (&id, &name) {
                (Some(id), _) => Ok(vec![key_store::get(tx, account, region, id)?]),
                (None, Some(name)) => Ok(vec![key_store::named(tx, account, region, name)?]),
                (None, None) => key_store::list(tx, account, region, &after, rows),
            }
        })
        .await?;
        let page = paging.page(stores, |store| &store.name);
        Ok(Output {
            custom_key_stores: page.items.into_iter().map(Entry::from).collect(),
            truncated: page.next.is_some(),
            next_marker: page.next,
        })
    }
}
