//! KMS as the storage service calls it: through the same front door as everybody else.
//!
//! Every call says on whose authority it is made ([`Authority`]), so key policies, grants, conditions
//! and the trail hold for calls made by a workflow as for calls made by a user (spec 20, A.8). The
//! implementation in `api` evaluates the policies in force when the call is made.

use super::BoxFuture;
use base::{AccountId, InstanceId, Region, Secret};
use events::notification::KeyProblem;
use serde::{Deserialize, Serialize};

/// The data key of a volume: two halves of 256 bits (spec 20, B.7).
pub type VolumeKey = Secret<[u8; 64]>;

/// A user's identity as it was when a request was accepted: principal and session policies.
///
/// The text is `api`'s own; workflows only keep it. It holds no credential.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapturedIdentity(pub String);

/// Shows nothing: session policies are the user's business.
impl std::fmt::Debug for CapturedIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CapturedIdentity(..)")
    }
}

/// On whose authority a KMS call is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// A user's, through EC2: `kms:ViaService` is `ec2.<region of the key>.amazonaws.com`.
    User(CapturedIdentity),
    /// EC2's own in an account, on a grant. The principal is `ec2.<region>.amazonaws.com`, `aws:SourceArn` the
    /// resource it works for.
    Service(AccountId, String),
    /// The infrastructure role's session for an instance, on a grant.
    Host(AccountId, InstanceId),
}

/// The circumstances of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KmsCall {
    /// Whose authority.
    pub authority: Authority,
    /// The region of the key, which is also the region whose EC2 calls.
    pub region: Region,
    /// What the trail shows as `invokedBy`, without which nobody could tell who used the key.
    pub invoked_by: String,
    /// The request the trail shows this call under, when it is to share one (spec 20, D.1).
    pub request_id: Option<String>,
}

/// The encryption context every call of EBS uses: `{"aws:ebs:id": <id>}`.
pub const CONTEXT_KEY: &str = "aws:ebs:id";

/// An operation a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantOperation {
    /// `Decrypt`.
    Decrypt,
    /// `Encrypt`.
    Encrypt,
}

/// How a grant is limited to one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GrantConstraint {
    /// `EncryptionContextEquals {"aws:ebs:id": id}`.
    Equals(String),
    /// `EncryptionContextSubset {"aws:ebs:id": id}`.
    Subset(String),
}

/// A grant to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantSpec {
    /// The key's ARN.
    pub key_arn: String,
    /// Who may use it: a service principal or the ARN of a session.
    pub grantee: String,
    /// Who may give it back: a service principal.
    pub retiring: String,
    /// What it allows.
    pub operation: GrantOperation,
    /// For which resource.
    pub constraint: GrantConstraint,
    /// A name, so that a call repeated after a crash finds the grant it made (spec 20, B.6).
    pub name: Option<String>,
}

/// What the storage service wants to know about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// The key's ARN, whatever it was named by.
    pub arn: String,
    /// `Enabled`, `Disabled`, `PendingDeletion`, …
    pub state: String,
    /// Whether it can protect volumes: symmetric, for encryption.
    pub symmetric: bool,
    /// Whether it is a key AWS manages, `aws/ebs` here.
    pub aws_managed: bool,
}

/// Why a key could not be used. The text is KMS's own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KmsFailure {
    /// The policies in force do not allow it.
    #[error("{message}")]
    Denied {
        /// Who may not do what, and which policy decided.
        message: String,
        /// Where to ask why.
        explain_id: Option<String>,
    },
    /// The key is disabled, pending deletion or without material: `<arn> is disabled.`
    #[error("{message}")]
    State {
        /// KMS's sentence.
        message: String,
        /// The same as events name it (spec 12).
        problem: KeyProblem,
        /// The key.
        key_arn: String,
        /// Where to ask why.
        explain_id: Option<String>,
    },
    /// No such key.
    #[error("{message}")]
    NotFound {
        /// KMS's sentence.
        message: String,
        /// Where to ask why.
        explain_id: Option<String>,
    },
    /// The key is there and cannot do what is asked: wrong kind of key, or not its ciphertext.
    #[error("{message}")]
    Unusable {
        /// KMS's sentence.
        message: String,
        /// Where to ask why; absent when KMS was not asked.
        explain_id: Option<String>,
    },
    /// KMS did not answer. Trying again may help.
    #[error("{message}")]
    Unavailable {
        /// What happened.
        message: String,
    },
}

