use super::*;

fn name() -> CutId {
    CutId::new("snap-0123456789abcdef0").unwrap()
}

fn requests() -> Vec<Request> {
    let cut = CutInfo { id: name(), generation: 7, volume_bytes: 1 << 30 };
    vec![
        Request::Renew,
        Request::Read { offset: 8192, length: 4096 },
        Request::Write { offset: 1 << 40, data: vec![7; 300] },
        Request::Flush,
        Request::Length,
        Request::Punch { offset: 65536, length: 1 << 26 },
        Request::Base { first: 128, count: 32 },
        Request::Blocks { first: 9, count: BASE_BLOCKS_MAX },
        Request::Goodbye,
        Request::Answer(Ok(EngineAnswer::Done)),
        Request::Answer(Ok(EngineAnswer::Cut(cut))),
        Request::Answer(Ok(EngineAnswer::Cuts(vec![cut, cut]))),
        Request::Answer(Ok(EngineAnswer::Generation(Some(3)))),
        Request::Answer(Ok(EngineAnswer::Generation(None))),
        Request::Answer(Ok(EngineAnswer::Stands(true))),
        Request::Answer(Ok(EngineAnswer::Size(1 << 40))),
        Request::Answer(Err(CallFailure::CutExists)),
        Request::Answer(Err(CallFailure::WentOn)),
        Request::ProvenPage { page: 9 },
        Request::Space { call: SpaceCall::Ask, need: Need { held: 1 << 30, upkeep: 1 << 26 } },
        Request::Space { call: SpaceCall::Refused, need: Need::default() },
        Request::Snapshots,
        Request::ForgetCached,
        Request::FillAhead { offset: 4096, length: 1 << 20 },
    ]
}

fn replies() -> Vec<Reply> {
    let sealed = BasePage::Sealed(SealedPage {
        origin: PageOrigin { salt: Salt([1; 32]), position: 5 },
        tag: Tag([2; 16]),
        ciphertext: Box::new([3; PAGE_BYTES]),
    });
    let welcome = |base, plain_key| {
        Reply::Welcome(Box::new(Welcome {
            epoch: 4,
            lease_ms: 20_000,
            structure: Secret::new([8; 32]),
            base,
            plain_key,
        }))
    };
    vec![
        welcome(None, None),
        welcome(Some(name()), Some(Secret::new([9; 64]))),
        Reply::Renewed(20_000),
        Reply::Done,
        Reply::Data(vec![5; 100]),
        Reply::Length(77),
        Reply::Pages(vec![BasePage::Zero, sealed]),
        Reply::Blocks(BlockSet::of(8, 20, |block| Ok::<_, ()>(block % 3 == 0)).unwrap()),
        Reply::Space { granted: false, is_short: true },
        Reply::Snapshots(SnapshotList::default()),
        Reply::Snapshots(SnapshotList {
            taken: vec![(name(), Some([6; 16])), (name(), None)],
            made_from: Some(name()),
        }),
        Reply::Failed(Failure::NoSpace),
        Reply::Fenced,
        Reply::LetGo,
        Reply::Call(EngineCall::Cut(name())),
        Reply::Call(EngineCall::Cuts),
        Reply::Call(EngineCall::ShowCut(name())),
        Reply::Call(EngineCall::NoteExport { cut: name(), snapshot: [1; 16] }),
        Reply::Call(EngineCall::ExportedGeneration { snapshot: [2; 16] }),
        Reply::Call(EngineCall::DropCut(name())),
        Reply::Call(EngineCall::Resize { size_bytes: 2 << 30 }),
        Reply::Call(EngineCall::PrepareCut(name())),
        Reply::Call(EngineCall::StandStill),
        Reply::Call(EngineCall::CutStill(name())),
        Reply::Call(EngineCall::GoOn),
        Reply::Call(EngineCall::HoldState(3)),
        Reply::Call(EngineCall::StateStands(4)),
        Reply::Call(EngineCall::ReleaseState(5)),
        Reply::Call(EngineCall::LetGo),
        Reply::Call(EngineCall::Size),
    ]
}

/// Without the length.
fn bodies(frames: impl Iterator<Item = Vec<u8>>) -> Vec<Vec<u8>> {
    frames.map(|frame| frame[4..].to_vec()).collect()
}

#[test]
fn what_is_written_is_read() {
    for (id, request) in requests().into_iter().enumerate() {
        let bytes = request.encode(id as u64);
        assert_eq!(Request::decode(&bytes[4..]), Some((id as u64, request)));
    }
    for (id, reply) in replies().into_iter().enumerate() {
        let bytes = reply.encode(id as u64);
        let (read, again) = Reply::decode(&bytes[4..]).unwrap();
        assert_eq!((read, again.encode(read)), (id as u64, bytes));
    }
}

