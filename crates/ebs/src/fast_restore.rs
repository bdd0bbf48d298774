//! Fast snapshot restore: which account wants volumes of a snapshot whole from the start, in which zone,
//! and how far that is (spec 07, "Fast snapshot restore").
//!
//! One row is one account's wish for one snapshot in one zone. A snapshot that is shared with others may
//! have rows of several accounts; all of them read the same [`twin`](crate::twin). A row stays for a while
//! after it was disabled, so that its account sees why.

use crate::column::Columns;
use crate::error::Result;
use base::{AccountId, Region, SnapshotId, Timestamp};
use meta::{Param, Row, Tx, params};

const TABLE: &str = "ebs_fast_restores";
const COLUMNS: &str = "account_id, region, snapshot_id, zone, size_gib, state, reason, enabling_ms, \
    optimizing_ms, enabled_ms, disabling_ms, disabled_ms, empty_ms";

/// Snapshots that an account may have enabled in a region (spec 07).
pub const SNAPSHOTS_MAX: u64 = 5;
/// The largest snapshot that can be enabled: 16 TiB (spec 07).
pub const SIZE_GIB_MAX: u32 = 16 << 10;
/// How long a row that was disabled is still shown.
pub const SHOWN_SECONDS: i64 = 24 * 3600;
/// An hour in milliseconds.
const HOUR_MS: i64 = 3_600_000;
/// Credits that come back in an hour, at most.
const REFILL_MAX: i64 = 10;
/// Snapshot data for which one credit comes back in an hour.
const REFILL_GIB: i64 = 1024;

/// Where a wish stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastRestoreState {
    /// It was asked for.
    Enabling,
    /// The snapshot's twin is being made.
    Optimizing,
    /// Volumes are whole from the start, as far as there are credits.
    Enabled,
    /// It was asked that it end.
    Disabling,
    /// It has ended.
    Disabled,
}

impl FastRestoreState {
    const ALL: [Self; 5] =
        [Self::Enabling, Self::Optimizing, Self::Enabled, Self::Disabling, Self::Disabled];

    /// The state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabling => "enabling",
            Self::Optimizing => "optimizing",
            Self::Enabled => "enabled",
            Self::Disabling => "disabling",
            Self::Disabled => "disabled",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether a twin is wanted for it.
    pub fn is_wanted(self) -> bool {
        match self {
            Self::Enabling | Self::Optimizing | Self::Enabled => true,
            Self::Disabling | Self::Disabled => false,
        }
    }
}

/// One account's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FastRestore {
    /// Who enabled it. The snapshot may be another's.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// In which zone.
    pub zone: String,
    /// The snapshot's size, which the credits follow.
    pub size_gib: u32,
    /// Where it stands.
    pub state: FastRestoreState,
    /// Why it stands there.
    pub reason: String,
    /// When it was asked for.
    pub enabling: Timestamp,
    /// When the making of the twin began.
    pub optimizing: Option<Timestamp>,
    /// When it was enabled.
    pub enabled: Option<Timestamp>,
    /// When its end was asked for.
    pub disabling: Option<Timestamp>,
    /// When it ended.
    pub disabled: Option<Timestamp>,
    /// When its bucket of credits was empty, had it filled without a limit since.
    pub empty: Option<Timestamp>,
}

impl FastRestore {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            snapshot: columns.take()?,
            zone: columns.take()?,
            size_gib: columns.take()?,
            state: columns.read("state", FastRestoreState::parse)?,
            reason: columns.take()?,
            enabling: columns.take()?,
            optimizing: columns.take()?,
            enabled: columns.take()?,
            disabling: columns.take()?,
            disabled: columns.take()?,
            empty: columns.take()?,
        })
    }

    /// The same in another state from `now` on.
    #[must_use]
    pub fn in_state(&self, state: FastRestoreState, reason: &str, now: Timestamp) -> Self {
        let mut next = Self { state, reason: reason.to_owned(), ..self.clone() };
        match state {
            FastRestoreState::Enabling => next.enabling = now,
            FastRestoreState::Optimizing => next.optimizing = Some(now),
            // The bucket is empty at first.
            FastRestoreState::Enabled => (next.enabled, next.empty) = (Some(now), Some(now)),
            FastRestoreState::Disabling => next.disabling = Some(now),
            FastRestoreState::Disabled => next.disabled = Some(now),
        }
        next
    }
}

/// How credits come back for snapshots of one size. A credit is a span of time: so many of them as have
/// passed since the bucket was empty are there, up to what it holds.
struct Credits {
    /// Milliseconds in which one credit comes back.
    each_ms: i64,
    /// Milliseconds of credit that the bucket holds.
    held_ms: i64,
}

impl Credits {
    /// `min(10, 1024 / GiB)` come back in an hour, and an hour's are held, or one (spec 07).
    fn of(size_gib: u32) -> Self {
        let each_ms = (i64::from(size_gib) * HOUR_MS + REFILL_GIB - 1) / REFILL_GIB;
        let each_ms = each_ms.max(HOUR_MS / REFILL_MAX);
        Self { each_ms, held_ms: each_ms.max(HOUR_MS) }
    }

    /// When the bucket was empty once one credit is taken from it; `None` when there is none.
    fn take(&self, empty: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let empty = empty.0.max(now.0 - self.held_ms) + self.each_ms;
        (empty <= now.0).then_some(Timestamp(empty))
    }
}

fn query(tx: &mut Tx<'_>, rest: &str, params: &[Param]) -> Result<Vec<FastRestore>> {
    let rows = tx.query(&format!("SELECT {COLUMNS} FROM {TABLE} {rest}"), params)?;
    rows.iter().map(FastRestore::from_row).collect()
}

