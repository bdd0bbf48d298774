//! The server's own certificate authority.
//!
//! All keys are Ed25519 keys made from 32 bytes: the authority's are derived from the root of trust,
//! the others are random and exist only where they are used. Nothing has to be kept: the authority is
//! the same after every start, the server's own certificate is made anew with it. No certificate has
//! a date on which it ends by itself; a client's ends with its attachment.

use std::net::IpAddr;
use std::sync::Arc;

use base::{Rng, Secret};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, SerialNumber,
};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName as RawName, RootCertStore,
    ServerConfig, SignatureScheme,
};

use super::badge::Badge;
use crate::exports::Exports;

/// RFC 8410, section 7: an Ed25519 private key in PKCS #8 is this and the 32 bytes.
const PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The authority's number. It signs itself once, so any fixed one will do.
const AUTHORITY_SERIAL: u64 = 1;

/// What the keys of servers and clients are for. QEMU does not use a certificate that does not permit
/// key encipherment, whatever its key.
const LEAF_USAGES: [KeyUsagePurpose; 2] =
    [KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];

/// Bytes of a random serial number; RFC 5280 allows 20.
const SERIAL_BYTES: usize = 16;

/// Why TLS cannot be set up or a certificate not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A name the server is to have is no DNS name and no address.
    #[error("'{name}' is no host name or address")]
    Name {
        /// The name.
        name: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Certificate(#[from] rcgen::Error),
    /// The attachment's device name does not fit into a certificate.
    #[error("an attachment with this device name cannot have a certificate")]
    Badge(#[from] super::BadgeError),
    /// The parts do not fit together.
    #[error("TLS could not be set up")]
    Config(#[from] rustls::Error),
    /// The own authority is not accepted as one.
    #[error("client certificates cannot be verified")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// What a client needs, as PEM texts.
pub struct Credentials {
    /// Proves the server.
    pub authority: String,
    /// The client's certificate.
    pub certificate: String,
    /// The client's private key.
    pub key: Secret<String>,
}

/// Issues and recognises certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
}

fn key_pair(seed: &Secret<[u8; 32]>) -> Result<KeyPair, rcgen::Error> {
    let mut pkcs8 = Secret::new([0; PKCS8_PREFIX.len() + 32]);
    pkcs8.expose_mut()[..PKCS8_PREFIX.len()].copy_from_slice(&PKCS8_PREFIX);
    pkcs8.expose_mut()[PKCS8_PREFIX.len()..].copy_from_slice(seed.expose());
    KeyPair::from_pkcs8_der_and_sign_algo(
        &PrivatePkcs8KeyDer::from(&pkcs8.expose()[..]),
        &PKCS_ED25519,
    )
}

fn random_key(rng: &dyn Rng) -> Result<KeyPair, rcgen::Error> {
    let mut seed = Secret::new([0; 32]);
    rng.fill(seed.expose_mut());
    key_pair(&seed)
}

fn params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params
}

fn serial(rng: &dyn Rng) -> SerialNumber {
    let mut bytes = [0; SERIAL_BYTES];
    rng.fill(&mut bytes);
    // Positive and without a leading zero, as RFC 5280 wants it.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

impl Authority {
    /// The authority of a secret: the same for the same secret.
    pub fn new(seed: &Secret<[u8; 32]>) -> Result<Self, TlsError> {
        let key = key_pair(seed)?;
        let mut params = params("Strongroom NBD");
        params.serial_number = Some(AUTHORITY_SERIAL.into());
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Makes a certificate for an attachment, with a new key.
    pub fn issue(&self, badge: &Badge, rng: &dyn Rng) -> Result<Credentials, TlsError> {
        let key = random_key(rng)?;
        let mut params = params(badge.volume.as_str());
        params.serial_number = Some(serial(rng));
        params.subject_alt_names = vec![SanType::DnsName(badge.to_string().try_into()?)];
        params.key_usages = LEAF_USAGES.to_vec();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        if Badge::of(certificate.der())? != *badge {
            return Err(super::BadgeError.into());
        }
        Ok(Credentials {
            authority: self.certificate.pem(),
            certificate: certificate.pem(),
            key: Secret::new(key.serialize_pem()),
        })
    }

    /// What the TCP server speaks: TLS 1.3, or 1.2 with clients that have no newer one, as a server
    /// of these names and addresses, with peers whose certificate is for an attachment in `exports`.
    pub(crate) fn server_config(
        &self,
        names: &[String],
        exports: &Arc<Exports>,
        rng: &dyn Rng,
    ) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = random_key(rng)?;
        let mut params = params("Strongroom NBD server");
        params.serial_number = Some(serial(rng));
        params.subject_alt_names =
            names.iter().map(|name| alternative_name(name)).collect::<Result<_, _>>()?;
        params.key_usages = LEAF_USAGES.to_vec();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.der().clone()];
        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_client_cert_verifier(Arc::new(self.doorman(exports, provider)?))
            .with_single_cert(chain, private.into())?;
        // A resumed session would not show its certificate again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn doorman(
        &self,
        exports: &Arc<Exports>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Doorman, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone())?;
        let signatures =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
        Ok(Doorman { signatures, exports: Arc::clone(exports) })
    }
}

fn alternative_name(name: &str) -> Result<SanType, TlsError> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let usable = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-'));
    if !usable {
        return Err(TlsError::Name { name: name.to_owned() });
    }
    Ok(SanType::DnsName(name.try_into()?))
}

/// Lets in who has a certificate of this authority for an attachment that stands. A peer of an
/// attachment that has ended reads that its certificate was revoked.
struct Doorman {
    signatures: Arc<dyn ClientCertVerifier>,
    exports: Arc<Exports>,
}

impl std::fmt::Debug for Doorman {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Doorman")
    }
}

impl ClientCertVerifier for Doorman {
    fn root_hint_subjects(&self) -> &[RawName] {
        self.signatures.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.signatures.verify_client_cert(end_entity, intermediates, now)?;
        match Badge::of(end_entity) {
            Ok(badge) if self.exports.is_attached(&badge) => Ok(verified),
            Ok(_) => Err(CertificateError::Revoked.into()),
            Err(_) => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.signatures.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signatures.supported_verify_schemes()
    }
}
