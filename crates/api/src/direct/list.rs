//! Pages of the two listings: where they begin and how much they hold.

use super::code::{Reason, invalid};
use super::key;
use super::token::Tokens;
use crate::call::Call;
use crate::error::Error;
use crate::storage::find::FoundSnapshot;
use ebs::visibility::Visibility;

/// Smallest and largest page, and the one when none is asked for (model, `MaxResults`).
const PAGE_MIN: i32 = 100;
const PAGE_MAX: i32 = 10_000;

/// The page a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Page {
    /// The first block that may be on it.
    pub(crate) start: u64,
    /// How many blocks.
    pub(crate) limit: u64,
}

impl Page {
    /// From a request's three parameters: a token beats a starting block, and a page smaller than
    /// the smallest is the smallest rather than refused (spec 03, "Rules").
    pub(crate) fn new(
        tokens: &Tokens<'_>,
        listing: &[&str],
        next_token: Option<&str>,
        starting_block: Option<i32>,
        max_results: Option<i32>,
    ) -> Result<Self, Error> {
        let bad = |message: &str| invalid(Reason::InvalidParameterValue, message);
        let max = max_results.unwrap_or(PAGE_MAX);
        if !(1..=PAGE_MAX).contains(&max) {
            return Err(bad("MaxResults must be between 100 and 10000."));
        }
        let limit = u64::from(max.max(PAGE_MIN).unsigned_abs());
        let start = match (next_token, starting_block) {
            (Some(token), _) => tokens.read_page(token, listing)?,
            (None, Some(block)) => {
                u64::try_from(block).map_err(|_| bad("StartingBlockIndex must not be negative."))?
            }
            (None, None) => 0,
        };
        Ok(Self { start, limit })
    }
}

/// Listing a shared encrypted snapshot takes the key's permission; listing one's own does not
/// (spec 20, C.3).
pub(crate) async fn check_key(call: &Call, found: &FoundSnapshot) -> Result<(), Error> {
    if found.seen == Visibility::Owner || !found.snapshot.is_encrypted() {
        return Ok(());
    }
    key::open(call, &found.snapshot).await.map(drop)
}
