//! One request from bytes to bytes: parse → authenticate → run the operation → respond.

use crate::Notes;
use crate::authenticate::{self, Refused};
use crate::call::{Call, Caller, Explain};
use crate::error::{self, Error};
use crate::ops::sts::{assume_role_with_saml, assume_role_with_web_identity};
use crate::pipeline::Spec;
use crate::registry::{self, AnyOperation};
use crate::service::Service;
use crate::world::World;
use crate::{pipeline, preflight};
use awsproto::{ErrorSpec, Protocol, Request, Response, Route, RouteError, reply};
use base::Region;
use bytes::Bytes;
use http::request::Parts as Head;
use iam::PrincipalKind;
use iam::sigv4::Scope;
use identity::Credential;
use std::net::SocketAddr;
use std::sync::Arc;

/// Where a request comes from.
#[derive(Clone, Copy)]
pub(crate) struct Peer {
    /// The other end of the connection.
    pub(crate) address: SocketAddr,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
}

/// Answers one request. Every failure has the form its protocol gives to failures.
pub(crate) async fn answer(world: &Arc<World>, peer: Peer, head: &Head, body: &Bytes) -> Response {
    let request_id = base::id::uuid(&*world.rng);
    let headers = headers(head);
    let request = Request {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &headers,
        body,
    };
    match exchange(world, peer, &request, &request_id).await {
        Ok(response) => response,
        Err(Failed { protocol, error, explain_id }) => {
            log(&error, &request_id);
            explained(reply::failure(protocol, &error.0, &request_id), explain_id.as_deref())
        }
    }
}

/// A failure and the protocol it is told in.
struct Failed {
    protocol: Protocol,
    error: Error,
    /// Where to ask why, once something was decided.
    explain_id: Option<String>,
}

/// The header of a reply that says what is odd about the policy that was saved.
const POLICY_WARNINGS: &str = "x-strongroom-policy-warnings";
/// The member of an answered dry run that says what it would lead to.
const PREFLIGHT: &str = "StrongroomPreflight";
/// The header of a request that wants to be told why.
const EXPLAIN: &str = "x-strongroom-explain";
/// The header of a reply that says where to ask why (RFD 15).
const EXPLAIN_ID: &str = "x-strongroom-explain-id";

async fn exchange(
    world: &Arc<World>,
    peer: Peer,
    request: &Request<'_>,
    request_id: &str,
) -> Result<Response, Failed> {
    if let Some(route) = without_signature(request) {
        // Boxed, as what else is rare, so that no other request's future has room for it.
        return Box::pin(vouched_for(world, peer, request, request_id, route)).await;
    }
    let signed = match authenticate::read(world, request) {
        Ok(signed) => signed,
        Err(refused) => return Err(refuse(None, request, refused)),
    };
    let scope = &signed.scope;
    let service = Some(scope.service.as_str());
    let (credential, route) = match authenticate::verify(world, &signed).await {
        Ok(credential) => (credential, registry::router().route(service, request)),
        Err(refused) => return Err(refuse(service, request, refused)),
    };
    let route = route.map_err(|RouteError { protocol, error }| Failed {
        protocol,
        error: Error::from(not_served(error)),
        explain_id: None,
    })?;
    let protocol = route.operation.protocol;
    let fail = |error: Error| Failed { protocol, error, explain_id: None };
    let operation = operation_of(&route);
    let region = region(world, operation.spec(), &scope.region).map_err(fail)?;
    note_use(world, &credential, &signed.access_key_id, scope);
    let call = Call {
        world: Arc::clone(world),
        caller: Caller {
            principal: credential.principal,
            access_key_id: Some(signed.access_key_id.clone()),
            session_policies: credential.session_policies,
            source_ip: Some(peer.address.ip().to_string()),
            secure_transport: peer.secure,
            user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
            forwarded: None,
        },
        region,
        request_id: request_id.to_owned(),
        now: world.clock.now(),
        vouched: None,
        notes: Notes::default(),
        explain: explain(request),
        rehearsal: None,
    };
    let (info, described) = (route.operation, route.service);
    let output = match route.decode(request) {
        Ok(input) => explaining(operation, &call, input).await.map_err(|error| {
            let explain_id = call.notes.explain_id().map(str::to_owned);
            Failed { explain_id, ..fail(error) }
        })?,
        Err(unreadable) => {
            let error = Error::from(unreadable.into_error(protocol));
            let recorded = Box::pin(crate::audit::malformed(&call, operation.spec(), &error));
            recorded.await.map_err(fail)?;
            let explain_id = call.notes.explain_id().map(str::to_owned);
            return Err(Failed { explain_id, ..fail(error) });
        }
    };
    let mut response = reply::success(described, info, &output, request_id);
    if let Some(warnings) = call.notes.policy_warnings() {
        response.headers.push((POLICY_WARNINGS.to_owned(), warnings.to_owned()));
    }
    Ok(explained(response, call.notes.explain_id()))
}

