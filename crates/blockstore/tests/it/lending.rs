//! Volumes that another machine has open: calls reach it, cuts are read beside it, and attachments that
//! were fenced do not open the volume again.

use super::store::{House, SIZE, cut_id, key, pattern, with_key};
use base::{OsRng, VolumeId};
use blockstore::live::{Engine, EngineConfig, Error, OpenOptions};
use blockstore::page::{BLOCK_BYTES, CutSource};
use blockstore::store::{Borrower, EngineAnswer, EngineCall, Loan, StoreError, VolumeHandle};
use std::sync::{Arc, Mutex};

/// The machine that borrows: an engine over the loan's disk, once there is one.
#[derive(Default)]
struct Machine(Mutex<Option<VolumeHandle>>);

impl Machine {
    fn open(&self, id: &VolumeId, loan: &Loan, writer: u64) -> Result<VolumeHandle, Error> {
        let options =
            OpenOptions { data_key: Some(key(1)), writer: Some(writer), ..OpenOptions::default() };
        let (disk, structure) = (Arc::clone(&loan.disk), loan.structure.duplicate());
        let engine = Engine::open(disk, structure, Arc::new(OsRng), EngineConfig::tiny(), options)?;
        let handle = VolumeHandle::over(id, engine, 4).unwrap();
        *self.0.lock().unwrap() = Some(handle.clone());
        Ok(handle)
    }

    fn leave(&self) {
        self.0.lock().unwrap().take();
    }
}

impl Borrower for Machine {
    fn call(&self, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        match &*self.0.lock().unwrap() {
            Some(handle) => handle.call(call),
            None => Err(StoreError::Away { id: VolumeId::parse("vol-00000001").unwrap() }),
        }
    }
}

#[test]
fn a_lent_volume_is_cut_exported_and_resized_where_it_is_open() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let machine = Arc::new(Machine::default());
    let loan = house.store.lend(&id, Arc::clone(&machine) as _).unwrap();
    let away = house.store.cut(&id, cut_id("snap-1"));
    assert!(matches!(away, Err(StoreError::Away { .. })), "{away:?}");

    let remote = machine.open(&id, &loan, 1).unwrap();
    let first = pattern(5, 2 * BLOCK_BYTES);
    remote.write(0, first.clone()).unwrap();
    house.store.cut(&id, cut_id("snap-1")).unwrap();
    remote.write(0, pattern(6, BLOCK_BYTES)).unwrap();
    let again = house.store.cut(&id, cut_id("snap-1"));
    assert!(matches!(again, Err(StoreError::Volume(Error::CutExists { .. }))), "{again:?}");
    assert_eq!(house.store.cuts(&id).unwrap().len(), 1);

    let source = house.store.open_cut(&id, cut_id("snap-1"), None).unwrap();
    // The machine goes on, checkpoints and cleans while the cut is read.
    for round in 0..40u8 {
        remote.write(u64::from(round % 7) * 4096, pattern(round, 64 << 10)).unwrap();
        remote.flush().unwrap();
    }
    assert_eq!(source.changed_blocks().map(Result::unwrap).collect::<Vec<_>>(), [0, 1]);
    drop(source);
    let root = house.export(&id, cut_id("snap-1"), None, None);
    assert_eq!(house.store.exported_generation(&id, root.id()).unwrap(), Some(1));
    let reader = blockstore::snapshot::SnapshotReader::open(&house.snapshots, &root).unwrap();
    let block = reader.read_block(1, &key(1)).unwrap().unwrap();
    assert_eq!(&block.bytes[..], &first[BLOCK_BYTES..]);

    house.store.resize(&id, 2 * SIZE).unwrap();
    assert_eq!(remote.size(), 2 * SIZE);

    // Nobody here opens or deletes it meanwhile.
    for refused in [
        house.store.open_volume(&id, with_key(1)).err(),
        house.store.delete_volume(&id).err(),
        house.store.with(&id, |engine| Ok(engine.usage())).err(),
        house.store.lend(&id, Arc::clone(&machine) as _).err(),
    ] {
        assert!(matches!(refused, Some(StoreError::InUse { .. })), "{refused:?}");
    }
    machine.leave();
    remote.close().unwrap();
    drop(loan);
    assert_eq!(house.store.cuts(&id).unwrap(), []);
    house.store.delete_volume(&id).unwrap();
}

#[test]
fn an_attachment_that_was_fenced_does_not_open_the_volume() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let opened = |writer| {
        let options = OpenOptions { writer: Some(writer), ..with_key(1) };
        house.store.open_volume(&id, options).and_then(VolumeHandle::close)
    };
    opened(3).unwrap();
    opened(3).unwrap();
    // Opening it without an attachment, for a cut, keeps the epoch.
    house.store.cut(&id, cut_id("snap-1")).unwrap();
    let fenced = opened(2);
    let expected = matches!(fenced, Err(StoreError::Volume(Error::Fenced { given: 2, newest: 3 })));
    assert!(expected, "{fenced:?}");
    opened(4).unwrap();

    // The same where the volume is open for a cut already when the attachment arrives.
    let pinned = house.store.open_cut(&id, cut_id("snap-1"), None).unwrap();
    assert!(matches!(opened(3), Err(StoreError::Volume(Error::Fenced { .. }))));
    drop(pinned);
}
