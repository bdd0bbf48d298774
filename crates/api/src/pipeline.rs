//! The one way every request takes: parse → plan → authorize → act → audit → respond.
//!
//! An operation is data and three functions ([`Operation`]). It cannot act without permission:
//! [`Operation::act`] takes a [`Granted`] plan, and only [`run`] makes one. The same [`Ask`]s that
//! decide also answer `DryRun` and fill the trail record, so what is checked, what is promised and
//! what is recorded cannot drift apart.
//!
//! Calls that a service makes for a user (EC2 asking KMS for a data key) enter [`run`] too, with a
//! caller that says on whose behalf; nothing reaches an `act` around it.

use crate::audit::{self, Entry};
use crate::authorize;
use crate::bounds;
use crate::call::Call;
use crate::decided::Decisions;
use crate::error::{self, Error};
use crate::lint;
use crate::rehearsal::Rehearsal;
use crate::service::Service;
use awsproto::{FromWire, Shape, ToWire, Value};
use base::{AccountId, Arn};
use std::future::Future;

/// What an operation is called and how it behaves towards the trail.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The service it belongs to; gives protocol, version and IAM prefix.
    pub service: Service,
    /// Its name on the wire.
    pub name: &'static str,
    /// Whether it changes state: decides `readOnly` in the trail and the two-phase record.
    pub mutates: bool,
    /// Method, path template and success status, for REST protocols only.
    pub http: Option<Http>,
}

/// Where a REST operation lives.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    /// `GET`, `PUT`, `POST`.
    pub method: &'static str,
    /// `/snapshots/{snapshotId}/blocks/{blockIndex}`.
    pub path: &'static str,
    /// The status of a success.
    pub status: u16,
    /// Data events are kept apart from management events in the trail (spec 03, last line).
    pub data_event: bool,
}

impl Spec {
    /// An operation of a query or JSON service that only reads.
    pub const fn reads(service: Service, name: &'static str) -> Self {
        Self { service, name, mutates: false, http: None }
    }

    /// An operation of a query or JSON service that changes state.
    pub const fn mutates(service: Service, name: &'static str) -> Self {
        Self { service, name, mutates: true, http: None }
    }
}

/// One permission a request needs: an IAM action on a resource under a context.
#[derive(Clone, Debug)]
pub struct Ask {
    /// `ec2:CreateVolume`.
    pub action: String,
    /// The resource's ARN, or `*` for actions without resource-level permissions.
    pub resource: String,
    /// Whose resource it is; `None` where the action names none.
    pub resource_account: Option<AccountId>,
    /// Condition keys of this resource and action. The pipeline adds the global ones.
    pub context: iam::Context,
    /// Which policies stand beside the caller's own.
    pub guard: Guard,
}

/// The resource's side of a decision.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Only identity-side policies decide.
    Identity,
    /// A policy on the resource (a key policy, a trust policy), and grants where it is a key.
    Resource {
        /// The resource's policy.
        layer: iam::ResourceLayer,
        /// Grants that match principal, operation and context.
        grants: Vec<iam::GrantMatch>,
        /// Grants of the caller that do not, for explanations.
        missed: Vec<kms::guard::MissedGrant>,
    },
    /// Needs no permission, and no policy can take it away: `sts:GetCallerIdentity` and
    /// `sts:GetSessionToken` (STS API, "Permissions" of both).
    Anyone,
}

impl Ask {
    /// A permission decided by identity-side policies on a resource of `account`.
    pub fn on(action: impl Into<String>, arn: &Arn, account: &AccountId) -> Self {
        Self {
            action: action.into(),
            resource: arn.to_string(),
            resource_account: Some(account.clone()),
            context: iam::Context::default(),
            guard: Guard::Identity,
        }
    }

    /// A permission of an action that has no resource-level scope.
    pub fn any(action: impl Into<String>) -> Self {
        Self {
            action: action.into(),
            resource: "*".to_owned(),
            resource_account: None,
            context: iam::Context::default(),
            guard: Guard::Identity,
        }
    }

