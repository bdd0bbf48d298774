//! ARNs of the resources of this crate, in the shapes policies and events use.

use base::{AccountId, Arn, InstanceId, Region, SnapshotId, VolumeId};

/// The ARN policies match a snapshot by: it names no account (spec 20, A.5).
pub fn snapshot_arn(region: &Region, snapshot: &SnapshotId) -> String {
    Arn::unowned("ec2", region, &format!("snapshot/{snapshot}")).to_string()
}

/// The ARN of a snapshot as `aws:SourceArn`, where the account is part of every ARN (botocore:
/// GrantConstraintSourceArnType).
pub fn snapshot_source_arn(region: &Region, account: &AccountId, snapshot: &SnapshotId) -> String {
    Arn::regional("ec2", region, account, &format!("snapshot/{snapshot}")).to_string()
}

/// The ARN a snapshot that does not exist yet is authorized as.
pub fn new_snapshot_arn(region: &Region) -> String {
    Arn::unowned("ec2", region, "snapshot/*").to_string()
}

/// The ARN of a snapshot in the events of EBS, whose region stands in the account's place
/// (spec 20, D.2): `arn:aws:ec2::us-east-1:snapshot/snap-…`.
pub fn snapshot_event_arn(region: &Region, snapshot: &SnapshotId) -> String {
    format!("arn:{}:ec2::{region}:snapshot/{snapshot}", base::arn::PARTITION)
}

/// The ARN of a volume as the source of a snapshot event, in the same odd form.
pub fn volume_event_source_arn(region: &Region, volume: &VolumeId) -> String {
    format!("arn:{}:ec2::{region}:volume/{volume}", base::arn::PARTITION)
}

/// The ARN of a volume.
pub fn volume_arn(region: &Region, account: &AccountId, volume: &VolumeId) -> String {
    Arn::regional("ec2", region, account, &format!("volume/{volume}")).to_string()
}

/// The ARN a volume that does not exist yet is authorized as.
pub fn new_volume_arn(region: &Region, account: &AccountId) -> String {
    Arn::regional("ec2", region, account, "volume/*").to_string()
}

/// The ARN of an instance.
pub fn instance_arn(region: &Region, account: &AccountId, instance: &InstanceId) -> String {
    Arn::regional("ec2", region, account, &format!("instance/{instance}")).to_string()
}

/// The session of the infrastructure role that attaches volumes to an instance (spec 20, A.8).
pub fn infrastructure_session_arn(account: &AccountId, instance: &InstanceId) -> String {
    Arn::global("sts", account, &format!("assumed-role/aws:ec2-infrastructure/{instance}"))
        .to_string()
}

/// The service principal of EC2 in a region, the grantee of grants that make volumes and copies.
pub fn ec2_service_principal(region: &Region) -> String {
    format!("ec2.{region}.amazonaws.com")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let region = Region::parse("us-east-1").unwrap();
        let account = AccountId::parse("111122223333").unwrap();
        let snapshot = SnapshotId::parse("snap-12345678").unwrap();
        let instance = InstanceId::parse("i-12345678").unwrap();
        assert_eq!(
            snapshot_arn(&region, &snapshot),
            "arn:aws:ec2:us-east-1::snapshot/snap-12345678"
        );
        assert_eq!(
            snapshot_event_arn(&region, &snapshot),
            "arn:aws:ec2::us-east-1:snapshot/snap-12345678"
        );
        assert_eq!(
            new_volume_arn(&region, &account),
            "arn:aws:ec2:us-east-1:111122223333:volume/*"
        );
        assert_eq!(
            infrastructure_session_arn(&account, &instance),
            "arn:aws:sts::111122223333:assumed-role/aws:ec2-infrastructure/i-12345678"
        );
    }
}
