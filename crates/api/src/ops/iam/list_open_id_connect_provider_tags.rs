//! `iam:ListOpenIDConnectProviderTags`: lists the tags of an issuer.

use super::shared::{self, Issuer, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Page, oidc, tag};

pub(crate) struct ListOpenIdConnectProviderTags;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "OpenIDConnectProviderArn")]
    open_id_connect_provider_arn: String,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    tags: Vec<Tag>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    issuer: Issuer,
    page: Page,
}

impl Operation for ListOpenIdConnectProviderTags {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListOpenIDConnectProviderTags");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { issuer: Issuer::named(call, &input.open_id_connect_provider_arn).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.issuer.ask("iam:ListOpenIDConnectProviderTags")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { issuer, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let provider = issuer.find(tx)?;
            let tags = tag::of(tx, &provider.account, &oidc::tag_id(&provider))?;
            let key = |(key, _): &(String, String)| key.clone();
            Ok(shared::part(tags.into_iter().collect(), &page, key))
        });
        let listed = listed.await?;
        Ok(Output {
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
            tags: shared::tags_out(listed.items.into_iter().collect()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run_named};
    use serde_json::json;

    const ARN: &str = "arn:aws:iam::111111111111:oidc-provider/oidc.example.org/id/1";

    #[tokio::test]
    async fn an_issuer_is_made_changed_and_forgotten() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
        let print = "AB".repeat(20);
        let input = json!({ "Url": "https://oidc.example.org/id/1", "ClientIDList": ["sts.amazonaws.com"],
            "ThumbprintList": [print], "Tags": [{ "Key": "a", "Value": "b" }] });
        let made = call("CreateOpenIDConnectProvider", input.clone()).await.expect("an issuer");
        assert_eq!(made["OpenIDConnectProviderArn"], ARN);
        let again = call("CreateOpenIDConnectProvider", input).await.expect_err("it is there");
        assert_eq!(again.code(), "EntityAlreadyExists");
        let with = |more: serde_json::Value| {
            let mut input = json!({ "OpenIDConnectProviderArn": ARN });
            input
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("one").clone());
            input
        };
        call("AddClientIDToOpenIDConnectProvider", with(json!({ "ClientID": "app" })))
            .await
            .expect("added");
        let client = with(json!({ "ClientID": "sts.amazonaws.com" }));
        call("RemoveClientIDFromOpenIDConnectProvider", client).await.expect("removed");
        let tags = with(json!({ "Tags": [{ "Key": "c", "Value": "d" }] }));
        call("TagOpenIDConnectProvider", tags).await.expect("tagged");
        call("UntagOpenIDConnectProvider", with(json!({ "TagKeys": ["a"] })))
            .await
            .expect("untagged");
        let prints = with(json!({ "ThumbprintList": ["cd".repeat(20)] }));
        call("UpdateOpenIDConnectProviderThumbprint", prints).await.expect("replaced");
        let bad = with(json!({ "ThumbprintList": ["xy".repeat(20)] }));
        let bad = call("UpdateOpenIDConnectProviderThumbprint", bad).await.expect_err("no digits");
        assert_eq!(bad.code(), "InvalidInput");
        let shown = call("GetOpenIDConnectProvider", with(json!({}))).await.expect("it is there");
        let expected = json!({ "Url": "oidc.example.org/id/1", "ClientIDList": ["app"],
            "ThumbprintList": ["cd".repeat(20)], "CreateDate": "2026-01-01T00:00:00.000Z",
            "Tags": [{ "Key": "c", "Value": "d" }] });
        assert_eq!(shown, expected);
        let tags = call("ListOpenIDConnectProviderTags", with(json!({}))).await.expect("a list");
        assert_eq!(tags["Tags"], expected["Tags"]);
        let listed = call("ListOpenIDConnectProviders", json!({})).await.expect("a list");
        let entry = json!({ "Arn": ARN, "IsTrustedIdentityPropagationEnabled": false });
        assert_eq!(listed["OpenIDConnectProviderList"], json!([entry]));
        let other = bench.root(&account(2), "us-east-1");
        let foreign =
            run_named(&other, Service::Iam, "GetOpenIDConnectProvider", with(json!({}))).await;
        assert_eq!(foreign.expect_err("not its own").code(), "AccessDenied");
        call("DeleteOpenIDConnectProvider", with(json!({}))).await.expect("forgotten");
        let gone = call("GetOpenIDConnectProvider", with(json!({}))).await.expect_err("forgotten");
        assert_eq!((gone.code(), gone.0.spec.status), ("NoSuchEntity", 404));
        let bad = json!({ "Url": "http://oidc.example.org" });
        let bad = call("CreateOpenIDConnectProvider", bad).await.expect_err("not https");
        assert_eq!(bad.code(), "InvalidInput");
    }
}
