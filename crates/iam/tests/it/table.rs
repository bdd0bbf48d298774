//! The table language. One line says one thing:
//!
//! ```text
//! identity   222/bob  allow kms:* on arn:aws:kms:* if StringEquals a:b=x|y
//! boundary | session | identity-2008 | session-lax … same form
//! key-policy k1       allow 222,222/bob kms:Decrypt,kms:CreateGrant if …
//! queue      q1       … as key-policy, for a resource whose policy is not mandatory
//! trust      dev      … for the role `dev` of account 111
//! grant      k1       exact|role issued-by 222
//! tag        222/bob  team=red
//! ask        222/bob  kms:Decrypt k1 ctx a:b=x,c:d=[y|z] -> allow
//! ```
//!
//! Callers: `222/bob`, `222/bob#2` (the same name, created anew), `222/role:dev/s1`, `222/root`,
//! `svc:ec2.us-east-1.amazonaws.com`. Keys, queues and trusting roles belong to account 111.
//! `!a,b` is the `Not…` form of an element; `-` leaves the element out.

use base::AccountId;
use iam::{
    AttachedPolicy, Bindings, Context, Decision, GrantMatch, Layer, Layers, Policy, PolicyKind,
    Principal, Reason, Request, ResourceLayer, evaluate,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs every `ask` of a table and compares the answers.
#[track_caller]
pub(crate) fn check(table: &str) {
    let mut world = World::default();
    let mut asked = 0;
    let mut wrong = Vec::new();
    for line in table.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("//")) {
        let Some((head, expected)) = line.split_once(" -> ") else {
            world.learn(line);
            continue;
        };
        asked += 1;
        let answer = describe(&world.ask(head));
        let expected = expected.trim();
        let fits = answer
            .strip_prefix(expected)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([':', ' ', '[']));
        if !fits {
            wrong.push(format!("{head}\n   expected {expected}\n   got      {answer}"));
        }
    }
    assert!(asked > 0, "the table asks nothing");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `allow: identity[0]`, `deny: explicit session[1]`, `deny: no resource`.
fn describe(decision: &Decision) -> String {
    let name = |layer: Layer| format!("{layer:?}").to_lowercase();
    match &decision.reason {
        Reason::AllowedByStatement(s) => format!("allow: {}[{}]", name(s.layer), s.index),
        Reason::AllowedByGrant { grant_id } => format!("allow: {grant_id}"),
        Reason::AllowedAsRoot => "allow: root".to_owned(),
        Reason::ExplicitDeny(s) => format!("deny: explicit {}[{}]", name(s.layer), s.index),
        Reason::ImplicitDeny(layer) => format!("deny: no {}", name(*layer)),
    }
}

#[derive(Default)]
pub(crate) struct World {
    /// (layer word, owner) -> statements.
    statements: BTreeMap<(String, String), Vec<Value>>,
    grants: BTreeMap<String, Vec<GrantMatch>>,
    tags: BTreeMap<String, BTreeMap<String, String>>,
}

const OWNER: &str = "111111111111";

fn account(short: &str) -> AccountId {
    let digit = short.chars().next().expect("an account has digits").to_string();
    AccountId::parse(&digit.repeat(12)).expect("twelve digits")
}

fn unique(prefix: &str, account: &AccountId, name: &str) -> String {
    let tail = format!("{}{}", &account.as_str()[..3], name.to_uppercase().replace('#', "9"));
    format!("{prefix}{tail:X<17}")
}

fn caller(word: &str) -> Principal {
    if let Some(service) = word.strip_prefix("svc:") {
        return Principal::service(&account("111"), service);
    }
    let (number, who) = word.split_once('/').expect("account/name");
    let account = account(number);
    if who == "root" {
        return Principal::root(&account);
    }
    let (plain, _) = who.split_once('#').unwrap_or((who, ""));
    if let Some(role) = plain.strip_prefix("role:") {
        let (role, session) = role.split_once('/').expect("role/session");
        let id = who.strip_prefix("role:").and_then(|w| w.split_once('/')).map(|_| {
            let again = who.split_once('#').map_or("", |(_, n)| n);
            unique("AROA", &account, &format!("{role}{again}"))
        });
        return Principal::assumed_role(&account, "/", role, &id.expect("a role"), session);
    }
    let id = unique("AIDA", &account, &who.replace('#', ""));
    Principal::user(&account, "/", plain, &id)
}

