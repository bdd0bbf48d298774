//! `kms:ListAliases`: the names of an account's keys, or of one key.

use super::shared::{self, Limits, Paging};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Timestamp;
use kms::alias::{self, Alias};
use kms::page::List;
use kms::{Action, Key, resolve};

pub(crate) struct ListAliases;

/// KMS API, ListAliases: "between 1 and 100, inclusive. If you do not include a value, it defaults to 50".
const LIMITS: Limits = Limits { default: 50, max: 100 };

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: Option<String>,
    limit: Option<i32>,
    marker: Option<String>,
}

pub(crate) struct Plan {
    paging: Paging,
    key: Option<Key>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct AliasEntry {
    alias_name: String,
    alias_arn: String,
    target_key_id: Option<String>,
    creation_date: Option<Timestamp>,
    last_updated_date: Option<Timestamp>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    aliases: Vec<AliasEntry>,
    next_marker: Option<String>,
    truncated: bool,
}

impl Operation for ListAliases {
    const SPEC: Spec = Spec::reads(Service::Kms, "ListAliases");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let paging = Paging::new(List::Aliases, LIMITS, input.limit, input.marker.as_deref())?;
        let Some(key_id) = input.key_id else { return Ok(Plan { paging, key: None }) };
        let key = shared::read(call, move |_, tx, from| {
            resolve::resolve(tx, Action::ListAliases, &from.caller, &from.region, &key_id)
        })
        .await?
        .key;
        Ok(Plan { paging, key: Some(key) })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        // Without resource-level permissions, also when one key is named.
        vec![Ask::any("kms:ListAliases")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { paging, key } = plan.into_inner();
        let (after, rows) = (paging.after.clone(), paging.rows());
        let aliases = shared::read(call, move |_, tx, from| {
            let account = &from.caller.account;
            match &key {
                None => alias::list(tx, account, &from.region, &after, rows),
                // Another account's key has no aliases in this one.
                Some(key) if key.account != *account => Ok(Vec::new()),
                Some(key) => alias::of_key(tx, key, &after, rows),
            }
        })
        .await?;
        let page = paging.page(aliases, |alias| &alias.name);
        Ok(Output {
            aliases: page.items.into_iter().map(entry).collect(),
            truncated: page.next.is_some(),
            next_marker: page.next,
        })
    }
}

fn entry(alias: Alias) -> AliasEntry {
    AliasEntry {
        alias_arn: alias.arn().to_string(),
        alias_name: alias.name,
        target_key_id: alias.key_id,
        creation_date: alias.created,
        last_updated_date: alias.updated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_alias::CreateAlias;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::delete_alias::DeleteAlias;
    use crate::ops::kms::update_alias::UpdateAlias;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn an_alias_is_made_moved_and_deleted() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let mut keys = Vec::new();
        for _ in 0..2 {
            let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
            keys.push(created["KeyMetadata"]["KeyId"].clone());
        }
        let alias = |key: &serde_json::Value| json!({"AliasName": "alias/x", "TargetKeyId": key});
        run::<CreateAlias>(&call, alias(&keys[0])).await.expect("allowed");
        bench.clock.advance_seconds(5);
        let later = bench.root(&account(1), "us-east-1");
        run::<UpdateAlias>(&later, alias(&keys[1])).await.expect("allowed");
        let list = async |input| run::<ListAliases>(&later, input).await.expect("allowed");
        assert_eq!(list(json!({"KeyId": keys[0]})).await["Aliases"], json!([]));
        assert_eq!(
            list(json!({"KeyId": keys[1]})).await["Aliases"],
            json!([{
                "AliasName": "alias/x",
                "AliasArn": "arn:aws:kms:us-east-1:111111111111:alias/x",
                "TargetKeyId": keys[1],
                "CreationDate": "2026-01-01T00:00:00.000Z",
                "LastUpdatedDate": "2026-01-01T00:00:05.000Z",
            }])
        );
        let all = list(json!({})).await;
        assert_eq!(all["Aliases"][0]["AliasName"], "alias/aws/ebs");
        assert!(all["Aliases"][0].get("TargetKeyId").is_none());

        run::<DeleteAlias>(&later, json!({"AliasName": "alias/x"})).await.expect("allowed");
        let gone = run::<DeleteAlias>(&later, json!({"AliasName": "alias/x"})).await;
        let error = gone.expect_err("gone");
        assert_eq!(error.code(), "NotFoundException");
        assert_eq!(
            error.0.message,
            "Alias arn:aws:kms:us-east-1:111111111111:alias/x is not found."
        );
    }
}
