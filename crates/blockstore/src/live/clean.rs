//! The cleaner: copies what is live out of segments that are mostly dead, so that the next
//! checkpoint gives them back.
//!
//! It works in rounds. A round chooses victims, reads from their descriptors which pages they may
//! still hold, sorts those by address, and copies them in that order to the stream of moved pages
//! ([`super::cold`]). It does so in small steps, between requests; how many steps depends on how
//! much the guest writes ([`Engine::is_cleaning_due`]), so that cleaning keeps up and no more.
//!
//! A victim is chosen by what it gives and costs: dead pages gained per live page copied, times a power
//! of its age. The more the guest overwrites what is young ([`super::lifetimes`]), the more that is left
//! alone, because more of it will die by itself.
//!
//! While cuts are retained, only segments that were opened after the newest of them are cleaned.
//! What a cut refers to stays where it is until the cut is dropped: moving it would mean to rewrite
//! maps that exports are reading, for copies that live as long as an export.
//!
//! Copies are sealed anew, so cleaning needs the data key. Without it a volume still gives back
//! every segment that is wholly dead.
//!
//! What a victim holds is found in [`super::survivors`]. Where only a walk of the whole map tells, that
//! is put off while a write waits for space ([`super::space`]). What cannot be read stays where it is. A
//! victim that still holds something when its round is part of a checkpoint is left alone until the
//! volume is opened again: it would be the best victim for ever, and give nothing.

use super::Error;
use super::cold::{Moment, Moving};
use super::delta::{Entry, split};
use super::engine::Engine;
use super::layout::{ABSENT, CHUNK_ENTRIES_MAX, Geometry, Location, SegmentIndex};
use super::segment::{Segment, SegmentKind};
use super::survivors::{Counting, Scanned, Walk};
use crate::page::{Lba, PAGE_BYTES, Salt, Tag};

/// Segments a volume may have beyond what its live data needs: those being filled.
const SLACK_SEGMENTS: u64 = 4;
/// A round begins when this part of the allowance is exceeded. Each round ends with a checkpoint,
/// which rewrites every leaf that a moved page is in; small rounds would be mostly that.
const EXCESS_SHARE: u64 = 16;
/// A busy guest is left alone until the excess is this part of the allowance, where space is ample:
/// what it overwrites soon need not be copied, and what is left is cleaned when it pauses.
const BURST_SHARE: u64 = 2;
/// Live pages of the victims of one round: 1 GiB, and 4 MiB of memory to sort them in.
const ROUND_PAGES_MAX: u64 = 256 << 10;
/// Segments with fewer dead pages than one in this many are not worth copying.
const DEAD_SHARE_MIN: u32 = 16;
/// Pages looked at in one step, moved or not.
pub(super) const LOOK_PAGES: usize = 1024;

/// What a call of [`Engine::clean`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanReport {
    /// Segments whose live pages were copied out; the next checkpoint gives them back.
    pub segments: u32,
    /// Pages that were copied.
    pub pages: u32,
}

/// A segment to be emptied.
#[derive(Clone, Copy)]
pub(super) struct Victim {
    pub(super) index: SegmentIndex,
    kind: SegmentKind,
    pub(super) salt: Salt,
    live: u32,
    score: f64,
}

/// What a step of a round is about.
enum Stage {
    /// Reads the descriptors of the last victim, from a position on; what they name goes behind the
    /// first so many that were found.
    Scan { position: u32, first: usize },
    /// Counts how many of the pages found for the last victim are live.
    Count(Counting),
    /// Looks for what only the map can tell.
    Walk(Walk),
    /// Copies pages, from a place in the sorted list on.
    Copy { next: usize },
}

/// What a round is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Space that nobody waits for.
    Upkeep,
    /// Space for a write that waits.
    Write,
    /// Nothing but the order of pages.
    Order,
}

/// Segments on their way out.
pub(super) struct Round {
    purpose: Purpose,
    /// Segments of the log whose descriptors are still to be read.
    victims: Vec<Victim>,
    pub(super) map_victims: Vec<SegmentIndex>,
    /// Segments of the log with live pages that no descriptor names.
    pub(super) unnamed: Vec<SegmentIndex>,
    /// All of them.
    pub(super) all: Vec<Victim>,
    pub(super) found: Vec<(Lba, Location)>,
    /// The volume's generation when it began.
    generation: u32,
    stage: Stage,
}

