//! A second evaluator, written from the specification alone: spec 20, A.2 to A.6 and B.6.
//!
//! It works on the JSON of the policies, shares no code with the crate, and is made to be read beside
//! the specification, not to be fast: names are sets, matching is a table, a decision is a formula.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The answer, as far as two evaluators have to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    ExplicitDeny,
    /// The first layer in the order of A.2 that does not allow.
    ImplicitDeny(&'static str),
}

/// Where a document stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Identity,
    Boundary,
    Session,
    Resource,
}

/// A policy as text became JSON.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) place: Place,
    pub(crate) json: Value,
    /// User and role ARNs, and the ids they meant when the policy was saved.
    pub(crate) bindings: BTreeMap<String, String>,
}

/// What sort of caller (A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    Root,
    User,
    Session,
    FederatedByUser,
    FederatedByRoot,
    WebIdentity,
    Service,
}

/// The caller by all its names.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) sort: Sort,
    pub(crate) account: String,
    /// Names that mean this caller alone: ARNs, unique ids, service names.
    pub(crate) own: BTreeSet<String>,
    /// Names of what stands behind the session: its role, or the user who made it.
    pub(crate) behind: BTreeSet<String>,
    /// Condition keys that follow from the caller, in lower case.
    pub(crate) keys: BTreeMap<String, Vec<String>>,
}

/// A grant that fits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grant {
    pub(crate) by_callers_account: bool,
    pub(crate) exact: bool,
}

/// One question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) caller: Caller,
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) owner: Option<String>,
    /// Keys in lower case.
    pub(crate) context: BTreeMap<String, Vec<String>>,
    pub(crate) multivalued: BTreeSet<String>,
    pub(crate) documents: Vec<Document>,
    /// The policy of the resource is a key policy or trust policy (A.3).
    pub(crate) mandatory: bool,
    pub(crate) grants: Vec<Grant>,
}

/// How a statement of a resource policy names the caller (A.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    Account,
    Behind,
    Own,
}

/// A.2, step by step.
pub(crate) fn decide(q: &Question) -> Verdict {
    let mut allows: Vec<(Place, Option<Named>)> = Vec::new();
    let mut denied = false;
    for document in &q.documents {
        for statement in statements(&document.json) {
            let Some(named) = applies(q, document, statement) else { continue };
            match statement["Effect"].as_str() {
                Some("Deny") => denied = true,
                _ => allows.push((document.place, named)),
            }
        }
    }
    if denied {
        return Verdict::ExplicitDeny;
    }
    let has = |place| q.documents.iter().any(|d| d.place == place);
    let allowed_in = |place| allows.iter().any(|(p, _)| *p == place);
    let named = |wanted| allows.iter().any(|(p, n)| *p == Place::Resource && *n == Some(wanted));
    let identity =
        matches!(q.caller.sort, Sort::Root | Sort::FederatedByRoot) || allowed_in(Place::Identity);
    let limits = || {
        if has(Place::Boundary) && !allowed_in(Place::Boundary) {
            Verdict::ImplicitDeny("Boundary")
        } else if has(Place::Session) && !allowed_in(Place::Session) {
            Verdict::ImplicitDeny("Session")
        } else {
            Verdict::Allowed
        }
    };
    let trusting = allowed_in(Place::Resource) || !q.grants.is_empty();
    if matches!(q.caller.sort, Sort::Service | Sort::WebIdentity) {
        return if trusting { Verdict::Allowed } else { Verdict::ImplicitDeny("Resource") };
    }
    let foreign = q.owner.as_ref().is_some_and(|owner| *owner != q.caller.account);
    if foreign && has(Place::Resource) {
        let own = |exact| q.grants.iter().any(|g| g.by_callers_account && g.exact == exact);
        return match () {
            () if !trusting => Verdict::ImplicitDeny("Resource"),
            () if own(true) => Verdict::Allowed,
            () if own(false) || identity => limits(),
            () => Verdict::ImplicitDeny("Identity"),
        };
    }
    let granted = |exact| q.grants.iter().any(|g| g.exact == exact);
    match () {
        () if named(Named::Own) || granted(true) => Verdict::Allowed,
        () if named(Named::Behind) || granted(false) => limits(),
        () if q.mandatory && has(Place::Resource) && !named(Named::Account) => {
            Verdict::ImplicitDeny("Resource")
        }
        () if identity => limits(),
        () => Verdict::ImplicitDeny("Identity"),
    }
}

