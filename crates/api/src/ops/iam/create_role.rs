//! `iam:CreateRole`: makes a role that whoever its trust policy names may assume.

use super::shared::{self, Role, Subject, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::role::NewRole;
use identity::tag::Tags;
use identity::{Kind, entity};

pub(crate) struct CreateRole;

#[derive(Shape)]
#[shape(input, unsupported(MaxSigninSessionDuration))]
pub(crate) struct Input {
    role_name: String,
    path: Option<String>,
    assume_role_policy_document: String,
    description: Option<String>,
    max_session_duration: Option<i32>,
    permissions_boundary: Option<String>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    role: Role,
}

pub(crate) struct Plan {
    role: Subject,
    path: Option<String>,
    trust: String,
    description: String,
    max_session_seconds: Option<i64>,
    boundary: Option<String>,
    tags: Tags,
}

impl Operation for CreateRole {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateRole");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = Subject::new(call, Kind::Role, input.role_name, input.path.as_deref());
        Ok(Plan {
            role,
            path: input.path,
            trust: input.assume_role_policy_document,
            description: input.description.unwrap_or_default(),
            max_session_seconds: input.max_session_duration.map(i64::from),
            boundary: input.permissions_boundary,
            tags: shared::tags_in(input.tags)?,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let tags = shared::request_tags(&plan.tags);
        let mut context = shared::boundary_context(plan.boundary.as_ref());
        context.extend(&tags);
        let mut asks = vec![shared::also(plan.role.ask("iam:CreateRole"), &context)];
        if !plan.tags.is_empty() {
            // IAM guide, "Tag IAM roles": tags given at creation need this as well.
            asks.push(shared::also(plan.role.ask("iam:TagRole"), &tags));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let new = NewRole {
                entity: entity::New {
                    kind: Kind::Role,
                    account: &plan.role.account,
                    name: &plan.role.name,
                    path: plan.path.as_deref(),
                    boundary: plan.boundary.as_deref(),
                    tags: &plan.tags,
                },
                trust: &plan.trust,
                description: &plan.description,
                max_session_seconds: plan.max_session_seconds,
            };
            let role = identity.create_role(tx, &new)?;
            Ok(Output { role: Role::whole(tx, &role)? })
        })
        .await
    }
}
