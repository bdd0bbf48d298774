//! The exports of one data-plane process, by instance and device name.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard};

use base::{Clock, InstanceId};

use crate::device::BlockDevice;
use crate::export::{Export, Stop, StopError};
use crate::nbd::handshake::ExportInfo;
use crate::tls::{Badge, Guest};

/// Longest device name without `/dev/`.
const DEVICE_NAME_BYTES_MAX: usize = 32;

/// Volumes served by one process at once.
pub const ATTACHED_VOLUMES_MAX: usize = 4096;

/// A device name such as `/dev/sdf` or `xvdba`, without its `/dev/`: a safe file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceName(String);

/// The text is no device name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device name is /dev/ and 1 to {DEVICE_NAME_BYTES_MAX} letters, digits, _ or -")]
pub struct DeviceNameError;

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, DeviceNameError> {
        let name = text.strip_prefix("/dev/").unwrap_or(text);
        let safe = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if name.is_empty() || name.len() > DEVICE_NAME_BYTES_MAX || !safe {
            return Err(DeviceNameError);
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why an attachment cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The instance already has a device of this name.
    #[error("{instance} already has a device {device}")]
    InUse {
        /// The instance.
        instance: InstanceId,
        /// The device name.
        device: DeviceName,
    },
    /// [`ATTACHED_VOLUMES_MAX`] is reached.
    #[error("this process already serves {ATTACHED_VOLUMES_MAX} volumes")]
    TooMany,
    /// The socket or its directory cannot be made.
    #[error("the socket {} cannot be made", path.display())]
    Socket {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A line of [`Exports::list`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The instance.
    pub instance: InstanceId,
    /// The device name.
    pub device: DeviceName,
    /// The socket.
    pub path: PathBuf,
}

type Key = (InstanceId, DeviceName);

/// Which volumes this process serves, and where.
pub struct Exports {
    directory: PathBuf,
    clock: Arc<dyn Clock>,
    places: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    running: BTreeMap<Key, Running>,
    /// What was at a place and has not ended yet. Something else may be there already.
    ending: Vec<(Key, Arc<Export>)>,
}

struct Running {
    badge: Badge,
    export: Export,
}

impl Exports {
    /// A registry whose sockets are `directory/<instance-id>/<device-name>.sock`.
    pub fn new(directory: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self { directory, clock, places: Mutex::default() }
    }

    /// Serves `device` as the attachment of `badge` and returns its socket. Clients find it under
    /// the device name, under `instance/name`, and under the id of the volume; over TLS who has a
    /// certificate with this badge.
    pub fn attach(
        &self,
        badge: Badge,
        device: Arc<dyn BlockDevice>,
    ) -> Result<PathBuf, AttachError> {
        let Places { running, .. } = &mut *self.places();
        let (instance, name) = (&badge.instance, &badge.device);
        let key = (instance.clone(), name.clone());
        if running.contains_key(&key) {
            let (instance, device) = key;
            return Err(AttachError::InUse { instance, device });
        }
        if running.len() >= ATTACHED_VOLUMES_MAX {
            return Err(AttachError::TooMany);
        }
        let directory = self.directory.join(instance.to_string());
        let path = directory.join(format!("{name}.sock"));
        let info = ExportInfo {
            name: name.to_string(),
            aliases: vec![format!("{instance}/{name}"), badge.volume.to_string()],
            description: badge.volume.to_string(),
        };
        let started = private_directory(&self.directory)
            .and_then(|()| private_directory(&directory))
            .and_then(|()| Export::start(&path, info, device, Arc::clone(&self.clock)));
        match started {
            Ok(export) => {
                running.insert(key, Running { badge, export });
                Ok(path)
            }
            Err(source) => Err(AttachError::Socket { path, source }),
        }
    }

    /// Ends what is served at a place and waits for it; `None` when nothing is. What is being ended there
    /// already is waited for too, and with [`Stop::Force`] it ends now.
    pub fn detach(
        &self,
        instance: &InstanceId,
        name: &DeviceName,
        how: Stop,
    ) -> Option<Result<(), StopError>> {
        let key = (instance.clone(), name.clone());
        // Retired under the lock, so that the path is free before the name is; joined outside it,
        // because stopping can take long and must not hold up the others.
        let exports = self.retire(&key, how);
        let ended: Vec<_> = exports.iter().map(|export| export.end(how)).collect();
        let is_here = |known: &Arc<Export>| exports.iter().any(|export| Arc::ptr_eq(export, known));
        self.places().ending.retain(|(_, export)| !is_here(export));
        ended.into_iter().reduce(Result::and)
    }

    /// Tells everything at a place to end.
    fn retire(&self, key: &Key, how: Stop) -> Vec<Arc<Export>> {
        let Places { running, ending } = &mut *self.places();
        if let Some(Running { export, .. }) = running.remove(key) {
            ending.push((key.clone(), Arc::new(export)));
        }
        let here = ending.iter().filter(|(place, _)| place == key);
        here.map(|(_, export)| Arc::clone(export)).inspect(|export| export.retire(how)).collect()
    }

    /// What is served now, ordered by instance and device.
    pub fn list(&self) -> Vec<Attached> {
        let attached = |((instance, device), running): (&Key, &Running)| Attached {
            instance: instance.clone(),
            device: device.clone(),
            path: running.export.path().to_owned(),
        };
        self.places().running.iter().map(attached).collect()
    }

    /// The badge of what is attached at a place.
    pub fn badge(&self, instance: &InstanceId, name: &DeviceName) -> Option<Badge> {
        let key = (instance.clone(), name.clone());
        self.places().running.get(&key).map(|running| running.badge.clone())
    }

    /// Whether the attachment stands.
    pub(crate) fn is_attached(&self, badge: &Badge) -> bool {
        self.badge(&badge.instance, &badge.device).as_ref() == Some(badge)
    }

    /// Hands a peer to the export of its attachment; `false` when that does not stand any more.
    pub(crate) fn adopt(&self, badge: &Badge, guest: Guest) -> bool {
        let key = (badge.instance.clone(), badge.device.clone());
        let places = self.places();
        let found = places.running.get(&key).filter(|running| running.badge == *badge);
        found.map(|running| running.export.adopt(guest)).is_some()
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().expect("no code panics while it holds the registry")
    }
}

/// Makes a directory only its owner can enter.
fn private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_file_names() {
        for (text, name) in [("/dev/sdf", "sdf"), ("xvdba", "xvdba"), ("/dev/nvme1n1", "nvme1n1")] {
            assert_eq!(text.parse::<DeviceName>().map(|n| n.to_string()).as_deref(), Ok(name));
        }
        for text in ["", "/dev/", "/dev/../x", "a/b", "..", "a.b", "é", &"x".repeat(33)] {
            assert_eq!(text.parse::<DeviceName>(), Err(DeviceNameError), "{text}");
        }
    }
}
