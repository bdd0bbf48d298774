//! `ec2:DescribeInstances`: lists the machines volumes can be attached to.
//!
//! Machines are registered by the operator; they are not launched and are always running.

use crate::storage::code::INVALID_INSTANCE_NOT_FOUND;
use crate::storage::condition;
use crate::storage::find::zone_id;
use crate::storage::page::{Paging, Selection};
use crate::storage::shape::{Filter, Tag as TagShape};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::{InstanceId, Region, Timestamp, VolumeId};
use ebs::filter::Filterable;
use ebs::tag::{self, Tag};
use ebs::{Attachment, Instance, attachment, instance};
use std::collections::HashMap;

pub(crate) struct DescribeInstances;

/// `running`, as `InstanceState.Code` numbers it.
const RUNNING_CODE: i32 = 16;
const RUNNING: &str = "running";

#[derive(Shape)]
#[shape(input, dry_run, unsupported(IncludeManagedResources))]
pub(crate) struct Input {
    #[shape(query = "InstanceId")]
    instance_ids: Vec<InstanceId>,
    #[shape(query = "Filter")]
    filters: Vec<Filter>,
    next_token: Option<String>,
    max_results: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct InstanceState {
    code: i32,
    name: String,
}

#[derive(Shape)]
#[shape(
    output,
    omitted(
        Affinity,
        GroupName,
        PartitionNumber,
        HostId,
        Tenancy,
        SpreadDomain,
        HostResourceGroupArn,
        GroupId
    )
)]
pub(crate) struct Placement {
    availability_zone: String,
    availability_zone_id: String,
}

#[derive(Shape)]
#[shape(output, omitted(AssociatedResource, VolumeOwnerId, Operator, EbsCardIndex))]
pub(crate) struct EbsDevice {
    attach_time: Timestamp,
    delete_on_termination: bool,
    status: String,
    volume_id: VolumeId,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct DeviceMapping {
    device_name: String,
    ebs: EbsDevice,
}

#[derive(Shape)]
#[shape(
    output,
    omitted(
        Architecture,
        ClientToken,
        EbsOptimized,
        EnaSupport,
        Hypervisor,
        IamInstanceProfile,
        InstanceLifecycle,
        ElasticGpuAssociations,
        ElasticInferenceAcceleratorAssociations,
        NetworkInterfaces,
        OutpostArn,
        RootDeviceName,
        RootDeviceType,
        SecurityGroups,
        SourceDestCheck,
        SpotInstanceRequestId,
        SriovNetSupport,
        StateReason,
        VirtualizationType,
        CpuOptions,
        CapacityBlockId,
        CapacityReservationId,
        CapacityReservationSpecification,
        HibernationOptions,
        Licenses,
        MetadataOptions,
        EnclaveOptions,
        BootMode,
        PlatformDetails,
        UsageOperation,
        UsageOperationUpdateTime,
        PrivateDnsNameOptions,
        Ipv6Address,
        TpmSupport,
        MaintenanceOptions,
        CurrentInstanceBootMode,
        NetworkPerformanceOptions,
        Operator,
        SecondaryInterfaces,
        ImageId,
        PrivateDnsName,
        PublicDnsName,
        StateTransitionReason,
        KeyName,
        AmiLaunchIndex,
        ProductCodes,
        InstanceType,
        KernelId,
        RamdiskId,
        Platform,
        Monitoring,
        SubnetId,
        VpcId,
        PrivateIpAddress,
        PublicIpAddress
    )
)]
pub(crate) struct InstanceShape {
    #[shape(xml = "blockDeviceMapping")]
    block_device_mappings: Vec<DeviceMapping>,
    #[shape(xml = "tagSet")]
    tags: Vec<TagShape>,
    instance_id: InstanceId,
    #[shape(xml = "instanceState")]
    state: InstanceState,
    launch_time: Timestamp,
    placement: Placement,
}

#[derive(Shape)]
#[shape(output, omitted(RequesterId, Groups))]
pub(crate) struct Reservation {
    reservation_id: String,
    owner_id: String,
    #[shape(xml = "instancesSet")]
    instances: Vec<InstanceShape>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    next_token: Option<String>,
    #[shape(xml = "reservationSet")]
    reservations: Vec<Reservation>,
}

pub(crate) struct Plan {
    region: Region,
    ids: Vec<InstanceId>,
    selection: Selection,
}

/// A machine with what hangs on it.
struct Listed {
    instance: Instance,
    attachments: Vec<Attachment>,
    tags: Vec<Tag>,
    zone_id: String,
}

