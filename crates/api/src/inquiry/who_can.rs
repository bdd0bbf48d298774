//! Who can read a snapshot or a volume: shares × key policy × grants × identity policies.
//!
//! Of the owner's account every user and role is asked for. Of other accounts only what the owner may
//! know is told: whether their principals get past the key; whom those accounts let is theirs to say.

use crate::authorize;
use crate::call::{Call, Caller, Forwarded};
use crate::decided::{Decided, Decisions};
use crate::error::Error;
use crate::explain::View;
use crate::explain::story::DecisionStory;
use crate::ops::kms::shared::{Named, target};
use crate::pipeline::Ask;
use base::{AccountId, Region};
use ebs::WrappedKey;
use iam::{Layer, Principal, Reason};
use identity::entity::{self, Entity, Kind};
use identity::{Listed, Page};
use kms::condition::Facts;
use kms::grant::{Constraints, Grant, GrantOperation, NewGrant, Trust};
use kms::key::KeyManager;
use kms::spec::EncryptionAlgorithm;
use kms::{Action, EncryptionContext, Key};
use lifecycle::port::kms::CONTEXT_KEY;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const VERSION: u8 = 1;
/// Users, and roles, of an account that are asked for.
const PRINCIPALS_MAX: usize = 500;
/// Grants that are shown.
const GRANTS_MAX: u32 = 100;

/// Who can read something.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WhoCan {
    pub(crate) version: u8,
    pub(crate) resource: String,
    pub(crate) owner: AccountId,
    /// The key's ARN; absent of what is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_state: Option<String>,
    /// Whether the snapshot is in the archive: nobody can read it until it is restored.
    pub(crate) archived: bool,
    /// Accounts the snapshot is shared with; `all` for everybody.
    pub(crate) shares: Vec<String>,
    /// What makes sharing useless, as sentences.
    pub(crate) dead_ends: Vec<String>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) grants: Vec<GrantRow>,
    /// Machines the volume is attached to.
    pub(crate) attached_to: Vec<String>,
    /// Whether an account has more users or roles than were asked for.
    pub(crate) truncated: bool,
}

/// Somebody, and in which ways it can read.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reader {
    pub(crate) who: String,
    pub(crate) account: AccountId,
    pub(crate) ways: Vec<Way>,
}

/// One way to the bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Way {
    /// `read`, `copy`, `restore` or `attach`.
    pub(crate) how: String,
    /// `yes`, `no`, or `up to its account`: the owner's side lets it.
    pub(crate) can: String,
    /// What `can` would be once the snapshot is restored; absent of what is not archived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) once_restored: Option<String>,
    /// The chain: each permission with the layer that decided it.
    pub(crate) chain: Vec<Link>,
}

impl Way {
    /// Whether permissions let it, now or once the snapshot is restored.
    fn is_let(&self) -> bool {
        self.once_restored.as_ref().unwrap_or(&self.can) != "no"
    }
}

/// One permission of a way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) action: String,
    pub(crate) allowed: bool,
    pub(crate) layer: String,
    pub(crate) why: String,
}

/// A grant on the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GrantRow {
    pub(crate) grant_id: String,
    pub(crate) grantee: String,
    pub(crate) operations: Vec<GrantOperation>,
    pub(crate) constraints: Constraints,
}

