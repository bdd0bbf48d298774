//! `kms:ListKeyRotations`: the versions of a key's material, oldest first.

use super::shared::{self, Limits, Named, Paging, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use base::Timestamp;
use kms::condition::Facts;
use kms::page::List;
use kms::version::{self, Version};
use kms::{Action, Key, KeyOrigin, import, rotation};
use meta::Tx;

pub(crate) struct ListKeyRotations;

/// KMS API, ListKeyRotations: between 1 and 1000, 100 when none is given.
const LIMITS: Limits = Limits { default: 100, max: 1000 };

string_enum! {
    /// `IncludeKeyMaterial`.
    pub(crate) enum IncludeKeyMaterial {
        /// Also the first version, and one that waits for its rotation.
        All = "ALL_KEY_MATERIAL",
        /// Only what a rotation brought.
        RotationsOnly = "ROTATIONS_ONLY",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    key_id: String,
    include_key_material: Option<IncludeKeyMaterial>,
    limit: Option<i32>,
    marker: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    paging: Paging,
    include: IncludeKeyMaterial,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    rotations: Vec<Rotation>,
    next_marker: Option<String>,
    truncated: bool,
}

/// One entry of the list.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct Rotation {
    key_id: String,
    key_material_id: String,
    key_material_description: Option<String>,
    import_state: Option<&'static str>,
    key_material_state: &'static str,
    expiration_model: Option<&'static str>,
    valid_to: Option<Timestamp>,
    rotation_date: Option<Timestamp>,
    rotation_type: Option<&'static str>,
}

impl Rotation {
    fn of(tx: &mut Tx<'_>, key: &Key, version: &Version) -> kms::Result<Self> {
        let imported = key.origin == KeyOrigin::External;
        let state = if version.material_id == key.material_id {
            "CURRENT"
        } else if !version.is_pending() {
            "NON_CURRENT"
        } else if import::is_everywhere(tx, key, version.material_id)? {
            "PENDING_ROTATION"
        } else {
            "PENDING_MULTI_REGION_IMPORT_AND_ROTATION"
        };
        Ok(Self {
            key_id: key.id.clone(),
            key_material_id: version.material_id.to_string(),
            key_material_description: version.description.clone(),
            import_state: imported.then_some(if version.is_present {
                "IMPORTED"
            } else {
                "PENDING_IMPORT"
            }),
            key_material_state: state,
            expiration_model: (imported && version.is_present)
                .then(|| import::model(version.expires)),
            valid_to: version.expires,
            rotation_date: version.rotated.map(|(at, _)| at),
            rotation_type: version.rotated.map(|(_, kind)| kind.as_str()),
        })
    }
}

/// What markers name a version by; sorts as the numbers do.
fn place(version: &Version) -> String {
    format!("{:010}", version.number)
}

impl Operation for ListKeyRotations {
    const SPEC: Spec = Spec::reads(Service::Kms, "ListKeyRotations");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let paging = Paging::new(List::Rotations, LIMITS, input.limit, input.marker.as_deref())?;
        let action = Action::ListKeyRotations;
        let named = Named { action, key_id: &input.key_id, facts: Facts::None };
        let include = input.include_key_material.unwrap_or(IncludeKeyMaterial::RotationsOnly);
        Ok(Plan { target: shared::target(call, named).await?, paging, include })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, paging, include } = plan.into_inner();
        shared::read(call, move |_, tx, _| {
            let key = shared::usable(tx, Action::ListKeyRotations, &target.key)?;
            rotation::check_rotatable(&key)?;
            let mut versions: Vec<(String, Version)> = version::all(tx, &key)?
                .into_iter()
                .filter(|v| include == IncludeKeyMaterial::All || v.rotated.is_some())
                .map(|version| (place(&version), version))
                .filter(|(place, _)| *place > paging.after)
                .collect();
            versions.truncate(paging.rows() as usize);
            let page = paging.page(versions, |(place, _)| place);
            let entries = page.items.iter().map(|(_, version)| Rotation::of(tx, &key, version));
            Ok(Output {
                rotations: entries.collect::<kms::Result<_>>()?,
                truncated: page.next.is_some(),
                next_marker: page.next,
            })
        })
        .await
    }
}