/// The ARN a principal word means inside a policy, with the id it binds to.
fn principal_text(word: &str) -> (String, Option<String>) {
    if word == "*" || word.starts_with("arn:") || word.starts_with("AIDA") {
        return (word.to_owned(), None);
    }
    let Some((number, who)) = word.split_once('/') else {
        return (account(word).to_string(), None);
    };
    let account = account(number);
    match who.strip_prefix("role:") {
        None if who == "root" => (format!("arn:aws:iam::{account}:root"), None),
        None => (format!("arn:aws:iam::{account}:user/{who}"), Some(unique("AIDA", &account, who))),
        Some(role) => match role.split_once('/') {
            Some((role, s)) => (format!("arn:aws:sts::{account}:assumed-role/{role}/{s}"), None),
            None => (
                format!("arn:aws:iam::{account}:role/{role}"),
                Some(unique("AROA", &account, role)),
            ),
        },
    }
}

fn set(statement: &mut Map<String, Value>, name: &str, word: &str, value: impl Fn(&str) -> Value) {
    match word.strip_prefix('!') {
        Some(rest) => statement.insert(format!("Not{name}"), value(rest)),
        None => statement.insert(name.to_owned(), value(word)),
    };
}

fn principal_value(words: &str) -> Value {
    if words == "*" {
        return json!("*");
    }
    let (services, others): (Vec<&str>, Vec<&str>) =
        words.split(',').partition(|w| w.starts_with("svc:"));
    let mut forms = Map::new();
    if !others.is_empty() {
        let texts: Vec<_> = others.iter().map(|w| principal_text(w).0).collect();
        forms.insert("AWS".to_owned(), json!(texts));
    }
    if !services.is_empty() {
        forms.insert(
            "Service".to_owned(),
            json!(services.iter().map(|s| &s[4..]).collect::<Vec<_>>()),
        );
    }
    Value::Object(forms)
}

/// Reads `allow [principals] actions [on resources] [if Operator key=a|b [and …]]`.
fn statement(words: &[String], has_principal: bool, has_resource: bool) -> Value {
    let mut words = words.iter().map(String::as_str);
    let mut out = Map::new();
    let effect = match words.next() {
        Some("allow") => "Allow",
        Some("deny") => "Deny",
        other => panic!("effect {other:?}"),
    };
    out.insert("Effect".to_owned(), json!(effect));
    if has_principal {
        set(&mut out, "Principal", words.next().expect("principals"), principal_value);
    }
    // A comma before a space belongs to the default of a variable.
    let list = |text: &str| {
        let texts = text.replace(", ", "\u{1}");
        json!(texts.split(',').map(|t| t.replace('\u{1}', ", ")).collect::<Vec<_>>())
    };
    let actions = words.next().expect("actions");
    if actions != "-" {
        set(&mut out, "Action", actions, list);
    }
    let mut word = words.next();
    let mut resource = "*";
    if word == Some("on") {
        resource = words.next().expect("resources");
        word = words.next();
    }
    if has_resource && resource != "-" {
        set(&mut out, "Resource", resource, list);
    }
    let mut conditions: Map<String, Value> = Map::new();
    while let Some(joint) = word {
        assert!(matches!(joint, "if" | "and"), "unexpected {joint}");
        let operator = words.next().expect("operator");
        let (key, values) = words.next().and_then(|w| w.split_once('=')).expect("key=values");
        let values: Vec<_> = values.split('|').collect();
        let values = if values == ["[]"] { json!([]) } else { json!(values) };
        let entry = conditions.entry(operator.to_owned()).or_insert_with(|| json!({}));
        entry.as_object_mut().expect("an object").insert(key.to_owned(), values);
        word = words.next();
    }
    if !conditions.is_empty() {
        out.insert("Condition".to_owned(), Value::Object(conditions));
    }
    Value::Object(out)
}

/// Splits at spaces outside double quotes and drops the quotes.
fn words(line: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => out.push(String::new()),
            c => out.last_mut().expect("never empty").push(c),
        }
    }
    out.retain(|w| !w.is_empty());
    out
}

impl World {
    pub(crate) fn learn(&mut self, line: &str) {
        let words = words(line);
        let (kind, owner) = (words[0].as_str(), words[1].clone());
        match kind {
            "tag" => {
                let (key, value) = words[2].split_once('=').expect("key=value");
                self.tags.entry(owner).or_default().insert(key.to_owned(), value.to_owned());
            }
            "grant" => {
                let list = self.grants.entry(owner).or_default();
                list.push(GrantMatch {
                    grant_id: format!("grant{}", list.len()),
                    issuing_account: account(&words[4]),
                    exact_session_or_user: words[2] == "exact",
                });
            }
            _ => {
                let resource_side = matches!(kind, "key-policy" | "queue" | "trust");
                let statement = statement(&words[2..], resource_side, kind != "trust");
                self.statements.entry((kind.to_owned(), owner)).or_default().push(statement);
            }
        }
    }

