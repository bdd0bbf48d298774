//! The machines' side of an attachment: opening a volume as a device, and closing it.

use super::BoxFuture;
use super::blocks::{BaseRoot, BlockError, Root};
use super::kms::VolumeKey;
use base::{AccountId, InstanceId, Region, Secret, Timestamp, VolumeId};

/// A volume to be opened for an instance.
#[derive(Debug)]
pub struct OpenVolume {
    /// The owner of both.
    pub account: AccountId,
    /// Where both are.
    pub region: Region,
    /// The volume.
    pub volume: VolumeId,
    /// The instance.
    pub instance: InstanceId,
    /// `/dev/sdf`.
    pub device: String,
    /// When the attachment was asked for: what tells it from an earlier one at the same place.
    pub attached: Timestamp,
    /// What the volume reads where it was never written.
    pub base: Option<BaseRoot>,
    /// The twin of its base, for a volume that was created with a credit.
    pub twin: Option<Root>,
    /// The attachment's fencing epoch.
    pub epoch: u64,
    /// The plaintext data key. The host keeps it while the volume is open and wipes it after.
    pub key: VolumeKey,
    /// That of the base, when it is another.
    pub base_key: Option<VolumeKey>,
}

/// The longest lease a server may grant, in seconds.
pub const LEASE_SECONDS_MAX: u32 = 300;

/// Whether a lease of a lent volume may be running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// The epoch is new: nobody holds it before the first connection.
    New,
    /// A machine held it when the server stopped, perhaps until a moment ago.
    Standing {
        /// The longest lease that it may have been granted, in milliseconds.
        lease_ms: u32,
    },
}

/// A volume to be given to a machine that opens it itself.
#[derive(Debug)]
pub struct LendVolume {
    /// Where it is.
    pub region: Region,
    /// The volume.
    pub volume: VolumeId,
    /// Bytes in the volume.
    pub size_bytes: u64,
    /// What the volume reads where it was never written.
    pub base: Option<BaseRoot>,
    /// The twin of its base, for a volume that was created with a credit.
    pub twin: Option<Root>,
    /// The attachment's fencing epoch.
    pub epoch: u64,
    /// Whether a machine may hold this epoch already.
    pub tenure: Tenure,
    /// Whether a machine of an earlier epoch that may not have stopped is cut off.
    pub force: Force,
    /// The key among the volume's that no KMS key guards: the data key of a plain volume, or the base's
    /// of an encrypted volume that came from a plain snapshot.
    pub plain_key: Option<VolumeKey>,
}

/// A volume to be kept for a machine that opened it under an earlier run of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepVolume {
    /// Where it is.
    pub region: Region,
    /// The volume.
    pub volume: VolumeId,
    /// The attachment's fencing epoch.
    pub epoch: u64,
    /// The longest lease that its machine may have been granted, in milliseconds.
    pub lease_ms: u32,
}

/// A device to be closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseVolume {
    /// Where.
    pub region: Region,
    /// The volume.
    pub volume: VolumeId,
    /// The instance.
    pub instance: InstanceId,
    /// `/dev/sdf`.
    pub device: String,
    /// When the attachment was asked for: a later one at the same place stays.
    pub attached: Timestamp,
    /// Whether a guest that still uses the device is cut off.
    pub force: Force,
}

/// Whether to wait for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    /// Close in order: finish what was accepted, flush, then close.
    No,
    /// Tear down without the guest's cooperation.
    Yes,
}

/// Why a device could not be opened or closed.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The volume's bytes do not open with this key: damaged, or not its key.
    #[error("the volume does not open with its data key")]
    WrongKey,
    /// The place that volumes lie in has no room for what opening this one takes.
    #[error("there is no room to open the volume")]
    NoRoom(#[source] BlockError),
    /// The volume's storage failed or is damaged.
    #[error("the volume's storage failed")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The device could not be offered to the instance.
    #[error("the device could not be offered")]
    Device(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A machine has the volume under an earlier epoch, and has not surely stopped.
    #[error("the machine that has the volume has not stopped")]
    Held,
    /// The volume was lent under a newer epoch meanwhile.
    #[error("the volume was lent under a newer epoch")]
    Superseded,
}

impl From<BlockError> for HostError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::NoRoom(_) => Self::NoRoom(error),
            error => Self::Storage(Box::new(error)),
        }
    }
}

/// Opens and closes volumes at instances. Both calls may be repeated: opening what is open and
/// closing what is closed succeed.
pub trait AttachHost: Send + Sync {
    /// Opens the volume and offers it as a device. It is serving when this returns.
    fn open(&self, request: OpenVolume) -> BoxFuture<'_, Result<(), HostError>>;

    /// Takes the device away, makes every accepted write durable and wipes the key.
    fn close(&self, request: CloseVolume) -> BoxFuture<'_, Result<(), HostError>>;

    /// Gives the volume to a machine of its own. The fence of any earlier epoch is taken first: when
    /// this returns, nothing of it reaches the volume any more. Without force that needs its machine to
    /// have surely stopped ([`HostError::Held`]); a newer epoch stays as it is
    /// ([`HostError::Superseded`]).
    fn lend(&self, request: LendVolume) -> BoxFuture<'_, Result<(), HostError>>;

    /// Keeps a volume away that could not be lent again: nobody opens it here, and its machine is waited
    /// for, before the volume is taken back or lent anew, as one that has it. What is lent stays so.
    fn keep(&self, request: KeepVolume) -> BoxFuture<'_, Result<(), HostError>>;

    /// How long the leases are that machines are granted, in milliseconds.
    fn lease_ms(&self) -> u32;

    /// A ticket for one connection of the machine that the volume is lent to under this epoch;
    /// `None` when it is not. It is good once, and for a short time. A volume that is kept, but could not
    /// be lent, has none ([`HostError::Storage`]).
    fn ticket(
        &self,
        region: &Region,
        volume: &VolumeId,
        epoch: u64,
    ) -> Result<Option<Secret<String>>, HostError>;

    /// Takes a lent volume back, fence and all. Without force the machine is asked first, and the fence
    /// is taken when it has closed the volume or its lease has surely ended. Taking back what is not
    /// lent succeeds.
    fn take_back(&self, request: CloseVolume) -> BoxFuture<'_, Result<(), HostError>>;
}
