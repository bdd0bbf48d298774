//! The trail record of a call, made by the code that decides and acts (spec 20, D.1).
//!
//! A call that changes state is recorded twice: what it is about to do, durable before it acts, and
//! what came of it, durable before the caller is answered. A call that only reads, or was refused,
//! is recorded once. A record that cannot be kept fails the call.

use crate::authorize::is_infrastructure;
use crate::call::{Call, Caller, Forwarded};
use crate::decided::{DecisionId, Decisions};
use crate::error::Error;
use crate::key_use;
use crate::lint;
use crate::pipeline::{Ask, Spec};
use crate::refusal::Refusal;
use crate::service::Service;
use awsproto::{Fault, Schema, Value};
use base::{AccountId, Arn, InstanceId};
use events::{Category, Record, Resource, SessionIssuer, UserIdentity};
use iam::PrincipalKind;
use kms::usage::{Use, UsedKey};
use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};

/// What is said of a call beyond its parameters.
#[derive(Default)]
pub struct Notes {
    members: Mutex<Vec<(&'static str, String)>>,
    explain_id: OnceLock<String>,
    foreseen: OnceLock<Refusal>,
    policy_warnings: OnceLock<String>,
}

impl Notes {
    /// Adds a member of `additionalEventData`, for example `keyMaterialId`.
    pub fn add(&self, name: &'static str, value: impl Into<String>) {
        let mut members = self.members.lock().expect("no code panics while it holds the notes");
        members.push((name, value.into()));
    }

    /// Where to ask why the call went as it did; absent until something is decided, or the call has failed.
    pub fn explain_id(&self) -> Option<&str> {
        self.explain_id.get().map(String::as_str)
    }

    /// Says why what the call asks for will not come about, though it is accepted.
    pub(crate) fn foresee(&self, refusal: Refusal) {
        // A call asks for one thing.
        let _ = self.foreseen.set(refusal);
    }

    /// What is odd about the policy that the call saved.
    pub(crate) fn policy_warnings(&self) -> Option<&str> {
        self.policy_warnings.get().map(String::as_str)
    }

    pub(crate) fn warn(&self, warnings: String) {
        self.add(lint::NOTE, warnings.as_str());
        // A call saves one policy.
        let _ = self.policy_warnings.set(warnings);
    }

    fn take(&self) -> Vec<(&'static str, String)> {
        let mut members = self.members.lock().expect("no code panics while it holds the notes");
        std::mem::take(&mut *members)
    }
}

/// The record while the call runs.
pub(crate) struct Entry {
    /// In a place of its own, as the decisions are: what a call waits with would be four times as long.
    record: Box<Record>,
    service: Service,
    mutates: bool,
    begun: bool,
    denied: bool,
    decisions: Option<Box<Decisions>>,
    /// Accounts other than the caller's that own a key of this call.
    owners: BTreeSet<AccountId>,
}

impl Entry {
    pub(crate) fn new(call: &Call, spec: &Spec, input: &Value, schema: &Schema) -> Self {
        let data_event = spec.http.is_some_and(|http| http.data_event);
        let (source_ip, user_agent) = origin(&call.caller);
        let record = Record::api_call(events::Call {
            event_id: base::id::uuid(&*call.world.rng),
            time: call.now,
            region: call.region.clone(),
            recipient: call.account().clone(),
            identity: identity(call),
            event_source: spec.service.event_source(),
            event_name: spec.name.to_owned(),
            source_ip,
            user_agent,
            request_id: request_id(call),
            read_only: !spec.mutates,
            category: if data_event { Category::Data } else { Category::Management },
        });
        let protocol = spec.service.info().protocol;
        let mut record = record.with_request(awsproto::audit::parameters(protocol, schema, input));
        if let Some(forwarded) = &call.caller.forwarded {
            record = record.with_shared_event_id(&base::id::uuid(&*call.world.rng));
            if forwarded.via_service.is_some() {
                record = record.with_internal_endpoint();
            }
        }
        Self {
            record: Box::new(record),
            service: spec.service,
            mutates: spec.mutates,
            begun: false,
            denied: false,
            decisions: None,
            owners: BTreeSet::new(),
        }
    }

