//! From text to [`Policy`], refusing what AWS refuses (spec 20, A.4 to A.6 and B.4).

use crate::condition::{Condition, Operand, Operator, SetPrefix, Test};
use crate::json::Json;
use crate::pattern::{ActionPattern, Syntax, Template};
use crate::policy::{
    Effect, Element, Policy, PolicyError, PolicyKind, ResourcePattern, Statement, Version,
};
use crate::{principal_element, span};
use std::collections::HashSet;

/// The longest text read at all; each kind has a tighter quota where it is saved.
pub const POLICY_BYTES_MAX: usize = 131_072;

/// The longest single text inside a policy.
pub const TEXT_BYTES_MAX: usize = 8_192;

/// How much of a wrong text an error repeats.
const WHAT_CHARS_MAX: usize = 300;

type Parsed<T> = Result<T, PolicyError>;

/// Where in the document something stands, for error messages.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> At<'a> {
    const ROOT: At<'static> = At { parent: None, step: Step::Name("the document") };

    pub(crate) fn member(&'a self, name: &'a str) -> At<'a> {
        At { parent: Some(self), step: Step::Name(name) }
    }

    pub(crate) fn index(&'a self, index: usize) -> At<'a> {
        At { parent: Some(self), step: Step::Index(index) }
    }

    pub(crate) fn wrong<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err(self.error(what))
    }

    pub(crate) fn error(&self, what: impl Into<String>) -> PolicyError {
        PolicyError::Malformed { what: shortened(what.into()), at: self.path() }
    }

    pub(crate) fn invalid_principal<T>(&self, written: String) -> Parsed<T> {
        Err(PolicyError::InvalidPrincipal { written: shortened(written), at: self.path() })
    }

    pub(crate) fn path(&self) -> String {
        let above = match self.parent {
            None => return "the document".to_owned(),
            Some(parent) if parent.parent.is_none() => String::new(),
            Some(parent) => parent.path(),
        };
        match self.step {
            Step::Index(index) => format!("{above}[{index}]"),
            Step::Name(name) if above.is_empty() => name.to_owned(),
            Step::Name(name) => format!("{above}.{name}"),
        }
    }
}

fn shortened(text: String) -> String {
    match text.chars().count() > WHAT_CHARS_MAX {
        true => text.chars().take(WHAT_CHARS_MAX).chain(['…']).collect(),
        false => text,
    }
}

/// What a statement needs to know of its document.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) kind: PolicyKind,
    version: Version,
}

pub(crate) fn policy(text: &str, kind: PolicyKind) -> Parsed<Policy> {
    if text.len() > POLICY_BYTES_MAX {
        return Err(PolicyError::TooLong { bytes: text.len(), limit: POLICY_BYTES_MAX });
    }
    let document = Json::parse(text).map_err(PolicyError::Syntax)?;
    let at = At::ROOT;
    let members = object(&document, &at)?;
    known_members(members, &["Version", "Id", "Statement"], &at)?;
    let version = version(member(members, "Version"), &at.member("Version"))?;
    let id = member(members, "Id").map(|v| string(v, &at.member("Id"))).transpose()?;
    let rules = Rules { kind, version };
    let at = at.member("Statement");
    let Some(number) = members.iter().position(|(name, _)| name == "Statement") else {
        return at.wrong("Missing required field Statement");
    };
    let written = &members[number].1;
    let statements = match written {
        Json::Array(items) => items
            .iter()
            .enumerate()
            .map(|(i, item)| statement(item, rules, &at.index(i)))
            .collect::<Parsed<Vec<_>>>()?,
        single => vec![statement(single, rules, &at)?],
    };
    if statements.is_empty() {
        return at.wrong("a policy needs at least one statement");
    }
    let mut sids = HashSet::new();
    for (i, statement) in statements.iter().enumerate() {
        if let Some(sid) = &statement.sid
            && !sid.is_empty()
            && !sids.insert(sid.as_str())
        {
            let what = format!("Statement IDs (SID) in a single policy must be unique: '{sid}'");
            return at.index(i).wrong(what);
        }
    }
    let spans = span::of_objects(text, number);
    assert_eq!(spans.len(), statements.len(), "every statement of a policy is an object");
    Ok(Policy { kind, version, id: id.map(str::to_owned), statements, spans })
}

fn version(value: Option<&Json>, at: &At<'_>) -> Parsed<Version> {
    match value.map(|v| string(v, at)).transpose()? {
        None | Some("2008-10-17") => Ok(Version::V2008),
        Some("2012-10-17") => Ok(Version::V2012),
        Some(other) => {
            at.wrong(format!("the policy version '{other}' is neither 2012-10-17 nor 2008-10-17"))
        }
    }
}

