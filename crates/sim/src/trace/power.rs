//! A power cut after every operation of a trace.

use super::Finding;
use super::player::{Expected, Player, Refusal};
use super::script::{Ask, Script};
use crate::disk::{Operation, SimDisk};
use crate::image::{Image, Write};
use crate::model::Violation;
use blockstore::live::{Disk, Error};
use blockstore::page::Lba;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The page that is written after a recovery, to see that the volume goes on.
const LATER_PAGE: Lba = 77;

/// Puts something between an engine and its disk.
pub type Wrap<'a> = &'a dyn Fn(Arc<SimDisk>) -> Arc<dyn Disk>;

/// What was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PowerCounts {
    /// Moments at which power was cut.
    pub points: u64,
    /// States of the disk that were recovered from.
    pub recoveries: u64,
    /// Of these, those after a second cut during the first recovery.
    pub nested: u64,
}

/// Which of the unflushed writes are on the disk when power returns.
#[derive(Clone, Copy, Debug)]
enum Survivors {
    /// The first so many: none, or all, among them.
    Prefix(usize),
    /// All but the first so many.
    Suffix(usize),
    /// All but one.
    Without(usize),
    /// One.
    Only(usize),
    /// All, the last written first: of two writes to one place the older one stays.
    Reversed,
    /// The same part of each.
    AllTorn(Tear),
    /// A part of one, and of the others those before it or all.
    Torn(usize, Tear, Others),
}

/// Which sectors of a torn write are there.
#[derive(Clone, Copy, Debug)]
enum Tear {
    First,
    Middle,
    Last,
    AllButFirst,
    AllButMiddle,
    AllButLast,
}

#[derive(Clone, Copy, Debug)]
enum Others {
    Before,
    All,
}

const TEARS: [Tear; 6] = [
    Tear::First,
    Tear::Middle,
    Tear::Last,
    Tear::AllButFirst,
    Tear::AllButMiddle,
    Tear::AllButLast,
];

/// Plays a trace once, then recovers from a power cut after every one of its operations.
///
/// `wrap` stands between the engine and the disk.
///
/// # Errors
/// The first violation.
pub fn power(script: &Script, wrap: Wrap<'_>) -> Result<PowerCounts, Finding> {
    let disk = Arc::new(SimDisk::new());
    disk.keep_journal();
    let moments = play(script, &disk, wrap)?;
    let journal = disk.take_journal();
    let mut sweep =
        Sweep { script, original: &disk, counts: PowerCounts::default(), moment: 0, point: 0 };
    let (mut durable, mut visible, mut pending) = (Image::default(), Image::default(), Vec::new());
    for point in 0..=journal.len() {
        if let Some(operation) = point.checked_sub(1).map(|last| &journal[last]) {
            match operation {
                Operation::Write(write) => {
                    visible.apply(write);
                    pending.push(write.clone());
                }
                Operation::Flush => {
                    durable = visible.clone();
                    pending.clear();
                }
            }
        }
        while moments.get(sweep.moment + 1).is_some_and(|(first, _)| *first <= point as u64) {
            sweep.moment += 1;
        }
        sweep.point = point;
        sweep.counts.points += 1;
        sweep.at(&durable, &pending, &moments[sweep.moment].1)?;
    }
    Ok(sweep.counts)
}

/// What must be there from which operation on.
fn play(
    script: &Script,
    disk: &Arc<SimDisk>,
    wrap: Wrap<'_>,
) -> Result<Vec<(u64, Expected)>, Finding> {
    let mut player = Player::new(wrap(Arc::clone(disk)), 1);
    let mut moments = vec![(0, player.expected.clone())];
    let finding = |ask: Option<Ask>, refusal: Refusal| Finding {
        script: script.name.clone(),
        how: format!("{ask:?}"),
        violation: match refusal {
            Refusal::Violation(violation) => violation,
            Refusal::Error(error) => {
                Violation::Failed { action: "play a trace", error: error.to_string() }
            }
        },
    };
    player.create().map_err(|error| finding(None, error.into()))?;
    for ask in &script.asks {
        let bytes = player.announce(*ask);
        moments.push((disk.operations(), player.expected.clone()));
        player.perform(*ask, &bytes).map_err(|refusal| finding(Some(*ask), refusal))?;
    }
    moments.push((disk.operations(), player.expected.clone()));
    Ok(moments)
}

struct Sweep<'a> {
    script: &'a Script,
    original: &'a SimDisk,
    counts: PowerCounts,
    moment: usize,
    point: usize,
}

