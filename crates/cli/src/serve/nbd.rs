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
    /// A name that clients reach it by, if one was said.
    name: Option<String>,
}

/// What an administrator hands to a client.
pub(crate) struct Issued {
    /// The three PEM texts.
    pub(crate) credentials: Credentials,
    /// The volume they open.
    pub(crate) volume: String,
    /// Where, when the server listens on TCP.
    pub(crate) address: Option<String>,
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
        Ok(Self { authority, host, front, name: options.nbd_names.first().cloned() })
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
            address: self.address().map(|address| reached_at(address, self.name.as_deref())),
        })
    }
}

/// Where a client connects that shall find the server's certificate to be of whom it asked: the address, a
/// name if it is all of this machine's, and with no name this machine.
fn reached_at(address: SocketAddr, name: Option<&str>) -> String {
    if !address.ip().is_unspecified() {
        return address.to_string();
    }
    let name = name.unwrap_or("localhost");
    // Addresses of version 6 stand in brackets.
    let name = name.parse::<Ipv6Addr>().map_or(name.to_owned(), |address| format!("[{address}]"));
    format!("{name}:{}", address.port())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_sent_to_what_the_certificate_names() {
        let reached = |address: &str, name| reached_at(address.parse().unwrap(), name);
        assert_eq!(reached("192.0.2.7:10809", Some("storage.example")), "192.0.2.7:10809");
        assert_eq!(reached("0.0.0.0:10809", Some("storage.example")), "storage.example:10809");
        assert_eq!(reached("[::]:10809", Some("2001:db8::7")), "[2001:db8::7]:10809");
        assert_eq!(reached("0.0.0.0:10809", None), "localhost:10809");
    }
}