/// Notes that a long-term access key, or the role whose session the credentials are of, was used.
fn note_use(world: &World, credential: &Credential, access_key_id: &str, scope: &Scope) {
    let principal = &credential.principal;
    let used = match &principal.kind {
        PrincipalKind::AssumedRole { role_id, .. } => role_id,
        _ if credential.expires_at.is_none() => access_key_id,
        _ => return,
    };
    let (account, now) = (&principal.account, world.clock.now());
    world.last_uses.note_request(account, used, &scope.service, &scope.region, now);
}

fn explained(mut response: Response, id: Option<&str>) -> Response {
    if let Some(id) = id {
        response.headers.push((EXPLAIN_ID.to_owned(), id.to_owned()));
    }
    response
}

/// Runs an operation; a dry run that asks to be told why is also told what it would lead to.
async fn explaining(
    operation: &'static dyn AnyOperation,
    call: &Call,
    input: awsproto::Value,
) -> Result<awsproto::Value, Error> {
    let table = match call.explain {
        Explain::Full if pipeline::is_dry_run(&input) => {
            let found = Box::pin(preflight::rehearse(call, operation, input.clone())).await?;
            Some(serde_json::to_string(&found).map_err(Error::internal)?)
        }
        Explain::Full | Explain::Off => None,
    };
    let outcome = operation.run(call, input).await;
    match table {
        None => outcome,
        Some(table) => outcome.map_err(|error| Error::from(error.0.with_member(PREFLIGHT, table))),
    }
}

fn explain(request: &Request<'_>) -> Explain {
    match request.header(EXPLAIN) {
        Some(value) if value.eq_ignore_ascii_case("full") => Explain::Full,
        Some(_) | None => Explain::Off,
    }
}

/// The operations whose requests have no signature: the token in them says who they are from.
const UNSIGNED: [&str; 2] = ["AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"];

fn without_signature(request: &Request<'_>) -> Option<Route> {
    // A look at the bytes first: no other request is parsed twice.
    let start = &request.body[..request.body.len().min(ACTION_WITHIN_BYTES)];
    let within = |bytes: &[u8], name: &str| {
        bytes.windows(name.len()).any(|window| window == name.as_bytes())
    };
    let query = request.query.as_bytes();
    let named = UNSIGNED.iter().any(|name| within(start, name) || within(query, name));
    if request.header("x-amz-target").is_some() || !named {
        return None;
    }
    let route = registry::router().route(Some("sts"), request).ok()?;
    UNSIGNED.contains(&route.operation.name).then_some(route)
}

/// How far into a body the name of such an operation is looked for; clients write it first.
const ACTION_WITHIN_BYTES: usize = 64 * 1024;

/// Answers a request whose token is checked in the signature's place.
async fn vouched_for(
    world: &Arc<World>,
    peer: Peer,
    request: &Request<'_>,
    request_id: &str,
    route: Route,
) -> Result<Response, Failed> {
    let protocol = route.operation.protocol;
    let fail = |error: Error| Failed { protocol, error, explain_id: None };
    let operation = operation_of(&route);
    let (info, described) = (route.operation, route.service);
    let input = route.decode(request).map_err(|error| fail(error.into_error(protocol).into()))?;
    let vouched = match info.name {
        "AssumeRoleWithSAML" => assume_role_with_saml::authenticate(world, input.clone()).await,
        _ => assume_role_with_web_identity::authenticate(world, input.clone()).await,
    };
    let vouched = vouched.map_err(fail)?;
    // Without a signature there is no region in the request: any answers alike.
    let region = world.regions.iter().next().cloned();
    let call = Call {
        world: Arc::clone(world),
        caller: Caller {
            principal: vouched.principal(),
            access_key_id: None,
            session_policies: Vec::new(),
            source_ip: Some(peer.address.ip().to_string()),
            secure_transport: peer.secure,
            user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
            forwarded: None,
        },
        region: region.expect("a server serves a region"),
        request_id: request_id.to_owned(),
        now: world.clock.now(),
        vouched: Some(vouched),
        notes: Notes::default(),
        explain: explain(request),
        rehearsal: None,
    };
    let explain_id = || call.notes.explain_id().map(str::to_owned);
    match operation.run(&call, input).await {
        Ok(output) => {
            let response = reply::success(described, info, &output, request_id);
            Ok(explained(response, explain_id().as_deref()))
        }
        Err(error) => Err(Failed { explain_id: explain_id(), ..fail(error) }),
    }
}

