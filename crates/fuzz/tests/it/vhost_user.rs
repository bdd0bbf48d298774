//! What a virtual machine monitor may send over a vhost-user socket.

use attach::vhost_user::message::{BODY_BYTES_MAX, HEADER_BYTES, Header, Message};
use fuzz::target;

/// A message of each number there is, its body as long as it should be.
fn messages() -> Vec<Vec<u8>> {
    let bodies: [(u32, usize); 12] = [
        (1, 0),
        (2, 8),
        (5, 72),
        (8, 8),
        (9, 40),
        (12, 8),
        (18, 8),
        (24, 72),
        (25, 13),
        (31, 24),
        (32, 20),
        (37, 40),
    ];
    bodies
        .into_iter()
        .map(|(code, length)| {
            let mut body = vec![0; length];
            if let Some(first) = body.first_mut() {
                *first = 1;
            }
            if code == 24 || code == 25 {
                body[4..8].copy_from_slice(&(length as u32 - 12).to_le_bytes());
            }
            let header = [code, 1, length as u32].map(u32::to_le_bytes).concat();
            [header, body].concat()
        })
        .collect()
}

target!(
    /// What is understood is short, and has a number that is served.
    messages_of_front_ends,
    messages(),
    |bytes: &[u8]| {
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return };
        let Ok(header) = Header::parse(header) else { return };
        assert!(header.size <= BODY_BYTES_MAX);
        if let Some(body) = body.get(..header.size)
            && Message::parse(header.code, body).is_ok()
        {
            assert!((1..=38).contains(&header.code));
        }
    }
);
