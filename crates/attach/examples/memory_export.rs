//! Serves zeroed memory over NBD until its input ends: what the protocol costs without an engine.
//!
//! `cargo run --release -p attach --example memory_export -- SOCKET MIB`

#![expect(clippy::unwrap_used, reason = "an example fails by panicking")]

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use attach::nbd::handshake::ExportInfo;
use attach::{Answer, BlockDevice, Command, Export, Extent, ExtentState, Request, Stop};
use base::SystemClock;

struct Memory {
    size: u64,
    requests: mpsc::SyncSender<Vec<Request>>,
}

impl BlockDevice for Memory {
    fn size(&self) -> u64 {
        self.size
    }

    fn submit(&self, batch: Vec<Request>) {
        self.requests.send(batch).unwrap();
    }
}

fn apply(bytes: &mut [u8], command: Command) -> Answer {
    match command {
        Command::Read { offset, mut buffer } => {
            let start = offset as usize;
            let length = buffer.len();
            buffer.copy_from_slice(&bytes[start..][..length]);
            Answer::Bytes(buffer)
        }
        Command::Write { offset, data, .. } => {
            bytes[offset as usize..][..data.len()].copy_from_slice(&data);
            Answer::Bytes(data)
        }
        Command::Flush => Answer::Done,
        Command::Trim { offset, length, .. } | Command::WriteZeroes { offset, length, .. } => {
            bytes[offset as usize..][..length as usize].fill(0);
            Answer::Done
        }
        Command::Status { length, views, .. } => {
            let all = vec![Extent { length, state: ExtentState::Data }];
            Answer::Extents(views.iter().map(|_| all.clone()).collect())
        }
        Command::Cache { .. } => Answer::Done,
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().unwrap());
    let size = arguments.next().unwrap().parse::<u64>().unwrap() << 20;
    let (requests, receiver) = mpsc::sync_channel::<Vec<Request>>(64);
    std::thread::spawn(move || {
        let mut bytes = vec![0; size as usize];
        for request in receiver.into_iter().flatten() {
            let answer = apply(&mut bytes, request.command);
            request.reply.complete(Ok(answer));
        }
    });
    let info = ExportInfo { name: "memory".into(), aliases: vec![], description: "memory".into() };
    let device = Arc::new(Memory { size, requests });
    let export = Export::start(&path, info, device, Arc::new(SystemClock)).unwrap();
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    export.stop(Stop::Graceful).unwrap();
}