/// When what a victim held was copied out.
pub(super) struct Emptied {
    /// The victim's salt: one that died meanwhile may be in use again.
    salt: Salt,
    /// The layer that says so.
    layer: u64,
    /// The volume's generation when its round began.
    generation: u32,
}

impl Round {
    /// A round that copies pages, in the order of their addresses, and empties nothing.
    pub(super) fn of_order(found: Vec<(Lba, Location)>, generation: u32) -> Self {
        Self {
            purpose: Purpose::Order,
            victims: Vec::new(),
            map_victims: Vec::new(),
            unnamed: Vec::new(),
            all: Vec::new(),
            found,
            generation,
            stage: Stage::Copy { next: 0 },
        }
    }

    /// Goes on with the victim before the last one.
    fn next_victim(&mut self) {
        self.victims.pop();
        self.stage = Stage::Scan { position: 1, first: self.found.len() };
    }

    /// Whether a segment is one of the victims.
    fn has(&self, segment: SegmentIndex) -> bool {
        self.all.iter().any(|victim| victim.index == segment)
    }

    /// Forgets a victim that has died. Returns whether there are others.
    pub(super) fn outlives(&mut self, dead: SegmentIndex) -> bool {
        self.all.retain(|victim| victim.index != dead);
        self.unnamed.retain(|index| *index != dead);
        !self.all.is_empty()
    }

    /// Whether pages of a segment are being copied: they do not die there.
    pub(super) fn copies_from(&self, segment: SegmentIndex) -> bool {
        self.frees_nothing() || self.has(segment)
    }

    pub(super) fn frees_nothing(&self) -> bool {
        self.purpose == Purpose::Order
    }

    /// Takes out the segments of which only a walk of the whole map tells what they hold, as a round of
    /// their own.
    fn split_unnamed(&mut self, geometry: Geometry, walk: Walk) -> Round {
        let unnamed = std::mem::take(&mut self.unnamed);
        let is_there = |location| {
            geometry.split(location).is_some_and(|(segment, _)| unnamed.contains(&segment))
        };
        let found = self.found.extract_if(.., |(_, location)| is_there(*location)).collect();
        let all = self.all.extract_if(.., |victim| unnamed.contains(&victim.index)).collect();
        Round {
            purpose: Purpose::Upkeep,
            victims: Vec::new(),
            map_victims: Vec::new(),
            unnamed,
            all,
            found,
            generation: self.generation,
            stage: Stage::Walk(walk),
        }
    }
}

