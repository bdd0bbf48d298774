//! What the operations of KMS share: finding the key with its side of the decision, acting on the key as it is
//! then, pages, and shapes that several replies have.
//!
//! The order inside an operation is fixed, because each step may tell what the next must not: parse, resolve
//! the key, authorize, check its state, check its usage, open the ciphertext (spec 20, B.3).

#[cfg(test)]
#[path = "shared/condition_tests.rs"]
mod condition_tests;
#[path = "shared/grants.rs"]
mod grants;
#[cfg(test)]
#[path = "shared/import_tests.rs"]
pub(crate) mod import_tests;
#[path = "shared/metadata.rs"]
mod metadata;
#[cfg(test)]
#[path = "shared/naming_tests.rs"]
mod naming_tests;
#[path = "shared/opened.rs"]
pub(crate) mod opened;
#[path = "shared/pair.rs"]
pub(crate) mod pair;
#[cfg(test)]
#[path = "shared/policy_tests.rs"]
mod policy_tests;
#[path = "shared/source.rs"]
mod source;
#[cfg(test)]
#[path = "shared/tests.rs"]
mod tests;

pub(crate) use grants::{GrantConstraints, GrantEntry, Named as GrantParty, by_service, trust};
pub(crate) use metadata::KeyMetadata;
pub(crate) use source::{Ciphertext, DryRunModifier, Source};

use crate::pipeline::{Ask, Guard};
use crate::refusal::{Layer, Refusal};
use crate::{Call, Error};
use awsproto::{ErrorSpec, ParameterError, Protocol, Shape, code, string_enum};
use base::Secret;
use kms::cipher::{self, DataKey};
use kms::condition::{Facts, Origin};
use kms::guard::Question;
use kms::key_store::{self, ConnectionState, KeyStore};
use kms::page::{List, Page};
use kms::{Action, Key, Kms, MaterialId, NewMaterial, managed, resolve, spec};
use meta::Tx;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const NOT_FOUND: ErrorSpec = ErrorSpec::sender("NotFoundException", 400);
const INVALID_ARN: ErrorSpec = ErrorSpec::sender("InvalidArnException", 400);
const DISABLED: ErrorSpec = ErrorSpec::sender("DisabledException", 400);
const INVALID_STATE: ErrorSpec = ErrorSpec::sender("KMSInvalidStateException", 400);
const INVALID_CIPHERTEXT: ErrorSpec = ErrorSpec::sender("InvalidCiphertextException", 400);
const INCORRECT_KEY: ErrorSpec = ErrorSpec::sender("IncorrectKeyException", 400);
const INVALID_KEY_USAGE: ErrorSpec = ErrorSpec::sender("InvalidKeyUsageException", 400);
const INVALID_SIGNATURE: ErrorSpec = ErrorSpec::sender("KMSInvalidSignatureException", 400);
const INVALID_MAC: ErrorSpec = ErrorSpec::sender("KMSInvalidMacException", 400);
const UNSUPPORTED: ErrorSpec = ErrorSpec::sender("UnsupportedOperationException", 400);
const MALFORMED_POLICY: ErrorSpec = ErrorSpec::sender("MalformedPolicyDocumentException", 400);
const LIMIT_EXCEEDED: ErrorSpec = ErrorSpec::sender("LimitExceededException", 400);
const INVALID_MARKER: ErrorSpec = ErrorSpec::sender("InvalidMarkerException", 400);
const INVALID_GRANT_TOKEN: ErrorSpec = ErrorSpec::sender("InvalidGrantTokenException", 400);
const INVALID_GRANT_ID: ErrorSpec = ErrorSpec::sender("InvalidGrantIdException", 400);
const ALREADY_EXISTS: ErrorSpec = ErrorSpec::sender("AlreadyExistsException", 400);
const INVALID_ALIAS_NAME: ErrorSpec = ErrorSpec::sender("InvalidAliasNameException", 400);
const TAG: ErrorSpec = ErrorSpec::sender("TagException", 400);
const STORE_NOT_FOUND: ErrorSpec = ErrorSpec::sender("CustomKeyStoreNotFoundException", 400);
const STORE_NAME_IN_USE: ErrorSpec = ErrorSpec::sender("CustomKeyStoreNameInUseException", 400);
const STORE_STATE: ErrorSpec = ErrorSpec::sender("CustomKeyStoreInvalidStateException", 400);
const STORE_HAS_KEYS: ErrorSpec = ErrorSpec::sender("CustomKeyStoreHasCMKsException", 400);
const CLUSTER_NOT_FOUND: ErrorSpec = ErrorSpec::sender("CloudHsmClusterNotFoundException", 400);
const CLUSTER_IN_USE: ErrorSpec = ErrorSpec::sender("CloudHsmClusterInUseException", 400);
const TRUST_ANCHOR: ErrorSpec = ErrorSpec::sender("IncorrectTrustAnchorException", 400);
const KEY_UNAVAILABLE: ErrorSpec = ErrorSpec::receiver("KeyUnavailableException", 500);
const DEPENDENCY_TIMEOUT: ErrorSpec = ErrorSpec::receiver("DependencyTimeoutException", 500);
const INCORRECT_MATERIAL: ErrorSpec = ErrorSpec::sender("IncorrectKeyMaterialException", 400);
const INVALID_IMPORT_TOKEN: ErrorSpec = ErrorSpec::sender("InvalidImportTokenException", 400);
const EXPIRED_IMPORT_TOKEN: ErrorSpec = ErrorSpec::sender("ExpiredImportTokenException", 400);
const CONFLICT: ErrorSpec = ErrorSpec::sender("ConflictException", 400);
const ACCESS_DENIED: ErrorSpec = ErrorSpec::sender("AccessDeniedException", 400);

