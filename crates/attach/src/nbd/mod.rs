//! The server's side of NBD. [`handshake`] and [`request`] are pure parsers; [`connection`] is the
//! only part that touches a socket.
//!
//! Not offered, and refused by name: RESIZE (a size is changed through the API, not by whoever holds
//! the device), TLS on a unix socket (its mode 0600 is the boundary), and metadata contexts other
//! than `base:allocation` and `qemu:dirty-bitmap:<snapshot>`.

pub(crate) mod connection;
pub mod handshake;
pub(crate) mod output;
mod pieces;
pub mod request;
pub(crate) mod wire;

/// Largest payload of one read or write, told to clients as the maximum block size.
pub const PAYLOAD_BYTES_MAX: u32 = 32 << 20;

/// Smallest block a client may use: any byte range is served.
pub const BLOCK_BYTES_MIN: u32 = 1;

/// The block size that costs nothing extra: the encryption page.
pub const BLOCK_BYTES_PREFERRED: u32 = 4096;

/// Requests of one connection that may be unanswered; the socket is not read past it.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 256;

/// Payload bytes of one connection's unanswered requests and unsent replies. One request is always
/// admitted.
pub const BYTES_IN_FLIGHT_MAX: usize = 64 << 20;

/// Longest option payload of the handshake; NBD limits every string in it to 4096 bytes.
pub const OPTION_BYTES_MAX: usize = 64 << 10;

/// Options a client may send before it starts transmission.
pub const OPTIONS_MAX: u32 = 256;

/// Seconds a client has from connecting to starting transmission.
pub const HANDSHAKE_SECONDS_MAX: i64 = 10;

/// Seconds a stopping connection waits for its device and its client before it closes anyway.
pub const DRAIN_SECONDS_MAX: i64 = 30;

/// Extents in one chunk of a BLOCK_STATUS answer; the client asks again for the rest.
pub const EXTENTS_MAX: usize = 1024;

/// Metadata contexts of one export: allocation, and the snapshots changes are told against.
pub const CONTEXTS_MAX: usize = 128;
