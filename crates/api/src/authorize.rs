//! From an [`Ask`] to a decision: gathers the policies of both sides and asks the evaluator.

use crate::call::{Call, Caller};
use crate::decided::{DecisionId, Decisions};
use crate::error::Error;
use crate::pipeline::{Ask, Guard, Spec};
use crate::service::Service;
use awsproto::ErrorSpec;
use iam::{AttachedPolicy, Decision, Layer, Layers, Policy, PolicyKind, PrincipalKind};
use std::sync::{Arc, OnceLock};

/// Decides one permission with the policies in force now.
///
/// # Errors
/// Only when the policies cannot be read; a denial is a [`Decision`].
pub(crate) async fn decide(call: &Call, ask: &Ask) -> Result<Decision, Error> {
    let mut layers = match &ask.guard {
        // Nobody's policies are asked, not even one that denies (STS API, GetCallerIdentity).
        Guard::Anyone => Layers { identity: vec![allow_all()], ..Layers::default() },
        Guard::Identity | Guard::Resource { .. } => identity_layers(call).await?,
    };
    let mut context = global_context(call);
    context.extend(&ask.context);
    if let Guard::Resource { layer, grants, missed: _ } = &ask.guard {
        layers.resource = Some(layer.clone());
        layers.grants.clone_from(grants);
    }
    let request = iam::Request {
        principal: &call.caller.principal,
        action: &ask.action,
        resource: &ask.resource,
        resource_account: ask.resource_account.as_ref(),
        context: &context,
    };
    Ok(iam::evaluate(&request, &layers))
}

/// Refuses what no policy can give: the credentials of GetSessionToken and GetFederationToken open
/// neither IAM (without MFA, which is not served) nor STS, but for asking who one is and, of the first,
/// for assuming roles (IAM guide, "Compare AWS STS credentials").
///
/// # Errors
/// The refusal of the service, with the code its clients see on AWS.
pub(crate) fn check_open(call: &Call, spec: &Spec) -> Result<(), Error> {
    let principal = &call.caller.principal;
    let (credentials, opens_roles) = match &principal.kind {
        PrincipalKind::FederatedUser { .. } => ("federation token", false),
        PrincipalKind::Root | PrincipalKind::User { .. }
            if principal.token_issue_time.is_some() =>
        {
            ("session", true)
        }
        PrincipalKind::Root
        | PrincipalKind::User { .. }
        | PrincipalKind::AssumedRole { .. }
        | PrincipalKind::WebIdentity { .. }
        | PrincipalKind::Saml { .. }
        | PrincipalKind::Service { .. } => return Ok(()),
    };
    match (spec.service, spec.name) {
        (Service::Iam, _) => Err(Error::new(
            ErrorSpec::sender("InvalidClientTokenId", 403),
            "The security token included in the request is invalid",
        )),
        (Service::Sts, "GetCallerIdentity") => Ok(()),
        (Service::Sts, "AssumeRole") if opens_roles => Ok(()),
        (Service::Sts, name) => {
            let message = format!("Cannot call {name} with {credentials} credentials");
            Err(Error::new(awsproto::code::ACCESS_DENIED, message))
        }
        (
            Service::Ec2 | Service::Ebs | Service::Kms | Service::CloudTrail | Service::Strongroom,
            _,
        ) => Ok(()),
    }
}

/// The caller's own policies. A service, and the role that hosts attach volumes with, have none
/// (spec 20, A.8): only the resource's policy and grants speak for them.
async fn identity_layers(call: &Call) -> Result<Layers, Error> {
    let Caller { principal, session_policies, .. } = &call.caller;
    match &principal.kind {
        PrincipalKind::Service { .. }
        | PrincipalKind::WebIdentity { .. }
        | PrincipalKind::Saml { .. } => Ok(Layers::default()),
        PrincipalKind::AssumedRole { role_name, .. } if is_infrastructure(role_name) => {
            Ok(Layers::default())
        }
        PrincipalKind::Root
        | PrincipalKind::User { .. }
        | PrincipalKind::AssumedRole { .. }
        | PrincipalKind::FederatedUser { .. } => {
            call.world.identity_layers(principal, session_policies).await
        }
    }
}

/// Whether a role is one that only the service itself can assume.
pub(crate) fn is_infrastructure(role_name: &str) -> bool {
    role_name.starts_with("aws:")
}

/// The condition keys that follow from the request's circumstances (spec 20, A.7). Those of the
/// principal and the resource's account are the evaluator's own.
pub(crate) fn global_context(call: &Call) -> iam::Context {
    let caller = &call.caller;
    let mut context = iam::Context::new();
    context.set_now(call.now);
    context.set("aws:RequestedRegion", call.region.as_str());
    context.set_flag("aws:SecureTransport", caller.secure_transport);
    context.set("aws:UserAgent", caller.user_agent.as_str());
    context.set_opt("aws:SourceIp", caller.source_ip.as_deref());
    let via = caller.via_service();
    context.set_flag("aws:ViaAWSService", via.is_some());
    if let Some(via) = via {
        let name = via.split('.').next().unwrap_or(via);
        let service = format!("{name}.amazonaws.com");
        context.set("aws:CalledViaFirst", service.as_str());
        context.set("aws:CalledViaLast", service.as_str());
        context.set_multi("aws:CalledVia", [service]);
    }
    if let Some(source) = caller.source_arn() {
        context.set("aws:SourceArn", source);
        context.set("aws:SourceAccount", call.account().as_str());
    }
    context
}

/// What stands in for a permission that everybody has.
fn allow_all() -> AttachedPolicy {
    static POLICY: OnceLock<Arc<Policy>> = OnceLock::new();
    let policy = POLICY.get_or_init(|| {
        let text = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
        Arc::new(Policy::parse(text, PolicyKind::Identity).expect("the constant is a policy"))
    });
    AttachedPolicy {
        layer: Layer::Identity,
        name_or_arn: "needs no permission".to_owned(),
        policy: Arc::clone(policy),
    }
}

/// A denial in the service's words, with what decided it (spec 20, A.9): the decision, and all that
/// were written down up to it.
pub(crate) fn denial(
    call: &Call,
    service: Service,
    decision: &Decision,
    decisions: &Decisions,
    id: Option<&DecisionId>,
) -> Error {
    let sentence = decision.message().unwrap_or_default();
    match service {
        Service::Ec2 => {
            let encoded = call.world.decisions.seal(&*call.world.rng, decisions, id);
            Error::new(
                ErrorSpec::sender("UnauthorizedOperation", 403),
                format!(
                    "You are not authorized to perform this operation. {sentence} \
                     Encoded authorization failure message: {encoded}"
                ),
            )
        }
        Service::Kms | Service::CloudTrail | Service::Strongroom => {
            Error::new(ErrorSpec::sender("AccessDeniedException", 400), sentence)
        }
        Service::Iam | Service::Sts => Error::new(ErrorSpec::sender("AccessDenied", 403), sentence),
        Service::Ebs => Error::from(
            ErrorSpec::sender("AccessDeniedException", 403)
                .error(sentence)
                .with_member("Reason", "UNAUTHORIZED_ACCOUNT"),
        ),
    }
}
