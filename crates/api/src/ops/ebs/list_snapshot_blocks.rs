//! `ebs:ListSnapshotBlocks`: which blocks a snapshot holds, with a token for each.

use crate::direct::find::{open, readable, root, store};
use crate::direct::list::{Page, check_key};
use crate::direct::token::{BLOCK_TOKEN_SECONDS, Tokens};
use crate::direct::{BLOCK_BYTES, blocking, code};
use crate::pipeline::Http;
use crate::storage::find::FoundSnapshot;
use crate::{Ask, Call, Error, Granted, Operation, Rehearsal, Service, Spec};
use awsproto::Shape;
use base::{SnapshotId, Timestamp};

pub(crate) struct ListSnapshotBlocks;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(label)]
    snapshot_id: SnapshotId,
    #[shape(querystring = "pageToken")]
    next_token: Option<String>,
    #[shape(querystring)]
    max_results: Option<i32>,
    #[shape(querystring)]
    starting_block_index: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Block {
    block_index: i32,
    block_token: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(sensitive)]
    blocks: Vec<Block>,
    expiry_time: Timestamp,
    volume_size: i64,
    block_size: i32,
    next_token: Option<String>,
}

pub(crate) struct Plan {
    found: FoundSnapshot,
    page: Page,
}

impl Operation for ListSnapshotBlocks {
    const SPEC: Spec = Spec {
        service: Service::Ebs,
        name: "ListSnapshotBlocks",
        mutates: false,
        http: Some(Http {
            method: "GET",
            path: "/snapshots/{snapshotId}/blocks",
            status: 200,
            data_event: true,
        }),
    };
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { snapshot_id, next_token, max_results, starting_block_index } = input;
        let found = readable(call, &snapshot_id).await?;
        let listing = listing(&snapshot_id);
        let (tokens, token) = (Tokens::of(call), next_token.as_deref());
        let page = Page::new(&tokens, &listing, token, starting_block_index, max_results)?;
        Ok(Plan { found, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.found.ask("ebs:ListSnapshotBlocks")]
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        rehearsal.noted(check_key(call, &plan.found).await)
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { found, page } = plan.into_inner();
        check_key(call, &found).await?;
        let (store, root) = (store(call)?, root(&found)?);
        let read = move || {
            let limit = usize::try_from(page.limit).expect("a page fits memory");
            open(&store, &root)?.list_blocks(page.start, limit).map_err(code::of_blocks)
        };
        let list = blocking(read).await??;
        let (tokens, id) = (Tokens::of(call), &found.snapshot.id);
        let block = |block: &blockstore::snapshot::ListedBlock| Block {
            block_index: wire_index(block.index),
            block_token: tokens.block(id.as_str(), block.index, block.content),
        };
        Ok(Output {
            blocks: list.blocks.iter().map(block).collect(),
            expiry_time: call.now.plus_seconds(BLOCK_TOKEN_SECONDS),
            volume_size: i64::from(found.snapshot.size_gib),
            block_size: BLOCK_BYTES,
            next_token: list.next.map(|next| tokens.page(&listing(id), next)),
        })
    }
}

/// What a page token is bound to.
fn listing(id: &SnapshotId) -> [&str; 2] {
    ["blocks", id.as_str()]
}

/// The largest volume has 2^27 blocks.
pub(crate) fn wire_index(index: u64) -> i32 {
    i32::try_from(index).expect("no volume has 2^31 blocks")
}
