//! `kms:DeleteImportedKeyMaterial`: forgets material that its owner imported. The key waits until it comes back.

use super::shared::{self, Named, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::{Action, MaterialId, import};

pub(crate) struct DeleteImportedKeyMaterial;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    key_material_id: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    material_id: Option<MaterialId>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    key_material_id: Option<String>,
}

impl Operation for DeleteImportedKeyMaterial {
    const SPEC: Spec = Spec::mutates(Service::Kms, "DeleteImportedKeyMaterial");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let material_id = shared::material_id(input.key_material_id.as_deref())?;
        let action = Action::DeleteImportedKeyMaterial;
        let named = Named { action, key_id: &input.key_id, facts: Facts::None };
        Ok(Plan { target: shared::target(call, named).await?, material_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, material_id } = plan.into_inner();
        let key_id = target.key.arn().to_string();
        let deleted = shared::write(call, move |kms, tx, _| {
            let key = shared::usable(tx, Action::DeleteImportedKeyMaterial, &target.key)?;
            import::check_importable(&key)?;
            let deleted = kms.delete_imported(tx, &key, material_id)?;
            Ok(deleted.filter(|_| key.kind.is_symmetric()))
        })
        .await?;
        Ok(Output { key_id, key_material_id: deleted.map(|id| id.to_string()) })
    }
}
