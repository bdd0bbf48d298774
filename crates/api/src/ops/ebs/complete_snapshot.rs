//! `ebs:CompleteSnapshot`: makes a snapshot of the blocks that were put.

use super::put_snapshot_block::ChecksumAlgorithm;
use crate::direct::code::{NOT_PENDING, Reason, invalid, of_blocks};
use crate::direct::find::{Writable, writable};
use crate::direct::uploads::session;
use crate::direct::{blocking, key};
use crate::pipeline::Http;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use base::SnapshotId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blockstore::page::DataKey;
use blockstore::snapshot::{
    AggregateCheck, Announced, Digest, DirectSession, SnapshotRoot, linear_checksum,
};
use ebs::{snapshot, upload};
use events::notification::{self, ArnForm, Outcome, Span};
use lifecycle::workflow::export_snapshot::remove_if_deleted;
use std::sync::Arc;

pub(crate) struct CompleteSnapshot;

string_enum! {
    /// How the checksums of all blocks become one.
    pub(crate) enum ChecksumAggregationMethod {
        /// The digest of the digests, in block order.
        Linear = "LINEAR",
    }
}

string_enum! {
    /// State of a snapshot.
    pub(crate) enum Status {
        /// Done.
        Completed = "completed",
        /// Under way.
        Pending = "pending",
        /// Failed.
        Error = "error",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(label)]
    snapshot_id: SnapshotId,
    #[shape(header = "x-amz-ChangedBlocksCount")]
    changed_blocks_count: i32,
    #[shape(header = "x-amz-Checksum")]
    checksum: Option<String>,
    #[shape(header = "x-amz-Checksum-Algorithm")]
    checksum_algorithm: Option<ChecksumAlgorithm>,
    #[shape(header = "x-amz-Checksum-Aggregation-Method")]
    checksum_aggregation_method: Option<ChecksumAggregationMethod>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    status: Status,
}

pub(crate) struct Plan {
    writable: Writable,
    changed_blocks: u64,
    checksum: Option<Digest>,
}

impl Operation for CompleteSnapshot {
    const SPEC: Spec = Spec {
        service: Service::Ebs,
        name: "CompleteSnapshot",
        mutates: true,
        http: Some(Http {
            method: "POST",
            path: "/snapshots/completion/{snapshotId}",
            status: 202,
            data_event: false,
        }),
    };
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let changed_blocks = u64::try_from(input.changed_blocks_count).map_err(|_| {
            invalid(Reason::InvalidParameterValue, "ChangedBlocksCount must not be negative.")
        })?;
        let checksum = checksum(&input)?;
        let writable = writable(call, &input.snapshot_id).await?;
        Ok(Plan { writable, changed_blocks, checksum })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.writable.found.ask("ebs:CompleteSnapshot")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { writable, changed_blocks, checksum } = plan.into_inner();
        let id = writable.found.snapshot.id.clone();
        // Blocks put since the last start are known without the data key.
        let (session, key) = match (call.world.uploads.get(&id), checksum) {
            (Some(session), None) => (session, None),
            _ => {
                let key = key::open(call, &writable.found.snapshot).await?;
                (session(call, &writable, &key).await?, Some(key))
            }
        };
        let complete = move || complete(&session, changed_blocks, checksum, key.as_ref());
        let root = blocking(complete).await?.map_err(of_blocks)?;
        let recorded = record(call, writable, &root).await;
        // The session is closed now; a repeated request opens it again.
        call.world.uploads.forget(&id);
        recorded?;
        let region = call.region.clone();
        if let Err(error) = call.world.services.blocks.release_upload(&region, &id).await {
            // The watch of the upload does it again.
            tracing::warn!(snapshot = %id, %error, "a completed upload was not released");
        }
        Ok(Output { status: Status::Completed })
    }
}

/// All three checksum headers, or none (spec 03, "Put / Complete").
fn checksum(input: &Input) -> Result<Option<Digest>, Error> {
    let Input { checksum, checksum_algorithm, checksum_aggregation_method, .. } = input;
    let bad = |message| invalid(Reason::InvalidDependencyRequest, message);
    match (checksum, checksum_algorithm, checksum_aggregation_method) {
        (None, None, None) => Ok(None),
        (Some(text), Some(ChecksumAlgorithm::Sha256), Some(ChecksumAggregationMethod::Linear)) => {
            let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
            let message = "The checksum is not the base64 text of a SHA-256 digest.";
            let digest = bytes.map(Digest);
            digest.map(Some).ok_or_else(|| invalid(Reason::InvalidParameterValue, message))
        }
        _ => Err(bad("Checksum, its algorithm and its aggregation method go together.")),
    }
}

fn complete(
    session: &Arc<DirectSession>,
    changed_blocks: u64,
    checksum: Option<Digest>,
    key: Option<&DataKey>,
) -> Result<SnapshotRoot, blockstore::snapshot::Error> {
    let accepts = |digests: &[Digest]| checksum.is_none_or(|sent| is_aggregate(sent, digests));
    let aggregate =
        key.filter(|_| checksum.is_some()).map(|key| AggregateCheck { key, accepts: &accepts });
    session.complete(&Announced { changed_blocks, aggregate })
}

/// Clients hash the raw digests (coldsnap does); the guide can also be read as their base64 texts.
fn is_aggregate(sent: Digest, digests: &[Digest]) -> bool {
    let texts: String = digests.iter().map(|digest| STANDARD.encode(digest.0)).collect();
    sent == linear_checksum(digests) || sent == Digest::of(texts.as_bytes())
}

async fn record(call: &Call, writable: Writable, root: &SnapshotRoot) -> Result<(), Error> {
    let (row, upload) = (writable.found.snapshot, writable.upload);
    let (bytes, full_bytes, now) = (root.to_bytes(), root.full_bytes(), call.now);
    let envelope = events::event::Envelope {
        event_id: base::id::uuid(&*call.world.rng),
        account: row.account.clone(),
        region: row.region.clone(),
        time: now,
    };
    let span = Span { start: row.started, end: now };
    let (form, outcome) = (ArnForm::Regular, Outcome::Succeeded);
    let told =
        notification::create_snapshot(envelope, form, &row.id, &row.volume_id, span, &outcome);
    call.world
        .db
        .write(move |tx| {
            // Whoever removes the upload first decides how it ended.
            let ends_here = upload::remove(tx, &upload)?;
            let (region, id) = (&row.region, &row.id);
            if !ends_here || !snapshot::set_completed(tx, region, id, &bytes, full_bytes, now)? {
                return Err(invalid(Reason::InvalidSnapshotId, NOT_PENDING));
            }
            events::put_event(tx, &told)?;
            // Deleted while this was under way.
            remove_if_deleted(tx, &row, now)?;
            Ok(())
        })
        .await
}
