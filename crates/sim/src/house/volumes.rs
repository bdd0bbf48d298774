//! The volumes of a house: engines over disks of their own.

use super::archiving::Tier;
use super::{
    House, PAGES, Pages, Refused, VOLUME_BYTES, reader, refused, refused_by_volume, shown,
};
use crate::disk::SimDisk;
use crate::model::{SECTORS, Violation, ZEROS, parse, render};
use base::{Rng, Secret};
use blockstore::live::{Base, CutId, Disk, Engine, EngineConfig, OpenOptions, VolumeOptions};
use blockstore::page::{PAGE_BYTES, PAGES_PER_BLOCK, Page, StructureKey};
use blockstore::snapshot::{CopyJob, CopyKeys, SnapshotRoot, copy};
use std::sync::Arc;

/// One volume.
pub(super) struct Volume {
    name: String,
    disk: Arc<SimDisk>,
    /// `None` while the base cannot be opened.
    pub(super) engine: Option<Engine>,
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
        let base = match &volume.base {
            None => None,
            Some((id, root)) => {
                let foreign = volume.base_key != volume.key;
                let key = foreign.then(|| Arc::new(self.keys[volume.base_key].duplicate()));
                let reader = match &volume.twin {
                    None => reader(&self.store, root)?,
                    Some(twin) => self.twin_reader(twin, root)?,
                };
                Some(Base { id: *id, reader, key })
            }
        };
        let options =
            OpenOptions { data_key: Some(self.keys[volume.key].duplicate()), base, writer: None };
        let (disk, structure) =
            (Arc::clone(&volume.disk) as Arc<dyn Disk>, structure(&volume.name));
        let rng = Arc::clone(&self.rng) as Arc<dyn Rng>;
        let engine = Engine::open(disk, structure, rng, EngineConfig::tiny(), options);
        self.volumes[at].engine = Some(engine.map_err(refused_by_volume("open a volume"))?);
        Ok(())
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
        let engine = self.engine(at)?;
        let written = if zeros {
            engine.discard(offset, count * PAGE_BYTES as u64)
        } else {
            engine.write(offset, &bytes)
        };
        // Durable at once: power cuts are another kind of run's business.
        written.and_then(|()| engine.flush()).map_err(refused_by_volume("write"))?;
        self.volumes[at].content.extend(content);
        let engine = self.engine(at)?;
        engine.maintain().map(drop).map_err(refused_by_volume("maintain"))
    }

    pub(super) fn read(&mut self, at: usize) -> Result<(), Refused> {
        let first = self.rng.below(PAGES - 64);
        for lba in first..first + 64 {
            let mut page: Page = [0; PAGE_BYTES];
            let engine = self.engine(at)?;
            engine.read(lba * PAGE_BYTES as u64, &mut page).map_err(refused_by_volume("read"))?;
            if parse(lba, &page) != Some(shown(&self.volumes[at].content, lba)) {
                return Err(Violation::WrongRead { lba }.into());
            }
        }
        Ok(())
    }

    pub(super) fn hydrate(&mut self, at: usize) -> Result<(), Refused> {
        let block = self.rng.below(PAGES / PAGES_PER_BLOCK as u64);
        let engine = self.engine(at)?;
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
        // What is open still has the key of the old base; what must be opened first has not.
        let Some(mut engine) = volume.engine.take() else { return Ok(()) };
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
                let engine = self.engine(at)?;
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
