//! What must hold after a power cut, and at the end of a life.

use super::{Stop, World, stop};
use crate::model::{Violation, parse};
use blockstore::live::Error;
use blockstore::page::{PAGE_BYTES, Page};
use std::collections::BTreeMap;
use std::sync::Arc;

impl World<'_> {
    /// Power returns, or the server is started again after it was killed; perhaps to end again
    /// before recovery is done.
    pub(super) fn recover(&mut self) -> Result<(), Violation> {
        // Whoever only had the server killed misses nothing that was answered.
        let mut answered = self.model.answered();
        loop {
            self.engine = None;
            self.disk = Arc::new(if self.rng.below(2) == 0 {
                self.outcome.kills += 1;
                self.disk.after_kill(&self.rng)
            } else {
                self.outcome.power_cuts += 1;
                answered = 0;
                self.disk.after_power_cut(&self.rng)
            });
            if self.rng.below(2) == 0 {
                self.disk.cut_power_after(self.rng.below(24));
            }
            match self.open(true) {
                Ok(()) if !self.disk.has_failed() => break,
                Ok(()) | Err(Error::Disk { .. } | Error::Failed) => {}
                Err(other) => {
                    let error = other.to_string();
                    return Err(Violation::Failed { action: "recover", error });
                }
            }
        }
        self.disk.cut_power_after(u64::MAX);
        let least = self.settle_cuts()?.max(self.settle_size()?).max(answered);
        let mut found = BTreeMap::new();
        for lba in self.model.pages() {
            let mut page: Page = [0; PAGE_BYTES];
            self.engine()
                .read(lba * PAGE_BYTES as u64, &mut page)
                .map_err(|e| Violation::Failed { action: "read back", error: e.to_string() })?;
            found.insert(lba, parse(lba, &page).ok_or(Violation::WrongRead { lba })?);
        }
        self.model.settle(&found, least)?;
        self.engine()
            .check()
            .map_err(|e| Violation::Failed { action: "check", error: e.to_string() })?;
        self.arm();
        Ok(())
    }

    /// Compares the list of cuts; returns how many unflushed writes a surviving cut proves.
    pub(super) fn settle_cuts(&mut self) -> Result<usize, Violation> {
        let held = self.engine().cuts();
        let mut least = 0;
        if let Some((mut cut, unflushed)) = self.unsure_cut.take()
            && let Some(info) = held.iter().find(|held| held.id == cut.info.id)
        {
            cut.info = *info;
            self.cuts.push(cut);
            least = unflushed;
        }
        if let Some(cut) = self.dropping.take() {
            let is_held = held.iter().any(|held| held.id == cut.info.id);
            if is_held { &mut self.cuts } else { &mut self.past }.push(cut);
        }
        let missing = self.cuts.iter().find(|cut| !held.contains(&cut.info));
        let extra = held.iter().find(|held| !self.cuts.iter().any(|cut| cut.info == **held));
        match missing.map(|cut| cut.info.id).or(extra.map(|held| held.id)) {
            Some(id) => Err(Violation::Cuts { id: id.to_string() }),
            None => Ok(least),
        }
    }

    /// Compares the size; returns how many unflushed writes a size that was not acknowledged and is
    /// there all the same proves.
    fn settle_size(&mut self) -> Result<usize, Violation> {
        let unsure = self.unsure_size.take();
        let found = self.engine().size();
        if found == self.size {
            return Ok(0);
        }
        match unsure {
            Some((size, unflushed)) if size == found => {
                self.size = size;
                Ok(unflushed)
            }
            _ => Err(Violation::Size { found }),
        }
    }

    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        if self.engine.is_none() {
            self.recover()?;
        }
        for at in 0..self.cuts.len() {
            self.check_cut(at)?;
        }
        while !self.cuts.is_empty() || self.dropping.is_some() {
            self.drop_cut()?;
        }
        for at in 0..self.exported.len() {
            self.check_snapshot(at)?;
        }
        self.checkpoint()?;
        let pages = self.model.pages();
        for lba in &pages {
            let mut page: Page = [0; PAGE_BYTES];
            self.engine().read(lba * PAGE_BYTES as u64, &mut page).map_err(stop("read back"))?;
            if parse(*lba, &page) != Some(self.model.get(*lba)) {
                return Err(Violation::WrongRead { lba: *lba }.into());
            }
        }
        self.outcome.digest = pages.iter().fold(self.disk.operations(), |digest, lba| {
            digest.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ lba ^ self.model.get(*lba)[0]
        });
        Ok(())
    }
}
