//! NBD over TCP: the listener, and the certificates that open it.

use super::cannot_start;
use super::host::Host;
use crate::args::ServeOptions;
use crate::exit::Failure;
use attach::DeviceName;
use attach::tls::{Authority, Credentials, Front};
use base::{InstanceId, OsRng, SystemClock};
use kms::seal::Root;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// What the authority's secret is derived under; another label would be another authority.
const AUTHORITY_LABEL: &str = "nbd-authority-1";

/// The certificate authority of this server, and its listener if it has one.
pub(crate) struct Nbd {
    authority: Authority,
    host: Arc<Host>,
    front: Option<Front>,
}

/// What an administrator hands to a client.
pub(crate) struct Issued {
    /// The three PEM texts.
    pub(crate) credentials: Credentials,
    /// The volume they open.
    pub(crate) volume: String,
    /// Where, when the server listens on TCP.
    pub(crate) address: Option<SocketAddr>,
}

impl Nbd {
    /// Listens if the options say so. Attached volumes must be open already: a client that comes
    /// back would be told that its attachment has ended.
    pub(super) fn start(
        options: &ServeOptions,
        authority: Authority,
        host: Arc<Host>,
    ) -> Result<Self, Failure> {
        let front = match options.nbd_listen {
            None => None,
            Some(address) => Some(listen(address, &options.nbd_names, &authority, &host)?),
        };
        Ok(Self { authority, host, front })
    }

    /// Where TCP clients connect.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.front.as_ref().map(Front::address)
    }

    /// Makes credentials for what is attached there now. The error is a sentence for a person.
    pub(crate) fn issue(&self, instance: &str, device: &str) -> Result<Issued, String> {
        let instance = InstanceId::parse(instance).map_err(|error| error.to_string())?;
        let device: DeviceName = device.parse().map_err(|error| format!("{error}"))?;
        let badge = self.host.exports().badge(&instance, &device);
        let badge = badge.ok_or_else(|| format!("{instance} has no device {device} here"))?;
        let issued = self.authority.issue(&badge, &OsRng);
        Ok(Issued {
            credentials: issued.map_err(|error| error.to_string())?,
            volume: badge.volume.to_string(),
            address: self.address(),
        })
    }
}

/// The authority of this server's root of trust.
pub(super) fn authority(seal: &Root) -> Result<Authority, Failure> {
    Authority::new(&seal.service_key(AUTHORITY_LABEL)).map_err(cannot_start)
}

fn listen(
    address: SocketAddr,
    names: &[String],
    authority: &Authority,
    host: &Host,
) -> Result<Front, Failure> {
    let cannot = |error: &dyn std::fmt::Display| {
        cannot_start(format!("cannot serve NBD on {address}: {error}"))
    };
    let listener = TcpListener::bind(address).map_err(|error| cannot(&error))?;
    let mut names = names.to_vec();
    // Whoever connects from this machine, and who uses the address it listens on.
    let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    names.push("localhost".to_owned());
    names.extend(loopback.map(|address| address.to_string()));
    if !address.ip().is_unspecified() && !loopback.contains(&address.ip()) {
        names.push(address.ip().to_string());
    }
    let (exports, clock) = (host.exports(), Arc::new(SystemClock));
    Front::start(listener, authority, &names, exports, clock, &OsRng)
        .map_err(|error| cannot(&error))
}
