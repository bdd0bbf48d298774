//! Time, injected.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// This instant moved by a number of seconds.
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(1000)))
    }

    /// Whole seconds since the epoch.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Seconds since the epoch with their fraction, as JSON protocols write time.
    pub fn seconds_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// `2026-11-21T09:30:00.000Z`, as EC2 writes time.
    pub fn iso_millis(self) -> String {
        let (y, mo, d, h, mi, s) = self.civil();
        let ms = self.0.rem_euclid(1000);
        format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}.{ms:03}Z")
    }

    /// `2026-11-21T09:30:00Z`, as IAM, STS and CloudTrail write time.
    pub fn iso_seconds(self) -> String {
        let (y, mo, d, h, mi, s) = self.civil();
        format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}Z")
    }

    /// `20261121T093000Z`, as SigV4 writes time.
    pub fn iso_basic(self) -> String {
        let (y, mo, d, h, mi, s) = self.civil();
        format!("{y:04}{mo:02}{d:02}T{h:02}{mi:02}{s:02}Z")
    }

    /// Reads `YYYY-MM-DD`, optionally followed by `THH:MM[:SS[.fff]]` and `Z` or an offset `±HH:MM`,
    /// and the basic form `YYYYMMDDTHHMMSSZ`. `None` when the text is no such instant.
    pub fn parse_iso(text: &str) -> Option<Self> {
        let basic = text.len() == 16 && text.as_bytes()[8] == b'T' && text.ends_with('Z');
        if basic && text.is_ascii() {
            let t = text;
            let spaced = format!(
                "{}-{}-{}T{}:{}:{}Z",
                &t[0..4],
                &t[4..6],
                &t[6..8],
                &t[9..11],
                &t[11..13],
                &t[13..15]
            );
            return Self::parse_extended(&spaced);
        }
        Self::parse_extended(text)
    }

    fn parse_extended(text: &str) -> Option<Self> {
        if !text.is_ascii() {
            return None;
        }
        let (date, rest) = text.split_at_checked(10)?;
        let number = |t: &str| -> Option<i64> {
            (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse().ok())?
        };
        let mut fields = date.split('-');
        let (y, mo, d) = (fields.next()?, fields.next()?, fields.next()?);
        if fields.next().is_some() || y.len() != 4 || mo.len() != 2 || d.len() != 2 {
            return None;
        }
        let (y, mo, d) = (number(y)?, number(mo)?, number(d)?);
        if !(1..=12).contains(&mo) || !(1..=days_in_month(y, mo)).contains(&d) {
            return None;
        }
        let days = days_from_civil(y, mo, d);
        if rest.is_empty() {
            return Some(Self(days * 86_400_000));
        }
        let rest = rest.strip_prefix('T').or_else(|| rest.strip_prefix(' '))?;
        let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
        let (clock, zone) = rest.split_at(zone_at);
        let offset_minutes = match zone {
            "" | "Z" => 0,
            _ => {
                let sign = if zone.starts_with('-') { -1 } else { 1 };
                let (h, m) = zone.get(1..)?.split_once(':')?;
                if h.len() != 2 || m.len() != 2 {
                    return None;
                }
                sign * (number(h)? * 60 + number(m)?)
            }
        };
        let (clock, millis) = match clock.split_once('.') {
            None => (clock, 0),
            Some((clock, fraction)) => {
                number(fraction)?;
                let padded = format!("{fraction:0<3}");
                (clock, number(&padded[..3])?)
            }
        };
        let mut parts = clock.split(':');
        let (h, mi) = (number(parts.next()?)?, number(parts.next()?)?);
        let s = parts.next().map_or(Some(0), number)?;
        if parts.next().is_some() || h > 23 || mi > 59 || s > 60 {
            return None;
        }
        let seconds = days * 86_400 + h * 3600 + mi * 60 + s - offset_minutes * 60;
        Some(Self(seconds * 1000 + millis))
    }

    fn civil(self) -> (i64, i64, i64, i64, i64, i64) {
        let seconds = self.seconds();
        let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let (y, mo, d) = civil_from_days(days);
        (y, mo, d, rest / 3600, rest / 60 % 60, rest % 60)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iso_millis())
    }
}

/// Days since 1970-01-01 of a proleptic Gregorian date (Hinnant's algorithm).
fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(m <= 2), m, doy - (153 * mp + 2) / 5 + 1)
}

fn days_in_month(y: i64, m: i64) -> i64 {
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    match m {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Where the present moment comes from.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The host's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the host's clock")]
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// A clock that moves only when told.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.0))
    }

    /// Moves the clock.
    pub fn advance_seconds(&self, seconds: i64) {
        self.0.fetch_add(seconds * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_round_trip() {
        for text in
            ["1970-01-01T00:00:00.000Z", "2000-02-29T23:59:59.999Z", "2026-11-21T09:30:00.123Z"]
        {
            assert_eq!(
                Timestamp::parse_iso(text).map(Timestamp::iso_millis).as_deref(),
                Some(text)
            );
        }
        let t = Timestamp(1_440_938_160_000);
        assert_eq!(t.iso_basic(), "20150830T123600Z");
        assert_eq!(Timestamp::parse_iso("20150830T123600Z"), Some(t));
        assert_eq!(Timestamp::parse_iso("2015-08-30T14:36:00+02:00"), Some(t));
        assert_eq!(Timestamp::parse_iso("2015-08-30"), Some(Timestamp(1_440_892_800_000)));
    }

    #[test]
    fn nonsense_is_no_instant() {
        for text in [
            "",
            "2015",
            "2015-13-01",
            "2015-02-29",
            "2015-08-30T25:00:00Z",
            "2015-08-30Tgarbage",
            "é015-08-30",
        ] {
            assert_eq!(Timestamp::parse_iso(text), None, "{text}");
        }
    }
}
