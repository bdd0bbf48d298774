//! Checking what the rows say is stored: volumes, snapshots, and the packs behind both.
//!
//! Nothing is changed unless derived structure is to be made anew. Data keys are used where they are
//! at hand: a volume's while it is attached, and those of plain snapshots, which the service holds.
//! No call is made to KMS.

use crate::cells::{Cell, Cells, name_of};
use crate::services::{Services, Trouble};
use base::{Region, SnapshotId, VolumeId};
use blockstore::check::{CheckWatch, Fault, Finding, Findings, Stopped};
use blockstore::page::{DataKey, KeyAtHand, NoKey};
use blockstore::snapshot::{self, PackScope, Repair, SnapshotChecker, SnapshotRoot};
use blockstore::store::{CheckError, StoreError};
use ebs::roots::live_roots;
use ebs::{Snapshot, StoreKind, Volume, VolumeState, WrappedKey, tiering, twin};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What to check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Every region's volumes, snapshots and packs.
    All,
    /// One volume with its cuts and its base.
    Volume(VolumeId),
    /// One snapshot.
    Snapshot(SnapshotId),
}

/// What may be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Nothing.
    Report,
    /// What is derived from something that is whole.
    RepairIndex,
}

/// Follows a check.
pub trait Watch: CheckWatch {
    /// The `number`th of `total` things comes now.
    fn begins(&self, id: &str, number: u64, total: u64);
}

/// What came of a check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Report {
    /// Every volume and snapshot looked at, and the store of each region.
    pub subjects: Vec<Subject>,
    /// What was made anew, or could not be.
    pub repairs: Vec<RepairLine>,
}

/// One thing that was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Subject {
    /// `volume`, `snapshot`, `twin` for what a snapshot is restored fast from, `work` for what is being
    /// made, `region` for one that is not here, `store` for packs, `archive` for those of archived
    /// snapshots, `twins` for those of twins.
    pub kind: String,
    /// Its id, or the region's name.
    pub id: String,
    /// Where it is.
    pub region: String,
    /// Bytes of data and structure read for it. What several snapshots share counts once.
    pub bytes: u64,
    /// Pages and frames that a data key opened.
    pub opened: u64,
    /// Pages and frames that were compared without a data key.
    pub compared: u64,
    /// Of a store: bytes in packs that nothing named at this moment.
    pub unreferenced_bytes: u64,
    /// What is wrong.
    pub findings: Vec<FindingLine>,
    /// How many findings were left out.
    pub more_findings: u64,
    /// Why not everything of it was seen.
    pub unchecked: Option<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct FindingLine {
    /// What kind; the codes are stable.
    pub fault: String,
    /// The object or the page of the volume's file.
    pub place: String,
    /// The 512 KiB block that is affected.
    pub block: Option<u64>,
    /// The same for a person.
    pub detail: String,
    /// Whether it was made right.
    pub repaired: bool,
}

/// Something that was made anew, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RepairLine {
    /// The volume or object.
    pub place: String,
    /// Whether it is right now.
    pub done: bool,
    /// What was done, or why it was not.
    pub detail: String,
}

impl Report {
    /// Findings that still stand.
    pub fn damage(&self) -> u64 {
        let standing = |subject: &Subject| {
            let standing = subject.findings.iter().filter(|finding| !finding.repaired).count();
            standing as u64 + subject.more_findings
        };
        self.subjects.iter().map(standing).sum()
    }

    /// Whether everything asked for was seen.
    pub fn is_complete(&self) -> bool {
        self.subjects.iter().all(|subject| subject.unchecked.is_none())
    }
}

impl Subject {
    fn new(kind: &str, id: impl ToString, region: &Region) -> Self {
        let (kind, id, region) = (kind.to_owned(), id.to_string(), region.to_string());
        Self { kind, id, region, ..Self::default() }
    }

    fn take(&mut self, findings: &Findings) {
        self.findings.extend(findings.iter().map(FindingLine::new));
        self.more_findings += findings.more();
    }
}

impl FindingLine {
    fn new(finding: &Finding) -> Self {
        let Finding { fault, place, block, detail } = finding.clone();
        Self { fault: fault.code().to_owned(), place, block, detail, repaired: false }
    }
}

