//! What can go wrong between a caller and a volume.

use crate::live::{self, CutId};
use crate::out_of_space::says_full;
use base::VolumeId;
use std::io;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The volume itself refused.
    #[error(transparent)]
    Volume(#[from] live::Error),
    /// No such volume.
    #[error("{id} does not exist")]
    NotFound {
        /// Which volume.
        id: VolumeId,
    },
    /// The volume exists already.
    #[error("{id} exists already")]
    Exists {
        /// Which volume.
        id: VolumeId,
    },
    /// Somebody has the volume open, or reads one of its cuts.
    #[error("{id} is in use")]
    InUse {
        /// Which volume.
        id: VolumeId,
    },
    /// The cut is being exported.
    #[error("cut {cut} of {id} is in use")]
    CutInUse {
        /// Which volume.
        id: VolumeId,
        /// Which cut.
        cut: CutId,
    },
    /// One of several volumes that were to be cut together failed; none is cut.
    #[error("{id} could not be cut with the others")]
    Member {
        /// Which volume.
        id: VolumeId,
        /// Why.
        #[source]
        cause: Box<StoreError>,
    },
    /// Volumes to be cut together are too many, or one is named twice.
    #[error("{count} volumes cannot be cut together: at most {limit}, each named once")]
    Members {
        /// How many were named.
        count: usize,
        /// How many can be.
        limit: usize,
    },
    /// Another process has the store open.
    #[error("the store is open in another process")]
    Locked,
    /// Another machine has the volume open and does not answer. Trying again may help.
    #[error("{id} is open at another machine that does not answer")]
    Away {
        /// Which volume.
        id: VolumeId,
    },
    /// The volume did not stand still any more when it was to be cut with others.
    #[error("{id} had to go on before it could be cut")]
    WentOn {
        /// Which volume.
        id: VolumeId,
    },
    /// The volume's thread has ended.
    #[error("{id} was closed")]
    Closed {
        /// Which volume.
        id: VolumeId,
    },
    /// The file system refused.
    #[error("could not {action}")]
    File {
        /// What was tried.
        action: &'static str,
        /// What the file system said.
        #[source]
        cause: io::Error,
    },
}

impl StoreError {
    /// Whether the place that volumes lie in is full, or as full as they may make it.
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Volume(live::Error::Full)) || says_full(self)
    }

    pub(super) fn file(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |cause| Self::File { action, cause }
    }

    pub(super) fn of_member(self, id: &VolumeId) -> Self {
        Self::Member { id: id.clone(), cause: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_known_by_whoever_found_it_full() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let lost = || io::Error::other("lost");
        let full = [
            live::Error::Full.into(),
            live::Error::disk("write")(full()).into(),
            StoreError::file("make a volume")(full()),
        ];
        let others: [StoreError; 3] = [
            live::Error::Failed.into(),
            live::Error::disk("write")(lost()).into(),
            StoreError::file("make a volume")(lost()),
        ];
        assert!(full.iter().all(StoreError::is_out_of_space));
        assert!(!others.iter().any(StoreError::is_out_of_space));
    }
}
