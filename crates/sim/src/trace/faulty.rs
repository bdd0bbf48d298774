//! A disk of which one operation, or every one from some point on, fails or lies.

use crate::disk::SimDisk;
use blockstore::live::{AlignedBuffer, Disk};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What happens to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails once, and this much of it happened anyway.
    FailsOnce(Effect),
    /// It and all later ones of its kind fail.
    Fails,
    /// It and everything later fails, whatever it is.
    AllFail,
    /// One bit of what is read or written is another.
    Flips(Place),
    /// It is acknowledged and does not happen.
    Lost,
    /// It happens so many bytes from where it should.
    Elsewhere(i64),
}

/// How much of an operation that reports an error happened anyway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing. A failed flush also loses what it should have made durable, as Linux does when it
    /// cannot write a page back.
    Nothing,
    /// Nothing. What a flush should have made durable is lost, and shown until nothing cached is.
    Cached,
    /// The first half.
    Half,
    /// Everything.
    Whole,
}

/// Where in an operation's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the first byte.
    First,
    /// In the one in the middle.
    Middle,
    /// In the last one.
    Last,
}

/// Kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    /// A write that is only started. An error comes with the next write or flush, and stays.
    Start,
    HandOver,
    Flush,
    Punch,
}

impl Fault {
    /// Whether the disk says what happens; otherwise it lies.
    pub(super) fn is_honest(self) -> bool {
        matches!(self, Self::FailsOnce(_) | Self::Fails | Self::AllFail)
    }

    /// Everything that can happen to an operation of a kind.
    pub(super) fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::Read => &[
                Self::FailsOnce(Effect::Nothing),
                Self::Fails,
                Self::AllFail,
                Self::Flips(Place::First),
                Self::Flips(Place::Middle),
                Self::Flips(Place::Last),
                Self::Lost,
                Self::Elsewhere(4096),
                Self::Elsewhere(-8192),
            ],
            Kind::Write | Kind::Start => &[
                Self::FailsOnce(Effect::Nothing),
                Self::FailsOnce(Effect::Half),
                Self::FailsOnce(Effect::Whole),
                Self::Fails,
                Self::AllFail,
                Self::Flips(Place::First),
                Self::Flips(Place::Middle),
                Self::Flips(Place::Last),
                Self::Lost,
                Self::Elsewhere(4096),
                Self::Elsewhere(-8192),
                Self::Elsewhere(131_072),
            ],
            Kind::Flush => &[
                Self::FailsOnce(Effect::Nothing),
                Self::FailsOnce(Effect::Cached),
                Self::FailsOnce(Effect::Whole),
                Self::Fails,
                Self::AllFail,
                Self::Lost,
            ],
            Kind::HandOver => &[Self::FailsOnce(Effect::Nothing), Self::AllFail],
            Kind::Punch => &[Self::FailsOnce(Effect::Nothing), Self::Fails, Self::Lost],
        }
    }
}

#[derive(Default)]
struct State {
    /// The kind of every operation so far.
    seen: Vec<Kind>,
    plan: Option<(usize, Fault)>,
    hit: bool,
    /// A started write has failed.
    broken: bool,
    /// A flush has failed, and what it should have made durable is lost.
    forgot: bool,
}

/// The disk.
pub(super) struct FaultyDisk {
    inner: Arc<SimDisk>,
    state: Mutex<State>,
}

/// What to do with one operation.
enum Verdict {
    Pass,
    Refuse(Effect),
    Distort(Fault),
}

impl FaultyDisk {
    pub(super) fn new(inner: Arc<SimDisk>, plan: Option<(usize, Fault)>) -> Self {
        Self { inner, state: Mutex::new(State { plan, ..State::default() }) }
    }

    /// The kinds of the operations so far.
    pub(super) fn seen(&self) -> Vec<Kind> {
        self.state().seen.clone()
    }

    /// Whether something failed or lied.
    pub(super) fn is_hit(&self) -> bool {
        self.state().hit
    }

    /// Whether a write that was accepted did not arrive, and nobody who reads it can know why.
    pub(super) fn is_broken(&self) -> bool {
        self.state().broken
    }

    /// Whether what was written and not flushed is lost.
    pub(super) fn has_forgotten(&self) -> bool {
        self.state().forgot
    }

    /// Another process opens the disk: it knows nothing of what failed before.
    pub(super) fn open_anew(&self) {
        self.state().broken = false;
    }

