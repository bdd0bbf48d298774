//! Which operation a request asks for.

use crate::code;
use crate::error::{Error, ParameterError, shortened};
use crate::http::Request;
use crate::limits::HTTP_TEXT_BYTES_MAX;
use crate::query::Parameters;
use crate::schema::Schema;
use crate::value::{Fields, Value};
use crate::{json, rest};
use std::collections::BTreeMap;

/// How a service writes requests and replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// EC2: form parameters in, XML out.
    Ec2Query,
    /// IAM and STS: form parameters in, XML out, with result wrappers.
    AwsQuery,
    /// KMS and others: JSON 1.1 both ways, the operation in `X-Amz-Target`.
    AwsJson11,
    /// EBS direct, DLM, Recycle Bin, Backup: JSON with paths, query strings and headers.
    RestJson1,
}

/// What the operations of one service share.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServiceInfo {
    /// The name in the SigV4 credential scope: `ec2`.
    pub name: &'static str,
    /// The protocol.
    pub protocol: Protocol,
    /// The API version: `2016-11-15`.
    pub version: &'static str,
    /// The part of `X-Amz-Target` before the dot: `TrentService`. Empty for other protocols.
    pub target_prefix: &'static str,
    /// The namespace of XML replies. Empty for other protocols.
    pub xml_namespace: &'static str,
}

/// One operation, as the codecs need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OperationInfo {
    /// [`ServiceInfo::name`] of its service.
    pub service: &'static str,
    /// The operation: `CreateVolume`.
    pub name: &'static str,
    /// The protocol.
    pub protocol: Protocol,
    /// Method and path template of restJson1: `("GET", "/snapshots/{snapshotId}/blocks")`.
    pub http: Option<(&'static str, &'static str)>,
    /// The HTTP status of success.
    pub success_status: u16,
    /// The input.
    pub input: &'static Schema,
    /// The output.
    pub output: &'static Schema,
}

/// A path label of a matched request, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) name: &'static str,
    pub(crate) value: String,
}

/// A request whose operation is known and whose parameters are not yet read.
#[derive(Debug)]
pub struct Route {
    /// The service.
    pub service: &'static ServiceInfo,
    /// The operation.
    pub operation: &'static OperationInfo,
    found: Found,
}

/// What finding the operation already read.
#[derive(Debug)]
enum Found {
    Parameters(Parameters),
    Labels(Vec<Label>),
    Nothing,
}

impl Route {
    /// Reads the parameters.
    ///
    /// # Errors
    /// When the request is no such input; [`ParameterError::into_error`] says it in the protocol's
    /// words.
    pub fn decode(self, request: &Request<'_>) -> Result<Value, ParameterError> {
        let schema = self.operation.input;
        match self.found {
            Found::Parameters(parameters) => parameters.decode(self.operation.protocol, schema),
            Found::Labels(labels) => rest::decode(schema, &labels, request),
            Found::Nothing => {
                let mut fields = Fields::default();
                let object = json::parse(request.body)?;
                json::decode_into(&mut fields, schema, object, |_| true)?;
                Ok(Value::Struct(fields))
            }
        }
    }
}

/// A request that asks for no operation, with the protocol to answer in.
#[derive(Debug)]
pub struct RouteError {
    /// The protocol of the named service, or the one the request looks like.
    pub protocol: Protocol,
    /// Why there is no operation.
    pub error: Error,
}

