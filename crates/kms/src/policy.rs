//! Key policies: what may be saved, and who may still change it afterwards (spec 20, A.4 and B.4).

use crate::error::{Error, Result};
use crate::key::{Key, KeyFacts, LockoutCheck, PolicyWriter};
use crate::service::{Directory, Kms};
use base::{AccountId, Arn};
use iam::{
    AttachedPolicy, Bindings, Layer, Layers, Policy, PolicyError, PolicyKind, Request,
    ResourceLayer, StatementPrincipal,
};
use meta::{Tx, params};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// The only name a key policy can have.
pub const POLICY_NAME: &str = "default";
/// Longest key policy, in bytes. The API's model allows more, the service does not (spec 20, B.4).
pub const POLICY_BYTES_MAX: usize = 32_768;

const INVALID_PRINCIPALS: &str = "Policy contains a statement with one or more invalid principals.";
const LOCKOUT: &str =
    "The new key policy will not allow you to update the key policy in the future.";

/// The policy of a key that was made without one: the account decides through its own policies.
pub fn default_policy(account: &AccountId) -> String {
    format!(
        r#"{{
  "Version": "2012-10-17",
  "Id": "key-default-1",
  "Statement": [
    {{
      "Sid": "Enable IAM User Permissions",
      "Effect": "Allow",
      "Principal": {{ "AWS": "arn:aws:iam::{account}:root" }},
      "Action": "kms:*",
      "Resource": "*"
    }}
  ]
}}"#
    )
}

/// Whether a `PolicyName` is the one there is.
///
/// # Errors
/// [`Error::PolicyNotFound`]; [`Error::Validation`] for the name another service owns.
pub fn check_name(name: Option<&str>) -> Result<()> {
    match name {
        None | Some(POLICY_NAME) => Ok(()),
        Some("AWS_RAM") => {
            Err(Error::validation("The AWS_RAM policy can only be managed by the RAM service."))
        }
        Some(_) => Err(Error::PolicyNotFound),
    }
}

/// Checks a policy that is to be saved, and finds out whom its principals mean.
pub(crate) fn accept(
    tx: &mut Tx<'_>,
    directory: &dyn Directory,
    text: &str,
    key: &Arn,
    writer: &PolicyWriter<'_>,
) -> Result<Bindings> {
    let policy = parse(text)?;
    let bindings = resolve_principals(tx, directory, &policy)?;
    if writer.lockout == LockoutCheck::Required {
        check_lockout(policy.bind(&bindings), key, writer)?;
    }
    Ok(bindings)
}

fn parse(text: &str) -> Result<Policy> {
    let legal = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{ff}');
    if text.is_empty() || !text.chars().all(legal) {
        return Err(Error::validation(
            "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: [\\u0009\\u000A\\u000D\\u0020-\\u00FF]+",
        ));
    }
    if text.len() > POLICY_BYTES_MAX {
        return Err(Error::LimitExceeded {
            message: format!("A key policy may have at most {POLICY_BYTES_MAX} bytes."),
        });
    }
    Policy::parse(text, PolicyKind::KeyPolicy).map_err(|error| match error {
        PolicyError::OverlyPermissiveCondition { .. } => {
            Error::MalformedPolicy { message: format!("OverlyPermissiveCondition: {error}") }
        }
        // One that has no legal form is told as one that nobody is.
        PolicyError::InvalidPrincipal { .. } => {
            Error::MalformedPolicy { message: INVALID_PRINCIPALS.to_owned() }
        }
        PolicyError::TooLong { .. } | PolicyError::Syntax(_) | PolicyError::Malformed { .. } => {
            Error::MalformedPolicy { message: error.to_string() }
        }
    })
}

fn resolve_principals(
    tx: &mut Tx<'_>,
    directory: &dyn Directory,
    policy: &Policy,
) -> Result<Bindings> {
    let mut bindings = Bindings::default();
    for principal in policy.principals() {
        let exists = match principal {
            StatementPrincipal::Anyone
            | StatementPrincipal::Service(_)
            | StatementPrincipal::Federated(_) => true,
            StatementPrincipal::Account(account) => directory.account_exists(tx, account)?,
            StatementPrincipal::Session(arn) => {
                match Arn::parse(arn).and_then(|arn| AccountId::parse(&arn.account).ok()) {
                    Some(account) => directory.account_exists(tx, &account)?,
                    None => false,
                }
            }
            StatementPrincipal::UniqueId(id) => directory.arn_of(tx, id)?.is_some(),
            StatementPrincipal::Entity { arn, .. } => match directory.unique_id(tx, arn)? {
                Some(id) => {
                    bindings.0.insert(arn.clone(), id);
                    true
                }
                None => false,
            },
        };
        if !exists {
            return Err(Error::MalformedPolicy { message: INVALID_PRINCIPALS.to_owned() });
        }
    }
    Ok(bindings)
}