impl Engine {
    /// Copies the live pages out of up to `segments_max` segments of which at most
    /// `live_percent_max` percent is live. The segments are given back by a later checkpoint.
    ///
    /// # Errors
    /// When the data key is absent, something read is damaged, or the disk fails.
    pub fn clean(
        &mut self,
        segments_max: usize,
        live_percent_max: u32,
    ) -> Result<CleanReport, Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        if self.ctx.data.is_none() {
            return Err(Error::KeyAbsent);
        }
        let limit = u64::from(self.ctx.geometry.segment_pages) * u64::from(live_percent_max);
        let mut victims = self.candidates().victims;
        victims.retain(|victim| u64::from(victim.live) * 100 <= limit);
        victims.truncate(segments_max);
        let mut report = CleanReport { segments: victims.len() as u32, ..CleanReport::default() };
        let mut round = self.begin(victims, Purpose::Upkeep);
        while !self.step(&mut round, &mut report)? {}
        self.note_cleaned(&round);
        Ok(report)
    }

    /// Does a small piece of the cleaning that is worth it now. Returns whether another call would
    /// find more to do. Does nothing without the data key.
    ///
    /// # Errors
    /// As [`Engine::clean`].
    pub fn clean_step(&mut self) -> Result<bool, Error> {
        self.clean_for(Purpose::Upkeep)
    }

    /// As [`Engine::clean_step`]; while a write waits, what takes long is put off.
    pub(super) fn clean_for(&mut self, purpose: Purpose) -> Result<bool, Error> {
        if self.failed || self.ctx.data.is_none() {
            return Ok(false);
        }
        self.set_pace();
        // What was emptied comes first: a walk may take hours.
        let is_free = self.round.is_none() && self.cleaned.is_empty();
        let put_off = self.put_off.take_if(|_| is_free && purpose != Purpose::Write);
        let mut round = match self.round.take().or(put_off) {
            Some(mut round) if purpose == Purpose::Write => {
                self.hurry(&mut round);
                round
            }
            Some(round) => round,
            None if !self.cleaned.is_empty() => return self.finish_round(),
            None => match self.plan(purpose) {
                Some(round) => round,
                None => {
                    self.owed_pages = 0;
                    match self.plan_order()? {
                        Some(round) => round,
                        None => return Ok(false),
                    }
                }
            },
        };
        let mut report = CleanReport::default();
        let done = match self.step(&mut round, &mut report) {
            Ok(done) => done,
            Err(error) => {
                // It goes on where it is, when the disk is back.
                self.round = Some(round);
                return Err(error);
            }
        };
        self.owed_pages =
            self.owed_pages.saturating_sub(u64::from(report.pages).max(CHUNK_ENTRIES_MAX as u64));
        if !done {
            self.round = Some(round);
        } else if round.frees_nothing() {
            // What it left dead is counted before there is more of it.
            return self.finish_round();
        } else {
            self.note_cleaned(&round);
        }
        Ok(true)
    }

    /// Whether there is something to clean that was put off.
    pub fn is_cleaning_put_off(&self) -> bool {
        self.put_off.is_some()
    }

    /// A write waits for a round that was begun at leisure.
    fn hurry(&mut self, round: &mut Round) {
        round.purpose = Purpose::Write;
        if !round.unnamed.is_empty()
            && let Stage::Walk(begun) = &mut round.stage
        {
            let begun = std::mem::replace(begun, self.begin_walk(&round.map_victims, &[]));
            self.put_off(round.split_unnamed(self.ctx.geometry, begun));
        }
    }

    /// Leaves a round that walks the whole map to when no write waits.
    fn put_off(&mut self, mut round: Round) {
        if let Some(before) = self.put_off.take() {
            round.unnamed.extend(before.unnamed);
            round.all.extend(before.all);
            round.found.extend(before.found);
            round.generation = before.generation;
            // From the beginning, for all of them.
            round.stage = Stage::Walk(self.begin_walk(&[], &round.unnamed));
        }
        self.put_off = Some(round);
    }

    /// Whether the guest has written so much since the last step that another one is due even
    /// though the volume is busy.
    pub fn is_cleaning_due(&self) -> bool {
        self.owed_pages >= CHUNK_ENTRIES_MAX as u64
    }

    /// Notes that the guest wrote a page: the further the volume is beyond its allowance, the more
    /// pages the cleaner copies for it.
    pub(super) fn note_guest_page(&mut self) {
        if self.excess_share > 0 {
            self.owed_pages += self.excess_share;
        }
    }

    /// A round's copies become the only ones with the checkpoint that this begins.
    fn finish_round(&mut self) -> Result<bool, Error> {
        if self.frozen.is_empty() {
            self.mutate(|engine| engine.freeze(None))?;
        }
        Ok(true)
    }

    fn note_cleaned(&mut self, round: &Round) {
        // Runs may lie there too.
        self.active.is_for_leaves |= !round.map_victims.is_empty();
        let (layer, generation) = (self.active.id, round.generation);
        let emptied =
            |victim: &Victim| (victim.index, Emptied { salt: victim.salt, layer, generation });
        self.cleaned.extend(round.all.iter().map(emptied));
    }

    /// Forgets the victims whose copies the last checkpoint has, before the dead ones are released. One
    /// that still holds something could not be emptied, unless a cut that was taken meanwhile holds it.
    pub(super) fn settle_cleaned(&mut self) {
        let (merged, generation) = (self.merged, self.log.generation);
        let settled = self.cleaned.extract_if(.., |_, emptied| emptied.layer <= merged);
        for (index, emptied) in settled {
            let is_it = |segment: &&Segment| segment.salt == emptied.salt;
            let holds = self.table.get(index).filter(is_it).is_some_and(|segment| segment.live > 0);
            if holds && emptied.generation == generation {
                tracing::warn!(segment = index, "a segment could not be emptied and is left alone");
                self.unemptied.insert(index);
            }
        }
    }

    /// Says how fast a busy guest is cleaned for, as of the last checkpoint: only a checkpoint
    /// changes what a volume takes. A round may last for many of them.
    fn set_pace(&mut self) {
        if self.paced == self.committed.epoch {
            return;
        }
        self.paced = self.committed.epoch;
        let (mut used, mut live) = (0, 0);
        for segment in self.counted().map(|(_, segment)| segment) {
            used += 1;
            live += u64::from(segment.live);
        }
        let allowed = self.allowed_segments(live) + SLACK_SEGMENTS;
        self.allowed_bytes = allowed * self.ctx.geometry.segment_bytes();
        let bearable = if self.space.is_short() { 0 } else { allowed / BURST_SHARE };
        let excess = u64::saturating_sub(used, allowed + bearable);
        // In eighths of what begins a round, so that the pace grows with the excess.
        self.excess_share = (excess * 2 / (allowed / EXCESS_SHARE).max(1)).min(8);
    }

    /// Segments in use that a checkpoint has counted. Those that cannot be emptied are no reason to
    /// empty others again and again, nor are those that are dead already and wait to be given back.
    fn counted(&self) -> impl Iterator<Item = (SegmentIndex, &Segment)> {
        self.table.iter().filter(|(index, segment)| {
            segment.kind != SegmentKind::Free
                && segment.newest_layer <= self.merged
                && !self.unemptied.contains(index)
                && !self.dead.contains(*index)
        })
    }

    /// Chooses victims, if the volume takes more space than its live data should need.
    fn plan(&mut self, purpose: Purpose) -> Option<Round> {
        let candidates = self.candidates();
        let excess = candidates.used.saturating_sub(candidates.allowed);
        let step = (candidates.allowed / EXCESS_SHARE).max(1);
        let pressed = self.space.is_short();
        if excess == 0 || (excess < step && !pressed) {
            return None;
        }
        let pages = u64::from(self.ctx.geometry.segment_pages);
        // What is copied needs space before the victims give theirs.
        let live_max = if pressed { self.round_segments() * pages } else { ROUND_PAGES_MAX };
        let (mut live, mut gained) = (0, 0);
        let mut victims = candidates.victims;
        let count = victims.iter().take_while(|victim| {
            live += u64::from(victim.live);
            let wanted = gained < excess * pages && (live <= live_max || gained == 0);
            gained += pages - u64::from(victim.live);
            wanted
        });
        let count = count.count();
        victims.truncate(count);
        (count > 0).then(|| self.begin(victims, purpose))
    }

    /// What could be cleaned, best first, and whether it should.
    pub(super) fn candidates(&self) -> Candidates {
        let pages = self.ctx.geometry.segment_pages;
        let kept = self.kept_segments();
        let fence = self.newest_cut();
        let bytes_max = self.ctx.config.settled_bytes_max();
        let exponent = self.lifetimes.exponent();
        let is_merge_near = self.settled.is_merge_near(self.active.bytes, bytes_max);
        let (mut used, mut live) = (0, 0);
        let (mut victims, mut early) = (Vec::new(), Vec::new());
        for (index, segment) in self.counted() {
            used += 1;
            live += u64::from(segment.live);
            let is_free_soon = segment.live == 0 || self.cleaned.contains_key(&index);
            let is_held =
                fence > 0 && (segment.kind == SegmentKind::Map || segment.generation <= fence);
            let is_full = (pages - segment.live) < pages / DEAD_SHARE_MIN;
            let is_put_off = self.put_off.as_ref().is_some_and(|round| round.has(index));
            if is_free_soon || is_held || is_full || is_put_off || kept.contains(&index) {
                continue;
            }
            // To empty one of the map, leaves are rewritten, and all that is settled with them.
            let is_early = segment.kind == SegmentKind::Map && !is_merge_near;
            let victims = if is_early { &mut early } else { &mut victims };
            victims.push(Victim {
                index,
                kind: segment.kind,
                salt: segment.salt,
                live: segment.live,
                score: score(segment, pages, self.table.clock(), exponent),
            });
        }
        if victims.is_empty() {
            victims = early;
        }
        victims.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
        let allowed = self.allowed_segments(live) + SLACK_SEGMENTS;
        Candidates { victims, used, allowed }
    }

    /// The generation of the newest cut, merged or not; 0 without one.
    pub(super) fn newest_cut(&self) -> u32 {
        let pending = self.frozen.iter().filter_map(|layer| layer.cut).map(|cut| cut.generation);
        let merged = self.committed.cuts.iter().map(|cut| cut.generation);
        merged.chain(pending).max().unwrap_or(0)
    }

    fn begin(&self, victims: Vec<Victim>, purpose: Purpose) -> Round {
        let all = victims.clone();
        let (logs, maps): (Vec<_>, Vec<_>) =
            victims.into_iter().partition(|victim| victim.kind == SegmentKind::Log);
        Round {
            purpose,
            victims: logs,
            map_victims: maps.iter().map(|victim| victim.index).collect(),
            unnamed: Vec::new(),
            all,
            found: Vec::new(),
            generation: self.log.generation,
            stage: Stage::Scan { position: 1, first: 0 },
        }
    }

    /// Does one step. Returns whether it was the last.
    fn step(&mut self, round: &mut Round, report: &mut CleanReport) -> Result<bool, Error> {
        match &mut round.stage {
            Stage::Scan { position, first } => {
                let Some(victim) = round.victims.last() else {
                    if round.purpose == Purpose::Write && !round.unnamed.is_empty() {
                        let walk = self.begin_walk(&[], &round.unnamed);
                        let mut unnamed = round.split_unnamed(self.ctx.geometry, walk);
                        self.find_settled(&unnamed.unnamed, &mut unnamed.found);
                        self.put_off(unnamed);
                    }
                    let walk = self.begin_walk(&round.map_victims, &round.unnamed);
                    self.find_settled(&round.unnamed, &mut round.found);
                    round.stage = Stage::Walk(walk);
                    return Ok(false);
                };
                match self.scan(victim, position, &mut round.found)? {
                    Scanned::Part => {}
                    Scanned::All => round.next_victim(),
                    Scanned::ToGap => round.stage = Stage::Count(Counting::from(*first)),
                }
                Ok(false)
            }
            Stage::Count(counting) => {
                let Some(victim) = round.victims.last().copied() else {
                    round.next_victim();
                    return Ok(false);
                };
                if let Some(named) = self.count_live(counting, &mut round.found)? {
                    let live = self.table.get(victim.index).map_or(0, |segment| segment.live);
                    if named < live {
                        round.unnamed.push(victim.index);
                    }
                    round.next_victim();
                }
                Ok(false)
            }
            Stage::Walk(walk) => {
                let done = self.walk(walk, &round.map_victims, &round.unnamed, &mut round.found)?;
                if done {
                    round.found.sort_unstable();
                    round.found.dedup();
                    round.stage = Stage::Copy { next: 0 };
                }
                Ok(false)
            }
            Stage::Copy { next } => {
                report.pages += self.copy(&round.found, next)?;
                Ok(*next == round.found.len())
            }
        }
    }

    /// Copies the next pages of the list that the map still shows where they were found, one chunk
    /// of them. Returns how many. What cannot be read stays where it is.
    fn copy(&mut self, found: &[(Lba, Location)], next: &mut usize) -> Result<u32, Error> {
        let (mut moving, behind) = self.choose_moving(found, *next)?;
        let bytes = self.read_moving(&mut moving)?;
        // Perhaps none of them could be read.
        if !moving.is_empty() {
            self.mutate(|engine| engine.place(&moving, &bytes))?;
        }
        *next = behind;
        Ok(moving.len() as u32)
    }

    /// The next pages to move, and the place in the list behind them.
    fn choose_moving(
        &mut self,
        found: &[(Lba, Location)],
        first: usize,
    ) -> Result<(Vec<Moving>, usize), Error> {
        let room = self.cold.room(self.ctx.geometry.segment_pages);
        let fence = self.newest_cut();
        let mut moving: Vec<Moving> = Vec::with_capacity(room);
        let mut next = first;
        while moving.len() < room && next < found.len().min(first + LOOK_PAGES) {
            let (lba, location) = found[next];
            next += 1;
            let entry = match self.entry(lba) {
                Err(error) if self.is_local(&error) => continue,
                entry => entry?,
            };
            // What a cut that was taken since holds would only be doubled.
            if entry.location != location || entry.written <= fence {
                continue;
            }
            let (segment, _) = self.ctx.geometry.split(location).unwrap_or_default();
            let stamp = self.table.get(segment).map_or(0, |segment| segment.stamp);
            moving.push(Moving { lba, birth: entry.birth, stamp });
        }
        Ok((moving, next))
    }

    /// The pages, neighbours in one read, and one by one where such a read fails. Those that cannot be
    /// read are left out.
    fn read_moving(&mut self, moving: &mut Vec<Moving>) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; moving.len() * PAGE_BYTES];
        let mut rest = &mut bytes[..];
        let mut whole = true;
        for neighbours in moving.chunk_by(|one, other| one.lba + 1 == other.lba) {
            let (target, after) = rest.split_at_mut(neighbours.len() * PAGE_BYTES);
            match self.read_pages(neighbours[0].lba, target) {
                Err(error) if self.is_local(&error) => whole = false,
                read => read?,
            }
            rest = after;
        }
        if whole { Ok(bytes) } else { self.read_one_by_one(moving) }
    }

    fn read_one_by_one(&mut self, moving: &mut Vec<Moving>) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::with_capacity(moving.len() * PAGE_BYTES);
        for moved in std::mem::take(moving) {
            let mut page = [0; PAGE_BYTES];
            match self.read_pages(moved.lba, &mut page) {
                Err(error) if self.is_local(&error) => {
                    tracing::warn!(%error, page = moved.lba, "a page cannot be moved");
                }
                read => {
                    read?;
                    bytes.extend_from_slice(&page);
                    moving.push(moved);
                }
            }
        }
        Ok(bytes)
    }

    /// Writes pages to the cold stream and has the map show them there.
    fn place(&mut self, moving: &[Moving], bytes: &[u8]) -> Result<(), Error> {
        let written = self.log.generation;
        let moment = Moment {
            layer: self.active.id,
            generation: written,
            incarnation: self.committed.incarnation,
        };
        let placed = self.cold.write(&self.ctx, &mut self.table, moment, moving, bytes)?;
        for (moved, (location, tag)) in moving.iter().zip(placed) {
            let entry = Entry { location, tag, birth: moved.birth, written };
            self.active.put(self.ctx.geometry, moved.lba, entry);
        }
        Ok(())
    }

    pub(super) fn entry(&mut self, lba: Lba) -> Result<Entry, Error> {
        let (block, page) = split(lba);
        let mut entry = [Entry { location: ABSENT, tag: Tag([0; 16]), birth: 0, written: 0 }];
        self.resolve(block, page, &mut entry)?;
        Ok(entry[0])
    }
}

/// What could be cleaned.
pub(super) struct Candidates {
    /// Best first.
    pub(super) victims: Vec<Victim>,
    /// Segments in use, of those that a checkpoint has counted.
    pub(super) used: u64,
    /// Segments their live pages may take.
    pub(super) allowed: u64,
}

/// Dead pages gained per live page copied, weighted with a power of the age: between the share of dead
/// pages alone, which copies young segments that would have emptied themselves, and the age itself,
/// which lets the old ones wait too long.
fn score(segment: &Segment, pages: u32, clock: u32, exponent: f64) -> f64 {
    let gain = f64::from(pages - segment.live) / f64::from(segment.live.max(1));
    gain * segment.age(clock).powf(exponent)
}
