//! What every workflow is given.

use crate::plain_key::PlainKeys;
use crate::port::blocks::{BlockError, Blocks};
use crate::port::host::AttachHost;
use crate::port::kms::{KmsFailure, KmsPort};
use crate::volume_turns::VolumeTurns;
use base::{AccountId, Clock, Region, Rng};
use events::event::Envelope;
use meta::Db;
use std::sync::Arc;

/// Which of the documented permissions are required (spec 20, C.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// Those whose denial has been observed to change the outcome on AWS.
    Native,
    /// Also every permission the documentation lists for the caller.
    Documented,
}

/// The rows, the ports and the sources of time and randomness.
pub struct Services {
    /// The rows.
    pub db: Db,
    /// The present moment.
    pub clock: Arc<dyn Clock>,
    /// Ids and plain data keys come from here.
    pub rng: Arc<dyn Rng>,
    /// KMS, through the front door.
    pub kms: Arc<dyn KmsPort>,
    /// Volumes' and snapshots' bytes.
    pub blocks: Arc<dyn Blocks>,
    /// Devices at instances.
    pub host: Arc<dyn AttachHost>,
    /// Data keys of plain resources.
    pub plain: PlainKeys,
    /// Which permissions are required.
    pub enforcement: Enforcement,
    /// Acceptances of snapshots with the cuts of their volumes, and growths: cuts are made in the order of
    /// the rows, since a snapshot is incremental to the one before it.
    pub cuts: VolumeTurns,
    /// Openings of volumes at machines. One asks whoever has the volume to stop, raises the epoch and lends
    /// the volume; another that began between the last two would find nobody who has it, and fence the first
    /// with an epoch that it could not use itself.
    pub openings: VolumeTurns,
}

impl Services {
    /// The envelope of an event that happens now.
    pub(crate) fn envelope(&self, account: &AccountId, region: &Region) -> Envelope {
        Envelope {
            event_id: base::id::uuid(&*self.rng),
            account: account.clone(),
            region: region.clone(),
            time: self.clock.now(),
        }
    }
}

/// Why a piece of work stopped.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A key could not be used.
    #[error("a key could not be used")]
    Kms(#[from] KmsFailure),
    /// The block store failed.
    #[error("the block store failed")]
    Blocks(#[from] BlockError),
    /// A stored data key is damaged.
    #[error("a stored data key is damaged")]
    PlainKey(#[from] crate::plain_key::PlainKeyError),
    /// The rows could not be read or written.
    #[error("the rows could not be read or written")]
    Rows(#[from] ebs::Error),
    /// An event could not be written.
    #[error("an event could not be written")]
    Events(#[from] events::Error),
    /// Something else has to happen first: an earlier snapshot or copy is not done.
    #[error("waiting for {what}")]
    NotYet {
        /// What has to happen first.
        what: &'static str,
    },
}

/// What is said of a failure that is nobody's but ours.
pub(crate) const INTERNAL_CAUSE: &str = "An internal error has occurred";

impl From<meta::Error> for Trouble {
    fn from(error: meta::Error) -> Self {
        Self::Rows(error.into())
    }
}

impl Trouble {
    /// Whether the same work may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Kms(failure) => failure.is_transient(),
            Self::Blocks(failure) => failure.is_transient(),
            Self::PlainKey(_) => false,
            Self::Rows(ebs::Error::Meta(_)) | Self::Events(_) | Self::NotYet { .. } => true,
            Self::Rows(ebs::Error::Corrupt { .. }) => false,
        }
    }

    /// The id under which the failure of a key can be explained.
    pub fn explain_id(&self) -> Option<&str> {
        match self {
            Self::Kms(failure) => failure.explain_id(),
            Self::Blocks(_)
            | Self::PlainKey(_)
            | Self::Rows(_)
            | Self::Events(_)
            | Self::NotYet { .. } => None,
        }
    }

    /// The cause an event names (spec 12). Of damage it is said what is damaged: whoever asked for the
    /// work has to restore it, or do without.
    pub fn event_cause(&self) -> String {
        match self {
            Self::Kms(failure) => failure.event_cause(),
            Self::Blocks(BlockError::Damaged(cause)) => {
                format!("Stored blocks are damaged: {}", base::with_causes(&**cause))
            }
            Self::Blocks(_)
            | Self::PlainKey(_)
            | Self::Rows(_)
            | Self::Events(_)
            | Self::NotYet { .. } => INTERNAL_CAUSE.to_owned(),
        }
    }
}
