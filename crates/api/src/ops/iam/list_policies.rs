//! `iam:ListPolicies`: lists managed policies: those of the account and those of AWS.

use super::shared::{self, Policy, UsageName};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{Shape, string_enum};
use identity::Page;
use identity::attachment::Usage;
use identity::managed::{self, Scope};

string_enum! {
    /// Whose policies are listed.
    pub(crate) enum ScopeName {
        /// Everyone's.
        All = "All",
        /// Those of AWS.
        Aws = "AWS",
        /// Those of the account.
        Local = "Local",
    }
}

pub(crate) struct ListPolicies;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    scope: Option<ScopeName>,
    #[shape(default)]
    only_attached: bool,
    path_prefix: Option<String>,
    policy_usage_filter: Option<UsageName>,
    marker: Option<String>,
    max_items: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    policies: Vec<Policy>,
    is_truncated: bool,
    marker: Option<String>,
}

pub(crate) struct Plan {
    scope: Scope,
    used_as: Option<Usage>,
    path_prefix: String,
    page: Page,
}

impl Operation for ListPolicies {
    const SPEC: Spec = Spec::reads(Service::Iam, "ListPolicies");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(_call: &Call, input: Input) -> Result<Plan, Error> {
        let usage = input.policy_usage_filter.map(UsageName::usage);
        Ok(Plan {
            scope: match input.scope {
                None | Some(ScopeName::All) => Scope::All,
                Some(ScopeName::Aws) => Scope::Aws,
                Some(ScopeName::Local) => Scope::Local,
            },
            used_as: usage.or(input.only_attached.then_some(Usage::PermissionsPolicy)),
            path_prefix: input.path_prefix.unwrap_or_else(|| "/".to_owned()),
            page: shared::page(input.marker.as_ref(), input.max_items)?,
        })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("iam:ListPolicies")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { scope, used_as, path_prefix, page } = plan.into_inner();
        let account = call.account().clone();
        shared::read(call, move |tx| {
            let listed = managed::list(tx, &account, scope, &path_prefix, &page)?;
            let mut policies = Vec::new();
            for policy in &listed.items {
                let shown = Policy::brief(tx, &account, policy)?;
                // A page may so have fewer policies than asked for, or none, and still go on.
                if used_as.is_none_or(|usage| shown.uses(usage) > 0) {
                    policies.push(shown);
                }
            }
            Ok(Output {
                policies,
                is_truncated: listed.next.is_some(),
                marker: shared::marker(listed.next.as_ref()),
            })
        })
        .await
    }
}
