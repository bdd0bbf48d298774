//! Random policies and requests, and both evaluators' answers to them. A case is a number.

use crate::reference::{self, Document, Grant, Place, Question, Sort, Verdict};
use base::AccountId;
use iam::{
    AttachedPolicy, Bindings, Context, Decision, GrantMatch, Layer, Layers, Policy, PolicyKind,
    Principal, Reason, Request, ResourceLayer, evaluate,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The version of the language in which variables are plain text.
const OLD: &str = "2008-10-17";
const OWN: &str = "111111111111";
const OTHER: &str = "222222222222";
const BOB: &str = "AIDAOWNBOB0000000000X";
const DEV: &str = "AROAOWNDEV0000000000X";
const ISSUER: &str = "arn:aws:iam::111111111111:oidc-provider/oidc.example.org";

/// A small generator (splitmix64), so that a number is a case forever.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("it is below n")
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// One to three of these, or one without the array.
    fn some_of(&mut self, items: &[&str]) -> Value {
        if self.one_in(3) {
            return json!(self.of(items));
        }
        let count = 1 + self.below(3);
        json!((0..count).map(|_| self.of(items)).collect::<Vec<_>>())
    }
}

fn account(text: &str) -> AccountId {
    AccountId::parse(text).expect("twelve digits")
}

/// Every sort of caller, for both evaluators.
fn caller(dice: &mut Dice) -> (Principal, reference::Caller) {
    let own = if dice.one_in(4) { OTHER } else { OWN };
    let id = account(own);
    let tags = BTreeMap::from([("Team".to_owned(), dice.of(&["red", "r*", ""]).to_owned())]);
    let user = Principal::user(&id, "/", "bob", BOB);
    let (sort, mut principal) = match dice.below(8) {
        0 => (Sort::Root, Principal::root(&id)),
        1 | 2 => (Sort::User, user),
        3 | 4 => (Sort::Session, Principal::assumed_role(&id, "/p/", "dev", DEV, "s")),
        5 if dice.one_in(2) => {
            (Sort::FederatedByRoot, Principal::federated_user(&Principal::root(&id), "ann"))
        }
        5 => (Sort::FederatedByUser, Principal::federated_user(&user, "ann")),
        6 => (Sort::WebIdentity, Principal::web_identity(&id, ISSUER, "sub")),
        _ => (Sort::Service, Principal::service(&id, "ec2.us-east-1.amazonaws.com")),
    };
    principal.tags = tags.clone();
    let mut keys: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut set = |key: &str, value: &str| keys.insert(key.to_owned(), vec![value.to_owned()]);
    set("aws:principaltag/team", &tags["Team"]);
    let (arn, behind) = match sort {
        Sort::Root => (format!("arn:aws:iam::{own}:root"), vec![]),
        Sort::User => (format!("arn:aws:iam::{own}:user/bob"), vec![]),
        Sort::Session => (format!("arn:aws:sts::{own}:assumed-role/dev/s"), vec![DEV]),
        Sort::FederatedByUser => (format!("arn:aws:sts::{own}:federated-user/ann"), vec![BOB]),
        Sort::FederatedByRoot => (format!("arn:aws:sts::{own}:federated-user/ann"), vec![]),
        Sort::WebIdentity => (ISSUER.to_owned(), vec![]),
        Sort::Service => ("ec2.us-east-1.amazonaws.com".to_owned(), vec![]),
    };
    let mut names = BTreeSet::from([arn.clone()]);
    match sort {
        Sort::Root => {
            names.clear();
            set("aws:userid", own);
            set("aws:principaltype", "Account");
        }
        Sort::User => {
            names.insert(BOB.to_owned());
            set("aws:userid", BOB);
            set("aws:username", "bob");
            set("aws:principaltype", "User");
        }
        Sort::Session => {
            set("aws:userid", &format!("{DEV}:s"));
            set("aws:principaltype", "AssumedRole");
        }
        Sort::FederatedByUser | Sort::FederatedByRoot => {
            set("aws:userid", &format!("{own}:ann"));
            set("aws:principaltype", "FederatedUser");
        }
        Sort::WebIdentity => {}
        Sort::Service => {
            names.insert("ec2.amazonaws.com".to_owned());
        }
    }
    if !matches!(sort, Sort::Service | Sort::WebIdentity) {
        set("aws:principalaccount", own);
        let shown = match sort {
            Sort::Session => format!("arn:aws:iam::{own}:role/p/dev"),
            _ => arn,
        };
        set("aws:principalarn", &shown);
    }
    let behind = behind.into_iter().map(str::to_owned).collect();
    let caller = reference::Caller { sort, account: own.to_owned(), own: names, behind, keys };
    (principal, caller)
}