/// KMS's exceptions: HTTP 400 for whatever the client caused (spec 20, B.1).
impl From<kms::Error> for Error {
    fn from(error: kms::Error) -> Self {
        use kms::Error as E;
        let spec = match &error {
            E::KeyNotFound { .. }
            | E::AliasNotFound { .. }
            | E::InvalidKeyId { .. }
            | E::OtherRegion { .. }
            | E::PolicyNotFound
            | E::GrantNotFound { .. }
            | E::MaterialNotFound { .. } => NOT_FOUND,
            E::InvalidArn { .. } => INVALID_ARN,
            E::Disabled { .. } => DISABLED,
            E::InvalidState { .. } | E::NothingToRotate { .. } | E::PendingRotation { .. } => {
                INVALID_STATE
            }
            E::IncorrectMaterial => INCORRECT_MATERIAL,
            E::InvalidImportToken => INVALID_IMPORT_TOKEN,
            E::ExpiredImportToken => EXPIRED_IMPORT_TOKEN,
            E::Conflict { .. } => CONFLICT,
            E::InvalidCiphertext => INVALID_CIPHERTEXT,
            E::IncorrectKey => INCORRECT_KEY,
            E::InvalidKeyUsage { .. } => INVALID_KEY_USAGE,
            E::InvalidSignature => INVALID_SIGNATURE,
            E::InvalidMac => INVALID_MAC,
            E::Unsupported { .. } => UNSUPPORTED,
            E::MalformedPolicy { .. } => MALFORMED_POLICY,
            E::LimitExceeded { .. } => LIMIT_EXCEEDED,
            E::InvalidMarker => INVALID_MARKER,
            E::InvalidGrantToken => INVALID_GRANT_TOKEN,
            E::InvalidGrantId { .. } => INVALID_GRANT_ID,
            E::AliasExists { .. } | E::ReplicaExists { .. } => ALREADY_EXISTS,
            E::InvalidAliasName { .. } => INVALID_ALIAS_NAME,
            E::Tag { .. } => TAG,
            E::Validation { .. } => code::VALIDATION_EXCEPTION,
            E::AccessDenied { .. } => ACCESS_DENIED,
            E::KeyStoreNotFound { .. } => STORE_NOT_FOUND,
            E::KeyStoreNameInUse { .. } => STORE_NAME_IN_USE,
            E::KeyStoreState { .. } => STORE_STATE,
            E::KeyStoreHasKeys { .. } => STORE_HAS_KEYS,
            E::ClusterNotFound { .. } => CLUSTER_NOT_FOUND,
            E::ClusterInUse { .. } => CLUSTER_IN_USE,
            E::IncorrectTrustAnchor => TRUST_ANCHOR,
            E::KeyStoreAway { id, cause } => {
                tracing::warn!(store = %id, %cause, "a key store is away");
                KEY_UNAVAILABLE
            }
            E::Cryptography { .. }
            | E::MaterialDamaged { .. }
            | E::OnToken(_)
            | E::MaterialOnToken { .. }
            | E::DomainKeyMissing { .. }
            | E::Wrapping
            | E::RowDamaged { .. }
            | E::Store(_) => return Self::internal(error),
        };
        Self::new(spec, error.to_string()).because(refusal(&error))
    }
}

