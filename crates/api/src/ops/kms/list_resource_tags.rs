//! `kms:ListResourceTags`: the tags of a key, by name.

use super::shared::{self, Limits, Named, Paging, Tag, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::Action;
use kms::condition::Facts;
use kms::page::List;

pub(crate) struct ListResourceTags;

/// KMS API, ListResourceTags: "between 1 and 50, inclusive. If you do not include a value, it defaults to 50".
const LIMITS: Limits = Limits { default: 50, max: 50 };

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    limit: Option<i32>,
    marker: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    paging: Paging,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    tags: Vec<Tag>,
    next_marker: Option<String>,
    truncated: bool,
}

impl Operation for ListResourceTags {
    const SPEC: Spec = Spec::reads(Service::Kms, "ListResourceTags");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let paging = Paging::new(List::Tags, LIMITS, input.limit, input.marker.as_deref())?;
        let action = Action::ListResourceTags;
        let named = Named { action, key_id: &input.key_id, facts: Facts::None };
        Ok(Plan { target: shared::target(call, named).await?, paging })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, paging } = plan.into_inner();
        let all = shared::read(call, move |_, tx, _| {
            let key = shared::usable(tx, Action::ListResourceTags, &target.key)?;
            kms::tag::all(tx, &key)
        })
        .await?;
        // At most 50 tags are read for a page of them.
        let behind = all.into_iter().filter(|(key, _)| *key > paging.after);
        let rows = behind.take(paging.rows() as usize);
        let rows = rows.map(|(tag_key, tag_value)| Tag { tag_key, tag_value }).collect();
        let page = paging.page(rows, |tag| &tag.tag_key);
        Ok(Output { tags: page.items, truncated: page.next.is_some(), next_marker: page.next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::tag_resource::TagResource;
    use crate::ops::kms::untag_resource::UntagResource;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn tags_are_set_listed_in_pages_and_removed() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
        let id = &created["KeyMetadata"]["KeyId"];
        let tags: Vec<_> =
            ["b", "a", "c"].iter().map(|k| json!({"TagKey": k, "TagValue": "v"})).collect();
        run::<TagResource>(&call, json!({"KeyId": id, "Tags": tags})).await.expect("allowed");
        let first = run::<ListResourceTags>(&call, json!({"KeyId": id, "Limit": 2}))
            .await
            .expect("allowed");
        assert_eq!(first["Tags"][0]["TagKey"], "a");
        assert_eq!(first["Truncated"], true);
        let next = json!({"KeyId": id, "Limit": 2, "Marker": first["NextMarker"]});
        let second = run::<ListResourceTags>(&call, next).await.expect("allowed");
        assert_eq!(second["Tags"], json!([{"TagKey": "c", "TagValue": "v"}]));
        assert_eq!(second["Truncated"], false);

        let names = json!({"KeyId": id, "TagKeys": ["a", "b", "nothing"]});
        run::<UntagResource>(&call, names).await.expect("allowed");
        let left = run::<ListResourceTags>(&call, json!({"KeyId": id})).await.expect("allowed");
        assert_eq!(left["Tags"].as_array().map(Vec::len), Some(1));

        let reserved = json!({"KeyId": id, "Tags": [{"TagKey": "aws:x", "TagValue": ""}]});
        let error = run::<TagResource>(&call, reserved).await.expect_err("reserved");
        assert_eq!(error.code(), "TagException");
    }
}
