//! The volumes of a house: engines over disks of their own.

use super::archiving::Tier;
use super::{
    House, PAGES, Pages, Refused, VOLUME_BYTES, reader, refused, refused_by_volume, shown,
};
use crate::disk::SimDisk;
use crate::model::{SECTORS, Violation, ZEROS, parse, render};
use base::{Rng, Secret};
use blockstore::live::{
    Base, CutId, Disk, Engine, EngineConfig, Error, OpenOptions, VolumeOptions,
};
use blockstore::page::{PAGE_BYTES, PAGES_PER_BLOCK, Page, StructureKey};
use blockstore::snapshot::{CopyJob, CopyKeys, SnapshotRoot, copy};
use std::sync::Arc;

/// One volume.
pub(super) struct Volume {
    name: String,
    disk: Arc<SimDisk>,
    /// `None` while the base cannot be opened.
    pub(super) engine: Option<Engine>,
    /// Whether it is attached: without that its engine has neither key nor base.
    attached: bool,
    /// The fencing epoch of its newest attachment.
    writer: u64,
    pub(super) key: usize,
    pub(super) base: Option<(CutId, SnapshotRoot)>,
    /// The data key of the base, by number; another than the volume's until it is sealed anew.
    pub(super) base_key: usize,
    /// The twin of its base that it was made with, which it keeps for as long as it has that base.
    pub(super) twin: Option<SnapshotRoot>,
    pub(super) content: Pages,
    /// Snapshots made of it that still exist.
    pub(super) exported: Vec<SnapshotRoot>,
}

impl House {
    pub(super) fn create_volume(&mut self) -> Result<(), Refused> {
        let base = self.pick(self.snapshots.len() + 1).filter(|at| *at < self.snapshots.len());
        self.create_volume_from(base)
    }

    /// Creates a volume, empty or from a snapshot, with its twin if it has one.
    pub(super) fn create_volume_from(&mut self, base: Option<usize>) -> Result<(), Refused> {
        let name = self.name("vol");
        let base_key = base.map_or(self.rng.below(2) as usize, |at| self.snapshots[at].key);
        let foreign = base.is_some() && self.rng.below(3) == 0;
        let key = if foreign { (base_key + 1) % self.keys.len() } else { base_key };
        let base_id = CutId::new("snap-ba5e0000").expect("it is short and ASCII");
        let volume = Volume {
            disk: Arc::new(SimDisk::new()),
            engine: None,
            attached: true,
            writer: 1,
            key,
            base: base.map(|at| (base_id, self.snapshots[at].root)),
            base_key,
            twin: base.and_then(|at| self.twin_of(&self.snapshots[at].root)),
            content: base.map_or_else(Pages::new, |at| self.snapshots[at].content.clone()),
            exported: Vec::new(),
            name,
        };
        let options = VolumeOptions {
            size_bytes: VOLUME_BYTES,
            key_check: Some(self.keys[key].check_value()),
            base: volume.base.map(|(id, _)| id),
        };
        let config = EngineConfig::tiny();
        let structure = structure(&volume.name);
        Engine::create(&*volume.disk, &structure, &*self.rng, &config, &options)
            .map_err(refused_by_volume("create a volume"))?;
        self.outcome.lazy_volumes += u64::from(base.is_some());
        self.outcome.twin_volumes += u64::from(volume.twin.is_some());
        self.volumes.push(volume);
        self.open_volume(self.volumes.len() - 1)
    }

    fn open_volume(&mut self, at: usize) -> Result<(), Refused> {
        self.volumes[at].engine = None;
        let volume = &self.volumes[at];
        let options = match volume.attached {
            false => OpenOptions::default(),
            true => OpenOptions {
                data_key: Some(self.keys[volume.key].duplicate()),
                base: self.base_of(volume)?,
                writer: Some(volume.writer),
            },
        };
        let engine = self.open_engine(volume, options);
        self.volumes[at].engine = Some(engine.map_err(refused_by_volume("open a volume"))?);
        Ok(())
    }

