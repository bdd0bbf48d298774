//! Every operation of a trace fails or lies, one at a time.
//!
//! A disk that says what happened is owed the full promise: correct data or an error, and after a
//! restart everything acknowledged. A disk that lies cannot keep what it was given, so it is owed
//! less: never wrong data. After a restart the volume may be refused, pages may be refused, and the
//! end of the log may be gone, which looks like a power cut; what is readable is of one moment.

use super::Finding;
pub use super::faulty::{Effect, Fault, Place};
use super::faulty::{FaultyDisk, Kind};
use super::player::{Expected, Player, Refusal};
use super::power::{go_on, recover};
use super::script::{Ask, Script};
use crate::disk::SimDisk;
use crate::model::{SECTORS, Violation};
use base::SeededRng;
use blockstore::live::{Disk, Error};
use blockstore::page::{Lba, SourceError};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Seeds that one fault takes.
const SEEDS: u64 = 4;

/// What was tried, and how it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Traces that were played with a fault.
    pub played: u64,
    /// Of these, where the fault was an error.
    pub errors: u64,
    /// Errors that a request reported.
    pub reported: u64,
    /// Writes that were answered before an error and found by the next server, not flushed.
    pub kept: u64,
    /// Of the lies, those that a request or the opening afterwards refused.
    pub detected: u64,
    /// Pages that were refused after a lie, all else being served.
    pub pages_refused: u64,
    /// Lies after which nothing was missing.
    pub harmless: u64,
    /// Lies after which the end of the log was missing.
    pub rolled_back: u64,
}

/// Plays a trace once for every operation and everything that can happen to it.
///
/// # Errors
/// The first violation.
pub fn faults(script: &Script) -> Result<FaultCounts, Finding> {
    let disk = Arc::new(FaultyDisk::new(Arc::new(SimDisk::new()), None));
    let mut counts = FaultCounts::default();
    let mut nothing = Player::new(Arc::clone(&disk) as Arc<dyn Disk>, 1);
    play(&mut nothing, script, &disk).map_err(|refusal| finding(script, None, refusal))?;
    // The reads of the creation and of the first opening are among them.
    // After a death nobody can tell a lie's loss from the death's, so only errors are tried there.
    let dies = script.asks.contains(&Ask::Die);
    for (at, kind) in disk.seen().into_iter().enumerate() {
        for fault in Fault::of(kind).iter().filter(|fault| fault.is_honest() || !dies) {
            counts.played += 1;
            one(script, at, *fault, &mut counts)
                .map_err(|refusal| finding(script, Some((at, kind, *fault)), refusal))?;
        }
    }
    Ok(counts)
}

fn finding(script: &Script, plan: Option<(usize, Kind, Fault)>, refusal: Refusal) -> Finding {
    let violation = match refusal {
        Refusal::Violation(violation) => violation,
        Refusal::Error(error) => {
            Violation::Failed { action: "serve a trace", error: format!("{error:?}") }
        }
    };
    Finding { script: script.name.clone(), how: format!("{plan:?}"), violation }
}

/// How far a trace came.
enum End {
    Done,
    /// This request was refused.
    Refused(Option<Ask>, Error),
}

