//! `ec2:ResetEbsDefaultKmsKeyId`: makes `aws/ebs` the default key again.

use crate::storage::condition;
use crate::storage::default_encryption as setting;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;

pub(crate) struct ResetEbsDefaultKmsKeyId;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {}

pub(crate) struct Plan {
    region: Region,
}

impl Operation for ResetEbsDefaultKmsKeyId {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "ResetEbsDefaultKmsKeyId");
    type Input = Input;
    type Plan = Plan;
    type Output = setting::DefaultKey;

    async fn plan(call: &Call, _input: Input) -> Result<Plan, Error> {
        Ok(Plan { region: call.region.clone() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:ResetEbsDefaultKmsKeyId").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, _plan: Granted<Plan>) -> Result<setting::DefaultKey, Error> {
        setting::set_default_key(call, None).await?;
        Ok(setting::DefaultKey::shown(None))
    }
}
