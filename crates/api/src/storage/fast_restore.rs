//! What the operations of fast snapshot restore have in common.

use super::code::{INCORRECT_STATE, invalid_value};
use super::find::{FoundSnapshot, zone_id};
use super::tiering::RESOURCE_LIMIT_EXCEEDED;
use crate::call::Call;
use crate::error::Error;
use crate::pipeline::Ask;
use awsproto::code::{INVALID_PARAMETER_COMBINATION, INVALID_PARAMETER_VALUE, MISSING_PARAMETER};
use awsproto::{ErrorSpec, Shape};
use base::{SnapshotId, Timestamp};
use ebs::FastRestore;
use ebs::fast_restore_rules::EnableRefused;
use std::collections::BTreeMap;

const INVALID_REQUEST: ErrorSpec = ErrorSpec::sender("InvalidRequest", 400);
/// Values in each list of a request, as seen on AWS.
const VALUES_MAX: usize = 10;

/// Fast snapshot restore of one snapshot in one zone.
#[derive(Shape)]
#[shape(output, omitted(OwnerAlias))]
pub(crate) struct FastRestoreItem {
    snapshot_id: SnapshotId,
    availability_zone: String,
    availability_zone_id: String,
    state: String,
    state_transition_reason: String,
    owner_id: String,
    enabling_time: Timestamp,
    optimizing_time: Option<Timestamp>,
    enabled_time: Option<Timestamp>,
    disabling_time: Option<Timestamp>,
    disabled_time: Option<Timestamp>,
}

impl FastRestoreItem {
    pub(crate) fn of(row: FastRestore, zone_id: String) -> Self {
        Self {
            snapshot_id: row.snapshot,
            availability_zone: row.zone,
            availability_zone_id: zone_id,
            state: row.state.as_str().to_owned(),
            state_transition_reason: row.reason,
            owner_id: row.account.to_string(),
            enabling_time: row.enabling,
            optimizing_time: row.optimizing,
            enabled_time: row.enabled,
            disabling_time: row.disabling,
            disabled_time: row.disabled,
        }
    }
}

/// A snapshot for which something did not work.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct ErrorItem {
    snapshot_id: SnapshotId,
    #[shape(xml = "fastSnapshotRestoreStateErrorSet")]
    fast_snapshot_restore_state_errors: Vec<StateErrorItem>,
}

/// In which zone.
#[derive(Shape)]
#[shape(output)]
struct StateErrorItem {
    availability_zone: String,
    availability_zone_id: String,
    error: StateError,
}

/// Why.
#[derive(Shape)]
#[shape(output)]
struct StateError {
    code: String,
    message: String,
}

/// What became of a request, pair by pair of snapshot and zone.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    successful: Vec<FastRestoreItem>,
    unsuccessful: Vec<ErrorItem>,
}

/// The same before it is put into shapes.
#[derive(Default)]
pub(crate) struct Outcomes {
    done: Vec<FastRestore>,
    failed: BTreeMap<SnapshotId, Vec<(String, Error)>>,
}

impl Outcomes {
    /// Notes what became of a snapshot in a zone.
    pub(crate) fn note(
        &mut self,
        snapshot: &SnapshotId,
        zone: &str,
        outcome: Result<FastRestore, Error>,
    ) {
        match outcome {
            Ok(row) => self.done.push(row),
            Err(error) => {
                let failed = self.failed.entry(snapshot.clone()).or_default();
                failed.push((zone.to_owned(), error));
            }
        }
    }

    pub(crate) fn shown(self, call: &Call) -> Output {
        let done = self.done.into_iter().map(|row| {
            let zone_id = zone_id(call, &row.zone);
            FastRestoreItem::of(row, zone_id)
        });
        let state_error = |(zone, error): (String, Error)| StateErrorItem {
            availability_zone_id: zone_id(call, &zone),
            availability_zone: zone,
            error: StateError { code: error.code().to_owned(), message: error.0.message },
        };
        let failed = self.failed.into_iter().map(|(snapshot_id, errors)| ErrorItem {
            snapshot_id,
            fast_snapshot_restore_state_errors: errors.into_iter().map(state_error).collect(),
        });
        Output { successful: done.collect(), unsuccessful: failed.collect() }
    }
}

