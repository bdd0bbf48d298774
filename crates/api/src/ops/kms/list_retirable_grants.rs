//! `kms:ListRetirableGrants`: the grants that a principal of the caller's account may end, on whatever keys.

use super::list_grants::LIMITS;
use super::shared::{self, GrantEntry, Paging};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Arn;
use kms::grant::{self, Trust};
use kms::page::List;

pub(crate) struct ListRetirableGrants;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    limit: Option<i32>,
    marker: Option<String>,
    retiring_principal: Option<String>,
    retiring_service_principal: Option<String>,
}

pub(crate) struct Plan {
    paging: Paging,
    retiring: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    grants: Vec<GrantEntry>,
    next_marker: Option<String>,
    truncated: bool,
}

impl Operation for ListRetirableGrants {
    const SPEC: Spec = Spec::reads(Service::Kms, "ListRetirableGrants");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let list = List::RetirableGrants;
        let paging = Paging::new(list, LIMITS, input.limit, input.marker.as_deref())?;
        if input.retiring_service_principal.is_some() {
            // A service by itself has no policies that could let it list, so nobody gets further.
            shared::by_service(call, "RetiringServicePrincipal")?;
        }
        let retiring = shared::needed("RetiringPrincipal", input.retiring_principal)?;
        Ok(Plan { paging, retiring })
    }

    fn asks(_plan: &Plan) -> Vec<Ask> {
        vec![Ask::any("kms:ListRetirableGrants")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { paging, retiring } = plan.into_inner();
        let (entries, next) = shared::read(call, move |kms, tx, from| {
            let party = kms.grant_party(tx, &retiring, Trust::Caller)?;
            // KMS API: "You must specify a principal in your AWS account."
            let owner = Arn::parse(&party.shown).map(|arn| arn.account);
            if owner.as_deref() != Some(from.caller.account.as_str()) {
                return Err(kms::Error::InvalidArn {
                    message: "RetiringPrincipal must be in the caller's account.".to_owned(),
                });
            }
            let rows =
                grant::list_retirable(tx, &from.region, &party, &paging.after, paging.rows())?;
            let page = paging.page(rows, |grant| &grant.id);
            let entries = page
                .items
                .iter()
                .map(|grant| GrantEntry::new(kms, tx, grant))
                .collect::<kms::Result<Vec<_>>>()?;
            Ok((entries, page.next))
        })
        .await?;
        Ok(Output { grants: entries, truncated: next.is_some(), next_marker: next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_grant::CreateGrant;
    use crate::ops::kms::create_key::CreateKey;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn grants_of_all_accounts_keys_in_pages() {
        let bench = bench().await;
        let root = "arn:aws:iam::222222222222:root";
        for digit in [1, 2, 2] {
            let call = bench.root(&account(digit), "us-east-1");
            let created = run::<CreateKey>(&call, json!({})).await.expect("allowed");
            let input = json!({
                "KeyId": created["KeyMetadata"]["KeyId"], "GranteePrincipal": root,
                "RetiringPrincipal": root, "Operations": ["Decrypt"],
            });
            run::<CreateGrant>(&call, input).await.expect("allowed");
        }
        let two = bench.root(&account(2), "us-east-1");
        let list = async |input| run::<ListRetirableGrants>(&two, input).await.expect("allowed");
        let first = list(json!({"RetiringPrincipal": root, "Limit": 2})).await;
        assert_eq!(first["Grants"].as_array().map(Vec::len), Some(2));
        let next = json!({"RetiringPrincipal": root, "Limit": 2, "Marker": first["NextMarker"]});
        let second = list(next).await;
        assert_eq!(second["Grants"].as_array().map(Vec::len), Some(1));
        assert_eq!(second["Truncated"], false);
        let foreign = json!({"RetiringPrincipal": "arn:aws:iam::111111111111:root"});
        let error = run::<ListRetirableGrants>(&two, foreign).await.expect_err("refused");
        assert_eq!(error.code(), "InvalidArnException");
        let of_service = json!({"RetiringServicePrincipal": "ec2.amazonaws.com"});
        let error = run::<ListRetirableGrants>(&two, of_service).await.expect_err("refused");
        assert_eq!(error.code(), "ValidationException");
    }
}
