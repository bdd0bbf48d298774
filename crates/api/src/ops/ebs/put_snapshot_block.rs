//! `ebs:PutSnapshotBlock`: stores one block of a snapshot being uploaded.

use crate::direct::code::{Reason, invalid, of_blocks};
use crate::direct::find::{Writable, writable};
use crate::direct::uploads::session;
use crate::direct::{BLOCK_BYTES, blocking, key};
use crate::pipeline::Http;
use crate::{Ask, Call, Error, Granted, Operation, Rehearsal, Service, Spec};
use awsproto::{Blob, Shape, string_enum};
use base::SnapshotId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blockstore::snapshot::Digest;
use ebs::{snapshot, upload};

pub(crate) struct PutSnapshotBlock;

string_enum! {
    /// How a block's checksum is made.
    pub(crate) enum ChecksumAlgorithm {
        /// SHA-256 of the bytes.
        Sha256 = "SHA256",
    }
}

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(label)]
    snapshot_id: SnapshotId,
    #[shape(label)]
    block_index: i32,
    #[shape(payload, sensitive)]
    block_data: Blob,
    #[shape(header = "x-amz-Data-Length")]
    data_length: i32,
    #[shape(header = "x-amz-Progress")]
    progress: Option<i32>,
    #[shape(header = "x-amz-Checksum")]
    checksum: String,
    #[shape(header = "x-amz-Checksum-Algorithm")]
    checksum_algorithm: ChecksumAlgorithm,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(header = "x-amz-Checksum")]
    checksum: String,
    #[shape(header = "x-amz-Checksum-Algorithm")]
    checksum_algorithm: ChecksumAlgorithm,
}

pub(crate) struct Plan {
    writable: Writable,
    index: u64,
    data: Blob,
    digest: Digest,
    progress: Option<u8>,
    checksum: String,
    algorithm: ChecksumAlgorithm,
}

impl Operation for PutSnapshotBlock {
    const SPEC: Spec = Spec {
        service: Service::Ebs,
        name: "PutSnapshotBlock",
        mutates: true,
        http: Some(Http {
            method: "PUT",
            path: "/snapshots/{snapshotId}/blocks/{blockIndex}",
            status: 201,
            data_event: true,
        }),
    };
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { snapshot_id, block_index, block_data: data, data_length, progress, .. } = input;
        if data_length != BLOCK_BYTES || data.len() != BLOCK_BYTES.unsigned_abs() as usize {
            let message = format!("A block has {BLOCK_BYTES} bytes; DataLength must say so.");
            return Err(invalid(Reason::InvalidBlock, message));
        }
        let index = u64::try_from(block_index).map_err(|_| {
            invalid(Reason::InvalidParameterValue, "BlockIndex must not be negative.")
        })?;
        Ok(Plan {
            writable: writable(call, &snapshot_id).await?,
            index,
            data,
            digest: digest(&input.checksum)?,
            progress: progress.map(percent).transpose()?,
            checksum: input.checksum,
            algorithm: input.checksum_algorithm,
        })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.writable.found.ask("ebs:PutSnapshotBlock")]
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        rehearsal.noted(key::open(call, &plan.writable.found.snapshot).await.map(drop))
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { writable, index, data, digest, progress, checksum, algorithm } =
            plan.into_inner();
        let key = key::open(call, &writable.found.snapshot).await?;
        let session = session(call, &writable, &key).await?;
        let put = move || session.put_block(index, &data, Some(digest), &key);
        blocking(put).await?.map_err(of_blocks)?;
        record(call, writable, progress).await?;
        Ok(Output { checksum, checksum_algorithm: algorithm })
    }
}

/// The digest a checksum says.
fn digest(checksum: &str) -> Result<Digest, Error> {
    let bytes = STANDARD.decode(checksum).ok().and_then(|bytes| bytes.try_into().ok());
    let message = "The checksum is not the base64 text of a SHA-256 digest.";
    bytes.map(Digest).ok_or_else(|| invalid(Reason::InvalidParameterValue, message))
}

fn percent(progress: i32) -> Result<u8, Error> {
    let percent = u8::try_from(progress).ok().filter(|percent| *percent <= 100);
    percent.ok_or_else(|| {
        invalid(Reason::InvalidParameterValue, "Progress must be between 0 and 100.")
    })
}

/// Notes in the rows that the client is alive and how far it says it is, not at every block.
async fn record(call: &Call, writable: Writable, progress: Option<u8>) -> Result<(), Error> {
    let (row, upload) = (writable.found.snapshot, writable.upload);
    let progress = progress.filter(|percent| row.state.progress() < *percent);
    let now = call.now;
    if progress.is_none() && !upload::is_touch_due(&upload, now) {
        return Ok(());
    }
    let write = move |tx: &mut meta::Tx<'_>| {
        upload::touch(tx, &upload, now)?;
        let set = |percent| snapshot::set_progress(tx, &row.region, &row.id, percent);
        progress.map_or(Ok(()), set)
    };
    Ok(call.world.db.write(write).await?)
}
