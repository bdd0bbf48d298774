//! `ec2:ModifyEbsDefaultKmsKeyId`: chooses the key used when a request names none.
//!
//! The resolved ARN is kept, so pointing an alias elsewhere later changes nothing (spec 04).

use crate::storage::code::invalid_value;
use crate::storage::condition;
use crate::storage::default_encryption as setting;
use crate::storage::key::describe_key;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Region;
use lifecycle::port::kms::KmsFailure;

pub(crate) struct ModifyEbsDefaultKmsKeyId;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    kms_key_id: String,
}

pub(crate) struct Plan {
    region: Region,
    key_id: String,
}

impl Operation for ModifyEbsDefaultKmsKeyId {
    const SPEC: Spec = Spec::mutates(Service::Ec2, "ModifyEbsDefaultKmsKeyId");
    type Input = Input;
    type Plan = Plan;
    type Output = setting::DefaultKey;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { kms_key_id: key_id } = input;
        Ok(Plan { region: call.region.clone(), key_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:ModifyEbsDefaultKmsKeyId").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<setting::DefaultKey, Error> {
        let id = &plan.key_id;
        let invalid = || invalid_value(format!("The specified keyId {id} is invalid"));
        let arn = match describe_key(call, id).await {
            // Whether the key is enabled is asked when it is used.
            Ok(facts) if facts.symmetric => facts.arn,
            Ok(_) => return Err(invalid()),
            Err(KmsFailure::Unavailable { message }) => {
                return Err(Error::internal(KmsFailure::Unavailable { message }));
            }
            Err(
                KmsFailure::Denied { .. }
                | KmsFailure::State { .. }
                | KmsFailure::NotFound { .. }
                | KmsFailure::Unusable { .. },
            ) => return Err(invalid()),
        };
        setting::set_default_key(call, Some(arn.clone())).await?;
        Ok(setting::DefaultKey::shown(Some(arn)))
    }
}