fn statement(value: &Json, rules: Rules, at: &At<'_>) -> Parsed<Statement> {
    const KNOWN: &[&str] = &[
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    ];
    let members = object(value, at)?;
    known_members(members, KNOWN, at)?;
    let sid = member(members, "Sid").map(|v| sid(v, rules.kind, &at.member("Sid"))).transpose()?;
    let effect_at = at.member("Effect");
    let effect = match member(members, "Effect").map(|v| string(v, &effect_at)).transpose()? {
        Some("Allow") => Effect::Allow,
        Some("Deny") => Effect::Deny,
        Some(other) => {
            return effect_at.wrong(format!("the effect '{other}' is neither Allow nor Deny"));
        }
        None => return effect_at.wrong("Missing required field Effect"),
    };
    let principals = principal_element::parse(members, rules.kind, effect, at)?;
    let actions = actions(members, rules.kind, at)?;
    let resources = resources(members, rules, at)?;
    let conditions = match member(members, "Condition") {
        None => Vec::new(),
        Some(value) => conditions(value, rules, &at.member("Condition"))?,
    };
    Ok(Statement { sid, effect, principals, actions, resources, conditions })
}

fn sid(value: &Json, kind: PolicyKind, at: &At<'_>) -> Parsed<String> {
    let text = string(value, at)?;
    // The characters of a document, so that an escape in it names no others.
    let of_document = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
    let (legal, set) = match kind {
        // KMS guide, "Key policies": an arbitrary string, which can include spaces.
        PolicyKind::KeyPolicy => (text.chars().all(of_document), "of Latin characters"),
        PolicyKind::Identity | PolicyKind::Session | PolicyKind::Trust => {
            (text.chars().all(|c| c.is_ascii_alphanumeric()), "alpha-numeric")
        }
    };
    if legal {
        return Ok(text.to_owned());
    }
    at.wrong(format!("Statement IDs (SID) should be {set}, '{text}' is not"))
}

/// The element `name` or its `Not` form as texts; `None` when the statement has neither.
fn element<'a>(
    members: &'a [(String, Json)],
    names: [&'static str; 2],
    at: &At<'_>,
) -> Parsed<Option<(&'static str, bool, Vec<&'a str>)>> {
    let [name, not_name] = names;
    let (name, negated, value) = match (member(members, name), member(members, not_name)) {
        (None, None) => return Ok(None),
        (Some(value), None) => (name, false, value),
        (None, Some(value)) => (not_name, true, value),
        (Some(_), Some(_)) => {
            return at.wrong(format!("a statement has either {name} or {not_name}, not both"));
        }
    };
    let texts = strings(value, &at.member(name))?;
    Ok(Some((name, negated, texts)))
}

fn actions(
    members: &[(String, Json)],
    kind: PolicyKind,
    at: &At<'_>,
) -> Parsed<Option<Element<ActionPattern>>> {
    let Some((name, negated, texts)) = element(members, ["Action", "NotAction"], at)? else {
        // KMS accepts such a statement, and it has no effect (spec 20, B.4).
        if kind == PolicyKind::KeyPolicy {
            return Ok(None);
        }
        return at.wrong("Policy statement must contain actions");
    };
    let at = at.member(name);
    if texts.is_empty() && kind != PolicyKind::KeyPolicy {
        return at.wrong("Policy statement must contain actions");
    }
    for (i, text) in texts.iter().enumerate() {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let well_formed = match text.split_once(':') {
            None => *text == "*",
            Some((vendor, action)) => {
                !vendor.is_empty() && vendor.chars().all(legal) && !action.is_empty()
            }
        };
        // An unknown action in a key policy is inert, not an error (spec 20, B.4).
        if !well_formed && kind != PolicyKind::KeyPolicy {
            return at.index(i).wrong(format!(
                "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.: '{text}'"
            ));
        }
    }
    Ok(Some(Element { negated, items: texts.into_iter().map(ActionPattern::new).collect() }))
}

fn resources(
    members: &[(String, Json)],
    rules: Rules,
    at: &At<'_>,
) -> Parsed<Option<Element<ResourcePattern>>> {
    let Some((name, negated, texts)) = element(members, ["Resource", "NotResource"], at)? else {
        return match rules.kind {
            PolicyKind::Trust | PolicyKind::KeyPolicy => Ok(None),
            PolicyKind::Identity | PolicyKind::Session => {
                at.wrong("Policy statement must contain resources")
            }
        };
    };
    let at = at.member(name);
    if rules.kind == PolicyKind::Trust {
        return at.wrong(format!("Has prohibited field {name}"));
    }
    if texts.is_empty() && rules.kind != PolicyKind::KeyPolicy {
        return at.wrong("Policy statement must contain resources");
    }
    let items = texts.iter().enumerate().map(|(i, text)| resource(text, rules, &at.index(i)));
    Ok(Some(Element { negated, items: items.collect::<Parsed<_>>()? }))
}

