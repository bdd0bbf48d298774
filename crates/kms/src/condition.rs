//! The `kms:` condition keys of a request (spec 20, A.7). Those of the caller and of the connection are the
//! evaluator's and the front door's.

use crate::context::EncryptionContext;
use crate::error::Result;
use crate::grant::{Constraints, NewGrant};
use crate::import::wrapping::{WrappingAlgorithm, WrappingKeySpec};
use crate::key::{Key, LockoutCheck};
use crate::multi_region::MultiRegionRole;
use crate::origin::KeyOrigin;
use crate::spec::{
    EncryptionAlgorithm, KeyAgreementAlgorithm, KeySpec, Kind, MacAlgorithm, MessageType,
    SigningAlgorithm,
};
use crate::{alias, import, tag};
use base::{AccountId, Region, Timestamp};
use iam::Context;
use meta::Tx;
use std::collections::BTreeMap;

/// How a request reached KMS.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The caller's account.
    pub account: &'a AccountId,
    /// `ec2.us-east-1.amazonaws.com` when a service speaks for the caller; `None` on direct calls and when a
    /// service acts by itself.
    pub via_service: Option<&'a str>,
}

/// What only some operations have.
#[derive(Clone, Debug)]
pub enum Facts {
    /// Nothing beyond the key.
    None,
    /// Encrypt, Decrypt, GenerateDataKey and GenerateDataKeyWithoutPlaintext.
    Crypto {
        /// The request's encryption context.
        context: EncryptionContext,
        /// The algorithm asked for.
        algorithm: EncryptionAlgorithm,
    },
    /// One side of ReEncrypt.
    ReEncrypt {
        /// The context of this side.
        context: EncryptionContext,
        /// Whether both sides are the same key.
        same_key: bool,
        /// The algorithm of this side.
        algorithm: EncryptionAlgorithm,
    },
    /// GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext.
    KeyPair {
        /// The request's encryption context.
        context: EncryptionContext,
        /// What pair.
        spec: KeySpec,
    },
    /// Sign and Verify.
    Sign {
        /// The algorithm asked for.
        algorithm: SigningAlgorithm,
        /// What kind of message.
        message_type: MessageType,
    },
    /// GenerateMac and VerifyMac, with their algorithm.
    Mac(MacAlgorithm),
    /// DeriveSharedSecret, with its algorithm.
    Agree(KeyAgreementAlgorithm),
    /// CreateGrant.
    CreateGrant(NewGrant),
    /// RetireGrant, with the constraints of the grant.
    RetireGrant(Constraints),
    /// ListGrants and RevokeGrant.
    Grants,
    /// PutKeyPolicy.
    PutKeyPolicy(LockoutCheck),
    /// ScheduleKeyDeletion, with its window.
    ScheduleDeletion {
        /// `PendingWindowInDays`.
        days: u32,
    },
    /// GetParametersForImport.
    GetParameters {
        /// `WrappingAlgorithm`.
        algorithm: WrappingAlgorithm,
        /// `WrappingKeySpec`.
        key_spec: WrappingKeySpec,
    },
    /// ImportKeyMaterial.
    Import {
        /// When the material expires, if it does.
        expires: Option<Timestamp>,
    },
    /// EnableKeyRotation.
    EnableRotation {
        /// `RotationPeriodInDays`, or what stands for it.
        days: u32,
    },
    /// ReplicateKey.
    Replicate {
        /// `ReplicaRegion`.
        region: Region,
    },
    /// UpdatePrimaryRegion, at either key.
    UpdatePrimary {
        /// `PrimaryRegion`.
        region: Region,
    },
    /// TagResource.
    Tag(Vec<tag::Tag>),
    /// UntagResource.
    Untag(Vec<String>),
}

/// Keys of every request: on an alias, on no resource.
pub fn of_origin(origin: &Origin<'_>) -> Context {
    let mut context = Context::new();
    context.set("kms:CallerAccount", origin.account.as_str());
    context.set_opt("kms:ViaService", origin.via_service);
    context
}

/// A key that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Creation<'a> {
    /// What it is.
    pub kind: Kind,
    /// Where its material comes from.
    pub origin: KeyOrigin,
    /// Its part in a family; `None` for a key of one region.
    pub multi_region: Option<MultiRegionRole>,
    /// Whether its policy may lock out who writes it.
    pub lockout: LockoutCheck,
    /// Its tags.
    pub tags: &'a [tag::Tag],
}

/// Keys of making a key.
pub fn of_new_key(origin: &Origin<'_>, new: &Creation<'_>) -> Context {
    let mut context = of_origin(origin);
    set_kind(&mut context, new.kind, new.origin, new.multi_region);
    context.set_flag("kms:BypassPolicyLockoutSafetyCheck", new.lockout == LockoutCheck::Bypassed);
    set_request_tags(&mut context, new.tags);
    context
}

/// Keys of a request on a key.
pub(crate) fn of_key(
    tx: &mut Tx<'_>,
    origin: &Origin<'_>,
    key: &Key,
    request_alias: Option<&str>,
    facts: &Facts,
) -> Result<Context> {
    let mut context = of_origin(origin);
    set_kind(&mut context, key.kind, key.origin, key.multi_region);
    context.set_opt("kms:RequestAlias", request_alias);
    let limit = u32::try_from(alias::ALIASES_PER_KEY_MAX).expect("a small constant");
    let aliases = alias::of_key(tx, key, "", limit)?;
    if !aliases.is_empty() {
        context.set_multi("kms:ResourceAliases", aliases.into_iter().map(|alias| alias.name));
    }
    for (name, value) in tag::all(tx, key)? {
        context.set(format!("aws:ResourceTag/{name}"), value);
    }
    set_facts(&mut context, origin, facts);
    Ok(context)
}

