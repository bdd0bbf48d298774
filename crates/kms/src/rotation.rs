//! Replacing a key's material, from time to time or on demand. The old versions stay, so what they encrypted opens
//! for ever; the blob says which one that is (KMS guide, "Rotating AWS KMS keys").

use crate::error::{Error, Result};
use crate::import;
use crate::key::{self, Key, KeyManager};
use crate::material::{self, MaterialId};
use crate::multi_region::{self, MultiRegionRole};
use crate::origin::KeyOrigin;
use crate::service::Kms;
use crate::state::KeyState;
use crate::version::{self, Version};
use base::Timestamp;
use meta::{Tx, params};

/// `RotationPeriodInDays` (botocore: RotationPeriodInDaysType).
pub const PERIOD_DAYS: std::ops::RangeInclusive<u32> = 90..=2560;
/// `RotationPeriodInDays` when none is given, and that of services' keys.
pub const PERIOD_DAYS_DEFAULT: u32 = 365;
/// Rotations on demand, per key (API reference, RotateKeyOnDemand).
pub const ON_DEMAND_MAX: usize = 25;
/// How long before an automatic rotation none is begun on demand (botocore: ConflictException).
const QUIET_SECONDS: i64 = 20 * 60;

/// What made a version the one that encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationType {
    /// Its time had come.
    Automatic,
    /// Somebody asked for it.
    OnDemand,
}

impl RotationType {
    /// The word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "AUTOMATIC",
            Self::OnDemand => "ON_DEMAND",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        [Self::Automatic, Self::OnDemand].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// When a key's material is replaced without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Days from one rotation to the next.
    pub days: u32,
    /// When the next one is due. It may have passed: a key that is switched off is rotated when it is on again.
    pub next: Timestamp,
}

impl Schedule {
    pub(crate) fn read(days: Option<u32>, next: Option<Timestamp>) -> Option<Self> {
        Some(Self { days: days?, next: next? })
    }

    /// A schedule that begins now.
    pub(crate) fn from(days: u32, now: Timestamp) -> Self {
        Self { days, next: after(now, days) }
    }

    /// The schedule after a rotation: the next date of the old rhythm, or a new rhythm when that has passed too.
    fn advanced(self, now: Timestamp) -> Self {
        let next = after(self.next, self.days);
        if next > now { Self { next, ..self } } else { Self::from(self.days, now) }
    }
}

fn after(from: Timestamp, days: u32) -> Timestamp {
    from.plus_seconds(i64::from(days) * 86_400)
}

/// A rotation that has happened.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// The key, as it was before.
    pub key: Key,
    /// Why.
    pub kind: RotationType,
    /// The version that encrypts from now on.
    pub current: MaterialId,
    /// The key's replicas, which have it too.
    pub replicas: Vec<Key>,
}

/// Whether a period is one.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_period(days: Option<i32>) -> Result<u32> {
    let Some(days) = days else { return Ok(PERIOD_DAYS_DEFAULT) };
    if let Ok(days) = u32::try_from(days)
        && PERIOD_DAYS.contains(&days)
    {
        return Ok(days);
    }
    let (low, high) = PERIOD_DAYS.into_inner();
    let bound = match days < i32::try_from(low).expect("a small constant") {
        true => format!("greater than or equal to {low}"),
        false => format!("less than or equal to {high}"),
    };
    Err(Error::validation(format!(
        "1 validation error detected: Value '{days}' at 'rotationPeriodInDays' failed to satisfy \
         constraint: Member must have value {bound}"
    )))
}

/// Whether a key is one whose material can be replaced, on demand at least.
///
/// # Errors
/// [`Error::Unsupported`] for key pairs, HMAC keys and keys in custom key stores.
pub fn check_rotatable(key: &Key) -> Result<()> {
    if !key.kind.is_symmetric() {
        let spec = key.kind.spec();
        return Err(unsupported(key, &format!("key spec is {spec}")));
    }
    match key.origin {
        KeyOrigin::AwsKms | KeyOrigin::External => Ok(()),
        KeyOrigin::AwsCloudHsm => Err(unsupported(key, "origin is AWS_CLOUDHSM")),
    }
}

