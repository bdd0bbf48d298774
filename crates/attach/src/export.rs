//! One device behind one unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::thread::{self, JoinHandle};

use base::Clock;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno as OsError;

use crate::device::{BlockDevice, Command, DeviceError, call};
use crate::nbd::connection::{self, Mailbox, Setup};
use crate::nbd::handshake::{ExportInfo, Handshake};
use crate::tls::{Guest, Stream};

/// Clients served at once by one export; further ones are closed at once.
pub const CONNECTIONS_PER_EXPORT_MAX: usize = 16;

/// How an export ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Answer what is in flight, flush the device, close.
    Graceful,
    /// Close the sockets at once. Requests the device already has still happen; nothing is flushed.
    Force,
}

/// Why a graceful stop did not end well. The export is gone all the same.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The device did not accept the last flush.
    #[error("the last flush failed")]
    Flush(#[source] DeviceError),
    /// A thread of the export died of a broken invariant.
    #[error("a thread of the export panicked")]
    Panicked,
}

/// What the threads of an export are told, in rising order of urgency.
pub(crate) const RUN: u8 = 0;
const GRACEFUL: u8 = 1;
pub(crate) const FORCE: u8 = 2;

impl Stop {
    pub(crate) fn wish(self) -> u8 {
        match self {
            Self::Graceful => GRACEFUL,
            Self::Force => FORCE,
        }
    }
}

/// A served device. Dropping it stops it by force.
pub struct Export {
    socket: SocketFile,
    device: Arc<dyn BlockDevice>,
    control: Arc<Control>,
    threads: Mutex<Threads>,
}

/// Those of an export, of which the one that accepts clients waits for the others.
struct Threads {
    /// Ends with whether nothing panicked. `None` once it was waited for.
    acceptor: Option<JoinHandle<bool>>,
    sound: bool,
}

struct Control {
    stop: Arc<AtomicU8>,
    wake: OwnedFd,
    /// Peers that came in elsewhere and were found to belong here.
    guests: Mutex<Vec<Guest>>,
    /// Of the connections, for as long as each lasts.
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
}

impl Control {
    /// Has everybody look at the wish to stop, those included that look because of an earlier one.
    fn rouse_all(&self) {
        self.rouse();
        self.mailboxes().iter().filter_map(Weak::upgrade).for_each(|mailbox| mailbox.rouse());
    }

    /// Has a connection roused from now on. One that is not running yet finds a stop by itself.
    fn note(&self, mailbox: &Arc<Mailbox>) {
        let mut mailboxes = self.mailboxes();
        mailboxes.retain(|known| known.strong_count() > 0);
        mailboxes.push(Arc::downgrade(mailbox));
    }

    fn mailboxes(&self) -> MutexGuard<'_, Vec<Weak<Mailbox>>> {
        self.mailboxes.lock().expect("no code panics while it holds the mailboxes")
    }

    /// Has the thread that accepts clients look around.
    fn rouse(&self) {
        // The counter cannot overflow: every one added is for a guest or a stop.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn take_guests(&self) -> Vec<Guest> {
        std::mem::take(&mut *self.guests.lock().expect("no code panics while it holds the guests"))
    }
}

impl Export {
    /// Serves `device` on a new socket at `path` with mode 0600. The directory must be private: it
    /// is what keeps others out between creating the socket and setting its mode.
    pub fn start(
        path: &Path,
        info: ExportInfo,
        device: Arc<dyn BlockDevice>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (listener, socket) = private_listener(path)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let control = Arc::new(Control {
            stop: Arc::new(AtomicU8::new(RUN)),
            wake,
            guests: Mutex::default(),
            mailboxes: Mutex::default(),
        });
        let acceptor = Acceptor {
            listener,
            info,
            device: Arc::clone(&device),
            clock,
            control: Arc::clone(&control),
            connections: Vec::new(),
            sound: true,
        };
        let thread = thread::Builder::new()
            .name("nbd-accept".into())
            .spawn(move || acceptor.run())
            .inspect_err(|_| socket.remove())?;
        let threads = Mutex::new(Threads { acceptor: Some(thread), sound: true });
        Ok(Self { socket, device, control, threads })
    }

    /// The socket clients connect to.
    pub fn path(&self) -> &Path {
        &self.socket.path
    }

    /// Removes the socket and tells all clients to finish, without waiting. The path is free for
    /// another export when this returns. Whoever finishes already is told when it becomes more urgent.
    pub fn retire(&self, how: Stop) {
        if self.control.stop.fetch_max(how.wish(), Ordering::SeqCst) == RUN {
            self.socket.remove();
        }
        self.control.rouse_all();
    }

    /// Serves a peer that was authenticated elsewhere. An export that stops lets it go.
    pub(crate) fn adopt(&self, guest: Guest) {
        let guests = &self.control.guests;
        guests.lock().expect("no code panics while it holds the guests").push(guest);
        self.control.rouse();
    }

    /// Retires the export and waits for its threads.
    pub fn stop(self, how: Stop) -> Result<(), StopError> {
        self.end(how)
    }

    /// As [`Export::stop`]. Several may do it at once, each in its way; the most urgent one says how clients
    /// are let go.
    pub(crate) fn end(&self, how: Stop) -> Result<(), StopError> {
        self.retire(how);
        let sound = self.join();
        settle(&*self.device, how, sound)
    }

    /// Waits for the threads; `false` when one panicked. Who comes second waits for the lock.
    fn join(&self) -> bool {
        let mut threads = self.threads.lock().expect("no code panics while it waits for threads");
        if let Some(acceptor) = threads.acceptor.take() {
            threads.sound = acceptor.join().unwrap_or(false);
        }
        threads.sound
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        if self.threads.get_mut().is_ok_and(|threads| threads.acceptor.is_some()) {
            self.retire(Stop::Force);
            self.join();
        }
    }
}

