//! `sts:AssumeRoleWithSAML`: temporary credentials of a role for whom a SAML identity provider vouches
//! for.
//!
//! The request has no signature; the provider's response in it is its authentication. [`authenticate`]
//! runs in place of the signature's check, before anything else. What is then permitted is the trust
//! policy's to say, under the condition keys `saml:…` (RFD 24).

use super::shared::{
    AssumedRoleUser, Credentials, PolicyDescriptor, TokenSize, arns, role_asks, role_of,
};
use crate::call::Vouched;
use crate::forge::aside;
use crate::world::World;
use crate::{Ask, Call, Error, Granted, Operation, Service, Spec};
use awsproto::{ErrorSpec, FromWire, Shape, Value, code};
use base::{AccountId, Arn, Secret};
use iam::Context;
use identity::role::Role;
use identity::saml::{self, Claims, Provider, SamlError, Values};
use identity::session;
use identity::vouched;

pub(crate) struct AssumeRoleWithSaml;

const INVALID_TOKEN: ErrorSpec = ErrorSpec::sender("InvalidIdentityToken", 400);
const EXPIRED_TOKEN: ErrorSpec = ErrorSpec::sender("ExpiredTokenException", 400);
const REJECTED_CLAIM: ErrorSpec = ErrorSpec::sender("IDPRejectedClaim", 403);

#[derive(Shape)]
#[shape(input, unsupported(MinimumSessionTokenSize))]
pub(crate) struct Input {
    role_arn: String,
    principal_arn: String,
    #[shape(name = "SAMLAssertion", sensitive)]
    saml_assertion: Secret<String>,
    policy_arns: Vec<PolicyDescriptor>,
    policy: Option<String>,
    duration_seconds: Option<i32>,
}

#[derive(Shape)]
#[shape(output, omitted(TrustedIdentityPropagationContext))]
pub(crate) struct Output {
    credentials: Credentials,
    assumed_role_user: AssumedRoleUser,
    packed_policy_size: Option<i32>,
    session_token_size: i32,
    session_token_utilization: i32,
    subject: String,
    subject_type: String,
    issuer: String,
    audience: String,
    name_qualifier: String,
    source_identity: Option<String>,
}

pub(crate) struct Plan {
    role: Role,
    request: session::AssumeRole,
    asks: Vec<Ask>,
    vouched: vouched::Vouched<Provider, Claims>,
}

impl Operation for AssumeRoleWithSaml {
    const SPEC: Spec = Spec::reads(Service::Sts, "AssumeRoleWithSAML");
    type Input = Input;
    type Plan = Plan;
    type Output = Output;

    async fn plan(call: &Call, input: Input) -> Result<Plan, Error> {
        let Some(Vouched::Saml(vouched)) = &call.vouched else { return Err(denied()) };
        let (provider, claims) = (vouched.provider(), vouched.claims());
        if !claims.is_for(&input.role_arn, &provider.arn().to_string()) {
            return Err(denied());
        }
        // A role that does not exist looks like one that does not trust the provider.
        let Some((role, role_tags)) = role_of(call, &input.role_arn).await? else {
            return Err(denied());
        };
        let request = session::AssumeRole {
            session_name: claims.session_name.clone(),
            duration_seconds: input.duration_seconds.map(i64::from),
            policy: input.policy,
            policy_arns: arns(input.policy_arns),
            tags: claims.tags.clone(),
            transitive_tag_keys: claims.transitive_tag_keys.clone(),
            source_identity: claims.source_identity.clone(),
            seconds_max: claims.seconds_max,
            ends_by: claims.ends_by,
        };
        let context = conditions(provider, claims);
        let asks = role_asks(call, (ACTION, context), &role, &role_tags, &request)?;
        Ok(Plan { role, request, asks, vouched: vouched.clone() })
    }

    fn asks(plan: &Plan) -> Vec<Ask> {
        plan.asks.clone()
    }

