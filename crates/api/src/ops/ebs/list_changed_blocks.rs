//! `ebs:ListChangedBlocks`: which blocks two snapshots hold differently, with tokens for both.

use super::list_snapshot_blocks::wire_index;
use crate::direct::code::{Reason, invalid, of_blocks};
use crate::direct::find::{open, readable, root, store};
use crate::direct::list::{Page, check_key};
use crate::direct::token::{BLOCK_TOKEN_SECONDS, Tokens};
use crate::direct::{BLOCK_BYTES, blocking};
use crate::pipeline::Http;
use crate::storage::find::FoundSnapshot;
use crate::{Ask, Call, Error, Granted, Operation, Rehearsal, Service, Spec};
use awsproto::Shape;
use base::{SnapshotId, Timestamp};
use blockstore::snapshot::{self, ChangedBlock as Change, SnapshotReader};

pub(crate) struct ListChangedBlocks;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(querystring)]
    first_snapshot_id: Option<SnapshotId>,
    #[shape(label)]
    second_snapshot_id: SnapshotId,
    #[shape(querystring = "pageToken")]
    next_token: Option<String>,
    #[shape(querystring)]
    max_results: Option<i32>,
    #[shape(querystring)]
    starting_block_index: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct ChangedBlock {
    block_index: i32,
    first_block_token: Option<String>,
    second_block_token: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    #[shape(sensitive)]
    changed_blocks: Vec<ChangedBlock>,
    expiry_time: Timestamp,
    volume_size: i64,
    block_size: i32,
    next_token: Option<String>,
}

pub(crate) struct Plan {
    first: Option<FoundSnapshot>,
    second: FoundSnapshot,
    page: Page,
}

impl Operation for ListChangedBlocks {
    const SPEC: Spec = Spec {
        service: Service::Ebs,
        name: "ListChangedBlocks",
        mutates: false,
        http: Some(Http {
            method: "GET",
            path: "/snapshots/{secondSnapshotId}/changedblocks",
            status: 200,
            data_event: true,
        }),
    };
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Input { first_snapshot_id, second_snapshot_id, next_token, max_results, .. } = input;
        let second = readable(call, &second_snapshot_id).await?;
        let first = match &first_snapshot_id {
            Some(id) => Some(readable(call, id).await?),
            None => None,
        };
        let listing = listing(first_snapshot_id.as_ref(), &second_snapshot_id);
        let (tokens, token) = (Tokens::of(call), next_token.as_deref());
        let page = Page::new(&tokens, &listing, token, input.starting_block_index, max_results)?;
        Ok(Plan { first, second, page })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let both = plan.first.iter().chain([&plan.second]);
        both.map(|found| found.ask("ebs:ListChangedBlocks")).collect()
    }

    async fn implied(call: &Call, plan: &Plan, rehearsal: &Rehearsal) -> Result<(), Error> {
        for found in plan.first.iter().chain([&plan.second]) {
            rehearsal.noted(check_key(call, found).await)?;
        }
        Ok(())
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { first, second, page } = plan.into_inner();
        for found in first.iter().chain([&second]) {
            check_key(call, found).await?;
        }
        let same_key = first.as_ref().is_none_or(|first| same_data_key(first, &second));
        let (store, second_root) = (store(call)?, root(&second)?);
        let first_root = first.as_ref().map(root).transpose()?;
        let read = move || {
            let second = open(&store, &second_root)?;
            let first = first_root.map(|root| open(&store, &root)).transpose()?;
            changes(first.as_ref(), &second, same_key, page)
        };
        let (changes, next) = blocking(read).await??;
        let (first_id, second_id) = (first.map(|found| found.snapshot.id), &second.snapshot.id);
        let tokens = Tokens::of(call);
        let token = |id: Option<&SnapshotId>, index, content: Option<snapshot::ContentId>| {
            Some(tokens.block(id?.as_str(), index, content?))
        };
        let changed = |change: &Change| ChangedBlock {
            block_index: wire_index(change.index),
            first_block_token: token(first_id.as_ref(), change.index, change.first),
            second_block_token: token(Some(second_id), change.index, change.second),
        };
        let next = next.map(|next| tokens.page(&listing(first_id.as_ref(), second_id), next));
        Ok(Output {
            changed_blocks: changes.iter().map(changed).collect(),
            expiry_time: call.now.plus_seconds(BLOCK_TOKEN_SECONDS),
            volume_size: i64::from(second.snapshot.size_gib),
            block_size: BLOCK_BYTES,
            next_token: next,
        })
    }
}

/// What a page token is bound to.
fn listing<'a>(first: Option<&'a SnapshotId>, second: &'a SnapshotId) -> [&'a str; 3] {
    ["changes", first.map_or("", SnapshotId::as_str), second.as_str()]
}

/// Snapshots of one data key are of one lineage (spec 02, `DataEncryptionKeyId`).
fn same_data_key(first: &FoundSnapshot, second: &FoundSnapshot) -> bool {
    match (&first.snapshot.data_key, &second.snapshot.data_key) {
        (Some(first), Some(second)) => first.lineage == second.lineage,
        _ => false,
    }
}

/// A page is a window of so many indexes, so it may be empty and not the last; a stretch that
/// neither snapshot ever wrote is skipped (spec 03, "Rules").
fn changes(
    first: Option<&SnapshotReader>,
    second: &SnapshotReader,
    same_key: bool,
    page: Page,
) -> Result<(Vec<Change>, Option<u64>), Error> {
    let related = first.is_none_or(|first| first.root().series() == second.root().series());
    if !related && !same_key {
        let message = "The snapshots are not of the same volume.";
        return Err(invalid(Reason::UnrelatedSnapshots, message));
    }
    let end = page.start + page.limit;
    let (changed, more) = second.changed_blocks(first, page.start..end).map_err(of_blocks)?;
    assert_eq!(more, None, "a window has no more blocks than a page");
    let mut next = second.next_block(end).map_err(of_blocks)?;
    if let Some(first) = first {
        let other = first.next_block(end).map_err(of_blocks)?;
        next = [next, other].into_iter().flatten().min();
    }
    Ok((changed, next))
}
