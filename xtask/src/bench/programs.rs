//! Measurements that need no peer: programs beside the code they measure, which print a line of JSON
//! for each case.

use super::{machine, report};
use crate::command;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::path::Path;
use std::process::Command;

/// A program that measures.
pub(super) struct Program {
    /// The heading of its table.
    title: &'static str,
    /// The package whose example it is.
    package: &'static str,
    example: &'static str,
    /// Its command line. `FOLDER` stands for a folder of its own.
    arguments: &'static [&'static str],
    /// How often it is run, an odd number: its table shows medians. Once, where it has rounds of its own or
    /// counts what is the same each time.
    rounds: usize,
}

const fn of_blocks(
    title: &'static str,
    example: &'static str,
    arguments: &'static [&'static str],
) -> Program {
    Program { title, package: "blockstore", example, arguments, rounds: 1 }
}

impl Program {
    const fn rounds(self, rounds: usize) -> Self {
        Self { rounds, ..self }
    }
}

/// Run in this order, each in a folder that is removed afterwards.
pub(super) const PROGRAMS: [Program; 11] = [
    of_blocks("Flushes and cuts", "cuts", &["FOLDER", "101", "256"]),
    of_blocks("Cuts of several volumes", "cuts_together", &["FOLDER"]),
    Program {
        title: "What a guest feels of an export",
        package: "lifecycle",
        example: "guest_latency",
        arguments: &["FOLDER", "1024", "3", "7"],
        rounds: 1,
    },
    of_blocks(
        "What a guest feels of a cut that is dropped, and of space that is given back",
        "drop_latency",
        &["FOLDER"],
    ),
    of_blocks("Copies of snapshots", "copy_speed", &["FOLDER", "1024"]).rounds(5),
    of_blocks("Volumes from snapshots", "lazy_first_read", &["FOLDER"]).rounds(5),
    of_blocks(
        "The cleaner, writes all over the volume",
        "cleaner",
        &["amplification", "FOLDER/volume", "--pattern", "uniform"],
    ),
    of_blocks(
        "The cleaner, nine writes of ten to a tenth of the volume",
        "cleaner",
        &["amplification", "FOLDER/volume", "--pattern", "hot-cold"],
    ),
    of_blocks(
        "The cleaner where three quarters of what is taken are live, writes all over the volume",
        "cleaner",
        &[
            "amplification",
            "FOLDER/volume",
            "--pattern",
            "uniform",
            "--budget-percent",
            "72",
            "--live-percent",
            "81",
        ],
    ),
    of_blocks(
        "The cleaner where three quarters of what is taken are live, nine writes of ten to a tenth",
        "cleaner",
        &[
            "amplification",
            "FOLDER/volume",
            "--pattern",
            "hot-cold",
            "--budget-percent",
            "72",
            "--live-percent",
            "80",
        ],
    ),
    of_blocks("Reads after cleaning", "cleaner", &["reads", "FOLDER/volume"]).rounds(5),
];

/// Runs a program, in all its rounds, and makes a table of what it prints.
pub(super) fn section(program: &Program, directory: &Path) -> Result<String, String> {
    let Program { title, package, example, arguments, rounds } = program;
    let example_of = ["--package", package, "--example", example];
    command::cargo(&[&["build", "--quiet", "--release"][..], &example_of].concat())?;
    eprintln!("{title}");
    let rounds = (0..*rounds)
        .map(|_| cases(&printed_by(program, &directory.join(example))?))
        .collect::<Result<Vec<_>, _>>()?;
    let command =
        format!("cargo run --release -p {package} --example {example} -- {}", arguments.join(" "));
    let told = match rounds.len() {
        1 => String::new(),
        rounds => format!(" Medians of {rounds} runs."),
    };
    let described = machine::describe(command.trim(), &[])?;
    Ok(format!("### {title}\n\n{described}{told}\n\n{}", table(&medians(&rounds)?)))
}

/// Runs a program once in a folder that is removed afterwards.
fn printed_by(program: &Program, folder: &Path) -> Result<String, String> {
    let Program { example, arguments, .. } = program;
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let printed = Command::new(command::target_dir()?.join("release/examples").join(example))
        .args(arguments.iter().map(|text| text.replace("FOLDER", &folder.display().to_string())))
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start {example}: {error}"));
    std::fs::remove_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let printed = printed?;
    if !printed.status.success() {
        return Err(format!("{example} failed: {}", printed.status));
    }
    Ok(String::from_utf8_lossy(&printed.stdout).into_owned())
}

type Case = Map<String, Value>;

/// Of each number the median over the rounds. What is no number names the case, and is the same in all.
fn medians(rounds: &[Vec<Case>]) -> Result<Vec<Case>, String> {
    let first = rounds.first().ok_or("a program without rounds")?;
    if rounds.iter().any(|round| round.len() != first.len()) {
        return Err("a program measured other cases in another round".to_owned());
    }
    let median = |at: usize, name: &String| {
        let values = || rounds.iter().map(|round| round[at].get(name).unwrap_or(&Value::Null));
        let numbers: Option<Vec<f64>> = values().map(Value::as_f64).collect();
        let told = match numbers.map(report::middle) {
            // As it was printed: of an odd number of rounds the median is that of one.
            Some(middle) => values().find(|value| value.as_f64() == Some(middle)),
            None => values().next().filter(|first| values().all(|value| value == *first)),
        };
        let told =
            told.ok_or_else(|| format!("a program measured another {name} in another round"))?;
        Ok((name.clone(), told.clone()))
    };
    let cases = first.iter().enumerate();
    cases.map(|(at, case)| case.keys().map(|name| median(at, name)).collect()).collect()
}

fn cases(printed: &str) -> Result<Vec<Case>, String> {
    printed
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{line}: {error}")))
        .collect()
}

/// A row a case, a column a member; members of one case come by name.
fn table(cases: &[Case]) -> String {
    let mut columns: Vec<&String> = Vec::new();
    for name in cases.iter().flat_map(Map::keys) {
        if !columns.contains(&name) {
            columns.push(name);
        }
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(columns.iter().map(|name| name.replace('_', " ")).collect());
    writeln!(text, "|{}", "---|".repeat(columns.len())).expect("writing to a string cannot fail");
    for case in cases {
        text += &line(columns.iter().map(|name| shown(case.get(*name))).collect());
    }
    text
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_a_column() {
        let printed = "a word\n{\"case\":\"one\",\"mb_s\":5}\n{\"case\":\"two\",\"cpu\":0.5}\n";
        let expected = "| case | mb s | cpu |\n|---|---|---|\n| one | 5 |  |\n| two |  | 0.5 |\n";
        assert_eq!(table(&cases(printed).unwrap()), expected);
        assert!(cases("{no json").is_err());
    }

    #[test]
    fn numbers_are_medians_of_the_rounds() {
        let round = |case: &str, speed: f64| {
            cases(&format!("{{\"case\":\"{case}\",\"speed\":{speed}}}\n")).unwrap()
        };
        let rounds = [round("one", 3.5), round("one", 10.0), round("one", 2.0)];
        assert_eq!(medians(&rounds), Ok(round("one", 3.5)));
        assert!(medians(&[round("one", 1.0), round("two", 1.0)]).is_err());
        assert!(medians(&[round("one", 1.0), Vec::new()]).is_err());
    }
}