/// What the rows say is there.
pub struct Survey {
    target: Target,
    regions: Vec<RegionSurvey>,
    /// Volumes whose file has not been made since an earlier release.
    unmade: BTreeSet<VolumeId>,
    /// Regions that the rows know and that are not here.
    elsewhere: Vec<Region>,
}

struct RegionSurvey {
    region: Region,
    volumes: Vec<Volume>,
    snapshots: Vec<Snapshot>,
    /// What snapshots have in the archive, by snapshot.
    archived: BTreeMap<SnapshotId, Vec<u8>>,
    /// Twins that are whole, by snapshot.
    twins: BTreeMap<SnapshotId, Vec<u8>>,
    /// Twins that volumes read, by volume.
    read_twins: BTreeMap<VolumeId, Vec<u8>>,
    /// Everything in each store that must not be collected.
    live_roots: BTreeMap<StoreKind, BTreeSet<Vec<u8>>>,
}

/// Why there is nothing to check.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The rows do not have it.
    #[error("there is no {id} in any region served here")]
    NotFound {
        /// What was asked for.
        id: String,
    },
    /// The rows cannot be read.
    #[error(transparent)]
    Rows(#[from] Trouble),
}

/// Reads what there is to check.
///
/// # Errors
/// When the rows fail or do not have the target.
pub async fn survey(
    services: &Services,
    regions: impl Iterator<Item = Region>,
    target: Target,
) -> Result<Survey, SurveyError> {
    let mut found = Vec::new();
    let unmade = services.db.read(ebs::volume::without_file).await.map_err(Trouble::from)?;
    let unmade = unmade.into_iter().map(|volume| volume.id).collect();
    let mut elsewhere = Vec::new();
    if target == Target::All {
        let in_use = services.db.read(ebs::volume::regions_in_use);
        elsewhere = in_use.await.map_err(Trouble::from)?;
    }
    for region in regions {
        elsewhere.retain(|other| *other != region);
        let here = region.clone();
        let rows = services.db.read(move |tx| read_region(tx, &here));
        let mut survey = rows.await.map_err(Trouble::from)?;
        match &target {
            Target::All => {}
            Target::Volume(id) => {
                survey.volumes.retain(|volume| volume.id == *id);
                survey.snapshots.clear();
            }
            Target::Snapshot(id) => {
                survey.snapshots.retain(|snapshot| snapshot.id == *id);
                survey.volumes.clear();
            }
        }
        if target == Target::All || !survey.volumes.is_empty() || !survey.snapshots.is_empty() {
            found.push(survey);
        }
    }
    match (&target, found.is_empty()) {
        (Target::Volume(id), true) => Err(SurveyError::NotFound { id: id.to_string() }),
        (Target::Snapshot(id), true) => Err(SurveyError::NotFound { id: id.to_string() }),
        _ => Ok(Survey { target, regions: found, unmade, elsewhere }),
    }
}

fn read_region(tx: &mut meta::Tx<'_>, region: &Region) -> ebs::Result<RegionSurvey> {
    let archived = tiering::list_archived(tx, region)?;
    let archived = archived.into_iter().filter_map(|row| Some((row.snapshot, row.archive_root?)));
    let mut live = BTreeMap::new();
    for store in StoreKind::ALL {
        live.insert(store, live_roots(tx, region, store)?);
    }
    let twins = twin::list_all(tx, region)?;
    let twins = twins.into_iter().filter_map(|twin| Some((twin.snapshot, twin.root?)));
    Ok(RegionSurvey {
        region: region.clone(),
        volumes: ebs::volume::list_all(tx, region)?,
        snapshots: ebs::snapshot::list_all(tx, region)?,
        archived: archived.collect(),
        twins: twins.collect(),
        read_twins: twin::read_by_volume(tx, region)?,
        live_roots: live,
    })
}

