//! `ec2:GetEbsDefaultKmsKeyId`: names the key used when a request names none.

use crate::storage::condition;
use crate::storage::default_encryption as setting;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;

pub(crate) struct GetEbsDefaultKmsKeyId;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {}

pub(crate) struct Plan {
    region: Region,
}

impl Operation for GetEbsDefaultKmsKeyId {
    const SPEC: Spec = Spec::reads(Service::Ec2, "GetEbsDefaultKmsKeyId");
    type Input = Input;
    type Plan = Plan;
    type Output = setting::DefaultKey;

    async fn plan(call: &Call, _input: Input) -> Result<Plan, Error> {
        Ok(Plan { region: call.region.clone() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:GetEbsDefaultKmsKeyId").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, _plan: Granted<Plan>) -> Result<setting::DefaultKey, Error> {
        let settings = setting::read(call).await?;
        Ok(setting::DefaultKey::shown(settings.default_key_arn))
    }
}
