//! Two accounts with users and roles, a manual clock, and keys on demand.

use base::{AccountId, ManualClock, OsRng, Region, SeededRng, Timestamp};
use iam::{Context, Principal};
use kms::key::{LockoutCheck, NewKey, PolicyWriter};
use kms::seal::{Provider, Root};
use kms::spec::Kind;
use kms::{Config, Directory, Error, Key, Kms, NewMaterial};
use meta::{Db, Tx};
use std::sync::{Arc, Mutex};

pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) fn account(digit: &str) -> AccountId {
    let digit = digit.chars().next().expect("a digit");
    AccountId::parse(&digit.to_string().repeat(12)).unwrap()
}

pub(crate) fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

/// Accounts 111… to 333…, whose users and roles are listed by ARN and id.
#[derive(Default)]
pub(crate) struct People(Mutex<Vec<(String, String)>>);

impl People {
    pub(crate) fn add(&self, arn: &str, id: &str) {
        self.0.lock().unwrap().push((arn.to_owned(), id.to_owned()));
    }

    pub(crate) fn remove(&self, arn: &str) {
        self.0.lock().unwrap().retain(|(known, _)| known != arn);
    }

    fn look_up(&self, fits: impl Fn(&(String, String)) -> bool) -> Option<(String, String)> {
        self.0.lock().unwrap().iter().find(|entry| fits(entry)).cloned()
    }
}

impl Directory for People {
    fn account_exists(&self, _: &mut Tx<'_>, account: &AccountId) -> meta::Result<bool> {
        Ok(["1", "2", "3"].iter().any(|digit| account.as_str().starts_with(digit)))
    }

    fn unique_id(&self, _: &mut Tx<'_>, arn: &str) -> meta::Result<Option<String>> {
        Ok(self.look_up(|(known, _)| known == arn).map(|(_, id)| id))
    }

    fn arn_of(&self, _: &mut Tx<'_>, unique_id: &str) -> meta::Result<Option<String>> {
        Ok(self.look_up(|(_, id)| id == unique_id).map(|(arn, _)| arn))
    }
}

pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) kms: Kms,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) people: Arc<People>,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn world() -> World {
    let directory = tempfile::tempdir().unwrap();
    let db = Db::memory().unwrap();
    db.migrate_blocking(kms::MIGRATIONS).unwrap();
    let rng = Arc::new(SeededRng::new(1));
    let provider = Provider::KeyFile(directory.path().join("root.key"));
    let (root, _) = Root::open_or_create(directory.path(), &provider, &*rng).unwrap();
    let clock = Arc::new(ManualClock::new(START));
    let people = Arc::new(People::default());
    let config = Config {
        root: Arc::new(root),
        regions: vec![region("us-east-1"), region("eu-west-1")],
        clock: clock.clone(),
        rng,
        directory: people.clone(),
        clusters: Default::default(),
    };
    let kms = block_on(Kms::open(&db, config)).unwrap();
    World { db, kms, clock, people, directory }
}

pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

impl World {
    /// Another server on the same rows.
    pub(crate) fn again(&self) -> Kms {
        let provider = Provider::KeyFile(self.directory.path().join("root.key"));
        let rng = Arc::new(SeededRng::new(2));
        let opened = Root::open_or_create(self.directory.path(), &provider, &*rng);
        let config = Config {
            root: Arc::new(opened.unwrap().0),
            regions: vec![region("us-east-1"), region("eu-west-1")],
            clock: self.clock.clone(),
            rng,
            directory: self.people.clone(),
            clusters: Default::default(),
        };
        block_on(Kms::open(&self.db, config)).unwrap()
    }

    /// Runs a transaction.
    pub(crate) fn write<T: Send + 'static>(
        &self,
        f: impl Fn(&Kms, &mut Tx<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let kms = self.kms.clone();
        self.db.write_blocking(move |tx| f(&kms, tx))
    }

    /// A key of an account with a policy, written by its root without the lockout check.
    pub(crate) fn key(&self, owner: &str, policy: Option<&str>) -> Key {
        self.try_key(owner, policy, LockoutCheck::Bypassed).unwrap()
    }

    pub(crate) fn try_key(
        &self,
        owner: &str,
        policy: Option<&str>,
        lockout: LockoutCheck,
    ) -> Result<Key, Error> {
        let (owner, policy) = (account(owner), policy.map(str::to_owned));
        let material = NewMaterial::generate(Kind::SYMMETRIC, &OsRng).unwrap();
        self.write(move |kms, tx| {
            let principal = Principal::root(&owner);
            kms.create_key(
                tx,
                &NewKey {
                    account: &owner,
                    region: &region("us-east-1"),
                    material: &material,
                    description: "",
                    tags: &[],
                    policy: policy.as_deref(),
                    multi_region: None,
                    writer: PolicyWriter {
                        principal: &principal,
                        context: &Context::new(),
                        lockout,
                    },
                },
            )
        })
    }

    /// The key as it is now.
    pub(crate) fn reload(&self, key: &Key) -> Result<Key, Error> {
        let key = key.clone();
        self.write(move |_, tx| kms::key::get(tx, &key.account, &key.region, &key.id))
    }
}

/// `111/root`, `111/bob`, `111/role:R/session`, `111/infra:i-1`, `service:ec2.us-east-1.amazonaws.com`.
pub(crate) fn principal(text: &str) -> Principal {
    if let Some(service) = text.strip_prefix("service:") {
        return Principal::service(&account("1"), service);
    }
    let (owner, name) = text.split_once('/').unwrap();
    let owner = account(owner);
    if name == "root" {
        return Principal::root(&owner);
    }
    if let Some(host) = name.strip_prefix("infra:") {
        let role = "aws:ec2-infrastructure";
        return Principal::assumed_role(&owner, "/", role, role, host);
    }
    if let Some(role) = name.strip_prefix("role:") {
        let (role, session) = role.split_once('/').unwrap();
        return Principal::assumed_role(&owner, "/", role, &unique_id("AROA", role), session);
    }
    Principal::user(&owner, "/", name, &unique_id("AIDA", name))
}

pub(crate) fn unique_id(prefix: &str, name: &str) -> String {
    format!("{prefix}{:0>12}", name.to_uppercase())
}
