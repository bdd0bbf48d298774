//! Data keys for the EBS direct APIs, from KMS in the caller's name (spec 20, C.3).

use super::code::{Reason, invalid, key_denied};
use super::find::corrupt;
use crate::call::Call;
use crate::error::Error;
use crate::kms_port::capture;
use crate::refusal::Refusal;
use blockstore::page::DataKey;
use ebs::{Snapshot, WrappedKey};
use lifecycle::port::kms::{Authority, KmsCall, KmsFailure, Wrapped};

/// The trail's name for KMS calls of the EBS direct APIs.
const INVOKED_BY: &str = "ebs.amazonaws.com";

/// A call to KMS in the caller's name.
fn by_caller(call: &Call) -> KmsCall {
    KmsCall {
        authority: Authority::User(capture(call)),
        region: call.region.clone(),
        invoked_by: INVOKED_BY.to_owned(),
        request_id: None,
    }
}

/// The data key of a snapshot. Asked for anew every time, so that whoever loses the key's
/// permission loses the blocks at once.
pub(crate) async fn open(call: &Call, snapshot: &Snapshot) -> Result<DataKey, Error> {
    let wrapped = snapshot.data_key.as_ref().ok_or_else(|| corrupt("wrapped_key"))?;
    let services = &call.world.services;
    let key = match &snapshot.kms_key_arn {
        None => services.plain.open(wrapped).map_err(Error::internal)?,
        Some(arn) => {
            let (bytes, context) = (&wrapped.wrapped, &wrapped.context_id);
            let opened = call.kms().decrypt(by_caller(call), bytes, context).await;
            opened.map_err(|failure| refused(arn, &failure))?
        }
    };
    Ok(DataKey::new(&key))
}

/// A new data key for a snapshot that is about to be written, and the key itself.
pub(crate) async fn generate(
    call: &Call,
    kms_key_arn: Option<&str>,
    context_id: &str,
) -> Result<WrappedKey, Error> {
    let services = &call.world.services;
    let Some(arn) = kms_key_arn else {
        return Ok(services.plain.generate(&*call.world.rng, context_id));
    };
    let generated = call.kms().generate_data_key(by_caller(call), arn, context_id).await;
    let (wrapped, _) = generated.map_err(|failure| refused(arn, &failure))?;
    let lineage = WrappedKey::new_lineage(&*call.world.rng);
    Ok(WrappedKey { wrapped, context_id: context_id.to_owned(), lineage })
}

/// The parent's data key, wrapped for its child.
pub(crate) async fn rewrap(
    call: &Call,
    parent: &Snapshot,
    context_id: &str,
) -> Result<WrappedKey, Error> {
    let key = parent.data_key.as_ref().ok_or_else(|| corrupt("wrapped_key"))?;
    let Some(arn) = &parent.kms_key_arn else { return Ok(key.clone()) };
    let wrapped = Wrapped { ciphertext: &key.wrapped, context_id: &key.context_id };
    let answer = call.kms().re_encrypt(by_caller(call), wrapped, arn, context_id).await;
    Ok(key.rewrapped(answer.map_err(|failure| refused(arn, &failure))?, context_id))
}

/// KMS's refusal of a key, in the words of the EBS direct APIs.
pub(crate) fn refused(key_arn: &str, failure: &KmsFailure) -> Error {
    let error = match failure {
        KmsFailure::Denied { message, .. } => key_denied(message.as_str()),
        KmsFailure::State { message, .. }
        | KmsFailure::NotFound { message, .. }
        | KmsFailure::Unusable { message, .. } => {
            invalid(Reason::InvalidCustomerKey, message.as_str())
        }
        KmsFailure::Unavailable { .. } => Error::internal(failure.clone()),
    };
    error.because(Refusal::of_key(key_arn, failure))
}
