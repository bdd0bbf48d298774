//! The way from a ticket to a channel: the HTTP connection of a machine becomes its channel to a
//! volume's file.
//!
//! The ticket was given to an authenticated, authorized and recorded call a moment ago; it is good
//! once.

use crate::world::World;
use base::{Region, VolumeId};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use remote::Served;
use remote::wire::PROTOCOL;
use std::sync::Arc;

/// The header the ticket travels in.
pub const TICKET: HeaderName = HeaderName::from_static("strongroom-ticket");

/// Who knows tickets.
pub trait Channels: Send + Sync {
    /// Takes a ticket, and gives what its channel serves; `None` when it is not good, or not any
    /// more.
    fn redeem(&self, ticket: &str) -> Option<Arc<Served>>;

    /// Ends the channel of a volume, and the tickets to it: who has it must prove anew who he is.
    fn disconnect(&self, region: &Region, volume: &VolumeId);
}

/// Whether a request wants its connection to become a channel, of whatever version.
pub(crate) fn is_asked(request: &Request<Incoming>) -> bool {
    let protocol = request.headers().get(UPGRADE).and_then(|protocol| protocol.to_str().ok());
    protocol.is_some_and(|protocol| family(protocol) == family(PROTOCOL))
}

/// The name of a protocol without its version.
fn family(protocol: &str) -> &str {
    protocol.split_once('/').map_or(protocol, |(family, _version)| family)
}

/// The answer to one that speaks another version. The person who reads it has upgraded one of the two.
fn other_version() -> Response<Full<Bytes>> {
    let words = format!(
        "this server speaks version {PROTOCOL} of the attachment channel, and was asked for another: \
         agent and server are upgraded together"
    );
    let mut response = Response::new(Full::new(words.into()));
    *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}

/// Answers such a request, and serves the channel once the answer is sent.
pub(crate) fn open(world: &World, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    if request.headers().get(UPGRADE).is_none_or(|protocol| protocol != PROTOCOL) {
        return other_version();
    }
    let mut response = Response::new(Full::new(Bytes::new()));
    let ticket = request.headers().get(TICKET).and_then(|ticket| ticket.to_str().ok());
    let Some(served) = ticket.and_then(|ticket| world.channels.redeem(ticket)) else {
        *response.status_mut() = StatusCode::FORBIDDEN;
        return response;
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgraded.await {
            Ok(connection) => served.serve(TokioIo::new(connection)).await,
            Err(error) => tracing::debug!(%error, "a channel did not begin"),
        }
    });
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
    response
}
