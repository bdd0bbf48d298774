//! Peers on TCP: those with the certificate of an attachment, and all others.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use attach::nbd::REQUESTS_IN_FLIGHT_MAX;
use attach::tls::{Authority, Badge, Credentials, Front, HANDSHAKES_MAX};
use attach::{Exports, Stop};
use base::{Clock, ManualClock, OsRng, Secret, SystemClock, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use crate::memory::Memory;
use crate::session::request;

type Tls = StreamOwned<ClientConnection, TcpStream>;

struct House {
    authority: Authority,
    exports: Arc<Exports>,
    front: Front,
    _directory: tempfile::TempDir,
}

fn badge(device: &str, attached: i64) -> Badge {
    Badge {
        volume: "vol-0123456789abcdef0".parse().unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        device: device.parse().unwrap(),
        attached: Timestamp(attached),
    }
}

impl House {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(&Secret::new([7; 32])).unwrap();
        let exports = Arc::new(Exports::new(directory.path().to_owned(), Arc::clone(&clock)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let names = ["localhost".to_owned()];
        let front = Front::start(listener, &authority, &names, Arc::clone(&exports), clock, &OsRng);
        Self { authority, exports, front: front.unwrap(), _directory: directory }
    }

    fn attach(&self, badge: &Badge) -> Arc<Memory> {
        let memory = Memory::start(64 << 20);
        self.exports.attach(badge.clone(), Arc::clone(&memory) as _).unwrap();
        memory
    }

    fn detach(&self, badge: &Badge, how: Stop) {
        self.exports.detach(&badge.instance, &badge.device, how).unwrap().unwrap();
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.front.address()).unwrap()
    }

    /// Through TLS with the certificate for `badge`.
    fn enter(&self, badge: &Badge) -> io::Result<Tls> {
        let credentials = self.authority.issue(badge, &OsRng).unwrap();
        enter(self.connect(), &credentials, &rustls::version::TLS13)
    }
}

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The type of the next option reply, whose data is skipped.
fn reply(stream: &mut impl Read) -> io::Result<u32> {
    let mut head = [0; 20];
    stream.read_exact(&mut head)?;
    let field = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
    stream.read_exact(&mut vec![0; field(16) as usize])?;
    Ok(field(12))
}

fn greet(stream: &mut TcpStream) {
    stream.read_exact(&mut [0; 18]).unwrap();
    stream.write_all(&3u32.to_be_bytes()).unwrap();
}

fn enter(
    mut socket: TcpStream,
    credentials: &Credentials,
    version: &'static SupportedProtocolVersion,
) -> io::Result<Tls> {
    greet(&mut socket);
    socket.write_all(&option(5, b""))?;
    assert_eq!(reply(&mut socket)?, 1);
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&credentials.authority)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::from_pem_slice(credentials.key.expose().as_bytes()).unwrap();
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![certificate(&credentials.certificate)], key)
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = StreamOwned::new(session, socket);
    // EXPORT_NAME of the default export: 10 bytes that say that all went well.
    stream.write_all(&option(1, b""))?;
    stream.read_exact(&mut [0; 10])?;
    Ok(stream)
}

/// The alert a peer was turned away with.
fn alert(entered: io::Result<Tls>) -> String {
    entered.map(drop).unwrap_err().to_string()
}

fn write(stream: &mut Tls, offset: u64, data: &[u8]) {
    stream.write_all(&request(1, 9, offset, data.len() as u32)).unwrap();
    stream.write_all(data).unwrap();
}

fn read(stream: &mut Tls, offset: u64, length: usize) -> Vec<u8> {
    stream.write_all(&request(0, 9, offset, length as u32)).unwrap();
    let mut answer = vec![0; 16 + length];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[4..8], [0; 4]);
    answer.split_off(16)
}

#[test]
fn a_certificate_opens_its_attachment_for_as_long_as_it_stands() {
    let house = House::new(Arc::new(SystemClock));
    let (mine, other) = (badge("sdf", 1), badge("sdg", 1));
    let (memory, _) = (house.attach(&mine), house.attach(&other));
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let credentials = house.authority.issue(&mine, &OsRng).unwrap();
        let mut stream = enter(house.connect(), &credentials, version).unwrap();
        let data: Vec<u8> = (0..1 << 20).map(|i| (i * 7) as u8 | 1).collect();
        write(&mut stream, 777, &data);
        stream.read_exact(&mut [0; 16]).unwrap();
        assert!(read(&mut stream, 777, data.len()) == data);
    }
    let submitted = memory.state.submitted.load(Ordering::SeqCst);
    assert_eq!(submitted, 4, "it was this device and no other");

    // An attachment at the same place is another one, and so is none at all.
    let mut standing = house.enter(&mine).unwrap();
    house.detach(&mine, Stop::Graceful);
    assert!(standing.read_exact(&mut [0]).is_err());
    assert!(alert(house.enter(&mine)).contains("CertificateRevoked"));
    house.attach(&badge("sdf", 2));
    assert!(alert(house.enter(&mine)).contains("CertificateRevoked"));
    house.enter(&badge("sdf", 2)).unwrap();
}

