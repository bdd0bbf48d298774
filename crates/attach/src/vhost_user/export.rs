//! One device behind one vhost-user socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use virtio_bindings::virtio_blk::VIRTIO_BLK_ID_BYTES;

use super::ring::signal;
use super::session::{End, Session};
use crate::device::{BlockDevice, SizeWatch};
use crate::export::{FORCE, RUN, SocketFile, Stop, StopError, private_listener, settle};

const SERIAL_BYTES: usize = VIRTIO_BLK_ID_BYTES as usize;

/// How long a front-end may take to send one message, and to take the answer to one.
const MESSAGE_TIME_MAX: Duration = Duration::from_secs(10);

/// What is served.
pub struct Disk {
    pub(crate) name: String,
    pub(crate) serial: [u8; SERIAL_BYTES],
    pub(crate) device: Arc<dyn BlockDevice>,
}

impl Disk {
    /// A disk that is `name` in the log. The guest sees `serial` without its dashes, as EBS shows
    /// a volume's id, cut to the twenty bytes there are.
    pub fn new(name: String, serial: &str, device: Arc<dyn BlockDevice>) -> Self {
        let mut bytes = [0; SERIAL_BYTES];
        let shown = serial.bytes().filter(|byte| *byte != b'-');
        bytes.iter_mut().zip(shown).for_each(|(to, from)| *to = from);
        Self { name, serial: bytes, device }
    }
}

/// How the thread is told to end, and to look around.
pub(crate) struct Control {
    stop: AtomicU8,
    wake: OwnedFd,
    /// The connected front-end.
    front_end: Mutex<Option<UnixStream>>,
}

impl Control {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::SeqCst) != RUN
    }

    pub(crate) fn is_forced(&self) -> bool {
        self.stop.load(Ordering::SeqCst) == FORCE
    }

    pub(crate) fn wake(&self) -> &OwnedFd {
        &self.wake
    }
}

/// A device served over vhost-user-blk. Dropping it stops it by force.
pub struct VhostExport {
    socket: SocketFile,
    device: Arc<dyn BlockDevice>,
    control: Arc<Control>,
    thread: Option<JoinHandle<()>>,
    /// Wakes the thread when the device has grown.
    _watch: SizeWatch,
}

impl VhostExport {
    /// Serves `disk` on a new socket at `path` with mode 0600. The directory must be private: it
    /// is what keeps others out between creating the socket and setting its mode.
    pub fn start(path: &Path, disk: Disk) -> io::Result<Self> {
        Self::start_with(path, disk, MESSAGE_TIME_MAX)
    }

    fn start_with(path: &Path, disk: Disk, patience: Duration) -> io::Result<Self> {
        let (listener, socket) = private_listener(path)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control =
            Arc::new(Control { stop: AtomicU8::new(RUN), wake, front_end: Mutex::new(None) });
        let device = Arc::clone(&disk.device);
        let server = Server { listener, disk, control: Arc::clone(&control), patience };
        let thread = thread::Builder::new()
            .name("vhost-user".into())
            .spawn(move || server.run())
            .inspect_err(|_| socket.remove())?;
        let watched = Arc::clone(&control);
        let watch = device.watch_size(Box::new(move |_| signal(&watched.wake)));
        Ok(Self { socket, device, control, thread: Some(thread), _watch: watch })
    }

    /// The socket a front-end connects to.
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Removes the socket and tells the front-end to finish, without waiting. The path is free for
    /// another export when this returns.
    pub fn retire(&self, how: Stop) {
        if self.control.stop.fetch_max(how.wish(), Ordering::SeqCst) == RUN {
            self.socket.remove();
        }
        signal(&self.control.wake);
        if how == Stop::Force {
            let front_end = self.control.front_end.lock().expect("no code panics with the lock");
            // One that is gone already is what we want.
            front_end.iter().for_each(|socket| drop(socket.shutdown(std::net::Shutdown::Both)));
        }
    }

    /// Retires the export and waits for its thread. Gracefully, everything the guest was answered
    /// is durable then.
    pub fn stop(mut self, how: Stop) -> Result<(), StopError> {
        self.retire(how);
        let sound = self.join();
        settle(&*self.device, how, sound)
    }

    /// `false` when the thread panicked.
    fn join(&mut self) -> bool {
        self.thread.take().is_none_or(|thread| thread.join().is_ok())
    }
}

impl Drop for VhostExport {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.retire(Stop::Force);
            self.join();
        }
    }
}

/// The thread that serves one front-end after another.
struct Server {
    listener: UnixListener,
    disk: Disk,
    control: Arc<Control>,
    patience: Duration,
}

impl Server {
    fn run(self) {
        while !self.control.is_stopping() {
            self.wait(None);
            match self.listener.accept() {
                Ok((socket, _)) => self.serve(&socket),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(disk = self.disk.name, %error, "accepting a front-end failed");
                    // Out of descriptors or memory: waits instead of spinning.
                    self.wait(Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
                }
            }
        }
    }

    /// Waits for a front-end or the stop; with a limit, for the stop alone.
    fn wait(&self, limit: Option<&Timespec>) {
        let mut waited = vec![PollFd::new(&self.control.wake, PollFlags::IN)];
        if limit.is_none() {
            waited.push(PollFd::new(&self.listener, PollFlags::IN));
        }
        // Whatever ends the wait, the loop looks again.
        let _ = poll(&mut waited, limit);
        let mut counter = [0; 8];
        let _ = rustix::io::read(&self.control.wake, &mut counter);
    }

    fn serve(&self, socket: &UnixStream) {
        let name = &self.disk.name;
        // Some systems pass the listener's mode on.
        let prepared = socket.set_nonblocking(false).and_then(|()| socket.try_clone());
        match prepared.and_then(|clone| {
            *self.control.front_end.lock().expect("no code panics with the lock") = Some(clone);
            Session::new(socket, &self.disk, &self.control, self.patience)
        }) {
            Ok(session) => match session.run(&self.listener) {
                Ok(End::Closed) => tracing::info!(disk = name, "the front-end has gone"),
                Ok(End::Stopped) => tracing::info!(disk = name, "the front-end was disconnected"),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(disk = name, %error, cause, "the front-end was disconnected");
                }
            },
            Err(error) => tracing::warn!(disk = name, %error, "a front-end could not be served"),
        }
        *self.control.front_end.lock().expect("no code panics with the lock") = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Answer, Request};
    use std::io::Write;

    /// A device on which everything succeeds.
    struct Easy;

    impl BlockDevice for Easy {
        fn size(&self) -> u64 {
            1 << 20
        }

        fn submit(&self, batch: Vec<Request>) {
            batch.into_iter().for_each(|request| request.reply.complete(Ok(Answer::Done)));
        }
    }

    #[test]
    fn a_front_end_that_reads_nothing_is_disconnected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sdf.vhost.sock");
        let disk = Disk::new("sdf".into(), "vol-0123456789abcdef0", Arc::new(Easy));
        let export = VhostExport::start_with(&path, disk, Duration::from_millis(100)).unwrap();
        let mut socket = UnixStream::connect(&path).unwrap();
        socket.set_write_timeout(Some(MESSAGE_TIME_MAX)).unwrap();
        let get_features = [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let error = (0..).find_map(|_| socket.write_all(&get_features).err()).unwrap();
        let closed = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(closed.contains(&error.kind()), "{error}");
        export.stop(Stop::Graceful).unwrap();
    }
}
