//! What a guest asks of a volume, and its upkeep.

use super::{AREA_PAGES, AREAS, Stop, World, stop};
use crate::model::{Content, SECTORS, Violation, ZEROS, parse, render};
use blockstore::live::{Error, VOLUME_BYTES_MAX};
use blockstore::page::{Lba, PAGE_BYTES, PAGES_PER_BLOCK};

#[derive(Clone, Copy)]
pub(super) enum Zeroing {
    Write,
    Discard,
    WriteZeroes,
}

impl World<'_> {
    pub(super) fn write_pages(&mut self) -> Result<(), Stop> {
        let (lba, count) = self.range(24);
        let (mut bytes, mut pages) = (Vec::new(), Vec::new());
        for lba in lba..lba + count {
            let content =
                if self.rng.below(8) == 0 { ZEROS } else { [self.model.stamp(); SECTORS] };
            pages.push((lba, content));
            bytes.extend_from_slice(&render(lba, &content));
        }
        let written = self.engine().write(lba * PAGE_BYTES as u64, &bytes);
        self.note_write(&pages, written).map_err(stop("write"))
    }

    /// A write that is refused for want of space changes nothing. One that fails otherwise may have
    /// happened, in part.
    fn note_write(
        &mut self,
        pages: &[(Lba, Content)],
        written: Result<(), Error>,
    ) -> Result<(), Error> {
        if self.space.is_some() && matches!(written, Err(Error::Full)) {
            self.outcome.refused += 1;
            return Ok(());
        }
        for (lba, content) in pages {
            self.model.put(*lba, *content);
        }
        written
    }

    /// The file never takes more than there is, whatever was refused and whatever was not.
    pub(super) fn check_space(&mut self) -> Result<(), Violation> {
        let Some(space) = &self.space else { return Ok(()) };
        let capacity = space.capacity();
        let usage = self.engine().usage();
        let held = u64::from(usage.used_segments) * usage.segment_bytes;
        if held > capacity { Err(Violation::Space { held, capacity }) } else { Ok(()) }
    }

    /// Writes a few sectors, which need not begin or end with a page.
    pub(super) fn write_sectors(&mut self) -> Result<(), Stop> {
        let first = self.lba() * SECTORS as u64 + self.rng.below(SECTORS as u64);
        let count = (1 + self.rng.below(20)).min(self.size / 512 - first);
        let stamp = self.model.stamp();
        let (mut bytes, mut pages) = (Vec::new(), Vec::new());
        let mut sector = first;
        while sector < first + count {
            let (lba, within) = (sector / SECTORS as u64, (sector % SECTORS as u64) as usize);
            let here = (SECTORS - within).min((first + count - sector) as usize);
            let mut content = self.model.get(lba);
            content[within..within + here].fill(stamp);
            pages.push((lba, content));
            bytes.extend_from_slice(&render(lba, &content)[within * 512..(within + here) * 512]);
            sector += here as u64;
        }
        let written = self.engine().write(first * 512, &bytes);
        self.note_write(&pages, written).map_err(stop("write sectors"))
    }

    pub(super) fn zero(&mut self, how: Zeroing) -> Result<(), Stop> {
        let (lba, count) = self.range(300);
        let pages: Vec<_> = (lba..lba + count).map(|lba| (lba, ZEROS)).collect();
        let (offset, length) = (lba * PAGE_BYTES as u64, count * PAGE_BYTES as u64);
        let zeroed = match how {
            Zeroing::Write => self.engine().write(offset, &vec![0; length as usize]),
            Zeroing::Discard => self.engine().discard(offset, length),
            Zeroing::WriteZeroes => self.engine().write_zeroes(offset, length),
        };
        self.note_write(&pages, zeroed).map_err(stop("zero"))
    }

    pub(super) fn read(&mut self) -> Result<(), Stop> {
        let (lba, count) = self.range(64);
        let mut bytes = vec![0xee; count as usize * PAGE_BYTES];
        self.engine().read(lba * PAGE_BYTES as u64, &mut bytes).map_err(stop("read"))?;
        for (lba, page) in (lba..).zip(bytes.as_chunks::<PAGE_BYTES>().0) {
            if parse(lba, page) != Some(self.model.get(lba)) {
                return Err(Violation::WrongRead { lba }.into());
            }
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        self.engine().flush().map_err(stop("flush"))?;
        self.model.flushed();
        Ok(())
    }

    pub(super) fn checkpoint(&mut self) -> Result<(), Stop> {
        self.engine().checkpoint().map_err(stop("checkpoint"))?;
        self.model.flushed();
        self.engine().check().map_err(stop("check"))?;
        Ok(())
    }

    pub(super) fn clean(&mut self) -> Result<(), Stop> {
        let report = self.engine().clean(4, 60).map_err(stop("clean"))?;
        self.outcome.segments_cleaned += u64::from(report.segments);
        self.outcome.pages_moved += u64::from(report.pages);
        Ok(())
    }

    /// Part of what a volume's thread does while it is idle: rounds of cleaning in small steps.
    pub(super) fn clean_steps(&mut self) -> Result<(), Stop> {
        for _ in 0..1 + self.rng.below(40) {
            let wanted = self.engine().is_order_wanted();
            if !self.engine().clean_step().map_err(stop("clean a step"))? {
                break;
            }
            self.outcome.ordered += u64::from(wanted && !self.engine().is_order_wanted());
            self.maintain()?;
        }
        Ok(())
    }

    /// What a volume's thread does after requests, and when there are none.
    pub(super) fn maintain(&mut self) -> Result<(), Stop> {
        let busy = self.rng.below(2) == 0;
        self.engine().maintain().map_err(stop("maintain"))?;
        self.engine().give_back_step(busy);
        Ok(())
    }

    /// Makes the volume larger, sometimes by so much that the map gets another level, and lets
    /// requests go to the new end.
    pub(super) fn grow(&mut self) -> Result<(), Stop> {
        let pages = self.size / PAGE_BYTES as u64;
        let added = [1, AREA_PAGES, pages, 200 * pages][self.rng.below(4) as usize];
        let grown = ((pages + added) * PAGE_BYTES as u64).min(VOLUME_BYTES_MAX);
        self.unsure_size = Some((grown, self.model.unflushed()));
        self.engine().resize(grown).map_err(stop("resize"))?;
        self.unsure_size = None;
        self.outcome.grown += u64::from(grown > self.size);
        if grown > self.size {
            self.model.flushed();
        }
        self.size = grown;
        let at = self.rng.below(AREAS as u64) as usize;
        self.areas[at] = grown / PAGE_BYTES as u64 - AREA_PAGES;
        Ok(())
    }

    pub(super) fn hydrate(&mut self) -> Result<(), Stop> {
        let block = self.lba() / PAGES_PER_BLOCK as u64;
        match self.engine().hydrate(block) {
            Err(Error::Full) if self.space.is_some() => Ok(()),
            other => other.map(drop).map_err(stop("hydrate")),
        }
    }

    /// Closes and opens again; sometimes a cut is taken in between, without the data key.
    pub(super) fn reopen(&mut self) -> Result<(), Stop> {
        let engine = self.engine.take().expect("requests are made while power is on");
        engine.close().map_err(stop("close"))?;
        self.model.flushed();
        if self.rng.below(2) == 0 {
            self.open(false).map_err(stop("open without a key"))?;
            self.cut()?;
            let key = self.key.duplicate();
            let base = self.base.clone();
            self.engine().unlock(key).map_err(stop("unlock"))?;
            if let Some(base) = base {
                self.engine().attach_base(base).map_err(stop("attach the base"))?;
            }
            return Ok(());
        }
        self.open(true).map_err(stop("open"))
    }
}
