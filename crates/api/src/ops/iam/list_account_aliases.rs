//! `iam:ListAccountAliases`: tells the alias of the account, of which there is one at most.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Page, alias};

pub(crate) struct ListAccountAliases;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    account_aliases: Vec<String>,
    is_truncated: bool,
    marker: Option<String>,
}

impl Operation for ListAccountAliases {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListAccountAliases");
    type Input = Input;
    type Plan = Page;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<Page, Error> {
        shared::page(input.marker.as_ref(), input.max_items)
    }

    fn asks(_plan: &Page) -> Vec<Ask> {
        vec![Ask::any("iam:ListAccountAliases")]
    }

    async fn act(call: &Call, plan: Granted<Page>) -> Result<Output, Error> {
        let (account, page) = (call.account().clone(), plan.into_inner());
        let found = shared::read(call, move |tx| alias::of(tx, &account)).await?;
        let listed = shared::part(found.into_iter().collect(), &page, String::clone);
        Ok(Output {
            account_aliases: listed.items,
            is_truncated: listed.next.is_some(),
            marker: shared::marker(listed.next.as_ref()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::iam::create_account_alias::CreateAccountAlias;
    use crate::ops::iam::delete_account_alias::DeleteAccountAlias;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn an_account_has_one_alias_that_nobody_else_has() {
        let bench = bench().await;
        let one = bench.root(&account(1), "us-east-1");
        let two = bench.root(&account(2), "us-east-1");
        let named = |alias: &str| json!({ "AccountAlias": alias });
        run::<CreateAccountAlias>(&one, named("acme")).await.expect("free");
        let taken = run::<CreateAccountAlias>(&two, named("acme")).await.expect_err("taken");
        assert_eq!((taken.code(), taken.0.spec.status), ("EntityAlreadyExists", 409));
        run::<CreateAccountAlias>(&one, named("acme-prod")).await.expect("free");
        let listed = run::<ListAccountAliases>(&one, json!({})).await.expect("allowed");
        assert_eq!(listed["AccountAliases"], json!(["acme-prod"]));
        assert_eq!(listed["IsTruncated"], false);
        run::<CreateAccountAlias>(&two, named("acme")).await.expect("free again");
        let others = run::<DeleteAccountAlias>(&one, named("acme")).await.expect_err("another's");
        assert_eq!((others.code(), others.0.spec.status), ("NoSuchEntity", 404));
        run::<DeleteAccountAlias>(&one, named("acme-prod")).await.expect("its own");
        let listed = run::<ListAccountAliases>(&one, json!({})).await.expect("allowed");
        assert_eq!(listed["AccountAliases"], json!([]));
        for bad in ["ab", "-abc", "a--b", "Abc", "111111111111", "a_b"] {
            let refused = run::<CreateAccountAlias>(&one, named(bad)).await.expect_err(bad);
            assert_eq!(refused.code(), "ValidationError", "{bad}");
        }
    }
}
