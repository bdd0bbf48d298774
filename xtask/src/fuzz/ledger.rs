//! The table of docs/reliability.md: what every target ran, over all its runs.

use crate::command;
use std::sync::Mutex;

const HEADER: &str = "| target | processor time | executions | corpus | found |";

/// What a run of a target adds.
pub(super) struct Run<'a> {
    pub(super) target: &'a str,
    pub(super) processor_seconds: f64,
    pub(super) executions: u64,
    /// Inputs in the repository afterwards.
    pub(super) corpus: usize,
}

/// Adds a run to the target's row.
pub(super) fn add(run: &Run<'_>) -> Result<(), String> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().expect("no holder panics");
    let path = command::root().join("docs/reliability.md");
    let shown = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
    let added = added(&text, run).ok_or_else(|| format!("{shown} has no table of fuzz targets"))?;
    std::fs::write(&path, added).map_err(|error| format!("{shown}: {error}"))
}

/// The text with the run in its table; a target that is new gets the last row.
fn added(text: &str, run: &Run<'_>) -> Option<String> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let first = lines.iter().position(|line| line.trim_end() == HEADER)? + 2;
    let rows = lines[first..].iter().take_while(|line| line.starts_with('|')).count();
    let is_its = |line: &&str| cells(line).first() == Some(&run.target);
    let at = lines[first..first + rows].iter().position(is_its).unwrap_or(rows);
    let (seconds, executions, found) = match lines[first..first + rows].get(at) {
        None => (0.0, 0, "nothing"),
        Some(row) => {
            let cells = cells(row);
            let seconds = cells.get(1)?.strip_suffix(" s")?.replace(',', "").parse().ok()?;
            let executions = cells.get(2)?.replace(',', "").parse().ok()?;
            (seconds, executions, *cells.get(4)?)
        }
    };
    let row = format!(
        "| {} | {} s | {} | {} | {found} |\n",
        run.target,
        grouped((seconds + run.processor_seconds).round() as u64),
        grouped(executions + run.executions),
        run.corpus,
    );
    let (before, after) = lines.split_at(first + at);
    Some([&before.concat(), row.as_str(), &after[usize::from(at < rows)..].concat()].concat())
}

fn cells(row: &str) -> Vec<&str> {
    row.trim().trim_matches('|').split('|').map(str::trim).collect()
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_add_up() {
        let table = |rows: &str| format!("a\n{HEADER}\n|---|---|---|---|---|\n{rows}\nb\n");
        let text =
            table("| x | 254 s | 6,393,109 | 58 | nothing |\n| y | 1 s | 2 | 3 | a flaw |\n");
        let run = |target| Run { target, processor_seconds: 946.4, executions: 7, corpus: 60 };
        let more = added(&text, &run("x")).unwrap();
        let rows = "| x | 1,200 s | 6,393,116 | 60 | nothing |\n| y | 1 s | 2 | 3 | a flaw |\n";
        assert_eq!(more, table(rows));
        let more = added(&text, &run("y")).unwrap();
        assert!(more.contains("| y | 947 s | 9 | 60 | a flaw |\n\nb\n"), "{more}");
        let new = added(&text, &run("z")).unwrap();
        assert!(new.contains("| a flaw |\n| z | 946 s | 7 | 60 | nothing |\n\nb\n"), "{new}");
        assert_eq!(added("a\n", &run("x")), None);
    }
}
