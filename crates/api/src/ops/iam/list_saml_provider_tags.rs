//! `iam:ListSAMLProviderTags`: lists the tags of a SAML provider.

use super::shared::{self, SamlProvider, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Page, saml, tag};

pub(crate) struct ListSamlProviderTags;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "SAMLProviderArn")]
    saml_provider_arn: String,
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
    provider: SamlProvider,
    page: Page,
}

impl Operation for ListSamlProviderTags {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListSAMLProviderTags");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let page = shared::page(input.marker.as_ref(), input.max_items)?;
        Ok(Plan { provider: SamlProvider::named(call, &input.saml_provider_arn).await?, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.provider.ask("iam:ListSAMLProviderTags")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { provider, page } = plan.into_inner();
        let listed = shared::read(call, move |tx| {
            let provider = provider.find(tx)?;
            let tags = tag::of(tx, &provider.account, &saml::tag_id(&provider))?;
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
    use crate::testing::idp::Idp;
    use crate::testing::{account, bench, run_named};
    use serde_json::{Value as Json, json};

    const ARN: &str = "arn:aws:iam::111111111111:saml-provider/corp";

    #[tokio::test]
    async fn a_provider_is_made_changed_and_forgotten() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
        let (first, second) = (Idp::new().metadata(), Idp::new().metadata());
        let input = json!({ "Name": "corp", "SAMLMetadataDocument": first,
            "Tags": [{ "Key": "a", "Value": "b" }] });
        let made = call("CreateSAMLProvider", input.clone()).await.expect("a provider");
        assert_eq!(made["SAMLProviderArn"], ARN);
        let again = call("CreateSAMLProvider", input).await.expect_err("it is there");
        assert_eq!((again.code(), again.0.spec.status), ("EntityAlreadyExists", 409));
        let with = |more: Json| {
            let mut input = json!({ "SAMLProviderArn": ARN });
            let (all, more) = (input.as_object_mut(), more.as_object().cloned());
            all.expect("an object").extend(more.expect("one"));
            input
        };
        call("TagSAMLProvider", with(json!({ "Tags": [{ "Key": "c", "Value": "d" }] })))
            .await
            .expect("tagged");
        call("UntagSAMLProvider", with(json!({ "TagKeys": ["a"] }))).await.expect("untagged");
        let until = second.replace("entityID", "validUntil=\"2026-02-01T00:00:00Z\" entityID");
        let document = with(json!({ "SAMLMetadataDocument": until }));
        call("UpdateSAMLProvider", document).await.expect("replaced");
        let shown = call("GetSAMLProvider", with(json!({}))).await.expect("it is there");
        assert_eq!(shown["SAMLMetadataDocument"], until);
        assert_eq!(shown["ValidUntil"], "2026-02-01T00:00:00.000Z");
        assert_eq!(shown["Tags"], json!([{ "Key": "c", "Value": "d" }]));
        assert!(shown["SAMLProviderUUID"].as_str().is_some_and(|id| id.len() >= 22));
        let tags = call("ListSAMLProviderTags", with(json!({}))).await.expect("a list");
        assert_eq!(tags["Tags"], shown["Tags"]);
        let listed = call("ListSAMLProviders", json!({})).await.expect("a list");
        let expected = json!([{ "Arn": ARN, "CreateDate": "2026-01-01T00:00:00.000Z",
            "ValidUntil": "2026-02-01T00:00:00.000Z", "IsTrustedIdentityPropagationEnabled": false }]);
        assert_eq!(listed["SAMLProviderList"], expected);
        let counts = call("GetAccountSummary", json!({})).await.expect("counts");
        assert_eq!(counts["SummaryMap"]["Providers"], 1);
        let other = bench.root(&account(2), "us-east-1");
        let foreign = run_named(&other, Service::Iam, "GetSAMLProvider", with(json!({}))).await;
        assert_eq!(foreign.expect_err("not its own").code(), "AccessDenied");
        call("DeleteSAMLProvider", with(json!({}))).await.expect("forgotten");
        for name in ["GetSAMLProvider", "DeleteSAMLProvider"] {
            let gone = call(name, with(json!({}))).await.expect_err("forgotten");
            assert_eq!((gone.code(), gone.0.spec.status), ("NoSuchEntity", 404));
        }
    }

    #[tokio::test]
    async fn what_no_provider_is_made_of() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
        let good = Idp::new().metadata();
        let past = good.replace("entityID", "validUntil=\"2025-12-31T00:00:00Z\" entityID");
        for (name, document, code) in [
            ("a b", good.clone(), "ValidationError"),
            ("corp", past, "InvalidInput"),
            ("corp", "x".repeat(1000), "InvalidInput"),
            ("corp", good.replace("IDPSSODescriptor", "SPSSODescriptor"), "InvalidInput"),
        ] {
            let input = json!({ "Name": name, "SAMLMetadataDocument": document });
            let refused = call("CreateSAMLProvider", input).await.expect_err(code);
            assert_eq!(refused.code(), code, "{refused}");
        }
        let made = json!({ "Name": "corp", "SAMLMetadataDocument": good });
        call("CreateSAMLProvider", made.clone()).await.expect("a provider");
        let nothing = json!({ "SAMLProviderArn": ARN });
        let refused = call("UpdateSAMLProvider", nothing).await.expect_err("nothing to update");
        assert_eq!(refused.code(), "InvalidInput");
    }
}