/// What is asked about.
pub(crate) struct Subject {
    pub(crate) resource: String,
    pub(crate) region: Region,
    pub(crate) owner: AccountId,
    pub(crate) kms_key_arn: Option<String>,
    pub(crate) data_key: Option<WrappedKey>,
    /// Whether its blocks are in the archive alone.
    pub(crate) archived: bool,
    /// The ways to it: EC2's permission, and how the key is used for it.
    pub(crate) ways: Vec<(&'static str, Ask, Action)>,
    pub(crate) shares: Vec<AccountId>,
    pub(crate) public: bool,
    pub(crate) attached_to: Vec<String>,
}

/// Asks for everybody who might.
///
/// # Errors
/// When the policies in force cannot be read.
pub(crate) async fn who_can(call: &Call, subject: &Subject) -> Result<WhoCan, Error> {
    let key = key_of(call, subject).await?;
    let readable = subject.kms_key_arn.clone().into_iter();
    let view = View::of(call, readable.chain([subject.resource.clone()])).await?;
    let (own, truncated) = principals(call, &subject.owner).await?;
    let mut readers = Vec::new();
    for principal in &own {
        let ways = ways(call, subject, principal, &view).await?;
        readers.push(Reader { who: shown(principal), account: subject.owner.clone(), ways });
    }
    for account in &subject.shares {
        for principal in foreign(call, account, key.as_ref()).await? {
            let ways = ways(call, subject, &principal, &view).await?;
            readers.push(Reader { who: shown(&principal), account: account.clone(), ways });
        }
    }
    let mut shares: Vec<String> = subject.shares.iter().map(ToString::to_string).collect();
    shares.extend(subject.public.then(|| "all".to_owned()));
    let may_see_grants =
        key.as_ref().is_some_and(|key| view.reads(&key.arn().to_string(), &key.account));
    let grants = if may_see_grants { grants(call, key.as_ref()).await? } else { Vec::new() };
    Ok(WhoCan {
        version: VERSION,
        resource: subject.resource.clone(),
        owner: subject.owner.clone(),
        key: subject.kms_key_arn.clone(),
        key_state: key.as_ref().map(|key| key.state.as_str().to_owned()),
        archived: subject.archived,
        dead_ends: dead_ends(subject, key.as_ref(), &readers),
        shares,
        readers,
        grants,
        attached_to: subject.attached_to.clone(),
        truncated,
    })
}

/// A role is asked for as any session of it.
const SESSION: &str = "any-session";

fn shown(principal: &Principal) -> String {
    principal.principal_arn.clone()
}

fn principal_of(entity: &Entity) -> Principal {
    let Entity { account, path, name, unique_id, .. } = entity;
    match entity.kind {
        Kind::Role => Principal::assumed_role(account, path, name, unique_id, SESSION),
        Kind::User | Kind::Group => Principal::user(account, path, name, unique_id),
    }
}

async fn principals(call: &Call, account: &AccountId) -> Result<(Vec<Principal>, bool), Error> {
    let of = account.clone();
    let listed = call.world.db.read(move |tx| {
        let page = Page { after: None, limit: PRINCIPALS_MAX };
        let users = entity::list(tx, &of, Kind::User, "/", &page)?;
        let roles = entity::list(tx, &of, Kind::Role, "/", &page)?;
        Ok::<(Listed<Entity>, Listed<Entity>), identity::Error>((users, roles))
    });
    let (users, roles) = listed.await?;
    let truncated = users.next.is_some() || roles.next.is_some();
    let mut principals = vec![Principal::root(account)];
    principals.extend(users.items.iter().chain(&roles.items).map(principal_of));
    Ok((principals, truncated))
}

/// The account as a whole, and whom of it the key's policy names.
async fn foreign(
    call: &Call,
    account: &AccountId,
    key: Option<&Key>,
) -> Result<Vec<Principal>, Error> {
    let mut principals = vec![Principal::root(account)];
    let Some(key) = key else { return Ok(principals) };
    let prefix = format!("arn:aws:iam::{account}:");
    let named: BTreeSet<String> =
        key.bindings.0.keys().filter(|arn| arn.starts_with(&prefix)).cloned().collect();
    let found = call.world.db.read(move |tx| {
        named.iter().map(|arn| entity::find_by_arn(tx, arn)).collect::<Result<Vec<_>, _>>()
    });
    principals.extend(found.await?.iter().flatten().map(principal_of));
    Ok(principals)
}

async fn key_of(call: &Call, subject: &Subject) -> Result<Option<Key>, Error> {
    let Some(arn) = &subject.kms_key_arn else { return Ok(None) };
    let Some(arn) = base::Arn::parse(arn) else { return Ok(None) };
    let (Ok(account), Ok(region)) = (AccountId::parse(&arn.account), Region::parse(&arn.region))
    else {
        return Ok(None);
    };
    let id = arn.resource.trim_start_matches("key/").to_owned();
    match call.world.db.read(move |tx| kms::key::get(tx, &account, &region, &id)).await {
        Ok(key) => Ok(Some(key)),
        // A key that was destroyed.
        Err(kms::Error::KeyNotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

async fn grants(call: &Call, key: Option<&Key>) -> Result<Vec<GrantRow>, Error> {
    let Some(key) = key.cloned() else { return Ok(Vec::new()) };
    let listed =
        call.world.db.read(move |tx| kms::grant::list(tx, &key, None, "", GRANTS_MAX)).await?;
    let row = |grant: Grant| GrantRow {
        grant_id: grant.id,
        grantee: grant.grantee.shown,
        operations: grant.operations,
        constraints: grant.constraints,
    };
    Ok(listed.into_iter().map(row).collect())
}

fn dead_ends(subject: &Subject, key: Option<&Key>, readers: &[Reader]) -> Vec<String> {
    let mut found = Vec::new();
    if subject.archived {
        found.push("It is archived: nobody can read it until it is restored.".to_owned());
    }
    match (&subject.kms_key_arn, key) {
        (Some(arn), None) => found.push(format!("The key {arn} is gone: nobody can read this.")),
        (_, Some(key)) if key.manager == KeyManager::Aws => {
            let owner = &key.account;
            found.push(format!(
                "The key is aws/ebs of account {owner}: its policy lets nobody of another account, \
                 and nobody can change it. To share, copy the snapshot under a key of your own."
            ));
        }
        _ => {}
    }
    if let Some(key) = key.filter(|key| key.state != kms::KeyState::Enabled) {
        let state = key.state.as_str();
        found.push(format!("The key is {state}: nobody can read this until that changes."));
    }
    if subject.public && subject.kms_key_arn.is_some() {
        found.push("An encrypted snapshot is of no use to everybody.".to_owned());
    }
    for account in &subject.shares {
        let mut of_account = readers.iter().filter(|reader| reader.account == *account);
        if !of_account.any(|reader| reader.ways.iter().any(Way::is_let)) {
            found.push(format!(
                "It is shared with {account}, and the policy of its key lets nobody there use it."
            ));
        }
    }
    found
}

async fn ways(
    call: &Call,
    subject: &Subject,
    principal: &Principal,
    view: &View,
) -> Result<Vec<Way>, Error> {
    let own = principal.account == subject.owner;
    let mut ways = Vec::new();
    for (how, ask, action) in &subject.ways {
        let mut chain = Vec::new();
        let mut can = if own { "yes" } else { "up to its account" };
        if own {
            let asking = call.fork(caller(call, principal, None));
            let decision = decide(&asking, ask).await?;
            if !decision.allowed {
                can = "no";
            }
            chain.push(link(&decision, &principal.account, view));
        }
        if subject.kms_key_arn.is_some() {
            let via = format!("ec2.{}.amazonaws.com", subject.region);
            let mut asking = call.fork(caller(call, principal, Some(via)));
            asking.region = subject.region.clone();
            match of_key(&asking, subject, *action).await? {
                None => can = "no",
                Some(decision) => {
                    if !decision.allowed && (own || is_the_owners(&decision.reason)) {
                        can = "no";
                    }
                    chain.push(link(&decision, &principal.account, view));
                }
            }
        }
        let (can, once_restored) = match subject.archived {
            true => ("no", Some(can.to_owned())),
            false => (can, None),
        };
        ways.push(Way { how: (*how).to_owned(), can: can.to_owned(), once_restored, chain });
    }
    Ok(ways)
}

/// Whether the key's side denied; what the other account's policies say is not this account's to know.
fn is_the_owners(reason: &Reason) -> bool {
    match reason {
        Reason::ImplicitDeny(layer) => *layer == Layer::Resource,
        Reason::ExplicitDeny(statement) => statement.layer == Layer::Resource,
        Reason::AllowedByStatement(_) | Reason::AllowedByGrant { .. } | Reason::AllowedAsRoot => {
            false
        }
    }
}

fn caller(call: &Call, principal: &Principal, via: Option<String>) -> Caller {
    Caller {
        principal: principal.clone(),
        access_key_id: None,
        session_policies: Vec::new(),
        source_ip: call.caller.source_ip.clone(),
        secure_transport: call.caller.secure_transport,
        user_agent: call.caller.user_agent.clone(),
        forwarded: via.map(|via| Forwarded {
            via_service: Some(via),
            source_arn: None,
            invoked_by: "ec2-frontend-api.amazonaws.com".to_owned(),
            shared_request_id: None,
            cause: None,
        }),
    }
}

async fn decide(call: &Call, ask: &Ask) -> Result<Decided, Error> {
    let decision = authorize::decide(call, ask).await?;
    let mut decisions = Decisions::of(call);
    decisions.push(ask, &decision);
    Ok(decisions.asks.pop().expect("one was pushed"))
}

/// The decision on the key; absent when the key is gone.
async fn of_key(call: &Call, subject: &Subject, action: Action) -> Result<Option<Decided>, Error> {
    let (Some(arn), Some(data_key)) = (&subject.kms_key_arn, &subject.data_key) else {
        return Ok(None);
    };
    let pairs = BTreeMap::from([(CONTEXT_KEY.to_owned(), data_key.context_id.clone())]);
    let context = EncryptionContext::new(pairs.clone()).map_err(Error::internal)?;
    let facts = match action {
        Action::CreateGrant => {
            let (kms, service) = (call.world.kms.clone(), call.region.clone());
            let service = ebs::arns::ec2_service_principal(&service);
            let party = call.world.db.read(move |tx| kms.grant_party(tx, &service, Trust::Service));
            let grantee = party.await?;
            Facts::CreateGrant(NewGrant {
                retiring: Some(grantee.clone()),
                grantee,
                operations: vec![GrantOperation::Decrypt],
                constraints: Constraints { equals: Some(pairs), ..Constraints::default() },
                name: String::new(),
                issuing_account: call.account().clone(),
            })
        }
        Action::ReEncryptFrom => Facts::ReEncrypt {
            context,
            same_key: false,
            algorithm: EncryptionAlgorithm::SymmetricDefault,
        },
        _ => Facts::Crypto { context, algorithm: EncryptionAlgorithm::SymmetricDefault },
    };
    match target(call, Named { action, key_id: arn, facts }).await {
        Ok(found) => decide(call, &found.ask).await.map(Some),
        Err(error) if error.code() == "NotFoundException" => Ok(None),
        Err(error) => Err(error),
    }
}

fn link(decided: &Decided, caller: &AccountId, view: &View) -> Link {
    let story = DecisionStory::of(String::new(), decided, caller, view);
    Link { action: story.action, allowed: story.allowed, layer: story.layer, why: story.why }
}
