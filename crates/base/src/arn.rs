//! Amazon Resource Names, split at their first five colons.

use crate::{AccountId, Region};
use std::fmt;

/// The only partition served.
pub const PARTITION: &str = "aws";

/// `arn:partition:service:region:account:resource`; region and account may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn {
    /// `aws`.
    pub partition: String,
    /// `kms`, `ec2`, `iam`, `sts`.
    pub service: String,
    /// Empty for global services.
    pub region: String,
    /// Empty for EC2 snapshots and images.
    pub account: String,
    /// Everything after the fifth colon.
    pub resource: String,
}

impl Arn {
    /// Splits a text into an ARN; `None` when it does not begin with `arn:` or has fewer than five colons.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        if parts.next()? != "arn" {
            return None;
        }
        let mut next = || parts.next().map(str::to_owned);
        Some(Self {
            partition: next()?,
            service: next()?,
            region: next()?,
            account: next()?,
            resource: next()?,
        })
    }

    /// A regional resource of an account.
    pub fn regional(service: &str, region: &Region, account: &AccountId, resource: &str) -> Self {
        Self::new(service, region.as_str(), account.as_str(), resource)
    }

    /// A global resource of an account: IAM and STS.
    pub fn global(service: &str, account: &AccountId, resource: &str) -> Self {
        Self::new(service, "", account.as_str(), resource)
    }

    /// A regional resource whose ARN names no account: EC2 snapshots and images (spec 20, A.5).
    pub fn unowned(service: &str, region: &Region, resource: &str) -> Self {
        Self::new(service, region.as_str(), "", resource)
    }

    fn new(service: &str, region: &str, account: &str, resource: &str) -> Self {
        Self {
            partition: PARTITION.to_owned(),
            service: service.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
            resource: resource.to_owned(),
        }
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, service, region, account, resource } = self;
        // Every request does this several times: one allocation and no formatting.
        let text = ["arn", partition, service, region, account, resource].join(":");
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arns_round_trip() {
        for text in [
            "arn:aws:kms:us-east-1:111122223333:key/1234",
            "arn:aws:ec2:us-east-1::snapshot/snap-1",
            "arn:aws:sts::111122223333:assumed-role/r/s:with:colons",
        ] {
            assert_eq!(Arn::parse(text).map(|a| a.to_string()).as_deref(), Some(text));
        }
        assert_eq!(Arn::parse("arn:aws:kms:us-east-1:1"), None);
        assert_eq!(Arn::parse("nra:aws:kms:us-east-1:1:key"), None);
    }
}
