//! `iam:GetAccessKeyLastUsed`: tells when an access key last signed a request.
//!
//! Uses are kept in memory and written at most a minute later; what this server has not written yet is
//! told as well.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{Arn, Timestamp};
use identity::Kind;
use identity::last_use::{self, KeyOwner};
use std::sync::Arc;

pub(crate) struct GetAccessKeyLastUsed;

#[derive(Shape)]
#[shape(output)]
pub(crate) struct AccessKeyLastUsed {
    last_used_date: Option<Timestamp>,
    service_name: String,
    region: String,
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    access_key_id: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    user_name: Option<String>,
    access_key_last_used: AccessKeyLastUsed,
}

pub(crate) struct Plan {
    ask: Ask,
    key_id: String,
}

impl Operation for GetAccessKeyLastUsed {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetAccessKeyLastUsed");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let (account, key_id) = (call.account().clone(), input.access_key_id.clone());
        let owner = shared::read(call, move |tx| match last_use::owner(tx, &account, &key_id) {
            Ok(KeyOwner::User(user)) => Ok(Some(user.name)),
            Ok(KeyOwner::Nameless) | Err(identity::Error::NoSuchEntity { .. }) => Ok(None),
            Err(error) => Err(error),
        });
        let action = "iam:GetAccessKeyLastUsed";
        let ask = match owner.await? {
            Some(name) => Subject::named(call, Kind::User, name).await?.ask(action),
            None => {
                let account = call.account();
                Ask::on(action, &Arn::global("iam", account, "root"), account)
            }
        };
        Ok(Plan { ask, key_id: input.access_key_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let key_id = plan.into_inner().key_id;
        let (account, world) = (call.account().clone(), Arc::clone(&call.world));
        let (owner, last) = shared::read(call, move |tx| {
            let owner = last_use::owner(tx, &account, &key_id)?;
            Ok((owner, world.last_uses.newest(tx, &account, &key_id)?))
        })
        .await?;
        let unknown = || "N/A".to_owned();
        Ok(Output {
            user_name: match owner {
                KeyOwner::User(user) => Some(user.name),
                KeyOwner::Nameless => None,
            },
            access_key_last_used: AccessKeyLastUsed {
                last_used_date: last.as_ref().map(|last| last.at),
                service_name: last.as_ref().map_or_else(unknown, |last| last.service.clone()),
                region: last.map_or_else(unknown, |last| last.region),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::iam::create_access_key::CreateAccessKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_use_is_known_at_once_and_written_later() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let nothing =
            r#"{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;
        bench.user(&account(1), "amy", nothing).await;
        let made =
            run::<CreateAccessKey>(&root, json!({ "UserName": "amy" })).await.expect("a key");
        let key = made["AccessKey"]["AccessKeyId"].as_str().expect("an id").to_owned();
        let asked = json!({ "AccessKeyId": key });
        let never = run::<GetAccessKeyLastUsed>(&root, asked.clone()).await.expect("its account");
        assert_eq!(never["UserName"], "amy");
        let none = json!({ "ServiceName": "N/A", "Region": "N/A" });
        assert_eq!(never["AccessKeyLastUsed"], none);

        let uses = &bench.world.last_uses;
        uses.note_request(&account(1), &key, "kms", "eu-west-1", bench.world.clock.now());
        let expected = json!({ "LastUsedDate": "2026-01-01T00:00:00.000Z", "ServiceName": "kms",
            "Region": "eu-west-1" });
        let shown = run::<GetAccessKeyLastUsed>(&root, asked.clone()).await.expect("its account");
        assert_eq!(shown["AccessKeyLastUsed"], expected);
        bench.world.write_last_uses().await.expect("written");
        assert_eq!(uses.of(&*key), None);
        let shown = run::<GetAccessKeyLastUsed>(&root, asked.clone()).await.expect("its account");
        assert_eq!(shown["AccessKeyLastUsed"], expected);
        // An older use that is written later does not hide a newer one.
        uses.note_request(&account(1), &key, "ec2", "us-east-1", Timestamp(0));
        bench.world.write_last_uses().await.expect("written");
        let shown = run::<GetAccessKeyLastUsed>(&root, asked.clone()).await.expect("its account");
        assert_eq!(shown["AccessKeyLastUsed"], expected);

        let other = bench.root(&account(2), "us-east-1");
        let unknown = run::<GetAccessKeyLastUsed>(&other, asked).await.expect_err("not its key");
        assert_eq!(unknown.code(), "NoSuchEntity");
    }
}
