//! This machine as the host of every instance that has no machine of its own: volumes open here, and each is served on a socket of
//! its own below the data directory.

use super::lending::Lending;
use super::local::{Ending, Local, Offers};
use crate::history::{SnapshotRows, VolumeHistory};
use attach::tls::Badge;
use attach::{DeviceName, Exports, Stop, VolumeDevice};
use base::{Clock, InstanceId, Region, Secret, Timestamp, VolumeId};
use blockstore::store::VolumeHandle;
use lifecycle::cells::Cells;
use lifecycle::port::BoxFuture;
use lifecycle::port::host::{
    AttachHost, CloseVolume, Force, HostError, KeepVolume, LendVolume, OpenVolume,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use tokio::task::spawn_blocking;

type Place = (InstanceId, DeviceName);

/// The volumes open in this process.
pub(crate) struct Host(Arc<Inner>);

struct Inner {
    cells: Arc<Cells>,
    db: meta::Db,
    exports: Arc<Exports>,
    offers: Offers,
    lending: Arc<Lending>,
    open: Mutex<BTreeMap<Place, Open>>,
    closed: Condvar,
}

struct Open {
    volume: VolumeId,
    /// When the attachment was asked for.
    attached: Timestamp,
    /// Taken by whoever closes it; the rest stays until that is done.
    served: Option<Served>,
}

struct Served {
    handle: VolumeHandle,
    local: Local,
}

/// A place whose volume is being closed; it is free when this is dropped.
struct Closing<'a> {
    inner: &'a Inner,
    place: &'a Place,
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.inner.open().remove(self.place);
        self.inner.closed.notify_all();
    }
}

impl Host {
    /// A host that serves below `directory`.
    pub(crate) fn new(
        (cells, db, lending): (Arc<Cells>, meta::Db, Arc<Lending>),
        directory: PathBuf,
        clock: Arc<dyn Clock>,
        offers: Offers,
    ) -> Self {
        let exports = Arc::new(Exports::new(directory, clock));
        let (open, closed) = Default::default();
        Self(Arc::new(Inner { cells, db, exports, offers, lending, open, closed }))
    }

    /// What is served, by place.
    pub(crate) fn exports(&self) -> Arc<Exports> {
        Arc::clone(&self.0.exports)
    }

    /// Closes everything when the server stops: accepted writes become durable, keys are wiped.
    /// The rows still say attached, so the next start opens the volumes again. What machines have open is not
    /// written any more when this returns.
    pub(crate) async fn close_all(&self) {
        self.0.lending.stop().await;
        let close = |(place, open): (&Place, &Open)| {
            let (inner, place, attached) = (Arc::clone(&self.0), place.clone(), open.attached);
            spawn_blocking(move || inner.close(&place, attached, Ending::Shutdown))
        };
        // At once: one that takes long holds up no other.
        let closings: Vec<_> = self.0.open().iter().map(close).collect();
        for closing in closings {
            match closing.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a volume did not close cleanly"),
                Err(error) => tracing::error!(%error, "closing a volume panicked"),
            }
        }
    }
}

