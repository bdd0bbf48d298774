//! What an attached volume is on this machine beside an NBD export: the disk of a virtual machine,
//! and a block device.

use attach::{
    DeviceName, Disk, Stop, StopError, UblkDevice, UblkError, UblkStop, VhostExport, VolumeDevice,
};
use base::VolumeId;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Which of them are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offers {
    /// A vhost-user-blk socket.
    pub(crate) vhost_user: bool,
    /// A ublk block device.
    pub(crate) ublk: bool,
}

/// Why a volume is not served so.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LocalError {
    /// The vhost-user socket cannot be made.
    #[error("the vhost-user socket cannot be made")]
    Socket(#[source] io::Error),
    /// The block device cannot be made, or not be removed.
    #[error(transparent)]
    Ublk(#[from] UblkError),
    /// The vhost-user export did not end well.
    #[error(transparent)]
    Stop(#[from] StopError),
}

/// How serving ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The volume is detached.
    Detach(Stop),
    /// The server ends, and a later one goes on.
    Shutdown,
}

impl Ending {
    /// What it means for a socket.
    pub(crate) fn of_sockets(self) -> Stop {
        match self {
            Self::Detach(how) => how,
            Self::Shutdown => Stop::Graceful,
        }
    }
}

/// A volume as it is served beside NBD.
pub(crate) struct Local {
    vhost_user: Option<VhostExport>,
    ublk: Option<UblkDevice>,
}

impl Local {
    /// Serves a volume beside the NBD socket `socket`.
    pub(crate) fn start(
        offers: Offers,
        volume: &VolumeId,
        name: &DeviceName,
        socket: &Path,
        device: &Arc<VolumeDevice>,
    ) -> Result<Self, LocalError> {
        let beside = |ending: &str| socket.with_file_name(format!("{name}.{ending}"));
        let vhost_user = offers.vhost_user.then(|| {
            let disk = Disk::new(name.to_string(), volume.as_str(), Arc::clone(device) as _);
            VhostExport::start(&beside("vhost.sock"), disk).map_err(LocalError::Socket)
        });
        let vhost_user = vhost_user.transpose()?;
        let ublk = offers
            .ublk
            .then(|| UblkDevice::start(&beside("ublk"), mark(volume), Arc::clone(device) as _));
        Ok(Self { vhost_user, ublk: ublk.transpose()? })
    }

    pub(crate) fn stop(self, ending: Ending) -> Result<(), LocalError> {
        let how = match ending {
            Ending::Detach(_) => UblkStop::Remove,
            Ending::Shutdown => UblkStop::Leave,
        };
        let ublk = self.ublk.map_or(Ok(()), |device| device.stop(how));
        let vhost_user = self.vhost_user.map_or(Ok(()), |export| export.stop(ending.of_sockets()));
        ublk?;
        vhost_user?;
        Ok(())
    }
}

/// What a block device left by a server before is recognised by: the last sixteen digits of the
/// volume's id.
fn mark(volume: &VolumeId) -> u64 {
    let digits = volume.as_str().as_bytes();
    let last = digits.len().saturating_sub(16);
    let digit = |byte: &u8| (*byte as char).to_digit(16).map_or(0, u64::from);
    digits[last..].iter().fold(0, |mark, byte| mark << 4 | digit(byte))
}

#[cfg(test)]
mod tests {
    #[test]
    fn marks_are_of_the_volume() {
        let mark = |id: &str| super::mark(&id.parse().unwrap());
        assert_eq!(mark("vol-0123456789abcdef0"), 0x1234_5678_9abc_def0);
        assert_ne!(mark("vol-0123456789abcdef0"), mark("vol-0123456789abcdef1"));
    }
}
