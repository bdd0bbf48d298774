//! Grants: permissions on one key, handed to one principal, without touching the key policy (spec 20, B.6).

mod party;
mod rows;
mod token;

pub use party::{Party, Strength, Trust};
pub(crate) use rows::of_caller;
pub use rows::{by_id, list, list_retirable, of_key};

use crate::context::EncryptionContext;
use crate::error::{Error, Result};
use crate::key::Key;
use crate::service::Kms;
use crate::spec::{KeyUsage, Kind};
use crate::state::Action;
use base::{AccountId, Region, Timestamp};
use meta::Tx;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Grants per key.
pub const GRANTS_PER_KEY_MAX: u32 = 50_000;
/// Pairs in a constraint.
pub const CONSTRAINT_PAIRS_MAX: usize = 8;
/// Longest `SourceArn` of a constraint, in characters (botocore: GrantConstraintSourceArnType).
const SOURCE_ARN_CHARS_MAX: usize = 512;
/// Longest value in a constraint, in characters.
pub const CONSTRAINT_VALUE_CHARS_MAX: usize = 384;
/// Longest name, in characters (botocore: GrantNameType).
pub const NAME_CHARS_MAX: usize = 256;
/// Grant tokens in one request.
pub const TOKENS_MAX: usize = 10;

/// An operation a grant can allow; which ones depends on the kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the variants are the API's operations, by name")]
pub enum GrantOperation {
    CreateGrant,
    Decapsulate,
    Decrypt,
    DeriveSharedSecret,
    DescribeKey,
    Encapsulate,
    Encrypt,
    GenerateDataKey,
    GenerateDataKeyPair,
    GenerateDataKeyPairWithoutPlaintext,
    GenerateDataKeyWithoutPlaintext,
    GenerateMac,
    GetPublicKey,
    ReEncryptFrom,
    ReEncryptTo,
    RetireGrant,
    Sign,
    Verify,
    VerifyMac,
}

impl GrantOperation {
    const ALL: [Self; 19] = [
        Self::CreateGrant,
        Self::Decapsulate,
        Self::Decrypt,
        Self::DeriveSharedSecret,
        Self::DescribeKey,
        Self::Encapsulate,
        Self::Encrypt,
        Self::GenerateDataKey,
        Self::GenerateDataKeyPair,
        Self::GenerateDataKeyPairWithoutPlaintext,
        Self::GenerateDataKeyWithoutPlaintext,
        Self::GenerateMac,
        Self::GetPublicKey,
        Self::ReEncryptFrom,
        Self::ReEncryptTo,
        Self::RetireGrant,
        Self::Sign,
        Self::Verify,
        Self::VerifyMac,
    ];

    /// The operation's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateGrant => "CreateGrant",
            Self::Decapsulate => "Decapsulate",
            Self::Decrypt => "Decrypt",
            Self::DeriveSharedSecret => "DeriveSharedSecret",
            Self::DescribeKey => "DescribeKey",
            Self::Encapsulate => "Encapsulate",
            Self::Encrypt => "Encrypt",
            Self::GenerateDataKey => "GenerateDataKey",
            Self::GenerateDataKeyPair => "GenerateDataKeyPair",
            Self::GenerateDataKeyPairWithoutPlaintext => "GenerateDataKeyPairWithoutPlaintext",
            Self::GenerateDataKeyWithoutPlaintext => "GenerateDataKeyWithoutPlaintext",
            Self::GenerateMac => "GenerateMac",
            Self::GetPublicKey => "GetPublicKey",
            Self::ReEncryptFrom => "ReEncryptFrom",
            Self::ReEncryptTo => "ReEncryptTo",
            Self::RetireGrant => "RetireGrant",
            Self::Sign => "Sign",
            Self::Verify => "Verify",
            Self::VerifyMac => "VerifyMac",
        }
    }

    /// Whether a key of this kind can do it (KMS guide, "Grant operations").
    fn fits(self, kind: Kind) -> bool {
        match self {
            Self::CreateGrant | Self::DescribeKey | Self::RetireGrant => true,
            Self::GetPublicKey => kind.spec().is_pair(),
            Self::Encrypt | Self::Decrypt | Self::ReEncryptFrom | Self::ReEncryptTo => {
                kind.usage() == KeyUsage::EncryptDecrypt
            }
            Self::GenerateDataKey
            | Self::GenerateDataKeyPair
            | Self::GenerateDataKeyPairWithoutPlaintext
            | Self::GenerateDataKeyWithoutPlaintext => kind.is_symmetric(),
            Self::Sign | Self::Verify => kind.usage() == KeyUsage::SignVerify,
            Self::GenerateMac | Self::VerifyMac => kind.usage() == KeyUsage::GenerateVerifyMac,
            Self::DeriveSharedSecret => kind.usage() == KeyUsage::KeyAgreement,
            Self::Decapsulate | Self::Encapsulate => {
                kind.usage() == KeyUsage::EncapsulateDecapsulate
            }
        }
    }

    /// Reads a list of operations; the order means nothing.
    ///
    /// # Errors
    /// [`Error::Validation`] when it is empty or names what no grant allows.
    pub fn parse_list(names: &[String]) -> Result<Vec<Self>> {
        let mut operations = Vec::new();
        for name in names {
            let found = Self::ALL.into_iter().find(|operation| operation.as_str() == name);
            operations.push(found.ok_or_else(|| {
                let known: Vec<_> = Self::ALL.iter().map(|operation| operation.as_str()).collect();
                Error::validation(format!(
                    "1 validation error detected: Value '{name}' at 'operations' failed to satisfy \
                     constraint: Member must satisfy enum value set: [{}]",
                    known.join(", ")
                ))
            })?);
        }
        if operations.is_empty() {
            return Err(Error::validation("Grant operations must not be empty."));
        }
        operations.sort();
        operations.dedup();
        Ok(operations)
    }

    /// The grant operation that allows an action; most actions have none.
    pub(crate) fn of_action(action: Action) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == action.as_str())
    }
}

