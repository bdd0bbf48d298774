//! Callers with credentials, and what each is told by a rehearsal.

use super::Verdict;
use super::fixtures::Fixtures;
use crate::decided::Decided;
use crate::registry::AnyOperation;
use crate::rehearsal::{Judged, Rehearsal};
use crate::testing::{Bench, account, run_named};
use crate::{Call, Error, Service};
use base::AccountId;
use iam::{Principal, Reason};
use serde_json::{Value as Json, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The callers, in order.
pub(super) const NAMES: [&str; 16] = [
    "root",
    "admin",
    "bare",
    "holder",
    "exact",
    "elsewhere",
    "denied",
    "bounded",
    "session",
    "role",
    "token",
    "federated",
    "foreign",
    "grantee",
    "guest",
    "service",
];

const NOTHING: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"*","Resource":"*"}}"#;
const ALL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
/// Nothing of this world.
const ELSEWHERE: &str = "arn:aws:ec2:eu-west-1:999999999999:volume/vol-ffffffffffffffff0";

/// The callers. The policies of `exact`, `elsewhere`, `denied`, `bounded` and `session` follow the
/// operation.
pub(super) struct Cast(BTreeMap<&'static str, Call>);

impl Cast {
    pub(super) async fn make(bench: &Bench, fixtures: &Fixtures) -> Self {
        let one = account(1);
        let mut cast = BTreeMap::from([
            ("root", bench.root(&one, "us-east-1")),
            (
                "service",
                bench.call(Principal::service(&one, "ec2.us-east-1.amazonaws.com"), "us-east-1"),
            ),
        ]);
        for (name, call) in fixtures.users(bench) {
            cast.insert(name, call);
        }
        let made = |digit: u8, name: &'static str, policy: &'static str| async move {
            (name, bench.user(&account(digit), name, policy).await)
        };
        for (digit, name, policy) in [
            (1, "admin", ALL),
            (1, "bare", NOTHING),
            (1, "exact", NOTHING),
            (1, "elsewhere", NOTHING),
            (1, "denied", NOTHING),
            (1, "bounded", ALL),
            (2, "foreign", ALL),
            (3, "guest", ALL),
        ] {
            cast.extend([made(digit, name, policy).await]);
        }
        let admin = &cast["admin"];
        let role =
            json!({ "RoleArn": "arn:aws:iam::111111111111:role/role", "RoleSessionName": "s1" });
        let federated = json!({ "Name": "ann", "Policy": ALL });
        let mut begun = Vec::new();
        for (name, operation, input) in [
            ("role", "AssumeRole", role.clone()),
            ("session", "AssumeRole", role),
            ("token", "GetSessionToken", json!({})),
            ("federated", "GetFederationToken", federated),
        ] {
            begun.push((name, session(bench, admin, operation, input).await));
        }
        cast.extend(begun);
        Self(cast)
    }

    /// What the operation asks for, and what each caller is told.
    pub(super) async fn ask(
        &self,
        bench: &Bench,
        operation: &'static dyn AnyOperation,
        fixtures: &Fixtures,
    ) -> (Vec<Decided>, BTreeMap<&'static str, Verdict>) {
        let (mut asks, mut verdicts) = (Vec::new(), BTreeMap::new());
        // The first three never depend on what is asked; what they are asked decides who follows.
        for name in ["admin", "root", "service"] {
            let (verdict, asked) =
                self.rehearse(name, bench, operation, fixtures, Vec::new()).await;
            verdicts.insert(name, verdict);
            if asks.is_empty() {
                asks = asked;
            }
        }
        let info = operation.info();
        let mut actions: Vec<String> = asks.iter().map(|ask| ask.action.clone()).collect();
        if actions.is_empty() {
            actions.push(format!("{}:{}", info.service, info.name));
        }
        let mut resources: Vec<&str> = asks.iter().map(|ask| ask.resource.as_str()).collect();
        if resources.is_empty() {
            resources.push("*");
        }
        let statement = |effect: &str, resources: &[&str]| json!({ "Effect": effect, "Action": actions, "Resource": resources });
        self.give("exact", json!([statement("Allow", &resources)])).await;
        self.give("elsewhere", json!([statement("Allow", &[ELSEWHERE])])).await;
        let everything = json!({ "Effect": "Allow", "Action": "*", "Resource": "*" });
        self.give("denied", json!([everything, statement("Deny", &["*"])])).await;
        let without = policy(json!([{ "Effect": "Allow", "NotAction": actions, "Resource": "*" }]));
        self.bound(&format!("{}-{}", info.service, info.name), &without).await;
        for name in NAMES {
            if verdicts.contains_key(name) {
                continue;
            }
            let limits = if name == "session" { vec![without.clone()] } else { Vec::new() };
            let (verdict, _) = self.rehearse(name, bench, operation, fixtures, limits).await;
            verdicts.insert(name, verdict);
        }
        (asks, verdicts)
    }

    async fn rehearse(
        &self,
        name: &str,
        bench: &Bench,
        operation: &'static dyn AnyOperation,
        fixtures: &Fixtures,
        limits: Vec<String>,
    ) -> (Verdict, Vec<Decided>) {
        let who = &self.0[name];
        let rehearsal = Arc::new(Rehearsal::default());
        let mut call = bench.call(who.caller.principal.clone(), "us-east-1");
        call.caller.session_policies.clone_from(&who.caller.session_policies);
        call.caller.session_policies.extend(limits);
        call.rehearsal = Some(Arc::clone(&rehearsal));
        let input = fixtures.request(operation.info(), call.account());
        let outcome = operation.run(&call, input).await;
        let first = rehearsal.take().0.into_iter().next();
        match first.map(|step| step.judged) {
            Some(Judged::Decided { decisions, problem }) => {
                let verdict = match (verdict(&decisions.asks, call.account()), problem) {
                    // What only the owner may is refused behind the decision.
                    (Verdict::Allow, Some((code, _))) => Verdict::Ended(code),
                    (verdict, _) => verdict,
                };
                (verdict, decisions.asks)
            }
            Some(Judged::Planned { .. }) | None => {
                let error = outcome.expect_err("an operation that is allowed was decided");
                (Verdict::Ended(code(&error)), Vec::new())
            }
        }
    }

    /// Gives a user these statements and no others.
    async fn give(&self, user: &str, statements: Json) {
        let input = json!({ "UserName": user, "PolicyName": "test",
            "PolicyDocument": policy(statements) });
        run_named(&self.0["root"], Service::Iam, "PutUserPolicy", input).await.expect("a policy");
    }

    async fn bound(&self, name: &str, document: &str) {
        let root = &self.0["root"];
        let input = json!({ "PolicyName": name, "PolicyDocument": document });
        let made = run_named(root, Service::Iam, "CreatePolicy", input).await.expect("a policy");
        let input = json!({ "UserName": "bounded", "PermissionsBoundary": made["Policy"]["Arn"] });
        run_named(root, Service::Iam, "PutUserPermissionsBoundary", input)
            .await
            .expect("a boundary");
    }
}

fn policy(statements: Json) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

/// A call with the temporary credentials that an operation of STS gives.
async fn session(bench: &Bench, by: &Call, operation: &str, input: Json) -> Call {
    let reply = run_named(by, Service::Sts, operation, input).await;
    let reply = reply.unwrap_or_else(|error| panic!("{operation}: {error}"));
    let text = |name: &str| reply["Credentials"][name].as_str().expect("a text").to_owned();
    let found = bench.world.credential(&text("AccessKeyId"), Some(&text("SessionToken"))).await;
    let Ok(credential) = found else { panic!("the credentials are good") };
    let mut call = bench.call(credential.principal, "us-east-1");
    call.caller.session_policies = credential.session_policies;
    call
}

/// The first denial decides; without one the call is allowed.
fn verdict(asks: &[Decided], caller: &AccountId) -> Verdict {
    match asks.iter().find(|ask| !ask.allowed).map(|ask| &ask.reason) {
        Some(Reason::ExplicitDeny(statement)) => Verdict::Explicit(statement.layer),
        Some(Reason::ImplicitDeny(layer)) => Verdict::Implicit(*layer),
        Some(reason) => panic!("{reason:?} is no denial"),
        None => {
            let here = account(1);
            let about_here = |ask: &Decided| ask.account.as_ref() == Some(&here);
            match *caller == here || asks.iter().any(about_here) {
                true => Verdict::Allow,
                false => Verdict::Own,
            }
        }
    }
}

fn code(error: &Error) -> String {
    assert!(error.0.spec.fault == awsproto::Fault::Sender, "{error}");
    error.code().to_owned()
}
