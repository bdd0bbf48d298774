//! The socket of a connection: a unix socket as it is, or TCP under TLS.
//!
//! Both keep the promise the connection relies on: a read that gives less than it was offered has
//! emptied the socket, and a write that would block has taken nothing.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustls::ServerConnection;

/// Bytes encrypted and not sent yet that one connection holds at most.
const UNSENT_BYTES_MAX: usize = 1 << 20;

/// What a connection speaks over.
pub(crate) enum Stream {
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    pub(crate) fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(socket) => socket.set_nonblocking(true),
            Self::Tls(stream) => stream.socket.set_nonblocking(true),
        }
    }

    /// Whether there may be something to read although the socket is empty.
    pub(crate) fn may_hold_input(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether something that was written has not reached the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        match self {
            Self::Unix(_) => false,
            Self::Tls(stream) => stream.session.wants_write(),
        }
    }

    /// Sends what was written; `false` when the socket is full.
    pub(crate) fn push(&mut self) -> io::Result<bool> {
        match self {
            Self::Unix(_) => Ok(true),
            Self::Tls(stream) => stream.push(),
        }
    }

    /// Says that nothing more will be sent, as far as the socket takes it.
    pub(crate) fn end(&mut self) {
        if let Self::Tls(stream) = self {
            stream.session.send_close_notify();
            // The peer is gone or does not read; it learns from the end of the socket.
            let _ = stream.push();
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.socket.as_fd(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(target),
            Self::Tls(stream) => stream.fill(&mut [IoSliceMut::new(target)]),
        }
    }

    fn read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read_vectored(targets),
            Self::Tls(stream) => stream.fill(targets),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(source)])
    }

    fn write_vectored(&mut self, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.write_vectored(sources),
            Self::Tls(stream) => stream.take(sources),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An authenticated TLS session on a TCP socket.
pub(crate) struct TlsStream {
    socket: TcpStream,
    session: ServerConnection,
}

impl TlsStream {
    pub(crate) fn new(socket: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(UNSENT_BYTES_MAX));
        Self { socket, session }
    }

    /// Fills the targets one after the other until they are full or the socket is empty.
    fn fill(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let mut filled = 0;
        for target in targets {
            let mut at = 0;
            while at < target.len() {
                match self.some(&mut target[at..]) {
                    Ok(0) => return Ok(filled),
                    Ok(bytes) => {
                        at += bytes;
                        filled += bytes;
                    }
                    // What is wrong is found again by the next read.
                    Err(_) if filled > 0 => return Ok(filled),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(filled)
    }

    /// At least one byte, or 0 at the end of the stream.
    fn some(&mut self, target: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(target) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer closed without saying so. Requests are framed, so what was cut off is
                // noticed without it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                read => return read,
            }
            match self.session.read_tls(&mut self.socket) {
                Ok(_) => {
                    let processed = self.session.process_new_packets();
                    if let Err(error) = processed {
                        // The alert that says why.
                        let _ = self.push();
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Encrypts as much as there is room for, once what was taken before is sent.
    fn take(&mut self, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        if !self.push()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut taken = 0;
        for source in sources {
            let bytes = self.session.writer().write(source)?;
            taken += bytes;
            if bytes < source.len() {
                break;
            }
        }
        self.push()?;
        Ok(taken)
    }

    fn push(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}
