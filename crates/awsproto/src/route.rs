//! Which operation a request asks for.

use crate::schema::Schema;

/// How a service writes requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// EC2: form parameters in, XML out.
    Ec2Query,
    /// IAM and STS: form parameters in, XML out, with result wrappers.
    AwsQuery,
    /// KMS and others: JSON 1.1 both ways, the operation in `X-Amz-Target`.
    AwsJson11,
    /// EBS direct, DLM, Recycle Bin, Backup: JSON with paths, query strings and headers.
    RestJson1,
}

/// What the operations of one service share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceInfo {
    /// The name in the SigV4 credential scope: `ec2`.
    pub name: &'static str,
    /// The protocol.
    pub protocol: Protocol,
    /// The API version: `2016-11-15`.
    pub version: &'static str,
    /// The part of `X-Amz-Target` before the dot: `TrentService`. Empty for other protocols.
    pub target_prefix: &'static str,
    /// The namespace of XML replies. Empty for other protocols.
    pub xml_namespace: &'static str,
}

/// One operation, as the codecs need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperationInfo {
    /// [`ServiceInfo::name`] of its service.
    pub service: &'static str,
    /// The operation: `CreateVolume`.
    pub name: &'static str,
    /// The protocol.
    pub protocol: Protocol,
    /// Method and path template of restJson1: `("GET", "/snapshots/{snapshotId}/blocks")`.
    pub http: Option<(&'static str, &'static str)>,
    /// The HTTP status of success.
    pub success_status: u16,
    /// The input.
    pub input: &'static Schema,
    /// The output.
    pub output: &'static Schema,
}
