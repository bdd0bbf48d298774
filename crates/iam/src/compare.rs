//! Whether a condition holds for a request (spec 20, A.6).

use crate::condition::{
    Condition, Decimal, Operand, Rule, SetPrefix, Test, parse_binary, parse_date,
};
use crate::context::Keys;
use crate::pattern::{Pattern, split_arn};
use crate::policy::Effect;
use std::borrow::Borrow;
use std::net::IpAddr;

/// The outcome of comparing one value with one operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Compared {
    Same,
    Different,
    /// The operator does not hold, negated or not.
    Never,
    /// The policy's ARN is malformed: counts for a Deny and never for an Allow.
    BrokenOperand,
}

impl Condition {
    /// Whether the condition holds. `effect` is that of its statement: malformed ARN operands
    /// contribute to Deny, never to Allow.
    pub(crate) fn holds(&self, keys: &Keys<'_>, effect: Effect) -> bool {
        let found = keys.lookup(&self.key);
        let (rule, negated) = match self.operator.test {
            Test::Null => return self.operands.contains(&Operand::Bool(found.is_none())),
            Test::Compare { rule, negated } => (rule, negated),
        };
        let Some(found) = found else {
            return self.operator.if_exists
                || match self.operator.set {
                    None => negated,
                    Some(SetPrefix::Any) => false,
                    Some(SetPrefix::All) => true,
                };
        };
        let mut satisfied = found.values.iter().map(|v| self.value(v, rule, negated, keys, effect));
        match self.operator.set {
            // A plain operator never matches a multivalued key, in no form (spec 20, A.6).
            None => !found.multivalued && satisfied.all(|held| held),
            Some(SetPrefix::Any) => satisfied.any(|held| held),
            Some(SetPrefix::All) => satisfied.all(|held| held),
        }
    }

    /// Whether one value satisfies the operands: any of them, or none when negated.
    fn value(
        &self,
        value: &str,
        rule: Rule,
        negated: bool,
        keys: &Keys<'_>,
        effect: Effect,
    ) -> bool {
        let mut same = false;
        let mut broken = false;
        for operand in &self.operands {
            match compare(value, operand, rule, keys) {
                Compared::Same => same = true,
                Compared::Different => {}
                Compared::Never => return false,
                Compared::BrokenOperand => broken = true,
            }
        }
        match (broken, effect) {
            (false, _) => same != negated,
            (true, Effect::Deny) => true,
            (true, Effect::Allow) => same && !negated,
        }
    }
}

fn compare(value: &str, operand: &Operand, rule: Rule, keys: &Keys<'_>) -> Compared {
    let when = |same| if same { Compared::Same } else { Compared::Different };
    match (operand, rule) {
        (Operand::Text(template), _) => match template.resolve(keys) {
            None => Compared::Different,
            Some(pattern) if rule == Rule::TextIgnoringCase => {
                when(pattern.matches_ignoring_case(value))
            }
            Some(pattern) => when(pattern.matches(value)),
        },
        (Operand::Arn(template), _) => match (split_arn(value), template.resolve(keys)) {
            (None, _) => Compared::Never,
            (Some(_), None) => Compared::Different,
            (Some(parts), Some(pattern)) => match pattern.split_arn() {
                None => Compared::BrokenOperand,
                Some(patterns) => when(components(&patterns, parts)),
            },
        },
        (Operand::Numeric(wanted), Rule::Numeric(order)) => {
            when(Decimal::parse(value).is_some_and(|found| order.holds(found.compare(wanted))))
        }
        (Operand::Date(wanted), Rule::Date(order)) => {
            when(parse_date(value).is_some_and(|found| order.holds(found.cmp(wanted))))
        }
        // Any other text than `true` counts as false (spec 20, A.6).
        (Operand::Bool(wanted), _) => when(value.eq_ignore_ascii_case("true") == *wanted),
        (Operand::Binary(wanted), _) => when(parse_binary(value).is_some_and(|v| v == *wanted)),
        (Operand::Ip(range), _) => match value.parse::<IpAddr>() {
            Err(_) => Compared::Never,
            Ok(address) => when(range.contains(address)),
        },
        // A malformed value of the request never matches, whatever it is compared with (spec 20, A.6).
        (Operand::Malformed(_), Rule::Arn) if split_arn(value).is_none() => Compared::Never,
        (Operand::Malformed(_), Rule::Arn) => Compared::BrokenOperand,
        (Operand::Malformed(_), Rule::Ip) => Compared::Never,
        // An unconvertible side counts as "not equal" (spec 20, A.6).
        (Operand::Malformed(_) | Operand::Numeric(_) | Operand::Date(_), _) => Compared::Different,
    }
}

/// Whether each component matches its pattern.
pub(crate) fn components(patterns: &[impl Borrow<Pattern>], parts: [&str; 6]) -> bool {
    patterns.iter().zip(parts).all(|(pattern, part)| pattern.borrow().matches(part))
}
