//! What a client certificate says: which attachment it is for.

use std::fmt;

use base::{InstanceId, Timestamp, VolumeId};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::exports::DeviceName;

/// The end of every badge's name. It is nobody's domain: `.internal` is reserved for private use.
const SUFFIX: &str = ".attachment.strongroom.internal";

/// One attachment, from its beginning to its end. Attaching the same volume at the same place again
/// makes another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Badge {
    /// The volume.
    pub volume: VolumeId,
    /// The instance.
    pub instance: InstanceId,
    /// The device name.
    pub device: DeviceName,
    /// When it was attached.
    pub attached: Timestamp,
}

/// The certificate names no attachment, or the attachment's name is none a certificate can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate names no attachment")]
pub struct BadgeError;

impl fmt::Display for Badge {
    /// As the DNS name a certificate holds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volume, instance, device, attached } = self;
        write!(f, "{}.{device}.{instance}.{volume}{SUFFIX}", attached.0)
    }
}

impl Badge {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('.');
        let attached = Timestamp(parts.next()?.parse().ok()?);
        let device = parts.next()?.parse().ok()?;
        let instance = InstanceId::parse(parts.next()?).ok()?;
        let volume = VolumeId::parse(parts.next()?).ok()?;
        let badge = Self { volume, instance, device, attached };
        // Exactly as it was issued, and nothing behind it.
        (badge.to_string() == name).then_some(badge)
    }

    /// The attachment a certificate is for. Says nothing about who signed it.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Result<Self, BadgeError> {
        let certificate = EndEntityCert::try_from(certificate).map_err(|_| BadgeError)?;
        let mut names = certificate.valid_dns_names();
        match (names.next(), names.next()) {
            (Some(name), None) => Self::parse(name).ok_or(BadgeError),
            _ => Err(BadgeError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_badge_is_read_as_it_was_issued() {
        let badge = Badge {
            volume: "vol-0123456789abcdef0".parse().unwrap(),
            instance: "i-0123456789abcdef0".parse().unwrap(),
            device: "/dev/sdf".parse().unwrap(),
            attached: Timestamp(1_700_000_000_123),
        };
        let name = badge.to_string();
        assert_eq!(Badge::parse(&name), Some(badge));
        for wrong in [
            name.replace("sdf", "sdf.sdg"),
            name.replace("17000", "+17000"),
            name.replace("17000", "017000"),
            name.replace("internal", "example"),
            format!("x.{name}"),
            name.replace("vol-", "snap-"),
        ] {
            assert_eq!(Badge::parse(&wrong), None, "{wrong}");
        }
    }

    fuzz::target!(
        /// Names in certificates, and certificates.
        badges,
        vec![b"1.sdf.i-0123456789abcdef0.vol-0123456789abcdef0.attachment.strongroom.internal".to_vec()],
        |bytes: &[u8]| {
            drop(Badge::of(&CertificateDer::from(bytes)));
            let Ok(name) = std::str::from_utf8(bytes) else { return };
            if let Some(badge) = Badge::parse(name) {
                assert_eq!(badge.to_string(), name, "an attachment has one name");
            }
        }
    );
}