/// A socket in the file system.
pub(crate) struct SocketFile {
    pub(crate) path: PathBuf,
    /// Device and number of the file. No other has them while the listener lives.
    number: (u64, u64),
}

impl SocketFile {
    /// Removes the socket, unless another process has put its own in its place: one that was taken the
    /// volume of may find out late.
    pub(crate) fn remove(&self) {
        if number(&self.path).is_ok_and(|number| number == self.number) {
            // One that someone else removes now is gone too.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn number(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

/// Whether a socket may be made at `path`: nothing is there but a socket, which is replaced.
///
/// # Errors
/// When something else is there, which may be precious, or the path is too long for a socket.
pub fn check_socket_path(path: &Path) -> io::Result<()> {
    SocketAddr::from_pathname(path).map_err(|_| {
        let words = "the path of a socket is shorter than 108 bytes and holds no zero";
        io::Error::new(io::ErrorKind::InvalidInput, words)
    })?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "what is there is no socket"))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A socket that only this user reaches, where there is none or where one was left. The directory must
/// be private until its mode is set.
pub(crate) fn private_listener(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    check_socket_path(path)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    let socket = SocketFile { path: path.to_owned(), number: number(path)? };
    Ok((listener, socket))
}

/// Ends an export whose threads ended, `sound` when none panicked. Gracefully, everything that was
/// answered is durable then.
pub(crate) fn settle(device: &dyn BlockDevice, how: Stop, sound: bool) -> Result<(), StopError> {
    if how == Stop::Graceful {
        call(device, Command::Flush).map_err(StopError::Flush)?;
    }
    if sound { Ok(()) } else { Err(StopError::Panicked) }
}

/// The thread that accepts clients and starts a thread for each.
struct Acceptor {
    listener: UnixListener,
    info: ExportInfo,
    device: Arc<dyn BlockDevice>,
    clock: Arc<dyn Clock>,
    control: Arc<Control>,
    connections: Vec<JoinHandle<()>>,
    sound: bool,
}

impl Acceptor {
    /// Returns whether nothing panicked.
    fn run(mut self) -> bool {
        loop {
            if self.control.stop.load(Ordering::SeqCst) != RUN {
                return self.stop();
            }
            self.wait();
            self.reap();
            for Guest { stream, handshake } in self.control.take_guests() {
                let handshake = handshake.after_tls(self.info.clone(), Arc::clone(&self.device));
                self.connect(Stream::Tls(Box::new(stream)), handshake, Vec::new());
            }
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let (info, device) = (self.info.clone(), Arc::clone(&self.device));
                    let mut greeting = Vec::new();
                    let handshake = Handshake::plain(info, device, &mut greeting);
                    self.connect(Stream::Unix(stream), handshake, greeting);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::warn!(export = self.info.name, %error, "accepting a client failed");
                    self.pause();
                }
            }
        }
    }

    fn wait(&self) {
        let mut waited = [
            PollFd::new(&self.control.wake, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        match poll(&mut waited, None) {
            Ok(_) | Err(OsError::INTR) => {}
            Err(error) => {
                tracing::warn!(export = self.info.name, %error, "waiting for clients failed");
                self.pause();
            }
        }
        // Resets the counter; what it announced is looked for in any case.
        let _ = rustix::io::read(&self.control.wake, &mut [0; 8]);
    }

    /// Out of descriptors or memory: waits a second, or for the stop, instead of spinning.
    fn pause(&self) {
        let mut waited = [PollFd::new(&self.control.wake, PollFlags::IN)];
        let second = Timespec { tv_sec: 1, tv_nsec: 0 };
        // Whatever ends the wait, the loop looks again.
        let _ = poll(&mut waited, Some(&second));
    }

    /// Forgets connections that ended.
    fn reap(&mut self) {
        let (ended, running) =
            std::mem::take(&mut self.connections).into_iter().partition(JoinHandle::is_finished);
        self.connections = running;
        self.join(ended);
    }

    fn join(&mut self, ended: Vec<JoinHandle<()>>) {
        for thread in ended {
            if thread.join().is_err() {
                self.sound = false;
                tracing::error!(export = self.info.name, "a connection panicked");
            }
        }
    }

    fn connect(&mut self, stream: Stream, handshake: Handshake, greeting: Vec<u8>) {
        if self.connections.len() >= CONNECTIONS_PER_EXPORT_MAX {
            tracing::warn!(export = self.info.name, "too many clients; one was turned away");
            return;
        }
        if let Err(error) = self.spawn(stream, handshake, greeting) {
            tracing::warn!(export = self.info.name, %error, "a client could not be served");
        }
    }

    fn spawn(&mut self, stream: Stream, handshake: Handshake, greeting: Vec<u8>) -> io::Result<()> {
        let mailbox = Mailbox::new(Arc::clone(&self.control.stop))?;
        self.control.note(&mailbox);
        let setup = Setup {
            stream,
            handshake,
            greeting,
            device: Arc::clone(&self.device),
            clock: Arc::clone(&self.clock),
            mailbox,
        };
        let name = self.info.name.clone();
        let thread = thread::Builder::new().name("nbd".into()).spawn(move || {
            if let Err(error) = connection::serve(setup) {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::info!(export = name, %error, cause, "a client was disconnected");
            }
        })?;
        self.connections.push(thread);
        Ok(())
    }

    /// Waits for the connections, which whoever stops the export has told.
    fn stop(mut self) -> bool {
        let connections = std::mem::take(&mut self.connections);
        self.join(connections);
        self.sound
    }
}
