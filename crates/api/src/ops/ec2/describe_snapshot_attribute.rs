//! `ec2:DescribeSnapshotAttribute`: shows its owner whom a snapshot is shared with.

use super::modify_snapshot_attribute::{Attribute, check_owner};
use crate::storage::find::{FoundSnapshot, parsed};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::SnapshotId;
use ebs::{arns, permission};

pub(crate) struct DescribeSnapshotAttribute;

#[derive(Shape)]
#[shape(input, dry_run)]
pub(crate) struct Input {
    attribute: Attribute,
    snapshot_id: SnapshotId,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Permission {
    user_id: Option<String>,
    group: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct ProductCode {
    #[shape(xml = "productCode")]
    product_code_id: String,
    #[shape(xml = "type")]
    product_code_type: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    product_codes: Option<Vec<ProductCode>>,
    snapshot_id: SnapshotId,
    #[shape(xml = "createVolumePermission")]
    create_volume_permissions: Option<Vec<Permission>>,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
    attribute: Attribute,
}

impl Operation for DescribeSnapshotAttribute {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeSnapshotAttribute");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { attribute, snapshot_id } = input;
        Ok(Plan { found: FoundSnapshot::find(call, &snapshot_id).await?, attribute })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let snapshot = &plan.found.snapshot;
        let mut context = plan.found.context();
        context.set("ec2:Attribute", plan.attribute.as_str());
        let arn = parsed(&arns::snapshot_arn(&snapshot.region, &snapshot.id));
        let action = "ec2:DescribeSnapshotAttribute";
        vec![Ask::on(action, &arn, &snapshot.account).with(context)]
    }

    async fn rehearse(_call: &Call, plan: &Plan) -> Result<(), Error> {
        check_owner(&plan.found)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { found, attribute } = plan.into_inner();
        check_owner(&found)?;
        let snapshot_id = found.snapshot.id.clone();
        match attribute {
            Attribute::ProductCodes => Ok(Output {
                product_codes: Some(Vec::new()),
                snapshot_id,
                create_volume_permissions: None,
            }),
            Attribute::CreateVolumePermission => {
                let read = move |tx: &mut meta::Tx<'_>| permission::get(tx, &found.snapshot);
                let permissions = call.world.db.read(read).await?;
                let group = permissions.public.then(|| permission::GROUP_ALL.to_owned());
                let group = group.map(|group| Permission { user_id: None, group: Some(group) });
                let users = permissions.users.into_iter();
                let users =
                    users.map(|user| Permission { user_id: Some(user.to_string()), group: None });
                let listed = group.into_iter().chain(users).collect();
                let create_volume_permissions = Some(listed);
                Ok(Output { product_codes: None, snapshot_id, create_volume_permissions })
            }
        }
    }
}