    async fn act(call: &Call, plan: Granted<Plan>) -> Result<Output, Error> {
        let Plan { role, request, vouched, .. } = plan.into_inner();
        let (provider, claims) = (vouched.provider(), vouched.claims());
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
            assumed_role_user: AssumedRoleUser::of(&session.principal),
            packed_policy_size: limited.then_some(token.percent),
            session_token_size: token.bytes,
            session_token_utilization: token.percent,
            subject_type: claims.subject_type().to_owned(),
            subject: claims.subject.clone(),
            issuer: claims.issuer.clone(),
            audience: claims.recipient.clone(),
            name_qualifier: provider.name_qualifier(),
            source_identity: session.principal.source_identity.clone(),
            credentials: Credentials::from(session),
        })
    }
}

const ACTION: &str = "sts:AssumeRoleWithSAML";

fn denied() -> Error {
    Error::new(code::ACCESS_DENIED, "Not authorized to perform sts:AssumeRoleWithSAML")
}

/// The condition keys of a trust policy (IAM guide, "Available keys for SAML-based AWS STS
/// federation").
fn conditions(provider: &Provider, claims: &Claims) -> Context {
    let mut context = Context::new();
    context.set("saml:aud", claims.recipient.as_str());
    context.set("saml:iss", claims.issuer.as_str());
    context.set("saml:sub", claims.subject.as_str());
    context.set("saml:sub_type", claims.sub_type());
    context.set("saml:namequalifier", provider.name_qualifier());
    context.set("saml:doc", format!("{}/{}", provider.account, provider.name));
    for (key, (values, texts)) in &claims.keys {
        match values {
            Values::One => context.set_opt(key.clone(), texts.first().cloned()),
            Values::Many => context.set_multi(key.clone(), texts.clone()),
        };
    }
    context
}

/// Checks the response of a request, in the signature's place: what the provider that is named vouches for.
pub(crate) async fn authenticate(world: &World, input: Value) -> Result<Vouched, Error> {
    let protocol = Service::Sts.info().protocol;
    let input = Input::from_wire(input).map_err(|error| error.into_error(protocol))?;
    let Some(account) = account_of(&input.role_arn) else {
        let message = format!("Request ARN is invalid: {}", input.role_arn);
        return Err(Error::new(code::VALIDATION_ERROR, message));
    };
    let Ok((owner, name)) = saml::named(&input.principal_arn) else {
        let message = format!("Request ARN is invalid: {}", input.principal_arn);
        return Err(Error::new(code::VALIDATION_ERROR, message));
    };
    // A role trusts providers of its own account alone.
    if owner != account {
        return Err(denied());
    }
    let identity = world.identity.clone();
    let found = world.db.read(move |tx| {
        let provider = saml::find(tx, &owner, &name)?;
        let private_keys = identity.saml_private_keys(tx, &provider)?;
        Ok((provider, private_keys))
    });
    let (provider, private_keys) = match found.await {
        Ok(found) => found,
        Err(identity::Error::NoSuchEntity { .. }) => {
            return Err(Error::new(INVALID_TOKEN, "Specified provider doesn't exist"));
        }
        Err(error) => return Err(error.into()),
    };
    let response = input.saml_assertion;
    let now = world.clock.now();
    let vouched =
        aside(move || provider.check(response.expose(), &private_keys, now).map_err(refusal));
    Ok(Vouched::Saml(vouched.await?))
}

fn account_of(role_arn: &str) -> Option<AccountId> {
    let arn = Arn::parse(role_arn).filter(|arn| arn.service == "iam")?;
    AccountId::parse(&arn.account).ok()
}

/// A refused response in the words of STS.
fn refusal(error: SamlError) -> Error {
    let spec = match &error {
        SamlError::Invalid(_) => INVALID_TOKEN,
        SamlError::Expired(_) => EXPIRED_TOKEN,
        SamlError::Rejected(_) => REJECTED_CLAIM,
    };
    Error::new(spec, error.to_string())
}

#[cfg(test)]
#[path = "shared/saml_tests.rs"]
mod tests;
