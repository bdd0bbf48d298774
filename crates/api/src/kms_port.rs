//! KMS for the storage services: the same front door, entered in the name of a user, of EC2 itself
//! or of a host (spec 20, A.8 and C.3).

use crate::audit::Notes;
use crate::call::{Call, Caller, Explain, Forwarded};
use crate::error::Error;
use crate::registry;
use crate::rehearsal::Rehearsal;
use crate::service::Service;
use crate::world::World;
use awsproto::{Blob, Fault, Fields, Value};
use base::Secret;
use events::notification::KeyProblem;
use iam::Principal;
use lifecycle::port::BoxFuture;
use lifecycle::port::kms::{
    Authority, CONTEXT_KEY, CapturedIdentity, GrantConstraint, GrantOperation, GrantSpec, KeyFacts,
    KmsCall, KmsFailure, KmsPort, Probe, VolumeKey, Wrapped,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// Bytes of a volume's data key (spec 20, B.7).
const VOLUME_KEY_BYTES: i64 = 64;
/// What KMS answers to a dry run that would have succeeded (spec 20, A.9).
const DRY_RUN: &str = "DryRunOperationException";

/// The caller as it is kept with a job: everything that decides, nothing that authenticates.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Captured {
    principal: Principal,
    access_key_id: Option<String>,
    session_policies: Vec<String>,
    source_ip: Option<String>,
    user_agent: String,
    /// The request that was accepted.
    #[serde(default)]
    request_id: Option<String>,
}

/// Keeps who calls, for work that goes on after the call is answered.
pub(crate) fn capture(call: &Call) -> CapturedIdentity {
    let Caller { principal, access_key_id, session_policies, source_ip, user_agent, .. } =
        call.caller.clone();
    let captured = Captured {
        principal,
        access_key_id,
        session_policies,
        source_ip,
        user_agent,
        request_id: Some(call.request_id.clone()),
    };
    let text = serde_json::to_string(&captured).expect("plain data becomes JSON");
    CapturedIdentity(text)
}

/// The front door. The server owns it and is owned by it, hence weak.
pub(crate) struct FrontDoor {
    pub(crate) world: Weak<World>,
    /// Set when calls only rehearse.
    pub(crate) rehearsal: Option<Arc<Rehearsal>>,
}

impl FrontDoor {
    /// Runs a KMS operation and returns its reply.
    async fn run(
        &self,
        call: KmsCall,
        operation: &'static str,
        input: Fields,
    ) -> Result<Fields, KmsFailure> {
        self.answer(call, operation, input).await.map_err(|answer| match answer {
            Answer::Failed(failure) => failure,
            Answer::DryRun => unreachable!("only a probe asks for a dry run"),
        })
    }

    /// The call as operations see it.
    pub(crate) fn enter(&self, call: &KmsCall) -> Result<Call, KmsFailure> {
        let Some(world) = self.world.upgrade() else {
            let message = "the server is stopping".to_owned();
            return Err(KmsFailure::Unavailable { message });
        };
        Ok(Call {
            caller: caller(call)?,
            region: call.region.clone(),
            request_id: base::id::uuid(&*world.rng),
            now: world.clock.now(),
            vouched: None,
            notes: Notes::default(),
            explain: Explain::Off,
            rehearsal: self.rehearsal.clone(),
            world,
        })
    }

    pub(crate) async fn answer(
        &self,
        call: KmsCall,
        operation: &'static str,
        input: Fields,
    ) -> Result<Fields, Answer> {
        let operation = registry::find(Service::Kms, operation)
            .expect("the operations that storage calls are part of this server");
        let call = self.enter(&call).map_err(Answer::Failed)?;
        match operation.run(&call, Value::Struct(input)).await {
            Ok(Value::Struct(output)) => Ok(output),
            Ok(_) => Ok(Fields::default()),
            Err(error) if error.code() == DRY_RUN => Err(Answer::DryRun),
            Err(error) => Err(Answer::Failed(failure(&error, call.notes.explain_id()))),
        }
    }
}

/// An answer that is no reply.
pub(crate) enum Answer {
    /// The call would have succeeded.
    DryRun,
    /// It failed.
    Failed(KmsFailure),
}

