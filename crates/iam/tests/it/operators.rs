//! Every operator, with every prefix and suffix, on a key that is absent, present, and multivalued:
//! `operators.txt`. Its first columns say what holds without a set operator; how set operators and
//! `IfExists` follow from these is spec 20, A.6.
//!
//! A line: operator, policy values, a matching and a differing request value, a malformed one or `-`;
//! then whether the plain operator holds when the key is absent, matching, differing, malformed.

use crate::table::check;
use std::fmt::Write as _;

struct Line<'a> {
    operator: &'a str,
    wanted: &'a str,
    matching: &'a str,
    differing: &'a str,
    malformed: Option<&'a str>,
    absent: bool,
    on_match: bool,
    on_difference: bool,
    on_malformed: bool,
}

fn lines() -> Vec<Line<'static>> {
    let rows = include_str!("operators.txt").lines();
    let rows = rows.filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    rows.map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let [operator, wanted, matching, differing, malformed, holds @ ..] = &words[..] else {
            panic!("{row}");
        };
        let holds: Vec<bool> = holds.iter().map(|word| *word == "yes").collect();
        let [absent, on_match, on_difference, on_malformed] = holds[..] else { panic!("{row}") };
        Line {
            operator,
            wanted,
            matching,
            differing,
            malformed: Some(*malformed).filter(|word| *word != "-"),
            absent,
            on_match,
            on_difference,
            on_malformed,
        }
    })
    .collect()
}

const KEYS: [&str; 2] = ["t:a", "aws:TagKeys"];

/// A user for each form of the operator, who may do what is named after a key under its condition.
/// `t:a` has one value, `aws:TagKeys` may have several.
fn policies(line: &Line<'_>) -> String {
    let forms = [
        ("plain", "", ""),
        ("plain-if", "", "IfExists"),
        ("any", "ForAnyValue:", ""),
        ("all", "ForAllValues:", ""),
        ("any-if", "ForAnyValue:", "IfExists"),
        ("all-if", "ForAllValues:", "IfExists"),
    ];
    let mut table = String::new();
    for (name, prefix, suffix) in forms {
        for key in KEYS {
            let operator = format!("{prefix}{}{suffix}", line.operator);
            writeln!(
                table,
                "identity 222/{name} allow s:{key} if {operator} {key}={}",
                line.wanted
            )
            .expect("a String takes all writes");
        }
    }
    table
}

/// The policies, and what they answer.
fn table(line: &Line<'_>) -> String {
    let mut table = policies(line);
    let mut ask = |names: &[&str], key: &str, context: &str, holds: bool| {
        let answer = if holds { "allow" } else { "deny" };
        for name in names {
            writeln!(table, "ask 222/{name} s:{key} * {context} -> {answer}")
                .expect("a String takes all writes");
        }
    };
    for key in KEYS {
        ask(&["plain"], key, "", line.absent);
        ask(&["any"], key, "", false);
        ask(&["plain-if", "all", "any-if", "all-if"], key, "", true);
    }
    let values = [
        Some((line.matching, line.on_match)),
        Some((line.differing, line.on_difference)),
        line.malformed.map(|value| (value, line.on_malformed)),
    ];
    let (plain, any, all) = (["plain", "plain-if"], ["any", "any-if"], ["all", "all-if"]);
    for (value, holds) in values.into_iter().flatten() {
        let single = format!("ctx t:a={value}");
        ask(&[plain, any, all].concat(), "t:a", &single, holds);
        // A plain operator never matches a multivalued key, also with one value.
        let several = format!("ctx aws:TagKeys=[{value}]");
        ask(&plain, "aws:TagKeys", &several, false);
        ask(&[any, all].concat(), "aws:TagKeys", &several, holds);
    }
    let both = format!("ctx aws:TagKeys=[{}|{}]", line.matching, line.differing);
    let none = "ctx aws:TagKeys=[]";
    ask(&any, "aws:TagKeys", &both, line.on_match || line.on_difference);
    ask(&any, "aws:TagKeys", none, false);
    ask(&all, "aws:TagKeys", &both, line.on_match && line.on_difference);
    ask(&all, "aws:TagKeys", none, true);
    ask(&plain, "aws:TagKeys", &both, false);
    ask(&plain, "aws:TagKeys", none, false);
    table
}

#[test]
fn every_operator_in_every_form() {
    let lines = lines();
    assert_eq!(lines.len(), 28, "a line for every operator but Null, and two more of dates");
    for line in lines {
        check(&table(&line));
    }
}

#[test]
fn null_asks_for_presence_alone() {
    check(
        "
        identity 222/a allow s:absent if Null t:a=true
        identity 222/a allow s:present if Null t:a=false
        identity 222/a allow s:m-absent if Null aws:TagKeys=true
        identity 222/a allow s:m-present if Null aws:TagKeys=false
        ask 222/a s:absent *                           -> allow
        ask 222/a s:present *                          -> deny
        ask 222/a s:absent * ctx t:a=                  -> deny
        ask 222/a s:present * ctx t:a=                 -> allow
        ask 222/a s:m-absent *                         -> allow
        ask 222/a s:m-present * ctx aws:TagKeys=[x]    -> allow
        ask 222/a s:m-present * ctx aws:TagKeys=[x|y]  -> allow
        ask 222/a s:m-present * ctx aws:TagKeys=[]     -> allow
        ask 222/a s:m-absent * ctx aws:TagKeys=[]      -> deny
    ",
    );
}
