//! Documents of token issuers, over HTTPS.
//!
//! An issuer's certificate has to rest on an authority of `--oidc-ca-file`, or on a certificate of its
//! own chain whose SHA-1 thumbprint the account named: that one is then the authority, and the rest of
//! the chain, the host's name and the times are checked as ever.

use super::cannot_start;
use crate::exit::Failure;
use api::issuer_keys::IssuerDocuments;
use api::registry::BoxFuture;
use identity::oidc::KEYS_BYTES_MAX;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one document may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of a reply's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Fetches issuers' documents.
pub(crate) struct Issuers {
    provider: Arc<CryptoProvider>,
    authorities: Arc<RootCertStore>,
}

impl Issuers {
    /// Trusts the authorities of a PEM file; without one, thumbprints alone.
    pub(crate) fn new(authorities: Option<&Path>) -> Result<Self, Failure> {
        let mut store = RootCertStore::empty();
        if let Some(path) = authorities {
            let unusable = |error: &dyn std::fmt::Display| {
                cannot_start(format!("{}: {error}", path.display()))
            };
            let found = CertificateDer::pem_file_iter(path).map_err(|error| unusable(&error))?;
            for certificate in found {
                let certificate = certificate.map_err(|error| unusable(&error))?;
                store.add(certificate).map_err(|error| unusable(&error))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Self { provider, authorities: Arc::new(store) })
    }

    async fn get(&self, url: &str, thumbprints: &[String]) -> Result<String, String> {
        let (authority, path) = split(url)?;
        let (host, port) = host_and_port(authority)?;
        let verifier = Verifier {
            provider: Arc::clone(&self.provider),
            authorities: Arc::clone(&self.authorities),
            thumbprints: thumbprints.to_vec(),
        };
        let config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
        let stream = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let mut stream = connected.map_err(|error| error.to_string())?;
        // HTTP/1.0: the reply is whole when the connection ends, and never chunked.
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {authority}\r\nAccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut reply = Vec::new();
        let limit = (HEAD_BYTES_MAX + KEYS_BYTES_MAX + 1) as u64;
        match stream.take(limit).read_to_end(&mut reply).await {
            Ok(_) => {}
            // A server that ends the connection without ending TLS: the length says what is missing.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error.to_string()),
        }
        body(&reply)
    }
}

impl IssuerDocuments for Issuers {
    fn fetch<'a>(
        &'a self,
        url: &'a str,
        thumbprints: &'a [String],
    ) -> BoxFuture<'a, Result<String, String>> {
        Box::pin(async move {
            match tokio::time::timeout(TIMEOUT, self.get(url, thumbprints)).await {
                Ok(done) => done.map_err(|why| format!("{url}: {why}")),
                Err(_) => Err(format!("{url} took longer than {} s", TIMEOUT.as_secs())),
            }
        })
    }
}

/// The host (with its port) and the path of an address; nothing else may be in it.
fn split(url: &str) -> Result<(&str, &str), String> {
    let rest = url.strip_prefix("https://").ok_or("no https address")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if authority.is_empty() || authority.contains('@') || !plain(rest) || rest.contains('#') {
        return Err("no address of a document".to_owned());
    }
    Ok((authority, if path.is_empty() { "/" } else { path }))
}

fn host_and_port(authority: &str) -> Result<(&str, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| "no usable port".to_owned())?)
        }
        _ => (authority, 443),
    };
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

/// The body of a reply that succeeded and is whole.
fn body(reply: &[u8]) -> Result<String, String> {
    let end = reply.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or("no HTTP reply")?;
    let head = String::from_utf8_lossy(&reply[..end]);
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
    if status != "200" {
        return Err(format!("the status is {status}, not 200"));
    }
    let body = &reply[end + 4..];
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") && value.trim() != body.len().to_string() {
            return Err("the reply is not whole".to_owned());
        }
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err("the reply is in pieces, which HTTP/1.0 does not have".to_owned());
        }
    }
    if body.len() > KEYS_BYTES_MAX {
        return Err(format!("the document is longer than {KEYS_BYTES_MAX} bytes"));
    }
    String::from_utf8(body.to_vec()).map_err(|_| "the document is not UTF-8".to_owned())
}

/// Checks a chain against the authorities and those of its own certificates that were named.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    authorities: Arc<RootCertStore>,
    thumbprints: Vec<String>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let mut store = RootCertStore { roots: self.authorities.roots.clone() };
        for certificate in std::iter::once(end_entity).chain(intermediates) {
            if self.thumbprints.contains(&thumbprint(certificate)) {
                store.add(certificate.clone().into_owned())?;
            }
        }
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// SHA-1 in lower-case hexadecimal, which is what IAM calls a thumbprint. It only chooses a
/// certificate of the chain; what it signs is verified with that certificate's own algorithm.
fn thumbprint(certificate: &CertificateDer<'_>) -> String {
    identity::oidc::thumbprint(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        assert_eq!(split("https://a.org/x/y?z").unwrap(), ("a.org", "/x/y?z"));
        assert_eq!(split("https://a.org:8443").unwrap(), ("a.org:8443", "/"));
        for bad in
            ["http://a.org/", "https:///x", "https://a@b/", "https://a/\r\nX: y", "https://a/#x"]
        {
            assert!(split(bad).is_err(), "{bad}");
        }
        assert_eq!(host_and_port("[::1]:8443").unwrap(), ("::1", 8443));
        assert_eq!(host_and_port("a.org").unwrap(), ("a.org", 443));
        assert!(host_and_port("a.org:x").is_err());
    }

    #[test]
    fn replies() {
        assert_eq!(body(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap(), "{}");
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\n{}").unwrap(), "{}");
        let long = [&b"HTTP/1.0 200 OK\r\n\r\n"[..], &vec![b' '; KEYS_BYTES_MAX + 1]].concat();
        for bad in [
            &b""[..],
            b"HTTP/1.0 302 Found\r\nLocation: https://b/\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\n\r\n\xff",
            &long,
        ] {
            assert!(body(bad).is_err());
        }
    }
}