const OPERATORS: &[&str] = &[
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
    "DateEquals",
    "DateNotEquals",
    "DateLessThan",
    "DateLessThanEquals",
    "DateGreaterThan",
    "DateGreaterThanEquals",
    "Bool",
    "BinaryEquals",
    "IpAddress",
    "NotIpAddress",
    "ArnEquals",
    "ArnLike",
    "ArnNotEquals",
    "ArnNotLike",
    "Null",
];
const KEYS: &[&str] = &[
    "t:a",
    "T:A",
    "t:b",
    "aws:TagKeys",
    "aws:username",
    "aws:PrincipalTag/team",
    "aws:PrincipalArn",
    "aws:PrincipalType",
    "aws:userid",
    "kms:EncryptionContext:k",
    "kms:GrantOperations",
];
/// Values that the operators of one family take, both in policies and in requests.
const TEXTS: &[&str] = &[
    "red",
    "RED",
    "r*",
    "r?d",
    "*",
    "",
    "bob",
    "é",
    "😀",
    "??",
    "${aws:username}",
    "${t:a}",
    "x${*}y",
    "${t:none, 'red'}",
    "${aws:TagKeys, 'red'}",
    "x*y",
    "User",
    "straße",
];
const NUMBERS: &[&str] = &["10", "010.0", "-0", "0", "9.5", "-10", "+10"];
const DATES: &[&str] =
    &["2026-01-01T00:00:00Z", "2026-01-01", "1767225600", "1767225600.001", "0", "2025-12-31"];
const BINARIES: &[&str] = &["QUJD", "QQ==", ""];
const RANGES: &[&str] =
    &["10.0.0.0/8", "10.1.2.3", "10.9.9.9/8", "2001:db8::/32", "2001:db8::1/32", "0.0.0.0/0"];
const ARNS: &[&str] = &[
    "arn:aws:iam::111111111111:user/bob",
    "arn:aws:iam::*:user/*",
    "arn:*:*:*:*:*",
    "arn:aws:sts::111111111111:assumed-role/dev/s",
    "arn:aws:iam::111111111111:role/p/dev",
    "arn:aws:s:r:1:${aws:username}",
    "${aws:PrincipalArn}",
    "arn:aws:iam::1?1111111111:*",
    "${t:a}",
];
/// Those that are ARNs as they stand, for documents of the old version.
const PLAIN_ARNS: &[&str] = &[
    "arn:aws:iam::111111111111:user/bob",
    "arn:*:*:*:*:*",
    "arn:aws:s:r:1:${aws:username}",
    "arn:aws:iam::111111111111:role/p/dev",
];
/// What requests say that no family understands.
const ODD: &[&str] =
    &["ten", "1e3", "tomorrow", "TRUE", "not-an-ip", "arn:aws:s", "10.0.0.1", "QUJ"];

fn family(operator: &str, version: &str) -> &'static [&'static str] {
    let name = operator.rsplit(':').next().expect("a name");
    match name {
        _ if name.starts_with("String") => TEXTS,
        _ if name.starts_with("Numeric") => NUMBERS,
        _ if name.starts_with("Date") => DATES,
        _ if name.starts_with("Bool") || name == "Null" => &["true", "false", "TRUE"],
        _ if name.starts_with("Binary") => BINARIES,
        _ if name.contains("Ip") => RANGES,
        _ if version == OLD => PLAIN_ARNS,
        _ => ARNS,
    }
}

fn condition(dice: &mut Dice, place: Place, version: &str) -> Value {
    let mut operators = Map::new();
    for _ in 0..1 + dice.below(2) {
        let base = dice.of(OPERATORS);
        let mut operator = base.to_owned();
        if base != "Null" {
            operator = match dice.below(6) {
                0 => format!("ForAnyValue:{operator}"),
                1 => format!("ForAllValues:{operator}"),
                _ => operator,
            };
            if dice.one_in(4) {
                operator.push_str("IfExists");
            }
        }
        let key = dice.of(KEYS);
        // KMS refuses this pair when a key policy is saved (A.6).
        if place == Place::Resource && operator.starts_with("ForAll") && key.starts_with("kms:Enc")
        {
            continue;
        }
        let mut values = dice.some_of(family(base, version));
        // Only session policies keep operands that cannot be converted (A.6); variables stay whole.
        if place == Place::Session
            && base != "Null"
            && !base.starts_with("String")
            && dice.one_in(4)
        {
            values = json!([dice.of(ODD), dice.of(family(base, version))]);
        }
        if dice.one_in(20) {
            values = json!([]);
        }
        operators.insert(operator, json!({ key: values }));
    }
    Value::Object(operators)
}

