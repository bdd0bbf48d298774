//! What holds for every set of policies.

use base::AccountId;
use iam::{
    AttachedPolicy, Context, Decision, GrantMatch, Layer, Layers, Policy, PolicyKind, Principal,
    Reason, Request, ResourceLayer, evaluate,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

const OWN: &str = "111111111111";
const OTHER: &str = "222222222222";

fn account(text: &str) -> AccountId {
    AccountId::parse(text).expect("twelve digits")
}

#[derive(Clone, Debug)]
struct World {
    caller: usize,
    identity: Vec<Value>,
    boundary: Option<Vec<Value>>,
    session: Option<Vec<Value>>,
    resource: Option<(bool, Vec<Value>)>,
    grants: Vec<(bool, bool)>,
    action: String,
    tag: Option<String>,
}

fn callers() -> Vec<Principal> {
    let (own, other) = (account(OWN), account(OTHER));
    vec![
        Principal::root(&own),
        Principal::user(&own, "/", "bob", "AIDAOWNBOB0000000000X"),
        Principal::assumed_role(&own, "/", "dev", "AROAOWNDEV0000000000X", "s"),
        Principal::root(&other),
        Principal::user(&other, "/", "eve", "AIDAOTHEREVE00000000X"),
        Principal::assumed_role(&other, "/", "ops", "AROAOTHEROPS00000000X", "s"),
        Principal::service(&own, "ec2.us-east-1.amazonaws.com"),
    ]
}

fn identity_statement() -> impl Strategy<Value = Value> {
    let condition = prop::option::of(prop::sample::select(vec![
        json!({ "StringEquals": { "t:tag": "x" } }),
        json!({ "StringNotEquals": { "t:tag": "x" } }),
        json!({ "Null": { "t:tag": "true" } }),
    ]));
    (
        prop::sample::select(vec!["Allow", "Allow", "Deny"]),
        prop::sample::select(vec!["*", "s:*", "s:A", "s:B"]),
        prop::sample::select(vec!["*", "arn:aws:s:us-east-1:111111111111:r/1", "arn:aws:s:*"]),
        any::<bool>(),
        condition,
    )
        .prop_map(|(effect, action, resource, not, condition)| {
            let name = if not && action != "*" { "NotAction" } else { "Action" };
            let mut statement = json!({ "Effect": effect, "Resource": resource });
            statement[name] = json!(action);
            if let Some(condition) = condition {
                statement["Condition"] = condition;
            }
            statement
        })
}

fn resource_statement() -> impl Strategy<Value = Value> {
    let principals = prop::sample::select(vec![
        json!("*"),
        json!({ "AWS": OWN }),
        json!({ "AWS": OTHER }),
        json!({ "AWS": format!("arn:aws:iam::{OWN}:user/bob") }),
        json!({ "AWS": format!("arn:aws:iam::{OWN}:role/dev") }),
        json!({ "AWS": format!("arn:aws:sts::{OWN}:assumed-role/dev/s") }),
        json!({ "AWS": format!("arn:aws:iam::{OTHER}:role/ops") }),
        json!({ "Service": "ec2.amazonaws.com" }),
    ]);
    (identity_statement(), principals).prop_map(|(mut statement, principal)| {
        statement["Principal"] = principal;
        statement
    })
}

fn world() -> impl Strategy<Value = World> {
    let some = |max| prop::collection::vec(identity_statement(), 1..max);
    (
        0..callers().len(),
        prop::collection::vec(identity_statement(), 0..4),
        prop::option::of(some(3)),
        prop::option::of(some(3)),
        prop::option::of((any::<bool>(), prop::collection::vec(resource_statement(), 1..4))),
        prop::collection::vec(any::<(bool, bool)>(), 0..2),
        prop::sample::select(vec!["s:A", "s:B", "t:C"]),
        prop::option::of(prop::sample::select(vec!["x", "y"])),
    )
        .prop_map(|(caller, identity, boundary, session, resource, grants, action, tag)| {
            World {
                caller,
                identity,
                boundary,
                session,
                resource,
                grants,
                action: action.to_owned(),
                tag: tag.map(str::to_owned),
            }
        })
}

fn parse(statements: &[Value], kind: PolicyKind) -> Arc<Policy> {
    let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
    Arc::new(Policy::parse(&text, kind).expect("the generator makes policies"))
}

impl World {
    fn decide(&self) -> Decision {
        self.decide_with(&self.layers())
    }

    fn layers(&self) -> Layers {
        let attached = |layer, statements: &Vec<Value>| AttachedPolicy {
            layer,
            name_or_arn: "p".to_owned(),
            policy: parse(statements, PolicyKind::Identity),
        };
        let identity =
            (!self.identity.is_empty()).then(|| attached(Layer::Identity, &self.identity));
        Layers {
            identity: identity.into_iter().collect(),
            boundary: self.boundary.as_ref().map(|s| attached(Layer::Boundary, s)),
            session: self.session.iter().map(|s| attached(Layer::Session, s)).collect(),
            resource: self.resource.as_ref().map(|(mandatory, statements)| ResourceLayer {
                policy: parse(statements, PolicyKind::KeyPolicy),
                name: "r".to_owned(),
                mandatory: *mandatory,
            }),
            grants: self
                .grants
                .iter()
                .map(|(own, exact)| GrantMatch {
                    grant_id: "g".to_owned(),
                    issuing_account: account(if *own { OWN } else { OTHER }),
                    exact_session_or_user: *exact,
                })
                .collect(),
        }
    }

    fn decide_with(&self, layers: &Layers) -> Decision {
        let owner = account(OWN);
        let mut context = Context::new();
        context.set_opt("t:tag", self.tag.clone());
        evaluate(
            &Request {
                principal: &callers()[self.caller],
                action: &self.action,
                resource: "arn:aws:s:us-east-1:111111111111:r/1",
                resource_account: Some(&owner),
                context: &context,
            },
            layers,
        )
    }

    /// The same with a policy for each statement of the layers that may have several, last first.
    fn decide_spread(&self) -> Decision {
        let spread = |layer, statements: &[Value]| -> Vec<AttachedPolicy> {
            let one = |statement: &Value| AttachedPolicy {
                layer,
                name_or_arn: "p".to_owned(),
                policy: parse(std::slice::from_ref(statement), PolicyKind::Identity),
            };
            statements.iter().rev().map(one).collect()
        };
        let mut layers = self.layers();
        layers.identity = spread(Layer::Identity, &self.identity);
        layers.session = spread(Layer::Session, self.session.as_deref().unwrap_or_default());
        self.decide_with(&layers)
    }

    /// The statement lists, by number: identity, boundary, session, resource.
    fn list(&mut self, which: usize) -> Option<&mut Vec<Value>> {
        match which {
            0 => Some(&mut self.identity),
            1 => self.boundary.as_mut(),
            2 => self.session.as_mut(),
            _ => self.resource.as_mut().map(|(_, statements)| statements),
        }
    }
}

fn with_principal(mut statement: Value, which: usize, principal: Value) -> Value {
    if which == 3 {
        statement["Principal"] = principal;
    }
    statement
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn an_explicit_deny_wins(mut world in world(), which in 0usize..4) {
        if let Some(list) = world.list(which) {
            let deny = json!({ "Effect": "Deny", "Action": "*", "Resource": "*" });
            list.push(with_principal(deny, which, json!("*")));
            let decision = world.decide();
            prop_assert!(!decision.allowed);
            prop_assert!(matches!(decision.reason, Reason::ExplicitDeny(_)));
        }
    }

    #[test]
    fn the_order_of_statements_changes_nothing(mut world in world()) {
        let before = world.decide();
        for which in 0..4 {
            if let Some(list) = world.list(which) {
                list.reverse();
            }
        }
        let after = world.decide();
        prop_assert_eq!(before.allowed, after.allowed);
        prop_assert_eq!(before.message(), after.message());
    }

    #[test]
    fn adding_an_allow_never_takes_away(mut world in world(), statement in resource_statement(), which in 0usize..4) {
        let before = world.decide().allowed;
        if let Some(list) = world.list(which) {
            let mut statement = statement;
            statement["Effect"] = json!("Allow");
            if which != 3 {
                statement.as_object_mut().expect("an object").remove("Principal");
            }
            list.push(statement);
            prop_assert!(!before || world.decide().allowed);
        }
    }

    #[test]
    fn adding_a_deny_never_gives(mut world in world(), statement in resource_statement(), which in 0usize..4) {
        let before = world.decide().allowed;
        if let Some(list) = world.list(which) {
            let mut statement = statement;
            statement["Effect"] = json!("Deny");
            if which != 3 {
                statement.as_object_mut().expect("an object").remove("Principal");
            }
            list.push(statement);
            prop_assert!(before || !world.decide().allowed);
        }
    }

    #[test]
    fn adding_a_grant_never_takes_away_and_limits_never_give(world in world(), grant in any::<(bool, bool)>()) {
        let before = world.decide().allowed;
        let mut more = world.clone();
        more.grants.push(grant);
        prop_assert!(!before || more.decide().allowed);
        let mut wider = world.clone();
        wider.boundary = None;
        wider.session = None;
        prop_assert!(!before || wider.decide().allowed);
    }

    /// A layer is a set of policies: one policy of all statements is as good as a policy for each, in
    /// whatever order.
    #[test]
    fn how_statements_are_spread_over_policies_changes_nothing(world in world()) {
        let together = world.decide();
        let apart = world.decide_spread();
        prop_assert_eq!(together.allowed, apart.allowed);
        prop_assert_eq!(together.message(), apart.message());
    }

    /// Of a statement and its complement exactly one applies.
    #[test]
    fn not_action_and_not_principal_are_complements(
        caller in 0..callers().len(),
        action in prop::sample::select(vec!["s:*", "s:A", "t:*", "*"]),
        named in prop::sample::select(vec![OWN, OTHER, "arn:aws:iam::111111111111:user/bob"]),
    ) {
        let ask = |statement: Value| World {
            caller,
            identity: vec![],
            boundary: None,
            session: None,
            resource: Some((true, vec![statement])),
            grants: vec![],
            action: "s:A".to_owned(),
            tag: None,
        }
        .decide();
        let denied = |decision: Decision| matches!(decision.reason, Reason::ExplicitDeny(_));
        let base = json!({ "Effect": "Deny", "Resource": "*", "Principal": "*" });
        let (mut plain, mut not) = (base.clone(), base);
        plain["Action"] = json!(action);
        not["NotAction"] = json!(action);
        prop_assert!(denied(ask(plain)) != denied(ask(not)));
        // Every name of a caller has to be listed to spare it; one is enough to name it.
        let names = json!({ "AWS": [named] });
        let plain = json!({ "Effect": "Deny", "Resource": "*", "Action": "*", "Principal": names });
        let not = json!({ "Effect": "Deny", "Resource": "*", "Action": "*", "NotPrincipal": names });
        let (named, others) = (denied(ask(plain)), denied(ask(not)));
        prop_assert!(named || others);
        if callers()[caller].kind == iam::PrincipalKind::Root {
            prop_assert!(named != others);
        }
    }

    #[test]
    fn nothing_is_allowed_by_nobody(mut world in world()) {
        world.identity.clear();
        world.resource = None;
        world.grants.clear();
        let is_root = callers()[world.caller].kind == iam::PrincipalKind::Root;
        prop_assert!(is_root || !world.decide().allowed);
    }
}
