//! What can go wrong, one variant per exception of the KMS API; the text is the message KMS shows (spec 20, B.2).

use base::Region;

/// A refused or failed KMS request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `NotFoundException`: no key has this ARN.
    #[error("Key '{arn}' does not exist")]
    KeyNotFound {
        /// The key asked for.
        arn: String,
    },
    /// `NotFoundException`: no alias has this ARN.
    #[error("Alias {arn} is not found.")]
    AliasNotFound {
        /// The alias asked for.
        arn: String,
    },
    /// `NotFoundException`: the text is neither key id nor alias, or an alias where only keys are taken.
    #[error("Invalid keyId '{text}'")]
    InvalidKeyId {
        /// As given.
        text: String,
    },
    /// `NotFoundException`: an ARN of another region than the one addressed.
    #[error("Invalid arn {region}")]
    OtherRegion {
        /// The region in the ARN.
        region: String,
    },
    /// `NotFoundException`: no policy has this name; every key has one, called `default`.
    #[error("No such policy exists")]
    PolicyNotFound,
    /// `NotFoundException`: the key has no grant with this id.
    #[error("Grant ID {grant_id} not found.")]
    GrantNotFound {
        /// As given.
        grant_id: String,
    },
    /// `InvalidArnException`: an ARN of the wrong kind, or one that names nobody.
    #[error("{message}")]
    InvalidArn {
        /// What is wrong.
        message: String,
    },
    /// `DisabledException`.
    #[error("{arn} is disabled.")]
    Disabled {
        /// The key.
        arn: String,
    },
    /// `KMSInvalidStateException`.
    #[error("{arn} {state}.")]
    InvalidState {
        /// The key.
        arn: String,
        /// `is pending deletion`, `is not pending deletion`, …
        state: &'static str,
    },
    /// `KMSInvalidStateException`: no imported material waits for a rotation on demand.
    #[error("No available key material pending rotation for the key: {arn}.")]
    NothingToRotate {
        /// The key.
        arn: String,
    },
    /// `KMSInvalidStateException`: new material is imported while other material waits for its rotation.
    #[error(
        "{arn} already has key material pending rotation; rotate the key or delete the material."
    )]
    PendingRotation {
        /// The key.
        arn: String,
    },
    /// `IncorrectKeyMaterialException`.
    #[error("The key material is not what the key expects.")]
    IncorrectMaterial,
    /// `NotFoundException`: the key has no material with this id.
    #[error("Key material {id} is not found.")]
    MaterialNotFound {
        /// As given.
        id: String,
    },
    /// `InvalidImportTokenException`.
    #[error("The import token is invalid or belongs to another key.")]
    InvalidImportToken,
    /// `ExpiredImportTokenException`.
    #[error("The import token has expired.")]
    ExpiredImportToken,
    /// `ConflictException`.
    #[error("{message}")]
    Conflict {
        /// With what.
        message: String,
    },
    /// `AlreadyExistsException`.
    #[error("The replica key {arn} already exists.")]
    ReplicaExists {
        /// The replica.
        arn: String,
    },
    /// `InvalidCiphertextException`; KMS says no more.
    #[error("")]
    InvalidCiphertext,
    /// `IncorrectKeyException`.
    #[error("The key ID in the request does not identify a CMK that can perform this operation.")]
    IncorrectKey,
    /// `InvalidKeyUsageException`.
    #[error("{message}")]
    InvalidKeyUsage {
        /// What does not fit.
        message: String,
    },
    /// `KMSInvalidSignatureException`; KMS says no more.
    #[error("")]
    InvalidSignature,
    /// `KMSInvalidMacException`; KMS says no more.
    #[error("")]
    InvalidMac,
    /// `UnsupportedOperationException`: legal in AWS, not offered here; named.
    #[error("{message}")]
    Unsupported {
        /// What was asked for.
        message: String,
    },
    /// `MalformedPolicyDocumentException`.
    #[error("{message}")]
    MalformedPolicy {
        /// What is wrong and where.
        message: String,
    },
    /// `LimitExceededException`.
    #[error("{message}")]
    LimitExceeded {
        /// Which limit.
        message: String,
    },
    /// `InvalidMarkerException`.
    #[error("Could not deserialize marker.")]
    InvalidMarker,
    /// `InvalidGrantTokenException`.
    #[error("The grant token is invalid.")]
    InvalidGrantToken,
    /// `InvalidGrantIdException`.
    #[error("Grant ID {grant_id} is invalid.")]
    InvalidGrantId {
        /// As given.
        grant_id: String,
    },
    /// `AlreadyExistsException`.
    #[error("An alias with the name {arn} already exists")]
    AliasExists {
        /// The alias.
        arn: String,
    },
    /// `InvalidAliasNameException`.
    #[error("{message}")]
    InvalidAliasName {
        /// What is wrong.
        message: String,
    },
    /// `TagException`.
    #[error("{message}")]
    Tag {
        /// What is wrong.
        message: String,
    },
    /// `ValidationException`.
    #[error("{message}")]
    Validation {
        /// What is wrong.
        message: String,
    },
    /// `AccessDeniedException` for what no policy can allow.
    #[error("{message}")]
    AccessDenied {
        /// Why.
        message: String,
    },
    /// `KMSInternalException`: the library failed at what cannot fail with sound inputs and a sound key.
    #[error("the cryptographic library failed at {what}")]
    Cryptography {
        /// What it was doing.
        what: &'static str,
    },
    /// `CustomKeyStoreNotFoundException`.
    #[error("The custom key store {id} does not exist.")]
    KeyStoreNotFound {
        /// Its id or name, as given.
        id: String,
    },
    /// `CustomKeyStoreNameInUseException`.
    #[error("The custom key store name {name} is in use.")]
    KeyStoreNameInUse {
        /// The name.
        name: String,
    },
    /// `CustomKeyStoreInvalidStateException`.
    #[error("The custom key store {id} is {state}, which is not valid for this operation.")]
    KeyStoreState {
        /// The store.
        id: String,
        /// What it is.
        state: &'static str,
    },
    /// `CustomKeyStoreHasCMKsException`.
    #[error("The custom key store {id} contains KMS keys.")]
    KeyStoreHasKeys {
        /// The store.
        id: String,
    },
    /// `CloudHsmClusterNotFoundException`: the operator offers no token by this name.
    #[error("The CloudHSM cluster {id} does not exist.")]
    ClusterNotFound {
        /// As given.
        id: String,
    },
    /// `CloudHsmClusterInUseException`.
    #[error("The CloudHSM cluster {id} is associated with another custom key store.")]
    ClusterInUse {
        /// As given.
        id: String,
    },
    /// `IncorrectTrustAnchorException`.
    #[error("The trust anchor certificate is not the one of the cluster.")]
    IncorrectTrustAnchor,
    /// `KeyUnavailableException`: the token does not answer as it should. What it said is for the log.
    #[error("The key store {id} is not available. Try again later.")]
    KeyStoreAway {
        /// The store.
        id: String,
        /// The token's words.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No failure: the operation needs a token, which has to be asked outside of the transaction; see
    /// [`crate::key_store::work`].
    #[error("a token has to be asked")]
    OnToken(Box<crate::key_store::work::TokenWork>),
    /// The material is on a token and nowhere else; only what knows tokens can go on.
    #[error("the key material of {arn} is on a token")]
    MaterialOnToken {
        /// The key.
        arn: String,
    },
    /// `KMSInternalException`: a key's material does not open. The row is damaged, or belongs elsewhere.
    #[error("the key material of {arn} does not open under its domain key")]
    MaterialDamaged {
        /// The key.
        arn: String,
    },
    /// `KMSInternalException`: a wrapping key for an import could not be made or read.
    #[error("a wrapping key could not be made or read")]
    Wrapping,
    /// `KMSInternalException`: the region has no domain key; it was not configured when the server started.
    #[error("region {region} has no domain key {number}")]
    DomainKeyMissing {
        /// The region.
        region: Region,
        /// The number sought.
        number: u32,
    },
    /// `KMSInternalException`: a stored row does not read back as what was written.
    #[error("a stored {what} of {arn} is damaged")]
    RowDamaged {
        /// The key.
        arn: String,
        /// What does not read.
        what: &'static str,
    },
    /// `KMSInternalException`: the database failed.
    #[error("the key store failed")]
    Store(#[from] meta::Error),
}

impl Error {
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::Validation { message: message.into() }
    }
}

impl From<crate::blob::InvalidCiphertext> for Error {
    fn from(_: crate::blob::InvalidCiphertext) -> Self {
        Self::InvalidCiphertext
    }
}

impl From<crate::context::ContextError> for Error {
    fn from(error: crate::context::ContextError) -> Self {
        Self::validation(error.to_string())
    }
}

/// The result of most calls of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
