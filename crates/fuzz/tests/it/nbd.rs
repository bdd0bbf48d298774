//! What an NBD client may send.

use attach::nbd::handshake::{ExportInfo, Handshake, Negotiated, Step};
use attach::nbd::request::Header;
use fuzz::target;

const SIZE: u64 = 1 << 20;

fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&u32::try_from(data.len()).expect("small").to_be_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// Greetings of clients: EXPORT_NAME; LIST; STRUCTURED_REPLY, SET_META_CONTEXT and GO.
fn greetings() -> Vec<Vec<u8>> {
    let go = [&4u32.to_be_bytes()[..], b"disk", &[0, 1, 0, 3]].concat();
    let context = b"base:allocation";
    let contexts =
        [&4u32.to_be_bytes()[..], b"disk", &1u32.to_be_bytes(), &15u32.to_be_bytes(), context];
    let flags = [0, 0, 0, 3];
    vec![
        [&flags[..], &option(1, b"disk")].concat(),
        [&flags[..], &option(3, b""), &option(2, b"")].concat(),
        [&flags[..], &option(8, b""), &option(10, &contexts.concat()), &option(7, &go)].concat(),
    ]
}

/// Feeds the bytes in pieces of one size and returns how the handshake ended.
fn shake(bytes: &[u8], piece: usize) -> (Vec<u8>, String) {
    let export =
        ExportInfo { name: "disk".to_owned(), description: "a disk".to_owned(), size: SIZE };
    let mut answer = Vec::new();
    let mut handshake = Handshake::start(export, &mut answer);
    let (mut pending, mut end) = (Vec::new(), String::new());
    for piece in bytes.chunks(piece) {
        pending.extend_from_slice(piece);
        match handshake.advance(&pending, &mut answer) {
            Ok((consumed, Step::More)) => drop(pending.drain(..consumed)),
            Ok((_, step)) => {
                end = format!("{step:?}");
                break;
            }
            Err(error) => {
                end = error.to_string();
                break;
            }
        }
    }
    (answer, end)
}

target!(
    /// Where the bytes are cut into pieces makes no difference.
    handshakes,
    greetings(),
    |bytes: &[u8]| assert_eq!(shake(bytes, 1), shake(bytes, bytes.len().max(1)))
);

fn requests() -> Vec<Vec<u8>> {
    let request = |command: u16, offset: u64, length: u32| {
        let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
        bytes.extend_from_slice(&0u16.to_be_bytes());
        bytes.extend_from_slice(&command.to_be_bytes());
        bytes.extend_from_slice(&[7; 8]);
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes
    };
    (0..9).map(|command| request(command, 4096, 512)).collect()
}

target!(
    /// A request that is accepted lies inside the device.
    headers,
    requests(),
    |bytes: &[u8]| {
        if let Ok(Some(header)) = Header::parse(bytes) {
            for allocation in [false, true] {
                let negotiated = Negotiated { structured: true, allocation };
                if header.verb(SIZE, negotiated).is_ok() && header.length > 0 {
                    let end = header.offset.checked_add(u64::from(header.length));
                    assert!(end.is_some_and(|end| end <= SIZE) || is_without_range(header.command));
                }
            }
        }
    }
);

/// DISC and FLUSH have no offset and no length.
fn is_without_range(command: u16) -> bool {
    matches!(command, 2 | 3)
}
