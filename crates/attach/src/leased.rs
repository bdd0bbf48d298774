//! A device that stops when a lease ends: at that moment it accepts no request and acknowledges none,
//! whatever the volume behind it still does.

use std::sync::{Arc, Mutex, PoisonError};

use crate::device::{
    BlockDevice, Completion, DeviceError, Milestone, Port, Reply, Request, Sink, SizeWatch,
    SizeWatcher,
};

/// Whether the volume may be used now.
pub trait Lease: Send + Sync {
    /// Asked before a request is accepted and again before it is acknowledged.
    fn holds(&self) -> bool;
}

/// A device under a lease.
pub struct LeasedDevice {
    device: Arc<dyn BlockDevice>,
    lease: Arc<dyn Lease>,
}

impl LeasedDevice {
    /// Offers `device` for as long as the lease holds.
    pub fn new(device: Arc<dyn BlockDevice>, lease: Arc<dyn Lease>) -> Self {
        Self { device, lease }
    }
}

impl BlockDevice for LeasedDevice {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn watch_size(&self, watcher: SizeWatcher) -> SizeWatch {
        self.device.watch_size(watcher)
    }

    fn milestones(&self) -> Vec<Milestone> {
        self.device.milestones()
    }

    fn submit(&self, batch: Vec<Request>) {
        if let Some(batch) = self.admit(batch) {
            self.device.submit(batch);
        }
    }

    fn port(&self) -> Option<Port> {
        self.device.port()
    }

    fn submit_through(&self, batch: Vec<Request>, port: &mut Port) {
        if let Some(batch) = self.admit(batch) {
            self.device.submit_through(batch, port);
        }
    }
}

impl LeasedDevice {
    /// The batch with replies that look at the lease again, or `None` when it has ended.
    fn admit(&self, batch: Vec<Request>) -> Option<Vec<Request>> {
        if !self.lease.holds() {
            for request in batch {
                request.reply.complete(Err(DeviceError::Stopped));
            }
            return None;
        }
        let (commands, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|request| (request.command, Some(request.reply))).unzip();
        let sink: Arc<dyn Sink> =
            Arc::new(Checked { lease: Arc::clone(&self.lease), replies: Mutex::new(replies) });
        let checked = |(tag, command)| {
            let reply = Reply::new(Arc::clone(&sink), tag);
            Request { command, reply }
        };
        Some((0..).zip(commands).map(checked).collect())
    }
}

/// The replies of one batch, by their place in it.
struct Checked {
    lease: Arc<dyn Lease>,
    replies: Mutex<Vec<Option<Reply>>>,
}

impl Sink for Checked {
    fn complete(&self, completion: Completion) {
        let reply = {
            let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
            replies.get_mut(completion.tag as usize).and_then(Option::take)
        };
        let result = if self.lease.holds() { completion.result } else { Err(DeviceError::Stopped) };
        if let Some(reply) = reply {
            reply.complete(result);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Answer, Command, call};
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Holds for a number of looks.
    struct Looks(AtomicU32);

    impl Lease for Looks {
        fn holds(&self) -> bool {
            self.0
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
        }
    }

    /// Answers at once, and counts.
    struct Quick(AtomicU32);

    impl BlockDevice for Quick {
        fn size(&self) -> u64 {
            1 << 20
        }

        fn submit(&self, batch: Vec<Request>) {
            for request in batch {
                self.0.fetch_add(1, Ordering::SeqCst);
                request.reply.complete(Ok(Answer::Done));
            }
        }
    }

    #[test]
    fn nothing_is_accepted_or_acknowledged_after_the_lease() {
        let quick = Arc::new(Quick(AtomicU32::new(0)));
        // Two looks for the first flush, one for the second: accepted, done, not acknowledged.
        let lease = Arc::new(Looks(AtomicU32::new(3)));
        let device = LeasedDevice::new(Arc::clone(&quick) as _, lease);
        assert_eq!(device.size(), 1 << 20);
        assert!(call(&device, Command::Flush).is_ok());
        assert_eq!(call(&device, Command::Flush).unwrap_err(), DeviceError::Stopped);
        assert_eq!(quick.0.load(Ordering::SeqCst), 2);
        assert_eq!(call(&device, Command::Flush).unwrap_err(), DeviceError::Stopped);
        assert_eq!(quick.0.load(Ordering::SeqCst), 2);
    }
}