/// A request to enable or to disable.
#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    #[shape(query = "AvailabilityZone")]
    availability_zones: Vec<String>,
    #[shape(query = "AvailabilityZoneId")]
    availability_zone_ids: Vec<String>,
    #[shape(query = "SourceSnapshotId", required)]
    source_snapshot_ids: Vec<SnapshotId>,
}

/// The snapshots and zones of a request.
pub(crate) struct Plan {
    /// Each once, by id.
    pub(crate) snapshots: Vec<FoundSnapshot>,
    /// By name, each once.
    pub(crate) zones: Vec<String>,
}

impl Plan {
    pub(crate) async fn new(call: &Call, input: Input) -> Result<Self, Error> {
        let Input { availability_zones: names, availability_zone_ids: zone_ids, .. } = input;
        let mut ids = input.source_snapshot_ids;
        let lists = [
            ("SourceSnapshotIds", ids.len()),
            ("AvailabilityZones", names.len()),
            ("AvailabilityZoneIds", zone_ids.len()),
        ];
        if let Some((name, _)) = lists.iter().find(|(_, count)| *count > VALUES_MAX) {
            return Err(Error::new(
                INVALID_REQUEST,
                format!(
                    "Number of values of parameter {name} must be less than or equal to \
                     {VALUES_MAX}."
                ),
            ));
        }
        let zones = zones(call, names, zone_ids)?;
        ids.sort();
        ids.dedup();
        let mut snapshots = Vec::with_capacity(ids.len());
        for id in ids {
            snapshots.push(FoundSnapshot::find(call, &id).await?);
        }
        Ok(Self { snapshots, zones })
    }

    /// Permission on every snapshot, in these zones.
    pub(crate) fn asks(&self, action: &str) -> Vec<Ask> {
        let ask = |found: &FoundSnapshot| {
            let mut context = found.context();
            context.set_multi("ec2:AvailabilityZone", self.zones.iter().cloned());
            found.ask(action).with(context)
        };
        self.snapshots.iter().map(ask).collect()
    }
}

/// The names of the zones that a request gives by name or by id.
fn zones(call: &Call, names: Vec<String>, ids: Vec<String>) -> Result<Vec<String>, Error> {
    let known = call.world.regions.zones(&call.region);
    let mut zones = match (names.is_empty(), ids.is_empty()) {
        (false, false) => {
            let message = "The parameters AvailabilityZones and AvailabilityZoneIds cannot be used \
                           together.";
            return Err(Error::new(INVALID_PARAMETER_COMBINATION, message));
        }
        (true, true) => {
            let message = "The request must contain the parameter AvailabilityZone";
            return Err(Error::new(MISSING_PARAMETER, message));
        }
        (false, true) => names,
        (true, false) => {
            let named = |id: String| {
                let found = known.iter().find(|name| zone_id(call, name) == id);
                found.cloned().unwrap_or(id)
            };
            ids.into_iter().map(named).collect()
        }
    };
    if let Some(bad) = zones.iter().find(|zone| !known.contains(zone)) {
        return Err(invalid_value(format!("Invalid availability zone: [{bad}]")));
    }
    zones.sort();
    zones.dedup();
    Ok(zones)
}

/// A rule's refusal, in EC2's words.
pub(crate) fn refusal(refused: EnableRefused) -> Error {
    use EnableRefused as Refused;
    let spec = match &refused {
        Refused::NotCompleted { .. } | Refused::Archived { .. } | Refused::Disabling { .. } => {
            INCORRECT_STATE
        }
        Refused::TooLarge => INVALID_PARAMETER_VALUE,
        Refused::TooMany => RESOURCE_LIMIT_EXCEEDED,
    };
    Error::new(spec, refused.to_string())
}
