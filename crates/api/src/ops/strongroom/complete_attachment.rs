//! `strongroom:CompleteAttachment`: the machine has the volume open and serves it, or was refused the
//! volume's key.

use super::shared::{Found, epoch, refusal};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use base::VolumeId;
use lifecycle::workflow::remote;

pub(crate) struct CompleteAttachment;

string_enum! {
    /// How the machine's opening ended.
    pub(crate) enum Outcome {
        /// It serves the volume. So it is when nothing is said.
        Opened = "opened",
        /// KMS refused it the volume's key.
        KeyRefused = "key-refused",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    epoch: i64,
    outcome: Option<Outcome>,
    volume_id: VolumeId,
}

pub(crate) struct Plan {
    found: Found,
    epoch: u64,
    outcome: Outcome,
}

impl Operation for CompleteAttachment {
    const SPEC: Spec = Spec::mutates(Service::Strongroom, "CompleteAttachment");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let found = Found::find(call, &input.volume_id).await?;
        let outcome = input.outcome.unwrap_or(Outcome::Opened);
        Ok(Plan { found, epoch: epoch(input.epoch)?, outcome })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("strongroom:CompleteAttachment")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { found: Found { volume, attachment }, epoch, outcome } = plan.into_inner();
        let services = &call.world.services;
        let done = match outcome {
            Outcome::Opened => remote::complete(services, &attachment, epoch).await,
            Outcome::KeyRefused => {
                let id = call.request_id.clone();
                remote::key_refused(services, &volume.volume, &attachment, epoch, id).await
            }
        };
        done.map_err(refusal)
    }
}
