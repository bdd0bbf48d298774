//! What is known about one request: condition keys and their values (spec 20, A.7).

use crate::policy::PolicyKind;
use crate::principal::Principal;
use base::{AccountId, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The value of one condition key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContextValue {
    /// A key that has at most one value per request.
    Single(String),
    /// A key that may have several. An empty list is present but empty.
    Multi(Vec<String>),
}

/// The condition keys of one request. Names are case-insensitive, and kept as they were written.
///
/// What follows from the caller (`aws:PrincipalArn`, `aws:userid`, `aws:PrincipalTag/…`, …) and
/// `aws:ResourceAccount` is *not* set here: the evaluator takes it from the [`Principal`] and the
/// request, so that it can be neither forgotten nor forged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Context {
    /// Shared: a request's context is handed on several times and changed by none.
    values: Arc<BTreeMap<Key, ContextValue>>,
}

impl Context {
    /// No keys at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a single-valued key.
    pub fn set(&mut self, key: &str, value: impl Into<String>) -> &mut Self {
        self.put(key, ContextValue::Single(value.into()))
    }

    /// Sets a multivalued key.
    pub fn set_multi(&mut self, key: &str, values: impl IntoIterator<Item = String>) -> &mut Self {
        self.put(key, ContextValue::Multi(values.into_iter().collect()))
    }

    fn put(&mut self, key: &str, value: ContextValue) -> &mut Self {
        Arc::make_mut(&mut self.values).insert(Key(key.to_owned()), value);
        self
    }

    /// Sets a boolean key.
    pub fn set_flag(&mut self, key: &str, value: bool) -> &mut Self {
        self.set(key, if value { "true" } else { "false" })
    }

    /// Sets a single-valued key when there is a value.
    pub fn set_opt(&mut self, key: &str, value: Option<impl Into<String>>) -> &mut Self {
        if let Some(value) = value {
            self.set(key, value);
        }
        self
    }

    /// Sets `aws:CurrentTime` and `aws:EpochTime`.
    pub fn set_now(&mut self, now: Timestamp) -> &mut Self {
        self.set("aws:CurrentTime", now.iso_millis());
        self.set("aws:EpochTime", now.seconds().to_string())
    }

    /// Removes a key, as the network keys are removed from a forwarded call (spec 20, A.7).
    pub fn remove(&mut self, key: &str) -> &mut Self {
        Arc::make_mut(&mut self.values).remove(&key as &dyn Written);
        self
    }

    /// The value of a key, whatever its case.
    pub fn get(&self, key: &str) -> Option<&ContextValue> {
        self.values.get(&key as &dyn Written)
    }

    /// Takes over every key of another context; its values win.
    pub fn extend(&mut self, other: &Context) -> &mut Self {
        let others = other.values.iter().map(|(key, value)| (key.clone(), value.clone()));
        Arc::make_mut(&mut self.values).extend(others);
        self
    }

    /// All keys, as they were first written, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ContextValue)> {
        self.values.iter().map(|(key, value)| (key.0.as_str(), value))
    }
}

/// What follows a prefix in the name of a condition key, as it is written; the prefix may be in any case.
pub fn after_prefix<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = key.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The name of a condition key as it was written; what differs in case alone is equal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
struct Key(String);

/// What a [`Key`] is found by, without a copy of the name.
trait Written {
    fn written(&self) -> &str;
}

impl Written for Key {
    fn written(&self) -> &str {
        &self.0
    }
}

impl Written for &str {
    fn written(&self) -> &str {
        self
    }
}

impl Ord for dyn Written + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        let (one, two) = (self.written(), other.written());
        if one.is_ascii() && two.is_ascii() {
            let (one, two) = (one.bytes(), two.bytes());
            return one.map(|b| b.to_ascii_lowercase()).cmp(two.map(|b| b.to_ascii_lowercase()));
        }
        folded(one).cmp(&folded(two))
    }
}

impl PartialOrd for dyn Written + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Written + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Written + '_ {}

impl<'a> Borrow<dyn Written + 'a> for Key {
    fn borrow(&self) -> &(dyn Written + 'a) {
        self
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        (self as &dyn Written).cmp(other as &dyn Written)
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}

/// A key as it is compared. Only tags have names that are not ASCII.
fn folded(key: &str) -> String {
    if key.is_ascii() { key.to_ascii_lowercase() } else { key.to_lowercase() }
}

/// Keys and key prefixes that are multivalued, in lower case (spec 20, A.6: cardinality is declared
/// by the catalogue, not by the value; A.7 for the list).
const MULTIVALUED: &[&str] = &[
    "aws:calledvia",
    "aws:principalorgpaths",
    "aws:principalservicenameslist",
    "aws:resourceorgpaths",
    "aws:tagkeys",
    "ec2:add/group",
    "ec2:add/userid",
    "ec2:remove/group",
    "ec2:remove/userid",
    "kms:encryptioncontextkeys",
    "kms:grantoperations",
    "kms:resourcealiases",
    "saml:cn",
    "saml:eduorghomepageuri",
    "saml:eduorgidentityauthnpolicyuri",
    "saml:eduorglegalname",
    "saml:eduorgsuperioruri",
    "saml:eduorgwhitepagesuri",
    "saml:edupersonaffiliation",
    "saml:edupersonassurance",
    "saml:edupersonentitlement",
    "saml:edupersonnickname",
    "saml:edupersonorgunitdn",
    "saml:edupersonscopedaffiliation",
    "saml:edupersontargetedid",
    "sts:transitivetagkeys",
];

/// Whether a key may have several values per request, according to the catalogue.
pub fn is_multivalued(key: &str) -> bool {
    MULTIVALUED.iter().any(|multivalued| key.eq_ignore_ascii_case(multivalued))
}

/// The keys of a request together with those that follow from its caller and its resource.
pub(crate) struct Keys<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) resource_account: Option<&'a AccountId>,
    pub(crate) context: &'a Context,
    /// The kind of policy that asks.
    pub(crate) policy: PolicyKind,
}

