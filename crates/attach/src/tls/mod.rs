//! NBD over TCP: TLS or nothing, and a certificate for every attachment.
//!
//! Invariants:
//! - Before TLS a peer learns nothing but that TLS is required, and nothing it sent in clear counts
//!   afterwards (NBD, "FORCEDTLS mode").
//! - A certificate names one attachment. It opens that attachment's export and no other, for as long
//!   as the attachment stands; every connection asks anew, so sessions are never resumed.
//! - The certificate authority is no file: its key is derived from the server's root of trust, so
//!   whoever cannot unseal the server cannot issue certificates either.

mod authority;
mod badge;
mod front;
mod stream;

pub use authority::{Authority, Credentials, TlsError};
pub use badge::{Badge, BadgeError};
pub(crate) use front::Guest;
pub use front::{Front, FrontError, HANDSHAKES_MAX};
pub(crate) use stream::Stream;