    fn check(&self) -> io::Result<()> {
        if self.state().broken { Err(refused()) } else { Ok(()) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, kind: Kind) -> Verdict {
        let mut state = self.state();
        let at = state.seen.len();
        state.seen.push(kind);
        let Some((planned, fault)) = state.plan else { return Verdict::Pass };
        let verdict = match fault {
            Fault::FailsOnce(effect) if at == planned => Verdict::Refuse(effect),
            Fault::Fails if at >= planned && state.seen[planned] == kind => {
                Verdict::Refuse(Effect::Nothing)
            }
            Fault::AllFail if at >= planned => Verdict::Refuse(Effect::Nothing),
            Fault::Flips(_) | Fault::Lost | Fault::Elsewhere(_) if at == planned => {
                Verdict::Distort(fault)
            }
            _ => Verdict::Pass,
        };
        state.hit |= !matches!(verdict, Verdict::Pass);
        verdict
    }
}

fn refused() -> io::Error {
    io::Error::other("the disk refuses")
}

/// The bytes of a write of this length that happen.
fn arriving(effect: Effect, length: usize) -> usize {
    match effect {
        Effect::Nothing | Effect::Cached => 0,
        Effect::Half => (length / 2).next_multiple_of(512),
        Effect::Whole => length,
    }
}

fn flip(bytes: &mut [u8], place: Place) {
    let at = match place {
        Place::First => 0,
        Place::Middle => bytes.len() / 2,
        Place::Last => bytes.len() - 1,
    };
    bytes[at] ^= 0x10;
}

impl Disk for FaultyDisk {
    fn read(&self, offset: u64, target: &mut [u8]) -> io::Result<()> {
        match self.judge(Kind::Read) {
            Verdict::Pass => self.inner.read(offset, target),
            Verdict::Refuse(_) => Err(refused()),
            Verdict::Distort(Fault::Elsewhere(by)) => {
                self.inner.read(offset.saturating_add_signed(by), target)
            }
            Verdict::Distort(fault) => {
                self.inner.read(offset, target)?;
                match fault {
                    Fault::Flips(place) => flip(target, place),
                    _ => target.fill(0),
                }
                Ok(())
            }
        }
    }

    fn write(&self, offset: u64, source: &[u8]) -> io::Result<()> {
        let verdict = self.judge(Kind::Write);
        self.check()?;
        match verdict {
            Verdict::Pass => self.inner.write(offset, source),
            Verdict::Refuse(effect) => {
                let bytes = arriving(effect, source.len());
                if bytes > 0 {
                    self.inner.write(offset, &source[..bytes])?;
                }
                Err(refused())
            }
            Verdict::Distort(Fault::Elsewhere(by)) => {
                self.inner.write(offset.saturating_add_signed(by), source)
            }
            Verdict::Distort(Fault::Flips(place)) => {
                let mut source = source.to_vec();
                flip(&mut source, place);
                self.inner.write(offset, &source)
            }
            Verdict::Distort(_) => Ok(()),
        }
    }

    fn start_write(&self, offset: u64, buffer: &mut AlignedBuffer) -> io::Result<()> {
        let verdict = self.judge(Kind::Start);
        self.check()?;
        match verdict {
            Verdict::Pass => self.inner.start_write(offset, buffer),
            Verdict::Refuse(effect) => {
                let bytes = arriving(effect, buffer.len());
                self.inner.start_and_lose(offset, buffer, bytes);
                self.state().broken = true;
                Ok(())
            }
            Verdict::Distort(Fault::Elsewhere(by)) => {
                self.inner.start_write(offset.saturating_add_signed(by), buffer)
            }
            Verdict::Distort(Fault::Flips(place)) => {
                flip(buffer, place);
                self.inner.start_write(offset, buffer)
            }
            Verdict::Distort(_) => {
                self.inner.start_and_lose(offset, buffer, 0);
                Ok(())
            }
        }
    }

    fn hand_over(&self) -> io::Result<()> {
        match self.judge(Kind::HandOver) {
            Verdict::Pass => self.inner.hand_over(),
            Verdict::Refuse(_) | Verdict::Distort(_) => Err(refused()),
        }
    }

    fn begin_tail(&self) -> io::Result<Option<AlignedBuffer>> {
        self.inner.begin_tail()
    }

    fn left_tail(&self) -> io::Result<Option<Vec<u8>>> {
        self.inner.left_tail()
    }

    fn end_tail(&self) -> io::Result<()> {
        self.inner.end_tail()
    }

    fn flush(&self) -> io::Result<()> {
        let verdict = self.judge(Kind::Flush);
        self.check()?;
        match verdict {
            Verdict::Pass => self.inner.flush(),
            Verdict::Refuse(effect) => {
                self.state().forgot |= effect != Effect::Whole;
                match effect {
                    Effect::Nothing | Effect::Half => self.inner.forget_pending(),
                    Effect::Cached => self.inner.forget_unseen(),
                    Effect::Whole => self.inner.flush()?,
                }
                Err(refused())
            }
            Verdict::Distort(_) => Ok(()),
        }
    }

    fn forget_cached(&self) -> io::Result<()> {
        self.inner.forget_cached()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        match self.judge(Kind::Punch) {
            Verdict::Pass => self.inner.punch(offset, length),
            Verdict::Refuse(_) => Err(refused()),
            Verdict::Distort(_) => Ok(()),
        }
    }
}