impl Operation for DescribeInstances {
    const SPEC: Spec = Spec::reads(Service::Ec2, "DescribeInstances");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { instance_ids: ids, filters, next_token, max_results } = input;
        let paging = Paging { max_results, next_token, ids_given: !ids.is_empty() };
        let selection = Selection::new::<Listed>(filters, paging, "instances")?;
        Ok(Plan { region: call.region.clone(), ids, selection })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("ec2:DescribeInstances").with(condition::of_region(&plan.region))]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let mut listed = list(call).await?;
        let known = |id: &&InstanceId| listed.iter().any(|listed| listed.instance.id == **id);
        if let Some(missing) = plan.ids.iter().find(|id| !known(id)) {
            let message = format!("The instance ID '{missing}' does not exist");
            return Err(Error::new(INVALID_INSTANCE_NOT_FOUND, message));
        }
        if !plan.ids.is_empty() {
            listed.retain(|listed| plan.ids.contains(&listed.instance.id));
        }
        let page = plan.selection.page(listed, |listed| listed.instance.id.as_str())?;
        let reservations = page.items.into_iter().map(Listed::into_reservation).collect();
        Ok(Output { reservations, next_token: page.next_token })
    }
}

async fn list(call: &Call) -> Result<Vec<Listed>, Error> {
    let (account, region) = (call.account().clone(), call.region.clone());
    let (instances, attachments, tags) = call
        .world
        .db
        .read(move |tx| {
            let instances = instance::list(tx, &account, &region)?;
            let attachments = attachment::list(tx, &account, &region)?;
            Ok::<_, ebs::Error>((instances, attachments, tag::by_resource(tx, &account, &region)?))
        })
        .await?;
    let mut by_instance: HashMap<InstanceId, Vec<Attachment>> = HashMap::new();
    for attachment in attachments {
        by_instance.entry(attachment.instance.clone()).or_default().push(attachment);
    }
    Ok(instances
        .into_iter()
        .map(|instance| Listed {
            attachments: by_instance.remove(&instance.id).unwrap_or_default(),
            tags: shown_tags(&instance, tags.get(instance.id.as_str())),
            zone_id: zone_id(call, &instance.zone),
            instance,
        })
        .collect())
}

/// The operator's name for the machine shows as its `Name`, unless the account gave it one.
fn shown_tags(instance: &Instance, tags: Option<&Vec<Tag>>) -> Vec<Tag> {
    let mut tags = tags.cloned().unwrap_or_default();
    if let Some(name) = &instance.name
        && !tags.iter().any(|(key, _)| key == "Name")
    {
        tags.push(("Name".to_owned(), name.clone()));
    }
    tags
}

impl Listed {
    fn into_reservation(self) -> Reservation {
        let Self { instance, attachments, tags, zone_id } = self;
        let mapping = |attachment: &Attachment| DeviceMapping {
            device_name: attachment.device.clone(),
            ebs: EbsDevice {
                attach_time: attachment.attached,
                delete_on_termination: attachment.delete_on_termination,
                status: attachment.state.as_str().to_owned(),
                volume_id: attachment.volume.clone(),
            },
        };
        let shape = InstanceShape {
            block_device_mappings: attachments.iter().map(mapping).collect(),
            tags: tags.into_iter().map(TagShape::from).collect(),
            state: InstanceState { code: RUNNING_CODE, name: RUNNING.to_owned() },
            launch_time: instance.created,
            placement: Placement {
                availability_zone: instance.zone,
                availability_zone_id: zone_id,
            },
            instance_id: instance.id,
        };
        Reservation {
            reservation_id: reservation_id(&shape.instance_id),
            owner_id: instance.account.to_string(),
            instances: vec![shape],
        }
    }
}

/// Every machine is a reservation of its own.
fn reservation_id(instance: &InstanceId) -> String {
    format!("r-{}", instance.as_str().trim_start_matches(InstanceId::PREFIX))
}