#[test]
fn the_bytes_of_version_5_stay() {
    let write = Request::Write { offset: 0x0102, data: vec![0xaa, 0xbb] }.encode(5);
    assert_eq!(write, [19, 0, 0, 0, 3, 5, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0xaa, 0xbb]);
    let proven = Request::ProvenPage { page: 0x0304 }.encode(6);
    assert_eq!(proven, [17, 0, 0, 0, 12, 6, 0, 0, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0]);
    let ahead = Request::FillAhead { offset: 0x0506, length: 0x0708 }.encode(7);
    assert_eq!(ahead[..13], [21, 0, 0, 0, 15, 7, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(ahead[13..], [6, 5, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0]);
    let blocks = Request::Blocks { first: 0x090a, count: 0x0b0c }.encode(8);
    assert_eq!(blocks[..13], [21, 0, 0, 0, 8, 8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(blocks[13..], [10, 9, 0, 0, 0, 0, 0, 0, 12, 11, 0, 0]);
    let there = BlockSet::of(5, 9, |block| Ok::<_, ()>(block == 5 || block == 13)).unwrap();
    let bytes = Reply::Blocks(there).encode(9);
    assert_eq!(bytes, [11, 0, 0, 0, 134, 9, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    let need = Need { held: 5, upkeep: 0x0607 };
    let ask = Request::Space { call: SpaceCall::Tell, need }.encode(8);
    assert_eq!(ask[..14], [26, 0, 0, 0, 13, 8, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert_eq!(ask[14..], [5, 0, 0, 0, 0, 0, 0, 0, 7, 6, 0, 0, 0, 0, 0, 0]);
    let Reply::Welcome(welcome) = replies().remove(1) else { unreachable!() };
    let bytes = welcome.encode(0);
    assert_eq!(bytes[..14], [142, 0, 0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, VERSION]);
    assert_eq!(bytes[14..26], [4, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x4e, 0, 0]);
    assert_eq!((&bytes[26..58], bytes[58], bytes[81]), (&[8; 32][..], 22, 1));
    assert_eq!(bytes[82..], [9; 64]);
    let hold = Reply::Call(EngineCall::HoldState(3)).encode(7);
    assert_eq!(hold, [18, 0, 0, 0, 138, 7, 0, 0, 0, 0, 0, 0, 0, 12, 3, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn limits_are_kept() {
    let refused = [
        Request::Read { offset: 0, length: DATA_BYTES_MAX as u32 + 1 },
        Request::Read { offset: 0, length: 0 },
        Request::Read { offset: u64::MAX, length: 1 },
        Request::Write { offset: u64::MAX, data: vec![0] },
        Request::Punch { offset: 2, length: u64::MAX },
        Request::Base { first: 0, count: BASE_PAGES_MAX + 1 },
        Request::Blocks { first: 0, count: 0 },
        Request::Blocks { first: 0, count: BASE_BLOCKS_MAX + 1 },
        Request::Blocks { first: u64::MAX, count: 1 },
        Request::FillAhead { offset: 0, length: DATA_BYTES_MAX as u32 + 1 },
        Request::FillAhead { offset: u64::MAX, length: 1 },
    ];
    for request in refused {
        assert_eq!(Request::decode(&request.encode(1)[4..]), None, "{request:?}");
    }
    let mut other_version = replies().remove(0).encode(0);
    other_version[13] = VERSION + 1;
    assert!(Reply::decode(&other_version[4..]).is_none());
}

#[test]
fn a_set_has_the_blocks_that_were_found_and_no_other() {
    let has = |block: u64| block % 7 == 3 || block == 5000;
    for (first, count) in [(0, 1), (3, 8), (4999, 9), (0, BASE_BLOCKS_MAX)] {
        let set = BlockSet::of(first, count, |block| Ok::<_, ()>(has(block))).unwrap();
        assert!(set.is_of(count) && !set.is_of(count + 8));
        assert!((0..count).all(|at| set.has(at) == has(first + u64::from(at))));
        assert!(!set.has(count));
    }
    assert_eq!(BlockSet::of(0, 9, |block| if block == 8 { Err(block) } else { Ok(true) }), Err(8));
    let long = [&[134][..], &[0; 8], &[0; BASE_BLOCKS_MAX as usize / 8 + 1]].concat();
    assert!(Reply::decode(&long).is_none() && Reply::decode(&long[1..]).is_none());
    assert!(Reply::decode(&long[..long.len() - 1]).is_some());
}

#[test]
fn more_snapshots_than_fit_are_left_out() {
    let list = SnapshotList { taken: vec![(name(), None); SNAPSHOTS_MAX + 1], made_from: None };
    let bytes = Reply::Snapshots(list).encode(1);
    let Some((1, Reply::Snapshots(read))) = Reply::decode(&bytes[4..]) else {
        panic!("the list is not read");
    };
    assert_eq!(read.taken.len(), SNAPSHOTS_MAX);
    let mut longer = bytes[4..].to_vec();
    longer.extend_from_slice(&bytes[bytes.len() - 23..]);
    assert!(Reply::decode(&longer).is_none());
}

#[tokio::test]
async fn a_length_is_checked_before_memory_is_taken() {
    let long = (FRAME_BYTES_MAX as u32 + 1).to_le_bytes();
    let error = read_frame(&mut &long[..]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(read_frame(&mut &8u32.to_le_bytes()[..]).await.is_err());
    assert_eq!(read_frame(&mut &[][..]).await.unwrap(), None);
    assert!(read_frame(&mut &[9, 0, 0, 0, 1][..]).await.is_err());
}

fuzz::target!(
    /// A request is refused or means one thing.
    requests_are_understood_or_refused,
    bodies(requests().iter().map(|request| request.encode(3))),
    |bytes: &[u8]| {
        if let Some((id, request)) = Request::decode(bytes) {
            assert_eq!(&request.encode(id)[4..], bytes);
        }
    }
);

fuzz::target!(
    /// A reply is refused or means one thing.
    replies_are_understood_or_refused,
    bodies(replies().iter().map(|reply| reply.encode(3))),
    |bytes: &[u8]| {
        if let Some((id, reply)) = Reply::decode(bytes) {
            assert_eq!(&reply.encode(id)[4..], bytes);
        }
    }
);