fn statements(document: &Value) -> Vec<&Value> {
    list(&document["Statement"])
}

/// An array's items, or the single value.
fn list(value: &Value) -> Vec<&Value> {
    match value {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().collect(),
        single => vec![single],
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a statement applies, and how it names the caller.
fn applies(q: &Question, document: &Document, statement: &Value) -> Option<Option<Named>> {
    let named = if document.place == Place::Resource {
        Some(principal(q, document, statement)?)
    } else {
        None
    };
    let variables = document.json["Version"] == "2012-10-17";
    let (actions, not) = element(statement, "Action")?;
    if actions.iter().any(|pattern| action(pattern, &q.action)) == not {
        return None;
    }
    let (resources, not) = element(statement, "Resource")?;
    let matches: Vec<Option<bool>> =
        resources.iter().map(|pattern| resource(q, pattern, variables)).collect();
    let unknown = matches.contains(&None);
    if not && unknown && statement["Effect"] == "Allow" {
        return None;
    }
    if matches.contains(&Some(true)) == not {
        return None;
    }
    let denies = statement["Effect"] == "Deny";
    let conditions = statement["Condition"].as_object();
    let hold = conditions.into_iter().flatten().all(|(operator, keys)| {
        keys.as_object().expect("keys").iter().all(|(key, values)| {
            let values: Vec<String> = list(values).into_iter().map(text).collect();
            condition(q, operator, key, &values, variables, denies)
        })
    });
    hold.then_some(named)
}

/// The texts of an element or of its `Not` form; `None` when there is neither: inert (B.4).
fn element(statement: &Value, name: &str) -> Option<(Vec<String>, bool)> {
    let texts = |value: &Value| list(value).into_iter().map(text).collect();
    match (&statement[name], &statement[format!("Not{name}")]) {
        (Value::Null, Value::Null) => None,
        (Value::Null, not) => Some((texts(not), true)),
        (plain, _) => Some((texts(plain), false)),
    }
}

/// A.4.
fn principal(q: &Question, document: &Document, statement: &Value) -> Option<Named> {
    let written = |value: &Value| -> Vec<String> {
        match value {
            Value::Object(forms) => forms.values().flat_map(list).map(text).collect(),
            other => list(other).into_iter().map(text).collect(),
        }
    };
    let level = |name: &String| -> Option<Named> {
        let account = &q.caller.account;
        let delegates = *name == *account || *name == format!("arn:aws:iam::{account}:root");
        let name = document.bindings.get(name).unwrap_or(name);
        if name == "*" || q.caller.own.contains(name) {
            Some(Named::Own)
        } else if q.caller.behind.contains(name) {
            Some(Named::Behind)
        } else if delegates && !matches!(q.caller.sort, Sort::Service | Sort::WebIdentity) {
            Some(Named::Account)
        } else {
            None
        }
    };
    if !statement["Principal"].is_null() {
        return written(&statement["Principal"]).iter().filter_map(level).max();
    }
    let listed = written(&statement["NotPrincipal"]);
    let levels: Vec<Named> = listed.iter().filter_map(level).collect();
    let needed: &[Named] = match q.caller.sort {
        Sort::Root => &[Named::Account],
        Sort::User | Sort::FederatedByRoot => &[Named::Account, Named::Own],
        Sort::Session | Sort::FederatedByUser => &[Named::Account, Named::Behind, Named::Own],
        Sort::Service | Sort::WebIdentity => &[Named::Own],
    };
    let spared = listed.iter().any(|name| name == "*") || needed.iter().all(|n| levels.contains(n));
    (!spared).then_some(Named::Own)
}

/// A.5: case does not matter, and the service is literal.
fn action(pattern: &str, asked: &str) -> bool {
    let (pattern, asked) = (pattern.to_lowercase(), asked.to_lowercase());
    if pattern == "*" {
        return true;
    }
    let service = |text: &str| text.split(':').next().map(str::to_owned);
    service(&pattern) == service(&asked) && glob(&units(&pattern), &wide(&asked))
}

/// A.5; `None` when a variable has no value.
fn resource(q: &Question, pattern: &str, variables: bool) -> Option<bool> {
    if pattern == "*" {
        return Some(true);
    }
    let mut parts: Vec<Vec<Unit>> = pattern.splitn(6, ':').map(units).collect();
    if parts.len() == 6 {
        let last = pattern.splitn(6, ':').last().expect("six parts");
        if variables {
            parts[5] = expand(q, last, true)?;
        }
    }
    let found: Vec<&str> = q.resource.splitn(6, ':').collect();
    if found.len() < 6 || found[0] != "arn" {
        return Some(false);
    }
    Some(parts.iter().zip(found).all(|(pattern, part)| glob(pattern, &wide(part))))
}

/// One unit of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Run,
    One,
    Is(u16),
}

fn wide(text: &str) -> Vec<u16> {
    text.encode_utf16().collect()
}

fn literal(text: &str) -> Vec<Unit> {
    wide(text).into_iter().map(Unit::Is).collect()
}

fn units(text: &str) -> Vec<Unit> {
    let unit = |u: u16| match u {
        0x2a => Unit::Run,
        0x3f => Unit::One,
        u => Unit::Is(u),
    };
    wide(text).into_iter().map(unit).collect()
}

/// A table of which prefixes of the pattern match which prefixes of the text.
fn glob(pattern: &[Unit], text: &[u16]) -> bool {
    let mut row = vec![false; text.len() + 1];
    row[0] = true;
    for unit in pattern {
        let mut next = vec![false; text.len() + 1];
        match unit {
            Unit::Run => {
                let mut any = false;
                for (at, before) in row.iter().enumerate() {
                    any |= *before;
                    next[at] = any;
                }
            }
            Unit::One => next[1..].copy_from_slice(&row[..text.len()]),
            Unit::Is(u) => {
                for at in 0..text.len() {
                    next[at + 1] = row[at] && text[at] == *u;
                }
            }
        }
        row = next;
    }
    row[text.len()]
}

/// A.6, policy variables; `None` when one has no value.
fn expand(q: &Question, written: &str, wildcards: bool) -> Option<Vec<Unit>> {
    let plain = |text: &str| if wildcards { units(text) } else { literal(text) };
    let mut out = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find("${") {
        out.extend(plain(&rest[..at]));
        let end = at + rest[at..].find('}').expect("the generator closes its variables");
        let inner = &rest[at + 2..end];
        rest = &rest[end + 1..];
        if ["*", "?", "$"].contains(&inner) {
            out.extend(literal(inner));
            continue;
        }
        let (key, default) = match inner.split_once(',') {
            None => (inner, None),
            Some((key, default)) => (key, Some(default.trim().trim_matches('\''))),
        };
        let key = key.trim().to_lowercase();
        if q.multivalued.contains(&key) {
            return None;
        }
        match (value(q, &key), default) {
            (Some(values), _) => out.extend(literal(values.first()?)),
            (None, Some(default)) => out.extend(literal(default)),
            (None, None) => return None,
        }
    }
    out.extend(plain(rest));
    Some(out)
}

/// The values of a key: what follows from the caller cannot be given by the request.
fn value(q: &Question, key: &str) -> Option<Vec<String>> {
    const CALLERS: &[&str] = &[
        "aws:username",
        "aws:userid",
        "aws:principalarn",
        "aws:principaltype",
        "aws:principalaccount",
    ];
    if CALLERS.contains(&key) || key.starts_with("aws:principaltag/") {
        return q.caller.keys.get(key).cloned();
    }
    q.context.get(key).cloned()
}

/// A.6, one operator with one key.
fn condition(
    q: &Question,
    operator: &str,
    key: &str,
    wanted: &[String],
    variables: bool,
    denies: bool,
) -> bool {
    let key = key.to_lowercase();
    let found = value(q, &key);
    if operator == "Null" {
        return wanted.iter().any(|w| (w.to_lowercase() == "true") == found.is_none());
    }
    let (set, rest) = match operator.split_once(':') {
        Some((set, rest)) => (Some(set), rest),
        None => (None, operator),
    };
    let (name, if_exists) = match rest.strip_suffix("IfExists") {
        Some(name) => (name, true),
        None => (rest, false),
    };
    let negated = name.contains("Not");
    let Some(found) = found else {
        return if_exists
            || match set {
                Some("ForAllValues") => true,
                Some(_) => false,
                None => negated,
            };
    };
    let one = |value: &String| satisfied(q, name, negated, value, wanted, variables, denies);
    match set {
        Some("ForAllValues") => found.iter().all(one),
        Some(_) => found.iter().any(one),
        None => !q.multivalued.contains(&key) && found.iter().all(one),
    }
}

/// What comparing with one wanted value says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Yes,
    No,
    /// The value of the request is malformed: the operator does not hold, negated or not.
    Malformed,
    /// The ARN of the policy is malformed: for a Deny and against an Allow.
    BrokenPolicy,
}

