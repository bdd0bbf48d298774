//! `iam:GetServiceLinkedRoleDeletionStatus`: tells how far the removal of a service-linked role is.

use super::shared;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use base::Arn;
use identity::linked_role;

pub(crate) struct GetServiceLinkedRoleDeletionStatus;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    deletion_task_id: String,
}

#[derive(Shape)]
#[shape(output, omitted(Reason))]
pub(crate) struct Output {
    status: &'static str,
}

pub(crate) struct Plan {
    ask: Ask,
    task_id: String,
}

impl Operation for GetServiceLinkedRoleDeletionStatus {
    const SPEC: Spec = Spec::reads(Service::Iam, "GetServiceLinkedRoleDeletionStatus");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let role = linked_role::task_role(&input.deletion_task_id)?;
        let account = call.account();
        let arn = Arn::global("iam", account, &format!("role{role}"));
        let ask = Ask::on("iam:GetServiceLinkedRoleDeletionStatus", &arn, account);
        Ok(Plan { ask, task_id: input.deletion_task_id })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.ask.clone()]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let (account, task_id) = (call.account().clone(), plan.into_inner().task_id);
        shared::read(call, move |tx| linked_role::find_task(tx, &account, &task_id)).await?;
        // A task is done with the call that made it.
        Ok(Output { status: "SUCCEEDED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{account, bench, run_named};
    use serde_json::json;

    #[tokio::test]
    async fn a_service_linked_role_is_changed_by_nobody() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let call = |name: &'static str, input| run_named(&root, Service::Iam, name, input);
        let made = json!({ "AWSServiceName": "backup.amazonaws.com" });
        let made = call("CreateServiceLinkedRole", made).await.expect("a role")["Role"].clone();
        let name = "AWSServiceRoleForBackup";
        assert_eq!(
            made["Arn"],
            "arn:aws:iam::111111111111:role/aws-service-role/backup.amazonaws.com/AWSServiceRoleForBackup"
        );
        let again = json!({ "AWSServiceName": "backup.amazonaws.com" });
        let again = call("CreateServiceLinkedRole", again).await.expect_err("one is there");
        assert_eq!(again.code(), "InvalidInput");
        let attached = call("ListAttachedRolePolicies", json!({ "RoleName": name })).await;
        let policy =
            "arn:aws:iam::aws:policy/aws-service-role/AWSBackupServiceLinkedRolePolicyForBackup";
        assert_eq!(attached.expect("a list")["AttachedPolicies"][0]["PolicyArn"], policy);

        let allow = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
        let trust = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}}"#;
        call("CreateInstanceProfile", json!({ "InstanceProfileName": "p" })).await.expect("one");
        for (operation, more) in [
            ("DeleteRole", json!({})),
            ("PutRolePolicy", json!({ "PolicyName": "p", "PolicyDocument": allow })),
            ("DeleteRolePolicy", json!({ "PolicyName": "p" })),
            (
                "AttachRolePolicy",
                json!({ "PolicyArn": "arn:aws:iam::aws:policy/AdministratorAccess" }),
            ),
            ("DetachRolePolicy", json!({ "PolicyArn": policy })),
            ("UpdateAssumeRolePolicy", json!({ "PolicyDocument": trust })),
            (
                "PutRolePermissionsBoundary",
                json!({ "PermissionsBoundary": "arn:aws:iam::aws:policy/AdministratorAccess" }),
            ),
            ("DeleteRolePermissionsBoundary", json!({})),
            ("UpdateRole", json!({ "MaxSessionDuration": 7200 })),
            ("AddRoleToInstanceProfile", json!({ "InstanceProfileName": "p" })),
        ] {
            let mut input = json!({ "RoleName": name });
            input
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("one").clone());
            let refused = call(operation, input).await.expect_err(operation);
            assert_eq!(
                (refused.code(), refused.0.spec.status),
                ("UnmodifiableEntity", 400),
                "{operation}"
            );
        }
        call("UpdateRole", json!({ "RoleName": name, "Description": "d" }))
            .await
            .expect("may be edited");
        let other = json!({ "RoleName": "r", "AssumeRolePolicyDocument": trust });
        call("CreateRole", other.clone()).await.expect("a role");
        let attach = json!({ "RoleName": "r", "PolicyArn": policy });
        let refused = call("AttachRolePolicy", attach).await.expect_err("a service's policy");
        assert_eq!(refused.code(), "PolicyNotAttachable");
        let mut forged = other;
        forged["Path"] = json!("/aws-service-role/backup.amazonaws.com/");
        forged["RoleName"] = json!("forged");
        assert_eq!(
            call("CreateRole", forged).await.expect_err("reserved").code(),
            "ValidationError"
        );

        let refused = call("DeleteServiceLinkedRole", json!({ "RoleName": "r" })).await;
        assert_eq!(refused.expect_err("not a linked one").code(), "NoSuchEntity");
        let task =
            call("DeleteServiceLinkedRole", json!({ "RoleName": name })).await.expect("gone");
        let task = task["DeletionTaskId"].clone();
        let asked = json!({ "DeletionTaskId": task });
        let status = call("GetServiceLinkedRoleDeletionStatus", asked).await.expect("known");
        assert_eq!(status["Status"], "SUCCEEDED");
        assert_eq!(
            call("GetRole", json!({ "RoleName": name })).await.expect_err("gone").code(),
            "NoSuchEntity"
        );
        let unknown = json!({ "DeletionTaskId": "task/aws-service-role/backup.amazonaws.com/x/1" });
        let unknown =
            call("GetServiceLinkedRoleDeletionStatus", unknown).await.expect_err("unknown");
        assert_eq!(unknown.code(), "NoSuchEntity");
    }

    #[tokio::test]
    async fn services_and_suffixes_are_those_of_the_list() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let make = |service: &str, suffix: Option<&str>| {
            let mut input = json!({ "AWSServiceName": service });
            if let Some(suffix) = suffix {
                input["CustomSuffix"] = json!(suffix);
            }
            run_named(&root, Service::Iam, "CreateServiceLinkedRole", input)
        };
        let made = make("autoscaling.amazonaws.com", Some("blue")).await.expect("takes a suffix");
        assert_eq!(made["Role"]["RoleName"], "AWSServiceRoleForAutoScaling_blue");
        make("autoscaling.amazonaws.com", None).await.expect("another");
        make("mrk.kms.amazonaws.com", None).await.expect("a service of keys");
        for (service, suffix) in [("backup.amazonaws.com", Some("x")), ("dlm.amazonaws.com", None)]
        {
            assert_eq!(make(service, suffix).await.expect_err(service).code(), "InvalidInput");
        }
    }
}