    fn policy(&self, layer: &str, owner: &str) -> Option<Arc<Policy>> {
        let (layer, version) = match layer.strip_suffix("-2008") {
            Some(layer) => (layer, "2008-10-17"),
            None => (layer, "2012-10-17"),
        };
        let name = if version == "2008-10-17" { format!("{layer}-2008") } else { layer.to_owned() };
        let statements = self.statements.get(&(name, owner.to_owned()))?;
        let text = json!({ "Version": version, "Statement": statements }).to_string();
        let kind = match layer {
            "key-policy" | "queue" => PolicyKind::KeyPolicy,
            "trust" => PolicyKind::Trust,
            "session" => PolicyKind::Session,
            _ => PolicyKind::Identity,
        };
        let policy = Policy::parse(&text, kind).unwrap_or_else(|e| panic!("{e}\n{text}"));
        Some(Arc::new(policy.bind(&Bindings(bindings(&text)))))
    }

    pub(crate) fn layers(&self, who: &str, resource: &str) -> (String, Layers) {
        let mut layers = Layers::default();
        let attached = |layer, word: &str, policy| AttachedPolicy {
            layer,
            name_or_arn: word.to_owned(),
            policy,
        };
        for word in ["identity", "identity-2008"] {
            let policy = self.policy(word, who);
            layers.identity.extend(policy.map(|p| attached(Layer::Identity, word, p)));
        }
        layers.boundary =
            self.policy("boundary", who).map(|p| attached(Layer::Boundary, "boundary", p));
        let session = self.policy("session", who);
        layers.session.extend(session.map(|p| attached(Layer::Session, "session", p)));
        layers.grants = self.grants.get(resource).cloned().unwrap_or_default();
        let arns = [
            ("key-policy", format!("arn:aws:kms:us-east-1:{OWNER}:key/{resource}")),
            ("queue", format!("arn:aws:sqs:us-east-1:{OWNER}:{resource}")),
            ("trust", format!("arn:aws:iam::{OWNER}:role/{resource}")),
        ];
        for (word, arn) in arns {
            let both = [word.to_owned(), format!("{word}-2008")];
            if let Some(policy) = both.iter().find_map(|word| self.policy(word, resource)) {
                let mandatory = word != "queue";
                layers.resource =
                    Some(ResourceLayer { policy, name: resource.to_owned(), mandatory });
                return (arn, layers);
            }
        }
        (resource.to_owned(), layers)
    }

    pub(crate) fn ask(&self, line: &str) -> Decision {
        let words = words(line);
        assert_eq!(words[0], "ask", "{line}");
        let mut principal = caller(&words[1]);
        principal.tags = self.tags.get(&words[1]).cloned().unwrap_or_default();
        let (resource, layers) = self.layers(&words[1], &words[3]);
        let mut context = Context::new();
        if words.get(4).is_some_and(|w| w == "ctx") {
            for pair in words[5..].join(" ").split(',') {
                let (key, value) = pair.split_once('=').expect("key=value");
                match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
                    None => context.set(key.to_owned(), value),
                    Some("") => context.set_multi(key.to_owned(), []),
                    Some(many) => {
                        context.set_multi(key.to_owned(), many.split('|').map(str::to_owned))
                    }
                };
            }
        }
        let owner = layers.resource.is_some().then(|| account("111"));
        let request = Request {
            principal: &principal,
            action: &words[2],
            resource: &resource,
            resource_account: owner.as_ref(),
            context: &context,
        };
        evaluate(&request, &layers)
    }
}

/// What saving the policy would have resolved its user and role ARNs to.
fn bindings(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for arn in text.split('"').filter(|t| t.starts_with("arn:aws:iam::")) {
        let Some((number, rest)) = arn[13..].split_once(':') else { continue };
        let Ok(account) = AccountId::parse(number) else { continue };
        if let Some(name) = rest.strip_prefix("user/") {
            out.insert(arn.to_owned(), unique("AIDA", &account, name));
        } else if let Some(name) = rest.strip_prefix("role/") {
            out.insert(arn.to_owned(), unique("AROA", &account, name));
        }
    }
    out
}