/// Under which circumstances a grant holds. Encryption contexts are not looked at for DescribeKey and
/// RetireGrant, which have none; the source is not for RetireGrant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// `EncryptionContextEquals`: exactly these pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<BTreeMap<String, String>>,
    /// `EncryptionContextSubset`: at least these pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<BTreeMap<String, String>>,
    /// `SourceArn`: on behalf of exactly this resource, which is `aws:SourceArn` of a service's call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_arn: Option<String>,
}

impl Constraints {
    /// Whether a new grant may have these.
    ///
    /// # Errors
    /// [`Error::Validation`].
    pub fn check(&self) -> Result<()> {
        for pairs in self.equals.iter().chain(&self.subset) {
            if pairs.len() > CONSTRAINT_PAIRS_MAX {
                return Err(Error::validation(format!(
                    "A grant constraint may have at most {CONSTRAINT_PAIRS_MAX} encryption context pairs."
                )));
            }
            if pairs.values().any(|value| value.chars().count() > CONSTRAINT_VALUE_CHARS_MAX) {
                return Err(Error::validation(format!(
                    "A value in a grant constraint may have at most {CONSTRAINT_VALUE_CHARS_MAX} characters."
                )));
            }
        }
        match &self.source_arn {
            Some(arn) if !is_source_arn(arn) => Err(Error::validation(format!(
                "1 validation error detected: Value '{arn}' at 'constraints.sourceArn' failed to satisfy \
                 constraint: Member must be the ARN of a resource with its account, of at most \
                 {SOURCE_ARN_CHARS_MAX} characters"
            ))),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a request on behalf of this resource is allowed.
    pub(crate) fn accept_source(&self, source_arn: Option<&str>) -> bool {
        self.source_arn.is_none() || self.source_arn.as_deref() == source_arn
    }

    /// Whether a request with this context is allowed; case-sensitive.
    pub(crate) fn accept(&self, context: &EncryptionContext) -> bool {
        let pairs = context.pairs();
        self.equals.as_ref().is_none_or(|equals| equals == pairs)
            && self.subset.as_ref().is_none_or(|subset| contains(pairs, subset))
    }

    /// Whether everything these accept is also accepted by `parent`.
    fn at_least_as_strict_as(&self, parent: &Self) -> bool {
        let meets_equals = |wanted| self.equals.as_ref() == Some(wanted);
        let meets_subset =
            |wanted| self.equals.iter().chain(&self.subset).any(|pairs| contains(pairs, wanted));
        parent.equals.as_ref().is_none_or(meets_equals)
            && parent.subset.as_ref().is_none_or(meets_subset)
            && parent.accept_source(self.source_arn.as_deref())
    }

    /// `kms:GrantConstraintType`; the stricter where both are given.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        match (&self.equals, &self.subset) {
            (Some(_), _) => Some("EncryptionContextEquals"),
            (None, Some(_)) => Some("EncryptionContextSubset"),
            (None, None) => None,
        }
    }
}

/// botocore, GrantConstraintSourceArnType: `^arn:aws[a-z0-9-]*:[a-z0-9-]+:[a-z0-9-]*:[0-9]{12}:.+$`.
fn is_source_arn(text: &str) -> bool {
    let low = |part: &str| part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let [scheme, partition, service, region, account, resource] = parts[..] else { return false };
    text.chars().count() <= SOURCE_ARN_CHARS_MAX
        && scheme == "arn"
        && partition.strip_prefix("aws").is_some_and(low)
        && !service.is_empty()
        && low(service)
        && low(region)
        && AccountId::parse(account).is_ok()
        && !resource.is_empty()
}

