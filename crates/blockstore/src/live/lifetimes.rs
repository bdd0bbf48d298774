//! How long pages live before the guest overwrites them: what tells the cleaner how much age says.
//!
//! Where writes go all over a volume, a page dies whatever its age, and only what a segment gives and
//! costs counts. Where most go to a few pages, those that died were young, and what is young had better
//! be left alone until more of it is dead.

use super::layout::SegmentIndex;
use super::segment::{Accounting, Segment, SegmentKind, SegmentTable};

/// Deaths, in pages, until what was seen before them counts half.
const HALF_LIFE: f64 = (1 << 18) as f64;
/// Fewer deaths, in pages, say nothing.
const DEATHS_MIN: f64 = (1 << 12) as f64;
/// The exponent of age while nothing is known.
const EXPONENT_UNKNOWN: f64 = 0.5;
/// Where pages die at any age.
const EXPONENT_MIN: f64 = 0.2;
/// Where those that die were just written.
const EXPONENT_MAX: f64 = 1.0;

/// Sums over pages that died, the later ones counting more.
#[derive(Default)]
pub(super) struct Lifetimes {
    deaths: f64,
    /// Of their ages, in mean ages of the pages that lived then.
    ages: f64,
}

impl Lifetimes {
    /// Notes what dies with `changes`, which the table does not have yet. Pages that were copied from
    /// a segment for which `is_emptied` holds live elsewhere.
    pub(super) fn note(
        &mut self,
        table: &SegmentTable,
        changes: &Accounting,
        is_emptied: impl Fn(SegmentIndex) -> bool,
    ) {
        let age = |segment: &Segment| segment.age(table.clock());
        let is_log = |segment: &Segment| segment.kind == SegmentKind::Log;
        let (mut deaths, mut ages) = (0.0, 0.0);
        for (index, change) in changes.iter() {
            let Some(segment) = table.get(index).filter(|segment| is_log(segment)) else {
                continue;
            };
            if change < 0 && !is_emptied(index) {
                deaths -= change as f64;
                ages -= change as f64 * age(segment);
            }
        }
        let (mut living, mut their_ages) = (0.0, 0.0);
        for (_, segment) in table.iter().filter(|(_, segment)| is_log(segment)) {
            living += f64::from(segment.live);
            their_ages += f64::from(segment.live) * age(segment);
        }
        if their_ages == 0.0 {
            return;
        }
        let kept = HALF_LIFE / (HALF_LIFE + deaths);
        self.deaths = self.deaths * kept + deaths;
        self.ages = self.ages * kept + ages * living / their_ages;
    }

    /// To what power the age of a segment counts when victims are chosen.
    pub(super) fn exponent(&self) -> f64 {
        if self.deaths < DEATHS_MIN {
            return EXPONENT_UNKNOWN;
        }
        let youth = (1.0 - self.ages / self.deaths).clamp(0.0, 1.0);
        EXPONENT_MIN + (EXPONENT_MAX - EXPONENT_MIN) * youth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::layout::Geometry;
    use crate::page::Salt;

    const SEGMENTS: u32 = 10;
    const PAGES: i64 = 100_000;

    /// The exponent after pages of `dying` segments died, of ten that were written one after the other.
    fn exponent(dying: &[SegmentIndex], emptied: &[SegmentIndex]) -> f64 {
        let mut table = SegmentTable::new(Geometry { segment_pages: 1 << 20 });
        let mut written = Accounting::default();
        for layer in 0..u64::from(SEGMENTS) {
            let segment = table.allocate(SegmentKind::Log, Salt([0; 32]), layer, 0).unwrap();
            table.open(segment, layer, 0);
            written.add(segment, 2 * PAGES);
        }
        table.apply(&written).unwrap();
        let mut changes = Accounting::default();
        dying.iter().for_each(|segment| changes.add(*segment, -PAGES));
        let mut lifetimes = Lifetimes::default();
        lifetimes.note(&table, &changes, |segment| emptied.contains(&segment));
        lifetimes.exponent()
    }

    #[test]
    fn age_counts_as_much_as_the_dead_were_young() {
        let everywhere: Vec<SegmentIndex> = (0..SEGMENTS).collect();
        assert_eq!(exponent(&everywhere, &[]), EXPONENT_MIN);
        assert_eq!(exponent(&[0], &[]), EXPONENT_MIN, "no less where the oldest die");
        let youngest = exponent(&[9], &[]);
        assert!(youngest > 0.8 && youngest < EXPONENT_MAX, "{youngest}");
        assert!(exponent(&[4, 9], &[]) < youngest);
        assert_eq!(exponent(&[0, 9], &[0]), youngest, "what was copied away did not die");
        assert_eq!(exponent(&[], &[]), EXPONENT_UNKNOWN);
    }
}
