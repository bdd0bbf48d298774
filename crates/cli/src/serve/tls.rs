//! The server's certificate, or that of a proxy before it.

use super::cannot_start;
use crate::args::ServeOptions;
use crate::exit::Failure;
use api::http::Transport;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// How requests come in.
pub(super) fn transport(options: &ServeOptions) -> Result<Transport, Failure> {
    let (Some(certificate), Some(key)) = (&options.tls_cert, &options.tls_key) else {
        return Ok(if options.behind_tls { Transport::BehindTls } else { Transport::Plain });
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| unusable(certificate, &error));
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(cannot_start)?
        .with_no_client_auth()
        .with_single_cert(chain?, key)
        .map_err(|error| unusable(certificate, &error))?;
    Ok(Transport::Tls(TlsAcceptor::from(Arc::new(config))))
}

fn unusable(path: &Path, error: &dyn Display) -> Failure {
    cannot_start(format!("{}: {error}", path.display()))
}