/// An account's wish for a snapshot in a zone.
///
/// # Errors
/// When the database fails.
pub fn get(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    snapshot: &SnapshotId,
    zone: &str,
) -> Result<Option<FastRestore>> {
    let rest = "WHERE account_id = $1 AND region = $2 AND snapshot_id = $3 AND zone = $4";
    Ok(query(tx, rest, params![account, region, snapshot, zone])?.pop())
}

/// All wishes of an account in a region, by snapshot and zone.
///
/// # Errors
/// When the database fails.
pub fn list(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Vec<FastRestore>> {
    let rest = "WHERE account_id = $1 AND region = $2 ORDER BY snapshot_id, zone";
    query(tx, rest, params![account, region])
}

/// Every account's wishes for a snapshot, by account and zone.
///
/// # Errors
/// When the database fails.
pub fn of_snapshot(
    tx: &mut Tx<'_>,
    region: &Region,
    snapshot: &SnapshotId,
) -> Result<Vec<FastRestore>> {
    let rest = "WHERE region = $1 AND snapshot_id = $2 ORDER BY account_id, zone";
    query(tx, rest, params![region, snapshot])
}

/// How many snapshots beside `snapshot` an account has enabled in a region, in whatever zones.
///
/// # Errors
/// When the database fails.
pub fn count_others(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    snapshot: &SnapshotId,
) -> Result<u64> {
    let sql = format!(
        "SELECT COUNT(DISTINCT snapshot_id) FROM {TABLE} WHERE account_id = $1 AND region = $2 \
         AND snapshot_id <> $3 AND state IN ('enabling', 'optimizing', 'enabled')"
    );
    let row = tx.query_opt(&sql, params![account, region, snapshot])?;
    Ok(row.map(|row| row.get(0)).transpose()?.unwrap_or(0))
}

/// Writes a wish down, in the place of one that has ended.
///
/// # Errors
/// When the database fails.
pub fn put(tx: &mut Tx<'_>, row: &FastRestore) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_fast_restores WHERE account_id = $1 AND region = $2 \
         AND snapshot_id = $3 AND zone = $4",
        params![&row.account, &row.region, &row.snapshot, row.zone.as_str()],
    )?;
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES \
             ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
        ),
        params![
            &row.account,
            &row.region,
            &row.snapshot,
            row.zone.as_str(),
            row.size_gib,
            row.state.as_str(),
            row.reason.as_str(),
            row.enabling,
            row.optimizing,
            row.enabled,
            row.disabling,
            row.disabled,
            row.empty,
        ],
    )?;
    Ok(())
}

/// Uses up one credit. False when the account has none now: it did not enable the snapshot in the zone,
/// or its bucket is empty.
///
/// # Errors
/// When the database fails.
pub fn take_credit(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    snapshot: &SnapshotId,
    zone: &str,
    now: Timestamp,
) -> Result<bool> {
    let found = get(tx, account, region, snapshot, zone)?;
    let enabled = found.filter(|row| row.state == FastRestoreState::Enabled);
    let Some((size_gib, empty)) = enabled.and_then(|row| Some((row.size_gib, row.empty?))) else {
        return Ok(false);
    };
    let Some(next) = Credits::of(size_gib).take(empty, now) else { return Ok(false) };
    // Guarded, so that two requests cannot use the same credit.
    let taken = tx.execute(
        "UPDATE ebs_fast_restores SET empty_ms = $5 WHERE account_id = $1 AND region = $2 \
         AND snapshot_id = $3 AND zone = $4 AND state = 'enabled' AND empty_ms = $6",
        params![account, region, snapshot, zone, next, empty],
    )?;
    Ok(taken == 1)
}

/// Forgets wishes of a region that ended before a moment.
///
/// # Errors
/// When the database fails.
pub fn forget_ended(tx: &mut Tx<'_>, region: &Region, before: Timestamp) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_fast_restores WHERE region = $1 AND state = 'disabled' \
         AND disabled_ms < $2",
        params![region, before],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many credits there are `minutes` after the bucket was empty.
    fn credits(size_gib: u32, minutes: i64) -> usize {
        let (credits, now) = (Credits::of(size_gib), Timestamp(minutes * 60_000));
        let mut empty = Timestamp(0);
        let take = || {
            empty = credits.take(empty, now)?;
            Some(())
        };
        std::iter::from_fn(take).count()
    }

    #[test]
    fn credits_follow_size_and_time() {
        for (size_gib, minutes, expected) in [
            (1, 0, 0),
            (1, 5, 0),
            (1, 6, 1),
            (1, 59, 9),
            (1, 60, 10),
            (1, 6000, 10),
            (102, 60, 10),
            (128, 7, 0),
            (128, 8, 1),
            (128, 15, 2),
            (128, 600, 8),
            (1024, 59, 0),
            (1024, 60, 1),
            (1024, 600, 1),
            (16 << 10, 959, 0),
            (16 << 10, 960, 1),
            (16 << 10, 9600, 1),
        ] {
            assert_eq!(credits(size_gib, minutes), expected, "{size_gib} GiB, {minutes} min");
        }
    }

    #[test]
    fn what_was_not_used_in_time_is_lost() {
        let credits = Credits::of(128);
        let day = Timestamp(24 * HOUR_MS);
        let empty = (0..8).try_fold(Timestamp(0), |empty, _| credits.take(empty, day));
        assert_eq!(empty, Some(day), "eight, and not one more");
        assert_eq!(credits.take(day, Timestamp(day.0 + 449_999)), None);
        assert!(credits.take(day, Timestamp(day.0 + 450_000)).is_some());
    }

    #[test]
    fn states_round_trip() {
        for state in FastRestoreState::ALL {
            assert_eq!(FastRestoreState::parse(state.as_str()), Some(state));
        }
        assert_eq!(FastRestoreState::parse("on"), None);
    }
}
