//! Modifications of volumes: what was asked for, how far it is, and how often one may ask.
//!
//! A modification is `modifying` until the volume is as large as asked for, `optimizing` while its
//! new performance takes hold, then `completed`; or it has failed (spec 01, "States").

use crate::column::Columns;
use crate::error::Result;
use crate::volume_type::VolumeType;
use base::{AccountId, Region, Timestamp, VolumeId};
use meta::{Row, Tx, params};

const TABLE: &str = "ebs_volume_modifications";
const COLUMNS: &str = "account_id, region, volume_id, number, state, progress, status_message, \
    original_size_gib, original_type, original_iops, original_throughput_mib, target_size_gib, \
    target_type, target_iops, target_throughput_mib, started_ms, ended_ms";

/// Modifications of one volume that may begin within [`RATE_HOURS`] (spec 01, "ModifyVolume").
pub const RATE_MAX: usize = 4;
/// The rolling period that [`RATE_MAX`] counts in, hours.
pub const RATE_HOURS: i64 = 24;

/// Where a modification is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModificationState {
    /// The volume is not as asked for yet.
    Modifying,
    /// It is; the new size can be used.
    Optimizing,
    /// Done.
    Completed,
    /// It will not happen.
    Failed,
}

impl ModificationState {
    const ALL: [Self; 4] = [Self::Modifying, Self::Optimizing, Self::Completed, Self::Failed];

    /// The state's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Modifying => "modifying",
            Self::Optimizing => "optimizing",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether another modification has to wait for this one.
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Modifying | Self::Optimizing)
    }
}

/// What of a volume can be modified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provision {
    /// Size.
    pub size_gib: u32,
    /// Type.
    pub volume_type: VolumeType,
    /// IOPS, for types that have the number.
    pub iops: Option<u32>,
    /// Throughput, for gp3.
    pub throughput_mib: Option<u32>,
}

impl Provision {
    fn read(columns: &mut Columns<'_>) -> Result<Self> {
        Ok(Self {
            size_gib: columns.take()?,
            volume_type: columns.read("volume type", |text| VolumeType::parse(text).ok())?,
            iops: columns.take()?,
            throughput_mib: columns.take()?,
        })
    }
}

/// One modification of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Modification {
    /// The volume's owner.
    pub account: AccountId,
    /// Where.
    pub region: Region,
    /// The volume.
    pub volume: VolumeId,
    /// Counts the volume's modifications from 1.
    pub number: u32,
    /// State.
    pub state: ModificationState,
    /// Percent done.
    pub progress: u32,
    /// Why it failed.
    pub status_message: Option<String>,
    /// The volume before.
    pub original: Provision,
    /// The volume after.
    pub target: Provision,
    /// When it was asked for.
    pub started: Timestamp,
    /// When it was done or had failed.
    pub ended: Option<Timestamp>,
}

impl Modification {
    fn from_row(row: &Row) -> Result<Self> {
        let mut columns = Columns::new(TABLE, row);
        Ok(Self {
            account: columns.take()?,
            region: columns.take()?,
            volume: columns.take()?,
            number: columns.take()?,
            state: columns.read("state", ModificationState::parse)?,
            progress: columns.take()?,
            status_message: columns.take()?,
            original: Provision::read(&mut columns)?,
            target: Provision::read(&mut columns)?,
            started: columns.take()?,
            ended: columns.take()?,
        })
    }
}

/// Adds a modification.
///
/// # Errors
/// When the number is taken or the database fails.
pub fn insert(tx: &mut Tx<'_>, modification: &Modification) -> Result<()> {
    let Modification { original, target, .. } = modification;
    tx.execute(
        &format!(
            "INSERT INTO {TABLE} ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, \
             $11, $12, $13, $14, $15, $16, $17)"
        ),
        params![
            &modification.account,
            &modification.region,
            &modification.volume,
            modification.number,
            modification.state.as_str(),
            modification.progress,
            modification.status_message.clone(),
            original.size_gib,
            original.volume_type.as_str(),
            original.iops,
            original.throughput_mib,
            target.size_gib,
            target.volume_type.as_str(),
            target.iops,
            target.throughput_mib,
            modification.started,
            modification.ended,
        ],
    )?;
    Ok(())
}

