//! `kms:ListGrants`: the grants of a key.

use super::shared::{self, GrantEntry, Limits, Named, Paging, Target};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use kms::condition::Facts;
use kms::grant::{self, Trust};
use kms::page::List;
use kms::{Action, Error as KmsError};

pub(crate) struct ListGrants;

/// KMS API, ListGrants: "between 1 and 100, inclusive. If you do not include a value, it defaults to 50".
pub(super) const LIMITS: Limits = Limits { default: 50, max: 100 };

#[derive(Shape)]
#[shape(input, unsupported(GranteeServicePrincipal))]
pub(crate) struct Input {
    limit: Option<i32>,
    marker: Option<String>,
    key_id: String,
    grant_id: Option<String>,
    grantee_principal: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    paging: Paging,
    grant_id: Option<String>,
    grantee: Option<String>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    grants: Vec<GrantEntry>,
    next_marker: Option<String>,
    truncated: bool,
}

impl Operation for ListGrants {
    const SPEC: Spec = Spec::reads(Service::Kms, "ListGrants");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let paging = Paging::new(List::Grants, LIMITS, input.limit, input.marker.as_deref())?;
        let named =
            Named { action: Action::ListGrants, key_id: &input.key_id, facts: Facts::Grants };
        let target = shared::target(call, named).await?;
        Ok(Plan { target, paging, grant_id: input.grant_id, grantee: input.grantee_principal })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.target.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { target, paging, grant_id, grantee } = plan.into_inner();
        let page = shared::read(call, move |kms, tx, _| {
            let key = shared::usable(tx, Action::ListGrants, &target.key)?;
            // A filter may name anyone a grant can name.
            let grantee = grantee.as_ref();
            let grantee =
                grantee.map(|text| kms.grant_party(tx, text, Trust::Service)).transpose()?;
            let rows = match &grant_id {
                None => grant::list(tx, &key, grantee.as_ref(), &paging.after, paging.rows())?,
                Some(id) => match grant::of_key(tx, &key, id) {
                    Ok(grant) => vec![grant],
                    Err(KmsError::GrantNotFound { .. }) => Vec::new(),
                    Err(error) => return Err(error),
                },
            };
            let page = paging.page(rows, |grant| &grant.id);
            let entries = page
                .items
                .iter()
                .filter(|grant| grantee.as_ref().is_none_or(|party| grant.grantee == *party))
                .map(|grant| GrantEntry::new(kms, tx, grant))
                .collect::<kms::Result<Vec<_>>>()?;
            Ok((entries, page.next))
        })
        .await?;
        Ok(Output { grants: page.0, truncated: page.1.is_some(), next_marker: page.1 })
    }
}