#[test]
fn a_certificate_of_another_authority_is_worth_nothing() {
    let house = House::new(Arc::new(SystemClock));
    let mine = badge("sdf", 1);
    house.attach(&mine);
    let stranger = Authority::new(&Secret::new([8; 32])).unwrap();
    let forged = stranger.issue(&mine, &OsRng).unwrap();
    let honest = house.authority.issue(&mine, &OsRng).unwrap();
    let forged = Credentials { authority: honest.authority, ..forged };
    let refused = alert(enter(house.connect(), &forged, &rustls::version::TLS13));
    assert!(refused.contains("UnknownCA") || refused.contains("DecryptError"), "{refused}");
    // The same secret is the same authority, also after a restart.
    let again = Authority::new(&Secret::new([7; 32])).unwrap().issue(&mine, &OsRng).unwrap();
    enter(house.connect(), &again, &rustls::version::TLS13).unwrap();
}

#[test]
fn in_clear_there_is_nothing_but_the_way_to_tls() {
    let house = House::new(Arc::new(SystemClock));
    house.attach(&badge("sdf", 1));
    let mut stream = house.connect();
    greet(&mut stream);
    let go = [0, 0, 0, 0, 0, 0];
    for (kind, data) in [(3, &b""[..]), (7, &go), (6, &go), (8, b""), (11, b""), (9, b"")] {
        stream.write_all(&option(kind, data)).unwrap();
        assert_eq!(reply(&mut stream).unwrap(), 0x8000_0005, "option {kind}");
    }
    // EXPORT_NAME has no answer but the end.
    stream.write_all(&option(1, b"sdf")).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));

    // What is sent in clear behind STARTTLS does not count as sent under TLS.
    let mut stream = house.connect();
    greet(&mut stream);
    stream.write_all(&[option(5, b""), option(1, b"sdf")].concat()).unwrap();
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
}

/// A reply larger than socket and session hold is sent as the peer reads it.
#[test]
fn a_peer_that_reads_slowly_gets_everything() {
    let house = House::new(Arc::new(SystemClock));
    let mine = badge("sdf", 1);
    house.attach(&mine);
    let mut stream = house.enter(&mine).unwrap();
    let data: Vec<u8> = (0..1 << 20).map(|i| (i / 5) as u8 | 1).collect();
    write(&mut stream, 0, &data);
    stream.read_exact(&mut [0; 16]).unwrap();
    for _ in 0..12 {
        stream.write_all(&request(0, 1, 0, 1 << 20)).unwrap();
    }
    std::thread::yield_now();
    for _ in 0..12 {
        let mut answer = vec![0; 16 + (1 << 20)];
        for part in answer.chunks_mut(100_000) {
            stream.read_exact(part).unwrap();
        }
        assert!(answer[16..] == data);
    }
    // DISC: everything is answered, and the end is told.
    stream.write_all(&request(2, 1, 0, 0)).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// More requests than are taken at once, in one record of TLS: those that wait are in no socket any more.
#[test]
fn requests_that_wait_behind_others_are_not_forgotten() {
    const MANY: usize = 300;
    let house = House::new(Arc::new(SystemClock));
    let mine = badge("sdf", 1);
    let state = Arc::clone(&house.attach(&mine).state);
    let mut stream = house.enter(&mine).unwrap();
    let small = |count: usize| {
        let one = [request(1, 9, 0, 1), vec![7]].concat();
        one.repeat(count)
    };
    state.hold();
    // Almost as many as are taken. The last one is long: behind it, few bytes are received at once.
    stream.write_all(&small(REQUESTS_IN_FLIGHT_MAX - 56)).unwrap();
    write(&mut stream, 0, &vec![1; 1 << 20]);
    state.wait_for_submissions(REQUESTS_IN_FLIGHT_MAX - 55);
    stream.write_all(&small(MANY)).unwrap();
    state.wait_for_submissions(REQUESTS_IN_FLIGHT_MAX);
    state.release();
    stream.sock.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut answers = vec![0; 16 * (REQUESTS_IN_FLIGHT_MAX - 55 + MANY)];
    stream.read_exact(&mut answers).unwrap();
    assert!(answers.chunks(16).all(|answer| answer[4..8] == [0; 4]));
    assert_eq!(read(&mut stream, 0, 2), [7, 1]);
}

#[test]
fn handshakes_are_few_and_short() {
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let house = House::new(Arc::clone(&clock) as _);
    let mut waiting: Vec<TcpStream> = (0..HANDSHAKES_MAX).map(|_| house.connect()).collect();
    for stream in &mut waiting {
        stream.read_exact(&mut [0; 18]).unwrap();
    }
    assert!(matches!(house.connect().read(&mut [0]), Ok(0) | Err(_)), "one too many");
    clock.advance_seconds(attach::nbd::HANDSHAKE_SECONDS_MAX + 1);
    for stream in &mut waiting {
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    house.connect().read_exact(&mut [0; 18]).unwrap();
}

#[test]
fn noise_is_turned_away() {
    let house = House::new(Arc::new(SystemClock));
    let mine = badge("sdf", 1);
    house.attach(&mine);
    for noise in [&[0xff; 4][..], &[0; 64], &[0x16, 3, 1, 0xff, 0xff, 9, 9, 9]] {
        let mut clear = house.connect();
        clear.write_all(noise).unwrap();
        let _ = clear.shutdown(std::net::Shutdown::Write);
        let _ = clear.read_to_end(&mut Vec::new());
        let mut behind = house.connect();
        greet(&mut behind);
        behind.write_all(&option(5, b"")).unwrap();
        assert_eq!(reply(&mut behind).unwrap(), 1);
        behind.write_all(noise).unwrap();
        let _ = behind.shutdown(std::net::Shutdown::Write);
        let _ = behind.read_to_end(&mut Vec::new());
    }
    house.enter(&mine).unwrap();
}
