//! Messages with descriptors over a unix stream socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::time::{ClockId, clock_gettime};

use super::message::{FILES_MAX, HEADER_BYTES, Header, MessageError};

/// Why no message came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    /// The front-end closed the socket between two messages.
    #[error("the front-end has gone")]
    Closed,
    /// The front-end closed the socket within a message.
    #[error("the socket was closed within a message")]
    Cut,
    /// The front-end began a message and did not end it.
    #[error("a message took too long to come")]
    Late,
    /// The system refused to receive.
    #[error("receiving failed")]
    Receive(#[source] io::Error),
    /// More descriptors came with a message than any message has.
    #[error("a message came with more than {FILES_MAX} descriptors")]
    TooManyFiles,
    /// What came is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// One message, not yet understood.
pub(crate) struct Envelope {
    pub(crate) header: Header,
    pub(crate) body: Vec<u8>,
    pub(crate) files: Vec<OwnedFd>,
}

/// Waits for a message, for as long as `patience` until all of it is there. Ends when the socket is shut
/// down.
pub(crate) fn receive(
    socket: BorrowedFd<'_>,
    patience: Duration,
) -> Result<Envelope, ReceiveError> {
    let deadline = now() + patience;
    let mut files = Vec::new();
    let mut header = [0; HEADER_BYTES];
    if !fill(socket, &mut header, &mut files, deadline)? {
        return Err(ReceiveError::Closed);
    }
    let header = Header::parse(&header)?;
    let mut body = vec![0; header.size];
    if !fill(socket, &mut body, &mut files, deadline)? {
        return Err(ReceiveError::Cut);
    }
    Ok(Envelope { header, body, files })
}

/// Fills `bytes`; `false` when the socket ended before the first one.
fn fill(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    files: &mut Vec<OwnedFd>,
    deadline: Duration,
) -> Result<bool, ReceiveError> {
    let mut filled = 0;
    while filled < bytes.len() {
        await_input(socket, deadline)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FILES_MAX))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut target = [IoSliceMut::new(&mut bytes[filled..])];
        let received = match recvmsg(socket, &mut target, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(ReceiveError::Receive(error.into())),
        };
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                files.extend(rights);
            }
        }
        if files.len() > FILES_MAX {
            return Err(ReceiveError::TooManyFiles);
        }
        match received.bytes {
            0 if filled == 0 => return Ok(false),
            0 => return Err(ReceiveError::Cut),
            count => filled += count,
        }
    }
    Ok(true)
}

/// Sends a whole message, with a descriptor or without. Waits for one that does not read as long as the
/// socket does.
pub(crate) fn send(
    socket: BorrowedFd<'_>,
    message: &[u8],
    file: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let files = file.map(|file| [file]);
    if let Some(files) = &files {
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(files));
        assert!(fits, "the buffer has room for one descriptor");
    }
    let mut sent = 0;
    while sent < message.len() {
        let rest = [IoSlice::new(&message[sent..])];
        match sendmsg(socket.as_fd(), &rest, &mut ancillary, SendFlags::NOSIGNAL) {
            Ok(count) => {
                sent += count;
                // Descriptors go once, with the first bytes.
                ancillary.clear();
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until there is something to receive, or nothing more will be.
fn await_input(socket: BorrowedFd<'_>, deadline: Duration) -> Result<(), ReceiveError> {
    loop {
        let left = deadline.saturating_sub(now());
        let left = Timespec::try_from(left).expect("a wait is a few seconds");
        match poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(ReceiveError::Late),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(ReceiveError::Receive(error.into())),
        }
    }
}

/// Time since some moment, for spans: it goes on when the host's clock is set.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).expect("it begins at zero")
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn descriptors_arrive_with_their_message() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut message = vec![21, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        send(near.as_fd(), &message, Some(near.as_fd())).unwrap();
        message[0] = 1;
        send(near.as_fd(), &message, None).unwrap();
        let first = receive(far.as_fd(), PATIENCE).unwrap();
        assert_eq!(first.files.len(), 1);
        assert_eq!(Message::parse(first.header.code, &first.body), Ok(Message::SetBackendChannel));
        let second = receive(far.as_fd(), PATIENCE).unwrap();
        assert!(second.files.is_empty());
        drop((near, first));
        assert!(matches!(receive(far.as_fd(), PATIENCE), Err(ReceiveError::Closed)));
    }

    #[test]
    fn a_cut_message_is_no_message() {
        let (mut near, far) = UnixStream::pair().unwrap();
        near.write_all(&[1, 0, 0, 0, 1]).unwrap();
        drop(near);
        assert!(matches!(receive(far.as_fd(), PATIENCE), Err(ReceiveError::Cut)));
    }

    #[test]
    fn a_message_that_trickles_in_is_given_up() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let trickle = std::thread::spawn(move || {
            near.write_all(&[5, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, 0]).unwrap();
            // Five seconds in all, and never long without a byte.
            while near.write_all(&[0]).is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        let received = receive(far.as_fd(), Duration::from_millis(200));
        assert!(matches!(received, Err(ReceiveError::Late)));
        drop(far);
        trickle.join().unwrap();
    }
}
