//! `iam:DeleteGroup`: removes a group on which nothing hangs any more.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::{Kind, entity};

pub(crate) struct DeleteGroup;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    group_name: String,
}

impl Operation for DeleteGroup {
    const SPEC: Spec = Spec::mutates(Service::Iam, "DeleteGroup");
    type Input = Input;
    type Plan = Subject;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Subject, Error> {
        Subject::named(call, Kind::Group, input.group_name).await
    }

    fn asks(plan: &Subject) -> Vec<Ask> {
        vec![plan.ask("iam:DeleteGroup")]
    }

    async fn act(call: &Call, plan: Granted<Subject>) -> Result<(), Error> {
        let group = plan.into_inner();
        shared::write(call, move |tx, _| {
            entity::delete(tx, &group.account, group.kind, &group.name)
        })
        .await
    }
}