impl Sweep<'_> {
    /// One moment, with every family of survivors.
    fn at(
        &mut self,
        durable: &Image,
        pending: &[Write],
        expected: &Expected,
    ) -> Result<(), Finding> {
        for survivors in family(pending) {
            let image = survive(durable, pending, survivors);
            self.counts.recoveries += 1;
            // Power fails again during recovery where most is at stake, once for each moment.
            let nested = matches!(survivors, Survivors::Prefix(count) if count == pending.len());
            self.check(image, expected, nested)
                .map_err(|violation| self.finding(&survivors, violation))?;
        }
        Ok(())
    }

    fn finding(&self, survivors: &dyn fmt::Debug, violation: Violation) -> Finding {
        Finding {
            script: self.script.name.clone(),
            how: format!("power cut after operation {}, {survivors:?} survives", self.point),
            violation,
        }
    }

    fn check(&mut self, image: Image, expected: &Expected, nested: bool) -> Result<(), Violation> {
        let seed = 1000 + self.counts.recoveries;
        let disk = Arc::new(self.original.reborn(image.clone()));
        disk.keep_journal();
        let recovered = recover(&disk, expected.clone(), seed)?;
        let journal = disk.take_journal();
        if let Some(player) = recovered {
            go_on(player, &disk)?;
        }
        if !nested {
            return Ok(());
        }
        let (mut durable, mut visible, mut pending) = (image.clone(), image, Vec::new());
        for operation in journal {
            match operation {
                Operation::Write(write) => {
                    visible.apply(&write);
                    pending.push(write);
                }
                Operation::Flush => {
                    durable = visible.clone();
                    pending.clear();
                }
            }
            for survivors in [0, pending.len()].map(Survivors::Prefix) {
                self.counts.recoveries += 1;
                self.counts.nested += 1;
                let again = Arc::new(disk.reborn(survive(&durable, &pending, survivors)));
                let seed = 1000 + self.counts.recoveries;
                recover(&again, expected.clone(), seed)?;
            }
        }
        Ok(())
    }
}

/// Opens a volume after a power cut and compares it with what it may be. `None` when there is none
/// and need not be.
pub(super) fn recover(
    disk: &Arc<SimDisk>,
    expected: Expected,
    seed: u64,
) -> Result<Option<Player>, Violation> {
    let created = expected.created;
    let mut player = Player::on(Arc::clone(disk) as Arc<dyn Disk>, expected, seed);
    match player.open() {
        Err(Error::NoSuperblock) if !created => return Ok(None),
        opened => opened.map_err(failed("recover"))?,
    }
    player.settle().map_err(|refusal| match refusal {
        Refusal::Violation(violation) => violation,
        Refusal::Error(error) => failed("read back")(error),
    })?;
    player.engine().and_then(|engine| engine.check()).map_err(failed("check"))?;
    if disk.salt_reused() { Err(Violation::SaltReused) } else { Ok(Some(player)) }
}

/// A volume that was recovered serves on: what is flushed then survives the next cut.
pub(super) fn go_on(mut player: Player, disk: &Arc<SimDisk>) -> Result<(), Violation> {
    let ask = Ask::Write(LATER_PAGE, 2);
    let refused = |refusal: Refusal| match refusal {
        Refusal::Violation(violation) => violation,
        Refusal::Error(error) => failed("go on after recovery")(error),
    };
    for ask in [ask, Ask::Flush] {
        let bytes = player.announce(ask);
        player.perform(ask, &bytes).map_err(refused)?;
    }
    let again = Arc::new(disk.reborn(disk.durable()));
    let mut player = Player::on(again, player.expected, 2);
    player.open().map_err(failed("recover again"))?;
    player.read_all().map_err(refused)
}

fn failed(action: &'static str) -> impl Fn(Error) -> Violation {
    move |error| Violation::Failed { action, error: error.to_string() }
}

/// Every survivor set that is tried; no two are alike as a rule.
fn family(pending: &[Write]) -> Vec<Survivors> {
    let count = pending.len();
    let mut family: Vec<_> = (0..=count).map(Survivors::Prefix).collect();
    family.extend((1..count).map(Survivors::Suffix));
    family.extend((1..count.saturating_sub(1)).map(Survivors::Without));
    family.extend((1..count.saturating_sub(1)).map(Survivors::Only));
    if count > 1 {
        family.push(Survivors::Reversed);
        family.extend(TEARS.map(Survivors::AllTorn));
    }
    for (at, _) in pending.iter().enumerate().filter(|(_, write)| write.sectors() > 1) {
        for tear in TEARS {
            family.push(Survivors::Torn(at, tear, Others::Before));
            if at + 1 < count {
                family.push(Survivors::Torn(at, tear, Others::All));
            }
        }
    }
    family
}