/// The rule behind a refusal of KMS's, where its words leave open what to do.
fn refusal(error: &kms::Error) -> Option<Refusal> {
    use kms::Error as E;
    match error {
        E::Disabled { arn } => Some(Refusal::key_state(arn, "is disabled")),
        E::InvalidState { arn, state } => Some(Refusal::key_state(arn, state)),
        E::KeyStoreState { id, state } => Some(Refusal::new(
            Layer::ResourceState,
            "a custom key store in a state that allows the operation",
            format!("{id} is {state}"),
            "kms:DescribeCustomKeyStores tells its state and the last connection error; \
             kms:ConnectCustomKeyStore connects it, after kms:DisconnectCustomKeyStore where that failed",
        )),
        E::KeyStoreAway { id, .. } => Some(Refusal::new(
            Layer::KeyState,
            "a key whose material can be reached",
            format!("the token of the custom key store {id} does not answer"),
            "who runs the server must bring the token back",
        )),
        _ => None,
    }
}

/// A key and its side of the decision.
pub(crate) struct Target {
    pub(crate) key: Key,
    pub(crate) ask: Ask,
}

/// What a request says about its key.
pub(crate) struct Named<'a> {
    pub(crate) action: Action,
    pub(crate) key_id: &'a str,
    pub(crate) facts: Facts,
}

/// Resolves a key and gathers its side of the decision, both at one moment.
pub(crate) async fn target(call: &Call, named: Named<'_>) -> Result<Target, Error> {
    let Named { action, key_id, facts } = named;
    make_ebs_key_if_named(call, action, key_id).await?;
    let key_id = key_id.to_owned();
    read(call, move |kms, tx, from| {
        let resolved = resolve::resolve(tx, action, &from.caller, &from.region, &key_id)?;
        let ask = from.ask(kms, tx, action, &resolved, &facts)?;
        Ok(Target { key: resolved.key, ask })
    })
    .await
}

/// `alias/aws/ebs` exists as soon as somebody asks for it (spec 20, B.5).
pub(crate) async fn make_ebs_key_if_named(
    call: &Call,
    action: Action,
    key_id: &str,
) -> Result<(), Error> {
    let named = managed::names_ebs_managed_key(key_id, call.account(), &call.region);
    if !named || !action.takes_alias() || call.rehearsal.is_some() {
        return Ok(());
    }
    let key_id = key_id.to_owned();
    let found = read(call, move |_, tx, from| {
        resolve::resolve(tx, action, &from.caller, &from.region, &key_id).map(drop)
    });
    if found.await.is_ok() {
        return Ok(());
    }
    write(call, |kms, tx, from| {
        kms.ebs_managed_key(tx, &from.caller.account, &from.region).map(drop)
    })
    .await
}

