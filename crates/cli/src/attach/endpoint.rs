//! Connections to the server: plain on the loopback, TLS everywhere else.

use crate::exit::Failure;
use remote::Stream;
use remote::wire::UNSENT_BYTES_MAX;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Certificates trusted when none are named: where Debian and its kin keep the system's.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Bytes of a reply.
const REPLY_BYTES_MAX: u64 = 1 << 20;
/// How long a request may take, from the connection to the end of its reply. The server waits for
/// others for seconds before it answers; one that lost its power never does.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(30);
/// Bytes of a reply's head.
const HEAD_BYTES_MAX: u64 = 64 << 10;
/// How long the server's machine may leave bytes unacknowledged: the shortest lease that makes sense, and
/// the kernel's own patience is a quarter of an hour.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(20);
/// How long nothing moves before the kernel asks whether the server's machine is there, and how often it
/// asks then.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);

/// Whether HTTP without TLS may leave this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HttpPolicy {
    /// To the loopback only.
    Loopback,
    /// Anywhere: the person at the terminal vouches for the network.
    Anywhere,
}

/// Where the server is and how to reach it.
pub(crate) struct Endpoint {
    /// `server.example:4577`; what the `Host` header says.
    authority: String,
    host: String,
    port: u16,
    tls: Option<TlsConnector>,
    policy: HttpPolicy,
}

/// A reply.
pub(crate) struct HttpReply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Endpoint {
    pub(crate) fn new(url: &str, ca: Option<&Path>, policy: HttpPolicy) -> Result<Self, Failure> {
        let (secure, rest) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => {
                return Err(Failure::failed(format!("{url} is no http:// or https:// URL")));
            }
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@']) {
            return Err(Failure::failed(format!("{url} is more than the server's host and port")));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse();
                (host, port.map_err(|_| Failure::failed(format!("{url} has no usable port")))?)
            }
            _ => (authority, if secure { 443 } else { 80 }),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if !secure && let Some(ca) = ca {
            let ca = ca.display();
            return Err(Failure::failed(format!("{ca} is for https, and {url} is not")));
        }
        let tls = secure.then(|| connector(ca)).transpose()?;
        Ok(Self { authority: authority.to_owned(), host, port, tls, policy })
    }

    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// A connection, authenticated where it leaves this machine.
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        prepare(&stream)?;
        let Some(tls) = &self.tls else {
            if self.policy == HttpPolicy::Loopback && !stream.peer_addr()?.ip().is_loopback() {
                return Err(io::Error::new(
                    io::ErrorKind::PermissionDenied,
                    "credentials and the volume's structure key would cross the network in the \
                     clear; use https, or say --allow-insecure-http",
                ));
            }
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await.map_err(not_connected)?))
    }

    /// Sends a request and reads its whole reply.
    pub(crate) async fn exchange(&self, head: &str, body: &[u8]) -> io::Result<HttpReply> {
        within(REQUEST_TIME_MAX, self.exchanged(head, body)).await
    }

    async fn exchanged(&self, head: &str, body: &[u8]) -> io::Result<HttpReply> {
        let mut stream = BufReader::new(self.connect().await?);
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        stream.flush().await?;
        let (status, length) = read_head(&mut stream).await?;
        read_body(stream, status, length).await
    }

    /// Sends a request and gives the connection, if the server switches protocols.
    pub(crate) async fn upgrade(
        &self,
        head: &str,
    ) -> io::Result<Result<Box<dyn Stream>, HttpReply>> {
        let mut stream = BufReader::new(self.connect().await?);
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
        let (status, length) = read_head(&mut stream).await?;
        if status == 101 {
            // What follows the head is in the reader already, perhaps.
            return Ok(Ok(Box::new(stream)));
        }
        Ok(Err(read_body(stream, status, length.or(Some(0))).await?))
    }
}

/// Says what a server is that answers in something else than TLS.
fn not_connected(error: io::Error) -> io::Error {
    match error.get_ref().and_then(|cause| cause.downcast_ref()) {
        Some(rustls::Error::InvalidMessage(_)) => io::Error::new(
            error.kind(),
            format!("what answers there speaks no TLS, as a server at http:// does ({error})"),
        ),
        _ => error,
    }
}

/// A network that drops everything ends no connection; with these, the kernel does. The channel's link
/// listens for its server itself, and gives up sooner.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    // Renewals go before what waits to be sent, but not before what the kernel has taken.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)
}

/// Gives up what takes longer than that.
pub(super) async fn within<T>(
    limit: Duration,
    request: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = |_| {
        let words = format!("no answer within {} seconds", limit.as_secs_f32());
        io::Error::new(io::ErrorKind::TimedOut, words)
    };
    tokio::time::timeout(limit, request).await.map_err(late)?
}

/// Reads a reply's head: its status and the length of its body.
async fn read_head(stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<(u16, Option<u64>)> {
    let malformed = || {
        let words = "what answers there speaks no HTTP; a server with TLS does at https://";
        io::Error::new(io::ErrorKind::InvalidData, words)
    };
    let mut head = stream.take(HEAD_BYTES_MAX);
    let mut line = String::new();
    if head.read_line(&mut line).await? == 0 {
        let words = "the connection ended without a reply";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
    }
    let status = line.split(' ').nth(1).and_then(|status| status.trim().parse().ok());
    let status = status.ok_or_else(malformed)?;
    let mut length = None;
    loop {
        line.clear();
        if head.read_line(&mut line).await? == 0 {
            return Err(malformed());
        }
        let text = line.trim_end();
        if text.is_empty() {
            return Ok((status, length));
        }
        if let Some((name, value)) = text.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse().map_err(|_| malformed())?);
        }
    }
}

