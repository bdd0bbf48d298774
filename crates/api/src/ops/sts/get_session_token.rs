//! `sts:GetSessionToken`: temporary credentials for the calling user or root itself.

use super::shared::{Credentials, TokenSize};
use crate::{Ask, Call, Error, Granted, Guard, Operation, Service, Spec};
use awsproto::{Shape, code};

pub(crate) struct GetSessionToken;

#[derive(Shape)]
#[shape(input, unsupported(SerialNumber, TokenCode, MinimumSessionTokenSize))]
pub(crate) struct Input {
    duration_seconds: Option<i32>,
}

#[derive(Shape)]
#[shape(output)]
pub(crate) struct Output {
    credentials: Credentials,
    session_token_size: i32,
    session_token_utilization: i32,
}

impl Operation for GetSessionToken {
    const SPEC: Spec = Spec::reads(Service::Sts, "GetSessionToken");
    type Input = Input;
    type Plan = Option<i64>;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Option<i64>, Error> {
        if call.caller.principal.token_issue_time.is_some() {
            let message = "Cannot call GetSessionToken with session credentials";
            return Err(Error::new(code::ACCESS_DENIED, message));
        }
        Ok(input.duration_seconds.map(i64::from))
    }

    fn asks(_plan: &Option<i64>) -> Vec<Ask> {
        // STS API, GetSessionToken: "No permissions are required for users to perform this operation".
        vec![Ask::any("sts:GetSessionToken").guarded(Guard::Anyone)]
    }

    async fn act(call: &Call, plan: Granted<Option<i64>>) -> Result<Output, Error> {
        let session = call.world.identity.session_for(&call.caller.principal, *plan)?;
        let token = TokenSize::of(&session);
        Ok(Output {
            session_token_size: token.bytes,
            session_token_utilization: token.percent,
            credentials: Credentials::from(session),
        })
    }
}
