//! Calls that decide and do nothing: what a preflight is made of (RFD 15).
//!
//! A rehearsed operation takes the pipeline's way through parsing, planning and deciding, and stops
//! there. The workflows behind it run the very functions that make their KMS calls, over
//! [`Rehearsing`] in place of the front door. Nothing is written: no row, no grant, no record.
//!
//! Where a workflow follows ([`Rehearsal::go_on`]), a rehearsal goes on after a denial as if it had
//! been allowed, so that one preflight finds every permission that is missing. What execution would
//! do at the first of them is kept apart, as the [`Ending`].

use crate::authorize;
use crate::decided::Decisions;
use crate::error::Error;
use crate::kms_port::{
    Answer, FrontDoor, data_key_input, decrypt_input, failure, fields, grant_input, probed,
    re_encrypt_input, text,
};
use crate::ops::kms::shared::{self, Named};
use crate::pipeline::Spec;
use crate::refusal::Refusal;
use crate::service::Service;
use crate::world::World;
use awsproto::{Fault, Fields};
use base::{AccountId, Arn, Secret};
use kms::Action;
use kms::condition::Facts;
use kms::grant::{Constraints, Grant, Trust};
use kms::managed::EBS_ALIAS;
use kms::spec::EncryptionAlgorithm;
use lifecycle::port::BoxFuture;
use lifecycle::port::kms::{
    CONTEXT_KEY, GrantConstraint, GrantOperation, GrantSpec, KeyFacts, KmsCall, KmsFailure,
    KmsPort, Probe, VolumeKey, Wrapped,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a rehearsal has come by so far.
#[derive(Default)]
pub struct Rehearsal(Mutex<State>);

#[derive(Default)]
struct State {
    steps: Vec<Step>,
    /// Grants that would have been made by now.
    grants: Vec<Grant>,
    /// Ciphertexts that would have been made by now, and their keys.
    made: BTreeMap<Vec<u8>, String>,
    failure: Option<KmsFailure>,
    ending: Option<Ending>,
    when: When,
    looks: &'static str,
    need: Need,
    on_failure: OnFailure,
}

/// What the caller of KMS sees of a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OnFailure {
    /// The failure.
    #[default]
    Stop,
    /// A reply that stands for the one it would have had.
    GoOn,
}

/// When a decision is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the caller is answered.
    #[default]
    Sync,
    /// By the work that goes on afterwards.
    Async,
}

/// Whether execution would take the decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Need {
    /// It would.
    #[default]
    Required,
    /// Not under this server's enforcement; the guides ask for it.
    Documented,
}

/// One call that acting would make.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) service: Service,
    pub(crate) operation: &'static str,
    pub(crate) when: When,
    pub(crate) need: Need,
    /// What a failure would look like; empty when the request is refused.
    pub(crate) looks: &'static str,
    pub(crate) judged: Judged,
}

/// What is known of a call.
#[derive(Clone, Debug)]
pub(crate) enum Judged {
    /// Its decisions, and what would have stopped it besides: code and message.
    Decided { decisions: Box<Decisions>, problem: Option<(String, String)> },
    /// What it would be about does not exist yet; the sentence says what is known.
    Planned { resource: String, why: &'static str },
}

/// How the request would end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) when: When,
    /// The error's code, or `error` of a resource that fails later.
    pub(crate) code: String,
    /// The error's message, or what is seen of the resource.
    pub(crate) message: String,
    /// The rule behind the refusal, where one was given.
    pub(crate) refusal: Option<Refusal>,
}

impl Rehearsal {
    /// What comes next happens after the caller was answered, and a failure looks like this.
    pub(crate) fn later(&self, looks: &'static str) {
        let mut state = self.state();
        (state.when, state.looks) = (When::Async, looks);
    }

    /// From here on failures of KMS are only noted, see [`Rehearsal::take_failure`].
    pub(crate) fn go_on(&self) {
        self.state().on_failure = OnFailure::GoOn;
    }

    /// Execution takes what comes next, or does not.
    pub(crate) fn need(&self, need: Need) {
        self.state().need = need;
    }

    /// The first key that was out of reach since this was asked last.
    pub(crate) fn take_failure(&self) -> Option<KmsFailure> {
        self.state().failure.take()
    }

