//! `iam:CreateUser`: makes a user, who has no permissions and no credentials yet.

use super::shared::{self, Subject, Tag, User};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, tag::Tags};

pub(crate) struct CreateUser;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    user_name: String,
    path: Option<String>,
    permissions_boundary: Option<String>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    user: User,
}

pub(crate) struct Plan {
    user: Subject,
    path: Option<String>,
    boundary: Option<String>,
    tags: Tags,
}

impl Operation for CreateUser {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateUser");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { user_name, path, permissions_boundary: boundary, tags } = input;
        let user = Subject::new(call, Kind::User, user_name, path.as_deref());
        Ok(Plan { user, path, boundary, tags: shared::tags_in(tags)? })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let tags = shared::request_tags(&plan.tags);
        let mut context = shared::boundary_context(plan.boundary.as_ref());
        context.extend(&tags);
        let mut asks = vec![shared::also(plan.user.ask("iam:CreateUser"), &context)];
        if !plan.tags.is_empty() {
            // IAM guide, "Tag IAM users": tags given at creation need this as well.
            asks.push(shared::also(plan.user.ask("iam:TagUser"), &tags));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { user, path, boundary, tags } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let Subject { account, name, .. } = &user;
            let (path, boundary) = (path.as_deref(), boundary.as_deref());
            let entity = identity.create_user(tx, account, name, path, boundary, &tags)?;
            Ok(Output { user: User::whole(&entity, tags.clone()) })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn tags_at_creation_need_the_permission_to_tag() {
        let (bench, owner) = (bench().await, account(1));
        let amy = bench.user(
            &owner,
            "amy",
            r#"{"Version":"2012-10-17","Statement":{
            "Effect":"Allow","Action":"iam:CreateUser","Resource":"*"}}"#,
        );
        let amy = amy.await;
        let mut input = json!({"UserName": "bob", "Tags": [{"Key": "team", "Value": "red"}]});
        let denied = run::<CreateUser>(&amy, input.clone()).await;
        let denied = denied.expect_err("may not tag").to_string();
        assert!(denied.contains("iam:TagUser on resource: arn:aws:iam::111111111111:user/bob"));
        input["Tags"] = json!([]);
        run::<CreateUser>(&amy, input).await.expect("may create");
    }
}