/// Who calls, how and where, as transactions take it along.
#[derive(Clone)]
pub(crate) struct Requester {
    pub(crate) caller: iam::Principal,
    pub(crate) via_service: Option<String>,
    source_arn: Option<String>,
    pub(crate) region: base::Region,
    /// Grants a rehearsal has come by.
    assumed: Vec<kms::grant::Grant>,
}

impl Requester {
    pub(crate) fn of(call: &Call) -> Self {
        Self {
            caller: call.caller.principal.clone(),
            via_service: call.caller.via_service().map(str::to_owned),
            source_arn: call.caller.source_arn().map(str::to_owned),
            region: call.region.clone(),
            assumed: call.rehearsal.as_ref().map(|r| r.grants()).unwrap_or_default(),
        }
    }

    pub(crate) fn question<'a>(
        &'a self,
        action: Action,
        resolved: &'a resolve::Resolved,
        facts: &'a Facts,
    ) -> Question<'a> {
        Question {
            action,
            key: &resolved.key,
            request_alias: resolved.request_alias.as_deref(),
            caller: &self.caller,
            via_service: self.via_service.as_deref(),
            source_arn: self.source_arn.as_deref(),
            facts,
            assumed: &self.assumed,
        }
    }

    pub(crate) fn ask(
        &self,
        kms: &Kms,
        tx: &mut Tx<'_>,
        action: Action,
        resolved: &resolve::Resolved,
        facts: &Facts,
    ) -> kms::Result<Ask> {
        kms.guard(tx, &self.question(action, resolved, facts)).map(guarded)
    }
}

/// A key's side of a decision as the pipeline takes it.
pub(crate) fn guarded(guard: kms::guard::Guard) -> Ask {
    let kms::guard::Guard { action, resource, resource_account, layer, grants, missed, context } =
        guard;
    Ask::on(action, &resource, &resource_account).with(context).guarded(Guard::Resource {
        layer,
        grants,
        missed,
    })
}

/// The condition keys of a request that is not about a key.
pub(crate) fn context(call: &Call) -> iam::Context {
    let from = Requester::of(call);
    let origin = Origin { account: call.account(), via_service: from.via_service.as_deref() };
    kms::condition::of_origin(&origin)
}

/// Reads keys at one moment. What every request reads is in memory, and then this runs at once.
pub(crate) async fn read<T: Send + 'static>(
    call: &Call,
    f: impl Fn(&Kms, &mut Tx<'_>, &Requester) -> kms::Result<T> + Send + Sync + 'static,
) -> Result<T, Error> {
    let (f, from) = (Arc::new(f), Arc::new(Requester::of(call)));
    let mut kms = call.world.kms.clone();
    let mut answers = Vec::new();
    loop {
        let (work, service, from) = (Arc::clone(&f), kms.clone(), Arc::clone(&from));
        match call.world.db.read_often(move |tx| work(&service, tx, &from)).await {
            // Asked outside of the transaction, which then runs again and knows the answer. ReEncrypt
            // asks twice.
            Err(kms::Error::OnToken(work)) if answers.len() < TOKEN_CALLS_MAX => {
                answers.push(Arc::new(call.world.places.perform(&kms, *work).await?));
                kms = call.world.kms.knowing(answers.clone());
            }
            done => return Ok(done?),
        }
    }
}

/// Calls that one operation may make to tokens.
const TOKEN_CALLS_MAX: usize = 2;

/// Changes keys.
pub(crate) async fn write<T: Send + 'static>(
    call: &Call,
    f: impl Fn(&Kms, &mut Tx<'_>, &Requester) -> kms::Result<T> + Send + 'static,
) -> Result<T, Error> {
    let (kms, from) = (call.world.kms.clone(), Requester::of(call));
    Ok(call.world.db.write(move |tx| f(&kms, tx, &from)).await?)
}

