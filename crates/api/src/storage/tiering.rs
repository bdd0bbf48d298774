//! What the operations that move snapshots between tiers have in common.

use super::code::INCORRECT_STATE;
use crate::error::Error;
use awsproto::ErrorSpec;
use awsproto::code::UNAUTHORIZED_OPERATION;
use base::Timestamp;
use ebs::tier_rules::TieringRefused;
use ebs::{Snapshot, Tiering, TieringOperation, tiering};
use lifecycle::workflow::move_tier::MoveTier;

/// Too much of something at once.
pub(crate) const RESOURCE_LIMIT_EXCEEDED: ErrorSpec =
    ErrorSpec::sender("ResourceLimitExceeded", 400);

/// A rule's refusal, in EC2's words.
pub(crate) fn refusal(refused: TieringRefused) -> Error {
    use TieringRefused as Refused;
    let spec = match &refused {
        Refused::NotOwner => UNAUTHORIZED_OPERATION,
        Refused::NotCompleted { .. }
        | Refused::Archived { .. }
        | Refused::NotArchived { .. }
        | Refused::UnderWay { .. } => INCORRECT_STATE,
        Refused::TooManyOfVolume | Refused::TooManyArchivals | Refused::TooManyRestores => {
            RESOURCE_LIMIT_EXCEEDED
        }
    };
    Error::new(spec, refused.to_string())
}

/// Begins a move that a rule has allowed, and the work for it.
pub(crate) fn begin(
    tx: &mut meta::Tx<'_>,
    snapshot: &Snapshot,
    operation: TieringOperation,
    restore_days: Option<u32>,
    now: Timestamp,
) -> Result<Tiering, Error> {
    let begun = tiering::begin(tx, snapshot, operation, restore_days, now)?;
    let job = MoveTier {
        region: begun.region.clone(),
        account: begun.account.clone(),
        snapshot: begun.snapshot.clone(),
        number: begun.number,
    };
    lifecycle::kinds::enqueue_move_tier(tx, &job, now)?;
    Ok(begun)
}
