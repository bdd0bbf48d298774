//! `iam:CreateInstanceProfile`: makes an instance profile, without a role at first.

use super::shared::{self, InstanceProfile, Profile, Tag};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::Shape;
use identity::tag::Tags;

pub(crate) struct CreateInstanceProfile;

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    instance_profile_name: String,
    path: Option<String>,
    tags: Vec<Tag>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    instance_profile: InstanceProfile,
}

pub(crate) struct Plan {
    profile: Profile,
    path: Option<String>,
    tags: Tags,
}

impl Operation for CreateInstanceProfile {
    const SPEC: Spec = Spec::mutates(Service::Iam, "CreateInstanceProfile");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let tags = shared::tags_in(input.tags)?;
        let profile = Profile::new(call, input.instance_profile_name, input.path.as_deref());
        Ok(Plan { profile, path: input.path, tags })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        let tags = shared::request_tags(&plan.tags);
        let mut asks = vec![shared::also(plan.profile.ask("iam:CreateInstanceProfile"), &tags)];
        if !plan.tags.is_empty() {
            // IAM guide, "Tagging instance profiles": tags at creation need this as well.
            asks.push(shared::also(plan.profile.ask("iam:TagInstanceProfile"), &tags));
        }
        asks
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { profile, path, tags } = plan.into_inner();
        shared::write(call, move |tx, identity| {
            let Profile { account, name, .. } = &profile;
            let made =
                identity.create_instance_profile(tx, account, name, path.as_deref(), &tags)?;
            Ok(Output { instance_profile: InstanceProfile::whole(tx, &made)? })
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::iam::add_role_to_instance_profile::AddRoleToInstanceProfile;
    use crate::ops::iam::create_role::CreateRole;
    use crate::ops::iam::delete_instance_profile::DeleteInstanceProfile;
    use crate::ops::iam::delete_role::DeleteRole;
    use crate::ops::iam::get_instance_profile::GetInstanceProfile;
    use crate::ops::iam::list_instance_profiles::ListInstanceProfiles;
    use crate::ops::iam::list_instance_profiles_for_role::ListInstanceProfilesForRole;
    use crate::ops::iam::remove_role_from_instance_profile::RemoveRoleFromInstanceProfile;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    const TRUST: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}}"#;

    #[tokio::test]
    async fn a_profile_lives_with_its_role() {
        let bench = bench().await;
        let call = bench.root(&account(1), "us-east-1");
        let input = json!({"InstanceProfileName": "web", "Path": "/dev/",
            "Tags": [{"Key": "team", "Value": "red"}]});
        let made = run::<CreateInstanceProfile>(&call, input).await.expect("created");
        let arn = "arn:aws:iam::111111111111:instance-profile/dev/web";
        assert_eq!(made["InstanceProfile"]["Arn"], arn);
        assert_eq!(made["InstanceProfile"]["Roles"], json!([]));
        assert_eq!(made["InstanceProfile"]["Tags"], json!([{"Key": "team", "Value": "red"}]));
        let again = run::<CreateInstanceProfile>(&call, json!({"InstanceProfileName": "WEB"}));
        assert_eq!(again.await.expect_err("taken").code(), "EntityAlreadyExists");

        let role = json!({"RoleName": "server", "AssumeRolePolicyDocument": TRUST});
        run::<CreateRole>(&call, role).await.expect("created");
        let both = json!({"InstanceProfileName": "web", "RoleName": "server"});
        run::<AddRoleToInstanceProfile>(&call, both.clone()).await.expect("empty so far");
        let full = run::<AddRoleToInstanceProfile>(&call, both.clone()).await;
        assert_eq!(full.expect_err("one role at most").code(), "LimitExceeded");

        let name = json!({"InstanceProfileName": "web"});
        let shown = run::<GetInstanceProfile>(&call, name.clone()).await.expect("there");
        assert_eq!(shown["InstanceProfile"]["Roles"][0]["RoleName"], "server");
        let of_role = run::<ListInstanceProfilesForRole>(&call, json!({"RoleName": "server"}));
        let of_role = of_role.await.expect("there");
        assert_eq!(of_role["InstanceProfiles"][0]["Arn"], arn);
        let listed = run::<ListInstanceProfiles>(&call, json!({"PathPrefix": "/dev/"})).await;
        assert_eq!(listed.expect("allowed")["InstanceProfiles"][0]["Arn"], arn);
        let listed = run::<ListInstanceProfiles>(&call, json!({"PathPrefix": "/prod/"})).await;
        assert_eq!(listed.expect("allowed")["InstanceProfiles"], json!([]));

        let held = run::<DeleteRole>(&call, json!({"RoleName": "server"})).await;
        assert_eq!(held.expect_err("in a profile").code(), "DeleteConflict");
        let full = run::<DeleteInstanceProfile>(&call, name.clone()).await;
        assert_eq!(full.expect_err("holds a role").code(), "DeleteConflict");
        run::<RemoveRoleFromInstanceProfile>(&call, both.clone()).await.expect("it is in it");
        let gone = run::<RemoveRoleFromInstanceProfile>(&call, both).await;
        assert_eq!(gone.expect_err("removed").code(), "NoSuchEntity");
        run::<DeleteRole>(&call, json!({"RoleName": "server"})).await.expect("free");
        run::<DeleteInstanceProfile>(&call, name.clone()).await.expect("empty");
        let gone = run::<GetInstanceProfile>(&call, name).await;
        assert_eq!(gone.expect_err("deleted").code(), "NoSuchEntity");
    }

    #[tokio::test]
    async fn giving_instances_a_role_needs_the_permission_to_pass_it() {
        let bench = bench().await;
        let owner = account(1);
        let root = bench.root(&owner, "us-east-1");
        let role = json!({"RoleName": "server", "AssumeRolePolicyDocument": TRUST});
        run::<CreateRole>(&root, role).await.expect("created");
        let name = json!({"InstanceProfileName": "web"});
        run::<CreateInstanceProfile>(&root, name).await.expect("created");
        let both = json!({"InstanceProfileName": "web", "RoleName": "server"});

        let user = bench.user(
            &owner,
            "amy",
            r#"{"Version":"2012-10-17","Statement":
            {"Effect":"Allow","Action":"iam:AddRoleToInstanceProfile","Resource":"*"}}"#,
        );
        let denied = run::<AddRoleToInstanceProfile>(&user.await, both.clone()).await;
        let denied = denied.expect_err("may not pass the role").to_string();
        assert!(denied.contains("iam:PassRole on resource: arn:aws:iam::111111111111:role/server"));

        let user = bench.user(
            &owner,
            "bob",
            r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Action":"iam:AddRoleToInstanceProfile","Resource":"*"},
            {"Effect":"Allow","Action":"iam:PassRole","Resource":"*","Condition":
                {"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}}]}"#,
        );
        run::<AddRoleToInstanceProfile>(&user.await, both).await.expect("may pass it to EC2");
    }
}
