//! Volumes that another machine has open: calls reach it, cuts are read beside it, and attachments that
//! were fenced do not open the volume again.

use super::store::{House, SIZE, cut_id, key, pattern, with_key};
use base::{OsRng, VolumeId};
use blockstore::check::{Fault, Stopped, Unwatched};
use blockstore::live::{Engine, EngineConfig, Error, OpenOptions};
use blockstore::page::{BLOCK_BYTES, CutSource, NoKey};
use blockstore::store::{
    Borrower, CheckError, EngineAnswer, EngineCall, LentVolume, Loan, StoreError, VolumeHandle,
};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The machine that borrows: an engine over the loan's disk, once there is one.
#[derive(Default)]
struct Machine(Mutex<Option<Arc<LentVolume>>>);

/// How a machine misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// It hears nothing.
    Away,
    /// It stands still, but not until it is told to cut.
    GoesOn,
    /// It cuts, and its answer is lost, as is all it is told from then on.
    AnswerLost,
    /// It cuts, its answer is lost, and it is heard of again.
    AnswerLostOnce,
    /// It gives up what it was asked to hold.
    Forgets,
}

struct Troubled(Arc<Machine>, Trouble, AtomicBool);

impl Troubled {
    fn new(machine: &Arc<Machine>, trouble: Trouble) -> Arc<Self> {
        Arc::new(Self(Arc::clone(machine), trouble, AtomicBool::new(false)))
    }
}

impl Borrower for Troubled {
    fn call(&self, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        let Self(machine, trouble, lost) = self;
        let away = || StoreError::Away { id: VolumeId::parse("vol-00000001").unwrap() };
        if *trouble == Trouble::Away || lost.load(Ordering::SeqCst) {
            return Err(away());
        }
        let answer = machine.call(call);
        match (call, trouble) {
            (EngineCall::StandStill, Trouble::GoesOn) => {
                machine.call(EngineCall::LetGo).unwrap();
            }
            (EngineCall::HoldState(_), Trouble::Forgets) => {
                machine.call(EngineCall::LetGo).unwrap();
            }
            (EngineCall::CutStill(_), Trouble::AnswerLost) => {
                lost.store(true, Ordering::SeqCst);
                return Err(away());
            }
            (EngineCall::CutStill(_), Trouble::AnswerLostOnce) => return Err(away()),
            _ => {}
        }
        answer
    }
}

impl Machine {
    fn open(&self, id: &VolumeId, loan: &Loan, writer: u64) -> Result<VolumeHandle, Error> {
        let options =
            OpenOptions { data_key: Some(key(1)), writer: Some(writer), ..OpenOptions::default() };
        let (disk, structure) = (Arc::clone(&loan.disk), loan.structure.duplicate());
        let engine = Engine::open(disk, structure, Arc::new(OsRng), EngineConfig::tiny(), options)?;
        let handle = VolumeHandle::over(id, engine, 4).unwrap();
        *self.0.lock().unwrap() = Some(Arc::new(LentVolume::new(handle.clone())));
        Ok(handle)
    }

    fn leave(&self) {
        self.0.lock().unwrap().take();
    }
}

