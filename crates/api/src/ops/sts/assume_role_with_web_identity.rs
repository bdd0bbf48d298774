//! `sts:AssumeRoleWithWebIdentity`: temporary credentials of a role for whom an OpenID Connect issuer
//! vouches for, as Kubernetes does for its service accounts.
//!
//! The request has no signature; its token is its authentication. [`authenticate`] runs in place of the
//! signature's check, before anything else: issuer known in the role's account, signature, times,
//! audience. What is then permitted is the trust policy's to say, under the issuer's condition keys
//! `<issuer>:sub` and `<issuer>:aud`.

use super::shared::{
    AssumedRoleUser, Credentials, PolicyDescriptor, TokenSize, arns, role_asks, role_of,
};
use crate::call::Vouched;
use crate::issuer_keys::{refusal, unknown_issuer};
use crate::world::World;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{FromWire, Shape, Value, code};
use base::{AccountId, Arn, Secret};
use iam::Context;
use identity::oidc::{self, Provider};
use identity::role::Role;
use identity::session;
use identity::web_identity::Unverified;

pub(crate) struct AssumeRoleWithWebIdentity;

#[derive(Shape)]
#[shape(input, unsupported(ProviderId, MinimumSessionTokenSize))]
pub(crate) struct Input {
    role_arn: String,
    role_session_name: String,
    #[shape(sensitive)]
    web_identity_token: Secret<String>,
    policy_arns: Vec<PolicyDescriptor>,
    policy: Option<String>,
    duration_seconds: Option<i32>,
}

#[derive(Shape)]
#[shape(output, omitted(TrustedIdentityPropagationContext))]
pub(crate) struct Output {
    credentials: Credentials,
    subject_from_web_identity_token: String,
    assumed_role_user: AssumedRoleUser,
    packed_policy_size: Option<i32>,
    session_token_size: i32,
    session_token_utilization: i32,
    provider: String,
    audience: String,
    source_identity: Option<String>,
}

pub(crate) struct Plan {
    role: Role,
    request: session::AssumeRole,
    asks: Vec<Ask>,
    subject: String,
    audience: String,
    issuer: String,
}

impl Operation for AssumeRoleWithWebIdentity {
    const SPEC: Spec = Spec::reads(Service::Sts, "AssumeRoleWithWebIdentity");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Some(Vouched::WebIdentity(vouched)) = &call.vouched else { return Err(denied()) };
        let (provider, claims) = (vouched.provider(), vouched.claims().clone());
        // A role that does not exist looks like one that does not trust the issuer.
        let Some((role, role_tags)) = role_of(call, &input.role_arn).await? else {
            return Err(denied());
        };
        let request = session::AssumeRole {
            session_name: input.role_session_name,
            duration_seconds: input.duration_seconds.map(i64::from),
            policy: input.policy,
            policy_arns: arns(input.policy_arns),
            tags: claims.tags,
            transitive_tag_keys: claims.transitive_tag_keys,
            source_identity: claims.source_identity,
            ..session::AssumeRole::default()
        };
        let mut context = Context::new();
        context.set(format!("{}:sub", provider.issuer), claims.subject.as_str());
        context.set(format!("{}:aud", provider.issuer), claims.audience.as_str());
        let action = "sts:AssumeRoleWithWebIdentity";
        let asks = role_asks(call, (action, context), &role, &role_tags, &request)?;
        let (subject, audience) = (claims.subject, claims.audience);
        Ok(Plan { role, request, asks, subject, audience, issuer: provider.issuer.clone() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks.clone()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role, request, subject, audience, issuer, .. } = plan.into_inner();
        let identity = call.world.identity.clone();
        let principal = call.caller.principal.clone();
        let limited = request.is_limited();
        let session = call
            .world
            .db
            .read(move |tx| identity.assume_role(tx, &principal, &role, &request))
            .await?;
        let token = TokenSize::of(&session);
        Ok(Output {
            subject_from_web_identity_token: subject,
            assumed_role_user: AssumedRoleUser::of(&session.principal),
            packed_policy_size: limited.then_some(token.percent),
            session_token_size: token.bytes,
            session_token_utilization: token.percent,
            provider: issuer,
            audience,
            source_identity: session.principal.source_identity.clone(),
            credentials: Credentials::from(session),
        })
    }
}

fn denied() -> Error {
    Error::new(code::ACCESS_DENIED, "Not authorized to perform sts:AssumeRoleWithWebIdentity")
}

async fn find_provider(world: &World, account: &AccountId, url: &str) -> Result<Provider, Error> {
    let Ok(issuer) = oidc::issuer_of_url(url) else { return Err(unknown_issuer(url)) };
    let account = account.clone();
    match world.db.read(move |tx| oidc::find(tx, &account, &issuer)).await {
        Ok(provider) => Ok(provider),
        Err(identity::Error::NoSuchEntity { .. }) => Err(unknown_issuer(url)),
        Err(error) => Err(error.into()),
    }
}

/// Checks the token of a request, in the signature's place: what an issuer that the role's account knows vouches for.
pub(crate) async fn authenticate(world: &World, input: Value) -> Result<Vouched, Error> {
    let protocol = Service::Sts.info().protocol;
    let input = Input::from_wire(input).map_err(|error| error.into_error(protocol))?;
    let arn = Arn::parse(&input.role_arn).filter(|arn| arn.service == "iam");
    let account = arn.and_then(|arn| AccountId::parse(&arn.account).ok());
    let Some(account) = account else {
        let message = format!("Request ARN is invalid: {}", input.role_arn);
        return Err(Error::new(code::VALIDATION_ERROR, message));
    };
    let token = Unverified::read(input.web_identity_token.expose()).map_err(refusal)?;
    let provider = find_provider(world, &account, token.issuer()).await?;
    let keys = world.issuer_keys.of(world, &provider, &token).await?;
    let vouched = token.verify(&provider, &keys, world.clock.now()).map_err(refusal)?;
    Ok(Vouched::WebIdentity(vouched))
}

#[cfg(test)]
#[path = "shared/web_identity_tests.rs"]
mod tests;
