//! What is known about one request: condition keys and their values (spec 20, A.7).

use crate::policy::PolicyKind;
use crate::principal::Principal;
use base::{AccountId, Timestamp};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// The value of one condition key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContextValue {
    /// A key that has at most one value per request.
    Single(Cow<'static, str>),
    /// A key that may have several. An empty list is present but empty.
    Multi(Vec<String>),
}

/// The condition keys of one request. Names are case-insensitive, and kept as they were written.
///
/// What follows from the caller (`aws:PrincipalArn`, `aws:userid`, `aws:PrincipalTag/…`, …) and
/// `aws:ResourceAccount` is *not* set here: the evaluator takes it from the [`Principal`] and the
/// request, so that it can be neither forgotten nor forged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// In the order of their keys, which are a few dozen at most as a rule. Shared: a request's context is
    /// handed on several times and changed by none.
    entries: Arc<Vec<Entry>>,
}

/// A key as it was first written, and its value.
#[derive(Clone, Debug)]
struct Entry {
    key: Cow<'static, str>,
    value: ContextValue,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        order(&self.key, &other.key).is_eq() && self.value == other.value
    }
}

impl Eq for Entry {}

impl Context {
    /// No keys at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a single-valued key.
    pub fn set(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        value: impl Into<String>,
    ) -> &mut Self {
        self.put(key, ContextValue::Single(Cow::Owned(value.into())))
    }

    /// [`Context::set`] with a value that is one of a fixed number of words.
    pub fn set_word(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        value: &'static str,
    ) -> &mut Self {
        self.put(key, ContextValue::Single(Cow::Borrowed(value)))
    }

    /// Sets a multivalued key.
    pub fn set_multi(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        values: impl IntoIterator<Item = String>,
    ) -> &mut Self {
        self.put(key, ContextValue::Multi(values.into_iter().collect()))
    }

    fn put(&mut self, key: impl Into<Cow<'static, str>>, value: ContextValue) -> &mut Self {
        let key = key.into();
        let place = self.place(&key);
        let entries = Arc::make_mut(&mut self.entries);
        match place {
            Ok(at) => entries[at].value = value,
            Err(at) => entries.insert(at, Entry { key, value }),
        }
        self
    }

    /// Where a key is, or would be.
    fn place(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|entry| order(&entry.key, key))
    }

    /// Sets a boolean key.
    pub fn set_flag(&mut self, key: impl Into<Cow<'static, str>>, value: bool) -> &mut Self {
        self.set_word(key, if value { "true" } else { "false" })
    }

    /// Sets a single-valued key when there is a value.
    pub fn set_opt(
        &mut self,
        key: impl Into<Cow<'static, str>>,
        value: Option<impl Into<String>>,
    ) -> &mut Self {
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
        if let Ok(at) = self.place(key) {
            Arc::make_mut(&mut self.entries).remove(at);
        }
        self
    }

    /// The value of a key, whatever its case.
    pub fn get(&self, key: &str) -> Option<&ContextValue> {
        self.place(key).ok().map(|at| &self.entries[at].value)
    }

    /// Takes over every key of another context; its values win.
    pub fn extend(&mut self, other: &Context) -> &mut Self {
        let mut others = other.entries.iter().cloned().peekable();
        let mut merged = Vec::with_capacity(self.entries.len() + other.entries.len());
        for Entry { key, value } in self.entries.iter() {
            let before = |entry: &Entry| order(&entry.key, key).is_lt();
            merged.extend(std::iter::from_fn(|| others.next_if(before)));
            let same = others.next_if(|entry| order(&entry.key, key).is_eq());
            let value = same.map_or_else(|| value.clone(), |entry| entry.value);
            merged.push(Entry { key: key.clone(), value });
        }
        merged.extend(others);
        self.entries = Arc::new(merged);
        self
    }

    /// All keys, as they were first written, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &ContextValue)> {
        self.entries.iter().map(|entry| (&*entry.key, &entry.value))
    }
}

impl Serialize for Context {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Context;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("condition keys")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Context, M::Error> {
                let mut context = Context::new();
                while let Some((key, value)) = map.next_entry::<String, ContextValue>()? {
                    context.put(key, value);
                }
                Ok(context)
            }
        }

        deserializer.deserialize_map(Keys)
    }
}

/// What follows a prefix in the name of a condition key, as it is written; the prefix may be in any case.
pub fn after_prefix<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = key.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The order of keys: what differs in case alone is equal.
fn order(one: &str, two: &str) -> Ordering {
    let (mut ones, mut twos) = (one.bytes(), two.bytes());
    loop {
        let (a, b) = match (ones.next(), twos.next()) {
            (Some(a), Some(b)) => (a, b),
            (a, b) => return a.cmp(&b),
        };
        if !a.is_ascii() || !b.is_ascii() {
            return folded(one).cmp(&folded(two));
        }
        match a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase()) {
            Ordering::Equal => {}
            unequal => return unequal,
        }
    }
}

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
    /// Whose word counts first.
    pub(crate) precedence: Precedence,
}

/// Which of two says what a key is when both do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precedence {
    /// What follows from the caller and the resource; the context is not asked of it at all.
    Derived,
    /// The context. Only of simulations: a caller of real requests says nothing of itself.
    Context,
}

impl Keys<'_> {
    /// The values of a key and whether it is multivalued; `None` when the key is absent.
    pub(crate) fn lookup(&self, key: &str) -> Option<Found> {
        let key = folded(key);
        // Identity policies alone see a key's aliases (spec 20, A.3).
        if key == "kms:resourcealiases" && self.policy == PolicyKind::KeyPolicy {
            return None;
        }
        let stated = || self.context.get(&key).cloned();
        let first = match self.precedence {
            Precedence::Derived => None,
            Precedence::Context => stated(),
        };
        let value = first.or_else(|| match self.derived(&key) {
            Derived::Known(value) => value,
            Derived::NotOurs => stated(),
        })?;
        Some(match value {
            ContextValue::Single(value) => {
                Found { multivalued: is_multivalued(&key), values: vec![value.into_owned()] }
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
        let single = |v: Option<String>| Derived::Known(v.map(|v| ContextValue::Single(v.into())));
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
            ContextValue::Single(value) => Some(value.to_string()),
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
    fn keys_are_in_the_order_of_their_folded_names() {
        let keys =
            ["", "a", "A", "aws:", "aws:z", "AWS:Z/é", "aws:z/É", "k", "\u{212a}", "kb", "ß", "Σς"];
        for (one, two) in keys.iter().flat_map(|one| keys.map(|two| (*one, two))) {
            assert_eq!(order(one, two), folded(one).cmp(&folded(two)), "{one} {two}");
        }
    }

    #[test]
    fn another_context_wins_under_names_as_they_were_first_written() {
        let (mut own, mut other) = (Context::new(), Context::new());
        own.set("b", "1").set("D", "1").set("f", "1");
        other.set("a", "2").set("B", "2").set("d", "2").set("e", "2").set("g", "2");
        own.extend(&other);
        let found: Vec<_> = own.iter().map(|(key, _)| (key, single(&own, key).unwrap())).collect();
        let found: Vec<_> = found.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let wanted = [("a", "2"), ("b", "2"), ("D", "2"), ("e", "2"), ("f", "1"), ("g", "2")];
        assert_eq!(found, wanted);
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
