//! Key policies, grants and identity policies together: text in, decision out.
//!
//! ```text
//! key KEY of ACCOUNT                                       a key without any policy statement
//! policy KEY allow|deny PRINCIPAL ACTIONS [if OP KEY=VALUE,..]  one statement; PRINCIPAL is *, an account or a name
//! identity NAME allow|deny ACTIONS [on KEY] [if ..]        one identity policy
//! grant GRANT KEY to NAME OPERATIONS [equals|subset K=V] [from ACCOUNT] [retire NAME]
//! ask NAME ACTION KEY [ctx K=V,..] [via SERVICE] [as kms:CreateGrant: to NAME OPERATIONS [equals|subset K=V]] -> DECISION
//! ```

use crate::world::{World, account, principal, region, unique_id, world};
use iam::{AttachedPolicy, Layer, Layers, Policy, PolicyKind, PrincipalKind, Reason, Request};
use kms::condition::Facts;
use kms::grant::{Constraints, Grant, GrantOperation, NewGrant, Trust};
use kms::guard::Question;
use kms::key::{LockoutCheck, PolicyWriter};
use kms::spec::EncryptionAlgorithm;
use kms::{Action, EncryptionContext, Key};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

struct Table {
    world: World,
    keys: BTreeMap<String, Key>,
    policies: BTreeMap<String, Vec<Value>>,
    identities: BTreeMap<String, Vec<Policy>>,
    grants: BTreeMap<String, Grant>,
}

fn check(text: &str) {
    let mut table = Table {
        world: world(),
        keys: BTreeMap::new(),
        policies: BTreeMap::new(),
        identities: BTreeMap::new(),
        grants: BTreeMap::new(),
    };
    let mut asked = 0;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("--")) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words[0] {
            "key" => table.key(&words),
            "managed" => table.managed(&words),
            "policy" => table.policy(&words),
            "identity" => table.identity(&words),
            "grant" => table.grant(&words),
            "ask" => {
                asked += 1;
                let (_, expected) = line.split_once("-> ").expect("a decision");
                assert_eq!(table.ask(&words), expected, "{line}");
            }
            other => panic!("unknown line: {other}"),
        }
    }
    assert!(asked > 0, "a table without questions proves nothing");
}

/// The words behind `name`, up to the next keyword of the line.
fn option<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().position(|word| *word == name).map(|at| words[at + 1])
}