/// Checks what was surveyed. Blocks its thread for as long as that takes.
///
/// # Errors
/// When the check was cancelled. Damage is no error: it is in the report.
pub fn run(
    services: &Services,
    cells: &Cells,
    survey: &Survey,
    mode: Mode,
    watch: &dyn Watch,
) -> Result<Report, Stopped> {
    let things = |region: &RegionSurvey| region.volumes.len() + region.snapshots.len() + 1;
    let total = survey.regions.iter().map(things).sum::<usize>() as u64;
    let mut report = Report::default();
    for region in &survey.regions {
        let Some(cell) = cells.get(&region.region) else { continue };
        let number = report.subjects.len() as u64;
        let unmade = &survey.unmade;
        let check =
            RegionCheck { services, cell, rows: region, unmade, mode, watch, number, total };
        check.run(&survey.target, &mut report)?;
    }
    for region in &survey.elsewhere {
        let mut subject = Subject::new("region", region, region);
        let words = "there are volumes or snapshots of it, and it is not among the regions in the data \
            directory, or not among those that the server serves";
        subject.unchecked = Some(words.to_owned());
        report.subjects.push(subject);
    }
    Ok(report)
}

/// What of one store was checked.
struct StoreCheck<'a> {
    store: StoreKind,
    checker: SnapshotChecker<'a>,
    /// Roots that belong to a snapshot or a volume.
    known: BTreeSet<Vec<u8>>,
}

impl<'a> StoreCheck<'a> {
    fn begin(cell: &Cell, store: StoreKind, watch: &'a dyn Watch) -> Self {
        let checker = SnapshotChecker::new(cell.of_store(store), watch);
        Self { store, checker, known: BTreeSet::new() }
    }
}

/// What of a region's stores was checked.
struct StoreChecks<'a> {
    standard: StoreCheck<'a>,
    archive: StoreCheck<'a>,
    twins: StoreCheck<'a>,
}

impl<'a> StoreChecks<'a> {
    fn each(&mut self) -> [&mut StoreCheck<'a>; 3] {
        [&mut self.standard, &mut self.archive, &mut self.twins]
    }
}

/// The check of one region.
struct RegionCheck<'a> {
    services: &'a Services,
    cell: &'a Cell,
    rows: &'a RegionSurvey,
    unmade: &'a BTreeSet<VolumeId>,
    mode: Mode,
    watch: &'a dyn Watch,
    number: u64,
    total: u64,
}

