//! Condition operators: how they are written and what they compare (spec 20, A.6).

use crate::pattern::{Syntax, Template};
use base::Timestamp;
use base64::Engine as _;
use std::cmp::Ordering;
use std::net::IpAddr;

/// One condition: an operator, one key and the values it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Condition {
    pub(crate) operator: Operator,
    /// The key as written.
    pub(crate) key: String,
    pub(crate) operands: Vec<Operand>,
}

/// An operator with its prefix and suffix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operator {
    /// As written, for traces: `ForAnyValue:StringLikeIfExists`.
    pub(crate) written: String,
    pub(crate) test: Test,
    pub(crate) set: Option<SetPrefix>,
    pub(crate) if_exists: bool,
}

/// `ForAnyValue:` or `ForAllValues:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetPrefix {
    Any,
    All,
}

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// Compares by a rule; negated, it holds when no operand matches.
    Compare { rule: Rule, negated: bool },
    /// Holds when the key's absence is as the operand says.
    Null,
}

/// How one value is compared with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Text,
    TextIgnoringCase,
    TextLike,
    Numeric(Order),
    Date(Order),
    Bool,
    Binary,
    Ip,
    Arn,
}

/// Which orderings satisfy a numeric or date operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    pub(crate) fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering == Ordering::Equal,
            Self::Less => ordering == Ordering::Less,
            Self::LessOrEqual => ordering != Ordering::Greater,
            Self::Greater => ordering == Ordering::Greater,
            Self::GreaterOrEqual => ordering != Ordering::Less,
        }
    }
}

/// A value in a policy, parsed for its operator.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Text(Template),
    Arn(Template),
    Numeric(Decimal),
    Date(Timestamp),
    Bool(bool),
    Binary(Vec<u8>),
    Ip(IpRange),
    /// Not convertible; only session policies keep such an operand (spec 20, A.6).
    Malformed(String),
}

impl Operand {
    /// The operand as written, or as it is understood.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Text(template) | Self::Arn(template) => template.written().to_owned(),
            Self::Numeric(number) => number.to_string(),
            Self::Date(date) => date.iso_millis(),
            Self::Bool(value) => value.to_string(),
            Self::Binary(bytes) => base64::engine::general_purpose::STANDARD.encode(bytes),
            Self::Ip(range) => range.written.clone(),
            Self::Malformed(text) => text.clone(),
        }
    }
}

impl Operator {
    /// Reads an operator's name; `None` when there is no such operator.
    pub(crate) fn parse(written: &str) -> Option<Self> {
        let (set, rest) = match written.split_once(':') {
            None => (None, written),
            Some(("ForAnyValue", rest)) => (Some(SetPrefix::Any), rest),
            Some(("ForAllValues", rest)) => (Some(SetPrefix::All), rest),
            Some(_) => return None,
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let test = parse_test(name)?;
        if test == Test::Null && (set.is_some() || if_exists) {
            return None;
        }
        Some(Self { written: written.to_owned(), test, set, if_exists })
    }

    /// Reads an operand for this operator.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn operand(&self, text: &str, variables: bool) -> Result<Operand, String> {
        let rule = match self.test {
            Test::Null => Rule::Bool,
            Test::Compare { rule, .. } => rule,
        };
        let template = |wildcards| Template::parse(text, Syntax { wildcards, variables });
        let unless = |noun: &str| format!("'{text}' is not {noun}");
        match rule {
            Rule::Text | Rule::TextIgnoringCase => template(false).map(Operand::Text),
            Rule::TextLike => template(true).map(Operand::Text),
            Rule::Arn => {
                let template = template(true)?;
                let complete = template.has_variable() || crate::pattern::split_arn(text).is_some();
                complete.then_some(Operand::Arn(template)).ok_or_else(|| unless("an ARN"))
            }
            Rule::Numeric(_) => {
                Decimal::parse(text).map(Operand::Numeric).ok_or_else(|| unless("a number"))
            }
            Rule::Date(_) => parse_date(text).map(Operand::Date).ok_or_else(|| unless("a date")),
            Rule::Bool => {
                parse_bool(text).map(Operand::Bool).ok_or_else(|| unless("true or false"))
            }
            Rule::Binary => parse_binary(text).map(Operand::Binary).ok_or_else(|| unless("base64")),
            Rule::Ip => IpRange::parse(text)
                .map(Operand::Ip)
                .ok_or_else(|| unless("an IP address or CIDR range")),
        }
    }
}

fn parse_test(name: &str) -> Option<Test> {
    if name == "Null" {
        return Some(Test::Null);
    }
    let compare = |rule, negated| Some(Test::Compare { rule, negated });
    for (family, rule) in [("Numeric", Rule::Numeric as fn(Order) -> Rule), ("Date", Rule::Date)] {
        if let Some(order) = name.strip_prefix(family) {
            return match order {
                "Equals" => compare(rule(Order::Equal), false),
                "NotEquals" => compare(rule(Order::Equal), true),
                "LessThan" => compare(rule(Order::Less), false),
                "LessThanEquals" => compare(rule(Order::LessOrEqual), false),
                "GreaterThan" => compare(rule(Order::Greater), false),
                "GreaterThanEquals" => compare(rule(Order::GreaterOrEqual), false),
                _ => None,
            };
        }
    }
    match name {
        "StringEquals" => compare(Rule::Text, false),
        "StringNotEquals" => compare(Rule::Text, true),
        "StringEqualsIgnoreCase" => compare(Rule::TextIgnoringCase, false),
        "StringNotEqualsIgnoreCase" => compare(Rule::TextIgnoringCase, true),
        "StringLike" => compare(Rule::TextLike, false),
        "StringNotLike" => compare(Rule::TextLike, true),
        "Bool" => compare(Rule::Bool, false),
        "BinaryEquals" => compare(Rule::Binary, false),
        "IpAddress" => compare(Rule::Ip, false),
        "NotIpAddress" => compare(Rule::Ip, true),
        "ArnEquals" | "ArnLike" => compare(Rule::Arn, false),
        "ArnNotEquals" | "ArnNotLike" => compare(Rule::Arn, true),
        _ => None,
    }
}

