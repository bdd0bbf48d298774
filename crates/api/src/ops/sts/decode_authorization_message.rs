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
    use crate::decided::DecisionId;
    use crate::testing::{account, bench, run};
    use iam::{Context, Layers, Principal, Request};
    use serde_json::json;

    #[tokio::test]
    async fn a_denial_is_opened_and_a_changed_one_is_not() {
        let bench = bench().await;
        let user = Principal::user(&account(1), "/", "eve", "AIDAEVE");
        let request = Request {
            principal: &user,
            action: "ec2:CreateVolume",
            resource: "*",
            resource_account: None,
            context: &Context::new(),
        };
        let denied = iam::evaluate(&request, &Layers::default());
        let event_id = base::id::uuid(&*bench.world.rng);
        let id = DecisionId { account: account(1), event_id, number: Some(1) };
        let encoded = bench.world.decisions.seal(&*bench.world.rng, &denied, Some(&id));
        let call = bench.root(&account(1), "us-east-1");
        let input = json!({"EncodedMessage": encoded});
        let reply = run::<DecodeAuthorizationMessage>(&call, input).await.expect("ours");
        let text = reply["DecodedMessage"].as_str().expect("a text");
        assert!(text.contains("ec2:CreateVolume"), "{text}");

        let changed = json!({"EncodedMessage": format!("{encoded}A")});
        let refused = run::<DecodeAuthorizationMessage>(&call, changed).await;
        let code = refused.expect_err("changed").code();
        assert_eq!(code, "InvalidAuthorizationMessageException");
    }
}
