//! `sts:DecodeAuthorizationMessage`: opens the encoded message of an EC2 denial.

use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, Shape};

pub(crate) struct DecodeAuthorizationMessage;

const INVALID_MESSAGE: ErrorSpec = ErrorSpec::sender("InvalidAuthorizationMessageException", 400);

#[derive(Shape)]
#[shape(input)]
pub(crate) struct Input {
    encoded_message: String,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    decoded_message: String,
}

impl Operation for DecodeAuthorizationMessage {
    const SPEC: Spec = Spec::reads(Service::Sts, "DecodeAuthorizationMessage");
    type Input = Input;
    type Plan = String;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<String, Error> {
        call.world.decisions.open(&input.encoded_message).map_err(|_| {
            Error::new(INVALID_MESSAGE, "Message is not valid: it is no message of this server.")
        })
    }

    fn asks(_plan: &String) -> Vec<Ask> {
        vec![Ask::any("sts:DecodeAuthorizationMessage")]
    }

    async fn act(_call: &Call, plan: Granted<String>) -> Result<Output, Error> {
        Ok(Output { decoded_message: plan.into_inner() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, account, bench, run, run_named};
    use serde_json::{Value, json};

    /// Who was refused a volume, and the encoded message of the refusal.
    async fn refused(bench: &Bench, effect: &str, action: &str) -> (Call, String) {
        let statement =
            json!({ "Sid": "Disks", "Effect": effect, "Action": action, "Resource": "*" });
        let policy = json!({ "Version": "2012-10-17", "Statement": statement }).to_string();
        let eve = bench.user(&account(1), "eve", &policy).await;
        let input = json!({ "AvailabilityZone": "us-east-1a", "Size": 1 });
        let refused = run_named(&eve, Service::Ec2, "CreateVolume", input).await;
        let sentence = refused.expect_err("denied").0.message;
        let encoded = sentence.rsplit(' ').next().expect("the message ends the sentence");
        (eve, encoded.to_owned())
    }

    async fn decoded(bench: &Bench, encoded: &str) -> Value {
        let root = bench.root(&account(1), "us-east-1");
        let input = json!({ "EncodedMessage": encoded });
        let reply = run::<DecodeAuthorizationMessage>(&root, input).await.expect("ours");
        let text = reply["DecodedMessage"].as_str().expect("a text");
        serde_json::from_str(text).expect("a document")
    }

    #[tokio::test]
    async fn a_denying_statement_is_named() {
        let bench = bench().await;
        let (_, encoded) = refused(&bench, "Deny", "ec2:CreateVolume").await;
        let message = decoded(&bench, &encoded).await;
        assert_eq!(message["explicitDeny"], true);
        let matched = &message["matchedStatements"]["items"][0];
        let (sid, effect) = (&matched["statementId"], &matched["effect"]);
        assert_eq!((sid, effect), (&json!("Disks"), &json!("DENY")));
    }

    #[tokio::test]
    async fn a_message_is_the_decision_of_the_trail() {
        let bench = bench().await;
        let (eve, encoded) = refused(&bench, "Allow", "ec2:DeleteVolume").await;
        let message = decoded(&bench, &encoded).await;
        assert_eq!((&message["allowed"], &message["explicitDeny"]), (&json!(false), &json!(false)));
        let context = &message["context"];
        assert_eq!(context["action"], "ec2:CreateVolume");
        assert_eq!(context["resource"], "arn:aws:ec2:us-east-1:111111111111:volume/*");
        assert_eq!(context["principal"]["arn"], eve.caller.principal.arn);
        let size = json!({ "key": "ec2:VolumeSize", "values": { "items": [{ "value": "1" }] } });
        let conditions = context["conditions"]["items"].as_array().expect("a list");
        assert!(conditions.contains(&size), "{conditions:?}");

        let id = eve.notes.explain_id().expect("it was decided");
        assert_eq!(message["explainId"], id);
        let root = bench.root(&account(1), "us-east-1");
        let told = run_named(&root, Service::Strongroom, "Explain", json!({ "Id": id })).await;
        let told = told.expect("kept");
        let told: Value =
            serde_json::from_str(told["Explanation"].as_str().expect("a text")).unwrap();
        assert_eq!(message["decision"], told["calls"][0]["decisions"][0]);
    }

    #[tokio::test]
    async fn a_changed_message_is_not_opened() {
        let bench = bench().await;
        let (_, encoded) = refused(&bench, "Allow", "ec2:DeleteVolume").await;
        let root = bench.root(&account(1), "us-east-1");
        let changed = json!({ "EncodedMessage": format!("{encoded}A") });
        let refused = run::<DecodeAuthorizationMessage>(&root, changed).await;
        let code = refused.expect_err("changed").code();
        assert_eq!(code, "InvalidAuthorizationMessageException");
    }
}