/// The modifications of one volume, the latest first.
///
/// # Errors
/// When the database fails.
pub fn of_volume(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    volume: &VolumeId,
) -> Result<Vec<Modification>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} WHERE account_id = $1 AND region = $2 AND volume_id = $3 \
         ORDER BY number DESC"
    );
    let rows = tx.query(&sql, params![account, region, volume])?;
    rows.iter().map(Modification::from_row).collect()
}

/// The latest modification of every volume of the account in the region that has one, by volume.
///
/// # Errors
/// When the database fails.
pub fn latest(tx: &mut Tx<'_>, account: &AccountId, region: &Region) -> Result<Vec<Modification>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM {TABLE} m WHERE account_id = $1 AND region = $2 AND number = \
         (SELECT MAX(n.number) FROM {TABLE} n WHERE n.account_id = $1 AND n.region = $2 \
          AND n.volume_id = m.volume_id) ORDER BY volume_id"
    );
    let rows = tx.query(&sql, params![account, region])?;
    rows.iter().map(Modification::from_row).collect()
}

/// A step in the life of a modification.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The state it leaves.
    pub from: ModificationState,
    /// The state it enters.
    pub to: ModificationState,
    /// Why it failed.
    pub status_message: Option<&'a str>,
    /// Percent done.
    pub progress: u32,
    /// When it ended, if it has.
    pub ended: Option<Timestamp>,
}

/// Moves a modification between two states. Returns whether it was in the first.
///
/// # Errors
/// When the database fails.
pub fn take_step(tx: &mut Tx<'_>, modification: &Modification, step: &Step<'_>) -> Result<bool> {
    let changed = tx.execute(
        "UPDATE ebs_volume_modifications SET state = $6, status_message = $7, progress = $8, \
         ended_ms = $9 WHERE account_id = $1 AND region = $2 AND volume_id = $3 AND number = $4 \
         AND state = $5",
        params![
            &modification.account,
            &modification.region,
            &modification.volume,
            modification.number,
            step.from.as_str(),
            step.to.as_str(),
            step.status_message,
            step.progress,
            step.ended,
        ],
    )?;
    Ok(changed == 1)
}

/// Removes what is known of a volume that is gone.
///
/// # Errors
/// When the database fails.
pub(crate) fn remove_all(tx: &mut Tx<'_>, region: &Region, volume: &VolumeId) -> Result<()> {
    tx.execute(
        "DELETE FROM ebs_volume_modifications WHERE region = $1 AND volume_id = $2",
        params![region, volume],
    )?;
    Ok(())
}

/// When the next modification may begin, if the volume was modified too often to begin one `now`.
/// `history` as [`of_volume`] gives it.
pub fn blocked_until(history: &[Modification], now: Timestamp) -> Option<Timestamp> {
    let earliest = history.get(RATE_MAX - 1)?;
    let free = earliest.started.plus_seconds(RATE_HOURS * 3600);
    (free > now).then_some(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn started(at: &[i64]) -> Vec<Modification> {
        let provision = Provision {
            size_gib: 1,
            volume_type: VolumeType::Gp3,
            iops: Some(3000),
            throughput_mib: Some(125),
        };
        let one = |hours: &i64| Modification {
            account: AccountId::parse("111122223333").unwrap(),
            region: Region::parse("us-east-1").unwrap(),
            volume: VolumeId::parse("vol-0123456789abcdef0").unwrap(),
            number: 1,
            state: ModificationState::Completed,
            progress: 100,
            status_message: None,
            original: provision,
            target: provision,
            started: Timestamp(hours * 3_600_000),
            ended: None,
        };
        at.iter().map(one).collect()
    }

    #[test]
    fn four_may_begin_within_a_day() {
        let hour = |hours: i64| Timestamp(hours * 3_600_000);
        assert_eq!(blocked_until(&started(&[3, 2, 1]), hour(4)), None);
        assert_eq!(blocked_until(&started(&[9, 3, 2, 1]), hour(10)), Some(hour(25)));
        assert_eq!(blocked_until(&started(&[9, 3, 2, 1]), hour(25)), None);
        assert_eq!(blocked_until(&started(&[9, 8, 3, 2, 1]), hour(25)), Some(hour(26)));
    }
}
