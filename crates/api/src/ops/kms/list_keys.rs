//! `kms:ListKeys`: every key of the caller's account in a region.

use super::shared::opened::refused;
use super::shared::{self, Limits, Paging};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use kms::page::List;

pub(crate) struct ListKeys;

/// KMS API, ListKeys: "between 1 and 1000, inclusive. If you do not include a value, it defaults to 100".
const LIMITS: Limits = Limits { default: 100, max: 1000 };

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    limit: Option<i32>,
    marker: Option<String>,
    resource_owners: Vec<ResourceOwner>,
}

string_enum! {
    /// Whose keys are listed.
    pub(crate) enum ResourceOwner {
        /// The caller's account's.
        Own = "SELF",
        /// Those that other accounts share through AWS Resource Access Manager, which is not here.
        OtherAccountsViaRam = "OTHER_ACCOUNTS_VIA_RAM",
    }
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct KeyEntry {
    key_id: String,
    key_arn: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    keys: Vec<KeyEntry>,
    next_marker: Option<String>,
    truncated: bool,
}

impl Operation for ListKeys {
    const SPEC: Spec = Spec::reads(Service::Kms, "ListKeys");
    type Input = Input;
    type Plan = Paging;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<Paging, Error> {
        if input.resource_owners.contains(&ResourceOwner::OtherAccountsViaRam) {
            let shared = ResourceOwner::OtherAccountsViaRam.as_str();
            return Err(refused("ResourceOwners", shared));
        }
        Paging::new(List::Keys, LIMITS, input.limit, input.marker.as_deref())
    }

    fn asks(_plan: &Paging) -> Vec<Ask> {
        vec![Ask::any("kms:ListKeys")]
    }

    async fn act(call: &Call, plan: Granted<Paging>) -> Result<Output, Error> {
        let paging = plan.into_inner();
        let (after, rows) = (paging.after.clone(), paging.rows());
        let keys = shared::read(call, move |_, tx, from| {
            kms::key::list(tx, &from.caller.account, &from.region, &after, rows)
        })
        .await?;
        let page = paging.page(keys, |key| &key.id);
        let entry =
            |key: kms::Key| KeyEntry { key_arn: key.arn().to_string(), key_id: key.id.clone() };
        Ok(Output {
            keys: page.items.into_iter().map(entry).collect(),
            truncated: page.next.is_some(),
            next_marker: page.next,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn pages_show_each_key_of_the_region_once() {
        let bench = bench().await;
        let east = bench.root(&account(1), "us-east-1");
        let mut made = BTreeSet::new();
        for _ in 0..5 {
            let reply = run::<CreateKey>(&east, json!({})).await.expect("allowed");
            made.insert(reply["KeyMetadata"]["KeyId"].as_str().expect("an id").to_owned());
        }
        run::<CreateKey>(&bench.root(&account(1), "eu-west-1"), json!({})).await.expect("allowed");
        run::<CreateKey>(&bench.root(&account(2), "us-east-1"), json!({})).await.expect("allowed");

        let mut seen = Vec::new();
        let mut input = json!({"Limit": 2, "ResourceOwners": ["SELF"]});
        loop {
            let page = run::<ListKeys>(&east, input).await.expect("allowed");
            for key in page["Keys"].as_array().expect("a list") {
                seen.push(key["KeyId"].as_str().expect("an id").to_owned());
            }
            if page["Truncated"] == false {
                break;
            }
            input = json!({"Limit": 2, "Marker": page["NextMarker"]});
        }
        assert_eq!(seen.len(), 5);
        assert_eq!(BTreeSet::from_iter(seen), made);
    }

    #[tokio::test]
    async fn bad_paging_is_refused() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        for (input, code) in [
            (json!({"Limit": 0}), "ValidationException"),
            (json!({"Limit": 1001}), "ValidationException"),
            (json!({"Marker": "nonsense"}), "InvalidMarkerException"),
            (json!({"ResourceOwners": ["SELF", "OTHER_ACCOUNTS_VIA_RAM"]}), "ValidationException"),
        ] {
            let error = run::<ListKeys>(&call, input.clone()).await.expect_err("refused");
            assert_eq!(error.code(), code, "{input}");
        }
    }
}
