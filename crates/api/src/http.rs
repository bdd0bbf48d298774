//! The server's socket: connections, limits, and the hand-over to [`crate::front`].
//!
//! Everything a client can make large or slow has a named limit here; what is in the bytes is
//! decided further in.

use crate::channel;
use crate::front::{self, Peer};
use crate::world::World;
use awsproto::Response;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioIo, TokioTimer};
use remote::wire::UNSENT_BYTES_MAX;
use socket2::SockRef;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Connections served at once; further ones wait in the listen queue.
const CONNECTIONS_MAX: usize = 1024;
/// Bytes of one request body. The largest legitimate one is a 512 KiB block.
const BODY_BYTES_MAX: usize = 2 << 20;
/// Bytes of a request line with its headers.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of one request.
const HEADERS_MAX: usize = 100;
/// How long a client may take to send its headers, idle time on a kept connection included.
const HEAD_TIME_MAX: Duration = Duration::from_secs(75);
/// How long a client may take to send a body.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// How long requests under way may take to end when the server stops.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(20);

/// How requests come to a listener.
#[derive(Clone)]
pub enum Transport {
    /// In clear.
    Plain,
    /// In clear from a proxy, which has them over TLS.
    BehindTls,
    /// Over TLS, and only so.
    Tls(TlsAcceptor),
}

/// Answers on `listener` until `stop` turns true, then lets requests under way end.
pub async fn serve(
    listener: TcpListener,
    transport: Transport,
    world: Arc<World>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let place = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => break,
            Some(_) = connections.join_next() => continue,
            place = Arc::clone(&places).acquire_owned() => place.expect("never closed"),
        };
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => {
                let (world, stop) = (Arc::clone(&world), stop.clone());
                let transport = transport.clone();
                connections.spawn(async move {
                    secured(stream, address, transport, (world, stop)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(DRAIN_TIME_MAX, async {
        while connections.join_next().await.is_some() {}
    });
    if drained.await.is_err() {
        tracing::warn!("requests were still under way when the server stopped");
    }
}

/// Begins TLS, where it is asked for, and serves the connection.
async fn secured(
    stream: TcpStream,
    address: SocketAddr,
    transport: Transport,
    (world, stop): (Arc<World>, watch::Receiver<bool>),
) {
    if let Err(error) = prepare(&stream) {
        tracing::debug!(%error, "cannot set options of a connection");
    }
    let secure = !matches!(transport, Transport::Plain);
    let peer = Peer { address, secure };
    let Transport::Tls(tls) = transport else {
        return connection(stream, peer, world, stop).await;
    };
    match tokio::time::timeout(HEAD_TIME_MAX, tls.accept(stream)).await {
        Ok(Ok(stream)) => connection(stream, peer, world, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, %address, "TLS did not begin"),
        Err(_) => tracing::debug!(%address, "TLS did not begin in time"),
    }
}

/// Replies are small and complete; waiting to fill a packet only adds latency. A connection that becomes a
/// channel must not have much waiting in the kernel, where renewals overtake nothing.
fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    peer: Peer,
    world: Arc<World>,
    mut stop: watch::Receiver<bool>,
) {
    let service = hyper::service::service_fn(move |request| {
        let world = Arc::clone(&world);
        async move { Ok::<_, Infallible>(respond(world, peer, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                tracing::debug!(%error, peer = %peer.address, "connection ended");
            }
            return;
        }
        _ = stop.wait_for(|stopped| *stopped) => connection.as_mut().graceful_shutdown(),
    }
    if let Err(error) = connection.await {
        tracing::debug!(%error, peer = %peer.address, "connection ended");
    }
}

/// Reads the whole request and answers it. A panic below is a 500, never a lost connection.
async fn respond(
    world: Arc<World>,
    peer: Peer,
    request: hyper::Request<Incoming>,
) -> hyper::Response<Full<Bytes>> {
    if channel::is_asked(&request) {
        return channel::open(&world, request);
    }
    let (head, body) = request.into_parts();
    let body = match tokio::time::timeout(BODY_TIME_MAX, read_body(body)).await {
        Ok(Ok(body)) => body,
        Ok(Err(status)) => return plain(status),
        Err(_) => return plain(408),
    };
    match ToItsEnd::new(async move { front::answer(&world, peer, &head, &body).await }).await {
        Some(response) => into_hyper(response),
        None => {
            tracing::error!("a request ended in a panic");
            plain(500)
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A request's answer; `None` when it ended in a panic. A client that goes away does not stop the request in
/// the middle: what is left of it then runs as a task of its own.
struct ToItsEnd(Option<Answer>);

impl ToItsEnd {
    fn new(answer: impl Future<Output = Response> + Send + 'static) -> Self {
        Self(Some(Box::pin(answer)))
    }
}

impl Future for ToItsEnd {
    type Output = Option<Response>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(answer) = &mut self.0 else { return Poll::Ready(None) };
        // Nothing of a request that panicked is looked at again.
        let polled = catch_unwind(AssertUnwindSafe(|| answer.as_mut().poll(context)));
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(response)) => Some(response),
            Err(_) => None,
        };
        self.0 = None;
        Poll::Ready(outcome)
    }
}

impl Drop for ToItsEnd {
    fn drop(&mut self) {
        // Outside of a runtime, as it shuts down, nothing can run to its end any more.
        if let Some(answer) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(answer);
        }
    }
}

async fn read_body(mut body: Incoming) -> Result<Bytes, u16> {
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(413);
    }
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| 400u16)?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > BODY_BYTES_MAX {
                return Err(413);
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

fn into_hyper(response: Response) -> hyper::Response<Full<Bytes>> {
    let mut builder = hyper::Response::builder().status(response.status);
    for (name, value) in &response.headers {
        builder = builder.header(name, value);
    }
    builder.body(Full::new(response.body)).unwrap_or_else(|error| {
        tracing::error!(%error, "a reply had a header that HTTP does not allow");
        plain(500)
    })
}

/// A reply to what is no request of any protocol.
fn plain(status: u16) -> hyper::Response<Full<Bytes>> {
    let mut response = hyper::Response::new(Full::new(Bytes::new()));
    *response.status_mut() =
        hyper::StatusCode::from_u16(status).expect("only constants of this file come here");
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    fn answer() -> Response {
        Response { status: 200, headers: Vec::new(), body: Bytes::new() }
    }

    #[tokio::test]
    async fn the_kernel_takes_little_that_it_cannot_send() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&client).unwrap();
        assert_eq!(SockRef::from(&client).tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_request_whose_client_went_away_comes_to_its_end() {
        let (go, gone) = oneshot::channel::<()>();
        let (done, finished) = oneshot::channel();
        let mut request = ToItsEnd::new(async move {
            gone.await.expect("the test sends");
            done.send(()).expect("the test waits");
            answer()
        });
        let first = std::future::poll_fn(|context| {
            Poll::Ready(Pin::new(&mut request).poll(context).is_pending())
        });
        assert!(first.await);
        drop(request);
        go.send(()).expect("the request waits");
        finished.await.expect("it ran to its end");
    }

    #[tokio::test]
    async fn a_panic_is_an_answer() {
        assert!(ToItsEnd::new(async { panic!("on purpose") }).await.is_none());
        assert!(ToItsEnd::new(async { answer() }).await.is_some());
    }
}