impl Keys<'_> {
    /// The values of a key and whether it is multivalued; `None` when the key is absent.
    pub(crate) fn lookup(&self, key: &str) -> Option<Found> {
        let key = folded(key);
        // Identity policies alone see a key's aliases (spec 20, A.3).
        if key == "kms:resourcealiases" && self.policy == PolicyKind::KeyPolicy {
            return None;
        }
        let value = match self.derived(&key) {
            Derived::Known(value) => value,
            Derived::NotOurs => self.context.get(&key).cloned(),
        }?;
        Some(match value {
            ContextValue::Single(value) => {
                Found { multivalued: is_multivalued(&key), values: vec![value] }
            }
            ContextValue::Multi(values) => Found { multivalued: true, values },
        })
    }

    /// The single value of a key for a policy variable. Multivalued keys never expand.
    pub(crate) fn variable(&self, key: &str) -> Variable {
        if is_multivalued(key) {
            return Variable::Multivalued;
        }
        match self.lookup(key) {
            None => Variable::Absent,
            Some(Found { multivalued: true, .. }) => Variable::Multivalued,
            Some(found) => match found.values.into_iter().next() {
                Some(value) => Variable::Value(value),
                None => Variable::Absent,
            },
        }
    }

    fn derived(&self, key: &str) -> Derived {
        let p = self.principal;
        let single = |v: Option<String>| Derived::Known(v.map(ContextValue::Single));
        let is_service = !p.service_names().is_empty();
        let nobody = p.kind.is_nobody();
        let unless_nobody = |v: &str| single((!nobody).then(|| v.to_owned()));
        match key {
            "aws:principalarn" => unless_nobody(&p.principal_arn),
            "aws:principalaccount" => unless_nobody(p.account.as_str()),
            "aws:principaltype" => single(p.kind_name().text().map(str::to_owned)),
            "aws:principalisawsservice" => single(Some(is_service.to_string())),
            "aws:principalservicename" => single(p.service_names().into_iter().next()),
            "aws:principalservicenameslist" => {
                Derived::Known(is_service.then(|| ContextValue::Multi(p.service_names())))
            }
            "aws:userid" => unless_nobody(&p.user_id),
            "aws:username" => single(p.username().map(str::to_owned)),
            "aws:federatedprovider" => single(p.federated_provider.clone()),
            "aws:sourceidentity" => single(p.source_identity.clone()),
            // Absent with long-term keys; nobody signs in with a second factor here.
            "aws:multifactorauthpresent" => single(p.token_issue_time.map(|_| "false".to_owned())),
            "aws:tokenissuetime" => single(p.token_issue_time.map(Timestamp::iso_seconds)),
            "aws:resourceaccount" => match self.resource_account {
                Some(account) => single(Some(account.to_string())),
                None => Derived::NotOurs,
            },
            _ => match key.strip_prefix("aws:principaltag/") {
                None => Derived::NotOurs,
                Some(tag) => {
                    let found = p.tags.iter().find(|(name, _)| name.to_lowercase() == tag);
                    single(found.map(|(_, value)| value.clone()))
                }
            },
        }
    }
}

enum Derived {
    Known(Option<ContextValue>),
    NotOurs,
}

/// The values of a present key.
pub(crate) struct Found {
    pub(crate) multivalued: bool,
    pub(crate) values: Vec<String>,
}

/// What a policy variable stands for.
pub(crate) enum Variable {
    Value(String),
    Absent,
    Multivalued,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn single(context: &Context, key: &str) -> Option<String> {
        match context.get(key)? {
            ContextValue::Single(value) => Some(value.clone()),
            ContextValue::Multi(_) => None,
        }
    }

    #[test]
    fn keys_are_kept_as_written_and_found_in_any_case() {
        let mut context = Context::new();
        context.set("kms:EncryptionContext:Department", "Finance").set("aws:RequestTag/Größe", "L");
        context.set("AWS:requesttag/größe", "M");
        let written: Vec<_> = context.iter().map(|(key, _)| key).collect();
        assert_eq!(written, ["aws:RequestTag/Größe", "kms:EncryptionContext:Department"]);
        assert_eq!(single(&context, "aws:requesttag/GRÖSSE"), None);
        assert_eq!(single(&context, "aws:requesttag/GRÖßE").as_deref(), Some("M"));
        assert_eq!(
            single(&context, "KMS:encryptioncontext:department").as_deref(),
            Some("Finance")
        );
        context.remove("kms:encryptionContext:DEPARTMENT");
        assert_eq!(context.iter().count(), 1);
    }

    #[test]
    fn a_context_is_read_as_it_was_kept_also_in_lower_case() {
        let mut context = Context::new();
        context.set("aws:SecureTransport", "true").set_multi("aws:TagKeys", ["a".to_owned()]);
        let kept = serde_json::to_string(&context).expect("text");
        assert_eq!(kept, r#"{"aws:SecureTransport":"true","aws:TagKeys":["a"]}"#);
        let lower = kept.to_lowercase();
        for kept in [kept, lower] {
            assert_eq!(
                serde_json::from_str::<Context>(&kept).expect("a context"),
                context,
                "{kept}"
            );
        }
    }
}
