//! Medians, ratios, and their place in docs/benchmarks.md.

use std::fmt::Write;

use super::block::Rounds;
use super::fio::{Disk, Measured, WORKLOADS};
use super::server::Kind;
use crate::command;

/// A table: per workload and server the medians, and the ratio of ours to theirs.
pub(super) fn block_table(results: &[Rounds]) -> String {
    let mut table = String::from(
        "| workload | server | median | p99 latency | server CPU per operation | Strongroom is |\n\
         |---|---|---:|---:|---:|---:|\n",
    );
    for (workload, rounds) in WORKLOADS.iter().zip(results) {
        let names = Kind::ALL.iter().map(|kind| kind.name()).chain([Disk::NAME]);
        for (number, (name, measured)) in names.zip(rounds).enumerate() {
            let rate = if workload.is_large() {
                format!("{:.0} MB/s", median(measured, |m| m.bytes_per_second) / 1e6)
            } else {
                format!("{:.0} IOPS", median(measured, |m| m.operations_per_second))
            };
            // Rounds are paired: both sides of a ratio ran within the same minute.
            let ratio = if number == 0 {
                String::new()
            } else {
                let pairs: Vec<f64> = rounds[0]
                    .iter()
                    .zip(measured)
                    .map(|(ours, theirs)| ours.bytes_per_second / theirs.bytes_per_second)
                    .collect();
                format!("{:.2} x", middle(pairs))
            };
            let latency = median(measured, |m| m.latency_us_p99);
            let spent: Vec<f64> = measured.iter().filter_map(|m| m.processor_us).collect();
            let processor = match spent.is_empty() {
                true => String::new(),
                false => format!("{:.1} us", middle(spent)),
            };
            writeln!(
                table,
                "| {} | {name} | {rate} | {latency:.0} us | {processor} | {ratio} |",
                workload.name,
            )
            .expect("writing to a string cannot fail");
        }
    }
    table
}

fn median(measured: &[Measured], value: impl Fn(&Measured) -> f64) -> f64 {
    middle(measured.iter().map(value).collect())
}

/// The median; the mean of the middle two of an even number.
pub(super) fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 0 => f64::midpoint(values[half - 1], values[half]),
        _ => values[half],
    }
}

/// Replaces the named section of docs/benchmarks.md.
pub(super) fn record(name: &str, section: &str) -> Result<(), String> {
    let path = command::root().join("docs/benchmarks.md");
    let shown = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
    let replaced = replace(&text, name, section)
        .ok_or_else(|| format!("{shown} has no place for the results of `bench {name}`"))?;
    std::fs::write(&path, replaced).map_err(|error| format!("{shown}: {error}"))
}

/// `text` with the lines between the section's two marks replaced.
fn replace(text: &str, name: &str, section: &str) -> Option<String> {
    let (head, rest) = text.split_once(&format!("<!-- results of bench {name} -->\n"))?;
    let (_, tail) = rest.split_once("<!-- end of results -->")?;
    Some(format!(
        "{head}<!-- results of bench {name} -->\n\n{}\n\n<!-- end of results -->{tail}",
        section.trim()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(middle(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(middle(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(middle(vec![]).is_nan());
    }

    #[test]
    fn a_section_is_replaced_between_its_marks() {
        let text = "a\n<!-- results of bench x -->\nold\n<!-- end of results -->\nb\n";
        let once = replace(text, "x", "new\n").unwrap();
        assert_eq!(once, "a\n<!-- results of bench x -->\n\nnew\n\n<!-- end of results -->\nb\n");
        assert_eq!(replace(&once, "x", "new").unwrap(), once);
        assert_eq!(replace(text, "y", "new"), None);
    }
}