fn operation_of(route: &Route) -> &'static dyn AnyOperation {
    let service = Service::from_signing_name(route.service.name);
    service
        .and_then(|service| registry::find(service, route.operation.name))
        .expect("the router is made from the registry")
}

/// What a signed request for temporary credentials is answered in a region that has none (STS API; botocore lists it
/// for these operations and no others). Every account has every region that is served.
const REGION_DISABLED: ErrorSpec = ErrorSpec::sender("RegionDisabledException", 403);
const ISSUING: [&str; 3] = ["AssumeRole", "GetFederationToken", "GetSessionToken"];

/// The region a request is for: the one it was signed for, if it is served.
fn region(world: &World, spec: &Spec, name: &str) -> Result<Region, Error> {
    let Spec { service, name: operation, .. } = *spec;
    let known = Region::parse(name).ok();
    let served = known.filter(|region| service.is_global() || world.regions.contains(region));
    served.ok_or_else(|| {
        let regions: Vec<&str> = world.regions.iter().map(Region::as_str).collect();
        let regions = regions.join(", ");
        if service == Service::Sts && ISSUING.contains(&operation) {
            let message =
                format!("STS is not activated in the region '{name}'. Regions: {regions}.");
            return Error::new(REGION_DISABLED, message);
        }
        let message = format!("The region '{name}' is not served here. Regions: {regions}.");
        Error::new(error::invalid_parameter_of(service), message)
    })
}

/// Says where to look when AWS has an operation and this server does not.
fn not_served(error: awsproto::Error) -> awsproto::Error {
    let message = format!(
        "{} Operations this server does not have are listed in docs/compatibility.md.",
        error.message
    );
    awsproto::Error { message, ..error }
}

fn refuse(service: Option<&str>, request: &Request<'_>, refused: Refused) -> Failed {
    let protocol = match registry::router().route(service, request) {
        Ok(route) => route.operation.protocol,
        Err(error) => error.protocol,
    };
    Failed { protocol, error: refused.into_error(protocol), explain_id: None }
}

fn headers(head: &Head) -> Vec<(String, String)> {
    let lossy = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), lossy(value))).collect()
}

/// The caller's errors are in the trail; ours need somebody's attention.
fn log(error: &Error, request_id: &str) {
    if error.0.spec.fault == awsproto::Fault::Receiver {
        let error = base::with_causes(error);
        tracing::error!(error, request_id, "a request failed");
    } else {
        tracing::debug!(%error, request_id, "a request was refused");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_learns_all_causes() {
        use lifecycle::port::blocks::BlockError;
        let full = blockstore::store::StoreError::from(blockstore::live::Error::Full);
        let error = Error::internal(BlockError::NoRoom(Box::new(full)));
        let expected = format!(
            "{error}: there is no room for blocks: there is no space for what the volume would have to store"
        );
        assert_eq!(base::with_causes(&error), expected);
    }

    #[tokio::test]
    async fn temporary_credentials_are_for_regions_that_are_served() {
        let world = crate::testing::bench().await.world;
        let asked = |service, name, at: &str| {
            let operation = registry::find(service, name).expect("it is served");
            let refused = region(&world, operation.spec(), at).err();
            refused.map(|error| (error.code(), error.0.spec.status))
        };
        for name in ISSUING {
            let disabled = Some(("RegionDisabledException", 403));
            assert_eq!(asked(Service::Sts, name, "ap-south-2"), disabled, "{name}");
            assert_eq!(asked(Service::Sts, name, "us-east-1"), None, "{name}");
        }
        let invalid = Some(("ValidationError", 400));
        assert_eq!(asked(Service::Sts, "GetCallerIdentity", "ap-south-2"), invalid);
        assert_eq!(asked(Service::Iam, "ListUsers", "ap-south-2"), None, "IAM is in every region");
    }
}
