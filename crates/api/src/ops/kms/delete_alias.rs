//! `kms:DeleteAlias`: takes a name away from its key. Needs permission on both (spec 20, A.3).

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::alias::{self, Alias};
use kms::condition::Facts;
use kms::{Action, resolve};

pub(crate) struct DeleteAlias;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    alias_name: String,
}

pub(crate) struct Plan {
    found: Alias,
    key: Ask,
    alias: Ask,
}

impl Operation for DeleteAlias {
    const SPEC: Spec = Spec::mutates(Service::Kms, "DeleteAlias");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let name = input.alias_name;
        alias::check_known(&name)?;
        let action = Action::DeleteAlias;
        let (found, key) = shared::read(call, move |kms, tx, from| {
            let found = alias::get(tx, &from.caller.account, &from.region, &name)?;
            let key_id = found.key_id.as_deref().unwrap_or_default();
            let resolved = resolve::resolve(tx, action, &from.caller, &from.region, key_id)?;
            let ask = from.ask(kms, tx, action, &resolved, &Facts::None)?;
            Ok((found, ask))
        })
        .await?;
        let alias =
            Ask::on(action.iam_name(), &found.arn(), call.account()).with(shared::context(call));
        Ok(Plan { found, key, alias })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.alias.clone(), plan.key.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { found, .. } = plan.into_inner();
        // No state keeps a key's alias (spec 20, B.3).
        shared::write(call, move |kms, tx, _| kms.delete_alias(tx, &found)).await
    }
}