/// Reads the rest of a reply; without a length it ends with the connection. One that ends before its
/// length is not believed.
async fn read_body(
    stream: BufReader<Box<dyn Stream>>,
    status: u16,
    length: Option<u64>,
) -> io::Result<HttpReply> {
    let mut body = Vec::new();
    let wanted = length.unwrap_or(REPLY_BYTES_MAX).min(REPLY_BYTES_MAX);
    stream.take(wanted).read_to_end(&mut body).await?;
    if length.is_some_and(|length| length != body.len() as u64) {
        let words = "the reply is shorter than it says, or too long";
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, words));
    }
    Ok(HttpReply { status, body })
}

fn connector(ca: Option<&Path>) -> Result<TlsConnector, Failure> {
    let path = ca.unwrap_or(Path::new(SYSTEM_CERTIFICATES));
    let unusable = |error: &dyn std::fmt::Display| {
        Failure::failed(format!("certificates in {}: {error}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))? {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        // A system's file may hold one this library refuses; a file that was named may not.
        match roots.add(certificate) {
            Err(error) if ca.is_some() => return Err(unusable(&error)),
            _ => {}
        }
    }
    if roots.is_empty() {
        return Err(unusable(&"there is none"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(Failure::failed)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_scheme_a_host_and_a_port() {
        let parsed = |url| {
            let endpoint = Endpoint::new(url, None, HttpPolicy::Loopback).ok()?;
            Some((endpoint.host, endpoint.port))
        };
        assert_eq!(parsed("http://127.0.0.1:4577"), Some(("127.0.0.1".to_owned(), 4577)));
        assert_eq!(parsed("http://server.example/"), Some(("server.example".to_owned(), 80)));
        assert_eq!(parsed("http://[::1]:9"), Some(("::1".to_owned(), 9)));
        assert_eq!(parsed("http://[::1]"), Some(("::1".to_owned(), 80)));
        for refused in ["ftp://a", "http://", "http://a/b", "http://u@a", "http://a:x", "a:1"] {
            assert_eq!(parsed(refused), None, "{refused}");
        }
    }

    #[test]
    fn certificates_are_for_https_and_there_is_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = |url| {
            let endpoint = Endpoint::new(url, Some(file.path()), HttpPolicy::Loopback);
            endpoint.err().unwrap().to_string()
        };
        assert!(refusal("http://127.0.0.1:1").contains("is for https"));
        assert!(refusal("https://127.0.0.1:1").contains("there is none"));
    }

    /// What is asked of a server that says `answer` to whatever it hears.
    async fn asked_of(scheme: &str, answer: &'static [u8]) -> io::Error {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut heard = [0; 4096];
            assert!(client.read(&mut heard).await.unwrap() > 0);
            client.write_all(answer).await.unwrap();
        });
        let endpoint = Endpoint::new(&url, None, HttpPolicy::Loopback).unwrap();
        endpoint.exchange("GET / HTTP/1.1\r\n\r\n", b"").await.err().unwrap()
    }

    #[tokio::test]
    async fn what_answers_and_is_no_server_is_named() {
        let error = asked_of("http", b"\x15\x03\x03\0\x02\x02\x46").await.to_string();
        assert!(error.contains("https://"), "{error}");
        let error = asked_of("http", b"").await.to_string();
        assert!(error.contains("without a reply"), "{error}");
        if Path::new(SYSTEM_CERTIFICATES).exists() {
            let error = asked_of("https", b"HTTP/1.1 400 Bad Request\r\n\r\n").await.to_string();
            assert!(error.contains("no TLS"), "{error}");
        }
    }

    #[tokio::test]
    async fn sockets_have_what_a_channel_needs() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        prepare(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED_MAX));
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        // It takes the connection, in its backlog, and the request.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoint = Endpoint::new(&url, None, HttpPolicy::Loopback).unwrap();
        let asked = endpoint.exchanged("GET / HTTP/1.1\r\n\r\n", b"");
        let error = within(Duration::from_millis(500), asked).await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(error.to_string(), "no answer within 0.5 seconds");
    }

    #[tokio::test]
    async fn plain_http_does_not_leave_the_machine_unasked() {
        // Nobody answers there; the refusal of a name that resolves elsewhere needs a connection, so
        // an address of this machine that is not the loopback stands in for one.
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        if own.connect("192.0.2.1:9").is_err() || own.local_addr().unwrap().ip().is_loopback() {
            return;
        }
        let address = own.local_addr().unwrap().ip();
        let refused =
            Endpoint::new(&format!("http://{address}:{port}"), None, HttpPolicy::Loopback);
        let error = refused.unwrap().connect().await.err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let allowed =
            Endpoint::new(&format!("http://{address}:{port}"), None, HttpPolicy::Anywhere);
        assert!(allowed.unwrap().connect().await.is_ok());
    }
}
