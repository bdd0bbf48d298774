//! Snapshots that are uploaded block by block.

use super::archiving::Tier;
use super::{House, Pages, Refused, Snapshot, VOLUME_BYTES, refused, shown};
use crate::model::{Content, SECTORS, Violation, ZEROS, parse, render};
use blockstore::page::{BLOCK_BYTES, PAGE_BYTES, PAGES_PER_BLOCK};
use blockstore::snapshot::{
    Announced, DirectSession, SessionSpec, SnapshotRoot, list_sessions, release_session,
};
use objstore::ObjectStore;
use std::collections::BTreeMap;

/// Uploads at once.
const UPLOADS_MAX: usize = 2;
/// Blocks of a volume.
const BLOCKS: u64 = VOLUME_BYTES / BLOCK_BYTES as u64;

/// An upload under way.
pub(super) struct Upload {
    spec: SessionSpec,
    key: usize,
    parent_content: Pages,
    /// `None` after the process died, until somebody goes on.
    session: Option<DirectSession>,
    /// The stamp of each block that was acknowledged.
    blocks: BTreeMap<u64, u64>,
    /// A put that failed: the block is as before or has this stamp. It is repeated first.
    unsure: Option<(u64, u64)>,
}

impl Upload {
    pub(super) fn forget_session(&mut self) {
        self.session = None;
    }

    pub(super) fn parent(&self) -> Option<SnapshotRoot> {
        self.spec.parent
    }

    fn content(&self) -> Pages {
        let mut content = self.parent_content.clone();
        for (block, stamp) in &self.blocks {
            for (lba, page) in block_content(*block, *stamp) {
                content.insert(lba, page);
            }
        }
        content
    }
}

/// A block of one stamp; every third page holds zeros.
fn block_content(block: u64, stamp: u64) -> impl Iterator<Item = (u64, Content)> {
    let first = block * PAGES_PER_BLOCK as u64;
    (first..first + PAGES_PER_BLOCK as u64)
        .map(move |lba| (lba, if lba % 3 == 0 { ZEROS } else { [stamp; SECTORS] }))
}

fn block_bytes(block: u64, stamp: u64) -> Vec<u8> {
    block_content(block, stamp).flat_map(|(lba, content)| render(lba, &content)).collect()
}

impl House {
    /// Begins an upload, or goes on with one.
    pub(super) fn upload(&mut self) -> Result<(), Refused> {
        let Some(at) = self.pick(self.uploads.len()) else { return self.begin_upload() };
        if self.uploads.len() < UPLOADS_MAX && self.rng.below(4) == 0 {
            return self.begin_upload();
        }
        if self.uploads[at].session.is_none() {
            let spec = self.uploads[at].spec.clone();
            let session =
                DirectSession::open(&self.store, spec).map_err(refused("open an upload"))?;
            self.uploads[at].session = Some(session);
            self.outcome.resumed += 1;
        }
        match self.rng.below(8) {
            0 => self.meddled(Tier::Standard, &[], |house, _| house.complete_upload(at)),
            1 if self.uploads[at].unsure.is_none() => self.compare_upload(at),
            _ => self.meddled(Tier::Standard, &[], |house, _| house.put_block(at)),
        }
    }

    fn begin_upload(&mut self) -> Result<(), Refused> {
        let parent = self.pick(self.snapshots.len()).filter(|_| self.rng.below(2) == 0);
        let key = parent.map_or(0, |at| self.snapshots[at].key);
        let spec = SessionSpec {
            name: self.name("upload"),
            volume_bytes: VOLUME_BYTES,
            parent: parent.map(|at| self.snapshots[at].root),
            key_check: self.keys[key].check_value(),
        };
        let parent_content = parent.map(|at| self.snapshots[at].content.clone());
        let parent_content = parent_content.unwrap_or_default();
        let (session, blocks) = (None, BTreeMap::new());
        self.uploads.push(Upload { spec, key, parent_content, session, blocks, unsure: None });
        Ok(())
    }

    fn put_block(&mut self, at: usize) -> Result<(), Refused> {
        let fresh = (self.rng.below(BLOCKS), self.stamp());
        let upload = &mut self.uploads[at];
        let (block, stamp) = upload.unsure.unwrap_or(fresh);
        let Some(session) = &upload.session else { return Ok(()) };
        let bytes = block_bytes(block, stamp);
        upload.unsure = Some((block, stamp));
        let put = session.put_block(block, &bytes, None, &self.keys[upload.key]);
        put.map_err(refused("put a block"))?;
        upload.unsure = None;
        upload.blocks.insert(block, stamp);
        Ok(())
    }

    fn complete_upload(&mut self, at: usize) -> Result<(), Refused> {
        // A client repeats what failed before it completes.
        if self.uploads[at].unsure.is_some() {
            self.put_block(at)?;
        }
        let upload = &mut self.uploads[at];
        let Some(session) = &upload.session else { return Ok(()) };
        let announced = Announced { changed_blocks: upload.blocks.len() as u64, aggregate: None };
        let root = session.complete(&announced).map_err(refused("complete an upload"))?;
        let upload = self.uploads.swap_remove(at);
        let content = upload.content();
        self.snapshots.push(Snapshot { root, key: upload.key, content });
        self.outcome.uploads += 1;
        self.ended.push(upload.spec.name);
        self.release_ended()?;
        self.compare(self.snapshots.len() - 1)
    }

    /// What has ended holds nothing any more. Repeated until it succeeds.
    fn release_ended(&mut self) -> Result<(), Refused> {
        while let Some(name) = self.ended.last() {
            release_session(&self.store, name).map_err(refused("release an upload"))?;
            self.ended.pop();
        }
        Ok(())
    }

    pub(super) fn compare_upload(&mut self, at: usize) -> Result<(), Refused> {
        let upload = &self.uploads[at];
        let Some(session) = &upload.session else { return Ok(()) };
        if upload.unsure.is_some() {
            return Ok(());
        }
        let content = upload.content();
        for block in 0..BLOCKS {
            let read = session.read_block(block, &self.keys[upload.key]);
            let plain = read.map_err(refused("read an upload"))?;
            for page in 0..PAGES_PER_BLOCK {
                let lba = block * PAGES_PER_BLOCK as u64 + page as u64;
                let found = match &plain {
                    None => Some(ZEROS),
                    Some(plain) => {
                        let bytes = &plain.bytes[page * PAGE_BYTES..(page + 1) * PAGE_BYTES];
                        parse(lba, bytes.as_array().expect("a page is cut out"))
                    }
                };
                if found != Some(shown(&content, lba)) {
                    let id = upload.spec.name.clone();
                    return Err(Violation::WrongSnapshot { id, lba }.into());
                }
            }
        }
        Ok(())
    }

    pub(super) fn give_up_uploads(&mut self) -> Result<(), Refused> {
        let names = self.uploads.drain(..).map(|upload| upload.spec.name);
        self.ended.extend(names);
        self.release_ended()
    }

    /// The writers of every upload that is not released.
    pub(super) fn upload_writers(&self) -> Result<Vec<String>, Refused> {
        let mut writers = Vec::new();
        for name in list_sessions(&self.store).map_err(refused("list uploads"))? {
            let markers = self.objects.inner().list(&format!("sessions/{name}"));
            let markers = markers.map_err(|error| {
                let error = error.to_string();
                Violation::Failed { action: "list uploads", error }
            })?;
            let writer = |name: &str| name.rsplit('-').next().unwrap_or_default().to_owned();
            writers.extend(markers.iter().map(|meta| writer(&meta.name)));
        }
        Ok(writers)
    }
}
