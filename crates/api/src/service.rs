//! The services this server speaks for, and what the wire calls each of them.

use awsproto::Protocol;

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
}

impl Service {
    /// Every service, for look-ups and listings.
    pub const ALL: [Self; 6] =
        [Self::Ec2, Self::Ebs, Self::Kms, Self::Iam, Self::Sts, Self::CloudTrail];

    /// The name in a SigV4 credential scope; also the prefix of IAM actions.
    pub fn signing_name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Ebs => "ebs",
            Self::Kms => "kms",
            Self::Iam => "iam",
            Self::Sts => "sts",
            Self::CloudTrail => "cloudtrail",
        }
    }

    /// Finds a service by its signing name.
    pub fn from_signing_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.signing_name() == name)
    }

    /// The source of this service's trail records.
    pub fn event_source(self) -> String {
        format!("{}.amazonaws.com", self.signing_name())
    }

    /// How the service's requests and replies are written.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Ec2 => Protocol::Ec2Query,
            Self::Ebs => Protocol::RestJson1,
            Self::Kms | Self::CloudTrail => Protocol::AwsJson11,
            Self::Iam | Self::Sts => Protocol::AwsQuery,
        }
    }

    /// The API version; part of query requests and of XML namespaces.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Ec2 => "2016-11-15",
            Self::Ebs => "2019-11-02",
            Self::Kms => "2014-11-01",
            Self::Iam => "2010-05-08",
            Self::Sts => "2011-06-15",
            Self::CloudTrail => "2013-11-01",
        }
    }

    /// The XML namespace of replies, for the query protocols.
    pub fn xml_namespace(self) -> &'static str {
        match self {
            Self::Ec2 => "http://ec2.amazonaws.com/doc/2016-11-15/",
            Self::Iam => "https://iam.amazonaws.com/doc/2010-05-08/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
            Self::Ebs | Self::Kms | Self::CloudTrail => "",
        }
    }

    /// What precedes the operation's name in `X-Amz-Target`, without the dot.
    pub fn target_prefix(self) -> Option<&'static str> {
        match self {
            Self::Kms => Some("TrentService"),
            Self::CloudTrail => Some("com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"),
            Self::Ec2 | Self::Ebs | Self::Iam | Self::Sts => None,
        }
    }

    /// Whether the service has one endpoint for all regions.
    pub fn is_global(self) -> bool {
        matches!(self, Self::Iam)
    }
}