    fn open_engine(&self, volume: &Volume, options: OpenOptions) -> Result<Engine, Error> {
        let disk = Arc::clone(&volume.disk) as Arc<dyn Disk>;
        let rng = Arc::clone(&self.rng) as Arc<dyn Rng>;
        Engine::open(disk, structure(&volume.name), rng, EngineConfig::tiny(), options)
    }

    /// The base as an attachment is given it.
    fn base_of(&self, volume: &Volume) -> Result<Option<Base>, Refused> {
        let Some((id, root)) = volume.base else { return Ok(None) };
        let foreign = volume.base_key != volume.key;
        let key = foreign.then(|| Arc::new(self.keys[volume.base_key].duplicate()));
        let reader = match &volume.twin {
            None => reader(&self.store, &root)?,
            Some(twin) => self.twin_reader(twin, &root)?,
        };
        Ok(Some(Base { id, reader, key }))
    }

    /// Takes the data key from a volume: in order, in place, or because whoever had it is gone.
    pub(super) fn detach(&mut self, at: usize) -> Result<(), Refused> {
        let how = self.rng.below(3);
        let volume = &mut self.volumes[at];
        volume.attached = false;
        if let Some(mut engine) = volume.engine.take() {
            match how {
                0 => engine.close().map_err(refused_by_volume("close"))?,
                1 => {
                    engine.lock();
                    volume.engine = Some(engine);
                }
                _ => drop(engine),
            }
        }
        self.outcome.detached += 1;
        Ok(())
    }

    /// Attaches a volume, here or to another machine; an attachment before that one is refused.
    fn attach(&mut self, at: usize) -> Result<(), Refused> {
        let base = self.base_of(&self.volumes[at])?;
        let stays = self.rng.below(2) == 0;
        let volume = &mut self.volumes[at];
        let key = self.keys[volume.key].duplicate();
        volume.writer += 1;
        volume.attached = true;
        match volume.engine.take().filter(|_| stays) {
            None => self.open_volume(at)?,
            Some(mut engine) => {
                let unlocked = engine
                    .take_over(Some(volume.writer))
                    .and_then(|()| engine.unlock(key))
                    .and_then(|()| base.map_or(Ok(()), |base| engine.attach_base(base)));
                unlocked.map_err(refused_by_volume("attach"))?;
                volume.engine = Some(engine);
            }
        }
        let volume = &self.volumes[at];
        let earlier = OpenOptions { writer: Some(volume.writer - 1), ..OpenOptions::default() };
        match self.open_engine(volume, earlier) {
            Err(Error::Fenced { .. }) => Ok(()),
            other => {
                let error = format!("an attachment that is over: {:?}", other.err());
                Err(Violation::Failed { action: "refuse", error }.into())
            }
        }
    }

    /// After the process died, while the store does not fail.
    pub(super) fn reopen_volumes(&mut self) -> Result<(), Violation> {
        for at in 0..self.volumes.len() {
            self.open_volume(at).map_err(|refused| match refused {
                Refused::Violation(violation) => violation,
                Refused::Store => {
                    let error = "the store does not fail now".to_owned();
                    Violation::Failed { action: "open a volume", error }
                }
            })?;
        }
        Ok(())
    }

    /// The volume's engine, opened if that failed before.
    pub(super) fn engine(&mut self, at: usize) -> Result<&mut Engine, Refused> {
        if self.volumes[at].engine.is_none() {
            self.open_volume(at)?;
        }
        self.volumes[at].engine.as_mut().ok_or(Refused::Store)
    }

    /// The same, with the volume's key and base.
    fn attached(&mut self, at: usize) -> Result<&mut Engine, Refused> {
        if !self.volumes[at].attached {
            self.attach(at)?;
        }
        self.engine(at)
    }

