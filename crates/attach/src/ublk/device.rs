//! One volume as `/dev/ublkbN`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::abi::{self, Info, STATE_QUIESCED, feature};
use super::control::Control;
use super::queue::{Mailbox, Queue};
use super::{PAYLOAD_BYTES_MAX, QUEUE_DEPTH, RANGE_SECTORS_MAX, TAKE_OVER_SECONDS_MAX, UblkError};
use crate::device::{BlockDevice, Command, call};

/// Between two looks at a device whose process before is still going away.
const TAKE_OVER_STEP: Duration = Duration::from_millis(50);

/// How serving ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UblkStop {
    /// The device goes away; whoever has it open sees errors.
    Remove,
    /// The device stays, and its users wait for a process that takes it over.
    Leave,
}

/// A volume served as a block device of this machine. Dropped, it is left for another process.
pub struct UblkDevice {
    link: PathBuf,
    id: u32,
    control: Control,
    device: Arc<dyn BlockDevice>,
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

impl UblkDevice {
    /// Serves `device`, and makes `link` a link to its block device. When a process before left the
    /// device that `link` names, and it bears `mark`, it is taken over with the requests that were
    /// under way. The mark is the volume's own.
    pub fn start(link: &Path, mark: u64, device: Arc<dyn BlockDevice>) -> Result<Self, UblkError> {
        let mut control = Control::open()?;
        let left = match linked(link) {
            Some(id) => control.info(id)?.filter(|info| info.mark == mark),
            None => None,
        };
        let (id, start) = match left {
            Some(info) => {
                begin_recovery(&mut control, info.id)?;
                (info.id, Start::TakeOver)
            }
            None => (add(&mut control, mark, device.size())?, Start::New),
        };
        match serve(&mut control, id, start, &device) {
            Ok((mailbox, thread)) => {
                let thread = Some(thread);
                let this = Self { link: link.to_owned(), id, control, device, mailbox, thread };
                // From here on a failure leaves the device for another try.
                point(link, &this.path()).map_err(UblkError::SetUp)?;
                Ok(this)
            }
            Err(error) => {
                if start == Start::New
                    && let Err(error) = control.delete(id)
                {
                    tracing::warn!(device = id, %error, "an unused ublk device stays behind");
                }
                Err(error)
            }
        }
    }

    /// The block device.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.id))
    }

    /// Ends serving. Removed, everything the kernel was answered is durable then.
    pub fn stop(mut self, how: UblkStop) -> Result<(), UblkError> {
        match how {
            UblkStop::Leave => {
                self.mailbox.leave();
                self.join();
                Ok(())
            }
            UblkStop::Remove => {
                self.control.stop(self.id)?;
                self.join();
                let flushed = call(&*self.device, Command::Flush);
                self.control.delete(self.id)?;
                remove_link(&self.link).map_err(UblkError::SetUp)?;
                flushed.map(drop).map_err(|error| UblkError::SetUp(io::Error::other(error)))
            }
        }
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(device = self.id, "the thread of a ublk device panicked");
        }
    }
}

impl Drop for UblkDevice {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.mailbox.leave();
            self.join();
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    New,
    TakeOver,
}

/// Starts the thread and has the kernel use it.
fn serve(
    control: &mut Control,
    id: u32,
    start: Start,
    device: &Arc<dyn BlockDevice>,
) -> Result<(Arc<Mailbox>, JoinHandle<()>), UblkError> {
    let file = open(id).map_err(UblkError::SetUp)?;
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| UblkError::SetUp(error.into()))?;
    let mailbox = Mailbox::new(wake);
    let (ready, told) = mpsc::channel();
    let (served, mail) = (Arc::clone(device), Arc::clone(&mailbox));
    let thread = thread::Builder::new()
        .name(format!("ublk{id}"))
        .spawn(move || {
            if let Err(error) = Queue::run(file, served, mail, &ready) {
                tracing::error!(device = id, %error, "a ublk device is no longer served");
            }
        })
        .map_err(UblkError::SetUp)?;
    let gone = || UblkError::SetUp(io::ErrorKind::BrokenPipe.into());
    let started =
        told.recv().map_err(|_| gone()).and_then(|ready| ready.map_err(UblkError::SetUp)).and_then(
            |()| match start {
                Start::New => control.start(id),
                Start::TakeOver => control.end_recovery(id),
            },
        );
    match started {
        Ok(()) => Ok((mailbox, thread)),
        Err(error) => {
            mailbox.leave();
            // It reports its own panic.
            let _ = thread.join();
            Err(error)
        }
    }
}

/// Makes a device for a volume of `size` bytes.
fn add(control: &mut Control, mark: u64, size: u64) -> Result<u32, UblkError> {
    let info = control.add(Info {
        queues: 1,
        depth: QUEUE_DEPTH,
        state: 0,
        payload_max: PAYLOAD_BYTES_MAX,
        id: 0,
        features: feature::REQUIRED,
        mark,
    })?;
    let params = abi::params(size, info.payload_max, RANGE_SECTORS_MAX);
    if let Err(error) = control.set_params(info.id, params) {
        control.delete(info.id)?;
        return Err(error);
    }
    Ok(info.id)
}

/// Waits until the process before has left the device, which the kernel may see a little later.
fn begin_recovery(control: &mut Control, id: u32) -> Result<(), UblkError> {
    let steps = TAKE_OVER_SECONDS_MAX * 1000 / TAKE_OVER_STEP.as_millis() as u64;
    for _ in 0..steps {
        match control.begin_recovery(id) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                thread::sleep(TAKE_OVER_STEP);
            }
            Err(source) => {
                return Err(UblkError::Refused { what: "have a device taken over", source });
            }
        }
    }
    match control.info(id)? {
        Some(info) if info.state == STATE_QUIESCED => Err(UblkError::Refused {
            what: "have a device taken over",
            source: io::ErrorKind::TimedOut.into(),
        }),
        _ => Err(UblkError::InUse(id)),
    }
}

fn open(id: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(format!("/dev/ublkc{id}"))
}

/// The number of the device a link names.
fn linked(link: &Path) -> Option<u32> {
    let target = fs::read_link(link).ok()?;
    target.to_str()?.strip_prefix("/dev/ublkb")?.parse().ok()
}

fn point(link: &Path, target: &Path) -> io::Result<()> {
    remove_link(link)?;
    std::os::unix::fs::symlink(target, link)
}

fn remove_link(link: &Path) -> io::Result<()> {
    match fs::remove_file(link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
