//! Gives back the space of blocks that nothing reaches any more.
//!
//! A deletion asks for a look at what it left; from time to time all of a region is swept, for what
//! nobody asked about: the remains of work that failed or was cancelled. Nothing is removed on the
//! strength of a request: what is live is read from the rows when the work runs.

use crate::cells::ROOTS_AT_ONCE_MAX;
use crate::collections::{self, Figures};
use crate::port::blocks::{Collected, Collection};
use crate::services::{Services, Trouble};
use base::{Region, Timestamp};
use ebs::garbage::{deleted_roots, forget_root};
use ebs::roots::live_roots;
use ebs::{StoreKind, upload};
use serde::{Deserialize, Serialize};

/// A region to be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collect {
    /// Where.
    pub region: Region,
    /// How thoroughly.
    #[serde(default)]
    pub scope: Scope,
}

/// Where unused blocks are looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Where deletions left something.
    #[default]
    Nominated,
    /// Everywhere.
    Everything,
}

impl Scope {
    /// A word for ids and rows.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nominated => "nominated",
            Self::Everything => "everything",
        }
    }
}

/// When to collect. All of it follows the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How long something must be known to be unused before it is deleted. It must exceed the
    /// longest time between two checkpoints of an export or a copy.
    pub grace_seconds: i64,
    /// How often what deletions left is looked at where nothing is deleted.
    pub collect_interval_seconds: i64,
    /// How often everything is.
    pub sweep_interval_seconds: i64,
    /// A pack that is used less than this is rewritten without what is unused.
    pub rewrite_below_percent: u8,
}

impl Schedule {
    /// 24 hours of grace, a look every hour, a sweep every week (data plane, "Deletion and GC").
    pub const fn server() -> Self {
        Self {
            grace_seconds: 24 * 3600,
            collect_interval_seconds: 3600,
            sweep_interval_seconds: 7 * 86_400,
            rewrite_below_percent: 50,
        }
    }
}

/// Does the work. Answers when to look again, if something waits that no other look would find.
///
/// # Errors
/// When the rows or the block store fail.
pub async fn run(services: &Services, job: &Collect) -> Result<Option<Timestamp>, Trouble> {
    let started = services.clock.now();
    let outcome = collect_all(services, job).await;
    let figures = match &outcome {
        Ok(done) => done.figures.clone(),
        Err(error) => Figures { error: Some(error.to_string()), ..Figures::default() },
    };
    let (region, scope, ended) = (job.region.clone(), job.scope, services.clock.now());
    let kept = figures.clone();
    let record = move |tx: &mut meta::Tx<'_>| {
        collections::record(tx, &region, scope, (started, ended), &kept)
    };
    services.db.write(record).await?;
    let done = outcome?;
    if figures != Figures::default() {
        let (region, scope) = (&job.region, job.scope.as_str());
        tracing::info!(%region, scope, ?figures, "unused space was looked for");
    }
    if done.has_more_roots {
        return Ok(Some(ended));
    }
    let waits = job.scope == Scope::Everything && done.packs_unnominated > 0;
    Ok(waits.then(|| ended.plus_seconds(services.blocks.grace_seconds() + 1)))
}

/// What was done in all stores.
#[derive(Default)]
struct Done {
    figures: Figures,
    packs_unnominated: u64,
    /// Whether a store had as many deleted roots as are compared in one look.
    has_more_roots: bool,
}

/// Releases uploads that ended: a block that was on its way then takes hold of its pack once more.
async fn release_ended_uploads(services: &Services, region: &Region) -> Result<(), Trouble> {
    // Before the rows: an upload has a row before it has a block.
    let held = services.blocks.uploads(region).await?;
    let (here, ids) = (region.clone(), held.clone());
    let open = services.db.read(move |tx| upload::among(tx, &here, &ids)).await?;
    for ended in held.iter().filter(|id| !open.contains(id)) {
        services.blocks.release_upload(region, ended).await?;
    }
    Ok(())
}

async fn collect_all(services: &Services, job: &Collect) -> Result<Done, Trouble> {
    let mut done = Done::default();
    if job.scope == Scope::Everything {
        release_ended_uploads(services, &job.region).await?;
    }
    for store in StoreKind::ALL {
        let collected = collect(services, job, store).await?;
        let (report, compared) = (collected.report, collected.settled.len() as u64);
        done.packs_unnominated += report.packs_unnominated;
        done.has_more_roots |= compared >= ROOTS_AT_ONCE_MAX as u64;
        let figures = &mut done.figures;
        figures.roots_compared += compared;
        figures.packs_nominated += report.packs_nominated;
        figures.packs_deleted += report.packs_deleted;
        figures.packs_rewritten += report.packs_rewritten;
        figures.bytes_reclaimed += report.bytes_reclaimed;
        figures.packs_condemned += report.packs_condemned;
        figures.packs_postponed += report.packs_postponed;
    }
    Ok(done)
}

async fn collect(
    services: &Services,
    job: &Collect,
    store: StoreKind,
) -> Result<Collected, Trouble> {
    let (region, scope) = (job.region.clone(), job.scope);
    let read = move |tx: &mut meta::Tx<'_>| {
        let deleted = deleted_roots(tx, &region, store)?;
        Ok::<_, ebs::Error>((deleted, live_roots(tx, &region, store)?))
    };
    let (noted, live_roots) = services.db.read(read).await?;
    let deleted = noted.iter().map(|noted| noted.root.clone()).collect();
    let collection = Collection { store, scope, deleted, live_roots };
    let collected = services.blocks.collect(&job.region, collection).await?;
    let (region, settled) = (job.region.clone(), collected.settled.clone());
    let forget = move |tx: &mut meta::Tx<'_>| {
        let seen = noted.iter().filter(|noted| settled.contains(&noted.root));
        seen.into_iter().try_for_each(|noted| forget_root(tx, &region, noted))
    };
    services.db.write(forget).await?;
    Ok(collected)
}