    pub(super) fn write(&mut self, at: usize) -> Result<(), Refused> {
        let first = self.rng.below(PAGES - 40);
        let count = 1 + self.rng.below(40);
        let zeros = self.rng.below(4) == 0;
        let mut bytes = Vec::new();
        let mut content = Pages::new();
        for lba in first..first + count {
            let stamped = if zeros { ZEROS } else { [self.stamp(); SECTORS] };
            bytes.extend_from_slice(&render(lba, &stamped));
            content.insert(lba, stamped);
        }
        let offset = first * PAGE_BYTES as u64;
        let engine = self.attached(at)?;
        let written = if zeros {
            engine.discard(offset, count * PAGE_BYTES as u64)
        } else {
            engine.write(offset, &bytes)
        };
        // Durable at once: power cuts are another kind of run's business.
        written.and_then(|()| engine.flush()).map_err(refused_by_volume("write"))?;
        self.volumes[at].content.extend(content);
        let engine = self.engine(at)?;
        engine.maintain().map_err(refused_by_volume("maintain"))?;
        engine.give_back_step(false);
        Ok(())
    }

    pub(super) fn read(&mut self, at: usize) -> Result<(), Refused> {
        let first = self.rng.below(PAGES - 64);
        for lba in first..first + 64 {
            let mut page: Page = [0; PAGE_BYTES];
            let engine = self.attached(at)?;
            engine.read(lba * PAGE_BYTES as u64, &mut page).map_err(refused_by_volume("read"))?;
            if parse(lba, &page) != Some(shown(&self.volumes[at].content, lba)) {
                return Err(Violation::WrongRead { lba }.into());
            }
        }
        Ok(())
    }

    pub(super) fn hydrate(&mut self, at: usize) -> Result<(), Refused> {
        let block = self.rng.below(PAGES / PAGES_PER_BLOCK as u64);
        let engine = self.attached(at)?;
        engine.hydrate(block).map(drop).map_err(refused_by_volume("hydrate"))
    }

    /// Seals the volume's base anew under the volume's key, and has the volume read it.
    pub(super) fn reseal(&mut self, at: usize) -> Result<(), Refused> {
        let (from, to) = (self.volumes[at].base_key, self.volumes[at].key);
        let Some((id, base)) = self.volumes[at].base.filter(|_| from != to) else { return Ok(()) };
        let made = self.in_attempts(Tier::Standard, &mut |house, resume, watch| {
            let (source, target) = (&house.keys[from], &house.keys[to]);
            let keys = CopyKeys::Change { source, target };
            let job = CopyJob {
                source: &base,
                keys,
                earlier: None,
                resume,
                checkpoint_blocks: 3,
                threads: 0,
            };
            copy(&house.store, &house.store, &job, watch).map_err(refused("seal a base anew"))
        });
        self.held.clear();
        let Some(root) = made? else { return Ok(()) };
        let volume = &mut self.volumes[at];
        (volume.base, volume.base_key) = (Some((id, root)), to);
        volume.twin = None;
        self.outcome.resealed += 1;
        // What is attached still has the key of the old base; what must be opened first has not.
        let Some(mut engine) = volume.engine.take_if(|_| volume.attached) else { return Ok(()) };
        let key = Some(Arc::new(self.keys[from].duplicate()));
        let base = Base { id, reader: reader(&self.store, &root)?, key };
        engine.attach_base(base).map_err(refused_by_volume("exchange a base"))?;
        self.volumes[at].engine = Some(engine);
        Ok(())
    }

    pub(super) fn delete_volume(&mut self, at: usize) {
        self.volumes.swap_remove(at);
    }

    pub(super) fn check_volumes(&mut self) -> Result<(), Refused> {
        for at in 0..self.volumes.len() {
            let engine = self.engine(at)?;
            engine.check().map(drop).map_err(refused_by_volume("check"))?;
            for lba in 0..PAGES {
                let mut page: Page = [0; PAGE_BYTES];
                let engine = self.attached(at)?;
                engine
                    .read(lba * PAGE_BYTES as u64, &mut page)
                    .map_err(refused_by_volume("read"))?;
                if parse(lba, &page) != Some(shown(&self.volumes[at].content, lba)) {
                    return Err(Violation::WrongRead { lba }.into());
                }
            }
        }
        Ok(())
    }
}

fn structure(name: &str) -> StructureKey {
    StructureKey::derive(&Secret::new([7; 32]), name)
}
