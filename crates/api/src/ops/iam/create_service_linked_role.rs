//! `iam:CreateServiceLinkedRole`: makes the role that a service acts with.

use super::shared::{self, Role, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use iam::Context;
use identity::Kind;
use identity::linked_role::{self, NewLinkedRole};

pub(crate) struct CreateServiceLinkedRole;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(name = "AWSServiceName")]
    aws_service_name: String,
    description: Option<String>,
    custom_suffix: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    role: Role,
}

pub(crate) struct Plan {
    role: Subject,
    service: String,
    description: String,
    custom_suffix: Option<String>,
}

impl Operation for CreateServiceLinkedRole {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateServiceLinkedRole");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let (path, name) =
            linked_role::path_and_name(&input.aws_service_name, input.custom_suffix.as_deref())?;
        Ok(Plan {
            role: Subject::new(call, Kind::Role, name, Some(&path)),
            service: input.aws_service_name,
            description: input.description.unwrap_or_default(),
            custom_suffix: input.custom_suffix,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut context = Context::new();
        context.set("iam:AWSServiceName", plan.service.as_str());
        vec![shared::also(plan.role.ask("iam:CreateServiceLinkedRole"), &context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role, service, description, custom_suffix } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let new = NewLinkedRole {
                account: &role.account,
                service: &service,
                custom_suffix: custom_suffix.as_deref(),
                description: &description,
            };
            let made = identity.create_linked_role(tx, &new)?;
            Ok(Output { role: Role::whole(tx, &made)? })
        })
        .await
    }
}
