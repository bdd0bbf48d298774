//! `ebs:GetSnapshotBlock`: one block of a snapshot in plaintext.

use super::put_snapshot_block::ChecksumAlgorithm;
use crate::direct::code::{Reason, invalid, of_blocks};
use crate::direct::find::{open, readable, root, store};
use crate::direct::token::Tokens;
use crate::direct::{BLOCK_BYTES, blocking, key};
use crate::pipeline::Http;
use crate::storage::find::FoundSnapshot;
use crate::{Ask, Call, Error, Granted, Operation, Rehearsal, Service, Spec};
use awsproto::{Blob, Shape};
use base::SnapshotId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blockstore::snapshot::ContentId;

pub(crate) struct GetSnapshotBlock;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(label)]
    snapshot_id: SnapshotId,
    #[shape(label)]
    block_index: i32,
    #[shape(querystring)]
    block_token: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(header = "x-amz-Data-Length")]
    data_length: i32,
    #[shape(payload, sensitive)]
    block_data: Blob,
    #[shape(header = "x-amz-Checksum")]
    checksum: String,
    #[shape(header = "x-amz-Checksum-Algorithm")]
    checksum_algorithm: ChecksumAlgorithm,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
    index: u64,
    content: ContentId,
}

impl Operation for GetSnapshotBlock {
    const SPEC: Spec = Spec {
        service: Service::Ebs,
        name: "GetSnapshotBlock",
        mutates: false,
        http: Some(Http {
            method: "GET",
            path: "/snapshots/{snapshotId}/blocks/{blockIndex}",
            status: 200,
            data_event: true,
        }),
    };
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { snapshot_id, block_index, block_token } = input;
        let index = u64::try_from(block_index).map_err(|_| {
            invalid(Reason::InvalidParameterValue, "BlockIndex must not be negative.")
        })?;
        let found = readable(call, &snapshot_id).await?;
        let tokens = Tokens::of(call);
        let content = tokens.read_block(&block_token, snapshot_id.as_str(), index)?;
        Ok(Plan { found, index, content })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("ebs:GetSnapshotBlock")]
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        rehearsal.noted(key::open(call, &plan.found.snapshot).await.map(drop))
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { found, index, content } = plan.into_inner();
        let key = key::open(call, &found.snapshot).await?;
        let (store, root) = (store(call)?, root(&found)?);
        let read = move || {
            let reader = open(&store, &root)?;
            // The token is of what was listed; a snapshot does not change, so this is that.
            if reader.content(index).map_err(of_blocks)? != Some(content) {
                let message = "The block token is not of this block.";
                return Err(invalid(Reason::InvalidBlockToken, message));
            }
            reader.read_block(index, &key).map_err(of_blocks)
        };
        let Some(mut block) = blocking(read).await?? else {
            let message = "The snapshot does not hold this block.";
            return Err(invalid(Reason::InvalidBlock, message));
        };
        Ok(Output {
            data_length: BLOCK_BYTES,
            // The reply wipes the bytes when it is sent.
            block_data: Blob::from(std::mem::take(&mut *block.bytes)),
            checksum: STANDARD.encode(block.digest.0),
            checksum_algorithm: ChecksumAlgorithm::Sha256,
        })
    }
}
