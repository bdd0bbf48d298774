//! From a choice of key to a key: names become ARNs, defaults become keys.
//!
//! Whether the caller may use the key is KMS's question and asked later, in the caller's name.

use crate::call::Call;
use crate::error::Error;
use crate::kms_port::capture;
use base::{AccountId, Arn, Region};
use ebs::encryption::KeyChoice;
use kms::managed::EBS_ALIAS;
use lifecycle::port::kms::{Authority, KeyFacts, KmsCall, KmsFailure, Probe};
use meta::Tx;

/// The trail's name for calls EC2's front end makes for a user.
const FRONT_END: &str = "ec2-frontend-api.amazonaws.com";

/// The key a new resource is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyTarget {
    /// None: the service protects it.
    Plain,
    /// This one.
    Arn(String),
    /// The account's `aws/ebs`, which does not exist yet.
    ManagedToBe,
}

/// What the choice is made among.
pub(crate) struct Candidates<'a> {
    /// `KmsKeyId` of the request.
    pub(crate) given: Option<&'a str>,
    /// The source's key.
    pub(crate) source: Option<&'a str>,
    /// The account's default key.
    pub(crate) default: Option<&'a str>,
}

impl KeyTarget {
    /// Resolves a choice, without making anything.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) fn choose(
        tx: &mut Tx<'_>,
        account: &AccountId,
        region: &Region,
        choice: KeyChoice,
        among: &Candidates<'_>,
    ) -> Result<Self, kms::Error> {
        match choice {
            KeyChoice::Plain => Ok(Self::Plain),
            KeyChoice::Given => {
                let given = among.given.expect("the choice is Given only when a key was named");
                named(tx, account, region, given)
            }
            KeyChoice::Source => {
                let source = among.source.expect("the choice is Source only of an encrypted one");
                Ok(Self::Arn(source.to_owned()))
            }
            KeyChoice::AccountDefault => match among.default {
                Some(arn) => Ok(Self::Arn(arn.to_owned())),
                None => named(tx, account, region, EBS_ALIAS),
            },
            KeyChoice::AwsManaged => named(tx, account, region, EBS_ALIAS),
        }
    }

    /// The ARN for conditions: of the key, or of the alias of one that does not exist yet.
    pub(crate) fn condition_arn(&self, account: &AccountId, region: &Region) -> Option<String> {
        match self {
            Self::Plain => None,
            Self::Arn(arn) => Some(arn.clone()),
            Self::ManagedToBe => Some(kms::alias::arn(account, region, EBS_ALIAS).to_string()),
        }
    }

    /// Whether the resource will be encrypted.
    pub(crate) fn is_encrypted(&self) -> bool {
        *self != Self::Plain
    }

    /// The key's ARN; makes `aws/ebs` if this is its first use.
    ///
    /// # Errors
    /// When the database fails.
    pub(crate) async fn obtain(&self, call: &Call) -> Result<Option<String>, Error> {
        match self {
            Self::Plain => Ok(None),
            Self::Arn(arn) => Ok(Some(arn.clone())),
            // A rehearsal makes no key: it goes on with the name the key will have.
            Self::ManagedToBe if call.rehearsal.is_some() => {
                Ok(self.condition_arn(call.account(), &call.region))
            }
            Self::ManagedToBe => {
                let (kms, account) = (call.world.kms.clone(), call.account().clone());
                let region = call.region.clone();
                let made = move |tx: &mut Tx<'_>| kms.ebs_managed_key(tx, &account, &region);
                let key = call.world.db.write(made).await.map_err(Error::internal)?;
                Ok(Some(key.arn().to_string()))
            }
        }
    }
}

/// Looks at a key in the caller's name.
///
/// # Errors
/// As KMS answers.
pub(crate) async fn describe_key(call: &Call, key_id: &str) -> Result<KeyFacts, KmsFailure> {
    call.kms().describe_key(by_caller(call), key_id).await
}

/// Asks whether the caller may use a key in a certain way, without using it.
///
/// # Errors
/// As KMS answers.
pub(crate) async fn may(call: &Call, probe: Probe<'_>) -> Result<(), KmsFailure> {
    call.kms().may(by_caller(call), probe).await
}

fn by_caller(call: &Call) -> KmsCall {
    KmsCall {
        authority: Authority::User(capture(call)),
        region: call.region.clone(),
        invoked_by: FRONT_END.to_owned(),
        request_id: None,
    }
}

/// The key a text names: id, alias, or the ARN of either (spec 20, C.1). A text that names nothing
/// becomes the ARN it would have, and fails when the key is used: asynchronously, as on AWS.
fn named(
    tx: &mut Tx<'_>,
    account: &AccountId,
    region: &Region,
    text: &str,
) -> Result<KeyTarget, kms::Error> {
    let arn = match Arn::parse(text) {
        Some(arn) => arn,
        None if text.starts_with(kms::alias::PREFIX) => kms::alias::arn(account, region, text),
        None => Arn::regional("kms", region, account, &format!("key/{text}")),
    };
    if !arn.resource.starts_with(kms::alias::PREFIX) {
        return Ok(KeyTarget::Arn(arn.to_string()));
    }
    let (Ok(owner), Ok(alias_region)) =
        (AccountId::parse(&arn.account), Region::parse(&arn.region))
    else {
        return Ok(KeyTarget::Arn(arn.to_string()));
    };
    match kms::alias::get(tx, &owner, &alias_region, &arn.resource) {
        Ok(alias) => Ok(match alias.key_id {
            Some(id) => {
                let key = Arn::regional("kms", &alias_region, &owner, &format!("key/{id}"));
                KeyTarget::Arn(key.to_string())
            }
            None if owner == *account && arn.resource == EBS_ALIAS => KeyTarget::ManagedToBe,
            None => KeyTarget::Arn(arn.to_string()),
        }),
        Err(kms::Error::AliasNotFound { .. }) if arn.resource == EBS_ALIAS && owner == *account => {
            Ok(KeyTarget::ManagedToBe)
        }
        Err(kms::Error::AliasNotFound { .. }) => Ok(KeyTarget::Arn(arn.to_string())),
        Err(error) => Err(error),
    }
}