fn parse_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

pub(crate) fn parse_binary(text: &str) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(text).ok()
}

/// ISO 8601, or seconds since the epoch; compared in milliseconds (spec 20, A.6).
pub(crate) fn parse_date(text: &str) -> Option<Timestamp> {
    if let Some(date) = Timestamp::parse_iso(text) {
        return Some(date);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let padded = format!("{fraction:0<3}");
    let millis: i64 = padded.get(..3)?.parse().ok()?;
    let seconds: i64 = whole.parse().ok()?;
    let millis = if whole.starts_with('-') { -millis } else { millis };
    Some(Timestamp(seconds.checked_mul(1000)?.checked_add(millis)?))
}

/// A decimal number of any length, compared by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// Digits before the point, without leading zeros.
    whole: String,
    /// Digits after the point, without trailing zeros.
    fraction: String,
}

impl Decimal {
    /// Reads `[+-]digits[.digits]`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let is_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || !is_digits(whole) || !is_digits(fraction) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        let zero = whole.is_empty() && fraction.is_empty();
        Some(Self { negative: negative && !zero, whole, fraction })
    }

    pub(crate) fn compare(&self, other: &Self) -> Ordering {
        let magnitude = self
            .whole
            .len()
            .cmp(&other.whole.len())
            .then_with(|| self.whole.cmp(&other.whole))
            .then_with(|| self.fraction.cmp(&other.fraction));
        match (self.negative, other.negative) {
            (false, false) => magnitude,
            (true, true) => magnitude.reverse(),
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
        }
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.negative { "-" } else { "" };
        let whole = if self.whole.is_empty() { "0" } else { &self.whole };
        write!(f, "{sign}{whole}")?;
        if !self.fraction.is_empty() {
            write!(f, ".{}", self.fraction)?;
        }
        Ok(())
    }
}

/// An address or a CIDR range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IpRange {
    written: String,
    base: IpAddr,
    prefix_bits: u32,
}

impl IpRange {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let base: IpAddr = address.parse().ok()?;
        let width = if base.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok()?,
            Some(_) => return None,
        };
        (prefix_bits <= width).then(|| Self { written: text.to_owned(), base, prefix_bits })
    }

    /// Whether an address lies in the range. Host bits of an IPv4 range are ignored; an IPv6 range
    /// with host bits contains nothing (spec 20, A.6).
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - self.prefix_bits;
                let top = |bits: u32| bits.checked_shr(shift).unwrap_or(0);
                top(base.to_bits()) == top(address.to_bits())
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let shift = 128 - self.prefix_bits;
                let top = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                let network = top(base.to_bits()).checked_shl(shift).unwrap_or(0);
                network == base.to_bits() && top(base.to_bits()) == top(address.to_bits())
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_compare_by_value() {
        let order =
            |a: &str, b: &str| Decimal::parse(a).unwrap().compare(&Decimal::parse(b).unwrap());
        assert_eq!(order("1.50", "1.5"), Ordering::Equal);
        assert_eq!(order("-0", "0"), Ordering::Equal);
        assert_eq!(order("9", "10"), Ordering::Less);
        assert_eq!(order("-9", "-10"), Ordering::Greater);
        assert_eq!(order("0.1", "0.09"), Ordering::Greater);
        assert_eq!(order("18446744073709551617", "18446744073709551616"), Ordering::Greater);
        assert_eq!(Decimal::parse("1e3"), None);
        assert_eq!(Decimal::parse("."), None);
        assert_eq!(Decimal::parse(""), None);
    }

    #[test]
    fn ranges() {
        let within = |range: &str, address: &str| {
            IpRange::parse(range).unwrap().contains(address.parse().unwrap())
        };
        assert!(within("10.0.0.9/8", "10.200.0.1"));
        assert!(!within("10.0.0.0/8", "11.0.0.1"));
        assert!(within("0.0.0.0/0", "1.2.3.4"));
        assert!(!within("0.0.0.0/0", "::1"));
        assert!(within("2001:db8::/32", "2001:db8::5"));
        assert!(!within("2001:db8::5/32", "2001:db8::5"));
        assert!(within("::/0", "2001:db8::5"));
        for bad in ["10.0.0.0/33", "10.0.0/8", "10.0.0.0/", "10.0.0.0/-1", "x", "::/129"] {
            assert_eq!(IpRange::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(parse_date("1440938160"), Some(Timestamp(1_440_938_160_000)));
        assert_eq!(parse_date("1440938160.1234"), Some(Timestamp(1_440_938_160_123)));
        assert_eq!(parse_date("2015-08-30T12:36:00Z"), Some(Timestamp(1_440_938_160_000)));
        for bad in ["", "yesterday", "1.", "1.2.3", "99999999999999999999"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn there_are_no_other_operators() {
        for good in [
            "StringLikeIfExists",
            "ForAnyValue:ArnLike",
            "ForAllValues:StringNotLikeIfExists",
            "Null",
        ] {
            assert!(Operator::parse(good).is_some(), "{good}");
        }
        for bad in [
            "NullIfExists",
            "ForAnyValue:Null",
            "stringequals",
            "NumericLike",
            "ForAny:StringLike",
            "",
            "DateNotLessThan",
        ] {
            assert!(Operator::parse(bad).is_none(), "{bad}");
        }
    }
}