fn contains(pairs: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| pairs.get(key) == Some(value))
}

/// What CreateGrant is asked for, with its principals resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGrant {
    /// Who receives the permissions.
    pub grantee: Party,
    /// Who may end the grant.
    pub retiring: Option<Party>,
    /// Which permissions, sorted.
    pub operations: Vec<GrantOperation>,
    /// Under which contexts.
    pub constraints: Constraints,
    /// A name that makes repeating the request harmless; empty for none.
    pub name: String,
    /// The caller's account.
    pub issuing_account: AccountId,
}

impl NewGrant {
    /// Whether this gives away no more than `parent` gives (spec 20, B.6).
    pub(crate) fn is_within(&self, parent: &Grant) -> bool {
        self.operations.iter().all(|operation| parent.operations.contains(operation))
            && self.constraints.at_least_as_strict_as(&parent.constraints)
    }
}

/// Whether a key of this kind can be granted this. Asked after permission, as the answer tells the kind.
///
/// # Errors
/// [`Error::Validation`] for an operation the key cannot do, or an encryption context where it takes none.
pub fn check_kind(kind: Kind, new: &NewGrant) -> Result<()> {
    let (spec, usage) = (kind.spec(), kind.usage());
    if let Some(wrong) = new.operations.iter().find(|operation| !operation.fits(kind)) {
        let name = wrong.as_str();
        return Err(Error::validation(format!(
            "Grant operation {name} is not valid for a key with KeySpec {spec} and KeyUsage {usage}."
        )));
    }
    if new.constraints.kind().is_some() && !kind.is_symmetric() {
        return Err(Error::validation(format!(
            "Encryption context constraints are not valid for a key with KeySpec {spec}."
        )));
    }
    Ok(())
}

/// A grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Owner of the key.
    pub key_account: AccountId,
    /// Region of the key.
    pub key_region: Region,
    /// Id of the key.
    pub key_id: String,
    /// As given; empty for none.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Who received the permissions.
    pub grantee: Party,
    /// Who may end it.
    pub retiring: Option<Party>,
    /// The account it was issued from.
    pub issuing_account: AccountId,
    /// Which permissions, sorted.
    pub operations: Vec<GrantOperation>,
    /// Under which contexts.
    pub constraints: Constraints,
}

impl Grant {
    /// The ARN of the grant's key.
    pub fn key_arn(&self) -> base::Arn {
        crate::key::key_arn(&self.key_account, &self.key_region, &self.key_id)
    }

    pub(crate) fn is_on(&self, key: &Key) -> bool {
        (&self.key_account, &self.key_region, &self.key_id) == (&key.account, &key.region, &key.id)
    }

    fn is_what_was_asked(&self, new: &NewGrant) -> bool {
        let Grant { grantee, retiring, issuing_account, operations, constraints, name, .. } = self;
        (grantee, retiring, issuing_account, operations, constraints, name)
            == (
                &new.grantee,
                &new.retiring,
                &new.issuing_account,
                &new.operations,
                &new.constraints,
                &new.name,
            )
    }
}

/// Whether a grant may have this name.
///
/// # Errors
/// [`Error::Validation`].
pub fn check_name(name: &str) -> Result<()> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || b":/_-".contains(&b);
    if (1..=NAME_CHARS_MAX).contains(&name.len()) && name.bytes().all(legal) {
        return Ok(());
    }
    Err(Error::validation(format!(
        "1 validation error detected: Value '{name}' at 'name' failed to satisfy constraint: Member must \
         satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"
    )))
}

impl Kms {
    /// CreateGrant: the grant and a token for it. Repeating a named request gives the same grant and another
    /// token.
    ///
    /// # Errors
    /// As [`check_kind`], or [`Error::LimitExceeded`].
    pub fn create_grant(
        &self,
        tx: &mut Tx<'_>,
        key: &Key,
        new: &NewGrant,
    ) -> Result<(Grant, String)> {
        check_kind(key.kind, new)?;
        if !new.name.is_empty()
            && let Some(same) =
                rows::named(tx, key, &new.name)?.into_iter().find(|g| g.is_what_was_asked(new))
        {
            let token = self.grant_token(&same.id);
            return Ok((same, token));
        }
        if rows::is_full(tx, key)? {
            return Err(Error::LimitExceeded {
                message: format!("A key may have {GRANTS_PER_KEY_MAX} grants."),
            });
        }
        let grant = Grant {
            id: base::id::hex_digits(self.rng(), 64),
            key_account: key.account.clone(),
            key_region: key.region.clone(),
            key_id: key.id.clone(),
            name: new.name.clone(),
            created: self.now(),
            grantee: new.grantee.clone(),
            retiring: new.retiring.clone(),
            issuing_account: new.issuing_account.clone(),
            operations: new.operations.clone(),
            constraints: new.constraints.clone(),
        };
        rows::insert(tx, &grant)?;
        let token = self.grant_token(&grant.id);
        Ok((grant, token))
    }