fn resource(text: &str, rules: Rules, at: &At<'_>) -> Parsed<ResourcePattern> {
    if text == "*" {
        return Ok(ResourcePattern::All);
    }
    let components: Vec<&str> = text.splitn(6, ':').collect();
    // A shorter pattern that ends in a star is completed with wildcards (spec 20, A.5).
    let complete = components.len() == 6 || text.ends_with('*');
    if components[0] != "arn" || !complete {
        return at.wrong(format!("Resource {text} must be in ARN format or \"*\""));
    }
    if components.len() < 3 || components[2].contains(['*', '?']) {
        return at.wrong(format!(
            "Resource vendor must be fully qualified and cannot contain regexes: {text}"
        ));
    }
    let mut parts = Vec::new();
    for (i, component) in components.iter().enumerate() {
        // Variables stand only after the fifth colon (spec 20, A.6).
        let variables = i == 5 && rules.version == Version::V2012;
        let template = Template::parse(component, Syntax { wildcards: true, variables });
        parts.push(template.map_err(|what| at.error(what))?);
    }
    Ok(ResourcePattern::Arn { written: text.to_owned(), parts })
}

fn conditions(value: &Json, rules: Rules, at: &At<'_>) -> Parsed<Vec<Condition>> {
    let mut out = Vec::new();
    for (name, keys) in object(value, at)? {
        let at = at.member(name);
        let Some(operator) = Operator::parse(name) else {
            return at.wrong(format!("there is no condition operator '{name}'"));
        };
        for (key, values) in object(keys, &at)? {
            let at = at.member(key);
            let condition = condition(&operator, key, values, rules, &at)?;
            out.push(condition);
        }
    }
    Ok(out)
}

fn condition(
    operator: &Operator,
    key: &str,
    values: &Json,
    rules: Rules,
    at: &At<'_>,
) -> Parsed<Condition> {
    if !key.split_once(':').is_some_and(|(vendor, rest)| !vendor.is_empty() && !rest.is_empty()) {
        return at.wrong(format!(
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.: '{key}'"
        ));
    }
    if rules.kind == PolicyKind::KeyPolicy && operator.set == Some(SetPrefix::All) {
        let lower = key.to_lowercase();
        // KMS refuses these on save (spec 20, A.6).
        if lower.starts_with("kms:encryptioncontext:") || lower.starts_with("aws:requesttag/") {
            let at = at.path();
            return Err(PolicyError::OverlyPermissiveCondition { key: key.to_owned(), at });
        }
    }
    let variables = rules.version == Version::V2012;
    let mut operands = Vec::new();
    for text in scalars(values, at)? {
        operands.push(match operator.operand(&text, variables) {
            Ok(operand) => operand,
            // Session policies are not validated as stored ones are (spec 20, A.6).
            Err(_) if rules.kind == PolicyKind::Session && operator.test != Test::Null => {
                Operand::Malformed(text)
            }
            Err(what) => return at.wrong(what),
        });
    }
    Ok(Condition { operator: operator.clone(), key: key.to_owned(), operands })
}

/// A text, number or boolean, or an array of them, as texts.
fn scalars(value: &Json, at: &At<'_>) -> Parsed<Vec<String>> {
    let scalar = |value: &Json, at: &At<'_>| match value {
        Json::String(_) => string(value, at).map(str::to_owned),
        Json::Bool(value) => Ok(value.to_string()),
        Json::Number(text) => Ok(text.clone()),
        other => at.wrong(format!("expected a value, found {}", other.noun())),
    };
    match value {
        Json::Array(items) => {
            items.iter().enumerate().map(|(i, item)| scalar(item, &at.index(i))).collect()
        }
        single => Ok(vec![scalar(single, at)?]),
    }
}

/// A text or an array of texts.
pub(crate) fn strings<'a>(value: &'a Json, at: &At<'_>) -> Parsed<Vec<&'a str>> {
    match value {
        Json::Array(items) => {
            items.iter().enumerate().map(|(i, item)| string(item, &at.index(i))).collect()
        }
        single => Ok(vec![string(single, at)?]),
    }
}

pub(crate) fn string<'a>(value: &'a Json, at: &At<'_>) -> Parsed<&'a str> {
    match value {
        Json::String(text) if text.len() > TEXT_BYTES_MAX => {
            at.wrong(format!("a text of {} bytes, the limit is {TEXT_BYTES_MAX}", text.len()))
        }
        Json::String(text) => Ok(text),
        other => at.wrong(format!("expected a string, found {}", other.noun())),
    }
}

pub(crate) fn object<'a>(value: &'a Json, at: &At<'_>) -> Parsed<&'a [(String, Json)]> {
    match value {
        Json::Object(members) => Ok(members),
        other => at.wrong(format!("expected an object, found {}", other.noun())),
    }
}

pub(crate) fn member<'a>(members: &'a [(String, Json)], name: &str) -> Option<&'a Json> {
    members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn known_members(members: &[(String, Json)], known: &[&str], at: &At<'_>) -> Parsed<()> {
    match members.iter().find(|(key, _)| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some((key, _)) => at.wrong(format!("there is no element '{key}' in a policy")),
    }
}