fn survive(durable: &Image, pending: &[Write], survivors: Survivors) -> Image {
    let mut image = durable.clone();
    let whole = |image: &mut Image, write: &Write| {
        (0..write.sectors()).for_each(|sector| image.apply_sector(write, sector));
    };
    if matches!(survivors, Survivors::Reversed) {
        pending.iter().rev().for_each(|write| whole(&mut image, write));
        return image;
    }
    for (at, write) in pending.iter().enumerate() {
        let kept = match survivors {
            Survivors::Prefix(count) => at < count,
            Survivors::Suffix(first) => at >= first,
            Survivors::Without(lost) => at != lost,
            Survivors::Only(one) => at == one,
            Survivors::Torn(torn, _, Others::Before) => at < torn,
            Survivors::Torn(torn, _, Others::All) => at != torn,
            Survivors::AllTorn(_) => false,
            Survivors::Reversed => true,
        };
        if kept {
            whole(&mut image, write);
        }
        let tear = match survivors {
            Survivors::AllTorn(tear) => Some(tear),
            Survivors::Torn(torn, tear, _) if torn == at => Some(tear),
            _ => None,
        };
        if let Some(tear) = tear {
            let sectors = write.sectors();
            let there = (0..sectors).filter(|sector| is_there(*sector, sectors, tear));
            there.for_each(|sector| image.apply_sector(write, sector));
        }
    }
    image
}

fn is_there(sector: usize, sectors: usize, tear: Tear) -> bool {
    match tear {
        Tear::First => sector == 0,
        Tear::Middle => sector == sectors / 2,
        Tear::Last => sector + 1 == sectors,
        Tear::AllButFirst => sector != 0,
        Tear::AllButMiddle => sector != sectors / 2,
        Tear::AllButLast => sector + 1 != sectors,
    }
}

impl Player {
    /// Takes what is there after a stop for the truth, if it is allowed.
    pub(super) fn settle(&mut self) -> Result<(), Refusal> {
        let least = self.settle_cuts()?.max(self.settle_size()?);
        let least = least.max(self.expected.model.answered());
        let mut found = BTreeMap::new();
        for lba in self.expected.model.pages() {
            // A page beyond a growth that was not acknowledged is not there, and was not written.
            if lba < self.expected.pages {
                let content = self.read_page(lba)?;
                found.insert(lba, content.ok_or(Violation::WrongRead { lba })?);
            }
        }
        self.expected.model.settle(&found, least)?;
        for (id, content) in self.expected.cuts.clone() {
            self.check_cut(id, &content)?;
        }
        Ok(())
    }

    /// Compares the list of cuts; returns how many unflushed writes a surviving cut proves.
    fn settle_cuts(&mut self) -> Result<usize, Refusal> {
        let held: Vec<_> = self.engine()?.cuts().iter().map(|cut| cut.id).collect();
        let mut least = 0;
        let expected = &mut self.expected;
        if let Some((id, unflushed)) = expected.unsure_cut.take()
            && held.contains(&id)
        {
            let content = expected.model.snapshot();
            expected.cuts.insert(id, content);
            least = unflushed;
        }
        if let Some(id) = expected.unsure_drop.take()
            && !held.contains(&id)
        {
            expected.cuts.remove(&id);
        }
        let missing = expected.cuts.keys().find(|id| !held.contains(id));
        let extra = held.iter().find(|id| !expected.cuts.contains_key(id));
        match missing.or(extra) {
            Some(id) => Err(Violation::Cuts { id: id.to_string() }.into()),
            None => Ok(least),
        }
    }

    /// Compares the size; returns how many unflushed writes a growth that was not acknowledged and
    /// is there all the same proves.
    fn settle_size(&mut self) -> Result<usize, Refusal> {
        let found = self.engine()?.size();
        let pages = found / blockstore::page::PAGE_BYTES as u64;
        let unsure = self.expected.unsure_pages.take();
        if pages == self.expected.pages {
            return Ok(0);
        }
        match unsure {
            Some((unsure, unflushed)) if unsure == pages => {
                self.expected.pages = pages;
                Ok(unflushed)
            }
            _ => Err(Violation::Size { found }.into()),
        }
    }
}