/// Whether a key's material is made here, so that there is an automatic rotation to switch and to ask about.
///
/// # Errors
/// [`Error::Unsupported`], also as [`check_rotatable`].
pub fn check_made_here(key: &Key) -> Result<()> {
    check_rotatable(key)?;
    match key.origin {
        KeyOrigin::External => Err(unsupported(key, "origin is EXTERNAL")),
        KeyOrigin::AwsKms | KeyOrigin::AwsCloudHsm => Ok(()),
    }
}

fn unsupported(key: &Key, why: &str) -> Error {
    let message = format!("{} {why} which is not valid for this operation.", key.arn());
    Error::Unsupported { message }
}

/// Whether a key speaks for its replicas, so that its rotation can be changed.
///
/// # Errors
/// [`Error::Unsupported`].
pub fn check_primary(key: &Key) -> Result<()> {
    if key.multi_region == Some(MultiRegionRole::Replica) {
        return Err(Error::Unsupported {
            message: format!(
                "{} is a replica key; its rotation follows the primary key.",
                key.arn()
            ),
        });
    }
    Ok(())
}

/// The schedule in force. A key that waits for its end has none, until it is kept (API reference,
/// GetKeyRotationStatus).
pub fn status(key: &Key) -> Option<Schedule> {
    key.rotation.filter(|_| !key.state.is_pending_deletion())
}

/// Notes a schedule for every key of one id: the replicas share it.
fn set_schedule(tx: &mut Tx<'_>, key: &Key, schedule: Option<Schedule>) -> Result<()> {
    tx.execute(
        "UPDATE kms_keys SET rotation_days = $1, next_rotation_at = $2 \
         WHERE account_id = $3 AND key_id = $4",
        params![
            schedule.map(|schedule| schedule.days),
            schedule.map(|schedule| schedule.next),
            &key.account,
            &key.id,
        ],
    )?;
    Ok(())
}

impl Kms {
    /// EnableKeyRotation. The first rotation is a period away; saying the same again changes nothing.
    ///
    /// # Errors
    /// As the database answers. The caller has checked state, kind and period.
    pub fn enable_rotation(&self, tx: &mut Tx<'_>, key: &Key, days: u32) -> Result<()> {
        if key.rotation.is_some_and(|schedule| schedule.days == days) {
            return Ok(());
        }
        set_schedule(tx, key, Some(Schedule::from(days, self.now())))
    }

    /// DisableKeyRotation.
    ///
    /// # Errors
    /// As the database answers. The caller has checked state and kind.
    pub fn disable_rotation(&self, tx: &mut Tx<'_>, key: &Key) -> Result<()> {
        set_schedule(tx, key, None)
    }

    /// RotateKeyOnDemand: new material, or the material that was imported for this.
    ///
    /// # Errors
    /// [`Error::LimitExceeded`] after 25 times, [`Error::Conflict`] right before an automatic rotation,
    /// [`Error::NothingToRotate`] without imported material. The caller has checked state and kind.
    pub fn rotate_on_demand(&self, tx: &mut Tx<'_>, key: &Key) -> Result<Rotated> {
        let versions = version::all(tx, key)?;
        let on_demand = |version: &&Version| {
            version.rotated.is_some_and(|(_, kind)| kind == RotationType::OnDemand)
        };
        if versions.iter().filter(on_demand).count() >= ON_DEMAND_MAX {
            return Err(Error::LimitExceeded {
                message: format!("A key may be rotated on demand {ON_DEMAND_MAX} times."),
            });
        }
        let soon = self.now().plus_seconds(QUIET_SECONDS);
        if key.rotation.is_some_and(|schedule| schedule.next <= soon) {
            return Err(Error::Conflict {
                message: format!(
                    "An automatic rotation of {} is in progress or begins within 20 minutes.",
                    key.arn()
                ),
            });
        }
        match key.origin {
            KeyOrigin::External => self.rotate_imported(tx, key, &versions),
            KeyOrigin::AwsKms | KeyOrigin::AwsCloudHsm => {
                self.rotate(tx, key, &versions, RotationType::OnDemand)
            }
        }
    }

