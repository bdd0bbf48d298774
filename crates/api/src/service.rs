//! The services this server speaks for, and what the wire calls each of them.

use awsproto::{Protocol, ServiceInfo};

/// An AWS service with operations here. One port serves all; the SigV4 scope chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Volumes, snapshots and what they hang on.
    Ec2,
    /// The block-level snapshot API ("EBS direct").
    Ebs,
    /// Keys, grants and data keys.
    Kms,
    /// Users, roles and policies.
    Iam,
    /// Temporary credentials.
    Sts,
    /// The trail.
    CloudTrail,
    /// What machines that attach volumes themselves ask. No service of AWS's.
    Strongroom,
}

impl Service {
    /// Every service, for look-ups and listings.
    pub const ALL: [Self; 7] =
        [Self::Ec2, Self::Ebs, Self::Kms, Self::Iam, Self::Sts, Self::CloudTrail, Self::Strongroom];

    /// Protocol, version and names, as the codecs need them.
    pub const fn info(self) -> &'static ServiceInfo {
        match self {
            Self::Ec2 => &ServiceInfo {
                name: "ec2",
                protocol: Protocol::Ec2Query,
                version: "2016-11-15",
                target_prefix: "",
                xml_namespace: "http://ec2.amazonaws.com/doc/2016-11-15/",
            },
            Self::Ebs => &ServiceInfo {
                name: "ebs",
                protocol: Protocol::RestJson1,
                version: "2019-11-02",
                target_prefix: "",
                xml_namespace: "",
            },
            Self::Kms => &ServiceInfo {
                name: "kms",
                protocol: Protocol::AwsJson11,
                version: "2014-11-01",
                target_prefix: "TrentService",
                xml_namespace: "",
            },
            Self::Iam => &ServiceInfo {
                name: "iam",
                protocol: Protocol::AwsQuery,
                version: "2010-05-08",
                target_prefix: "",
                xml_namespace: "https://iam.amazonaws.com/doc/2010-05-08/",
            },
            Self::Sts => &ServiceInfo {
                name: "sts",
                protocol: Protocol::AwsQuery,
                version: "2011-06-15",
                target_prefix: "",
                xml_namespace: "https://sts.amazonaws.com/doc/2011-06-15/",
            },
            Self::CloudTrail => &ServiceInfo {
                name: "cloudtrail",
                protocol: Protocol::AwsJson11,
                version: "2013-11-01",
                target_prefix: "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101",
                xml_namespace: "",
            },
            Self::Strongroom => &ServiceInfo {
                name: "strongroom",
                protocol: Protocol::AwsJson11,
                version: "2026-11-26",
                target_prefix: "Strongroom_20261126",
                xml_namespace: "",
            },
        }
    }

    /// Finds a service by the name in a SigV4 credential scope.
    pub fn from_signing_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.info().name == name)
    }

    /// The source of this service's trail records.
    pub fn event_source(self) -> String {
        format!("{}.amazonaws.com", self.info().name)
    }

    /// Whether the service has one endpoint for all regions.
    pub fn is_global(self) -> bool {
        matches!(self, Self::Iam)
    }
}