    /// The same ask under more condition keys.
    #[must_use]
    pub fn with(mut self, context: iam::Context) -> Self {
        self.context = context;
        self
    }

    /// The same ask, decided with the resource's own policy and grants.
    #[must_use]
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }
}

/// A plan whose every ask was granted. Only [`run`] makes one.
pub struct Granted<P>(P);

impl<P> Granted<P> {
    /// The plan.
    pub fn into_inner(self) -> P {
        self.0
    }
}

impl<P> std::ops::Deref for Granted<P> {
    type Target = P;
    fn deref(&self) -> &P {
        &self.0
    }
}

/// One API operation. See the crate's documentation for how a file of `ops/` is laid out.
pub trait Operation: Sized + Send + Sync + 'static {
    /// Name and nature.
    const SPEC: Spec;
    /// The request.
    type Input: Shape + FromWire + Send + Sync + 'static;
    /// The request with every name resolved and every default filled in.
    type Plan: Send + Sync + 'static;
    /// The reply.
    type Output: Shape + ToWire + Send + Sync + 'static;

    /// Validates, resolves names and fills in defaults. Reads, never writes.
    ///
    /// # Errors
    /// Anything wrong with the request itself, in the service's own words.
    fn plan(
        call: &Call,
        input: Self::Input,
    ) -> impl Future<Output = Result<Self::Plan, Error>> + Send;

    /// The permissions the plan needs; never empty.
    fn asks(plan: &Self::Plan) -> Vec<Ask>;

    /// What a dry run looks at beyond permission, for operations that have more to check. An actual
    /// run checks the same while it acts.
    ///
    /// # Errors
    /// What would stand in the way.
    fn rehearse(
        _call: &Call,
        _plan: &Self::Plan,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Takes the decisions that acting would take in other services, now or later, in a call that only
    /// rehearses. It calls what [`Operation::act`] or its work calls, through [`Call::kms`], and tells
    /// `rehearsal` how a failure would look. Without this an operation leads to no other.
    ///
    /// # Errors
    /// Only what keeps the rehearsal from going on.
    fn implied(
        _call: &Call,
        _plan: &Self::Plan,
        _rehearsal: &Rehearsal,
    ) -> impl Future<Output = Result<(), Error>> + Send {
        async { Ok(()) }
    }

    /// Does it. Reachable only with every ask granted.
    ///
    /// # Errors
    /// What stood in the way, in the service's own words.
    fn act(
        call: &Call,
        plan: Granted<Self::Plan>,
    ) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// Runs one call of operation `O` from a decoded input to its output, with its trail record durable
/// before this returns.
///
/// # Errors
/// The operation's own error, a denial, `DryRunOperation`, or the trail's failure: a call that
/// cannot be recorded fails.
pub async fn run<O: Operation>(call: &Call, input: Value) -> Result<O::Output, Error> {
    if let Some(rehearsal) = &call.rehearsal {
        return rehearsed::<O>(call, rehearsal, input).await;
    }
    let mut entry = Entry::new(call, &O::SPEC, &input, <O::Input as Shape>::SCHEMA);
    let outcome = match lint::of_request(call, &O::SPEC, &input).await {
        Ok(warnings) => {
            let outcome = steps::<O>(call, input, &mut entry).await;
            if let (Ok(_), Some(warnings)) = (&outcome, warnings) {
                call.notes.warn(warnings);
            }
            outcome
        }
        Err(error) => Err(error),
    };
    let outcome = outcome.map_err(|error| error::of_service(O::SPEC.service, error));
    let reply = match &outcome {
        // Replies of calls that only read are not recorded, and may hold a plaintext data key.
        Ok(_) if !O::SPEC.mutates => Ok(Value::empty()),
        Ok(output) => Ok(output.to_wire().unwrap_or_else(Value::empty)),
        Err(error) => Err(error),
    };
    audit::finish(call, entry, reply, <O::Output as Shape>::SCHEMA).await?;
    if O::SPEC.mutates && outcome.is_ok() {
        call.world.changes.notify_one();
    }
    outcome
}

async fn steps<O: Operation>(
    call: &Call,
    input: Value,
    entry: &mut Entry,
) -> Result<O::Output, Error> {
    let dry_run = is_dry_run(&input);
    let (plan, asks) = planned::<O>(call, input).await?;
    entry.resources(&asks);
    permit(call, &O::SPEC, &asks, entry).await?;
    if dry_run {
        O::rehearse(call, &plan).await?;
        return Err(error::dry_run(O::SPEC.service));
    }
    if O::SPEC.mutates {
        audit::begin(call, entry).await?;
    }
    O::act(call, Granted(plan)).await
}

/// From what the client sent to the plan and what it needs.
async fn planned<O: Operation>(call: &Call, input: Value) -> Result<(O::Plan, Vec<Ask>), Error> {
    let protocol = O::SPEC.service.info().protocol;
    bounds::check(&O::SPEC, <O::Input as Shape>::SCHEMA, &input)?;
    let input = O::Input::from_wire(input).map_err(|error| error.into_error(protocol))?;
    authorize::check_open(call, &O::SPEC)?;
    let plan = O::plan(call, input).await?;
    let asks = O::asks(&plan);
    assert!(!asks.is_empty(), "{} asks for nothing", O::SPEC.name);
    Ok((plan, asks))
}

/// Takes the same way up to acting, in a call that only rehearses: every ask is decided, also behind a
/// denial, then the asks of the calls that acting would make. Nothing acts and nothing is recorded,
/// except that KMS's reads that have no dry run answer.
async fn rehearsed<O: Operation>(
    call: &Call,
    rehearsal: &Rehearsal,
    input: Value,
) -> Result<O::Output, Error> {
    let service = O::SPEC.service;
    let (plan, asks) = planned::<O>(call, input).await?;
    let mut decisions = Decisions::of(call);
    let mut denial = None;
    for ask in &asks {
        let decision = authorize::decide(call, ask).await?;
        decisions.push(ask, &decision);
        if !decision.allowed && denial.is_none() {
            denial = Some(authorize::denial(call, service, &decision, &decisions, None));
        }
    }
    let problem = match &denial {
        None => O::rehearse(call, &plan).await.err(),
        Some(_) => None,
    };
    rehearsal.note(&O::SPEC, decisions, problem.as_ref());
    O::implied(call, &plan, rehearsal).await?;
    if let Some(error) = denial.or(problem) {
        return Err(error);
    }
    let answers = service == Service::Kms
        && !O::SPEC.mutates
        && <O::Input as Shape>::SCHEMA.member("DryRun").is_none();
    if answers {
        return O::act(call, Granted(plan)).await;
    }
    Err(error::dry_run(service))
}

/// Decides every ask and writes the decisions down; the first denial ends the call.
async fn permit(call: &Call, spec: &Spec, asks: &[Ask], entry: &mut Entry) -> Result<(), Error> {
    let mut decisions = Decisions::of(call);
    for ask in asks {
        let decision = authorize::decide(call, ask).await?;
        decisions.push(ask, &decision);
        if !decision.allowed {
            entry.denied();
            let id = entry.decided(call, decisions.clone());
            return Err(authorize::denial(call, spec.service, &decision, &decisions, Some(&id)));
        }
    }
    entry.decided(call, decisions);
    Ok(())
}

/// Whether the caller only asks if it may. Every operation that accepts `DryRun` has it by this
/// name at the top level, so no operation can forget to honour it.
pub(crate) fn is_dry_run(input: &Value) -> bool {
    let fields = input.as_fields();
    fields.and_then(|fields| fields.get("DryRun")) == Some(&Value::Bool(true))
}
