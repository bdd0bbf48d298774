//! Giving the space of dead segments back to the file system.
//!
//! A checkpoint finds segments that nothing refers to any more. They wait while somebody reads the stored
//! state beside the engine ([`super::pin`]), and are then given back in pieces between requests: a file
//! system takes some ten milliseconds for a segment of 64 MiB, in which nobody can use the file, and a
//! discard or a dropped cut may leave thousands. A guest that is at work waits for one piece at a time, now
//! and then, and more of them follow what it writes, so that it does not fill the disk meanwhile. Only where
//! space is short everybody waits for all of it.
//!
//! Invariants:
//! - A segment is dead in the stored state before any of it is given back, and is not written again before
//!   all of it is. A crash in between leaves it dead; the next opening goes on with it.
//! - What is being given back needs nobody's leave any more: a reader who came later does not know of it.

use super::engine::Engine;
use super::layout::{SegmentIndex, byte_offset};
use std::collections::BTreeSet;

/// Beside a busy guest a piece is given back in one of so many steps.
const BUSY_STEPS: u32 = 8;
/// And for each segment that the log opens, so many segments: what is written kills as much, and merging and
/// cleaning open others.
const OWED_SEGMENTS: u64 = 2;
/// Of what that comes to, one part of so many in a step.
const OWED_STEPS: u64 = 8;

/// The dead segments of a volume.
#[derive(Default)]
pub(super) struct Dead {
    /// Of the last checkpoint, while somebody may read them.
    withheld: BTreeSet<SegmentIndex>,
    /// Those that are given back next.
    due: BTreeSet<SegmentIndex>,
    /// The one that is being given back, and how many of its bytes are.
    begun: Option<(SegmentIndex, u64)>,
    /// Steps beside a busy guest.
    busy_steps: u32,
    /// How many segments the log had opened at the last step.
    clock: u32,
    /// Pieces to be given back for what the log has opened.
    owed: u64,
}

impl Dead {
    /// Whether a segment is one of them.
    pub(super) fn contains(&self, segment: SegmentIndex) -> bool {
        self.withheld.contains(&segment) || self.is_released(segment)
    }

    fn is_released(&self, segment: SegmentIndex) -> bool {
        self.due.contains(&segment) || self.begun.is_some_and(|(begun, _)| begun == segment)
    }

    /// Notes what a checkpoint found dead. What waited then still is, or is being given back.
    fn note(&mut self, dead: impl Iterator<Item = SegmentIndex>) {
        self.withheld = dead.filter(|segment| !self.is_released(*segment)).collect();
    }

    fn is_empty(&self) -> bool {
        self.withheld.is_empty() && !self.is_due()
    }

    /// How many segments the log has opened since this was last asked.
    fn opened_until(&mut self, clock: u32) -> u32 {
        clock - std::mem::replace(&mut self.clock, clock)
    }

    /// Whether there is something to give back that nobody has to be asked for.
    fn is_due(&self) -> bool {
        self.begun.is_some() || !self.due.is_empty()
    }
}

impl Engine {
    /// Notes what is dead now that a superblock is durable. Gives back all of it at once where space is
    /// short, as far as nobody reads it.
    pub(super) fn note_dead(&mut self) {
        let kept = self.kept_segments();
        self.dead.note(self.table.dead(self.merged, &kept).into_iter());
        if self.space.is_short() {
            self.give_back_all();
        }
    }

    /// Notes segments that an opening found dead: the end of a server, or of its power, may have come before
    /// they were given back. Those that were opened again meanwhile are left out.
    pub(super) fn note_unused(&mut self, unused: Vec<SegmentIndex>) {
        self.dead.clock = self.table.clock();
        let table = &mut self.table;
        self.dead.due.extend(unused.into_iter().filter(|segment| table.reserve(*segment)));
    }

    /// Gives back a bounded part of what is dead, or all of it where space is short. Returns whether there is
    /// more. Call it after requests, and while idle; a guest that is `busy` is spared as long as the file does
    /// not grow for it.
    pub fn give_back_step(&mut self, busy: bool) -> bool {
        let opened = self.dead.opened_until(self.table.clock());
        if self.dead.is_empty() {
            return false;
        }
        if self.space.is_short() {
            self.give_back_all();
            return false;
        }
        self.ask_readers();
        if !self.dead.is_due() {
            self.dead.owed = 0;
            return false;
        }
        let pieces = if busy { self.pieces_beside_guest(opened) } else { 1 };
        for _ in 0..pieces {
            self.give_back_piece();
        }
        self.dead.is_due()
    }

    /// How many pieces a step beside a busy guest gives back, when the log has opened so many segments since
    /// the one before.
    fn pieces_beside_guest(&mut self, opened: u32) -> u64 {
        self.dead.owed += u64::from(opened) * OWED_SEGMENTS * self.segment_pieces();
        self.dead.busy_steps = self.dead.busy_steps.wrapping_add(1);
        let now = self.dead.owed.div_ceil(OWED_STEPS);
        self.dead.owed -= now;
        now.max(u64::from(self.dead.busy_steps.is_multiple_of(BUSY_STEPS)))
    }

    /// Pieces in which a segment is given back.
    pub(super) fn segment_pieces(&self) -> u64 {
        self.ctx.geometry.segment_bytes().div_ceil(self.ctx.config.give_back_bytes)
    }

    /// Gives back what is dead, unless somebody reads the stored state beside the engine. Returns whether
    /// there was something.
    pub(super) fn give_back_all(&mut self) -> bool {
        self.ask_readers();
        let is_due = self.dead.is_due();
        while self.dead.is_due() {
            self.give_back_piece();
        }
        is_due
    }

    /// Has what waited for readers be given back, if there are none or it cannot wait longer.
    fn ask_readers(&mut self) {
        let waiting = self.dead.withheld.len();
        if waiting > 0 && self.pin.allows_release(waiting, self.space.is_short()) {
            self.dead.due.append(&mut self.dead.withheld);
        }
    }

    fn give_back_piece(&mut self) {
        let begun = self.dead.begun.take();
        let Some((segment, given)) = begun.or_else(|| Some((self.dead.due.pop_first()?, 0))) else {
            return;
        };
        let geometry = self.ctx.geometry;
        let length = self.ctx.config.give_back_bytes.min(geometry.segment_bytes() - given);
        let start = byte_offset(geometry.start(segment)) + given;
        let given = match self.ctx.disk.punch(start, length) {
            Ok(()) => given + length,
            // Other pieces would fail as well. An opening that finds it dead tries again.
            Err(error) => {
                tracing::warn!(%error, segment, "space of a dead segment was not given back");
                geometry.segment_bytes()
            }
        };
        if given < geometry.segment_bytes() {
            self.dead.begun = Some((segment, given));
            return;
        }
        self.openers.remove(segment);
        self.unemptied.remove(&segment);
        self.put_off.take_if(|round| !round.outlives(segment));
        self.table.release(segment);
    }
}
