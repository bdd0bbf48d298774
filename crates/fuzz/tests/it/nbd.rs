//! What an NBD client may send.

use attach::nbd::handshake::{Context, ExportInfo, Handshake, Mode, Negotiated, Step};
use attach::nbd::request::{Header, Verb};
use attach::{BlockDevice, Milestone, Request, View};
use fuzz::target;
use std::sync::Arc;

const SIZE: u64 = 1 << 20;

/// A device with a snapshot, which nobody gets to use.
struct Idle;

impl BlockDevice for Idle {
    fn size(&self) -> u64 {
        SIZE
    }

    fn milestones(&self) -> Vec<Milestone> {
        vec![Milestone { snapshot: "snap-1".to_owned(), generation: 1 }]
    }

    fn submit(&self, _batch: Vec<Request>) {
        unreachable!("a handshake asks for no data");
    }
}

fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).expect("small").to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Greetings of clients: EXPORT_NAME; LIST; STRUCTURED_REPLY, SET_META_CONTEXT and GO; the same with
/// EXTENDED_HEADERS and the changes since a snapshot; STARTTLS.
fn greetings() -> Vec<Vec<u8>> {
    let go = [&4u32.to_be_bytes()[..], b"disk", &[0, 1, 0, 3]].concat();
    let context = b"base:allocation";
    let contexts =
        [&4u32.to_be_bytes()[..], b"disk", &1u32.to_be_bytes(), &15u32.to_be_bytes(), context];
    let changes = b"qemu:dirty-bitmap:snap-1";
    let both =
        [&4u32.to_be_bytes()[..], b"disk", &1u32.to_be_bytes(), &24u32.to_be_bytes(), changes];
    let flags = [0, 0, 0, 3];
    vec![
        [&flags[..], &option(11, b""), &option(9, &both.concat()), &option(10, &both.concat())]
            .concat()
            .into_iter()
            .chain(option(7, &go))
            .collect(),
        [&flags[..], &option(5, b""), &option(7, &go)].concat(),
        [&flags[..], &option(1, b"disk")].concat(),
        [&flags[..], &option(3, b""), &option(2, b"")].concat(),
        [&flags[..], &option(8, b""), &option(10, &contexts.concat()), &option(7, &go)].concat(),
    ]
}

/// Feeds the bytes in pieces of one size and returns how the handshake ended. One that comes to TLS
/// goes on as an authenticated peer's.
fn shake(bytes: &[u8], piece: usize, private: bool) -> (Vec<u8>, String) {
    let info = || ExportInfo {
        name: "disk".to_owned(),
        aliases: vec!["vol-1".to_owned()],
        description: "a disk".to_owned(),
    };
    let mut answer = Vec::new();
    let mut handshake = match private {
        true => Handshake::plain(info(), Arc::new(Idle), &mut answer),
        false => Handshake::before_tls(&mut answer),
    };
    let (mut pending, mut end, mut secured) = (Vec::new(), String::new(), private);
    for piece in bytes.chunks(piece) {
        pending.extend_from_slice(piece);
        while end.is_empty() {
            match handshake.advance(&pending, &mut answer) {
                Ok((consumed, Step::StartTls)) => {
                    assert!(!secured, "TLS is agreed to once, where it is needed");
                    secured = true;
                    drop(pending.drain(..consumed));
                    handshake = handshake.after_tls(info(), Arc::new(Idle));
                    continue;
                }
                Ok((consumed, Step::More)) => drop(pending.drain(..consumed)),
                Ok((_, step)) => end = format!("{step:?}"),
                Err(error) => end = error.to_string(),
            }
            break;
        }
    }
    assert!(secured || !end.starts_with("Transmission"), "no export without TLS");
    (answer, end)
}

target!(
    /// Where the bytes are cut into pieces makes no difference, and without TLS or a private socket
    /// no export is reached.
    handshakes,
    greetings(),
    |bytes: &[u8]| {
        for private in [true, false] {
            assert_eq!(shake(bytes, 1, private), shake(bytes, bytes.len().max(1), private));
        }
    }
);

fn negotiated() -> [Negotiated; 3] {
    let contexts = vec![
        Context { id: 1, view: View::Allocation },
        Context { id: 2, view: View::ChangedSince(1) },
    ];
    [
        Negotiated::default(),
        Negotiated { mode: Mode::Structured, contexts: contexts.clone() },
        Negotiated { mode: Mode::Extended, contexts },
    ]
}

fn requests() -> Vec<Vec<u8>> {
    let compact = |command: u16| {
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&0u16.to_be_bytes());
        bytes.extend_from_slice(&command.to_be_bytes());
        bytes.extend_from_slice(&[7; 8]);
        bytes.extend_from_slice(&4096u64.to_be_bytes());
        bytes.extend_from_slice(&512u32.to_be_bytes());
        bytes
    };
    let extended = |command: u16, flags: u16, length: u64, payload: &[u8]| {
        let mut bytes = 0x21e4_1c71_u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&flags.to_be_bytes());
        bytes.extend_from_slice(&command.to_be_bytes());
        bytes.extend_from_slice(&[7; 8]);
        bytes.extend_from_slice(&4096u64.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(payload);
        bytes
    };
    let status = [&512u64.to_be_bytes()[..], &2u32.to_be_bytes(), &1u32.to_be_bytes()].concat();
    let compact = (0..9).map(compact);
    let wide = (0..9).map(|command| extended(command, 0, 512, b""));
    let fast = extended(6, 16, 4096, b"");
    let with_payload = [extended(1, 32, 3, b"abc"), extended(7, 32, 16, &status), fast];
    compact.chain(wide).chain(with_payload).collect()
}

target!(
    /// A request that is accepted lies inside the device, and so does what a payload adds to it.
    headers,
    requests(),
    |bytes: &[u8]| {
        for negotiated in negotiated() {
            let Ok(Some(header)) = Header::parse(bytes, negotiated.mode) else { continue };
            let payload = &bytes[Header::bytes(negotiated.mode)..];
            let payload = &payload[..header.payload.min(payload.len())];
            let length = match header.verb(SIZE, &negotiated) {
                Err(_) | Ok(Verb::Disconnect | Verb::Flush) => continue,
                Ok(Verb::StatusOf { .. }) => {
                    match header.status_of(payload, SIZE, &negotiated) {
                        Ok((length, contexts)) => {
                            assert!(!contexts.is_empty() && contexts.len() <= 2);
                            length
                        }
                        Err(_) => continue,
                    }
                }
                Ok(_) => header.length,
            };
            let end = header.offset.checked_add(length);
            assert!(end.is_some_and(|end| end <= SIZE), "{header:?}");
        }
    }
);
