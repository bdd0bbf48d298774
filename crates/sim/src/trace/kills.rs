//! A server that is killed after every operation of a trace, while the power stays, or goes too late to take
//! anything but a part of what the process leaves for the next.

use super::Finding;
use super::player::{Expected, Player};
use super::power::{go_on, recover};
use super::script::Script;
use crate::disk::SimDisk;
use crate::model::Violation;
use base::SeededRng;
use std::sync::Arc;

/// Fates of what was under way, tried for every moment.
const FATES: u64 = 3;

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KillCounts {
    /// Moments at which the server was killed.
    pub points: u64,
    /// Writes that were answered, not flushed, and found again.
    pub kept: u64,
    /// Second kills during the first recovery.
    pub nested: u64,
    /// Power cuts that took a page of the tail, and perhaps what was under way.
    pub torn: u64,
}

/// Plays a trace up to each of its operations and kills the server there. Whatever was answered must be
/// found by the next one.
///
/// # Errors
/// The first violation.
pub fn kills(script: &Script) -> Result<KillCounts, Finding> {
    let mut counts = KillCounts::default();
    for point in 0.. {
        for fate in 0..FATES {
            let (disk, expected) = play(script, point);
            if !disk.has_failed() {
                return Ok(counts);
            }
            counts.points += 1;
            counts.kept += expected.model.answered() as u64;
            let killed = Killed { disk, expected, seed: point * FATES + fate };
            let finding = |what: &str, violation| Finding {
                script: script.name.clone(),
                how: format!("{what} after operation {point}, fate {fate}"),
                violation,
            };
            killed
                .check_torn(&mut counts)
                .map_err(|found| finding("a page of the tail lost", found))?;
            let checked = if fate == point % FATES {
                killed.check_again_and_again(&mut counts)
            } else {
                killed.check()
            };
            checked.map_err(|found| finding("killed", found))?;
        }
    }
    unreachable!("a trace ends")
}

/// What is there, and what must be, when the server does not get past an operation.
fn play(script: &Script, point: u64) -> (SimDisk, Expected) {
    let disk = Arc::new(SimDisk::new());
    disk.cut_power_after(point);
    let mut player = Player::new(Arc::clone(&disk) as _, 1);
    let mut asks = script.asks.iter();
    if player.create().is_ok() {
        while let Some(ask) = asks.next().filter(|_| !disk.has_failed()) {
            let bytes = player.announce(*ask);
            if player.perform(*ask, &bytes).is_err() {
                break;
            }
            player.expected.model.answer();
        }
    }
    let expected = player.expected.clone();
    drop(player);
    (Arc::into_inner(disk).expect("the player is gone"), expected)
}

struct Killed {
    disk: SimDisk,
    expected: Expected,
    seed: u64,
}

impl Killed {
    /// Whoever lost power misses nothing that was flushed, and sees nothing wrong.
    fn check_torn(&self, counts: &mut KillCounts) -> Result<(), Violation> {
        let torn = self.disk.after_loss_of_a_tail_page(&SeededRng::new(self.seed));
        let Some(found) = torn.map(Arc::new) else { return Ok(()) };
        counts.torn += 1;
        let mut expected = self.expected.clone();
        expected.model.forget_answers();
        let recovered = recover(&found, expected, 3000 + self.seed)?;
        recovered.map_or(Ok(()), |player| go_on(player, &found))
    }

    fn check(self) -> Result<(), Violation> {
        let Self { disk, expected, seed } = self;
        let found = Arc::new(disk.after_kill(&SeededRng::new(seed)));
        let recovered = recover(&found, expected, 1000 + seed)?;
        recovered.map_or(Ok(()), |player| go_on(player, &found))
    }

    /// Killed again after each operation of the recovery, until one gets to its end.
    fn check_again_and_again(self, counts: &mut KillCounts) -> Result<(), Violation> {
        let Self { disk, expected, seed } = self;
        for again in 0.. {
            let found = disk.after_kill(&SeededRng::new(seed));
            found.cut_power_after(again);
            let found = Arc::new(found);
            let recovered = recover(&found, expected.clone(), 1000 + seed);
            if !found.has_failed() {
                found.cut_power_after(u64::MAX);
                return recovered?.map_or(Ok(()), |player| go_on(player, &found));
            }
            drop(recovered);
            counts.nested += 1;
            let found = Arc::into_inner(found).expect("the player is gone");
            let after = Arc::new(found.after_kill(&SeededRng::new(seed + again)));
            recover(&after, expected.clone(), 2000 + seed)?;
        }
        unreachable!("a recovery ends")
    }
}
