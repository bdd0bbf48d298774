//! The thread that takes a device's requests from the kernel and gives their answers back.

#![expect(unsafe_code, reason = "the kernel's descriptors are mapped; commands go to a ring")]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use io_uring::{IoUring, opcode, types};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::QUEUE_DEPTH;
use super::abi::{self, COMMIT_AND_FETCH, DESCRIPTOR_BYTES, Descriptor, FETCH, Operation};
use crate::buffer::{Buffer, Pool};
use crate::device::{
    Answer, BlockDevice, Command, Completion, DeviceError, Durability, Hole, Reply, Request, Sink,
};

/// Marks the completion of the wait for [`Mailbox::wake`]; tags are smaller.
const WAKE: u64 = u64::MAX;

/// Where the device puts its answers, for the thread that may give them to the kernel: only the one
/// that took the requests may.
pub(crate) struct Mailbox {
    answers: Mutex<Vec<Completion>>,
    leave: AtomicBool,
    wake: OwnedFd,
}

impl Mailbox {
    pub(crate) fn new(wake: OwnedFd) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::default(), leave: AtomicBool::new(false), wake })
    }

    /// Has the thread take no more requests and end once nothing is at the device, its queue left as it is.
    pub(crate) fn leave(&self) {
        self.leave.store(true, Ordering::SeqCst);
        self.ring();
    }

    fn is_leaving(&self) -> bool {
        self.leave.load(Ordering::SeqCst)
    }

    fn ring(&self) {
        // A counter that is full rings as well.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut *self.answers.lock().expect("no code panics with the lock"))
    }
}

impl Sink for Mailbox {
    fn complete(&self, completion: Completion) {
        self.complete_all(&mut vec![completion]);
    }

    fn complete_all(&self, completions: &mut Vec<Completion>) {
        let mut answers = self.answers.lock().expect("no code panics with the lock");
        let first = answers.is_empty();
        answers.append(completions);
        drop(answers);
        if first {
            self.ring();
        }
    }
}

/// The descriptors of all tags, written by the kernel.
struct Descriptors {
    address: *mut std::ffi::c_void,
    bytes: usize,
}

impl Descriptors {
    fn map(file: &File) -> io::Result<Self> {
        // The system rounds up to whole pages, as the driver expects.
        let bytes = usize::from(QUEUE_DEPTH) * DESCRIPTOR_BYTES;
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing; it lives
        // until `drop`.
        let address = unsafe {
            mmap(std::ptr::null_mut(), bytes, ProtFlags::READ, MapFlags::SHARED, file, 0)?
        };
        Ok(Self { address, bytes })
    }

