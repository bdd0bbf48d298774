//! Long requests in pieces: a write as it comes, a range that is trimmed or zeroed piece after piece.
//!
//! The device works on one piece while the next is received, and pieces fit buffers that are used again.
//! NBD lets a server carry out a request that is not answered yet in any order and in parts; what it promises is the
//! answer. So a write has one, after its last piece, and a write that must be durable is flushed when
//! all pieces are in the device.
//!
//! With extended headers a range may be as long as the volume. The device is given a piece of it when it
//! has done the one before, so that other requests come in between.

use blockstore::page::PAGE_BYTES;

use crate::buffer::Buffer;
use crate::device::{Command, DeviceError, Durability, Hole};

/// Bytes of a piece at most: most clients' longest write. With a quarter and a half of it long writes
/// took no less time, and those that are not divided now took a little more.
pub(super) const PIECE_BYTES: usize = 1024 << 10;

/// How many of `left` bytes at `offset` make the next piece. It ends with the write, or where a page of
/// the device does: no page is written in two parts.
pub(super) fn piece_bytes(offset: u64, left: usize) -> usize {
    if left <= PIECE_BYTES { left } else { PIECE_BYTES - (offset % PAGE_BYTES as u64) as usize }
}

/// Bytes of a range at most that the device trims or zeroes at once: as much as it is given so by a
/// virtual machine.
pub(super) const RANGE_PIECE_BYTES: u64 = 1 << 30;

/// What becomes of a range.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Trim,
    Zeroes(Hole),
}

impl Effect {
    fn command(self, offset: u64, length: u64, durability: Durability) -> Command {
        match self {
            Self::Trim => Command::Trim { offset, length, durability },
            Self::Zeroes(hole) => Command::WriteZeroes { offset, length, hole, durability },
        }
    }
}

/// A request about a range, as commands of which the device is given each when it has done the one before.
pub(super) struct Range {
    effect: Effect,
    durability: Durability,
    /// It has more than one piece.
    divided: bool,
    rest: Rest,
}

/// What the device was not given yet.
enum Rest {
    Bytes { offset: u64, left: u64 },
    Flush,
    Nothing,
}

impl Range {
    /// A range that has at least one command, also when it is empty.
    pub(super) fn new(effect: Effect, offset: u64, length: u64, durability: Durability) -> Self {
        let divided = length > RANGE_PIECE_BYTES;
        Self { effect, durability, divided, rest: Rest::Bytes { offset, left: length } }
    }

    fn piece(&mut self, offset: u64, left: u64) -> Command {
        // As with writes, a piece ends where a page does.
        let length = match left {
            ..=RANGE_PIECE_BYTES => left,
            _ => RANGE_PIECE_BYTES - offset % PAGE_BYTES as u64,
        };
        self.rest = match left - length {
            0 if self.divided && self.durability == Durability::Durable => Rest::Flush,
            0 => Rest::Nothing,
            left => Rest::Bytes { offset: offset + length, left },
        };
        let durability = if self.divided { Durability::Buffered } else { self.durability };
        self.effect.command(offset, length, durability)
    }
}

impl Iterator for Range {
    type Item = Command;

    fn next(&mut self) -> Option<Command> {
        match self.rest {
            Rest::Bytes { offset, left } => Some(self.piece(offset, left)),
            Rest::Flush => {
                self.rest = Rest::Nothing;
                Some(Command::Flush)
            }
            Rest::Nothing => None,
        }
    }
}

/// A piece that is still arriving.
pub(super) struct Arriving {
    /// Of its write.
    pub(super) tag: u32,
    /// Where it goes.
    pub(super) offset: u64,
    pub(super) data: Buffer,
    /// Bytes of `data` that are there.
    pub(super) filled: usize,
    /// Bytes of the write that come behind it.
    pub(super) behind: usize,
}

/// What has become of a write so far.
pub(super) struct Pieces {
    durability: Durability,
    /// Pieces that the device has not answered.
    under_way: usize,
    /// Not all of it was received.
    arriving: bool,
    /// It had more than one piece.
    divided: bool,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    /// The first error. What is received afterwards is thrown away.
    Failed(DeviceError),
    /// The client went before it had sent all of it. Nobody is answered.
    Abandoned,
}

/// What is to be done about a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Something is under way, or more is to come.
    Wait,
    /// Every piece is in the device and has to become durable.
    Flush,
    Answer(Result<(), DeviceError>),
    /// It is over, and there is nobody to tell.
    Forget,
}

impl Pieces {
    /// A write of which nothing was received.
    pub(super) fn new(durability: Durability) -> Self {
        let outcome = Outcome::Good;
        Self { durability, under_way: 0, arriving: true, divided: false, outcome }
    }

    /// Takes note of a piece that was received, with `behind` bytes still to come. Says with which
    /// durability the device is to have it; `None` when it is of no use any more.
    pub(super) fn received(&mut self, behind: usize) -> Option<Durability> {
        self.arriving = behind > 0;
        self.divided |= self.arriving;
        if self.outcome != Outcome::Good {
            return None;
        }
        self.under_way += 1;
        // A device promises that a flush covers what was answered before it, and no more.
        Some(if self.divided { Durability::Buffered } else { self.durability })
    }