fn statement(dice: &mut Dice, place: Place, version: &str) -> Value {
    let effect = if dice.one_in(5) { "Deny" } else { "Allow" };
    let mut out = json!({ "Effect": effect });
    let put = |out: &mut Value, name: &str, value: Value, not: bool| {
        let name = if not { format!("Not{name}") } else { name.to_owned() };
        out[name] = value;
    };
    let actions = ["*", "s:*", "s:Get", "S:GET", "s:G?t", "t:*", "s:Put", "s*:Get"];
    // A service with a wildcard is refused when an identity policy is saved.
    let actions = if place == Place::Resource { &actions[..] } else { &actions[..7] };
    let (value, not) = (dice.some_of(actions), dice.one_in(5));
    put(&mut out, "Action", value, not);
    let resources = [
        "*",
        "arn:aws:s:us-east-1:111111111111:r/1",
        "arn:aws:s:*",
        "arn:aws:s:us-*:111111111111:r/*",
        "arn:aws:s:us-east-1:111111111111:r/${aws:username}",
        "arn:aws:s:*:*:r/${t:none}",
        "arn:aws:s:us-east-1:1*",
        "arn:aws:s:us-east-1:111111111111:?/?",
        "arn:aws:t:*:*:*",
        "arn:aws:s:us-east-1:111111111111:r/${t:none, '1'}",
    ];
    let (value, not) = (dice.some_of(&resources), dice.one_in(6));
    put(&mut out, "Resource", value, not);
    if place == Place::Resource {
        let aws = [
            "*",
            OWN,
            OTHER,
            "arn:aws:iam::111111111111:root",
            "arn:aws:iam::111111111111:user/bob",
            "arn:aws:iam::111111111111:role/p/dev",
            "arn:aws:sts::111111111111:assumed-role/dev/s",
            "arn:aws:sts::111111111111:federated-user/ann",
            BOB,
        ];
        let not = effect == "Deny" && dice.one_in(3);
        let value = match dice.below(8) {
            0 => json!("*"),
            1 => json!({ "Service": ["ec2.amazonaws.com"] }),
            2 => json!({ "Federated": ISSUER }),
            3 => json!({ "AWS": dice.some_of(&aws), "Service": "ec2.us-east-1.amazonaws.com" }),
            _ => json!({ "AWS": dice.some_of(&aws) }),
        };
        put(&mut out, "Principal", value, not);
        if dice.one_in(15) {
            let object = out.as_object_mut().expect("an object");
            object.retain(|name, _| !name.ends_with("Action"));
        }
    }
    if dice.one_in(2) {
        out["Condition"] = condition(dice, place, version);
    }
    out
}

fn document(dice: &mut Dice, place: Place) -> Document {
    let version = if dice.one_in(5) { OLD } else { "2012-10-17" };
    let count = 1 + dice.below(3);
    let statements: Vec<Value> = (0..count).map(|_| statement(dice, place, version)).collect();
    let bindings = BTreeMap::from([
        ("arn:aws:iam::111111111111:user/bob".to_owned(), BOB.to_owned()),
        ("arn:aws:iam::111111111111:role/p/dev".to_owned(), DEV.to_owned()),
    ]);
    let json = json!({ "Version": version, "Statement": statements });
    Document { place, json, bindings }
}

/// One case: the same question for both.
struct Case {
    principal: Principal,
    question: Question,
}

