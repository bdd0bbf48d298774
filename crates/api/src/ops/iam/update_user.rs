//! `iam:UpdateUser`: gives a user another name or path.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Arn;
use identity::{Kind, entity};

pub(crate) struct UpdateUser;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    new_path: Option<String>,
    new_user_name: Option<String>,
}

pub(crate) struct Plan {
    user: Subject,
    target: Ask,
    new_path: Option<String>,
    new_name: Option<String>,
}

impl Operation for UpdateUser {
    const SPEC: Spec = Spec::mutates(Service::Iam, "UpdateUser");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { user_name, new_path, new_user_name: new_name } = input;
        let user = Subject::named(call, Kind::User, user_name).await?;
        let ask = user.ask("iam:UpdateUser");
        let old = Arn::parse(&ask.resource).map(|arn| arn.resource).unwrap_or_default();
        let old_path = &old["user".len()..=old.rfind('/').expect("a user's ARN has a slash")];
        let path = new_path.as_deref().unwrap_or(old_path);
        let name = new_name.as_deref().unwrap_or(&user.name);
        let resource = Arn::global("iam", &user.account, &format!("user{path}{name}")).to_string();
        Ok(Plan { user, target: Ask { resource, ..ask }, new_path, new_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        // IAM API, UpdateUser: "you must have the appropriate permissions on both the source object and
        // the target object".
        vec![plan.user.ask("iam:UpdateUser"), plan.target.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, new_path, new_name, .. } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let user = user.find(tx)?;
            entity::rename(tx, &user, new_name.as_deref(), new_path.as_deref())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::iam::get_user::GetUser;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_user_moves_only_where_the_caller_may_write() {
        let (bench, owner) = (bench().await, account(1));
        let amy = bench.user(
            &owner,
            "amy",
            r#"{"Version":"2012-10-17","Statement":{
            "Effect":"Allow","Action":"iam:*User","Resource":[
                "arn:aws:iam::111111111111:user/bob","arn:aws:iam::111111111111:user/dev/*"]}}"#,
        );
        let amy = amy.await;
        bench
            .user(
                &owner,
                "bob",
                r#"{"Version":"2012-10-17","Statement":{
            "Effect":"Deny","Action":"*","Resource":"*"}}"#,
            )
            .await;
        let rename = |name: &str, path: &str| json!({"UserName": "bob", "NewUserName": name, "NewPath": path});
        let denied = run::<UpdateUser>(&amy, rename("rob", "/")).await;
        let denied = denied.expect_err("another target").to_string();
        assert!(denied.contains("arn:aws:iam::111111111111:user/rob because"), "{denied}");
        run::<UpdateUser>(&amy, rename("rob", "/dev/")).await.expect("allowed on both");
        let shown = run::<GetUser>(&amy, json!({"UserName": "rob"})).await.expect("renamed");
        assert_eq!(shown["User"]["Arn"], "arn:aws:iam::111111111111:user/dev/rob");
        let path = json!({"UserName": "rob", "NewPath": "/dev/ops/"});
        run::<UpdateUser>(&amy, path).await.expect("allowed on both");
        let shown = run::<GetUser>(&amy, json!({"UserName": "rob"})).await.expect("moved");
        assert_eq!(shown["User"]["Arn"], "arn:aws:iam::111111111111:user/dev/ops/rob");
        let same = json!({"UserName": "rob", "NewUserName": "amy"});
        let denied = run::<UpdateUser>(&amy, same).await;
        assert_eq!(denied.expect_err("amy is there").code(), "EntityAlreadyExists");
    }
}
