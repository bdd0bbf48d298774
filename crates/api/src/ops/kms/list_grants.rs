//! `kms:ListGrants`: the grants of a key.

use super::shared::{self, GrantEntry, GrantParty, Limits, Named, Paging, Target};
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
#[shape(input)]
pub(crate) struct Input {
    limit: Option<i32>,
    marker: Option<String>,
    key_id: String,
    grant_id: Option<String>,
    grantee_principal: Option<String>,
    grantee_service_principal: Option<String>,
}

pub(crate) struct Plan {
    target: Target,
    paging: Paging,
    grant_id: Option<String>,
    grantee: Option<GrantParty>,
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
        let grantee = GrantParty::read(
            ["GranteePrincipal", "GranteeServicePrincipal"],
            input.grantee_principal,
            input.grantee_service_principal.as_deref(),
        )?;
        if matches!(grantee, Some(GrantParty::Service(_))) {
            shared::by_service(call, "GranteeServicePrincipal")?;
        }
        let named =
            Named { action: Action::ListGrants, key_id: &input.key_id, facts: Facts::Grants };
        let target = shared::target(call, named).await?;
        Ok(Plan { target, paging, grant_id: input.grant_id, grantee })
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
                grantee.map(|named| named.resolve(kms, tx, Trust::Service)).transpose()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::kms::create_grant::CreateGrant;
    use crate::ops::kms::create_key::CreateKey;
    use crate::ops::kms::put_key_policy::PutKeyPolicy;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    #[tokio::test]
    async fn a_service_asks_for_its_own() {
        const SERVICE: &str = "ec2.us-east-1.amazonaws.com";
        let bench = bench().await;
        let owner = bench.root(&account(1), "us-east-1");
        let created = run::<CreateKey>(&owner, json!({})).await.expect("allowed");
        let arn = created["KeyMetadata"]["Arn"].clone();
        let root = "arn:aws:iam::111111111111:root";
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": root}, "Action": "kms:*", "Resource": "*"},
            {"Effect": "Allow", "Principal": {"Service": SERVICE}, "Action": "kms:ListGrants",
             "Resource": "*"}]});
        let put = json!({"KeyId": arn, "Policy": policy.to_string()});
        run::<PutKeyPolicy>(&owner, put).await.expect("allowed");
        let mut grants = Vec::new();
        for service in [SERVICE, "rds.us-east-1.amazonaws.com"] {
            let input = json!({
                "KeyId": arn, "GranteeServicePrincipal": service, "RetiringPrincipal": root,
                "Operations": ["Decrypt"],
                "Constraints": {"SourceArn": "arn:aws:ec2:us-east-1:111111111111:volume/vol-a"},
            });
            grants.push(run::<CreateGrant>(&owner, input).await.expect("allowed"));
        }
        let filter = json!({"KeyId": arn, "GranteeServicePrincipal": SERVICE});
        let refused = run::<ListGrants>(&owner, filter.clone()).await.expect_err("no service");
        assert_eq!(refused.code(), "ValidationException");
        let ec2 = bench.call(iam::Principal::service(&account(1), SERVICE), "us-east-1");
        let listed = run::<ListGrants>(&ec2, filter).await.expect("allowed");
        let ids: Vec<_> = listed["Grants"].as_array().expect("a list").iter().collect();
        assert_eq!(ids.len(), 1);
        assert_eq!(ids[0]["GrantId"], grants[0]["GrantId"]);
    }
}
