//! The matrix of every operation and every sort of caller, in `tests/permissions/matrix.txt`.
//!
//! Requests are made from the operation's shape and from `requests.json`, in a world with one thing of
//! everything ([`fixtures`]). Callers with credentials take the pipeline in a call that only rehearses
//! ([`personas`]); requests without good credentials take the front door as bytes. A new operation has
//! its entry without anybody writing one, and no verdict changes unseen. What must hold whatever the
//! file says is in [`rules`], which are asked first: a wrong verdict cannot be recorded.
//!
//! `UPDATE_EXPECT=1 cargo test -p api matrix` writes the file anew.

mod door;
mod fixtures;
mod personas;
mod rules;

use crate::Service;
use crate::decided::Decided;
use crate::registry::{self, AnyOperation};
use crate::storage::tests::Stage;
use door::Door;
use expect_test::expect_file;
use fixtures::Fixtures;
use iam::Layer;
use personas::Cast;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

const HEAD: &str = "\
# What every operation answers to every sort of caller. Written by
#   UPDATE_EXPECT=1 cargo test -p api matrix
# Requests are about things of account 111111111111 unless a caller of another account would name its
# own by the same words (names of users, roles, aliases). Written is what is not the usual:
#
#   allow        root admin exact role token federated (IAM: =InvalidClientTokenId for the last two)
#   no:identity  bare holder elsewhere
#   no:boundary  bounded
#   no:session   session
#   no:resource  service
#   DENY         denied
#   refused      unsigned inactive forged expired, with the codes of the protocol
#
# asks       the permissions the operation needs, each on the resource it is about
# allow      every one of them is given
# own        they are given, and concern the caller's own account alone (callers of other accounts)
# no:LAYER   one is not given: the first layer that is silent, of identity, boundary, session, resource
# DENY       a statement denies one
# =Code      the request is refused for another reason than a policy: what it is about is hidden from the
#            caller or only its owner's to change, or the operation is closed to callers of its sort
# refused    the credentials are not good; nothing is looked at
#
# root       the root of the account          holder     a user without policies, with a grant on the keys
# admin      a user who may do everything     bare       a user without policies
# exact      a user with these permissions on these resources, and nothing else
# elsewhere  the same on another resource     denied     admin, with a deny of these permissions
# bounded    admin, with a boundary that lacks them
# session    admin's role, in a session whose policy lacks them
# role       the same without such a policy
# token      admin, with the temporary credentials of GetSessionToken
# federated  somebody admin took out credentials for, who may do everything admin may
# foreign    admin of another account that nothing here names
# grantee    the same with a grant on the keys
# guest      admin of an account that key policies, the role's trust and the snapshot name
# service    the service principal of EC2
# unsigned   no signature                     inactive   an access key that is switched off
# forged     a signature with another secret  expired    temporary credentials past their time
";

/// What one caller is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Allow,
    Own,
    Implicit(Layer),
    Explicit(Layer),
    Ended(String),
    Refused(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |layer: &Layer| format!("{layer:?}").to_lowercase();
        match self {
            Self::Allow => f.write_str("allow"),
            Self::Own => f.write_str("own"),
            Self::Implicit(layer) => write!(f, "no:{}", name(layer)),
            Self::Explicit(Layer::Identity) => f.write_str("DENY"),
            Self::Explicit(layer) => write!(f, "DENY:{}", name(layer)),
            Self::Ended(code) => write!(f, "={code}"),
            Self::Refused(code) => write!(f, "refused {code}"),
        }
    }
}

/// One operation.
struct Row {
    operation: &'static dyn AnyOperation,
    /// What it asks for, as whoever gets so far is asked.
    asks: Vec<Decided>,
    /// By caller, in the order of [`personas::NAMES`] and [`door::NAMES`].
    verdicts: BTreeMap<&'static str, Verdict>,
}

impl Row {
    /// `kms:Decrypt`.
    fn name(&self) -> String {
        let info = self.operation.info();
        format!("{}:{}", info.service, info.name)
    }

    fn of(&self, persona: &str) -> &Verdict {
        &self.verdicts[persona]
    }

    fn written(&self, fixtures: &Fixtures) -> String {
        let mut text = format!("{}\n", self.name());
        for ask in &self.asks {
            let resource = fixtures.named(&ask.resource);
            writeln!(text, "  asks {} on {resource}", ask.action).expect("a String takes all");
        }
        let mut by_verdict: BTreeMap<&Verdict, Vec<&str>> = BTreeMap::new();
        for name in personas::NAMES.iter().chain(&door::NAMES) {
            let verdict = self.of(name);
            if usual(self.operation.spec().service, name).as_ref() != Some(verdict) {
                by_verdict.entry(verdict).or_default().push(name);
            }
        }
        for (verdict, names) in by_verdict {
            let verdict = verdict.to_string();
            writeln!(text, "  {verdict:12} {}", names.join(" ")).expect("a String takes all");
        }
        text
    }
}

/// What a caller is told of most operations; nothing of callers of other accounts.
fn usual(service: Service, persona: &str) -> Option<Verdict> {
    let ended = |code: &str| Verdict::Ended(code.to_owned());
    Some(match persona {
        "root" | "admin" | "exact" | "role" => Verdict::Allow,
        "token" | "federated" if service == Service::Iam => ended("InvalidClientTokenId"),
        "token" | "federated" => Verdict::Allow,
        "bare" | "holder" | "elsewhere" => Verdict::Implicit(Layer::Identity),
        "bounded" => Verdict::Implicit(Layer::Boundary),
        "session" => Verdict::Implicit(Layer::Session),
        "service" => Verdict::Implicit(Layer::Resource),
        "denied" => Verdict::Explicit(Layer::Identity),
        "unsigned" | "inactive" | "forged" | "expired" => {
            Verdict::Refused(door::usual_code(service, persona).to_owned())
        }
        _ => return None,
    })
}

#[tokio::test]
async fn every_operation_answers_every_caller_as_written() {
    let mut stage = Stage::new().await;
    let fixtures = Fixtures::make(&mut stage).await;
    let cast = Cast::make(&stage.bench, &fixtures).await;
    let door = Door::make(&stage.bench).await;
    let mut rows = Vec::new();
    for operation in registry::all() {
        let (asks, mut verdicts) = cast.ask(&stage.bench, *operation, &fixtures).await;
        verdicts.extend(door.ask(&stage.bench, *operation, &fixtures).await);
        rows.push(Row { operation: *operation, asks, verdicts });
    }
    rows.sort_by_key(Row::name);
    let broken: Vec<String> = rows.iter().flat_map(rules::broken).collect();
    assert!(broken.is_empty(), "{} rules are broken:\n{}", broken.len(), broken.join("\n"));
    let mut table = HEAD.to_owned();
    for row in &rows {
        table.push('\n');
        table.push_str(&row.written(&fixtures));
    }
    expect_file!["../../../../tests/permissions/matrix.txt"].assert_eq(&table);
}