/// The key as it is now, in a state the action works in and of a kind it is for. The plan's copy may be older than
/// the transaction.
pub(crate) fn usable(tx: &mut Tx<'_>, action: Action, planned: &Key) -> kms::Result<Key> {
    let key = kms::key::get(tx, &planned.account, &planned.region, &planned.id)?;
    let arn = key.arn().to_string();
    action.check_state(&arn, key_store::shown_state(tx, &key)?, key.origin)?;
    action.check_kind(&arn, key.kind)?;
    Ok(key)
}

/// An operation that changes one key and replies with nothing.
pub(crate) async fn change(
    call: &Call,
    action: Action,
    key: Key,
    f: impl Fn(&Kms, &mut Tx<'_>, &Key) -> kms::Result<()> + Send + 'static,
) -> Result<(), Error> {
    write(call, move |kms, tx, _| {
        let key = usable(tx, action, &key)?;
        f(kms, tx, &key)
    })
    .await
}

/// What a dry run finds out beyond permission: whether the key's state and kind allow the operation.
pub(crate) async fn rehearse(call: &Call, action: Action, key: &Key) -> Result<(), Error> {
    let key = key.clone();
    read(call, move |_, tx, _| usable(tx, action, &key).map(drop)).await
}

/// `KeyMaterialId` of a request (botocore: BackingKeyIdType).
pub(crate) fn material_id(text: Option<&str>) -> Result<Option<kms::MaterialId>, Error> {
    let Some(text) = text else { return Ok(None) };
    match kms::MaterialId::parse(text) {
        Some(id) if !text.bytes().any(|byte| byte.is_ascii_uppercase()) => Ok(Some(id)),
        _ => Err(Error::new(
            code::VALIDATION_EXCEPTION,
            format!(
                "1 validation error detected: Value '{text}' at 'keyMaterialId' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: ^[a-f0-9]+$ and have \
                 length 64"
            ),
        )),
    }
}

/// A region that a multi-Region key can go to.
pub(crate) fn served_region(call: &Call, member: &str, text: &str) -> Result<base::Region, Error> {
    let region = base::Region::parse(text).map_err(|_| {
        Error::new(
            code::VALIDATION_EXCEPTION,
            format!(
                "1 validation error detected: Value '{text}' at '{member}' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: ^([a-z]+-){{2,3}}\\d+$"
            ),
        )
    })?;
    if call.world.regions.contains(&region) {
        return Ok(region);
    }
    let message = format!("Region {region} is not served here.");
    Err(kms::Error::Unsupported { message }.into())
}

/// The condition keys of making a key.
pub(crate) fn new_key_context(call: &Call, new: &kms::condition::Creation<'_>) -> iam::Context {
    let from = Requester::of(call);
    let origin = Origin { account: call.account(), via_service: from.via_service.as_deref() };
    kms::condition::of_new_key(&origin, new)
}

string_enum! {
    /// `EncryptionAlgorithm`.
    pub(crate) enum EncryptionAlgorithm {
        /// AES-256-GCM under a derived key.
        SymmetricDefault = "SYMMETRIC_DEFAULT",
        /// For RSA keys.
        RsaesOaepSha1 = "RSAES_OAEP_SHA_1",
        /// For RSA keys.
        RsaesOaepSha256 = "RSAES_OAEP_SHA_256",
        /// For SM2 keys.
        Sm2pke = "SM2PKE",
    }
}

string_enum! {
    /// `KeySpec` of a data key.
    pub(crate) enum DataKeySpec {
        /// 32 bytes.
        Aes256 = "AES_256",
        /// 16 bytes.
        Aes128 = "AES_128",
    }
}

impl EncryptionAlgorithm {
    /// The algorithm, the symmetric one when none is given; what this server does not have is refused by name.
    pub(crate) fn or_default(given: Option<Self>) -> Result<spec::EncryptionAlgorithm, Error> {
        let name = given.unwrap_or(Self::SymmetricDefault).as_str();
        spec::EncryptionAlgorithm::parse(name)
            .ok_or_else(|| opened::refused("EncryptionAlgorithm", name))
    }
}

/// Whether the message of a request has a length that KMS takes.
pub(crate) fn message_bytes(message: &[u8]) -> Result<(), Error> {
    Ok(cipher::check_length("message", message.len(), kms::PLAINTEXT_BYTES_MAX)?)
}

/// A list of a reply: absent when there is nothing in it.
pub(crate) fn words<T: Copy>(
    values: &[T],
    word: impl Fn(T) -> &'static str,
) -> Option<Vec<&'static str>> {
    (!values.is_empty()).then(|| values.iter().map(|value| word(*value)).collect())
}

