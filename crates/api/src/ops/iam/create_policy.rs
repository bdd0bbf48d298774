//! `iam:CreatePolicy`: makes a managed policy.

use super::shared::{self, Policy, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Arn;
use identity::managed::NewPolicy;
use identity::tag::Tags;

pub(crate) struct CreatePolicy;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    policy_name: String,
    path: Option<String>,
    policy_document: String,
    description: Option<String>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policy: Policy,
}

pub(crate) struct Plan {
    ask: Ask,
    name: String,
    path: Option<String>,
    document: String,
    description: String,
    tags: Tags,
}

impl Operation for CreatePolicy {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreatePolicy");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let path = input.path.as_deref().unwrap_or("/");
        let resource = format!("policy{path}{}", input.policy_name);
        let arn = Arn::global("iam", call.account(), &resource);
        let tags = shared::tags_in(input.tags)?;
        let ask = Ask::on("iam:CreatePolicy", &arn, call.account());
        Ok(Plan {
            ask: ask.with(shared::request_tags(&tags)),
            name: input.policy_name,
            path: input.path,
            document: input.policy_document,
            description: input.description.unwrap_or_default(),
            tags,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut asks = vec![plan.ask.clone()];
        if !plan.tags.is_empty() {
            // IAM guide, "Tag customer managed policies": tags given at creation need this as well.
            asks.push(Ask { action: "iam:TagPolicy".to_owned(), ..plan.ask.clone() });
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let plan = plan.into_inner();
        let account = call.account().clone();
        shared::write(call, move |tx, identity| {
            let new = NewPolicy {
                account: &account,
                name: &plan.name,
                path: plan.path.as_deref(),
                description: &plan.description,
                document: &plan.document,
                tags: &plan.tags,
            };
            let policy = identity.create_policy(tx, &new)?;
            Ok(Output { policy: Policy::whole(tx, &account, &policy)? })
        })
        .await
    }
}
