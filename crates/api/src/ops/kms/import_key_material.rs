//! `kms:ImportKeyMaterial`: puts its owner's key material into a key.

use super::shared::{self, Named, Target};
use crate::forge::aside;
use crate::key_life;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Blob, Shape, string_enum};
use base::Timestamp;
use kms::Action;
use kms::condition::Facts;
use kms::import::{self, Import};

pub(crate) struct ImportKeyMaterial;

string_enum! {
    /// `ExpirationModel`.
    pub(crate) enum ExpirationModel {
        /// On the date of `ValidTo`.
        Expires = "KEY_MATERIAL_EXPIRES",
        /// Never.
        DoesNotExpire = "KEY_MATERIAL_DOES_NOT_EXPIRE",
    }
}

string_enum! {
    /// `ImportType`.
    pub(crate) enum ImportType {
        /// Material the key does not know.
        New = "NEW_KEY_MATERIAL",
        /// Material it has or had.
        Existing = "EXISTING_KEY_MATERIAL",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    #[shape(sensitive)]
    import_token: Blob,
    #[shape(sensitive)]
    encrypted_key_material: Blob,
    valid_to: Option<Timestamp>,
    expiration_model: Option<ExpirationModel>,
    import_type: Option<ImportType>,
    key_material_description: Option<String>,
    key_material_id: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    token: Blob,
    wrapped: Blob,
    import: Import,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    key_id: String,
    /// Of symmetric encryption keys: others have one material, which needs no name.
    pub(crate) key_material_id: Option<String>,
}

impl Operation for ImportKeyMaterial {
    const SPEC: Spec = Spec::mutates(Service::Kms, "ImportKeyMaterial");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let model = input.expiration_model.map(ExpirationModel::as_str);
        let expires = import::check_expiry(model, input.valid_to, call.now)?;
        if let Some(text) = &input.key_material_description {
            import::check_description(text)?;
        }
        let import = Import {
            expires,
            import_type: input.import_type.map(|kind| match kind {
                ImportType::New => import::ImportType::New,
                ImportType::Existing => import::ImportType::Existing,
            }),
            description: input.key_material_description,
            material_id: shared::material_id(input.key_material_id.as_deref())?,
        };
        let facts = Facts::Import { expires };
        let named = Named { action: Action::ImportKeyMaterial, key_id: &input.key_id, facts };
        Ok(Plan {
            target: shared::target(call, named).await?,
            token: input.import_token,
            wrapped: input.encrypted_key_material,
            import,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, token, wrapped, import } = plan.into_inner();
        let (action, planned, now) = (Action::ImportKeyMaterial, target.key, call.now);
        let key_id = planned.arn().to_string();
        let key = planned.clone();
        let unwrapper = shared::read(call, move |kms, tx, _| {
            let key = shared::usable(tx, action, &key)?;
            import::check_importable(&key)?;
            kms.open_import_token(tx, &key, &token)
        })
        .await?;
        let brought = aside(move || unwrapper.unwrap(&wrapped)).await?;
        let id = shared::write(call, move |kms, tx, _| {
            let key = shared::usable(tx, action, &planned)?;
            let id = kms.import(tx, &key, &brought, &import)?;
            if let Some(at) = import.expires {
                key_life::expire_at(tx, &key, now, at)?;
            }
            Ok(key.kind.is_symmetric().then(|| id.to_string()))
        })
        .await?;
        call.world.waker.wake();
        Ok(Output { key_id, key_material_id: id })
    }
}