/// A member that the model lets be absent beside another which this request does not have.
pub(crate) fn needed<T>(member: &'static str, value: Option<T>) -> Result<T, Error> {
    Ok(value.ok_or_else(|| ParameterError::missing(member).into_error(Protocol::AwsJson11))?)
}

/// What GenerateDataKey and GenerateDataKeyWithoutPlaintext are asked for.
pub(crate) struct DataKeyRequest {
    pub(crate) key_id: String,
    pub(crate) encryption_context: BTreeMap<String, String>,
    pub(crate) number_of_bytes: Option<i32>,
    pub(crate) key_spec: Option<DataKeySpec>,
    pub(crate) grant_tokens: Vec<String>,
}

/// The same, checked and resolved.
pub(crate) struct DataKeyPlan {
    pub(crate) target: Target,
    context: kms::EncryptionContext,
    bytes: usize,
}

impl DataKeyPlan {
    pub(crate) async fn new(
        call: &Call,
        action: Action,
        request: DataKeyRequest,
    ) -> Result<Self, Error> {
        let spec = request.key_spec.map(DataKeySpec::as_str);
        let bytes = cipher::check_data_key_length(spec, request.number_of_bytes.map(i64::from))?;
        call.world.kms.check_grant_tokens(&request.grant_tokens)?;
        let context = encryption_context(request.encryption_context)?;
        let facts = Facts::Crypto {
            context: context.clone(),
            algorithm: spec::EncryptionAlgorithm::SymmetricDefault,
        };
        let target = target(call, Named { action, key_id: &request.key_id, facts }).await?;
        Ok(Self { target, context, bytes })
    }

    /// The key's ARN and the new data key.
    pub(crate) async fn generate(
        self,
        call: &Call,
        action: Action,
    ) -> Result<(String, DataKey), Error> {
        let Self { target, context, bytes } = self;
        let arn = target.key.arn().to_string();
        let made = read(call, move |kms, tx, _| {
            let key = usable(tx, action, &target.key)?;
            kms.generate_data_key(tx, &key, &context, bytes)
        })
        .await?;
        call.notes.add("keyMaterialId", made.material_id.to_string());
        Ok((arn, made))
    }
}

/// The pairs of a request as an encryption context.
pub(crate) fn encryption_context(
    pairs: BTreeMap<String, String>,
) -> Result<kms::EncryptionContext, Error> {
    Ok(kms::EncryptionContext::new(pairs).map_err(kms::Error::from)?)
}

/// `Limit` and `Marker`.
pub(crate) struct Paging {
    pub(crate) list: List,
    pub(crate) limit: u32,
    pub(crate) after: String,
}

/// What lists take for `Limit`: the model allows up to 1,000 everywhere; a list with a lower maximum gives smaller
/// pages and says that there is more.
pub(crate) struct Limits {
    pub(crate) default: u32,
    pub(crate) max: u32,
}

/// Largest `Limit` (botocore: LimitType).
const LIMIT_MAX: i32 = 1000;

/// Whether a `Limit` is one.
pub(crate) fn check_limit(limit: Option<i32>) -> Result<Option<u32>, Error> {
    match limit {
        None => Ok(None),
        Some(limit @ 1..=LIMIT_MAX) => Ok(Some(limit.unsigned_abs())),
        Some(other) => Err(Error::new(
            code::VALIDATION_EXCEPTION,
            format!(
                "1 validation error detected: Value '{other}' at 'limit' failed to satisfy constraint: \
                 Member must have value between 1 and {LIMIT_MAX}"
            ),
        )),
    }
}