    /// RetireGrant and RevokeGrant: the grant is gone at once.
    ///
    /// # Errors
    /// As the database answers.
    pub fn delete_grant(&self, tx: &mut Tx<'_>, grant: &Grant) -> Result<()> {
        rows::delete(tx, grant)
    }

    /// Accepts grant tokens. Grants work at once, so a token adds nothing; a forged one is still refused.
    ///
    /// # Errors
    /// [`Error::InvalidGrantToken`], or [`Error::Validation`] for too many.
    pub fn check_grant_tokens(&self, tokens: &[String]) -> Result<()> {
        if tokens.len() > TOKENS_MAX {
            return Err(Error::validation(format!(
                "1 validation error detected: Value at 'grantTokens' failed to satisfy constraint: Member \
                 must have length less than or equal to {TOKENS_MAX}"
            )));
        }
        tokens.iter().try_for_each(|token| self.grant_of_token(token).map(drop))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Option<BTreeMap<String, String>> {
        Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn constraints_compare_exactly() {
        let context = EncryptionContext::new([
            ("a".to_owned(), "1".to_owned()),
            ("b".to_owned(), "2".to_owned()),
        ])
        .unwrap();
        let accepts =
            |equals, subset| Constraints { equals, subset, source_arn: None }.accept(&context);
        assert!(accepts(None, None));
        assert!(accepts(map(&[("a", "1"), ("b", "2")]), None));
        assert!(!accepts(map(&[("a", "1")]), None));
        assert!(accepts(None, map(&[("a", "1")])));
        assert!(!accepts(None, map(&[("A", "1")])));
        assert!(!accepts(None, map(&[("a", "1"), ("c", "3")])));
    }

    #[test]
    fn children_are_at_least_as_strict() {
        let c = |equals, subset| Constraints { equals, subset, source_arn: None };
        let (a, ab) = (map(&[("a", "1")]), map(&[("a", "1"), ("b", "2")]));
        for (child, parent, expected) in [
            (c(None, None), c(None, None), true),
            (c(None, a.clone()), c(None, None), true),
            (c(None, None), c(None, a.clone()), false),
            (c(None, ab.clone()), c(None, a.clone()), true),
            (c(None, a.clone()), c(None, ab.clone()), false),
            (c(ab.clone(), None), c(None, a.clone()), true),
            (c(a.clone(), None), c(a.clone(), None), true),
            (c(ab.clone(), None), c(a.clone(), None), false),
            (c(None, a.clone()), c(a.clone(), None), false),
        ] {
            assert_eq!(child.at_least_as_strict_as(&parent), expected, "{child:?} of {parent:?}");
        }
    }

    #[test]
    fn sources_are_compared_whole() {
        let of = |source: Option<&str>| Constraints {
            source_arn: source.map(str::to_owned),
            ..Constraints::default()
        };
        let (a, b) =
            ("arn:aws:ec2:us-east-1:111122223333:volume/vol-a", "arn:aws:rds::111122223333:x");
        for (child, parent, expected) in [
            (None, None, true),
            (Some(a), None, true),
            (Some(a), Some(a), true),
            (None, Some(a), false),
            (Some(b), Some(a), false),
        ] {
            assert_eq!(
                of(child).at_least_as_strict_as(&of(parent)),
                expected,
                "{child:?} of {parent:?}"
            );
            assert_eq!(of(parent).accept_source(child), expected, "{child:?} for {parent:?}");
        }
        for good in [a, b, "arn:aws-cn:s3:cn-north-1:111122223333:a b"] {
            assert!(of(Some(good)).check().is_ok(), "{good}");
        }
        let long = format!("{a}{}", "x".repeat(SOURCE_ARN_CHARS_MAX));
        for bad in [
            "",
            "*",
            "arn:aws:s3:::a",
            "arn:aws:ec2:us-east-1:111122223333:",
            "arn:aws:EC2::111122223333:x",
            &long,
        ] {
            assert!(matches!(of(Some(bad)).check(), Err(Error::Validation { .. })), "{bad}");
        }
    }

    #[test]
    fn operations_fit_the_key() {
        let parse = |names: &[&str]| {
            GrantOperation::parse_list(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(
            parse(&["Encrypt", "Decrypt", "Encrypt"]).unwrap(),
            [GrantOperation::Decrypt, GrantOperation::Encrypt]
        );
        for bad in [&["Signs"][..], &["decrypt"], &["Decrypt", "ListGrants"], &[]] {
            assert!(matches!(parse(bad), Err(Error::Validation { .. })), "{bad:?}");
        }
    }
}
