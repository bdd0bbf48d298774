//! `iam:CreateGroup`: makes a group of users.

use super::shared::{self, Group, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::Kind;

pub(crate) struct CreateGroup;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
    path: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    group: Group,
}

pub(crate) struct Plan {
    group: Subject,
    path: Option<String>,
}

impl Operation for CreateGroup {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateGroup");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let group = Subject::new(call, Kind::Group, input.group_name, input.path.as_deref());
        Ok(Plan { group, path: input.path })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.group.ask("iam:CreateGroup")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { group, path } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let made = identity.create_group(tx, &group.account, &group.name, path.as_deref())?;
            Ok(Output { group: Group::from(&made) })
        })
        .await
    }
}
