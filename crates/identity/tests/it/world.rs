//! One test's world: a database, two accounts, a manual clock.

use base::{AccountId, ManualClock, Secret, SeededRng, Timestamp};
use identity::tag::Tags;
use identity::{Config, Entity, Error, Identity, Kind, MIGRATIONS, account, entity};
use meta::Tx;
use meta::testing::{TestDb, engines};
use std::sync::Arc;

pub(crate) struct World {
    pub(crate) db: TestDb,
    pub(crate) identity: Identity,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) one: AccountId,
    pub(crate) two: AccountId,
}

pub(crate) const START: Timestamp = Timestamp(1_767_225_600_000);

pub(crate) const ALLOW_ALL: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;

/// A world per engine at hand, each with the accounts 111111111111 and 222222222222.
pub(crate) fn worlds() -> Vec<World> {
    engines(MIGRATIONS).into_iter().map(World::new).collect()
}

impl World {
    fn new(db: TestDb) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let identity = Identity::new(Config {
            clock: clock.clone(),
            rng: Arc::new(SeededRng::new(1)),
            service_key: Secret::new([7; 32]),
        });
        let account = |digit: &str| AccountId::parse(&digit.repeat(12)).expect("twelve digits");
        let world = Self { db, identity, clock, one: account("1"), two: account("2") };
        for id in [world.one.clone(), world.two.clone()] {
            world
                .write(move |tx, identity| identity.create_account(tx, Some(&id), "test").map(drop))
                .expect("an account");
        }
        world
    }

    /// Runs a transaction that keeps what it did.
    pub(crate) fn write<T: Send + 'static, E: From<meta::Error> + Send + 'static>(
        &self,
        f: impl Fn(&mut Tx<'_>, &Identity) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        let identity = self.identity.clone();
        self.db.write_blocking(move |tx| f(tx, &identity))
    }

    pub(crate) fn user(&self, name: &'static str) -> Entity {
        let account = self.one.clone();
        self.write(move |tx, identity| {
            identity.create_user(tx, &account, name, None, None, &Tags::new())
        })
        .expect("a user")
    }

    pub(crate) fn role(&self, name: &'static str, trust: &str) -> identity::role::Role {
        let (account, trust) = (self.one.clone(), trust.to_owned());
        self.write(move |tx, identity| {
            let tags = Tags::from([("team".to_owned(), "red".to_owned())]);
            let entity = entity::New {
                kind: Kind::Role,
                account: &account,
                name,
                path: Some("/dev/"),
                boundary: None,
                tags: &tags,
            };
            let new = identity::role::NewRole {
                entity,
                trust: &trust,
                description: "",
                max_session_seconds: None,
            };
            identity.create_role(tx, &new)
        })
        .expect("a role")
    }
}

/// Trusts the whole account 111111111111.
pub(crate) const TRUST_ONE: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
    "Principal":{"AWS":"111111111111"},"Action":"sts:AssumeRole"}}"#;

#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, Error>, message: &str) -> Error {
    let error = result.expect_err("refused");
    assert!(error.to_string().contains(message), "{error}");
    error
}

#[test]
fn accounts() {
    for world in worlds() {
        let made = world
            .write(|tx, identity| identity.create_account(tx, None, "Third"))
            .expect("a new account");
        let (third, key) = made;
        assert_eq!(third.created_at, START);
        assert!(key.key.id.starts_with("AKIA") && key.key.id.len() == 20);
        assert_eq!(key.secret.expose().len(), 40);
        let one = world.one.clone();
        let again = world.write(move |tx, identity| identity.create_account(tx, Some(&one), "x"));
        assert!(matches!(
            refused(again, "Account 111111111111 already exists"),
            Error::EntityAlreadyExists { .. }
        ));
        refused(world.write(|tx, identity| identity.create_account(tx, None, "")), "needs a name");
        let listed = world.write(|tx, _| account::list(tx)).unwrap();
        assert_eq!(listed.len(), 3);
        assert!(listed.contains(&third));
    }
}