impl Inner {
    fn open(&self) -> MutexGuard<'_, BTreeMap<Place, Open>> {
        self.open.lock().expect("no code panics while it holds the map")
    }

    /// What is open, once nobody is closing the volume of a place.
    fn settled(&self, place: &Place) -> MutexGuard<'_, BTreeMap<Place, Open>> {
        let is_closing =
            |open: &mut BTreeMap<_, Open>| open.get(place).is_some_and(|at| at.served.is_none());
        let settled = self.closed.wait_while(self.open(), is_closing);
        settled.expect("no code panics while it holds the map")
    }

    fn open_volume(&self, request: &OpenVolume) -> Result<(), HostError> {
        let name = device_name(&request.device)?;
        let place = (request.instance.clone(), name.clone());
        if self.settled(&place).get(&place).is_some_and(|open| open.volume == request.volume) {
            return Ok(());
        }
        let cell = self.cells.get(&request.region).ok_or_else(|| {
            HostError::Storage(format!("the region {} is not served", request.region).into())
        })?;
        let handle = cell.open(request)?;
        let snapshots = Arc::new(SnapshotRows {
            db: self.db.clone(),
            region: request.region.clone(),
            volume: request.volume.clone(),
        });
        let history = VolumeHistory { snapshots, handle: handle.clone() };
        let device = VolumeDevice::new(handle.clone());
        let device = Arc::new(device.with_history(Arc::new(history)));
        let badge = Badge {
            volume: request.volume.clone(),
            instance: request.instance.clone(),
            device: name.clone(),
            attached: request.attached,
        };
        let attached = self
            .exports
            .attach(badge, Arc::clone(&device) as _)
            .map_err(|error| HostError::Device(Box::new(error)))
            .and_then(|socket| self.serve_locally(request, &name, &socket, &device));
        match attached {
            Ok(local) => {
                let (volume, attached) = (request.volume.clone(), request.attached);
                let served = Some(Served { handle, local });
                self.open().insert(place, Open { volume, attached, served });
                Ok(())
            }
            Err(error) => {
                if let Err(unclosed) = handle.close() {
                    tracing::error!(error = %unclosed, "a volume did not close cleanly");
                }
                Err(error)
            }
        }
    }

    /// Serves a volume beside its NBD socket in whatever other ways are wanted.
    fn serve_locally(
        &self,
        request: &OpenVolume,
        name: &DeviceName,
        socket: &Path,
        device: &Arc<VolumeDevice>,
    ) -> Result<Local, HostError> {
        let started = Local::start(self.offers, &request.volume, name, socket, device);
        started.map_err(|error| {
            // It was made a moment ago, so nobody uses it.
            let _ = self.exports.detach(&request.instance, name, Stop::Force);
            HostError::Device(Box::new(error))
        })
    }

    /// Closes what an attachment made at a place; what another one made there stays. Who finds somebody
    /// closing it already waits until that is done, and with force hurries it.
    fn close(&self, place: &Place, attached: Timestamp, ending: Ending) -> Result<(), HostError> {
        let how = ending.of_sockets();
        let mut open = self.open();
        let Some(found) = open.get_mut(place).filter(|open| open.attached == attached) else {
            return Ok(());
        };
        let served = found.served.take();
        drop(open);
        let Some(Served { handle, local }) = served else {
            if how == Stop::Force {
                // What becomes of it, whoever closes the volume is told.
                let _ = self.exports.detach(&place.0, &place.1, how);
            }
            drop(self.settled(place));
            return Ok(());
        };
        let _closing = Closing { inner: self, place };
        // The exports first, so that no request meets a closed volume.
        let local = local.stop(ending);
        let stopped = self.exports.detach(&place.0, &place.1, how).unwrap_or(Ok(()));
        let closed = handle.close();
        closed.map_err(|error| HostError::Storage(Box::new(error)))?;
        stopped.map_err(|error| HostError::Device(Box::new(error)))?;
        local.map_err(|error| HostError::Device(Box::new(error)))
    }
}

fn device_name(device: &str) -> Result<DeviceName, HostError> {
    device.parse().map_err(|error: attach::DeviceNameError| HostError::Device(Box::new(error)))
}

impl AttachHost for Host {
    fn open(&self, request: OpenVolume) -> BoxFuture<'_, Result<(), HostError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            spawn_blocking(move || inner.open_volume(&request)).await.unwrap_or_else(panicked)
        })
    }

    fn close(&self, request: CloseVolume) -> BoxFuture<'_, Result<(), HostError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let place = (request.instance, device_name(&request.device)?);
            let how = match request.force {
                Force::No => Stop::Graceful,
                Force::Yes => Stop::Force,
            };
            let (attached, ending) = (request.attached, Ending::Detach(how));
            spawn_blocking(move || inner.close(&place, attached, ending))
                .await
                .unwrap_or_else(panicked)
        })
    }

    fn lend(&self, request: LendVolume) -> BoxFuture<'_, Result<(), HostError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            spawn_blocking(move || inner.lending.lend(request)).await.unwrap_or_else(panicked)
        })
    }

    fn keep(&self, request: KeepVolume) -> BoxFuture<'_, Result<(), HostError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            spawn_blocking(move || inner.lending.keep(request)).await.unwrap_or_else(panicked)
        })
    }

    fn lease_ms(&self) -> u32 {
        self.0.lending.lease_ms()
    }

    fn ticket(
        &self,
        region: &Region,
        volume: &VolumeId,
        epoch: u64,
    ) -> Result<Option<Secret<String>>, HostError> {
        self.0.lending.ticket(region, volume, epoch)
    }

    fn take_back(&self, request: CloseVolume) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move { self.0.lending.take_back(&request).await })
    }
}

fn panicked(error: tokio::task::JoinError) -> Result<(), HostError> {
    Err(HostError::Device(Box::new(error)))
}