fn satisfied(
    q: &Question,
    name: &str,
    negated: bool,
    value: &str,
    wanted: &[String],
    variables: bool,
    denies: bool,
) -> bool {
    let said: Vec<Said> = wanted.iter().map(|w| compare(q, name, value, w, variables)).collect();
    let yes = said.contains(&Said::Yes);
    if said.contains(&Said::Malformed) {
        false
    } else if said.contains(&Said::BrokenPolicy) {
        denies || (yes && !negated)
    } else {
        yes != negated
    }
}

fn compare(q: &Question, name: &str, value: &str, wanted: &str, variables: bool) -> Said {
    let when = |yes| if yes { Said::Yes } else { Said::No };
    let pattern = |wildcards: bool| match variables {
        true => expand(q, wanted, wildcards),
        false if wildcards => Some(units(wanted)),
        false => Some(literal(wanted)),
    };
    let base = name.replace("Not", "");
    match base.as_str() {
        "StringEquals" => when(pattern(false).is_some_and(|p| glob(&p, &wide(value)))),
        "StringEqualsIgnoreCase" => {
            let lower = |p: Vec<Unit>| {
                let units: Vec<u16> =
                    p.iter().map(|u| if let Unit::Is(u) = u { *u } else { 0 }).collect();
                String::from_utf16_lossy(&units).to_lowercase()
            };
            when(pattern(false).is_some_and(|p| lower(p) == value.to_lowercase()))
        }
        "StringLike" => when(pattern(true).is_some_and(|p| glob(&p, &wide(value)))),
        // "Any other request text counts as false": of the request, not of the policy.
        "Bool" => match wanted.to_lowercase().as_str() {
            "true" => when(value.to_lowercase() == "true"),
            "false" => when(value.to_lowercase() != "true"),
            _ => Said::No,
        },
        "BinaryEquals" => when(bytes(value).is_some() && bytes(value) == bytes(wanted)),
        "IpAddress" => match (value.parse::<std::net::IpAddr>(), ip_range(wanted)) {
            (Err(_), _) | (_, None) => Said::Malformed,
            (Ok(address), Some((base, bits))) => when(inside(address, base, bits)),
        },
        "ArnEquals" | "ArnLike" => {
            let parts: Vec<&str> = value.splitn(6, ':').collect();
            if parts.len() < 6 || parts[0] != "arn" {
                return Said::Malformed;
            }
            let Some(pattern) = pattern(true) else { return Said::No };
            let patterns: Vec<&[Unit]> =
                pattern.splitn(6, |u| *u == Unit::Is(u16::from(b':'))).collect();
            if patterns.len() < 6 || !glob(patterns[0], &wide("arn")) {
                return Said::BrokenPolicy;
            }
            when(patterns.iter().zip(parts).all(|(p, part)| glob(p, &wide(part))))
        }
        _ => when(ordered(&base, value, wanted)),
    }
}

