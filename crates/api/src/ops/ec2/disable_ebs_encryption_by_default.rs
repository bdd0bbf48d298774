//! `ec2:DisableEbsEncryptionByDefault`: encrypts new resources only when asked.

use crate::storage::condition;
use crate::storage::default_encryption as setting;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;

pub(crate) struct DisableEbsEncryptionByDefault;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {}

pub(crate) struct Plan {
    region: Region,
}

impl Operation for DisableEbsEncryptionByDefault {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "DisableEbsEncryptionByDefault");
    type Input = Input;
    type Plan = Plan;
    type Output = setting::Switched;

    async fn plan(call: &Call, _input: Input) -> Result<Plan, Error> {
        Ok(Plan { region: call.region.clone() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DisableEbsEncryptionByDefault").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, _plan: Granted<Plan>) -> Result<setting::Switched, Error> {
        setting::switch(call, false).await
    }
}