/// All services and operations.
#[derive(Debug)]
pub struct Router {
    services: Vec<&'static ServiceInfo>,
    by_name: BTreeMap<(&'static str, &'static str), &'static OperationInfo>,
    by_path: Vec<(Template, &'static OperationInfo)>,
}

impl Router {
    /// Collects the registry. It is ours and constant, so a mistake in it is an assertion.
    ///
    /// # Panics
    /// When two operations of one service share a name, an operation's service is not listed, or a
    /// restJson1 operation has no path.
    pub fn new(
        services: impl IntoIterator<Item = &'static ServiceInfo>,
        operations: impl IntoIterator<Item = &'static OperationInfo>,
    ) -> Self {
        let services: Vec<_> = services.into_iter().collect();
        let mut by_name = BTreeMap::new();
        let mut by_path = Vec::new();
        for operation in operations {
            let OperationInfo { service, name, .. } = *operation;
            assert!(services.iter().any(|s| s.name == service), "{name}: no service {service}");
            assert!(by_name.insert((service, name), operation).is_none(), "{name} is listed twice");
            if operation.protocol == Protocol::RestJson1 {
                let (method, path) = operation.http.expect("a restJson1 operation has a path");
                by_path.push((Template::new(method, path), operation));
            }
        }
        // Literal segments before labels: `/backup/plans` is not the plan called `plans`.
        by_path.sort_by_key(|(template, _)| template.specificity());
        Self { services, by_name, by_path }
    }

    /// The operation of a name, for callers that skip the wire.
    pub fn operation(&self, service: &str, name: &str) -> Option<&'static OperationInfo> {
        self.by_name.get(&(service, name)).copied()
    }

    /// The service of a signing name.
    pub fn service(&self, name: &str) -> Option<&'static ServiceInfo> {
        self.services.iter().copied().find(|service| service.name == name)
    }

    /// Finds the operation of a request. `service` is the name in the credential scope; an unsigned
    /// request has none and is matched by target prefix or API version.
    ///
    /// # Errors
    /// When no operation matches.
    pub fn route(&self, service: Option<&str>, request: &Request<'_>) -> Result<Route, RouteError> {
        let target = request.header("x-amz-target");
        let Some(service) = service else {
            return match target {
                Some(target) => self.by_target(self.service_of_target(target), target),
                None => match self.by_any_path(request) {
                    Some(route) => Ok(route),
                    None => self.by_action(None, request),
                },
            };
        };
        let Some(service) = self.service(service) else {
            let protocol = if target.is_some() { Protocol::AwsJson11 } else { Protocol::AwsQuery };
            let why = format!("The service {} is not served here.", shortened(service.to_owned()));
            return Err(RouteError { protocol, error: code::UNKNOWN_PATH.error(why) });
        };
        match service.protocol {
            Protocol::Ec2Query | Protocol::AwsQuery => self.by_action(Some(service), request),
            Protocol::AwsJson11 => self.by_target(Some(service), target.unwrap_or_default()),
            Protocol::RestJson1 => self.by_path(service, request),
        }
    }

    fn service_of_target(&self, target: &str) -> Option<&'static ServiceInfo> {
        let (prefix, _) = target.rsplit_once('.')?;
        let mut json = self.services.iter().filter(|s| s.protocol == Protocol::AwsJson11);
        json.find(|service| service.target_prefix == prefix).copied()
    }

    /// The REST operation with the path of a request that says no service: one without a signature.
    fn by_any_path(&self, request: &Request<'_>) -> Option<Route> {
        let mut rest = self.services.iter().filter(|s| s.protocol == Protocol::RestJson1);
        rest.find_map(|service| self.by_path(service, request).ok())
    }

    fn by_target(
        &self,
        service: Option<&'static ServiceInfo>,
        target: &str,
    ) -> Result<Route, RouteError> {
        let found = service.and_then(|service| {
            let (prefix, name) = target.rsplit_once('.')?;
            let operation = self.operation(service.name, name)?;
            (prefix == service.target_prefix).then_some((service, operation))
        });
        match found {
            Some((service, operation)) => Ok(Route { service, operation, found: Found::Nothing }),
            None => {
                let why = format!("Unknown operation '{}'.", shortened(target.to_owned()));
                let error = code::UNKNOWN_OPERATION.error(why);
                Err(RouteError { protocol: Protocol::AwsJson11, error })
            }
        }
    }

    fn by_action(
        &self,
        service: Option<&'static ServiceInfo>,
        request: &Request<'_>,
    ) -> Result<Route, RouteError> {
        let mut protocol = service.map_or(Protocol::AwsQuery, |service| service.protocol);
        let parameters = Parameters::parse(request.query, request.body)
            .map_err(|e| RouteError { protocol, error: e.into_error(protocol) })?;
        let version = parameters.get("Version").unwrap_or_default();
        let is_query = |p| matches!(p, Protocol::Ec2Query | Protocol::AwsQuery);
        let service = service.or_else(|| {
            let mut query = self.services.iter().filter(|s| is_query(s.protocol));
            query.find(|service| service.version == version).copied()
        });
        protocol = service.map_or(protocol, |service| service.protocol);
        let fail = |error| RouteError { protocol, error };
        let Some(action) = parameters.get("Action").filter(|action| !action.is_empty()) else {
            let why = "The request is missing an action or operation parameter.";
            return Err(fail(code::MISSING_ACTION.error(why)));
        };
        let shown = shortened(action.to_owned());
        let Some(service) = service.filter(|service| service.version == version) else {
            let why = format!(
                "Could not find operation {shown} for version {}",
                shortened(version.to_owned())
            );
            return Err(fail(code::NO_SUCH_VERSION.error(why)));
        };
        match self.operation(service.name, action) {
            Some(operation) => {
                Ok(Route { service, operation, found: Found::Parameters(parameters) })
            }
            None => {
                let why = format!("The action {shown} is not valid for this web service.");
                Err(fail(code::INVALID_ACTION.error(why)))
            }
        }
    }

    fn by_path(
        &self,
        service: &'static ServiceInfo,
        request: &Request<'_>,
    ) -> Result<Route, RouteError> {
        let protocol = service.protocol;
        let fail = |error| Err(RouteError { protocol, error });
        if request.path.len() > HTTP_TEXT_BYTES_MAX {
            let why = format!("The path is longer than {HTTP_TEXT_BYTES_MAX} bytes.");
            return fail(code::VALIDATION_EXCEPTION.error(why));
        }
        let own = self.by_path.iter().filter(|(_, operation)| operation.service == service.name);
        for (template, operation) in own {
            if let Some(labels) = template.matches(request) {
                return Ok(Route { service, operation, found: Found::Labels(labels) });
            }
        }
        let why = format!(
            "No operation has the method {} and the path {}.",
            shortened(request.method.to_owned()),
            shortened(request.path.to_owned())
        );
        fail(code::UNKNOWN_PATH.error(why))
    }
}