/// Numeric and date operators. What cannot be converted is "not equal".
fn ordered(name: &str, value: &str, wanted: &str) -> bool {
    let (family, order) = match name.strip_prefix("Numeric") {
        Some(order) => (scaled as fn(&str) -> Option<i128>, order),
        None => (
            instant as fn(&str) -> Option<i128>,
            name.strip_prefix("Date").expect("a date operator"),
        ),
    };
    let (Some(value), Some(wanted)) = (family(value), family(wanted)) else { return false };
    match order {
        "Equals" => value == wanted,
        "LessThan" => value < wanted,
        "LessThanEquals" => value <= wanted,
        "GreaterThan" => value > wanted,
        "GreaterThanEquals" => value >= wanted,
        other => panic!("no order {other}"),
    }
}

/// A decimal in billionths; the generator's numbers have no more digits.
fn scaled(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |t: &str| t.chars().all(|c| c.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let number: i128 = format!("{whole}{fraction:0<9}").parse().ok()?;
    Some(sign * number)
}

/// Milliseconds since the epoch; dates of the generator are in UTC.
fn instant(text: &str) -> Option<i128> {
    if let Some(day) =
        text.strip_suffix("T00:00:00Z").or(Some(text).filter(|t| t.len() == 10 && t.contains('-')))
    {
        let mut numbers = day.split('-').map(|n| n.parse::<i128>().ok());
        let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
        // Days from the civil calendar, March first.
        let (y, m) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
        let days = 365 * y + y.div_euclid(4) - y.div_euclid(100)
            + y.div_euclid(400)
            + (153 * m + 2) / 5
            + day
            - 1
            - 719_468;
        return Some(days * 86_400_000);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.is_empty() || !fraction.chars().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let millis: i128 = format!("{fraction:0<3}")[..3].parse().ok()?;
    let seconds: i128 = whole.parse().ok()?;
    Some(seconds * 1000 + if whole.starts_with('-') { -millis } else { millis })
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let body = text.trim_end_matches('=');
    let padding = text.len() - body.len();
    if padding > 2 {
        return None;
    }
    let mut bits: Vec<bool> = Vec::new();
    for byte in body.bytes() {
        let value = ALPHABET.iter().position(|a| *a == byte)?;
        bits.extend((0..6).rev().map(|bit| value >> bit & 1 == 1));
    }
    let used = bits.len() / 8 * 8;
    if bits[used..].iter().any(|bit| *bit) || bits.len() - used != padding * 2 {
        return None;
    }
    Some(bits[..used].chunks(8).map(|c| c.iter().fold(0, |n, b| n << 1 | u8::from(*b))).collect())
}

fn ip_range(text: &str) -> Option<(std::net::IpAddr, u32)> {
    let (address, bits) = text.split_once('/').unwrap_or((text, ""));
    let address: std::net::IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = if text.contains('/') { bits.parse().ok()? } else { width };
    (bits <= width).then_some((address, bits))
}

/// Host bits of a v4 range do not count; a v6 range that has any contains nothing.
fn inside(address: std::net::IpAddr, base: std::net::IpAddr, bits: u32) -> bool {
    let all = |ip: std::net::IpAddr| -> Vec<bool> {
        let octets = match ip {
            std::net::IpAddr::V4(ip) => ip.octets().to_vec(),
            std::net::IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        octets.iter().flat_map(|o| (0..8).rev().map(move |bit| o >> bit & 1 == 1)).collect()
    };
    let (address, network) = (all(address), all(base));
    let clean = base.is_ipv4() || network[bits as usize..].iter().all(|bit| !bit);
    address.len() == network.len() && clean && address[..bits as usize] == network[..bits as usize]
}