    /// Rotates at most `limit` keys that are due, and usable: the others are rotated once they are usable again.
    ///
    /// # Errors
    /// As the database answers.
    pub fn rotate_due(&self, tx: &mut Tx<'_>, limit: u32) -> Result<Vec<Rotated>> {
        let now = self.now();
        let rows = tx.query(
            "SELECT account_id, region, key_id FROM kms_keys WHERE next_rotation_at <= $1 \
             AND state IN ($2, $3) AND COALESCE(multi_region, '') <> $4 \
             ORDER BY next_rotation_at LIMIT $5",
            params![
                now,
                KeyState::Enabled.as_str(),
                KeyState::Updating.as_str(),
                MultiRegionRole::Replica.as_str(),
                limit,
            ],
        )?;
        let mut rotated = Vec::new();
        for row in rows {
            let id: String = row.get(2)?;
            let key = key::get(tx, &row.get(0)?, &row.get(1)?, &id)?;
            let Some(schedule) = key.rotation else { continue };
            let versions = version::all(tx, &key)?;
            rotated.push(self.rotate(tx, &key, &versions, RotationType::Automatic)?);
            set_schedule(tx, &key, Some(schedule.advanced(now)))?;
        }
        Ok(rotated)
    }

    /// Makes new material and gives it to the key and its replicas.
    ///
    /// # Errors
    /// As [`check_made_here`]; such a key has no schedule, and nobody may give it other material.
    fn rotate(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        versions: &[Version],
        kind: RotationType,
    ) -> Result<Rotated> {
        check_made_here(key)?;
        let now = self.now();
        let material = material::generate(self.rng());
        let version = Version {
            number: versions.last().map_or(0, |last| last.number) + 1,
            material_id: MaterialId::generate(self.rng()),
            created: now,
            rotated: Some((now, kind)),
            description: None,
            expires: None,
            is_present: true,
        };
        let replicas = multi_region::settled_replicas(tx, key)?;
        for each in [key].into_iter().chain(&replicas) {
            self.add_version(tx, each, &version, material.expose())?;
            version::set_current(tx, each, version.material_id)?;
        }
        Ok(Rotated { key: key.clone(), kind, current: version.material_id, replicas })
    }

    /// Makes the version that waits for it the one that encrypts, here and at the replicas, which must have it.
    fn rotate_imported(&self, tx: &mut Tx<'_>, key: &Key, versions: &[Version]) -> Result<Rotated> {
        let nothing = || Error::NothingToRotate { arn: key.arn().to_string() };
        let pending = versions.iter().find(|version| version.is_pending() && version.is_present);
        let pending = pending.ok_or_else(nothing)?;
        if !import::is_everywhere(tx, key, pending.material_id)? {
            return Err(nothing());
        }
        let replicas = multi_region::replicas(tx, key)?;
        let rotated = (self.now(), RotationType::OnDemand);
        for replica in &replicas {
            version::make_current(tx, replica, pending, rotated)?;
        }
        version::make_current(tx, key, pending, rotated)?;
        Ok(Rotated {
            key: key.clone(),
            kind: RotationType::OnDemand,
            current: pending.material_id,
            replicas,
        })
    }
}

/// Puts services' keys of earlier releases, which had no rotation, on the schedule that AWS has for them.
pub(crate) fn adopt_managed_keys(tx: &mut Tx<'_>) -> meta::Result<()> {
    let period = i64::from(PERIOD_DAYS_DEFAULT) * 86_400_000;
    tx.execute(
        "UPDATE kms_keys SET rotation_days = $1, next_rotation_at = created_at + $2 \
         WHERE manager = $3 AND rotation_days IS NULL",
        params![PERIOD_DAYS_DEFAULT, period, KeyManager::Aws.as_str()],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    #[test]
    fn periods() {
        assert_eq!(check_period(None).unwrap(), 365);
        assert_eq!(check_period(Some(90)).unwrap(), 90);
        assert_eq!(check_period(Some(2560)).unwrap(), 2560);
        for (bad, words) in [(89, "greater than or equal to 90"), (2561, "less than or equal to")] {
            let error = check_period(Some(bad)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        assert!(check_period(Some(-1)).is_err());
    }

    #[test]
    fn a_missed_rotation_is_made_up_for_once() {
        let start = Timestamp(0);
        let schedule = Schedule::from(100, start);
        let on_time = schedule.advanced(start.plus_seconds(100 * DAY + 5));
        assert_eq!(on_time.next, start.plus_seconds(200 * DAY));
        let late = start.plus_seconds(350 * DAY);
        assert_eq!(schedule.advanced(late).next, late.plus_seconds(100 * DAY));
    }
}