fn caller(call: &KmsCall) -> Result<Caller, KmsFailure> {
    let ec2 = format!("ec2.{}.amazonaws.com", call.region);
    let forwarded = |via_service, source_arn: Option<&String>, cause: Option<String>| {
        Some(Forwarded {
            via_service,
            source_arn: source_arn.cloned(),
            invoked_by: call.invoked_by.clone(),
            shared_request_id: call.request_id.clone(),
            cause: cause.or_else(|| call.request_id.clone()),
        })
    };
    let by_itself = |principal, source_arn| Caller {
        principal,
        access_key_id: None,
        session_policies: Vec::new(),
        source_ip: None,
        secure_transport: true,
        user_agent: call.invoked_by.clone(),
        forwarded: forwarded(None, source_arn, None),
    };
    match &call.authority {
        Authority::User(CapturedIdentity(text)) => {
            let captured: Captured = serde_json::from_str(text)
                .map_err(|error| unusable(format!("the kept caller is damaged: {error}")))?;
            Ok(Caller {
                principal: captured.principal,
                access_key_id: captured.access_key_id,
                session_policies: captured.session_policies,
                source_ip: captured.source_ip,
                secure_transport: true,
                user_agent: captured.user_agent,
                forwarded: forwarded(Some(ec2), None, captured.request_id),
            })
        }
        Authority::Service(account, resource) => {
            Ok(by_itself(Principal::service(account, &ec2), Some(resource)))
        }
        Authority::Host(account, instance) => {
            Ok(by_itself(identity::host_principal(account, instance), None))
        }
    }
}

/// KMS's answer as storage distinguishes failures.
pub(crate) fn failure(error: &Error, explain_id: Option<&str>) -> KmsFailure {
    let (message, explain_id) = (error.0.message.clone(), explain_id.map(str::to_owned));
    if error.0.spec.fault == Fault::Receiver {
        return KmsFailure::Unavailable { message };
    }
    match error.code() {
        "AccessDeniedException" => KmsFailure::Denied { message, explain_id },
        "NotFoundException" => KmsFailure::NotFound { message, explain_id },
        "DisabledException" | "KMSInvalidStateException" => match problem(&message) {
            Some((key_arn, problem)) => KmsFailure::State { key_arn, problem, message, explain_id },
            None => KmsFailure::Unusable { message, explain_id },
        },
        _ => KmsFailure::Unusable { message, explain_id },
    }
}

/// A failure on the way to KMS or back.
fn unusable(message: String) -> KmsFailure {
    KmsFailure::Unusable { message, explain_id: None }
}

/// Reads `<arn> is disabled.` and its like (spec 20, B.2).
fn problem(message: &str) -> Option<(String, KeyProblem)> {
    let (key_arn, state) = message.split_once(' ')?;
    let problem = match state {
        "is disabled." => KeyProblem::Disabled,
        "is pending import." => KeyProblem::PendingImport,
        "is pending deletion." => KeyProblem::PendingDeletion,
        _ => return None,
    };
    Some((key_arn.to_owned(), problem))
}