    /// Names the keys the call is about. Only KMS records carry `resources` on AWS.
    pub(crate) fn resources(&mut self, asks: &[Ask]) {
        let mut resources: Vec<Resource> = Vec::new();
        for ask in asks {
            let Some(account) = &ask.resource_account else { continue };
            let is_key = Arn::parse(&ask.resource)
                .is_some_and(|arn| arn.service == "kms" && arn.resource.starts_with("key/"));
            if !is_key || resources.iter().any(|known| known.arn == ask.resource) {
                continue;
            }
            if account != self.record.recipient() {
                self.owners.insert(account.clone());
            }
            resources.push(Resource {
                account_id: account.clone(),
                kind: "AWS::KMS::Key".to_owned(),
                arn: ask.resource.clone(),
            });
        }
        self.record.set_resources(resources);
    }

    pub(crate) fn denied(&mut self) {
        self.denied = true;
    }

    /// Keeps what was decided in the record, before anything acts on it. Answers the id of the denial,
    /// or of all of them.
    pub(crate) fn decided(&mut self, call: &Call, decisions: Decisions) -> DecisionId {
        let id = DecisionId {
            account: self.record.recipient().clone(),
            event_id: self.record.event_id().to_owned(),
            number: decisions.denied(),
        };
        let text = id.to_string();
        self.record.keep_decisions(&decisions, &text);
        self.decisions = Some(Box::new(decisions));
        // A call is decided once, and keeps its name when it fails later.
        let _ = call.notes.explain_id.set(text);
        id
    }

    /// Keeps what refused the call beside policies. A call that failed before anything was decided gets
    /// its id here.
    fn ended(&mut self, call: &Call, failure: Option<&Error>) {
        let refusal = failure.map_or_else(|| call.notes.foreseen.get(), Error::refusal).cloned();
        match self.decisions.take() {
            Some(decisions) if refusal.is_none() => self.decisions = Some(decisions),
            None if failure.is_none() => {}
            kept => {
                let mut decisions = kept.map_or_else(|| Decisions::of(call), |kept| *kept);
                decisions.refusal = refusal;
                self.decided(call, decisions);
            }
        }
    }