    fn get(&self, tag: u16) -> Descriptor {
        assert!(tag < QUEUE_DEPTH, "tags are smaller than the queue is deep");
        let at = usize::from(tag) * DESCRIPTOR_BYTES;
        // SAFETY: the tag was checked, so the bytes lie inside the mapping; they have no alignment
        // of their own. The kernel does not change a tag's descriptor between handing its request
        // over and being answered, and the read is volatile because it was the kernel that wrote.
        let bytes =
            unsafe { self.address.byte_add(at).cast::<[u8; DESCRIPTOR_BYTES]>().read_volatile() };
        Descriptor::parse(&bytes)
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map`, and nothing refers to it any more.
        let unmapped = unsafe { munmap(self.address, self.bytes) };
        debug_assert!(unmapped.is_ok(), "a mapping that was made can be removed");
    }
}

/// The state of the thread.
pub(crate) struct Queue {
    file: File,
    device: Arc<dyn BlockDevice>,
    mailbox: Arc<Mailbox>,
    ring: IoUring,
    descriptors: Descriptors,
    pool: Pool,
    at_device: usize,
    /// Tags the kernel has taken back.
    ended: usize,
}

impl Queue {
    /// Serves a device until the kernel ends it or the mailbox says to leave. `ready` is told when
    /// every tag's first request is asked for. Must run on the thread that stays with the queue.
    pub(crate) fn run(
        file: File,
        device: Arc<dyn BlockDevice>,
        mailbox: Arc<Mailbox>,
        ready: &mpsc::Sender<io::Result<()>>,
    ) -> io::Result<()> {
        let made = Descriptors::map(&file).and_then(|descriptors| {
            let ring = IoUring::builder().build(u32::from(QUEUE_DEPTH) * 2)?;
            let pool = Pool::default();
            let mut queue =
                Self { file, device, mailbox, ring, descriptors, pool, at_device: 0, ended: 0 };
            queue.wait_for_mail()?;
            for tag in 0..QUEUE_DEPTH {
                queue.command(FETCH, tag, 0)?;
            }
            queue.ring.submit()?;
            Ok(queue)
        });
        match made {
            Ok(mut queue) => {
                // Whoever waits for it may have given up.
                let _ = ready.send(Ok(()));
                queue.serve()
            }
            Err(error) => {
                let _ = ready.send(Err(error));
                Ok(())
            }
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        loop {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let events: Vec<(u64, i32)> =
                self.ring.completion().map(|event| (event.user_data(), event.result())).collect();
            let mut batch = Vec::new();
            for (from, result) in events {
                match u16::try_from(from) {
                    // Its users would keep a busy device from ever being left. Whoever takes the device over
                    // is handed the request again, as everything that is not answered.
                    Ok(_) if result >= 0 && self.mailbox.is_leaving() => {}
                    Ok(tag) if result >= 0 => self.request(tag, &mut batch)?,
                    Ok(_) => self.ended += 1,
                    Err(_) => self.mail()?,
                }
            }
            if !batch.is_empty() {
                self.at_device += batch.len();
                self.device.submit(batch);
            }
            for completion in self.mailbox.take() {
                self.at_device -= 1;
                self.answer(completion)?;
            }
            // Asked for again: the call that said so may have been read above.
            let over = self.mailbox.is_leaving() || self.ended == usize::from(QUEUE_DEPTH);
            if self.at_device == 0 && over {
                // Answers that were just given must reach the kernel.
                self.ring.submit()?;
                return Ok(());
            }
        }
    }

    /// Asks to be told when there are answers.
    fn wait_for_mail(&mut self) -> io::Result<()> {
        let wake = types::Fd(self.mailbox.wake.as_raw_fd());
        let readable = rustix::event::PollFlags::IN.bits().into();
        let entry = opcode::PollAdd::new(wake, readable).build().user_data(WAKE);
        self.push(&entry)
    }

    fn mail(&mut self) -> io::Result<()> {
        let mut counter = [0; 8];
        // Read before the answers are taken: a later one rings again.
        let _ = rustix::io::read(&self.mailbox.wake, &mut counter);
        self.wait_for_mail()
    }

    fn command(&mut self, command: u32, tag: u16, result: i32) -> io::Result<()> {
        let entry = opcode::UringCmd16::new(types::Fd(self.file.as_raw_fd()), command)
            .cmd(abi::io_body(tag, result))
            .build()
            .user_data(tag.into());
        self.push(&entry)
    }

    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: no entry of this ring holds an address, and its descriptors are open as long as
        // `self` is.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.ring.submit()?;
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    /// Takes a request to the device, or answers it at once when it cannot be served.
    fn request(&mut self, tag: u16, batch: &mut Vec<Request>) -> io::Result<()> {
        let descriptor = self.descriptors.get(tag);
        match self.understand(tag, &descriptor)? {
            Ok(command) => {
                let reply = Reply::new(Arc::clone(&self.mailbox) as Arc<dyn Sink>, tag.into());
                batch.push(Request { command, reply });
                Ok(())
            }
            Err(refusal) => self.command(COMMIT_AND_FETCH, tag, errno(refusal)),
        }
    }

    fn understand(
        &mut self,
        tag: u16,
        descriptor: &Descriptor,
    ) -> io::Result<Result<Command, DeviceError>> {
        let Some(operation) = descriptor.operation else {
            return Ok(Err(DeviceError::Unsupported));
        };
        if operation == Operation::Flush {
            // It has no range; what stands in its place is arbitrary.
            return Ok(Ok(Command::Flush));
        }
        let Some((offset, length)) = descriptor.range(self.device.size()) else {
            return Ok(Err(DeviceError::OutOfRange));
        };
        let durability = if descriptor.forced { Durability::Durable } else { Durability::Buffered };
        Ok(Ok(match operation {
            Operation::Read => Command::Read { offset, buffer: self.pool.take(length as usize) },
            Operation::Write => {
                let mut data = self.pool.take(length as usize);
                self.copy_in(tag, &mut data)?;
                Command::Write { offset, data, durability }
            }
            Operation::Flush => Command::Flush,
            Operation::Discard => Command::Trim { offset, length, durability },
            Operation::WriteZeroes => {
                let hole = if descriptor.no_unmap { Hole::Refused } else { Hole::Allowed };
                Command::WriteZeroes { offset, length, hole, durability }
            }
        }))
    }

    fn copy_in(&self, tag: u16, data: &mut Buffer) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = abi::data_offset(tag) + done as u64;
            match rustix::io::pread(&self.file, &mut data[done..], at)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    fn copy_out(&self, tag: u16, data: &Buffer) -> io::Result<()> {
        let mut done = 0;
        while done < data.len() {
            let at = abi::data_offset(tag) + done as u64;
            match rustix::io::pwrite(&self.file, &data[done..], at)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => done += count,
            }
        }
        Ok(())
    }

    /// Gives the device's answer to the kernel.
    fn answer(&mut self, completion: Completion) -> io::Result<()> {
        let tag = completion.tag as u16;
        let result = match completion.result {
            Ok(Answer::Bytes(buffer)) => {
                let length = buffer.len() as i32;
                let read = self.descriptors.get(tag).operation == Some(Operation::Read);
                let copied = if read { self.copy_out(tag, &buffer) } else { Ok(()) };
                self.pool.give(buffer);
                match copied {
                    Ok(()) => length,
                    Err(error) => {
                        tracing::warn!(%error, "data could not be given to the kernel");
                        errno(DeviceError::Io)
                    }
                }
            }
            Ok(Answer::Done | Answer::Extents(_)) => 0,
            Err(error) => errno(error),
        };
        self.command(COMMIT_AND_FETCH, tag, result)
    }
}

/// The kernel's number for an error, as a result.
fn errno(error: DeviceError) -> i32 {
    use rustix::io::Errno;
    let errno = match error {
        DeviceError::Io | DeviceError::Stopped => Errno::IO,
        DeviceError::NoSpace => Errno::NOSPC,
        DeviceError::OutOfMemory => Errno::NOMEM,
        DeviceError::OutOfRange => Errno::INVAL,
        DeviceError::ReadOnly => Errno::ROFS,
        DeviceError::Unsupported => Errno::OPNOTSUPP,
    };
    -errno.raw_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use std::sync::atomic::AtomicUsize;

    /// Counts what it is asked, and answers at once that it has stopped.
    #[derive(Default)]
    struct Counting(AtomicUsize);

    impl BlockDevice for Counting {
        fn size(&self) -> u64 {
            1 << 20
        }

        fn submit(&self, batch: Vec<Request>) {
            self.0.fetch_add(batch.len(), Ordering::SeqCst);
        }
    }

    /// The queue of a device whose kernel side is a file of zeroes: every request reads nothing, and no
    /// answer is taken. `None` on a system without io_uring.
    fn queue(device: &Arc<Counting>) -> Option<Queue> {
        let ring = IoUring::new(16).ok()?;
        let file = File::from(memfd_create("ublk", MemfdFlags::CLOEXEC).unwrap());
        ftruncate(&file, 4096).unwrap();
        let descriptors = Descriptors::map(&file).unwrap();
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        let mut queue = Queue {
            file,
            device: Arc::clone(device) as _,
            mailbox: Mailbox::new(wake),
            ring,
            descriptors,
            pool: Pool::default(),
            at_device: 0,
            ended: 0,
        };
        queue.wait_for_mail().unwrap();
        Some(queue)
    }

    /// Has the kernel hand over requests with these tags.
    fn hand_over(queue: &mut Queue, tags: std::ops::Range<u64>) {
        tags.for_each(|tag| queue.push(&opcode::Nop::new().build().user_data(tag)).unwrap());
    }

    #[test]
    fn a_device_is_left_while_its_users_go_on() {
        let device = Arc::new(Counting::default());
        let Some(mut queue) = queue(&device) else { return };
        hand_over(&mut queue, 0..4);
        queue.mailbox.leave();
        queue.serve().unwrap();
        assert_eq!(device.0.load(Ordering::SeqCst), 0, "what comes now is for the next server");
    }

    #[test]
    fn what_the_device_has_is_waited_for() {
        let Some(mut queue) = queue(&Arc::default()) else { return };
        let mailbox = Arc::clone(&queue.mailbox);
        queue.at_device = 2;
        mailbox.leave();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for tag in 0..2 {
                    let sink = Arc::clone(&mailbox) as Arc<dyn Sink>;
                    Reply::new(sink, tag).complete(Ok(Answer::Done));
                }
            });
            queue.serve().unwrap();
        });
        assert_eq!(queue.at_device, 0);
    }
}
