//! Short traces: what is asked of a volume, one request after the other.

use Ask::{
    Checkpoint, Clean, Cut, Die, Discard, Drop, Flush, Grow, Maintain, Read, Reopen, Sectors,
    Write, Zero,
};
use base::SeededRng;

/// Pages of the volume in the beginning.
pub(super) const PAGES: u64 = 1024;

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// New content for pages.
    Write(u64, u64),
    /// New content for sectors, which need not begin or end with a page.
    Sectors(u64, u64),
    /// Zeros for pages.
    Zero(u64, u64),
    /// Pages that are not needed any more.
    Discard(u64, u64),
    /// Every page that was ever written, compared.
    Read,
    /// Everything so far is to be durable.
    Flush,
    /// Everything so far is to be merged.
    Checkpoint,
    /// Work that is due, in one step.
    Maintain,
    /// A cut with this number.
    Cut(u32),
    /// No cut with this number any more.
    Drop(u32),
    /// Sparse segments are to be emptied.
    Clean,
    /// More pages at the end.
    Grow(u64),
    /// Closed and opened again.
    Reopen,
    /// The process dies and another one opens the volume. What was not flushed is still on its way
    /// to the disk.
    Die,
}

/// A trace with a name that says what it is about.
#[derive(Clone, Debug)]
pub struct Script {
    /// For reports.
    pub name: String,
    /// The requests.
    pub asks: Vec<Ask>,
}

/// The traces that every change is tried with, and what each is about.
const SCRIPTED: &[(&str, &[Ask])] = &[
    (
        "writes and flushes",
        &[
            Write(0, 3),
            Flush,
            Write(1, 2),
            Write(0, 1),
            Flush,
            Sectors(13, 20),
            Checkpoint,
            Write(5, 2),
            Zero(0, 2),
            Flush,
            Write(2, 1),
            Read,
        ],
    ),
    (
        "nothing is ever flushed",
        &[
            Write(0, 9),
            Write(4, 9),
            Zero(6, 2),
            Write(0, 20),
            Sectors(3, 9),
            Write(30, 20),
            Discard(8, 20),
            Write(9, 3),
            Read,
        ],
    ),
    (
        "the log goes on in the next segment",
        &[
            Write(0, 24),
            Write(24, 24),
            Write(8, 24),
            Flush,
            Write(0, 30),
            Write(2, 30),
            Flush,
            Write(1, 9),
            Read,
        ],
    ),
    (
        "cuts are taken and dropped",
        &[
            Write(0, 3),
            Flush,
            Cut(1),
            Write(1, 3),
            Cut(2),
            Write(0, 2),
            Checkpoint,
            Drop(1),
            Write(3, 1),
            Flush,
            Drop(2),
            Checkpoint,
            Write(1, 1),
            Read,
        ],
    ),
    (
        "a segment is emptied and used again",
        &[
            Write(0, 60),
            Flush,
            Write(0, 25),
            Checkpoint,
            Write(30, 25),
            Checkpoint,
            Clean,
            Checkpoint,
            Write(3, 60),
            Flush,
            Clean,
            Checkpoint,
            Read,
        ],
    ),
    (
        "the volume grows",
        &[
            Write(1020, 4),
            Flush,
            Grow(700),
            Write(1022, 5),
            Flush,
            Grow(20_000),
            Write(20_000, 2),
            Cut(1),
            Grow(16),
            Zero(1021, 3),
            Checkpoint,
            Read,
        ],
    ),
    (
        "closed and opened",
        &[
            Write(0, 5),
            Reopen,
            Write(2, 5),
            Flush,
            Cut(1),
            Reopen,
            Write(0, 2),
            Drop(1),
            Reopen,
            Discard(1, 3),
            Flush,
            Read,
        ],
    ),
    (
        "the process dies",
        &[
            Write(0, 5),
            Flush,
            Write(3, 30),
            Write(9, 30),
            Die,
            Write(1, 2),
            Flush,
            Die,
            Write(2, 3),
            Checkpoint,
            Die,
            Read,
        ],
    ),
    (
        "zeros over what is there",
        &[
            Write(0, 40),
            Flush,
            Discard(0, 30),
            Write(3, 2),
            Flush,
            Zero(20, 300),
            Checkpoint,
            Discard(2, 9),
            Write(5, 1),
            Flush,
            Read,
        ],
    ),
    (
        "merging between requests",
        &[
            Write(0, 9),
            Maintain,
            Write(200, 9),
            Flush,
            Maintain,
            Write(3, 12),
            Maintain,
            Write(400, 12),
            Maintain,
            Maintain,
            Flush,
            Read,
        ],
    ),
];

/// The traces that every change is tried with.
pub fn scripts() -> Vec<Script> {
    let script =
        |(name, asks): &(&str, &[Ask])| Script { name: (*name).to_owned(), asks: asks.to_vec() };
    SCRIPTED.iter().map(script).collect()
}

/// A dozen requests that a seed decides.
pub fn random(seed: u64) -> Script {
    let rng = SeededRng::new(seed ^ 0x0074_7261_6365);
    let (mut asks, mut cuts) = (Vec::new(), 0);
    for _ in 0..12 {
        let lba = [0, 0, 16, 120, 900][rng.below(5) as usize] + rng.below(24);
        let count = 1 + rng.below(24);
        asks.push(match rng.below(21) {
            0..7 => Ask::Write(lba, count),
            7 => Ask::Sectors(lba * 8 + rng.below(8), count),
            8 => Ask::Zero(lba, count * 4),
            9 => Ask::Discard(lba, count * 4),
            10..13 => Ask::Flush,
            13 => Ask::Checkpoint,
            14 => Ask::Maintain,
            15 => {
                cuts += 1;
                Ask::Cut(cuts)
            }
            16 if cuts > 0 => Ask::Drop(1 + rng.below(u64::from(cuts)) as u32),
            17 => Ask::Clean,
            18 => Ask::Grow(1 + rng.below(2000)),
            19 => Ask::Die,
            _ => Ask::Reopen,
        });
    }
    Script { name: format!("seed {seed}"), asks }
}