    /// Execution would be refused with this error.
    pub(crate) fn refused(&self, error: &Error) {
        let (code, message) = (error.code().to_owned(), error.0.message.clone());
        let refusal = error.refusal().cloned();
        self.end(Ending { when: When::Sync, code, message, refusal });
    }

    /// Takes what execution would have been answered for a refusal; only our own failures stop the
    /// rehearsal.
    pub(crate) fn noted(&self, outcome: Result<(), Error>) -> Result<(), Error> {
        match outcome {
            Err(error) if error.0.spec.fault == Fault::Receiver => Err(error),
            Err(error) => {
                self.refused(&error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Execution would be accepted and fail later, as this says.
    pub(crate) fn fails_later(&self, message: impl Into<String>) {
        let (code, message) = ("error".to_owned(), message.into());
        self.end(Ending { when: When::Async, code, message, refusal: None });
    }

    /// The first thing that would go wrong counts.
    fn end(&self, ending: Ending) {
        self.state().ending.get_or_insert(ending);
    }

    /// Writes a call down.
    pub(crate) fn note(&self, spec: &Spec, decisions: Decisions, problem: Option<&Error>) {
        let problem = problem.map(|error| (error.code().to_owned(), error.0.message.clone()));
        let decisions = Box::new(decisions);
        self.push(spec.service, spec.name, Judged::Decided { decisions, problem });
    }

    fn push(&self, service: Service, operation: &'static str, judged: Judged) {
        let mut state = self.state();
        let (when, need, looks) = (state.when, state.need, state.looks);
        state.steps.push(Step { service, operation, when, need, looks, judged });
    }

    /// The grants that would have been made by now.
    pub(crate) fn grants(&self) -> Vec<Grant> {
        self.state().grants.clone()
    }

    /// Everything that was decided, and how execution would end.
    pub(crate) fn take(&self) -> (Vec<Step>, Option<Ending>) {
        let mut state = self.state();
        (std::mem::take(&mut state.steps), state.ending.take())
    }

    fn failed(&self, failure: KmsFailure) -> Result<(), KmsFailure> {
        let mut state = self.state();
        if state.on_failure == OnFailure::Stop {
            return Err(failure);
        }
        if state.need == Need::Required {
            state.failure.get_or_insert(failure);
        }
        Ok(())
    }

    /// Remembers a ciphertext that is not made.
    fn made(&self, key_arn: &str) -> Vec<u8> {
        let mut state = self.state();
        let name = format!("rehearsal {}", state.made.len()).into_bytes();
        state.made.insert(name.clone(), key_arn.to_owned());
        name
    }

    fn key_of(&self, ciphertext: &[u8]) -> Option<String> {
        self.state().made.get(ciphertext).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no code panics while it holds the rehearsal")
    }
}

/// KMS as a rehearsal reaches it.
pub(crate) struct Rehearsing {
    door: FrontDoor,
    rehearsal: Arc<Rehearsal>,
}

impl Rehearsing {
    pub(crate) fn new(world: &Arc<World>, rehearsal: &Arc<Rehearsal>) -> Self {
        let rehearsal = Arc::clone(rehearsal);
        let door =
            FrontDoor { world: Arc::downgrade(world), rehearsal: Some(Arc::clone(&rehearsal)) };
        Self { door, rehearsal }
    }

    /// Rehearses an operation. Its reply, where it only reads; nothing where it was denied, or would
    /// have acted.
    async fn attempt(
        &self,
        call: KmsCall,
        operation: &'static str,
        input: Fields,
    ) -> Result<Option<Fields>, KmsFailure> {
        match self.door.answer(call, operation, input).await {
            Ok(reply) => Ok(Some(reply)),
            Err(Answer::DryRun) => Ok(None),
            Err(Answer::Failed(failure)) if failure.is_transient() => Err(failure),
            Err(Answer::Failed(failure)) => self.rehearsal.failed(failure).map(|()| None),
        }
    }

    /// Notes a call on `aws/ebs` before there is one. Answers whether it was that.
    fn is_to_be(&self, operation: &'static str, key_arn: &str) -> bool {
        let to_be = key_arn.ends_with(&format!(":{EBS_ALIAS}"));
        if to_be {
            let why = "the key is made at its first use; its policy lets every principal of the \
                       account use it through EC2";
            let judged = Judged::Planned { resource: key_arn.to_owned(), why };
            self.rehearsal.push(Service::Kms, operation, judged);
        }
        to_be
    }

    /// Decides a call on a ciphertext that is not there yet, as the operation would.
    async fn judge(
        &self,
        call: &KmsCall,
        action: Action,
        key_arn: &str,
        facts: Facts,
    ) -> Result<(), KmsFailure> {
        let call = self.door.enter(call)?;
        let named = Named { action, key_id: key_arn, facts };
        let target = match shared::target(&call, named).await {
            Ok(target) => target,
            Err(error) => {
                return self.rehearsal.failed(failure(&error, None));
            }
        };
        let unknown = |error: Error| failure(&error, None);
        let decision = authorize::decide(&call, &target.ask).await.map_err(unknown)?;
        let mut decisions = Decisions::of(&call);
        decisions.push(&target.ask, &decision);
        let outcome = if decision.allowed {
            shared::rehearse(&call, action, &target.key).await
        } else {
            Err(authorize::denial(&call, Service::Kms, &decision, &decisions, None))
        };
        let problem = outcome.as_ref().err().filter(|_| decision.allowed);
        let spec = Spec::reads(Service::Kms, action.as_str());
        self.rehearsal.note(&spec, decisions, problem);
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => self.rehearsal.failed(failure(&error, None)),
        }
    }

    /// A grant that would be there from now on.
    async fn assume(&self, call: &KmsCall, spec: &GrantSpec) -> Result<String, KmsFailure> {
        let call = self.door.enter(call)?;
        let unusable = |message: String| KmsFailure::Unusable { message, explain_id: None };
        let named = || unusable(format!("{} names no key", spec.key_arn));
        let arn = Arn::parse(&spec.key_arn).ok_or_else(named)?;
        let key_id = arn.resource.strip_prefix("key/").ok_or_else(named)?.to_owned();
        let key_account = AccountId::parse(&arn.account).map_err(|_| named())?;
        let (kms, grantee, retiring) =
            (call.world.kms.clone(), spec.grantee.clone(), spec.retiring.clone());
        let parties = call.world.db.read(move |tx| {
            let grantee = kms.grant_party(tx, &grantee, Trust::Service)?;
            Ok::<_, kms::Error>((grantee, kms.grant_party(tx, &retiring, Trust::Service)?))
        });
        let (grantee, retiring) = parties.await.map_err(|error| unusable(error.to_string()))?;
        let pairs = |id: &str| Some(BTreeMap::from([(CONTEXT_KEY.to_owned(), id.to_owned())]));
        let constraints = match &spec.constraint {
            GrantConstraint::Equals(id) => {
                Constraints { equals: pairs(id), ..Constraints::default() }
            }
            GrantConstraint::Subset(id) => {
                Constraints { subset: pairs(id), ..Constraints::default() }
            }
        };
        let operation = match spec.operation {
            GrantOperation::Decrypt => kms::grant::GrantOperation::Decrypt,
            GrantOperation::Encrypt => kms::grant::GrantOperation::Encrypt,
        };
        let mut state = self.rehearsal.state();
        let id = format!("the grant made in step {}", state.steps.len());
        state.grants.push(Grant {
            id: id.clone(),
            key_account,
            key_region: call.region.clone(),
            key_id,
            name: spec.name.clone().unwrap_or_default(),
            created: call.now,
            grantee,
            retiring: Some(retiring),
            issuing_account: call.account().clone(),
            operations: vec![operation],
            constraints,
        });
        Ok(id)
    }

    async fn generate(
        &self,
        call: KmsCall,
        operation: &'static str,
        key_arn: &str,
        context_id: &str,
    ) -> Result<Vec<u8>, KmsFailure> {
        if !self.is_to_be(operation, key_arn) {
            self.attempt(call, operation, data_key_input(key_arn, context_id)).await?;
        }
        Ok(self.rehearsal.made(key_arn))
    }
}

/// The encryption context of a resource.
fn of_resource(id: &str) -> Result<Facts, KmsFailure> {
    let pairs = [(CONTEXT_KEY.to_owned(), id.to_owned())];
    let context = kms::EncryptionContext::new(pairs)
        .map_err(|error| KmsFailure::Unusable { message: error.to_string(), explain_id: None })?;
    Ok(Facts::Crypto { context, algorithm: EncryptionAlgorithm::SymmetricDefault })
}

fn no_key() -> VolumeKey {
    Secret::new([0; 64])
}

impl KmsPort for Rehearsing {
    fn may<'a>(&'a self, call: KmsCall, probe: Probe<'a>) -> BoxFuture<'a, Result<(), KmsFailure>> {
        Box::pin(async move {
            let (operation, input) = probed(probe);
            self.attempt(call, operation, input).await.map(drop)
        })
    }

    fn describe_key<'a>(
        &'a self,
        call: KmsCall,
        key_id: &'a str,
    ) -> BoxFuture<'a, Result<KeyFacts, KmsFailure>> {
        Box::pin(async move {
            let usable = |arn: &str| KeyFacts {
                arn: arn.to_owned(),
                state: "Enabled".to_owned(),
                symmetric: true,
                aws_managed: false,
            };
            if self.is_to_be("DescribeKey", key_id) {
                return Ok(KeyFacts { aws_managed: true, ..usable(key_id) });
            }
            let input = fields([("KeyId", text(key_id))]);
            match self.attempt(call, "DescribeKey", input).await? {
                Some(reply) => crate::kms_port::key_facts(reply),
                None => Ok(usable(key_id)),
            }
        })
    }

    fn generate_data_key<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<(Vec<u8>, VolumeKey), KmsFailure>> {
        Box::pin(async move {
            let made = self.generate(call, "GenerateDataKey", key_arn, context_id).await?;
            Ok((made, no_key()))
        })
    }

    fn generate_data_key_without_plaintext<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>> {
        Box::pin(self.generate(call, "GenerateDataKeyWithoutPlaintext", key_arn, context_id))
    }

    fn create_grant(
        &self,
        call: KmsCall,
        grant: GrantSpec,
    ) -> BoxFuture<'_, Result<String, KmsFailure>> {
        Box::pin(async move {
            if self.is_to_be("CreateGrant", &grant.key_arn) {
                return Ok("of a key to be".to_owned());
            }
            self.attempt(call.clone(), "CreateGrant", grant_input(&grant)).await?;
            self.assume(&call, &grant).await
        })
    }