impl Borrower for Machine {
    fn call(&self, call: EngineCall) -> Result<EngineAnswer, StoreError> {
        let open = self.0.lock().unwrap().clone();
        match open {
            Some(volume) => volume.call(call),
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
    assert_eq!((remote.size(), house.store.size(&id).unwrap()), (2 * SIZE, 2 * SIZE));

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

/// Says to other threads that the test is over, however it ends.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

/// A writer goes to and fro between a volume at another machine and one here with a counter, and writes
/// the next number only when the last was acknowledged. Whenever both are cut, the numbers are
/// neighbours.
#[test]
fn a_cut_of_volumes_here_and_elsewhere_is_of_one_moment() {
    let house = House::new();
    let (away, here) = (house.volume("vol-00000001"), house.volume("vol-00000002"));
    let machine = Arc::new(Machine::default());
    let loan = house.store.lend(&away, Arc::clone(&machine) as _).unwrap();
    let remote = machine.open(&away, &loan, 1).unwrap();
    let local = house.store.open_volume(&here, with_key(1)).unwrap();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for (number, volume) in (1u64..).zip([&remote, &local].into_iter().cycle()) {
                volume.write(0, number.to_le_bytes().repeat(512)).unwrap();
                written.store(number, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let _ends = Ends(&stop);
        for round in 0..20 {
            let before = written.load(Ordering::SeqCst);
            let cut = cut_id(&format!("snap-{round}"));
            let members = [(away.clone(), cut), (here.clone(), cut)];
            let infos = house.store.cut_many(&members).unwrap();
            assert_eq!(infos.len(), 2);
            let mut numbers = members.clone().map(|(id, cut)| {
                let root = house.export(&id, cut, None, None);
                let reader = blockstore::snapshot::SnapshotReader::open(&house.snapshots, &root);
                let block = reader.unwrap().read_block(0, &key(1)).unwrap();
                block.map_or(0, |block| number(&block.bytes[..]))
            });
            numbers.sort_unstable();
            assert_eq!(numbers[0], numbers[1].saturating_sub(1), "round {round}");
            assert!(numbers[1] >= before, "{numbers:?} {before}");
        }
    });
    machine.leave();
    remote.close().unwrap();
}

#[test]
fn when_a_machine_fails_a_common_cut_nothing_is_left_of_it() {
    use Trouble::{AnswerLost, AnswerLostOnce, Away, GoesOn};
    for trouble in [Away, GoesOn, AnswerLost, AnswerLostOnce] {
        let house = House::new();
        let (away, here) = (house.volume("vol-00000001"), house.volume("vol-00000002"));
        let machine = Arc::new(Machine::default());
        let loan = house.store.lend(&away, Troubled::new(&machine, trouble) as _).unwrap();
        let remote = machine.open(&away, &loan, 1).unwrap();
        let local = house.store.open_volume(&here, with_key(1)).unwrap();
        let cut = cut_id("snap-1");
        let failed = house.store.cut_many(&[(here.clone(), cut), (away.clone(), cut)]);
        let Err(StoreError::Member { id, cause }) = failed else { panic!("{failed:?}") };
        assert_eq!(id, away);
        match trouble {
            GoesOn => assert!(matches!(*cause, StoreError::WentOn { .. }), "{cause:?}"),
            _ => assert!(matches!(*cause, StoreError::Away { .. }), "{cause:?}"),
        }
        // Both write on, and neither has a cut, unless nobody could be told to drop it.
        for volume in [&remote, &local] {
            volume.write(0, pattern(1, 4096)).unwrap();
            volume.flush().unwrap();
        }
        assert_eq!(house.store.cuts(&here).unwrap(), [], "{trouble:?}");
        let left = machine.call(EngineCall::Cuts).unwrap();
        let is_left = !matches!(&left, EngineAnswer::Cuts(cuts) if cuts.is_empty());
        assert_eq!(is_left, trouble == AnswerLost, "{trouble:?} {left:?}");
        machine.leave();
        remote.close().unwrap();
        drop(loan);
        if is_left {
            house.store.drop_cut(&away, cut).unwrap();
        }
    }
}

#[test]
fn a_lent_volume_is_checked_while_its_machine_writes_it() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let machine = Arc::new(Machine::default());
    let loan = house.store.lend(&id, Arc::clone(&machine) as _).unwrap();
    let remote = machine.open(&id, &loan, 1).unwrap();
    let stop = AtomicBool::new(false);
    let busy = |round: u64| {
        remote.write(round % 40 * 65536, pattern(round as u8, 65536)).unwrap();
        remote.flush().unwrap();
    };
    (0..40).for_each(busy);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 40.. {
                busy(round);
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let _ends = Ends(&stop);
        for _ in 0..20 {
            match house.store.check_volume(&id, Some(None), &NoKey, &Unwatched) {
                Ok(report) => assert!(report.findings.is_empty(), "{:?}", report.findings),
                // Small segments are dead soon; that is noticed.
                Err(error) => {
                    assert!(matches!(error, CheckError::Stopped(Stopped::Overtaken)), "{error:?}");
                }
            }
        }
    });
    remote.flush().unwrap();
    let report = house.store.check_volume(&id, Some(None), &NoKey, &Unwatched).unwrap();
    assert!(report.findings.is_empty() && report.compared_pages > 0, "{report:?}");

    // Damage is found, and left to when the volume is back.
    let mut slot = vec![0; 4096];
    loan.disk.read(0, &mut slot).unwrap();
    let whole = slot.clone();
    slot[100] ^= 1;
    loan.disk.write(0, &slot).unwrap();
    let (report, repaired) =
        house.store.repair_volume(&id, Some(None), &NoKey, &Unwatched).unwrap();
    assert!(report.findings.has(Fault::SuperblockSlot) && !repaired, "{report:?}");
    loan.disk.write(0, &whole).unwrap();
    machine.leave();
    remote.close().unwrap();
}

#[test]
fn a_check_does_not_believe_what_was_not_kept_for_it() {
    let house = House::new();
    let id = house.volume("vol-00000001");
    let machine = Arc::new(Machine::default());
    let loan = house.store.lend(&id, Troubled::new(&machine, Trouble::Forgets) as _).unwrap();
    let remote = machine.open(&id, &loan, 1).unwrap();
    remote.write(0, pattern(1, 4096)).unwrap();
    let checked = house.store.check_volume(&id, Some(None), &NoKey, &Unwatched);
    let overtaken = matches!(checked, Err(CheckError::Stopped(Stopped::Overtaken)));
    assert!(overtaken, "{checked:?}");
    machine.leave();
    remote.close().unwrap();
}
