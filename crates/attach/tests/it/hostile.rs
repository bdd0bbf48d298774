//! Clients that send anything at all: the server answers or closes, and keeps serving others.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use attach::client::Client;
use attach::nbd::handshake::ExportInfo;
use attach::nbd::{HANDSHAKE_SECONDS_MAX, PAYLOAD_BYTES_MAX};
use attach::{Durability, Export, Stop};
use base::{ManualClock, Timestamp};
use proptest::prelude::*;

use crate::memory::Memory;
use crate::session::{raw, request, serve};

/// Sends `bytes`, ends the stream and reads until the server closes it. The server may close
/// while bytes are being sent.
fn send_and_drain(mut stream: UnixStream, bytes: &[u8]) -> Vec<u8> {
    let mut reader = stream.try_clone().unwrap();
    let drain = std::thread::spawn(move || {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer);
        answer
    });
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    drain.join().unwrap()
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    let magic = prop_oneof![20 => Just(*b"IHAVEOPT"), 1 => any::<[u8; 8]>()];
    let kind = prop_oneof![10 => 0u32..13, 1 => any::<u32>()];
    let data =
        prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(b's'), any::<u8>()], 0..40);
    let length = prop_oneof![10 => Just(None), 1 => any::<u32>().prop_map(Some)];
    (magic, kind, data, length).prop_map(|(magic, kind, data, length)| {
        let mut bytes = magic.to_vec();
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&length.unwrap_or(data.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&data);
        bytes
    })
}

fn command() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![5 => Just(0u16), 1 => any::<u16>()];
    let kind = prop_oneof![10 => 0u16..9, 1 => any::<u16>()];
    let offset = prop_oneof![5 => 0u64..1 << 20, 1 => any::<u64>()];
    let length = prop_oneof![9 => 0u32..20_000, 1 => any::<u32>()];
    let payload = prop::collection::vec(any::<u8>(), 0..64);
    (flags, kind, offset, length, payload).prop_map(|(flags, kind, offset, length, payload)| {
        let mut bytes = request(kind, 1, offset, length);
        bytes[4..6].copy_from_slice(&flags.to_be_bytes());
        if kind == 1 && length < 20_000 {
            bytes.resize(bytes.len() + length as usize, 7);
        } else {
            bytes.extend_from_slice(&payload[..payload.len().min(length as usize % 3)]);
        }
        bytes
    })
}

fn check(stream: impl Fn(&std::path::Path) -> UnixStream, inputs: impl Strategy<Value = Vec<u8>>) {
    let served = serve(1 << 20);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let result = runner.run(&inputs, |bytes| {
        send_and_drain(stream(&served.path), &bytes);
        Ok(())
    });
    result.unwrap();
    let mut honest = Client::connect(&served.path, "").unwrap();
    honest.write(0, &[1; 4096], Durability::Buffered).unwrap();
    let mut back = [0; 4096];
    honest.read(0, &mut back).unwrap();
    assert_eq!(back, [1; 4096]);
    // Fails if any connection panicked.
    served.export.stop(Stop::Graceful).unwrap();
}

#[test]
fn any_bytes_from_the_start() {
    check(|path| UnixStream::connect(path).unwrap(), prop::collection::vec(any::<u8>(), 0..300));
}

#[test]
fn any_options() {
    let options = prop::collection::vec(option(), 0..12);
    let flags = prop_oneof![9 => Just(3u32), 1 => any::<u32>()];
    let inputs = (flags, options, prop::collection::vec(command(), 0..3)).prop_map(
        |(flags, options, commands)| {
            let mut bytes = flags.to_be_bytes().to_vec();
            bytes.extend(options.into_iter().flatten());
            bytes.extend(commands.into_iter().flatten());
            bytes
        },
    );
    check(|path| UnixStream::connect(path).unwrap(), inputs);
}

#[test]
fn any_commands() {
    let commands = prop::collection::vec(command(), 0..30);
    check(raw, commands.prop_map(|commands| commands.into_iter().flatten().collect()));
}

#[test]
fn a_write_larger_than_the_limit_closes() {
    let served = serve(1 << 20);
    let answer = send_and_drain(raw(&served.path), &request(1, 1, 0, PAYLOAD_BYTES_MAX + 1));
    assert!(answer.is_empty());
}

#[test]
fn a_refused_write_is_skipped() {
    let served = serve(1 << 20);
    let mut bytes = request(1, 1, 1 << 20, 100_000);
    bytes.resize(bytes.len() + 100_000, 0x25);
    bytes.extend(request(3, 2, 0, 0));
    let answer = send_and_drain(raw(&served.path), &bytes);
    assert_eq!(answer.len(), 32);
    assert_eq!((answer[7], answer[16 + 7], answer[31]), (28, 0, 2));
}

#[test]
fn a_slow_handshake_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.sock");
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let info = ExportInfo { name: "sdf".into(), aliases: vec![], description: String::new() };
    let _export = Export::start(&path, info, Memory::start(4096), Arc::clone(&clock) as _).unwrap();
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.read_exact(&mut [0; 18]).unwrap();
    clock.advance_seconds(HANDSHAKE_SECONDS_MAX + 1);
    // Any byte makes the server look at the clock.
    stream.write_all(&[0]).unwrap();
    let ended = stream.read(&mut [0; 1]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}