impl Filterable for Listed {
    const NAMES: &'static [&'static str] = &[
        "availability-zone",
        "availability-zone-id",
        "block-device-mapping.attach-time",
        "block-device-mapping.delete-on-termination",
        "block-device-mapping.device-name",
        "block-device-mapping.status",
        "block-device-mapping.volume-id",
        "instance-id",
        "instance-state-code",
        "instance-state-name",
        "launch-time",
        "owner-id",
        "reservation-id",
    ];

    fn values(&self, name: &str) -> Vec<String> {
        let of_attachments = |value: &dyn Fn(&Attachment) -> String| {
            self.attachments.iter().map(value).collect::<Vec<_>>()
        };
        vec![match name {
            "availability-zone" => self.instance.zone.clone(),
            "availability-zone-id" => self.zone_id.clone(),
            "block-device-mapping.attach-time" => {
                return of_attachments(&|a| a.attached.iso_millis());
            }
            "block-device-mapping.delete-on-termination" => {
                return of_attachments(&|a| a.delete_on_termination.to_string());
            }
            "block-device-mapping.device-name" => return of_attachments(&|a| a.device.clone()),
            "block-device-mapping.status" => {
                return of_attachments(&|a| a.state.as_str().to_owned());
            }
            "block-device-mapping.volume-id" => return of_attachments(&|a| a.volume.to_string()),
            "instance-id" => self.instance.id.to_string(),
            "instance-state-code" => RUNNING_CODE.to_string(),
            "instance-state-name" => RUNNING.to_owned(),
            "launch-time" => self.instance.created.iso_millis(),
            "reservation-id" => reservation_id(&self.instance.id),
            _ => self.instance.account.to_string(),
        }]
    }

    fn tags(&self) -> &[Tag] {
        &self.tags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, START, account, bench, region, run};
    use ebs::AttachmentState;
    use serde_json::{Value, json};

    const FIRST: &str = "i-00000000000000001";
    const SECOND: &str = "i-00000000000000002";

    /// Two machines of account 1; the first has a volume.
    async fn with_machines() -> Bench {
        let bench = bench().await;
        let made = bench.world.db.write(|tx| {
            for (id, zone, name) in
                [(FIRST, "us-east-1a", Some("db")), (SECOND, "us-east-1b", None)]
            {
                let machine = Instance {
                    id: InstanceId::parse(id).unwrap(),
                    account: account(1),
                    region: region("us-east-1"),
                    zone: zone.to_owned(),
                    name: name.map(str::to_owned),
                    created: START,
                };
                instance::insert(tx, &machine)?;
            }
            let attached = Attachment {
                account: account(1),
                region: region("us-east-1"),
                volume: VolumeId::parse("vol-00000000000000001").unwrap(),
                instance: InstanceId::parse(FIRST).unwrap(),
                device: "/dev/sdf".to_owned(),
                state: AttachmentState::Attached,
                attached: START,
                delete_on_termination: false,
                grant_id: None,
                impaired: None,
            };
            attachment::insert(tx, &attached)
        });
        assert!(made.await.unwrap());
        bench
    }

    fn ids(reply: &Value) -> Vec<&str> {
        let reservations = reply["Reservations"].as_array().unwrap().iter();
        reservations.map(|r| r["Instances"][0]["InstanceId"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_machine_shows_its_zone_name_and_devices() {
        let bench = with_machines().await;
        let call = bench.root(&account(1), "us-east-1");
        let input = json!({ "InstanceIds": [FIRST] });
        let reply = run::<DescribeInstances>(&call, input).await.unwrap();
        assert_eq!(
            reply,
            json!({ "Reservations": [{
                "ReservationId": "r-00000000000000001",
                "OwnerId": "111111111111",
                "Instances": [{
                    "BlockDeviceMappings": [{
                        "DeviceName": "/dev/sdf",
                        "Ebs": {
                            "AttachTime": "2026-01-01T00:00:00.000Z",
                            "DeleteOnTermination": false,
                            "Status": "attached",
                            "VolumeId": "vol-00000000000000001",
                        },
                    }],
                    "Tags": [{ "Key": "Name", "Value": "db" }],
                    "InstanceId": FIRST,
                    "State": { "Code": 16, "Name": "running" },
                    "LaunchTime": "2026-01-01T00:00:00.000Z",
                    "Placement": {
                        "AvailabilityZone": "us-east-1a",
                        "AvailabilityZoneId": "use1-az1",
                    },
                }],
            }] })
        );
    }

    #[tokio::test]
    async fn filters_choose_machines() {
        let bench = with_machines().await;
        let call = bench.root(&account(1), "us-east-1");
        for (name, value, expected) in [
            ("instance-id", "i-*", vec![FIRST, SECOND]),
            ("instance-state-name", "running", vec![FIRST, SECOND]),
            ("instance-state-name", "stopped", vec![]),
            ("availability-zone", "us-east-1b", vec![SECOND]),
            ("block-device-mapping.volume-id", "vol-00000000000000001", vec![FIRST]),
            ("block-device-mapping.delete-on-termination", "true", vec![]),
            ("reservation-id", "r-00000000000000002", vec![SECOND]),
            ("tag:Name", "d?", vec![FIRST]),
            ("tag-key", "Name", vec![FIRST]),
        ] {
            let input = json!({ "Filters": [{ "Name": name, "Values": [value] }] });
            let reply = run::<DescribeInstances>(&call, input).await.unwrap();
            assert_eq!(ids(&reply), expected, "{name}={value}");
        }
        let input = json!({ "Filters": [{ "Name": "vpc-id", "Values": ["x"] }] });
        let error = run::<DescribeInstances>(&call, input).await.unwrap_err();
        assert_eq!(error.to_string(), "InvalidParameterValue: The filter 'vpc-id' is invalid");
    }

    #[tokio::test]
    async fn machines_are_the_accounts_own() {
        let bench = with_machines().await;
        let other = bench.root(&account(2), "us-east-1");
        let reply = run::<DescribeInstances>(&other, json!({})).await.unwrap();
        assert!(ids(&reply).is_empty());
        let input = json!({ "InstanceIds": [FIRST] });
        let error = run::<DescribeInstances>(&other, input).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("InvalidInstanceID.NotFound: The instance ID '{FIRST}' does not exist")
        );
    }
}
