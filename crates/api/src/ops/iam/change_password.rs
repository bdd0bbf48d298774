//! `iam:ChangePassword`: a user changes its own password, which it has to know.

use super::shared::{self, Subject};
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape, code};
use base::Secret;
use iam::PrincipalKind;
use identity::Kind;
use identity::login::{self, Reset};

pub(crate) struct ChangePassword;

const INVALID_USER_TYPE: ErrorSpec = ErrorSpec::sender("InvalidUserType", 400);

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    #[shape(sensitive)]
    old_password: Secret<String>,
    #[shape(sensitive)]
    new_password: Secret<String>,
}

pub(crate) struct Plan {
    user: Subject,
    old: Secret<String>,
    new: Secret<String>,
}

impl Operation for ChangePassword {
    const SPEC: Spec = Spec::mutates(Service::Iam, "ChangePassword");
    type Input = Input;
    type Plan = Plan;
    type Output = ();

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let PrincipalKind::User { name, .. } = &call.caller.principal.kind else {
            let message = "Only IAM Users can change their own password.";
            return Err(Error::new(INVALID_USER_TYPE, message));
        };
        login::check_password(name, &input.new_password)?;
        let user = Subject::named(call, Kind::User, name.clone()).await?;
        Ok(Plan { user, old: input.old_password, new: input.new_password })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        vec![plan.user.ask("iam:ChangePassword")]
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<(), Error> {
        let Plan { user, old, new } = plan.into_inner();
        let wanted = user.clone();
        let kept = shared::read(call, move |tx| {
            let entity = wanted.find(tx)?;
            Ok(login::find_with_hash(tx, &entity)?.1)
        });
        if !shared::is_password(kept.await?, old).await? {
            return Err(Error::new(code::ACCESS_DENIED, "The old password was incorrect."));
        }
        let hash = shared::hash(call, new).await?;
        shared::write(call, move |tx, _| {
            let entity = user.find(tx)?;
            login::update(tx, &entity, Some(&hash), Some(Reset::NotRequired))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::iam::create_login_profile::CreateLoginProfile;
    use crate::ops::iam::delete_login_profile::DeleteLoginProfile;
    use crate::ops::iam::delete_user::DeleteUser;
    use crate::ops::iam::get_login_profile::GetLoginProfile;
    use crate::ops::iam::update_login_profile::UpdateLoginProfile;
    use crate::testing::{account, bench, run};
    use serde_json::json;

    const CHANGE: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Action":["iam:ChangePassword","iam:GetLoginProfile"],
        "Resource":"arn:aws:iam::*:user/${aws:username}"}}"#;

    #[tokio::test]
    async fn a_password_is_given_changed_by_its_user_and_taken() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        let amy = bench.user(&account(1), "amy", CHANGE).await;
        let input = json!({ "UserName": "amy", "Password": "Correct-Horse1",
            "PasswordResetRequired": true });
        let weak = json!({ "UserName": "amy", "Password": "correct" });
        let refused = run::<CreateLoginProfile>(&root, weak).await.expect_err("too short");
        assert_eq!(refused.code(), "PasswordPolicyViolation");
        let denied = run::<CreateLoginProfile>(&amy, input.clone()).await.expect_err("not hers");
        assert_eq!(denied.code(), "AccessDenied");
        let made = run::<CreateLoginProfile>(&root, input.clone()).await.expect("a password");
        let expected = json!({ "UserName": "amy", "CreateDate": "2026-01-01T00:00:00.000Z",
            "PasswordResetRequired": true });
        assert_eq!(made["LoginProfile"], expected);
        let again = run::<CreateLoginProfile>(&root, input).await.expect_err("she has one");
        assert_eq!(again.code(), "EntityAlreadyExists");

        let change = |old: &str, new: &str| json!({ "OldPassword": old, "NewPassword": new });
        let wrong = run::<ChangePassword>(&amy, change("Correct-Horse2", "Battery-Staple1")).await;
        assert_eq!(wrong.expect_err("wrong").0.message, "The old password was incorrect.");
        run::<ChangePassword>(&amy, change("Correct-Horse1", "Battery-Staple1"))
            .await
            .expect("known");
        let shown = run::<GetLoginProfile>(&amy, json!({})).await.expect("her own");
        assert_eq!(shown["LoginProfile"]["PasswordResetRequired"], false);
        let old = run::<ChangePassword>(&amy, change("Correct-Horse1", "Battery-Staple2")).await;
        assert_eq!(old.expect_err("changed").code(), "AccessDenied");

        let update = json!({ "UserName": "amy", "Password": "Third-Secret3" });
        run::<UpdateLoginProfile>(&root, update).await.expect("changed by another");
        run::<ChangePassword>(&amy, change("Third-Secret3", "Battery-Staple3"))
            .await
            .expect("known");
        let kept =
            run::<DeleteUser>(&root, json!({ "UserName": "amy" })).await.expect_err("a password");
        assert_eq!(kept.code(), "DeleteConflict");
        run::<DeleteLoginProfile>(&root, json!({ "UserName": "amy" })).await.expect("taken");
        let gone = run::<GetLoginProfile>(&amy, json!({})).await.expect_err("taken");
        assert_eq!((gone.code(), gone.0.spec.status), ("NoSuchEntity", 404));
        let roots = run::<ChangePassword>(&root, change("Third-Secret3", "Battery-Staple3")).await;
        assert_eq!(roots.expect_err("a root").code(), "InvalidUserType");
    }

    /// A password is in no record of the trail.
    #[tokio::test]
    async fn passwords_are_not_recorded() {
        let bench = bench().await;
        let root = bench.root(&account(1), "us-east-1");
        bench.user(&account(1), "amy", CHANGE).await;
        let input = json!({ "UserName": "amy", "Password": "Correct-Horse1" });
        run::<CreateLoginProfile>(&root, input).await.expect("a password");
        let found =
            crate::testing::run_named(&root, crate::Service::CloudTrail, "LookupEvents", json!({}));
        let text = found.await.expect("the trail").to_string();
        assert!(text.contains("CreateLoginProfile") && !text.contains("Correct-Horse1"), "{text}");
    }
}
