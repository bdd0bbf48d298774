//! `/dev/ublk-control`: devices are made, started, taken over and removed.

#![expect(unsafe_code, reason = "commands with the address of a buffer are pushed to a ring")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::UblkError;
use super::abi::{self, INFO_BYTES, Info, PARAMS_BYTES, control, feature};

/// The driver chooses the number.
const ANY_DEVICE: u32 = u32::MAX;

/// The driver's control file.
pub(crate) struct Control {
    file: File,
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
}

impl Control {
    pub(crate) fn open() -> Result<Self, UblkError> {
        let file = OpenOptions::new().read(true).write(true).open("/dev/ublk-control").map_err(
            |error| match error.kind() {
                io::ErrorKind::NotFound => UblkError::NoDriver,
                _ => UblkError::Control(error),
            },
        )?;
        let ring = IoUring::builder().build(2).map_err(UblkError::Control)?;
        let mut control = Self { file, ring };
        let mut features = [0; 8];
        control
            .command(control::GET_FEATURES, ANY_DEVICE, &mut features, 0)
            .map_err(refused("name its features"))?;
        match feature::REQUIRED & !u64::from_ne_bytes(features) {
            0 => Ok(control),
            missing => Err(UblkError::TooOld { missing }),
        }
    }

    /// What the driver knows of a device; `None` when there is none of this number.
    pub(crate) fn info(&mut self, device: u32) -> Result<Option<Info>, UblkError> {
        let mut bytes = [0; INFO_BYTES];
        match self.command(control::GET_DEV_INFO, device, &mut bytes, 0) {
            Ok(()) => Ok(Some(Info::parse(&bytes))),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => {
                Ok(None)
            }
            Err(error) => Err(refused("tell about a device")(error)),
        }
    }

    /// Makes a device; its number is in the answer.
    pub(crate) fn add(&mut self, wanted: Info) -> Result<Info, UblkError> {
        let mut bytes = Info { id: ANY_DEVICE, ..wanted }.to_bytes();
        self.command(control::ADD_DEV, ANY_DEVICE, &mut bytes, 0)
            .map_err(refused("add a device"))?;
        Ok(Info::parse(&bytes))
    }

    pub(crate) fn set_params(
        &mut self,
        device: u32,
        mut params: [u8; PARAMS_BYTES],
    ) -> Result<(), UblkError> {
        self.command(control::SET_PARAMS, device, &mut params, 0)
            .map_err(refused("take a device's parameters"))
    }

    /// Makes a device usable, once all of its requests can be taken.
    pub(crate) fn start(&mut self, device: u32) -> Result<(), UblkError> {
        self.plain(control::START_DEV, device, process().into()).map_err(refused("start a device"))
    }

    /// Begins to take a device over. `WouldBlock` while the process before is not yet gone.
    pub(crate) fn begin_recovery(&mut self, device: u32) -> io::Result<()> {
        self.plain(control::START_USER_RECOVERY, device, 0)
    }

    pub(crate) fn end_recovery(&mut self, device: u32) -> Result<(), UblkError> {
        self.plain(control::END_USER_RECOVERY, device, process().into())
            .map_err(refused("hand a device over"))
    }

    /// Ends a device for its users. Somebody must serve it meanwhile.
    pub(crate) fn stop(&mut self, device: u32) -> Result<(), UblkError> {
        self.plain(control::STOP_DEV, device, 0).map_err(refused("stop a device"))
    }

    /// Removes a device that nobody serves.
    pub(crate) fn delete(&mut self, device: u32) -> Result<(), UblkError> {
        self.plain(control::DEL_DEV, device, 0).map_err(refused("remove a device"))
    }

    fn plain(&mut self, command: u32, device: u32, data: u64) -> io::Result<()> {
        self.command(command, device, &mut [], data)
    }

    /// Gives a command and waits for it.
    fn command(
        &mut self,
        command: u32,
        device: u32,
        buffer: &mut [u8],
        data: u64,
    ) -> io::Result<()> {
        let address = if buffer.is_empty() { 0 } else { buffer.as_mut_ptr() as u64 };
        let length = u16::try_from(buffer.len()).expect("control buffers are a few dozen bytes");
        let body = abi::control_body(device, address, length, data);
        let entry =
            opcode::UringCmd80::new(types::Fd(self.file.as_raw_fd()), command).cmd(body).build();
        // SAFETY: the only address in the entry is that of `buffer`, which is borrowed until this
        // function has seen the command's completion; the file is open as long as `self`.
        unsafe { self.ring.submission().push(&entry) }.map_err(io::Error::other)?;
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel may still write to the buffer: there is no way to return it.
                Err(error) => panic!("a ring that took a command lost it: {error}"),
                Ok(_) => {}
            }
            if let Some(completion) = self.ring.completion().next() {
                let result = completion.result();
                return if result < 0 {
                    Err(io::Error::from_raw_os_error(-result))
                } else {
                    Ok(())
                };
            }
        }
    }
}

fn process() -> u32 {
    std::process::id()
}

fn refused(what: &'static str) -> impl Fn(io::Error) -> UblkError {
    move |source| UblkError::Refused { what, source }
}