/// Plays until a request is refused. Wrong answers are violations.
fn play(player: &mut Player, script: &Script, disk: &FaultyDisk) -> Result<End, Refusal> {
    if let Err(error) = player.create() {
        return Ok(End::Refused(None, error));
    }
    for ask in script.asks.iter().chain([&Ask::Read]) {
        let bytes = player.announce(*ask);
        match player.perform(*ask, &bytes) {
            Ok(()) => player.expected.model.answer(),
            Err(Refusal::Error(error)) if disk.is_hit() => {
                return Ok(End::Refused(Some(*ask), error));
            }
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(End::Done)
}

fn one(script: &Script, at: usize, fault: Fault, counts: &mut FaultCounts) -> Result<(), Refusal> {
    let inner = Arc::new(SimDisk::new());
    let disk = Arc::new(FaultyDisk::new(Arc::clone(&inner), Some((at, fault))));
    let mut player = Player::new(Arc::clone(&disk) as Arc<dyn Disk>, 1);
    let end = play(&mut player, script, &disk)?;
    if let End::Refused(ask, error) = &end {
        // The engine knows the difference between a disk that refuses and bytes that are wrong.
        let is_disk = match error {
            Error::Disk { .. } | Error::Failed => true,
            // So says whoever reads a cut, as after a death.
            Error::Base { cause } => matches!(**cause, SourceError::Unavailable { .. }),
            // What was accepted and did not arrive cannot be read, before anybody is told why.
            Error::Corrupt { .. } => disk.is_broken(),
            _ => false,
        };
        if fault.is_honest() && !is_disk {
            return Err(error.clone().into());
        }
        if matches!(fault, Fault::FailsOnce(_)) && *ask == Some(Ask::Read) {
            player.read_all()?;
        }
        // What died has lost what it had not flushed, and nobody has looked yet.
        if *ask != Some(Ask::Die) {
            reads_are_right_or_refused(&mut player, *ask)?;
        }
    }
    let seed = 5000 + SEEDS * counts.played;
    if fault.is_honest() {
        counts.errors += 1;
        counts.reported += u64::from(matches!(end, End::Refused(..)));
        return after_an_error(player, &disk, &inner, seed, counts);
    }
    let refused = matches!(end, End::Refused(..));
    let mut outcome = Outcome { refused, ..Outcome::default() };
    for image in [inner.image(), inner.durable()] {
        let again = Arc::new(inner.reborn(image));
        after_a_lie(&again, player.expected.clone(), seed, &mut outcome)?;
    }
    counts.detected += u64::from(outcome.refused || outcome.pages_refused > 0);
    counts.pages_refused += outcome.pages_refused;
    counts.rolled_back += u64::from(outcome.rolled_back);
    counts.harmless +=
        u64::from(!outcome.refused && !outcome.rolled_back && outcome.pages_refused == 0);
    Ok(())
}

/// What comes after a disk that said what it did not do: the server is killed, the volume is opened again
/// at once, power is cut.
fn after_an_error(
    mut player: Player,
    disk: &FaultyDisk,
    inner: &Arc<SimDisk>,
    seed: u64,
    counts: &mut FaultCounts,
) -> Result<(), Refusal> {
    if disk.has_forgotten() {
        player.expected.model.forget_answers();
    }
    player.engine = None;
    counts.kept += player.expected.model.answered() as u64;
    let killed = Arc::new(inner.after_kill(&SeededRng::new(seed)));
    if let Some(next) = recover(&killed, player.expected.clone(), seed + 1)? {
        go_on(next, &killed)?;
    }
    // As long as everything fails opening may fail too, but it must not make things worse.
    disk.open_anew();
    if player.expected.created {
        drop(player.open());
    }
    player.engine = None;
    player.expected.model.forget_answers();
    let after_a_cut = Arc::new(inner.reborn(inner.durable()));
    recover(&after_a_cut, player.expected.clone(), seed + 2)?;
    if let Some(next) = recover(inner, player.expected, seed + 3)? {
        go_on(next, inner)?;
    }
    Ok(())
}

/// Reads every page but those of a request whose outcome is open. An engine that has stopped may
/// refuse; what it serves is right.
fn reads_are_right_or_refused(player: &mut Player, open: Option<Ask>) -> Result<(), Refusal> {
    let open = open.map_or(0..0, touched);
    for lba in player.expected.model.pages() {
        if open.contains(&lba) {
            continue;
        }
        if let Ok(content) = player.read_page(lba)
            && content != Some(player.expected.model.get(lba))
        {
            return Err(Violation::WrongRead { lba }.into());
        }
    }
    Ok(())
}

fn touched(ask: Ask) -> Range<Lba> {
    let sectors = SECTORS as u64;
    match ask {
        Ask::Write(first, count) | Ask::Zero(first, count) | Ask::Discard(first, count) => {
            first..first + count
        }
        Ask::Sectors(first, count) => first / sectors..(first + count).div_ceil(sectors),
        _ => 0..0,
    }
}

#[derive(Default)]
struct Outcome {
    refused: bool,
    pages_refused: u64,
    rolled_back: bool,
}

/// Opens a volume whose disk lied.
fn after_a_lie(
    disk: &Arc<SimDisk>,
    expected: Expected,
    seed: u64,
    outcome: &mut Outcome,
) -> Result<(), Refusal> {
    let mut player = Player::on(Arc::clone(disk) as Arc<dyn Disk>, expected, seed);
    if player.open().is_err() {
        outcome.refused = true;
        return Ok(());
    }
    let pages = player.engine()?.size() / blockstore::page::PAGE_BYTES as u64;
    let mut found = BTreeMap::new();
    for lba in player.expected.ever.pages().into_iter().filter(|lba| *lba < pages) {
        match player.read_page(lba) {
            Ok(content) => found.insert(lba, content.ok_or(Violation::WrongRead { lba })?),
            Err(_) => {
                outcome.pages_refused += 1;
                None
            }
        };
    }
    outcome.rolled_back |= player.expected.model.clone().settle(&found, 0).is_err();
    player.expected.ever.settle(&found, 0)?;
    for cut in player.engine()?.cuts() {
        // Also one that was dropped, or not acknowledged, holds what it held.
        if let Some(content) = player.expected.ever_cuts.get(&cut.id).cloned() {
            match player.check_cut(cut.id, &content) {
                Ok(()) => {}
                Err(Refusal::Error(_)) => outcome.pages_refused += 1,
                Err(refusal) => return Err(refusal),
            }
        }
    }
    if disk.salt_reused() { Err(Violation::SaltReused.into()) } else { Ok(()) }
}
