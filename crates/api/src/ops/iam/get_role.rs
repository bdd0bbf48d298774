//! `iam:GetRole`: shows a role with its trust policy.

use super::shared::{self, Role, RoleLastUsed, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, role};
use std::sync::Arc;

pub(crate) struct GetRole;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    role_name: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    role: Role,
}

impl Operation for GetRole {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetRole");
    type Input = Input;
    type Plan = Subject;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::Role, input.role_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:GetRole")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<Output, Error> {
        let wanted = plan.into_inner();
        let (world, now) = (Arc::clone(&call.world), call.now);
        shared::read(call, move |tx| {
            let found = role::find(tx, &wanted.account, &wanted.name)?;
            let last_used = RoleLastUsed::of(tx, &world, now, &found.entity)?;
            Ok(Output { role: Role::whole(tx, &found)?.with_use(last_used) })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::iam::get_account_authorization_details::GetAccountAuthorizationDetails;
    use crate::testing::{account, bench, run, run_named};
    use base::Timestamp;
    use serde_json::json;

    const DAY: i64 = 24 * 60 * 60 * 1000;

    #[tokio::test]
    async fn the_last_use_of_a_role_is_told_for_400_days() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let trust = json!({ "Version": "2012-10-17", "Statement": { "Effect": "Allow",
            "Principal": { "AWS": "111111111111" }, "Action": "sts:AssumeRole" } })
        .to_string();
        let role = json!({ "RoleName": "dev", "AssumeRolePolicyDocument": trust });
        let made = run_named(&root, Service::Iam, "CreateRole", role.clone()).await.expect("made");
        assert!(made["Role"].get("RoleLastUsed").is_none());
        let id = made["Role"]["RoleId"].as_str().expect("an id").to_owned();
        let asked = json!({ "RoleName": "dev" });
        let shown = run::<GetRole>(&root, asked.clone()).await.expect("the role");
        assert_eq!(shown["Role"]["RoleLastUsed"], json!({}));

        let (uses, now) = (&bench.world.last_uses, bench.world.clock.now());
        uses.note_request(&account(1), &id, "kms", "us-east-1", Timestamp(now.0 - 401 * DAY));
        let shown = run::<GetRole>(&root, asked.clone()).await.expect("the role");
        assert_eq!(shown["Role"]["RoleLastUsed"], json!({}));
        bench.world.write_last_uses().await.expect("written");

        uses.note_request(&account(1), &id, "ec2", "eu-west-1", Timestamp(now.0 - 400 * DAY));
        let expected = json!({ "LastUsedDate": "2024-11-27T00:00:00.000Z", "Region": "eu-west-1" });
        let shown = run::<GetRole>(&root, asked.clone()).await.expect("the role");
        assert_eq!(shown["Role"]["RoleLastUsed"], expected);
        let all = run::<GetAccountAuthorizationDetails>(&root, json!({})).await.expect("told");
        assert_eq!(all["RoleDetailList"][0]["RoleLastUsed"], expected);
        bench.world.write_last_uses().await.expect("written");
        let listed = run_named(&root, Service::Iam, "ListRoles", json!({})).await.expect("listed");
        assert!(listed["Roles"][0].get("RoleLastUsed").is_none());

        // Another role of the name was never used.
        run_named(&root, Service::Iam, "DeleteRole", asked.clone()).await.expect("deleted");
        run_named(&root, Service::Iam, "CreateRole", role).await.expect("made");
        let shown = run::<GetRole>(&root, asked).await.expect("the role");
        assert_eq!(shown["Role"]["RoleLastUsed"], json!({}));
    }
}
