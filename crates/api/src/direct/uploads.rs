//! The upload sessions that this server has open.

use super::blocking;
use super::code::of_blocks;
use super::find::{Writable, corrupt, store};
use crate::call::Call;
use crate::error::Error;
use base::{GIB, SnapshotId};
use blockstore::page::DataKey;
use blockstore::snapshot::{DirectSession, SessionSpec, SnapshotRoot};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Sessions kept open. One that nobody uses is closed to make room, and opened again from the
/// store when it is needed.
const SESSIONS_OPEN_MAX: usize = 256;

/// Open sessions by snapshot.
#[derive(Default)]
pub(crate) struct Uploads(Mutex<HashMap<SnapshotId, Arc<DirectSession>>>);

impl Uploads {
    fn open(&self) -> MutexGuard<'_, HashMap<SnapshotId, Arc<DirectSession>>> {
        self.0.lock().expect("no code panics while it holds the map")
    }

    /// The session of an upload, if it is open here.
    pub(crate) fn get(&self, id: &SnapshotId) -> Option<Arc<DirectSession>> {
        self.open().get(id).cloned()
    }

    /// Lets go of a session whose upload has ended.
    pub(crate) fn forget(&self, id: &SnapshotId) {
        self.open().remove(id);
    }

    /// Keeps a session, unless another request has opened it meanwhile: there must be one at most.
    fn keep(&self, id: &SnapshotId, session: DirectSession) -> Arc<DirectSession> {
        let mut open = self.open();
        if open.len() >= SESSIONS_OPEN_MAX {
            // Whoever uses a session holds a second reference, taken under this lock.
            open.retain(|_, session| Arc::strong_count(session) > 1);
        }
        Arc::clone(open.entry(id.clone()).or_insert_with(|| Arc::new(session)))
    }
}

/// The session of an upload, opened if need be.
pub(crate) async fn session(
    call: &Call,
    writable: &Writable,
    key: &DataKey,
) -> Result<Arc<DirectSession>, Error> {
    let row = &writable.found.snapshot;
    if let Some(session) = call.world.uploads.get(&row.id) {
        return Ok(session);
    }
    let parent = match (&row.parent, &row.pinned_root) {
        (None, _) => None,
        (Some(_), Some(root)) => Some(SnapshotRoot::from_bytes(root).map_err(Error::internal)?),
        (Some(_), None) => return Err(corrupt("pinned_root")),
    };
    let spec = SessionSpec {
        name: row.id.as_str().to_owned(),
        volume_bytes: u64::from(row.size_gib) * GIB,
        parent,
        key_check: key.check_value(),
    };
    let store = store(call)?;
    let session = blocking(move || DirectSession::open(&store, spec)).await?.map_err(of_blocks)?;
    Ok(call.world.uploads.keep(&row.id, session))
}