impl Case {
    fn new(seed: u64) -> Self {
        let dice = &mut Dice(seed);
        let (principal, caller) = caller(dice);
        let mut documents = Vec::new();
        for (place, most, one_in) in [
            (Place::Identity, 3, 4),
            (Place::Boundary, 1, 2),
            (Place::Session, 2, 2),
            (Place::Resource, 1, 2),
        ] {
            for _ in 0..most {
                if !dice.one_in(one_in) || (place == Place::Identity && dice.one_in(2)) {
                    continue;
                }
                documents.push(document(dice, place));
            }
        }
        if documents.iter().all(|d| d.place != Place::Identity) && !dice.one_in(3) {
            documents.push(document(dice, Place::Identity));
        }
        let grants = (0..dice.below(3).saturating_sub(1))
            .map(|_| Grant { by_callers_account: dice.one_in(2), exact: dice.one_in(2) })
            .collect();
        let multivalued = BTreeSet::from(["aws:tagkeys", "kms:grantoperations"].map(str::to_owned));
        let mut context = BTreeMap::new();
        for key in ["t:a", "t:b", "kms:encryptioncontext:k", "aws:username"] {
            if dice.one_in(2) {
                let pool = dice.of::<[&str]>(&[TEXTS, NUMBERS, DATES, BINARIES, RANGES, ARNS, ODD]);
                context.insert(key.to_owned(), vec![dice.of(pool).to_owned()]);
            }
        }
        for key in &multivalued {
            if dice.one_in(2) {
                let values = (0..dice.below(3)).map(|_| dice.of(TEXTS).to_owned());
                context.insert(key.clone(), values.collect());
            }
        }
        let question = Question {
            caller,
            action: dice.of(&["s:Get", "s:Put", "t:Get"]).to_owned(),
            resource: dice
                .of(&[
                    "arn:aws:s:us-east-1:111111111111:r/1",
                    "arn:aws:s:us-east-1:111111111111:r/bob",
                    "*",
                ])
                .to_owned(),
            owner: (!dice.one_in(5)).then(|| OWN.to_owned()),
            context,
            multivalued,
            mandatory: dice.one_in(2),
            grants,
            documents,
        };
        Self { principal, question }
    }

    fn layers(&self) -> Layers {
        let mut layers = Layers::default();
        let q = &self.question;
        for document in &q.documents {
            let text = document.json.to_string();
            let (kind, layer) = match document.place {
                Place::Identity => (PolicyKind::Identity, Layer::Identity),
                Place::Boundary => (PolicyKind::Identity, Layer::Boundary),
                Place::Session => (PolicyKind::Session, Layer::Session),
                Place::Resource => (PolicyKind::KeyPolicy, Layer::Resource),
            };
            let policy =
                Policy::parse(&text, kind).unwrap_or_else(|error| panic!("{error}\n{text}"));
            let policy = Arc::new(policy.bind(&Bindings(document.bindings.clone())));
            let attached =
                AttachedPolicy { layer, name_or_arn: "p".to_owned(), policy: policy.clone() };
            match document.place {
                Place::Identity => layers.identity.push(attached),
                Place::Boundary => layers.boundary = Some(attached),
                Place::Session => layers.session.push(attached),
                Place::Resource => {
                    let mandatory = q.mandatory;
                    layers.resource =
                        Some(ResourceLayer { policy, name: "r".to_owned(), mandatory });
                }
            }
        }
        let issuing =
            |own| if own { self.principal.account.clone() } else { account("333333333333") };
        layers.grants = q
            .grants
            .iter()
            .map(|grant| GrantMatch {
                grant_id: "g".to_owned(),
                issuing_account: issuing(grant.by_callers_account),
                exact_session_or_user: grant.exact,
            })
            .collect();
        layers
    }

    fn decide(&self) -> Decision {
        let q = &self.question;
        let mut context = Context::new();
        for (key, values) in &q.context {
            match q.multivalued.contains(key) {
                true => context.set_multi(key.clone(), values.clone()),
                false => context.set(key.clone(), values[0].as_str()),
            };
        }
        let owner = q.owner.as_deref().map(account);
        let request = Request {
            principal: &self.principal,
            action: &q.action,
            resource: &q.resource,
            resource_account: owner.as_ref(),
            context: &context,
        };
        evaluate(&request, &self.layers())
    }
}

fn verdict(decision: &Decision) -> Verdict {
    match decision.reason {
        Reason::AllowedByStatement(_) | Reason::AllowedByGrant { .. } | Reason::AllowedAsRoot => {
            Verdict::Allowed
        }
        Reason::ExplicitDeny(_) => Verdict::ExplicitDeny,
        Reason::ImplicitDeny(layer) => Verdict::ImplicitDeny(match layer {
            Layer::Identity => "Identity",
            Layer::Boundary => "Boundary",
            Layer::Session => "Session",
            Layer::Resource => "Resource",
        }),
    }
}

/// Compares the two on one case, and returns the answer, or how they differ.
pub(crate) fn agree(seed: u64) -> Result<Verdict, String> {
    let case = Case::new(seed);
    let decision = case.decide();
    let ours = verdict(&decision);
    let theirs = reference::decide(&case.question);
    if ours == theirs && decision.allowed == (ours == Verdict::Allowed) {
        return Ok(ours);
    }
    let trace = serde_json::to_string_pretty(&decision.trace).expect("a trace is JSON");
    Err(format!(
        "case {seed}: the evaluator says {ours:?}, the reference {theirs:?}\n{:#?}\n{trace}",
        case.question
    ))
}