fn set_kind(
    context: &mut Context,
    kind: Kind,
    origin: KeyOrigin,
    multi_region: Option<MultiRegionRole>,
) {
    let (spec, usage) = (kind.spec().as_str(), kind.usage().as_str());
    context.set_word("kms:KeySpec", spec).set_word("kms:CustomerMasterKeySpec", spec);
    context.set_word("kms:KeyUsage", usage).set_word("kms:CustomerMasterKeyUsage", usage);
    context.set_word("kms:KeyOrigin", origin.as_str());
    context.set_flag("kms:MultiRegion", multi_region.is_some());
    context.set_opt("kms:MultiRegionKeyType", multi_region.map(MultiRegionRole::as_str));
}

fn set_facts(context: &mut Context, origin: &Origin<'_>, facts: &Facts) {
    let for_aws_resource = origin.via_service.is_some();
    match facts {
        Facts::None => {}
        Facts::Crypto { context: pairs, algorithm } => {
            context.set_word("kms:EncryptionAlgorithm", algorithm.as_str());
            set_encryption_context(context, pairs.pairs());
        }
        Facts::KeyPair { context: pairs, spec } => {
            // What encrypts the private half.
            let algorithm = EncryptionAlgorithm::SymmetricDefault;
            context.set_word("kms:EncryptionAlgorithm", algorithm.as_str());
            context.set_word("kms:DataKeyPairSpec", spec.as_str());
            set_encryption_context(context, pairs.pairs());
        }
        Facts::Sign { algorithm, message_type } => {
            context.set_word("kms:SigningAlgorithm", algorithm.as_str());
            context.set_word("kms:MessageType", message_type.as_str());
        }
        Facts::Mac(algorithm) => {
            context.set_word("kms:MacAlgorithm", algorithm.as_str());
        }
        Facts::Agree(algorithm) => {
            context.set_word("kms:KeyAgreementAlgorithm", algorithm.as_str());
        }
        Facts::ReEncrypt { context: pairs, same_key, algorithm } => {
            context.set_word("kms:EncryptionAlgorithm", algorithm.as_str());
            context.set_flag("kms:ReEncryptOnSameKey", *same_key);
            set_encryption_context(context, pairs.pairs());
        }
        Facts::CreateGrant(grant) => {
            context.set_flag("kms:GrantIsForAWSResource", for_aws_resource);
            set_grant(context, grant);
        }
        Facts::RetireGrant(constraints) => set_constraints(context, constraints),
        Facts::Grants => {
            context.set_flag("kms:GrantIsForAWSResource", for_aws_resource);
        }
        Facts::PutKeyPolicy(lockout) => {
            let bypassed = *lockout == LockoutCheck::Bypassed;
            context.set_flag("kms:BypassPolicyLockoutSafetyCheck", bypassed);
        }
        Facts::ScheduleDeletion { days } => {
            context.set("kms:ScheduleKeyDeletionPendingWindowInDays", days.to_string());
        }
        Facts::GetParameters { algorithm, key_spec } => {
            context.set_word("kms:WrappingAlgorithm", algorithm.as_str());
            context.set_word("kms:WrappingKeySpec", key_spec.as_str());
        }
        Facts::Import { expires } => {
            context.set("kms:ExpirationModel", import::model(*expires));
            context.set_opt("kms:ValidTo", expires.map(|at| at.iso_millis()));
        }
        Facts::EnableRotation { days } => {
            context.set("kms:RotationPeriodInDays", days.to_string());
        }
        Facts::Replicate { region } => {
            context.set("kms:ReplicaRegion", region.as_str());
        }
        Facts::UpdatePrimary { region } => {
            context.set("kms:PrimaryRegion", region.as_str());
        }
        Facts::Tag(tags) => set_request_tags(context, tags),
        Facts::Untag(names) => {
            context.set_multi("aws:TagKeys", names.iter().cloned());
        }
    }
}

fn set_grant(context: &mut Context, grant: &NewGrant) {
    let operations = grant.operations.iter().map(|o| o.as_str().to_owned());
    context.set_multi("kms:GrantOperations", operations);
    let key = match grant.grantee.is_service_principal() {
        true => "kms:GranteeServicePrincipal",
        false => "kms:GranteePrincipal",
    };
    context.set(key, grant.grantee.shown.as_str());
    if let Some(party) = &grant.retiring {
        let key = match party.is_service_principal() {
            true => "kms:RetiringServicePrincipal",
            false => "kms:RetiringPrincipal",
        };
        context.set(key, party.shown.as_str());
    }
    context.set_opt("kms:GrantConstraintSourceArn", grant.constraints.source_arn.as_deref());
    set_constraints(context, &grant.constraints);
}

fn set_constraints(context: &mut Context, constraints: &Constraints) {
    context.set_opt("kms:GrantConstraintType", constraints.kind());
    let pairs = constraints.equals.iter().chain(&constraints.subset).flatten();
    let pairs = pairs.map(|(key, value)| (key.clone(), value.clone())).collect();
    set_encryption_context(context, &pairs);
}

fn set_encryption_context(context: &mut Context, pairs: &BTreeMap<String, String>) {
    if pairs.is_empty() {
        return;
    }
    for (key, value) in pairs {
        context.set(format!("kms:EncryptionContext:{key}"), value.as_str());
    }
    context.set_multi("kms:EncryptionContextKeys", pairs.keys().cloned());
}

fn set_request_tags(context: &mut Context, tags: &[tag::Tag]) {
    if tags.is_empty() {
        return;
    }
    for tag::Tag { key, value } in tags {
        context.set(format!("aws:RequestTag/{key}"), value.as_str());
    }
    context.set_multi("aws:TagKeys", tags.iter().map(|tag| tag.key.clone()));
}