impl KmsFailure {
    /// Whether the same call may succeed later without anybody changing a key or a policy.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// The id under which the call that failed can be explained.
    pub fn explain_id(&self) -> Option<&str> {
        match self {
            Self::Denied { explain_id, .. }
            | Self::State { explain_id, .. }
            | Self::NotFound { explain_id, .. }
            | Self::Unusable { explain_id, .. } => explain_id.as_deref(),
            Self::Unavailable { .. } => None,
        }
    }

    /// The cause an event names: KMS's sentence for a key's state; for anything else the storage
    /// service's own, because AWS does not tell why a key is out of reach (spec 20, D.2).
    pub fn event_cause(&self) -> String {
        match self {
            Self::State { problem, key_arn, .. } => problem.cause(key_arn),
            Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::Unusable { .. }
            | Self::Unavailable { .. } => KEY_NOT_ACCESSIBLE.to_owned(),
        }
    }
}

/// What a copy shows when its key could not be used (spec 20, C.6).
pub const KEY_NOT_ACCESSIBLE: &str = "Given key ID is not accessible";

/// A call whose permission is asked for, without making the call.
#[derive(Debug)]
pub enum Probe<'a> {
    /// `DescribeKey`.
    DescribeKey {
        /// The key.
        key_arn: &'a str,
    },
    /// `Decrypt`.
    Decrypt(Wrapped<'a>),
    /// `ReEncrypt`: `ReEncryptFrom` on the source's key, `ReEncryptTo` on the target's.
    ReEncrypt {
        /// What would be wrapped again.
        source: Wrapped<'a>,
        /// Under which key.
        target_key_arn: &'a str,
        /// For which resource.
        target_context_id: &'a str,
    },
    /// `GenerateDataKey`.
    GenerateDataKey {
        /// The key.
        key_arn: &'a str,
        /// For which resource.
        context_id: &'a str,
    },
    /// `CreateGrant`.
    CreateGrant(GrantSpec),
}

/// The KMS calls of EBS (spec 20, C.3).
pub trait KmsPort: Send + Sync {
    /// Whether a call would be allowed, by the policies and grants in force now.
    fn may<'a>(&'a self, call: KmsCall, probe: Probe<'a>) -> BoxFuture<'a, Result<(), KmsFailure>>;

    /// `DescribeKey` of a key named in any of its four ways.
    fn describe_key<'a>(
        &'a self,
        call: KmsCall,
        key_id: &'a str,
    ) -> BoxFuture<'a, Result<KeyFacts, KmsFailure>>;

    /// `GenerateDataKey` of 64 bytes: the ciphertext and the key itself.
    fn generate_data_key<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<(Vec<u8>, VolumeKey), KmsFailure>>;

    /// `GenerateDataKeyWithoutPlaintext` of 64 bytes.
    fn generate_data_key_without_plaintext<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>>;

    /// `CreateGrant`; answers the grant's id.
    fn create_grant(
        &self,
        call: KmsCall,
        grant: GrantSpec,
    ) -> BoxFuture<'_, Result<String, KmsFailure>>;

    /// `RetireGrant`. A grant that is gone already is no failure.
    fn retire_grant<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        grant_id: &'a str,
    ) -> BoxFuture<'a, Result<(), KmsFailure>>;

    /// `Decrypt` of a volume's data key.
    fn decrypt<'a>(
        &'a self,
        call: KmsCall,
        wrapped: &'a [u8],
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<VolumeKey, KmsFailure>>;

    /// `Encrypt` of a volume's data key, for a copy that keeps it.
    fn encrypt<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        key: &'a VolumeKey,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>>;

    /// `ReEncrypt` from one context to another, under the same or another key.
    fn re_encrypt<'a>(
        &'a self,
        call: KmsCall,
        source: Wrapped<'a>,
        target_key_arn: &'a str,
        target_context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>>;
}

/// A wrapped data key and the context it opens in.
#[derive(Clone, Copy, Debug)]
pub struct Wrapped<'a> {
    /// The ciphertext.
    pub ciphertext: &'a [u8],
    /// The id in its encryption context.
    pub context_id: &'a str,
}
