//! `iam:AddUserToGroup`: puts a user into a group.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity, group};

pub(crate) struct AddUserToGroup;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
    user_name: String,
}

pub(crate) struct Plan {
    group: Subject,
    user_name: String,
}

impl Operation for AddUserToGroup {
    const SPEC: Spec = Spec::mutates(Service::Iam, "AddUserToGroup");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let group = Subject::named(call, Kind::Group, input.group_name).await?;
        Ok(Plan { group, user_name: input.user_name })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.group.ask("iam:AddUserToGroup")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { group, user_name } = plan.into_inner();
        shared::write(call, move |tx, _| {
            let found = group.find(tx)?;
            let user = entity::find(tx, &group.account, Kind::User, &user_name)?;
            group::add(tx, &found, &user)
        })
        .await
    }
}