pub(crate) fn fields<const N: usize>(members: [(&'static str, Value); N]) -> Fields {
    let mut fields = Fields::default();
    for (name, value) in members {
        fields.push(name, value);
    }
    fields
}

pub(crate) fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

fn context(id: &str) -> Value {
    Value::Map(BTreeMap::from([(CONTEXT_KEY.to_owned(), text(id))]))
}

fn blob(bytes: &[u8]) -> Value {
    Value::Blob(Blob::from(bytes))
}

/// What DescribeKey answers, as far as storage asks.
pub(crate) fn key_facts(mut output: Fields) -> Result<KeyFacts, KmsFailure> {
    let Some(Value::Struct(mut key)) = output.take("KeyMetadata") else {
        return Err(unusable("the reply has no key".to_owned()));
    };
    let spec = take_text(&mut key, "KeySpec")?;
    Ok(KeyFacts {
        arn: take_text(&mut key, "Arn")?,
        state: take_text(&mut key, "KeyState")?,
        symmetric: spec == "SYMMETRIC_DEFAULT",
        aws_managed: take_text(&mut key, "KeyManager")? == "AWS",
    })
}

/// A member that the operation always returns.
fn take_blob(mut output: Fields, member: &str) -> Result<Blob, KmsFailure> {
    match output.take(member) {
        Some(Value::Blob(blob)) => Ok(blob),
        _ => Err(unusable(format!("the reply has no {member}"))),
    }
}

fn take_text(output: &mut Fields, member: &str) -> Result<String, KmsFailure> {
    match output.take(member) {
        Some(Value::String(text)) => Ok(text),
        _ => Err(unusable(format!("the reply has no {member}"))),
    }
}

fn volume_key(plaintext: &[u8]) -> Result<VolumeKey, KmsFailure> {
    let mut key = Secret::new([0u8; 64]);
    if plaintext.len() != key.expose().len() {
        let message = format!("the data key has {} bytes instead of 64", plaintext.len());
        return Err(unusable(message));
    }
    key.expose_mut().copy_from_slice(plaintext);
    Ok(key)
}

/// The operation and input of a probe.
pub(crate) fn probed(probe: Probe<'_>) -> (&'static str, Fields) {
    match probe {
        Probe::DescribeKey { key_arn } => ("DescribeKey", fields([("KeyId", text(key_arn))])),
        Probe::Decrypt(source) => ("Decrypt", decrypt_input(source.ciphertext, source.context_id)),
        Probe::ReEncrypt { source, target_key_arn, target_context_id } => {
            ("ReEncrypt", re_encrypt_input(source, target_key_arn, target_context_id))
        }
        Probe::GenerateDataKey { key_arn, context_id } => {
            ("GenerateDataKey", data_key_input(key_arn, context_id))
        }
        Probe::CreateGrant(grant) => ("CreateGrant", grant_input(&grant)),
    }
}

/// Of GenerateDataKey and its sibling without plaintext, for a volume.
pub(crate) fn data_key_input(key_arn: &str, context_id: &str) -> Fields {
    fields([
        ("KeyId", text(key_arn)),
        ("EncryptionContext", context(context_id)),
        ("NumberOfBytes", Value::Int(VOLUME_KEY_BYTES)),
    ])
}

pub(crate) fn decrypt_input(ciphertext: &[u8], context_id: &str) -> Fields {
    fields([("CiphertextBlob", blob(ciphertext)), ("EncryptionContext", context(context_id))])
}

pub(crate) fn re_encrypt_input(
    source: Wrapped<'_>,
    target_key_arn: &str,
    target_context_id: &str,
) -> Fields {
    fields([
        ("CiphertextBlob", blob(source.ciphertext)),
        ("SourceEncryptionContext", context(source.context_id)),
        ("DestinationKeyId", text(target_key_arn)),
        ("DestinationEncryptionContext", context(target_context_id)),
    ])
}

pub(crate) fn grant_input(grant: &GrantSpec) -> Fields {
    let operation = match grant.operation {
        GrantOperation::Decrypt => "Decrypt",
        GrantOperation::Encrypt => "Encrypt",
    };
    let constraint = match &grant.constraint {
        GrantConstraint::Equals(id) => ("EncryptionContextEquals", context(id)),
        GrantConstraint::Subset(id) => ("EncryptionContextSubset", context(id)),
    };
    let mut input = fields([
        ("KeyId", text(&grant.key_arn)),
        ("GranteePrincipal", text(&grant.grantee)),
        ("RetiringPrincipal", text(&grant.retiring)),
        ("Operations", Value::List(vec![text(operation)])),
        ("Constraints", Value::Struct(fields([constraint]))),
    ]);
    if let Some(name) = &grant.name {
        input.push("Name", text(name));
    }
    input
}

impl KmsPort for FrontDoor {
    fn may<'a>(&'a self, call: KmsCall, probe: Probe<'a>) -> BoxFuture<'a, Result<(), KmsFailure>> {
        Box::pin(async move {
            let (operation, mut input) = probed(probe);
            // DescribeKey only reads and has no dry run.
            if operation != "DescribeKey" {
                input.push("DryRun", Value::Bool(true));
            }
            match self.answer(call, operation, input).await {
                Ok(_) => Ok(()),
                Err(Answer::DryRun) => Ok(()),
                Err(Answer::Failed(failure)) => Err(failure),
            }
        })
    }

    fn describe_key<'a>(
        &'a self,
        call: KmsCall,
        key_id: &'a str,
    ) -> BoxFuture<'a, Result<KeyFacts, KmsFailure>> {
        Box::pin(async move {
            let input = fields([("KeyId", text(key_id))]);
            key_facts(self.run(call, "DescribeKey", input).await?)
        })
    }

    fn generate_data_key<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<(Vec<u8>, VolumeKey), KmsFailure>> {
        Box::pin(async move {
            let input = data_key_input(key_arn, context_id);
            let mut output = self.run(call, "GenerateDataKey", input).await?;
            let Some(Value::Blob(plaintext)) = output.take("Plaintext") else {
                return Err(unusable("the reply has no Plaintext".to_owned()));
            };
            let key = volume_key(&plaintext)?;
            Ok((take_blob(output, "CiphertextBlob")?.to_vec(), key))
        })
    }

    fn generate_data_key_without_plaintext<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>> {
        Box::pin(async move {
            let input = data_key_input(key_arn, context_id);
            let output = self.run(call, "GenerateDataKeyWithoutPlaintext", input).await?;
            take_blob(output, "CiphertextBlob").map(|blob| blob.to_vec())
        })
    }

    fn create_grant(
        &self,
        call: KmsCall,
        grant: GrantSpec,
    ) -> BoxFuture<'_, Result<String, KmsFailure>> {
        Box::pin(async move {
            let input = grant_input(&grant);
            let mut output = self.run(call, "CreateGrant", input).await?;
            take_text(&mut output, "GrantId")
        })
    }

    fn retire_grant<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        grant_id: &'a str,
    ) -> BoxFuture<'a, Result<(), KmsFailure>> {
        Box::pin(async move {
            let input = fields([("KeyId", text(key_arn)), ("GrantId", text(grant_id))]);
            match self.run(call, "RetireGrant", input).await {
                Ok(_) | Err(KmsFailure::NotFound { .. }) => Ok(()),
                Err(failure) => Err(failure),
            }
        })
    }

    fn decrypt<'a>(
        &'a self,
        call: KmsCall,
        wrapped: &'a [u8],
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<VolumeKey, KmsFailure>> {
        Box::pin(async move {
            let input = decrypt_input(wrapped, context_id);
            let output = self.run(call, "Decrypt", input).await?;
            volume_key(&take_blob(output, "Plaintext")?)
        })
    }

    fn encrypt<'a>(
        &'a self,
        call: KmsCall,
        key_arn: &'a str,
        key: &'a VolumeKey,
        context_id: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, KmsFailure>> {
        Box::pin(async move {
            let input = fields([
                ("KeyId", text(key_arn)),
                ("Plaintext", blob(key.expose())),
                ("EncryptionContext", context(context_id)),
            ]);
            let output = self.run(call, "Encrypt", input).await?;
            take_blob(output, "CiphertextBlob").map(|blob| blob.to_vec())
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
            let input = re_encrypt_input(source, target_key_arn, target_context_id);
            let output = self.run(call, "ReEncrypt", input).await?;
            take_blob(output, "CiphertextBlob").map(|blob| blob.to_vec())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_states_are_read_from_kms_sentences() {
        let arn = "arn:aws:kms:us-east-1:111111111111:key/1";
        let read = |state: &str| problem(&format!("{arn} {state}"));
        assert_eq!(read("is disabled."), Some((arn.to_owned(), KeyProblem::Disabled)));
        assert_eq!(read("is pending deletion.").map(|p| p.1), Some(KeyProblem::PendingDeletion));
        assert_eq!(read("is pending import.").map(|p| p.1), Some(KeyProblem::PendingImport));
        assert_eq!(read("is strange."), None);
    }

    #[test]
    fn data_keys_have_one_length() {
        assert!(volume_key(&[7; 64]).is_ok());
        assert!(matches!(volume_key(&[7; 63]), Err(KmsFailure::Unusable { .. })));
    }

    /// As it stands in the payloads of jobs; frozen, but for what it says of the person.
    const KEPT: &str = r#"{"principal":{"account":"111111111111","kind":"Root",
        "arn":"arn:aws:iam::111111111111:root","principal_arn":"arn:aws:iam::111111111111:root",
        "user_id":"111111111111","unique_id":"111111111111","tags":{},"source_identity":null,
        "token_issue_time":null},"access_key_id":null,"session_policies":["{}"],
        "source_ip":"192.0.2.1","user_agent":"test"}"#;

    #[test]
    fn callers_kept_by_earlier_releases_are_read() {
        let kept = Captured {
            principal: Principal::root(&base::AccountId::parse("111111111111").unwrap()),
            access_key_id: None,
            session_policies: vec!["{}".to_owned()],
            source_ip: Some("192.0.2.1".to_owned()),
            user_agent: "test".to_owned(),
            request_id: None,
        };
        assert_eq!(serde_json::from_str::<Captured>(KEPT).unwrap(), kept);
        let since = Captured {
            access_key_id: Some("AKIAIOSFODNN7EXAMPLE".to_owned()),
            request_id: Some("r-1".to_owned()),
            ..kept
        };
        assert_eq!(serde_json::from_str::<Captured>(&kept_since()).unwrap(), since);
    }

    /// As it is written since it names the request; frozen as well.
    fn kept_since() -> String {
        KEPT.replace("\"access_key_id\":null", "\"access_key_id\":\"AKIAIOSFODNN7EXAMPLE\"")
            .replace("\"user_agent\":\"test\"", "\"user_agent\":\"test\",\"request_id\":\"r-1\"")
    }

    fuzz::target!(
        /// The caller that a job keeps.
        kept_callers,
        vec![KEPT.as_bytes().to_vec(), kept_since().into_bytes()],
        |bytes: &[u8]| {
            let Ok(read) = serde_json::from_slice::<Captured>(bytes) else { return };
            let written = serde_json::to_vec(&read).expect("plain data");
            assert_eq!(serde_json::from_slice::<Captured>(&written).expect("just written"), read);
        }
    );
}
