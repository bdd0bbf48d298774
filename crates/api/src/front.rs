//! One request from bytes to bytes: parse → authenticate → run the operation → respond.

use crate::Notes;
use crate::authenticate::{self, Refused};
use crate::call::{Call, Caller};
use crate::error::{self, Error};
use crate::registry::{self, AnyOperation};
use crate::service::Service;
use crate::world::World;
use awsproto::{Protocol, Request, Response, Route, RouteError, reply};
use base::Region;
use bytes::Bytes;
use http::request::Parts as Head;
use std::net::SocketAddr;
use std::sync::Arc;

/// Answers one request. Every failure has the form its protocol gives to failures.
pub(crate) async fn answer(
    world: &Arc<World>,
    peer: SocketAddr,
    head: &Head,
    body: &Bytes,
) -> Response {
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
        Err(Failed { protocol, error }) => {
            log(&error, &request_id);
            reply::failure(protocol, &error.0, &request_id)
        }
    }
}

/// A failure and the protocol it is told in.
struct Failed {
    protocol: Protocol,
    error: Error,
}

async fn exchange(
    world: &Arc<World>,
    peer: SocketAddr,
    request: &Request<'_>,
    request_id: &str,
) -> Result<Response, Failed> {
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
        error: Error(not_served(error)),
    })?;
    let protocol = route.operation.protocol;
    let fail = |error: Error| Failed { protocol, error };
    let operation = operation_of(&route);
    let region = region(world, operation.spec().service, &scope.region).map_err(fail)?;
    if credential.expires_at.is_none() {
        let account = &credential.principal.account;
        let now = world.clock.now();
        world.last_uses.note(account, &signed.access_key_id, &scope.service, &scope.region, now);
    }
    let call = Call {
        world: Arc::clone(world),
        caller: Caller {
            principal: credential.principal,
            access_key_id: Some(signed.access_key_id.clone()),
            session_policies: credential.session_policies,
            source_ip: Some(peer.ip().to_string()),
            user_agent: request.header("user-agent").unwrap_or_default().to_owned(),
            forwarded: None,
        },
        region,
        request_id: request_id.to_owned(),
        now: world.clock.now(),
        notes: Notes::default(),
    };
    let (info, described) = (route.operation, route.service);
    let output = match route.decode(request) {
        Ok(input) => operation.run(&call, input).await.map_err(fail)?,
        Err(unreadable) => {
            let error = Error(unreadable.into_error(protocol));
            crate::audit::malformed(&call, operation.spec(), &error).await.map_err(fail)?;
            return Err(fail(error));
        }
    };
    Ok(reply::success(described, info, &output, request_id))
}

fn operation_of(route: &Route) -> &'static dyn AnyOperation {
    let service = Service::from_signing_name(route.service.name);
    service
        .and_then(|service| registry::find(service, route.operation.name))
        .expect("the router is made from the registry")
}

/// The region a request is for: the one it was signed for, if it is served.
fn region(world: &World, service: Service, name: &str) -> Result<Region, Error> {
    let known = Region::parse(name).ok();
    let served = known.filter(|region| service.is_global() || world.regions.contains(region));
    served.ok_or_else(|| {
        let regions: Vec<&str> = world.regions.iter().map(Region::as_str).collect();
        let message =
            format!("The region '{name}' is not served here. Regions: {}.", regions.join(", "));
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
    Failed { protocol, error: refused.into_error(protocol) }
}

fn headers(head: &Head) -> Vec<(String, String)> {
    let lossy = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), lossy(value))).collect()
}

/// The caller's errors are in the trail; ours need somebody's attention.
fn log(error: &Error, request_id: &str) {
    use std::error::Error as _;
    if error.0.spec.fault == awsproto::Fault::Receiver {
        let cause = error.source().map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, %cause, request_id, "a request failed");
    } else {
        tracing::debug!(%error, request_id, "a request was refused");
    }
}
