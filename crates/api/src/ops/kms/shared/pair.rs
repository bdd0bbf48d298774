//! What GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext share.

use super::opened::DataKeyPairSpec;
use super::{Named, Target, encryption_context, read, target, usable};
use crate::{Call, Error};
use kms::cipher::{self, DataKeyPair};
use kms::condition::Facts;
use kms::spec::KeySpec;
use kms::{Action, EncryptionContext};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is asked for.
pub(crate) struct PairRequest {
    pub(crate) action: Action,
    pub(crate) key_id: String,
    pub(crate) encryption_context: BTreeMap<String, String>,
    pub(crate) key_pair_spec: DataKeyPairSpec,
    pub(crate) grant_tokens: Vec<String>,
}

/// The same, checked and resolved.
pub(crate) struct PairPlan {
    pub(crate) target: Target,
    action: Action,
    context: EncryptionContext,
    spec: KeySpec,
}

/// A new pair.
pub(crate) struct Made {
    pub(crate) key_id: String,
    pub(crate) spec: KeySpec,
    /// Wiped when the last holder goes, which may be the transaction.
    pub(crate) pair: Arc<DataKeyPair>,
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) material_id: String,
}

impl PairPlan {
    pub(crate) async fn new(call: &Call, request: PairRequest) -> Result<Self, Error> {
        let PairRequest { action, key_id, encryption_context: pairs, .. } = request;
        let spec = cipher::check_data_key_pair(request.key_pair_spec.as_str())?;
        call.world.kms.check_grant_tokens(&request.grant_tokens)?;
        let context = encryption_context(pairs)?;
        let facts = Facts::KeyPair { context: context.clone(), spec };
        let target = target(call, Named { action, key_id: &key_id, facts }).await?;
        Ok(Self { target, action, context, spec })
    }

    pub(crate) async fn rehearse(&self, call: &Call) -> Result<(), Error> {
        super::rehearse(call, self.action, &self.target.key).await
    }

    /// Makes the pair between two looks at the key: no transaction waits for it, and a key that was disabled
    /// meanwhile encrypts nothing.
    pub(crate) async fn generate(self, call: &Call) -> Result<Made, Error> {
        self.rehearse(call).await?;
        let Self { target, action, context, spec } = self;
        let key_id = target.key.arn().to_string();
        let pair = Arc::new(call.world.forge.pair(spec).await?);
        let sealed = Arc::clone(&pair);
        let (ciphertext, material_id) = read(call, move |kms, tx, _| {
            let key = usable(tx, action, &target.key)?;
            let ciphertext = kms.seal_data_key_pair(tx, &key, &context, &sealed)?;
            Ok((ciphertext, key.material_id.to_string()))
        })
        .await?;
        call.notes.add("keyMaterialId", material_id.as_str());
        Ok(Made { key_id, spec, pair, ciphertext, material_id })
    }
}
