//! What is told to have changed since a cut, against a model that remembers every page.

use base::{OsRng, Secret, VolumeId};
use blockstore::live::{
    ChangeState, CutId, EngineConfig, Error, OpenOptions, Stretch, VolumeOptions,
};
use blockstore::page::{DataKey, PAGE_BYTES};
use blockstore::store::{Store, StoreConfig, StoreError, VolumeHandle};
use proptest::prelude::*;
use std::path::Path;
use std::sync::Arc;

const PAGE: u64 = PAGE_BYTES as u64;
/// More than one map page above the leaves covers, so that whole subtrees are passed over.
const SIZE: u64 = 100 << 20;
const PAGES: usize = (SIZE / PAGE) as usize;

fn store(folder: &Path) -> Store {
    let config = StoreConfig { engine: EngineConfig::tiny(), ..StoreConfig::server() };
    Store::open(folder, Secret::new([9; 32]), Arc::new(OsRng), config).unwrap()
}

fn id() -> VolumeId {
    VolumeId::parse("vol-00000001").unwrap()
}

fn create(store: &Store) -> VolumeHandle {
    let options = VolumeOptions { size_bytes: SIZE, key_check: None, base: None };
    store.create_volume(&id(), &options).unwrap();
    open(store)
}

fn open(store: &Store) -> VolumeHandle {
    let data_key = Some(DataKey::new(&Secret::new([1; 64])));
    store.open_volume(&id(), OpenOptions { data_key, ..OpenOptions::default() }).unwrap()
}

/// The whole answer about a range, page by page; asked again where an answer ends early.
fn changed(store: &Store, since: u32, first: usize, count: usize) -> Vec<bool> {
    let (mut at, end) = (first as u64 * PAGE, (first + count) as u64 * PAGE);
    let mut pages = Vec::new();
    while at < end {
        let part = store.with(&id(), move |engine| engine.changes_since(since, at, end - at));
        for Stretch { length, state } in part.unwrap() {
            assert!(length > 0 && length % PAGE == 0);
            at += length;
            pages.extend((0..length / PAGE).map(|_| state == ChangeState::Changed));
        }
    }
    assert_eq!(at, end, "an answer does not reach beyond the question");
    pages
}

#[derive(Clone, Debug)]
enum Step {
    Write { page: usize, count: usize },
    Zero { page: usize, count: usize },
    Cut,
    Checkpoint,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Half of what happens lies in a small part, so that layers and the stored map overlap.
    let place = || {
        let near = (0usize..400, 1usize..40);
        let far = (0usize..PAGES, 1usize..600);
        prop_oneof![near, far].prop_map(|(page, count)| (page, count.min(PAGES - page)))
    };
    let step = prop_oneof![
        6 => place().prop_map(|(page, count)| Step::Write { page, count: count.min(40) }),
        3 => place().prop_map(|(page, count)| Step::Zero { page, count }),
        2 => Just(Step::Cut),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// For each page the generation of its newest change, and what is allowed where nothing was there
/// to be zeroed: telling a change or none.
struct Model {
    newest: Vec<u32>,
    generation: u32,
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn changes_are_told_exactly(steps in steps(), windows in prop::collection::vec((0usize..PAGES, 1usize..5000), 4)) {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let mut volume = create(&store);
        let mut model = Model { newest: vec![0; PAGES], generation: 1 };
        for step in steps {
            match step {
                Step::Write { page, count } => {
                    volume.write(page as u64 * PAGE, vec![7; count * PAGE_BYTES]).unwrap();
                    model.newest[page..page + count].fill(model.generation);
                }
                Step::Zero { page, count } => {
                    // Written first, so that there is something to be zeroed everywhere.
                    let range = page..page + count.min(64);
                    let (at, bytes) = (page as u64 * PAGE, range.len() as u64 * PAGE);
                    volume.write(at, vec![8; bytes as usize]).unwrap();
                    volume.write_zeroes(at, bytes).unwrap();
                    model.newest[range].fill(model.generation);
                }
                Step::Cut => {
                    let cut = CutId::new(&format!("snap-{}", model.generation)).unwrap();
                    let made = volume.cut(cut).unwrap();
                    prop_assert_eq!(made.generation, model.generation);
                    store.drop_cut(&id(), cut).unwrap();
                    model.generation += 1;
                }
                Step::Checkpoint => store.with(&id(), |engine| engine.checkpoint()).unwrap(),
                Step::Reopen => {
                    volume.close().unwrap();
                    volume = open(&store);
                }
            }
        }
        for since in [0, model.generation / 2, model.generation - 1, model.generation] {
            let expected: Vec<bool> = model.newest.iter().map(|newest| *newest > since).collect();
            prop_assert!(changed(&store, since, 0, PAGES) == expected, "since {}", since);
            for (first, count) in &windows {
                let count = *count.min(&(PAGES - first));
                let told = changed(&store, since, *first, count);
                prop_assert!(told == expected[*first..first + count], "window {} {}", first, count);
            }
        }
        volume.close().unwrap();
    }
}

#[test]
fn ranges_need_not_be_pages_and_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let volume = create(&store);
    volume.write(PAGE * 3, vec![1; PAGE_BYTES]).unwrap();
    let ask = |offset, length| {
        store.with(&id(), move |engine| engine.changes_since(0, offset, length)).map(|told| {
            told.iter().map(|s| (s.length, s.state == ChangeState::Changed)).collect::<Vec<_>>()
        })
    };
    assert_eq!(ask(PAGE * 2 + 7, PAGE * 2).unwrap(), [(PAGE - 7, false), (PAGE, true), (7, false)]);
    assert_eq!(ask(PAGE * 3 + 1, 1).unwrap(), [(1, true)]);
    assert_eq!(ask(0, SIZE).unwrap(), [(PAGE * 3, false), (PAGE, true), (SIZE - PAGE * 4, false)]);
    for (offset, length) in [(0, 0), (SIZE, 1), (0, SIZE + 1), (1, u64::MAX)] {
        let outside = ask(offset, length);
        let error = StoreError::Volume(Error::OutOfRange { offset, length, size: SIZE });
        assert_eq!(outside.unwrap_err().to_string(), error.to_string());
    }
    volume.close().unwrap();
}

/// A volume of which every other page changed is told in parts.
#[test]
fn answers_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let volume = create(&store);
    for page in (0..4096).step_by(2) {
        volume.write(page * PAGE, vec![1; PAGE_BYTES]).unwrap();
    }
    let told = store.with(&id(), |engine| engine.changes_since(0, 0, SIZE)).unwrap();
    assert_eq!(told.len(), 1024);
    assert!(told.iter().all(|stretch| stretch.length == PAGE));
    let expected: Vec<bool> = (0..PAGES).map(|page| page < 4096 && page % 2 == 0).collect();
    assert!(changed(&store, 0, 0, PAGES) == expected);
    volume.close().unwrap();
}