impl RegionCheck<'_> {
    fn run(mut self, target: &Target, report: &mut Report) -> Result<(), Stopped> {
        let begin = |store| StoreCheck::begin(self.cell, store, self.watch);
        let mut stores = StoreChecks {
            standard: begin(StoreKind::Standard),
            archive: begin(StoreKind::Archive),
            twins: begin(StoreKind::Twins),
        };
        // Those with a key first: what they share with others is opened then. Volumes that are attached
        // have theirs.
        let (plain, encrypted): (Vec<_>, Vec<_>) =
            self.rows.snapshots.iter().partition(|row| !row.is_encrypted());
        self.snapshots(&plain, &mut stores, report)?;
        let mut volumes = Vec::new();
        for row in &self.rows.volumes {
            self.begins(row.id.as_str());
            volumes.push(self.volume(row, &mut stores, &mut report.repairs)?);
        }
        self.snapshots(&encrypted, &mut stores, report)?;
        report.subjects.append(&mut volumes);
        self.begins(self.rows.region.as_str());
        let mut scope = PackScope::Named;
        if *target == Target::All {
            scope = PackScope::Whole;
            let mut work = Subject::new("work", &self.rows.region, &self.rows.region);
            for tier in stores.each() {
                let live = &self.rows.live_roots[&tier.store];
                let unknown: Vec<_> = live.difference(&tier.known).collect();
                for root in unknown {
                    self.root(root, &NoKey, &mut tier.checker, &mut work)?;
                }
            }
            if work != Subject::new("work", &self.rows.region, &self.rows.region) {
                report.subjects.push(work);
            }
        }
        stores.each().into_iter().try_for_each(|store| self.packs(store, scope, report))
    }

    fn snapshots(
        &mut self,
        rows: &[&Snapshot],
        stores: &mut StoreChecks<'_>,
        report: &mut Report,
    ) -> Result<(), Stopped> {
        for row in rows {
            self.begins(row.id.as_str());
            report.subjects.push(self.snapshot(row, stores)?);
            if let Some(root) = self.rows.twins.get(&row.id) {
                report.subjects.push(self.twin(row, root, &mut stores.twins)?);
            }
        }
        Ok(())
    }

    fn begins(&mut self, id: &str) {
        self.watch.begins(id, self.number, self.total);
        self.number += 1;
    }

    /// The data key of what has no KMS key.
    fn plain_key(&self, kms_key_arn: Option<&String>, key: Option<&WrappedKey>) -> Option<DataKey> {
        let key = key.filter(|_| kms_key_arn.is_none())?;
        // A key that does not open is the row's damage; the pages are compared all the same.
        let key = self.services.plain.open(key).ok()?;
        Some(DataKey::new(&key))
    }

    fn snapshot(&self, row: &Snapshot, stores: &mut StoreChecks<'_>) -> Result<Subject, Stopped> {
        let mut subject = Subject::new("snapshot", &row.id, &self.rows.region);
        let key = self.plain_key(row.kms_key_arn.as_ref(), row.data_key.as_ref());
        // A snapshot that is being made has no root; what it has is work under way. One that is
        // restored for some days has a root in both tiers.
        let StoreChecks { standard, archive, .. } = stores;
        let roots = [(standard, row.root.as_ref()), (archive, self.rows.archived.get(&row.id))];
        for (tier, root) in roots {
            if let Some(root) = root {
                tier.known.insert(root.clone());
                self.root(root, &key, &mut tier.checker, &mut subject)?;
            }
        }
        Ok(subject)
    }

    /// The twin of a snapshot. What is damaged in it is read from the snapshot.
    fn twin(
        &self,
        row: &Snapshot,
        root: &[u8],
        twins: &mut StoreCheck<'_>,
    ) -> Result<Subject, Stopped> {
        let mut subject = Subject::new("twin", &row.id, &self.rows.region);
        let key = self.plain_key(row.kms_key_arn.as_ref(), row.data_key.as_ref());
        twins.known.insert(root.to_vec());
        self.root(root, &key, &mut twins.checker, &mut subject)?;
        Ok(subject)
    }

    fn root(
        &self,
        bytes: &[u8],
        key: &dyn KeyAtHand,
        checker: &mut SnapshotChecker<'_>,
        subject: &mut Subject,
    ) -> Result<(), Stopped> {
        let root = match SnapshotRoot::from_bytes(bytes) {
            Ok(root) => root,
            Err(error) => {
                let (place, detail) = ("row".to_owned(), error.to_string());
                let found = Finding { fault: Fault::Root, place, block: None, detail };
                subject.findings.push(FindingLine::new(&found));
                return Ok(());
            }
        };
        let checked = checker.check(&root, key)?;
        subject.bytes += checked.bytes;
        subject.opened += checked.opened_frames;
        subject.compared += checked.frames - checked.opened_frames;
        subject.take(&checked.findings);
        Ok(())
    }

    fn volume(
        &self,
        row: &Volume,
        stores: &mut StoreChecks<'_>,
        repairs: &mut Vec<RepairLine>,
    ) -> Result<Subject, Stopped> {
        let mut subject = Subject::new("volume", &row.id, &self.rows.region);
        let (live, watch) = (&self.cell.live, self.watch);
        let held = live.held_key(&row.id);
        let plain = self.plain_key(row.kms_key_arn.as_ref(), row.data_key.as_ref());
        let key = plain.as_ref().map_or(&held as &dyn KeyAtHand, |key| key);
        let mut base = None;
        if let Some(root) = &row.base_root {
            let StoreChecks { standard, twins, .. } = stores;
            standard.known.insert(root.clone());
            self.root(root, key, &mut standard.checker, &mut subject)?;
            if let Some(twin) = self.rows.read_twins.get(&row.id) {
                twins.known.insert(twin.clone());
                self.root(twin, key, &mut twins.checker, &mut subject)?;
            }
            let first = row.first_base_root.as_ref().unwrap_or(root);
            base = SnapshotRoot::from_bytes(first).ok().map(|root| name_of(&root));
        }
        if !live.contains(&row.id) {
            // One that is being made or deleted has none yet, or none any more.
            let has_file = matches!(row.state, VolumeState::Available | VolumeState::InUse);
            if has_file && !self.unmade.contains(&row.id) {
                let place = live.path_of(&row.id).display().to_string();
                let detail =
                    "there is no file of the volume: it was removed, or what it lies on is \
                    not mounted"
                        .to_owned();
                let found = Finding { fault: Fault::VolumeMissing, place, block: None, detail };
                subject.findings.push(FindingLine::new(&found));
            }
            return Ok(subject);
        }
        let checked = match self.mode {
            Mode::Report => {
                live.check_volume(&row.id, Some(base), key, watch).map(|done| (done, false))
            }
            Mode::RepairIndex => live.repair_volume(&row.id, Some(base), key, watch),
        };
        let (checked, repaired) = match checked {
            Ok(checked) => checked,
            Err(CheckError::Stopped(Stopped::Cancelled)) => return Err(Stopped::Cancelled),
            // Deleted meanwhile.
            Err(CheckError::Store(StoreError::NotFound { .. })) => return Ok(subject),
            Err(error) => {
                subject.unchecked = Some(error.to_string());
                return Ok(subject);
            }
        };
        let pages = checked.pages;
        let read = pages.map_pages + pages.opened_pages + checked.compared_pages + checked.chunks;
        subject.bytes += read * blockstore::page::PAGE_BYTES as u64;
        subject.opened += pages.opened_pages;
        subject.compared += checked.compared_pages;
        subject.take(&checked.findings);
        let counted = [Fault::SegmentCount.code(), Fault::SuperblockSlot.code()];
        for finding in &mut subject.findings {
            finding.repaired = repaired && counted.contains(&finding.fault.as_str());
        }
        if repaired {
            let segments = checked.corrections.segments();
            let detail =
                format!("counts of {segments} segments and both superblocks were stored anew");
            repairs.push(RepairLine { place: row.id.to_string(), done: true, detail });
        }
        Ok(subject)
    }

    fn packs(
        &self,
        store: &StoreCheck<'_>,
        scope: PackScope,
        report: &mut Report,
    ) -> Result<(), Stopped> {
        let packs = store.checker.check_packs(scope)?;
        let kind = match store.store {
            StoreKind::Standard => "store",
            StoreKind::Archive => "archive",
            StoreKind::Twins => "twins",
        };
        // Who never archived anything need not hear of an archive, nor of twins who has none.
        let is_empty = packs.packs + packs.unreferenced_packs == 0 && packs.findings.is_empty();
        if store.store != StoreKind::Standard && is_empty {
            return Ok(());
        }
        let mut subject = Subject::new(kind, &self.rows.region, &self.rows.region);
        subject.unreferenced_bytes = packs.unreferenced_bytes;
        subject.take(&packs.findings);
        if self.mode == Mode::RepairIndex && !packs.findings.is_empty() {
            match self.repair(store.store, &packs.findings) {
                Ok(repairs) => {
                    for repair in repairs {
                        let is_its = |found: &&mut FindingLine| found.place == repair.place;
                        for found in subject.findings.iter_mut().filter(is_its) {
                            found.repaired |= repair.done;
                        }
                        let Repair { place, done, detail } = repair;
                        report.repairs.push(RepairLine { place, done, detail });
                    }
                }
                Err(error) => {
                    let place = self.rows.region.to_string();
                    let detail = error.to_string();
                    report.repairs.push(RepairLine { place, done: false, detail });
                }
            }
        }
        report.subjects.push(subject);
        Ok(())
    }

    fn repair(
        &self,
        store: StoreKind,
        findings: &Findings,
    ) -> Result<Vec<Repair>, snapshot::Error> {
        let live = &self.rows.live_roots[&store];
        let roots = live.iter().map(|bytes| SnapshotRoot::from_bytes(bytes));
        let roots: Vec<SnapshotRoot> = roots.collect::<Result<_, _>>()?;
        let snapshots = self.cell.of_store(store);
        self.cell.between_collections(|| snapshot::repair(snapshots, &roots, findings))
    }
}