fn pairs(text: &str) -> BTreeMap<String, String> {
    text.split(',')
        .map(|pair| pair.split_once('=').expect("key=value"))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn conditions(words: &[&str]) -> Value {
    let Some(at) = words.iter().position(|word| *word == "if") else { return json!({}) };
    json!({ words[at + 1]: pairs(words[at + 2]) })
}

fn statement(effect: &str, actions: &str, words: &[&str]) -> Value {
    json!({
        "Effect": if effect == "allow" { "Allow" } else { "Deny" },
        "Action": actions.split(',').collect::<Vec<_>>(),
        "Resource": "*",
        "Condition": conditions(words),
    })
}

fn constraints(words: &[&str]) -> Constraints {
    Constraints {
        equals: option(words, "equals").map(pairs),
        subset: option(words, "subset").map(pairs),
        source_arn: option(words, "source").map(str::to_owned),
    }
}

impl Table {
    fn key(&mut self, words: &[&str]) {
        let key = self.world.key(words[3], None);
        self.keys.insert(words[1].to_owned(), key);
        self.policies.insert(words[1].to_owned(), Vec::new());
        self.save_policy(words[1]);
    }

    fn managed(&mut self, words: &[&str]) {
        let owner = account(words[3]);
        let key = self
            .world
            .write(move |kms, tx| kms.ebs_managed_key(tx, &owner, &region("us-east-1")))
            .unwrap();
        self.keys.insert(words[1].to_owned(), key);
    }

    fn policy(&mut self, words: &[&str]) {
        let mut statement = statement(words[2], words[4], words);
        statement["Principal"] = match words[3] {
            "*" => json!("*"),
            name if name.starts_with("service:") => {
                json!({ "Service": name.trim_start_matches("service:") })
            }
            name if name.contains('/') => json!({ "AWS": self.known(name) }),
            digits => json!({ "AWS": account(digits).as_str() }),
        };
        self.policies.get_mut(words[1]).expect("a key").push(statement);
        self.save_policy(words[1]);
    }

    fn save_policy(&mut self, name: &str) {
        let mut statements = self.policies[name].clone();
        // A policy needs a statement; this one is inert.
        statements.push(json!({
            "Effect": "Allow", "Principal": "*", "Action": "none:None", "Resource": "*",
        }));
        let text = json!({ "Version": "2012-10-17", "Statement": statements }).to_string();
        let key = self.keys[name].clone();
        let saved = self.world.write(move |kms, tx| {
            let root = iam::Principal::root(&key.account);
            let writer = PolicyWriter {
                principal: &root,
                context: &iam::Context::new(),
                lockout: LockoutCheck::Bypassed,
            };
            kms.put_policy(tx, &key, &text, &writer)
        });
        saved.unwrap();
        self.keys.insert(name.to_owned(), self.world.reload(&self.keys[name]).unwrap());
    }

    /// The ARN a principal is named by in policies and grants; users and roles are made to exist.
    fn known(&self, name: &str) -> String {
        let caller = principal(name);
        match &caller.kind {
            PrincipalKind::User { name, .. } => {
                self.world.people.add(&caller.arn, &unique_id("AIDA", name));
                caller.arn
            }
            // `111/role:R/*` is the role, `111/role:R/s` one session.
            PrincipalKind::AssumedRole { role_name, session_name, .. } if session_name == "*" => {
                self.world.people.add(&caller.principal_arn, &unique_id("AROA", role_name));
                caller.principal_arn
            }
            _ => caller.arn,
        }
    }

    fn identity(&mut self, words: &[&str]) {
        let mut statement = statement(words[2], words[3], words);
        if let Some(key) = option(words, "on") {
            statement["Resource"] = json!(self.keys[key].arn().to_string());
        }
        let text = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
        let policy = Policy::parse(&text, PolicyKind::Identity).unwrap();
        self.identities.entry(words[1].to_owned()).or_default().push(policy);
    }

    fn new_grant(&self, words: &[&str], issuing: &str) -> NewGrant {
        let grantee = self.known(option(words, "to").expect("a grantee"));
        let to = words.iter().position(|word| *word == "to").expect("a grantee");
        let operations: Vec<String> = words[to + 2].split(',').map(str::to_owned).collect();
        let retiring = option(words, "retire").map(|name| self.known(name));
        let constraints = constraints(words);
        let issuing_account = account(issuing);
        self.world
            .write(move |kms, tx| {
                let party = |tx: &mut _, text: &String| kms.grant_party(tx, text, Trust::Service);
                Ok(NewGrant {
                    grantee: party(tx, &grantee)?,
                    retiring: retiring.as_ref().map(|text| party(tx, text)).transpose()?,
                    operations: GrantOperation::parse_list(&operations)?,
                    constraints: constraints.clone(),
                    name: String::new(),
                    issuing_account: issuing_account.clone(),
                })
            })
            .unwrap()
    }

    fn grant(&mut self, words: &[&str]) {
        let key = self.keys[words[2]].clone();
        let owner = key.account.to_string();
        let new = self.new_grant(words, option(words, "from").unwrap_or(&owner));
        let (grant, _) = self.world.write(move |kms, tx| kms.create_grant(tx, &key, &new)).unwrap();
        self.grants.insert(words[1].to_owned(), grant);
    }

    fn ask(&self, words: &[&str]) -> String {
        let caller = principal(words[1]);
        let key = self.keys[words[3]].clone();
        let action = *Action::ALL.iter().find(|a| a.iam_name() == words[2]).expect("an action");
        let context = option(words, "ctx").map(pairs).unwrap_or_default();
        let context = EncryptionContext::new(context).unwrap();
        let via = option(words, "via").map(str::to_owned);
        let child =
            (action == Action::CreateGrant).then(|| self.new_grant(words, caller.account.as_str()));
        let retired = option(words, "grant").map(|name| self.grants[name].clone());
        let asker = caller.clone();
        let guard = self
            .world
            .write(move |kms, tx| {
                let facts = match (&child, &retired) {
                    (Some(child), _) => Facts::CreateGrant(child.clone()),
                    (_, Some(grant)) => Facts::RetireGrant(grant.constraints.clone()),
                    _ => match action {
                        Action::ReEncryptFrom | Action::ReEncryptTo => Facts::ReEncrypt {
                            context: context.clone(),
                            same_key: false,
                            algorithm: EncryptionAlgorithm::SymmetricDefault,
                        },
                        Action::Decrypt | Action::Encrypt | Action::GenerateDataKey => {
                            Facts::Crypto {
                                context: context.clone(),
                                algorithm: EncryptionAlgorithm::SymmetricDefault,
                            }
                        }
                        Action::ListGrants | Action::RevokeGrant => Facts::Grants,
                        _ => Facts::None,
                    },
                };
                let question = Question {
                    action,
                    key: &key,
                    request_alias: None,
                    caller: &asker,
                    via_service: via.as_deref(),
                    source_arn: None,
                    facts: &facts,
                    assumed: &[],
                };
                match &retired {
                    Some(grant) => kms.retire_guard(tx, &question, grant),
                    None => kms.guard(tx, &question),
                }
            })
            .unwrap();
        self.decide(words[1], &caller, guard)
    }

    fn decide(&self, name: &str, caller: &iam::Principal, guard: kms::guard::Guard) -> String {
        let own = self.identities.get(name).cloned().unwrap_or_default();
        let layers = Layers {
            identity: own
                .into_iter()
                .map(|policy| AttachedPolicy {
                    layer: Layer::Identity,
                    name_or_arn: "identity".to_owned(),
                    policy: Arc::new(policy),
                })
                .collect(),
            resource: Some(guard.layer),
            grants: guard.grants,
            ..Layers::default()
        };
        let request = Request {
            principal: caller,
            action: &guard.action,
            resource: &guard.resource.to_string(),
            resource_account: Some(&guard.resource_account),
            context: &guard.context,
        };
        let decision = iam::evaluate(&request, &layers);
        let layer = |layer: Layer| match layer {
            Layer::Resource => "key",
            Layer::Identity => "identity",
            _ => "limit",
        };
        match decision.reason {
            Reason::AllowedByStatement(by) => format!("allow by {}", layer(by.layer)),
            Reason::AllowedByGrant { grant_id } => {
                let (name, _) =
                    self.grants.iter().find(|(_, g)| g.id == grant_id).expect("a known grant");
                format!("allow by {name}")
            }
            Reason::AllowedAsRoot => "allow as root".to_owned(),
            Reason::ExplicitDeny(by) => format!("deny by {}", layer(by.layer)),
            Reason::ImplicitDeny(by) => format!("deny: {} is silent", layer(by)),
        }
    }
}

#[test]
fn identity_policies_need_the_delegation() {
    check(
        "
        key k of 1
        identity 1/bob allow kms:*
        ask 1/bob kms:Decrypt k -> deny: key is silent
        ask 1/root kms:Decrypt k -> deny: key is silent
        policy k allow 1 kms:*
        ask 1/bob kms:Decrypt k -> allow by identity
        ask 1/eve kms:Decrypt k -> deny: identity is silent
        ask 1/root kms:PutKeyPolicy k -> allow as root
        identity 1/bob deny kms:Decrypt
        ask 1/bob kms:Decrypt k -> deny by identity
        ask 1/bob kms:Encrypt k -> allow by identity
    ",
    );
}

#[test]
fn delegation_covers_only_what_it_names() {
    check(
        "
        key k of 1
        policy k allow 1 kms:Describe*
        identity 1/bob allow kms:*
        ask 1/bob kms:DescribeKey k -> allow by identity
        ask 1/bob kms:Decrypt k -> deny: key is silent
    ",
    );
}

#[test]
fn a_statement_naming_the_user_stands_alone() {
    check(
        "
        key k of 1
        policy k allow 1/bob kms:Decrypt
        policy k allow 1/role:R/* kms:Encrypt
        ask 1/bob kms:Decrypt k -> allow by key
        ask 1/bob kms:Encrypt k -> deny: key is silent
        ask 1/role:R/any kms:Encrypt k -> allow by key
        ask 1/role:Q/any kms:Encrypt k -> deny: key is silent
        policy k deny * kms:Decrypt
        ask 1/bob kms:Decrypt k -> deny by key
    ",
    );
}

#[test]
fn across_accounts_both_sides_must_agree() {
    check(
        "
        key k of 1
        policy k allow 1 kms:*
        policy k allow 2 kms:Decrypt,kms:CreateGrant,kms:PutKeyPolicy,kms:DisableKey
        ask 2/bob kms:Decrypt k -> deny: identity is silent
        identity 2/bob allow kms:* on k
        ask 2/bob kms:Decrypt k -> allow by identity
        ask 2/bob kms:Encrypt k -> deny: key is silent
        ask 3/eve kms:Decrypt k -> deny: key is silent
        identity 3/eve allow kms:*
        ask 3/eve kms:Decrypt k -> deny: key is silent
        ask 2/root kms:Decrypt k -> allow as root
        -- not effective across accounts, whatever the policies say
        ask 2/bob kms:PutKeyPolicy k -> deny: key is silent
        ask 2/bob kms:DisableKey k -> deny: key is silent
        -- naming the foreign user does not spare its own policies
        policy k allow 2/ann kms:Decrypt
        ask 2/ann kms:Decrypt k -> deny: identity is silent
    ",
    );
}

#[test]
fn via_service_separates_direct_from_forwarded() {
    check(
        "
        key k of 1
        policy k allow 1/bob kms:Decrypt if StringEquals kms:ViaService=ec2.us-east-1.amazonaws.com
        ask 1/bob kms:Decrypt k via ec2.us-east-1.amazonaws.com -> allow by key
        ask 1/bob kms:Decrypt k via ec2.eu-west-1.amazonaws.com -> deny: key is silent
        ask 1/bob kms:Decrypt k -> deny: key is silent
    ",
    );
}

#[test]
fn grants_only_for_aws_resources() {
    check(
        "
        key k of 1
        policy k allow 1/bob kms:CreateGrant,kms:ListGrants,kms:RevokeGrant if Bool kms:GrantIsForAWSResource=true
        ask 1/bob kms:CreateGrant k to 1/bob Decrypt via ec2.us-east-1.amazonaws.com -> allow by key
        ask 1/bob kms:CreateGrant k to 1/bob Decrypt -> deny: key is silent
        ask 1/bob kms:ListGrants k -> deny: key is silent
        ask 1/bob kms:RevokeGrant k via ec2.us-east-1.amazonaws.com -> allow by key
    ",
    );
}

#[test]
fn encryption_context_conditions() {
    check(
        "
        key k of 1
        policy k allow 1/bob kms:Decrypt if StringEquals kms:EncryptionContext:aws:ebs:id=vol-a
        policy k allow 1/ann kms:Decrypt if ForAnyValue:StringEquals kms:EncryptionContextKeys=tenant
        ask 1/bob kms:Decrypt k ctx aws:ebs:id=vol-a -> allow by key
        ask 1/bob kms:Decrypt k ctx aws:ebs:id=VOL-A -> deny: key is silent
        ask 1/bob kms:Decrypt k ctx AWS:EBS:ID=vol-a -> allow by key
        ask 1/bob kms:Decrypt k -> deny: key is silent
        ask 1/ann kms:Decrypt k ctx tenant=x,other=y -> allow by key
        ask 1/ann kms:Decrypt k ctx Tenant=x -> deny: key is silent
    ",
    );
}

#[test]
fn grant_operations_and_principals_are_conditions() {
    check(
        "
        key k of 1
        policy k allow 1/bob kms:CreateGrant if ForAllValues:StringEquals kms:GrantOperations=Decrypt
        policy k allow 1/ann kms:CreateGrant if StringLike kms:GranteePrincipal=arn:aws:iam::222222222222:*
        policy k allow 1/max kms:CreateGrant if StringEquals kms:GrantConstraintType=EncryptionContextSubset
        ask 1/bob kms:CreateGrant k to 2/eve Decrypt -> allow by key
        ask 1/bob kms:CreateGrant k to 2/eve Decrypt,Encrypt -> deny: key is silent
        ask 1/ann kms:CreateGrant k to 2/eve Encrypt -> allow by key
        ask 1/ann kms:CreateGrant k to 1/eve Encrypt -> deny: key is silent
        ask 1/max kms:CreateGrant k to 1/eve Encrypt subset a=b -> allow by key
        ask 1/max kms:CreateGrant k to 1/eve Encrypt equals a=b -> deny: key is silent
        ask 1/max kms:CreateGrant k to 1/eve Encrypt -> deny: key is silent
    ",
    );
}

#[test]
fn grants_allow_by_themselves_within_the_account() {
    check(
        "
        key k of 1
        grant g k to 1/bob Decrypt,DescribeKey equals aws:ebs:id=vol-a
        ask 1/bob kms:Decrypt k ctx aws:ebs:id=vol-a -> allow by g
        ask 1/bob kms:Decrypt k ctx aws:ebs:id=vol-a,x=y -> deny: key is silent
        ask 1/bob kms:Decrypt k ctx aws:ebs:id=vol-b -> deny: key is silent
        ask 1/bob kms:Encrypt k ctx aws:ebs:id=vol-a -> deny: key is silent
        ask 1/bob kms:DescribeKey k -> allow by g
        ask 1/eve kms:Decrypt k ctx aws:ebs:id=vol-a -> deny: key is silent
        policy k deny 1/bob kms:Decrypt
        ask 1/bob kms:Decrypt k ctx aws:ebs:id=vol-a -> deny by key
        ask 1/bob kms:DescribeKey k -> allow by g
    ",
    );
}

#[test]
fn subset_constraints_accept_more_pairs() {
    check(
        "
        key k of 1
        grant g k to 1/role:R/* Decrypt subset aws:ebs:id=vol-a
        ask 1/role:R/x kms:Decrypt k ctx aws:ebs:id=vol-a,x=y -> allow by g
        ask 1/role:R/x kms:Decrypt k ctx x=y -> deny: key is silent
        ask 1/role:Q/x kms:Decrypt k ctx aws:ebs:id=vol-a -> deny: key is silent
    ",
    );
}

#[test]
fn a_grant_across_accounts_needs_the_identity_policy() {
    check(
        "
        key k of 1
        grant g k to 2/bob Decrypt
        ask 2/bob kms:Decrypt k -> deny: identity is silent
        identity 2/bob allow kms:Decrypt on k
        ask 2/bob kms:Decrypt k -> allow by identity
        grant h k to 2/ann Decrypt from 2
        ask 2/ann kms:Decrypt k -> allow by h
        -- to a whole account: its policies decide
        grant i k to 3/root Encrypt
        ask 3/max kms:Encrypt k -> deny: identity is silent
        identity 3/max allow kms:Encrypt
        ask 3/max kms:Encrypt k -> allow by identity
        -- to the own account: its root only
        grant j k to 1/root Encrypt
        ask 1/max kms:Encrypt k -> deny: key is silent
        ask 1/root kms:Encrypt k -> allow by j
    ",
    );
}

#[test]
fn hosts_and_services_live_on_grants_alone() {
    check(
        "
        key k of 1
        grant g k to 1/infra:i-1 Decrypt subset aws:ebs:id=vol-a
        grant s k to service:ec2.us-east-1.amazonaws.com Decrypt subset aws:ebs:id=vol-a
        ask 1/infra:i-1 kms:Decrypt k ctx aws:ebs:id=vol-a -> allow by g
        ask 1/infra:i-2 kms:Decrypt k ctx aws:ebs:id=vol-a -> deny: key is silent
        ask 1/infra:i-1 kms:Decrypt k ctx aws:ebs:id=vol-b -> deny: key is silent
        ask service:ec2.us-east-1.amazonaws.com kms:Decrypt k ctx aws:ebs:id=vol-a -> allow by s
        ask service:ec2.eu-west-1.amazonaws.com kms:Decrypt k ctx aws:ebs:id=vol-a -> deny: key is silent
        ask service:ec2.us-east-1.amazonaws.com kms:Encrypt k ctx aws:ebs:id=vol-a -> deny: key is silent
        -- a missing address makes NotIpAddress true: the trap of spec 20, A.7
        policy k deny * kms:Decrypt if NotIpAddress aws:SourceIp=192.0.2.0/24
        ask 1/infra:i-1 kms:Decrypt k ctx aws:ebs:id=vol-a -> deny by key
    ",
    );
}

#[test]
fn a_grant_may_be_granted_on_but_not_widened() {
    check(
        "
        key k of 1
        grant g k to 1/bob CreateGrant,Decrypt subset aws:ebs:id=vol-a
        ask 1/bob kms:CreateGrant k to 1/ann Decrypt subset aws:ebs:id=vol-a -> allow by g
        ask 1/bob kms:CreateGrant k to 1/ann Decrypt equals aws:ebs:id=vol-a,x=y -> allow by g
        ask 1/bob kms:CreateGrant k to 1/ann CreateGrant,Decrypt subset aws:ebs:id=vol-a -> allow by g
        ask 1/bob kms:CreateGrant k to 1/ann Decrypt -> deny: key is silent
        ask 1/bob kms:CreateGrant k to 1/ann Decrypt subset aws:ebs:id=vol-b -> deny: key is silent
        ask 1/bob kms:CreateGrant k to 1/ann Decrypt,Encrypt subset aws:ebs:id=vol-a -> deny: key is silent
        -- two parents do not add up
        grant h k to 1/bob CreateGrant,Encrypt
        ask 1/bob kms:CreateGrant k to 1/ann Decrypt,Encrypt subset aws:ebs:id=vol-a -> deny: key is silent
    ",
    );
}

#[test]
fn who_may_retire() {
    check(
        "
        key k of 1
        grant g k to 2/bob Decrypt retire 2/ann
        policy k allow 1/eve kms:RetireGrant
        ask 2/ann kms:RetireGrant k grant g -> allow by g
        ask 2/bob kms:RetireGrant k grant g -> deny: key is silent
        ask 1/root kms:RetireGrant k grant g -> allow as root
        ask 1/max kms:RetireGrant k grant g -> deny: identity is silent
        identity 1/max allow kms:RetireGrant
        ask 1/max kms:RetireGrant k grant g -> allow by identity
        -- a key policy cannot give this right
        ask 1/eve kms:RetireGrant k grant g -> deny: identity is silent
        identity 2/ann deny kms:RetireGrant
        ask 2/ann kms:RetireGrant k grant g -> deny by identity
        -- the grantee, when the grant says so
        grant h k to 2/bob Decrypt,RetireGrant
        ask 2/bob kms:RetireGrant k grant h -> allow by h
    ",
    );
}

#[test]
fn the_ebs_key_is_for_ebs_and_for_its_account() {
    check(
        "
        managed e of 1
        ask 1/bob kms:GenerateDataKeyWithoutPlaintext e via ec2.us-east-1.amazonaws.com -> allow by key
        ask 1/bob kms:CreateGrant e to 1/infra:i-1 Decrypt via ec2.us-east-1.amazonaws.com -> allow by key
        ask 1/bob kms:Decrypt e via ec2.us-east-1.amazonaws.com -> allow by key
        ask 1/bob kms:Decrypt e -> deny: key is silent
        ask 1/bob kms:Decrypt e via ec2.eu-west-1.amazonaws.com -> deny: key is silent
        ask 1/root kms:Decrypt e -> deny: key is silent
        ask 2/bob kms:Decrypt e via ec2.us-east-1.amazonaws.com -> deny: key is silent
        identity 2/bob allow kms:*
        ask 2/bob kms:Decrypt e via ec2.us-east-1.amazonaws.com -> deny: key is silent
        ask 2/root kms:CreateGrant e to 2/bob Decrypt via ec2.us-east-1.amazonaws.com -> deny: key is silent
        ask 1/root kms:DescribeKey e -> allow as root
        ask 1/root kms:GetKeyPolicy e -> allow as root
        ask 1/root kms:RevokeGrant e -> allow as root
        ask 1/root kms:PutKeyPolicy e -> deny: key is silent
        ask 1/root kms:DisableKey e -> deny: key is silent
        ask 1/root kms:ScheduleKeyDeletion e -> deny: key is silent
        ask 1/root kms:TagResource e -> deny: key is silent
        ask 1/root kms:CreateAlias e -> deny: key is silent
    ",
    );
}