impl Paging {
    pub(crate) fn new(
        list: List,
        limits: Limits,
        limit: Option<i32>,
        marker: Option<&str>,
    ) -> Result<Self, Error> {
        let limit = check_limit(limit)?.map_or(limits.default, |limit| limit.min(limits.max));
        Ok(Self { list, limit, after: list.after(marker)? })
    }

    /// Rows to read: one more than shown tells whether there are more.
    pub(crate) fn rows(&self) -> u32 {
        self.limit + 1
    }

    pub(crate) fn page<T>(&self, rows: Vec<T>, name: impl Fn(&T) -> &str) -> Page<T> {
        Page::cut(rows, self.limit, self.list, name)
    }
}

/// A tag as requests and replies write it.
#[derive(Shape)]
pub(crate) struct Tag {
    pub(crate) tag_key: String,
    pub(crate) tag_value: String,
}

pub(crate) fn tags(tags: Vec<Tag>) -> Vec<kms::tag::Tag> {
    let tag = |Tag { tag_key, tag_value }| kms::tag::Tag { key: tag_key, value: tag_value };
    tags.into_iter().map(tag).collect()
}

/// Makes key material on a store's token, before the key's record: a record without material would be
/// worse than material without a record.
pub(crate) async fn make_in_store(call: &Call, id: &str) -> Result<(NewMaterial, KeyStore), Error> {
    let id = id.to_owned();
    let store = connected_store(call, id).await?;
    let id = MaterialId::generate(&*call.world.rng);
    let (kms, of) = (call.world.kms.clone(), store.clone());
    let label = key_store::work::label(id);
    let made = call.world.places.run(&store.id, move || kms.make_on_token(&of, &label));
    made.await.map_err(without_key)?;
    Ok((NewMaterial::on_token(id), store))
}

/// A token that does not answer, in an operation that is about no key: it lists no `KeyUnavailableException`.
fn without_key(error: kms::Error) -> Error {
    let error = Error::from(error);
    match error.code() == KEY_UNAVAILABLE.code {
        true => awsproto::Error { spec: DEPENDENCY_TIMEOUT, ..error.0 }.into(),
        false => error,
    }
}

/// A store of the caller's that is connected.
async fn connected_store(call: &Call, id: String) -> Result<KeyStore, Error> {
    read(call, move |_, tx, from| {
        let store = key_store::get(tx, &from.caller.account, &from.region, &id)?;
        match store.state {
            ConnectionState::Connected => Ok(store),
            state => Err(kms::Error::KeyStoreState { id: store.id, state: state.as_str() }),
        }
    })
    .await
}

/// Random bytes made by the token of a store.
pub(crate) async fn random_in_store(
    call: &Call,
    id: String,
    bytes: usize,
) -> Result<Secret<Vec<u8>>, Error> {
    let store = connected_store(call, id).await?;
    let (kms, of) = (call.world.kms.clone(), store.clone());
    let random = move || {
        let mut random = Secret::new(vec![0; bytes]);
        kms.random_on_token(&of, random.expose_mut()).map(|()| random)
    };
    call.world.places.run(&store.id, random).await.map_err(without_key)
}

/// Destroys on a token what was made for a key that could not be made.
pub(crate) async fn unmake_in_store(call: &Call, store: &KeyStore, material: &NewMaterial) {
    let (kms, id, store) = (call.world.kms.clone(), store.id.clone(), store.clone());
    let Some(label) = material.id().map(key_store::work::label) else { return };
    let what = label.clone();
    let done = call.world.places.run(&id, move || kms.destroy_on_token(&store, &what)).await;
    if let Err(error) = done {
        tracing::warn!(store = id, label, %error, "material of no key is left on a token");
    }
}

/// A reply without members.
#[derive(Shape)]
#[shape(output)]
pub(crate) struct Empty {}