static ALLOW_ALL: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let text =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}"#;
    Arc::new(Policy::parse(text, PolicyKind::Identity).expect("the text is a policy"))
});

/// The writer must be able to call PutKeyPolicy under the new policy, by being named in it or by its account
/// being named and its own policies allowing it; the latter are taken to.
fn check_lockout(policy: Policy, key: &Arn, writer: &PolicyWriter<'_>) -> Result<()> {
    let layers = Layers {
        identity: vec![AttachedPolicy {
            layer: Layer::Identity,
            name_or_arn: "lockout-check".to_owned(),
            policy: Arc::clone(&ALLOW_ALL),
        }],
        resource: Some(ResourceLayer {
            policy: Arc::new(policy),
            name: POLICY_NAME.to_owned(),
            mandatory: true,
        }),
        ..Layers::default()
    };
    let account = &writer.principal.account;
    let request = Request {
        principal: writer.principal,
        action: "kms:PutKeyPolicy",
        resource: &key.to_string(),
        resource_account: Some(account),
        context: writer.context,
    };
    if iam::evaluate(&request, &layers).allowed {
        Ok(())
    } else {
        Err(Error::MalformedPolicy { message: LOCKOUT.to_owned() })
    }
}

/// Key policies ready to be evaluated, by their text and what its principals meant. A policy that was changed
/// has another text or other bindings, so nothing here can be stale.
#[derive(Default)]
pub(crate) struct Parsed(Mutex<ByText>);

type ByText = HashMap<String, Vec<(Bindings, Arc<Policy>)>>;

/// Policies kept parsed; when there are more, all are forgotten.
const PARSED_MAX: usize = 4096;

impl Parsed {
    fn get(&self, key: &Key) -> Result<Arc<Policy>> {
        let lock = || self.0.lock().expect("no code panics while it holds the policies");
        let known = |parsed: &ByText| {
            let same = parsed.get(&key.policy)?;
            let found = same.iter().find(|(bindings, _)| *bindings == key.bindings);
            found.map(|(_, policy)| Arc::clone(policy))
        };
        if let Some(policy) = known(&lock()) {
            return Ok(policy);
        }
        let damaged = || Error::RowDamaged { arn: key.arn().to_string(), what: "policy" };
        let policy = Policy::parse(&key.policy, PolicyKind::KeyPolicy).map_err(|_| damaged())?;
        let policy = Arc::new(policy.bind(&key.bindings));
        let mut parsed = lock();
        if parsed.values().map(Vec::len).sum::<usize>() >= PARSED_MAX {
            parsed.clear();
        }
        let same = parsed.entry(key.policy.clone()).or_default();
        same.push((key.bindings.clone(), Arc::clone(&policy)));
        Ok(policy)
    }
}

impl Kms {
    /// The key's policy, ready to be evaluated.
    pub(crate) fn policy_of(&self, key: &Key) -> Result<Arc<Policy>> {
        self.parsed_policies().get(key)
    }

    /// PutKeyPolicy.
    ///
    /// # Errors
    /// A policy that cannot be saved, or that locks its writer out.
    pub fn put_policy(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        text: &str,
        writer: &PolicyWriter<'_>,
    ) -> Result<()> {
        let bindings = accept(tx, self.directory(), text, key.arn(), writer)?;
        let bindings = serde_json::to_string(&bindings).expect("a map of texts serializes");
        tx.execute(
            "UPDATE kms_keys SET policy = $1, bindings = $2 \
             WHERE account_id = $3 AND region = $4 AND key_id = $5",
            params![text, bindings, &key.account, &key.region, &key.id],
        )?;
        Ok(())
    }

    /// The key as it would be under another policy; nothing is saved.
    ///
    /// # Errors
    /// A policy that could not be saved.
    pub fn with_policy(&self, tx: &mut Tx<'_>, key: &Key, text: &str) -> Result<Key> {
        let bindings = resolve_principals(tx, self.directory(), &parse(text)?)?;
        Ok(Key::from(KeyFacts { policy: text.to_owned(), bindings, ..KeyFacts::clone(key) }))
    }

    /// GetKeyPolicy: principals that were deleted since appear as their unique ids.
    ///
    /// # Errors
    /// As the database answers.
    pub fn shown_policy(&self, tx: &mut Tx<'_>, key: &Key) -> Result<String> {
        let mut deleted = Bindings::default();
        for (arn, id) in &key.bindings.0 {
            if self.directory().unique_id(tx, arn)?.as_ref() != Some(id) {
                deleted.0.insert(arn.clone(), id.clone());
            }
        }
        let damaged = |_| Error::RowDamaged { arn: key.arn().to_string(), what: "policy" };
        iam::render(&key.policy, &deleted).map_err(damaged)
    }
}