    /// Takes note of the device's answer to a piece.
    pub(super) fn answered(&mut self, result: Result<(), DeviceError>) {
        assert!(self.under_way > 0, "an answer to a piece that was not handed over");
        self.under_way -= 1;
        if let (Err(error), Outcome::Good) = (result, self.outcome) {
            self.outcome = Outcome::Failed(error);
        }
    }

    /// Nothing more of it will come.
    pub(super) fn abandon(&mut self) {
        self.arriving = false;
        self.outcome = Outcome::Abandoned;
    }

    pub(super) fn next(&self) -> Next {
        match self.outcome {
            _ if self.under_way > 0 || self.arriving => Next::Wait,
            Outcome::Good if self.divided && self.durability == Durability::Durable => Next::Flush,
            Outcome::Good => Next::Answer(Ok(())),
            Outcome::Failed(error) => Next::Answer(Err(error)),
            Outcome::Abandoned => Next::Forget,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_where_pages_do() {
        for (offset, length, count) in [
            (0, PIECE_BYTES, 1),
            (1, PIECE_BYTES, 1),
            (0, PIECE_BYTES + 1, 2),
            (4095, 3 * PIECE_BYTES, 4),
            (8192, 10, 1),
            (5, 0, 0),
        ] {
            let (mut at, mut left, mut pieces) = (offset, length, 0);
            while left > 0 {
                pieces += 1;
                let piece = piece_bytes(at, left);
                assert!((1..=PIECE_BYTES).contains(&piece));
                at += piece as u64;
                left -= piece;
                assert!(left == 0 || at % PAGE_BYTES as u64 == 0, "{offset} {length} {at}");
            }
            assert_eq!((at, pieces), (offset + length as u64, count));
        }
    }

    #[test]
    fn a_write_of_one_piece_is_as_durable_as_it_was_asked_for() {
        for durability in [Durability::Buffered, Durability::Durable] {
            let mut write = Pieces::new(durability);
            assert_eq!(write.next(), Next::Wait);
            assert_eq!(write.received(0), Some(durability));
            assert_eq!(write.next(), Next::Wait);
            write.answered(Ok(()));
            assert_eq!(write.next(), Next::Answer(Ok(())));
        }
    }

    #[test]
    fn pieces_are_flushed_together() {
        let mut write = Pieces::new(Durability::Durable);
        assert_eq!(write.received(10), Some(Durability::Buffered));
        write.answered(Ok(()));
        assert_eq!(write.next(), Next::Wait, "more is to come");
        assert_eq!(write.received(0), Some(Durability::Buffered));
        assert_eq!(write.next(), Next::Wait);
        write.answered(Ok(()));
        assert_eq!(write.next(), Next::Flush);
    }

    #[test]
    fn the_first_error_is_the_answer_once_everything_was_received() {
        let mut write = Pieces::new(Durability::Durable);
        assert!(write.received(20).is_some());
        assert!(write.received(10).is_some());
        write.answered(Err(DeviceError::NoSpace));
        write.answered(Err(DeviceError::Io));
        assert_eq!(write.next(), Next::Wait, "the client is still sending");
        assert_eq!(write.received(0), None, "the rest is of no use");
        assert_eq!(write.next(), Next::Answer(Err(DeviceError::NoSpace)));
    }

    #[test]
    fn ranges_are_covered_by_pieces_that_end_where_pages_do() {
        for (offset, length, count) in [
            (0, 0, 1),
            (0, RANGE_PIECE_BYTES, 1),
            (1, RANGE_PIECE_BYTES, 1),
            (0, RANGE_PIECE_BYTES + 1, 2),
            (4095, 3 * RANGE_PIECE_BYTES, 4),
            (8192, 64 << 40, 64 << 10),
        ] {
            for durability in [Durability::Buffered, Durability::Durable] {
                let (mut at, mut pieces, mut flushes) = (offset, 0, 0);
                for command in Range::new(Effect::Zeroes(Hole::Refused), offset, length, durability)
                {
                    let Command::WriteZeroes { offset, length, hole, durability: each } = command
                    else {
                        flushes += 1;
                        continue;
                    };
                    assert_eq!((offset, hole, flushes), (at, Hole::Refused, 0));
                    assert!(length <= RANGE_PIECE_BYTES);
                    let asked = if count == 1 { durability } else { Durability::Buffered };
                    assert_eq!(each, asked, "pieces are flushed together");
                    at += length;
                    pieces += 1;
                }
                assert_eq!((at, pieces), (offset + length, count));
                assert_eq!(flushes > 0, count > 1 && durability == Durability::Durable);
                assert!(flushes <= 1);
            }
        }
    }

    #[test]
    fn nobody_is_told_of_an_abandoned_write() {
        let mut write = Pieces::new(Durability::Durable);
        assert!(write.received(10).is_some());
        write.abandon();
        assert_eq!(write.next(), Next::Wait, "a piece is under way");
        write.answered(Err(DeviceError::Io));
        assert_eq!(write.next(), Next::Forget);
    }
}