    fn retire_grant<'a>(
        &'a self,
        _call: KmsCall,
        _key_arn: &'a str,
        _grant_id: &'a str,
    ) -> BoxFuture<'a, Result<(), KmsFailure>> {
        // The grant names the service as who may retire it, and a grant that stays stops nothing.
        Box::pin(async { Ok(()) })
    }

    fn decrypt<'a>(
        &'a self,
        call: KmsCall,
        wrapped: &'a [u8],
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<VolumeKey, KmsFailure>> {
        Box::pin(async move {
            match self.rehearsal.key_of(wrapped) {
                Some(key_arn) if self.is_to_be("Decrypt", &key_arn) => {}
                Some(key_arn) => {
                    let facts = of_resource(context_id)?;
                    self.judge(&call, Action::Decrypt, &key_arn, facts).await?;
                }
                None => {
                    let input = decrypt_input(wrapped, context_id);
                    self.attempt(call, "Decrypt", input).await?;
                }
            }
            Ok(no_key())
        })
    }

    fn encrypt<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        _key: &'a VolumeKey,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>> {
        Box::pin(async move {
            if !self.is_to_be("Encrypt", key_arn) {
                let facts = of_resource(context_id)?;
                self.judge(&call, Action::Encrypt, key_arn, facts).await?;
            }
            Ok(self.rehearsal.made(key_arn))
        })
    }

    fn re_encrypt<'a>(
        &'a self,
        call: KmsCall,
        source: Wrapped<'a>,
        target_key_arn: &'a str,
        target_context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>> {
        Box::pin(async move {
            if !self.is_to_be("ReEncrypt", target_key_arn) {
                let input = re_encrypt_input(source, target_key_arn, target_context_id);
                self.attempt(call, "ReEncrypt", input).await?;
            }
            Ok(self.rehearsal.made(target_key_arn))
        })
    }
}
