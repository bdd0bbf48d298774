//! `ec2:GetEbsEncryptionByDefault`: says whether everything new is encrypted.

use crate::storage::condition;
use crate::storage::default_encryption as setting;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;

pub(crate) struct GetEbsEncryptionByDefault;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {}

pub(crate) struct Plan {
    region: Region,
}

impl Operation for GetEbsEncryptionByDefault {
    const SPEC: Spec = Spec::reads(Service::Ec2, "GetEbsEncryptionByDefault");
    type Input = Input;
    type Plan = Plan;
    type Output = setting::Switch;

    async fn plan(call: &Call, _input: Input) -> Result<Plan, Error> {
        Ok(Plan { region: call.region.clone() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:GetEbsEncryptionByDefault").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, _plan: Granted<Plan>) -> Result<setting::Switch, Error> {
        let settings = setting::read(call).await?;
        Ok(setting::Switch::of(&settings))
    }
}