/// A parsed path template: `/backup-vaults/{backupVaultName}/mpaApprovalTeam?delete`.
#[derive(Debug)]
struct Template {
    method: &'static str,
    segments: Vec<Segment>,
    /// A query parameter that must be present.
    query: Option<&'static str>,
}

#[derive(Debug)]
enum Segment {
    Literal(&'static str),
    Label(&'static str),
}

impl Template {
    fn new(method: &'static str, path: &'static str) -> Self {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let segment = |text: &'static str| {
            let label = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'));
            label.map_or(Segment::Literal(text), Segment::Label)
        };
        let segments = path.split('/').filter(|text| !text.is_empty()).map(segment).collect();
        Self { method, segments, query }
    }

    /// Sorts templates that can match one path: the more literal first, position by position.
    fn specificity(&self) -> (bool, Vec<bool>) {
        let labels = self.segments.iter().map(|s| matches!(s, Segment::Label(_))).collect();
        (self.query.is_none(), labels)
    }

    /// The labels when the request fits. A slash at the end makes no difference: the models of one
    /// service write it for some paths only.
    fn matches(&self, request: &Request<'_>) -> Option<Vec<Label>> {
        if self.method != request.method {
            return None;
        }
        let path = request.path.strip_prefix('/')?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut parts = path.split('/');
        let mut labels = Vec::new();
        for segment in &self.segments {
            let part = percent_encoding::percent_decode_str(parts.next()?).decode_utf8().ok()?;
            match segment {
                Segment::Literal(text) if *text == part => {}
                Segment::Label(name) if !part.is_empty() => {
                    labels.push(Label { name, value: part.into_owned() });
                }
                Segment::Literal(_) | Segment::Label(_) => return None,
            }
        }
        let query = self.query.is_none_or(|key| {
            request.query.split('&').any(|pair| pair.split('=').next() == Some(key))
        });
        (parts.next().is_none() && query).then_some(labels)
    }
}
