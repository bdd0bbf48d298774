//! `ec2:ModifyVolume`: makes a volume larger, or of another type, while it is in use.

use crate::storage::code::{INCORRECT_STATE, invalid_value, volume_not_found};
use crate::storage::find::FoundVolume;
use crate::storage::modification::ModificationShape;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::code::{MISSING_PARAMETER, UNSUPPORTED_OPERATION};
use awsproto::{ErrorSpec, Shape};
use base::VolumeId;
use ebs::modification::{self, Modification, ModificationState, Provision, blocked_until};
use ebs::volume_type::VolumeSpec;
use ebs::{Volume, VolumeState, VolumeType, volume};
use lifecycle::workflow::modify_volume::ModifyVolume as Job;

pub(crate) struct ModifyVolume;

const INCORRECT_MODIFICATION_STATE: ErrorSpec =
    ErrorSpec::sender("IncorrectModificationState", 400);
const VOLUME_MODIFICATION_RATE_EXCEEDED: ErrorSpec =
    ErrorSpec::sender("VolumeModificationRateExceeded", 400);

/// What IOPS become when a volume changes to a type that is sold by them and none are given.
const IOPS_DEFAULT: i64 = 3_000;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    volume_id: VolumeId,
    size: Option<i32>,
    volume_type: Option<String>,
    iops: Option<i32>,
    throughput: Option<i32>,
    multi_attach_enabled: Option<bool>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    volume_modification: ModificationShape,
}

pub(crate) struct Plan {
    found: FoundVolume,
    target: Provision,
    /// What the request names, for conditions of policies.
    attributes: Vec<(&'static str, String)>,
}

impl Operation for ModifyVolume {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "ModifyVolume");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let found = FoundVolume::find(call, &input.volume_id).await?;
        if input.multi_attach_enabled == Some(true) {
            let message = "The parameter MultiAttachEnabled is not supported.";
            return Err(Error::new(UNSUPPORTED_OPERATION, message));
        }
        let attributes = attributes(&input);
        if attributes.is_empty() {
            let message = "The request must contain at least one of the parameters size, \
                           volumeType, iops, throughput or multiAttachEnabled";
            return Err(Error::new(MISSING_PARAMETER, message));
        }
        let target = target(&input, &found.volume)?;
        Ok(Plan { found, target, attributes })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let mut context = plan.found.context();
        for (name, value) in &plan.attributes {
            context.set(format!("ec2:Attribute/{name}"), value.as_str());
        }
        context
            .set_multi("ec2:Attribute", plan.attributes.iter().map(|(name, _)| (*name).to_owned()));
        vec![plan.found.ask("ec2:ModifyVolume").with(context)]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { found, target, .. } = plan.into_inner();
        let (now, id) = (call.now, found.volume.id.clone());
        let (account, region) = (call.account().clone(), call.region.clone());
        let accepted = call.world.db.write(move |tx| {
            let Some(volume) = volume::get(tx, &region, &id)? else {
                return Err(volume_not_found(id.as_str()));
            };
            let history = modification::of_volume(tx, &account, &region, &id)?;
            check_free(&volume, &history, now)?;
            let row = Modification {
                account: account.clone(),
                region: region.clone(),
                volume: id.clone(),
                number: history.first().map_or(1, |latest| latest.number + 1),
                state: ModificationState::Modifying,
                progress: 0,
                status_message: None,
                original: volume.provision(),
                target,
                started: now,
                ended: None,
            };
            modification::insert(tx, &row)?;
            let (account, region) = (account.clone(), region.clone());
            let job = Job { account, region, volume: id.clone(), number: row.number };
            lifecycle::kinds::enqueue_modify_volume(tx, &job, now)?;
            Ok::<_, Error>(row)
        });
        let row = accepted.await?;
        call.world.wake_jobs();
        Ok(Output { volume_modification: ModificationShape::of(&row) })
    }
}

fn attributes(input: &Input) -> Vec<(&'static str, String)> {
    let Input { size, volume_type, iops, throughput, multi_attach_enabled, .. } = input;
    let number = |value: &Option<i32>| value.map(|value| value.to_string());
    [
        ("Size", number(size)),
        ("VolumeType", volume_type.clone()),
        ("Iops", number(iops)),
        ("Throughput", number(throughput)),
        ("MultiAttachEnabled", multi_attach_enabled.map(|flag| flag.to_string())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

/// What the volume is to become (spec 01, "ModifyVolume": what is kept and what is filled in).
fn target(input: &Input, volume: &Volume) -> Result<Provision, Error> {
    let volume_type = match &input.volume_type {
        Some(text) => VolumeType::parse(text)?,
        None => volume.volume_type,
    };
    let size_gib = input.size.map_or(i64::from(volume.size_gib), i64::from);
    if size_gib < i64::from(volume.size_gib) {
        return Err(invalid_value("New size cannot be smaller than existing size"));
    }
    let same_type = volume_type == volume.volume_type;
    let iops = match (input.iops, volume_type) {
        (Some(iops), _) => Some(i64::from(iops)),
        (None, _) if same_type => volume.iops.map(i64::from).filter(|_| volume_type.has_iops()),
        (None, _) => volume_type.has_iops().then_some(IOPS_DEFAULT),
    };
    let throughput_mib = match input.throughput {
        Some(throughput) => Some(i64::from(throughput)),
        None if same_type => volume.throughput_mib.map(i64::from),
        None => None,
    };
    let spec = VolumeSpec { volume_type, size_gib, iops, throughput_mib, multi_attach: false };
    let performance = spec.check()?;
    Ok(Provision {
        size_gib: u32::try_from(size_gib).expect("the size has been checked"),
        volume_type,
        iops: performance.iops,
        throughput_mib: performance.throughput_mib,
    })
}

/// Whether the volume may be modified now.
fn check_free(
    volume: &Volume,
    history: &[Modification],
    now: base::Timestamp,
) -> Result<(), Error> {
    let id = &volume.id;
    if !matches!(volume.state, VolumeState::Available | VolumeState::InUse) {
        let state = volume.state.as_str();
        let message = format!("The volume '{id}' is in the '{state}' state.");
        return Err(Error::new(INCORRECT_STATE, message));
    }
    if let Some(latest) = history.first().filter(|latest| latest.state.is_under_way()) {
        let state = latest.state.as_str();
        let message = format!("Volume '{id}' is currently in modification state '{state}'.");
        return Err(Error::new(INCORRECT_MODIFICATION_STATE, message));
    }
    if let Some(free) = blocked_until(history, now) {
        return Err(Error::new(
            VOLUME_MODIFICATION_RATE_EXCEEDED,
            format!(
                "You've reached the maximum modification rate per volume limit. Wait at least 6 \
                 hours between modifications per EBS volume. The next modification of '{id}' is \
                 possible at {}.",
                free.iso_seconds()
            ),
        ));
    }
    Ok(())
}