    /// The record of a failure, in the words the service's records use.
    fn failed(self, error: &Error) -> Record {
        let record = *self.record;
        let awsproto::Error { spec, message, .. } = &error.0;
        match self.service {
            Service::Ec2 => {
                let side = match spec.fault {
                    Fault::Sender => "Client",
                    Fault::Receiver => "Server",
                };
                // A few codes carry the side in themselves.
                let code = spec.code.strip_prefix("Client.").unwrap_or(spec.code);
                record.failed(&format!("{side}.{code}"), message)
            }
            Service::Kms
            | Service::Ebs
            | Service::CloudTrail
            | Service::Iam
            | Service::Sts
            | Service::Strongroom => {
                if self.denied {
                    record.denied(message)
                } else {
                    record.failed(spec.code, message)
                }
            }
        }
    }
}

/// Makes the intent of a call durable, before it acts.
pub(crate) async fn begin(call: &Call, entry: &mut Entry) -> Result<(), Error> {
    let (server, record) = (call.world.server.clone(), entry.record.clone());
    call.world.db.write(move |tx| events::begin(tx, &server, &record)).await?;
    entry.begun = true;
    Ok(())
}

/// Makes the outcome of a call durable, before it is answered.
pub(crate) async fn finish(
    call: &Call,
    entry: Entry,
    reply: Result<Value, &Error>,
    schema: &Schema,
) -> Result<(), Error> {
    let Finished { begun, record, mut copies, uses } = finished(call, entry, reply, schema);
    if begun {
        let server = call.world.server.clone();
        let finish = move |tx: &mut meta::Tx<'_>| events::finish(tx, &server, &record, &copies);
        return Ok(call.world.db.write(finish).await?);
    }
    copies.insert(0, *record);
    call.world.trail.keep(copies).await?;
    uses.into_iter().for_each(|(key, used)| call.world.key_uses.note(key, used));
    Ok(())
}

/// What is left to be kept of a call.
struct Finished {
    /// Whether its intent is kept already.
    begun: bool,
    record: Box<Record>,
    /// For the trails of others.
    copies: Vec<Record>,
    /// Of keys, by a call that changed nothing and succeeded.
    uses: Vec<(UsedKey, Use)>,
}

fn finished(
    call: &Call,
    mut entry: Entry,
    reply: Result<Value, &Error>,
    schema: &Schema,
) -> Finished {
    let begun = entry.begun;
    entry.ended(call, reply.as_ref().err().copied());
    let owners = if entry.denied { BTreeSet::new() } else { std::mem::take(&mut entry.owners) };
    let reply_is_ok = reply.is_ok();
    let mut record = match reply {
        Err(error) => entry.failed(error),
        // CloudTrail keeps the answers of calls that change something only.
        Ok(output) if entry.mutates => {
            let protocol = entry.service.info().protocol;
            let elements = awsproto::audit::parameters(protocol, schema, &output);
            entry.record.with_response(elements)
        }
        Ok(_) => *entry.record,
    };
    for (name, value) in call.notes.take() {
        record = record.with_additional(name, &value);
    }
    let share = |owner| record.share_with(owner, &*call.world.rng);
    let copies: Vec<Record> = owners.iter().map(share).collect();
    let uses = match reply_is_ok && !begun {
        true => key_use::of(&call.request_id, &record, &copies),
        false => Vec::new(),
    };
    Finished { begun, record: Box::new(record), copies, uses }
}

/// Records a call whose parameters could not be read.
pub(crate) async fn malformed(call: &Call, spec: &Spec, error: &Error) -> Result<(), Error> {
    let nothing = Value::empty();
    let entry = Entry::new(call, spec, &nothing, <() as awsproto::Shape>::SCHEMA);
    finish(call, entry, Err(error), <() as awsproto::Shape>::SCHEMA).await
}

/// Where the call came from: the client, or the service that made it.
fn origin(caller: &Caller) -> (String, String) {
    match &caller.forwarded {
        Some(Forwarded { invoked_by, .. }) => (invoked_by.clone(), invoked_by.clone()),
        None => (caller.source_ip.clone().unwrap_or_default(), caller.user_agent.clone()),
    }
}

fn request_id(call: &Call) -> String {
    let shared = call.caller.forwarded.as_ref().and_then(|f| f.shared_request_id.clone());
    shared.unwrap_or_else(|| call.request_id.clone())
}

fn identity(call: &Call) -> UserIdentity {
    let Caller { principal, access_key_id, forwarded, .. } = &call.caller;
    let account = &principal.account;
    let mut identity = match &principal.kind {
        PrincipalKind::Root => UserIdentity::root(account),
        PrincipalKind::User { name, .. } => {
            UserIdentity::iam_user(account, &principal.user_id, &principal.arn, name)
        }
        PrincipalKind::AssumedRole { role_name, session_name, .. }
            if is_infrastructure(role_name) =>
        {
            // The session of this role is the instance (spec 20, A.8).
            return match InstanceId::parse(session_name) {
                Ok(instance) => UserIdentity::infrastructure(account, &call.region, &instance),
                Err(_) => UserIdentity::internal(account),
            };
        }
        PrincipalKind::AssumedRole { role_name, role_id, session_name, .. } => {
            let issuer = SessionIssuer::role(account, role_id, &principal.principal_arn, role_name);
            UserIdentity::assumed_role(issuer, &principal.arn, session_name)
        }
        PrincipalKind::FederatedUser { name, .. } => {
            UserIdentity::federated_user(account, &principal.user_id, &principal.arn, name)
        }
        PrincipalKind::WebIdentity { provider_arn, subject } => {
            return UserIdentity::web_identity(account, provider_arn, subject);
        }
        PrincipalKind::Saml { subject, name_qualifier, .. } => {
            return UserIdentity::saml(account, name_qualifier, subject);
        }
        PrincipalKind::Service { name } => {
            let invoked_by = forwarded.as_ref().map_or(name, |forwarded| &forwarded.invoked_by);
            return UserIdentity::service(invoked_by);
        }
    };
    if let Some(id) = access_key_id {
        identity = identity.with_access_key(id);
    }
    if let Some(start) = principal.token_issue_time {
        identity = identity.with_session_start(start);
    }
    if let Some(source) = &principal.source_identity {
        identity = identity.with_source_identity(source);
    }
    match forwarded {
        Some(Forwarded { invoked_by, .. }) => identity.invoked_by(invoked_by),
        None => identity,
    }
}
